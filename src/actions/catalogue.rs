//! The kinds of actions, for `failoverd actions` and the documentation.

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
