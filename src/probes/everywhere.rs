//! Every address of a name, each asked by itself: a name with three addresses of which one is dead
//! serves two of three clients, and whoever takes the first that answers does not see it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;

use super::classify::Fault;
use crate::model::{Cause, CauseKind, HumanDuration, Observation};

/// What is left of the attempt's timeout for each address, in percent: one that hangs must not keep the
/// attempt from telling of the others.
const SHARE: u32 = 90;

/// Asks all at once. Where some answer well and some do not it is up, but not well; where none does it is
/// what the first of them saw. What is our own lack (no route in one family) says nothing of an
/// address while another one answers.
pub(super) async fn everywhere<F>(
    addresses: &[SocketAddr],
    timeout: Duration,
    look: impl Fn(SocketAddr) -> F,
) -> Observation
where
    F: Future<Output = Result<Duration, Fault>>,
{
    let within = timeout * SHARE / 100;
    let looks = addresses.iter().map(|address| {
        let look = tokio::time::timeout(within, look(*address));
        async move {
            let silent =
                || Fault::theirs(CauseKind::Timeout, format!("no whole answer within {}", HumanDuration(within)));
            (*address, look.await.unwrap_or_else(|_| Err(silent())))
        }
    });
    let (mut slowest, mut faults) = (None, Vec::new());
    for (address, seen) in join_all(looks).await {
        match seen {
            Ok(latency) => slowest = slowest.max(Some(latency)),
            Err(fault) => faults.push((address, fault)),
        }
    }
    // The target's fault says more than ours.
    faults.sort_by_key(|(_, fault)| fault.ours);
    let named = |address: SocketAddr, detail: &str| {
        // Some name the address already.
        let told = detail.strip_prefix(&format!("{address}: ")).unwrap_or(detail);
        format!("{address}: {told}")
    };
    match (slowest, faults.into_iter().next()) {
        (Some(latency), Some((address, fault))) if !fault.ours => {
            let detail = format!("one of {} addresses, {}", addresses.len(), named(address, &fault.detail));
            Observation::Up { latency, facts: None, degraded: Some(Cause::new(fault.kind, detail)) }
        }
        (Some(latency), _) => Observation::up(latency),
        (None, Some((address, fault))) => Fault { detail: named(address, &fault.detail), ..fault }.into(),
        (None, None) => Fault::theirs(CauseKind::NameNotFound, "the name has no address").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Health;

    fn addresses() -> [SocketAddr; 3] {
        [1, 2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], 80)))
    }

    async fn seen(look: impl Fn(u8) -> Result<Duration, Fault>) -> Observation {
        let look = &look;
        everywhere(&addresses(), Duration::from_secs(5), |address| async move {
            let SocketAddr::V4(four) = address else { return Err(Fault::ours(CauseKind::LocalResource, "")) };
            look(four.ip().octets()[3])
        })
        .await
    }

    #[tokio::test]
    async fn some_is_degraded_all_is_down_and_our_own_lack_is_neither() {
        let good = Ok(Duration::from_millis(7));
        let refused = || Err(Fault::theirs(CauseKind::ConnectionRefused, "127.0.0.2:80: refused"));
        assert_eq!(seen(|_| good.clone()).await, Observation::up(Duration::from_millis(7)));
        let one = seen(|last| if last == 2 { refused() } else { good.clone() }).await;
        assert_eq!(one.health(), Health::Up);
        assert_eq!(one.cause().unwrap().to_string(), "connection_refused: one of 3 addresses, 127.0.0.2:80: refused");
        assert_eq!(seen(|_| refused()).await.health(), Health::Down);
        let ours = || Err(Fault::ours(CauseKind::LocalResource, "no route"));
        assert_eq!(seen(|last| if last == 3 { ours() } else { good.clone() }).await.cause(), None);
        assert_eq!(seen(|last| if last == 3 { refused() } else { ours() }).await.health(), Health::Down);
        assert_eq!(seen(|_| ours()).await.health(), Health::Unknown);
    }

    #[tokio::test]
    async fn one_that_hangs_keeps_nobody_from_telling_of_the_others() {
        let timeout = Duration::from_millis(100);
        let seen = everywhere(&addresses(), timeout, |address| async move {
            if address == addresses()[0] {
                std::future::pending::<()>().await;
            }
            Ok(Duration::ZERO)
        })
        .await;
        assert_eq!((seen.health(), seen.cause().map(|cause| cause.kind)), (Health::Up, Some(CauseKind::Timeout)));
    }
}
