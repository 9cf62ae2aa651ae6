//! The actions and their parameters, as the file has them: `src/actions` carries them out.
//!
//! Lives here: one file per family; each struct of parameters tells by [`Parameters`] all that plans,
//! guards, `check` and the documentation need to know of its action. Does not live here: any call.
//!
//! To add an action: a struct with its documentation (it becomes the page of `failoverd actions
//! NAME`), its [`Parameters`], one line in `families!` below, and its builder in
//! `src/actions`.

pub mod arc;
pub mod aurora;
pub mod cloudflare;
pub mod compute;
pub mod dns;
pub mod elasticache;
pub mod exec;
pub mod health_switch;
pub mod http;
pub mod iam;
pub mod kubernetes;
pub mod permissions;
pub mod postgres;
pub mod postgres_data;
pub mod rds;
pub mod rds_instance;
pub mod rds_restore;
pub mod redis;
pub mod redis_command;
pub mod route53;
pub mod s3;
pub mod secretsmanager;
pub mod sns;
pub mod velero;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use super::path::Path;
use super::redact::redact;
use super::report::Report;
use super::secret::SecretText;
use super::shape::Step;
use crate::model::{ActionKind, ActionSpec, EffectKind, HumanDuration, Repeat, WrongValue};

pub use self::redis::{FlushScope, RedisFlush, RedisFollow, RedisPromote};
pub use arc::{ArcEndpoint, ArcRoutingControl, ArcState, control_name};
pub use aurora::{RdsFailoverCluster, RdsFailoverGlobalCluster, RdsSwitchoverGlobalCluster};
pub use cloudflare::CloudflareDns;
pub use compute::{AutoscalingSetDesired, EcsUpdateService, EksWaitCluster};
pub use dns::{DnsKeyAlgorithm, DnsUpdate, DnsVerify};
pub use elasticache::{ElasticacheFailover, ElasticacheFailoverGlobal, ElasticacheReboot};
pub use exec::{ExecEffect, ExecRun};
pub use health_switch::HealthSwitchSet;
pub use http::{HttpEffect, HttpExpect, HttpObserve, HttpRequest};
pub use iam::IamDeactivateAccessKey;
pub use kubernetes::{
    KubernetesApply, KubernetesCluster, KubernetesCordon, KubernetesCreateJob, KubernetesDeletePods,
    KubernetesEndpointsReady, KubernetesPodsReady, KubernetesRolloutRestart, KubernetesRolloutStatus,
    KubernetesRolloutUndo, KubernetesScale, KubernetesSecret, KubernetesSetEnv, KubernetesWait,
};
pub use postgres::{PostgresFence, PostgresPromote, PostgresSql, PostgresVerifyWrite};
pub use postgres_data::{OnDiverged, PostgresCompareCounts, PostgresFollow, PostgresRestore};
pub use rds::RdsPromoteReadReplica;
pub use rds_instance::{RdsCreateReadReplica, RdsFailover, RdsStop};
pub use rds_restore::{RdsRestorePointInTime, RdsRestoreSnapshot, RdsRestored};
pub use redis_command::RedisCommand;
pub use route53::{ROUTE53_REGION, Route53UpsertAlias, RouteRecordType};
pub use s3::S3Fetch;
pub use secretsmanager::SecretsmanagerPut;
pub use sns::{SnsPublish, topic_region};
pub use velero::VeleroRestore;

/// What an action's parameters tell of it, without any call.
pub trait Parameters {
    /// What it changes, for the guards.
    fn effect(&self) -> EffectKind;

    /// How an unknown outcome is resolved.
    fn repeat(&self) -> Repeat {
        Repeat::ByObservation
    }

    /// The service whose writable copy it moves; `Some` exactly where the effect is `Promote`.
    fn service(&self) -> Option<String> {
        None
    }

    /// The region that it calls, where it calls one.
    fn region(&self) -> Option<String> {
        None
    }

    /// Where it promotes: does it choose among copies in one region, so that the primary region is as
    /// good a place for it as any?
    fn within_region(&self) -> bool {
        false
    }

    /// One line for people: what it touches. Without a secret.
    fn target(&self) -> String;

    /// How long it is expected to take, until runs have measured it.
    fn estimate(&self) -> HumanDuration;

