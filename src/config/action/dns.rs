//! The domain name system itself, whoever runs the zone.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Parameters, RouteRecordType};
use crate::config::check::common::not_zero;
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::probe::DnsRecordType;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

/// `dns.verify`: looks until every authoritative server of the zone, and each of `resolvers`,
/// answers with exactly the expected values. Changes nothing. While it is not so, it tells which
/// server still answers what; the step's `timeout` bounds it.
///
/// With `target`, the name has to lead where another one leads: a server is right when it answers
/// with addresses that `target` has, and no others, or with a CNAME to it. Needs: UDP and TCP to
/// port 53 of the servers. <https://www.rfc-editor.org/rfc/rfc1034>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsVerify {
    /// The name, whole: `api.example.com`.
    pub name: String,
    /// The record's type (default `A`).
    #[serde(default)]
    pub record: DnsRecordType,
    /// The values that the record has to have, all and no others (`192.0.2.1`, `lb.example.com`).
    /// Or `target`.
    #[serde(default)]
    pub values: Vec<String>,
    /// The name that it has to lead to, whose addresses are looked up at each look. Or `values`.
    #[serde(default)]
    pub target: Option<String>,
    /// The zone whose authoritative servers are asked (default: found above the name).
    #[serde(default)]
    pub zone: Option<String>,
    /// The authoritative servers, `address`, `address:port` or a name (default: those that the NS
    /// records of the zone name).
    #[serde(default)]
    pub servers: Vec<String>,
    /// Resolvers that have to answer so, too, `address` or `address:port` (default: none). They
    /// keep an old answer for its time to live.
    #[serde(default)]
    pub resolvers: Vec<String>,
    /// The resolver that is asked for the servers and for the addresses of `target`,
    /// `address:port` (default: the system's).
    #[serde(default)]
    pub via: Option<SocketAddr>,
    /// Pass over servers that do not answer at all (default false)? One has to answer. For zones
    /// with a server in the region that failed.
    #[serde(default)]
    pub allow_silent: bool,
}

impl Parameters for DnsVerify {
    fn effect(&self) -> EffectKind {
        EffectKind::Verify
    }

    fn target(&self) -> String {
        let to = self.target.clone().unwrap_or_else(|| self.values.join(", "));
        format!("the answers of all servers for {} being {to}", self.name)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(5)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        whole_name(report, &at.key("name"), &self.name);
        match (&self.target, self.values.is_empty()) {
            (Some(_), false) => {
                let text = "`target` and `values` are both there";
                report.error("not_exactly_one", &at.key("values"), text, "leave one of them out");
            }
            (None, true) => {
                let text = "it is not said what the answer has to be";
                report.error("not_exactly_one", at, text, "add `values`, or `target`");
            }
            (Some(_), true) if !matches!(self.record, DnsRecordType::A | DnsRecordType::Aaaa) => {
                let text = "with `target`, addresses are compared";
                report.error("bad_record", &at.key("record"), text, "write `A` or `AAAA`, or `values` for `target`");
            }
            _ => {}
        }
        for (key, list) in [("servers", &self.servers), ("resolvers", &self.resolvers)] {
            for (place, text) in list.iter().enumerate() {
                server(report, &at.key(key).index(place), text);
            }
        }
    }
}

/// `dns.update`: changes a record by a dynamic update (RFC 2136), signed with TSIG (RFC 8945); done
/// when the server itself answers so. Whether the other servers of the zone follow is asked by a
/// `dns.verify` step.
///
/// The epoch goes into a TXT record beside it. The update holds as prerequisites that the TXT
/// record and the record itself stand as they were read: where anybody has written in between, the
/// server changes nothing, and a run of an older epoch is refused. Undone by bringing back what
/// stood before. Needs: a key that the server lets update both names (BIND: `update-policy { grant
/// KEY name api.example.com. A; grant KEY name _failoverd.api.example.com. TXT; };`), and a clock
/// that is right to 5 minutes. <https://www.rfc-editor.org/rfc/rfc2136>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsUpdate {
    /// The primary server of the zone: `address`, `address:port`, or a name.
    pub server: String,
    /// The zone: `example.com`.
    pub zone: String,
    /// The record's name, whole: `api.example.com`.
    pub name: String,
    /// The record's type: `A` (default), `AAAA` or `CNAME`.
    #[serde(default)]
    pub record: RouteRecordType,
    /// Its values.
    pub values: Vec<String>,
    /// Its time to live (default 60s). A record that has the right values and another time to live
    /// is left as it is.
    #[serde(default)]
    pub ttl: Option<HumanDuration>,
    /// The name of the key, as the server knows it.
    pub key_name: String,
    /// The key in base64, by reference.
    pub key: SecretText,
    /// The key's algorithm: `hmac-sha256` (default), `hmac-sha384` or `hmac-sha512`.
    #[serde(default)]
    pub algorithm: DnsKeyAlgorithm,
    /// The name of the TXT record that holds the epoch (default: `_failoverd.` before the name);
    /// `""` does without.
    #[serde(default)]
    pub sentinel: Option<String>,
}

