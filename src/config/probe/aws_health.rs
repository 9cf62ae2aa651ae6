//! Events of AWS Health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, degraded};
use crate::config::check::common::aws_region;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::CauseKind;

/// What AWS itself tells of a region: an open event of the category `issue` of one of the services is
/// Degraded, with the cause `provider_event`. AWS tells late, and of much that does not concern you: it is
/// no ground for a failover by itself, and a good word beside others (`NAME is degraded`).
///
/// The API of AWS Health is in us-east-1 whatever region is asked for (cn-northwest-1 and us-gov-west-1 in
/// those partitions); it may be gone in the very outage that it would tell of, which is Unknown
/// (`control_plane`). Write an `interval` of a minute or longer, and a `timeout` of 5 s. Needs
/// `health:DescribeEvents`, and an account with Business Support or better: without, AWS denies it
/// (`local_permission`).
/// <https://docs.aws.amazon.com/health/latest/APIReference/API_DescribeEvents.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsHealthProbe {
    /// The region that is asked about.
    pub region: String,
    /// The services, as AWS Health names them, at most 10: `RDS`, `EC2`, `ELASTICACHE` (default: all).
    #[serde(default)]
    pub services: Vec<String>,
}

/// What it can see.
pub(super) const CAUSES: &[CauseRow] =
    &[degraded(CauseKind::ProviderEvent, "AWS tells of an open issue of one of the services in the region")];

impl AwsHealthProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        aws_region(report, &at.key("region"), &self.region);
        let services = at.key("services");
        // The API's own limits of a filter.
        if self.services.len() > 10 {
            report.error(
                "too_many",
                &services,
                format!("there are {} services, and AWS Health takes 10", self.services.len()),
                "leave some out, or write none at all for every service",
            );
        }
        for (place, service) in self.services.iter().enumerate() {
            let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "-_".contains(c);
            if !(2..=30).contains(&service.len()) || !service.chars().all(upper) {
                report.error(
                    "bad_service",
                    &services.index(place),
                    format!("{service:?} is not a service as AWS Health names it"),
                    format!("write it in capitals, for example {:?}", service.trim().to_uppercase()),
                );
            }
        }
    }
}
