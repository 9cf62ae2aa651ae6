//! What looks only, until it is as it should be.

use serde_json::Value;

use super::{in_cluster, name, one_of, placed, selector};
use crate::config::action::Parameters;
use crate::config::check::common::{at_least_one, file_is_there};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

in_cluster! {
    /// `kubernetes.wait`: waits until an object has a condition, or a value at a place. Changes
    /// nothing; an object that is not there yet is waited for. Needs `get` on its resource.
    /// <https://kubernetes.io/docs/reference/kubectl/generated/kubectl_wait/>
    pub struct KubernetesWait {
        /// `kind/name`: `deployment/api`, `node/n1`, `certificate/shop`.
        pub resource: String,
        /// The namespace, where the kind has namespaces.
        #[serde(default)]
        pub namespace: Option<String>,
        /// The kind's `apiVersion`, for example `cert-manager.io/v1` (default: known for the kinds
        /// of Kubernetes itself).
        #[serde(default)]
        pub api_version: Option<String>,
        /// The condition, `Available` or `Ready=False`. Or `pointer` with `equals`.
        #[serde(default)]
        pub condition: Option<String>,
        /// A JSON pointer into the object: `/status/phase`.
        #[serde(default)]
        pub pointer: Option<String>,
        /// The value that stands at `pointer` once it is done.
        #[serde(default)]
        pub equals: Option<Value>,
    }
}

impl Parameters for KubernetesWait {
    fn effect(&self) -> EffectKind {
        EffectKind::Verify
    }

    fn target(&self) -> String {
        let place = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let (condition, pointer) = (self.condition.as_deref(), self.pointer.as_deref());
        let until = condition.or(pointer).unwrap_or_default();
        format!("{place}{}{}: {until}", self.resource, self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(30)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        let parts: Vec<&str> = self.resource.split('/').collect();
        if !matches!(parts[..], [kind, name] if !kind.is_empty() && !name.is_empty()) {
            report.error(
                "bad_resource",
                &at.key("resource"),
                format!("{:?} does not name an object", self.resource),
                "write `kind/name`, for example `deployment/api`",
            );
        }
        one_of(report, at, &[("condition", self.condition.is_some()), ("pointer", self.pointer.is_some())]);
        if self.pointer.is_some() != self.equals.is_some() {
            report.error("missing_key", at, "`pointer` and `equals` go together", "add the other one");
        }
        if self.pointer.as_ref().is_some_and(|pointer| !pointer.starts_with('/')) {
            report.error("bad_pointer", &at.key("pointer"), "a JSON pointer begins with `/`", "write `/status/phase`");
        }
        if let Some(namespace) = &self.namespace {
            name(report, &at.key("namespace"), "namespace", namespace);
        }
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.pods_ready`: waits until every pod of a namespace is Running and Ready. Pods that
    /// have succeeded and pods on their way out are left out; too few pods is not done. Changes
    /// nothing. Needs `list` on `pods`.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>
    pub struct KubernetesPodsReady {
        /// The namespace.
        pub namespace: String,
        /// Labels of those that count: `app=api` (default: all).
        #[serde(default)]
        pub selector: Option<String>,
        /// How many there have to be at least (default 1).
        #[serde(default)]
        pub at_least: Option<u32>,
    }
}

impl Parameters for KubernetesPodsReady {
    fn effect(&self) -> EffectKind {
        EffectKind::Verify
    }

    fn target(&self) -> String {
        let labels = self.selector.as_ref().map(|selector| format!(" with {selector}")).unwrap_or_default();
        format!("the pods of {}{labels}{}", self.namespace, self.cluster().shown())
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(30)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        name(report, &at.key("namespace"), "namespace", &self.namespace);
        selector(report, &at.key("selector"), self.selector.as_deref());
        at_least_one(report, &at.key("at_least"), self.at_least);
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}

in_cluster! {
    /// `kubernetes.endpoints_ready`: waits until a Service has a ready endpoint, or all Services of a
    /// namespace that select pods. No Service at all is not done. Changes nothing. Needs `get` and
    /// `list` on `endpoints`, and `list` on `services`.
    /// <https://kubernetes.io/docs/concepts/services-networking/service/>
    pub struct KubernetesEndpointsReady {
        /// `namespace/name` of one Service. Or `namespace`.
        #[serde(default)]
        pub service: Option<String>,
        /// All Services of a namespace.
        #[serde(default)]
        pub namespace: Option<String>,
    }
}

impl Parameters for KubernetesEndpointsReady {
    fn effect(&self) -> EffectKind {
        EffectKind::Verify
    }

    fn target(&self) -> String {
        let cluster = self.cluster().shown();
        match (&self.service, &self.namespace) {
            (Some(service), _) => format!("endpoints of Service {service}{cluster}"),
            (None, namespace) => format!("endpoints of {}{cluster}", namespace.as_deref().unwrap_or_default()),
        }
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(30)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        one_of(report, at, &[("service", self.service.is_some()), ("namespace", self.namespace.is_some())]);
        if let Some(service) = &self.service {
            placed(report, &at.key("service"), "bad_service", "Service", service);
        }
        if let Some(namespace) = &self.namespace {
            name(report, &at.key("namespace"), "namespace", namespace);
        }
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}
