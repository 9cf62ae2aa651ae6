//! Cloudflare.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dns::{long_ttl, record_values, whole_name};
use super::{Parameters, RouteRecordType};
use crate::config::check::{common::not_zero, secrets};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

/// `cloudflare.dns`: points a DNS record of a zone at Cloudflare to another address; done when the
/// API lists it so. The record is created where there is none; where there are several of its name
/// and type, nothing is changed. Whether the world sees it is asked by a `dns.verify` step (of a
/// record that is not proxied) or a `verify.probe`.
///
/// The epoch goes into the record's comment, in the place of what was there, and a run of an older
/// epoch is refused. The API has no compare-and-swap: between our look and our change, some tenths
/// of a second, a change of somebody else would be overwritten. Undone by bringing back what stood
/// before, the comment too. Needs an API token with `Zone / DNS / Edit` for this zone.
/// <https://developers.cloudflare.com/api/resources/dns/subresources/records/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudflareDns {
    /// The zone's id (32 hexadecimal digits; on the zone's overview page).
    pub zone: String,
    /// The record's name, whole: `api.example.com`.
    pub name: String,
    /// The record's type: `A` (default), `AAAA` or `CNAME`.
    #[serde(default)]
    pub record: RouteRecordType,
    /// Where it leads: an address, or a name.
    pub content: String,
    /// Does Cloudflare stand in between (default: as the record is; false for a new one)?
    #[serde(default)]
    pub proxied: Option<bool>,
    /// The time to live (default 60s, the least that every plan has). Not for a proxied record,
    /// whose time to live is Cloudflare's.
    #[serde(default)]
    pub ttl: Option<HumanDuration>,
    /// The API token, by reference.
    pub token: SecretText,
    /// Where the API is (default `https://api.cloudflare.com/client/v4`).
    #[serde(default)]
    pub base_url: Option<String>,
}

impl Parameters for CloudflareDns {
    fn effect(&self) -> EffectKind {
        EffectKind::Route
    }

    fn target(&self) -> String {
        format!("Cloudflare record {} to {}", self.name, self.content)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(5)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        if self.zone.len() != 32 || !self.zone.chars().all(|c| c.is_ascii_hexdigit()) {
            let text = format!("{:?} is not the id of a zone", self.zone);
            report.error("bad_zone", &at.key("zone"), text, "write its id of 32 hexadecimal digits, not its name");
        }
        whole_name(report, &at.key("name"), &self.name);
        // One value, which the list of the shared check holds alone.
        record_values(report, &at.key("content"), self.record, std::slice::from_ref(&self.content));
        not_zero(report, &at.key("ttl"), self.ttl);
        long_ttl(report, &at.key("ttl"), self.ttl);
        if self.ttl.is_some() && self.proxied == Some(true) {
            let text = "the time to live of a proxied record is Cloudflare's";
            report.error("bad_record", &at.key("ttl"), text, "leave `ttl` out");
        }
        secrets::secret(report, &at.key("token"), &self.token);
        if let Some(url) = &self.base_url {
            base_url(report, &at.key("base_url"), url);
        }
    }
}

/// The token goes there.
fn base_url(report: &mut Report<'_>, at: &Path, text: &str) {
    secrets::address(report, at, &SecretText::Plain(text.to_owned()), &["https", "http"]);
    let is_open = url::Url::parse(text).is_ok_and(|url| {
        url.scheme() == "http" && !matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
    });
    if is_open {
        report.error("not_encrypted", at, "the token would be sent unencrypted", "write `https://…`");
    }
}
