#!/usr/bin/env bash
# load.sh FILE.tar | IMAGE...: brings images into the cluster that `make cluster` started: of an archive, or of the local
# engine (Docker, Podman). What is there already with the same id is left. Use imagePullPolicy Never: nothing is pulled.
set -euo pipefail
. "$(dirname "$0")/node.sh"
engine=${CANOPY_ENGINE:-$(command -v docker || command -v podman || true)}
import() { ctr -a "$socket" -n k8s.io images import "$1" >/dev/null; }
here_is() { ctr -a "$socket" -n k8s.io images ls -q 2>/dev/null | grep -xF -e "$1" -e "docker.io/$1" -e "localhost/$1" >/dev/null; }
mark() { echo "$state/loaded/$(tr / _ <<<"$1")"; }

mkdir -p "$state/loaded"
wanted=()  # together: layers that they share go once
declare -A ids
for image in "$@"; do
  if [ -f "$image" ]; then
    ids[$image]=$(sha256sum "$image" | cut -d' ' -f1)
  else
    [ -n "$engine" ] || { echo "no container engine here to take $image from: deploy/images/engine.sh brings one" >&2; exit 1; }
    ids[$image]=$("$engine" image inspect --format '{{.Id}}' "$image" 2>/dev/null) || { echo "no image $image here: make images" >&2; exit 1; }
  fi
  # A mark alone proves nothing: a kubelet whose disk is full removes images.
  if [ "$(cat "$(mark "$image")" 2>/dev/null)" = "${ids[$image]}" ] && { [ -f "$image" ] || here_is "$image"; }; then continue; fi
  if [ -f "$image" ]; then import "$image"; echo "${ids[$image]}" >"$(mark "$image")"; else wanted+=("$image"); fi
done
[ ${#wanted[@]} -gt 0 ] || exit 0
# Layers of an older image of that name may be collected while the new one, which shares them, is unpacked on top of them
# (containerd 1.6: "parent snapshot does not exist"): the next try unpacks them anew.
all() { "$engine" save "${wanted[@]}" | import -; }
all || all || all
for image in "${wanted[@]}"; do echo "${ids[$image]}" >"$(mark "$image")"; done
