// `carpool inject --point`: the application's way to PostgreSQL becomes the sidecar's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cli/inject.h"
#include "cli/inject_stream.h"
#include "cli/inject_url.h"

namespace carpool::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
  Value pod;
};

Outcome run(const std::string& input, InjectOptions options = {}) {
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  Outcome outcome;
  options.point = !options.remove;
  outcome.code = run_inject(options, in, out, err);
  outcome.out = out.str();
  outcome.err = err.str();
  if (const Result<std::vector<Object>> read = read_stream(outcome.out)) {
    for (const Object& object : *read) {
      if (object.value.text_at({"kind"}) == "Pod") outcome.pod = object.value;
    }
  }
  return outcome;
}

Value uninjected(const std::string& input) {
  InjectOptions options;
  options.remove = true;
  return run(input, options).pod;
}

Value value_of(const std::string& yaml) {
  return read_stream(yaml)->at(0).value;
}

std::string pod(const std::string& containers, const std::string& more = "") {
  return "kind: Pod\nmetadata: {name: x}\nspec: {containers: [" + containers + "]" + more + "}\n";
}
std::string web(const std::string& env, const std::string& more = "") {
  return "{name: web, env: [" + env + "]" + more + "}";
}

// NAME=value or NAME<-key of a Secret's or ConfigMap's, of one container.
std::vector<std::string> env(const Value& pod, const std::string& container) {
  std::vector<std::string> found;
  for (const char* list : {"initContainers", "containers"}) {
    const Value* there = named(pod.list_at({"spec", list}), container);
    if (there == nullptr) continue;
    for (const Value& entry : there->list_at({"env"})) {
      const Value* secret = entry.at({"valueFrom", "secretKeyRef"});
      found.push_back(entry.text_at({"name"}) + (secret != nullptr
                                                     ? "<-" + secret->text_at({"key"})
                                                     : "=" + entry.text_at({"value"})));
    }
  }
  return found;
}
using Env = std::vector<std::string>;

TEST(Point, AUrlKeepsAllButTheServer) {
  for (const auto& [url, meant] : std::vector<std::pair<std::string, std::string>>{
           {"postgresql://u:p@db:5432/shop", "postgresql://u@127.0.0.1:6432/shop?sslmode=disable"},
           {"postgres://u:p%40@db.example.com/shop?connect_timeout=3&sslmode=verify-full&"
            "sslrootcert=system&application_name=web",
            "postgres://u@127.0.0.1:6432/shop?connect_timeout=3&sslmode=disable&"
            "application_name=web"},
           {"postgresql://u:p@a:5432,b:5433/shop?target_session_attrs=read-write",
            "postgresql://u@127.0.0.1:6432/shop?sslmode=disable"},
           {"postgresql:///shop?host=/run/postgresql&user=u",
            "postgresql://127.0.0.1:6432/shop?user=u&sslmode=disable"},
           {"postgresql://$(USER):$(PASSWORD)@$(HOST):$(PORT)/$(NAME)",
            "postgresql://$(USER)@127.0.0.1:6432/$(NAME)?sslmode=disable"},
           {"postgresql+asyncpg://$(USER)@db/shop?ssl=require&prepared_statement_cache_size=0",
            "postgresql+asyncpg://$(USER)@127.0.0.1:6432/shop?prepared_statement_cache_size=0"},
           {"postgresql://u:p@[::1]:5432/shop\n",
            "postgresql://u@127.0.0.1:6432/shop?sslmode=disable"},
           {"postgis://u:p@db/shop?conn_max_age=60",
            "postgis://u@127.0.0.1:6432/shop?conn_max_age=60&sslmode=disable"},
           {"postgresql+psycopg://u:p@db/shop?sslmode=require",
            "postgresql+psycopg://u@127.0.0.1:6432/shop?sslmode=disable"},
           {"postgresql://u:p@db/shop?schema=public&pgbouncer=true&sslaccept=strict",
            "postgresql://u@127.0.0.1:6432/shop?schema=public&pgbouncer=true&sslmode=disable"},
           {"host=db port=5432 dbname=shop user=u password='a b' sslmode=require",
            "host=127.0.0.1 port=6432 sslmode=disable dbname=shop user=u"}}) {
    const Result<std::string> pointed = url_at_sidecar(url);
    ASSERT_TRUE(pointed) << url << pointed.error().message;
    EXPECT_EQ(*pointed, meant);
    EXPECT_TRUE(leads_to_sidecar(*pointed)) << *pointed;
    EXPECT_FALSE(leads_to_sidecar(url)) << url;
  }
  EXPECT_FALSE(url_at_sidecar("mysql://u:hunter2@db/shop"));
  EXPECT_FALSE(url_at_sidecar("Host=db;Username=u;Password=hunter2"));
}

