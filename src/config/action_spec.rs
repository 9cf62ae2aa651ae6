//! An action of the file ↔ the [`ActionSpec`] that plans and journals hold.

use super::action::{
    ActionConfig, HttpAction, HttpEffect, HttpRequest, KubernetesAction, KubernetesScale, PostgresAction, RdsAction,
    RedisAction, Route53Action, Route53UpsertAlias, SnsAction, SnsPublish,
};
use super::secret::SecretText;
use crate::model::{ActionKind, ActionSpec, EffectKind, Repeat};

/// Where Route 53's control plane is.
pub const ROUTE53_REGION: &str = "us-east-1";

impl ActionConfig {
    /// `family.verb`, as in the file.
    pub fn kind(&self) -> ActionKind {
        ActionKind::new(match self {
            Self::Rds(RdsAction::PromoteReadReplica(_)) => "rds.promote_read_replica",
            Self::Postgres(PostgresAction::Promote(_)) => "postgres.promote",
            Self::Redis(RedisAction::Promote(_)) => "redis.promote",
            Self::Route53(Route53Action::UpsertAlias(_)) => "route53.upsert_alias",
            Self::Kubernetes(KubernetesAction::Scale(_)) => "kubernetes.scale",
            Self::Sns(SnsAction::Publish(_)) => "sns.publish",
            Self::Http(HttpAction::Request(_)) => "http.request",
        })
    }

    /// What it changes, for the guards.
    pub fn effect(&self) -> EffectKind {
        match self {
            Self::Rds(_) | Self::Postgres(_) | Self::Redis(_) => EffectKind::Promote,
            Self::Route53(_) => EffectKind::Route,
            Self::Kubernetes(_) => EffectKind::Scale,
            Self::Sns(_) => EffectKind::Notify,
            Self::Http(HttpAction::Request(request)) => match request.effect.unwrap_or(HttpEffect::Call) {
                HttpEffect::Call => EffectKind::Call,
                HttpEffect::Notify => EffectKind::Notify,
                HttpEffect::Fence => EffectKind::Fence,
                HttpEffect::Route => EffectKind::Route,
            },
        }
    }

    /// How an unknown outcome is resolved.
    pub fn repeat(&self) -> Repeat {
        match self {
            Self::Rds(_) | Self::Postgres(_) | Self::Redis(_) | Self::Route53(_) | Self::Kubernetes(_) => {
                Repeat::ByObservation
            }
            Self::Sns(_) => Repeat::AtLeastOnce,
            Self::Http(HttpAction::Request(request)) => {
                if request.observe.is_some() {
                    Repeat::ByObservation
                } else if request.is_idempotent() {
                    Repeat::AtLeastOnce
                } else {
                    Repeat::Never
                }
            }
        }
    }

    /// The service whose writable copy it moves, where it moves one.
    pub fn service(&self) -> Option<String> {
        match self {
            Self::Rds(RdsAction::PromoteReadReplica(promote)) => {
                Some(promote.service.clone().unwrap_or_else(|| promote.instance.clone()))
            }
            Self::Postgres(PostgresAction::Promote(promote)) => {
                Some(promote.service.clone().unwrap_or_else(|| "postgres".into()))
            }
            Self::Redis(RedisAction::Promote(promote)) => {
                Some(promote.service.clone().unwrap_or_else(|| "redis".into()))
            }
            Self::Route53(_) | Self::Kubernetes(_) | Self::Sns(_) | Self::Http(_) => None,
        }
    }

    /// The region that it calls, where it calls one.
    pub fn region(&self) -> Option<String> {
        match self {
            Self::Rds(RdsAction::PromoteReadReplica(promote)) => Some(promote.region.clone()),
            Self::Route53(Route53Action::UpsertAlias(alias)) => {
                Some(alias.region.clone().unwrap_or_else(|| ROUTE53_REGION.into()))
            }
            Self::Sns(SnsAction::Publish(publish)) => publish.region(),
            Self::Postgres(_) | Self::Redis(_) | Self::Kubernetes(_) | Self::Http(_) => None,
        }
    }

