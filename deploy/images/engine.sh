#!/usr/bin/env bash
# Makes sure that a container engine answers: `docker info`. If none does and we are root on Debian, docker.io is
# installed where it is missing (and iptables, which it needs), and dockerd is started; it stays. Its log: $CANOPY_ENGINE_LOG or /tmp/dockerd.log.
#   engine.sh           ensures it
#   engine.sh --check   only says, in one line, what is missing
set -euo pipefail
docker=${DOCKER:-docker}
log=${CANOPY_ENGINE_LOG:-/tmp/dockerd.log}
wait_seconds=120
pid_files=(/var/run/docker.pid /var/run/docker/containerd/containerd.pid)

# Whether the process that a file names is of that name: after an end by force it names nobody, or anybody.
lives() { local pid; read -r pid 2>/dev/null <"$1" || [ -n "${pid:-}" ] || return 1; [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; }
answers() { command -v "$docker" >/dev/null && "$docker" info >/dev/null 2>&1; }
fail() { echo "no container engine: $1" >&2; exit 1; }

answers && exit 0
if [ "${1:-}" = --check ]; then
  fail "\`$docker info\` fails. Install Docker and start it; on Debian as root, deploy/images/engine.sh does both"
fi
[ "$(id -u)" = 0 ] || fail "\`$docker info\` fails, and only root can start one. Install Docker, or join its group"
if ! command -v dockerd >/dev/null || ! command -v iptables >/dev/null; then  # docker.io only recommends iptables
  command -v apt-get >/dev/null || fail "there is no dockerd or no iptables, and no apt-get to install it with. Install Docker"
  echo "== installing docker.io and iptables" >&2
  { apt-get update -qq || true; DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq \
    --no-install-recommends docker.io iptables; } >"$log" 2>&1 || fail "apt-get could not install docker.io; see $log"
fi
if lives "${pid_files[0]}" dockerd; then
  echo "== a dockerd is starting already" >&2
  pid=$(cat "${pid_files[0]}")
else
  lives "${pid_files[1]}" containerd || rm -f "${pid_files[1]}"  # else it would wait for whoever has that number now
  rm -f "${pid_files[0]}"
  echo "== starting dockerd (log: $log)" >&2
  setsid nohup dockerd >>"$log" 2>&1 </dev/null &
  pid=$!
fi
for _ in $(seq $((wait_seconds * 5))); do
  answers && exit 0
  kill -0 "$pid" 2>/dev/null || lives "${pid_files[0]}" dockerd || fail "dockerd ended at once; see $log"
  sleep 0.2
done
fail "dockerd did not answer within $wait_seconds s; see $log"
