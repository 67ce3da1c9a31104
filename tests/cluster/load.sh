#!/usr/bin/env bash
# load.sh FILE.tar | IMAGE...: brings images into the cluster that `make cluster` started: of an archive, or of the local
# engine (Docker, Podman). What is there already with the same id is left. Use imagePullPolicy Never: nothing is pulled.
set -euo pipefail
. "$(dirname "$0")/node.sh"
engine=${CANOPY_ENGINE:-$(command -v docker || command -v podman || true)}

mkdir -p "$state/loaded"
for image in "$@"; do
  if [ -f "$image" ]; then
    id=$(sha256sum "$image" | cut -d' ' -f1)
  else
    [ -n "$engine" ] || { echo "no container engine here to take $image from: apt-get install docker.io" >&2; exit 1; }
    id=$("$engine" image inspect --format '{{.Id}}' "$image" 2>/dev/null) || { echo "no image $image here: make images" >&2; exit 1; }
  fi
  mark=$state/loaded/$(tr / _ <<<"$image")
  [ "$(cat "$mark" 2>/dev/null)" != "$id" ] || continue
  if [ -f "$image" ]; then ctr -a "$socket" -n k8s.io images import "$image"
  else "$engine" save "$image" | ctr -a "$socket" -n k8s.io images import -; fi >/dev/null
  echo "$id" >"$mark"
done
