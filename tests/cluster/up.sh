#!/usr/bin/env bash
# Brings up a real one-node Kubernetes on this machine, beside any container engine: `make cluster`. As root, on Linux.
# Again: says that it is up. KUBECONFIG names another cluster: that one is used, and nothing is started.
set -euo pipefail
. "$(dirname "$0")/node.sh"
t0=$(date +%s%N)

say() { printf '%6.1f s  %s\n' "$(($(date +%s%N) - t0))e-9" "$*" >&2; }
fail() { echo "$*" >&2; exit 1; }
until_so() {  # WHAT SECONDS COMMAND...
  local what=$1 end=$((SECONDS + $2)); shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { tail -n 4 "$state"/logs/*.log >&2; fail "not in time: $what (logs: $state/logs)"; }
    sleep 0.1
  done
  say "$what"
}

if [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$kubeconfig" ]; then
  kubectl get --raw /readyz >/dev/null || fail "KUBECONFIG=$KUBECONFIG: that cluster does not answer"
  echo "export KUBECONFIG=$KUBECONFIG"
  exit 0
fi
[ "$(uname)" = Linux ] || fail "a cluster of our own needs Linux; name another one: make cluster KUBECONFIG=..."
[ "$(id -u)" = 0 ] || fail "a cluster of our own needs root (sudo make cluster); or name another one: make cluster KUBECONFIG=..."

# --- what it needs ---
need() {  # PACKAGE FILE_OR_COMMAND
  command -v "$2" >/dev/null || [ -e "$2" ] || missing+=("$1")
}
missing=()
need containerd containerd; need containerd ctr; need runc runc; need iptables iptables; need ipset ipset
need conntrack conntrack; need socat socat; need ethtool ethtool; need openssl openssl; need curl curl; need iproute2 ip
need containernetworking-plugins "$cni/bridge"
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || fail "missing: ${missing[*]} (names of Debian's packages)"
  say "installing ${missing[*]}"
  apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
programs=$("$here/build.sh" --node)
k="$programs/kubectl --kubeconfig $kubeconfig"

all="etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kube-router"
up() { for name in $all; do runs "$name" || return 1; done; $k get --raw /readyz >/dev/null 2>&1; }
if up; then say "the cluster is up already"; echo "export KUBECONFIG=$kubeconfig"; exit 0; fi
"$here/down.sh"  # what an end by force may have left
mkdir -p "$state"/{pids,logs,cni,etcd,kubelet}
say "starting"

# The node's address is on a bridge of its own; the route keeps what goes to services off the machine's real interface.
cat /proc/sys/net/ipv4/ip_forward >"$state/ip_forward"
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link add canopy-node type bridge; ip addr add "$node_ip/32" dev canopy-node; ip link set canopy-node up
ip route add "$services" dev canopy-node
"$here/pki.sh" "$state/pki" "$node_ip" "$api"
cp "$state/pki/admin.conf" "$kubeconfig"
pki=$state/pki

# --- the control plane ---
etcd=http://127.0.0.1:12379 peers=http://127.0.0.1:12380
start etcd "$programs/etcd" --name one --data-dir "$state/etcd" --unsafe-no-fsync --listen-client-urls $etcd \
  --advertise-client-urls $etcd --listen-peer-urls $peers --initial-advertise-peer-urls $peers --initial-cluster one=$peers

cat >"$state/containerd.toml" <<Y
version = 2
root = "$state/containerd"
state = "$state/containerd-run"
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "canopy.test/pause:1"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true  # a root without CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$cni"
    conf_dir = "$state/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
Y
# The plugin `firewall` keeps pods reachable where dockerd made DROP the policy of FORWARD.
cat >"$state/cni/10-canopy.conflist" <<Y
{"cniVersion": "0.4.0", "name": "canopy", "plugins": [
  {"type": "bridge", "bridge": "canopy-pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$state/ipam", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}},
  {"type": "firewall", "backend": "iptables"}]}
Y
start containerd containerd --config "$state/containerd.toml"

start kube-apiserver "$programs/kube-apiserver" --etcd-servers=$etcd --advertise-address=$node_ip --bind-address=$node_ip \
  --secure-port=6443 --service-cluster-ip-range=$services --authorization-mode=Node,RBAC --anonymous-auth=false \
  --enable-admission-plugins=NodeRestriction --allow-privileged=true --client-ca-file="$pki/ca.crt" \
  --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
  --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
  --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file="$pki/accounts.pub" \
  --service-account-signing-key-file="$pki/accounts.key" --requestheader-client-ca-file="$pki/front.crt" \
  --requestheader-allowed-names=front-proxy-client --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User \
  --proxy-client-cert-file="$pki/front-client.crt" --proxy-client-key-file="$pki/front-client.key" --enable-aggregator-routing=true

until_so containerd 60 ctr -a "$socket" version
for name in pause coredns; do "$here/load.sh" "$programs/$name.tar"; done
until_so kube-apiserver 180 $k get --raw /readyz
as() { echo "--kubeconfig=$pki/$1.conf --authentication-kubeconfig=$pki/$1.conf --authorization-kubeconfig=$pki/$1.conf"; }
start kube-controller-manager "$programs/kube-controller-manager" $(as manager) --bind-address=127.0.0.1 --secure-port=16257 \
  --leader-elect=false --use-service-account-credentials=true --service-account-private-key-file="$pki/accounts.key" \
  --root-ca-file="$pki/ca.crt" --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
  --service-cluster-ip-range=$services --allocate-node-cidrs=true --cluster-cidr=$pods --node-cidr-mask-size=24 \
  --requestheader-client-ca-file="$pki/front.crt" --node-monitor-grace-period=40s
start kube-scheduler "$programs/kube-scheduler" $(as scheduler) --bind-address=127.0.0.1 --secure-port=16259 --leader-elect=false

# --- the node ---
echo 'nameserver 127.0.0.1' >"$state/resolv.conf"
cat >"$state/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_ip
healthzBindAddress: 127.0.0.1
healthzPort: 16248
readOnlyPort: 0
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /
containerRuntimeEndpoint: unix://$socket
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $state/resolv.conf
tlsCertFile: $pki/kubelet-server.crt
tlsPrivateKeyFile: $pki/kubelet-server.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
podLogsDir: $state/pod-logs
volumePluginDir: $state/volume-plugins
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
serializeImagePulls: false
Y
start kubelet "$programs/kubelet" --config="$state/kubelet.yaml" --kubeconfig="$pki/kubelet.conf" --root-dir="$state/kubelet" \
  --hostname-override=canopy-node --node-ip=$node_ip
cat >"$state/proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $pki/proxy.conf}
hostnameOverride: canopy-node
mode: iptables
clusterCIDR: $pods
bindAddress: 127.0.0.1
healthzBindAddress: 127.0.0.1:16256
metricsBindAddress: 127.0.0.1:16249
nodePortAddresses: [127.0.0.0/8, $node_ip/32]
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
Y
start kube-proxy "$programs/kube-proxy" --config="$state/proxy.yaml"
applied() { $k apply -f "$here/manifests/system.yaml" >"$state/logs/apply.log" 2>&1; }
until_so "what the node needs is declared" 60 applied
until_so node 180 $k wait --for=condition=Ready node/canopy-node --timeout=5s
start kube-router "$programs/kube-router" --kubeconfig="$kubeconfig" --hostname-override=canopy-node --run-firewall=true \
  --run-router=false --run-service-proxy=false --run-loadbalancer=false --service-cluster-ip-range=$services --health-port=0 \
  --metrics-port=0 --iptables-sync-period=5s
until_so CoreDNS 180 $k -n kube-system rollout status deploy/coredns --timeout=5s
for name in $all; do runs "$name" || fail "$name ended: $(tail -n 3 "$state/logs/$name.log")"; done
say "the cluster is up; make cluster-down ends it"
echo "export KUBECONFIG=$kubeconfig"
