#!/usr/bin/env bash
# The namespaces, and what the overlay dev wants before: keys, passwords, whom SPIRE knows. What is there stays. Every node that
# is labelled for an edge may connect; leaves reach the hub through the Deployment `link`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
label=node.canopy.dev/runs-edge=true
kubectl apply -k "$root/deploy/k8s/base/namespaces"
nodes=$(kubectl get nodes -l "$label" -o 'jsonpath={.items[*].metadata.name}')
[ -n "$nodes" ] || echo "no node bears the label $label, so no edge runs: kubectl label node NAME $label" >&2
"$root/.venv/bin/canopy" secrets --hub-names link.canopy | kubectl apply -f -
