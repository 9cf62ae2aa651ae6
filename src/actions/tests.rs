use serde_json::{Value, json};

use super::*;
use crate::config::action::{ActionConfig, outputs_of};
use crate::config::shape::Limits;
use crate::model::{EffectKind, Repeat};

fn spec(kind: &str, params: Value) -> ActionSpec {
    let (family, verb) = kind.split_once('.').expect("family.verb");
    ActionSpec {
        kind: kind.into(),
        effect: EffectKind::Call,
        repeat: Repeat::ByObservation,
        target: String::new(),
        service: None,
        region: None,
        estimate: crate::model::HumanDuration::secs(1),
        messages: Vec::new(),
        makes: false,
        params: json!({ family: { verb: params } }),
    }
}

/// A `dns.update` with something else in it.
fn update(more: Value) -> Value {
    let mut params = json!({
        "server": "192.0.2.1", "zone": "example.com", "name": "api.example.com", "values": ["10.0.0.1"],
        "key_name": "k", "key": { "file": "/x" },
    });
    params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    params
}

/// A `cloudflare.dns` to somewhere.
fn cloudflare(content: &str) -> Value {
    json!({
        "zone": "023e105f4ecef8ad9ca31a8372d0c353", "name": "api.example.com", "content": content,
        "token": { "file": "/x" },
    })
}

#[test]
fn what_passes_a_rate_limit_is_looked_at_as_often_as_its_end_is_near() {
    let clients = Arc::new(Clients::new(&Limits::default()));
    for (kind, params) in [
        ("rds.promote_read_replica", json!({ "region": "us-west-2", "instance": "shop-replica" })),
        ("route53.upsert_alias", json!({ "zone": "Z1", "name": "api.example", "values": ["10.0.0.1"] })),
        // Within what tries again where others have written.
        ("kubernetes.scale", json!({ "deployment": "shop/api", "replicas": 3 })),
        ("kubernetes.set_env", json!({ "deployment": "shop/api", "env": { "A": "1" } })),
    ] {
        let action = build(&spec(kind, params), &clients).expect(kind);
        assert!(action.is_paced(), "{kind}");
    }
}

