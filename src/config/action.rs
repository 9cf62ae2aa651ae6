//! The actions and their parameters, as the file has them. `src/actions` carries them out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::SecretText;
use crate::model::HumanDuration;

/// An action. In the file: `rds.promote_read_replica = { … }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionConfig {
    /// Amazon RDS.
    Rds(RdsAction),
    /// PostgreSQL, asked directly.
    Postgres(PostgresAction),
    /// Redis, asked directly.
    Redis(RedisAction),
    /// Amazon Route 53.
    Route53(Route53Action),
    /// Kubernetes.
    Kubernetes(KubernetesAction),
    /// Amazon SNS.
    Sns(SnsAction),
    /// Any HTTP endpoint.
    Http(HttpAction),
}

/// Actions on Amazon RDS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RdsAction {
    /// Promotes a read replica to a database of its own.
    PromoteReadReplica(RdsPromoteReadReplica),
}

/// `rds.promote_read_replica`: done when the instance is `available` and follows nobody. Needs
/// `rds:DescribeDBInstances` and `rds:PromoteReadReplica`.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_PromoteReadReplica.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdsPromoteReadReplica {
    /// The region of the replica.
    pub region: String,
    /// The replica's DB instance identifier.
    pub instance: String,
    /// The DB instance identifier (or ARN) that it must be a replica of; another one is refused.
    #[serde(default)]
    pub replica_of: Option<String>,
    /// The name of the service for the guard "one promotion per service and epoch" (default: the
    /// instance).
    #[serde(default)]
    pub service: Option<String>,
}

/// Actions on PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostgresAction {
    /// Promotes a standby.
    Promote(PostgresPromote),
}

/// `postgres.promote`: done when the server is not in recovery and a write in it was committed. Needs
/// `EXECUTE` on `pg_promote(boolean, integer)`, and on `pg_control_system()` with `system_identifier`.
/// <https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresPromote {
    /// The standby: `postgresql://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The system identifier that the standby must have (`SELECT system_identifier FROM
    /// pg_control_system()`); another cluster is refused.
    #[serde(default)]
    pub system_identifier: Option<String>,
    /// The name of the service for the guard "one promotion per service and epoch" (default:
    /// `postgres`).
    #[serde(default)]
    pub service: Option<String>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

/// Actions on Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisAction {
    /// Promotes a replica (`REPLICAOF NO ONE`).
    Promote(RedisPromote),
}

/// `redis.promote`: done when `ROLE` says `master` and a write was taken: `DEL` of a key that is not
/// there. With an ACL, the user needs `+role +info +dbsize +replicaof +del ~failoverd:*`.
/// <https://redis.io/docs/latest/commands/replicaof/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisPromote {
    /// The replica: `redis://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The name of the service for the guard "one promotion per service and epoch" (default:
    /// `redis`).
    #[serde(default)]
    pub service: Option<String>,
}

/// Actions on Amazon Route 53.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Route53Action {
    /// Points a name to another target.
    UpsertAlias(Route53UpsertAlias),
}

/// `route53.upsert_alias`: done when the record says so and the change is `INSYNC`. The epoch goes
/// into a TXT record beside it, deleted and created in the same all-or-nothing change batch, so
/// that a batch of an older epoch is refused. Needs
/// `route53:ListResourceRecordSets`, `route53:ChangeResourceRecordSets` and `route53:GetChange`.
/// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route53UpsertAlias {
    /// The hosted zone's id.
    pub zone: String,
    /// The record's name.
    pub name: String,
    /// The record's type: `A` (default), `AAAA` or `CNAME`.
    #[serde(default)]
    pub record: RouteRecordType,
    /// An alias: the DNS name of its target. Or `values` for a plain record.
    #[serde(default)]
    pub target: Option<String>,
    /// An alias: the hosted zone id of its target.
    #[serde(default)]
    pub target_zone: Option<String>,
    /// An alias: does Route 53 look at the target's health (default false)?
    #[serde(default)]
    pub evaluate_target_health: bool,
    /// A plain record: its values. Or `target` for an alias.
    #[serde(default)]
    pub values: Vec<String>,
    /// A plain record: its time to live (default 60s).
    #[serde(default)]
    pub ttl: Option<HumanDuration>,
    /// The name of the TXT record that holds the epoch (default: `_failoverd.` before the name);
    /// `""` does without.
    #[serde(default)]
    pub sentinel: Option<String>,
    /// The region whose endpoint and credentials are used (default `us-east-1`, where Route 53's
    /// control plane is).
    #[serde(default)]
    pub region: Option<String>,
}

