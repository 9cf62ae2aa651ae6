//! The records of `route53.upsert_alias`: the one that traffic follows, and the TXT record that
//! holds the epoch (the sentinel). Pure; nothing is called here.

use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::{AliasTarget, Change, ChangeAction, ResourceRecord, ResourceRecordSet, RrType};
use serde::{Deserialize, Serialize};

use crate::config::action::{Route53UpsertAlias, RouteRecordType};
use crate::model::{Epoch, RunId};

/// The time to live of a plain record, in seconds, where none is given.
const TTL: i64 = 60;

/// The time to live of the sentinel, in seconds. Nobody resolves it.
const SENTINEL_TTL: i64 = 60;

/// A record without a routing policy; what `compensate` brings back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Lower case, without the last dot.
    pub name: String,
    /// `A`, `AAAA`, `CNAME`.
    pub record: String,
    /// Where it leads.
    pub to: Target,
    /// The health check that it hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<String>,
}

/// Where a record leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// To another record of Route 53 or a resource of AWS.
    Alias {
        /// Lower case, without the last dot.
        name: String,
        /// Its hosted zone.
        zone: String,
        /// Does Route 53 look at its health?
        evaluate_health: bool,
    },
    /// To these values.
    Values {
        /// In seconds.
        ttl: i64,
        /// Sorted.
        values: Vec<String>,
    },
}

/// A name as Route 53 compares it: lower case, without the last dot, `*` written plainly.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DomainNameFormat.html>
pub fn plain_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase().replace("\\052", "*")
}

/// The id of a zone without the path that the API puts before it.
pub fn plain_zone(zone: &str) -> &str {
    zone.rsplit('/').next().unwrap_or(zone)
}

impl Route {
    /// The record that the parameters ask for.
    ///
    /// # Errors
    /// Where they name no target, or two, or a target that no record of this type can have.
    pub fn wanted(params: &Route53UpsertAlias) -> Result<Self, String> {
        let record = match params.record {
            RouteRecordType::A => "A",
            RouteRecordType::Aaaa => "AAAA",
            RouteRecordType::Cname => "CNAME",
        };
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let to = match (given(&params.target), given(&params.target_zone), params.values.is_empty()) {
            (Some(name), Some(zone), true) => Target::Alias {
                name: plain_name(&name),
                zone: plain_zone(&zone).to_owned(),
                evaluate_health: params.evaluate_target_health,
            },
            (None, None, false) => Target::Values { ttl: ttl(params)?, values: values(params.record, &params.values)? },
            (Some(_), None, true) => {
                return Err("an alias needs `target_zone`, the hosted zone id of its target".into());
            }
            (None, Some(_), true) => return Err("`target_zone` needs `target`".into()),
            (None, None, true) => return Err("it leads nowhere: give `target` and `target_zone`, or `values`".into()),
            (_, _, false) => return Err("`target` and `values` exclude each other".into()),
        };
        let name = plain_name(&params.name);
        if name.is_empty() {
            return Err("`name` is empty".into());
        }
        Ok(Self { name, record: record.into(), to, health_check: None })
    }

    /// What stands in the zone.
    ///
    /// # Errors
    /// Where it has a routing policy: a simple record cannot take its place, and it could not be
    /// brought back.
    pub fn standing(set: &ResourceRecordSet) -> Result<Self, String> {
        let (name, record) = (plain_name(set.name()), set.r#type().as_str().to_owned());
        if set.set_identifier().is_some() {
            return Err(format!(
                "{name} {record} has a routing policy (weighted, latency, failover, …); only a simple record can be changed"
            ));
        }
        let to = match set.alias_target() {
            Some(alias) => Target::Alias {
                name: plain_name(alias.dns_name()),
                zone: alias.hosted_zone_id().to_owned(),
                evaluate_health: alias.evaluate_target_health(),
            },
            None => {
                let mut values: Vec<String> = set.resource_records().iter().map(|one| one.value().to_owned()).collect();
                values.sort();
                Target::Values { ttl: set.ttl().unwrap_or(TTL), values }
            }
        };
        Ok(Self { name, record, to, health_check: set.health_check_id().map(str::to_owned) })
    }

    /// Do both lead to the same place? `CNAME` values are names and compared as such.
    pub fn same(&self, other: &Self) -> bool {
        let comparable = |route: &Self| {
            let mut route = route.clone();
            if let Target::Values { values, .. } = &mut route.to {
                values.iter_mut().for_each(|value| *value = plain_name(value));
                values.sort();
            }
            route
        };
        comparable(self) == comparable(other)
    }

    /// As the API wants it.
    ///
    /// # Errors
    /// Where the SDK finds it incomplete; it never is.
    pub fn set(&self) -> Result<ResourceRecordSet, BuildError> {
        let mut set = ResourceRecordSet::builder()
            .name(&self.name)
            .r#type(RrType::from(self.record.as_str()))
            .set_health_check_id(self.health_check.clone());
        match &self.to {
            Target::Alias { name, zone, evaluate_health } => {
                let alias = AliasTarget::builder()
                    .dns_name(name)
                    .hosted_zone_id(zone)
                    .evaluate_target_health(*evaluate_health)
                    .build()?;
                set = set.alias_target(alias);
            }
            Target::Values { ttl, values } => {
                set = set.ttl(*ttl);
                for value in values {
                    set = set.resource_records(ResourceRecord::builder().value(value).build()?);
                }
            }
        }
        set.build()
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} -> ", self.name, self.record)?;
        match &self.to {
            Target::Alias { name, .. } => write!(f, "alias {name}"),
            Target::Values { values, .. } => f.write_str(&values.join(", ")),
        }
    }
}

