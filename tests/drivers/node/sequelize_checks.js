// Sequelize over node-postgres, with a pool of its own.
import { DataTypes, QueryTypes, Sequelize, Transaction } from "sequelize";
import {
  Absent,
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

const open = (options = {}) => new Sequelize(url, { logging: false, pool: { max: 5 }, ...options });
const db = open();
const one = async (sql, options = {}) =>
  Object.values((await db.query(sql, { type: QueryTypes.SELECT, ...options }))[0])[0];

const Thing = db.define(
  "thing",
  {
    name: { type: DataTypes.STRING, unique: true },
    n: DataTypes.INTEGER,
    price: DataTypes.DECIMAL(20, 4),
    at: DataTypes.DATE,
    key: DataTypes.UUID,
    data: DataTypes.JSONB,
    blob: DataTypes.BLOB,
    list: DataTypes.ARRAY(DataTypes.INTEGER),
    mood: DataTypes.ENUM("sad", "ok"),
  },
  { timestamps: false },
);
await Thing.sync();

await run("Sequelize", "sequelize", {
  async query() {
    for (let n = 0; n < 20; n++) {
      same(await one("SELECT 1 + 1 AS x"), 2);
      same(await one("SELECT :n::int * 2 AS x", { replacements: { n } }), 2 * n);
    }
    await Thing.bulkCreate(Array.from({ length: 300 }, (_, n) => ({ name: `t${n}`, n })));
    same(await Thing.sum("n"), 44850);
    same((await Thing.findAll({ where: { n: [1, 2, 3] }, order: ["n"] })).length, 3);
    await Thing.destroy({ where: {} });
  },

  async types() {
    const value = {
      name: "snow ☃ 'q' \\",
      n: -7,
      price: "12345.6789",
      at: new Date("2024-02-29T12:30:15.123Z"),
      key: "00000000-0000-0000-0000-000000000005",
      data: { a: [1, null] },
      blob: Buffer.from([0, 1, 255]),
      list: [1, 2, 3],
      mood: "sad",
    };
    for (let n = 0; n < 5; n++) {
      await Thing.create(value);
      const got = (await Thing.findOne({ where: { name: value.name } })).get();
      for (const key of Object.keys(value)) same(got[key], value[key]);
      await Thing.destroy({ where: {} });
    }
  },

  async transaction() {
    for (let n = 0; n < 10; n++) {
      const t = await db.transaction();
      await Thing.create({ name: `tx ${n}`, n }, { transaction: t });
      await (n % 2 ? t.commit() : t.rollback());
    }
    same(await Thing.sum("n"), 25);
    await db.transaction(
      { isolationLevel: Transaction.ISOLATION_LEVELS.SERIALIZABLE },
      async (t) => {
        same(await one("SHOW transaction_isolation", { transaction: t }), "serializable");
      },
    );
    await Thing.destroy({ where: {} });
  },

  async savepoint() {
    await db.transaction(async (t) => {
      await Thing.create({ name: "one" }, { transaction: t });
      for (let n = 0; n < 3; n++) {
        await raises("23505", () =>
          db.transaction({ transaction: t }, (inner) =>
            Thing.create({ name: "one" }, { transaction: inner }),
          ),
        );
      }
      await Thing.create({ name: "two" }, { transaction: t });
    });
    same(await Thing.count(), 2);
    await Thing.destroy({ where: {} });
  },

  async error() {
    for (let n = 0; n < 8; n++) {
      await raises("42601", () => db.query("SELEC 1"));
      await raises("22012", () => db.query("SELECT 1 / $n::int", { bind: { n: 0 } }));
      await raises("42P01", () => db.query("SELECT * FROM no_such_table"));
      same(await one("SELECT $t::text AS x", { bind: { t: "still here" } }), "still here");
    }
  },

  async prepared() {
    for (let n = 0; n < 30; n++)
      same(await one("SELECT $n::int + 1000 AS x", { bind: { n } }), n + 1000);
  },

  async pipeline() {
    await Thing.bulkCreate(
      Array.from({ length: 1000 }, (_, n) => ({ name: `p${n}`, n })),
      { returning: true },
    );
    await Thing.bulkCreate([{ name: "p1", n: -1 }], {
      updateOnDuplicate: ["n"],
      conflictAttributes: ["name"],
    });
    same(await Thing.sum("n"), 499500 - 2);
    await Thing.destroy({ where: {} });
    return "bulkCreate";
  },

  async copy() {
    throw new Absent("no COPY in Sequelize");
  },

  async large() {
    const blob = Buffer.alloc(5 * 1024 * 1024, "0123456789abcdef");
    await Thing.create({ name: "large", blob });
    same((await Thing.findOne({ where: { name: "large" } })).blob.equals(blob), true);
    await Thing.destroy({ where: {} });
  },

  async cursor() {
    throw new Absent("no cursors in Sequelize");
  },

  async cancel() {
    throw new Absent("no cancel in Sequelize; statement_timeout is in session set");
  },

  async reconnect() {
    for (let n = 0; n < 15; n++) {
      const mine = open();
      await mine.authenticate();
      await mine.close();
    }
  },

  async schema_change() {
    await db.query("CREATE TABLE shape (a int)");
    await db.query("INSERT INTO shape VALUES (1)");
    for (const [change, want] of [
      [null, { a: 1 }],
      ["ADD COLUMN b text DEFAULT 'x'", { a: 1, b: "x" }],
      ["DROP COLUMN b", { a: 1 }],
    ]) {
      if (change) await db.query(`ALTER TABLE shape ${change}`);
      for (let n = 0; n < 8; n++) {
        const [row] = await db.query("SELECT * FROM shape WHERE a = $1", {
          bind: [1],
          type: QueryTypes.SELECT,
        });
        same({ ...row }, want);
      }
    }
  },

  async session_set() {
    // Sequelize itself sends SET client_min_messages and SET TIME ZONE on each new connection.
    const mine = open({ timezone: "Asia/Tokyo", dialectOptions: { statement_timeout: 400 } });
    for (let n = 0; n < 6; n++) {
      const [rows] = await mine.query(
        "SELECT current_setting('timezone') AS z, current_setting('statement_timeout') AS t",
      );
      same({ ...rows[0] }, { z: "Asia/Tokyo", t: "400ms" });
      same(await one("SELECT current_setting('statement_timeout') AS t"), "0");
    }
    await raises("57014", () => mine.query("SELECT pg_sleep(20)"));
    await mine.close();
  },

  async temp_table() {
    await db.transaction(async (transaction) => {
      await db.query("CREATE TEMP TABLE mine (n int) ON COMMIT DROP", { transaction });
      await db.query("INSERT INTO mine VALUES (1), (2)", { transaction });
      same(await one("SELECT count(*)::int FROM mine", { transaction }), 2);
    });
    return "inside a transaction";
  },

  async advisory_lock() {
    const mine = open({ pool: { max: 1 } });
    await mine.query("SELECT pg_advisory_lock(42)");
    for (let n = 0; n < 4; n++) {
      await mine.query("SELECT 1");
      const [rows] = await db.query("SELECT pg_try_advisory_lock(42) AS got");
      same(rows[0].got, false);
    }
    await mine.close(); // the lock goes with its session
    for (let n = 0; n < 100; n++) {
      const got = await db.transaction((transaction) =>
        one("SELECT pg_try_advisory_xact_lock(42)", { transaction }),
      );
      if (got) return;
      await sleep(50);
    }
    throw new Error("the lock outlived its owner");
  },

  async listen_notify() {
    throw new Absent("no LISTEN in Sequelize");
  },

  async concurrent() {
    await db.query("CREATE TABLE conc (u int, r int)");
    await everyUser(async (i) => {
      for (let r = 0; r < rounds; r++) {
        await db
          .transaction(async (transaction) => {
            await db.query(`SET LOCAL app.who = 'user-${i}'`, { transaction });
            same(await one("SELECT current_setting('app.who') AS w", { transaction }), `user-${i}`);
            await db.query("INSERT INTO conc VALUES ($1, $2)", { bind: [i, r], transaction });
            if (!kept(r)) throw new Error("take it back");
          })
          .catch((error) => same(error.message, "take it back"));
        if (r % 4 === 0) await raises("22012", () => db.query("SELECT 1 / $1::int", { bind: [0] }));
        same(
          await one("SELECT count(*)::int AS n FROM conc WHERE u = $1", { bind: [i] }),
          keptUpTo(r),
        );
      }
    });
    same(await one("SELECT count(*)::int AS n FROM conc"), users * keptUpTo(rounds - 1));
  },
});