/// The types of a record that traffic follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RouteRecordType {
    /// IPv4 address, or an alias.
    #[default]
    A,
    /// IPv6 address, or an alias.
    Aaaa,
    /// Another name.
    Cname,
}

/// Actions on Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KubernetesAction {
    /// Sets a Deployment's replicas.
    Scale(KubernetesScale),
}

/// Which cluster, and with whose rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesCluster {
    /// The kubeconfig's path (default: `$KUBECONFIG`, then `~/.kube/config`, then in-cluster).
    #[serde(default)]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// The kubeconfig's context (default: its current one).
    #[serde(default)]
    pub context: Option<String>,
}

/// `kubernetes.scale`: done when so many replicas are ready. Needs `get` and `patch` on
/// `deployments.apps`.
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesScale {
    /// The kubeconfig's path (default: `$KUBECONFIG`, then `~/.kube/config`, then in-cluster).
    #[serde(default)]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// The kubeconfig's context (default: its current one).
    #[serde(default)]
    pub context: Option<String>,
    /// `namespace/name`.
    pub deployment: String,
    /// How many. More than that is left alone.
    pub replicas: u32,
}

/// Actions on Amazon SNS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnsAction {
    /// Publishes a message.
    Publish(SnsPublish),
}

/// `sns.publish`: delivered at least once. Needs `sns:Publish`.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnsPublish {
    /// The region (default: the topic's).
    #[serde(default)]
    pub region: Option<String>,
    /// The topic's ARN.
    pub topic: String,
    /// The subject (ASCII, at most 100 characters; cut otherwise).
    #[serde(default)]
    pub subject: Option<String>,
    /// The message.
    pub message: String,
}

/// Actions on any HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpAction {
    /// Makes a request.
    Request(HttpRequest),
}

/// `http.request`: done when the answer's status is expected. Not repeated after an unknown
/// outcome, unless it is `idempotent` or `observe` tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    /// `http://…` or `https://…`, by reference where it holds a secret.
    pub url: SecretText,
    /// The method (default `POST`).
    #[serde(default = "post")]
    pub method: String,
    /// Headers; the values by reference where they are secret.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
    /// The body.
    #[serde(default)]
    pub body: Option<String>,
    /// The body as JSON (sets `content-type`). Or `body`.
    #[serde(default)]
    pub json: Option<serde_json::Value>,
    /// The statuses that are success (default: 200 to 299).
    #[serde(default)]
    pub status: Vec<u16>,
    /// May it be made twice (default: true for GET, HEAD, PUT and DELETE)?
    #[serde(default)]
    pub idempotent: Option<bool>,
    /// A GET that tells whether it was done already: a 2xx answer that contains `contains`.
    #[serde(default)]
    pub observe: Option<HttpObserve>,
    /// What kind of change it is, for the guards: `call` (default), `notify`, `fence`, `route`.
    #[serde(default)]
    pub effect: Option<HttpEffect>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
}

fn post() -> String {
    "POST".into()
}

/// How `http.request` looks whether it was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpObserve {
    /// Where to look, with GET and the same headers.
    pub url: SecretText,
    /// What a 2xx answer contains once it is done.
    pub contains: String,
}

/// What kind of change an `http.request` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpEffect {
    /// Anything.
    Call,
    /// Tells people; its failure never fails a run.
    Notify,
    /// Stops the old primary; every promotion of the plan has to come after it.
    Fence,
    /// Moves traffic.
    Route,
}
