//! From steps, probes and routes to rights of AWS, each on what it is needed for and no more.
//!
//! Which actions of AWS an action needs is told by its documentation (`config::action::permissions`); here
//! is what they are needed on. `tests` holds both against each other.
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/>

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::values::{ANY, Values};
use super::{Rights, account_of};
use crate::config::ProbeKind;
use crate::config::action::ROUTE53_REGION;
use crate::config::shape::NotifyRoute;

/// The tags that an epoch and a failover leave on a database.
const TAGS: [&str; 2] = ["failoverd:epoch", "failoverd:failover"];

/// The tags of what a run makes.
const MADE: [&str; 4] = ["failoverd:epoch", "failoverd:from", "failoverd:run", "failoverd:step"];

/// One action of AWS on some resources.
#[derive(Clone, Debug, PartialEq)]
pub struct AwsRight {
    /// The account of the resources, where they name one; else that of failoverd's own credentials.
    pub account: Option<String>,
    /// `rds:PromoteReadReplica`.
    pub action: String,
    /// The names of AWS of what it is needed on; sorted.
    pub on: Vec<String>,
    /// What else has to hold, as a policy writes it.
    pub condition: Option<Value>,
    /// What needs it: `plan regional-failover, step promote`.
    pub needed_by: BTreeSet<String>,
}

impl AwsRight {
    /// What rights of one statement share: the resources and the condition.
    pub fn key(&self) -> String {
        format!("{:?} {}", self.on, self.condition.as_ref().unwrap_or(&Value::Null))
    }
}

/// The partition that a region belongs to.
fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// Adds rights for one need.
struct For<'a> {
    rights: &'a mut Rights,
    whose: &'a str,
}

impl For<'_> {
    fn right(&mut self, action: &str, on: &[String]) {
        self.right_if(action, on, None);
    }

    fn right_if(&mut self, action: &str, on: &[String], condition: Option<Value>) {
        let mut on: Vec<String> = on.to_vec();
        on.sort();
        on.dedup();
        if on.is_empty() {
            return;
        }
        let foreign = on.iter().find_map(|name| account_of(name)).filter(|account| *account != self.rights.account);
        self.rights.aws.push(AwsRight {
            account: foreign,
            action: action.to_owned(),
            on,
            condition,
            needed_by: BTreeSet::from([self.whose.to_owned()]),
        });
    }

    /// Several actions on the same resources.
    fn all(&mut self, actions: &[&str], on: &[String]) {
        actions.iter().for_each(|action| self.right(action, on));
    }

    /// The names of resources, where the name may be one of AWS already. `kind` is with its separator: `db:`.
    fn named(&self, service: &str, regions: &[String], kind: &str, names: &[String]) -> Vec<String> {
        let account = &self.rights.account;
        let mut all = Vec::new();
        for name in names {
            if name.starts_with("arn:") {
                all.push(name.clone());
                continue;
            }
            for region in regions {
                let partition = partition(region);
                all.push(format!("arn:{partition}:{service}:{region}:{account}:{kind}{name}"));
            }
        }
        all
    }

    fn tags(&mut self, on: &[String], keys: impl IntoIterator<Item = String>) {
        let mut keys: Vec<String> = keys.into_iter().collect();
        keys.sort();
        keys.dedup();
        let condition = json!({ "ForAllValues:StringEquals": { "aws:TagKeys": keys } });
        self.right_if("rds:AddTagsToResource", on, Some(condition));
    }
}

fn owned<'k>(keys: impl IntoIterator<Item = &'k str>) -> Vec<String> {
    keys.into_iter().map(str::to_owned).collect()
}

