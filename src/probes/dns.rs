//! A DNS query: Up when there is an answer and the expected records are in it.
//!
//! Asked with a socket of its own each time, over UDP and, where the answer is cut, TCP; nothing
//! is cached. A lost datagram is sent again long before the attempt's deadline.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hickory_resolver::proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::ProbeBuildError;
use super::classify::Fault;
use super::dial::connect_fault;
use super::stage::{Stage, waiting_for};
use crate::config::probe::{DnsProbe, DnsRecordType};
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

/// A query without an answer is sent again, and to the system's next server, after this long.
const AGAIN: Duration = Duration::from_millis(400);

/// The largest datagram that we ask for: what passes every network unfragmented (DNS flag day 2020).
const DATAGRAM: u16 = 1232;

/// At most so many of the system's servers are asked.
const MOST_SERVERS: usize = 4;

/// See [`DnsProbe`].
#[derive(Debug)]
pub struct Dns {
    name: Name,
    record: RecordType,
    expect: Vec<String>,
    server: Option<SocketAddr>,
}

impl Dns {
    /// Checks the name.
    ///
    /// # Errors
    /// Where it is not a domain name.
    pub fn new(config: &DnsProbe) -> Result<Self, ProbeBuildError> {
        let mut name = Name::from_str_relaxed(&config.name)
            .map_err(|error| ProbeBuildError::new("name", format!("`{}`: {error}", config.name)))?;
        // What is watched is one name, never one of a search list.
        name.set_fqdn(true);
        let plain = config.record == DnsRecordType::Txt;
        Ok(Self {
            name,
            record: record_type(config.record),
            expect: config.expect.iter().map(|text| if plain { text.clone() } else { normal(text) }).collect(),
            server: config.server,
        })
    }

    fn servers(&self) -> Result<Vec<SocketAddr>, Fault> {
        if let Some(server) = self.server {
            return Ok(vec![server]);
        }
        // Read each time: the file is small, and changes with the network.
        let (config, _) = hickory_resolver::system_conf::read_system_conf()
            .map_err(|error| Fault::ours(CauseKind::LocalResolver, format!("/etc/resolv.conf: {error}")))?;
        let port = |server: &hickory_resolver::config::NameServerConfig| {
            server.connections.first().map_or(53, |connection| connection.port)
        };
        Ok(config.name_servers().iter().take(MOST_SERVERS).map(|server| (server.ip, port(server)).into()).collect())
    }

    async fn ask(&self) -> Result<Message, Fault> {
        let servers = self.servers()?;
        let answer = exchange(&servers, &self.name, self.record);
        if self.server.is_some() { answer.await } else { waiting_for(Stage::Resolver, answer).await }
    }

