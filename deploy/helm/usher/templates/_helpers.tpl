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

{{- /* How many nodes a manifest says. With autoscaling empty where the autoscaler alone says it, so that an upgrade or a rollback keeps
its number. But Helm removes a number that the former manifest had, which Kubernetes takes for 1: then it is that of the nodes that run,
of either kind, since state.persistent may change. Nodes are known only where Helm asks Kubernetes, which helm template does not. */ -}}
{{- define "usher.replicas" -}}
{{- if .Values.autoscaling.enabled }}
{{- $name := include "usher.name" . }}
{{- $running := lookup "apps/v1" (include "usher.kind" .) .Release.Namespace $name }}
{{- if not $running }}
{{- $running = lookup "apps/v1" (ternary "Deployment" "StatefulSet" .Values.state.persistent) .Release.Namespace $name }}
{{- else if include "usher.isAutoscaled" (dict "running" $running "helm" .Capabilities.HelmVersion.Version) }}
{{- $running = dict }}
{{- end }}
{{- with $running.spec }}{{ .replicas }}{{ end }}
{{- else }}
{{- .Values.replicas }}
{{- end }}
{{- end }}

{{- /* Whether nodes keep their number if the manifest has none. Where Helm merges manifests itself, the former one must have had none: it has
the annotation then. Server-side apply, which Helm 3 lacks, removes a number only if nobody but Helm has set it. */ -}}
{{- define "usher.isAutoscaled" -}}
{{- $metadata := .running.metadata }}
{{- $isApplied := false }}
{{- $isScaled := false }}
{{- range $metadata.managedFields }}
{{- $fields := .fieldsV1 | default dict }}
{{- if eq (.subresource | default "") "scale" }}
{{- $isScaled = or $isScaled (hasKey (dig "f:spec" dict $fields) "f:replicas") }}
{{- else if eq .operation "Apply" }}
{{- $isApplied = or $isApplied (hasKey (dig "f:metadata" "f:annotations" dict $fields) "f:meta.helm.sh/release-name") }}
{{- end }}
{{- end }}
{{- if or (hasKey ($metadata.annotations | default dict) "usher/autoscaled") (and $isApplied $isScaled (not (hasPrefix "v3." .helm))) }}true{{ end }}
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
