{{- define "wattroam.environment" -}}
- {name: WATTROAM_ENVIRONMENT, value: production}
- {name: WATTROAM_EVENT_LOG, value: kafka}
- {name: WATTROAM_KAFKA_BOOTSTRAP, value: {{ .Values.kafkaBootstrap | quote }}}
- {name: WATTROAM_PUBLIC_URL, value: {{ required "publicURL: how counterparties reach us" .Values.publicURL | quote }}}
- {name: WATTROAM_BUSINESS_URL, value: "http://{{ .Release.Name }}-business:8080"}
- {name: WATTROAM_GATEWAY_API_URL, value: "http://{{ .Release.Name }}-gateway:8888"}
- {name: WATTROAM_SETTLEMENT_URL, value: "http://{{ .Release.Name }}-settlement:8081"}
- {name: WATTROAM_BUSINESS_HOST, value: "0.0.0.0"}
- {name: WATTROAM_GATEWAY_HOST, value: "0.0.0.0"}
- {name: WATTROAM_SETTLEMENT_HOST, value: "0.0.0.0"}
- {name: WATTROAM_RUN_FOLDER, value: /tmp/run}
- name: WATTROAM_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secretName }}, key: database-url}}
- name: WATTROAM_INTERNAL_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.secretName }}, key: internal-token}}
- name: WATTROAM_MASTER_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.secretName }}, key: master-key}}
{{- end }}

{{- define "wattroam.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}
