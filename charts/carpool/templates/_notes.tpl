{{/* For NOTES.txt of the chart that includes the sidecar. */}}
{{- define "carpool.notes" -}}
{{- $name := include "carpool.configMapName" . -}}
{{- $port := include "carpool.adminPort" . -}}
Carpool rides in the pods labelled carpool/inject={{ $name }}, on {{ include "carpool.host" . }}, port {{ include "carpool.listenPort" . }}.

Resize the pools; no pod restarts and no transaction is cut:
{{- if .Values.carpool.existingConfigMap }}
  kubectl --namespace {{ .Release.Namespace }} edit configmap {{ $name }}
{{- else }}
  helm upgrade {{ .Release.Name }} ... --reuse-values --set carpool.config.pool.size=40
  or at once, until the next upgrade: kubectl --namespace {{ .Release.Namespace }} edit configmap {{ $name }}
{{- end }}
The kubelet hands the change over within about a minute; to have it at once:
  kubectl --namespace {{ .Release.Namespace }} annotate pods --selector carpool/inject={{ $name }} --overwrite carpool/look="$(date +%s)"
What is in force, what was rejected and why:
  kubectl --namespace {{ .Release.Namespace }} port-forward POD {{ $port }} & curl localhost:{{ $port }}/config
A new port or address replaces the pods, which this chart's checksum annotation brings about.
{{- end }}
