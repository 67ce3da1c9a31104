#!/usr/bin/env bash
# Makes the light of the overlay dev a Device, on the first node that is labelled for an edge.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
label=node.canopy.dev/runs-edge=true
node=$(kubectl get nodes -l "$label" -o 'jsonpath={.items[0].metadata.name}' 2>/dev/null) || {
  echo "no node bears the label $label: kubectl label node NAME $label" >&2
  exit 1
}
sed "s/NODE/$node/" "$here/../deploy/k8s/components/light/device.yaml" | kubectl apply -f -
