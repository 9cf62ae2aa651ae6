//! What is kept from one life to the next: of each plan the last good evaluation, and whether people were
//! told that it is not ready. A file beside the state; losing it costs a diff, and a notice told twice.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{PlanName, PlanReadiness};

/// A file that is longer is none of ours.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct KeptError {
    path: String,
    reason: String,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Of each plan the newest evaluation in which it was ready.
    #[serde(default)]
    pub good: BTreeMap<PlanName, PlanReadiness>,
    /// The plans of which people were told that they are not ready.
    #[serde(default)]
    pub told: Vec<PlanName>,
}

/// The file beside a state.
pub fn kept_path(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".readiness");
    name.into()
}

impl Kept {
    /// Reads the file; nothing is kept where there is none.
    ///
    /// # Errors
    /// [`KeptError`], where it cannot be read or is not ours.
    pub fn read(path: &Path) -> Result<Self, KeptError> {
        let error = |reason: String| KeptError { path: path.display().to_string(), reason };
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => file.take(LONGEST).read_to_string(&mut text).map_err(|why| error(why.to_string()))?,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(why) => return Err(error(why.to_string())),
        };
        serde_json::from_str(&text).map_err(|why| error(why.to_string()))
    }

    /// Writes it whole, or not at all.
    ///
    /// # Errors
    /// [`KeptError`]; then the old one stands.
    pub fn write(&self, path: &Path) -> Result<(), KeptError> {
        let written = || -> std::io::Result<()> {
            let mut beside = path.as_os_str().to_owned();
            beside.push(".new");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        written().map_err(|why| KeptError { path: path.display().to_string(), reason: why.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_not_ours_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = kept_path(&dir.path().join("state.db"));
        assert_eq!(Kept::read(&path).expect("there is none"), Kept::default());
        let kept = Kept { told: vec!["failover".into()], ..Kept::default() };
        kept.write(&path).expect("written");
        assert_eq!(Kept::read(&path).expect("it is ours"), kept);
        std::fs::write(&path, "{\"good\": 5}").expect("written");
        let error = Kept::read(&path).expect_err("somebody else's");
        assert!(error.to_string().contains("state.db.readiness"), "{error}");
    }
}
