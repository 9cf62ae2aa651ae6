//! Time: a monotonic clock for decisions, a wall clock for people and for what outlives a restart.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point on the monotonic clock: nanoseconds since an arbitrary start that is fixed for one life
/// of the daemon. Never compared across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// The time that has passed since `earlier`; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point moved back by `by`, at most to the start of the clock.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl std::ops::Add<Duration> for MonoTime {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A point on the wall clock: milliseconds since 1970-01-01T00:00:00Z. Written as RFC 3339.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

impl WallTime {
    /// The time that has passed since `earlier`; zero where `earlier` is later (the wall clock may
    /// step back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This point moved back by `by`.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The calendar date in UTC as `YYYYMMDD`.
    pub fn date(self) -> String {
        self.timestamp().strftime("%Y%m%d").to_string()
    }

    /// The calendar date in UTC as `YYYY-MM-DD`.
    pub fn day(self) -> String {
        self.timestamp().strftime("%Y-%m-%d").to_string()
    }

    fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl std::ops::Add<Duration> for WallTime {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.timestamp().strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(Self(timestamp.as_millisecond()))
    }
}

/// Both clocks, read together by the shell and handed to the brain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The monotonic clock.
    pub mono: MonoTime,
    /// The wall clock.
    pub wall: WallTime,
}

impl Now {
    /// The wall time of a monotonic point that is not in the future.
    pub fn wall_of(&self, at: MonoTime) -> WallTime {
        if at > self.mono { self.wall + at.since(self.mono) } else { self.wall.minus(self.mono.since(at)) }
    }

    /// The monotonic point of a wall time, clamped to the start of the clock.
    pub fn mono_of(&self, at: WallTime) -> MonoTime {
        if at > self.wall { self.mono + at.since(self.wall) } else { self.mono.minus(self.wall.since(at)) }
    }
}

/// A length of time that a person writes with units: `250ms`, `2s`, `1m 30s`, `15m`, `1h`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// No time.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Whole seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Whole milliseconds.
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The plain duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// Why a text is not a duration.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a duration; write a number with a unit, for example `250ms`, `2s`, `1m 30s`, `15m` or `1h`")]
pub struct DurationError {
    text: String,
}

impl FromStr for HumanDuration {
    type Err = DurationError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DurationError { text: text.to_owned() };
        // jiff also reads ISO 8601 (`PT2S`) and `2s ago`; a setting has neither.
        if !text.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            return Err(error());
        }
        // jiff's durations end with hours: days have no fixed length in a calendar. In a setting a day is 24 h.
        let (days, rest) = match text.trim().split_once('d') {
            Some((days, rest)) if !days.is_empty() && days.bytes().all(|c| c.is_ascii_digit()) => {
                (days.parse::<u64>().map_err(|_| error())?, rest.trim_start())
            }
            _ => (0, text.trim()),
        };
        let days = days.checked_mul(24 * 3600).map(Duration::from_secs).ok_or_else(error)?;
        let rest = if rest.is_empty() {
            Duration::ZERO
        } else {
            let parsed: jiff::SignedDuration = rest.parse().map_err(|_| error())?;
            Duration::try_from(parsed).map_err(|_| error())?
        };
        // What is longer than any that can be written would be another one when it is read again.
        let can_be_written = |all: &Duration| jiff::SignedDuration::try_from(*all).is_ok();
        days.checked_add(rest).filter(can_be_written).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.pad("0s");
        }
        // Finer than a millisecond tells a person nothing about an outage.
        let rounded = if self.0 >= Duration::from_millis(1) {
            Duration::from_millis(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX))
        } else {
            self.0
        };
        let signed = jiff::SignedDuration::try_from(rounded).unwrap_or(jiff::SignedDuration::MAX);
        f.pad(&format!("{signed:#}"))
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let signed = jiff::SignedDuration::try_from(self.0).unwrap_or(jiff::SignedDuration::MAX);
        if self.0.is_zero() {
            serializer.serialize_str("0s")
        } else {
            serializer.collect_str(&format_args!("{signed:#}"))
        }
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit in quotes, for example \"2s\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A length of time with its unit: 250ms, 2s, 1m 30s, 15m, 1h.",
            "pattern": "^[0-9]",
            "examples": ["250ms", "2s", "1m 30s", "15m", "1h"]
        })
    }
}
