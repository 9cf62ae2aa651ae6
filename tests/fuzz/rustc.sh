#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER of `make fuzz`: what libFuzzer counts by is compiled into our own library only, so
# that nothing that we depend on has to be compiled again.
for argument; do
    if [ "$argument" = failoverd ] && [ "$previous" = --crate-name ]; then
        exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares \
            -Copt-level=1 -Cdebug-assertions=on -Coverflow-checks=on
    fi
    previous=$argument
done
exec "$@"
