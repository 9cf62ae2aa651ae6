//! `rds.failover`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_rds::types::{DbInstance, SourceType, Tag};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::rds::is_lost;
use super::rds_look::{EPOCH, instance, ours, outputs, plain, rds, status, tag};
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Clients, Failure, aws};
use crate::config::action::RdsFailover;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// The tag that keeps what stood before: `RUN STEP ZONE TIME`.
const MARK: &str = "failoverd:failover";

/// How far our clock may be from that of RDS. A failover that ended so shortly before ours was asked
/// for is taken for it: another one would lead back to where things went wrong.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Sends a Multi-AZ instance over to its standby.
///
/// A failover leaves little to look at: the zone changes, at times minutes after the failover itself,
/// and events tell of it. So before the reboot the instance is tagged with its zone and the time (one
/// change), then it is rebooted (another one). After a crash between the two the mark is there, and
/// neither the zone nor the events have changed: not done. After a crash behind both, one of them has.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZ.Failover.html>
pub struct Failover {
    params: RdsFailover,
    clients: Arc<Clients>,
}

/// What stood before, as the mark tells it.
#[derive(Debug, PartialEq)]
struct Mark {
    zone: String,
    at: Timestamp,
}

impl Mark {
    fn write(context: &ActionContext, zone: &str, at: Timestamp) -> String {
        let run = context.run.as_ref().map_or("-", |run| run.as_str());
        let whole_seconds = at.strftime("%Y-%m-%dT%H:%M:%SZ");
        plain(&format!("{} {} {zone} {whole_seconds}", word(run), word(context.step.as_str())))
    }

    /// `None` where it is not there, or is another run's or step's.
    fn read(text: &str, context: &ActionContext) -> Option<Self> {
        let [run, step, zone, at] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let ours = context.run.as_ref().is_some_and(|id| run == plain(&word(id.as_str())));
        let here = ours && step == plain(&word(context.step.as_str()));
        here.then(|| at.parse().ok().map(|at| Self { zone: zone.to_owned(), at })).flatten()
    }
}

fn word(text: &str) -> String {
    text.replace(' ', "_")
}

/// How far our failover is.
enum Progress {
    /// It was not asked for, or nothing of it is to be seen.
    NotBegun,
    Going(String),
    Over(String),
    /// RDS has given it up.
    Abandoned(String),
}

