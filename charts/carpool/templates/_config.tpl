{{/*
The configuration as a ConfigMap. `config` passes straight through; `socket: true` adds the folder
of the socket where it names none.
*/}}

{{- define "carpool.configFile" -}}
{{- $config := deepCopy (.Values.carpool.config | default dict) -}}
{{- if .Values.carpool.socket -}}
{{- $listen := get $config "listen" | default dict -}}
{{- $config = set $config "listen" (set $listen "unixSocketDir" (include "carpool.socketDirectory" .)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{- define "carpool.configMap" -}}
{{- if not .Values.carpool.existingConfigMap }}
{{- include "carpool.checkConfig" . }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "carpool.configMapName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    app.kubernetes.io/name: carpool
    app.kubernetes.io/component: configuration
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/managed-by: {{ .Release.Service }}
data:
  carpool.yaml: |
    {{- include "carpool.configFile" . | nindent 4 }}
{{- end }}
{{- end }}

{{/* A duration of the configuration file ("1m30s") in whole seconds, rounded up. */}}
{{- define "carpool.seconds" -}}
{{- $ms := 0 -}}
{{- range regexFindAll "[0-9]+(ms|us|s|m|h|d)" (toString .) -1 -}}
{{- $n := regexFind "[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $ms = add $ms (ternary (mul $n 86400000) 0 (eq $unit "d")) (ternary (mul $n 3600000) 0 (eq $unit "h")) (ternary (mul $n 60000) 0 (eq $unit "m")) (ternary (mul $n 1000) 0 (eq $unit "s")) (ternary $n 0 (eq $unit "ms")) -}}
{{- end -}}
{{- div (add $ms 999) 1000 -}}
{{- end }}
