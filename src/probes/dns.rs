//! A DNS query: Up when there is an answer and the expected records are in it.
//!
//! Asked with a socket of its own each time, over UDP and, where the answer is cut, TCP; nothing
//! is cached. A lost datagram is sent again long before the attempt's deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::net::TcpStream;

use super::ProbeBuildError;
use super::classify::Fault;
use super::dial::connect_fault;
use super::stage::{Stage, waiting_for};
use crate::clients::dns;
use crate::config::probe::{DnsProbe, DnsRecordType};
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

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
        let name = dns::name(&config.name).map_err(|error| ProbeBuildError::new("name", error))?;
        let plain = config.record == DnsRecordType::Txt;
        Ok(Self {
            name,
            record: record_type(config.record),
            expect: config
                .expect
                .iter()
                .map(|text| if plain { text.clone() } else { dns::normal_text(text) })
                .collect(),
            server: config.server,
        })
    }

    fn servers(&self) -> Result<Vec<SocketAddr>, Fault> {
        if let Some(server) = self.server {
            return Ok(vec![server]);
        }
        dns::resolvers().map_err(|error| Fault::ours(CauseKind::LocalResolver, error))
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
        let found: Vec<String> = answer.answers.iter().map(|record| dns::normal(&record.data)).collect();
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

/// Asks until somebody answers; the caller bounds it in time.
async fn exchange(servers: &[SocketAddr], name: &Name, record: RecordType) -> Result<Message, Fault> {
    let query = dns::question(name, record, true);
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
                    () = tokio::time::sleep(dns::AGAIN) => break,
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
    let answer = dns::over_udp(server, query, bytes).await.map_err(|error| connect_fault(server, &error))?;
    match answer {
        Some(answer) => Ok(answer),
        None => over_tcp(server, query, bytes).await,
    }
}

async fn over_tcp(server: SocketAddr, query: &Message, bytes: &[u8]) -> Result<Message, Fault> {
    let fault = |error: io::Error| connect_fault(server, &error);
    let mut stream = TcpStream::connect(server).await.map_err(fault)?;
    let framed = dns::framed(bytes).ok_or_else(|| Fault::ours(CauseKind::LocalResource, "the question is too long"))?;
    let buffer = dns::over_stream(&mut stream, &framed).await.map_err(fault)?;
    match Message::from_vec(&buffer) {
        Ok(answer) if dns::belongs(query, &answer) => Ok(answer),
        Ok(_) => Err(Fault::theirs(CauseKind::Protocol, "the server answered another question")),
        Err(error) => Err(Fault::theirs(CauseKind::Protocol, error.to_string())),
    }
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