TEST(Point, AValueMovesAndTheApplicationGetsOneWithoutThePassword) {
  const std::string input =
      pod(web("{name: A, value: b}, {name: DATABASE_URL, value: \"postgres://u:pw@db/shop\"}"));
  const Outcome result = run(input);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(env(result.pod, "web"),
            (Env{"A=b", "DATABASE_URL=postgres://u@127.0.0.1:6432/shop?sslmode=disable"}));
  EXPECT_EQ(env(result.pod, "carpool"), Env{"DATABASE_URL=postgres://u:pw@db/shop"});
  EXPECT_EQ(run(result.out).out, result.out);
  EXPECT_EQ(uninjected(result.out), value_of(input));
}

TEST(Point, AReferenceMovesAndNoSecretIsCopied) {
  const std::string reference =
      "{name: DATABASE_URL, valueFrom: {secretKeyRef: {name: db, key: url}}}";
  const std::string input = pod(web(reference));
  const Outcome unseen = run(input);
  EXPECT_EQ(env(unseen.pod, "carpool"), Env{"DATABASE_URL<-url"});
  EXPECT_EQ(env(unseen.pod, "web"),
            Env{"DATABASE_URL=postgresql://app@127.0.0.1:6432/app?sslmode=disable"});
  EXPECT_THAT(unseen.err, HasSubstr("warning: container web: DATABASE_URL comes from a Secret"));
  EXPECT_EQ(uninjected(unseen.out), value_of(input));

  InjectOptions options;
  options.url_like = "postgis://?conn_max_age=60";
  EXPECT_EQ(env(run(input, options).pod, "web"),
            Env{"DATABASE_URL=postgis://app@127.0.0.1:6432/app?conn_max_age=60&sslmode=disable"});

  for (const std::string& secret :
       {std::string(
            "kind: Secret\nmetadata: {name: db}\nstringData: {url: \"postgres://u:pw@h/shop\"}\n"),
        std::string("kind: Secret\nmetadata: {name: db}\ndata: {url: "
                    "cG9zdGdyZXM6Ly91OnB3QGgvc2hvcA==}\n")}) {
    const Outcome seen = run(secret + "---\n" + input);
    EXPECT_EQ(env(seen.pod, "web"),
              Env{"DATABASE_URL=postgres://u@127.0.0.1:6432/shop?sslmode=disable"});
    EXPECT_EQ(env(seen.pod, "carpool"), Env{"DATABASE_URL<-url"});
  }
}

TEST(Point, WhatAUrlIsMadeOfGoesAlong) {
  const std::string input =
      pod(web("{name: PW, valueFrom: {secretKeyRef: {name: db, key: pw}}}, {name: H, value: db}, "
              "{name: DATABASE_URL, value: \"postgresql://u:$(PW)@$(H)/shop\"}"));
  const Outcome result = run(input);
  EXPECT_EQ(env(result.pod, "carpool"),
            (Env{"PW<-pw", "H=db", "DATABASE_URL=postgresql://u:$(PW)@$(H)/shop"}));
  EXPECT_EQ(uninjected(result.out), value_of(input));
  EXPECT_THAT(run(pod(web("{name: DATABASE_URL, value: \"postgresql://u:$(PW)@db/shop\"}"))).err,
              HasSubstr("container web: $(PW) is not in its env"));
}

