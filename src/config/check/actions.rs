//! The parameters of actions: what can be seen to be wrong before an outage, not in it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::common::{aws_region, file_is_there, method, not_empty, not_zero, statuses};
use super::{notify, secrets};
use crate::config::action::{
    ActionConfig, HttpAction, HttpRequest, KubernetesAction, KubernetesScale, PostgresAction, RdsAction,
    RdsPromoteReadReplica, RedisAction, Route53Action, Route53UpsertAlias, RouteRecordType, SnsAction,
};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::HumanDuration;

/// Tells what is wrong with an action; `step` is the path of its step.
pub fn check(report: &mut Report<'_>, step: &Path, action: &ActionConfig) {
    let kind = action.kind();
    let at = kind.as_str().split('.').fold(step.clone(), |path, part| path.key(part));
    match action {
        ActionConfig::Rds(RdsAction::PromoteReadReplica(promote)) => rds(report, &at, promote),
        ActionConfig::Postgres(PostgresAction::Promote(promote)) => {
            secrets::address(report, &at.key("url"), &promote.url, &["postgresql", "postgres"]);
            service(report, &at, promote.service.as_deref());
            file_is_there(report, &at.key("ca_file"), promote.ca_file.as_deref());
        }
        ActionConfig::Redis(RedisAction::Promote(promote)) => {
            secrets::address(report, &at.key("url"), &promote.url, &["redis", "rediss"]);
            service(report, &at, promote.service.as_deref());
        }
        ActionConfig::Route53(Route53Action::UpsertAlias(alias)) => route53(report, &at, alias),
        ActionConfig::Kubernetes(KubernetesAction::Scale(scale)) => kubernetes(report, &at, scale),
        ActionConfig::Sns(SnsAction::Publish(publish)) => {
            notify::topic(report, &at, &publish.topic, publish.region.as_deref());
            not_empty(report, &at.key("message"), &publish.message);
        }
        ActionConfig::Http(HttpAction::Request(request)) => http(report, &at, request),
    }
}

fn service(report: &mut Report<'_>, at: &Path, service: Option<&str>) {
    if let Some(service) = service {
        super::plain_value(report, &at.key("service"), service);
    }
}

fn rds(report: &mut Report<'_>, at: &Path, promote: &RdsPromoteReadReplica) {
    aws_region(report, &at.key("region"), &promote.region);
    service(report, at, promote.service.as_deref());
    let instance = &promote.instance;
    let letters = instance.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !letters || !instance.starts_with(|c: char| c.is_ascii_alphabetic()) || instance.len() > 63 {
        report.error(
            "bad_instance",
            &at.key("instance"),
            format!("{instance:?} is not a DB instance identifier"),
            "write the identifier (not the ARN, not the endpoint): letters, digits and `-`, a letter first",
        );
    }
    if promote.replica_of.is_none() {
        report.warn(
            "any_replica",
            &at.key("replica_of"),
            format!("`{instance}` would be promoted whatever it is a replica of"),
            "add `replica_of = \"the primary's identifier\"`",
        );
    } else if promote.replica_of.as_ref() == Some(instance) {
        report.error("any_replica", &at.key("replica_of"), "an instance is not its own replica", "name the primary");
    }
}

fn kubernetes(report: &mut Report<'_>, at: &Path, scale: &KubernetesScale) {
    let label = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    let well = scale.deployment.split_once('/').is_some_and(|(namespace, name)| label(namespace) && label(name));
    if !well {
        report.error(
            "bad_deployment",
            &at.key("deployment"),
            format!("{:?} does not name a Deployment", scale.deployment),
            format!(
                "write `namespace/name`, for example `default/{}`",
                scale.deployment.rsplit('/').next().unwrap_or("api")
            ),
        );
    }
    if scale.replicas == 0 {
        report.warn(
            "nothing_to_do",
            &at.key("replicas"),
            "more than 0 replicas are left alone, so this does nothing",
            "write how many are needed to serve",
        );
    }
    file_is_there(report, &at.key("kubeconfig"), scale.kubeconfig.as_deref());
}

fn http(report: &mut Report<'_>, at: &Path, request: &HttpRequest) {
    secrets::address(report, &at.key("url"), &request.url, &["https", "http"]);
    secrets::headers(report, &at.key("headers"), &request.headers);
    method(report, &at.key("method"), &request.method);
    statuses(report, &at.key("status"), &request.status);
    file_is_there(report, &at.key("ca_file"), request.ca_file.as_deref());
    if request.body.is_some() && request.json.is_some() {
        report.error("not_exactly_one", &at.key("json"), "`body` and `json` are both there", "leave one of them out");
    }
    if let Some(observe) = &request.observe {
        let at = at.key("observe");
        secrets::address(report, &at.key("url"), &observe.url, &["https", "http"]);
        not_empty(report, &at.key("contains"), &observe.contains);
    }
}

