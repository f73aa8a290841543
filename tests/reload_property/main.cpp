// The property: whatever files follow one another, and whatever is under way, what is in force is
// what a start with it would be. Random valid files are brought into force one after the other
// under load; after each a second Carpool is started with what the first calls effective, and the
// two are compared: their configuration, unmasked; where they listen; what their pools may do; whom
// they know, and whom they really let in, from where. No transaction is cut.
//
//   reload_property [--seed N] [--rounds N]
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "config/diff.h"
#include "config/load.h"
#include "harness/harness.h"
#include "harness/tls.h"
#include "proxy/log.h"
#include "state.h"

namespace carpool::reload_property {
namespace {

using integration::Connection;
using integration::PostgresCluster;

std::uint64_t seed = 1;
int rounds = 12;

const std::vector<std::string> kUsers = {"alice", "bob", "carol", "app"};
const std::vector<std::string> kPasswords = {"a", "b"};
const std::vector<std::pair<std::string, std::string>> kPools = {
    {"app", "alice"}, {"app", "app"}, {"jobs", "alice"}, {"other", "bob"}};

// An address of this machine that is not loopback; "" where it has none.
std::string outer_address() {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return "";
  char text[INET_ADDRSTRLEN] = "";
  for (const ifaddrs* one = all; one != nullptr && text[0] == '\0'; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
    const auto& in = reinterpret_cast<const sockaddr_in&>(*one->ifa_addr);
    if (ntohl(in.sin_addr.s_addr) >> 24 == 127) continue;
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
  }
  freeifaddrs(all);
  return text;
}

// Draws files that a start would take.
class Files {
 public:
  Files(const PostgresCluster& postgres, std::uint64_t number)
      : postgres_(postgres), random_(number) {
    for (int i = 0; i < 2; i++) {
      ports_.push_back(std::to_string(integration::free_port()));
      identities_.push_back(authority_.issue(i == 0 ? "localhost" : "other"));
      std::filesystem::create_directory(dir_.path() / sockets(i));
    }
    draw_users();
  }

  std::string path(const std::string& name) const { return dir_.path() / name; }
  const std::vector<std::string>& ports() const { return ports_; }

  void draw_users() {
    for (const char* name : {"users0", "users1"}) {
      if (chance(3)) write(name, users());
    }
  }
  // A valid one; the environment gives it nothing.
  std::string draw() {
    while (true) {
      std::string yaml = candidate();
      if (load(yaml)) return yaml;
    }
  }
  static std::optional<config::Config> load(const std::string& yaml) {
    return config::load_text(yaml, [](const std::string&) { return std::nullopt; }).config;
  }
  void write(const std::string& name, const std::string& text) const {
    integration::write_file(path(name + ".new"), text);
    std::filesystem::permissions(path(name + ".new"), std::filesystem::perms(0600));
    std::filesystem::rename(path(name + ".new"), path(name));
  }

 private:
  static std::string sockets(int i) { return "sockets" + std::to_string(i); }
  // One of so many.
  bool chance(unsigned of) { return random_() % of == 0 || !begun_; }
  const std::string& one_of(const std::vector<std::string>& choices) {
    return choices[random_() % choices.size()];
  }

  std::string users() {
    std::string text = "\"app\" \"a\"\n";
    for (const std::string& user : kUsers) {
      if (user == "app" || random_() % 3 == 0) continue;
      text += fmt::format("\"{}\" \"{}\"\n", user, one_of({"a", "b", ""}));
    }
    return text;
  }

