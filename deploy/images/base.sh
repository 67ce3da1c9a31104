#!/usr/bin/env bash
# A base image, and a Redis, where none can be pulled: Debian by debootstrap, with the distribution's Python, slimmed.
# Needs root, debootstrap and a Debian mirror; for another platform than this machine's also qemu-user-static.
#   base.sh [PLATFORM]           imports canopy/base:bookworm-ARCH (linux/amd64, linux/arm64) and prints its name
#   base.sh --redis NAME         imports NAME: redis-server on that base, started like the official image
# Made once; kept in $CANOPY_IMAGE_CACHE, or canopy-images in the user's cache.
set -euo pipefail
docker=${DOCKER:-docker}
suite=bookworm
mirror=${DEBIAN_MIRROR:-}  # empty: the one that debootstrap takes by itself
cache=${CANOPY_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/canopy-images}
mkdir -p "$cache"

fail() { echo "base.sh: $1" >&2; exit 1; }
prepared() { # FUNCTION TAR ARGUMENT...: whole or not at all
  [ -s "$2" ] && return
  [ "$(id -u)" = 0 ] || fail "only root can make a base by debootstrap; name one with BASE_IMAGE"
  if ! command -v debootstrap >/dev/null; then
    { apt-get update -qq || true; apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends debootstrap; } >&2 || fail "there is no debootstrap"
  fi
  local root; root=$(mktemp -d "$cache/root.XXXXXX")
  "$1" "$root" "${@:3}" >"$root.log" 2>&1 || { tail -5 "$root.log" >&2; rm -rf "$root"; fail "$2 could not be made; see $root.log"; }
  tar -C "$root" --sort=name --numeric-owner --one-file-system -cf "$2.partial" .
  rm -rf "$root" "$root.log"
  mv "$2.partial" "$2"
}
# Each step of the two says by itself that it failed: `set -e` does not hold in a function whose result is asked for.
debian() { # ROOT ARCH
  echo "== a base of Debian $suite for $2 (once, about 2 minutes)" >&3
  debootstrap --arch="$2" --variant=minbase --include=ca-certificates,python3 "$suite" "$1" ${mirror:+"$mirror"} &&
    ln -s ../../bin/python3 "$1/usr/local/bin/python" && slim "$1"
}
slim() { # ROOT: what a container never reads
  rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/var/cache/debconf/*-old \
    "$1"/usr/share/{doc,man,info,locale,lintian,i18n} "$1"/usr/lib/x86_64-linux-gnu/gconv "$1"/usr/lib/aarch64-linux-gnu/gconv \
    "$1"/usr/lib/python3.*/{ensurepip,test,lib2to3,idlelib,turtledemo} "$1"/dev/* "$1"/proc/* "$1"/sys/*
  find "$1/usr/lib" -name __pycache__ -path '*python3*' -prune -exec rm -rf {} +
  chroot "$1" python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.* >/dev/null || true
}
with_redis() { # ROOT
  tar -C "$1" -xf "$cache/base-$suite-$(dpkg --print-architecture).tar" &&
    cp /etc/resolv.conf "$1/etc/resolv.conf" &&
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d" && chmod +x "$1/usr/sbin/policy-rc.d" &&
    mkdir -p "$1/var/log/apt" "$1/var/cache/apt/archives/partial" &&
    chroot "$1" sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server redis-tools' &&
    install -d -o 65532 -g 65532 -m 0700 "$1/data" && slim "$1"
}

exec 3>&2
if [ "${1:-}" = --redis ]; then
  name=$2
  "$0" >/dev/null
  prepared debian "$cache/base-$suite-$(dpkg --print-architecture).tar" "$(dpkg --print-architecture)"  # the engine may have outlived it
  prepared with_redis "$cache/redis-$suite-$(dpkg --print-architecture).tar"
  "$docker" import --change 'USER 65532:65532' --change 'WORKDIR /data' --change 'VOLUME /data' --change 'EXPOSE 6379' \
    --change 'ENTRYPOINT ["redis-server"]' --change 'CMD ["--protected-mode", "no", "--dir", "/data", "--appendonly", "yes"]' \
    --change 'HEALTHCHECK --interval=10s --timeout=5s CMD ["redis-cli", "ping"]' \
    --change 'LABEL org.opencontainers.image.title=canopy/redis' \
    "$cache/redis-$suite-$(dpkg --print-architecture).tar" "$name" >/dev/null
  echo "$name"
  exit
fi
platform=${1:-linux/$(dpkg --print-architecture)}
arch=${platform#linux/}
name=canopy/base:$suite-$arch
if ! "$docker" image inspect "$name" >/dev/null 2>&1; then
  if [ "$arch" != "$(dpkg --print-architecture)" ] && ! ls /proc/sys/fs/binfmt_misc/qemu-* >/dev/null 2>&1; then
    fail "this machine does not run programs of $arch: install qemu-user-static and mount binfmt_misc"
  fi
  prepared debian "$cache/base-$suite-$arch.tar" "$arch"
  python=$(tar -tf "$cache/base-$suite-$arch.tar" | sed -n 's#^\./usr/lib/\(python3\.[0-9]*\)/$#\1#p' | head -1)
  "$docker" import --platform "$platform" --change "ENV PYTHON_VERSION=${python#python}" --change 'CMD ["python3"]' \
    "$cache/base-$suite-$arch.tar" "$name" >/dev/null
fi
echo "$name"
