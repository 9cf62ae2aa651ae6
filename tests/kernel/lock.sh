#!/usr/bin/env bash
# Makes the lock file of the brain alone of the daemon's one, so that both are built of the same versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cp ../../Cargo.lock Cargo.lock
cargo metadata --format-version 1 >/dev/null
