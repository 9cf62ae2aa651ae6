use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::iam::{LONGEST, Policy, policies};
use super::rbac::{ClusterRights, Whose, clusters};
use super::*;
use crate::config::action::permissions;
use crate::config::{LoadOptions, load};
use crate::model::{EffectKind, HumanDuration, Repeat};

const ACCOUNT_NUMBER: &str = "123456789012";

fn no_manifests(_: &KubernetesApply) -> Result<Vec<Manifest>, String> {
    Err("not read in this test".into())
}

fn given() -> Given<'static> {
    Given { account: Some(ACCOUNT_NUMBER.to_owned()), role: Some("dr/failoverd".into()), manifests: &no_manifests }
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the examples").flatten() {
        let path = entry.path();
        let file = if path.is_dir() { path.join("failoverd.toml") } else { path };
        found.extend(Some(file).filter(|file| file.extension().is_some_and(|end| end == "toml") && file.is_file()));
    }
    found.sort();
    found
}

fn rights_of(file: &Path) -> Rights {
    let loaded = load(&LoadOptions::file_only(file)).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    Rights::of(&loaded, &given())
}

fn minimal() -> Rights {
    rights_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/minimal.toml"))
}

/// The rights of one step of an action with these parameters.
fn one(kind: &str, params: Value) -> Rights {
    let (family, verb) = kind.split_once('.').expect("family.verb");
    let spec = crate::model::ActionSpec {
        kind: kind.into(),
        effect: EffectKind::Call,
        repeat: Repeat::ByObservation,
        target: String::new(),
        service: None,
        region: None,
        estimate: HumanDuration::secs(1),
        messages: Vec::new(),
        makes: false,
        params: json!({ family: { verb: params } }),
    };
    let plan = Plan {
        name: "plan".into(),
        steps: Vec::new(),
        point_of_no_return: None,
        parameters: vec![crate::model::Parameter {
            name: "region".into(),
            kind: crate::model::ParameterKind::default(),
            one_of: vec![json!("eu-west-1"), json!("eu-west-2")],
            description: String::new(),
            value: None,
        }],
        rto: None,
    };
    let mut rights = Rights { account: ACCOUNT_NUMBER.to_owned(), ..Rights::default() };
    let values = values::Values::new(&plan, &spec, "plan p, step s");
    aws::of_action(&mut rights, kind, &values, "plan p, step s");
    kubernetes::of_action(&mut rights, kind, &values, "plan p, step s", &given());
    rights.notes.extend(values.notes());
    rights
}

/// A double of IAM's evaluation, for what no emulator checks: actions, resources with `*` and `?`, and the
/// operators that our policies have, as IAM's documentation tells them.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>
fn allows(policies: &[Policy], action: &str, on: &[&str], context: &BTreeMap<&str, Vec<&str>>) -> bool {
    let statements = policies.iter().flat_map(|policy| policy.document["Statement"].as_array().expect("statements"));
    let statements: Vec<&Value> = statements.collect();
    // A call that touches several resources needs each of them.
    on.iter().all(|on| {
        statements.iter().any(|statement| {
            statement["Effect"] == "Allow"
                && texts(&statement["Action"]).iter().any(|pattern| matches(pattern, action))
                && texts(&statement["Resource"]).iter().any(|pattern| matches(pattern, on))
                && holds(&statement["Condition"], context)
        })
    })
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            matches(&pattern[1..], text)
                || text.chars().next().is_some_and(|first| matches(pattern, &text[first.len_utf8()..]))
        }
        (Some('?'), Some(first)) => matches(&pattern[1..], &text[first.len_utf8()..]),
        (Some(one), Some(other)) if one == other => matches(&pattern[one.len_utf8()..], &text[one.len_utf8()..]),
        _ => false,
    }
}

fn holds(condition: &Value, context: &BTreeMap<&str, Vec<&str>>) -> bool {
    condition.as_object().into_iter().flatten().all(|(operator, keys)| {
        keys.as_object().into_iter().flatten().all(|(key, wanted)| {
            let has = context.get(key.as_str()).map(Vec::as_slice).unwrap_or_default();
            let wanted = texts(wanted);
            let is = |text: &&str| match operator.rsplit(':').next().unwrap_or_default() {
                "StringEquals" => wanted.contains(text),
                "StringLike" => wanted.iter().any(|pattern| matches(pattern, text)),
                other => panic!("the double does not know {other}"),
            };
            if operator.starts_with("ForAllValues:") { has.iter().all(is) } else { has.iter().any(is) }
        })
    })
}