fn ttl(params: &Route53UpsertAlias) -> Result<i64, String> {
    let Some(ttl) = params.ttl else { return Ok(TTL) };
    let seconds = i64::try_from(ttl.0.as_secs()).unwrap_or(i64::MAX);
    // The API's own bounds.
    if (0..=2_147_483_647).contains(&seconds) { Ok(seconds) } else { Err("`ttl` is too long".into()) }
}

fn values(record: RouteRecordType, values: &[String]) -> Result<Vec<String>, String> {
    let fits = |value: &str| match record {
        RouteRecordType::A => value.parse::<std::net::Ipv4Addr>().is_ok(),
        RouteRecordType::Aaaa => value.parse::<std::net::Ipv6Addr>().is_ok(),
        RouteRecordType::Cname => !value.trim().is_empty(),
    };
    if let Some(value) = values.iter().find(|value| !fits(value)) {
        return Err(format!("`{value}` cannot be the value of such a record"));
    }
    if matches!(record, RouteRecordType::Cname) && values.len() > 1 {
        return Err("a CNAME has exactly one value".into());
    }
    let mut values = values.to_vec();
    values.sort();
    values.dedup();
    Ok(values)
}

/// The sentinel as it stands: the record, kept whole since a DELETE must match it exactly, and the
/// epoch in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentinel {
    /// The record.
    pub set: ResourceRecordSet,
    /// The epoch that last wrote.
    pub epoch: u64,
}

impl Sentinel {
    /// Reads the epoch out of a TXT record.
    ///
    /// # Errors
    /// Where the record is not one of ours.
    pub fn read(set: &ResourceRecordSet) -> Result<Self, String> {
        let epoch = match set.resource_records() {
            [one] => parse_epoch(one.value()),
            _ => None,
        };
        let name = plain_name(set.name());
        epoch
            .map(|epoch| Self { set: set.clone(), epoch })
            .ok_or_else(|| format!("the TXT record {name} is not failoverd's; choose another name with `sentinel`"))
    }
}

/// The value of a sentinel: `"epoch=7 run=RUN-20261101-001"`, with the quotes that TXT needs.
pub fn sentinel_value(epoch: Epoch, run: Option<&RunId>) -> String {
    // The name of a run is ours and has no quotes; a foreign one must not break out of them.
    let run: String = run
        .map(RunId::as_str)
        .unwrap_or("none")
        .chars()
        .filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
        .take(100)
        .collect();
    format!("\"epoch={epoch} run={run}\"")
}

pub(in crate::actions) fn parse_epoch(value: &str) -> Option<u64> {
    let inner = value.trim().strip_prefix('"')?.strip_suffix('"')?;
    let mut words = inner.split_ascii_whitespace();
    let epoch = words.next()?.strip_prefix("epoch=")?.parse().ok()?;
    words.next()?.strip_prefix("run=")?;
    Some(epoch)
}

/// The changes that replace the sentinel. Deleting the old one exactly as it was read makes the
/// whole batch a compare-and-swap: it fails where anybody has written in between.
///
/// # Errors
/// Where the SDK finds a record incomplete; it never is.
pub fn swap_sentinel(name: &str, old: Option<&Sentinel>, value: &str) -> Result<Vec<Change>, BuildError> {
    let new = ResourceRecordSet::builder()
        .name(name)
        .r#type(RrType::Txt)
        .ttl(SENTINEL_TTL)
        .resource_records(ResourceRecord::builder().value(value).build()?)
        .build()?;
    let mut changes = Vec::new();
    if let Some(old) = old {
        changes.push(change(ChangeAction::Delete, old.set.clone())?);
    }
    changes.push(change(ChangeAction::Create, new)?);
    Ok(changes)
}

