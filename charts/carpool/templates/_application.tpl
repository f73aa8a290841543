{{/* What the application's own container needs to find the sidecar. */}}

{{- define "carpool.host" -}}
{{- if .Values.carpool.socket }}{{ include "carpool.socketDirectory" . }}{{ else }}127.0.0.1{{ end -}}
{{- end }}

{{/* For `env:` of the application: libpq's variables, and a URL for everybody else. */}}
{{- define "carpool.env" -}}
{{- $app := .Values.carpool.application -}}
- name: PGHOST
  value: {{ include "carpool.host" . | quote }}
- name: PGPORT
  value: {{ include "carpool.listenPort" . | quote }}
- name: PGSSLMODE
  value: disable
{{- with $app.database }}
- name: PGDATABASE
  value: {{ . | quote }}
{{- end }}
{{- with $app.user }}
- name: PGUSER
  value: {{ . | quote }}
{{- end }}
{{- with $app.urlVariable }}
- name: {{ . }}
  value: {{ include "carpool.url" $ | quote }}
{{- end }}
{{- end }}

{{- define "carpool.url" -}}
{{- $app := .Values.carpool.application -}}
{{- $user := $app.user | default "" | urlquery | replace "+" "%20" -}}
{{- $database := $app.database | default "" | urlquery | replace "+" "%20" -}}
{{- $at := ternary "" (printf "%s@" $user) (empty $user) -}}
{{- if .Values.carpool.socket -}}
{{ $app.urlScheme }}://{{ $at }}/{{ $database }}?host={{ include "carpool.socketDirectory" . | urlquery }}&port={{ include "carpool.listenPort" . }}
{{- else -}}
{{ $app.urlScheme }}://{{ $at }}127.0.0.1:{{ include "carpool.listenPort" . }}/{{ $database }}?sslmode=disable
{{- end -}}
{{- end }}

{{/* For `volumeMounts:` of the application; renders nothing without `socket: true`. */}}
{{- define "carpool.volumeMounts" -}}
{{- if .Values.carpool.socket -}}
- name: carpool-socket
  mountPath: {{ include "carpool.socketDirectory" . }}
{{- end -}}
{{- end }}

{{/* For the pod's `terminationGracePeriodSeconds:`, checked against `config.drain`. */}}
{{- define "carpool.terminationGracePeriodSeconds" -}}
{{- include "carpool.check" (dict "root" .) -}}
{{- .Values.carpool.terminationGracePeriodSeconds | int -}}
{{- end }}
