// What every Node driver program shares: named checks in, one JSON object a line out.
// A check returns (its detail, or nothing), throws, or throws Absent: the driver has no such thing.
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

export const url = process.env.DATABASE_URL;
export const users = 8;
export const rounds = 12;
export const kept = (r) => r % 3 !== 2; // every third round of a user is rolled back
export const keptUpTo = (r) => Array.from({ length: r + 1 }, (_, n) => n).filter(kept).length;
export const same = (got, want) => assert.deepStrictEqual(got, want);
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export class Absent extends Error {}

export async function raises(state, body) {
  try {
    await body();
  } catch (error) {
    return same(error.code ?? error.original?.code, state);
  }
  throw new Error(`no error where ${state} was due`);
}

export const everyUser = (body) => Promise.all(Array.from({ length: users }, (_, i) => body(i)));

export async function run(driver, packageName, checks) {
  const { version } = JSON.parse(readFileSync(`node_modules/${packageName}/package.json`));
  const picked = process.env.CHECKS ? process.env.CHECKS.split(",") : null;
  for (const [check, body] of Object.entries(checks)) {
    if (picked && !picked.includes(check)) continue;
    let ok = true;
    let detail = "";
    try {
      detail = (await body()) ?? "";
    } catch (error) {
      ok = error instanceof Absent ? null : false;
      const line = /_checks\.js:(\d+)/.exec(error.stack ?? "")?.[1];
      detail = ok === null ? error.message : `line ${line}: ${error.message}`;
      detail = detail.replaceAll(/\s+/g, " ").slice(0, 300);
    }
    console.log(JSON.stringify({ driver, version, check, ok, detail }));
  }
  process.exit(0); // a client that a failed check left open must not keep the process
}
