//! Crash points: places where a test can make the daemon die, as suddenly as by `kill -9`.
//!
//! With the cargo feature `crash-points` and `FAILOVERD_CRASH_AT="NAME:N"` in the environment the
//! process kills itself at the `N`-th time that it comes to the point `NAME` (`N` may be left out:
//! the first time). `stop@NAME:N` freezes it there, as by `kill -STOP`. Without the feature a point is nothing at all: it is not even formatted.
//!
//! The journal's points: `before:KIND` and `after:KIND` of every record (`KIND` as in the record's
//! JSON, for example `before:step_intent:2`), and `append:I:before`, `append:I:after` of the
//! process's `I`-th append (`append:7:after`). Of several daemons, `cluster:before` and `cluster:after` each write
//! to the cluster, and `permitted` between each permit and its call.

/// With the feature, the version of the journal's records up to which this process says that it reads them: it plays a
/// later version of `failoverd` beside one of now.
pub const SCHEMA: &str = "FAILOVERD_PLAYS_JOURNAL_SCHEMA";

/// The version of the journal's records that this process reads.
pub fn journal_schema(known: u32) -> u32 {
    let played = cfg!(feature = "crash-points").then(|| std::env::var(SCHEMA).ok()?.parse().ok()).flatten();
    played.unwrap_or(known)
}

/// The variable that names where to die.
pub const VARIABLE: &str = "FAILOVERD_CRASH_AT";

/// Dies here if the environment says so.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: std::fmt::Arguments<'_>) {}

/// Dies here if the environment says so.
#[cfg(feature = "crash-points")]
pub fn point(name: std::fmt::Arguments<'_>) {
    armed::point(&name.to_string());
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        hits_left: AtomicU64,
        freezes: bool,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn point(name: &str) {
        let armed = ARMED.get_or_init(|| std::env::var(super::VARIABLE).ok().map(|text| parse(&text)));
        let Some(armed) = armed else { return };
        if armed.name == name && armed.hits_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Not `abort`: nothing may run on the way out, no handler and no destructor.
            let signal = if armed.freezes { rustix::process::Signal::STOP } else { rustix::process::Signal::KILL };
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
    }

    fn parse(text: &str) -> Armed {
        let (freezes, text) = text.strip_prefix("stop@").map_or((false, text), |rest| (true, rest));
        let (name, hits) = match text.rsplit_once(':') {
            Some((name, last)) => match last.parse::<u64>() {
                Ok(hits) => (name, hits.max(1)),
                Err(_) => (text, 1),
            },
            None => (text, 1),
        };
        Armed { name: name.to_owned(), hits_left: AtomicU64::new(hits), freezes }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn reads_a_name_with_and_without_a_count() {
            for (text, name, hits) in [
                ("before:step_intent:3", "before:step_intent", 3),
                ("after:run_started", "after:run_started", 1),
                ("append:7:before", "append:7:before", 1),
                ("call", "call", 1),
                ("call:0", "call", 1),
            ] {
                let armed = parse(text);
                assert_eq!((armed.name.as_str(), armed.hits_left.into_inner()), (name, hits), "{text}");
            }
        }
    }
}
