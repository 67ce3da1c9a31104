#!/usr/bin/env bash
# Ends only what up.sh started (pid and time of start are compared), then its containers, mounts, bridges and rules.
# The images stay for the next time; --purge removes all state (what build.sh built stays: rm -r names it).
set -uo pipefail
. "$(dirname "$0")/node.sh"
programs=$("$here/build.sh" --have) || programs=
ctr="ctr -a $socket -n k8s.io"
clean() { "$@" 2>/dev/null || true; }

for name in kubelet kube-scheduler kube-controller-manager; do stop $name; done
if runs containerd && [ -S "$socket" ]; then
  for task in $($ctr tasks ls -q 2>/dev/null); do clean $ctr tasks kill -s SIGKILL "$task"; done
  for _ in $(seq 50); do [ -n "$($ctr tasks ls 2>/dev/null | grep RUNNING)" ] || break; sleep 0.1; done
  for task in $($ctr tasks ls -q 2>/dev/null); do clean $ctr tasks rm -f "$task" >/dev/null; done
  for container in $($ctr containers ls -q 2>/dev/null); do clean $ctr containers rm "$container" >/dev/null; done
fi
for name in kube-router kube-proxy kube-apiserver etcd containerd; do stop $name; done

for mount in $(awk '{print $2}' /proc/mounts | grep "^$state/" | sort -r); do umount -l "$mount"; done
if ip link show canopy-node >/dev/null 2>&1; then
  # Namespaces that CNI made have a leg on our bridge: a name with our prefix alone would not say whose it is.
  for space in $(ip netns list 2>/dev/null | awk '/^cni-/{print $1}'); do
    clean ip netns exec "$space" ip -4 addr show dev eth0 | grep -q "inet ${pods%.*}." && ip netns del "$space"
  done
  clean ip link del canopy-pods; ip link del canopy-node
  [ -z "$programs" ] || clean "$programs/kube-proxy" --cleanup >/dev/null
  # Rules of ours alone are taken out, one by one: an engine beside us keeps its own.
  for table in filter nat mangle raw; do
    ours='KUBE-|CNI-|'${pods%.*/*}'\.'
    clean iptables-save -t $table | awk -v ours="$ours" '
      /^\*/ {print} /^:/ {split(substr($1, 2), w, " "); if (w[1] ~ /^(KUBE-|CNI-)/) chains[++n] = w[1]}
      /^-A/ && $0 ~ ours {sub(/^-A/, "-D"); print} /^COMMIT/ {for (i = 1; i <= n; i++) print "-X " chains[i]; print}
    ' >"$state/rules" && clean iptables-restore --noflush "$state/rules"
  done
  for set in $(clean ipset list -n | grep -E '^(inet6:)?(KUBE-|kube-router)'); do clean ipset destroy "$set"; done
  [ ! -f "$state/ip_forward" ] || cat "$state/ip_forward" >/proc/sys/net/ipv4/ip_forward
fi
for part in "" /cpu /cpuacct /cpuset /memory /devices /freezer /blkio /pids /systemd /unified /hugetlb /net_cls /perf_event; do
  [ ! -d "/sys/fs/cgroup$part/kubepods" ] || find "/sys/fs/cgroup$part/kubepods" -depth -type d -exec rmdir {} \; 2>/dev/null
done
rm -rf "$state"/{etcd,kubelet,ipam,pod-logs,containerd-run,pki,cni,kubeconfig,pids,volumes}
[ "${1:-}" != --purge ] || rm -rf "$state"
exit 0
