//! The inputs and the outputs of a brain as bytes, and back. What is usual is short: a look that found its
//! target well, which is nearly all that there is, takes about a dozen bytes.
//!
//! Times are written as what they differ from the time before. All else is JSON, as in the journal.

use std::time::Duration;

use super::event::{Effect, Event};
use crate::model::{MonoTime, Now, Observation, ProbeName, WallTime};

const WELL: u8 = 1;
const EVENT: u8 = 2;
const EFFECTS: u8 = 3;

/// What is on a tape.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// What the brain was told.
    Input(Now, Event),
    /// What it wanted, where it wanted anything: a list of effects as JSON.
    Output(Vec<u8>),
}

/// Writes frames.
#[derive(Debug)]
pub struct Writer {
    last: Now,
    bytes: Vec<u8>,
}

impl Writer {
    /// From the checkpoint's time on.
    pub fn new(from: Now) -> Self {
        Self { last: from, bytes: Vec::new() }
    }

    /// So many bytes wait to be taken.
    pub fn waiting(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what was written. The frames after it follow from those in it.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// An input; `place` is that of a probe in the settings.
    pub fn input(&mut self, now: Now, event: &Event, place: impl Fn(&ProbeName) -> Option<usize>) {
        if let Event::Observed { probe, started, observation: Observation::Up { latency, facts: None, degraded: None } } =
            event
            && let Some(place) = place(probe)
            && let Ok(latency) = u64::try_from(latency.as_nanos())
        {
            self.bytes.push(WELL);
            self.times(now);
            number(&mut self.bytes, place as u64);
            signed(&mut self.bytes, difference(now.mono.0, started.0));
            number(&mut self.bytes, latency);
            return;
        }
        self.bytes.push(EVENT);
        self.times(now);
        self.json(event);
    }

    /// What the brain wanted.
    pub fn output(&mut self, effects: &[Effect]) {
        if !effects.is_empty() {
            self.bytes.push(EFFECTS);
            self.json(&effects);
        }
    }

    fn times(&mut self, now: Now) {
        signed(&mut self.bytes, difference(now.mono.0, self.last.mono.0));
        signed(&mut self.bytes, now.wall.0.wrapping_sub(self.last.wall.0));
        self.last = now;
    }

    fn json(&mut self, value: &impl serde::Serialize) {
        // What has no JSON reads as nothing, which a replay tells.
        let json = serde_json::to_vec(value).unwrap_or_default();
        number(&mut self.bytes, json.len() as u64);
        self.bytes.extend_from_slice(&json);
    }
}

/// Reads frames.
///
/// # Errors
/// What is wrong, and at which byte.
pub fn read(from: Now, bytes: &[u8], name: impl Fn(usize) -> Option<ProbeName>) -> Result<Vec<Frame>, String> {
    let mut reader = Reader { bytes, at: 0, last: from };
    let mut frames = Vec::new();
    while reader.at < bytes.len() {
        let began = reader.at;
        let frame = reader.frame(&name);
        frames.push(frame.map_err(|what| format!("what is at byte {began} is no frame: {what}"))?);
    }
    Ok(frames)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    last: Now,
}

impl Reader<'_> {
    fn frame(&mut self, name: &impl Fn(usize) -> Option<ProbeName>) -> Result<Frame, String> {
        match self.byte()? {
            WELL => {
                let now = self.times()?;
                let place = usize::try_from(self.number()?).map_err(|error| error.to_string())?;
                let probe = name(place).ok_or_else(|| format!("there is no probe {place}"))?;
                let started = MonoTime(now.mono.0.wrapping_sub(self.signed()?.cast_unsigned()));
                let latency = Duration::from_nanos(self.number()?);
                Ok(Frame::Input(now, Event::Observed { probe, started, observation: Observation::up(latency) }))
            }
            EVENT => {
                let now = self.times()?;
                let json = self.json()?;
                let event = serde_json::from_slice(json).map_err(|error| error.to_string())?;
                Ok(Frame::Input(now, event))
            }
            EFFECTS => Ok(Frame::Output(self.json()?.to_vec())),
            other => Err(format!("a kind {other} is not known")),
        }
    }

