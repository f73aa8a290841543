#include "cli/inject.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "cli/inject_stream.h"

namespace carpool::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

Outcome run(const std::string& input, InjectOptions options = {}) {
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  const int code = run_inject(options, in, out, err);
  return {code, out.str(), err.str()};
}

InjectOptions removal() {
  InjectOptions options;
  options.remove = true;
  return options;
}

// All values of a stream.
std::vector<Value> values(const std::string& text) {
  const Result<std::vector<Object>> read = read_stream(text);
  EXPECT_TRUE(read) << text;
  std::vector<Value> found;
  if (!read) return found;
  for (const Object& object : *read) found.push_back(object.value);
  return found;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    found++;
  }
  return found;
}

std::size_t line_of(const std::string& text, const std::string& what) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << "no " << what << " in\n" << text;
  return static_cast<std::size_t>(
      std::count(text.begin(), text.begin() + static_cast<long>(at), '\n'));
}

const std::string kDeployment = R"(# The web front.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web   # with a comment
spec:
  replicas: 2
  template:
    metadata:
      labels: # what the service selects by
        app: web
    spec:
      containers:
        # the one
        - name: web
          image: "web:1"
          env:
            - {name: PORT, value: "8080"}
          command:
            - sh
            - -c
            - |
              echo '--- not a document'

              exec web
      # and nothing else
      restartPolicy: Always
)";

TEST(Inject, PutsANativeSidecarBeforeTheApplication) {
  const Outcome result = run(kDeployment);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("      initContainers:\n        - args:\n"));
  EXPECT_THAT(result.out, HasSubstr("restartPolicy: Always\n"));
  EXPECT_THAT(result.out, Not(HasSubstr("postStart")));
  EXPECT_LT(line_of(result.out, "initContainers:"), line_of(result.out, "      containers:"));
  EXPECT_THAT(result.out, HasSubstr("        carpool/inject: carpool\n"));
  EXPECT_THAT(result.out, HasSubstr("- name: carpool-config\n          configMap:\n"));
}

TEST(Inject, KeepsTheOrderOfKeysAndTheLinesOfAScript) {
  const Outcome result = run(kDeployment);
  EXPECT_THAT(result.out, StartsWith("# The web front.\napiVersion: apps/v1\nkind: Deployment\n"));
  EXPECT_THAT(result.out, HasSubstr("            - |\n"
                                    "              echo '--- not a document'\n"
                                    "\n"
                                    "              exec web\n"));
  EXPECT_LT(line_of(result.out, "replicas: 2"), line_of(result.out, "template:"));
  EXPECT_THAT(result.out, HasSubstr("value: \"8080\""));
}

TEST(Inject, GivesTheSameWhenRunTwice) {
  for (const bool classic : {false, true}) {
    InjectOptions options;
    options.classic = classic;
    const Outcome once = run(kDeployment, options);
    const Outcome twice = run(once.out, options);
    EXPECT_EQ(twice.out, once.out);
    EXPECT_THAT(twice.err, HasSubstr("Deployment web: unchanged"));
  }
}

TEST(Uninject, GivesBackTheOriginal) {
  for (const bool classic : {false, true}) {
    InjectOptions options;
    options.classic = classic;
    const Outcome back = run(run(kDeployment, options).out, removal());
    EXPECT_EQ(values(back.out), values(kDeployment)) << back.out;
    EXPECT_THAT(back.out, Not(HasSubstr("carpool")));
  }
  EXPECT_EQ(run(kDeployment, removal()).out, kDeployment);
}

TEST(Inject, PutsAClassicSidecarFirstAndNamesTheApplicationsContainer) {
  InjectOptions options;
  options.classic = true;
  const Outcome result = run(kDeployment, options);
  EXPECT_THAT(result.out, HasSubstr("postStart:"));
  EXPECT_THAT(result.out, Not(HasSubstr("initContainers")));
  EXPECT_LT(line_of(result.out, "name: carpool\n"), line_of(result.out, "- name: web"));
  EXPECT_THAT(result.out, HasSubstr("kubectl.kubernetes.io/default-container: web"));
}

TEST(Inject, ChangesFromOneFormToTheOther) {
  InjectOptions classic;
  classic.classic = true;
  const Outcome there = run(run(kDeployment).out, classic);
  EXPECT_EQ(count(there.out, "image: carpool:"), 1U);
  EXPECT_THAT(there.out, Not(HasSubstr("initContainers")));
  const Outcome back = run(there.out);
  EXPECT_EQ(count(back.out, "image: carpool:"), 1U);
  EXPECT_THAT(back.out, Not(HasSubstr("postStart")));
}

