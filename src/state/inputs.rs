//! What the brain was told, beside the state: a folder of its own that may be lost at any time.
//!
//! A segment is a file: a line that says what it is, then blocks. `block = length (4 bytes, little endian),
//! the same with each bit turned, sha256(checksum of the block before it, payload), payload`: so a block that
//! was cut off is told from one whose length was changed. The first one's payload is the checkpoint that the
//! segment begins with. A segment beside which a file `.keep` lies has seen an incident.
//!
//! Nothing is synced: what a killed process wrote is there, what a power failure takes is told by a replay.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::schema;

const HEAD: &[u8] = b"failoverd inputs 1\n";
/// So many segments without an incident are kept: the one that is written, and the one before it.
const QUIET: usize = 2;

/// Why the recording cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the recording {path}: {reason}")]
pub struct InputsError {
    path: String,
    reason: String,
}

impl InputsError {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.display().to_string(), reason: reason.to_string() }
    }
}

/// Where the recording of a state is: beside it.
pub fn inputs_path(state: &Path) -> PathBuf {
    schema::beside(state, ".inputs")
}

/// The recording, for the one who writes it.
pub struct InputsWriter {
    folder: PathBuf,
    keep: Duration,
    most_bytes: u64,
    next: u64,
    segment: Option<(File, [u8; 32], PathBuf)>,
}

impl InputsWriter {
    /// Opens the folder, or makes it. Segments with incidents are kept for `keep`; all together take
    /// `most_bytes` at most.
    ///
    /// # Errors
    /// [`InputsError`] where that cannot be done.
    pub fn open(folder: &Path, keep: Duration, most_bytes: u64) -> Result<Self, InputsError> {
        let fault = |error: io::Error| InputsError::new(folder, error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        let last = segments(folder).map_err(fault)?.last().map_or(0, |segment| segment.number);
        Ok(Self { folder: folder.to_owned(), keep, most_bytes, next: last + 1, segment: None })
    }

    /// Begins a segment, and gives up those that nobody will ask for.
    ///
    /// # Errors
    /// [`InputsError`]; nothing can be written then until one can be begun.
    pub fn begin(&mut self, checkpoint: &[u8]) -> Result<(), InputsError> {
        self.segment = None;
        let path = self.folder.join(format!("{:08}.segment", self.next));
        let fault = |error: io::Error| InputsError::new(&path, error);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(fault)?;
        file.write_all(HEAD).map_err(fault)?;
        self.next += 1;
        self.segment = Some((file, [0; 32], path));
        self.write(checkpoint)?;
        self.prune().map_err(|error| InputsError::new(&self.folder, error))
    }

    /// Appends a block to the segment.
    ///
    /// # Errors
    /// [`InputsError`]; the segment ends there.
    pub fn write(&mut self, payload: &[u8]) -> Result<(), InputsError> {
        let Some((mut file, before, path)) = self.segment.take() else { return Ok(()) };
        let checksum = link(&before, payload);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut block = Vec::with_capacity(payload.len() + 40);
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&(!length).to_le_bytes());
        block.extend_from_slice(&checksum);
        block.extend_from_slice(payload);
        file.write_all(&block).map_err(|error| InputsError::new(&path, error))?;
        self.segment = Some((file, checksum, path));
        Ok(())
    }

    /// The segment has seen an incident.
    ///
    /// # Errors
    /// [`InputsError`].
    pub fn keep(&self) -> Result<(), InputsError> {
        let Some((_, _, path)) = &self.segment else { return Ok(()) };
        let mark = path.with_extension("keep");
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&mark);
        made.map(drop).map_err(|error| InputsError::new(&mark, error))
    }

    fn prune(&self) -> io::Result<()> {
        let all = segments(&self.folder)?;
        let (quiet, kept): (Vec<&Segment>, Vec<&Segment>) = all.iter().partition(|segment| !segment.is_kept);
        let now = SystemTime::now();
        let is_old = |segment: &&&Segment| now.duration_since(segment.changed).is_ok_and(|age| age > self.keep);
        let mut gone: Vec<u64> = quiet.iter().rev().skip(QUIET).map(|segment| segment.number).collect();
        gone.extend(kept.iter().filter(is_old).map(|segment| segment.number));
        // The one that was just begun stays.
        let current = self.next.saturating_sub(1);
        let mut left: u64 =
            all.iter().filter(|segment| !gone.contains(&segment.number)).map(|segment| segment.bytes).sum();
        for segment in &all {
            if left <= self.most_bytes {
                break;
            }
            if !gone.contains(&segment.number) && segment.number != current {
                left = left.saturating_sub(segment.bytes);
                gone.push(segment.number);
            }
        }
        for segment in all.iter().filter(|segment| gone.contains(&segment.number) && segment.number != current) {
            fs::remove_file(&segment.path)?;
            drop(fs::remove_file(segment.path.with_extension("keep")));
        }
        Ok(())
    }
}

/// A segment on the disk.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its number: later ones are higher.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    is_kept: bool,
    bytes: u64,
    changed: SystemTime,
}

/// The segments of a recording, the oldest first.
///
/// # Errors
/// [`InputsError`] where there is none.
pub fn read_segments(folder: &Path) -> Result<Vec<Segment>, InputsError> {
    segments(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => InputsError::new(
            folder,
            "there is no such folder; it is kept by a daemon that runs with this state, unless recording.keep is 0s",
        ),
        _ => InputsError::new(folder, error),
    })
}

