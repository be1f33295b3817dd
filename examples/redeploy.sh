#!/usr/bin/env bash
# Replace a lost passive node with curl. `eval "$(./dev vcha lab env)"` sets the variables.
set -euo pipefail

TOKEN=$(curl -sS --cacert "$CA" -u "$VCHA_USER:$PASSWORD" -X POST "$API/api/session" | tr -d '"')

TASK=$(curl -sS --cacert "$CA" -H "vmware-api-session-id: $TOKEN" -H 'Content-Type: application/json' \
  -X POST "$API/api/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true" \
  -d '{"placement": {"name": "passive-2", "folder": "group-v3"}}' | tr -d '"')

curl -sS --cacert "$CA" -H "vmware-api-session-id: $TOKEN" "$API/api/cis/tasks/$TASK"

curl -sS --cacert "$CA" -H "vmware-api-session-id: $TOKEN" -H 'Content-Type: application/json' \
  -X POST "$API/api/vcenter/vcha/cluster?action=get" -d '{"partial": true}'
