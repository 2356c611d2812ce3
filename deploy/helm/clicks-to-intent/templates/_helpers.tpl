{{- define "streamer.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "streamer.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "streamer.labels" -}}
app.kubernetes.io/name: clicks-to-intent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "streamer.selector" -}}
app.kubernetes.io/name: clicks-to-intent
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "streamer.toml" -}}
{{- range $section, $keys := .Values.settings }}
{{- range $key, $value := $keys }}
{{- if and (kindIs "map" $value) (ne $section "llm") }}
[{{ $section }}.{{ $key }}]
{{- range $inner, $each := $value }}
{{ $inner }} = {{ $each | toJson }}
{{- end }}
{{- end }}
{{- end }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{ end -}}
{{- end -}}

{{/* What every pod has: no rights, nothing that it could write to but two empty folders. */}}
{{- define "streamer.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "streamer.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "streamer.env" -}}
{{- range $setting, $_ := .Values.secrets }}
- name: STREAMER_{{ $setting | replace "." "__" | upper }}_FILE
  value: /run/secrets/streamer/{{ $setting }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "streamer.mounts" -}}
- {name: settings, mountPath: /etc/streamer, readOnly: true}
- {name: home, mountPath: /home/streamer}
- {name: tmp, mountPath: /tmp}
{{- if .Values.secrets }}
- {name: secrets, mountPath: /run/secrets/streamer, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of the ConfigMap that is named. */}}
{{- define "streamer.volumes" -}}
- name: settings
  configMap: {name: {{ .settings }}}
- name: home
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- if .root.Values.secrets }}
- name: secrets
  projected:
    sources:
      {{- range $setting, $from := .root.Values.secrets }}
      - secret:
          name: {{ $from.name }}
          items: [{key: {{ $from.key }}, path: {{ $setting }}}]
      {{- end }}
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "streamer.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: {{ .port }}}
  periodSeconds: 5
  failureThreshold: 24
livenessProbe:
  httpGet: {path: /livez, port: {{ .port }}}
  periodSeconds: 20
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: {{ .port }}}
  periodSeconds: 10
{{- end -}}
