//! `dns.verify`, and the builder of its family.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use serde_json::Value;

use super::dns_update::Update;
use crate::actions::{LOOK, until};
use crate::clients::Failure;
use crate::clients::dns;
use crate::config::action::{DnsAction, DnsVerify};
use crate::config::probe::DnsRecordType;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// At most so many servers are asked; a zone has hardly more than eight names with two addresses.
const MOST_SERVERS: usize = 32;

/// So many of those that answer something else are named.
const NAMED: usize = 4;

/// How long one server is waited for.
const ONE_SERVER: Duration = Duration::from_secs(3);

/// Builds an action of the family.
pub(super) fn build(action: DnsAction) -> Result<Box<dyn Action>, String> {
    match action {
        DnsAction::Verify(params) => Verify::new(params).map(|action| Box::new(action) as _),
        DnsAction::Update(params) => Update::new(params).map(|action| Box::new(action) as _),
    }
}

/// Looks whether every server answers as it should.
pub struct Verify {
    params: DnsVerify,
    name: Name,
    record: RecordType,
}

/// What has to be answered.
enum Wanted {
    /// These, and no others.
    Values(BTreeSet<String>),
    /// Some of these, or a CNAME to this name.
    Target(BTreeSet<String>, String),
}

/// What one server said.
enum Said {
    Right,
    Wrong(String),
    Silent(String),
}

impl Verify {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where a name is none, or it is not said what has to be answered.
    pub fn new(params: DnsVerify) -> Result<Self, String> {
        if params.target.is_some() != params.values.is_empty() {
            return Err("give either `values` or `target`".into());
        }
        let name = dns::name(&params.name)?;
        if let Some(target) = &params.target {
            dns::name(target)?;
        }
        let listed = params.servers.iter().chain(&params.resolvers);
        if let Some(wrong) = listed.into_iter().find(|text| dns::host_and_port(text, 53).is_none()) {
            return Err(format!("`{wrong}` is not a server"));
        }
        let record = record_type(params.record);
        Ok(Self { params, name, record })
    }

    fn via(&self) -> Result<Vec<SocketAddr>, Failure> {
        match self.params.via {
            Some(via) => Ok(vec![via]),
            None => dns::resolvers().map_err(Failure::again),
        }
    }

    async fn wanted(&self, until: Instant) -> Result<Wanted, Failure> {
        let Some(target) = &self.params.target else {
            let plain = self.record == RecordType::TXT;
            let values = self.params.values.iter();
            return Ok(Wanted::Values(
                values.map(|text| if plain { text.clone() } else { dns::normal_text(text) }).collect(),
            ));
        };
        let name = dns::name(target).map_err(Failure::refused)?;
        let answer = dns::ask_any(&self.via()?, &name, self.record, until).await?;
        let addresses = of_type(&answer, self.record);
        if addresses.is_empty() {
            return Err(Failure::unknown(format!("the target {target} has no {} record at the moment", self.record)));
        }
        Ok(Wanted::Target(addresses, dns::normal_text(target)))
    }

    /// Every server that has to answer, with its name for people, and whether it recurses.
    async fn servers(&self, until: Instant) -> Result<Vec<(String, SocketAddr, bool)>, Failure> {
        let mut found = Vec::new();
        for (list, recursive) in [(&self.params.servers, false), (&self.params.resolvers, true)] {
            for text in list {
                let (host, port) =
                    dns::host_and_port(text, 53).ok_or_else(|| Failure::refused(format!("`{text}` is no server")))?;
                for address in dns::addresses(&host, port, until).await? {
                    found.push((text.clone(), address, recursive));
                }
            }
        }
        if self.params.servers.is_empty() {
            for (name, address) in self.authoritative(until).await? {
                found.push((name, (address, 53).into(), false));
            }
        }
        found.truncate(MOST_SERVERS);
        Ok(found)
    }

    /// The servers of the zone: the NS records of `zone`, or of the nearest name above that has some.
    async fn authoritative(&self, until: Instant) -> Result<Vec<(String, IpAddr)>, Failure> {
        let via = self.via()?;
        let mut zone = match &self.params.zone {
            Some(zone) => dns::name(zone).map_err(Failure::refused)?,
            None => self.name.clone(),
        };
        let names = loop {
            let names = of_type(&dns::ask_any(&via, &zone, RecordType::NS, until).await?, RecordType::NS);
            if !names.is_empty() {
                break names;
            }
            zone = zone.base_name();
            if self.params.zone.is_some() || zone.num_labels() < 1 {
                return Err(Failure::unknown(format!("no name servers were found for {}", self.name)));
            }
        };
        let mut servers = Vec::new();
        for name in names {
            let host = dns::name(&name).map_err(Failure::refused)?;
            for record in [RecordType::A, RecordType::AAAA] {
                let answer = dns::ask_any(&via, &host, record, until).await?;
                servers.extend(
                    of_type(&answer, record).iter().filter_map(|text| Some((name.clone(), text.parse().ok()?))),
                );
            }
        }
        Ok(servers)
    }

