//! The age of the newest backup of Velero.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, down, unknown};
use crate::config::action::KubernetesCluster;
use crate::config::action::kubernetes::{name, selector};
use crate::config::check::common::{file_is_there, not_zero};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{CauseKind, HumanDuration};

/// Velero's newest completed Backup has to be young enough, by when it was begun: what it holds is of that
/// time. `PartiallyFailed` ones do not count.
///
/// Each attempt lists the Backups, 5000 at most. Write an `interval` of minutes, and a `timeout` of 10 s.
/// The API server is only asked: where it does not answer that is Unknown (`control_plane`). That the newest
/// one is too old is Down; write `causes = { too_old = "degraded" }` where it is no outage. Needs `list` on
/// `backups.velero.io`.
/// <https://velero.io/docs/main/api-types/backup/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VeleroAgeProbe {
    /// The kubeconfig's path (default: `$KUBECONFIG`, then `~/.kube/config`, then in-cluster).
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context (default: its current one).
    #[serde(default)]
    pub context: Option<String>,
    /// The namespace that Velero runs in (default `velero`).
    #[serde(default = "velero")]
    pub namespace: String,
    /// Only the Backups of this schedule (default: all). Or `selector`.
    #[serde(default)]
    pub schedule: Option<String>,
    /// Only the Backups with these labels, for example `team=shop` (default: all). Or `schedule`.
    #[serde(default)]
    pub selector: Option<String>,
    /// The newest completed Backup may be this old.
    pub max_age: HumanDuration,
}

fn velero() -> String {
    "velero".into()
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] = &[
    down(CauseKind::TooOld, "the newest completed Backup is older than `max_age`"),
    down(CauseKind::NotFound, "there is no completed Backup at all, or Velero is not installed"),
    unknown(CauseKind::QueryFailed, "there are too many Backups, or the API server refuses the question"),
];

impl VeleroAgeProbe {
    /// The cluster that it looks at.
    pub fn cluster(&self) -> KubernetesCluster {
        KubernetesCluster { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }

    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        name(report, &at.key("namespace"), "namespace", &self.namespace);
        if let Some(schedule) = &self.schedule {
            name(report, &at.key("schedule"), "schedule", schedule);
        }
        selector(report, &at.key("selector"), self.selector.as_deref());
        if self.schedule.is_some() && self.selector.is_some() {
            report.error(
                "not_exactly_one",
                &at.key("selector"),
                "`schedule` and `selector` both say which Backups are meant",
                "leave one of them out; a schedule's label is `velero.io/schedule-name`",
            );
        }
        not_zero(report, &at.key("max_age"), Some(self.max_age));
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}