/// What an action needs; nothing where it is none of AWS.
pub fn of_action(rights: &mut Rights, kind: &str, values: &Values<'_>, whose: &str) {
    let mut to = For { rights, whose };
    match kind.split_once('.') {
        Some(("rds", verb)) => rds(&mut to, verb, values),
        Some(("route53", _)) => route53(&mut to, values),
        Some(("sns", _)) => to.right("sns:Publish", &values.texts("topic")),
        Some(("secretsmanager", _)) => secretsmanager(&mut to, values),
        Some(("iam", _)) => {
            let users = to.named("iam", &[String::new()], "user/", &values.texts("user"));
            to.all(&["iam:ListAccessKeys", "iam:UpdateAccessKey"], &users);
        }
        Some(("elasticache", verb)) => elasticache(&mut to, verb, values),
        Some(("autoscaling", _)) => {
            to.right("autoscaling:DescribeAutoScalingGroups", &[ANY.to_owned()]);
            let regions = values.texts("region");
            let groups =
                to.named("autoscaling", &regions, "autoScalingGroup:*:autoScalingGroupName/", &values.texts("group"));
            to.right("autoscaling:SetDesiredCapacity", &groups);
        }
        Some(("ecs", _)) => {
            let last = |text: String| text.rsplit('/').next().unwrap_or_default().to_owned();
            let clusters: Vec<String> = values.texts("cluster").into_iter().map(last).collect();
            let services: Vec<String> = values.texts("service").into_iter().map(last).collect();
            let both: Vec<String> =
                clusters.iter().flat_map(|cluster| services.iter().map(move |of| format!("{cluster}/{of}"))).collect();
            let services = to.named("ecs", &values.texts("region"), "service/", &both);
            to.all(&["ecs:DescribeServices", "ecs:UpdateService"], &services);
        }
        Some(("eks", _)) => {
            let clusters = to.named("eks", &values.texts("region"), "cluster/", &values.texts("cluster"));
            to.right("eks:DescribeCluster", &clusters);
        }
        Some(("s3", _)) => s3_fetch(&mut to, values),
        Some(("arc", _)) => {
            let actions = [
                "route53-recovery-cluster:GetRoutingControlState",
                "route53-recovery-cluster:UpdateRoutingControlState",
                "route53-recovery-cluster:UpdateRoutingControlStates",
            ];
            to.all(&actions, &values.keys("states"));
        }
        _ => {}
    }
}

fn rds(to: &mut For<'_>, verb: &str, values: &Values<'_>) {
    let regions = values.texts("region");
    let instances = to.named("rds", &regions, "db:", &values.texts("instance"));
    match verb {
        "promote_read_replica" => {
            to.all(&["rds:DescribeDBInstances", "rds:PromoteReadReplica"], &instances);
            to.tags(&instances, owned(TAGS));
        }
        "stop" => {
            to.all(&["rds:DescribeDBInstances", "rds:StopDBInstance", "rds:StartDBInstance"], &instances);
            to.tags(&instances, owned(TAGS));
        }
        "failover" => {
            to.all(&["rds:DescribeDBInstances", "rds:RebootDBInstance"], &instances);
            to.right("rds:DescribeEvents", &[ANY.to_owned()]);
            to.tags(&instances, owned(TAGS));
        }
        "failover_cluster" => {
            let clusters = to.named("rds", &regions, "cluster:", &values.texts("cluster"));
            to.all(&["rds:DescribeDBClusters", "rds:FailoverDBCluster"], &clusters);
            to.tags(&clusters, owned(TAGS));
        }
        "failover_global_cluster" | "switchover_global_cluster" => {
            let globals = to.named("rds", &[String::new()], "global-cluster:", &values.texts("global_cluster"));
            let clusters = to.named("rds", &regions, "cluster:", &values.texts("cluster"));
            to.right("rds:DescribeGlobalClusters", &globals);
            to.right("rds:DescribeDBClusters", &clusters);
            let both = [globals, clusters].concat();
            let failover = verb == "failover_global_cluster";
            to.right(if failover { "rds:FailoverGlobalCluster" } else { "rds:SwitchoverGlobalCluster" }, &both);
        }
        _ => made(to, verb, values, &instances),
    }
}

/// What makes a new instance.
fn made(to: &mut For<'_>, verb: &str, values: &Values<'_>, instances: &[String]) {
    let regions = values.texts("region");
    to.right("rds:DescribeDBInstances", instances);
    to.tags(instances, owned(MADE).into_iter().chain(values.keys("tags")));
    let or_any = |key: &str| if values.has(key) { values.texts(key) } else { vec![ANY.to_owned()] };
    let mut on = instances.to_vec();
    on.extend(to.named("rds", &regions, "subgrp:", &or_any("subnet_group")));
    let sources =
        if values.has("source") { to.named("rds", &regions, "db:", &values.texts("source")) } else { Vec::new() };
    if verb == "create_read_replica" {
        on.extend(sources);
        on.extend(to.named("rds", &regions, "pg:", &[ANY.to_owned()]));
        on.extend(to.named("rds", &regions, "og:", &[ANY.to_owned()]));
        return to.right("rds:CreateDBInstanceReadReplica", &on);
    }
    on.extend(to.named("rds", &regions, "pg:", &or_any("parameter_group")));
    on.extend(to.named("rds", &regions, "og:", &[ANY.to_owned()]));
    if verb == "restore_snapshot" {
        let newest = values.text("snapshot").is_none_or(|name| name == "newest");
        let names = if newest { vec![ANY.to_owned()] } else { values.texts("snapshot") };
        let snapshots = to.named("rds", &regions, "snapshot:", &names);
        to.right("rds:DescribeDBSnapshots", &[snapshots.clone(), sources].concat());
        on.extend(snapshots);
        return to.right("rds:RestoreDBInstanceFromDBSnapshot", &on);
    }
    on.extend(sources.clone());
    to.right("rds:DescribeDBInstances", &sources);
    if values.has("automated_backup") {
        let backups = to.named("rds", &regions, "auto-backup:", &values.texts("automated_backup"));
        to.right("rds:DescribeDBInstanceAutomatedBackups", &backups);
        on.extend(backups);
    }
    to.right("rds:RestoreDBInstanceToPointInTime", &on);
}