#[test]
fn every_kind_can_be_built() {
    let clients = Arc::new(Clients::new(&Limits::default()));
    for (kind, params) in [
        ("rds.promote_read_replica", json!({ "region": "us-west-2", "instance": "shop-replica" })),
        ("postgres.promote", json!({ "url": "postgresql://db.example/shop" })),
        ("redis.promote", json!({ "url": "redis://cache.example" })),
        ("route53.upsert_alias", json!({ "zone": "Z1", "name": "api.example", "values": ["10.0.0.1"] })),
        ("kubernetes.scale", json!({ "deployment": "shop/api", "replicas": 3 })),
        ("sns.publish", json!({ "topic": "arn:aws:sns:us-west-2:123456789012:critical", "message": "m" })),
        ("http.request", json!({ "url": "http://a.example/" })),
        ("kubernetes.set_env", json!({ "deployment": "shop/api", "env": { "A": "1" } })),
        ("kubernetes.rollout_restart", json!({ "namespace": "shop", "selector": "app=api" })),
        ("kubernetes.rollout_undo", json!({ "deployment": "shop/api", "to_revision": 3 })),
        ("kubernetes.rollout_status", json!({ "deployments": ["shop/api", "shop/web"] })),
        ("kubernetes.secret", json!({ "secret": "shop/db", "data": { "host": "db.example" } })),
        ("kubernetes.wait", json!({ "resource": "node/n1", "condition": "Ready" })),
        ("kubernetes.wait", json!({ "resource": "x/y", "api_version": "a.b/v1", "pointer": "/a", "equals": 1 })),
        ("kubernetes.pods_ready", json!({ "namespace": "shop" })),
        ("kubernetes.endpoints_ready", json!({ "service": "shop/api" })),
        ("kubernetes.create_job", json!({ "cron_job": "shop/replay" })),
        ("kubernetes.apply", json!({ "path": "/etc/failoverd/shop" })),
        ("kubernetes.cordon", json!({ "nodes": ["n1"] })),
        ("kubernetes.delete_pods", json!({ "namespace": "shop", "selector": "app=api" })),
        ("velero.restore", json!({ "schedule": "daily" })),
        ("postgres.sql", json!({ "url": "postgresql://db.example/shop", "statement": "SELECT 1" })),
        ("postgres.verify_write", json!({ "url": "postgresql://db.example/shop" })),
        ("postgres.fence", json!({ "url": "postgresql://db.example/postgres" })),
        (
            "postgres.follow",
            json!({
                "url": "postgresql://old.example/postgres", "source": "postgresql://new.example/postgres",
                "data_directory": "/var/lib/postgresql/15/main", "bin_directory": "/usr/lib/postgresql/15/bin",
            }),
        ),
        ("postgres.restore", json!({ "url": "postgresql://db.example/shop", "dump": "/backups/shop.dump" })),
        ("postgres.compare_counts", json!({ "url": "postgresql://db.example/shop", "against": { "companies": 10 } })),
        ("redis.command", json!({ "url": "redis://cache.example", "command": ["PING"] })),
        ("redis.follow", json!({ "url": "redis://old.example", "master": "redis://new.example" })),
        ("redis.flush", json!({ "url": "redis://cache.example" })),
        ("exec.run", json!({ "argv": ["/bin/true"] })),
        ("dns.verify", json!({ "name": "api.example.com", "values": ["10.0.0.1"] })),
        ("dns.update", update(json!({}))),
        ("cloudflare.dns", cloudflare("10.0.0.1")),
        ("health_switch.set", json!({ "name": "east", "on": false })),
        ("rds.failover", json!({ "region": "us-east-1", "instance": "shop" })),
        (
            "rds.restore_snapshot",
            json!({ "region": "us-east-1", "instance": "new", "snapshot": "newest", "source": "shop" }),
        ),
        (
            "rds.restore_point_in_time",
            json!({ "region": "us-east-1", "instance": "new", "source": "shop", "restore_time": "latest" }),
        ),
        ("rds.stop", json!({ "region": "us-east-1", "instance": "shop" })),
        ("rds.create_read_replica", json!({ "region": "us-east-1", "instance": "new", "source": "shop" })),
        ("rds.failover_cluster", json!({ "region": "us-east-1", "cluster": "shop", "instance": "shop-2" })),
        (
            "rds.failover_global_cluster",
            json!({ "region": "us-west-2", "global_cluster": "g", "cluster": "arn:…", "allow_data_loss": true }),
        ),
        ("rds.switchover_global_cluster", json!({ "region": "us-west-2", "global_cluster": "g", "cluster": "arn:…" })),
        ("secretsmanager.put", json!({ "region": "us-west-2", "secret": "shop", "hosts": { "URL": "new" } })),
        ("iam.deactivate_access_key", json!({ "user": "deploy", "access_key_id": "AKIAIOSFODNN7EXAMPLE" })),
        ("elasticache.reboot", json!({ "region": "us-east-1", "cluster": "cache-001" })),
        ("elasticache.failover", json!({ "region": "us-east-1", "replication_group": "cache", "from": "cache-001" })),
        (
            "elasticache.failover_global",
            json!({ "region": "us-west-2", "global_replication_group": "g", "replication_group": "cache" }),
        ),
        ("autoscaling.set_desired", json!({ "region": "us-west-2", "group": "web", "desired": 3 })),
        (
            "ecs.update_service",
            json!({ "region": "us-west-2", "cluster": "shop", "service": "api", "desired_count": 3 }),
        ),
        ("eks.wait_cluster", json!({ "region": "us-west-2", "cluster": "shop" })),
        ("s3.fetch", json!({ "region": "us-west-2", "bucket": "backups", "prefix": "daily/", "to": "/tmp/backup" })),
        (
            "arc.routing_control",
            json!({ "endpoints": [{ "region": "us-west-2", "url": "https://a.example/v1" }], "states": { "arn:…": "On" } }),
        ),
    ] {
        let spec = spec(kind, params);
        let built = build(&spec, &clients);
        assert!(built.is_ok(), "{kind}: {:?}", built.err());
        let handed_on = ActionConfig::from_spec(&spec).expect("its parameters").parameters().outputs();
        assert!(handed_on.iter().all(|output| outputs_of(kind).contains(output)), "{kind}: its page leaves one out");
    }
}

