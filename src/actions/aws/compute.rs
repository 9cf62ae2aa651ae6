//! `autoscaling.set_desired`, `ecs.update_service` and `eks.wait_cluster`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_autoscaling::types::{AutoScalingGroup, LifecycleState};
use aws_sdk_ecs::types::{DeploymentRolloutState, Service};
use aws_sdk_eks::types::{Cluster, ClusterStatus};
use serde_json::Value;

use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Api, Clients, Failure, aws};
use crate::config::action::{AutoscalingSetDesired, EcsUpdateService, EksWaitCluster};
use crate::model::{Applied, Observed, Outputs, Verified};
use crate::ports::{Action, ActionContext, Denied};

async fn client(clients: &Clients, region: &str, until: Instant) -> Result<Arc<aws::Region>, Failure> {
    let client = clients.aws(region, until).await?;
    clients.pace(Api::Aws, until).await?;
    Ok(client)
}

/// Sets how many instances an Auto Scaling group has.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetDesiredCapacity.html>
pub struct SetDesired {
    params: AutoscalingSetDesired,
    desired: i32,
    clients: Arc<Clients>,
}

impl SetDesired {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where no group can be so big.
    pub fn new(params: AutoscalingSetDesired, clients: Arc<Clients>) -> Result<Self, String> {
        let desired =
            i32::try_from(params.desired).map_err(|_| format!("no group has {} instances", params.desired))?;
        Ok(Self { params, desired, clients })
    }

    async fn look(&self, until: Instant) -> Result<AutoScalingGroup, Failure> {
        let AutoscalingSetDesired { region, group, .. } = &self.params;
        let client = client(&self.clients, region, until).await?;
        let request = client.autoscaling().describe_auto_scaling_groups().auto_scaling_group_names(group);
        let answer = aws::call("autoscaling DescribeAutoScalingGroups", until, request.send()).await?;
        let found = answer.auto_scaling_groups.unwrap_or_default().into_iter().next();
        // A name that is not there is an empty list, and not an error.
        let found =
            found.ok_or_else(|| Failure::refused(format!("there is no Auto Scaling group {group} in {region}")))?;
        match found.status() {
            Some(status) => Err(Failure::refused(format!("{group}: {status}"))),
            None => Ok(found),
        }
    }

    /// Sets it to `desired`, which is within the group's limits.
    async fn set(&self, context: &ActionContext, desired: i32, until: Instant) -> Result<Applied, Denied> {
        let client = match client(&self.clients, &self.params.region, until).await {
            Ok(client) => client,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = client
            .autoscaling()
            .set_desired_capacity()
            .auto_scaling_group_name(&self.params.group)
            .desired_capacity(desired)
            .honor_cooldown(false);
        context.permit()?;
        Ok(match aws::call("autoscaling SetDesiredCapacity", until, request.send()).await {
            Ok(_) => Applied::Accepted { evidence: format!("{} shall have {desired} instances", self.params.group) },
            Err(failure) => failure.applied(),
        })
    }
}

fn in_service(found: &AutoScalingGroup) -> usize {
    let well = |health: Option<&str>| health.is_some_and(|health| health.eq_ignore_ascii_case("healthy"));
    let serving = found.instances().iter().filter(|instance| {
        instance.lifecycle_state() == Some(&LifecycleState::InService) && well(instance.health_status())
    });
    serving.count()
}

#[async_trait]
impl Action for SetDesired {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.autoscaling();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let found = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.observed(),
        };
        let (group, now) = (&self.params.group, found.desired_capacity().unwrap_or(-1));
        let (min, max) = (found.min_size().unwrap_or(0), found.max_size().unwrap_or(i32::MAX));
        if now == self.desired {
            return Observed::Done { evidence: format!("{group} wants {now} instances") };
        }
        if !(min..=max).contains(&self.desired) {
            return Observed::Impossible {
                reason: format!(
                    "{group} may have {min} to {max} instances, and not {}: change its limits",
                    self.desired
                ),
            };
        }
        Observed::NotDone {
            evidence: format!("{group} wants {now} instances"),
            before: serde_json::json!({ "desired": now }),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        self.set(context, self.desired, until(context, CHANGE)).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let found = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.verified(),
        };
        let (wanted, serving) = (found.desired_capacity().unwrap_or(-1), in_service(&found));
        let evidence = format!("{} wants {wanted} instances, and {serving} are in service", self.params.group);
        if wanted == self.desired && usize::try_from(wanted).is_ok_and(|wanted| serving == wanted) {
            Verified::yes(evidence)
        } else {
            Verified::NotYet { evidence }
        }
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let Some(desired) = before.get("desired").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()) else {
            return Ok(Failure::refused("it is not known how many instances were wanted before").not_sent());
        };
        let until = until(context, CHANGE);
        let now = match self.look(until).await {
            Ok(found) => found.desired_capacity().unwrap_or(-1),
            Err(failure) => return Ok(failure.not_sent()),
        };
        if now == desired {
            return Ok(Applied::Accepted { evidence: format!("{desired} instances, as before") });
        }
        if now != self.desired {
            let reason = format!("somebody else has set it to {now} instances; it is left alone");
            return Ok(Failure::refused(reason).not_sent());
        }
        self.set(context, desired, until).await
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Sets how many tasks an ECS service has, or deploys it anew.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>
pub struct UpdateService {
    params: EcsUpdateService,
    desired: Option<i32>,
    clients: Arc<Clients>,
}

