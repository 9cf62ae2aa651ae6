//! Amazon EC2 Auto Scaling, ECS and EKS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Output, Parameters};
use crate::config::check::common::{aws_region, not_empty};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration, Repeat};

/// `autoscaling.set_desired`: sets how many instances an Auto Scaling group has. Done when the group
/// wants so many and so many are healthy and in service. The group's own limits stay: what is beyond
/// them is refused. Undone by setting what was wanted before. Needs
/// `autoscaling:DescribeAutoScalingGroups` and `autoscaling:SetDesiredCapacity`.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetDesiredCapacity.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoscalingSetDesired {
    /// The region of the group.
    pub region: String,
    /// The group's name.
    pub group: String,
    /// How many instances it shall have.
    pub desired: u32,
}

impl Parameters for AutoscalingSetDesired {
    fn effect(&self) -> EffectKind {
        EffectKind::Scale
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("Auto Scaling group {} in {} to {} instances", self.group, self.region, self.desired)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(180)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("group"), &self.group);
    }
}

/// `ecs.update_service`: sets how many tasks a service has, deploys it anew, or both. Done when it
/// wants so many tasks, so many run, and its only deployment is completed. A new deployment leaves no
/// trace that says who asked for it: after an unknown outcome it is asked for again, which is
/// harmless. The number of tasks alone is undone by setting what was wanted before. Needs
/// `ecs:DescribeServices` and `ecs:UpdateService`.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EcsUpdateService {
    /// The region of the service.
    pub region: String,
    /// The cluster's name or ARN.
    pub cluster: String,
    /// The service's name or ARN.
    pub service: String,
    /// How many tasks it shall have (default: as many as now).
    #[serde(default)]
    pub desired_count: Option<u32>,
    /// Start new tasks also where nothing else changes (default false).
    #[serde(default)]
    pub force_new_deployment: bool,
}

impl Parameters for EcsUpdateService {
    fn effect(&self) -> EffectKind {
        EffectKind::Scale
    }

    fn repeat(&self) -> Repeat {
        if self.force_new_deployment { Repeat::AtLeastOnce } else { Repeat::ByObservation }
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        let count = self.desired_count.map(|count| format!(" to {count} tasks")).unwrap_or_default();
        let anew = if self.force_new_deployment { ", deployed anew" } else { "" };
        format!("ECS service {} of {} in {}{count}{anew}", self.service, self.cluster, self.region)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(180)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("cluster"), &self.cluster);
        not_empty(report, &at.key("service"), &self.service);
        if self.desired_count.is_none() && !self.force_new_deployment {
            report.error(
                "changes_nothing",
                at,
                "this changes nothing",
                "write `desired_count`, `force_new_deployment = true`, or both",
            );
        }
    }
}

/// `eks.wait_cluster`: waits until an EKS cluster is `ACTIVE`, until the step's timeout. Changes
/// nothing. Needs `eks:DescribeCluster`.
/// <https://docs.aws.amazon.com/eks/latest/APIReference/API_DescribeCluster.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EksWaitCluster {
    /// The region of the cluster.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
}

impl EksWaitCluster {
    /// What it hands on.
    pub const OUTPUTS: &'static [Output] =
        &[Output { name: "endpoint", meaning: "the URL of its API server", sample: "https://endpoint.sample.example" }];
}

impl Parameters for EksWaitCluster {
    fn effect(&self) -> EffectKind {
        EffectKind::Verify
    }

    fn region(&self) -> Option<String> {
        Some(self.region.clone())
    }

    fn target(&self) -> String {
        format!("EKS cluster {} in {}", self.cluster, self.region)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(600)
    }

    fn outputs(&self) -> &'static [Output] {
        Self::OUTPUTS
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        not_empty(report, &at.key("cluster"), &self.cluster);
    }
}
