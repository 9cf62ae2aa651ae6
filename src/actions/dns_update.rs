//! `dns.update`.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use base64::Engine;
use hickory_resolver::proto::op::update_message::UpdateMessage;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sentinel;
use crate::actions::ready::{failed, targets_serve};
use crate::actions::{CHANGE, Halt, LOOK, fenced, until};
use crate::clients::{Failure, FailureKind, dns};
use crate::config::action::{DnsKeyAlgorithm, DnsUpdate, RouteRecordType};
use crate::model::{Applied, Aspect, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// The time to live where none is given, and that of the sentinel, in seconds.
const TTL: u32 = 60;

/// By how much the clocks may differ, in seconds (RFC 8945, section 10).
const FUDGE: u16 = 300;

/// Changes a record by a signed dynamic update, unless a newer epoch has done so.
pub struct Update {
    params: DnsUpdate,
    zone: Name,
    name: Name,
    record: RecordType,
    /// `None` where the owner does without.
    sentinel: Option<Name>,
    wanted: Standing,
}

/// A record as it stands, or should; what `compensate` brings back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    ttl: u32,
    /// In one spelling, sorted.
    values: Vec<String>,
}

/// What stands in the zone.
struct Seen {
    route: Option<Standing>,
    /// The TXT record as it is, and its epoch.
    mark: Option<(Record, u64)>,
}

impl Update {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where a name is none, or it leads nowhere (S6).
    pub fn new(params: DnsUpdate) -> Result<Self, String> {
        let (zone, name) = (dns::name(&params.zone)?, dns::name(&params.name)?);
        if !zone.zone_of(&name) {
            return Err(format!("{name} is not in the zone {zone}"));
        }
        if dns::host_and_port(&params.server, 53).is_none() {
            return Err(format!("`{}` is not a server", params.server));
        }
        let sentinel = match params.sentinel.as_deref() {
            None => Some(dns::name(&format!("_failoverd.{name}"))?),
            Some("") => None,
            Some(text) => Some(dns::name(text)?),
        };
        let record = match params.record {
            RouteRecordType::A => RecordType::A,
            RouteRecordType::Aaaa => RecordType::AAAA,
            RouteRecordType::Cname => RecordType::CNAME,
        };
        let mut values: Vec<String> = params.values.iter().map(|value| dns::normal_text(value)).collect();
        values.sort();
        values.dedup();
        if values.is_empty() {
            return Err("it leads nowhere: `values` is empty".into());
        }
        if record == RecordType::CNAME && values.len() > 1 {
            return Err("a CNAME leads to exactly one name".into());
        }
        let ttl = params.ttl.map_or(Ok(TTL), |ttl| u32::try_from(ttl.get().as_secs()));
        let ttl = ttl.ok().filter(|ttl| *ttl <= i32::MAX.unsigned_abs()).ok_or("`ttl` is too long")?;
        let wanted = Standing { ttl, values };
        let this = Self { params, zone, name, record, sentinel, wanted };
        this.records(&this.wanted)?;
        Ok(this)
    }

    /// The records of a standing.
    fn records(&self, standing: &Standing) -> Result<Vec<Record>, String> {
        let of = |value: &String| {
            // A name is whole, also where it is written without its last dot.
            let text = if self.record == RecordType::CNAME { format!("{value}.") } else { value.clone() };
            RData::try_from_str(self.record, &text)
                .map(|data| Record::from_rdata(self.name.clone(), standing.ttl, data))
                .map_err(|_| format!("`{value}` cannot be the value of such a record"))
        };
        standing.values.iter().map(of).collect()
    }

    async fn server(&self, until: Instant) -> Result<SocketAddr, Failure> {
        let (host, port) = dns::host_and_port(&self.params.server, 53)
            .ok_or_else(|| Failure::refused(format!("`{}` is not a server", self.params.server)))?;
        let found = dns::addresses(&host, port, until).await?;
        found.first().copied().ok_or_else(|| Failure::again(format!("{host} has no address")))
    }