/// One name and its sentinel, by the keys that Route 53 has for it.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-rrset-conditions.html>
fn route53(to: &mut For<'_>, values: &Values<'_>) {
    let region = values.text("region").unwrap_or_else(|| ROUTE53_REGION.to_owned());
    let partition = partition(&region);
    let zone = |text: String| text.rsplit('/').next().unwrap_or_default().to_owned();
    let zones = values.texts("zone").into_iter().map(zone);
    let zones: Vec<String> = zones.map(|zone| format!("arn:{partition}:route53:::hostedzone/{zone}")).collect();
    to.right("route53:ListResourceRecordSets", &zones);
    to.right("route53:GetChange", &[format!("arn:{partition}:route53:::change/*")]);
    let names: Vec<String> = values.texts("name").iter().map(|name| normalized(name)).collect();
    let sentinels: Vec<String> = match values.texts("sentinel").as_slice() {
        [] => names.iter().map(|name| format!("_failoverd.{name}")).collect(),
        [none] if none.is_empty() => Vec::new(),
        named => named.iter().map(|name| normalized(name)).collect(),
    };
    let mut types = if values.has("record") { values.texts("record") } else { vec!["A".to_owned()] };
    let with = !sentinels.is_empty();
    types.extend(with.then(|| "TXT".to_owned()));
    let known = |all: &[String]| all.iter().all(|text| !text.contains(ANY));
    let mut keys = serde_json::Map::new();
    let mut wide = serde_json::Map::new();
    let all: Vec<String> = names.into_iter().chain(sentinels).collect();
    let name_key = "route53:ChangeResourceRecordSetsNormalizedRecordNames";
    if known(&all) {
        keys.insert(name_key.into(), json!(all))
    } else {
        wide.insert(name_key.into(), json!(all))
    };
    if known(&types) {
        types.sort();
        types.dedup();
        keys.insert("route53:ChangeResourceRecordSetsRecordTypes".into(), json!(types));
    }
    // The record is set, and deleted where an undo finds that there was none; the sentinel is deleted as it
    // was read, and created anew.
    keys.insert("route53:ChangeResourceRecordSetsActions".into(), json!(["CREATE", "DELETE", "UPSERT"]));
    let mut condition = serde_json::Map::new();
    condition.insert("ForAllValues:StringEquals".into(), Value::Object(keys));
    if !wide.is_empty() {
        condition.insert("ForAllValues:StringLike".into(), Value::Object(wide));
    }
    to.right_if("route53:ChangeResourceRecordSets", &zones, Some(Value::Object(condition)));
}

/// A name of a record as the condition keys have it: in small letters, without the last dot, and what is
/// none of `a-z`, `0-9`, `-`, `_`, `.` in octal.
pub fn normalized(name: &str) -> String {
    let mut plain = String::new();
    for byte in name.trim_end_matches('.').to_ascii_lowercase().bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => plain.push(char::from(byte)),
            // A value that is not known is any, and a name with an asterisk is written in octal.
            b'*' if name == ANY || name.starts_with("_failoverd.*") => plain.push('*'),
            other => plain.push_str(&format!("\\{other:03o}")),
        }
    }
    plain
}

fn secretsmanager(to: &mut For<'_>, values: &Values<'_>) {
    let regions = values.texts("region");
    // AWS puts six characters behind a secret's name.
    let names: Vec<String> = values.texts("secret").into_iter().map(suffixed).collect();
    let secrets = to.named("secretsmanager", &regions, "secret:", &names);
    to.all(&["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"], &secrets);
    to.rights.aws_notes.insert(format!(
        "{}: a secret with a KMS key of its own needs `kms:Decrypt` and `kms:GenerateDataKey` on that key, which the \
         configuration does not name",
        to.whose
    ));
}

fn suffixed(name: String) -> String {
    if name.starts_with("arn:") || name == ANY { name } else { format!("{name}-??????") }
}