#[test]
fn a_plan_may_do_what_it_does_and_nothing_beside_it() {
    let policies = policies(&minimal());
    let none = BTreeMap::new();
    let replica = "arn:aws:rds:us-west-2:123456789012:db:shop-replica";
    assert!(allows(&policies, "rds:PromoteReadReplica", &[replica], &none));
    for (action, on) in [
        ("rds:PromoteReadReplica", "arn:aws:rds:us-west-2:123456789012:db:shop-replica-2"),
        ("rds:PromoteReadReplica", "arn:aws:rds:us-east-1:123456789012:db:shop-replica"),
        ("rds:PromoteReadReplica", "arn:aws:rds:us-west-2:999999999999:db:shop-replica"),
        ("rds:DeleteDBInstance", replica),
        ("rds:StopDBInstance", replica),
        ("sns:Publish", "arn:aws:sns:us-west-2:123456789012:other"),
        ("iam:SimulatePrincipalPolicy", "arn:aws:iam::123456789012:role/admin"),
    ] {
        assert!(!allows(&policies, action, &[on], &none), "{action} on {on}");
    }
    let tag = |key: &'static str| BTreeMap::from([("aws:TagKeys", vec![key])]);
    assert!(allows(&policies, "rds:AddTagsToResource", &[replica], &tag("failoverd:epoch")));
    assert!(!allows(&policies, "rds:AddTagsToResource", &[replica], &tag("owner")));
}

#[test]
fn route_53_may_change_one_name_and_its_sentinel() {
    let policies = policies(&minimal());
    let zone = "arn:aws:route53:::hostedzone/Z123";
    let batch = |names: &[&'static str], types: &[&'static str], actions: &[&'static str]| {
        BTreeMap::from([
            ("route53:ChangeResourceRecordSetsNormalizedRecordNames", names.to_vec()),
            ("route53:ChangeResourceRecordSetsRecordTypes", types.to_vec()),
            ("route53:ChangeResourceRecordSetsActions", actions.to_vec()),
        ])
    };
    let (name, sentinel) = ("api.shop.example", "_failoverd.api.shop.example");
    let may = |on: &str, context| allows(&policies, "route53:ChangeResourceRecordSets", &[on], &context);
    assert!(may(zone, batch(&[name, sentinel], &["A", "TXT"], &["UPSERT", "DELETE", "CREATE"])), "the swap");
    for (on, names, types) in [
        (zone, vec!["www.shop.example"], vec!["A"]),
        (zone, vec![name, "www.shop.example"], vec!["A"]),
        (zone, vec![name], vec!["MX"]),
        (zone, vec![name, sentinel], vec!["A", "NS"]),
        ("arn:aws:route53:::hostedzone/Z124", vec![name], vec!["A"]),
    ] {
        assert!(!may(on, batch(&names, &types, &["UPSERT"])), "{names:?} {types:?} in {on}");
    }
    assert_eq!(super::aws::normalized("*.Shop.Example."), "\\052.shop.example");
    assert_eq!(super::aws::normalized("_failoverd.api.example"), "_failoverd.api.example");
}

/// Each action of AWS with parameters that bring all of its rights along.
fn samples() -> Vec<(&'static str, Value)> {
    let region = "us-west-2";
    vec![
        ("rds.promote_read_replica", json!({ "region": region, "instance": "r" })),
        ("rds.failover", json!({ "region": region, "instance": "r" })),
        ("rds.stop", json!({ "region": region, "instance": "r" })),
        ("rds.create_read_replica", json!({ "region": region, "instance": "n", "source": "shop" })),
        ("rds.restore_snapshot", json!({ "region": region, "instance": "n", "snapshot": "newest", "source": "shop" })),
        (
            "rds.restore_point_in_time",
            json!({ "region": region, "instance": "n", "automated_backup": "arn:aws:rds:us-west-2:123456789012:auto-backup:b" }),
        ),
        ("rds.failover_cluster", json!({ "region": region, "cluster": "c", "instance": "c-2" })),
        ("rds.failover_global_cluster", json!({ "region": region, "global_cluster": "g", "cluster": "c" })),
        ("rds.switchover_global_cluster", json!({ "region": region, "global_cluster": "g", "cluster": "c" })),
        ("route53.upsert_alias", json!({ "zone": "Z1", "name": "a.example", "values": ["10.0.0.1"] })),
        ("sns.publish", json!({ "topic": "arn:aws:sns:us-west-2:123456789012:t" })),
        ("secretsmanager.put", json!({ "region": region, "secret": "shop" })),
        ("iam.deactivate_access_key", json!({ "user": "deploy", "access_key_id": "AKIA" })),
        ("elasticache.reboot", json!({ "region": region, "cluster": "cache-001" })),
        ("elasticache.failover", json!({ "region": region, "replication_group": "g", "from": "a" })),
        ("elasticache.failover", json!({ "region": region, "replication_group": "g", "to": "a" })),
        (
            "elasticache.failover_global",
            json!({ "region": region, "global_replication_group": "g", "replication_group": "r" }),
        ),
        ("autoscaling.set_desired", json!({ "region": region, "group": "web", "desired": 1 })),
        ("ecs.update_service", json!({ "region": region, "cluster": "shop", "service": "api" })),
        ("eks.wait_cluster", json!({ "region": region, "cluster": "shop" })),
        ("s3.fetch", json!({ "region": region, "bucket": "b", "prefix": "daily/" })),
        (
            "arc.routing_control",
            json!({ "endpoints": [], "states": { "arn:aws:route53-recovery-control::123456789012:controlpanel/a/routingcontrol/b": "On" } }),
        ),
    ]
}

