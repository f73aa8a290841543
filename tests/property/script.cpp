#include "script.h"

#include <initializer_list>
#include <utility>

namespace carpool::property {

namespace {

struct Setting {
  const char* name;
  std::vector<const char*> values;
};

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"TimeZone", {"UTC", "Asia/Tokyo", "America/Lima"}},
      {"DateStyle", {"ISO, MDY", "German, DMY", "SQL, MDY"}},
      {"IntervalStyle", {"postgres", "iso_8601", "sql_standard"}},
      {"application_name", {"one", "two", "it''s"}},
      {"client_encoding", {"UTF8", "LATIN1", "SQL_ASCII"}},
      {"standard_conforming_strings", {"on", "off"}},
      {"search_path", {"public", "pg_catalog", "other, public"}},
      {"statement_timeout", {"0", "5s", "9000"}},
      {"extra_float_digits", {"0", "1", "3"}},
      {"work_mem", {"1MB", "2MB"}},
      {"app.tenant", {"red", "blue", ""}},
      {"app.origin", {"here", "begun"}},
      {"default_transaction_isolation", {"read committed", "serializable"}},
  };
  return all;
}

struct Text {
  const char* sql;
  int parameters;
  bool healable = false;
};

const std::vector<Text>& texts() {
  static const std::vector<Text> all = {
      {"SELECT $1::int + 1", 1},
      {"SELECT $1::text || 'x'", 1},
      {"SELECT current_setting('TimeZone'), current_setting('search_path')", 0},
      {"SELECT count(*) FROM t WHERE u = $1", 1},
      {"INSERT INTO t VALUES ($1, $2)", 2},
      {"SELECT '1 day 2 hours'::interval, '2024-02-29 10:00+00'::timestamptz", 0},
      {"SELECT 10 / $1::int", 1},
      {"SELECT g FROM generate_series(1, $1::int) g", 1},
      {"SELECT * FROM shape", 0, true},
      {"SELECT * FROM which", 0},
      {"SET app.tenant = 'prepared'", 0},
      {"SELECT set_config('app.tenant', $1, false)", 1},
      {"SHOW TimeZone", 0},
      {"BEGIN", 0},
      {"COMMIT", 0},
      {"ROLLBACK", 0},
      {"", 0},
      {"SELEC 1", 0},
      {"SELECT * FROM no_such_table", 0},
      {"SELECT 1; SELECT 2", 0},
  };
  return all;
}

class Maker {
 public:
  Maker(uint64_t seed, const Kinds& kinds) : random_(seed), pieces_(~seed), kinds_(kinds) {}

  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool chance(int percent) { return below(100) < percent; }
  template <typename T>
  const T& pick(const std::vector<T>& from) {
    return from[static_cast<size_t>(below(static_cast<int>(from.size())))];
  }
  std::string one_of(std::initializer_list<const char*> from) {
    return *(from.begin() + below(static_cast<int>(from.size())));
  }

  Step step(int client) {
    struct Choice {
      const char* kind;
      int weight;
      void (Maker::*make)();
    };
    static const Choice choices[] = {
        {"query", 14, &Maker::plain},      {"transaction", 22, &Maker::transaction},
        {"set", 20, &Maker::set},          {"set", 12, &Maker::show},
        {"prepare", 26, &Maker::prepared}, {"prepare", 8, &Maker::pipeline},
        {"error", 6, &Maker::failing},     {"sql-prepare", 6, &Maker::sql_prepare},
        {"temp", 5, &Maker::temp},         {"lock", 5, &Maker::lock},
        {"listen", 4, &Maker::listen},     {"listen", 4, &Maker::notices},
        {"cursor", 6, &Maker::cursor},     {"copy", 4, &Maker::copy},
        {"role", 3, &Maker::role},         {"discard", 4, &Maker::discard},
        {"leave", 6, &Maker::leave},       {"schema", 3, &Maker::schema},
        {"hidden", 4, &Maker::hidden},     {"encoding", 4, &Maker::encoding},
    };
    int total = 0;
    for (const auto& choice : choices) total += kinds_.has(choice.kind) ? choice.weight : 0;
    int at = below(total);
    made_ = Step{};
    made_.client = client_ = client;
    for (const auto& choice : choices) {
      if (!kinds_.has(choice.kind)) continue;
      at -= choice.weight;
      if (at < 0) {
        (this->*choice.make)();
        break;
      }
    }
    constexpr uint64_t kOneIn = 4;
    if (made_.messages.size() > 1 && pieces_() % kOneIn == 0) made_.piece = 20 + pieces_() % 200;
    return std::move(made_);
  }