fn elasticache(to: &mut For<'_>, verb: &str, values: &Values<'_>) {
    let regions = values.texts("region");
    match verb {
        "reboot" => {
            let clusters = to.named("elasticache", &regions, "cluster:", &values.texts("cluster"));
            to.all(&["elasticache:DescribeCacheClusters", "elasticache:RebootCacheCluster"], &clusters);
        }
        "failover_global" => {
            let names = values.texts("global_replication_group");
            let globals = to.named("elasticache", &[String::new()], "globalreplicationgroup:", &names);
            to.right("elasticache:DescribeGlobalReplicationGroups", &globals);
            let groups = values.texts("replication_group");
            let groups = to.named("elasticache", &regions, "replicationgroup:", &groups);
            to.right("elasticache:FailoverGlobalReplicationGroup", &[globals, groups].concat());
        }
        _ => {
            let groups = to.named("elasticache", &regions, "replicationgroup:", &values.texts("replication_group"));
            to.right("elasticache:DescribeReplicationGroups", &groups);
            let test = values.has("from");
            to.right(if test { "elasticache:TestFailover" } else { "elasticache:ModifyReplicationGroup" }, &groups);
        }
    }
}

fn s3_fetch(to: &mut For<'_>, values: &Values<'_>) {
    let partition = values.text("region").map_or("aws", |region| partition(&region));
    for bucket in values.texts("bucket") {
        let of = |end: String| format!("arn:{partition}:s3:::{bucket}/{end}");
        if values.has("key") {
            to.right("s3:GetObject", &values.texts("key").into_iter().map(of).collect::<Vec<_>>());
        }
        for prefix in values.texts("prefix") {
            to.right("s3:GetObject", &[of(format!("{}*", prefix.trim_end_matches('*')))]);
            list(to, &format!("arn:{partition}:s3:::{bucket}"), &prefix);
        }
    }
}

/// What lists the objects below a prefix.
fn list(to: &mut For<'_>, bucket: &str, prefix: &str) {
    let how = if prefix.contains(ANY) { "StringLike" } else { "StringEquals" };
    let condition = (!prefix.is_empty()).then(|| json!({ how: { "s3:prefix": [prefix] } }));
    to.right_if("s3:ListBucket", &[bucket.to_owned()], condition);
}

/// What a probe needs; nothing where it asks nothing of AWS.
pub fn of_probe(rights: &mut Rights, probe: &ProbeKind, whose: &str) {
    let mut to = For { rights, whose };
    match probe {
        ProbeKind::Rds(probe) => {
            let regions = [probe.region.clone()];
            let instances = to.named("rds", &regions, "db:", probe.instance.as_slice());
            let clusters = to.named("rds", &regions, "cluster:", probe.cluster.as_slice());
            to.right("rds:DescribeDBInstances", &instances);
            to.right("rds:DescribeDBClusters", &clusters);
            if probe.pending_maintenance {
                to.right("rds:DescribePendingMaintenanceActions", &[instances, clusters].concat());
            }
        }
        ProbeKind::Elasticache(probe) => {
            let names = [probe.replication_group.clone()];
            let groups = to.named("elasticache", std::slice::from_ref(&probe.region), "replicationgroup:", &names);
            to.right("elasticache:DescribeReplicationGroups", &groups);
        }
        ProbeKind::Cloudwatch(_) => to.right("cloudwatch:GetMetricData", &[ANY.to_owned()]),
        ProbeKind::S3Age(probe) => {
            let bucket = format!("arn:{}:s3:::{}", partition(&probe.region), probe.bucket);
            list(&mut to, &bucket, &probe.prefix);
        }
        ProbeKind::AwsHealth(_) => to.right("health:DescribeEvents", &[ANY.to_owned()]),
        _ => {}
    }
}

/// What a route to people needs.
pub fn of_route(rights: &mut Rights, route: &NotifyRoute, whose: &str) {
    let mut to = For { rights, whose };
    if let Some(sns) = &route.sns {
        to.right("sns:Publish", std::slice::from_ref(&sns.topic));
    }
    if let Some(s3) = &route.s3 {
        let prefix = s3.prefix.as_deref().unwrap_or_default();
        to.right("s3:PutObject", &[format!("arn:{}:s3:::{}/{prefix}*", partition(&s3.region), s3.bucket)]);
    }
}

/// What readiness asks IAM about ourselves.
pub fn of_readiness(rights: &mut Rights, role: Option<&str>) {
    let mut to = For { rights, whose: "readiness" };
    if role.is_none() {
        let text = "readiness asks IAM about the role that failoverd runs as: `role/failoverd` stands for it; `--role` \
                    says another one, and `readiness.iam_simulation = false` does without";
        to.rights.aws_notes.insert(text.to_owned());
    }
    let role = role.unwrap_or("failoverd").to_owned();
    let us = to.named("iam", &[String::new()], "role/", &[role]);
    to.all(&["iam:GetRole", "iam:SimulatePrincipalPolicy"], &us);
}
