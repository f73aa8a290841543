// What config/ knows of libpq, held against the libpq at hand: its parameters, the values that it
// refuses, and how it takes a connection string apart.
#include "config/libpq.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "config/conninfo.h"
#include "config/validate_server.h"
#include "proxy/connector_environment.h"

namespace carpool::proxy {
namespace {

using config::Libpq;
using config::Server;
using config::UrlParts;

// A port that takes connections and says nothing, so that an attempt is under way where libpq has
// nothing against its parameters.
class SilentPort {
 public:
  SilentPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd_, 4096), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~SilentPort() { close(fd_); }
  SilentPort(const SilentPort&) = delete;
  SilentPort& operator=(const SilentPort&) = delete;
  int port() const { return port_; }

 private:
  int fd_;
  int port_ = 0;
};

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string conninfo(const UrlParts& parts) {
  std::string out;
  for (const auto& [name, value] : parts) out += name + "=" + quoted(value) + " ";
  return out;
}

// Empty where libpq goes ahead.
std::string libpq_says(const UrlParts& parts) {
  std::vector<const char*> names;
  std::vector<const char*> values;
  for (const auto& [name, value] : parts) {
    names.push_back(name.c_str());
    values.push_back(value.c_str());
  }
  names.push_back(nullptr);
  values.push_back(nullptr);
  const std::unique_ptr<PGconn, decltype(&PQfinish)> conn(
      PQconnectStartParams(names.data(), values.data(), 0), PQfinish);
  return PQstatus(conn.get()) == CONNECTION_BAD ? PQerrorMessage(conn.get()) : "";
}

// Empty where check has nothing against it.
std::string we_say(const UrlParts& parts) {
  Server server;
  server.url = conninfo(parts);
  for (const config::ServerFinding& finding : config::check_server(server, libpq_at_hand())) {
    if (finding.is_error) return finding.message;
  }
  return "";
}

class LibpqTest : public ::testing::Test {
 protected:
  UrlParts with(UrlParts more) const {
    UrlParts parts = {{"host", "127.0.0.1"},
                      {"port", std::to_string(silent_.port())},
                      {"user", "u"},
                      {"dbname", "d"},
                      {"password", "p"}};
    for (const auto& [name, value] : more) parts[name] = value;
    return parts;
  }
  void expect_same(const UrlParts& more) const {
    const UrlParts parts = with(more);
    const std::string theirs = libpq_says(parts);
    const std::string ours = we_say(parts);
    EXPECT_EQ(theirs.empty(), ours.empty())
        << conninfo(more) << "\nlibpq: " << theirs << "\nours: " << ours;
  }