#[test]
fn parameters_that_make_no_sense_are_refused_before_a_run() {
    let clients = Arc::new(Clients::new(&Limits::default()));
    let invalid = [
        ("kubernetes.scale", json!({ "deployment": "api", "replicas": 3 })),
        ("kubernetes.scale", json!({ "deployment": "a/b/c", "replicas": 3 })),
        ("kubernetes.scale", json!({ "deployment": "shop/api", "replicas": 3_000_000_000_u32 })),
        ("sns.publish", json!({ "topic": "critical", "message": "m" })),
        ("route53.upsert_alias", json!({ "zone": "Z1", "name": "api.example" })),
        ("http.request", json!({ "url": "http://a.example/", "method": "NO WAY" })),
        ("http.request", json!({ "url": "http://a.example/", "body": "b", "json": 1 })),
        ("http.request", json!({ "url": "http://a.example/", "headers": { "a b": "c" } })),
        ("kubernetes.set_env", json!({ "deployment": "shop/api" })),
        ("kubernetes.set_env", json!({ "deployment": "shop/api", "env": { "A": "1" }, "unset": ["A"] })),
        ("kubernetes.rollout_restart", json!({})),
        ("kubernetes.rollout_restart", json!({ "namespace": "shop", "deployment": "shop/api" })),
        ("kubernetes.rollout_restart", json!({ "namespace": "shop", "selector": " " })),
        ("kubernetes.rollout_restart", json!({ "deployment": "shop/api", "selector": "a=b" })),
        ("kubernetes.rollout_undo", json!({ "deployment": "shop/api", "to_revision": 0 })),
        ("kubernetes.rollout_status", json!({ "selector": "a=b" })),
        ("kubernetes.secret", json!({ "secret": "shop/db", "data": {} })),
        ("kubernetes.wait", json!({ "resource": "certificate/x", "condition": "Ready" })),
        ("kubernetes.wait", json!({ "resource": "node/n1" })),
        ("kubernetes.wait", json!({ "resource": "node/n1", "pointer": "/a" })),
        ("kubernetes.wait", json!({ "resource": "node", "condition": "Ready" })),
        ("kubernetes.endpoints_ready", json!({ "service": "shop/api", "namespace": "shop" })),
        ("kubernetes.create_job", json!({ "cron_job": "replay" })),
        ("kubernetes.cordon", json!({})),
        ("kubernetes.cordon", json!({ "selector": "" })),
        ("kubernetes.delete_pods", json!({ "namespace": "shop", "selector": " " })),
        ("velero.restore", json!({})),
        ("velero.restore", json!({ "schedule": "daily", "backup": "daily-1" })),
        ("postgres.sql", json!({ "url": "postgresql://a", "statement": "DELETE FROM x" })),
        ("postgres.verify_write", json!({ "url": "postgresql://a", "row": { "a": "b" } })),
        ("postgres.verify_write", json!({ "url": "postgresql://a", "table": "a.b.c" })),
        ("postgres.restore", json!({ "url": "postgresql://a", "dump": "/x", "tables": ["a\"b"] })),
        ("postgres.restore", json!({ "url": "postgresql://a", "dump": "/x", "jobs": 0 })),
        ("postgres.compare_counts", json!({ "url": "postgresql://a" })),
        ("postgres.compare_counts", json!({ "url": "postgresql://a", "against": { "a": 1 }, "file": "/x" })),
        ("redis.command", json!({ "url": "redis://a", "command": ["SHUTDOWN"] })),
        ("exec.run", json!({ "argv": [] })),
        ("dns.verify", json!({ "name": "api.example.com" })),
        ("dns.verify", json!({ "name": "api.example.com", "values": ["a"], "target": "b" })),
        ("dns.verify", json!({ "name": "api.example.com", "values": ["a"], "servers": ["http://x"] })),
        ("dns.update", update(json!({ "zone": "example.org" }))),
        ("dns.update", update(json!({ "values": [] }))),
        ("cloudflare.dns", cloudflare("lb.example.com")),
        ("health_switch.set", json!({ "name": "../east", "on": false })),
        ("dns.update", update(json!({ "values": ["lb.example.com"] }))),
        ("dns.update", update(json!({ "record": "CNAME", "values": ["a.example", "b.example"] }))),
        ("exec.run", json!({ "argv": ["true"] })),
        ("exec.run", json!({ "argv": ["/bin/true"], "observe": ["true"] })),
        ("rds.restore_snapshot", json!({ "region": "us-east-1", "instance": "new", "snapshot": "newest" })),
        (
            "rds.restore_snapshot",
            json!({ "region": "us-east-1", "instance": "new", "snapshot": "s", "source": "shop" }),
        ),
        ("rds.restore_point_in_time", json!({ "region": "us-east-1", "instance": "new", "restore_time": "latest" })),
        (
            "rds.restore_point_in_time",
            json!({ "region": "us-east-1", "instance": "new", "source": "shop", "restore_time": "yesterday" }),
        ),
        ("rds.failover_global_cluster", json!({ "region": "us-west-2", "global_cluster": "g", "cluster": "arn:…" })),
        ("secretsmanager.put", json!({ "region": "us-west-2", "secret": "shop" })),
        ("secretsmanager.put", json!({ "region": "us-west-2", "secret": "shop", "host": "new", "set": { "a": "b" } })),
        (
            "secretsmanager.put",
            json!({ "region": "us-west-2", "secret": "shop", "set": { "a": "b" }, "hosts": { "a": "new" } }),
        ),
        ("elasticache.failover", json!({ "region": "us-east-1", "replication_group": "cache" })),
        ("elasticache.failover", json!({ "region": "us-east-1", "replication_group": "c", "from": "a", "to": "b" })),
        ("ecs.update_service", json!({ "region": "us-west-2", "cluster": "shop", "service": "api" })),
        ("autoscaling.set_desired", json!({ "region": "us-west-2", "group": "web", "desired": 3_000_000_000_u32 })),
        ("s3.fetch", json!({ "region": "us-west-2", "bucket": "backups", "to": "/tmp/backup" })),
        ("s3.fetch", json!({ "region": "us-west-2", "bucket": "backups", "key": "a", "to": "backup" })),
        ("arc.routing_control", json!({ "endpoints": [], "states": { "arn:…": "On" } })),
        ("arc.routing_control", json!({ "endpoints": [{ "region": "r", "url": "https://a.example" }], "states": {} })),
    ];
    for (kind, params) in invalid {
        let error = build(&spec(kind, params.clone()), &clients).err();
        assert!(matches!(error, Some(BuildError::Invalid { .. })), "{kind} {params}: {error:?}");
    }
    let error = build(&spec("rds.unknown", json!({})), &clients).err();
    assert!(matches!(error, Some(BuildError::Params(_))), "{error:?}");
}
