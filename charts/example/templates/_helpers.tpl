{{- define "example.name" -}}
{{- printf "%s-example" (.Release.Name | trunc 55 | trimSuffix "-") -}}
{{- end }}

{{- define "example.selector" -}}
app.kubernetes.io/name: example
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "example.labels" -}}
{{ include "example.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "example.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "example.securityContext" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}
