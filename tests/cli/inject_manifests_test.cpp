// `carpool inject` on manifests as people have them: each of these once lost something or was given
// a sidecar that did harm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "cli/inject.h"
#include "cli/inject_stream.h"

namespace carpool::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
  std::vector<Value> values;  // of `out`
};

Outcome run(const std::string& input, const InjectOptions& options = {}) {
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  Outcome outcome;
  outcome.code = run_inject(options, in, out, err);
  outcome.out = out.str();
  outcome.err = err.str();
  if (const Result<std::vector<Object>> read = read_stream(outcome.out)) {
    for (const Object& object : *read) {
      if (!object.value.is_null()) outcome.values.push_back(object.value);
    }
  }
  return outcome;
}

Outcome uninject(const std::string& input) {
  InjectOptions options;
  options.remove = true;
  return run(input, options);
}

std::vector<std::string> names(const Value& pod, std::string_view list) {
  std::vector<std::string> found;
  for (const Value& item : pod.list_at({"spec", list})) found.push_back(item.text_at({"name"}));
  return found;
}

// A Pod whose metadata and spec are given as YAML in braces.
std::string pod(const std::string& metadata, const std::string& spec) {
  return "apiVersion: v1\nkind: Pod\nmetadata: {" + metadata + "}\nspec: {" + spec + "}\n";
}
const std::string kWeb = "containers: [{name: web, image: web}]";

TEST(InjectManifests, AnAnchorThatLabelsAndSelectorShareChangesInThePodAlone) {
  const Outcome result = run(R"(apiVersion: apps/v1
kind: Deployment
metadata: {name: api, labels: &labels {app: api}}
spec:
  selector: {matchLabels: *labels}
  template:
    metadata: {labels: *labels}
    spec: {containers: [{name: api, image: api}]}
)");
  ASSERT_EQ(result.code, 0) << result.err;
  const Value& object = result.values.at(0);
  EXPECT_EQ(object.at({"spec", "selector", "matchLabels"})->map()->size(), 1u);
  EXPECT_EQ(object.at({"metadata", "labels"})->map()->size(), 1u);
  EXPECT_EQ(object.text_at({"spec", "template", "metadata", "labels", "carpool/inject"}),
            "carpool");
}

TEST(InjectManifests, WhatAMergeKeyBringsStays) {
  const Outcome result = run(R"(apiVersion: v1
kind: List
items:
  - kind: Pod
    spec: &pod
      initContainers: [{name: migrate}]
      containers: [{name: web}]
      volumes: [{name: data, emptyDir: {}}]
  - kind: Pod
    spec:
      <<: [*pod, {containers: [{name: never}], hostname: h}]
      containers: [{name: worker}]
)");
  ASSERT_EQ(result.code, 0) << result.err;
  const List items = result.values.at(0).list_at({"items"});
  EXPECT_EQ(names(items.at(1), "initContainers"), (std::vector<std::string>{"carpool", "migrate"}));
  EXPECT_EQ(names(items.at(1), "containers"), std::vector<std::string>{"worker"});
  EXPECT_EQ(items.at(1).text_at({"spec", "hostname"}), "h");
  EXPECT_EQ(names(items.at(1), "volumes").back(), "data");
}

TEST(InjectManifests, AMergeThatIsReadInTwoWaysIsRefused) {
  const Outcome result =
      run("kind: Pod\nx: &x {hostname: a}\nspec:\n  hostname: b\n  <<: *x\n  containers: [{name: "
          "w}]\n");
  EXPECT_EQ(result.code, kExitDataError);
  EXPECT_THAT(result.out, IsEmpty());
  EXPECT_THAT(result.err, HasSubstr("the key hostname stands before a merge key (<<)"));
}

TEST(InjectManifests, AKeyThatStandsTwiceIsRefusedInAWorkloadAndKeptElsewhere) {
  EXPECT_EQ(run("kind: Pod\nspec: {containers: [{name: a, name: b}]}\n").code, kExitDataError);
  const std::string other = "kind: ConfigMap\ndata: {a: x, a: y, [1]: z}\n";
  EXPECT_EQ(run(other).out, other);
}

