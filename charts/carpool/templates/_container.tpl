{{/*
The sidecar itself. Every way of adding it is made from this one file: the two templates below, the
injector's policy, the kustomize components and `carpool inject`.
*/}}

{{/*
The memory limit that the limits of the configuration imply, in Mi: 32 for the process, its HTTP
threads and the prepared statements; 16 KiB for each client that may come, 64 KiB with TLS; 64 KiB
for each server that the pools may open. Rounded up to a power of two, from 64 Mi: the limit stands in
the pod's template, so a limit that followed each size would restart the pods that a new size must not.
Clients that read nothing or ask for megabytes may take more than that; the sidecar knows its limit and
refuses, then closes some, before it is reached.
*/}}
{{- define "carpool.memoryLimit" -}}
{{- $config := .Values.carpool.config | default dict -}}
{{- $listen := include "carpool.section" (dict "root" . "name" "listen") | fromJson -}}
{{- $pool := include "carpool.section" (dict "root" . "name" "pool") | fromJson -}}
{{- $size := $pool.size | default 20 | int64 -}}
{{- $overflow := $pool.overflow | default 0 | int64 -}}
{{- $servers := 0 -}}
{{- range $config.databases | default (list dict) -}}
{{- $own := .pool | default dict -}}
{{- $servers = add $servers ($own.size | default $size) ($own.overflow | default $overflow) -}}
{{- end -}}
{{- $perClient := ternary 16 64 (eq (($listen.tls | default dict).mode | default "disable") "disable") -}}
{{- $kib := add (mul 32 1024) (mul ($listen.clientsMax | default 1000 | int64) $perClient) (mul $servers 64) -}}
{{- $limit := 64 -}}
{{- range until 20 -}}
{{- if lt (mul $limit 1024) $kib -}}{{- $limit = mul $limit 2 -}}{{- end -}}
{{- end -}}
{{- $limit -}}Mi
{{- end }}

{{- define "carpool.containerBody" -}}
{{- $values := .Values.carpool -}}
name: carpool
image: {{ include "carpool.image" . | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args: ["run", "--config", "{{ include "carpool.configDirectory" . }}/carpool.yaml"]
{{- with $values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: carpool-admin
    containerPort: {{ include "carpool.adminPort" . }}
    protocol: TCP
startupProbe:
  httpGet: {path: /startupz, port: carpool-admin}
  {{- toYaml $values.probes.startup | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: carpool-admin}
  {{- toYaml $values.probes.liveness | nindent 2 }}
{{- if $values.probes.readiness.enabled }}
readinessProbe:
  httpGet: {path: /readyz, port: carpool-admin}
  {{- toYaml (omit $values.probes.readiness "enabled") | nindent 2 }}
{{- end }}
resources:
  requests:
    {{- toYaml $values.resources.requests | nindent 4 }}
  limits:
    {{- toYaml (merge (dict) ($values.resources.limits | default dict) (dict "memory" (include "carpool.memoryLimit" .))) | nindent 4 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  readOnlyRootFilesystem: true
  runAsGroup: 65532
  runAsNonRoot: true
  runAsUser: 65532
  seccompProfile: {type: RuntimeDefault}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: carpool-config
    mountPath: {{ include "carpool.configDirectory" . }}
    readOnly: true
  - name: carpool-secrets
    mountPath: {{ include "carpool.secretDirectory" . }}
    readOnly: true
  {{- if $values.socket }}
  - name: carpool-socket
    mountPath: {{ include "carpool.socketDirectory" . }}
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/*
For `initContainers:`, as the first entry, so that init containers after it reach the database too.
A native sidecar (Kubernetes 1.29): started before the application, ended after it. It has no
preStop: that would run while the application still drains.
*/}}
{{- define "carpool.initContainer" -}}
{{- include "carpool.check" (dict "root" .) -}}
{{- with fromYaml (include "carpool.containerBody" .) -}}
- {{- toYaml (set . "restartPolicy" "Always") | nindent 2 }}
{{- end }}
{{- end }}

{{/*
For `containers:`, as the first entry, on Kubernetes before 1.29. The kubelet starts the next
container when postStart has returned; at the end everybody gets SIGTERM at once, which is what
`drain.minDelay` is for.
*/}}
{{- define "carpool.container" -}}
{{- include "carpool.check" (dict "root" .) -}}
{{- $wait := dict "exec" (dict "command" (list "/carpool" "wait" "--timeout" "60s" "--admin" (printf "127.0.0.1:%s" (include "carpool.adminPort" .)))) -}}
{{- with fromYaml (include "carpool.containerBody" .) -}}
- {{- toYaml (set . "lifecycle" (dict "postStart" $wait)) | nindent 2 }}
{{- end }}
{{- end }}

{{/*
For `volumes:`. The ConfigMap is not optional: a name that does not exist leaves the pod pending
with an event that says so, instead of a sidecar with defaults.
*/}}
{{- define "carpool.volumes" -}}
{{- $values := .Values.carpool -}}
- name: carpool-config
  configMap:
    name: {{ include "carpool.configMapName" . | quote }}
- name: carpool-secrets
  secret:
    secretName: {{ include "carpool.secretName" . | quote }}
    defaultMode: {{ $values.secret.defaultMode | int }}
    optional: {{ not $values.secret.name }}
{{- if $values.socket }}
- name: carpool-socket
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
