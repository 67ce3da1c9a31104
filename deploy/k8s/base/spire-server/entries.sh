#!/bin/sh
# Registers what must be known before spire_integration can run: itself, and the hub; it keeps all others, and the hub. Beside the
# SPIRE server, by its socket; again and again, since a server may have lost everything.
# $ENTRIES_FILE has a line for each: its path in $TRUST_DOMAIN, `parent:PATH`, selectors (unix:gid:1), `dns:NAME`, `ttl:SECONDS`; `node`: it
# names agents. Lines may be added at any time.
set -eu
socket=/run/spire/server/api.sock
trap exit TERM INT

keep() { # PATH WORD...
  id=spiffe://$TRUST_DOMAIN/$1; shift
  if ! spire-server entry show -socketPath $socket -spiffeID "$id" | grep -q '^Found 0'; then return; fi
  options=""
  for word in "$@"; do
    case $word in
      node) options="$options -node" ;;
      parent:*) options="$options -parentID spiffe://$TRUST_DOMAIN/${word#parent:}" ;;
      ttl:*) options="$options -x509SVIDTTL ${word#ttl:}" ;;
      dns:*) options="$options -dns ${word#dns:}" ;;
      *) options="$options -selector $word" ;;
    esac
  done
  # shellcheck disable=SC2086 # none of these words has spaces
  spire-server entry create -socketPath $socket -spiffeID "$id" $options
}

while :; do
  if spire-server healthcheck -socketPath $socket >/dev/null 2>&1; then
    while read -r line; do
      # shellcheck disable=SC2086
      [ -z "$line" ] || keep $line || echo "not registered yet: $line" >&2
    done <"$ENTRIES_FILE"
    pause=30
  else
    pause=1
  fi
  sleep $pause & wait $!
done
