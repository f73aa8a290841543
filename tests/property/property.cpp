// The property: a client of Carpool in transaction mode cannot tell it from PostgreSQL.
//
// Each script runs twice at once, step by step: its clients through Carpool, over a pool of 1 to 3
// servers, and the same clients each with a connection of its own. After each step the replies, the
// transaction's status and the reported parameters must be equal; after a client left, so must the
// locks and temporary tables that are still there. What depends on time or on a process id is not
// looked at. A difference is shrunk to the steps that it takes, and its seed printed.
//
// A step whose client would have to wait for a server is left out on both sides: a client holds one
// in a transaction, and is taken to hold one from a statement that may pin it until DISCARD ALL.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <random>
#include <thread>

#include "script.h"
#include "wire.h"

namespace carpool::property {
namespace {

constexpr int kAnswerMs = 6000;
constexpr int kSettleMs = 4000;
constexpr int kRefreshMs = 100;

struct Options {
  std::string carpool;  // with {size} for the pool's size
  std::string direct;
  std::string server;  // straight to the database behind Carpool; for locks, and to tidy up
  uint64_t seed = 0;
  uint64_t scripts = 10000;
  uint64_t first = 0;
  int steps_max = 40;
  int failures_max = 5;
  bool messages = false;
  bool show = false;
  bool brief = false;
  std::vector<std::string> with, without;
};

std::string with_size(std::string url, int size) {
  const auto at = url.find("{size}");
  return at == std::string::npos ? url : url.replace(at, 6, std::to_string(size));
}

// A connection that no script sees: it makes the tables and looks at what clients left behind.
class Keeper {
 public:
  explicit Keeper(const std::string& url) : conn_(PQconnectdb(url.c_str())) {
    if (PQstatus(conn_) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(conn_));
    PQsetNoticeProcessor(
        conn_, [](void*, const char*) {}, nullptr);
  }
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() { PQfinish(conn_); }

  std::string run(const std::string& sql) {
    std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(conn_, sql.c_str()), PQclear);
    const auto status = PQresultStatus(result.get());
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
      throw std::runtime_error(sql + ": " + PQerrorMessage(conn_));
    }
    return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
  }

  void make_tables() {
    // Roles belong to the whole server, which both sides may share.
    for (const char* role : {"prop_a", "prop_b"}) {
      run("DO $$BEGIN CREATE ROLE " + std::string(role) +
          "; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END$$");
    }
    run("DROP TABLE IF EXISTS t, keyed, which, other.which; DROP SEQUENCE IF EXISTS counter;"
        "CREATE TABLE t (u int, n int); CREATE TABLE keyed (n int PRIMARY KEY);"
        "INSERT INTO keyed VALUES (1); CREATE SCHEMA IF NOT EXISTS other;"
        "CREATE TABLE which AS SELECT 'public' AS place;"
        "CREATE TABLE other.which AS SELECT 'other' AS place; CREATE SEQUENCE counter;"
        "GRANT ALL ON ALL TABLES IN SCHEMA public, other TO prop_a, prop_b;"
        "GRANT USAGE ON SCHEMA other TO prop_a, prop_b");
    remake_shape();
  }

  void remake_shape() {
    run("DROP TABLE IF EXISTS shape; CREATE TABLE shape (a int); INSERT INTO shape VALUES (1);"
        "GRANT ALL ON shape TO prop_a");
  }