impl Failover {
    /// The action for these parameters.
    pub fn new(params: RdsFailover, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn look(&self, until: Instant) -> Result<DbInstance, Failure> {
        let found = instance(&self.clients, &self.params.region, &self.params.instance, until).await?;
        match found.db_cluster_identifier().filter(|cluster| !cluster.is_empty()) {
            Some(cluster) => Err(Failure::refused(format!(
                "{} is a member of the cluster {cluster}: use `rds.failover_cluster`",
                self.params.instance
            ))),
            None => Ok(found),
        }
    }

    /// What RDS tells of failovers since `from`, newest last.
    async fn events(&self, from: Timestamp, until: Instant) -> Result<Vec<String>, Failure> {
        let client = rds(&self.clients, &self.params.region, until).await?;
        let start = from.as_second();
        let request = client
            .rds()
            .describe_events()
            .source_type(SourceType::DbInstance)
            .source_identifier(self.params.instance.to_ascii_lowercase())
            .start_time(aws_sdk_rds::primitives::DateTime::from_secs(start))
            .event_categories("failover");
        let answer = aws::call("rds DescribeEvents", until, request.send()).await?;
        let mut events = answer.events.unwrap_or_default();
        events.retain(|event| {
            event.date().is_some_and(|date| date.secs() >= start)
                && event.event_categories().iter().any(|category| category == "failover")
        });
        events.sort_by_key(|event| event.date().map(|date| date.secs()));
        Ok(events.into_iter().filter_map(|event| event.message).map(|text| text.to_ascii_lowercase()).collect())
    }

    async fn progress(&self, context: &ActionContext, found: &DbInstance, until: Instant) -> Result<Progress, Failure> {
        let Some(mark) = tag(found, MARK).and_then(|text| Mark::read(text, context)) else {
            return Ok(Progress::NotBegun);
        };
        let (name, now) = (&self.params.instance, zone(found));
        let is_available = status(found) == "available";
        if now != mark.zone && is_available {
            return Ok(Progress::Over(format!("{name} is available in {now}, and was in {}", mark.zone)));
        }
        let events = self.events(mark.at.checked_sub(SKEW).unwrap_or(mark.at), until).await?;
        let told = |what: &str| events.iter().any(|event| event.contains(what));
        Ok(if told("completed") && is_available {
            Progress::Over(format!("{name} is available, and RDS tells of a failover completed since {}", mark.at))
        } else if told("abandoning") {
            Progress::Abandoned(format!("RDS gave the failover of {name} up: one has occurred recently"))
        } else if now != mark.zone || told("started") || told("completed") || status(found) == "rebooting" {
            Progress::Going(format!("{name} is {} in {now}, and was in {}", status(found), mark.zone))
        } else {
            Progress::NotBegun
        })
    }

    /// What keeps RDS from taking it.
    fn obstacle(&self, found: &DbInstance) -> Option<Failure> {
        let name = &self.params.instance;
        if is_lost(status(found)) {
            return Some(Failure::refused(format!("{name} is {}", status(found))));
        }
        if found.multi_az() != Some(true) {
            return Some(Failure::refused(format!(
                "{name} is not Multi-AZ: it has no standby to go over to; promote a read replica or restore it instead"
            )));
        }
        (status(found) != "available")
            .then(|| Failure::again(format!("{name} is {}; it has to be available first", status(found))))
    }
}

fn zone(found: &DbInstance) -> &str {
    found.availability_zone().unwrap_or("unknown")
}

#[async_trait]
impl Action for Failover {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.rds();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        let looked = async {
            let found = self.look(until).await?;
            let progress = self.progress(context, &found, until).await?;
            Ok((found, progress))
        };
        let (found, progress) = match looked.await {
            Ok(looked) => looked,
            Err(failure) => return Failure::observed(failure),
        };
        match progress {
            Progress::Over(evidence) => Observed::Done { evidence },
            Progress::Going(evidence) => Observed::InProgress { evidence },
            Progress::Abandoned(reason) => Observed::Impossible { reason },
            Progress::NotBegun => match self.obstacle(&found) {
                Some(failure) => failure.observed(),
                None => Observed::NotDone {
                    evidence: format!("{} is available in {}, with a standby", self.params.instance, zone(&found)),
                    before: serde_json::json!({ "zone": zone(&found) }),
                },
            },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let found = self.look(until).await?;
            ours(context, &self.params.instance, found.tag_list())?;
            match self.obstacle(&found) {
                Some(failure) => Err(failure),
                None => Ok((found, rds(&self.clients, &self.params.region, until).await?)),
            }
        };
        let (found, region) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let mark = Tag::builder().key(MARK).value(Mark::write(context, zone(&found), Timestamp::now())).build();
        let request = region
            .rds()
            .add_tags_to_resource()
            .set_resource_name(found.db_instance_arn().map(str::to_owned))
            .tags(mark)
            .tags(Tag::builder().key(EPOCH).value(context.epoch.to_string()).build());
        context.permit()?;
        // Without the mark a crash could lead to a second failover: so there is none without it.
        if let Err(failure) = aws::call("rds AddTagsToResource", until, request.send()).await {
            return Ok(failure.applied());
        }
        let region = match rds(&self.clients, &self.params.region, until).await {
            Ok(region) => region,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request =
            region.rds().reboot_db_instance().db_instance_identifier(&self.params.instance).force_failover(true);
        context.permit()?;
        Ok(match aws::call("rds RebootDBInstance", until, request.send()).await {
            Ok(_) => Applied::Accepted {
                evidence: format!("RDS took the failover of {} away from {}", self.params.instance, zone(&found)),
            },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        let looked = async {
            let found = self.look(until).await?;
            let progress = self.progress(context, &found, until).await?;
            Ok((found, progress))
        };
        let (found, progress) = match looked.await {
            Ok(looked) => looked,
            Err(failure) => return Failure::verified(failure),
        };
        match progress {
            _ if is_lost(status(&found)) => {
                Verified::Failed { reason: format!("{} is {}", self.params.instance, status(&found)) }
            }
            Progress::Over(evidence) => match outputs(&found) {
                Some(outputs) => Verified::Yes { evidence, outputs },
                None => Verified::NotYet { evidence: format!("{evidence}, and has no endpoint yet") },
            },
            Progress::Abandoned(reason) => Verified::Failed { reason },
            Progress::Going(evidence) => Verified::NotYet { evidence },
            Progress::NotBegun => Verified::NotYet {
                evidence: format!("{} is {} in {} still", self.params.instance, status(&found), zone(&found)),
            },
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
