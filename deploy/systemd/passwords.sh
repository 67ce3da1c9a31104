#!/usr/bin/env bash
# passwords.sh NODE HUB:PORT: writes /etc/canopy/leaf.env and edge.env, with passwords of this machine's own for what speaks
# on its leaf, and the node's password at the hub, which it reads from standard input. What is there stays as it is.
# CANOPY_ETC names another folder.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: passwords.sh NODE HUB:PORT < the password of the node at the hub" >&2; exit 2; }
node=$1 hub=$2 etc=${CANOPY_ETC:-/etc/canopy}
for file in leaf.env edge.env; do
  [ ! -e "$etc/$file" ] || { echo "$etc/$file is there: remove it to have new passwords" >&2; exit 1; }
done
[ ! -t 0 ] || printf 'password of %s at the hub: ' "$node" >&2
read -rs password || [ -n "$password" ]
[[ $password =~ ^[A-Za-z][A-Za-z0-9_-]*$ ]] || { echo "that is no password that \`canopy secrets\` made" >&2; exit 1; }
made() { printf p; od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; }  # a letter first: nats-server reads 12e3 as a number
edge=$(made)
umask 027
cat >"$etc/leaf.env.partial" <<E
CANOPY_HUB_URL=nats-leaf://$node:$password@$hub
CANOPY_PASSWORD_EDGE=$edge
$(for user in EDGEHUB METAMANAGER DEVICETWIN MAPPER DEVICES; do echo "CANOPY_PASSWORD_$user=$(made)"; done)
GOMEMLIMIT=96MiB
E
cat >"$etc/edge.env" <<E
CANOPY_NODE_NAME=$node
CANOPY_NATS_URL=nats://127.0.0.1:4222
CANOPY_NATS_USER=edge
CANOPY_NATS_PASSWORD=$edge
CANOPY_HEALTH_LISTEN=127.0.0.1:8081
E
mv "$etc/leaf.env.partial" "$etc/leaf.env"
echo "written: $etc/leaf.env, $etc/edge.env"
