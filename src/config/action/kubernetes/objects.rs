//! What changes objects other than a Deployment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{in_cluster, looks_secret, name, one_of, placed, selector};
use crate::config::action::{Output, Parameters};
use crate::config::check::common::file_is_there;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

in_cluster! {
    /// `kubernetes.secret`: writes keys of a Secret, and creates it where it is missing. Done when the
    /// Secret reads back so. Other keys are left alone; values are never shown. Pods read a Secret
    /// when they start: restart them afterwards. Needs `get`, `patch` and `create` on `secrets`.
    /// <https://kubernetes.io/docs/concepts/configuration/secret/>
    pub struct KubernetesSecret {
        /// `namespace/name`.
        pub secret: String,
        /// The keys and their values; by reference what is secret, plainly what is none (a host).
        pub data: BTreeMap<String, SecretText>,
    }
}

impl Parameters for KubernetesSecret {
    fn makes(&self) -> bool {
        true
    }

    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        let keys: Vec<_> = self.data.keys().map(String::as_str).collect();
        format!("Secret {}{}: {}", self.secret, self.cluster().shown(), keys.join(", "))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(2)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        placed(report, &at.key("secret"), "bad_secret", "Secret", &self.secret);
        if self.data.is_empty() {
            report.error("empty", &at.key("data"), "no key is written", "write data = { host = \"…\" }");
        }
        for (key, value) in &self.data {
            let at = at.key("data").key(key);
            if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
                report.error_at_key(
                    "bad_key",
                    &at,
                    format!("{key:?} is not the key of a Secret"),
                    "keys have letters, digits, `-`, `_` and `.`",
                );
            }
            let plain = matches!(value, SecretText::Plain(text) if looks_secret(key) || crate::config::redact::redact(text, &[]) != *text);
            if plain {
                report.error_in_secret(
                    "plain_secret",
                    &at,
                    format!("the secret `{key}` is written plainly into the configuration"),
                    "write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }; then change the secret: it was readable",
                );
            }
        }
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.apply`: applies rendered manifests, a file or all `.yaml`, `.yml` and `.json` files
    /// of a folder, by server-side apply with the field manager `failoverd`: namespaces and
    /// CustomResourceDefinitions first, then by the files' names. Done when applying them again would
    /// change nothing (asked of the server by dry runs). Nothing is deleted that the folder no longer
    /// has. A folder with a `kustomization.yaml` is refused: render it beforehand. At most 80 objects
    /// and 4 MiB. Needs `get` and `patch` on each of the resources, and `create` where they are missing.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
    pub struct KubernetesApply {
        /// The file or folder.
        pub path: PathBuf,
        /// The namespace of objects that name none (default: `default`).
        #[serde(default)]
        pub namespace: Option<String>,
        /// Take fields over that another manager holds (default: false, and the conflict is told)?
        #[serde(default)]
        pub force: bool,
    }
}

impl Parameters for KubernetesApply {
    fn makes(&self) -> bool {
        true
    }

    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        format!("the manifests of {}{}", self.path.display(), self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(30)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        if let Some(namespace) = &self.namespace {
            name(report, &at.key("namespace"), "namespace", namespace);
        }
        file_is_there(report, &at.key("path"), Some(&self.path));
        let rendered = ["kustomization.yaml", "kustomization.yml", "Kustomization"]
            .iter()
            .all(|name| !self.path.join(name).exists());
        if report.inspects() && !rendered {
            let folder = self.path.display();
            report.error(
                "not_rendered",
                &at.key("path"),
                format!("{folder} holds a kustomization, which is not rendered here"),
                format!("render it beforehand and name the result: kubectl kustomize {folder} > rendered.yaml"),
            );
        }
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.create_job`: creates a Job from a CronJob's template, once for each run, and waits
    /// until it has completed. A Job that fails fails the step. The Job stays until somebody deletes
    /// it, since it tells that it was done. Needs `get` on `cronjobs.batch`, and `get` and `create` on
    /// `jobs.batch`.
    /// <https://kubernetes.io/docs/concepts/workloads/controllers/job/>
    pub struct KubernetesCreateJob {
        /// `namespace/name` of the CronJob.
        pub cron_job: String,
    }
}

impl Parameters for KubernetesCreateJob {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        format!("a Job of CronJob {}{}", self.cron_job, self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(300)
    }

    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "job", meaning: "the Job's name", sample: "data-replay-0123456789" }]
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        placed(report, &at.key("cron_job"), "bad_cron_job", "CronJob", &self.cron_job);
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.cordon`: marks nodes so that no new pod is placed on them. Done when all of them
    /// are marked. Pods that run there stay. No node found is an error. Needs `get`, `list` and `patch`
    /// on `nodes`.
    /// <https://kubernetes.io/docs/concepts/nodes/node/#manual-node-administration>
    pub struct KubernetesCordon {
        /// The nodes' names. Or `selector`.
        #[serde(default)]
        pub nodes: Vec<String>,
        /// Labels: `topology.kubernetes.io/zone=us-east-1a`.
        #[serde(default)]
        pub selector: Option<String>,
    }
}

impl Parameters for KubernetesCordon {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        let which = self.selector.as_ref().map_or_else(|| self.nodes.join(", "), |labels| format!("with {labels}"));
        format!("nodes {which}{}", self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(2)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        one_of(report, at, &[("nodes", !self.nodes.is_empty()), ("selector", self.selector.is_some())]);
        for (index, node) in self.nodes.iter().enumerate() {
            name(report, &at.key("nodes").index(index), "node", node);
        }
        selector(report, &at.key("selector"), self.selector.as_deref());
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.delete_pods`: deletes the pods that stand when the step begins, and none of those
    /// that replace them. Done when they are gone. Which they are is written into a ConfigMap
    /// `failoverd-…` of the namespace first, so that a crash deletes no other; it may be deleted when
    /// the run is over. Disruption budgets are not asked. No pod found is an error. Needs `list` and
    /// `delete` on `pods`, and `get` and `create` on `configmaps`.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>
    pub struct KubernetesDeletePods {
        /// The namespace.
        pub namespace: String,
        /// Labels: `app=api`. An empty one is refused.
        pub selector: String,
    }
}

impl Parameters for KubernetesDeletePods {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        format!("the pods of {} with {}{}", self.namespace, self.selector, self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(40)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        name(report, &at.key("namespace"), "namespace", &self.namespace);
        selector(report, &at.key("selector"), Some(&self.selector));
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}
