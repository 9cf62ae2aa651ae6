//! The fuzzer: one binary, whose target is chosen by `FUZZ_TARGET`. `make fuzz` builds and runs it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    failoverd::fuzzing::target(&name).unwrap_or_else(|| {
        let known: Vec<&str> = failoverd::fuzzing::TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("FUZZ_TARGET is `{name}`; there are {}", known.join(", "))
    })
});

fuzz_target!(|data: &[u8]| TARGET(data));
