//! `[plans]`: steps, their order, and when they are done.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConditionConfig, DrillTable};
use crate::config::action::{
    ArcAction, AutoscalingAction, CloudflareAction, DnsAction, EcsAction, EksAction, ElasticacheAction, ExecAction,
    HealthSwitchAction, HttpAction, IamAction, KubernetesAction, PostgresAction, RdsAction, RedisAction, Route53Action,
    S3Action, SecretsmanagerAction, SnsAction, VeleroAction,
};
use crate::model::{Ended, HumanDuration, OnError, ParameterKind, Retry, RunKind};

/// A plan.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanTable {
    /// What it is for, in one line.
    #[serde(default)]
    pub description: Option<String>,
    /// The recovery-time objective where it is carried out by hand and no scenario names it (default:
    /// what it is expected to take).
    #[serde(default)]
    pub rto: Option<HumanDuration>,
    /// What it is given when it is carried out: `failoverd execute PLAN --set NAME=VALUE`.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterTable>,
    /// From this step's intent on, the run goes forward only (default: the first promotion).
    #[serde(default)]
    pub point_of_no_return: Option<String>,
    /// The steps.
    pub steps: BTreeMap<String, Step>,
    /// Its rehearsals, by what stands in for production: `failoverd drill PLAN --target TARGET`.
    #[serde(default)]
    pub drills: BTreeMap<String, DrillTable>,
    /// So often a drill of it has to pass; without one it is overdue in `failoverd matrix`.
    #[serde(default)]
    pub drill_every: Option<HumanDuration>,
}

/// A parameter of a plan. In place of a value of an action: `{ param = "NAME" }`; in messages: `{{
/// param.NAME }}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterTable {
    /// What it may be (default `text`).
    #[serde(default, rename = "type")]
    pub kind: ParameterKind,
    /// What it is where nobody gives it. A plan that a scenario names needs one for each.
    #[serde(default)]
    pub default: Option<serde_json::Value>,
    /// The values that it may have (default: any of its type).
    #[serde(default)]
    pub one_of: Vec<serde_json::Value>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// A step. Exactly one action.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The steps that come before it.
    #[serde(default)]
    pub after: Vec<String>,
    /// For the whole step.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// Retries.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// What happens when it cannot be done (default: `park`; `continue` for a notification).
    #[serde(default)]
    pub on_error: Option<OnError>,
    /// How long it is expected to take, until runs have measured it.
    #[serde(default)]
    pub estimate: Option<HumanDuration>,
    /// It is done only where this holds when its turn comes, or all of several; else it is left out.
    #[serde(default)]
    pub when: Option<WhenConfig>,
    /// It is done only in such a run: `graceful` (drain, demote) or `ungraceful`.
    #[serde(default)]
    pub only_in: Option<RunKind>,
    /// It comes after the recovery, and does not count for the RTO.
    #[serde(default)]
    pub post_recovery: bool,
    /// How a fence counts: `required` (default: what comes after it waits until it is seen to hold) or
    /// `best-effort` (the run goes on without it).
    #[serde(default)]
    pub fence: Option<FenceNeed>,
    /// Once for each of these; `{ item = "value" }` is the item, `{ item = "FIELD" }` a field of one
    /// that is a table.
    #[serde(default)]
    pub for_each: Vec<serde_json::Value>,
    /// With `for_each`: so many of them have to be done (default: each one's `on_error` decides).
    #[serde(default)]
    pub minimum_success: Option<u32>,
    /// The steps of another plan.
    #[serde(default)]
    pub run_plan: Option<RunPlan>,
    /// A job for a person.
    #[serde(default)]
    pub task: Option<Task>,
    /// Made of `for_each` and `run_plan`.
    #[serde(default)]
    #[schemars(skip)]
    pub gather: Option<Gather>,
    /// Made of `run_plan`.
    #[serde(default)]
    #[schemars(skip)]
    pub scope: Scope,
    /// Amazon RDS.
    #[serde(default)]
    pub rds: Option<RdsAction>,
    /// PostgreSQL.
    #[serde(default)]
    pub postgres: Option<PostgresAction>,
    /// Redis.
    #[serde(default)]
    pub redis: Option<RedisAction>,
    /// Amazon Route 53.
    #[serde(default)]
    pub route53: Option<Route53Action>,
    /// Kubernetes.
    #[serde(default)]
    pub kubernetes: Option<KubernetesAction>,
    /// Amazon SNS.
    #[serde(default)]
    pub sns: Option<SnsAction>,
    /// Any HTTP endpoint.
    #[serde(default)]
    pub http: Option<HttpAction>,
    /// Velero.
    #[serde(default)]
    pub velero: Option<VeleroAction>,
    /// A program of this host.
    #[serde(default)]
    pub exec: Option<ExecAction>,
    /// The domain name system.
    #[serde(default)]
    pub dns: Option<DnsAction>,
    /// Cloudflare.
    #[serde(default)]
    pub cloudflare: Option<CloudflareAction>,
    /// The health endpoint of failoverd itself.
    #[serde(default)]
    pub health_switch: Option<HealthSwitchAction>,
    /// AWS Secrets Manager.
    #[serde(default)]
    pub secretsmanager: Option<SecretsmanagerAction>,
    /// AWS IAM.
    #[serde(default)]
    pub iam: Option<IamAction>,
    /// Amazon ElastiCache.
    #[serde(default)]
    pub elasticache: Option<ElasticacheAction>,
    /// Amazon EC2 Auto Scaling.
    #[serde(default)]
    pub autoscaling: Option<AutoscalingAction>,
    /// Amazon ECS.
    #[serde(default)]
    pub ecs: Option<EcsAction>,
    /// Amazon EKS.
    #[serde(default)]
    pub eks: Option<EksAction>,
    /// Amazon S3.
    #[serde(default)]
    pub s3: Option<S3Action>,
    /// Amazon Application Recovery Controller.
    #[serde(default)]
    pub arc: Option<ArcAction>,
    /// A named probe must be Up.
    #[serde(default)]
    pub verify: Option<VerifyAction>,
    /// A person must say yes.
    #[serde(default)]
    pub approval: Option<Approval>,
    /// Lets time pass.
    #[serde(default)]
    pub wait: Option<HumanDuration>,
}

