{{- /* Labels of every object. */ -}}
{{- define "taskfleet.labels" -}}
app.kubernetes.io/name: taskfleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- /* What selects the pods of a part; never changes, because a Deployment's selector can't. Takes (dict "root" $ "part" "gateway"). */ -}}
{{- define "taskfleet.selector" -}}
app.kubernetes.io/name: taskfleet
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}
