{{/*
Names and places. One source: the mount paths stand here and nowhere else.

Every template of this chart takes the root context of the chart that includes it and reads
`.Values.carpool`, in which helm has merged this chart's values.yaml.
*/}}

{{- define "carpool.configMapName" -}}
{{- default (printf "%s-carpool" (.Release.Name | trunc 55 | trimSuffix "-")) .Values.carpool.existingConfigMap -}}
{{- end }}

{{- define "carpool.secretName" -}}
{{- default (include "carpool.configMapName" .) .Values.carpool.secret.name -}}
{{- end }}

{{- define "carpool.image" -}}
{{- with .Values.carpool.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end -}}
{{- end -}}
{{- end }}

{{/* Mounted as directories, never with subPath: a subPath mount never sees a change. */}}
{{- define "carpool.configDirectory" -}}/etc/carpool{{- end }}
{{- define "carpool.secretDirectory" -}}/etc/carpool-secrets{{- end }}

{{/* A section of `config`, or an empty one: (dict "root" . "name" "listen") */}}
{{- define "carpool.section" -}}
{{- get (.root.Values.carpool.config | default dict) .name | default dict | toJson -}}
{{- end }}

{{- define "carpool.listenPort" -}}
{{- (include "carpool.section" (dict "root" . "name" "listen") | fromJson).port | default 6432 | int -}}
{{- end }}

{{- define "carpool.adminPort" -}}
{{- (include "carpool.section" (dict "root" . "name" "admin") | fromJson).port | default 9930 | int -}}
{{- end }}

{{- define "carpool.controlPort" -}}
{{- (include "carpool.section" (dict "root" . "name" "admin") | fromJson).controlPort | default 9931 | int -}}
{{- end }}

{{- define "carpool.socketDirectory" -}}
{{- (include "carpool.section" (dict "root" . "name" "listen") | fromJson).unixSocketDir | default "/run/carpool" -}}
{{- end }}

{{/*
Labels for the pod template. The label names the ConfigMap that configures the sidecar: monitoring
groups by it, network policies select by it, and the injector leaves the pod alone because it
already carries the sidecar.
*/}}
{{- define "carpool.labels" -}}
carpool/inject: {{ include "carpool.configMapName" . | quote }}
{{- end }}

{{/*
Annotations for the pod template. The checksum covers what only a restart brings into force, and where
clients connect, which the application learns from its environment when it starts. The rest of
`config` is left out on purpose, because a checksum of it would restart every pod for a change that
they take live.
*/}}
{{- define "carpool.annotations" -}}
{{- $listen := include "carpool.section" (dict "root" . "name" "listen") | fromJson -}}
{{- $admin := include "carpool.section" (dict "root" . "name" "admin") | fromJson -}}
{{- $log := include "carpool.section" (dict "root" . "name" "log") | fromJson -}}
checksum/carpool-restart: {{ list (pick $listen "address" "port" "unixSocketDir") (pick $admin "address" "port" "controlAddress" "controlPort") (pick $log "format") | toJson | sha256sum | trunc 16 | quote }}
{{- with .Values.carpool.application.container }}
kubectl.kubernetes.io/default-container: {{ . | quote }}
{{- end }}
{{- end }}
