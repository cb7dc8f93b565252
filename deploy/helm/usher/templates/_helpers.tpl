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

{{- /* The settings file: config, and the certificate of tls.existingSecret. */ -}}
{{- define "usher.settings" -}}
{{- $config := deepCopy .Values.config }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $config "tls" (dict "cert_file" "/etc/usher/tls/tls.crt" "key_file" "/etc/usher/tls/tls.key") }}
{{- end }}
{{- $redis := dig "cluster" "redis" "addresses" list $config }}
{{- $nodes := ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled }}
{{- if and (gt (int $nodes) 1) (not $redis) }}
{{- fail "config.cluster.redis.addresses: none; several nodes share sessions through Redis: set it, or replicas: 1 without autoscaling" }}
{{- end }}
{{- toYaml $config }}
{{- end }}
