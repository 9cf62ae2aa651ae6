//! Kubernetes.

mod objects;
mod waits;
mod workloads;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use objects::{KubernetesApply, KubernetesCordon, KubernetesCreateJob, KubernetesDeletePods, KubernetesSecret};
pub use waits::{KubernetesEndpointsReady, KubernetesPodsReady, KubernetesWait};
pub use workloads::{
    KubernetesRolloutRestart, KubernetesRolloutStatus, KubernetesRolloutUndo, KubernetesScale, KubernetesSetEnv,
};

use crate::config::path::Path;
use crate::config::redact::is_secret_key;
use crate::config::report::Report;

/// Which cluster, and with whose rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesCluster {
    /// The kubeconfig's path (default: `$KUBECONFIG`, then `~/.kube/config`, then in-cluster).
    #[serde(default)]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// The kubeconfig's context (default: its current one).
    #[serde(default)]
    pub context: Option<String>,
}

impl KubernetesCluster {
    /// ` in CONTEXT` where one is named, for the line that people read.
    fn shown(&self) -> String {
        self.context.as_ref().map(|context| format!(" in {context}")).unwrap_or_default()
    }
}

/// Parameters that name a cluster: the two keys that all of them share, and their own.
macro_rules! in_cluster {
    (
        $(#[$about:meta])*
        pub struct $name:ident { $( $(#[$meaning:meta])* pub $field:ident: $type:ty, )* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The kubeconfig's path (default: `$KUBECONFIG`, then `~/.kube/config`, then in-cluster).
            #[serde(default)]
            pub kubeconfig: Option<std::path::PathBuf>,
            /// The kubeconfig's context (default: its current one).
            #[serde(default)]
            pub context: Option<String>,
            $( $(#[$meaning])* pub $field: $type, )*
        }

        impl $name {
            /// The cluster that it works on.
            pub fn cluster(&self) -> $crate::config::action::KubernetesCluster {
                $crate::config::action::KubernetesCluster {
                    kubeconfig: self.kubeconfig.clone(),
                    context: self.context.clone(),
                }
            }
        }
    };
}
pub(super) use in_cluster;

/// Is it a name that Kubernetes takes (RFC 1123)?
pub(in crate::config) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
}

/// A namespace or another name that stands alone.
pub(in crate::config) fn name(report: &mut Report<'_>, at: &Path, what: &str, text: &str) {
    if !is_name(text) {
        report.error(
            "bad_name",
            at,
            format!("{text:?} does not name a {what}"),
            "names have lower-case letters, digits, `-` and `.`",
        );
    }
}

/// `namespace/name`.
pub(in crate::config) fn placed(report: &mut Report<'_>, at: &Path, code: &'static str, what: &str, text: &str) {
    let well = text.split_once('/').is_some_and(|(namespace, name)| is_name(namespace) && is_name(name));
    if !well {
        report.error(
            code,
            at,
            format!("{text:?} does not name a {what}"),
            format!("write `namespace/name`, for example `default/{}`", text.rsplit('/').next().unwrap_or("api")),
        );
    }
}

/// A label selector; one without a word in it would mean everything.
pub(in crate::config) fn selector(report: &mut Report<'_>, at: &Path, selector: Option<&str>) {
    if selector.is_some_and(|selector| selector.trim().is_empty()) {
        report.error(
            "empty_selector",
            at,
            "an empty selector means everything",
            "write the labels, for example `app=api`, or leave the key out where everything is meant",
        );
    }
}

/// Exactly one of the keys is to be there.
pub(in crate::config) fn one_of(report: &mut Report<'_>, at: &Path, keys: &[(&str, bool)]) {
    if keys.iter().filter(|(_, there)| *there).count() != 1 {
        let names: Vec<_> = keys.iter().map(|(name, _)| format!("`{name}`")).collect();
        let place = keys.iter().rfind(|(_, there)| *there).map_or_else(|| at.clone(), |(name, _)| at.key(name));
        report.error(
            "not_exactly_one",
            &place,
            format!("exactly one of {} has to be there", names.join(", ")),
            "add the one that is missing, or take out what is too much",
        );
    }
}

/// Does a variable or key of this name hold a secret? `DB_PASSWORD` does as `PASSWORD` does.
fn looks_secret(name: &str) -> bool {
    let ends = name.match_indices(['_', '-', '.']).map(|(place, separator)| &name[place + separator.len()..]);
    std::iter::once(name).chain(ends).any(is_secret_key)
}
