//! The file: how it is created, opened, examined, and what its errors mean to a person.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::ports::JournalError;

/// "fail": marks a SQLite file as ours.
const APPLICATION_ID: i32 = 0x6661_696c;

/// The version that this program writes and understands.
pub(super) const VERSION: i64 = 1;

/// How long another process (a `sqlite3` shell, a backup) may keep us from writing.
const BUSY: Duration = Duration::from_secs(1);

/// File systems on which neither SQLite's WAL nor a lock can be relied on: a client that loses
/// touch with the server loses its locks, and is not told.
const NETWORK_FILE_SYSTEMS: [(u32, &str); 6] = [
    (0x0000_6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0000_517b, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
];

const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
CREATE TABLE journal (
    seq      INTEGER PRIMARY KEY CHECK (seq > 0),
    at       INTEGER NOT NULL,
    entry    TEXT    NOT NULL,
    checksum TEXT    NOT NULL
) STRICT;
CREATE TABLE outbox (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    route    TEXT    NOT NULL,
    notice   TEXT    NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    given_up INTEGER NOT NULL DEFAULT 0,
    reason   TEXT
) STRICT;
CREATE INDEX outbox_pending ON outbox (id) WHERE given_up = 0;
CREATE VIEW log AS
    SELECT seq,
           strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000.0, 'unixepoch') AS time,
           json_extract(entry, '$.kind') AS kind,
           json_remove(entry, '$.kind') AS entry
    FROM journal ORDER BY seq;
";

/// What came after the first version and which an older program leaves alone: made where it is missing.
const ADDED: &str = "
CREATE TABLE IF NOT EXISTS outbox_handed_over (
    id   INTEGER PRIMARY KEY NOT NULL,
    copy INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS outbox_threads (
    route    TEXT NOT NULL,
    incident TEXT NOT NULL,
    thread   TEXT NOT NULL,
    PRIMARY KEY (route, incident)
) STRICT;
";

/// A path with something behind its end: `state.db` → `state.db-wal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn refuse(path: &Path, reason: impl Into<String>) -> JournalError {
    JournalError::Open { path: path.display().to_string(), reason: reason.into() }
}

/// The one absolute name of the state, whatever links lead to it, so that two daemons that were
/// given two names of one file meet at one lock.
pub(super) fn locate(path: &Path) -> Result<PathBuf, JournalError> {
    let user = rustix::process::geteuid().as_raw();
    let name =
        path.file_name().ok_or_else(|| refuse(path, "this does not name a file; write sqlite:/DIRECTORY/state.db"))?;
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let directory = parent.canonicalize().map_err(|error| {
        let directory = parent.display();
        refuse(path, match error.kind() {
            io::ErrorKind::NotFound => format!(
                "the directory {directory} does not exist; create it (`install -d -m 0700 -o USER {directory}`), or let systemd do so with StateDirectory=failoverd"
            ),
            _ => format!("the directory {directory} cannot be reached by uid {user}: {error}"),
        })
    })?;
    if !directory.is_dir() {
        return Err(refuse(path, format!("{} is not a directory", directory.display())));
    }
    let located = directory.join(name);
    match fs::metadata(&located) {
        Ok(metadata) if metadata.is_dir() => {
            Err(refuse(path, "this is a directory; name a file in it, for example state.db"))
        }
        Ok(metadata) if !metadata.is_file() => Err(refuse(path, "this is not a plain file")),
        Ok(_) => located.canonicalize().map_err(|error| refuse(path, error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(located),
        Err(error) => Err(refuse(path, format!("it cannot be reached by uid {user}: {error}"))),
    }
}

/// Refuses network file systems.
pub(super) fn require_local(path: &Path) -> Result<(), JournalError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    // Where the question itself fails, the lock and the database will say more.
    let Ok(about) = rustix::fs::statfs(directory) else { return Ok(()) };
    // The magic numbers have 32 bits; the field is wider and signed on some machines.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let magic = about.f_type as u32;
    match NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == magic) {
        None => Ok(()),
        Some((_, name)) => Err(refuse(
            path,
            format!(
                "{} is on {name}, a network file system, where locks may be lost unnoticed; put the state on a local disk or a block volume (EBS, not EFS)",
                directory.display()
            ),
        )),
    }
}

