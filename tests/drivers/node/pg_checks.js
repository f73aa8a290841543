// node-postgres: clients of their own and its pool; unnamed and named statements.
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import Cursor from "pg-cursor";
import { pipeline as pipe } from "node:stream/promises";
import { Readable } from "node:stream";
import {
  everyUser,
  kept,
  keptUpTo,
  raises,
  rounds,
  run,
  same,
  sleep,
  url,
  users,
} from "./report.js";

async function connect(options = {}) {
  const client = new pg.Client({ connectionString: url, ...options });
  await client.connect();
  client.one = async (text, values) => Object.values((await client.query(text, values)).rows[0])[0];
  return client;
}

await run("node-postgres", "pg", {
  async query() {
    const c = await connect();
    for (let n = 0; n < 20; n++) {
      same(await c.one("SELECT 1 + 1"), 2);
      same(await c.one("SELECT $1::int * 2", [n]), 2 * n);
    }
    same((await c.query("SELECT g FROM generate_series(1, 1000) g")).rowCount, 1000);
    same((await c.query("SELECT 1; SELECT 2")).length, 2);
    await c.end();
  },

  async types() {
    const c = await connect();
    const when = new Date("2024-02-29T12:30:15.123Z");
    const values = [
      ["int2", 7],
      ["int4", -70000],
      ["int8", "1152921504606846976"],
      ["float8", 1.5],
      ["bool", true],
      ["numeric", "12345.6789"],
      ["text", "snow ☃ 'q' \\"],
      ["bytea", Buffer.from([0, 1, 255])],
      ["timestamptz", when],
      ["uuid", "00000000-0000-0000-0000-000000000005"],
      ["jsonb", { a: [1, null] }],
      ["int4[]", [1, 2, null]],
      ["text[]", ["a", "b,c", '"']],
      ["text", null],
    ];
    for (let round = 0; round < 3; round++) {
      for (const [type, value] of values) same(await c.one(`SELECT $1::${type}`, [value]), value);
    }
    await c.end();
  },

  async transaction() {
    const c = await connect();
    await c.query("CREATE TABLE tx (n int)");
    for (let n = 0; n < 10; n++) {
      await c.query("BEGIN");
      await c.query("INSERT INTO tx VALUES ($1)", [n]);
      await c.query(n % 2 ? "COMMIT" : "ROLLBACK");
    }
    same(await c.one("SELECT sum(n)::int FROM tx"), 25);
    await c.query("BEGIN");
    await c.query("INSERT INTO tx VALUES (1000)");
    await c.end(); // inside the transaction
    const d = await connect();
    same(await d.one("SELECT sum(n)::int FROM tx"), 25);
    await d.end();
  },

  async savepoint() {
    const c = await connect();
    await c.query("CREATE TABLE sp (n int PRIMARY KEY)");
    await c.query("BEGIN");
    await c.query("INSERT INTO sp VALUES ($1)", [1]);
    await c.query("SAVEPOINT one");
    await raises("23505", () => c.query("INSERT INTO sp VALUES ($1)", [1]));
    await raises("25P02", () => c.query("SELECT 1"));
    await c.query("ROLLBACK TO one");
    await c.query("INSERT INTO sp VALUES ($1)", [2]);
    await c.query("COMMIT");
    same(await c.one("SELECT count(*)::int FROM sp"), 2);
    await c.end();
  },

  async error() {
    const c = await connect();
    for (let n = 0; n < 8; n++) {
      await raises("42601", () => c.query("SELEC 1"));
      await raises("22012", () => c.query("SELECT 1 / $1::int", [0]));
      await raises("22012", () =>
        c.query({ name: "div", text: "SELECT 1 / $1::int", values: [0] }),
      );
      await raises("42P01", () => c.query({ name: "none", text: "SELECT * FROM no_such_table" }));
      same(await c.one("SELECT $1::text", ["still here"]), "still here");
    }
    await c.end();
  },

  async prepared() {
    const [a, b] = [await connect(), await connect()];
    for (let n = 0; n < 12; n++) {
      // The same name for different texts in two sessions.
      same(await a.one({ name: "q", text: "SELECT $1::int + 1000", values: [n] }), n + 1000);
      same(await b.one({ name: "q", text: "SELECT $1::text || 'x'", values: [`${n}`] }), `${n}x`);
      same(await a.one({ name: `q${n}`, text: `SELECT $1::int + ${n}`, values: [1] }), n + 1);
    }
    (await a.end(), await b.end());
  },

  async pipeline() {
    const c = await connect();
    // node-postgres queues them itself; each is a round trip of its own.
    const got = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        c.one({ name: "p", text: "SELECT $1::int", values: [n] }),
      ),
    );
    same(
      got,
      Array.from({ length: 100 }, (_, n) => n),
    );
    const settled = await Promise.allSettled([
      c.query("SELECT 1"),
      c.query("SELEC"),
      c.query("SELECT 2"),
    ]);
    same(
      settled.map((s) => s.status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    await c.end();
  },

  async copy() {
    const c = await connect();
    await c.query("CREATE TABLE cp (n int, t text)");
    const rows = Array.from({ length: 20000 }, (_, n) => `${n}\trow ${n}\n`);
    await pipe(Readable.from(rows), c.query(copyFrom("COPY cp FROM STDIN")));
    let out = "";
    for await (const piece of c.query(copyTo("COPY (SELECT * FROM cp ORDER BY n) TO STDOUT")))
      out += piece;
    same(out === rows.join(""), true);
    await raises("22P02", () =>
      pipe(Readable.from(["x\ty\n"]), c.query(copyFrom("COPY cp FROM STDIN"))),
    );
    same(await c.one("SELECT count(*)::int FROM cp"), 20000);
    await c.end();
  },

  async large() {
    const c = await connect();
    const text = "0123456789abcdef".repeat(65536 * 5);
    same((await c.one("SELECT $1::text", [text])) === text, true);
    const { rows } = await c.query("SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)");
    same(
      rows.reduce((sum, row) => sum + row.x.length, 0),
      20_000_000,
    );
    await c.end();
  },

  async cursor() {
    const c = await connect();
    for (let n = 0; n < 3; n++) {
      await c.query("BEGIN");
      const cursor = c.query(new Cursor("SELECT g FROM generate_series(1, $1::int) g", [1000]));
      let sum = 0;
      for (let rows; (rows = await cursor.read(100)).length > 0;)
        sum += rows.reduce((s, row) => s + row.g, 0);
      await cursor.close();
      await c.query("COMMIT");
      same(sum, 500500);
    }
    await c.end();
    return "pg-cursor, inside a transaction";
  },

  async cancel() {
    const c = await connect();
    for (let n = 0; n < 3; n++) {
      const running = raises("57014", () => c.query("SELECT pg_sleep(20)"));
      await sleep(300);
      const killer = new pg.Client({ connectionString: url });
      killer.connection.on("error", () => {});
      // PostgreSQL signals twice and hangs up after that: the second must not meet the next query.
      const hung_up = new Promise((resolve) => killer.connection.once("end", resolve));
      const query = c._activeQuery ?? c.activeQuery;
      killer.cancel(c, query);
      await running;
      await hung_up;
      same(await c.one("SELECT 1"), 1);
    }
    await c.end();
    const impatient = await connect({ statement_timeout: 300 });
    await raises("57014", () => impatient.query("SELECT pg_sleep(20)"));
    same(await impatient.one("SHOW statement_timeout"), "300ms");
    await impatient.end();
  },

  async reconnect() {
    for (let n = 0; n < 25; n++) {
      const c = await connect();
      same(await c.one("SELECT $1::int", [n]), n);
      await c.end();
    }
  },

  async schema_change() {
    const [c, other] = [await connect(), await connect()];
    await other.query("CREATE TABLE shape (a int); INSERT INTO shape VALUES (1)");
    const plain = async () => (await c.query("SELECT * FROM shape WHERE a = $1", [1])).rows[0];
    let errors = 0;
    const named = async () => {
      try {
        return (await c.query({ name: "s", text: "SELECT * FROM shape WHERE a = $1", values: [1] }))
          .rows[0];
      } catch (error) {
        same(error.code, "0A000"); // node-postgres does not prepare again by itself
        errors++;
        return null;
      }
    };
    for (const [change, want] of [
      [null, { a: 1 }],
      ["ADD COLUMN b text DEFAULT 'x'", { a: 1, b: "x" }],
      ["ALTER b DROP DEFAULT, ALTER b TYPE int USING 7", { a: 1, b: 7 }],
      ["DROP COLUMN b", { a: 1 }],
    ]) {
      if (change) await other.query(`ALTER TABLE shape ${change}`);
      for (let n = 0; n < 4; n++) {
        same({ ...(await plain()) }, want);
        const row = await named();
        if (row) same({ ...row }, want);
      }
    }
    (await c.end(), await other.end());
    return errors ? `${errors} times 0A000 reached the application, from named statements` : "";
  },

  async session_set() {
    const [a, b] = [
      await connect(),
      await connect({ options: "-c search_path=pg_catalog -c app.tenant=b" }),
    ];
    await a.query("SET TIME ZONE 'Asia/Tokyo'");
    await a.query("SELECT set_config('app.tenant', $1, false)", ["a"]);
    await b.query("SET TIME ZONE 'America/Lima'; SET statement_timeout = '12s'");
    for (let n = 0; n < 4; n++) {
      same(await a.one("SHOW timezone"), "Asia/Tokyo");
      same(await b.one("SHOW timezone"), "America/Lima");
      same(await a.one("SELECT current_setting('app.tenant')"), "a");
      same(await b.one("SELECT current_setting('app.tenant')"), "b");
      same(await a.one("SHOW search_path"), '"$user", public');
      same(await b.one("SHOW search_path"), "pg_catalog");
      same(await a.one("SHOW statement_timeout"), "0");
      same(await b.one("SHOW statement_timeout"), "12s");
    }
    await b.query("RESET ALL");
    same(await b.one("SHOW search_path"), "pg_catalog");
    same(await b.one("SHOW statement_timeout"), "0");
    (await a.end(), await b.end());
  },

  async temp_table() {
    const [a, b] = [await connect(), await connect()];
    await a.query("CREATE TEMP TABLE mine (n int)");
    for (let n = 0; n < 5; n++) {
      await a.query("INSERT INTO mine VALUES ($1)", [n]);
      await raises("42P01", () => b.query("SELECT * FROM mine"));
    }
    same(await a.one("SELECT count(*)::int FROM mine"), 5);
    (await a.end(), await b.end());
  },

  async advisory_lock() {
    const [a, b] = [await connect(), await connect()];
    await a.query("SELECT pg_advisory_lock($1)", [42]);
    for (let n = 0; n < 5; n++) {
      same(await b.one("SELECT pg_try_advisory_lock($1)", [42]), false);
      same(await a.one("SELECT 1"), 1);
    }
    same(await a.one("SELECT pg_advisory_unlock($1)", [42]), true);
    same(await b.one("SELECT pg_try_advisory_lock($1)", [42]), true);
    (await a.end(), await b.end());
  },

  async listen_notify() {
    const [a, b] = [await connect(), await connect()];
    const heard = [];
    a.on("notification", (note) => heard.push(note.payload));
    await a.query("LISTEN news");
    for (let n = 0; n < 3; n++) {
      await b.query("SELECT pg_notify('news', $1)", [`${n}`]);
      for (let waited = 0; heard.length <= n && waited < 100; waited++) await sleep(50);
    }
    same(heard, ["0", "1", "2"]);
    await a.query("UNLISTEN *");
    (await a.end(), await b.end());
  },

  async concurrent() {
    const pool = new pg.Pool({ connectionString: url, max: 5 });
    await pool.query("CREATE TABLE conc (u int, r int)");
    await everyUser(async (i) => {
      const mine = await connect({ application_name: `user-${i}` });
      await mine.query(`SET app.who = 'user-${i}'`);
      for (let r = 0; r < rounds; r++) {
        same(await mine.one("SELECT current_setting('app.who')"), `user-${i}`);
        same(await mine.one("SHOW application_name"), `user-${i}`);
        same(await mine.one({ name: "s", text: "SELECT $1::int + 1", values: [r] }), r + 1);
        await mine.query("BEGIN");
        await mine.query({ name: "i", text: "INSERT INTO conc VALUES ($1, $2)", values: [i, r] });
        await mine.query(kept(r) ? "COMMIT" : "ROLLBACK");
        if (r % 4 === 0) await raises("22012", () => mine.query("SELECT 1 / $1::int", [0]));
        const shared = await pool.connect();
        const { rows } = await shared.query({
          name: "c",
          text: "SELECT count(*)::int AS n FROM conc WHERE u = $1",
          values: [i],
        });
        shared.release();
        same(rows[0].n, keptUpTo(r));
      }
      await mine.end();
    });
    const { rows } = await pool.query("SELECT count(*)::int AS n FROM conc");
    same(rows[0].n, users * keptUpTo(rounds - 1));
    await pool.end();
  },
});