  std::string candidate() {
    begun_ = true;
    std::string listen =
        fmt::format("address: {}, port: {}",
                    one_of({"127.0.0.1", "127.0.0.1", "127.0.0.2", "0.0.0.0"}), one_of(ports_));
    if (random_() % 3 == 0) {
      listen += ", unixSocketDir: " + path(sockets(static_cast<int>(random_() % 2)));
    }
    if (random_() % 3 == 0) {
      const integration::Identity& identity = identities_[random_() % 2];
      listen += fmt::format(", tls: {{mode: {}, certFile: '{}', keyFile: '{}'}}",
                            one_of({"allow", "require"}), identity.certificate, identity.key);
    }
    const std::string auth =
        one_of({"mode: trust", "mode: passthrough",
                "mode: scram-sha-256, usersFile: " + path(one_of({"users0", "users1"}))});
    // The ports of nobody, of whom all but one are refused beside the listening ones.
    const std::string admin =
        fmt::format("address: 127.0.0.1, port: {}", one_of({"1", "2", ports_[0], ports_[1]}));
    std::string databases;
    for (const std::string& entry : shuffled(
             {"{name: app" + pool() + "}", "{name: jobs, server: {database: other}" + pool() + "}",
              "{name: '*', server: {database: app}}"})) {
      if (random_() % 3 != 0) databases += (databases.empty() ? "" : ", ") + entry;
    }
    return fmt::format(
        "listen: {{{}}}\nadmin: {{{}}}\nauth: {{{}}}\n"
        "server: {{host: 127.0.0.1, port: {}, user: app, sslMode: disable, "
        "targetSessionAttrs: any}}\n"
        "pool: {{size: {}, mode: {}, acquireTimeout: 60s, queryTimeout: {}s}}\n"
        "databases: [{}]\nlog: {{level: error, format: {}}}\n",
        listen, admin, auth, postgres_.port(), 1 + random_() % 6,
        one_of({"transaction", "transaction", "session", "statement"}), 60 + random_() % 3,
        databases, one_of({"json", "json", "text"}));
  }
  std::string pool() {
    if (random_() % 2 == 0) return "";
    return fmt::format(", pool: {{size: {}, minIdle: {}, overflow: {}}}", 1 + random_() % 5,
                       random_() % 2, random_() % 3);
  }
  std::vector<std::string> shuffled(std::vector<std::string> entries) {
    std::shuffle(entries.begin(), entries.end(), random_);
    return entries;
  }

