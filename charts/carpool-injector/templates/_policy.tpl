{{- define "injector.labels" -}}
app.kubernetes.io/name: carpool-injector
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "injector.apiVersion" -}}
{{- $wanted := .Values.apiVersion | default (ternary "v1" "v1beta1" (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version)) -}}
{{- if not (has $wanted (list "v1" "v1beta1")) -}}
{{- fail (printf "apiVersion: %q is not one of v1, v1beta1" $wanted) -}}
{{- end -}}
admissionregistration.k8s.io/{{ $wanted }}
{{- end }}

{{/* The pods in question; both policies have the same, so that neither expects what the other leaves out. */}}
{{- define "injector.match" -}}
matchPolicy: Equivalent
namespaceSelector:
  matchExpressions:
    - {key: {{ .Values.optOutLabel | quote }}, operator: NotIn, values: [disabled]}
    - {key: kubernetes.io/metadata.name, operator: NotIn, values: {{ .Values.excludedNamespaces | toJson }}}
objectSelector:
  matchExpressions:
    - {key: {{ .Values.label | quote }}, operator: Exists}
resourceRules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [pods]
    scope: Namespaced
{{- end }}

{{/* CEL: whether the pod carries the sidecar, in either form. */}}
{{- define "injector.carried" -}}
(object.spec.containers.exists(c, c.name == "carpool") || (has(object.spec.initContainers) && object.spec.initContainers.exists(c, c.name == "carpool")))
{{- end }}

{{/*
A value as a CEL literal. Scalars are written as in JSON; what stands in a map or a list goes through
dyn(), because CEL wants the values of a literal to be of one type.
*/}}
{{- define "injector.cel" -}}
{{- if kindIs "map" . -}}
{{- $parts := list -}}
{{- range $key, $value := . }}{{ $parts = append $parts (printf "%s: dyn(%s)" (toJson $key) (include "injector.cel" $value)) }}{{ end -}}
{{ "{" }}{{ join ", " $parts }}{{ "}" }}
{{- else if kindIs "slice" . -}}
{{- $parts := list -}}
{{- range . }}{{ $parts = append $parts (printf "dyn(%s)" (include "injector.cel" .)) }}{{ end -}}
[{{ join ", " $parts }}]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}

{{/*
A library template as a CEL literal. The ConfigMap's name, which only the pod knows, stands in it as
a mark that becomes an expression.
*/}}
{{- define "injector.celOf" -}}
{{- $mark := "@configMap@" -}}
{{- $values := merge (dict "existingConfigMap" $mark) .root.Values.carpool -}}
{{- $context := dict "Values" (dict "carpool" $values) "Release" .root.Release "Chart" .root.Chart "Template" .root.Template -}}
{{- $expression := printf "object.metadata.labels[%q]" .root.Values.label -}}
{{- include "injector.cel" (include .template $context | fromYamlArray) | replace (quote $mark) $expression -}}
{{- end }}