fn route53(report: &mut Report<'_>, at: &Path, alias: &Route53UpsertAlias) {
    let zone = alias.zone.trim_start_matches("/hostedzone/");
    if zone.is_empty() || !zone.chars().all(|c| c.is_ascii_alphanumeric()) {
        report.error(
            "bad_zone",
            &at.key("zone"),
            format!("{:?} is not the id of a hosted zone", alias.zone),
            "write its id, for example `Z2FDTNDATAQYW2` (`aws route53 list-hosted-zones`)",
        );
    }
    if !alias.name.trim_end_matches('.').contains('.') || alias.name.contains(['/', ':', ' ']) {
        report.error(
            "bad_name",
            &at.key("name"),
            format!("{:?} is not a record's whole name", alias.name),
            "write it whole, for example `api.example.com`",
        );
    }
    if let Some(region) = &alias.region {
        aws_region(report, &at.key("region"), region);
    }
    match (&alias.target, alias.values.is_empty()) {
        (Some(_), false) => report.error(
            "not_exactly_one",
            &at.key("values"),
            "`target` makes an alias and `values` a plain record, and both are there",
            "leave one of them out",
        ),
        (None, true) => report.error(
            "not_exactly_one",
            at,
            "this leads nowhere",
            "add `target` and `target_zone` for an alias, or `values` for a plain record",
        ),
        (Some(_), true) => alias_record(report, at, alias),
        (None, false) => plain_record(report, at, alias),
    }
    if alias.sentinel.as_deref() == Some("") {
        report.warn(
            "no_sentinel",
            &at.key("sentinel"),
            "without a sentinel, a daemon of an older epoch could still move this record back",
            "leave `sentinel` out",
        );
    }
}

fn alias_record(report: &mut Report<'_>, at: &Path, alias: &Route53UpsertAlias) {
    if alias.target_zone.is_none() {
        report.error(
            "missing_key",
            &at.key("target"),
            "an alias needs `target_zone`, the hosted zone id of its target",
            "add it; for a load balancer: `aws elbv2 describe-load-balancers` says `CanonicalHostedZoneId`",
        );
    }
    if alias.record == RouteRecordType::Cname {
        report.error(
            "bad_record",
            &at.key("record"),
            "an alias has the type of what it leads to",
            "write `A` or `AAAA`, or `values` in place of `target`",
        );
    }
    if alias.ttl.is_some() {
        report.error("bad_record", &at.key("ttl"), "an alias has the TTL of its target", "leave `ttl` out");
    }
}

fn plain_record(report: &mut Report<'_>, at: &Path, alias: &Route53UpsertAlias) {
    for (key, given) in
        [("target_zone", alias.target_zone.is_some()), ("evaluate_target_health", alias.evaluate_target_health)]
    {
        if given {
            report.error("bad_record", &at.key(key), format!("`{key}` is for an alias only"), "leave it out");
        }
    }
    let values = at.key("values");
    for (place, value) in alias.values.iter().enumerate() {
        let (well, wanted) = match alias.record {
            RouteRecordType::A => (value.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
            RouteRecordType::Aaaa => (value.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
            RouteRecordType::Cname => (!value.is_empty() && !value.contains(['/', ':', ' ']), "a name"),
        };
        if !well {
            let fix = if alias.record == RouteRecordType::Cname || value.parse::<std::net::IpAddr>().is_ok() {
                format!("write {wanted}")
            } else {
                format!("write {wanted}, or `record = \"CNAME\"`")
            };
            report.error("bad_record", &values.index(place), format!("`{value}` is not {wanted}"), fix);
        }
    }
    if alias.record == RouteRecordType::Cname && alias.values.len() > 1 {
        report.error("bad_record", &values.index(1), "a CNAME leads to exactly one name", "leave the others out");
    }
    not_zero(report, &at.key("ttl"), alias.ttl);
    if alias.ttl.is_some_and(|ttl| ttl > HumanDuration::secs(300)) {
        report.warn(
            "long_ttl",
            &at.key("ttl"),
            "for so long after a failover, clients go on to the old address",
            "write 60s or less",
        );
    }
}