impl UpdateService {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where nothing is to be changed, or no service can be so big.
    pub fn new(params: EcsUpdateService, clients: Arc<Clients>) -> Result<Self, String> {
        if params.desired_count.is_none() && !params.force_new_deployment {
            return Err("this changes nothing: write `desired_count` or `force_new_deployment = true`".into());
        }
        let desired = params.desired_count.map(i32::try_from).transpose().map_err(|error| error.to_string())?;
        Ok(Self { params, desired, clients })
    }

    async fn look(&self, until: Instant) -> Result<Service, Failure> {
        let EcsUpdateService { region, cluster, service, .. } = &self.params;
        let client = client(&self.clients, region, until).await?;
        let request = client.ecs().describe_services().cluster(cluster).services(service);
        let answer = aws::call("ecs DescribeServices", until, request.send()).await?;
        let missing = answer.failures().first().and_then(|failure| failure.reason().map(str::to_owned));
        let Some(found) = answer.services.unwrap_or_default().into_iter().next() else {
            let why = missing.unwrap_or_else(|| "an empty list".to_owned());
            return Err(Failure::refused(format!("there is no ECS service {service} in {cluster}: {why}")));
        };
        match found.status() {
            Some("ACTIVE") => Ok(found),
            other => Err(Failure::refused(format!("the ECS service {service} is {}", other.unwrap_or("unknown")))),
        }
    }

