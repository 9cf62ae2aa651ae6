#!/usr/bin/env bash
# Installs what the tests, the benches and the demo start: the real counterparts and a compiler.
# Made for a fresh Debian 12 (root, or a user with sudo). Safe to run again: it returns at once
# when everything is there. It leaves no service running and none enabled that it brought along.
# `install.sh benches` also installs what the benches compare with.
set -euo pipefail

cache="${XDG_CACHE_HOME:-$HOME/.cache}/failoverd"
venv="$cache/venv"
requirements=(moto==5.2.5 flask flask-cors awscli)
cargo_deny=0.20.2

# What must exist -> the Debian package that has it.
declare -A needs=(
  [/usr/lib/postgresql/15/bin/postgres]=postgresql-15
  [redis-server]=redis-server
  [redis-cli]=redis-tools
  [named]=bind9
  [dig]=bind9-dnsutils
  [kubectl]=kubernetes-client
  [prometheus]=prometheus
  [prometheus-alertmanager]=prometheus-alertmanager
  [openssl]=openssl
  [exim4]=exim4-daemon-light
  [gcc]=build-essential
  [protoc]=protobuf-compiler
  [/usr/include/google/protobuf/empty.proto]=libprotobuf-dev
  [etcd]=etcd-server
  [etcdctl]=etcd-client
  [make]=build-essential
  [ip]=iproute2
  [nft]=nftables
  [faketime]=faketime
  [strace]=strace
  [setpriv]=util-linux
  [unshare]=util-linux
  [script]=bsdutils
  [curl]=curl
  [systemd-analyze]=systemd
  [/etc/ssl/certs/ca-certificates.crt]=ca-certificates
  [/usr/lib/python3/dist-packages]=python3
  [/usr/share/doc/python3-venv]=python3-venv
)
# Units of these packages would otherwise hold the well-known ports.
declare -A units=([postgresql-15]=postgresql [redis-server]=redis-server [bind9]=named [prometheus]=prometheus [prometheus-alertmanager]=prometheus-alertmanager [exim4-daemon-light]=exim4 [etcd-server]=etcd
  [haproxy]=haproxy [prometheus-blackbox-exporter]=prometheus-blackbox-exporter [redis-sentinel]=redis-sentinel [nftables]=nftables)
# What the benches compare with, and how they lose packets -> the Debian package that has it.
declare -A references=(
  [haproxy]=haproxy
  [prometheus-blackbox-exporter]=prometheus-blackbox-exporter
  [redis-sentinel]=redis-sentinel
  [nft]=nftables
)

say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

have() {
  case "$1" in
    /*) [[ -e "$1" ]] ;;
    *) PATH="$PATH:/usr/sbin:/sbin" type -P "$1" >/dev/null ;;
  esac
}

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"
  elif type -P sudo >/dev/null; then sudo "$@"
  else die "'$*' needs root, and there is no sudo: run this script once as root"
  fi
}

missing_packages() {
  local thing
  for thing in "${!needs[@]}"; do
    have "$thing" || printf '%s\n' "${needs[$thing]}"
  done | sort -u
}

# Debian starts a service when its package is installed, unless policy-rc.d says no.
apt_install() {
  local policy=/usr/sbin/policy-rc.d made_policy=no log package status=0
  log="$(mktemp)"
  if [[ ! -e $policy ]]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1; }
  # A half-done earlier installation is repaired by the second attempt.
  { apt update; apt install --no-install-recommends "$@"; } \
    || { apt -f install; apt install --no-install-recommends "$@"; } || status=$?
  [[ $made_policy == no ]] || as_root rm -f "$policy"
  if [[ $status -ne 0 ]]; then
    tail -n 15 "$log" >&2
    die "apt-get could not install: $* (the whole output is in $log)"
  fi
  rm -f "$log"
  # The next boot must not start them either; without systemd there is nothing to disable.
  for package in "$@"; do
    if [[ -n ${units[$package]:-} && -d /run/systemd/system ]]; then
      as_root systemctl --quiet disable --now "${units[$package]}" || say "could not disable ${units[$package]}"
    fi
  done
}

install_packages() {
  local -a packages
  mapfile -t packages < <(missing_packages)
  [[ ${#packages[@]} -gt 0 ]] || return 0
  type -P apt-get >/dev/null || die "missing: ${packages[*]} (Debian package names). This script only knows apt-get; install them by hand"
  say "installing ${packages[*]}"
  apt_install "${packages[@]}"
  mapfile -t packages < <(missing_packages)
  [[ ${#packages[@]} -eq 0 ]] || die "still missing after apt-get: ${packages[*]}"
}

# The benches say so themselves where one of these is missing, and compare with something plainer.
install_references() {
  local thing
  for thing in "${!references[@]}"; do
    have "$thing" || { say "installing ${references[$thing]}" && (apt_install "${references[$thing]}"); } \
      || say "going on without ${references[$thing]}"
  done
}

install_venv() {
  local stamp="$venv/.installed" log
  [[ "$(cat "$stamp" 2>/dev/null)" != "${requirements[*]}" ]] || return 0
  say "making $venv with ${requirements[*]}"
  mkdir -p "$cache"
  log="$(mktemp)"
  rm -rf "$venv"
  # Byte-compiled at once: the first start of moto would otherwise take seconds.
  if type -P uv >/dev/null; then
    { uv venv --python /usr/bin/python3 "$venv" \
      && uv pip install --python "$venv/bin/python" --compile-bytecode "${requirements[@]}"; } >"$log" 2>&1
  else
    { /usr/bin/python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "${requirements[@]}"; } >"$log" 2>&1
  fi || { tail -n 15 "$log" >&2; die "could not make the Python environment (the whole output is in $log)"; }
  rm -f "$log"
  printf '%s\n' "${requirements[*]}" >"$stamp"
}

# For tests/deny.sh, which waits for it and shows its log where it failed: it takes minutes, once, and
# nothing else of the tests needs it.
install_cargo_deny() {
  local root="$cache/cargo-deny" stamp="$cache/cargo-deny/.installed"
  [[ "$(cat "$stamp" 2>/dev/null)" != "$cargo_deny" ]] || return 0
  # Held by what compiles; whoever comes second need not compile it as well.
  exec 8>"$cache/cargo-deny.lock"
  flock -n 8 || return 0
  say "compiling cargo-deny $cargo_deny in the background (log: $cache/cargo-deny.log)"
  (
    exec 9>&-
    rm -rf "$root"
    PATH="$PATH:$HOME/.cargo/bin" CARGO_TARGET_DIR="$cache/cargo-deny.target" nice -n 10 \
      cargo install --locked --no-default-features --root "$root" --version "$cargo_deny" cargo-deny \
      && printf '%s\n' "$cargo_deny" >"$stamp"
    rm -rf "$cache/cargo-deny.target"
  ) >"$cache/cargo-deny.log" 2>&1 </dev/null &
  exec 8>&-
}

check_cargo() {
  type -P cargo >/dev/null || [[ -x $HOME/.cargo/bin/cargo ]] || die "cargo is missing: install Rust 1.95 or later with rustup (components clippy and rustfmt), and open a new shell"
}

# First what nobody but the user can mend: it should not come after minutes of installing.
check_cargo
# Two at once would fight over dpkg and the venv.
mkdir -p "$cache"
exec 9>"$cache/install.lock"
flock 9

install_packages
install_venv
install_cargo_deny
[[ ${1:-} != benches ]] || install_references
