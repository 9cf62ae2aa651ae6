//! What a PostgreSQL server says of its role and replication, in one round trip.

use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use super::classify::Fault;
use crate::model::{CauseKind, Facts, Lag, Role, WallTime};

/// One row. Functions that a primary or a replica refuses stand behind `CASE`, which evaluates
/// only the branch it takes.
///
/// - `receiver` is `silent` where the stream has said nothing for longer than the half of
///   `wal_receiver_timeout` after which the receiver asks for a sign of life: until the whole of
///   it has passed (60 s by default) `status` goes on saying `streaming` across a partition.
/// - `hidden`: these views show nothing to a user without `pg_read_all_stats` (in `pg_monitor`).
/// - The age of the stream's last message is by one clock, the replica's own. An idle primary need say
///   nothing for the half of `wal_receiver_timeout`, after which the receiver asks it to.
/// - `latest_end_lsn` is how far the primary's own log reached at its last message, so that what
///   was not even received counts as lag.
/// - A primary that was promoted since its server was started goes on telling how far it had received and
///   replayed, and the commit time of the last transaction that it took over. One that only recovered from a
///   crash has replayed too, and has received nothing: it was promoted nowhere that it knows of.
/// - A server that was started has forgotten which transaction was committed last, and still knows when each
///   was: the newest sixteen are asked, of which some may have been rolled back.
/// - `txid_current_snapshot` gives out no transaction number, and a replica answers it too. Its newer name,
///   `pg_current_snapshot`, is not known to PostgreSQL 12.
/// - A replica that has replayed no transaction since it started has at least what its checkpoint
///   holds, so that the checkpoint's time bounds the lag from above.
pub(super) const FACTS: &str = "
SELECT r,
  CASE WHEN r THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn
       ELSE pg_current_wal_lsn() - '0/0'::pg_lsn END,
  CASE WHEN r THEN pg_last_wal_replay_lsn() - '0/0'::pg_lsn END,
  CASE WHEN r THEN (SELECT max(latest_end_lsn - '0/0'::pg_lsn) FROM pg_stat_wal_receiver) END,
  CASE WHEN r THEN round(extract(epoch FROM clock_timestamp() - coalesce(
    pg_last_xact_replay_timestamp(), (SELECT checkpoint_time FROM pg_control_checkpoint()))) * 1000) END,
  CASE WHEN r THEN (
    SELECT coalesce(max(CASE
      WHEN status IS NULL THEN 'hidden'
      WHEN status = 'streaming' AND t > interval '0' AND last_msg_receipt_time < clock_timestamp() - t / 2 - interval '5s'
        THEN 'silent'
      ELSE status END), 'none')
    FROM pg_stat_wal_receiver, (SELECT current_setting('wal_receiver_timeout')::interval AS t) s)
  ELSE (
    SELECT CASE
      WHEN count(*) FILTER (WHERE state = 'streaming') > 0 THEN 'streaming'
      WHEN count(*) FILTER (WHERE state IS NULL) > 0 THEN 'hidden'
      ELSE 'none' END
    FROM pg_stat_replication) END,
  CASE WHEN NOT r THEN CASE
    WHEN current_setting('synchronous_standby_names') = ''
      OR current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN false
    WHEN EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))
      THEN true END END,
  CASE WHEN r THEN (
    SELECT round(extract(epoch FROM clock_timestamp() - max(last_msg_receipt_time)) * 1000)
    FROM pg_stat_wal_receiver WHERE status = 'streaming') END,
  txid_snapshot_xmax(txid_current_snapshot()),
  CASE WHEN NOT r AND pg_last_wal_receive_lsn() IS NOT NULL
       THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn END,
  round(extract(epoch FROM CASE WHEN r THEN pg_last_xact_replay_timestamp()
    WHEN pg_last_wal_receive_lsn() IS NOT NULL THEN pg_last_xact_replay_timestamp()
    WHEN current_setting('track_commit_timestamp') = 'on' THEN coalesce(
      (SELECT timestamp FROM pg_last_committed_xact()),
      (SELECT max(pg_xact_commit_timestamp((x % 4294967296)::text::xid))
        FROM (SELECT txid_snapshot_xmax(txid_current_snapshot()) AS n) s, generate_series(n - 16, n - 1) x
        WHERE x % 4294967296 > 2)) END) * 1000)
FROM (SELECT pg_is_in_recovery() AS r) recovery";

/// Its columns.
const COLUMNS: usize = 11;

/// Reads the row of [`FACTS`]. `cluster` is left open.
pub(super) fn read(row: &SimpleQueryRow) -> Result<Facts, Fault> {
    let text =
        |column: usize| row.try_get(column).map_err(|_| Fault::theirs(CauseKind::Protocol, "a column is missing"));
    let mut columns = [None; COLUMNS];
    for (index, column) in columns.iter_mut().enumerate() {
        *column = text(index)?;
    }
    interpret(columns)
}

