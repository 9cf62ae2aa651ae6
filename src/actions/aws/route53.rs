//! `route53.upsert_alias`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_route53::types::{ChangeAction, ChangeBatch, ChangeStatus, ResourceRecordSet, RrType};
use serde_json::Value;

use super::route53_records::{Route, Sentinel, Target, change, plain_name, plain_zone, sentinel_value, swap_sentinel};
use crate::actions::ready::{failed, targets_serve};
use crate::actions::{CHANGE, Halt, LOOK, fenced, until};
use crate::clients::{Api, Clients, Failure, FailureKind, aws};
use crate::config::action::{ROUTE53_REGION, Route53UpsertAlias};
use crate::model::{Applied, Aspect, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// Points a name to another target, unless a newer epoch has done so.
///
/// The record and a TXT record that holds the epoch are changed in one batch, which Route 53
/// carries out as a whole or not at all. The batch deletes the TXT record exactly as it was read:
/// where anybody has written in between, nothing is changed. A record that leads there already,
/// but was marked by an older epoch or by none, is written again: the mark is what keeps a run of
/// that older epoch, stuck between its permit and its call, from moving the record away.
/// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html>
///
/// `verify` asks whether the change is `INSYNC` while this process knows the change's id. After a
/// crash it is not known, and the record as the API lists it has to do; Route 53 then usually takes
/// up to 60 seconds more to all its servers.
pub struct UpsertAlias {
    zone: String,
    region: String,
    wanted: Route,
    /// `None` where the owner does without.
    sentinel: Option<String>,
    clients: Arc<Clients>,
}

/// What stands in the zone.
struct Zone {
    route: Option<Route>,
    sentinel: Option<Sentinel>,
}

impl UpsertAlias {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where the record leads nowhere (S6), or to two places.
    pub fn new(params: Route53UpsertAlias, clients: Arc<Clients>) -> Result<Self, String> {
        let wanted = Route::wanted(&params)?;
        let sentinel = match params.sentinel.as_deref() {
            None => Some(format!("_failoverd.{}", wanted.name)),
            Some("") => None,
            Some(name) => Some(plain_name(name)),
        };
        let region = params.region.unwrap_or_else(|| ROUTE53_REGION.to_owned());
        Ok(Self { zone: plain_zone(&params.zone).to_owned(), region, wanted, sentinel, clients })
    }

    /// Under which name the id of the last change is kept.
    fn change_key(&self) -> String {
        format!("route53 {} {} {}", self.zone, self.wanted.name, self.wanted.record)
    }

    /// The record sets of one name.
    async fn list(&self, name: &str, until: Instant) -> Result<Vec<ResourceRecordSet>, Failure> {
        let region = self.clients.aws(&self.region, until).await?;
        self.clients.pace(Api::Route53, until).await?;
        // Records are listed in order from this name on; those of one name come first.
        let request = region
            .route53()
            .list_resource_record_sets()
            .hosted_zone_id(&self.zone)
            .start_record_name(name)
            .max_items(100);
        let answer = aws::call("route53 ListResourceRecordSets", until, request.send()).await?;
        let of_name = |set: &ResourceRecordSet| plain_name(set.name()) == name;
        Ok(answer.resource_record_sets().iter().filter(|set| of_name(set)).cloned().collect())
    }

    async fn look(&self, until: Instant) -> Result<Zone, Failure> {
        let of_type =
            |sets: &[ResourceRecordSet], record: &RrType| sets.iter().find(|set| set.r#type() == record).cloned();
        // At once: each call is on the way of the whole failover. That they may show two moments does no
        // harm, since a change is refused as a whole where the sentinel is no more what was read.
        let beside = async {
            match &self.sentinel {
                Some(name) => self.list(name, until).await,
                None => Ok(Vec::new()),
            }
        };
        let (here, beside) = futures::future::try_join(self.list(&self.wanted.name, until), beside).await?;
        let record = RrType::from(self.wanted.record.as_str());
        let other = if record == RrType::Cname { None } else { of_type(&here, &RrType::Cname) };
        if other.is_some() {
            return Err(Failure::refused(format!(
                "{} is a CNAME, beside which no other record can stand",
                self.wanted.name
            )));
        }
        let route = of_type(&here, &record).map(|set| Route::standing(&set)).transpose().map_err(Failure::refused)?;
        let sentinel =
            of_type(&beside, &RrType::Txt).map(|set| Sentinel::read(&set)).transpose().map_err(Failure::refused)?;
        Ok(Zone { route, sentinel })
    }

    /// What stands in the zone, unless it was written under a higher epoch than ours.
    async fn seen(&self, context: &ActionContext, until: Instant) -> Result<Zone, Halt> {
        let zone = self.look(until).await?;
        let newer = zone.sentinel.as_ref().filter(|sentinel| sentinel.epoch > context.epoch.0);
        match newer {
            // A dry run has no epoch of its own yet.
            Some(newer) if context.run.is_some() => {
                Err(Halt::Overtaken(fenced(&self.wanted.name, newer.epoch, context.epoch.0)))
            }
            _ => Ok(zone),
        }
    }

    /// Does the sentinel keep older epochs away already? It has nothing to say in a dry run, or
    /// where the owner does without.
    fn marked(&self, context: &ActionContext, zone: &Zone) -> bool {
        let is_ours = zone.sentinel.as_ref().is_some_and(|sentinel| sentinel.epoch >= context.epoch.0);
        is_ours || self.sentinel.is_none() || context.run.is_none()
    }

    /// Changes the record and the sentinel in one batch.
    async fn change(
        &self,
        context: &ActionContext,
        zone: &Zone,
        action: ChangeAction,
        route: &Route,
        until: Instant,
    ) -> Result<Applied, Denied> {
        let region = match self.clients.aws(&self.region, until).await {
            Ok(region) => region,
            Err(failure) => return Ok(failure.not_sent()),
        };
        if let Err(failure) = self.clients.pace(Api::Route53, until).await {
            return Ok(failure.not_sent());
        }
        let batch = match self.batch(context, zone, action, route) {
            Ok(batch) => batch,
            Err(error) => return Ok(Failure::refused(format!("route53: {error}")).not_sent()),
        };
        let request = region.route53().change_resource_record_sets().hosted_zone_id(&self.zone).change_batch(batch);
        context.permit()?;
        self.clients.forget_change(&self.change_key());
        Ok(match aws::call("route53 ChangeResourceRecordSets", until, request.send()).await {
            Ok(answer) => {
                let id = answer.change_info().map_or("unknown", |info| plain_zone(info.id()));
                self.clients.remember_change(&self.change_key(), id);
                Applied::Accepted { evidence: format!("Route 53 took {route} as change {id}") }
            }
            Err(failure) => contended(failure).applied(),
        })
    }

    fn batch(
        &self,
        context: &ActionContext,
        zone: &Zone,
        action: ChangeAction,
        route: &Route,
    ) -> Result<ChangeBatch, aws_sdk_route53::error::BuildError> {
        let mut changes = match &self.sentinel {
            Some(name) => {
                swap_sentinel(name, zone.sentinel.as_ref(), &sentinel_value(context.epoch, context.run.as_ref()))?
            }
            None => Vec::new(),
        };
        changes.push(change(action, route.set()?)?);
        let comment = format!("failoverd epoch {}", context.epoch);
        ChangeBatch::builder().comment(comment).set_changes(Some(changes)).build()
    }

    /// Has the last change that we know of reached all servers? `None`: its id is not known.
    async fn in_sync(&self, until: Instant) -> Option<Result<bool, Failure>> {
        let id = self.clients.last_change(&self.change_key())?;
        let asked = async {
            let region = self.clients.aws(&self.region, until).await?;
            self.clients.pace(Api::Route53, until).await?;
            let answer = aws::call("route53 GetChange", until, region.route53().get_change().id(&id).send()).await?;
            Ok(answer.change_info().is_some_and(|info| info.status() == &ChangeStatus::Insync))
        };
        Some(asked.await)
    }

    /// What `compensate` has to do, or why it must not.
    fn way_back(&self, zone: &Zone, before: &Value) -> Result<Option<(ChangeAction, Route)>, Failure> {
        let missing = || Failure::refused("it is not known what stood before");
        let record = before.get("record").ok_or_else(missing)?;
        let before: Option<Route> = serde_json::from_value(record.clone()).map_err(|_| missing())?;
        let is_ours = zone.route.as_ref().is_some_and(|route| route.same(&self.wanted));
        match (&zone.route, before) {
            (None, None) => Ok(None),
            (Some(standing), Some(before)) if standing.same(&before) => Ok(None),
            (Some(standing), _) if !is_ours => {
                Err(Failure::refused(format!("somebody else has changed it to {standing}; it is left alone")))
            }
            (None, Some(_)) => Err(Failure::refused("somebody else has deleted it; it is left alone")),
            (Some(_), Some(before)) => Ok(Some((ChangeAction::Upsert, before))),
            (Some(standing), None) => Ok(Some((ChangeAction::Delete, standing.clone()))),
        }
    }
}

/// A batch that does not fit what stands there was refused as a whole: look again, then decide.
fn contended(failure: Failure) -> Failure {
    if failure.code.as_deref() == Some("InvalidChangeBatch") {
        return Failure { kind: FailureKind::Again, ..failure };
    }
    failure
}

#[async_trait]
impl Action for UpsertAlias {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.region, Instant::now() + LOOK).await {
            region.route53();
        }
    }

    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        let record = format!("record {} {}", self.wanted.name, self.wanted.record);
        let found = match self.look(until(&look.context, LOOK)).await {
            // What is to be moved has to be there: a new name is a slip of the pen.
            Ok(Zone { route: None, .. }) => {
                Finding::not_ready(record, Aspect::Exists, format!("there is no such record in the zone {}", self.zone))
            }
            Ok(Zone { route: Some(route), .. }) => {
                Finding::ready(record, Aspect::Exists).with("zone", &self.zone).with("leads to", route)
            }
            Err(failure) if failure.kind == FailureKind::Missing => {
                Finding::not_ready(format!("zone {}", self.zone), Aspect::Exists, failure.reason)
            }
            Err(failure) => failed(&record, failure),
        };
        let mut findings = vec![found];
        let targets = match &self.wanted.to {
            Target::Alias { name, .. } => std::slice::from_ref(name),
            Target::Values { values, .. } => values.as_slice(),
        };
        findings.extend(targets_serve(targets, &self.wanted.name, look).await);
        findings
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        let zone = match self.seen(context, until).await {
            Ok(zone) => zone,
            Err(halt) => return halt.observed(),
        };
        let before = serde_json::json!({ "record": zone.route });
        match &zone.route {
            Some(route) if route.same(&self.wanted) && !self.marked(context, &zone) => {
                let evidence = format!("{route} already; the mark of epoch {} is to be set", context.epoch);
                Observed::NotDone { evidence, before }
            }
            Some(route) if route.same(&self.wanted) => match self.in_sync(until).await {
                Some(Ok(false)) => Observed::InProgress { evidence: format!("{route}; the change is pending") },
                Some(Err(failure)) => failure.observed(),
                Some(Ok(true)) | None => Observed::Done { evidence: route.to_string() },
            },
            Some(route) => Observed::NotDone { evidence: route.to_string(), before },
            None => Observed::NotDone {
                evidence: format!("there is no {} {}", self.wanted.name, self.wanted.record),
                before,
            },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let zone = match self.seen(context, until).await {
            Ok(zone) => zone,
            Err(halt) => return Ok(halt.not_sent()),
        };
        self.change(context, &zone, ChangeAction::Upsert, &self.wanted, until).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        // First, and alone: Route 53 takes five calls a second of a whole account. What stands in the
        // zone is asked once the change has reached all servers.
        let in_sync = match self.in_sync(until).await {
            Some(Ok(false)) => return Verified::NotYet { evidence: format!("{}; the change is pending", self.wanted) },
            Some(Err(failure)) => return failure.verified(),
            Some(Ok(true)) => true,
            None => false,
        };
        let zone = match self.seen(context, until).await {
            Ok(zone) => zone,
            Err(halt) => return halt.verified(),
        };
        let Some(route) = zone.route.filter(|route| route.same(&self.wanted)) else {
            return Verified::NotYet { evidence: format!("{} does not lead there", self.wanted.name) };
        };
        Verified::yes(if in_sync {
            format!("{route}; INSYNC")
        } else {
            format!("{route}, as the API lists it; the change's id is not known, so that INSYNC was not asked")
        })
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let zone = match self.seen(context, until).await {
            Ok(zone) => zone,
            Err(halt) => return Ok(halt.not_sent()),
        };
        match self.way_back(&zone, before) {
            Err(failure) => Ok(failure.not_sent()),
            Ok(None) => Ok(Applied::Accepted { evidence: "it stands as before".into() }),
            Ok(Some((action, route))) => self.change(context, &zone, action, &route, until).await,
        }
    }

    fn is_paced(&self) -> bool {
        true
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