TEST(Inject, ReplacesAnOlderSidecarWhereItStands) {
  InjectOptions old;
  old.image = "carpool:0.0.1";
  old.config_map = "before";
  InjectOptions fresh;
  fresh.image = "mirror.internal:5000/carpool@sha256:0123";
  fresh.config_map = "after";
  const Outcome result = run(run(kDeployment, old).out, fresh);
  EXPECT_EQ(result.out, run(kDeployment, fresh).out);
  EXPECT_THAT(result.out, HasSubstr("image: mirror.internal:5000/carpool@sha256:0123\n"));
  EXPECT_EQ(count(result.out, ": after\n"), 3U) << "label, ConfigMap and Secret";
  EXPECT_THAT(result.out, Not(HasSubstr("before")));
}

TEST(Inject, ComesBeforeTheInitContainersAndVolumesThatAreThere) {
  const Outcome result = run(R"(kind: StatefulSet
metadata: {name: db-client}
spec:
  template:
    spec:
      initContainers:
      - name: migrate
        image: web
      containers:
      - name: web
        image: web
      volumes:
      - name: scratch
        emptyDir: {}
)");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_LT(line_of(result.out, "name: carpool\n"), line_of(result.out, "- name: migrate"));
  EXPECT_LT(line_of(result.out, "- name: carpool-secrets"), line_of(result.out, "- name: scratch"));
  EXPECT_THAT(result.out, HasSubstr("    metadata:\n      labels:\n        carpool/inject:"));
  EXPECT_EQ(run(result.out, removal()).out.find("carpool"), std::string::npos);
}

TEST(Inject, FindsThePodOfEveryKind) {
  const std::string spec = "containers:\n- name: a\n  image: a\n";
  const auto indented = [&spec](int by) {
    std::istringstream in(spec);
    std::string line;
    std::string out;
    while (std::getline(in, line))
      out += std::string(static_cast<std::size_t>(by), ' ') + line + "\n";
    return out;
  };
  const std::string templated =
      "metadata: {name: x}\nspec:\n  template:\n    spec:\n" + indented(6);
  for (const char* kind : {"Deployment", "StatefulSet", "DaemonSet", "Job"}) {
    EXPECT_THAT(run("kind: " + std::string(kind) + "\n" + templated).out,
                HasSubstr("name: carpool\n"))
        << kind;
  }
  EXPECT_THAT(run("kind: Pod\nmetadata:\n  name: x\nspec:\n" + indented(2)).out,
              HasSubstr("  name: x\n  labels:\n    carpool/inject: carpool\n"));
  EXPECT_THAT(
      run("kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n" +
          indented(10))
          .out,
      HasSubstr("name: carpool\n"));
  const Outcome list = run("kind: List\nitems:\n- kind: Pod\n  spec:\n" + indented(4) +
                           "- kind: Secret\n- kind: Pod\n  spec:\n" + indented(4));
  EXPECT_EQ(count(list.out, "image: carpool:"), 2U);
}

TEST(Inject, PassesThroughWhatIsNoWorkloadAndSaysSo) {
  const std::string input =
      "# a comment\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n"
      "data: {a: 'b'}\n---\n\n---\njust a string\n...\n";
  const Outcome result = run(input);
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, input);
  EXPECT_THAT(result.err, HasSubstr("line 3: ConfigMap settings: no workload, passed through"));
  EXPECT_THAT(result.err, HasSubstr("line 11: a document without a kind"));
}

TEST(Inject, HandlesEveryDocumentOfAStream) {
  const std::string service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n";
  const Outcome result =
      run("---\n" + kDeployment + "--- # next\n" + service + "---\n" + kDeployment);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("---\n# The web front.\n"));
  EXPECT_THAT(result.out, HasSubstr("--- # next\n" + service + "---\n"));
  EXPECT_EQ(count(result.out, "image: carpool:"), 2U);
}

TEST(Inject, PrintsNothingWhenAnyDocumentIsBroken) {
  const Outcome result = run(kDeployment + "---\nkind: Pod\nspec:\n  containers: [\n");
  EXPECT_EQ(result.code, kExitDataError);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("not YAML"));
  EXPECT_THAT(result.err, HasSubstr("line 3"));
}

