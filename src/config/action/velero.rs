//! Velero.

use super::kubernetes::{in_cluster, is_name, name};
use super::{Output, Parameters};
use crate::config::check::common::file_is_there;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

fn velero() -> String {
    "velero".into()
}

in_cluster! {
    /// `velero.restore`: restores the newest completed Backup of a schedule, or the one that is named,
    /// once for each run. Done when Velero says `Completed`; `PartiallyFailed` and `Failed` fail the
    /// step, with the counts of what went wrong. Needs `get` and `list` on `backups.velero.io`, and
    /// `get` and `create` on `restores.velero.io`.
    /// <https://velero.io/docs/main/api-types/restore/>
    pub struct VeleroRestore {
        /// The schedule whose newest completed Backup is taken. Or `backup`.
        #[serde(default)]
        pub schedule: Option<String>,
        /// The Backup.
        #[serde(default)]
        pub backup: Option<String>,
        /// The namespace that Velero runs in (default `velero`).
        #[serde(default = "velero")]
        pub namespace: String,
        /// The namespaces to restore (default: all of the Backup).
        #[serde(default)]
        pub include_namespaces: Vec<String>,
    }
}

impl Parameters for VeleroRestore {
    fn makes(&self) -> bool {
        true
    }

    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        let from = match (&self.backup, &self.schedule) {
            (Some(backup), _) => format!("Backup {backup}"),
            (None, schedule) => format!("the newest Backup of {}", schedule.as_deref().unwrap_or_default()),
        };
        let into = self.context.as_ref().map(|context| format!(" in {context}")).unwrap_or_default();
        format!("restore of {from}{into}")
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(600)
    }

    fn outputs(&self) -> &'static [Output] {
        &[
            Output { name: "backup", meaning: "the Backup that was restored", sample: "daily-20260101030000" },
            Output { name: "restore", meaning: "the Restore's name", sample: "failoverd-0123456789" },
        ]
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        if self.schedule.is_some() == self.backup.is_some() {
            report.error(
                "not_exactly_one",
                at,
                "exactly one of `schedule` and `backup` has to be there",
                "write schedule = \"daily\" or backup = \"daily-20260101030000\"",
            );
        }
        for (key, text) in [("schedule", &self.schedule), ("backup", &self.backup)] {
            if text.as_ref().is_some_and(|text| !is_name(text)) {
                name(report, &at.key(key), key, text.as_deref().unwrap_or_default());
            }
        }
        name(report, &at.key("namespace"), "namespace", &self.namespace);
        for (index, namespace) in self.include_namespaces.iter().enumerate() {
            name(report, &at.key("include_namespaces").index(index), "namespace", namespace);
        }
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}