    /// The values that later steps can use, told by `verify`.
    fn outputs(&self) -> &'static [Output] {
        &[]
    }

    /// The same, where the file gives them their names.
    fn named_outputs(&self) -> Vec<String> {
        Vec::new()
    }

    /// Does it destroy what nobody can bring back (a store is emptied, tables are dropped), so that a
    /// person has to say yes first? `check` refuses a plan where no `approval` comes before it.
    fn needs_approval(&self) -> bool {
        false
    }

    /// Does it make things that later steps need to be there? A dry run does not hold their absence
    /// against those.
    fn makes(&self) -> bool {
        false
    }

    /// The parameters that are messages, as JSON pointers (one to a table or a list means each text
    /// in it): templates that are filled in when the step
    /// begins.
    fn messages(&self) -> &'static [&'static str] {
        &[]
    }

    /// Tells what can be seen to be wrong before an outage; `at` is the path of the parameters.
    fn check(&self, at: &Path, report: &mut Report<'_>);
}

/// A value that an action hands to later steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Its name: `endpoint`.
    pub name: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// A value of its form, which stands for it in `check`.
    pub sample: &'static str,
}

/// What parameters without `OUTPUTS` of their own hand on; where they have them, those go before these.
trait HandsOnNothing {
    const OUTPUTS: &'static [Output] = &[];
}

impl<T: Parameters> HandsOnNothing for T {}

