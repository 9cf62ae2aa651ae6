//! A Kubernetes cluster.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, degraded, down, unknown};
use super::share;
use crate::config::action::KubernetesCluster;
use crate::config::action::kubernetes::{one_of, placed, selector};
use crate::config::check::common::{at_least_one, file_is_there, not_zero};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{CauseKind, HumanDuration};

/// A Kubernetes cluster: its API server (`readyz`), a Deployment, or its nodes; exactly one of them.
///
/// With `readyz` the API server is the target: it is Down where it does not answer, or says that it is
/// not ready. With `deployment` and `nodes_ready` it is only asked about the target: where it does not
/// answer that is Unknown (`control_plane`), since pods go on serving without it. What it tells then is
/// what the cluster's controllers wrote last.
///
/// Credentials plugins of the kubeconfig are run every 8 minutes, beside the attempts; a token has to
/// live for 15 minutes or longer, as those of EKS, GKE and AKS do. Needs no right for `readyz` where
/// anonymous users may ask for it, which is the default (the role `system:public-info-viewer`), else `get`
/// on that path; `get` on `deployments.apps`; `list` on `nodes`.
/// <https://kubernetes.io/docs/reference/using-api/health-checks/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesProbe {
    /// The kubeconfig's path (default: `$KUBECONFIG`, then `~/.kube/config`, then in-cluster).
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context (default: its current one).
    #[serde(default)]
    pub context: Option<String>,
    /// Ask the API server whether it is ready (default false).
    #[serde(default)]
    pub readyz: bool,
    /// `namespace/name` of a Deployment (default: none): Down where it is not Available, Degraded where
    /// fewer replicas are available than it asks for. One that is scaled to 0 is Up.
    #[serde(default)]
    pub deployment: Option<String>,
    /// How many nodes have to be Ready (default: none).
    #[serde(default)]
    pub nodes_ready: Option<NodesReady>,
    /// Only with `readyz`: a right answer that takes longer is Down, with the cause `slow` (default: none).
    #[serde(default)]
    pub max_latency: Option<HumanDuration>,
}

/// How many nodes have to be Ready; exactly one of `at_least` and `share`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodesReady {
    /// So many nodes (default: none).
    #[serde(default)]
    pub at_least: Option<u32>,
    /// This share of the nodes that there are, above 0 and at most 1, for example 0.8 (default: none).
    #[serde(default)]
    pub share: Option<f64>,
    /// Only the nodes with these labels, for example `topology.kubernetes.io/zone=us-east-1a` (default:
    /// all). At most 2000 nodes are looked at.
    #[serde(default)]
    pub selector: Option<String>,
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] = &[
    down(CauseKind::NotServing, "`readyz`: the API server says that it is not ready, or answers 5xx"),
    down(CauseKind::Slow, "`readyz`: the answer was right, and took longer than `max_latency`"),
    down(CauseKind::Unhealthy, "the Deployment is not Available, or too few nodes are Ready"),
    degraded(CauseKind::Unhealthy, "fewer replicas are available than the Deployment asks for"),
    down(CauseKind::NotFound, "there is no such Deployment, or no such node"),
    down(CauseKind::Tls, "`readyz`: the handshake or the certificate failed"),
    down(CauseKind::Protocol, "`readyz`: the answer is not an API server's"),
    unknown(CauseKind::QueryFailed, "the API server refuses the question"),
];

impl KubernetesProbe {
    /// The cluster that it looks at.
    pub fn cluster(&self) -> KubernetesCluster {
        KubernetesCluster { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }

    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>, timeout: HumanDuration) {
        one_of(
            report,
            at,
            &[
                ("readyz", self.readyz),
                ("deployment", self.deployment.is_some()),
                ("nodes_ready", self.nodes_ready.is_some()),
            ],
        );
        if let Some(deployment) = &self.deployment {
            placed(report, &at.key("deployment"), "bad_deployment", "Deployment", deployment);
        }
        if let Some(nodes) = &self.nodes_ready {
            let at = at.key("nodes_ready");
            one_of(report, &at, &[("at_least", nodes.at_least.is_some()), ("share", nodes.share.is_some())]);
            at_least_one(report, &at.key("at_least"), nodes.at_least);
            share(report, &at.key("share"), nodes.share);
            selector(report, &at.key("selector"), nodes.selector.as_deref());
        }
        let at_latency = at.key("max_latency");
        not_zero(report, &at_latency, self.max_latency);
        match self.max_latency {
            Some(_) if !self.readyz => {
                report.error(
                    "only_readyz",
                    &at_latency,
                    "how long the API server takes says nothing of a Deployment or a node",
                    "leave it out, or make a probe of its own with `readyz = true`",
                );
            }
            Some(latency) if latency >= timeout => {
                report.warn(
                    "never_slow",
                    &at_latency,
                    format!("an answer that takes {latency} has already run into the timeout of {timeout}"),
                    "write a `max_latency` that is shorter than `timeout`",
                );
            }
            _ => {}
        }
        file_is_there(report, &at.key("kubeconfig"), self.kubeconfig.as_deref());
    }
}
