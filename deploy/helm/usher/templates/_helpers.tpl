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

{{- /* The settings file: config, the certificate of tls.existingSecret, and the folder for bans. */ -}}
{{- define "usher.settings" -}}
{{- $config := deepCopy .Values.config }}
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
