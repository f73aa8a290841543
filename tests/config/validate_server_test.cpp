// What is found in one server's settings, by libpq's and PostgreSQL's own rules. That the rules are
// theirs is held by tests/proxy/libpq_test.cpp and tests/integration/options_test.cpp.
#include "config/validate_server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fixture.h"

namespace carpool::config {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> found(const Server& server, bool errors, const Libpq& libpq = {}) {
  std::vector<std::string> messages;
  for (const ServerFinding& finding : check_server(server, libpq)) {
    if (finding.is_error == errors) messages.push_back(finding.message);
  }
  return messages;
}

Server with_url(const std::string& url) {
  Server server;
  server.url = url;
  return server;
}

std::vector<std::string> errors(const std::string& url) {
  return found(with_url(url), true);
}
std::vector<std::string> warnings(const std::string& url) {
  return found(with_url(url), false);
}

struct Case {
  const char* url;
  const char* message;
};

TEST(ValidateServer, FindsAUrlWithWhichNoServerCanBeOpened) {
  const std::vector<Case> cases = {
      {"postgres://h/d?sslmode=requird",
       "`sslmode` is none of disable, allow, prefer, require, verify-ca or verify-full; did you "
       "mean `require`?"},
      {"postgres://h/d?target_session_attrs=readwrite",
       "`target_session_attrs` is none of any, read-write, read-only, primary, standby or "
       "prefer-standby; did you mean `read-write`?"},
      {"postgres://h/d?options=-csearch_path=pg_catalog",
       "a value after `?` holds a `=`; write `%3D` there"},
      {"postgres://h/d?gssencmode=of", "`gssencmode` is none of disable or prefer"},
      {"postgres://h/d?gssencmode=require",
       "`gssencmode` cannot be require: GSS encryption would stand between Carpool and the socket; "
       "use `sslmode`"},
      {"postgres://h/d?connect_timeout=abc", "`connect_timeout` is not a whole number"},
      {"postgres://h/d?connect_timeout=5s", "`connect_timeout` is not a whole number"},
      {"postgres://h/d?channel_binding=yes",
       "`channel_binding` is none of disable, prefer or require"},
      {"postgres://h/d?load_balance_hosts=on", "`load_balance_hosts` is none of disable or random"},
      {"postgres://h/d?require_auth=scram",
       "`require_auth` is not a list of password, md5, gss, sspi, scram-sha-256, oauth and none, "
       "each once, or each with a `!` before it"},
      {"postgres://h/d?require_auth=md5,!none",
       "`require_auth` is not a list of password, md5, gss, sspi, scram-sha-256, oauth and none, "
       "each once, or each with a `!` before it"},
      {"postgres://h/d?keepalives_idle=0",
       "`keepalives_idle` is not a whole number from 1 to 32767"},
      {"postgres://h/d?tcp_user_timeout=2147483648", "`tcp_user_timeout` is not a whole number"},
      {"postgres://h/d?replication=database",
       "`replication` is for a client to ask for, which then gets a server of its own"},
      {"postgres://h/d?replication=maybe",
       "`replication` is for a client to ask for, which then gets a server of its own"},
      {"postgres://h/d?service=main",
       "`service` names an entry of libpq's service file, which Carpool does not read; write here "
       "what the entry says"},
      {"postgres://h/d?client_encoding=utf9",
       "`client_encoding` is no encoding that PostgreSQL knows"},
      {"postgres://h/d?ssl_min_protocol_version=TLSv1.4",
       "`ssl_min_protocol_version` is none of TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"},
      {"postgres://h/d?ssl_max_protocol_version=TLSv1.1",
       "`ssl_max_protocol_version` is below `ssl_min_protocol_version` (TLSv1.2 where it is not "
       "given)"},
      {"postgres://h/d?min_protocol_version=3.2&max_protocol_version=3.0",
       "`max_protocol_version` is below `min_protocol_version`"},
      {"postgres://h/d?sslnegotiation=direct",
       "`sslnegotiation` direct needs `sslmode` require, verify-ca or verify-full"},
      {"postgres://h/d?sslrootcert=system&sslmode=require",
       "`sslrootcert` system needs `sslmode` verify-full"},
      {"postgres://h/d?channel_binding=require&sslmode=disable",
       "`channel_binding` require needs TLS, and there is none"},
      {"postgres:///d?host=/run/pg&channel_binding=require",
       "`channel_binding` require needs TLS, and there is none"},
      {"postgres://h/d?channel_binding=require&require_auth=md5",
       "`channel_binding` require needs scram-sha-256, which `require_auth` leaves out"},
      {"postgres://h/d?sslcertmode=require&sslmode=disable",
       "`sslcertmode` require needs TLS, and there is none"},
      {"hostaddr=10.0.0.1 sslmode=verify-full",
       "`sslmode` verify-full needs a `host` beside `hostaddr`"},
      {"hostaddr=db", "`hostaddr` is not an IP address; a name belongs in `host`"},
      {"host=a,b hostaddr=10.0.0.1", "`hostaddr` has 1 entries, and `host` has 2"},
      {"postgres://a,b,c/d?port=1,2", "there are 2 ports for 3 hosts"},
      {"host='a b'", "the host is not a host name"},
      {"postgres://[]:5432/d", "the IPv6 address between `[` and `]` is empty"},
      {"postgres://h/d?requiressl=1&sslnegotiation=direct&sslmode=allow",
       "`sslnegotiation` direct needs `sslmode` require, verify-ca or verify-full"},
      {"host=a..b", "the host is not a host name: a part between dots is empty"},
      {"postgres://h/d?options=search_path%3Dx",
       "`options`: word 1 is no option; write `-c name=value`, with a backslash before each space "
       "of the value"},
      {"postgres://h/d?options=-c%20search_path",
       "`options`: `search_path` lacks its `=` and a value"},
      {"postgres://h/d?options=-c%20shared_buffers%3D1GB",
       "`options`: `shared_buffers` is the whole server's, and no connection can set it"},
      {"postgres://h/d?options=-c%20statement_timeout%3D30d",
       "`options`: the value of `statement_timeout` is not between 0 ms and 2147483647 ms"},
      {"postgres://h/d?options=--serch_path%3Dx",
       "`options`: PostgreSQL has no setting `serch_path`; did you mean `search_path`?"},
  };
  for (const Case& c : cases) EXPECT_THAT(errors(c.url), ElementsAre(c.message)) << c.url;
}

TEST(ValidateServer, KnowsTheValuesOfSettings) {
  const auto error = [](const std::string& assignment) {
    Server server;
    server.options = "-c " + assignment;
    const std::vector<std::string> said = found(server, true);
    return said.empty() ? "" : said[0];
  };
  EXPECT_EQ(error("vacuum_cost_delay=1s"),
            "the value of `vacuum_cost_delay` is not between -1 and 100");
  EXPECT_EQ(error("vacuum_cost_delay=0.05s"), "");
  EXPECT_EQ(error("vacuum_cost_delay=500us"), "");
  EXPECT_EQ(error("vacuum_cost_delay=1kB"),
            "the value of `vacuum_cost_delay` is not a number, with a unit of PostgreSQL's");
  for (const char* name : {"timezone", "lc_messages", "timezone_abbreviations",
                           "default_text_search_config", "default_table_access_method"}) {
    EXPECT_EQ(error(std::string(name) + "="), fmt::format("the value of `{}` is empty", name));
  }
  EXPECT_EQ(error("default_toast_compression=zstd"),
            "the value of `default_toast_compression` is none of pglz, lz4");
  for (const char* name : {"password_encryption", "wal_compression", "log_min_messages",
                           "debug_parallel_query", "force_parallel_mode"}) {
    EXPECT_THAT(error(std::string(name) + "=bogus"), HasSubstr("is none of")) << name;
  }
  EXPECT_EQ(error("password_encryption=scram-sha-256"), "");
  EXPECT_EQ(error("wal_compression=zstd"), "");
}

TEST(ValidateServer, TakesWhatLibpqTakes) {
  for (const char* url :
       {"postgres://h",
        "postgres:///d",
        "host=/run/postgresql",
        "host=@abstract port=1",
        "postgres://a,b/d?port=1,2",
        "postgres://a,b/d?port=1",
        "postgres://[::1],10.0.0.1/d",
        "host=fe80::1%eth0",
        "host=db_1.svc.",
        "hostaddr=127.1",
        "postgres://h/d?sslmode=",
        "postgres://h/d?connect_timeout=%205%20",
        "postgres://h/d?require_auth=!password,!md5",
        "postgres://h/d?client_encoding=utf-8",
        "postgres://h/d?sslrootcert=system",
        "postgres://h/d?sslrootcert=system&sslmode=verify-full",
        "postgres://h/d?sslnegotiation=direct&sslrootcert=system",
        "postgres://h/d?ssl_min_protocol_version=tlsv1.3&ssl_max_protocol_version=TLSv1.3",
        "postgres://h/d?replication=off",
        "postgres://h/d?replication=f",
        "postgres://h/d?options=-c%20geqo%3Doff%20--search-path%3Da,b%20-e",
        "postgres://h/d?options=-c%20my.setting%3D1",
        "postgres://h/d?options=-c%20search_path%3Da,%5C%20b",
        "postgres://h/d?keepalives=0"}) {
    EXPECT_THAT(errors(url), IsEmpty()) << url;
    EXPECT_THAT(warnings(url), IsEmpty()) << url;
  }
}

TEST(ValidateServer, WarnsOfWhatMeansNothing) {
  const std::vector<Case> cases = {
      {"postgres://h/d?gssencmode=prefer",
       "`gssencmode` has no effect: Carpool reaches servers without GSS encryption"},
      {"postgres://h/d?gsslib=gssapi", "`gsslib` has no effect: it is for libpq on Windows"},
      {"postgres://h/d?sslcompression=1",
       "`sslcompression` has no effect: OpenSSL compresses no more"},
      {"postgres://h/d?sslsni=off", "`sslsni` is neither 0 nor 1, and counts as 0"},
      {"postgres://h/d?connect_timeout=0",
       "`connect_timeout` would wait for ever, which Carpool never does: `server.connectTimeout` "
       "(10s) holds"},
      {"postgres://u:p@h/d?passfile=/p", "`passfile` has no effect: there is a password"},
      {"postgres://h/d?requirepeer=postgres",
       "`requirepeer` has no effect: it is for Unix sockets"},
      {"postgres:///d?host=/run/pg&sslmode=verify-full",
       "`sslmode` verify-full has no effect: TLS is never used on a Unix socket"},
      {"postgres://h/d?options=endpoint%3Dep-1",
       "`endpoint=...` is for Neon's proxy; PostgreSQL itself refuses it"},
      {"postgres://h/d?options=-c%20gp_session_role%3Dutility",
       "no PostgreSQL up to 18 has a setting `gp_session_role`, and one without it refuses every "
       "connection"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(errors(c.url), IsEmpty()) << c.url;
    EXPECT_THAT(warnings(c.url), ElementsAre(c.message)) << c.url;
  }
}

TEST(ValidateServer, LooksAtWhatTheKeysMakeOfTheUrl) {
  Server server = with_url("postgres://a,b/d?port=1,2&sslmode=requird&options=x");
  server.host = "c";
  server.ssl_mode = "require";
  server.options = "-c geqo=off";
  EXPECT_THAT(found(server, true), ElementsAre("there are 2 ports for 1 host"));
  server.port_set = true;
  EXPECT_THAT(found(server, true), IsEmpty());
  // An address of the url is of the url's host.
  server = with_url("host=a hostaddr=10.0.0.1,10.0.0.2");
  server.host = "c";
  EXPECT_THAT(found(server, true), IsEmpty());
  server = with_url("postgres://h/d?channel_binding=require");
  server.ssl_mode = "disable";
  EXPECT_THAT(found(server, true), ElementsAre(HasSubstr("needs TLS")));
}

TEST(ValidateServer, LooksAtTheKeysThemselves) {
  Server server;
  server.host = "h";
  server.options = "-c statement_timeout";
  EXPECT_THAT(found(server, true), ElementsAre("`statement_timeout` lacks its `=` and a value"));
  server.options = "-c search_path=a\\";
  EXPECT_THAT(found(server, true),
              ElementsAre("ends with a backslash, which would join it to what is behind it"));
  server.options = "-c application_name=" + std::string(8000, 'a');
  server.database = std::string(3000, 'd');
  EXPECT_THAT(found(server, true),
              ElementsAre("options, database and user are 11044 bytes in a startup packet; "
                          "PostgreSQL takes 10000"));
  server = Server{};
  server.host = "/" + std::string(100, 'x');
  EXPECT_THAT(found(server, true),
              ElementsAre("the directory of a Unix socket is too long: with the socket's name it "
                          "may have 107 bytes"));
  server.host = std::string(64, 'x');
  EXPECT_THAT(found(server, true), ElementsAre(HasSubstr("a part between dots is too long")));
}

TEST(ValidateServer, GoesByTheLibpqAtHand) {
  const Server server = with_url("postgres://h/d?sslmode=require&sslnegotiation=direct");
  EXPECT_THAT(found(server, true), IsEmpty());
  EXPECT_THAT(found(server, true, {.version = 15}),
              ElementsAre("`sslnegotiation` is a parameter of libpq 17 and later, and this is "
                          "libpq 15"));
  // To an older one it is a file's name.
  const Server system = with_url("postgres://h/d?sslmode=require&sslrootcert=system");
  EXPECT_THAT(found(system, true, {.version = 15}), IsEmpty());
  // What a newer one knows is not refused for being unknown to us.
  const Server newer = with_url("postgres://h/d?quantum=yes");
  EXPECT_THAT(found(newer, true), ElementsAre("`quantum` is not a parameter that libpq knows"));
  EXPECT_THAT(found(newer, true, {.version = 20, .keywords = {"host", "dbname", "quantum"}}),
              IsEmpty());
}

TEST(ValidateServer, NeverQuotesAValue) {
  const std::string secret = "hunter2";
  for (const LibpqParameter& parameter : libpq_parameters()) {
    Server server = with_url("host=h " + std::string(parameter.name) + "=" + secret);
    for (const ServerFinding& finding : check_server(server, {})) {
      EXPECT_THAT(finding.message, Not(HasSubstr(secret))) << parameter.name;
    }
  }
  for (const char* url :
       {"postgres://u:hunter2/x@h/d", "postgres://u:p/hunter2?sslmode=hunter2@h/d",
        "postgres://h/d?options=hunter2", "postgres://h/d?options=-c%20geqo%3Dhunter2",
        "postgres://h/d?options=-c%20geqo%20hunter2"}) {
    const std::vector<std::string> messages = errors(url);
    EXPECT_FALSE(messages.empty()) << url;
    for (const std::string& message : messages) EXPECT_THAT(message, Not(HasSubstr(secret)));
  }
}

// --- in a file -----------------------------------------------------------------------------------

TEST(ValidateServer, IsToldWhereItStands) {
  EXPECT_THAT(problems_of("server: {url: \"postgres://h/d?sslmode=x\"}\n"
                          "databases: [{name: a}, {name: b}]\n"),
              ElementsAre(HasSubstr("1:15: server.url: `sslmode` is none of")));
  EXPECT_THAT(problems_of("databases:\n- {name: a, server: {url: \"postgres://h/d?sslmode=x\"}}\n"),
              ElementsAre(HasSubstr("2:27: databases[0].server.url: `sslmode` is none of")));
  EXPECT_THAT(problems_of("server: {host: h}\ndatabases:\n- {name: a, server: {options: geqo}}\n"),
              ElementsAre(HasSubstr("3:31: databases[0].server.options: word 1 is no option")));
  EXPECT_THAT(problems_of("pool: {statementTimeout: 30d}"),
              ElementsAre("1:26: pool.statementTimeout: must be at most 2147483647ms, not `30d`"));
  EXPECT_THAT(problems_of("databases: [{name: a, pool: {statementTimeout: 25d}}]"),
              ElementsAre(HasSubstr("must be at most 2147483647ms")));
}

TEST(ValidateServer, WarnsOfACaFileThatTlsAllowLeavesOpen) {
  const std::string tls = "listen: {tls: {mode: allow, certFile: /c, keyFile: /k, caFile: /a}}";
  EXPECT_THAT(warnings_of(tls), Contains(HasSubstr("listen.tls.caFile: holds for those who bring "
                                                   "TLS only")));
  EXPECT_THAT(problems_of(tls), IsEmpty());
}

Config config_of(const std::string& yaml, const Environment& env = fixed({})) {
  LoadResult loaded = load_text(yaml, env);
  EXPECT_TRUE(loaded.config) << ::testing::PrintToString(lines_of(loaded.problems));
  return loaded.config.value_or(Config{});
}

TEST(UrlTimeout, MeansTheKey) {
  const Config config = config_of(
      "server: {url: \"postgres://h/d?connect_timeout=3\"}\n"
      "databases:\n"
      "- {name: own, server: {url: \"postgres://h/d?connect_timeout=4\"}}\n"
      "- {name: other, server: {url: \"postgres://h/d\"}}\n"
      "- {name: key, server: {connectTimeout: 7s}}\n"
      "- {name: \"*\"}\n");
  EXPECT_EQ(config.server.connect_timeout_us, 3 * kMicrosPerSecond);
  EXPECT_EQ(config.databases[0].server.connect_timeout_us, 4 * kMicrosPerSecond);
  EXPECT_EQ(config.databases[1].server.connect_timeout_us, 10 * kMicrosPerSecond);
  EXPECT_EQ(config.databases[2].server.connect_timeout_us, 7 * kMicrosPerSecond);
  EXPECT_EQ(config.databases[3].server.connect_timeout_us, 3 * kMicrosPerSecond);
}

TEST(UrlTimeout, StandsBackBehindTheKeyBesideIt) {
  const std::string yaml =
      "server: {url: \"postgres://h/d?connect_timeout=3\", connectTimeout: 8s}\n"
      "databases:\n"
      "- {name: own, server: {url: \"postgres://h/d?connect_timeout=4\"}}\n"
      "- {name: \"*\"}\n";
  const Config config = config_of(yaml);
  EXPECT_EQ(config.server.connect_timeout_us, 8 * kMicrosPerSecond);
  EXPECT_EQ(config.databases[0].server.connect_timeout_us, 4 * kMicrosPerSecond);
  EXPECT_EQ(config.databases[1].server.connect_timeout_us, 8 * kMicrosPerSecond);
  EXPECT_THAT(warnings_of(yaml), ElementsAre(HasSubstr("overrides the `connect_timeout` of the "
                                                       "server's url")));
}

TEST(UrlTimeout, ThatIsLongerThanTheKeyAllowsIsTheLongest) {
  const Config config = config_of("server: {url: \"postgres://h/d?connect_timeout=2147483647\"}");
  EXPECT_EQ(config.server.connect_timeout_us, 365LL * 24 * 3600 * kMicrosPerSecond);
}

}  // namespace
}  // namespace carpool::config
