//! The switches that the health checkers of a DNS provider ask: a file each, which outlives the
//! daemon.
//!
//! A switch is written whole or not at all (a new file, synced, put in the place of the old one, and
//! the directory synced), under a lock, and never by an older epoch than wrote it last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// The switches that are served. They answer from memory, so that a disk that hangs keeps no health
/// checker waiting; [`Switches::refresh`] reads them again.
pub struct Switches {
    directory: PathBuf,
    served: Mutex<BTreeMap<String, Served>>,
}

/// What is known of one switch.
#[derive(Default)]
struct Served {
    initially: bool,
    /// What it answers; `None` while nobody knows.
    on: Option<bool>,
    /// Was a setting read since the start?
    set: bool,
    /// What was wrong at the last look; told once.
    trouble: Option<String>,
}

impl Served {
    /// Takes what was found on disk.
    ///
    /// Where it cannot be read the switch answers as before: a disk that fails must not move traffic.
    /// After a restart nothing came before, and then it is not known. Its initial state would be a
    /// guess, and a bad one: a file that is there says that a run has set the switch since. And a
    /// provider that is told "on" by mistake sends traffic to a region that was given up, where it may
    /// be written to a database that was left behind; one that is told "off" by mistake sends it to
    /// what else is on.
    fn learn(&mut self, name: &str, found: Result<Option<Setting>, SwitchError>) {
        let trouble = match found {
            Ok(Some(setting)) => {
                (self.on, self.set) = (Some(setting.on), true);
                None
            }
            Ok(None) if !self.set => {
                self.on = Some(self.initially);
                None
            }
            Ok(None) => Some("its file is gone".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(trouble) = trouble.as_ref().filter(|trouble| Some(*trouble) != self.trouble.as_ref()) {
            let answer = match self.on {
                Some(_) => "it answers as before",
                None => "it answers 503 until somebody has put that right",
            };
            tracing::error!(switch = name, "a health switch cannot be read, {answer}: {trouble}");
        } else if trouble.is_none() && self.trouble.is_some() {
            tracing::info!(switch = name, on = self.on, "a health switch can be read again");
        }
        self.trouble = trouble;
    }
}

impl Switches {
    /// These switches, each with what it answers before it was ever set. Nothing is known of them
    /// before the first [`Switches::refresh`].
    pub fn new(directory: PathBuf, initially: BTreeMap<String, bool>) -> Self {
        let switches = Self { directory, served: Mutex::default() };
        switches.replace(initially);
        switches
    }

    /// Serves these from now on; those that were served before keep what is known of them.
    pub fn replace(&self, initially: BTreeMap<String, bool>) {
        let mut served = self.served();
        let mut before = std::mem::take(&mut *served);
        for (name, initially) in initially {
            let known = before.remove(&name).unwrap_or_default();
            served.insert(name, Served { initially, ..known });
        }
    }

    /// Reads them again. Blocking.
    pub fn refresh(&self) {
        let names: Vec<String> = self.served().keys().cloned().collect();
        for name in names {
            // Nobody waits for the disk.
            let found = read(&self.directory, &name);
            if let Some(served) = self.served().get_mut(&name) {
                served.learn(&name, found);
            }
        }
    }

    /// What a switch answers: `None` where there is none of this name, `Some(None)` where it is not
    /// known.
    pub fn look(&self, name: &str) -> Option<Option<bool>> {
        self.served().get(name).map(|served| served.on)
    }

    /// What each of them answers.
    pub fn all(&self) -> Vec<(String, Option<bool>)> {
        self.served().iter().map(|(name, served)| (name.clone(), served.on)).collect()
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<String, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(on: bool, epoch: u64) -> Setting {
        Setting { on, epoch, run: Some("RUN-20261101-001".into()) }
    }

    fn initially() -> BTreeMap<String, bool> {
        BTreeMap::from([("east".into(), true), ("west".into(), false)])
    }

    /// As after a start.
    fn switches(directory: &Path) -> Switches {
        let switches = Switches::new(directory.to_owned(), initially());
        switches.refresh();
        switches
    }

    /// What it answers, after another look.
    fn east(switches: &Switches) -> Option<bool> {
        switches.refresh();
        switches.look("east").expect("a switch")
    }

    #[test]
    fn it_comes_back_as_it_was_last_set() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("new");
        let first = switches(&folder);
        assert_eq!(first.all(), [("east".to_owned(), Some(true)), ("west".to_owned(), Some(false))]);
        assert_eq!(first.look("north"), None);
        set(&folder, "east", &setting(false, 5)).expect("set");
        assert_eq!(east(&first), Some(false));
        let second = switches(&folder);
        assert_eq!(second.all(), [("east".to_owned(), Some(false)), ("west".to_owned(), Some(false))]);
        set(&folder, "east", &setting(true, 5)).expect("set back under the same epoch");
        assert_eq!(east(&second), Some(true));
        assert_eq!(read(&folder, "east").expect("a setting"), Some(setting(true, 5)));
    }

    #[test]
    fn an_older_epoch_does_not_set_it() {
        let dir = tempfile::tempdir().expect("a directory");
        set(dir.path(), "east", &setting(false, 5)).expect("set");
        let error = set(dir.path(), "east", &setting(true, 4)).expect_err("fenced");
        assert!(error.to_string().starts_with("fenced by epoch 5"), "{error}");
        assert_eq!(east(&switches(dir.path())), Some(false));
    }

    #[test]
    fn what_cannot_be_read_answers_as_before_and_off_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        set(dir.path(), "east", &setting(false, 5)).expect("set");
        let before = switches(dir.path());
        for text in ["", "{\"on\": tr", "{}"] {
            std::fs::write(path(dir.path(), "east"), text).expect("written");
            assert_eq!(east(&before), Some(false), "{text:?}");
            assert_eq!(east(&switches(dir.path())), None, "{text:?}: not its initial state");
            let error = set(dir.path(), "east", &setting(true, 6)).expect_err("not over what is not ours");
            assert!(matches!(error, SwitchError::Corrupt { .. }), "{error}");
        }
        std::fs::remove_file(path(dir.path(), "east")).expect("removed");
        assert_eq!(east(&before), Some(false), "a setting does not go away by itself");
        assert_eq!(east(&switches(dir.path())), Some(true), "as a person wanted it who deleted it");
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let dir = tempfile::tempdir().expect("a directory");
        set(dir.path(), "east", &setting(false, 5)).expect("set");
        let switches = switches(dir.path());
        std::fs::write(path(dir.path(), "east"), "").expect("written");
        switches.replace(BTreeMap::from([("east".into(), true), ("north".into(), true)]));
        assert_eq!(switches.all(), [("east".to_owned(), Some(false)), ("north".to_owned(), None)]);
        assert_eq!(east(&switches), Some(false));
        assert_eq!((switches.look("north"), switches.look("west")), (Some(Some(true)), None));
    }

    #[test]
    fn a_write_that_broke_off_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        set(dir.path(), "east", &setting(false, 5)).expect("set");
        std::fs::write(dir.path().join(".east.new"), "{\"on\": tr").expect("written");
        assert_eq!(east(&switches(dir.path())), Some(false));
        set(dir.path(), "east", &setting(true, 6)).expect("set");
        assert_eq!(east(&switches(dir.path())), Some(true));
    }

    #[test]
    fn a_name_stays_in_its_directory() {
        for name in ["", "..", "../x", "a/b", ".hidden", "a b"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("us-east-1.api"));
    }
}