TEST(Point, LibpqsVariablesMoveAndTheSessionsStay) {
  const Outcome result = run(pod(
      web("{name: PGHOST, value: db}, {name: PGUSER, value: u}, {name: PGDATABASE, value: shop}, "
          "{name: PGPASSWORD, valueFrom: {secretKeyRef: {name: db, key: pw}}}, "
          "{name: PGSSLMODE, value: verify-full}, {name: PGSSLROOTCERT, value: /tls/ca.crt}, "
          "{name: PGAPPNAME, value: web}",
          ", volumeMounts: [{name: tls, mountPath: /tls}]")));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(env(result.pod, "carpool"),
            (Env{"PGHOST=db", "PGDATABASE=shop", "PGUSER=u", "PGPASSWORD<-pw",
                 "PGSSLMODE=verify-full", "PGSSLROOTCERT=/tls/ca.crt"}));
  EXPECT_EQ(env(result.pod, "web"), (Env{"PGHOST=127.0.0.1", "PGUSER=u", "PGDATABASE=shop",
                                         "PGSSLMODE=disable", "PGAPPNAME=web", "PGPORT=6432"}));
  const Value* sidecar = named(result.pod.list_at({"spec", "initContainers"}), "carpool");
  EXPECT_NE(named(sidecar->list_at({"volumeMounts"}), "tls"), nullptr);
  EXPECT_EQ(run(result.out).out, result.out);
  const Value back = uninjected(result.out);
  EXPECT_THAT(env(back, "web"),
              ::testing::UnorderedElementsAre("PGHOST=db", "PGUSER=u", "PGDATABASE=shop",
                                              "PGPASSWORD<-pw", "PGSSLMODE=verify-full",
                                              "PGSSLROOTCERT=/tls/ca.crt", "PGAPPNAME=web"));
}

TEST(Point, WhatComesFromAWholeSecretIsOverridden) {
  const Outcome result =
      run("kind: Secret\nmetadata: {name: db}\nstringData: {PGHOST: db, PGPASSWORD: pw, OTHER: "
          "x}\n---\n" +
          pod("{name: web, envFrom: [{secretRef: {name: db}}]}"));
  EXPECT_EQ(env(result.pod, "carpool"), (Env{"PGHOST<-PGHOST", "PGPASSWORD<-PGPASSWORD"}));
  EXPECT_THAT(env(result.pod, "web"),
              ::testing::UnorderedElementsAre("PGHOST=127.0.0.1", "PGPORT=6432",
                                              "PGPASSWORD=", "PGSSLMODE=disable"));
  EXPECT_THAT(run(pod("{name: web, envFrom: [{secretRef: {name: db}}]}")).err,
              HasSubstr("its variables come from Secret db, which is not in the stream"));
}

TEST(Point, ContainersThatGoToTwoServersAreRefused) {
  const std::string one = "{name: DATABASE_URL, value: \"postgresql://u@a/shop\"}";
  const std::string two = "{name: DATABASE_URL, value: \"postgresql://u@b/shop\"}";
  const Outcome result = run(pod(web(one) + ", {name: jobs, env: [" + two + "]}"));
  EXPECT_EQ(result.code, kExitDataError);
  EXPECT_THAT(result.err, HasSubstr("containers web and jobs go to PostgreSQL in two ways"));
  EXPECT_EQ(run(pod(web(one) + ", {name: jobs, env: [" + one + "]}")).code, 0);
}

TEST(Point, InitContainersAreServedByANativeSidecarAlone) {
  const std::string url = "{name: DATABASE_URL, value: \"postgresql://u@a/shop\"}";
  const std::string input =
      pod(web(url), ", initContainers: [{name: migrate, env: [" + url + "]}]");
  EXPECT_THAT(env(run(input).pod, "migrate").at(0), HasSubstr("127.0.0.1:6432"));
  InjectOptions options;
  options.classic = true;
  EXPECT_EQ(env(run(input, options).pod, "migrate"), Env{"DATABASE_URL=postgresql://u@a/shop"});
}

TEST(Point, WhatCannotBePointedIsSaid) {
  EXPECT_THAT(run(pod("{name: web}")).err, HasSubstr("no container has DATABASE_URL or PGHOST"));
  const Outcome wrong = run(pod(web("{name: DATABASE_URL, value: \"mysql://u:hunter2@db/x\"}")));
  EXPECT_EQ(wrong.code, kExitDataError);
  EXPECT_THAT(wrong.err, HasSubstr("container web: DATABASE_URL: "));
  EXPECT_THAT(wrong.err, Not(HasSubstr("hunter2")));
  const Outcome image =
      run(pod(web("{name: PGHOST, value: db}, {name: PGSSLROOTCERT, value: /app/ca.crt}")));
  EXPECT_EQ(image.code, kExitDataError);
  EXPECT_THAT(image.err, HasSubstr("/app/ca.crt is a file of its image"));
}

}  // namespace
}  // namespace carpool::cli
