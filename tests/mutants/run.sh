#!/usr/bin/env bash
# Breaks what decides and what keeps, one expression at a time, and sees whether a test of it or a seed of the
# simulator notices. `run.sh [FILE...]`: of these files (default: all that `files` names).
# Survivors that are excused stand in `excused.toml`, each with its reason; any other one fails.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
version=27.1.0
tool="${XDG_CACHE_HOME:-$HOME/.cache}/failoverd/cargo-mutants-$version"
[[ -x $tool/bin/cargo-mutants ]] || cargo install cargo-mutants --version "$version" --locked --root "$tool"

# The sources lie outside of the packages, and a tool that changes them needs copies anyway.
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
output="$root/target/mutants"
mkdir -p "$output"
export RUSTFLAGS=--cap-lints=allow INSTA_UPDATE=no SIM_SEEDS="${SIM_SEEDS:-100}"

# The rooms `core` and `model`, as in tests/kernel.
brain() {
  mkdir -p src tests
  cp -r "$root/src/core" "$root/src/model" src/
  cp -r "$root/tests/brain" "$root/tests/sim" "$root/tests/model" tests/
  printf 'pub mod core;\npub mod model;\n' >src/lib.rs
  cp "$root/tests/kernel/Cargo.lock" .
  # All mutants are compiled at once, and then each runs all the tests.
  sed -e 's|"\.\./brain/|"tests/brain/|; s|"\.\./sim/|"tests/sim/|; s|"\.\./model/|"tests/model/|; s|^opt-level = .*|opt-level = 1|; s|^debug = .*|debug = false|; s|^codegen-units = .*|incremental = true|' \
    "$root/tests/kernel/Cargo.toml" >Cargo.toml
}

# The store of one daemon, and what it imports.
journal() {
  mkdir -p src tests/disk
  cp -r "$root/src/model" "$root/src/state" "$root/src/ports.rs" src/
  rm -r src/state/etcd
  sed -i '/^pub mod etcd;$/d' src/state/mod.rs
  printf 'pub mod model;\npub mod ports;\npub mod state;\n' >src/lib.rs
  cp "$root/tests/it/state.rs" tests/disk/
  printf 'mod state;\n' >tests/disk/main.rs
  cp "$here/journal.toml" Cargo.toml
  cp "$root/Cargo.lock" .
}

# What tests the tests themselves says nothing of a mutant, and takes longer than all the others.
skipped=()
for test in each_mutation_is_seen each_broken_brain_is_found the_same_seed_is_the_same_story \
  a_brain_made_of_its_checkpoint_goes_on_as_it_would_have; do
  skipped+=(--skip "$test")
done

# play PACKAGE TARGETS FILE...: breaks these files in a package that one of the functions above makes.
play() {
  local package="$1" targets="$2" file target status=0 names=() tests=()
  shift 2
  for file in "$@"; do names+=(--file "$file"); done
  for target in ${targets//,/ }; do [[ $target == lib ]] && tests+=(--lib) || tests+=(--test "$target"); done
  mkdir "$packages/$package"
  cd "$packages/$package"
  "$package"
  export CARGO_TARGET_DIR="$root/target/mutants-$package" MUTANTS_BUILD="$root/target/mutants-one/$package"
  export MUTANTS_TARGETS="$targets" MUTANTS_TEST_ARGUMENTS="${skipped[*]}"
  local mutants=("$tool/bin/cargo-mutants" mutants --config "$here/excused.toml" "${names[@]}")
  "${mutants[@]}" --list --json >"$output/$package.json"
  "$here/cargo.py" prepare "$output/$package.json"
  mkdir -p "$output/$package"
  CARGO="$here/cargo.py" "${mutants[@]}" --in-place --output "$output/$package" --timeout 40 --build-timeout 600 \
    --no-shuffle --colors never -- "${tests[@]}" -- "${skipped[@]}" || status=$?
  # 3: some hang, and none is missed (which would be 2). A test that does not end is noticed.
  [[ $status -eq 3 ]] || return "$status"
}

files=("$@")
((${#files[@]})) || mapfile -t files < <(grep -v '^#' "$here/files")
in_core=() in_state=()
for file in "${files[@]}"; do
  case "$file" in
    src/core/*) in_core+=("$file") ;;
    src/state/*) in_state+=("$file") ;;
    *) echo "mutants: $file lies in neither src/core nor src/state" >&2; exit 1 ;;
  esac
done
# Not `play … || …`: bash would go on after an error within it.
failed=0
set +e
if ((${#in_core[@]})); then
  (set -e; play brain lib,brain,sim "${in_core[@]}")
  failed=$?
fi
if ((${#in_state[@]})); then
  (set -e; play journal lib,disk "${in_state[@]}")
  failed=$((failed ? failed : $?))
fi
exit "$failed"
