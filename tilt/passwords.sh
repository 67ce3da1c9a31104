#!/usr/bin/env bash
# The namespaces, and the passwords of the overlay dev; what is there stays. Every node labelled for an edge may connect.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
label=node.canopy.dev/runs-edge=true
kubectl apply -k "$root/deploy/k8s/base/namespaces"
nodes=$(kubectl get nodes -l "$label" -o 'jsonpath={.items[*].metadata.name}')
[ -n "$nodes" ] || echo "no node bears the label $label, so no edge runs: kubectl label node NAME $label" >&2
"$root/.venv/bin/canopy" secrets --nodes "${nodes// /,}" | kubectl apply -f -