    fn times(&mut self) -> Result<Now, String> {
        let mono = MonoTime(self.last.mono.0.wrapping_add(self.signed()?.cast_unsigned()));
        let wall = WallTime(self.last.wall.0.wrapping_add(self.signed()?));
        self.last = Now { mono, wall };
        Ok(self.last)
    }

    fn json(&mut self) -> Result<&[u8], String> {
        let length = usize::try_from(self.number()?).map_err(|error| error.to_string())?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or("it ends too soon")?;
        let json = &self.bytes[self.at..end];
        self.at = end;
        Ok(json)
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.at).ok_or("it ends too soon")?;
        self.at += 1;
        Ok(*byte)
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long".into())
    }

    fn signed(&mut self) -> Result<i64, String> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }
}

fn difference(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b).cast_signed()
}

fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Zigzag: what is near to nothing is short on both sides of it.
fn signed(bytes: &mut Vec<u8>, value: i64) {
    number(bytes, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CauseKind;

    fn at(mono: u64, wall: i64) -> Now {
        Now { mono: MonoTime(mono), wall: WallTime(wall) }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let up = |started| Event::Observed {
            probe: "b".into(),
            started: MonoTime(started),
            observation: Observation::up(Duration::from_micros(1234)),
        };
        let down = Observation::down(CauseKind::Timeout, "no answer");
        let inputs = [
            (at(2_592_000_000_000_000, 1_795_143_600_000), up(2_591_999_999_000_000)),
            // The wall clock was set back.
            (at(2_592_000_100_000_000, 1_795_143_500_000), Event::Tick),
            (
                at(2_592_000_100_000_000, 1_795_143_500_000),
                Event::Observed { probe: "a".into(), started: MonoTime(7), observation: down },
            ),
            (at(2_592_000_200_000_000, 1_795_143_500_100), up(2_592_000_300_000_000)),
        ];
        let start = at(2_592_000_000_000_000 - 5, 1_795_143_599_999);
        let mut writer = Writer::new(start);
        let place = |name: &ProbeName| ["a", "b"].iter().position(|known| *known == name.as_str());
        for (now, event) in &inputs {
            writer.input(*now, event, place);
        }
        writer.output(&[Effect::ProbeNow("a".into())]);
        writer.output(&[]);
        let bytes = writer.take();
        let name = |place: usize| ["a", "b"].get(place).map(|name| (*name).into());
        let frames = read(start, &bytes, name).expect("read");
        assert_eq!(frames.len(), 5);
        for (frame, (now, event)) in frames.iter().zip(inputs) {
            assert_eq!(*frame, Frame::Input(now, event));
        }
        assert_eq!(frames[4], Frame::Output(br#"[{"probe_now":"a"}]"#.to_vec()));
        for end in 1..bytes.len() {
            drop(read(start, &bytes[..end], name));
        }
        assert!(read(start, &[9], name).expect_err("no kind").contains("byte 0"));
        assert!(read(start, &[WELL, 0, 0, 77, 0, 0], name).expect_err("no probe").contains("no probe 77"));
    }

    #[test]
    fn a_look_that_found_its_target_well_is_short() {
        let mut writer = Writer::new(at(1_000_000_000_000, 1_795_143_600_000));
        let event = Event::Observed {
            probe: "a".into(),
            started: MonoTime(1_000_000_000_000),
            observation: Observation::up(Duration::from_micros(1500)),
        };
        writer.input(at(1_000_002_000_000, 1_795_143_600_002), &event, |_| Some(9_999));
        assert!(writer.waiting() <= 16, "{} bytes", writer.waiting());
    }
}
