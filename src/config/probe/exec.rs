//! A monitoring plugin.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, degraded, down, unknown};
use crate::config::action::exec::program;
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::CauseKind;

/// A monitoring plugin (Nagios, Icinga, the Monitoring Plugins), run here. Exit code 0 (OK) is Up,
/// 1 (WARNING) is degraded (`plugin_warning`), 2 (CRITICAL) is Down (`plugin_critical`), and 3
/// (UNKNOWN) or any other is Unknown (`plugin_unknown`). The first line that it writes is the
/// detail; performance data after a `|` are read as figures, of which the first 32 are kept.
///
/// A plugin that does not end within the probe's `timeout` is killed, and Unknown: it runs here, and
/// nobody can tell whether it hangs by the target's fault or by ours. Give the plugin a timeout of
/// its own that is shorter, after which it says CRITICAL; or write
/// `causes = { plugin_unknown = "down" }`. A plugin that cannot be started is Unknown
/// (`local_resource`), whatever `causes` says.
///
/// It is run without a shell, with nothing in its environment but `environment`, a PATH and
/// FAILOVERD_EXEC, with an empty input, as failoverd's own user and in `/`. It leads a process group
/// of its own; when it ends, or its time is over, everything that it has started is killed, as
/// far as that can be found. Of its output, 64 KiB are kept. Each attempt starts a program and looks
/// through the processes of the host: give it an interval of some seconds.
///
/// Example: `exec = { command = ["/usr/lib/nagios/plugins/check_ntp_time", "-H", "ntp.example", "-w", "0.5"] }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecProbe {
    /// The plugin's absolute path, then its arguments. No secrets: everybody on the host can read
    /// them in the list of processes.
    pub command: Vec<String>,
    /// Variables of its environment; the values by reference where they are secret (default: none).
    #[serde(default)]
    pub environment: BTreeMap<String, SecretText>,
}

pub(super) const EXEC: &[CauseRow] = &[
    degraded(CauseKind::PluginWarning, "the plugin says WARNING (exit code 1)"),
    down(CauseKind::PluginCritical, "the plugin says CRITICAL (exit code 2)"),
    unknown(
        CauseKind::PluginUnknown,
        "the plugin says UNKNOWN (exit code 3), ends with another code or by a signal, or does not end in time",
    ),
    unknown(
        CauseKind::LocalResource,
        "the plugin cannot be started: it is not there or not executable, or we lack a process, descriptor or memory",
    ),
];

impl ExecProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        program(report, &at.key("command"), &self.command);
        for (name, value) in &self.environment {
            secrets::variable(report, &at.key("environment"), name, value);
        }
    }
}
