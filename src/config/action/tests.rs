use serde_json::json;

use super::*;

fn action(value: serde_json::Value) -> ActionConfig {
    serde_json::from_value(value).unwrap()
}

#[test]
fn every_action_comes_back_out_of_its_specification() {
    for (value, effect, repeat, service, region) in [
        (
            json!({ "rds": { "promote_read_replica": { "region": "us-west-2", "instance": "shop" } } }),
            EffectKind::Promote,
            Repeat::ByObservation,
            Some("shop"),
            Some("us-west-2"),
        ),
        (
            json!({ "postgres": { "promote": { "url": { "file": "/x" } } } }),
            EffectKind::Promote,
            Repeat::ByObservation,
            Some("postgres"),
            None,
        ),
        (
            json!({ "redis": { "promote": { "url": "redis://cache", "service": "sessions" } } }),
            EffectKind::Promote,
            Repeat::ByObservation,
            Some("sessions"),
            None,
        ),
        (
            json!({ "route53": { "upsert_alias": { "zone": "Z1", "name": "a.example", "values": ["b"], "ttl": "1m" } } }),
            EffectKind::Route,
            Repeat::ByObservation,
            None,
            Some("us-east-1"),
        ),
        (
            json!({ "kubernetes": { "scale": { "deployment": "shop/api", "replicas": 3 } } }),
            EffectKind::Scale,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "sns": { "publish": { "topic": "arn:aws:sns:eu-west-1:123456789012:x", "message": "m" } } }),
            EffectKind::Notify,
            Repeat::AtLeastOnce,
            None,
            Some("eu-west-1"),
        ),
        (
            json!({ "http": { "request": { "url": "https://x", "effect": "fence" } } }),
            EffectKind::Fence,
            Repeat::Never,
            None,
            None,
        ),
        (
            json!({ "kubernetes": { "wait": { "resource": "node/n1", "condition": "Ready" } } }),
            EffectKind::Verify,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "postgres": { "sql": { "url": { "file": "/x" }, "statement": ["SELECT 1"], "at_least": 0.5 } } }),
            EffectKind::Verify,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "velero": { "restore": { "schedule": "daily", "include_namespaces": ["shop"] } } }),
            EffectKind::Call,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "postgres": { "fence": { "url": { "file": "/x" } } } }),
            EffectKind::Fence,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "redis": { "command": { "url": "redis://x", "command": ["SADD", "k", { "env": "X" }] } } }),
            EffectKind::Call,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "exec": { "run": { "argv": ["/x"], "effect": "verify" } } }),
            EffectKind::Verify,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "dns": { "verify": { "name": "a.example", "values": ["192.0.2.1"] } } }),
            EffectKind::Verify,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "dns": { "update": { "server": "192.0.2.1", "zone": "example", "name": "a.example",
                "values": ["192.0.2.1"], "key_name": "k", "key": { "file": "/x" } } } }),
            EffectKind::Route,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "cloudflare": { "dns": { "zone": "z", "name": "a.example", "content": "192.0.2.1",
                "token": { "file": "/x" } } } }),
            EffectKind::Route,
            Repeat::ByObservation,
            None,
            None,
        ),
        (
            json!({ "health_switch": { "set": { "name": "east", "on": false } } }),
            EffectKind::Route,
            Repeat::ByObservation,
            None,
            None,
        ),
    ] {
        let action = action(value);
        let spec = action.to_spec().unwrap();
        assert_eq!((spec.effect, spec.repeat), (effect, repeat), "{}", spec.kind);
        assert_eq!(spec.service.as_ref().map(|name| name.as_str()), service);
        assert_eq!(spec.region.as_ref().map(|name| name.as_str()), region);
        let json = serde_json::to_string(&spec).unwrap();
        let spec: ActionSpec = serde_json::from_str(&json).unwrap();
        assert_eq!(ActionConfig::from_spec(&spec), Ok(action));
    }
}

#[test]
fn a_program_is_repeated_only_where_that_is_safe() {
    let repeat = |extra: serde_json::Value| {
        let mut run = json!({ "argv": ["/x"] });
        run.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        action(json!({ "exec": { "run": run } })).parameters().repeat()
    };
    assert_eq!(repeat(json!({})), Repeat::Never);
    assert_eq!(repeat(json!({ "idempotent": true })), Repeat::AtLeastOnce);
    assert_eq!(repeat(json!({ "observe": ["/y"] })), Repeat::ByObservation);
}

#[test]
fn a_request_is_repeated_only_where_that_is_safe() {
    let repeat = |extra: serde_json::Value| {
        let mut request = json!({ "url": "https://x" });
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        action(json!({ "http": { "request": request } })).parameters().repeat()
    };
    assert_eq!(repeat(json!({})), Repeat::Never);
    assert_eq!(repeat(json!({ "method": "PUT" })), Repeat::AtLeastOnce);
    assert_eq!(repeat(json!({ "method": "put", "idempotent": false })), Repeat::Never);
    assert_eq!(repeat(json!({ "idempotent": true })), Repeat::AtLeastOnce);
    assert_eq!(repeat(json!({ "observe": { "url": "https://x", "contains": "y" } })), Repeat::ByObservation);
}

#[test]
fn a_foreign_specification_is_refused_and_not_guessed() {
    let mut spec = action(json!({ "redis": { "promote": { "url": "redis://cache" } } })).to_spec().unwrap();
    spec.kind = "postgres.promote".into();
    assert!(ActionConfig::from_spec(&spec).unwrap_err().contains("redis.promote"));
    spec.params = json!({ "redis": { "promote": { "url": "redis://cache", "new": 1 } } });
    assert!(ActionConfig::from_spec(&spec).unwrap_err().contains("new"));
}

#[test]
fn a_target_shows_no_credentials() {
    let action = action(json!({ "http": { "request": { "url": "https://u:p@x.example/a?token=t" } } }));
    assert_eq!(action.parameters().target(), "POST https://x.example/a");
}

#[test]
fn a_target_shows_the_names_of_what_is_written_and_not_the_values() {
    for (value, expected) in [
        (
            json!({ "kubernetes": { "set_env": { "deployment": "a/b", "env": { "X": "value" }, "unset": ["Y"] } } }),
            "environment of Deployment a/b: X, -Y",
        ),
        (
            json!({ "kubernetes": { "secret": { "context": "dr", "secret": "a/b", "data": { "host": "value" } } } }),
            "Secret a/b in dr: host",
        ),
    ] {
        assert_eq!(action(value).parameters().target(), expected);
    }
}

#[test]
fn what_destroys_needs_an_approval() {
    let needs = |value| action(value).parameters().needs_approval();
    let restore =
        |clean| json!({ "postgres": { "restore": { "url": "postgresql://x", "dump": "/d", "clean": clean } } });
    assert!(needs(restore(true)) && !needs(restore(false)));
    assert!(needs(json!({ "redis": { "flush": { "url": "redis://x" } } })));
    assert!(!needs(json!({ "redis": { "promote": { "url": "redis://x" } } })));
}
