//! TCP connections: over every address of a name, with a hedge against a lost SYN.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::classify::{Fault, io_fault};
use super::names::Names;
use super::stage::{Stage, waiting_for};
use crate::model::CauseKind;

/// The next address is tried when the one before has not answered for this long (RFC 8305,
/// section 5), and after the last one the first again: Linux sends a lost SYN again only after
/// 1 s (RFC 6298), which is the whole timeout of many a probe.
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to `host:port`; the first of its addresses that accepts wins.
///
/// # Errors
/// The target's fault where at least one address answered with one, else ours.
pub async fn dial(names: &Names, host: &str, port: u16) -> Result<TcpStream, Fault> {
    let addresses = names.lookup_port(host, port).await?;
    waiting_for(Stage::Connect, dial_any(&addresses)).await
}

/// As [`dial`], where the addresses are known.
///
/// # Errors
/// As there.
pub(super) async fn dial_any(addresses: &[SocketAddr]) -> Result<TcpStream, Fault> {
    let mut fault: Option<Fault> = None;
    let mut running = FuturesUnordered::new();
    let hedge = addresses.first().copied();
    let mut waiting = addresses.iter().copied().chain(hedge).enumerate();
    loop {
        // A refused address is not hedged: it has answered.
        let next = waiting.next().filter(|(index, _)| *index < addresses.len() || !running.is_empty());
        if let Some((_, address)) = next {
            running.push(async move { (address, TcpStream::connect(address).await) });
        }
        let more = next.is_some();
        loop {
            let step = if more {
                tokio::select! {
                    finished = running.next() => finished,
                    () = tokio::time::sleep(STAGGER) => break,
                }
            } else {
                running.next().await
            };
            match step {
                Some((_, Ok(stream))) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some((address, Err(error))) => {
                    fault = Some(graver(fault, connect_fault(address, &error)));
                    if more {
                        break;
                    }
                }
                None => return Err(fault.unwrap_or_else(no_address)),
            }
        }
    }
}

fn no_address() -> Fault {
    Fault::theirs(CauseKind::NameNotFound, "the name has no address")
}

/// One address that answered wrongly says more than another that we have no route to.
fn graver(one: Option<Fault>, other: Fault) -> Fault {
    match one {
        Some(one) if !one.ours || other.ours => one,
        _ => other,
    }
}

/// What a failed connection to this address means.
pub fn connect_fault(address: SocketAddr, error: &io::Error) -> Fault {
    let mut fault = io_fault(error);
    if fault.is_no_network() && has_route(address) {
        fault = Fault::theirs(CauseKind::Unreachable, fault.detail);
    }
    fault.detail = format!("{address}: {}", fault.detail);
    fault
}

/// Does our own routing table know a way? Connecting a datagram socket looks the route up and
/// sends nothing, so that "network unreachable" from here differs from a router's ICMP.
pub fn has_route(address: SocketAddr) -> bool {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}