/// Checks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifyAction {
    /// A named probe must be Up.
    Probe(VerifyProbe),
}

/// `verify.probe`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyProbe {
    /// The probe.
    pub probe: String,
    /// Without interruption (default 0s: one fresh look).
    #[serde(default, rename = "for")]
    pub hold: HumanDuration,
}

/// `approval`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// What the person is asked.
    pub message: String,
}

/// `task`: a job that only a person can do. It is told, told again, and done when somebody says
/// `failoverd step done NAME`. The step's `timeout` is the time that there is for it. After the recovery
/// (`post_recovery`) the run does not wait for it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The job.
    pub message: String,
    /// Told again so often (default: not at all within the run, once a day after it).
    #[serde(default)]
    pub remind: Option<HumanDuration>,
}

/// `run_plan`: the steps of another plan, in place of this one. One level.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// Which.
    pub plan: String,
    /// The values of its parameters.
    #[serde(default)]
    pub with: BTreeMap<String, serde_json::Value>,
}

/// What a step waits for that stands for several.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The steps.
    pub of: Vec<String>,
    /// So many of them.
    pub minimum: usize,
}

/// Where the names of a child plan's step come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// What its steps' names begin with.
    #[serde(default)]
    pub prefix: String,
    /// The values of its parameters.
    #[serde(default)]
    pub values: BTreeMap<String, serde_json::Value>,
}

/// How a fence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FenceNeed {
    /// What comes after it waits until it is seen to hold.
    Required,
    /// The run goes on without it.
    BestEffort,
}

/// When a step is done: a condition as in `scenarios`, `{ param = "…", is = … }`, `{ step = "…", ended =
/// "…" }`, or a list of these, all of which have to hold.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum WhenConfig {
    /// A parameter has this value, or one of these.
    Parameter(WhenParameter),
    /// An earlier step ended so.
    Step(WhenStep),
    /// The verdicts say so.
    Condition(ConditionConfig),
    /// All of them.
    All(Vec<WhenConfig>),
}

/// `{ param = "…", is = … }`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenParameter {
    /// The parameter.
    pub param: String,
    /// Its value, or several of which it has one.
    pub is: serde_json::Value,
    /// Its value in a child plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub given: Option<serde_json::Value>,
}

/// `{ step = "…", ended = "…" }`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenStep {
    /// The step.
    pub step: String,
    /// How it ended.
    pub ended: Ended,
}

impl<'de> Deserialize<'de> for WhenConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        let has = |key: &str| value.get(key).is_some();
        let made = match &value {
            serde_json::Value::Array(of) => serde_json::from_value::<Vec<Self>>(of.clone().into()).map(Self::All),
            serde_json::Value::Object(_) if has("param") => serde_json::from_value(value).map(Self::Parameter),
            serde_json::Value::Object(_) if has("step") => serde_json::from_value(value).map(Self::Step),
            _ => serde_json::from_value(value).map(Self::Condition),
        };
        made.map_err(D::Error::custom)
    }
}