    async fn ask(&self, server: SocketAddr, recursive: bool, wanted: &Wanted, until: Instant) -> Said {
        match dns::ask(server, &self.name, self.record, recursive, until).await {
            Ok(answer) => judge(&answer, self.record, wanted),
            Err(failure) => Said::Silent(failure.reason),
        }
    }

    /// Is it everywhere as it should be? With what was seen.
    async fn look(&self, until: Instant) -> Result<(bool, String), Failure> {
        let wanted = self.wanted(until).await?;
        let servers = self.servers(until).await?;
        let until = until.min(Instant::now() + ONE_SERVER);
        let asked = servers.iter().map(|(_, address, recursive)| self.ask(*address, *recursive, &wanted, until));
        let said = futures::future::join_all(asked).await;
        let right = said.iter().filter(|said| matches!(said, Said::Right)).count();
        let mut wrong = Vec::new();
        let mut silent = Vec::new();
        for ((name, address, _), said) in servers.iter().zip(said) {
            let who = if name.contains(&address.ip().to_string()) {
                name.clone()
            } else {
                format!("{name} ({})", address.ip())
            };
            match said {
                Said::Right => {}
                Said::Wrong(text) => wrong.push(format!("{who} {text}")),
                Said::Silent(text) => silent.push(format!("{who}: {text}")),
            }
        }
        let passed_over = if self.params.allow_silent && right > 0 { std::mem::take(&mut silent) } else { Vec::new() };
        wrong.extend(silent);
        let total = servers.len();
        if wrong.is_empty() && right > 0 {
            let aside =
                if passed_over.is_empty() { String::new() } else { format!("; silent: {}", first(&passed_over)) };
            return Ok((true, format!("{right} of {total} servers answer as expected for {}{aside}", self.name)));
        }
        Ok((false, format!("{right} of {total} servers answer as expected for {}: {}", self.name, first(&wrong))))
    }
}

/// The first few, and how many more.
fn first(list: &[String]) -> String {
    let more = if list.len() > NAMED { format!("; and {} more", list.len() - NAMED) } else { String::new() };
    format!("{}{more}", list[..list.len().min(NAMED)].join("; "))
}

fn judge(answer: &Message, record: RecordType, wanted: &Wanted) -> Said {
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Said::Wrong("knows no such name".into()),
        code => return Said::Wrong(format!("answers {code}")),
    }
    let found = of_type(answer, record);
    let right = match wanted {
        Wanted::Values(values) => found == *values,
        Wanted::Target(addresses, name) => {
            (!found.is_empty() && found.is_subset(addresses)) || of_type(answer, RecordType::CNAME).contains(name)
        }
    };
    if right {
        return Said::Right;
    }
    let all: Vec<String> = answer.answers.iter().map(|record| dns::normal(&record.data)).take(NAMED).collect();
    Said::Wrong(if all.is_empty() { "has no such record".into() } else { format!("answers {}", all.join(", ")) })
}

/// The answers of a type, in one spelling.
fn of_type(answer: &Message, record: RecordType) -> BTreeSet<String> {
    let data = answer.answers.iter().map(|record| &record.data);
    data.filter(|data: &&RData| data.record_type() == record).map(dns::normal).collect()
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

#[async_trait]
impl Action for Verify {
    async fn observe(&self, context: &ActionContext) -> Observed {
        if context.run.is_some() {
            return Observed::InProgress { evidence: "it only looks, until all servers answer so".into() };
        }
        match self.look(until(context, LOOK)).await {
            Ok((true, evidence)) => Observed::Done { evidence },
            Ok((false, evidence)) => Observed::NotDone { evidence, before: Value::Null },
            Err(failure) => failure.observed(),
        }
    }

    async fn apply(&self, _context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        Ok(Applied::Refused { reason: "it only looks, and there is nothing to apply".into(), again: false })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(until(context, LOOK)).await {
            Ok((true, evidence)) => Verified::yes(evidence),
            Ok((false, evidence)) => Verified::NotYet { evidence },
            Err(failure) => failure.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