TEST(Inject, JsonStaysJsonAndItsStringsStrings) {
  const Outcome result = run(
      R"({"kind": "Pod", "metadata": {"name": "x", "annotations": {"on": "true", "n": "1e3"}},
          "spec": {"containers": [{"name": "a", "image": "a", "args": [], "ports": [{"containerPort": 80}],
          "env": [{"name": "N", "value": "007"}, {"name": "E", "value": ""}, {"name": "T", "value": "a\tb\nc"}]}]}})");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("{\n  \"kind\": \"Pod\",\n"));
  EXPECT_THAT(result.out, HasSubstr("\"value\": \"007\""));
  EXPECT_THAT(result.out, HasSubstr("\"on\": \"true\""));
  EXPECT_THAT(result.out, HasSubstr("\"containerPort\": 80\n"));
  EXPECT_THAT(result.out, HasSubstr("\"value\": \"\"\n"));
  EXPECT_THAT(result.out, HasSubstr("\"a\\tb\\nc\""));
  EXPECT_THAT(result.out, HasSubstr("\"restartPolicy\": \"Always\""));
  EXPECT_EQ(run(result.out).out, result.out);
}

TEST(Inject, KnowsThatTwoPodsMayShareTheirTextByAnAlias) {
  const Outcome result = run(R"(kind: List
items:
- kind: Pod
  spec: &spec
    containers:
    - name: a
      image: a
- kind: Pod
  spec: *spec
)");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(run(result.out).out, result.out);
  EXPECT_THAT(result.err, HasSubstr("sidecar added"));
}

TEST(Inject, RefusesAnAliasThatMultiplies) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; i++) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int k = 0; k < 9; k++) bomb += ", " + before;
    bomb += "]\n";
  }
  const Outcome result = run("kind: Pod\nspec:\n  containers:\n  - name: a\n" + bomb);
  EXPECT_EQ(result.code, kExitDataError);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("aliases"));
}

TEST(Inject, RefusesAPodThatUsesThePortOfTheSidecar) {
  const Outcome result =
      run("kind: Pod\nspec:\n  containers:\n  - name: metrics\n    ports:\n    - containerPort: "
          "9930\n");
  EXPECT_EQ(result.code, kExitDataError);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("container metrics uses port 9930"));
}

TEST(Inject, RefusesNamesThatKubernetesWouldNotTake) {
  for (const char* name : {"Upper", "-a", "a\"\nb", "a/b"}) {
    InjectOptions options;
    options.config_map = name;
    const Outcome result = run(kDeployment, options);
    EXPECT_EQ(result.code, kExitInjectUsage) << name;
    EXPECT_EQ(result.out, "");
  }
  InjectOptions options;
  options.image = "a b";
  EXPECT_EQ(run(kDeployment, options).code, kExitInjectUsage);
}

TEST(Inject, SaysThatAClassicSidecarKeepsAJobFromCompleting) {
  InjectOptions options;
  options.classic = true;
  const Outcome result = run(
      "kind: Job\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n", options);
  EXPECT_THAT(result.err, HasSubstr("quitquitquit"));
}

TEST(Inject, LeavesEmptyInputEmpty) {
  EXPECT_EQ(run("").out, "");
  EXPECT_EQ(run("").code, 0);
  EXPECT_EQ(run("# nothing\n---\n").out, "# nothing\n---\n");
}

// Every prefix of a manifest: whatever comes of it, it is all or nothing, and twice is once.
TEST(Inject, SurvivesAManifestCutAnywhere) {
  for (std::size_t end = 0; end <= kDeployment.size(); end++) {
    const Outcome once = run(kDeployment.substr(0, end));
    if (once.code != 0) {
      EXPECT_EQ(once.out, "") << end;
      continue;
    }
    EXPECT_EQ(run(once.out).out, once.out) << end;
  }
}

// The same with each line left out, and with each line's indent changed: values of the wrong kind
// in every place.
TEST(Inject, SurvivesAManifestWithAnyLineMissingOrMoved) {
  std::vector<std::string> lines;
  std::istringstream in(run(kDeployment).out);
  for (std::string line; std::getline(in, line);) lines.push_back(line + "\n");
  for (std::size_t at = 0; at < lines.size(); at++) {
    for (const char* instead : {"", "  ", "labels: x\n", "- "}) {
      std::string text;
      for (std::size_t i = 0; i < lines.size(); i++) {
        const bool indent = std::string(instead).find_first_not_of(' ') == std::string::npos;
        if (i != at) {
          text += lines[i];
        } else if (*instead != '\0') {
          text += instead + (indent || *instead == '-' ? lines[i] : "");
        }
      }
      for (const InjectOptions& options : {InjectOptions{}, removal()}) {
        const Outcome once = run(text, options);
        if (once.code != 0) {
          EXPECT_EQ(once.out, "") << at << instead;
          continue;
        }
        EXPECT_EQ(run(once.out, options).out, once.out) << at << instead;
      }
    }
  }
}

}  // namespace
}  // namespace carpool::cli
