//! The switches that the health checkers of a DNS provider ask: a file each, which outlives the
//! daemon.
//!
//! A switch is written whole or not at all (a new file, synced, put in the place of the old one, and
//! the directory synced), under a lock, and never by an older epoch than wrote it last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The longest file that is read: ours are below 300 bytes.
const LONGEST: u64 = 4096;

/// How a switch stands, and who set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Does it answer that all is well?
    pub on: bool,
    /// The epoch that it was set under.
    pub epoch: u64,
    /// The run that set it.
    #[serde(default)]
    pub run: Option<String>,
}

/// Why a switch cannot be read or set.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The file cannot be read or written.
    #[error("the switch {path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// What is in the file is not ours.
    #[error("the switch {path} holds something else than a setting: {reason}; put it right, or delete it")]
    Corrupt {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A higher epoch has set it.
    #[error("fenced by epoch {theirs}: the switch was set under it, and ours is {ours}")]
    Fenced {
        /// That epoch.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
}

/// May a switch be called so? It becomes the name of a file and a part of an address.
pub fn is_name(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    plain && !name.is_empty() && name.len() <= 100 && !name.starts_with('.')
}

fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.json"))
}

fn failed(path: &Path, error: &std::io::Error) -> SwitchError {
    SwitchError::File { path: path.display().to_string(), reason: error.to_string() }
}

/// How a switch stands; `None` where it was never set.
///
/// # Errors
/// [`SwitchError`] where it was set, and it is not known how.
pub fn read(directory: &Path, name: &str) -> Result<Option<Setting>, SwitchError> {
    use std::io::Read;
    let path = path(directory, name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, &error)),
    };
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| failed(&path, &error))?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| SwitchError::Corrupt { path: path.display().to_string(), reason: error.to_string() })
}

/// Sets a switch, and returns when that is on disk.
///
/// # Errors
/// [`SwitchError`]: it stands as before; after a failed sync it may stand either way, which
/// [`read`] tells.
pub fn set(directory: &Path, name: &str, setting: &Setting) -> Result<(), SwitchError> {
    let path = path(directory, name);
    let failed = |error: std::io::Error| failed(&path, &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let folder = File::open(directory).map_err(failed)?;
    // Held until the file is closed, also where another process sets one.
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    if let Some(standing) = read(directory, name)?.filter(|standing| standing.epoch > setting.epoch) {
        return Err(SwitchError::Fenced { theirs: standing.epoch, ours: setting.epoch });
    }
    let new = directory.join(format!(".{name}.new"));
    let text = serde_json::to_vec(setting).map_err(|error| failed(error.into()))?;
    let mut file = File::create(&new).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&new, &path).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

/// The switches that are served: each with what it answers before it was ever set.
pub struct Switches {
    directory: PathBuf,
    defaults: BTreeMap<String, bool>,
    last: Mutex<BTreeMap<String, bool>>,
}

impl Switches {
    /// These switches, with their defaults.
    pub fn new(directory: PathBuf, defaults: BTreeMap<String, bool>) -> Self {
        Self { directory, defaults, last: Mutex::default() }
    }

    /// What a switch answers; `None` where there is none of this name.
    ///
    /// It is read each time. Where that fails it answers what it has answered last: a disk that
    /// fails must not move traffic. Where it has not answered since the start either, it answers
    /// its default.
    pub fn is_on(&self, name: &str) -> Option<bool> {
        let default = *self.defaults.get(name)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let on = match read(&self.directory, name) {
            Ok(setting) => setting.map_or(default, |setting| setting.on),
            Err(error) => {
                let on = last.get(name).copied().unwrap_or(default);
                tracing::error!(switch = name, on, %error, "a health switch cannot be read; it answers as before");
                on
            }
        };
        last.insert(name.to_owned(), on);
        Some(on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(on: bool, epoch: u64) -> Setting {
        Setting { on, epoch, run: Some("RUN-20261101-001".into()) }
    }

    fn switches(directory: &Path) -> Switches {
        Switches::new(directory.to_owned(), BTreeMap::from([("east".into(), true), ("west".into(), false)]))
    }

    #[test]
    fn it_comes_back_as_it_was_last_set() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("new");
        assert_eq!((switches(&folder).is_on("east"), switches(&folder).is_on("west")), (Some(true), Some(false)));
        assert_eq!(switches(&folder).is_on("north"), None);
        set(&folder, "east", &setting(false, 5)).expect("set");
        // As after a restart.
        assert_eq!((switches(&folder).is_on("east"), switches(&folder).is_on("west")), (Some(false), Some(false)));
        set(&folder, "east", &setting(true, 5)).expect("set back under the same epoch");
        assert_eq!(switches(&folder).is_on("east"), Some(true));
        assert_eq!(read(&folder, "east").expect("a setting"), Some(setting(true, 5)));
    }

    #[test]
    fn an_older_epoch_does_not_set_it() {
        let dir = tempfile::tempdir().expect("a directory");
        set(dir.path(), "east", &setting(false, 5)).expect("set");
        let error = set(dir.path(), "east", &setting(true, 4)).expect_err("fenced");
        assert!(error.to_string().starts_with("fenced by epoch 5"), "{error}");
        assert_eq!(switches(dir.path()).is_on("east"), Some(false));
    }

    #[test]
    fn what_cannot_be_read_answers_as_before() {
        let dir = tempfile::tempdir().expect("a directory");
        set(dir.path(), "east", &setting(false, 5)).expect("set");
        let switches = switches(dir.path());
        assert_eq!(switches.is_on("east"), Some(false));
        for text in ["", "{\"on\": tr", "{}"] {
            std::fs::write(path(dir.path(), "east"), text).expect("written");
            assert_eq!(switches.is_on("east"), Some(false), "{text:?}");
            let error = set(dir.path(), "east", &setting(true, 6)).expect_err("not over what is not ours");
            assert!(matches!(error, SwitchError::Corrupt { .. }), "{error}");
        }
    }

    #[test]
    fn a_write_that_broke_off_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        set(dir.path(), "east", &setting(false, 5)).expect("set");
        std::fs::write(dir.path().join(".east.new"), "{\"on\": tr").expect("written");
        assert_eq!(switches(dir.path()).is_on("east"), Some(false));
        set(dir.path(), "east", &setting(true, 6)).expect("set");
        assert_eq!(switches(dir.path()).is_on("east"), Some(true));
    }

    #[test]
    fn a_name_stays_in_its_directory() {
        for name in ["", "..", "../x", "a/b", ".hidden", "a b"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("us-east-1.api"));
    }
}
