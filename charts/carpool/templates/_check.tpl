{{/*
What can be seen to be wrong before anything runs: (dict "root" . "ports" (list 8080)), where
`ports` are those that the application's own containers listen on. Renders nothing.
*/}}
{{- define "carpool.check" -}}
{{- $root := .root -}}
{{- $own := dict (include "carpool.listenPort" $root) "config.listen.port" (include "carpool.adminPort" $root) "config.admin.port" (include "carpool.controlPort" $root) "config.admin.controlPort" -}}
{{- if ne (len $own) 3 -}}
{{- fail (printf "carpool: config.listen.port, config.admin.port and config.admin.controlPort must differ, got %s, %s and %s" (include "carpool.listenPort" $root) (include "carpool.adminPort" $root) (include "carpool.controlPort" $root)) -}}
{{- end -}}
{{- range .ports -}}
{{- if hasKey $own (toString .) -}}
{{- fail (printf "carpool: port %s is used by the application and by carpool.%s; containers of a pod share one network, so give carpool.%s another value" (toString .) (get $own (toString .)) (get $own (toString .))) -}}
{{- end -}}
{{- end -}}
{{- $drain := include "carpool.section" (dict "root" $root "name" "drain") | fromJson -}}
{{- $needed := add (include "carpool.seconds" ($drain.timeout | default "25s") | int64) (include "carpool.seconds" ($drain.minDelay | default "0s") | int64) -}}
{{- $grace := $root.Values.carpool.terminationGracePeriodSeconds | int64 -}}
{{- if lt $grace (add $needed 2) -}}
{{- fail (printf "carpool: terminationGracePeriodSeconds is %d, but config.drain may take %d s (minDelay and timeout) and needs 2 s more to close: raise it to %d or lower config.drain.timeout" $grace $needed (add $needed 2)) -}}
{{- end -}}
{{- end }}

{{/*
What the sidecar would refuse of `config` and values.schema.json cannot say, since a schema does not
compare: helm lint lets it pass, and every other helm command says it. A value that comes from the
environment (`${VAR}`) is left to the sidecar. Renders nothing.
*/}}
{{- define "carpool.checkConfig" -}}
{{- $values := .Values.carpool -}}
{{- $config := $values.config | default dict -}}
{{- $pool := $config.pool | default dict -}}
{{- $pools := dict "pool" $pool -}}
{{- $server := $config.server | default dict -}}
{{- $servers := ternary (dict "server" $server) dict (empty $config.databases) -}}
{{- range $i, $database := $config.databases | default list -}}
{{- $_ := set $pools (printf "databases[%d].pool" $i) (merge (dict) ($database.pool | default dict) $pool) -}}
{{- $_ := set $servers (printf "databases[%d].server" $i) (merge (dict) ($database.server | default dict) $server) -}}
{{- end -}}
{{- range $path, $one := $pools -}}
{{- if not (contains "$" (printf "%v%v" $one.size $one.minIdle)) -}}
{{- if gt ($one.minIdle | default 0 | int64) ($one.size | default 20 | int64) -}}
{{- fail (printf "carpool.config.%s.minIdle (%v) is more than size (%v)" $path $one.minIdle ($one.size | default 20)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (or $values.env $values.envFrom) -}}
{{- range $path, $one := $servers -}}
{{- if not (or $one.host $one.url) -}}
{{- fail (printf "carpool.config.%s names no server: set its host or its url, or DATABASE_URL or PGHOST in carpool.env" $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $drain := $config.drain | default dict -}}
{{- if gt (include "carpool.seconds" ($drain.minDelay | default "0s") | int64) (include "carpool.seconds" ($drain.timeout | default "25s") | int64) -}}
{{- fail (printf "carpool.config.drain.minDelay (%s) is longer than drain.timeout (%s)" $drain.minDelay ($drain.timeout | default "25s")) -}}
{{- end -}}
{{- end }}