/// Declares the families, their actions, and what follows from the list.
macro_rules! families {
    ($(
        $(#[doc = $about:literal])+
        $family:ident, $actions:ident, $field:ident {
            $( $(#[doc = $does:literal])+ $verb:ident($parameters:ty) = $kind:literal, )+
        }
    )+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
            #[serde(rename_all = "snake_case")]
            pub enum $actions {
                $( $(#[doc = $does])+ $verb($parameters), )+
            }
        )+

        /// An action. In the file: `rds.promote_read_replica = { … }`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ActionConfig {
            $( $(#[doc = $about])+ $family($actions), )+
        }

        /// The kinds of all actions, by family, each with what it does in one line.
        pub const KINDS: &[(&str, &str)] = &[$($( ($kind, concat!($($does),+)), )+)+];

        /// What the actions of a kind can hand on; with some parameters they do not.
        pub fn outputs_of(kind: &str) -> &'static [Output] {
            match kind {
                $($( $kind => <$parameters>::OUTPUTS, )+)+
                _ => &[],
            }
        }

        /// The families, as keys of a step.
        pub const FAMILIES: &[&str] = &[$( stringify!($field), )+];

        impl ActionConfig {
            /// `family.verb`, as in the file.
            pub fn kind(&self) -> ActionKind {
                ActionKind::new(match self {
                    $($( Self::$family($actions::$verb(_)) => $kind, )+)+
                })
            }

            /// What its parameters tell.
            pub fn parameters(&self) -> &dyn Parameters {
                match self {
                    $($( Self::$family($actions::$verb(parameters)) => parameters, )+)+
                }
            }

            /// The actions that a step of the file names, each with its key.
            pub fn of_step(step: &Step) -> Vec<(&'static str, Self)> {
                let mut found = Vec::new();
                $( found.extend(step.$field.clone().map(|action| (stringify!($field), Self::$family(action)))); )+
                found
            }
        }
    };
}

families! {
    /// Amazon RDS and Aurora.
    Rds, RdsAction, rds {
        /// Promotes a read replica to a database of its own.
        PromoteReadReplica(RdsPromoteReadReplica) = "rds.promote_read_replica",
        /// Sends a Multi-AZ instance over to its standby.
        Failover(RdsFailover) = "rds.failover",
        /// Restores a snapshot into a new instance.
        RestoreSnapshot(RdsRestoreSnapshot) = "rds.restore_snapshot",
        /// Restores a point in time into a new instance.
        RestorePointInTime(RdsRestorePointInTime) = "rds.restore_point_in_time",
        /// Stops an instance, so that it takes no writes.
        Stop(RdsStop) = "rds.stop",
        /// Creates a read replica.
        CreateReadReplica(RdsCreateReadReplica) = "rds.create_read_replica",
        /// Makes an instance of a cluster its writer.
        FailoverCluster(RdsFailoverCluster) = "rds.failover_cluster",
        /// Makes a secondary cluster of a global database its primary, with a loss of data.
        FailoverGlobalCluster(RdsFailoverGlobalCluster) = "rds.failover_global_cluster",
        /// Makes a secondary cluster of a global database its primary, without a loss of data.
        SwitchoverGlobalCluster(RdsSwitchoverGlobalCluster) = "rds.switchover_global_cluster",
    }
    /// PostgreSQL, asked directly.
    Postgres, PostgresAction, postgres {
        /// Promotes a standby.
        Promote(PostgresPromote) = "postgres.promote",
        /// Runs statements, or looks whether a query answers as expected.
        Sql(PostgresSql) = "postgres.sql",
        /// Looks until the server takes a write.
        VerifyWrite(PostgresVerifyWrite) = "postgres.verify_write",
        /// Makes the old primary refuse writes.
        Fence(PostgresFence) = "postgres.fence",
        /// Brings the old primary back as a standby of the new one.
        Follow(PostgresFollow) = "postgres.follow",
        /// Restores a dump with `pg_restore`.
        Restore(PostgresRestore) = "postgres.restore",
        /// Looks until tables have as many rows as they should.
        CompareCounts(PostgresCompareCounts) = "postgres.compare_counts",
    }
    /// Redis, asked directly.
    Redis, RedisAction, redis {
        /// Promotes a replica (`REPLICAOF NO ONE`).
        Promote(RedisPromote) = "redis.promote",
        /// Sends one harmless command, or looks whether it answers as expected.
        Command(RedisCommand) = "redis.command",
        /// Makes a server a replica of another.
        Follow(RedisFollow) = "redis.follow",
        /// Empties a store.
        Flush(RedisFlush) = "redis.flush",
    }
    /// Amazon Route 53.
    Route53, Route53Action, route53 {
        /// Points a name to another target.
        UpsertAlias(Route53UpsertAlias) = "route53.upsert_alias",
    }
    /// Kubernetes.
    Kubernetes, KubernetesAction, kubernetes {
        /// Sets a Deployment's replicas.
        Scale(KubernetesScale) = "kubernetes.scale",
        /// Sets and removes environment variables of a Deployment.
        SetEnv(KubernetesSetEnv) = "kubernetes.set_env",
        /// Restarts Deployments.
        RolloutRestart(KubernetesRolloutRestart) = "kubernetes.rollout_restart",
        /// Brings a Deployment back to an earlier revision.
        RolloutUndo(KubernetesRolloutUndo) = "kubernetes.rollout_undo",
        /// Waits for the rollout of Deployments.
        RolloutStatus(KubernetesRolloutStatus) = "kubernetes.rollout_status",
        /// Writes keys of a Secret.
        Secret(KubernetesSecret) = "kubernetes.secret",
        /// Waits for a condition or value of any object.
        Wait(KubernetesWait) = "kubernetes.wait",
        /// Waits until all pods of a namespace are ready.
        PodsReady(KubernetesPodsReady) = "kubernetes.pods_ready",
        /// Waits until Services have ready endpoints.
        EndpointsReady(KubernetesEndpointsReady) = "kubernetes.endpoints_ready",
        /// Runs a CronJob's Job once.
        CreateJob(KubernetesCreateJob) = "kubernetes.create_job",
        /// Applies rendered manifests.
        Apply(KubernetesApply) = "kubernetes.apply",
        /// Keeps new pods off nodes.
        Cordon(KubernetesCordon) = "kubernetes.cordon",
        /// Deletes the pods that stand now.
        DeletePods(KubernetesDeletePods) = "kubernetes.delete_pods",
    }
    /// Amazon SNS.
    Sns, SnsAction, sns {
        /// Publishes a message.
        Publish(SnsPublish) = "sns.publish",
    }
    /// Any HTTP endpoint.
    Http, HttpAction, http {
        /// Makes a request.
        Request(HttpRequest) = "http.request",
    }
    /// Velero.
    Velero, VeleroAction, velero {
        /// Restores the newest backup of a schedule, or one by name.
        Restore(VeleroRestore) = "velero.restore",
    }
    /// Programs of this host.
    Exec, ExecAction, exec {
        /// Runs a program.
        Run(ExecRun) = "exec.run",
    }
    /// The domain name system, whoever runs the zone.
    Dns, DnsAction, dns {
        /// Looks until all servers answer as they should.
        Verify(DnsVerify) = "dns.verify",
        /// Changes a record by a signed dynamic update.
        Update(DnsUpdate) = "dns.update",
    }
    /// Cloudflare.
    Cloudflare, CloudflareAction, cloudflare {
        /// Points a DNS record to another address.
        Dns(CloudflareDns) = "cloudflare.dns",
    }
    /// The health endpoint of failoverd itself.
    HealthSwitch, HealthSwitchAction, health_switch {
        /// Sets what health checkers are answered.
        Set(HealthSwitchSet) = "health_switch.set",
    }
    /// AWS Secrets Manager.
    Secretsmanager, SecretsmanagerAction, secretsmanager {
        /// Changes values in a secret.
        Put(SecretsmanagerPut) = "secretsmanager.put",
    }
    /// AWS IAM.
    Iam, IamAction, iam {
        /// Makes an access key work no more.
        DeactivateAccessKey(IamDeactivateAccessKey) = "iam.deactivate_access_key",
    }
    /// Amazon ElastiCache.
    Elasticache, ElasticacheAction, elasticache {
        /// Reboots nodes of a cache cluster.
        Reboot(ElasticacheReboot) = "elasticache.reboot",
        /// Makes another node of a replication group its primary.
        Failover(ElasticacheFailover) = "elasticache.failover",
        /// Makes a secondary replication group of a global datastore its primary.
        FailoverGlobal(ElasticacheFailoverGlobal) = "elasticache.failover_global",
    }
    /// Amazon EC2 Auto Scaling.
    Autoscaling, AutoscalingAction, autoscaling {
        /// Sets how many instances a group has.
        SetDesired(AutoscalingSetDesired) = "autoscaling.set_desired",
    }
    /// Amazon ECS.
    Ecs, EcsAction, ecs {
        /// Sets how many tasks a service has, or deploys it anew.
        UpdateService(EcsUpdateService) = "ecs.update_service",
    }
    /// Amazon EKS.
    Eks, EksAction, eks {
        /// Waits until a cluster is active.
        WaitCluster(EksWaitCluster) = "eks.wait_cluster",
    }
    /// Amazon S3.
    S3, S3Action, s3 {
        /// Downloads an object, or the newest one below a prefix.
        Fetch(S3Fetch) = "s3.fetch",
    }
    /// Amazon Application Recovery Controller.
    Arc, ArcAction, arc {
        /// Sets routing controls.
        RoutingControl(ArcRoutingControl) = "arc.routing_control",
    }
}

impl ActionConfig {
    /// The specification that a plan holds.
    ///
    /// # Errors
    /// One line, where the parameters cannot be written as JSON (a path that is not UTF-8).
    pub fn to_spec(&self) -> Result<ActionSpec, String> {
        let parameters = self.parameters();
        Ok(ActionSpec {
            kind: self.kind(),
            effect: parameters.effect(),
            repeat: parameters.repeat(),
            target: parameters.target(),
            service: parameters.service().map(Into::into),
            region: parameters.region().map(Into::into),
            estimate: parameters.estimate(),
            messages: self.message_pointers(),
            makes: parameters.makes(),
            params: serde_json::to_value(self).map_err(|error| error.to_string())?,
        })
    }

    /// The parameters that are messages, from the root of the specification's parameters.
    fn message_pointers(&self) -> Vec<String> {
        let at: String = self.kind().as_str().split('.').map(|part| format!("/{part}")).collect();
        self.parameters().messages().iter().map(|pointer| format!("{at}{pointer}")).collect()
    }

    /// The action of a specification.
    ///
    /// # Errors
    /// One line, where the parameters are those of another version of this program.
    pub fn from_spec(spec: &ActionSpec) -> Result<Self, String> {
        let action: Self = serde_path_to_error::deserialize(&spec.params).map_err(|error| {
            format!("the parameters of {} cannot be read: {}: {}", spec.kind, error.path(), error.inner())
        })?;
        if action.kind() == spec.kind {
            Ok(action)
        } else {
            Err(format!("the step says {}, and its parameters are those of {}", spec.kind, action.kind()))
        }
    }

    /// What [`Self::check`] would call an error if it stood in the file. Looks at no file that it names.
    pub fn errors(&self) -> Vec<WrongValue> {
        let layers = Layers::default();
        let mut report = Report::new(&layers, false);
        self.check(&Path::default(), &mut report);
        let told = |(at, what, fix): (&Path, &str, &str)| {
            let fix = if fix.is_empty() { String::new() } else { format!("; {fix}") };
            WrongValue { pointer: at.pointer(), why: redact(&format!("{what}{fix}"), &[]) }
        };
        report.errors().map(told).collect()
    }

    /// Tells what is wrong with its parameters; `step` is the path of its step.
    pub fn check(&self, step: &Path, report: &mut Report<'_>) {
        let at = self.kind().as_str().split('.').fold(step.clone(), |path, part| path.key(part));
        self.parameters().check(&at, report);
    }
}

/// The name of a service for the guard "one promotion per service and epoch".
fn service(report: &mut Report<'_>, at: &Path, service: Option<&str>) {
    if let Some(service) = service {
        super::check::plain_value(report, &at.key("service"), service);
    }
}

/// An address without what may be secret in it: its user, query and fragment are left out.
fn shown(text: &SecretText) -> String {
    match text {
        SecretText::Reference(secret) => format!("the address in {secret}"),
        SecretText::Plain(plain) => match url::Url::parse(plain) {
            Ok(mut url) => {
                let _ = url.set_password(None);
                let _ = url.set_username("");
                url.set_query(None);
                url.set_fragment(None);
                url.to_string()
            }
            Err(_) => super::redact::redact(plain, &[]),
        },
    }
}

#[cfg(test)]
mod tests;
