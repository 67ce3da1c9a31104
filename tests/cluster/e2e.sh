#!/usr/bin/env bash
# `make cluster-e2e`: brings the images into the cluster (ours, or that of KUBECONFIG) and tells the stories of this folder.
# Arguments go to pytest. What is missing is said in one line.
set -euo pipefail
. "$(dirname "$0")/node.sh"
images=(cloudhub devicecontroller edgecontroller edge cli light nats redis identity spire_integration spire-server spire-agent)
python=${PYTHON:-$here/../../.venv/bin/python}

"$here/../spire/build.sh" --have >/dev/null || { echo "SPIRE is not built here: bash tests/spire/build.sh (10 minutes, once), then make images" >&2; exit 1; }
line=$("$here/up.sh")
eval "$line"
programs=$("$here/build.sh" --have || true)
[ -z "$programs" ] || export PATH=$programs:$PATH
command -v kubectl >/dev/null || { echo "no kubectl here: apt-get install kubernetes-client, or tests/cluster/build.sh" >&2; exit 1; }
if [ "$KUBECONFIG" = "$kubeconfig" ]; then "$here/load.sh" $(printf "canopy/%s:dev " "${images[@]}")
else echo "the nodes of this cluster must have the images canopy/{$(IFS=,; echo "${images[*]}")}:dev" >&2; fi
exec "$python" -m pytest -m cluster "$here" "$@"