    /// One line for people: what it touches.
    pub fn target(&self) -> String {
        match self {
            Self::Rds(RdsAction::PromoteReadReplica(promote)) => {
                format!("RDS instance {} in {}", promote.instance, promote.region)
            }
            Self::Postgres(PostgresAction::Promote(promote)) => format!("PostgreSQL at {}", shown(&promote.url)),
            Self::Redis(RedisAction::Promote(promote)) => format!("Redis at {}", shown(&promote.url)),
            Self::Route53(Route53Action::UpsertAlias(alias)) => alias.shown(),
            Self::Kubernetes(KubernetesAction::Scale(scale)) => scale.shown(),
            Self::Sns(SnsAction::Publish(publish)) => format!("SNS topic {}", publish.topic),
            Self::Http(HttpAction::Request(request)) => format!("{} {}", request.method, shown(&request.url)),
        }
    }

    /// The specification that a plan holds.
    ///
    /// # Errors
    /// One line, where the parameters cannot be written as JSON (a path that is not UTF-8).
    pub fn to_spec(&self) -> Result<ActionSpec, String> {
        Ok(ActionSpec {
            kind: self.kind(),
            effect: self.effect(),
            repeat: self.repeat(),
            target: self.target(),
            service: self.service().map(Into::into),
            region: self.region().map(Into::into),
            params: serde_json::to_value(self).map_err(|error| error.to_string())?,
        })
    }

    /// The action of a specification.
    ///
    /// # Errors
    /// One line, where the parameters are those of another version of this program.
    pub fn from_spec(spec: &ActionSpec) -> Result<Self, String> {
        let action: Self = serde_path_to_error::deserialize(&spec.params).map_err(|error| {
            format!("the parameters of {} cannot be read: {}: {}", spec.kind, error.path(), error.inner())
        })?;
        if action.kind() == spec.kind {
            Ok(action)
        } else {
            Err(format!("the step says {}, and its parameters are those of {}", spec.kind, action.kind()))
        }
    }
}

impl HttpRequest {
    /// May it be made twice? Where the file says nothing, as RFC 9110 has it.
    pub fn is_idempotent(&self) -> bool {
        self.idempotent.unwrap_or_else(|| {
            matches!(self.method.to_uppercase().as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
        })
    }
}

impl SnsPublish {
    /// The region: the one named, else the topic's.
    pub fn region(&self) -> Option<String> {
        self.region.clone().or_else(|| topic_region(&self.topic).map(str::to_owned))
    }
}

impl Route53UpsertAlias {
    fn shown(&self) -> String {
        let to = self.target.clone().unwrap_or_else(|| self.values.join(", "));
        format!("Route 53 record {} in zone {} to {to}", self.name, self.zone)
    }
}

impl KubernetesScale {
    fn shown(&self) -> String {
        let context = self.context.as_ref().map(|context| format!(" in {context}")).unwrap_or_default();
        format!("Deployment {}{context} to {} replicas", self.deployment, self.replicas)
    }
}

/// An address without what may be secret in it: its user, query and fragment are left out.
fn shown(text: &SecretText) -> String {
    match text {
        SecretText::Reference(secret) => format!("the address in {secret}"),
        SecretText::Plain(plain) => match url::Url::parse(plain) {
            Ok(mut url) => {
                let _ = url.set_password(None);
                let _ = url.set_username("");
                url.set_query(None);
                url.set_fragment(None);
                url.to_string()
            }
            Err(_) => super::redact::redact(plain, &[]),
        },
    }
}

/// The region in `arn:PARTITION:sns:REGION:ACCOUNT:TOPIC`.
pub fn topic_region(topic: &str) -> Option<&str> {
    let parts: Vec<&str> = topic.split(':').collect();
    match parts.as_slice() {
        ["arn", partition, "sns", region, account, name]
            if partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.chars().all(|digit| digit.is_ascii_digit())
                && !name.is_empty() =>
        {
            Some(region)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn a_request_is_repeated_only_where_that_is_safe() {
        let repeat = |extra: serde_json::Value| {
            let mut request = json!({ "url": "https://x" });
            request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            action(json!({ "http": { "request": request } })).repeat()
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
        assert_eq!(action.target(), "POST https://x.example/a");
    }

    #[test]
    fn a_topic_is_an_arn() {
        assert_eq!(topic_region("arn:aws:sns:us-west-2:123456789012:critical"), Some("us-west-2"));
        assert_eq!(topic_region("arn:aws-cn:sns:cn-north-1:123456789012:x"), Some("cn-north-1"));
        assert_eq!(topic_region("arn:aws:sqs:us-west-2:123456789012:x"), None);
        assert_eq!(topic_region("critical"), None);
    }
}
