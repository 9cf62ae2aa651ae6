//! The embedded store: one file, one writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, TransactionBehavior, params};

use super::chain::{self, Row, Tail};
use super::crash;
use super::lock::{Lock, SameFile};
use super::outbox::{self, SqliteOutbox};
use super::schema;
use crate::model::{Epoch, Record};
use crate::ports::{Addressed, Authority, Denied, Journal, JournalError, Outbox};

/// So many commits may wait in the write-ahead log before they are moved into the database: about
/// a megabyte, moved in a few milliseconds.
const COMMITS_PER_CHECKPOINT: u32 = 200;

/// A state that this process owns.
pub struct SqliteState {
    shared: Arc<Shared>,
}

impl SqliteState {
    /// Takes the state at `path` into possession, creates it where there is none, and verifies all
    /// of it. Blocks on the disk.
    ///
    /// # Errors
    /// [`JournalError::Held`] where another process owns it, [`JournalError::Open`] where it cannot
    /// be used (with what to do), [`JournalError::Corrupt`] where a record is not what was written.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let path = schema::locate(path)?;
        schema::require_local(&path)?;
        let lock = Lock::take(&path)?;
        if !path.exists() {
            schema::create(&path)?;
        }
        let connection = schema::open(&path)?;
        let shown = path.display().to_string();
        let tail = chain::walk(&connection, &shown, |_, _| {})?;
        let same = |path: &Path| SameFile::of(path).map_err(|error| schema::refuse(path, error.to_string()));
        let files = vec![same(&path)?, same(&schema::beside(&path, "-wal"))?];
        let highest = AtomicU64::new(tail.highest.0);
        let store = Mutex::new(Store { connection, tail, commits: 0, appends: 0 });
        Ok(Self { shared: Arc::new(Shared { store, doubt: OnceLock::new(), highest, files, lock, path, shown }) })
    }

    /// Who held the state before and did not leave in order (crash, power failure, `kill -9`).
    pub fn left_behind(&self) -> Option<&str> {
        self.shared.lock.left_behind.as_deref()
    }

    /// The file, by its one absolute name.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The three handles. The state is given back when the last of them is dropped.
    pub fn split(self) -> (SqliteJournal, SqliteOutbox, SqliteAuthority) {
        let shared = self.shared;
        (
            SqliteJournal { shared: Arc::clone(&shared) },
            SqliteOutbox { shared: Arc::clone(&shared) },
            SqliteAuthority { shared },
        )
    }
}

/// What the handles share.
pub(super) struct Shared {
    /// Declared before `lock`: the database is closed before the lock is given back.
    store: Mutex<Store>,
    /// Why nothing may be written or called any more. Set once, never cleared.
    doubt: OnceLock<String>,
    /// The highest epoch that is durably granted. Apart from `store`, so that a permit never waits
    /// for a disk.
    highest: AtomicU64,
    /// The database and its log: the names must go on meaning the files that we write to.
    files: Vec<SameFile>,
    lock: Lock,
    path: PathBuf,
    shown: String,
}

pub(super) struct Store {
    pub(super) connection: Connection,
    tail: Tail,
    commits: u32,
    appends: u64,
}

impl Shared {
    /// Why the store is in doubt; looks at the files too.
    fn in_doubt(&self) -> Option<String> {
        if self.doubt.get().is_none()
            && let Some(why) = self.files.iter().chain([&self.lock.identity]).find_map(SameFile::changed)
        {
            self.doubt_for(&why);
        }
        self.doubt.get().cloned()
    }

    fn doubt_for(&self, why: &str) {
        if self.doubt.set(why.to_owned()).is_ok() {
            tracing::error!(state = %self.shown, why, "the state store is in doubt: nothing more is written or started");
        }
    }