pub(super) fn interpret(columns: [Option<&str>; COLUMNS]) -> Result<Facts, Fault> {
    let [recovery, position, replayed, primary_end, age, stream, synchronous, silence, next, promoted, commit] =
        columns;
    let role = match recovery {
        Some("t") => Role::Replica,
        Some("f") => Role::Primary,
        _ => return Err(Fault::theirs(CauseKind::Protocol, "pg_is_in_recovery() gave neither true nor false")),
    };
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    let (position, replayed) = (number(position), number(replayed));
    let streaming = match stream {
        Some("hidden") | None => None,
        Some(state) => Some(state == "streaming"),
    };
    let mut facts = Facts {
        role: Some(role),
        streaming,
        offset: position,
        transaction: number(next),
        promoted_at: number(promoted),
        last_commit: commit.and_then(|text| text.parse().ok()).map(WallTime),
        ..Facts::default()
    };
    match role {
        // Where the view is hidden from us, `false` would only mean that we cannot see. And while no
        // standby is there to be waited for (NULL), commits hang: nothing is acknowledged, and what
        // was known before still holds. A primary that is being killed may look like that.
        Role::Primary if streaming.is_some() => facts.synchronous = synchronous.map(|text| text == "t"),
        Role::Primary => {}
        Role::Replica => {
            facts.last_message = silence.and_then(message_age);
            // While it does not stream, nobody here knows what it has not received.
            if streaming == Some(true) {
                facts.lag = lag(position, number(primary_end), replayed, age);
            }
        }
    }
    Ok(facts)
}

/// In whole milliseconds, rounded up: it must never look fresher than it is. A clock that was set back
/// since would make it negative, and tells nothing.
fn message_age(milliseconds: &str) -> Option<Duration> {
    milliseconds.parse().ok().map(|age: u64| Duration::from_millis(age.saturating_add(1)))
}

fn lag(received: Option<u64>, primary_end: Option<u64>, replayed: Option<u64>, age: Option<&str>) -> Option<Lag> {
    let replayed = replayed?;
    let known = received.max(primary_end)?;
    let bytes = known.saturating_sub(replayed);
    let time = if bytes == 0 {
        Duration::ZERO
    } else {
        // Clocks that differ can make it negative.
        let age: f64 = age?.parse().ok()?;
        Duration::try_from_secs_f64(age.max(0.0) / 1000.0).ok()?
    };
    Some(Lag { time, bytes: Some(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(replayed: &'static str, end: &'static str, stream: &'static str) -> Facts {
        interpret([
            Some("t"),
            Some("100"),
            Some(replayed),
            Some(end),
            Some("2500"),
            Some(stream),
            None,
            Some("40000"),
            Some("731"),
            None,
            Some("1785381164000"),
        ])
        .unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[test]
    fn a_replica_that_has_everything_has_no_lag() {
        let facts = replica("100", "100", "streaming");
        assert_eq!(facts.lag, Some(Lag { time: Duration::ZERO, bytes: Some(0) }));
        assert_eq!((facts.role, facts.streaming, facts.offset), (Some(Role::Replica), Some(true), Some(100)));
    }

    #[test]
    fn a_message_is_never_younger_than_it_was_and_a_clock_that_was_set_back_tells_nothing() {
        assert_eq!(replica("100", "100", "silent").last_message, Some(Duration::from_millis(40_001)));
        for told in ["-1", "-5000", "", "NaN"] {
            assert_eq!(message_age(told), None, "{told}");
        }
    }

    #[test]
    fn lag_counts_what_is_not_replayed_or_not_even_received() {
        let lag = |ms, bytes| Some(Lag { time: Duration::from_millis(ms), bytes: Some(bytes) });
        assert_eq!(replica("60", "100", "streaming").lag, lag(2500, 40));
        assert_eq!(replica("100", "140", "streaming").lag, lag(2500, 40));
    }

    #[test]
    fn lag_is_unknown_while_it_does_not_stream() {
        for (stream, streaming) in
            [("none", Some(false)), ("waiting", Some(false)), ("silent", Some(false)), ("hidden", None)]
        {
            let facts = replica("60", "100", stream);
            assert_eq!((facts.lag, facts.streaming), (None, streaming), "{stream}");
        }
    }

    #[test]
    fn a_primary_without_the_right_to_look_does_not_say_that_it_is_not_synchronous() {
        let primary = |stream, sync| {
            interpret([Some("f"), Some("7"), None, None, None, Some(stream), Some(sync), None, Some("731"), None, None])
                .unwrap_or_else(|fault| panic!("{fault}"))
        };
        assert_eq!(primary("streaming", "t").synchronous, Some(true));
        assert_eq!(primary("none", "f").synchronous, Some(false));
        assert_eq!(primary("hidden", "f").synchronous, None);
        let waiting = interpret([Some("f"), Some("7"), None, None, None, Some("none"), None, None, None, None, None]);
        assert_eq!(waiting.map(|facts| facts.synchronous).ok(), Some(None), "commits hang: nothing new is known");
        assert!(interpret([None; COLUMNS]).is_err());
    }
}
