//! When drills are due, and when there are none.

use std::fmt;

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions, parse_crontab_with};
use jiff::Zoned;
use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::time::WallTime;

/// So many due times in a row may be blocked; a schedule that has none after them has none.
const MOST_BLOCKED: usize = 1000;
/// The minutes of a day.
const DAY: u16 = 24 * 60;

/// A cron expression with its time zone, `0 10 * * 2 Europe/Berlin`; UTC where it names none.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    crontab: Crontab,
}

impl Schedule {
    /// Reads one. Here, and only here, the time zone is looked up.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        match parse_crontab_with(text, options) {
            Ok(crontab) => Ok(Self { text: text.to_owned(), crontab }),
            Err(error) => {
                let said = error.to_string();
                let line = said.lines().rev().map(str::trim).find(|line| line.chars().any(char::is_alphanumeric));
                Err(format!(
                    "`{text}` is no cron expression: {}",
                    line.unwrap_or_default().trim_start_matches(['^', ' '])
                ))
            }
        }
    }

    /// The first time that it is due after this one, blocked ones left out; `None` where there is none
    /// within four years.
    pub fn next_after(&self, at: WallTime, blocked: &[Blocked]) -> Option<WallTime> {
        let mut from = jiff::Timestamp::from_millisecond(at.0).ok()?;
        for _ in 0..MOST_BLOCKED {
            let due = self.crontab.find_next(from).ok()?;
            if !blocked.iter().any(|window| window.holds(&due)) {
                return Some(WallTime(due.timestamp().as_millisecond()));
            }
            from = due.timestamp();
        }
        None
    }

    /// The time as its zone writes it.
    pub fn local(&self, at: WallTime) -> Option<Zoned> {
        let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
        let zone = self.crontab.find_next(at).ok()?.time_zone().clone();
        Some(at.to_zoned(zone))
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A window without drills, in the time zone of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocked {
    /// These days, both included.
    Days {
        /// The first.
        from: Date,
        /// The last.
        to: Date,
    },
    /// Every week, in minutes since Monday 00:00; it may go over the end of the week.
    Weekly {
        /// From then on.
        from: u16,
        /// Until then.
        to: u16,
    },
}

impl Blocked {
    /// Reads one: two dates (`2026-12-20`), or two times of the week (`Fri 16:00`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(from: &str, to: &str) -> Result<Self, String> {
        if let (Ok(from), Ok(to)) = (from.trim().parse::<Date>(), to.trim().parse::<Date>()) {
            return if from <= to { Ok(Self::Days { from, to }) } else { Err(format!("{from} is after {to}")) };
        }
        match (of_week(from), of_week(to)) {
            (Some(from), Some(to)) if from != to => Ok(Self::Weekly { from, to }),
            (Some(_), Some(_)) => Err("it ends where it begins".into()),
            _ => Err(format!("`{from}` to `{to}` are neither two days nor two times of the week")),
        }
    }

    /// Is this time in it?
    pub fn holds(&self, at: &Zoned) -> bool {
        match self {
            Self::Days { from, to } => (*from..=*to).contains(&at.date()),
            Self::Weekly { from, to } => {
                let day = u16::try_from(at.weekday().to_monday_zero_offset()).unwrap_or(0);
                let minute = u16::try_from(i32::from(at.hour()) * 60 + i32::from(at.minute())).unwrap_or(0);
                let minute = day * DAY + minute;
                if from < to { (*from..*to).contains(&minute) } else { minute >= *from || minute < *to }
            }
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days { from, to } => write!(f, "{from} to {to}"),
            Self::Weekly { from, to } => write!(f, "{} to {}", week_time(*from), week_time(*to)),
        }
    }
}

/// `Fri 16:00` as minutes of the week.
fn of_week(text: &str) -> Option<u16> {
    let (day, time) = text.trim().split_once(' ')?;
    let day = DAYS.iter().position(|(name, _)| name.eq_ignore_ascii_case(day))?;
    let (hour, minute) = time.trim().split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then(|| DAY * u16::try_from(day).unwrap_or(0) + hour * 60 + minute)
}

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

fn week_time(minute: u16) -> String {
    let day = DAYS.get(usize::from(minute / DAY)).map_or("", |(name, _)| name);
    format!("{day} {:02}:{:02}", minute % DAY / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> WallTime {
        WallTime(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn next(schedule: &str, from: &str, blocked: &[Blocked]) -> String {
        let due = Schedule::parse(schedule).unwrap().next_after(at(from), blocked);
        due.map_or_else(|| "never".into(), |due| due.to_string())
    }

    #[test]
    fn the_zone_decides_what_the_hour_is_also_where_summer_time_begins() {
        let tuesdays = "0 10 * * 2 Europe/Berlin";
        assert_eq!(next(tuesdays, "2026-03-20T00:00:00Z", &[]), "2026-03-24T09:00:00.000Z");
        assert_eq!(next(tuesdays, "2026-03-24T09:00:00Z", &[]), "2026-03-31T08:00:00.000Z");
        assert_eq!(next("0 10 * * 2", "2026-03-20T00:00:00Z", &[]), "2026-03-24T10:00:00.000Z");
        assert_eq!(next("0 0 30 2 *", "2026-03-20T00:00:00Z", &[]), "never");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for wrong in ["0 10 * *", "0 25 * * 2", "0 10 * * 2 Europe/Atlantis", "", "tuesday"] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
        for (from, to) in [
            ("2026-12-20", "2026-12-19"),
            ("Fri 16:00", "Fri 16:00"),
            ("Fry 16:00", "Mon 6:00"),
            ("2026-12-20", "Mon 06:00"),
        ] {
            assert!(Blocked::parse(from, to).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn blocked_times_are_passed_over() {
        let holidays = Blocked::parse("2026-12-20", "2027-01-05").unwrap();
        assert_eq!(next("0 10 * * 2", "2026-12-16T00:00:00Z", &[holidays]), "2027-01-12T10:00:00.000Z");
        let weekend = Blocked::parse("Fri 16:00", "Mon 06:00").unwrap();
        assert_eq!(weekend.to_string(), "Fri 16:00 to Mon 06:00");
        assert_eq!(next("0 5 * * *", "2026-07-31T06:00:00Z", &[weekend]), "2026-08-04T05:00:00.000Z");
        assert_eq!(next("0 15 * * 5", "2026-07-31T06:00:00Z", &[weekend]), "2026-07-31T15:00:00.000Z");
        assert_eq!(next("0 16 * * 5", "2026-07-31T06:00:00Z", &[weekend]), "never");
    }
}