 private:
  // One statement, by the simple protocol or as Parse, Bind, Execute of the unnamed statement.
  void run(const std::string& sql, bool simple_only = false) {
    if (simple_only || chance(60)) {
      made_.messages.push_back(query(spoken(sql)));
      return;
    }
    made_.messages.push_back(parse("", spoken(sql)));
    made_.messages.push_back(bind("", "", {}));
    if (chance(50)) made_.messages.push_back(describe('P', ""));
    made_.messages.push_back(execute("", 0));
    made_.messages.push_back(sync());
  }

  // The same statement as different people write it.
  std::string spoken(const std::string& sql) {
    switch (below(8)) {
      case 0:
        return "/* note; */ " + sql;
      case 1:
        return "-- why\n" + sql;
      case 2:
        return sql + ";";
      case 3:
        return "  " + sql + " ";
      default:
        return sql;
    }
  }

  std::string mine() { return std::to_string(client_); }

  void plain() {
    switch (below(9)) {
      case 0:
        return run("SELECT 1");
      case 1:
        return run("INSERT INTO t VALUES (" + mine() + ", " + std::to_string(below(9)) + ")");
      case 2:
        return run("SELECT count(*), sum(n) FROM t WHERE u = " + mine());
      case 3:
        return run("SELECT 1; SELECT 'two'", true);
      case 4:
        return run("SELECT '1 day 2 hours'::interval, '2024-02-29 10:00+00'::timestamptz");
      case 5:
        return run("SELECT session_user, current_user, 0.1::float8 + 0.2");
      case 6:
        return run("SELECT * FROM which");
      case 7:
        return run(R"(SELECT 'a\\b')");
      default:
        return run("DELETE FROM t WHERE u = " + mine() + " AND n = " + std::to_string(below(9)));
    }
  }

  void transaction() {
    switch (below(16)) {
      case 0:
      case 1:
      case 2:
        return run("BEGIN");
      case 3:
        return run("BEGIN ISOLATION LEVEL SERIALIZABLE");
      case 4:
        return run("START TRANSACTION READ ONLY");
      case 5:
      case 6:
        return run("COMMIT");
      case 7:
      case 8:
        return run("ROLLBACK");
      case 9:
        return run("END");
      case 10:
        return run("SAVEPOINT a");
      case 11:
        return run("ROLLBACK TO a");
      case 12:
        return run("RELEASE a");
      case 13:
        return run(one_of({"COMMIT AND CHAIN", "ROLLBACK AND CHAIN"}));
      case 14:
        return run("BEGIN; INSERT INTO t VALUES (" + mine() + ", 1); COMMIT", true);
      default:
        return run("SHOW transaction_isolation");
    }
  }

