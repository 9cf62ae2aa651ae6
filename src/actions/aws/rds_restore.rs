//! `rds.restore_snapshot` and `rds.restore_point_in_time`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_rds::primitives::DateTime;
use aws_sdk_rds::types::DbInstance;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::rds::is_lost;
use super::rds_look::{FROM, RUN, instance, instance_if_there, is_ours, marks, outputs, rds, status, tag};
use crate::actions::ready::failed;
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Clients, Failure, FailureKind, aws};
use crate::config::action::{RdsRestorePointInTime, RdsRestoreSnapshot, RdsRestored};
use crate::model::{Applied, Aspect, Finding, HumanDuration, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// The most pages of snapshots that are read, of 100 each; RDS keeps 100 manual ones by default.
const PAGES: usize = 20;

/// What an instance is restored from.
#[derive(Clone)]
enum Backup {
    Snapshot(RdsRestoreSnapshot),
    PointInTime(RdsRestorePointInTime),
}

/// The backup that was found, as the call and the tag name it.
struct Found {
    /// The snapshot's name, or the point in time.
    from: String,
    /// For people.
    evidence: String,
}

/// Restores into a new instance, which carries the tags of the run and the step from the very call
/// that creates it: so what is found after a crash is known to be ours, or not to be.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html>
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceToPointInTime.html>
pub struct Restore {
    backup: Backup,
    clients: Arc<Clients>,
}

impl Restore {
    /// `rds.restore_snapshot`.
    ///
    /// # Errors
    /// Where it is not said whose newest snapshot is meant.
    pub fn snapshot(params: RdsRestoreSnapshot, clients: Arc<Clients>) -> Result<Self, String> {
        if (params.snapshot == "newest") != params.source.is_some() {
            return Err("`source` goes with `snapshot = \"newest\"`, and with it only".into());
        }
        Ok(Self { backup: Backup::Snapshot(params), clients })
    }

    /// `rds.restore_point_in_time`.
    ///
    /// # Errors
    /// Where it is not said what is restored, or the time is none.
    pub fn point_in_time(params: RdsRestorePointInTime, clients: Arc<Clients>) -> Result<Self, String> {
        if params.source.is_some() == params.automated_backup.is_some() {
            return Err("one of `source` and `automated_backup` says what is restored".into());
        }
        wanted_time(&params.restore_time)?;
        Ok(Self { backup: Backup::PointInTime(params), clients })
    }

    fn region(&self) -> &str {
        match &self.backup {
            Backup::Snapshot(params) => &params.region,
            Backup::PointInTime(params) => &params.region,
        }
    }

    fn name(&self) -> &str {
        match &self.backup {
            Backup::Snapshot(params) => &params.instance,
            Backup::PointInTime(params) => &params.instance,
        }
    }

    async fn look(&self, until: Instant) -> Result<Option<DbInstance>, Failure> {
        instance_if_there(&self.clients, self.region(), self.name(), until).await
    }

    async fn find(&self, until: Instant) -> Result<Found, Failure> {
        match &self.backup {
            Backup::Snapshot(params) => self.find_snapshot(params, until).await,
            Backup::PointInTime(params) => self.find_point(params, until).await,
        }
    }

    async fn find_snapshot(&self, params: &RdsRestoreSnapshot, until: Instant) -> Result<Found, Failure> {
        let mut snapshots = Vec::new();
        let mut marker = None;
        for _ in 0..PAGES {
            let client = rds(&self.clients, &params.region, until).await?;
            let request = client.rds().describe_db_snapshots().max_records(100).set_marker(marker);
            let request = match &params.source {
                Some(source) => request.db_instance_identifier(source),
                // An ARN may be that of a snapshot that another account shares with ours.
                None => request.db_snapshot_identifier(&params.snapshot).include_shared(true),
            };
            let answer = aws::call("rds DescribeDBSnapshots", until, request.send()).await?;
            snapshots.extend(answer.db_snapshots.unwrap_or_default());
            marker = answer.marker.filter(|marker| !marker.is_empty());
            if marker.is_none() {
                break;
            }
        }
        if marker.is_some() {
            return Err(Failure::refused(
                "there are more snapshots than are looked through: name the one that is meant",
            ));
        }
        let whose = params.source.as_deref().unwrap_or(&params.snapshot);
        let Some(of_all) = snapshots.iter().max_by_key(|found| found.snapshot_create_time().copied()) else {
            return Err(Failure::refused(format!("there is no snapshot of {whose} in {}", params.region)));
        };
        let usable = snapshots.iter().filter(|found| found.status() == Some("available"));
        let Some(newest) = usable.max_by_key(|found| found.snapshot_create_time().copied()) else {
            let (name, is) = (of_all.db_snapshot_identifier().unwrap_or(whose), of_all.status().unwrap_or("unknown"));
            let said = format!("the snapshot {name} is {is}");
            return Err(if is == "creating" { Failure::again(said) } else { Failure::refused(said) });
        };
        let taken = newest.snapshot_create_time().and_then(timestamp);
        let name = newest.db_snapshot_identifier().unwrap_or(whose).to_owned();
        young_enough(&format!("the snapshot {name}"), taken, params.max_age)?;
        // A shared snapshot is restored by its ARN.
        let from = if params.source.is_some() { name } else { params.snapshot.clone() };
        let when = taken.map_or_else(|| "at an unknown time".to_owned(), |taken| format!("at {taken}"));
        Ok(Found { evidence: format!("the snapshot {from}, taken {when}"), from })
    }

    async fn find_point(&self, params: &RdsRestorePointInTime, until: Instant) -> Result<Found, Failure> {
        let (what, latest) = match (&params.source, &params.automated_backup) {
            (Some(source), _) => {
                let found = instance(&self.clients, &params.region, source, until).await?;
                (source.as_str(), found.latest_restorable_time().and_then(timestamp))
            }
            (None, Some(arn)) => (arn.as_str(), self.latest_of_backup(&params.region, arn, until).await?),
            (None, None) => return Err(Failure::refused("nothing to restore is named")),
        };
        let Some(latest) = latest else {
            return Err(Failure::refused(format!(
                "{what} cannot be restored to a point in time: RDS names no latest restorable time, so its automated \
                 backups are off, or none is through yet"
            )));
        };
        match wanted_time(&params.restore_time).map_err(Failure::refused)? {
            None => {
                young_enough(&format!("the latest restorable time of {what}"), Some(latest), params.max_age)?;
                Ok(Found { from: latest.to_string(), evidence: format!("{what} as of {latest}, the latest there is") })
            }
            Some(wanted) if wanted > latest => Err(Failure::refused(format!(
                "{what} can be restored to {latest} at the latest, and not to {wanted}: write an earlier time, or \
                 `latest`"
            ))),
            Some(wanted) => Ok(Found { from: wanted.to_string(), evidence: format!("{what} as of {wanted}") }),
        }
    }

    async fn latest_of_backup(&self, region: &str, arn: &str, until: Instant) -> Result<Option<Timestamp>, Failure> {
        let client = rds(&self.clients, region, until).await?;
        let request = client.rds().describe_db_instance_automated_backups().db_instance_automated_backups_arn(arn);
        let answer = aws::call("rds DescribeDBInstanceAutomatedBackups", until, request.send()).await?;
        let Some(backup) = answer.db_instance_automated_backups().first() else {
            return Err(Failure::refused(format!("there are no automated backups {arn} in {region}")));
        };
        Ok(backup.restore_window().and_then(|window| window.latest_time()).and_then(timestamp))
    }

    /// Is there a backup, and is it young enough also for whoever has no `max_age` in the step?
    async fn backup(&self, look: &ReadyContext) -> Finding {
        let name = format!("backup for {}", self.name());
        let mut wanted = self.backup.clone();
        match &mut wanted {
            Backup::Snapshot(params) if params.source.is_some() => {
                params.max_age.get_or_insert(HumanDuration(look.limits.backup_age));
            }
            Backup::PointInTime(params) if params.restore_time == "latest" => {
                params.max_age.get_or_insert(HumanDuration(look.limits.backup_age));
            }
            // The one that the owner names is as old as it is.
            Backup::Snapshot(_) | Backup::PointInTime(_) => {}
        }
        let of = Self { backup: wanted, clients: Arc::clone(&self.clients) };
        match of.find(until(&look.context, LOOK)).await {
            Ok(found) => Finding::ready(name, Aspect::Fresh).measuring("newest", found.evidence),
            Err(failure) if failure.kind == FailureKind::Refused => {
                Finding::not_ready(name, Aspect::Fresh, failure.reason)
            }
            Err(failure) => failed(&name, failure),
        }
    }

    /// Why an instance of that name stands in the way.
    fn foreign(&self, found: &DbInstance) -> String {
        let name = self.name();
        let whose = match tag(found, RUN) {
            Some(run) => format!("it was made by {run}"),
            None => "it was not made by failoverd".to_owned(),
        };
        format!(
            "there is a DB instance {name} already, and {whose} ({}): choose another identifier, or delete it",
            status(found)
        )
    }

    async fn send(&self, context: &ActionContext, from: &str, until: Instant) -> Result<Applied, Denied> {
        let region = match rds(&self.clients, self.region(), until).await {
            Ok(region) => region,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let accepted = Applied::Accepted { evidence: format!("RDS is restoring {} from {from}", self.name()) };
        match &self.backup {
            Backup::Snapshot(params) => {
                let RdsRestored { class, subnet_group, security_groups, parameter_group, .. } = params.settings.clone();
                let request = region
                    .rds()
                    .restore_db_instance_from_db_snapshot()
                    .db_snapshot_identifier(from)
                    .db_instance_identifier(&params.instance)
                    .set_db_instance_class(class)
                    .set_db_subnet_group_name(subnet_group)
                    .set_vpc_security_group_ids((!security_groups.is_empty()).then_some(security_groups))
                    .set_db_parameter_group_name(parameter_group)
                    .set_multi_az(params.settings.multi_az)
                    .set_deletion_protection(params.settings.deletion_protection)
                    .set_tags(Some(marks(context, from, &params.settings.tags)));
                context.permit()?;
                let sent = aws::call("rds RestoreDBInstanceFromDBSnapshot", until, request.send()).await;
                Ok(sent.map_or_else(Failure::applied, |_| accepted))
            }
            Backup::PointInTime(params) => {
                let RdsRestored { class, subnet_group, security_groups, parameter_group, .. } = params.settings.clone();
                let time = wanted_time(&params.restore_time).ok().flatten();
                let request = region
                    .rds()
                    .restore_db_instance_to_point_in_time()
                    .set_source_db_instance_identifier(params.source.clone())
                    .set_source_db_instance_automated_backups_arn(params.automated_backup.clone())
                    .target_db_instance_identifier(&params.instance)
                    .set_use_latest_restorable_time(time.is_none().then_some(true))
                    .set_restore_time(time.map(|time| DateTime::from_secs(time.as_second())))
                    .set_db_instance_class(class)
                    .set_db_subnet_group_name(subnet_group)
                    .set_vpc_security_group_ids((!security_groups.is_empty()).then_some(security_groups))
                    .set_db_parameter_group_name(parameter_group)
                    .set_multi_az(params.settings.multi_az)
                    .set_deletion_protection(params.settings.deletion_protection)
                    .set_tags(Some(marks(context, from, &params.settings.tags)));
                context.permit()?;
                let sent = aws::call("rds RestoreDBInstanceToPointInTime", until, request.send()).await;
                Ok(sent.map_or_else(Failure::applied, |_| accepted))
            }
        }
    }
}

/// `None` is the latest.
fn wanted_time(text: &str) -> Result<Option<Timestamp>, String> {
    match text {
        "latest" => Ok(None),
        text => {
            text.parse().map(Some).map_err(|_| format!("{text:?} is not a point in time like 2026-11-01T03:30:00Z"))
        }
    }
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::from_second(time.secs()).ok()
}

/// A backup that is too old is refused: more would be lost than the owner allows.
pub(super) fn young_enough(
    what: &str,
    taken: Option<Timestamp>,
    max_age: Option<HumanDuration>,
) -> Result<(), Failure> {
    let Some(max_age) = max_age else { return Ok(()) };
    let Some(taken) = taken else {
        return Err(Failure::refused(format!("it is not known how old {what} is, and it may be {max_age} at most")));
    };
    let age = Timestamp::now().duration_since(taken);
    if SignedDuration::try_from(max_age.get()).is_ok_and(|allowed| age > allowed) {
        let age = HumanDuration::secs(age.as_secs().unsigned_abs());
        return Err(Failure::refused(format!("{what} is {age} old ({taken}), and may be {max_age} at most")));
    }
    Ok(())
}

#[async_trait]
impl Action for Restore {
    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        let name = format!("RDS instance {}", self.name());
        let room = match self.look(until(&look.context, LOOK)).await {
            Ok(None) => Finding::ready(name, Aspect::Matches).with("the name", "free"),
            Ok(Some(found)) => Finding::not_ready(name, Aspect::Matches, self.foreign(&found)),
            Err(failure) => failed(&name, failure),
        };
        vec![room, self.backup(look).await]
    }

    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(self.region(), Instant::now() + LOOK).await {
            region.rds();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        let found = match self.look(until).await {
            Ok(found) => found,
            Err(failure) => return failure.observed(),
        };
        let Some(found) = found else {
            return match self.find(until).await {
                Ok(backup) => Observed::NotDone {
                    evidence: format!("{} is not there yet; there is {}", self.name(), backup.evidence),
                    before: Value::Null,
                },
                Err(failure) => failure.observed(),
            };
        };
        let evidence = format!("{} was restored by this step and is {}", self.name(), status(&found));
        match status(&found) {
            _ if !is_ours(&found, context) => Observed::Impossible { reason: self.foreign(&found) },
            lost if is_lost(lost) => Observed::Impossible { reason: evidence },
            "available" => Observed::Done { evidence },
            _ => Observed::InProgress { evidence },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        // What was the newest when it was observed may not be it any more; RDS itself refuses a name
        // that is taken by now.
        match self.find(until).await {
            Ok(backup) => self.send(context, &backup.from, until).await,
            Err(failure) => Ok(failure.not_sent()),
        }
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let name = self.name();
        let found = match self.look(until(context, LOOK)).await {
            Ok(Some(found)) => found,
            Ok(None) => return Verified::NotYet { evidence: format!("{name} is not listed yet") },
            Err(failure) => return failure.verified(),
        };
        let evidence = format!("{name} is {}", status(&found));
        if is_lost(status(&found)) {
            return Verified::Failed { reason: evidence };
        }
        if !is_ours(&found, context) {
            return Verified::Failed { reason: self.foreign(&found) };
        }
        match outputs(&found) {
            Some(mut outputs) if status(&found) == "available" => {
                let key = match &self.backup {
                    Backup::Snapshot(_) => "snapshot",
                    Backup::PointInTime(_) => "restored_to",
                };
                let from = tag(&found, FROM).unwrap_or("unknown").to_owned();
                let evidence = format!("{name} is available, restored from {from}");
                outputs.insert(key.to_owned(), from);
                Verified::Yes { evidence, outputs }
            }
            _ => Verified::NotYet { evidence },
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(5)
    }
}
