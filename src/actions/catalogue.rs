//! The kinds of actions: what each changes, how an unknown outcome of it is resolved, what it needs.

use crate::model::{EffectKind, Repeat};

/// One kind of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As written in the configuration.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// What it changes, unless the step says otherwise.
    pub effect: EffectKind,
    /// How an unknown outcome is resolved, unless the step says otherwise.
    pub repeat: Repeat,
    /// Can `compensate` bring back what stood before?
    pub undo: bool,
    /// Where the epoch is carried into the target; empty where it cannot hold one.
    pub fence: &'static str,
    /// The rights that it needs.
    pub rights: &'static str,
}

/// Every kind that [`super::build`] knows.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "rds.promote_read_replica",
        about: "makes an RDS read replica a writable database of its own",
        effect: EffectKind::Promote,
        repeat: Repeat::ByObservation,
        undo: false,
        fence: "",
        rights: "rds:DescribeDBInstances, rds:PromoteReadReplica",
    },
    Kind {
        name: "postgres.promote",
        about: "makes a PostgreSQL standby writable and proves it by a committed write",
        effect: EffectKind::Promote,
        repeat: Repeat::ByObservation,
        undo: false,
        fence: "a logical message in the WAL (a trace, not a guard)",
        rights: "EXECUTE on pg_promote(boolean, integer), and on pg_control_system() with system_identifier",
    },
    Kind {
        name: "redis.promote",
        about: "makes a Redis replica a master (REPLICAOF NO ONE)",
        effect: EffectKind::Promote,
        repeat: Repeat::ByObservation,
        undo: false,
        fence: "",
        rights: "ACL: +role +info +dbsize +replicaof, and +del ~failoverd:* for the proof of a write",
    },
    Kind {
        name: "route53.upsert_alias",
        about: "points a DNS name to another target, unless a newer epoch has done so",
        effect: EffectKind::Route,
        repeat: Repeat::ByObservation,
        undo: true,
        fence: "a TXT record, swapped in the same all-or-nothing batch",
        rights: "route53:GetHostedZone, route53:ListResourceRecordSets, route53:ChangeResourceRecordSets, route53:GetChange",
    },
    Kind {
        name: "kubernetes.scale",
        about: "sets a Deployment's replicas and waits until they are ready",
        effect: EffectKind::Scale,
        repeat: Repeat::ByObservation,
        undo: true,
        fence: "the annotation failoverd/epoch, written with a precondition on resourceVersion",
        rights: "RBAC: get and patch on deployments.apps",
    },
    Kind {
        name: "sns.publish",
        about: "publishes a message to an SNS topic",
        effect: EffectKind::Notify,
        repeat: Repeat::AtLeastOnce,
        undo: false,
        fence: "",
        rights: "sns:Publish",
    },
    Kind {
        name: "http.request",
        about: "makes an HTTP request",
        effect: EffectKind::Call,
        repeat: Repeat::Never,
        undo: false,
        fence: "the headers failoverd-epoch and failoverd-run, for servers that look at them",
        rights: "",
    },
];

/// The kind of this name.
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::actions::{BuildError, build};
    use crate::clients::Clients;
    use crate::config::ActionConfig;
    use crate::config::shape::Limits;
    use crate::model::ActionSpec;

    fn params(kind: &str) -> Value {
        match kind {
            "rds.promote_read_replica" => json!({ "region": "us-west-2", "instance": "shop-replica" }),
            "postgres.promote" => json!({ "url": "postgresql://db.example/shop" }),
            "redis.promote" => json!({ "url": "redis://cache.example" }),
            "route53.upsert_alias" => json!({ "zone": "Z1", "name": "api.example", "values": ["10.0.0.1"] }),
            "kubernetes.scale" => json!({ "deployment": "shop/api", "replicas": 3 }),
            "sns.publish" => json!({ "topic": "arn:aws:sns:us-west-2:123456789012:critical", "message": "m" }),
            "http.request" => json!({ "url": "http://a.example/" }),
            other => panic!("{other} is new: give it parameters"),
        }
    }

    fn spec(kind: &str, params: Value) -> ActionSpec {
        let (family, verb) = kind.split_once('.').expect("family.verb");
        ActionSpec {
            kind: kind.into(),
            effect: EffectKind::Call,
            repeat: Repeat::ByObservation,
            target: String::new(),
            service: None,
            region: None,
            params: json!({ family: { verb: params } }),
        }
    }

    #[test]
    fn every_kind_in_the_catalogue_can_be_built() {
        let clients = Arc::new(Clients::new(&Limits::default()));
        for kind in KINDS {
            let spec = spec(kind.name, params(kind.name));
            assert!(build(&spec, &clients).is_ok(), "{}", kind.name);
            let config = ActionConfig::from_spec(&spec).expect("its own kind");
            assert_eq!((config.effect(), config.repeat()), (kind.effect, kind.repeat), "{}", kind.name);
            assert_eq!(find(kind.name), Some(kind));
        }
        assert_eq!(find("rds.unknown"), None);
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
        ];
        for (kind, params) in invalid {
            let error = build(&spec(kind, params.clone()), &clients).err();
            assert!(matches!(error, Some(BuildError::Invalid { .. })), "{kind} {params}: {error:?}");
        }
        let error = build(&spec("rds.unknown", json!({})), &clients).err();
        assert!(matches!(error, Some(BuildError::Params(_))), "{error:?}");
    }
}