  const PostgresCluster& postgres_;
  std::mt19937_64 random_;
  bool begun_ = false;
  integration::TempDir dir_;
  integration::Authority authority_;
  std::vector<integration::Identity> identities_;
  std::vector<std::string> ports_;
};

// Clients that run transactions, wherever Carpool listens; they come again where they are refused.
class Load {
 public:
  Load(const std::vector<std::string>& ports, int clients) {
    std::string hosts;
    std::string all_ports;
    for (const std::string& port : ports) {
      for (const char* host : {"127.0.0.1", "127.0.0.2"}) {
        hosts += (hosts.empty() ? "" : ",") + std::string(host);
        all_ports += (all_ports.empty() ? "" : ",") + port;
      }
    }
    const std::string conninfo =
        "host=" + hosts + " port=" + all_ports + " user=app password=a dbname=app";
    for (int i = 0; i < clients; i++) {
      threads_.emplace_back([this, conninfo] {
        while (!done_) serve(Connection(conninfo));
      });
    }
  }
  ~Load() { stop(); }
  void stop() {
    done_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  int transactions() const { return transactions_; }
  int cut() const { return cut_; }

 private:
  void serve(Connection client) {
    while (!done_ && client.connected()) {
      // Not in statement mode, nor where its database is gone.
      if (!client.query("begin").ok()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        continue;
      }
      bool good = true;
      const int pid = client.backend_pid();
      for (int i = 0; i < 3; i++) good = good && client.backend_pid() == pid;
      good = good && pid != 0 && client.query("commit").tag == "COMMIT";
      transactions_++;
      cut_ += good ? 0 : 1;
    }
  }

  std::atomic<bool> done_ = false;
  std::atomic<int> transactions_ = 0;
  std::atomic<int> cut_ = 0;
  std::vector<std::thread> threads_;
};

// Who is really let in, from where: "alice/a over 127.0.0.1", in clear and through TLS.
std::vector<std::string> let_in(int port, const std::string& socket_dir) {
  static const std::string outer = outer_address();
  std::vector<std::string> in;
  for (const std::string& host :
       {std::string("127.0.0.1"), std::string("127.0.0.2"), outer, socket_dir}) {
    if (host.empty()) continue;
    for (const char* tls : {"disable", "require"}) {
      for (const std::string& user : kUsers) {
        if (tls == std::string("require") && user != "alice") continue;
        for (const std::string& password : kPasswords) {
          const Connection client(
              fmt::format("host={} port={} user={} password={} dbname=app "
                          "sslmode={}",
                          host, port, user, password, tls));
          const bool unknown_database = client.error().find("`databases`") != std::string::npos;
          if (!client.connected() && !unknown_database) continue;
          in.push_back(fmt::format("{}/{} over {} {}", user, password, host, tls));
        }
      }
    }
  }
  return in;
}

// The file that says what is called effective, but for a port of its own.
std::string as_file(const config::Config& config) {
  nlohmann::json effective = nlohmann::json::parse(config::masked_json(config));
  effective["listen"]["port"] = 0;
  return effective.dump();
}

TEST(ReloadProperty, WhatIsInForceIsWhatAStartWithItWouldBe) {
  std::cout << "seed " << seed << ", " << rounds << " rounds\n";
  PostgresCluster& postgres = integration::shared_postgres();
  for (const auto& [user, password] :
       std::map<std::string, std::string>{{"alice", "a"}, {"bob", "b"}, {"carol", "a"}}) {
    postgres.admin("create role " + user + " login password '" + password + "'");
    postgres.prepend_hba("host all " + user + " 127.0.0.1/32 scram-sha-256");
  }
  config::Log quiet;
  quiet.level = config::LogLevel::Error;
  proxy::log::configure(quiet);
  Files files(postgres, seed);
  std::string yaml = files.draw();
  files.write("carpool.yaml", yaml);
  Instance first(files.path("carpool.yaml"));
  Load load(files.ports(), 4);
  int rejected = 0;
  for (int round = 0; round < rounds; round++) {
    SCOPED_TRACE(fmt::format("round {} of seed {}:\n{}", round, seed, yaml));
    const State now = first.state(kPools, kUsers, kPasswords);

    files.write("effective.yaml", as_file(now.config));
    State anew;
    {
      Instance second(files.path("effective.yaml"));
      anew = second.state(kPools, kUsers, kPasswords);
      const std::string sockets = now.config.listen.unix_socket_dir;
      EXPECT_EQ(let_in(first.port(), sockets), let_in(second.port(), sockets));
    }
    anew.config.listen.port = now.config.listen.port;
    for (const config::KeyChange& change : config::diff(now.config, anew.config)) {
      ADD_FAILURE() << change.key << ": " << change.before << " -> " << change.after;
    }
    EXPECT_TRUE(now.config == anew.config);
    EXPECT_EQ(now.where, anew.where);
    EXPECT_EQ(now.pools, anew.pools);
    EXPECT_EQ(now.users, anew.users);
    EXPECT_EQ(now.certificate, anew.certificate);
    if (HasFailure()) return;

    yaml = files.draw();
    const std::optional<config::Config> desired = Files::load(yaml);
    files.draw_users();
    files.write("carpool.yaml", yaml);
    const std::uint64_t rejected_before = first.rejected();
    first.reload();
    const config::Config after = first.state({}, {}, {}).config;
    if (first.rejected() > rejected_before) {
      EXPECT_EQ(after, now.config) << "rejected, and not whole";
      EXPECT_NE(first.errors().find("which waits for a restart"), std::string::npos)
          << first.errors();
      rejected++;
      continue;
    }
    for (const config::KeyChange& change : config::diff(after, *desired)) {
      EXPECT_FALSE(change.live) << change.key << " is not in force";
    }
  }
  load.stop();
  EXPECT_EQ(load.cut(), 0) << "of " << load.transactions();
  EXPECT_GT(load.transactions(), 0);
  std::cout << load.transactions() << " transactions, " << rejected << " changes rejected\n";
}

}  // namespace
}  // namespace carpool::reload_property

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--seed") carpool::reload_property::seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--rounds") carpool::reload_property::rounds = std::atoi(argv[i + 1]);
  }
  return RUN_ALL_TESTS();
}
