//! What an attempt is waiting for, so that its deadline can tell the target's silence from ours.
//!
//! A deadline that passes while our own resolver is asked says nothing of the target. The runner
//! only sees that time is up; the attempt leaves a mark here each time it begins to wait for
//! something else.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
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
    /// For a program that runs here.
    Program = 7,
}

tokio::task_local! {
    static STAGE: Arc<Marks>;
}

#[derive(Debug, Default)]
struct Marks {
    stage: AtomicU8,
    /// The step and the number of all, a byte each; 0 where there are none.
    step: AtomicU16,
}

/// The mark of one attempt.
#[derive(Clone, Debug, Default)]
pub struct StageMark(Arc<Marks>);

impl StageMark {
    /// Runs an attempt under this mark.
    pub async fn scope<F: Future>(&self, attempt: F) -> F::Output {
        STAGE.scope(Arc::clone(&self.0), attempt).await
    }

    /// What is waited for now.
    pub fn get(&self) -> Stage {
        match self.0.stage.load(Ordering::Relaxed) {
            1 => Stage::Secret,
            2 => Stage::Resolver,
            3 => Stage::Connect,
            4 => Stage::Handshake,
            5 => Stage::Limit,
            6 => Stage::ControlPlane,
            7 => Stage::Program,
            _ => Stage::Answer,
        }
    }

    /// What it means that the deadline passed now.
    pub fn timed_out(&self, timeout: Duration) -> Fault {
        let within = HumanDuration(timeout);
        let mut fault = self.waited(within);
        let [step, of] = self.0.step.load(Ordering::Relaxed).to_be_bytes();
        if of > 0 {
            fault.detail = format!("{}{}", step_of(step, of), fault.detail);
        }
        fault
    }

    fn waited(&self, within: HumanDuration) -> Fault {
        match self.get() {
            Stage::Secret => Fault::ours(CauseKind::LocalCredentials, format!("a secret was not read within {within}")),
            Stage::Resolver => {
                Fault::ours(CauseKind::LocalResolver, format!("our resolver did not answer within {within}"))
            }
            Stage::Connect => Fault::theirs(CauseKind::Timeout, format!("no connection within {within}")),
            Stage::Handshake => {
                Fault::theirs(CauseKind::Timeout, format!("connected, but no handshake within {within}"))
            }
            Stage::Program => {
                Fault::ours(CauseKind::PluginUnknown, format!("it did not end within {within} and was killed"))
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
    let before = STAGE.try_with(|mark| mark.stage.swap(stage as u8, Ordering::Relaxed)).ok();
    let output = work.await;
    if let Some(before) = before {
        let _ = STAGE.try_with(|mark| mark.stage.store(before, Ordering::Relaxed));
    }
    output
}

/// The attempt is at this step of so many (from 1), and a deadline that passes says so.
pub fn at_step(step: u8, of: u8) {
    let _ = STAGE.try_with(|mark| mark.step.store(u16::from_be_bytes([step, of]), Ordering::Relaxed));
}

/// What comes before the detail of a cause that a step saw.
pub fn step_of(step: u8, of: u8) -> String {
    format!("step {step} of {of}: ")
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