TEST(InjectManifests, EveryObjectOfAJsonStreamComesOut) {
  const std::string service = R"({"kind":"Service","metadata":{"name":"s"},"spec":{"x":1e3}})";
  const std::string workload =
      R"({"kind":"Pod","spec":{"containers":[{"name":"a","args":["\ud83d\ude00"]}]}})";
  for (const std::string& text : {workload + "\n" + service + "\n", service + workload,
                                  service + "\n---\n" + workload + service}) {
    const Outcome result = run(text);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr(service));
    EXPECT_THAT(result.out, HasSubstr("\"carpool-config\""));
    EXPECT_THAT(result.out, HasSubstr("\xf0\x9f\x98\x80"));
    EXPECT_EQ(run(result.out).out, result.out);
  }
}

TEST(InjectManifests, TwoValuesOfYamlWithoutAMarkBetweenThemAreRefused) {
  const Outcome result = run("{kind: Pod, spec: {containers: [{name: a}]}}\n{kind: Service}\n");
  EXPECT_EQ(result.code, kExitDataError);
  EXPECT_THAT(result.err, HasSubstr("not YAML"));
}

TEST(InjectManifests, AContainerOfTheSameNameIsNotTheSidecar) {
  const std::string input =
      pod("name: rides", "containers: [{name: carpool, image: \"rides/carpool-api:7\"}]");
  for (const bool classic : {false, true}) {
    InjectOptions options;
    options.classic = classic;
    const Outcome result = run(input, options);
    EXPECT_EQ(result.code, kExitDataError);
    EXPECT_THAT(result.err, HasSubstr("a container of its own is called carpool"));
  }
  EXPECT_EQ(uninject(input).out, input);
}

TEST(InjectManifests, ASidecarOfTheChartIsLeftAlone) {
  const std::string sidecar =
      "{name: carpool, image: \"carpool:0.1.0\", args: [run, --config, /etc/carpool/carpool.yaml], "
      "volumeMounts: [{name: carpool-config, mountPath: /etc/carpool}]}";
  for (const std::string& spec : {"initContainers: [" + sidecar + "], " + kWeb,
                                  "containers: [" + sidecar + ", {name: web}]"}) {
    const std::string input = pod("name: x, labels: {carpool/inject: x-carpool}", spec);
    const Outcome result = run(input);
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.out, input);
    EXPECT_THAT(result.err, HasSubstr("left alone: it has a sidecar"));
    EXPECT_EQ(uninject(input).out, input);
  }
}

