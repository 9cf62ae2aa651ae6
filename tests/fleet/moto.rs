//! The AWS API: moto, made as strict as AWS documents it, breakable, and with a log of every call.
//! What it does differently from plain moto is in `moto/` beside this file.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::aws::USER_AGENT;
use super::child::{Proc, command};
use super::dns::Dns;
use super::postgres::Postgres;
use super::{START, fleet_dir, http, port, scratch_dir, venv_bin};

/// A secret key that must not show up in any output.
pub const SECRET_KEY: &str = "canary-aws-Kx81qv";

/// A delay that no test outlasts.
pub const HOLD: Duration = Duration::from_secs(3600);

/// One running AWS API, for all services and regions of account 123456789012.
pub struct Moto {
    port: u16,
    server: Option<Proc>,
    dir: TempDir,
}

/// What a fault does. `SuccessThen...` carry the call out first, so that its caller cannot know.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 400 Throttling, "Rate exceeded".
    Throttle,
    /// 403 AccessDenied.
    AccessDenied,
    /// 403 ExpiredToken.
    ExpiredToken,
    /// Any error: see [`Fault::error`].
    Error,
    /// 500 InternalFailure.
    #[serde(rename = "error500")]
    Error500,
    /// 503 ServiceUnavailable.
    #[serde(rename = "error503")]
    Error503,
    /// A load balancer's HTML page instead of an API error.
    #[serde(rename = "html502")]
    Html502,
    /// The connection closes without an answer; nothing was done.
    Reset,
    /// No answer until the rule is cleared or its seconds are over; nothing was done.
    Hang,
    /// The answer comes late (default 5 s).
    Slow,
    /// Done, but 500 is answered.
    #[serde(rename = "success_then_500")]
    SuccessThen500,
    /// Done, but no answer comes.
    SuccessThenTimeout,
    /// Done, but the connection closes without an answer.
    SuccessThenReset,
}

/// A rule that breaks calls; what is not narrowed down matches any call.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contains: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

impl Fault {
    /// Breaks every call until cleared.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            service: None,
            region: None,
            action: None,
            contains: None,
            times: None,
            seconds: None,
            code: None,
            status: None,
        }
    }

    /// An error of any code, as the service would answer it.
    pub fn error(status: u16, code: &str) -> Self {
        Self { code: Some(code.to_owned()), status: Some(status), ..Self::new(Kind::Error) }
    }

    /// Only this service, by its signing name: `rds`, `route53`, `sns`, ...
    pub fn service(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    /// Only this region. Route 53 is signed for us-east-1.
    pub fn region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }

    /// Only this action, e.g. `PromoteReadReplica`.
    pub fn action(mut self, action: &str) -> Self {
        self.action = Some(action.to_owned());
        self
    }

    /// Only requests whose path or body contains this text, e.g. an identifier.
    pub fn contains(mut self, text: &str) -> Self {
        self.contains = Some(text.to_owned());
        self
    }

    /// Only this many calls.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// How long it hangs or delays.
    pub fn lasting(mut self, time: Duration) -> Self {
        self.seconds = Some(time.as_secs_f64());
        self
    }
}

/// One API call as the server saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    /// Its place in the order of all calls.
    pub n: u64,
    /// When it came, in seconds since 1970.
    pub at: f64,
    /// The service's signing name.
    pub service: Option<String>,
    /// The region that it was signed for.
    pub region: Option<String>,
    /// The action, e.g. `PromoteReadReplica`.
    pub action: Option<String>,
    /// The path of the request.
    pub path: String,
    /// Its parameters: a map for query and JSON services, `{query, body}` for others.
    pub params: Value,
    /// The same for all retries of one call.
    pub invocation: Option<String>,
    /// Which attempt of that call it was, from 1.
    pub attempt: Option<u32>,
    /// Who called.
    pub user_agent: Option<String>,
    /// The fault that was injected.
    pub fault: Option<String>,
    /// The status that was answered, or would have been.
    pub status: Option<u16>,
    /// Whether moto did what was asked, whatever the caller was told.
    pub carried_out: bool,
}

impl Moto {
    /// Starts it, empty.
    pub async fn start() -> Result<Self> {
        let mut this = Self { port: port()?, server: None, dir: scratch_dir("moto")? };
        this.restart_empty().await?;
        Ok(this)
    }

