{{- define "usher.selector" -}}
app.kubernetes.io/name: usher
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "usher.labels" -}}
{{ include "usher.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "usher.name" -}}
{{- if contains "usher" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ .Release.Name | trunc 44 | trimSuffix "-" }}-usher{{ end }}
{{- end }}

{{- /* Volumes that belong to one node each need a StatefulSet. */ -}}
{{- define "usher.kind" -}}
{{ ternary "StatefulSet" "Deployment" .Values.state.persistent }}
{{- end }}

{{- /* How many nodes. With autoscaling as many as run, or Kubernetes would go down to one when it is enabled; empty before the first
installation, and where nobody asks Kubernetes: helm template. */ -}}
{{- define "usher.replicas" -}}
{{- if .Values.autoscaling.enabled }}
{{- with ((lookup "apps/v1" (include "usher.kind" .) .Release.Namespace (include "usher.name" .)).spec).replicas }}{{ . }}{{ end }}
{{- else }}
{{- .Values.replicas }}
{{- end }}
{{- end }}

{{- /* The port of config.ext_authz.listen, empty without one. */ -}}
{{- define "usher.extAuthzPort" -}}
{{- $port := regexFind "[0-9]*$" ((.Values.config.ext_authz).listen | default "") }}
{{- if has $port (list "8080" "8081") }}
{{- fail (printf "config.ext_authz.listen: port %s is that of listen or admin.listen" $port) }}
{{- end }}
{{- $port }}
{{- end }}

{{- /* Refuses what would end with the pod, unless it may. */ -}}
{{- define "usher.refuseLosses" -}}
{{- $mend := "set state.persistent: true for a volume of each node, or state.mayBeLost: true" }}
{{- $config := .Values.config }}
{{- range $setting, $path := dict
  "config.records.spool.path" (($config.records).spool).path
  "config.records.file.path" (($config.records).file).path
  "config.admin.audit.file" (($config.admin).audit).file
  "config.cluster.state_dir" ($config.cluster).state_dir }}
{{- if $path }}
{{- fail (printf "%s: %s ends with the pod, as with each upgrade: %s" $setting $path $mend) }}
{{- end }}
{{- end }}
{{- if not (($config.cluster).redis).addresses }}
{{- fail (printf "config.cluster.redis.addresses: none, so that all bans end with the pod, as with each upgrade: %s" $mend) }}
{{- end }}
{{- end }}

{{- /* The seconds of a duration such as 1m30s. */ -}}
{{- define "usher.seconds" -}}
{{- $seconds := 0.0 }}
{{- range regexFindAll "[0-9.]+(ms|h|m|s)" (toString .) -1 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (get (dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001) $unit)) }}
{{- end }}
{{- ceil $seconds | int }}
{{- end }}

{{- /* Refuses a drain that Kubernetes would end. The last records and traces are sent in 15 s. */ -}}
{{- define "usher.refuseKilledDrains" -}}
{{- $drain := .Values.config.drain | default dict }}
{{- $delay := $drain.readiness_delay | default "5s" }}
{{- $timeout := $drain.timeout | default "30s" }}
{{- $least := add (include "usher.seconds" $delay) (include "usher.seconds" $timeout) 16 }}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $least) }}
{{- fail (printf "terminationGracePeriodSeconds: %d ends a node before config.drain.readiness_delay=%s and config.drain.timeout=%s: set at least %d"
  (int .Values.terminationGracePeriodSeconds) $delay $timeout $least) }}
{{- end }}
{{- end }}

{{- /* The settings file: config, the certificate of tls.existingSecret, and the folder for bans. */ -}}
{{- define "usher.settings" -}}
{{- $config := deepCopy .Values.config }}
{{- include "usher.refuseKilledDrains" . }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $config "tls" (dict "cert_file" "/etc/usher/tls/tls.crt" "key_file" "/etc/usher/tls/tls.key") }}
{{- end }}
{{- $redis := (($config.cluster).redis).addresses }}
{{- $nodes := ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled }}
{{- if and (gt (int $nodes) 1) (not $redis) }}
{{- fail "config.cluster.redis.addresses: none; several nodes share sessions through Redis: set it, or replicas: 1 without autoscaling" }}
{{- end }}
{{- if or .Values.state.persistent .Values.state.mayBeLost }}
{{- $_ := set $config "cluster" (merge ($config.cluster | default dict) (dict "state_dir" "/var/lib/usher")) }}
{{- else }}
{{- include "usher.refuseLosses" . }}
{{- end }}
{{- toYaml $config }}
{{- end }}