TEST(InjectManifests, WhatIsNotToHaveASidecarIsLeftAloneAndThatIsSaid) {
  const std::string hook = "name: t, annotations: {helm.sh/hook: test}";
  for (const auto& [input, why] : std::vector<std::pair<std::string, std::string>>{
           {pod("labels: {carpool/injection: disabled}", kWeb), "carpool/injection is disabled"},
           {pod("annotations: {carpool/injection: disabled}", kWeb),
            "carpool/injection is disabled"},
           {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {labels: {carpool/injection: "
            "disabled}}\n"
            "spec: {template: {spec: {" +
                kWeb + "}}}\n",
            "carpool/injection is disabled"},
           {"kind: Namespace\nmetadata: {name: n, labels: {carpool/injection: disabled}}\n---\n" +
                pod("namespace: n", kWeb),
            "disabled in its namespace"},
           {pod(hook, kWeb), "a hook of Helm's"},
           {pod("ownerReferences: [{kind: ReplicaSet, name: web-1}]", kWeb), "what owns it"},
           {pod("name: n", kWeb + ", hostNetwork: true"), "warning: hostNetwork"},
           {pod("name: n", kWeb + ", os: {name: windows}"), "for Windows"}}) {
    const Outcome result = run(input);
    EXPECT_EQ(result.code, 0) << input;
    EXPECT_EQ(result.out, input);
    EXPECT_THAT(result.err, HasSubstr("left alone: "));
    EXPECT_THAT(result.err, HasSubstr(why));
  }
  const Outcome asked = run(pod(hook + ", labels: {carpool/inject: pool}", kWeb));
  EXPECT_THAT(asked.err, HasSubstr("sidecar added"));
}

TEST(InjectManifests, AKindOfAnotherGroupIsNoWorkload) {
  for (const std::string& text :
       {"apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {template: {spec: {" + kWeb +
            "}}}\n",
        "apiVersion: example.com/v1\nkind: Pod\nspec: {" + kWeb + "}\n"}) {
    EXPECT_EQ(run(text).out, text);
  }
}

TEST(InjectManifests, AnItemOfADeploymentListMayLeaveOutItsKind) {
  const Outcome result =
      run("apiVersion: apps/v1\nkind: DeploymentList\nitems:\n- metadata: {name: a}\n"
          "  spec: {template: {spec: {" +
          kWeb + "}}}\n");
  EXPECT_THAT(result.out, HasSubstr("carpool-config"));
}

TEST(InjectManifests, AGracePeriodThatIsTooShortIsSaid) {
  for (const auto& [seconds, warned] : std::vector<std::pair<std::string, bool>>{
           {"0", true}, {"5", true}, {"26", true}, {"27", false}, {"3600", false}}) {
    const Outcome result =
        run(pod("name: x", kWeb + ", terminationGracePeriodSeconds: " + seconds));
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.err.find("terminationGracePeriodSeconds is " + seconds) != std::string::npos,
              warned)
        << result.err;
  }
  EXPECT_THAT(run(pod("name: x", kWeb)).err, Not(HasSubstr("warning")));
}

TEST(InjectManifests, APodThatWasGuaranteedIsToldThatItIsNoMore) {
  EXPECT_THAT(
      run(pod("name: x", "containers: [{name: a, resources: {limits: {cpu: 1, memory: 1Gi}}}]"))
          .err,
      HasSubstr("becomes Burstable"));
}

TEST(InjectManifests, AVolumeOfTheSameNameIsNotReplaced) {
  const Outcome result =
      run(pod("name: x", kWeb + ", volumes: [{name: carpool-config, emptyDir: {}}]"));
  EXPECT_EQ(result.code, kExitDataError);
  EXPECT_THAT(result.err, HasSubstr("a volume of its own is called carpool-config"));
}

TEST(InjectManifests, APortByAnotherProtocolIsAnotherPort) {
  EXPECT_EQ(
      run(pod("name: x", "containers: [{name: a, ports: [{containerPort: 9930, protocol: UDP}]}]"))
          .code,
      0);
}

TEST(InjectManifests, TheLabelThatThePodHasNamesItsConfigMapAndStays) {
  const std::string input = pod("name: x, labels: {carpool/inject: pool}", kWeb);
  const Outcome result = run(input);
  EXPECT_THAT(result.out, HasSubstr("name: pool\n"));
  EXPECT_EQ(uninject(result.out).values.at(0).text_at({"metadata", "labels", "carpool/inject"}),
            "pool");
  InjectOptions options;
  options.config_map = "other";
  EXPECT_THAT(run(input, options).out, HasSubstr("carpool/inject: other\n"));
  EXPECT_EQ(run(pod("labels: {carpool/inject: \"\"}", kWeb)).code, kExitDataError);
}

TEST(InjectManifests, InputThatCannotBeReadIsNotEmptyInput) {
  struct Broken : std::streambuf {
    int_type underflow() override { throw std::runtime_error("a folder"); }
  } broken;
  std::istream in(&broken);
  std::ostringstream out;
  std::ostringstream err;
  EXPECT_EQ(run_inject({}, in, out, err), kExitInputUnreadable);
  EXPECT_THAT(err.str(), HasSubstr("could not be read"));
}

}  // namespace
}  // namespace carpool::cli