/// What the documentation of an action names, and what is generated for it, are the same.
#[test]
fn the_rights_are_those_that_the_documentation_names() {
    let mut generated: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (kind, params) in samples() {
        let rights = one(kind, params);
        assert!(rights.kubernetes.is_empty(), "{kind}");
        generated.entry(kind).or_default().extend(rights.aws.into_iter().map(|right| right.action));
    }
    for (kind, _) in crate::config::action::KINDS {
        let mut named = permissions::aws_in_any_case_or_not(kind);
        // On keys that the configuration does not name: told in a note.
        named.retain(|right| !right.starts_with("kms:"));
        assert_eq!(generated.remove(kind).unwrap_or_default(), named, "{kind}");
    }
}

#[test]
fn the_rights_of_kubernetes_are_those_that_the_documentation_names() {
    for (kind, params) in [
        ("kubernetes.scale", json!({ "deployment": "shop/api" })),
        ("kubernetes.set_env", json!({ "deployment": "shop/api" })),
        ("kubernetes.rollout_restart", json!({ "namespace": "shop" })),
        ("kubernetes.rollout_status", json!({ "namespace": "shop" })),
        ("kubernetes.rollout_undo", json!({ "deployment": "shop/api" })),
        ("kubernetes.secret", json!({ "secret": "shop/db" })),
        ("kubernetes.create_job", json!({ "cron_job": "shop/replay" })),
        ("kubernetes.cordon", json!({ "selector": "a=b" })),
        ("kubernetes.delete_pods", json!({ "namespace": "shop", "selector": "a=b" })),
        ("kubernetes.pods_ready", json!({ "namespace": "shop" })),
        ("velero.restore", json!({ "namespace": "velero", "schedule": "daily" })),
    ] {
        let told = |verb: &str, group: &str, resource: &str| format!("{verb} {group}/{resource}");
        let generated: BTreeSet<String> = one(kind, params)
            .kubernetes
            .iter()
            .filter(|right| right.resource != "resourcequotas")
            .map(|right| told(&right.verb, &right.group, &right.resource))
            .collect();
        let named: BTreeSet<String> = permissions::kubernetes(kind)
            .iter()
            .map(|right| told(&right.verb, &right.group, &right.resource))
            .collect();
        assert_eq!(generated, named, "{kind}");
    }
}

#[test]
fn a_value_that_is_known_later_is_as_narrow_as_it_can_be_and_told() {
    let instance = json!({ "region": { "param": "region" }, "instance": "shop" });
    let on: Vec<String> = one("rds.stop", instance).aws.remove(0).on;
    assert_eq!(on, ["arn:aws:rds:eu-west-1:123456789012:db:shop", "arn:aws:rds:eu-west-2:123456789012:db:shop"]);
    let later = json!({ "region": "eu-west-1", "instance": { "join": ["shop-", { "step": "a", "output": "b" }] } });
    let rights = one("rds.stop", later);
    assert_eq!(rights.aws[0].on, ["arn:aws:rds:eu-west-1:123456789012:db:shop-*"]);
    assert!(rights.notes.iter().any(|note| note.contains("known only in a run")), "{:?}", rights.notes);
    let rights = one("kubernetes.scale", json!({ "deployment": { "step": "a", "output": "b" } }));
    assert!(rights.kubernetes.iter().all(|right| right.namespace.is_none() && right.names.is_empty()));
}

