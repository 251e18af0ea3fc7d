{{- define "session-service.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all resources; 55 characters leave room for "-metrics". */}}
{{- define "session-service.fullname" -}}
{{- $name := include "session-service.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 55 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "session-service.selectorLabels" -}}
app.kubernetes.io/name: {{ include "session-service.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "session-service.labels" -}}
{{ include "session-service.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "session-service.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "session-service.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "session-service.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The settings with a key in the Secret, as JSON, e.g. {"REDIS_URL": "redis-url"}. */}}
{{- define "session-service.secretKeys" -}}
{{- if .Values.embeddedStore.enabled }}
{{- omit .Values.secret.keys "REDIS_URL" | toJson }}
{{- else }}
{{- toJson .Values.secret.keys }}
{{- end }}
{{- end }}

{{/* The names of the Service and the Ingress, if neither access control nor a setting makes them needless. */}}
{{- define "session-service.allowedHosts" -}}
{{- if not (or (eq (get .Values.env "AUTH") "on") (hasKey .Values.env "ALLOWED_HOSTS")) }}
{{- $service := printf "%s.%s" (include "session-service.fullname" .) .Release.Namespace }}
{{- $hosts := list $service (printf "%s.svc" $service) (printf "%s.svc.cluster.local" $service) }}
{{- if .Values.ingress.enabled }}
{{- $hosts = concat $hosts .Values.ingress.hosts }}
{{- end }}
{{- join "," $hosts }}
{{- end }}
{{- end }}

{{/* Fail if the values contradict each other, which the schema cannot express. */}}
{{- define "session-service.check" -}}
{{- if not (or .Values.embeddedStore.enabled .Values.secret.keys.REDIS_URL) }}
{{- fail "there is no store: name the key of its URL in secret.keys.REDIS_URL, or set embeddedStore.enabled" }}
{{- end }}
{{- if and .Values.embeddedStore.enabled .Values.autoscaling.enabled }}
{{- fail "embeddedStore.enabled allows one pod only: set autoscaling.enabled to false" }}
{{- end }}
{{- range $name := list "PORT" "METRICS_PORT" "SESSION_DATA_DIR" }}
{{- if hasKey $.Values.env $name }}
{{- fail (printf "env.%s is set by the chart: use service.port, metrics.port or embeddedStore" $name) }}
{{- end }}
{{- end }}
{{- range $name := list "REDIS_URL" "SESSION_WEBHOOKS" "ELIZA_SERVER_AUTH_TOKEN" "JWT_SECRET" "SESSION_TOKEN_SECRET" }}
{{- if hasKey $.Values.env $name }}
{{- fail (printf "env.%s is a secret: put it into the Secret, and name its key in secret.keys.%s" $name $name) }}
{{- end }}
{{- range $.Values.extraEnv }}
{{- if and (eq .name $name) (hasKey . "value") }}
{{- fail (printf "extraEnv: %s is a secret: name its key of the Secret in secret.keys.%s" $name $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- $drain := .Values.env.SESSION_DRAIN_SECONDS | default "8" | float64 }}
{{- $least := addf $drain .Values.preStopSeconds 10 | ceil }}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) $least }}
{{- fail (printf "terminationGracePeriodSeconds must be at least %.0f: preStopSeconds, SESSION_DRAIN_SECONDS, and 10 to close the store" $least) }}
{{- end }}
{{- end }}
