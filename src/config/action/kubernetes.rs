//! Kubernetes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::config::check::common::file_is_there;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

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

/// `kubernetes.scale`: done when so many replicas are ready. Needs `get` and `patch` on
/// `deployments.apps`.
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesScale {
    /// The kubeconfig's path (default: `$KUBECONFIG`, then `~/.kube/config`, then in-cluster).
    #[serde(default)]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// The kubeconfig's context (default: its current one).
    #[serde(default)]
    pub context: Option<String>,
    /// `namespace/name`.
    pub deployment: String,
    /// How many. More than that is left alone.
    pub replicas: u32,
}

impl Parameters for KubernetesScale {
    fn effect(&self) -> EffectKind {
        EffectKind::Scale
    }

    fn target(&self) -> String {
        let context = self.context.as_ref().map(|context| format!(" in {context}")).unwrap_or_default();
        format!("Deployment {}{context} to {} replicas", self.deployment, self.replicas)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(60)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        kubernetes(report, at, self);
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
