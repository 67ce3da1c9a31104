#!/usr/bin/env bash
# pki.sh FOLDER NODE_IP API_URL: an authority, and every certificate and kubeconfig of the cluster. Again: nothing.
set -euo pipefail
ip=$2; api=$3
mkdir -p "$1"; cd "$1"
[ ! -f done ] || exit 0
umask 077

key() { openssl ecparam -genkey -name prime256v1 -noout -out "$1.key" 2>/dev/null; }
authority() {  # NAME COMMON_NAME
  key "$1"
  openssl req -x509 -new -key "$1.key" -days 3650 -subj "/CN=$2" -out "$1.crt" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
}
certificate() {  # NAME AUTHORITY SUBJECT USE [NAMES]
  key "$1"
  { echo basicConstraints=CA:FALSE; echo keyUsage=critical,digitalSignature; echo "extendedKeyUsage=$4"
    [ -z "${5:-}" ] || echo "subjectAltName=$5"; } >"$1.ext"
  openssl req -new -key "$1.key" -subj "$3" |
    openssl x509 -req -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 365 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.ext"
}
kubeconfig() {  # NAME
  cat >"$1.conf" <<Y
apiVersion: v1
kind: Config
clusters: [{name: canopy, cluster: {server: "$api", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: canopy, context: {cluster: canopy, user: $1}}]
current-context: canopy
Y
}

authority ca canopy-cluster; authority front canopy-front-proxy
openssl genrsa -out accounts.key 2048 2>/dev/null; openssl rsa -in accounts.key -pubout -out accounts.pub 2>/dev/null
own=DNS:kubernetes
for name in kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local localhost; do own=$own,DNS:$name; done
certificate apiserver ca /CN=kube-apiserver serverAuth "$own,IP:127.0.0.1,IP:10.96.0.1,IP:$ip"
certificate kubelet-server ca /O=system:nodes/CN=system:node:canopy-node serverAuth "DNS:canopy-node,IP:$ip"
certificate apiserver-kubelet ca /O=canopy:kubelet-clients/CN=kube-apiserver-kubelet-client clientAuth
certificate front-client front /CN=front-proxy-client clientAuth
certificate admin ca /O=system:masters/CN=admin clientAuth
certificate manager ca /CN=system:kube-controller-manager clientAuth
certificate scheduler ca /CN=system:kube-scheduler clientAuth
certificate proxy ca /CN=system:kube-proxy clientAuth
certificate kubelet ca /O=system:nodes/CN=system:node:canopy-node clientAuth
for name in admin manager scheduler proxy kubelet; do kubeconfig $name; done
touch done