    async fn update(
        &self,
        context: &ActionContext,
        desired: Option<i32>,
        force: bool,
        until: Instant,
    ) -> Result<Applied, Denied> {
        let EcsUpdateService { region, cluster, service, .. } = &self.params;
        let client = match client(&self.clients, region, until).await {
            Ok(client) => client,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = client
            .ecs()
            .update_service()
            .cluster(cluster)
            .service(service)
            .set_desired_count(desired)
            .set_force_new_deployment(force.then_some(true));
        context.permit()?;
        Ok(match aws::call("ecs UpdateService", until, request.send()).await {
            Ok(_) => Applied::Accepted { evidence: format!("ECS took the change of {service}") },
            Err(failure) => failure.applied(),
        })
    }
}

/// How many tasks a service wants and has, for people.
fn tasks(found: &Service) -> String {
    format!("{} tasks wanted, {} running", found.desired_count(), found.running_count())
}

#[async_trait]
impl Action for UpdateService {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.ecs();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let found = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.observed(),
        };
        if self.params.force_new_deployment {
            return Observed::Unobservable;
        }
        let evidence = format!("{}: {}", self.params.service, tasks(&found));
        if self.desired == Some(found.desired_count()) {
            Observed::Done { evidence }
        } else {
            Observed::NotDone { evidence, before: serde_json::json!({ "desired": found.desired_count() }) }
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        self.update(context, self.desired, self.params.force_new_deployment, until(context, CHANGE)).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let found = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.verified(),
        };
        let deployments = found.deployments();
        let evidence = format!("{}: {}, {} deployments", self.params.service, tasks(&found), deployments.len());
        let newest = deployments.iter().find(|deployment| deployment.status() == Some("PRIMARY"));
        let rollout = newest.and_then(|deployment| deployment.rollout_state());
        if rollout == Some(&DeploymentRolloutState::Failed) {
            let why = newest.and_then(|deployment| deployment.rollout_state_reason()).unwrap_or("ECS does not say why");
            return Verified::Failed { reason: Failure::refused(format!("{evidence}: it failed: {why}")).reason };
        }
        // Services of another deployment controller have no rollout state.
        let rolled_out = rollout.is_none_or(|state| *state == DeploymentRolloutState::Completed);
        let counted = self.desired.is_none_or(|desired| desired == found.desired_count());
        if counted && rolled_out && deployments.len() <= 1 && found.running_count() == found.desired_count() {
            Verified::yes(evidence)
        } else {
            Verified::NotYet { evidence }
        }
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let Some(desired) = before.get("desired").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()) else {
            return Ok(Failure::refused("it is not known how many tasks were wanted before").not_sent());
        };
        let until = until(context, CHANGE);
        let now = match self.look(until).await {
            Ok(found) => found.desired_count(),
            Err(failure) => return Ok(failure.not_sent()),
        };
        if now == desired {
            return Ok(Applied::Accepted { evidence: format!("{desired} tasks, as before") });
        }
        if Some(now) != self.desired {
            let reason = format!("somebody else has set it to {now} tasks; it is left alone");
            return Ok(Failure::refused(reason).not_sent());
        }
        self.update(context, Some(desired), false, until).await
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Waits until an EKS cluster is active. Changes nothing.
/// <https://docs.aws.amazon.com/eks/latest/APIReference/API_DescribeCluster.html>
pub struct WaitCluster {
    params: EksWaitCluster,
    clients: Arc<Clients>,
}

impl WaitCluster {
    /// The action for these parameters.
    pub fn new(params: EksWaitCluster, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn look(&self, context: &ActionContext) -> Result<Cluster, Failure> {
        let until = until(context, LOOK);
        let client = client(&self.clients, &self.params.region, until).await?;
        let request = client.eks().describe_cluster().name(&self.params.cluster);
        let answer = aws::call("eks DescribeCluster", until, request.send()).await?;
        answer.cluster.ok_or_else(|| Failure::unknown("eks DescribeCluster: an answer without a cluster"))
    }

    fn told(&self, found: &Cluster) -> String {
        format!("{} is {}", self.params.cluster, found.status().map_or("unknown", ClusterStatus::as_str))
    }
}

/// Will a cluster in this state never be active by waiting?
fn is_lost(found: &Cluster) -> bool {
    matches!(found.status(), Some(ClusterStatus::Failed | ClusterStatus::Deleting))
}

#[async_trait]
impl Action for WaitCluster {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.eks();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.look(context).await {
            Ok(found) if is_lost(&found) => Observed::Impossible { reason: self.told(&found) },
            Ok(found) if found.status() == Some(&ClusterStatus::Active) => {
                Observed::Done { evidence: self.told(&found) }
            }
            Ok(found) => Observed::InProgress { evidence: self.told(&found) },
            Err(failure) => failure.observed(),
        }
    }

    /// Never reached: `observe` never says that something is to be done.
    async fn apply(&self, _context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        Ok(Applied::Refused { reason: "this only looks".into(), again: false })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(context).await {
            Ok(found) if is_lost(&found) => Verified::Failed { reason: self.told(&found) },
            Ok(found) if found.status() == Some(&ClusterStatus::Active) => {
                let endpoint = found.endpoint().unwrap_or_default().to_owned();
                let outputs = Outputs::from([("endpoint".to_owned(), endpoint)]);
                Verified::Yes { evidence: self.told(&found), outputs }
            }
            Ok(found) => Verified::NotYet { evidence: self.told(&found) },
            Err(failure) => failure.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(2)
    }
}
