//! Times for people: when, and how long ago.

use std::time::Duration;

use crate::model::WallTime;

/// A length of time in its two largest units: `350 ms`, `12 s`, `3 min 10 s`, `2 h 5 min`, `3 d 4 h`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
    };
    match seconds {
        0 if !time.is_zero() => format!("{} ms", time.as_millis()),
        0..10 if time.subsec_millis() >= 100 => format!("{}.{} s", seconds, time.subsec_millis() / 100),
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// In whole seconds: what counts down or up before somebody's eyes should not flicker.
pub fn whole(time: Duration) -> String {
    span(Duration::from_secs(time.as_secs()))
}

/// `12 s ago`, `in 3 min 10 s`, `now`.
pub fn relative(now: WallTime, at: WallTime) -> String {
    let (past, future) = (now.since(at), at.since(now));
    if future >= Duration::from_secs(1) {
        format!("in {}", whole(future))
    } else if past >= Duration::from_secs(1) {
        format!("{} ago", whole(past))
    } else {
        "now".into()
    }
}

/// `2026-07-30 03:12:44 UTC`.
pub fn absolute(at: WallTime) -> String {
    // RFC 3339 in UTC: YYYY-MM-DDTHH:MM:SS.mmmZ.
    let text = at.to_string();
    let (date, clock) = text.split_once('T').unwrap_or((text.as_str(), ""));
    format!("{date} {} UTC", clock.split('.').next().unwrap_or_default())
}

/// `2026-07-30 03:12:44 UTC (12 s ago)`.
pub fn moment(now: WallTime, at: WallTime) -> String {
    format!("{} ({})", absolute(at), relative(now, at))
}

/// `03:12:44`: for lines whose date is on the page already.
pub fn clock(at: WallTime) -> String {
    absolute(at).get(11..19).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{NOW, ago, hence};

    #[test]
    fn spans_have_two_units_at_most() {
        for (milliseconds, text) in [
            (0, "0 s"),
            (350, "350 ms"),
            (1_000, "1 s"),
            (1_250, "1.2 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (190_000, "3 min 10 s"),
            (7_500_000, "2 h 5 min"),
            (3 * 86_400_000 + 4 * 3_600_000, "3 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn moments_are_both_absolute_and_relative() {
        assert_eq!(moment(NOW, ago(12)), "2026-07-30 03:12:32 UTC (12 s ago)");
        assert_eq!(moment(NOW, hence(190)), "2026-07-30 03:15:54 UTC (in 3 min 10 s)");
        assert_eq!(relative(NOW, NOW), "now");
        assert_eq!(clock(NOW), "03:12:44");
    }
}