  void set() {
    const Setting& setting = pick(settings());
    const std::string name = setting.name;
    const std::string value = pick(setting.values);
    // Lists are written bare: in quotes they are one name.
    const std::string written =
        name == "search_path" || name == "DateStyle" ? value : "'" + value + "'";
    const std::string assign = name + one_of({" = ", " TO "}) + written;
    switch (below(16)) {
      case 0:
      case 1:
      case 2:
        return run("SET " + assign);
      case 3:
        return run("set session " + assign);
      case 4:
      case 5:
        return run("SET LOCAL " + assign);
      case 6:
        return run("RESET " + name);
      case 7:
        return run("RESET ALL");
      case 8:
        return run("SET " + name + " TO DEFAULT");
      case 9:
        return run("SELECT set_config('" + name + "', '" + value + "', false)");
      case 10:
        return run("SELECT set_config('" + name + "', '" + value + "', true)");
      case 11:
        return run("SET " + assign + "; SELECT 1; SET app.tenant = 'several'", true);
      case 12:
        return run("SET " + assign + "; SELECT 1 / 0", true);  // taken back as a whole
      case 13:
        return run(one_of({"SET TIME ZONE 'Asia/Tokyo'", "SET NAMES 'LATIN1'",
                           "SET TIME ZONE LOCAL", "SET SCHEMA 'pg_catalog'"}));
      case 14:
        return run("BEGIN; SET " + assign + "; " + one_of({"COMMIT", "ROLLBACK"}), true);
      default:
        return run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL " +
                   one_of({"SERIALIZABLE", "READ COMMITTED"}));
    }
  }

  void show() {
    const std::string name = pick(settings()).name;
    if (name == "app.tenant" || name == "app.origin") {
      // A setting that PostgreSQL does not know is NULL until the first SET in a session, and empty
      // after a RESET: which of both is one of the documented differences.
      return run("SELECT coalesce(current_setting('" + name + "', true), '')");
    }
    run("SHOW " + name);
  }

  std::string statement() { return chance(25) ? "" : "s" + std::to_string(below(4)); }

  std::vector<std::optional<std::string>> values(int count) {
    if (chance(4)) count = count == 0 ? 1 : 0;  // a Bind that does not fit
    std::vector<std::optional<std::string>> made;
    for (int i = 0; i < count; i++) {
      if (i == 0 && count == 2)
        made.emplace_back(mine());
      else if (chance(5))
        made.emplace_back(std::nullopt);
      else
        made.emplace_back(std::to_string(below(4)));
    }
    return made;
  }

  // What a Bind must bring is not known here: another step chose the text, or none did.
  int guess() { return below(10) < 5 ? 1 : below(3); }

  void prepared() {
    const std::string name = statement();
    const Text& text = pick(texts());
    auto& out = made_.messages;
    made_.healable = true;
    switch (below(8)) {
      case 0:
      case 1:  // prepare in one round trip, as lib/pq does
        out.push_back(parse(name, text.sql));
        if (chance(50)) out.push_back(describe('S', name));
        if (chance(30)) out.push_back(flush());
        break;
      case 2:
      case 3:  // run what an earlier step prepared
        out.push_back(bind("", name, values(guess())));
        if (chance(50)) out.push_back(describe('P', ""));
        out.push_back(execute("", 0));
        break;
      case 4:  // prepare and run
        out.push_back(parse(name, text.sql));
        out.push_back(bind("", name, values(text.parameters)));
        out.push_back(describe('P', ""));
        if (chance(30)) out.push_back(flush());
        out.push_back(execute("", 0));
        break;
      case 5:  // close, prepare and run, as asyncpg does when its cache is full
        out.push_back(close('S', name));
        if (chance(50)) out.push_back(sync());
        out.push_back(parse(name, text.sql));
        out.push_back(bind("", name, values(text.parameters)));
        out.push_back(execute("", 0));
        break;
      case 6:
        out.push_back(close('S', name));
        break;
      default: {  // a portal with a name, read in pieces
        const std::string portal = one_of({"", "p"});
        out.push_back(parse("", "SELECT g FROM generate_series(1, 5) g"));
        out.push_back(bind(portal, "", {}));
        out.push_back(execute(portal, 2));
        if (chance(50)) {
          out.push_back(sync());
          made_.resumes = true;
        }
        out.push_back(execute(portal, chance(50) ? 0 : 2));
        if (chance(50)) out.push_back(close('P', portal));
        break;
      }
    }
    out.push_back(sync());
  }

  void pipeline() {
    made_.healable = true;
    const int batches = 1 + below(3);
    for (int batch = 0; batch < batches; batch++) {
      for (int i = 1 + below(4); i > 0; i--) {
        const std::string name = statement();
        const Text& text = pick(texts());
        if (chance(60)) {
          made_.messages.push_back(parse(name, text.sql));
          made_.messages.push_back(bind("", name, values(text.parameters)));
        } else {
          made_.messages.push_back(bind("", name, values(guess())));
        }
        made_.messages.push_back(execute("", 0));
        if (chance(10)) made_.messages.push_back(close('S', name));
      }
      made_.messages.push_back(sync());
    }
  }

  void failing() {
    switch (below(6)) {
      case 0:
        return run("SELECT 1 / 0");
      case 1:
        return run("SELEC 1");
      case 2:
        return run("SELECT 1; SELECT 1 / 0; SELECT 2", true);
      case 3:
        return run("SELECT * FROM no_such_table");
      case 4:
        return run("INSERT INTO keyed VALUES (1)");  // is there already
      default:
        return run("SET no_such_setting = 1");
    }
  }

  void sql_prepare() {
    // Names of their own, unless told that both worlds share names.
    const std::string name =
        (kinds_.has("mixed") && chance(50) ? "s" : "q") + std::to_string(below(3));
    made_.pins = true;
    switch (below(5)) {
      case 0:
      case 1:
        return run("PREPARE " + name + "(int) AS SELECT $1 + " + std::to_string(below(5)));
      case 2:
        return run("EXECUTE " + name + "(" + std::to_string(below(5)) + ")");
      case 3:
        return run("DEALLOCATE " + one_of({"PREPARE ", ""}) + name);
      default:
        return run("DEALLOCATE ALL");
    }
  }

  // Texts that are other ones in another encoding, and errors in some.
  void encoding() {
    made_.pins = true;
    switch (below(8)) {
      case 0:
        return run("SET app.tenant = '\xe9'");
      case 1:
        return run("SET app.tenant = '\x95\\'");
      case 2:
        return run("SELECT E'\x95\\'; SET app.tenant = 'hidden'; SELECT '\xb1'", true);
      case 3:
        return run("SELECT coalesce(current_setting('app.tenant', true), '')");
      case 4:
        return run("RESET client_encoding");
      default:
        return run("SET client_encoding TO " + one_of({"UTF8", "LATIN1", "SJIS", "GBK"}));
    }
  }

  void temp() {
    made_.pins = true;
    switch (below(7)) {
      case 0:
        return run("CREATE TEMP TABLE mine (n int)");
      case 1:
        return run("CREATE LOCAL TEMPORARY TABLE mine AS SELECT 1 AS n");
      case 2:
        return run("CREATE TABLE pg_temp.mine (n int)");
      case 3:
        return run("SELECT 7 AS n INTO TEMP mine");
      case 4:
        return run("INSERT INTO mine VALUES (1)");
      case 5:
        return run("SELECT count(*) FROM mine");
      default:
        return run("DROP TABLE mine");
    }
  }

  void lock() {
    made_.pins = true;
    const std::string key = std::to_string(below(2));
    switch (below(6)) {
      case 0:
      case 1:
        return run("SELECT pg_try_advisory_lock(" + key + ")");
      case 2:
        return run("SELECT pg_try_advisory_lock_shared(" + key + ")");
      case 3:
        return run("SELECT pg_advisory_unlock(" + key + ")");
      case 4:
        return run("SELECT pg_advisory_unlock_all()");
      default:
        made_.pins = false;
        return run("SELECT pg_try_advisory_xact_lock(" + key + ")");
    }
  }

  void listen() {
    made_.pins = true;
    switch (below(7)) {
      case 0:
      case 1:
        return run("LISTEN news");
      case 3:  // a LISTEN only where standard_conforming_strings is off
        return run(R"(SELECT '\', '; LISTEN news; --')", true);
      case 2:
        return run("UNLISTEN " + one_of({"news", "*"}));
      default:
        made_.pins = false;
        return run("NOTIFY news, '" + std::to_string(below(100)) + "'");
    }
  }

  void notices() { made_.act = Act::kNotices; }

  void cursor() {
    switch (below(8)) {
      case 0:
        return run("DECLARE c CURSOR FOR SELECT g FROM generate_series(1, 9) g");
      case 1:
        made_.pins = true;
        return run("DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 9) g");
      case 2:
        return run("FETCH 2 FROM c");
      case 3:
        made_.pins = true;
        return run("FETCH 2 FROM h");
      case 4:
        made_.pins = true;
        return run("FETCH BACKWARD 1 FROM h");
      case 5:
        return run("CLOSE c");
      case 6:
        made_.pins = true;
        return run("CLOSE h");
      default:
        made_.pins = true;
        return run("CLOSE ALL");
    }
  }

  void copy() {
    auto& out = made_.messages;
    const std::string rows = mine() + "\t100\n" + mine() + "\t101\n";
    switch (below(5)) {
      case 0:
        return run("COPY (SELECT g FROM generate_series(1, 3) g) TO STDOUT");
      case 1:
        out = {query("COPY t FROM STDIN"), copy_data(rows.substr(0, 3)), copy_data(rows.substr(3)),
               copy_done()};
        return;
      case 2:
        out = {query("COPY t FROM STDIN"), copy_data("x\ty\n"), copy_done()};
        return;
      case 3:
        out = {query("COPY t FROM STDIN"), copy_data(rows), copy_fail("no more")};
        return;
      default:
        out = {parse("", "COPY t FROM STDIN"),
               bind("", "", {}),
               execute("", 0),
               copy_data(rows),
               copy_done(),
               sync()};
    }
  }

  void role() {
    run(one_of({"SET ROLE prop_a", "SET ROLE NONE", "RESET ROLE",
                "SET SESSION AUTHORIZATION prop_b", "RESET SESSION AUTHORIZATION",
                "SET LOCAL ROLE prop_b", "SET ROLE no_such_role",
                "SELECT session_user, current_user"}));
  }

  void discard() {
    if (chance(70)) {
      made_.unpins = true;
      made_.messages.push_back(query("DISCARD ALL"));
      return;
    }
    run(one_of({"DISCARD PLANS", "DISCARD TEMP", "DISCARD SEQUENCES"}));
  }

  void leave() {
    made_.act = chance(75) ? Act::kReconnect : Act::kCut;
    if (made_.act == Act::kCut) {
      made_.messages.push_back(query("SELECT count(*) FROM generate_series(1, 100000)"));
    }
  }

  // A table changes under statements that are prepared; not waited for where someone reads it.
  void schema() {
    made_.healable = true;
    made_.alone = true;
    const std::string change =
        one_of({"ADD COLUMN IF NOT EXISTS b int DEFAULT 7", "DROP COLUMN IF EXISTS b"});
    made_.messages.push_back(query("SET LOCAL lock_timeout = '30ms'; ALTER TABLE shape " + change));
  }

  // State that no reply shows.
  void hidden() {
    run(one_of({"DO $$BEGIN PERFORM set_config('app.tenant', 'hidden', false); END$$",
                "SELECT nextval('counter')", "SELECT currval('counter')",
                "SELECT '01/02/2024'::date"}));
  }

  std::mt19937_64 random_;
  std::mt19937_64 pieces_;  // its own, so that a seed says the same with and without them
  const Kinds& kinds_;
  Step made_;
  int client_ = 0;
};

}  // namespace

