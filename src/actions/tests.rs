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
        ("exec.run", json!({ "argv": ["/bin/true"] })),
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
        ("exec.run", json!({ "argv": [] })),
        ("exec.run", json!({ "argv": ["true"] })),
        ("exec.run", json!({ "argv": ["/bin/true"], "observe": ["true"] })),
    ];
    for (kind, params) in invalid {
        let error = build(&spec(kind, params.clone()), &clients).err();
        assert!(matches!(error, Some(BuildError::Invalid { .. })), "{kind} {params}: {error:?}");
    }
    let error = build(&spec("rds.unknown", json!({})), &clients).err();
    assert!(matches!(error, Some(BuildError::Params(_))), "{error:?}");
}