  SilentPort silent_;
};

TEST_F(LibpqTest, HasTheParametersOfTheList) {
  std::map<std::string, const PQconninfoOption*> theirs;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> defaults(PQconndefaults(),
                                                                              PQconninfoFree);
  for (const PQconninfoOption* option = defaults.get(); option->keyword != nullptr; ++option) {
    theirs[option->keyword] = option;
  }
  const int version = libpq_at_hand().version;
  EXPECT_EQ(version, PQlibVersion() / 10'000);
  for (const config::LibpqParameter& parameter : config::libpq_parameters()) {
    const auto found = theirs.find(std::string(parameter.name));
    EXPECT_EQ(found != theirs.end(), parameter.since <= version) << parameter.name;
    if (found == theirs.end()) continue;
    const char* variable = found->second->envvar;
    // The service file is refused by the variable that names its entry.
    if (parameter.name != "servicefile") {
      EXPECT_EQ(parameter.variable, variable == nullptr ? "" : variable) << parameter.name;
    }
    const bool hidden = std::string_view(found->second->dispchar) == "*";
    EXPECT_TRUE(parameter.secret || !hidden) << parameter.name;
    theirs.erase(found);
  }
  // A newer libpq may know more; what it knows is then taken without a look at the value.
  if (version > config::kNewestLibpq) return;
  for (const auto& [name, option] : theirs) ADD_FAILURE() << name << " is not in the list";
}

TEST_F(LibpqTest, RefusesTheValuesThatCheckRefuses) {
  const std::map<std::string, std::vector<std::string>> values = {
      {"sslmode", {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}},
      {"channel_binding", {"disable", "prefer", "require"}},
      {"target_session_attrs",
       {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}},
      {"require_auth", {"password", "!md5", "scram-sha-256,none", "!gss,!sspi", "none", "oauth"}},
      {"load_balance_hosts", {"disable", "random"}},
      {"sslnegotiation", {"postgres", "direct"}},
      {"sslcertmode", {"disable", "allow", "require"}},
      {"ssl_min_protocol_version", {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3", "tlsV1.2"}},
      {"ssl_max_protocol_version", {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3", "TLSV1.3"}},
      {"min_protocol_version", {"3.0", "3.2", "latest"}},
      {"max_protocol_version", {"3.0", "3.2", "latest"}},
      {"keepalives", {"0", "1", "-1", "2", "+1", " 1"}},
      {"keepalives_idle", {"1", "60", "32767", "32768", "0", "-1", " 9 ", "2147483648"}},
      {"keepalives_interval", {"1", "60", "32767", "32768", "0", "-1", "1s", "0x10"}},
      {"keepalives_count", {"1", "127", "128", "0", "-1", "1.5"}},
      {"tcp_user_timeout", {"0", "1", "-1", "2147483647", "2147483648", "99999999999999999999"}},
      {"port", {"1", "65535", "65536", "0", "-1", "5432,5433", "5432 ", ","}},
      {"hostaddr", {"127.0.0.1", "127.0.0.2", "localhost", "127.0.0", "127.0.0.1,127.0.0.1"}},
      {"sslsni", {"0", "1"}},
      {"sslcompression", {"0", "1"}},
      {"application_name", {"a b", "\xff"}},
      {"scram_client_key", {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AAAA", "?"}},
      {"passfile", {"/nowhere"}},
      {"sslrootcert", {"/nowhere", "system"}},
  };
  std::mt19937 random(903);
  for (const auto& [name, good] : values) {
    if (!libpq_at_hand().knows(name)) continue;
    for (const std::string& value : good) {
      expect_same({{name, value}});
      // Slips of the pen.
      for (int i = 0; i < 20; ++i) {
        std::string wrong = value;
        const std::size_t at = random() % wrong.size();
        switch (random() % 6) {
          case 0:
            wrong.erase(at, 1);
            break;
          case 1:
            wrong.insert(at, 1, "abe1,-. _!"[random() % 10]);
            break;
          case 2:
            wrong[at] = "abe1,-. _!"[random() % 10];
            break;
          case 3:
            wrong = wrong.substr(0, at);
            break;
          case 4:
            wrong[at] = static_cast<char>(wrong[at] ^ 0x20);  // another letter case
            break;
          default:
            wrong += good[random() % good.size()];
            break;
        }
        // Another port or address may be good, and yet nobody there.
        if (name == "port" || name == "hostaddr") continue;
        if (wrong.find('\0') == std::string::npos) expect_same({{name, wrong}});
      }
    }
  }
}

TEST_F(LibpqTest, RefusesThePairsThatCheckRefuses) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> values = {
      {"sslmode", {"", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"}},
      {"sslrootcert", {"", "system", "/nowhere"}},
      {"sslnegotiation", {"", "postgres", "direct"}},
      {"ssl_min_protocol_version", {"", "TLSv1", "tlsv1.1", "TLSv1.3"}},
      {"ssl_max_protocol_version", {"", "TLSv1", "TLSv1.1", "tlsv1.2", "TLSv1.3"}},
      {"min_protocol_version", {"", "3.0", "3.2", "latest"}},
      {"max_protocol_version", {"", "3.0", "3.2", "latest"}},
      {"hostaddr", {"", "127.0.0.1", "127.0.0.1,127.0.0.1"}},
      {"host", {"localhost", "127.0.0.1,127.0.0.1"}},
  };
  for (const auto& [first, ones] : values) {
    for (const auto& [second, others] : values) {
      for (const std::string& one : ones) {
        for (const std::string& other : others) {
          UrlParts parts;
          // Alone, each has been tried above.
          if (!one.empty() && libpq_at_hand().knows(first)) parts[first] = one;
          if (!other.empty() && libpq_at_hand().knows(second)) parts[second] = other;
          expect_same(parts);
        }
      }
    }
  }
}

// What libpq makes of a string; empty where it takes none of it.
std::optional<UrlParts> taken_apart(const std::string& text) {
  char* problem = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(text.c_str(), &problem), PQconninfoFree);
  PQfreemem(problem);
  if (options == nullptr) return std::nullopt;
  UrlParts parts;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    // A list of ports that says nothing is none to us.
    const std::string value = option->val == nullptr ? "" : option->val;
    const bool nothing = value.find_first_not_of(',') == std::string::npos;
    if (nothing && (value.empty() || std::string_view(option->keyword) == "port")) continue;
    parts[option->keyword] = value;
  }
  return parts;
}

TEST_F(LibpqTest, TakesConnectionStringsApartAsCheckDoes) {
  const std::vector<std::string> seeds = {
      "postgres://user:pa%20ss@host:5432/db?sslmode=require&connect_timeout=5",
      "postgresql://h1:1,h2:2,[::1]:3/db?target_session_attrs=any&options=-c%20geqo%3Doff",
      "postgres:///db?host=/run/pg&port=5432",
      "postgres://u:p?w@h/d?application_name=a",
      "host=h port=5432 dbname='a b' password='it\\'s' sslmode=require",
      "host = h  user=u\\ v options='-c geqo=off'",
      "postgres://u@h/d?requiressl=1",
      "host=h requiressl=0 sslmode=disable",
  };
  const std::string pieces = "@:/?&=,[]%'\\ a0#";
  std::mt19937 random(904);
  int taken = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = seeds[random() % seeds.size()];
    for (unsigned changes = random() % 4; changes > 0; --changes) {
      const std::size_t at = random() % text.size();
      if (random() % 2 == 0) {
        text.insert(at, 1, pieces[random() % pieces.size()]);
      } else {
        text.erase(at, 1);
      }
    }
    const std::optional<UrlParts> theirs = taken_apart(text);
    const Result<UrlParts> ours = config::parse_url(text, libpq_at_hand());
    if (ours) {
      ASSERT_TRUE(theirs) << text;
      EXPECT_EQ(*ours, *theirs) << text;
      taken++;
    } else if (theirs) {
      // What we refuse in spite of libpq cannot lead anywhere: no such host, port or value.
      const std::string why = ours.error().message;
      EXPECT_THAT(why, ::testing::AnyOf(::testing::HasSubstr("the port is not a number"),
                                        ::testing::HasSubstr("more than one `@`"),
                                        ::testing::HasSubstr("IPv6 address"),
                                        ::testing::HasSubstr("is neither `postgres://")))
          << text;
    }
  }
  EXPECT_GT(taken, 500);
}

TEST(Environment, HidesItsVariablesFromLibpqAndKeepsThem) {
  const std::map<std::string, std::string> before = {{"PGOPTIONS", "-c geqo=off"},
                                                     {"PGPASSWORD", "secret"},
                                                     {"PGTZ", "UTC"},
                                                     {"PGSERVICEFILE", "/nowhere"},
                                                     {"CARPOOL_TEST", "stays"}};
  for (const auto& [name, value] : before) setenv(name.c_str(), value.c_str(), 1);
  const config::Environment kept = take_environment();
  for (const auto& [name, value] : before) EXPECT_EQ(kept(name), value);
  EXPECT_EQ(kept("CARPOOL_TEST_NOT"), std::nullopt);
  EXPECT_EQ(kept.libpq().version, libpq_at_hand().version);
  EXPECT_STREQ(getenv("CARPOOL_TEST"), "stays");
  EXPECT_EQ(getenv("PGTZ"), nullptr);
  EXPECT_EQ(getenv("PGSERVICEFILE"), nullptr);
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> defaults(PQconndefaults(),
                                                                              PQconninfoFree);
  for (const PQconninfoOption* option = defaults.get(); option->keyword != nullptr; ++option) {
    const std::string_view name = option->keyword;
    EXPECT_TRUE(name != "password" || option->val == nullptr);
    EXPECT_TRUE(name != "options" || std::string_view(option->val).empty());
  }
  unsetenv("CARPOOL_TEST");
}

}  // namespace
}  // namespace carpool::proxy