    fn judge(&self, answer: &Message) -> Result<(), Fault> {
        match answer.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => {
                return Err(Fault::theirs(CauseKind::NameNotFound, format!("{} does not exist (NXDOMAIN)", self.name)));
            }
            code => {
                let text = format!("the server answered {code} for {}", self.name);
                return Err(if self.server.is_some() {
                    Fault::theirs(CauseKind::NameServerFailure, text)
                } else {
                    Fault::ours(CauseKind::LocalResolver, text)
                });
            }
        }
        let found: Vec<String> = answer.answers.iter().map(|record| text_of(&record.data)).collect();
        if !answer.answers.iter().any(|record| record.record_type() == self.record) {
            let aside = if found.is_empty() { String::new() } else { format!(", only {}", found.join(", ")) };
            return Err(Fault::theirs(
                CauseKind::WrongAnswer,
                format!("{} has no {} record{aside}", self.name, self.record),
            ));
        }
        match self.expect.iter().find(|expected| !found.contains(expected)) {
            Some(missing) => {
                let text = format!("{missing} is not among the answers: {}", found.join(", "));
                Err(Fault::theirs(CauseKind::WrongAnswer, text))
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Probe for Dns {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        let answer = self.ask().await.map_err(|fault| if self.server.is_some() { fault } else { ours(fault) });
        match answer.and_then(|message| self.judge(&message)) {
            Ok(()) => Observation::up(started.elapsed()),
            Err(fault) => fault.into(),
        }
    }
}

/// A resolver of ours that does not answer says nothing of the name.
fn ours(fault: Fault) -> Fault {
    if fault.ours { fault } else { Fault::ours(CauseKind::LocalResolver, fault.detail) }
}

fn record_type(record: DnsRecordType) -> RecordType {
    match record {
        DnsRecordType::A => RecordType::A,
        DnsRecordType::Aaaa => RecordType::AAAA,
        DnsRecordType::Cname => RecordType::CNAME,
        DnsRecordType::Txt => RecordType::TXT,
        DnsRecordType::Mx => RecordType::MX,
        DnsRecordType::Ns => RecordType::NS,
        DnsRecordType::Soa => RecordType::SOA,
        DnsRecordType::Srv => RecordType::SRV,
    }
}

/// An answer as the file writes it.
fn text_of(data: &RData) -> String {
    let text = data.to_string();
    if matches!(data, RData::TXT(_)) { text } else { normal(&text) }
}

/// Addresses and names in one spelling: lower case, without the dot at the end. Text records are
/// compared as they are.
fn normal(text: &str) -> String {
    if let Ok(address) = text.trim().parse::<std::net::IpAddr>() {
        return address.to_string();
    }
    let words = text.split_whitespace().map(|word| word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase());
    words.collect::<Vec<_>>().join(" ")
}

/// Asks until somebody answers; the caller bounds it in time.
async fn exchange(servers: &[SocketAddr], name: &Name, record: RecordType) -> Result<Message, Fault> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), record));
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM).set_version(0);
    query.set_edns(edns);
    let bytes = query.to_vec().map_err(|error| Fault::ours(CauseKind::LocalResource, error.to_string()))?;

    let mut running: FuturesUnordered<_> = FuturesUnordered::new();
    let mut waiting = servers.iter().copied();
    let mut fault = None;
    loop {
        let next = waiting.next();
        if let Some(server) = next {
            running.push(ask_one(server, &query, &bytes));
        }
        loop {
            let finished = if next.is_some() {
                tokio::select! {
                    finished = running.next() => finished,
                    () = tokio::time::sleep(AGAIN) => break,
                }
            } else {
                running.next().await
            };
            match finished {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => {
                    fault.get_or_insert(error);
                    if next.is_some() {
                        break;
                    }
                }
                None => {
                    let none = || Fault::ours(CauseKind::LocalResolver, "no name server is configured");
                    return Err(fault.unwrap_or_else(none));
                }
            }
        }
    }
}

/// One server, over UDP with repetitions, then TCP where the answer was cut.
async fn ask_one(server: SocketAddr, query: &Message, bytes: &[u8]) -> Result<Message, Fault> {
    let fault = |error: io::Error| connect_fault(server, &error);
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(fault)?;
    // Connected, so that only this server's datagrams come through, and ICMP's "port unreachable"
    // comes back as an error.
    socket.connect(server).await.map_err(fault)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        socket.send(bytes).await.map_err(fault)?;
        let again = tokio::time::sleep(AGAIN);
        tokio::pin!(again);
        loop {
            let length = tokio::select! {
                received = socket.recv(&mut buffer) => received.map_err(fault)?,
                () = &mut again => break,
            };
            match Message::from_vec(&buffer[..length]) {
                Ok(answer) if belongs(query, &answer) => {
                    if answer.metadata.truncation {
                        return over_tcp(server, query, bytes).await;
                    }
                    return Ok(answer);
                }
                // Not to our question: a late or a forged one. We go on listening.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &Message, bytes: &[u8]) -> Result<Message, Fault> {
    let fault = |error: io::Error| connect_fault(server, &error);
    let mut stream = TcpStream::connect(server).await.map_err(fault)?;
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await.map_err(fault)?;
    let length = stream.read_u16().await.map_err(fault)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(fault)?;
    match Message::from_vec(&buffer) {
        Ok(answer) if belongs(query, &answer) => Ok(answer),
        Ok(_) => Err(Fault::theirs(CauseKind::Protocol, "the server answered another question")),
        Err(error) => Err(Fault::theirs(CauseKind::Protocol, error.to_string())),
    }
}

/// Is this the answer to our question (RFC 5452, section 9.1)?
fn belongs(query: &Message, answer: &Message) -> bool {
    answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        // A server that cannot parse a question may leave it out.
        && (answer.queries.is_empty() || answer.queries == query.queries)
}

/// An answer of a server, read and judged.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn answered(data: &[u8]) {
    let config = DnsProbe {
        name: "api.example".into(),
        record: DnsRecordType::A,
        expect: vec!["192.0.2.1".into()],
        server: Some(SocketAddr::from(([192, 0, 2, 53], 53))),
    };
    if let (Ok(probe), Ok(message)) = (Dns::new(&config), Message::from_vec(data)) {
        let _judged = probe.judge(&message);
    }
}
