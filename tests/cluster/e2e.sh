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
if [ "$KUBECONFIG" = "$kubeconfig" ]; then
  # Where images can be pulled, `make images` makes no Redis: the one of the manifests gets the name that the overlay gives.
  engine=${CANOPY_ENGINE:-$(command -v docker || command -v podman || true)}
  lent=
  if [ -n "$engine" ] && ! "$engine" image inspect canopy/redis:dev >/dev/null 2>&1; then
    redis=$(sed -n 's/^ *image: \(redis:.*\)$/\1/p' "$here/../../deploy/k8s/base/redis/workload.yaml")
    "$engine" pull --quiet "$redis" >/dev/null && "$engine" tag "$redis" canopy/redis:dev && lent=1
  fi
  "$here/load.sh" $(printf "canopy/%s:dev " "${images[@]}")
  [ -z "$lent" ] || "$engine" rmi canopy/redis:dev >/dev/null  # the name alone: `make e2e` starts the two differently
else echo "the nodes of this cluster must have the images canopy/{$(IFS=,; echo "${images[*]}")}:dev" >&2; fi
exec "$python" -m pytest -m cluster "$here" "$@"
