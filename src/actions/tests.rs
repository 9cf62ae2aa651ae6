use serde_json::{Value, json};

use super::*;
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
        params: json!({ family: { verb: params } }),
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
        let built = build(&spec(kind, params), &clients);
        assert!(built.is_ok(), "{kind}: {:?}", built.err());
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
