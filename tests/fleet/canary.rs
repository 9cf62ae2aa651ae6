//! Every secret of the tests begins with one word, which no output of failoverd may ever hold: not its
//! standard output and log, not its state, its recordings and histories, and not what it tells others (but
//! where the secret itself belongs, such as a header).
//!
//! What is started as a process is looked at when it ends, what it left behind when its world ends: a test
//! that leaks fails there, whatever it was about.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::bytes::Regex;

/// What every secret begins with.
pub const MARK: &str = "canary-";

/// As it is, and as it looks in base64, wherever it begins in the text that is encoded.
static LOOKS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("canary-|Y2FuYXJ5L|NhbmFyeS|YW5hcnkt").expect("a good pattern"));

/// Where a secret is in these bytes: what stands around it, on one line.
pub fn found(bytes: &[u8]) -> Option<String> {
    let at = LOOKS.find(bytes)?;
    let around = &bytes[at.start().saturating_sub(120)..bytes.len().min(at.end() + 60)];
    Some(String::from_utf8_lossy(around).replace(['\n', '\r'], " "))
}

/// Fails the test where a secret is in there.
pub fn look(what: &str, bytes: &[u8]) {
    // One reason is enough, and a second panic would end the process.
    if !std::thread::panicking()
        && let Some(around) = found(bytes)
    {
        panic!("a secret is in {what}: …{around}…");
    }
}

/// The same for every file below a directory.
pub fn look_below(directory: &Path) {
    for path in files(directory) {
        look(&path.display().to_string(), &std::fs::read(&path).unwrap_or_default());
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}