    /// Starts it again on the same port. Its state is in memory: everything is forgotten.
    pub async fn restart_empty(&mut self) -> Result<()> {
        self.kill9();
        let mut moto = command(venv_bin("python")?);
        // -B: no byte code beside the sources of the repository.
        moto.arg("-B").arg(fleet_dir().join("moto/server.py")).arg(self.port.to_string());
        let log = self.dir.path().join("moto.log");
        let url = self.at("/_calls");
        let server = self.server.insert(Proc::start("moto", moto, &log)?);
        server
            .ready(START, "the AWS API to answer", async || {
                http().get(&url).send().await?.error_for_status()?;
                Ok(())
            })
            .await
    }

    /// For `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint())
    }

    /// What a client needs in its environment to reach this and nothing else.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_through(self.port)
    }

    /// The same through another port, e.g. a fault proxy's.
    pub fn env_through(&self, port: u16) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{port}");
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            // Nothing from the home directory of whoever runs the tests.
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("NO_PROXY", "127.0.0.1,localhost"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    async fn control(&self, path: &str, body: &impl Serialize) -> Result<Value> {
        let answer = http().post(self.at(path)).json(body).send().await?;
        let ok = answer.status().is_success();
        let value: Value = answer.json().await?;
        anyhow::ensure!(ok, "{path}: {value}");
        Ok(value)
    }

    /// Adds a rule that breaks calls; returns its number.
    pub async fn fault(&self, fault: Fault) -> Result<u64> {
        let answer = self.control("/_fault", &fault).await?;
        answer["id"].as_u64().context("a rule has a number")
    }

    /// Forgets all rules and lets go what hangs.
    pub async fn clear_faults(&self) -> Result<()> {
        http().delete(self.at("/_fault")).send().await?;
        Ok(())
    }

    /// How many calls a rule has broken.
    pub async fn fault_hits(&self, rule: u64) -> Result<u64> {
        let rules: Value = http().get(self.at("/_fault")).send().await?.json().await?;
        rules
            .as_array()
            .and_then(|all| all.iter().find(|r| r["id"] == rule))
            .and_then(|r| r["hits"].as_u64())
            .context("no such rule")
    }

    /// Every call in order, those of this module's own helpers left out.
    pub async fn calls(&self) -> Result<Vec<Call>> {
        let mut calls: Vec<Call> = http().get(self.at("/_calls")).send().await?.json().await?;
        calls.retain(|call| call.user_agent.as_deref() != Some(USER_AGENT));
        Ok(calls)
    }

    /// The calls of one action.
    pub async fn calls_of(&self, action: &str) -> Result<Vec<Call>> {
        let mut calls = self.calls().await?;
        calls.retain(|call| call.action.as_deref() == Some(action));
        Ok(calls)
    }

    /// Forgets the calls so far.
    pub async fn forget_calls(&self) -> Result<()> {
        http().delete(self.at("/_calls")).send().await?;
        Ok(())
    }

    /// Sets delays in seconds; `moto/settings.py` names them: `rds_promote`, `rds_reboot`, … It applies to what is already waiting, too: hold a change for an hour
    /// ([`HOLD`]), look around, and let it go by setting the delay to zero.
    pub async fn set_delay(&self, name: &str, delay: Duration) -> Result<()> {
        let change = json!({ name: delay.as_secs_f64() });
        self.control("/_settings", &change).await.map(drop)
    }

    /// Runs a command when the DB instance does `on`: promote, stop, start or reboot.
    pub async fn hook(&self, on: &str, region: &str, id: &str, argv: &[&str]) -> Result<()> {
        let hook = json!({ "on": on, "region": region, "id": id, "argv": argv });
        self.control("/_hook", &hook).await.map(drop)
    }

    /// Puts a real standby behind a read replica: promoting the one promotes the other.
    pub async fn back_with(&self, region: &str, id: &str, standby: &Postgres) -> Result<()> {
        let sql = "SELECT pg_promote(true, 60)";
        let argv = ["psql", &standby.url(), "-v", "ON_ERROR_STOP=1", "-Atc", sql];
        self.hook("promote", region, id, &argv).await
    }

    /// Puts a DB instance into any status, e.g. `backing-up`.
    pub async fn set_db_status(&self, region: &str, id: &str, status: &str) -> Result<()> {
        let change = json!({ "region": region, "id": id, "status": status });
        self.control("/_rds", &change).await.map(drop)
    }

    /// Puts a DB snapshot into any status, e.g. `creating`.
    pub async fn set_snapshot_status(&self, region: &str, id: &str, status: &str) -> Result<()> {
        let change = json!({ "region": region, "id": id, "status": status });
        self.control("/_rds_snapshot", &change).await.map(drop)
    }

    /// Makes a DB snapshot this much older.
    pub async fn age_snapshot(&self, region: &str, id: &str, age: Duration) -> Result<()> {
        let change = json!({ "region": region, "id": id, "age": age.as_secs_f64() });
        self.control("/_rds_snapshot", &change).await.map(drop)
    }

    /// Puts a DB cluster into any status, e.g. `backtracking`.
    pub async fn set_cluster_status(&self, region: &str, id: &str, status: &str) -> Result<()> {
        let change = json!({ "region": region, "id": id, "status": status });
        self.control("/_rds_cluster", &change).await.map(drop)
    }

    /// Puts a replication group or a cache cluster into any status, e.g. `snapshotting`.
    pub async fn set_elasticache_status(&self, region: &str, id: &str, status: &str) -> Result<()> {
        let change = json!({ "region": region, "id": id, "status": status });
        self.control("/_elasticache", &change).await.map(drop)
    }

    /// Plans maintenance for a DB instance or cluster; a date in seconds since 1970, where it has one.
    pub async fn plan_maintenance(&self, arn: &str, action: &str, date: Option<u32>) -> Result<()> {
        let change = json!({ "arn": arn, "action": action, "date": date });
        self.control("/_rds_maintenance", &change).await.map(drop)
    }

    /// A replication group loses its primary, and has no other one yet.
    pub async fn lose_cache_primary(&self, region: &str, id: &str) -> Result<()> {
        self.control("/_elasticache_primary", &json!({ "region": region, "id": id })).await.map(drop)
    }

    /// Puts the node group of a replication group into any status, e.g. `modifying`.
    pub async fn set_node_group_status(&self, region: &str, id: &str, status: &str) -> Result<()> {
        let change = json!({ "region": region, "id": id, "status": status });
        self.control("/_elasticache_shard", &change).await.map(drop)
    }

    /// A global datastore of regions and their replication groups, the primary one first.
    pub async fn create_global_datastore(&self, id: &str, members: &[(&str, &str)]) -> Result<()> {
        let members: serde_json::Map<_, _> =
            members.iter().map(|(region, group)| ((*region).to_owned(), json!(group))).collect();
        self.control("/_elasticache_global", &json!({ "id": id, "members": members })).await.map(drop)
    }

    /// Puts an EKS cluster into any status, e.g. `CREATING`.
    pub async fn set_eks_status(&self, region: &str, name: &str, status: &str) -> Result<()> {
        let change = json!({ "region": region, "name": name, "status": status });
        self.control("/_eks", &change).await.map(drop)
    }

    /// IAM's policy simulator (a double: moto has none) denies an action from now on.
    pub async fn deny(&self, action: &str, decision: &str) -> Result<()> {
        self.control("/_iam_deny", &json!({ "action": action, "decision": decision })).await.map(drop)
    }

    /// From now on changes to a hosted zone reach a real name server once they are in sync.
    /// `addresses` says which address an alias target's DNS name stands for.
    pub async fn publish(&self, zone: &str, dns: &Dns, addresses: &[(&str, &str)]) -> Result<()> {
        let key = dns.key();
        let target = json!({
            "zone": zone, "server": "127.0.0.1", "port": dns.addr().port(),
            "key": format!("{}:{}:{}", key.algorithm, key.name, key.secret),
            "addresses": addresses.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
        });
        self.control("/_publish", &target).await.map(drop)
    }

    /// Everything as it is: `rds` (by `REGION/ID`), `route53` (by zone id), `hooks`, `published`.
    pub async fn state(&self) -> Result<Value> {
        Ok(http().get(self.state_url()).send().await?.json().await?)
    }

    /// Where that is.
    pub fn state_url(&self) -> String {
        self.at("/_state")
    }

    /// The API dies; all its state with it.
    pub fn kill9(&mut self) {
        self.server = None;
    }

    /// The API hangs.
    pub fn sigstop(&mut self) -> Result<()> {
        self.proc()?.signal_tree(Signal::STOP)
    }

    /// The API answers again.
    pub fn sigcont(&mut self) -> Result<()> {
        self.proc()?.signal_tree(Signal::CONT)
    }

    fn proc(&mut self) -> Result<&mut Proc> {
        self.server.as_mut().context("moto is not running")
    }
}
