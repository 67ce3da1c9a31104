#!/usr/bin/env bash
# Writes requirements/<unit>.txt and requirements/dev.txt from uv.lock: pinned, with hashes, without index addresses.
set -euo pipefail
uv=$1
cd "$(dirname "$0")"
export_to() { local out=$1; shift; "$uv" export --quiet --frozen --no-emit-index-url --no-emit-project --no-header --no-annotate "$@" -o "$out" >/dev/null; }
for unit in cloudhub devicecontroller edgecontroller spire_integration edgehub metamanager devicetwin mapper edgeidentity kubeserve; do
  export_to "$unit.txt" --no-dev --extra "$unit"
done
export_to cli.txt --no-dev --extra cli
export_to edge.txt --no-dev --extra edgehub --extra metamanager --extra devicetwin --extra mapper --extra edgeidentity
export_to identity.txt --no-dev --extra workload_api
export_to dev.txt --extra demo --group dev
echo "uv==$("$uv" --version | cut -d' ' -f2)" | "$uv" pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url -o uv.txt - >/dev/null