    /// The records of a name and type. The server must know the zone itself: a copy or a cache
    /// would tell what was.
    async fn ask(
        &self,
        server: SocketAddr,
        name: &Name,
        record: RecordType,
        until: Instant,
    ) -> Result<Vec<Record>, Failure> {
        let answer = dns::ask(server, name, record, false, until).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain if !answer.metadata.authoritative => {
                Err(Failure::refused(format!("{server} is not authoritative for the zone {}", self.zone)))
            }
            ResponseCode::NoError | ResponseCode::NXDomain => {
                Ok(answer.answers.into_iter().filter(|found| found.name == *name).collect())
            }
            ResponseCode::Refused => Err(Failure::refused(format!("{server} refuses to answer for {name} (REFUSED)"))),
            code => Err(Failure::unknown(format!("{server} answers {code} for {name}"))),
        }
    }

    async fn look(&self, until: Instant) -> Result<Seen, Failure> {
        let server = self.server(until).await?;
        let here = self.ask(server, &self.name, self.record, until).await?;
        let others: &[RecordType] =
            if self.record == RecordType::CNAME { &[RecordType::A, RecordType::AAAA] } else { &[] };
        let mut beside = here.iter().any(|found| found.record_type() != self.record);
        for other in others {
            let found = self.ask(server, &self.name, *other, until).await?;
            beside |= found.iter().any(|found| found.record_type() == *other);
        }
        if beside {
            return Err(Failure::refused(format!(
                "beside a CNAME no other record can stand, and {} would have both; delete the one that is there",
                self.name
            )));
        }
        let mut values: Vec<String> = here.iter().map(|found| dns::normal(&found.data)).collect();
        values.sort();
        let route = here.first().map(|found| Standing { ttl: found.ttl, values });
        let mark = match &self.sentinel {
            None => None,
            Some(name) => {
                let found = self.ask(server, name, RecordType::TXT, until).await?;
                match found.as_slice() {
                    [] => None,
                    [one] => match sentinel::epoch(&dns::normal(&one.data)) {
                        Some(epoch) => Some((one.clone(), epoch)),
                        None => return Err(foreign(name)),
                    },
                    _ => return Err(foreign(name)),
                }
            }
        };
        Ok(Seen { route, mark })
    }

    /// What stands in the zone, unless it was written under a higher epoch than ours.
    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Seen, Halt> {
        let seen = self.look(until).await?;
        match &seen.mark {
            // A dry run has no epoch of its own yet.
            Some((_, epoch)) if *epoch > context.epoch.0 && context.run.is_some() => {
                Err(Halt::Overtaken(fenced(&self.params.name, *epoch, context.epoch.0)))
            }
            _ => Ok(seen),
        }
    }

    /// Does the sentinel keep older epochs away already? It has nothing to say in a dry run, or
    /// where the owner does without.
    fn marked(&self, context: &ActionContext, seen: &Seen) -> bool {
        let is_ours = seen.mark.as_ref().is_some_and(|(_, epoch)| *epoch >= context.epoch.0);
        is_ours || self.sentinel.is_none() || context.run.is_none()
    }

    fn stands(&self, seen: &Seen) -> bool {
        seen.route.as_ref().is_some_and(|route| route.values == self.wanted.values)
    }

    fn told(&self, route: Option<&Standing>) -> String {
        match route {
            Some(route) => format!("{} {} -> {}", self.params.name, self.record, route.values.join(", ")),
            None => format!("there is no {} {}", self.params.name, self.record),
        }
    }

    /// The update: all or nothing, and nothing where anybody has written since we looked.
    fn message(&self, context: &ActionContext, seen: &Seen, to: Option<&Standing>) -> Result<Message, String> {
        let mut message = Message::new(rand_id(), MessageType::Query, OpCode::Update);
        let mut zone = Query::query(self.zone.clone(), RecordType::SOA);
        zone.set_query_class(DNSClass::IN);
        message.add_zone(zone);
        match &seen.route {
            Some(route) => as_they_stand(&mut message, self.records(route)?),
            None => message.add_pre_requisite(absent(&self.name, self.record, DNSClass::NONE)),
        }
        message.add_update(absent(&self.name, self.record, DNSClass::ANY));
        for record in to.map(|to| self.records(to)).transpose()?.unwrap_or_default() {
            message.add_update(record);
        }
        if let Some(name) = &self.sentinel {
            match &seen.mark {
                Some((record, _)) => as_they_stand(&mut message, vec![record.clone()]),
                None => message.add_pre_requisite(absent(name, RecordType::TXT, DNSClass::NONE)),
            }
            let text = RData::TXT(TXT::new(vec![sentinel::text(context)]));
            message.add_update(absent(name, RecordType::TXT, DNSClass::ANY));
            message.add_update(Record::from_rdata(name.clone(), TTL, text));
        }
        Ok(message)
    }

    fn signer(&self) -> Result<TSigner, Failure> {
        let key = self.params.key.read().map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))?;
        let key = base64::engine::general_purpose::STANDARD
            .decode(key.trim())
            .map_err(|_| Failure::refused(format!("the key {} is not base64", self.params.key_name)))?;
        let algorithm = match self.params.algorithm {
            DnsKeyAlgorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            DnsKeyAlgorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            DnsKeyAlgorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        };
        let name = dns::name(&self.params.key_name).map_err(Failure::refused)?;
        TSigner::new(key, algorithm, name, FUDGE)
            .map_err(|_| Failure::refused(format!("the key {} cannot be used", self.params.key_name)))
    }

    async fn change(
        &self,
        context: &ActionContext,
        seen: &Seen,
        to: Option<&Standing>,
        until: Instant,
    ) -> Result<Applied, Denied> {
        let prepared = async {
            let server = self.server(until).await?;
            let mut message = self.message(context, seen, to).map_err(Failure::refused)?;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let failed = |_| Failure::refused("the update could not be signed");
            let verifier = message.finalize(&self.signer()?, now).map_err(failed)?;
            let bytes = message.to_vec().map_err(|_| Failure::refused("the update could not be written"))?;
            Ok((server, message, verifier, bytes))
        };
        let (server, message, verifier, bytes) = match prepared.await {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(Failure::not_sent(failure)),
        };
        context.permit()?;
        let answer = match dns::exchange(server, &bytes, until).await {
            Ok(answer) => answer,
            Err(failure) => return Ok(failure.applied()),
        };
        let parsed = Message::from_vec(&answer).ok().filter(|parsed| parsed.metadata.id == message.metadata.id);
        let Some(parsed) = parsed else {
            return Ok(Applied::Unknown { reason: format!("{server} answered something else") });
        };
        if parsed.metadata.response_code != ResponseCode::NoError {
            return Ok(self.refusal(server, &parsed).applied());
        }
        let genuine = verifier.is_some_and(|mut verifier| verifier.verify(&answer).is_ok());
        Ok(if genuine {
            Applied::Accepted { evidence: format!("{server} took {}", self.told(to)) }
        } else {
            Applied::Unknown {
                reason: format!("{server} says that it took it, but its answer is not signed as it should be"),
            }
        })
    }

    /// Why the server did not take it.
    fn refusal(&self, server: SocketAddr, answer: &Message) -> Failure {
        let (key, zone) = (&self.params.key_name, &self.params.zone);
        let error = answer.signature().and_then(|record| record.data.error);
        let refused = |text: String| Failure::refused(format!("{server}: {text}"));
        match (answer.metadata.response_code, error) {
            (_, Some(TsigError::BadKey)) => refused(format!(
                "it knows no key {key} of this algorithm (BADKEY); compare `key_name` and `algorithm` with the server's"
            )),
            (_, Some(TsigError::BadSig)) => {
                refused(format!("the signature with {key} is wrong (BADSIG): it has another secret under this name"))
            }
            (_, Some(TsigError::BadTime)) => {
                refused("its clock and ours differ by more than 5 minutes (BADTIME); set them right".into())
            }
            (ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::NXDomain | ResponseCode::YXDomain, _) => {
                Failure::again(format!(
                    "{server}: somebody else has changed {} in between; nothing was changed",
                    self.params.name
                ))
            }
            (ResponseCode::Refused, _) => refused(format!(
                "the key {key} may not update {} in {zone} (REFUSED), or the server is not its primary; see its update-policy",
                self.params.name
            )),
            (ResponseCode::NotAuth, _) => refused(format!("it is not authoritative for the zone {zone} (NOTAUTH)")),
            (ResponseCode::NotZone, _) => refused(format!("a name is not in the zone {zone} (NOTZONE)")),
            (ResponseCode::NotImp, _) => refused("it takes no updates (NOTIMP)".into()),
            (ResponseCode::FormErr, _) => refused("it does not understand the update (FORMERR)".into()),
            // It may have failed in the middle, or have handed the update on to its primary.
            (code, _) => Failure::unknown(format!("{server} answers {code}")),
        }
    }
}