/// One change of a batch.
///
/// # Errors
/// Where the SDK finds it incomplete; it never is.
pub fn change(action: ChangeAction, set: ResourceRecordSet) -> Result<Change, BuildError> {
    Change::builder().action(action).resource_record_set(set).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(json: serde_json::Value) -> Route53UpsertAlias {
        let mut all = serde_json::json!({ "zone": "Z1", "name": "API.shop.example." });
        all.as_object_mut().expect("a table").extend(json.as_object().expect("a table").clone());
        serde_json::from_value(all).expect("parameters")
    }

    #[test]
    fn a_record_that_leads_nowhere_or_twice_is_refused() {
        for json in [
            serde_json::json!({}),
            serde_json::json!({ "values": [] }),
            serde_json::json!({ "target": "", "target_zone": "" }),
            serde_json::json!({ "target": "lb.example" }),
            serde_json::json!({ "target_zone": "Z2" }),
            serde_json::json!({ "target": "lb.example", "target_zone": "Z2", "values": ["10.0.0.1"] }),
            serde_json::json!({ "values": ["lb.example"] }),
            serde_json::json!({ "values": ["::1"] }),
            serde_json::json!({ "record": "CNAME", "values": ["a.example", "b.example"] }),
            serde_json::json!({ "record": "CNAME", "values": [" "] }),
        ] {
            assert!(Route::wanted(&params(json.clone())).is_err(), "{json}");
        }
    }

    #[test]
    fn a_record_goes_to_the_api_and_back() {
        for json in [
            serde_json::json!({ "target": "LB.example.", "target_zone": "/hostedzone/Z2", "evaluate_target_health": true }),
            serde_json::json!({ "values": ["10.0.0.2", "10.0.0.1"], "ttl": "30s" }),
            serde_json::json!({ "record": "CNAME", "values": ["backup.example"] }),
        ] {
            let wanted = Route::wanted(&params(json)).expect("wanted");
            let standing = Route::standing(&wanted.set().expect("complete")).expect("simple");
            assert!(standing.same(&wanted), "{standing} is not {wanted}");
            let kept: Route = serde_json::from_value(serde_json::to_value(&wanted).expect("JSON")).expect("back");
            assert_eq!(kept, wanted);
        }
    }

    #[test]
    fn names_are_compared_as_route_53_does() {
        assert_eq!(plain_name("\\052.Shop.Example."), "*.shop.example");
        assert_eq!(plain_zone("/hostedzone/Z1"), "Z1");
        let cname = |value: &str| {
            Route::wanted(&params(serde_json::json!({ "record": "CNAME", "values": [value] }))).expect("wanted")
        };
        assert!(cname("Backup.example.").same(&cname("backup.example")));
        assert!(!cname("backup.example").same(&cname("primary.example")));
    }

    #[test]
    fn a_sentinel_is_ours_or_refused() {
        let value = sentinel_value(Epoch(7), Some(&"RUN-20261101-001".into()));
        assert_eq!(value, "\"epoch=7 run=RUN-20261101-001\"");
        assert_eq!(parse_epoch(&value), Some(7));
        assert_eq!(parse_epoch(&sentinel_value(Epoch(7), Some(&"a\" \"b\\".into()))), Some(7));
        for foreign in ["v=spf1 -all", "\"v=spf1 -all\"", "\"epoch=x run=y\"", "\"epoch=7\"", "epoch=7 run=y", "\"", ""]
        {
            assert_eq!(parse_epoch(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_swap_deletes_what_was_read_and_creates_the_new() {
        let first = swap_sentinel("_failoverd.a.example", None, &sentinel_value(Epoch(1), None)).expect("changes");
        assert_eq!(first.len(), 1);
        let set = first[0].resource_record_set().expect("a record").clone();
        let old = Sentinel::read(&set).expect("ours");
        assert_eq!(old.epoch, 1);
        let second =
            swap_sentinel("_failoverd.a.example", Some(&old), &sentinel_value(Epoch(2), None)).expect("changes");
        assert_eq!(second[0].action(), &ChangeAction::Delete);
        assert_eq!(second[0].resource_record_set(), Some(&set));
        assert_eq!(second[1].action(), &ChangeAction::Create);
    }
}
