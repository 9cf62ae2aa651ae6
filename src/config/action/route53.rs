//! Amazon Route 53.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Parameters;
use crate::config::check::common::{aws_region, not_zero};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

/// `route53.upsert_alias`: done when the record says so and the change is `INSYNC`. The epoch goes
/// into a TXT record beside it, deleted and created in the same all-or-nothing change batch, so
/// that a batch of an older epoch is refused. Needs
/// `route53:ListResourceRecordSets`, `route53:ChangeResourceRecordSets` and `route53:GetChange`.
/// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route53UpsertAlias {
    /// The hosted zone's id.
    pub zone: String,
    /// The record's name.
    pub name: String,
    /// The record's type: `A` (default), `AAAA` or `CNAME`.
    #[serde(default)]
    pub record: RouteRecordType,
    /// An alias: the DNS name of its target. Or `values` for a plain record.
    #[serde(default)]
    pub target: Option<String>,
    /// An alias: the hosted zone id of its target.
    #[serde(default)]
    pub target_zone: Option<String>,
    /// An alias: does Route 53 look at the target's health (default false)?
    #[serde(default)]
    pub evaluate_target_health: bool,
    /// A plain record: its values. Or `target` for an alias.
    #[serde(default)]
    pub values: Vec<String>,
    /// A plain record: its time to live (default 60s).
    #[serde(default)]
    pub ttl: Option<HumanDuration>,
    /// The name of the TXT record that holds the epoch (default: `_failoverd.` before the name);
    /// `""` does without.
    #[serde(default)]
    pub sentinel: Option<String>,
    /// The region whose endpoint and credentials are used (default `us-east-1`, where Route 53's
    /// control plane is).
    #[serde(default)]
    pub region: Option<String>,
}

/// The types of a record that traffic follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RouteRecordType {
    /// IPv4 address, or an alias.
    #[default]
    A,
    /// IPv6 address, or an alias.
    Aaaa,
    /// Another name.
    Cname,
}

/// Where Route 53's control plane is.
pub const ROUTE53_REGION: &str = "us-east-1";

impl Parameters for Route53UpsertAlias {
    fn effect(&self) -> EffectKind {
        EffectKind::Route
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone().unwrap_or_else(|| ROUTE53_REGION.into()))
    }

    fn target(&self) -> String {
        let to = self.target.clone().unwrap_or_else(|| self.values.join(", "));
        format!("Route 53 record {} in zone {} to {to}", self.name, self.zone)
    }

    fn estimate(&self) -> HumanDuration {
        // Route 53: changes "generally propagate within 60 seconds".
        HumanDuration::secs(60)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        route53(report, at, self);
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