  // Until then a client that has left may hold its locks.
  void wait_for_end(int pid) {
    const std::string sql =
        "SELECT count(*) FROM pg_stat_activity WHERE pid = " + std::to_string(pid);
    for (int waited = 0; waited < kSettleMs && run(sql) != "0"; waited += 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  // What clients hold at this moment: locks, and tables of their own.
  std::string held() {
    return run(
        "SELECT (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        "         WHERE d.datname = current_database() AND l.pid <> pg_backend_pid()"
        "           AND l.locktype IN ('relation', 'advisory')) || ' locks, ' ||"
        "       (SELECT count(*) FROM pg_class WHERE relpersistence = 't') || ' temporary tables'");
  }

 private:
  PGconn* conn_;
};

struct Difference {
  size_t step;
  std::string what;
};

std::string compared(const std::string& line, bool messages) {
  return messages ? line : line.substr(0, line.find('\t'));
}

// Documented. In a failed transaction a Bind that does not fit its statement gets the one error or
// the other: a server that lacks the statement cannot be given it then, and says so first. So does
// one on which the statement's text is in error by now. And a portal that has been run may be gone,
// after a RESET in the same transaction.
bool is_either_error(const std::string& want, const std::string& got) {
  return (want.starts_with("ERROR 08P01") &&
          (got.starts_with("ERROR 25P02") || got.starts_with("ERROR 42P01"))) ||
         (want.starts_with("ERROR 55000\tportal") && got.starts_with("ERROR 34000\tportal"));
}

// Whether a Parse of the changed table's text in this step is answered by the pooler and what
// follows on it may meet a plan that is old. Where nothing has come before it in its transaction,
// and its batch is in one piece, that is healed; elsewhere the error is the client's: documented.
bool may_meet_old_plan(const Step& step, char status_before) {
  const auto of_changed = [](const Message& message) {
    return message.type == 'P' && message.body.find("SELECT * FROM shape") != std::string::npos;
  };
  const auto& messages = step.messages;
  const auto count = [&](char type) {
    return std::count_if(messages.begin(), messages.end(),
                         [&](const Message& message) { return message.type == type; });
  };
  if (std::none_of(messages.begin(), messages.end(), of_changed)) return false;
  const bool lone = messages.front().type == 'P' && count('P') == 1 && count('B') <= 1 &&
                    count('S') == 1 && count('C') == 0 && count('H') == 0;
  return status_before != 'I' || !lone;
}

std::string first_difference(const Reply& want, const Reply& got, bool messages) {
  for (size_t i = 0; i < std::max(want.lines.size(), got.lines.size()); i++) {
    const std::string ours = i < got.lines.size() ? got.lines[i] : "(nothing)";
    const std::string theirs = i < want.lines.size() ? want.lines[i] : "(nothing)";
    if (compared(ours, messages) != compared(theirs, messages) && !is_either_error(theirs, ours)) {
      return "PostgreSQL: " + theirs + "\n      Carpool:    " + ours;
    }
  }
  if (want.lost != got.lost) return "PostgreSQL: [" + want.lost + "]  Carpool: [" + got.lost + "]";
  if (want.status != got.status) {
    return std::string("status: PostgreSQL ") + want.status + ", Carpool " + got.status;
  }
  return "";
}

// Runs scripts; remembers nothing between two of them but the keepers' connections.
class Runner {
 public:
  explicit Runner(const Options& options)
      : options_(options), direct_keeper_(options.direct), pooled_keeper_(options.server) {
    direct_keeper_.make_tables();
    pooled_keeper_.make_tables();
  }

  std::optional<Difference> run(const Script& script) {
    skipped_.assign(script.steps.size(), false);
    changes_ = 0;
    std::optional<Difference> difference;
    {
      std::vector<Client> clients(script.startup.size());
      for (size_t i = 0; i < clients.size() && !difference; i++) {
        difference = connect(script, clients[i], i, 0);
      }
      for (size_t at = 0; at < script.steps.size() && !difference && !given_up_; at++) {
        difference = step(script, clients, at);
      }
    }
    given_up_ = false;
    if (!difference) difference = settle(script.steps.size());
    tidy(script);
    return difference;
  }

  // Ends the servers behind Carpool, so that nothing of earlier scripts is left on them.
  void refresh() {
    pooled_keeper_.run(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname ="
        " current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'");
    std::this_thread::sleep_for(std::chrono::milliseconds(kRefreshMs));
  }

  const std::vector<bool>& skipped() const { return skipped_; }
  uint64_t steps_run() const { return steps_run_; }
  uint64_t without_verdict() const { return without_verdict_; }
  uint64_t old_plans() const { return old_plans_; }

 private:
  struct Client {
    std::unique_ptr<Connection> direct, pooled;
    char status = 'I';
    bool pinned = false;

    bool holds() const { return status != 'I' || pinned; }
  };

  std::optional<Difference> connect(const Script& script, Client& client, size_t i, size_t at) {
    client = Client{};
    client.direct = std::make_unique<Connection>(conninfo(options_.direct, script.startup[i], i));
    client.pooled = std::make_unique<Connection>(
        conninfo(with_size(options_.carpool, script.servers), script.startup[i], i));
    if (!client.direct->failure().empty()) throw std::runtime_error(client.direct->failure());
    if (!client.pooled->failure().empty()) {
      return Difference{
          at, "client " + std::to_string(i) + " was refused: " + client.pooled->failure()};
    }
    return parameters_differ(client, at);
  }

  // A URL takes further parameters after its own; they are percent-encoded there. Every client has
  // an application_name: one that gives none sees the name that Carpool gave its server,
  // documented.
  static std::string conninfo(const std::string& url, const std::string& more, size_t i) {
    std::string out = url + (url.find('?') == std::string::npos ? "?" : "&") + "sslmode=disable";
    if (more.find("application_name") == std::string::npos) {
      out += "&application_name=client" + std::to_string(i);
    }
    if (more.empty()) return out;
    const auto equals = more.find('=');
    out += "&" + more.substr(1, equals - 1) + "=";
    for (const char c : more.substr(equals + 1)) {
      if (c == '\'') continue;
      out += c == ' ' ? "%20" : c == '=' ? "%3D" : std::string(1, c);
    }
    return out;
  }

  std::optional<Difference> parameters_differ(const Client& client, size_t at) const {
    for (const auto& [name, want] : client.direct->parameters()) {
      const std::string& got = client.pooled->parameters().at(name);
      if (got != want) {
        return Difference{
            at, "reported " + name + ": PostgreSQL '" + want + "', Carpool '" + got + "'"};
      }
    }
    return std::nullopt;
  }

  std::optional<Difference> step(const Script& script, std::vector<Client>& clients, size_t at) {
    const Step& step = script.steps[at];
    Client& client = clients[static_cast<size_t>(step.client)];
    int others = 0;
    for (const Client& one : clients) others += &one != &client && one.holds() ? 1 : 0;
    // Execute of a portal that failed with its transaction crashes PostgreSQL 15.20 itself.
    const bool unsafe = step.resumes && client.status == 'E';
    const bool would_block = step.alone && client.status != 'I';
    if (would_block || others >= script.servers || unsafe) {
      skipped_[at] = true;
      return std::nullopt;
    }
    steps_run_++;
    switch (step.act) {
      case Act::kExchange:
        return exchange(step, client, at);
      case Act::kNotices:
        return notices(client, at);
      case Act::kCut:
        client.direct->send_and_cut(step.messages);
        client.pooled->send_and_cut(step.messages);
        break;
      case Act::kReconnect:
        break;
    }
    const int pid = client.direct->pid();
    client.direct.reset();
    client.pooled.reset();
    direct_keeper_.wait_for_end(pid);
    if (auto difference = settle(at)) return difference;
    return connect(script, client, static_cast<size_t>(step.client), at);
  }

  std::optional<Difference> exchange(const Step& step, Client& client, size_t at) {
    const Reply want = client.direct->exchange(step.messages, kAnswerMs);
    if (!want.lost.empty()) {
      // The script makes no sense: it executes a COPY that it has no data for, say.
      given_up_ = true;
      without_verdict_++;
      return std::nullopt;
    }
    const Reply got = client.pooled->exchange(step.messages, kAnswerMs, step.piece);
    client.pinned = client.pinned || step.pins;
    if (step.unpins && !want.lines.empty() && want.lines[0] == "done DISCARD ALL") {
      client.pinned = false;
    }
    const char before = client.status;
    client.status = want.status;
    const std::string difference = first_difference(want, got, options_.messages);
    if (step.alone && !want.has_error("55P03")) changes_++;
    if (difference.empty()) return parameters_differ(client, at);
    // `cached plan must not change result type`: may be healed. Nothing after it is comparable
    // where it ended a transaction on one side only, so the script ends here.
    if (step.healable && want.has_error("0A000") && !got.has_error("0A000") && got.lost.empty()) {
      given_up_ = before != 'I' || want.status != got.status || step.messages.size() > 5;
      return std::nullopt;
    }
    // The same error where PostgreSQL has none: of a plan that another client has had made. It ends
    // a transaction on one side only, and the script with it.
    const bool changed_back = changes_ > 1;
    if (step.healable && got.has_error("0A000") && !want.has_error("0A000") &&
        (changed_back || may_meet_old_plan(step, before))) {
      given_up_ = true;
      old_plans_++;
      return std::nullopt;
    }
    return Difference{at, difference};
  }

  std::optional<Difference> notices(Client& client, size_t at) {
    // They come on their own time: both sides get some, and must end up equal.
    const std::vector<Message> ask = {query("SELECT 1")};
    for (int waited = 0;; waited++) {
      client.direct->exchange(ask, kAnswerMs);
      client.pooled->exchange(ask, kAnswerMs);
      auto& want = client.direct->notifications(waited == 0 ? 2 : 20);
      auto& got = client.pooled->notifications(waited == 0 ? 2 : 20);
      const bool equal = want == got;
      if (!equal && waited < 50) continue;
      const auto listed = [](const std::vector<std::string>& notes) {
        std::string text = std::to_string(notes.size());
        for (const auto& note : notes) text += " [" + note + "]";
        return text;
      };
      Difference difference{
          at, "notifications: PostgreSQL " + listed(want) + ", Carpool " + listed(got)};
      want.clear();
      got.clear();
      if (equal) return std::nullopt;
      return difference;
    }
  }

  // Whoever left is really gone when both databases hold the same.
  std::optional<Difference> settle(size_t at) {
    std::string want, got;
    for (int waited = 0; waited < kSettleMs; waited += 2) {
      want = direct_keeper_.held();
      got = pooled_keeper_.held();
      if (want == got) return std::nullopt;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return Difference{at, "after leaving: PostgreSQL has " + want + ", Carpool " + got};
  }

  void tidy(const Script& script) {
    bool shape = false;
    for (const Step& step : script.steps) {
      for (const Message& message : step.messages) {
        shape = shape || message.body.find("ALTER TABLE shape") != std::string::npos;
      }
    }
    for (Keeper* keeper : {&direct_keeper_, &pooled_keeper_}) {
      keeper->run("DELETE FROM t; SELECT setval('counter', 1, false)");
      if (shape) keeper->remake_shape();
    }
  }

  const Options& options_;
  Keeper direct_keeper_, pooled_keeper_;
  std::vector<bool> skipped_;
  bool given_up_ = false;
  int changes_ = 0;  // of the table, in the script at hand
  uint64_t steps_run_ = 0;
  uint64_t without_verdict_ = 0;  // scripts that PostgreSQL itself did not answer to their end
  uint64_t old_plans_ = 0;        // and those that ended at a plan that was old, as documented
};

// Delta debugging (Zeller and Hildebrandt, 2002): the smallest list of steps that still differs, as
// far as leaving out ever smaller runs of steps finds it. On new servers where it differs there
// too, so that the script stands for itself; else what earlier scripts left behind plays a part.
Script shrink(Runner& runner, Script script, Difference& difference, bool& fresh) {
  runner.refresh();
  const auto alone = runner.run(script);
  fresh = alone.has_value();
  if (fresh) difference = *alone;
  script.steps.resize(std::min(script.steps.size(), difference.step + 1));
  for (size_t run = script.steps.size() / 2; run >= 1;) {
    bool smaller = false;
    for (size_t from = 0; from < script.steps.size();) {
      Script less = script;
      const auto begin = less.steps.begin() + static_cast<long>(from);
      less.steps.erase(begin, begin + static_cast<long>(std::min(run, less.steps.size() - from)));
      if (fresh) runner.refresh();
      if (auto still = runner.run(less)) {
        less.steps.resize(std::min(less.steps.size(), still->step + 1));
        script = std::move(less);
        difference = *still;
        smaller = true;
      } else {
        from += run;
      }
    }
    if (!smaller || run > script.steps.size()) run /= 2;
  }
  // Then single messages. The last of a step stays, and a COPY's: the step would never end.
  for (size_t at = 0; at < script.steps.size(); at++) {
    for (size_t i = 0; i + 1 < script.steps[at].messages.size();) {
      Script less = script;
      auto& messages = less.steps[at].messages;
      if (messages[i].type == 'd') {
        break;
      }
      messages.erase(messages.begin() + static_cast<long>(i));
      if (fresh) runner.refresh();
      const auto still = runner.run(less);
      if (still && still->what.find("no answer") == std::string::npos) {
        script = std::move(less);
        difference = *still;
      } else {
        i++;
      }
    }
  }
  return script;
}

void print(Runner& runner, const Script& script, const Difference& difference) {
  std::cout << "  pool of " << script.servers << "; the smallest script found:\n";
  std::set<int> used;
  for (const Step& step : script.steps) used.insert(step.client);
  for (const int client : used) {
    const std::string& startup = script.startup[static_cast<size_t>(client)];
    if (!startup.empty()) std::cout << "    client " << client << " starts with" << startup << "\n";
  }
  for (size_t i = 0; i < script.steps.size(); i++) {
    if (i < runner.skipped().size() && runner.skipped()[i]) continue;
    std::cout << "    " << shown(script.steps[i]) << "\n";
  }
  std::cout << "  at the end of it:\n      " << difference.what << "\n" << std::flush;
}

int main(const Options& options) {
  Kinds kinds;
  for (const auto& kind : default_kinds()) kinds.on.insert(kind);
  for (const auto& kind : options.with) kinds.on.insert(kind);
  for (const auto& kind : options.without) kinds.on.erase(kind);
  Runner runner(options);
  std::cout << "seed " << options.seed << ", " << options.scripts << " scripts\n" << std::flush;
  uint64_t passed = 0;
  int failed = 0;
  const uint64_t end = options.first + options.scripts;
  for (uint64_t i = options.first; i < end && failed < options.failures_max; i++) {
    Script script = make_script(seed_of(options.seed, i), kinds, options.steps_max);
    if (options.show) {
      std::cout << "script " << i << "\n";
      for (const Step& step : script.steps) std::cout << "  " << shown(step) << "\n";
      std::cout << std::flush;
    }
    auto difference = runner.run(script);
    if (!difference) {
      passed++;
      if (passed % 1000 == 0)
        std::cout << passed << " scripts without a difference\n" << std::flush;
      continue;
    }
    failed++;
    std::cout << "script " << i << " differs at step " << difference->step << " (again: --seed "
              << options.seed << " --first " << i << " --scripts 1)\n";
    if (options.brief) {
      std::cout << "      " << difference->what << "\n" << std::flush;
      continue;
    }
    bool fresh = true;
    const Script whole = script;
    const Difference at_first = *difference;
    script = shrink(runner, std::move(script), *difference, fresh);
    if (fresh) runner.refresh();
    if (auto again = runner.run(script)) {
      if (!fresh) std::cout << "  on servers that earlier scripts used:\n";
      print(runner, script, *again);
    } else {
      std::cout << "  it did not differ again; the whole of it:\n";
      print(runner, whole, at_first);
    }
  }
  std::cout << runner.steps_run() << " steps\n"
            << runner.without_verdict()
            << " scripts cut short, which PostgreSQL itself did not answer\n"
            << runner.old_plans() << " scripts ended by an old plan, as documented\n"
            << passed << " passed, " << failed << " failed\n";
  return failed > 0 || passed == 0 ? 1 : 0;
}

}  // namespace
}  // namespace carpool::property

int main(int argc, char** argv) {
  carpool::property::Options options;
  options.seed = std::random_device{}();
  CLI::App app{"Random scripts of clients, through Carpool and straight to PostgreSQL, compared"};
  app.add_option("--carpool", options.carpool,
                 "URL through Carpool; {size} becomes the pool's size")
      ->required();
  app.add_option("--direct", options.direct, "URL straight to a database of its own")->required();
  app.add_option("--server", options.server, "URL straight to the database behind Carpool");
  app.add_option("--seed", options.seed, "What the scripts are made from; random");
  app.add_option("--scripts", options.scripts, "How many")->capture_default_str();
  app.add_option("--first", options.first, "The number of the first one");
  app.add_option("--steps", options.steps_max, "Steps in a script, at most")
      ->check(CLI::Range(5, 1000));
  app.add_option("--failures", options.failures_max, "Differences to stop at");
  app.add_option("--with", options.with, "Kinds of steps to add")
      ->delimiter(',')
      ->check(CLI::IsMember(carpool::property::all_kinds()));
  app.add_option("--without", options.without, "Kinds of steps to leave out")
      ->delimiter(',')
      ->check(CLI::IsMember(carpool::property::all_kinds()));
  app.add_flag("--brief", options.brief, "Only name the differences, without shrinking");
  app.add_flag("--show", options.show, "Print each script before it runs");
  app.add_flag("--messages", options.messages, "Compare the texts of errors too");
  CLI11_PARSE(app, argc, argv);
  if (options.server.empty()) options.server = options.carpool;
  try {
    return carpool::property::main(options);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
