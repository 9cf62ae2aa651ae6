#!/usr/bin/env bash
# Fuzzes each target in turn: tests/fuzz/run.sh [SECONDS [TARGET…]]. What is found is in target/fuzz/found, with
# the command that shows it again; what it learnt, in target/fuzz/corpus. With MINIMIZE=1 it names what in
# tests/fuzz/corpus reaches nothing that the rest does not: to be taken out, unless it is what was once found. What was
# learnt stays out of it: thousands of inputs that nobody reads, found again in minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds="${1:-60}"
shift || true
export RUSTC_WORKSPACE_WRAPPER="$PWD/tests/fuzz/rustc.sh"
build="${CARGO_TARGET_DIR:-target}"
cargo build --locked --features crash-points,fuzzing --example fuzz
# The next build replaces the program; a run that takes an hour goes on with its own.
mkdir -p "$build/fuzz/found"
fuzz="$build/fuzz/fuzz"
cp --remove-destination "$build/debug/examples/fuzz" "$fuzz"

# Names that nobody finds by chance, as libFuzzer's dictionary: those of the configuration, and those of what is
# kept or sent as JSON.
words() {
  case "$1" in
    config | language) grep -ohE '"[a-z][a-z0-9_.-]{1,40}"' config/failoverd.schema.json ;;
    api | witness | journal | events | recording)
      sed -nE 's/^ +(pub )?([a-z][a-z0-9_]+): .*/\2/p; s/^    ([A-Z][A-Za-z0-9]+)( \{|\(|,).*/\1/p' src/core/event.rs src/model/*.rs |
        sed -E 's/([a-z0-9])([A-Z])/\1_\L\2/g; s/^([A-Z])/\L\1/; s/.*/"\\"&\\""/'
      grep -ohE '^\[(probes|scenarios|plans)\.[a-z.-]+' config/examples/demo.toml | sed -E 's/.*\.(.*)/"\\"\1\\""/'
      ;;
  esac | sort -u
}

targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=(config language texts api witness journal events recording probes clients)
failed=()
for target in "${targets[@]}"; do
  export FUZZ_TARGET="$target"
  kept="tests/fuzz/corpus/$target" learnt="$build/fuzz/corpus/$target" found="$build/fuzz/found/$target-"
  mkdir -p "$kept" "$learnt"
  printf '== %s: %ss\n' "$target" "$seconds"
  log="$build/fuzz/$target.log" dictionary="$build/fuzz/$target.words"
  words "$target" >"$dictionary"
  # An empty one is an error to libFuzzer.
  named=()
  [[ ! -s $dictionary ]] || named=(-dict="$dictionary")
  "$fuzz" "$learnt" "$kept" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -max_len=12288 \
    "${named[@]}" -artifact_prefix="$found" -print_final_stats=1 >"$log" 2>&1 || failed+=("$target")
  grep -e '^stat::number_of_executed_units' -e '^Done' -e "panicked at" -e 'ERROR: libFuzzer' -A2 "$log" || true
  tail -n 1 "$log"
  if [[ -n ${MINIMIZE:-} ]]; then
    smaller="$(mktemp -d)"
    "$fuzz" -merge=1 "$smaller" "$kept" >>"$log" 2>&1
    # It names its copies by what is in them.
    for input in "$kept"/*; do
      [[ -e $smaller/$(sha1sum <"$input" | cut -d' ' -f1) ]] || printf 'adds nothing: %s\n' "$input"
    done
    rm -rf "$smaller"
  fi
done
if [[ ${#failed[@]} -gt 0 ]]; then
  printf 'FOUND something in: %s. Show it again: FUZZ_TARGET=… %s %s\n' "${failed[*]}" "$fuzz" "$build/fuzz/found/…" >&2
  exit 1
fi
