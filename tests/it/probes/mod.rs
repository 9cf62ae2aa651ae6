//! Probes against real servers.

mod aws;
mod dns;
mod icmp;
mod kubernetes;
mod postgres;
mod postgres_tls;
mod promql;
mod redis;
mod scale;

use std::sync::Arc;
use std::time::{Duration, Instant};

use failoverd::config::ProbeKind;
use failoverd::model::{CauseKind, Facts, Health, Observation};
use failoverd::ports::Probe;
use failoverd::probes::{ProbeClients, ProbeContext, attempt, build};

/// Long enough on a loaded machine; nothing that passes waits for it.
const LONG: Duration = Duration::from_secs(20);

/// What an attempt with a hang in it is given.
const SHORT: Duration = Duration::from_millis(500);

fn context(timeout: Duration) -> ProbeContext {
    ProbeContext::new(ProbeClients::system(), timeout)
}

fn kind(value: serde_json::Value) -> ProbeKind {
    serde_json::from_value(value).expect("the parameters are those of the file")
}

/// A probe as the file has it.
fn probe(value: serde_json::Value) -> Arc<dyn Probe> {
    build(&kind(value), &context(LONG)).expect("it can be built").into()
}

async fn look(probe: &Arc<dyn Probe>) -> Observation {
    attempt(&**probe, LONG).await
}

async fn facts(probe: &Arc<dyn Probe>) -> Facts {
    let seen = look(probe).await;
    assert_eq!(seen.health(), Health::Up, "{seen:?}");
    seen.facts().cloned().expect("it says something of itself")
}

#[track_caller]
fn assert_saw(seen: &Observation, health: Health, kind: CauseKind) {
    assert_eq!((seen.health(), seen.cause().map(|cause| cause.kind)), (health, Some(kind)), "{seen:?}");
}

/// A stopped server runs into the deadline. SIGSTOP takes hold a little after kill(2) returned, so
/// that a last answer or two may still come; nothing else may, and once silent it stays so.
async fn assert_falls_silent(probe: &Arc<dyn Probe>) {
    let until = Instant::now() + LONG;
    loop {
        let seen = attempt(&**probe, SHORT).await;
        if seen.health() != Health::Up {
            assert_saw(&seen, Health::Down, CauseKind::Timeout);
            break;
        }
        assert!(Instant::now() < until, "it still answers: {seen:?}");
    }
    assert_saw(&attempt(&**probe, SHORT).await, Health::Down, CauseKind::Timeout);
}