const std::vector<std::string>& default_kinds() {
  static const std::vector<std::string> kinds = {
      "query",   "transaction", "set",    "prepare", "error",   "sql-prepare",
      "temp",    "lock",        "listen", "cursor",  "copy",    "role",
      "discard", "leave",       "schema", "startup", "encoding"};
  return kinds;
}

const std::vector<std::string>& all_kinds() {
  static const std::vector<std::string> kinds = [] {
    auto all = default_kinds();
    all.insert(all.end(), {"mixed", "hidden"});
    return all;
  }();
  return kinds;
}

uint64_t seed_of(uint64_t run_seed, uint64_t index) {
  // splitmix64's finalizer: neighbouring scripts must not resemble each other.
  uint64_t x = run_seed + 0x9E3779B97F4A7C15ull * (index + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

Script make_script(uint64_t seed, const Kinds& kinds, int steps_max) {
  Maker maker(seed, kinds);
  Script script;
  script.seed = seed;
  script.servers = 1 + maker.below(3);
  const int clients = 2 + maker.below(4);
  for (int i = 0; i < clients; i++) {
    const int how = kinds.has("startup") ? maker.below(6) : 0;
    script.startup.push_back(how == 1   ? " application_name=starter"
                             : how == 2 ? " options='-c statement_timeout=8s -c app.origin=begun'"
                             : how == 3
                                 ? " options='-c TimeZone=Asia/Tokyo -c search_path=pg_catalog'"
                                 : "");
  }
  const int steps = 5 + maker.below(steps_max - 4);
  while (static_cast<int>(script.steps.size()) < steps) {
    const int client = maker.below(clients);
    for (int burst = 1 + maker.below(5); burst > 0; burst--)
      script.steps.push_back(maker.step(client));
  }
  return script;
}

std::string shown(const Step& step) {
  std::string text = "client " + std::to_string(step.client) + ": ";
  switch (step.act) {
    case Act::kReconnect:
      return text + "leaves and comes back";
    case Act::kNotices:
      return text + "looks for notifications";
    case Act::kCut:
      text += "is cut off and comes back, after ";
      break;
    case Act::kExchange:
      break;
  }
  for (size_t i = 0; i < step.messages.size(); i++) {
    text += (i == 0 ? "" : ", ") + step.messages[i].shown;
  }
  if (step.piece > 0) text += ", in pieces of " + std::to_string(step.piece) + " bytes";
  return text;
}

}  // namespace carpool::property
