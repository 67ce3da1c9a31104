# What up.sh, load.sh and down.sh share: where things are, and how a process is started and ended. Sourced, not run.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CANOPY_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/canopy-cluster}
state=$cache/node                       # all that a running cluster keeps
kubeconfig=$state/kubeconfig
socket=$state/containerd.sock
node_ip=10.245.0.1                      # outside the ranges that Docker takes for its networks (172.16/12, 192.168/16)
api=https://$node_ip:6443
pods=10.244.0.0/24
services=10.96.0.0/16
cni=${CNI_BIN:-/usr/lib/cni}

began() { awk '{print $22}' "/proc/$1/stat" 2>/dev/null; }
state_of() { awk '{print $3}' "/proc/$1/stat" 2>/dev/null; }

start() {  # NAME COMMAND...: in a session of its own; its pid and the time it began are kept, so that only it is ended
  local name=$1; shift
  setsid "$@" >"$state/logs/$name.log" 2>&1 </dev/null &
  echo "$! $(began $!)" >"$state/pids/$name"
}

runs() {  # NAME: whether what we started under it still runs
  local pid at
  [ -f "$state/pids/$1" ] && read -r pid at <"$state/pids/$1" && [ "$(began "$pid")" = "$at" ] && [ "$(state_of "$pid")" != Z ]
}

stop() {  # NAME: SIGTERM, SIGKILL after 10 s
  local pid _
  if runs "$1"; then
    read -r pid _ <"$state/pids/$1"; kill "$pid"
    for _ in $(seq 100); do runs "$1" || break; sleep 0.1; done
    ! runs "$1" || kill -9 "$pid"
  fi
  rm -f "$state/pids/$1"
}