    /// Writes by `write`, once: any error puts the store in doubt for good.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(&mut Store) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        if let Some(why) = self.in_doubt() {
            return Err(self.write_error(format!("nothing is written any more since: {why}")));
        }
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let written = write(&mut store).inspect_err(|error| self.doubt_for(&error.to_string()))?;
        store.commits += 1;
        if store.commits >= COMMITS_PER_CHECKPOINT {
            store.commits = 0;
            // What was written is on disk whatever happens here; only what comes next is refused.
            if let Err(error) = store.connection.wal_checkpoint_v2(Some(c"main"), CheckpointMode::PASSIVE)
                && !is_of_another_checkpoint(&error)
            {
                self.doubt_for(&format!("a checkpoint failed: {}", schema::describe(&error)));
            }
        }
        Ok(written)
    }

    /// Reads by `read`.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Store) -> Result<T, JournalError>) -> Result<T, JournalError> {
        read(&self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn write_error(&self, reason: impl Into<String>) -> JournalError {
        JournalError::Write { path: self.shown.clone(), reason: reason.into() }
    }

    pub(super) fn outbox_unreadable(&self, reason: &str) -> JournalError {
        JournalError::Open { path: self.shown.clone(), reason: format!("the outbox cannot be read: {reason}") }
    }

    pub(super) fn corrupt(&self, seq: u64, reason: impl Into<String>) -> JournalError {
        JournalError::Corrupt { path: self.shown.clone(), seq, reason: reason.into() }
    }

    fn append(&self, store: &mut Store, records: &[Record], notices: &[Addressed]) -> Result<(), JournalError> {
        store.appends += 1;
        let append = store.appends;
        let notices = self.texts(notices)?;
        let (rows, tail) = self.follow(&store.tail, records)?;
        let failed = |error: rusqlite::Error| self.write_error(schema::describe(&error));
        crash::point(format_args!("append:{append}:before"));
        rows.iter().for_each(|row| crash::point(format_args!("before:{}", kind(row))));
        // Immediate: whoever else writes is met here, before anything is written.
        let transaction = store.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        self.expect_tail(&transaction, &store.tail)?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO journal (seq, at, entry, checksum) VALUES (?1, ?2, ?3, ?4)")
                .map_err(failed)?;
            for row in &rows {
                insert.execute(params![row.seq, row.at, row.entry, row.checksum]).map_err(failed)?;
            }
        }
        outbox::insert(&transaction, &notices).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        self.highest.store(tail.highest.0, Ordering::SeqCst);
        store.tail = tail;
        rows.iter().for_each(|row| crash::point(format_args!("after:{}", kind(row))));
        crash::point(format_args!("append:{append}:after"));
        Ok(())
    }

    fn follow(&self, tail: &Tail, records: &[Record]) -> Result<(Vec<Row>, Tail), JournalError> {
        let mut tail = tail.clone();
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            let (row, next) = tail
                .follow(record)
                .map_err(|reason| self.write_error(format!("record {} was refused: {reason}", record.seq)))?;
            rows.push(row);
            tail = next;
        }
        Ok((rows, tail))
    }

    /// The journal on disk must end where we left it: nobody else may have written to it.
    fn expect_tail(&self, connection: &Connection, tail: &Tail) -> Result<(), JournalError> {
        let last: Option<(i64, String)> = {
            let failed = |error: rusqlite::Error| self.write_error(schema::describe(&error));
            let mut statement = connection
                .prepare_cached("SELECT seq, checksum FROM journal ORDER BY seq DESC LIMIT 1")
                .map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            match rows.next().map_err(failed)? {
                Some(row) => Some((row.get(0).map_err(failed)?, row.get(1).map_err(failed)?)),
                None => None,
            }
        };
        let ends = match &last {
            Some((seq, checksum)) => u64::try_from(*seq) == Ok(tail.seq) && *checksum == tail.checksum,
            None => tail.seq == 0,
        };
        if ends { Ok(()) } else { Err(self.corrupt(tail.seq, "it was changed by another process while we ran")) }
    }
}

/// Whoever else checkpoints (a backup, a shell) does our work; any other failure is the disk's.
/// (`SQLITE_BUSY` of <https://www.sqlite.org/c3ref/wal_checkpoint_v2.html>.)
pub(super) fn is_of_another_checkpoint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}

/// The kind of a row's entry, as the crash points call it: serde writes the tag first.
fn kind(row: &Row) -> &str {
    row.entry.strip_prefix("{\"kind\":\"").and_then(|rest| rest.split('"').next()).unwrap_or("unknown")
}

/// The journal of an embedded store.
pub struct SqliteJournal {
    pub(super) shared: Arc<Shared>,
}

impl SqliteJournal {
    /// Where it ends.
    pub(super) fn tail(&self) -> Tail {
        self.shared.store.lock().unwrap_or_else(PoisonError::into_inner).tail.clone()
    }
}

impl Journal for SqliteJournal {
    fn sound(&self) -> Result<(), JournalError> {
        self.shared.in_doubt().map_or(Ok(()), |why| Err(self.shared.write_error(why)))
    }

    fn newest(&self) -> Option<(u64, String)> {
        let store = self.shared.store.lock().unwrap_or_else(PoisonError::into_inner);
        (store.tail.seq > 0).then(|| (store.tail.seq, store.tail.checksum.clone()))
    }

    fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        self.shared.write(|store| self.shared.append(store, records, &[]))
    }

    /// In one transaction: the outbox is in the same file.
    fn append_and_tell(
        &mut self,
        records: &[Record],
        notices: &[Addressed],
        _outbox: &Mutex<dyn Outbox>,
    ) -> Result<(), JournalError> {
        if records.is_empty() && notices.is_empty() {
            return Ok(());
        }
        self.shared.write(|store| self.shared.append(store, records, notices))
    }

    fn replay(&mut self) -> Result<Vec<Record>, JournalError> {
        self.shared.read(|store| {
            let mut records = Vec::new();
            let tail = chain::walk(&store.connection, &self.shared.shown, |record, _| records.push(record))?;
            if tail == store.tail {
                Ok(records)
            } else {
                Err(self.shared.corrupt(tail.seq, "the journal was changed by another process while we ran"))
            }
        })
    }
}

/// Who may call, for a daemon that is alone: the highest epoch of its own journal, as long as the
/// store is beyond doubt and still ours.
#[derive(Clone)]
pub struct SqliteAuthority {
    shared: Arc<Shared>,
}

impl SqliteAuthority {
    /// Why the store is in doubt, where it is.
    pub fn in_doubt(&self) -> Option<String> {
        self.shared.in_doubt()
    }

    /// The highest epoch that is durably granted; 0 where none is.
    pub fn highest(&self) -> Epoch {
        Epoch(self.shared.highest.load(Ordering::SeqCst))
    }
}

impl Authority for SqliteAuthority {
    fn permit(&self, epoch: Epoch) -> Result<(), Denied> {
        if let Some(why) = self.in_doubt() {
            return Err(Denied::StoreInDoubt(why));
        }
        let highest = self.highest();
        if epoch.is_overtaken_by(highest) {
            return Err(Denied::Overtaken { ours: epoch, highest });
        }
        if epoch > highest || epoch == Epoch(0) {
            // S2: an epoch that is not in the journal was granted by nobody.
            return Err(Denied::StoreInDoubt(format!("epoch {epoch} is not granted in the journal")));
        }
        Ok(())
    }
}

/// Every record of a state that need not be ours: for the command line while the daemon is down.
///
/// # Errors
/// [`JournalError`], as for [`SqliteState::open`]; the lock is not asked for.
pub fn read_records(path: &Path) -> Result<Vec<Record>, JournalError> {
    let mut records = Vec::new();
    read(path, |record, _| records.push(record))?;
    Ok(records)
}

/// As [`read_records`], each with its checksum in the chain.
///
/// # Errors
/// As there.
pub fn read_linked(path: &Path) -> Result<Vec<(Record, String)>, JournalError> {
    let mut records = Vec::new();
    read(path, |record, checksum| records.push((record, checksum.to_owned())))?;
    Ok(records)
}

/// What the audit chain comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// How many records there are.
    pub records: u64,
    /// The checksum of the last one, in hexadecimal: kept elsewhere, it proves later that nothing
    /// before it was changed or cut off.
    pub head: String,
}

/// Verifies the audit chain of a state that need not be ours (S13), without keeping it in memory.
///
/// # Errors
/// [`JournalError::Corrupt`] at the first record that is not what was written.
pub fn audit(path: &Path) -> Result<Audit, JournalError> {
    let tail = read(path, |_, _| {})?;
    Ok(Audit { records: tail.seq, head: tail.checksum })
}

/// As [`audit`], and the record of this number still has the checksum that was kept elsewhere: so it
/// shows, too, where the end was cut off, or all was written anew.
///
/// # Errors
/// As there.
pub fn audit_against(path: &Path, seq: u64, checksum: &str) -> Result<Audit, JournalError> {
    let mut found = None;
    let tail = read(path, |record, of_record| {
        if record.seq == seq {
            found = Some(of_record == checksum);
        }
    })?;
    let wrong =
        |reason: &str| JournalError::Corrupt { path: path.display().to_string(), seq, reason: reason.to_owned() };
    match found {
        Some(true) => Ok(Audit { records: tail.seq, head: tail.checksum }),
        Some(false) => Err(wrong("its checksum is not the one that was kept: it, or one before it, was written anew")),
        None => Err(wrong("it was there when its checksum was kept, and is not any more: the end was cut off")),
    }
}

fn read(path: &Path, each: impl FnMut(Record, &str)) -> Result<Tail, JournalError> {
    let path = schema::locate(path)?;
    let connection = schema::open_to_read(&path)?;
    chain::walk(&connection, &path.display().to_string(), each)
}
