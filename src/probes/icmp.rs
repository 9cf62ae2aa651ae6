//! An ICMP echo to each address of a host; the first answer counts.
//!
//! Each attempt has a socket of its own, which is closed with it: nothing of a given-up attempt is
//! left behind, and a permission that was given or taken away is seen at once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};

use super::classify::Fault;
use super::dial::connect_fault;
use super::names::Names;
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeContext};
use crate::config::probe::IcmpProbe;
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

/// What an echo carries: as much as ping(8) sends.
const PAYLOAD: [u8; 56] = *b"failoverd probes this host with one echo for each look..";

/// Above every deadline of a probe: the caller's one is what bounds an attempt.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// A packet that only concerns our echo (a redirect) is answered with another one, so often.
const MOST_ECHOES: usize = 4;

/// See [`IcmpProbe`].
pub struct Icmp {
    host: String,
    names: Arc<Names>,
}

impl Icmp {
    /// Checks the host.
    ///
    /// # Errors
    /// Where it is none.
    pub fn new(config: &IcmpProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        if config.host.is_empty() || config.host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(ProbeBuildError::new("host", format!("`{}` is not a name or an address", config.host)));
        }
        Ok(Self { host: config.host.clone(), names: Arc::clone(&context.clients.names) })
    }

    async fn look(&self) -> Result<Duration, Fault> {
        let addresses = self.names.lookup(&self.host).await?;
        let started = Instant::now();
        let mut echoes: FuturesUnordered<_> = addresses.into_iter().map(echo).collect();
        let mut fault: Option<Fault> = None;
        while let Some(answered) = waiting_for(Stage::Answer, echoes.next()).await {
            match answered {
                Ok(()) => return Ok(started.elapsed()),
                // What an address says of itself tells more than that we cannot reach another.
                Err(other) => fault = Some(fault.filter(|one| !one.ours || other.ours).unwrap_or(other)),
            }
        }
        Err(fault.unwrap_or_else(|| Fault::theirs(CauseKind::NameNotFound, "the name has no address")))
    }
}

#[async_trait]
impl Probe for Icmp {
    async fn attempt(&self) -> Observation {
        match self.look().await {
            Ok(latency) => Observation::up(latency),
            Err(fault) => fault.into(),
        }
    }
}

async fn echo(address: IpAddr) -> Result<(), Fault> {
    let kind = if address.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
    let client = Client::new(&Config::builder().kind(kind).build()).map_err(|error| no_socket(&error))?;
    for _ in 0..MOST_ECHOES {
        let (identifier, sequence) = next();
        let mut pinger = client.pinger(address, identifier).await;
        pinger.timeout(NO_DEADLINE);
        let (packet, _) = pinger.ping(sequence, &PAYLOAD).await.map_err(|error| not_sent(address, &error))?;
        match told(&packet) {
            Told::Answer => return Ok(()),
            Told::NoWay(why) => {
                return Err(Fault::theirs(CauseKind::Unreachable, format!("{address}: the network says: {why}")));
            }
            Told::Nothing => {}
        }
    }
    Err(Fault::theirs(CauseKind::Unreachable, format!("{address}: redirects, and no answer")))
}

/// A number of its own for each echo of this process; the identifier tells processes apart on a raw
/// socket, which hears every answer that comes to the host.
fn next() -> (PingIdentifier, PingSequence) {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    (PingIdentifier(process), PingSequence(COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// What a packet says that came for our echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Answer,
    NoWay(&'static str),
    Nothing,
}

fn told(packet: &IcmpPacket) -> Told {
    match packet {
        IcmpPacket::V4(packet) => told_v4(packet.get_icmp_type().0),
        IcmpPacket::V6(packet) => told_v6(packet.get_icmpv6_type().0),
    }
}

/// RFC 792.
fn told_v4(kind: u8) -> Told {
    match kind {
        0 => Told::Answer,
        3 => Told::NoWay("destination unreachable"),
        11 => Told::NoWay("time to live exceeded"),
        _ => Told::Nothing,
    }
}

/// RFC 4443.
fn told_v6(kind: u8) -> Told {
    match kind {
        129 => Told::Answer,
        1 => Told::NoWay("destination unreachable"),
        3 => Told::NoWay("hop limit exceeded"),
        _ => Told::Nothing,
    }
}

/// There is no socket: always our own lack.
fn no_socket(error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Fault::ours(
            CauseKind::LocalPermission,
            "we may not open an ICMP socket: let the sysctl net.ipv4.ping_group_range hold a group of failoverd's, or \
             give it CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)",
        );
    }
    Fault::ours(CauseKind::LocalResource, format!("no ICMP socket: {error}"))
}

fn not_sent(address: IpAddr, error: &SurgeError) -> Fault {
    match error {
        // The port is only there to look the route up.
        SurgeError::IOError(error) => connect_fault(SocketAddr::new(address, 7), error),
        other => Fault::ours(CauseKind::LocalResource, format!("{address}: the echo was not sent: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_echo_reply_is_an_answer() {
        assert_eq!((told_v4(0), told_v6(129)), (Told::Answer, Told::Answer));
        assert_eq!((told_v4(5), told_v4(4), told_v6(137)), (Told::Nothing, Told::Nothing, Told::Nothing));
        for told in [told_v4(3), told_v4(11), told_v6(1), told_v6(3)] {
            assert!(matches!(told, Told::NoWay(_)), "{told:?}");
        }
        // Of the other family.
        assert_eq!((told_v4(129), told_v6(0)), (Told::Nothing, Told::Nothing));
    }

    #[test]
    fn without_a_socket_the_lack_is_ours() {
        let denied = no_socket(&io::Error::from_raw_os_error(13));
        assert!(denied.ours && denied.kind == CauseKind::LocalPermission, "{denied}");
        assert!(denied.detail.contains("ping_group_range") && denied.detail.contains("CAP_NET_RAW"), "{denied}");
        for errno in [97, 93, 24] {
            let lack = no_socket(&io::Error::from_raw_os_error(errno));
            assert!(lack.ours && lack.kind == CauseKind::LocalResource, "{lack}");
        }
    }
}