fn foreign(name: &Name) -> Failure {
    Failure::refused(format!("the TXT record {name} is not failoverd's; choose another name with `sentinel`"))
}

/// RFC 2136, sections 2.4.3 (does not exist: class NONE) and 2.5.2 (delete all: class ANY).
fn absent(name: &Name, record: RecordType, class: DNSClass) -> Record {
    let mut absent = Record::update0(name.clone(), 0, record);
    absent.dns_class = class;
    absent
}

/// RFC 2136, section 2.4.2: the set stands exactly so.
fn as_they_stand(message: &mut Message, records: Vec<Record>) {
    for mut record in records {
        record.ttl = 0;
        message.add_pre_requisite(record);
    }
}

/// A number to tell answers apart; over TCP nobody can guess it anyway.
fn rand_id() -> u16 {
    Message::query().metadata.id
}

#[async_trait]
impl Action for Update {
    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        let record = format!("record {} {}", self.name, self.record);
        let found = match self.look(until(&look.context, LOOK)).await {
            Ok(Seen { route: None, .. }) => {
                Finding::not_ready(record, Aspect::Exists, format!("there is no such record in the zone {}", self.zone))
            }
            Ok(Seen { route: Some(standing), .. }) => Finding::ready(record, Aspect::Exists)
                .with("leads to", standing.values.join(", "))
                .with("TTL", standing.ttl),
            Err(failure) => failed(&record, failure),
        };
        let key = match self.params.key.read() {
            Ok(_) => Finding::ready(format!("key {}", self.params.key_name), Aspect::Permitted),
            Err(error) => {
                Finding::not_ready(format!("key {}", self.params.key_name), Aspect::Permitted, error.to_string())
            }
        };
        let mut findings = vec![found, key];
        findings.extend(targets_serve(&self.wanted.values, &self.params.name, look).await);
        findings
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let seen = match self.seen(context, until(context, LOOK)).await {
            Ok(seen) => seen,
            Err(halt) => return halt.observed(),
        };
        let evidence = self.told(seen.route.as_ref());
        match (self.stands(&seen), self.marked(context, &seen)) {
            (true, true) => Observed::Done { evidence },
            (true, false) => Observed::NotDone {
                evidence: format!("{evidence} already; the mark of epoch {} is to be set", context.epoch),
                before: serde_json::json!({ "record": seen.route }),
            },
            (false, _) => Observed::NotDone { evidence, before: serde_json::json!({ "record": seen.route }) },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        match self.seen(context, until).await {
            Ok(seen) => self.change(context, &seen, Some(&self.wanted), until).await,
            Err(halt) => Ok(halt.not_sent()),
        }
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.seen(context, until(context, LOOK)).await {
            Ok(seen) if self.stands(&seen) => {
                Verified::yes(format!("{}, as {} answers", self.told(seen.route.as_ref()), self.params.server))
            }
            Ok(seen) => Verified::NotYet { evidence: self.told(seen.route.as_ref()) },
            Err(halt) => halt.verified(),
        }
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let seen = match self.seen(context, until).await {
            Ok(seen) => seen,
            Err(halt) => return Ok(halt.not_sent()),
        };
        let known =
            before.get("record").and_then(|record| serde_json::from_value::<Option<Standing>>(record.clone()).ok());
        let Some(before) = known else {
            return Ok(Failure::refused("it is not known what stood before").not_sent());
        };
        if seen.route == before {
            return Ok(Applied::Accepted { evidence: "it stands as before".into() });
        }
        if !self.stands(&seen) {
            let text = format!("somebody else has changed it: {}; it is left alone", self.told(seen.route.as_ref()));
            return Ok(Failure::refused(text).not_sent());
        }
        self.change(context, &seen, before.as_ref(), until).await
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata::tsig::{TSIG, make_tsig_record};

    use super::*;

    /// What no server could be brought to here without setting the host's clock.
    #[test]
    fn a_clock_that_is_wrong_is_named() {
        let params = serde_json::json!({
            "server": "192.0.2.1", "zone": "example.com", "name": "api.example.com", "values": ["10.0.0.1"],
            "key_name": "k", "key": { "file": "/x" },
        });
        let update = Update::new(serde_json::from_value(params).expect("parameters")).expect("an update");
        let mut answer = Message::response(1, OpCode::Update);
        answer.metadata.response_code = ResponseCode::NotAuth;
        let tsig = TSIG::new(TsigAlgorithm::HmacSha256, 0, FUDGE, Vec::new(), 1, Some(TsigError::BadTime), Vec::new());
        let unsigned = update.refusal(([192, 0, 2, 1], 53).into(), &answer);
        assert!(unsigned.reason.contains("NOTAUTH"), "{unsigned}");
        answer.set_signature(Box::new(make_tsig_record(update.name.clone(), tsig)));
        let failure = update.refusal(([192, 0, 2, 1], 53).into(), &answer);
        assert_eq!(failure.kind, FailureKind::Refused);
        assert!(failure.reason.contains("BADTIME"), "{failure}");
    }
}
