//! A recorded stretch of a brain's life, lived again: the same inputs have to give the same decisions, byte
//! for byte.

use serde::Serialize;

use super::brain::Brain;
use super::checkpoint::Checkpoint;
use super::event::Effect;
use super::given::ActionCheck;
use super::ledger::IllegalRecord;
use super::tape::Frame;
use crate::model::{Entry, Record, WallTime};

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Played {
    /// So many inputs were played.
    pub inputs: u64,
    /// So many of them led to anything.
    pub outputs: u64,
    /// So many records of the journal came out as they are there.
    pub records: u64,
    /// So many decisions are among them.
    pub decisions: u64,
    /// The last of these records.
    pub last: Option<u64>,
    /// Where it first came out otherwise. Nothing was played behind it.
    pub difference: Option<Difference>,
}

/// Where a replay came out otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// After this input, from 1.
    pub input: u64,
    /// When that was.
    pub at: WallTime,
    /// Which record of the journal; `None` where it is none that differs.
    pub record: Option<u64>,
    /// What was recorded.
    pub expected: String,
    /// What came out now.
    pub got: String,
}

/// Plays frames from a checkpoint on. `journal` is all of the journal.
///
/// # Errors
/// [`IllegalRecord`] where the journal up to the checkpoint does not replay.
pub fn play(
    checkpoint: Checkpoint,
    frames: &[Frame],
    journal: &[Record],
    check: ActionCheck,
) -> Result<Played, IllegalRecord> {
    let known = journal.iter().take_while(|record| record.seq <= checkpoint.seq).count();
    let (begins, now, version) = (checkpoint.is_beginning(), checkpoint.now, checkpoint.version.clone());
    let mut brain = Brain::restore(checkpoint, &journal[..known])?;
    brain.set_action_check(check);
    let mut played = Played::default();
    let mut frames = frames.iter().peekable();
    let recorded = |frames: &mut std::iter::Peekable<std::slice::Iter<'_, Frame>>| match frames.peek() {
        Some(Frame::Output(json)) => {
            frames.next();
            json.clone()
        }
        _ => Vec::new(),
    };
    if begins && frames.peek().is_some() {
        let effects = brain.begin(now, &version);
        played.compare(now.wall, &recorded(&mut frames), &effects, journal);
    }
    while let (None, Some(frame)) = (&played.difference, frames.next()) {
        match frame {
            Frame::Input(now, event) => {
                played.inputs += 1;
                let effects = brain.handle(*now, event.clone());
                played.compare(now.wall, &recorded(&mut frames), &effects, journal);
            }
            Frame::Output(json) => {
                let expected = String::from_utf8_lossy(json).into_owned();
                played.differ(now.wall, None, expected, "an input; the recording has an output twice".into());
            }
        }
    }
    Ok(played)
}

impl Played {
    fn differ(&mut self, at: WallTime, record: Option<u64>, expected: String, got: String) {
        self.difference.get_or_insert(Difference { input: self.inputs, at, record, expected, got });
    }

    fn compare(&mut self, at: WallTime, recorded: &[u8], effects: &[Effect], journal: &[Record]) {
        let got = if effects.is_empty() { Vec::new() } else { serde_json::to_vec(effects).unwrap_or_default() };
        if got != recorded {
            let expected: Vec<Effect> = serde_json::from_slice(recorded).unwrap_or_default();
            self.locate(at, &expected, effects);
            // Different bytes and equal effects: written by a version that wrote them otherwise.
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.differ(at, None, text(recorded), text(&got));
            return;
        }
        self.outputs += u64::from(!effects.is_empty());
        for record in records(effects) {
            let place = usize::try_from(record.seq).ok().and_then(|seq| seq.checked_sub(1));
            match place.and_then(|place| journal.get(place)) {
                Some(written) if written == record => {
                    self.records += 1;
                    self.decisions += u64::from(matches!(record.entry, Entry::Decided { .. }));
                    self.last = Some(record.seq);
                }
                Some(written) => {
                    self.differ(at, Some(record.seq), format!("in the journal: {}", json(written)), json(record));
                }
                None => {
                    let expected = "nothing: the journal ends before it".to_owned();
                    self.differ(at, Some(record.seq), expected, json(record));
                }
            }
        }
    }

    /// The first record that differs, else the first effect.
    fn locate(&mut self, at: WallTime, expected: &[Effect], got: &[Effect]) {
        let nothing = || "nothing".to_owned();
        let (mut was, mut is) = (records(expected), records(got));
        loop {
            match (was.next(), is.next()) {
                (None, None) => break,
                (was, is) if was == is => {}
                (was, is) => {
                    let seq = was.or(is).map(|record| record.seq);
                    return self.differ(at, seq, was.map_or_else(nothing, json), is.map_or_else(nothing, json));
                }
            }
        }
        for place in 0..expected.len().max(got.len()) {
            let (was, is) = (expected.get(place), got.get(place));
            if was != is {
                return self.differ(at, None, was.map_or_else(nothing, json), is.map_or_else(nothing, json));
            }
        }
    }
}

fn records(effects: &[Effect]) -> impl Iterator<Item = &Record> {
    effects.iter().flat_map(|effect| match effect {
        Effect::Journal(records) => records.as_slice(),
        _ => &[],
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