/// How an update is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DnsKeyAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

impl Parameters for DnsUpdate {
    fn effect(&self) -> EffectKind {
        EffectKind::Route
    }

    fn target(&self) -> String {
        format!("DNS record {} at {} to {}", self.name, self.server, self.values.join(", "))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(2)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        server(report, &at.key("server"), &self.server);
        whole_name(report, &at.key("name"), &self.name);
        let (name, zone) = (plain(&self.name), plain(&self.zone));
        if zone.is_empty() || (name != zone && !name.ends_with(&format!(".{zone}"))) {
            let text = format!("{:?} is not in the zone {:?}", self.name, self.zone);
            report.error("bad_zone", &at.key("zone"), text, "write the zone that holds the name: `example.com`");
        }
        record_values(report, &at.key("values"), self.record, &self.values);
        not_zero(report, &at.key("ttl"), self.ttl);
        long_ttl(report, &at.key("ttl"), self.ttl);
        self.check_key(at, report);
        no_sentinel(report, &at.key("sentinel"), self.sentinel.as_deref());
    }
}

impl DnsUpdate {
    fn check_key(&self, at: &Path, report: &mut Report<'_>) {
        secrets::secret(report, &at.key("key"), &self.key);
        if plain(&self.key_name).is_empty() || self.key_name.contains(['/', ' ', ':']) {
            let text = format!("{:?} is not the name of a key", self.key_name);
            report.error("bad_key", &at.key("key_name"), text, "write it as `key \"NAME\" { … }` of the server has it");
        }
        if let SecretText::Reference(secret) = &self.key
            && report.inspects()
            && secret.read().is_ok_and(|key| base64::engine::general_purpose::STANDARD.decode(key.trim()).is_err())
        {
            let text = "what is there is not base64";
            report.error("bad_key", &at.key("key"), text, "put only the value of `secret` of the key there");
        }
    }
}

/// A name as it is compared.
pub(super) fn plain(name: &str) -> String {
    name.trim().trim_end_matches('.').to_ascii_lowercase()
}

/// A record's name, not that of its host only.
pub(super) fn whole_name(report: &mut Report<'_>, at: &Path, name: &str) {
    if !name.trim_end_matches('.').contains('.') || name.contains(['/', ':', ' ']) {
        let text = format!("{name:?} is not a record's whole name");
        report.error("bad_name", at, text, "write it whole, for example `api.example.com`");
    }
}

fn server(report: &mut Report<'_>, at: &Path, text: &str) {
    let well = text.parse::<SocketAddr>().is_ok()
        || text.parse::<std::net::IpAddr>().is_ok()
        || (!text.is_empty()
            && !text.contains(['/', ' ', '@', '[', ']'])
            && text.split_once(':').is_none_or(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()));
    if !well {
        let text = format!("`{text}` is not a server");
        report.error(
            "bad_address",
            at,
            text,
            "write `192.0.2.1`, `192.0.2.1:53`, `[2001:db8::1]:53` or `ns1.example.com`",
        );
    }
}

/// The values of a record that traffic follows.
pub(super) fn record_values(report: &mut Report<'_>, at: &Path, record: RouteRecordType, values: &[String]) {
    if values.is_empty() {
        report.error("empty", at, "this leads nowhere", "write where traffic goes, for example `[\"192.0.2.1\"]`");
    }
    for (place, value) in values.iter().enumerate() {
        let (well, wanted) = match record {
            RouteRecordType::A => (value.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
            RouteRecordType::Aaaa => (value.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
            RouteRecordType::Cname => (!value.is_empty() && !value.contains(['/', ':', ' ']), "a name"),
        };
        if !well {
            let text = format!("`{value}` is not {wanted}");
            report.error("bad_record", &at.index(place), text, format!("write {wanted}, or another `record`"));
        }
    }
    if record == RouteRecordType::Cname && values.len() > 1 {
        report.error("bad_record", &at.index(1), "a CNAME leads to exactly one name", "leave the others out");
    }
}

/// For so long clients go on to the old address.
pub(super) fn long_ttl(report: &mut Report<'_>, at: &Path, ttl: Option<HumanDuration>) {
    if ttl.is_some_and(|ttl| ttl > HumanDuration::secs(300)) {
        let text = "for so long after a failover, clients go on to the old address";
        report.warn("long_ttl", at, text, "write 60s or less");
    }
}

/// Who does without the sentinel is told what it is for.
pub(super) fn no_sentinel(report: &mut Report<'_>, at: &Path, sentinel: Option<&str>) {
    if sentinel == Some("") {
        let text = "without a sentinel, a daemon of an older epoch could still move this record back";
        report.warn("no_sentinel", at, text, "leave `sentinel` out");
    }
}
