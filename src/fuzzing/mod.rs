//! Every parser of foreign bytes behind one door, for the fuzzer (`make fuzz`) and for the test that replays
//! its corpus. Compiled for tests and with the feature `fuzzing` only.
//!
//! Lives here: the targets. Does not live here: the fuzzer itself (`tests/fuzz`), and what a parser needs of
//! its own room to be reached (`probes::fuzz`, `state::fuzz`). Imports everything.
//!
//! A target must not panic, whatever it is given, and must come back soon. What overflows counts as a panic:
//! in a release build it would wrap, and be wrong without a word.

mod brain;
mod texts;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("config", texts::config),
    ("language", texts::language),
    ("texts", texts::texts),
    ("api", brain::api),
    ("witness", brain::witness),
    ("journal", brain::journal),
    ("events", brain::events),
    ("recording", brain::recording),
    ("probes", crate::probes::fuzz::probes),
    ("clients", texts::clients),
];

/// The target of this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fuzzer found, and what it begins with, through the same functions.
    #[test]
    fn the_corpus_goes_through() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for (name, target) in TARGETS {
            let mut seen = 0;
            for entry in std::fs::read_dir(corpus.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")) {
                let path = entry.unwrap().path();
                let data = std::fs::read(&path).unwrap();
                let ended = std::panic::catch_unwind(|| target(&data));
                assert!(ended.is_ok(), "{name}: {}", path.display());
                seen += 1;
            }
            assert!(seen > 0, "{name} has no corpus");
        }
    }

    #[test]
    fn every_folder_of_the_corpus_is_a_target_s() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for entry in std::fs::read_dir(corpus).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(target(&name).is_some(), "{name}");
        }
    }
}
