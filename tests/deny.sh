#!/usr/bin/env bash
# Licences, sources and banned crates of the whole dependency graph; and known vulnerabilities, where their
# database can be had. tests/fleet/install.sh installs cargo-deny.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/failoverd"
program="$cache/cargo-deny/bin/cargo-deny"
# It may still be compiled.
mkdir -p "$cache"
exec 9>"$cache/cargo-deny.lock"
flock 9
if [[ ! -x $program ]]; then
  tail -n 15 "$cache/cargo-deny.log" >&2 || true
  echo "deny: $program is missing: run tests/fleet/install.sh, and see what cargo said above" >&2
  exit 1
fi
deny() { "$program" --locked --all-features --config tests/deny.toml "$@"; }

deny check licenses bans sources
# Without a network there is no database. That is no finding, and must not look like a good one.
fetched="$(mktemp)"
trap 'rm -f "$fetched"' EXIT
if deny fetch db >"$fetched" 2>&1; then
  deny --offline check advisories
else
  tail -n 3 "$fetched" >&2
  printf '%s\n' '!!' '!! KNOWN VULNERABILITIES WERE NOT LOOKED FOR: the advisory database cannot be had from here.' '!!' >&2
  # Where vulnerabilities have to be looked for (a release), this makes it a failure.
  [[ -z ${FAILOVERD_REQUIRE_ADVISORIES:-} ]]
fi
