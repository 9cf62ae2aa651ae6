//! Does AWS tell of an open issue in a region?

use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_health::types::{EventFilter, EventStatusCode, EventTypeCategory};

use super::Account;
use crate::clients::{Api, failure::one_line};
use crate::config::probe::AwsHealthProbe;
use crate::model::{Cause, CauseKind, Observation};
use crate::ports::Probe;
use crate::probes::classify::Fault;
use crate::probes::{ProbeContext, judged};

/// See [`AwsHealthProbe`].
pub struct AwsHealth {
    account: Account,
    filter: EventFilter,
}

impl AwsHealth {
    /// Calls nothing.
    pub fn new(config: &AwsHealthProbe, context: &ProbeContext) -> Self {
        let services = (!config.services.is_empty()).then(|| config.services.clone());
        let filter = EventFilter::builder()
            .regions(&config.region)
            .set_services(services)
            .event_type_categories(EventTypeCategory::Issue)
            .event_status_codes(EventStatusCode::Open)
            .build();
        Self { account: Account::new(context, endpoint_region(&config.region), Api::Aws), filter }
    }

    async fn look(&self) -> Result<Option<Cause>, Fault> {
        let until = self.account.until();
        let clients = self.account.clients(until).await?;
        let request = clients.health().describe_events().filter(self.filter.clone()).max_results(10);
        let answer = self.account.ask("health DescribeEvents", until, request.send()).await?;
        let open: Vec<String> = answer
            .events()
            .iter()
            .map(|event| {
                let code = one_line(event.event_type_code().unwrap_or("an event without a code"));
                let since = event.start_time().and_then(|time| jiff::Timestamp::from_second(time.secs()).ok());
                since.map(|since| format!("{code} since {since}")).unwrap_or(code)
            })
            .collect();
        Ok((!open.is_empty())
            .then(|| Cause::new(CauseKind::ProviderEvent, format!("AWS tells of {}", open.join(", ")))))
    }
}

/// Where the API of a partition is; it has no regional ones.
/// <https://docs.aws.amazon.com/general/latest/gr/health.html>
fn endpoint_region(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "cn-northwest-1"
    } else if region.starts_with("us-gov-") {
        "us-gov-west-1"
    } else {
        "us-east-1"
    }
}

#[async_trait]
impl Probe for AwsHealth {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        judged(self.look().await, started.elapsed())
    }
}
