//! What an attempt is waiting for, so that its deadline can tell the target's silence from ours.
//!
//! A deadline that passes while our own resolver is asked says nothing of the target. The runner
//! only sees that time is up; the attempt leaves a mark here each time it begins to wait for
//! something else.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::classify::Fault;
use crate::model::{CauseKind, HumanDuration};

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// For the target, nothing said yet.
    Answer = 0,
    /// For a secret of ours to be read.
    Secret = 1,
    /// For our own name resolution.
    Resolver = 2,
    /// For the connection to stand.
    Connect = 3,
    /// For the TLS handshake or the login.
    Handshake = 4,
    /// For room in our own limit of calls.
    Limit = 5,
    /// For an API that is asked about the target, and is not the target itself.
    ControlPlane = 6,
}

tokio::task_local! {
    static STAGE: Arc<AtomicU8>;
}

/// The mark of one attempt.
#[derive(Clone, Debug, Default)]
pub struct StageMark(Arc<AtomicU8>);

impl StageMark {
    /// Runs an attempt under this mark.
    pub async fn scope<F: Future>(&self, attempt: F) -> F::Output {
        STAGE.scope(Arc::clone(&self.0), attempt).await
    }

    /// What is waited for now.
    pub fn get(&self) -> Stage {
        match self.0.load(Ordering::Relaxed) {
            1 => Stage::Secret,
            2 => Stage::Resolver,
            3 => Stage::Connect,
            4 => Stage::Handshake,
            5 => Stage::Limit,
            6 => Stage::ControlPlane,
            _ => Stage::Answer,
        }
    }

    /// What it means that the deadline passed now.
    pub fn timed_out(&self, timeout: Duration) -> Fault {
        let within = HumanDuration(timeout);
        match self.get() {
            Stage::Secret => Fault::ours(CauseKind::LocalCredentials, format!("a secret was not read within {within}")),
            Stage::Resolver => {
                Fault::ours(CauseKind::LocalResolver, format!("our resolver did not answer within {within}"))
            }
            Stage::Connect => Fault::theirs(CauseKind::Timeout, format!("no connection within {within}")),
            Stage::Handshake => {
                Fault::theirs(CauseKind::Timeout, format!("connected, but no handshake within {within}"))
            }
            Stage::Answer => Fault::theirs(CauseKind::Timeout, format!("no whole answer within {within}")),
            Stage::Limit => Fault::ours(
                CauseKind::LocalThrottled,
                format!("our own limit of calls (see `limits`) left no room within {within}"),
            ),
            Stage::ControlPlane => {
                Fault::ours(CauseKind::ControlPlane, format!("the API that is asked did not answer within {within}"))
            }
        }
    }
}

/// Awaits `work` under the mark `stage`; the mark before it stands again afterwards. Without a
/// runner around it this is `work` alone.
pub async fn waiting_for<F: Future>(stage: Stage, work: F) -> F::Output {
    let before = STAGE.try_with(|mark| mark.swap(stage as u8, Ordering::Relaxed)).ok();
    let output = work.await;
    if let Some(before) = before {
        let _ = STAGE.try_with(|mark| mark.store(before, Ordering::Relaxed));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_wait_for_the_target_is_held_against_it() {
        for (stage, ours) in [
            (Stage::Answer, false),
            (Stage::Connect, false),
            (Stage::Handshake, false),
            (Stage::Secret, true),
            (Stage::Resolver, true),
            (Stage::Limit, true),
            (Stage::ControlPlane, true),
        ] {
            let mark = StageMark::default();
            let waiting = mark.scope(waiting_for(stage, std::future::pending::<()>()));
            let _given_up = tokio::time::timeout(Duration::from_millis(1), waiting).await;
            assert_eq!(mark.get(), stage);
            assert_eq!(mark.timed_out(Duration::from_secs(1)).ours, ours, "{stage:?}");
        }
    }
}
