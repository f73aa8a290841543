{{/*
A `helm test` hook: the sidecar's own `check` reads the ConfigMap that the pods mount, so that a
release whose configuration would be rejected does not pass.
*/}}
{{- define "carpool.testCheck" -}}
{{- $body := fromYaml (include "carpool.containerBody" .) -}}
{{- $container := pick $body "image" "imagePullPolicy" "securityContext" "resources" "volumeMounts" "env" "envFrom" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ printf "%s-carpool-check" (.Release.Name | trunc 48 | trimSuffix "-") }}
  namespace: {{ .Release.Namespace }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  automountServiceAccountToken: false
  restartPolicy: Never
  containers:
    - {{- toYaml (merge (dict "name" "check" "args" (list "check" (printf "%s/carpool.yaml" (include "carpool.configDirectory" .)))) $container) | nindent 6 }}
  volumes:
    {{- include "carpool.volumes" . | nindent 4 }}
{{- end }}