fn segments(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let (Some(number), true) = (number, path.extension().is_some_and(|extension| extension == "segment")) else {
            continue;
        };
        let about = fs::metadata(&path)?;
        let is_kept = path.with_extension("keep").exists();
        let changed = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Segment { number, is_kept, bytes: about.len(), changed, path });
    }
    found.sort_by_key(|segment| segment.number);
    Ok(found)
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The payload of its first block.
    pub checkpoint: Vec<u8>,
    /// The payloads of the others, one behind the other.
    pub rest: Vec<u8>,
    /// Its last block is not whole: its writer was killed, or is writing it.
    pub is_torn: bool,
}

impl Segment {
    /// Reads and verifies it; `None` where not even its checkpoint is whole.
    ///
    /// # Errors
    /// [`InputsError`] where a block is not what was written.
    pub fn read(&self) -> Result<Option<Blocks>, InputsError> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|error| InputsError::new(&self.path, error.to_string()))?;
        blocks(&bytes, &self.path)
    }
}

/// What the bytes of a segment hold; see [`Segment::read`].
pub(super) fn blocks(bytes: &[u8], path: &Path) -> Result<Option<Blocks>, InputsError> {
    let fault = |reason: String| InputsError::new(path, reason);
    let Some(mut left) = bytes.strip_prefix(HEAD) else {
        return if HEAD.starts_with(bytes) { Ok(None) } else { Err(fault("it is no recording of ours".into())) };
    };
    let (mut checkpoint, mut rest, mut before, mut number) = (None, Vec::new(), [0; 32], 0_u64);
    let mut is_torn = false;
    while !left.is_empty() {
        number += 1;
        let changed = |what: &str| Err(fault(format!("block {number} was changed: its {what}")));
        let (payload, checksum, behind) = match split(left) {
            Split::Whole(payload, checksum, behind) => (payload, checksum, behind),
            Split::Torn => {
                is_torn = true;
                break;
            }
            Split::Changed => return changed("length is not what was written"),
        };
        if link(&before, payload) != checksum {
            return changed("checksum does not match what it says and what came before");
        }
        match checkpoint {
            None => checkpoint = Some(payload.to_vec()),
            Some(_) => rest.extend_from_slice(payload),
        }
        (before, left) = (checksum, behind);
    }
    Ok(checkpoint.map(|checkpoint| Blocks { checkpoint, rest, is_torn }))
}

/// The next block, its checksum, and what is behind it.
enum Split<'a> {
    Whole(&'a [u8], [u8; 32], &'a [u8]),
    Torn,
    Changed,
}

fn split(bytes: &[u8]) -> Split<'_> {
    let Some((length, bytes)) = bytes.split_first_chunk::<4>() else { return Split::Torn };
    let Some((turned, bytes)) = bytes.split_first_chunk::<4>() else { return Split::Torn };
    let length = u32::from_le_bytes(*length);
    if u32::from_le_bytes(*turned) != !length {
        return Split::Changed;
    }
    let Some((checksum, bytes)) = bytes.split_first_chunk::<32>() else { return Split::Torn };
    match usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length)) {
        Some((payload, behind)) => Split::Whole(payload, *checksum, behind),
        None => Split::Torn,
    }
}

fn link(before: &[u8; 32], payload: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update(payload);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(folder: &Path, most: u64) -> InputsWriter {
        InputsWriter::open(folder, Duration::from_secs(3600), most).expect("opened")
    }

    #[test]
    fn a_torn_end_is_dropped_and_a_changed_middle_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = writer(folder.path(), u64::MAX);
        writer.begin(b"checkpoint").expect("begun");
        writer.write(b"one").expect("written");
        writer.write(b"two").expect("written");
        let segment = read_segments(folder.path()).expect("listed").remove(0);
        let whole = segment.read().expect("read").expect("whole");
        assert_eq!((&*whole.checkpoint, &*whole.rest, whole.is_torn), (&b"checkpoint"[..], &b"onetwo"[..], false));
        let bytes = fs::read(&segment.path).expect("read");
        for end in 0..bytes.len() {
            fs::write(&segment.path, &bytes[..end]).expect("cut");
            let read = segment.read().expect("a cut is no change");
            assert!(read.is_none_or(|read| b"onetwo".starts_with(&read.rest)));
        }
        // Whichever byte it is.
        for place in HEAD.len()..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            fs::write(&segment.path, &changed).expect("changed");
            assert!(segment.read().expect_err("told").to_string().contains(" was changed"), "byte {place}");
        }
    }

    #[test]
    fn what_has_seen_no_incident_goes_and_what_has_stays_while_there_is_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut kept = writer(folder.path(), u64::MAX);
        for number in 0..6 {
            kept.begin(b"checkpoint").expect("begun");
            if number == 1 {
                kept.keep().expect("kept");
            }
        }
        let numbers = || read_segments(folder.path()).expect("listed").iter().map(|s| s.number).collect::<Vec<_>>();
        assert_eq!(numbers(), [2, 5, 6]);
        drop(kept);
        let mut again = writer(folder.path(), 1);
        again.begin(b"checkpoint").expect("begun");
        assert_eq!(numbers(), [7], "there is room for no more than the one that is written");
    }
}
