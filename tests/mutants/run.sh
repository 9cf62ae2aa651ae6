#!/usr/bin/env bash
# Breaks what decides, one expression at a time, and sees whether a test of the brain or a seed of the
# simulator notices. `run.sh [FILE...]`: of these files (default: all that `files` names).
# Survivors that are excused stand in `excused.toml`, each with its reason; any other one fails.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
version=27.1.0
tool="${XDG_CACHE_HOME:-$HOME/.cache}/failoverd/cargo-mutants-$version"
[[ -x $tool/bin/cargo-mutants ]] || cargo install cargo-mutants --version "$version" --locked --root "$tool"

# The sources lie outside of the package of the brain, and a tool that changes them needs copies anyway.
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
mkdir -p "$package/src" "$package/tests"
cp -r "$root/src/core" "$root/src/model" "$package/src/"
cp -r "$root/tests/brain" "$root/tests/sim" "$root/tests/model" "$package/tests/"
printf 'pub mod core;\npub mod model;\n' >"$package/src/lib.rs"
cp "$root/tests/kernel/Cargo.lock" "$package/"
# Each mutant is compiled and hardly runs: not optimised.
sed -e 's|"\.\./brain/|"tests/brain/|; s|"\.\./sim/|"tests/sim/|; s|"\.\./model/|"tests/model/|; s|^opt-level = .*|opt-level = 0|; s|^debug = .*|debug = false|' \
  "$root/tests/kernel/Cargo.toml" >"$package/Cargo.toml"

files=("$@")
((${#files[@]})) || mapfile -t files < <(grep -v '^#' "$here/files")
names=()
for file in "${files[@]}"; do names+=(--file "$file"); done

output="$root/target/mutants"
mkdir -p "$output"
cd "$package"
export CARGO_TARGET_DIR="$root/target/mutants-build" SIM_SEEDS="${SIM_SEEDS:-60}"
"$tool/bin/cargo-mutants" mutants --in-place --config "$here/excused.toml" "${names[@]}" \
  --output "$output" --timeout 180 --build-timeout 600 --no-shuffle --colors never \
  -- --lib --test brain --test sim -- --skip each_ --skip the_same --skip a_brain_made
