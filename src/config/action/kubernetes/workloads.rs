//! What changes a Deployment.

use std::collections::BTreeMap;

use super::{in_cluster, looks_secret, name, one_of, placed, selector};
use crate::config::action::Parameters;
use crate::config::check::common::{at_least_one, file_is_there};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

fn yes() -> bool {
    true
}

in_cluster! {
    /// `kubernetes.scale`: done when so many replicas are ready; with `exact` also when no more than
    /// these are left, so that `replicas = 0` stops an application. Needs `get` and `patch` on
    /// `deployments.apps`.
    /// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/>
    pub struct KubernetesScale {
        /// `namespace/name`.
        pub deployment: String,
        /// How many.
        pub replicas: u32,
        /// Not more either (default: more than that is left alone, since somebody may have had a
        /// reason for it).
        #[serde(default)]
        pub exact: bool,
    }
}

impl Parameters for KubernetesScale {
    fn effect(&self) -> EffectKind {
        EffectKind::Scale
    }

    fn target(&self) -> String {
        format!("Deployment {}{} to {} replicas", self.deployment, self.cluster().shown(), self.replicas)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(60)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        placed(report, &at.key("deployment"), "bad_deployment", "Deployment", &self.deployment);
        if self.replicas == 0 && !self.exact {
            report.warn(
                "nothing_to_do",
                &at.key("replicas"),
                "more than 0 replicas are left alone, so this does nothing",
                "write how many are needed to serve, or add `exact = true` to stop it",
            );
        }
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.set_env`: sets and removes environment variables of one container of a
    /// Deployment. Done when the Deployment's template has them and its rollout has finished. Other
    /// variables are left alone; a variable that came from a Secret or ConfigMap gets the plain
    /// value. Secrets do not belong here, since everybody who may see a Deployment sees them: use
    /// `kubernetes.secret`. Needs `get` and `patch` on `deployments.apps`.
    /// <https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/>
    pub struct KubernetesSetEnv {
        /// `namespace/name`.
        pub deployment: String,
        /// The container (default: the only one).
        #[serde(default)]
        pub container: Option<String>,
        /// The variables and their values.
        #[serde(default)]
        pub env: BTreeMap<String, String>,
        /// The variables to remove.
        #[serde(default)]
        pub unset: Vec<String>,
        /// Wait until the rollout has finished (default: true)?
        #[serde(default = "yes")]
        pub wait: bool,
    }
}

impl Parameters for KubernetesSetEnv {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    /// The names alone: a value may be one that its owner does not want to see everywhere.
    fn target(&self) -> String {
        let set = self.env.keys().map(String::as_str);
        let unset = self.unset.iter().map(|name| format!("-{name}"));
        let names: Vec<_> = set.map(str::to_owned).chain(unset).collect();
        format!("environment of Deployment {}{}: {}", self.deployment, self.cluster().shown(), names.join(", "))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(if self.wait { 60 } else { 2 })
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        placed(report, &at.key("deployment"), "bad_deployment", "Deployment", &self.deployment);
        if self.env.is_empty() && self.unset.is_empty() {
            report.error(
                "nothing_to_do",
                at,
                "neither `env` nor `unset` names a variable",
                "write env = { NAME = \"value\" }",
            );
        }
        for (index, variable) in self.unset.iter().enumerate() {
            if self.env.contains_key(variable) {
                report.error(
                    "set_and_unset",
                    &at.key("unset").index(index),
                    format!("`{variable}` is both set and removed"),
                    "leave it out of one of them",
                );
            }
        }
        for variable in self.env.keys() {
            let at = at.key("env").key(variable);
            if variable.is_empty() || variable.contains(['=', '\0']) {
                report.error("bad_variable", &at, format!("{variable:?} does not name a variable"), "leave `=` out");
            }
            if looks_secret(variable) {
                report.error_in_secret(
                    "plain_secret",
                    &at,
                    format!("`{variable}` looks like a secret, and whoever may see the Deployment would see it"),
                    "write it into a Secret with `kubernetes.secret`, refer to that in the Deployment, and restart it",
                );
            }
        }
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.rollout_restart`: replaces the pods of one or several Deployments, as `kubectl
    /// rollout restart` does. Done when every rollout has finished. The mark in the pods' template
    /// is made of the run and the step, so that a crash does not restart twice. Nothing found is an
    /// error. Needs `get`, `list` and `patch` on `deployments.apps`.
    /// <https://kubernetes.io/docs/reference/kubectl/generated/kubectl_rollout/kubectl_rollout_restart/>
    pub struct KubernetesRolloutRestart {
        /// `namespace/name` of one Deployment. Or `deployments`, or `namespace`.
        #[serde(default)]
        pub deployment: Option<String>,
        /// Several of them.
        #[serde(default)]
        pub deployments: Vec<String>,
        /// All Deployments of a namespace, or with `selector` some of them.
        #[serde(default)]
        pub namespace: Option<String>,
        /// Labels, with `namespace`: `app=api,tier!=batch`.
        #[serde(default)]
        pub selector: Option<String>,
        /// Wait until the rollouts have finished (default: true)?
        #[serde(default = "yes")]
        pub wait: bool,
    }
}

in_cluster! {
    /// `kubernetes.rollout_status`: waits until the rollout of one or several Deployments has
    /// finished. Changes nothing. Nothing found is not finished. Needs `get` and `list` on
    /// `deployments.apps`.
    /// <https://kubernetes.io/docs/reference/kubectl/generated/kubectl_rollout/kubectl_rollout_status/>
    pub struct KubernetesRolloutStatus {
        /// `namespace/name` of one Deployment. Or `deployments`, or `namespace`.
        #[serde(default)]
        pub deployment: Option<String>,
        /// Several of them.
        #[serde(default)]
        pub deployments: Vec<String>,
        /// All Deployments of a namespace, or with `selector` some of them.
        #[serde(default)]
        pub namespace: Option<String>,
        /// Labels, with `namespace`: `app=api,tier!=batch`.
        #[serde(default)]
        pub selector: Option<String>,
    }
}

/// Which Deployments are meant, for people.
fn shown(
    deployment: Option<&String>,
    deployments: &[String],
    namespace: Option<&String>,
    selector: Option<&String>,
) -> String {
    match (deployment, namespace) {
        (Some(one), _) => format!("Deployment {one}"),
        (None, Some(namespace)) => {
            let labels = selector.map(|selector| format!(" with {selector}")).unwrap_or_default();
            format!("all Deployments of {namespace}{labels}")
        }
        (None, None) => format!("Deployments {}", deployments.join(", ")),
    }
}

fn check_several(
    report: &mut Report<'_>,
    at: &Path,
    deployment: Option<&String>,
    deployments: &[String],
    namespace: Option<&String>,
    labels: Option<&String>,
) {
    one_of(
        report,
        at,
        &[
            ("deployment", deployment.is_some()),
            ("deployments", !deployments.is_empty()),
            ("namespace", namespace.is_some()),
        ],
    );
    if let Some(one) = deployment {
        placed(report, &at.key("deployment"), "bad_deployment", "Deployment", one);
    }
    for (index, one) in deployments.iter().enumerate() {
        placed(report, &at.key("deployments").index(index), "bad_deployment", "Deployment", one);
    }
    if let Some(namespace) = namespace {
        name(report, &at.key("namespace"), "namespace", namespace);
    }
    selector(report, &at.key("selector"), labels.map(String::as_str));
    if labels.is_some() && namespace.is_none() {
        report.error("missing_key", &at.key("selector"), "`selector` goes with `namespace`", "add `namespace`");
    }
}

impl Parameters for KubernetesRolloutRestart {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        let which = shown(self.deployment.as_ref(), &self.deployments, self.namespace.as_ref(), self.selector.as_ref());
        format!("restart of {which}{}", self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(if self.wait { 90 } else { 5 })
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        let (deployment, namespace) = (self.deployment.as_ref(), self.namespace.as_ref());
        check_several(report, at, deployment, &self.deployments, namespace, self.selector.as_ref());
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

impl Parameters for KubernetesRolloutStatus {
    fn effect(&self) -> EffectKind {
        EffectKind::Verify
    }

    fn target(&self) -> String {
        let which = shown(self.deployment.as_ref(), &self.deployments, self.namespace.as_ref(), self.selector.as_ref());
        format!("rollout of {which}{}", self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(60)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        let (deployment, namespace) = (self.deployment.as_ref(), self.namespace.as_ref());
        check_several(report, at, deployment, &self.deployments, namespace, self.selector.as_ref());
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.rollout_undo`: brings a Deployment's pods back to the revision before the present
    /// one, or to `to_revision`. Done when that rollout has finished. A mark of the run and the step
    /// is written in the same change, so that a crash does not go back twice. Needs `get` and `patch`
    /// on `deployments.apps`, and `list` on `replicasets.apps`.
    /// <https://kubernetes.io/docs/reference/kubectl/generated/kubectl_rollout/kubectl_rollout_undo/>
    pub struct KubernetesRolloutUndo {
        /// `namespace/name`.
        pub deployment: String,
        /// The revision to go back to, as `kubectl rollout history` numbers them (default: the one
        /// before the present one).
        #[serde(default)]
        pub to_revision: Option<u32>,
        /// Wait until the rollout has finished (default: true)?
        #[serde(default = "yes")]
        pub wait: bool,
    }
}

impl Parameters for KubernetesRolloutUndo {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        let to =
            self.to_revision.map_or_else(|| "the revision before".to_owned(), |number| format!("revision {number}"));
        format!("Deployment {}{} back to {to}", self.deployment, self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(if self.wait { 60 } else { 2 })
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        placed(report, &at.key("deployment"), "bad_deployment", "Deployment", &self.deployment);
        at_least_one(report, &at.key("to_revision"), self.to_revision);
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}
