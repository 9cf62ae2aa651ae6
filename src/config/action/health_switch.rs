//! The health endpoint of failoverd itself.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

/// `health_switch.set`: sets what this daemon answers at `/health/NAME` to the health checkers of a
/// DNS provider: 200 while the switch is on, 503 while it is off. The provider then moves traffic by
/// itself (Route 53: a failover record whose health check asks this endpoint), and no control plane
/// is needed during an outage. The switch stands in `[health_switch.switches]`, and
/// `health_switch.listen` says where it is served. Done when the setting is on disk; with `url`, when
/// the endpoint answers so.
///
/// The setting outlives the daemon, together with the epoch that made it: a run of an older epoch is
/// refused. Undone by setting it back. A setting that cannot be read is answered as it was read last,
/// and after a restart by 503. While the daemon is down the checkers get no answer, which they count
/// as unhealthy: let several daemons be asked, or invert the health check where no answer must not
/// move traffic. The provider follows after its own interval and threshold (Route 53: 10 or 30
/// seconds, times the failure threshold); a `dns.verify` step waits for it.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthSwitchSet {
    /// The switch.
    pub name: String,
    /// Does it answer that all is well?
    pub on: bool,
    /// Made of `health_switch.directory`.
    #[serde(default)]
    #[schemars(skip)]
    pub directory: Option<PathBuf>,
    /// The endpoint as a checker sees it, `http://…/health/NAME`; asked to verify (default: the
    /// setting on disk is enough).
    #[serde(default)]
    pub url: Option<String>,
}

impl Parameters for HealthSwitchSet {
    fn effect(&self) -> EffectKind {
        EffectKind::Route
    }

    fn target(&self) -> String {
        format!("health switch {} to {}", self.name, if self.on { "on" } else { "off" })
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        crate::config::check::plain_value(report, &at.key("name"), &self.name);
        if let Some(url) = &self.url {
            let text = crate::config::SecretText::Plain(url.clone());
            crate::config::check::secrets::address(report, &at.key("url"), &text, &["http", "https"]);
        }
    }
}
