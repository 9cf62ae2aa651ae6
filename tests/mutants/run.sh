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
# All mutants are compiled at once, and then each runs all the tests.
sed -e 's|"\.\./brain/|"tests/brain/|; s|"\.\./sim/|"tests/sim/|; s|"\.\./model/|"tests/model/|; s|^opt-level = .*|opt-level = 1|; s|^debug = .*|debug = false|; s|^codegen-units = .*|incremental = true|' \
  "$root/tests/kernel/Cargo.toml" >"$package/Cargo.toml"

files=("$@")
((${#files[@]})) || mapfile -t files < <(grep -v '^#' "$here/files")
names=()
for file in "${files[@]}"; do names+=(--file "$file"); done

output="$root/target/mutants"
mkdir -p "$output"
cd "$package"
export CARGO_TARGET_DIR="$root/target/mutants-build" SIM_SEEDS="${SIM_SEEDS:-100}" RUSTFLAGS=--cap-lints=allow INSTA_UPDATE=no
mutants=("$tool/bin/cargo-mutants" mutants --config "$here/excused.toml" "${names[@]}")
# What tests the tests themselves says nothing of a mutant, and takes longer than all the others.
skipped=()
for test in each_mutation_is_seen each_broken_brain_is_found the_same_seed_is_the_same_story \
  a_brain_made_of_its_checkpoint_goes_on_as_it_would_have; do
  skipped+=(--skip "$test")
done
export MUTANTS_BUILD="$root/target/mutants-one" MUTANTS_TARGETS=lib,brain,sim MUTANTS_TEST_ARGUMENTS="${skipped[*]}"
"${mutants[@]}" --list --json >"$output/list.json"
"$here/cargo.py" prepare "$output/list.json"
status=0
CARGO="$here/cargo.py" "${mutants[@]}" --in-place --output "$output" --timeout 40 --build-timeout 600 --no-shuffle \
  --colors never -- --lib --test brain --test sim -- "${skipped[@]}" || status=$?
# 3: some hang, and none is missed (which would be 2). A test that does not end is noticed.
[[ $status -eq 3 ]] || exit "$status"
