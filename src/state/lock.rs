//! Who owns the state: one process, by a lock of the operating system.
//!
//! The lock is an `flock` on `STATE.lock`. It ends with the process, however that dies, so that a
//! stale lock cannot exist; what is written in the file is only for people. The file itself is
//! never deleted: deleting a lock file lets two processes lock two files of one name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use crate::model::WallTime;
use crate::ports::JournalError;

/// More of a lock file than this is not shown to anybody.
const HOLDER_MAX: u64 = 256;

/// A file as it was when we began: its name must go on meaning the very same file.
#[derive(Debug)]
pub(super) struct SameFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SameFile {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Why the name no longer means the same file. A stat, not an open: closing a second
    /// descriptor of the database would drop SQLite's own locks on it.
    pub(super) fn changed(&self) -> Option<String> {
        match self.path.metadata() {
            Ok(now) if now.dev() == self.device && now.ino() == self.inode => None,
            Ok(_) => Some(format!("{} was replaced by another file", self.path.display())),
            Err(error) => Some(format!("{} is gone: {error}", self.path.display())),
        }
    }
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    pub(super) identity: SameFile,
    /// What the holder before us had written, where it did not leave in order.
    pub(super) left_behind: Option<String>,
}

impl Lock {
    /// Takes the lock for the state at `state`.
    pub(super) fn take(state: &Path) -> Result<Self, JournalError> {
        let mut name = state.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let open_error = |what: &str, error: &io::Error| JournalError::Open {
            path: state.display().to_string(),
            reason: format!("{what} the lock file {}: {error}{}", path.display(), advice(&path, error)),
        };
        // Between our open and our lock another process may have put another file in its place.
        for _ in 0..8 {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(|error| open_error("cannot open", &error))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = read_holder(&mut file)
                        .unwrap_or_else(|| "a process that has not yet written who it is".to_owned());
                    return Err(JournalError::Held { path: state.display().to_string(), holder });
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(open_error("cannot lock", &io::Error::from(error))),
            }
            let identity = SameFile::of(&path).map_err(|error| open_error("cannot look at", &error))?;
            let ours = file.metadata().map_err(|error| open_error("cannot look at", &error))?;
            if (ours.dev(), ours.ino()) != (identity.device, identity.inode) {
                continue;
            }
            let left_behind = read_holder(&mut file);
            write_holder(&mut file).map_err(|error| open_error("cannot write", &error))?;
            return Ok(Self { file, identity, left_behind });
        }
        Err(open_error("cannot keep", &io::Error::other("it is replaced again and again by another process")))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Empty says: left in order. The lock itself ends with the descriptor.
        let _ = self.file.set_len(0);
    }
}

fn read_holder(file: &mut File) -> Option<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(HOLDER_MAX).read_to_end(&mut bytes).ok()?;
    // It ends up on a terminal, and anybody in the group may have written it.
    let text: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn write_holder(file: &mut File) -> io::Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let system = rustix::system::uname();
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(
        file,
        "pid {} on host {} since {since} (failoverd {})",
        std::process::id(),
        system.nodename().to_string_lossy(),
        env!("CARGO_PKG_VERSION"),
    )
}

fn advice(path: &Path, error: &io::Error) -> String {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return "; no space is left: make room, then start failoverd again".to_owned();
    }
    let user = rustix::process::geteuid().as_raw();
    let directory = path.parent().unwrap_or(Path::new("/")).display();
    format!("; it and the directory {directory} must be writable for the user that runs failoverd (uid {user})")
}
