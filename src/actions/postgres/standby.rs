//! A standby that is to be promoted one day: is it that of this cluster, and does it follow?

use std::time::Instant;

use crate::actions::ready::failed;
use crate::clients::postgres::Session;
use crate::clients::{Failure, FailureKind};
use crate::model::{Aspect, Finding};

/// What findings are about.
const NAME: &str = "PostgreSQL standby";

/// One row of everything: whether it is a standby, whom it follows, and what a promotion hangs on. What
/// only `pg_monitor` may see is null for others.
const SQL: &str = "SELECT pg_is_in_recovery()::text, current_setting('server_version'), \
    (SELECT status FROM pg_stat_wal_receiver), (SELECT sender_host FROM pg_stat_wal_receiver), \
    (SELECT sender_port::text FROM pg_stat_wal_receiver), (SELECT slot_name FROM pg_stat_wal_receiver), \
    CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused()::text ELSE 'false' END, \
    current_setting('restore_command', true), current_setting('max_wal_size'), current_setting('max_connections'), \
    (SELECT count(*)::text FROM pg_replication_slots), \
    has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE')::text, \
    (SELECT pid::text FROM pg_stat_wal_receiver)";

/// What the server tells.
#[derive(Default)]
struct Told(Vec<Option<String>>);

impl Told {
    fn get(&self, column: usize) -> Option<&str> {
        self.0.get(column).and_then(Option::as_deref).filter(|text| !text.is_empty())
    }
}

/// Looks at the server behind a session.
pub(super) async fn ready(session: &Session, system: Option<&str>, until: Instant) -> Vec<Finding> {
    let told = match session.row(SQL, until).await {
        Ok(row) => Told(row),
        Err(failure) => return vec![failed(NAME, failure)],
    };
    let identity = session.value("SELECT system_identifier::text FROM pg_control_system()", until).await;
    let mut findings = vec![matches(&told, identity, system)];
    if told.get(0) == Some("true") {
        findings.push(fresh(&told));
        let denied =
            (told.get(11) != Some("true")).then(|| "we may not execute pg_promote(boolean, integer)".to_owned());
        findings.push(Finding::judged(NAME, Aspect::Permitted, denied));
    }
    findings
}

/// Is it a standby, and of the cluster that is meant?
fn matches(told: &Told, identity: Result<String, Failure>, wanted: Option<&str>) -> Finding {
    let wrong = match (&identity, wanted) {
        _ if told.get(0) != Some("true") => {
            Some("it is not in recovery: it was promoted already, or never was a standby".to_owned())
        }
        (Ok(actual), Some(wanted)) if actual != wanted => {
            Some(format!("it belongs to another cluster: its system identifier is {actual}, not {wanted}"))
        }
        (Err(failure), Some(_)) if failure.kind == FailureKind::Denied => {
            Some(format!("we cannot tell its cluster, and neither could the promotion: {}", failure.reason))
        }
        (Err(failure), Some(_)) => return Finding::unknown(NAME, Aspect::Matches, &failure.reason),
        _ => None,
    };
    let mut finding = Finding::judged(NAME, Aspect::Matches, wrong);
    for (fact, column) in [("version", 1), ("max_wal_size", 8), ("max_connections", 9), ("replication slots", 10)] {
        if let Some(value) = told.get(column) {
            finding = finding.with(fact, value);
        }
    }
    match identity {
        Ok(identity) => finding.with("system identifier", identity),
        Err(_) => finding,
    }
}

/// Does it still receive what its primary writes?
fn fresh(told: &Told) -> Finding {
    let sender = match (told.get(3), told.get(4)) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        _ => "not told".to_owned(),
    };
    // Who is no pg_monitor sees that there is a receiver, and nothing else of it.
    let receives = told.get(12).is_some();
    let wrong = match told.get(2) {
        _ if told.get(6) == Some("true") => Some("its replay is paused".to_owned()),
        Some("streaming") => None,
        Some(status) => Some(format!("it does not stream from its primary: its receiver is `{status}`")),
        None if receives || told.get(7).is_some() => None,
        None => Some("it receives nothing from its primary".to_owned()),
    };
    let how = if receives {
        "streaming"
    } else if told.get(7).is_some() {
        "archive"
    } else {
        "nothing"
    };
    Finding::judged(NAME, Aspect::Fresh, wrong)
        .with("follows", sender)
        .with("by", how)
        .with("slot", told.get(5).unwrap_or("none"))
}
