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
