//! What RDS says of a DB instance or a DB cluster.

use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_rds::types::PendingMaintenanceAction;

use super::Account;
use crate::clients::{Api, failure::one_line};
use crate::config::probe::RdsProbe;
use crate::model::{Cause, CauseKind, Observation};
use crate::ports::Probe;
use crate::probes::classify::Fault;
use crate::probes::{ProbeBuildError, ProbeContext, judged};

/// See [`RdsProbe`].
pub struct Rds {
    account: Account,
    target: Target,
    pending_maintenance: bool,
}

/// What is asked about.
enum Target {
    Instance(String),
    Cluster(String),
}

/// What a status says of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Serves,
    /// It serves, perhaps with interruptions.
    Changing,
    ServesNot,
    /// The documentation does not say whether it serves.
    Nothing,
}

/// What the statuses of instances and clusters mean.
///
/// After the tables of
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html#Overview.DBInstance.Status>
/// and
/// <https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/accessing-monitoring.html#Aurora.Status>.
fn says(status: &str) -> Says {
    match status {
        "available"
        | "backing-up"
        | "configuring-enhanced-monitoring"
        | "configuring-iam-database-auth"
        | "configuring-log-exports"
        | "storage-optimization"
        | "update-iam-db-auth" => Says::Serves,
        "converting-to-vpc"
        | "delete-precheck"
        | "failing-over"
        | "maintenance"
        | "modifying"
        | "moving-to-vpc"
        | "promoting"
        | "renaming"
        | "resetting-master-credentials"
        | "storage-config-upgrade"
        | "storage-initialization"
        | "upgrading" => Says::Changing,
        "backtracking"
        | "cloning-failed"
        | "creating"
        | "deleting"
        | "failed"
        | "inaccessible-encryption-credentials"
        | "inaccessible-encryption-credentials-recoverable"
        | "incompatible-network"
        | "incompatible-parameters"
        | "incompatible-restore"
        | "insufficient-capacity"
        | "migration-failed"
        | "rebooting"
        | "restore-error"
        | "starting"
        | "stopped"
        | "stopping"
        | "storage-full" => Says::ServesNot,
        _ => Says::Nothing,
    }
}

/// What was asked about, as RDS tells it.
struct Found {
    status: String,
    arn: String,
    /// A cluster that nobody can connect to, whatever its status.
    empty: bool,
}

impl Rds {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Where it is not said what is asked about.
    pub fn new(config: &RdsProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        let target = match (&config.instance, &config.cluster) {
            (Some(instance), None) => Target::Instance(instance.clone()),
            (None, Some(cluster)) => Target::Cluster(cluster.clone()),
            _ => return Err(ProbeBuildError::new("rds", "exactly one of `instance` and `cluster` has to be there")),
        };
        let account = Account::new(context, &config.region, Api::Rds);
        Ok(Self { account, target, pending_maintenance: config.pending_maintenance })
    }

    async fn found(&self, until: Instant) -> Result<Found, Fault> {
        let clients = self.account.clients(until).await?;
        let unreadable = |what: &str| Fault::ours(CauseKind::ControlPlane, format!("rds {what}: an empty answer"));
        match &self.target {
            Target::Instance(name) => {
                let request = clients.rds().describe_db_instances().db_instance_identifier(name).send();
                let answer = self.account.ask("rds DescribeDBInstances", until, request).await?;
                let found = answer.db_instances().first().ok_or_else(|| unreadable("DescribeDBInstances"))?;
                Ok(Found {
                    status: found.db_instance_status().unwrap_or_default().to_owned(),
                    arn: found.db_instance_arn().unwrap_or_default().to_owned(),
                    empty: false,
                })
            }
            Target::Cluster(name) => {
                let request = clients.rds().describe_db_clusters().db_cluster_identifier(name).send();
                let answer = self.account.ask("rds DescribeDBClusters", until, request).await?;
                let found = answer.db_clusters().first().ok_or_else(|| unreadable("DescribeDBClusters"))?;
                Ok(Found {
                    status: found.status().unwrap_or_default().to_owned(),
                    arn: found.db_cluster_arn().unwrap_or_default().to_owned(),
                    // The first generation of Aurora Serverless has no instances that it shows.
                    empty: found.db_cluster_members().is_empty() && found.engine_mode() != Some("serverless"),
                })
            }
        }
    }

    /// The maintenance of a resource that has a date.
    async fn maintenance(&self, arn: &str, until: Instant) -> Result<Option<Cause>, Fault> {
        let clients = self.account.clients(until).await?;
        let request = clients.rds().describe_pending_maintenance_actions().resource_identifier(arn).send();
        let answer = self.account.ask("rds DescribePendingMaintenanceActions", until, request).await?;
        let all = answer.pending_maintenance_actions().iter();
        let of_ours = all.filter(|of| of.resource_identifier() == Some(arn));
        let dated: Vec<String> =
            of_ours.flat_map(|of| of.pending_maintenance_action_details()).filter_map(dated).collect();
        Ok((!dated.is_empty()).then(|| Cause::new(CauseKind::MaintenancePending, dated.join("; "))))
    }

    async fn look(&self) -> Result<Option<Cause>, Fault> {
        let until = self.account.until();
        let found = self.found(until).await?;
        let text = match &self.target {
            Target::Instance(name) => format!("RDS says that instance {name} is {}", one_line(&found.status)),
            Target::Cluster(name) => format!("RDS says that cluster {name} is {}", one_line(&found.status)),
        };
        let changing = match says(&found.status) {
            Says::ServesNot => return Err(Fault::theirs(CauseKind::Unhealthy, text)),
            Says::Nothing => {
                let text = format!("{text}, which does not tell whether it serves");
                return Err(Fault::ours(CauseKind::Protocol, text));
            }
            _ if found.empty => {
                return Err(Fault::theirs(CauseKind::Unhealthy, format!("{text}, and has no instance")));
            }
            Says::Changing => Some(Cause::new(CauseKind::Unhealthy, text)),
            Says::Serves => None,
        };
        if changing.is_some() || !self.pending_maintenance {
            return Ok(changing);
        }
        self.maintenance(&found.arn, until).await
    }
}

/// What is going to be done, and when; `None` where that is not known yet.
fn dated(action: &PendingMaintenanceAction) -> Option<String> {
    let date = action
        .current_apply_date()
        .or_else(|| action.auto_applied_after_date())
        .or_else(|| action.forced_apply_date())
        .and_then(|date| jiff::Timestamp::from_second(date.secs()).ok())?;
    Some(format!("{} on {date}", one_line(action.action().unwrap_or("maintenance"))))
}

#[async_trait]
impl Probe for Rds {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        judged(self.look().await, started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_is_not_known_says_nothing() {
        assert_eq!(says("available"), Says::Serves);
        assert_eq!(says("modifying"), Says::Changing);
        assert_eq!(says("storage-full"), Says::ServesNot);
        for odd in ["", "incompatible-option-group", "thinking"] {
            assert_eq!(says(odd), Says::Nothing, "{odd}");
        }
    }
}
