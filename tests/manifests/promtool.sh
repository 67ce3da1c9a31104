#!/usr/bin/env bash
# Prometheus' own promtool, as Debian has it, taken out of its package and kept outside the checkout: nothing is
# installed and nothing runs. It reads our rules and our metrics in tests.
#   promtool.sh          fetches it once (20 MB). Prints where it is.
#   promtool.sh --have   fetches nothing and says by its exit code whether it is there.
# CANOPY_PROMETHEUS_CACHE names another place than the user's cache.
set -euo pipefail
cache=${CANOPY_PROMETHEUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/canopy-prometheus}
have() { command -v promtool || { [ -x "$cache/promtool" ] && echo "$cache/promtool"; }; }

if [ "${1:-}" = --have ]; then have; exit; fi
if ! have >/dev/null; then
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "no apt-get here: put promtool (of Prometheus 2 or 3) on PATH" >&2; exit 1; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"
  (cd "$work" && { apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }; }) >&2
  dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -x -C "$work" ./usr/bin/promtool
  mkdir -p "$cache"
  mv "$work/usr/bin/promtool" "$cache/promtool.partial" && mv "$cache/promtool.partial" "$cache/promtool"
fi
have