/// Makes a new, empty state file under the lock. It appears under its name only when it is whole,
/// so that an empty or half-made file under that name is never ours.
pub(super) fn create(path: &Path) -> Result<(), JournalError> {
    let wal = beside(path, "-wal");
    if wal.exists() {
        return Err(refuse(
            path,
            format!(
                "the database is gone, but {} is there, which holds a part of it; restore the database, or remove both",
                wal.display()
            ),
        ));
    }
    let draft = beside(path, ".new");
    let failed = |error: &dyn std::fmt::Display| refuse(path, format!("cannot create it: {error}"));
    for leftover in [draft.clone(), beside(&draft, "-journal")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(|error| failed(&error))?;
    let filled = (|| {
        let mut connection = Connection::open_with_flags(&draft, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute("INSERT INTO meta VALUES ('schema', ?1)", [VERSION.to_string()])?;
        transaction.execute(
            "INSERT INTO meta VALUES ('created_by', ?1)",
            [concat!("failoverd ", env!("CARGO_PKG_VERSION"))],
        )?;
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error)
    })();
    filled.map_err(|error: rusqlite::Error| failed(&describe(&error)))?;
    fs::rename(&draft, path).map_err(|error| failed(&error))?;
    // The name is as durable as the content only when the directory is on disk too.
    let directory = fs::File::open(path.parent().unwrap_or(Path::new("/"))).map_err(|error| failed(&error))?;
    directory.sync_all().map_err(|error| failed(&error))
}

/// Opens an existing file for writing and examines it. Under the lock only.
pub(super) fn open(path: &Path) -> Result<Connection, JournalError> {
    let fault = |error: rusqlite::Error| refuse(path, describe(&error));
    tighten(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY).map_err(fault)?;
    examine(&connection, path)?;
    if connection.is_readonly("main").map_err(fault)? {
        let user = rustix::process::geteuid().as_raw();
        return Err(refuse(
            path,
            format!("it is read-only for uid {user}; give it to the user that runs failoverd (chown), mode 0600"),
        ));
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(fault)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(refuse(
            path,
            format!(
                "the write-ahead log cannot be used here (journal_mode is {mode}); does the file system know shared memory?"
            ),
        ));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(fault)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(fault)?;
    // SQLite drops the errors of its own checkpoints; ours are looked at.
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(fault)?;
    check_damage(&connection, path)?;
    connection.execute_batch(ADDED).map_err(fault)?;
    // What a killed process wrote and nobody synced can be read from the page cache, and be gone
    // after a power failure. Nothing may be decided by it before it is on disk for sure.
    connection.wal_checkpoint_v2(Some(c"main"), CheckpointMode::FULL).map_err(fault)?;
    Ok(connection)
}

/// Opens an existing file for reading only.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, JournalError> {
    if !path.exists() {
        return Err(refuse(path, "there is no such file; has the daemon ever run with this state?"));
    }
    let fault = |error: rusqlite::Error| {
        let hint = match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                "; run this as root or as the daemon's user, or copy the file and its -wal to where you may write"
            }
            _ => "",
        };
        refuse(path, format!("{}{hint}", describe(&error)))
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY).map_err(fault)?;
    examine(&connection, path)?;
    Ok(connection)
}

/// The file tells of every change and every operator: nobody else's business.
fn tighten(path: &Path) -> Result<(), JournalError> {
    let about = fs::metadata(path).map_err(|error| refuse(path, error.to_string()))?;
    if about.len() == 0 {
        return Err(refuse(
            path,
            "it is empty, which failoverd never leaves behind; restore it, or remove it to begin anew (epochs and cool-downs begin anew too)",
        ));
    }
    let open_to_others = about.permissions().mode() & 0o077 != 0;
    if open_to_others && about.uid() == rustix::process::geteuid().as_raw() {
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|error| refuse(path, format!("cannot set its mode to 0600: {error}")))?;
    }
    Ok(())
}

/// Is it ours, and of a version that we know?
fn examine(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let fault = |error: rusqlite::Error| refuse(path, describe(&error));
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fault)?;
    if application != APPLICATION_ID {
        return Err(refuse(
            path,
            "it is not failoverd's: a database of another program, or no database; name another file in daemon.state",
        ));
    }
    let version: String = connection
        .query_row("SELECT value FROM meta WHERE key = 'schema'", [], |row| row.get(0))
        .map_err(|error| refuse(path, format!("its schema version cannot be read: {}", describe(&error))))?;
    match version.parse::<i64>() {
        Ok(VERSION) => Ok(()),
        Ok(newer) if newer > VERSION => Err(refuse(
            path,
            format!(
                "it was written by a newer failoverd (schema {newer}; failoverd {} knows schema {VERSION}); install that version again",
                env!("CARGO_PKG_VERSION")
            ),
        )),
        _ => Err(refuse(path, format!("its schema version is {version:?}, which no failoverd ever wrote"))),
    }
}

fn check_damage(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let fault = |error: rusqlite::Error| refuse(path, describe(&error));
    let mut statement = connection.prepare("PRAGMA quick_check(3)").map_err(fault)?;
    let found: Vec<String> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(fault)?;
    if found.len() == 1 && found[0] == "ok" {
        return Ok(());
    }
    Err(refuse(path, format!("it is damaged ({}); {RESTORE}", found.join("; "))))
}

const RESTORE: &str = "restore it from a backup; an empty journal would grant old epochs again, so move it away only when no run can be under way";

/// What a SQLite error means to a person, and what to do.
pub(super) fn describe(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("no space is left ({error}); make room, then start failoverd again"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another process keeps it locked ({error}); is a sqlite3 shell or a backup open on it?")
        }
        Some(ErrorCode::SystemIoFailure) => {
            let code = error.sqlite_error().map_or(0, |error| error.extended_code);
            format!("the disk or the file system failed ({error}, code {code}); look into the kernel's log")
        }
        Some(ErrorCode::NotADatabase) => "it is not a SQLite database; name another file in daemon.state".to_owned(),
        Some(ErrorCode::DatabaseCorrupt) => format!("it is damaged ({error}); {RESTORE}"),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            let user = rustix::process::geteuid().as_raw();
            format!("it, or its directory, cannot be opened for writing by uid {user} ({error})")
        }
        _ => error.to_string(),
    }
}