#[test]
fn a_policy_that_would_be_too_long_is_taken_apart() {
    let mut rights = Rights { account: ACCOUNT_NUMBER.to_owned(), ..Rights::default() };
    for number in 0..120 {
        let name = format!("a-database-with-quite-a-long-name-{number}");
        let more = one("rds.promote_read_replica", json!({ "region": "us-west-2", "instance": name }));
        rights.aws.extend(more.aws);
    }
    let policies = policies(&rights);
    assert!(policies.len() > 3, "{}", policies.len());
    for policy in &policies {
        sound(policy);
    }
    let last = "arn:aws:rds:us-west-2:123456789012:db:a-database-with-quite-a-long-name-119";
    assert!(allows(&policies, "rds:PromoteReadReplica", &[last], &BTreeMap::new()));
}

/// A policy that IAM takes.
fn sound(policy: &Policy) {
    assert!(policy.length <= LONGEST, "{}: {}", policy.name, policy.length);
    assert_eq!(policy.length, policy.document.to_string().len());
    let mut sids = BTreeSet::new();
    for statement in policy.document["Statement"].as_array().expect("statements") {
        let sid = statement["Sid"].as_str().expect("a name");
        assert!(sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) && sids.insert(sid), "{sid}");
        assert!(policy.why.get(sid).is_some_and(|why| !why.is_empty()), "{sid}: why?");
        for action in texts(&statement["Action"]) {
            assert!(action.contains(':') && !action.contains('*'), "{action}");
        }
        for on in texts(&statement["Resource"]) {
            let unbound = ["cloudwatch:", "health:", "rds:DescribeEvents", "autoscaling:Describe"];
            let may = texts(&statement["Action"]).iter().all(|of| unbound.iter().any(|begin| of.starts_with(begin)));
            assert!(on.starts_with("arn:aws") || (on == "*" && may), "{on} in {statement}");
        }
    }
}

/// Manifests that Kubernetes takes: read back from what is printed.
fn granted(cluster: &ClusterRights) {
    let yaml = cluster.yaml();
    let documents: Vec<&str> = yaml.split("---\n").skip(1).collect();
    assert_eq!(documents.len(), cluster.manifests.len());
    for (text, manifest) in documents.into_iter().zip(&cluster.manifests) {
        let read: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        assert_eq!(&read, manifest, "{text}");
        for rule in manifest["rules"].as_array().into_iter().flatten() {
            let wide = ["apiGroups", "resources", "verbs"].iter().any(|key| texts(&rule[*key]).contains(&"*"));
            assert!(!wide, "{rule}");
        }
    }
}

#[test]
fn each_example_has_policies_and_manifests_that_are_taken() {
    let whose = Whose::Account { namespace: "failoverd".into(), name: "failoverd".into() };
    let examples = examples();
    assert!(examples.len() >= 8, "{examples:?}");
    let (mut with_aws, mut with_kubernetes) = (0, 0);
    for file in examples {
        let rights = rights_of(&file);
        let (policies, clusters) = (policies(&rights), clusters(&rights, &whose));
        let uses = std::fs::read_to_string(&file).expect("it is there");
        let asks = |words: &[&str]| {
            uses.lines()
                .filter(|line| !line.trim_start().starts_with('#'))
                .any(|line| words.iter().any(|w| line.contains(w)))
        };
        assert_eq!(
            policies.is_empty(),
            !asks(&["rds.", "rds =", "sns", "route53.", "s3", "cloudwatch", "elasticache", "secretsmanager."]),
            "{}",
            file.display()
        );
        assert_eq!(clusters.is_empty(), !asks(&["kubernetes.", "kubernetes =", "velero"]), "{}", file.display());
        with_aws += usize::from(!policies.is_empty());
        with_kubernetes += usize::from(!clusters.is_empty());
        policies.iter().for_each(sound);
        clusters.iter().for_each(granted);
    }
    assert!(with_aws >= 3 && with_kubernetes >= 3, "{with_aws} {with_kubernetes}");
}

#[test]
fn the_only_account_that_is_named_is_taken_and_another_ones_is_kept_apart() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/minimal.toml");
    let loaded = load(&LoadOptions::file_only(file)).expect("good");
    let of = |account: Option<&str>| {
        let given = Given { account: account.map(str::to_owned), role: None, manifests: &no_manifests };
        policies(&Rights::of(&loaded, &given))
    };
    assert_eq!(of(None)[0].account, ACCOUNT_NUMBER);
    let apart = of(Some("111122223333"));
    let accounts: Vec<&str> = apart.iter().map(|policy| policy.account.as_str()).collect();
    assert_eq!(accounts, ["111122223333", ACCOUNT_NUMBER], "the topic is another account's");
    assert_eq!(apart[1].name, "failoverd-123456789012");
}
