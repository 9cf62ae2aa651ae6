//! `elasticache.reboot`, `elasticache.failover` and `elasticache.failover_global`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_elasticache::types::{AutomaticFailoverStatus, CacheCluster, GlobalReplicationGroup, ReplicationGroup};
use serde_json::Value;

use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Api, Clients, Failure, aws};
use crate::config::action::{ElasticacheFailover, ElasticacheFailoverGlobal, ElasticacheReboot};
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

async fn client(clients: &Clients, region: &str, until: Instant) -> Result<Arc<aws::Region>, Failure> {
    let client = clients.aws(region, until).await?;
    clients.pace(Api::Aws, until).await?;
    Ok(client)
}

/// Reboots nodes of a cache cluster.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_RebootCacheCluster.html>
pub struct Reboot {
    params: ElasticacheReboot,
    clients: Arc<Clients>,
}

impl Reboot {
    /// The action for these parameters.
    pub fn new(params: ElasticacheReboot, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn look(&self, until: Instant) -> Result<CacheCluster, Failure> {
        let client = client(&self.clients, &self.params.region, until).await?;
        let request = client
            .elasticache()
            .describe_cache_clusters()
            .cache_cluster_id(&self.params.cluster)
            .show_cache_node_info(true);
        let answer = aws::call("elasticache DescribeCacheClusters", until, request.send()).await?;
        let found = answer.cache_clusters.unwrap_or_default().into_iter().next();
        found.ok_or_else(|| {
            Failure::unknown(format!("elasticache DescribeCacheClusters: an empty list for {}", self.params.cluster))
        })
    }

    fn nodes(&self, found: &CacheCluster) -> Vec<String> {
        if !self.params.nodes.is_empty() {
            return self.params.nodes.clone();
        }
        found.cache_nodes().iter().filter_map(|node| node.cache_node_id().map(str::to_owned)).collect()
    }
}

fn cluster_status(found: &CacheCluster) -> &str {
    found.cache_cluster_status().unwrap_or("unknown")
}

fn gone(status: &str) -> bool {
    matches!(status, "deleting" | "deleted" | "incompatible-network" | "restore-failed" | "create-failed")
}

#[async_trait]
impl Action for Reboot {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.elasticache();
        }
    }

    /// A reboot that is over cannot be told from none; one that goes on can.
    async fn observe(&self, context: &ActionContext) -> Observed {
        let found = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.observed(),
        };
        let evidence = format!("{} is {}", self.params.cluster, cluster_status(&found));
        match cluster_status(&found) {
            "rebooting cluster nodes" => Observed::InProgress { evidence },
            "available" => Observed::Unobservable,
            status if gone(status) => Observed::Impossible { reason: evidence },
            _ => Observed::Unknown { reason: format!("{evidence}; it has to be available first") },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let nodes = self.nodes(&self.look(until).await?);
            if nodes.is_empty() {
                return Err(Failure::refused(format!("{} has no nodes", self.params.cluster)));
            }
            Ok((nodes, client(&self.clients, &self.params.region, until).await?))
        };
        let (nodes, client) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = client
            .elasticache()
            .reboot_cache_cluster()
            .cache_cluster_id(&self.params.cluster)
            .set_cache_node_ids_to_reboot(Some(nodes));
        context.permit()?;
        Ok(match aws::call("elasticache RebootCacheCluster", until, request.send()).await {
            Ok(_) => Applied::Accepted { evidence: format!("ElastiCache is rebooting {}", self.params.cluster) },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let found = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.verified(),
        };
        let evidence = format!("{} is {}", self.params.cluster, cluster_status(&found));
        match cluster_status(&found) {
            "available" => Verified::yes(evidence),
            status if gone(status) => Verified::Failed { reason: evidence },
            _ => Verified::NotYet { evidence },
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Makes another node of a replication group its primary.
///
/// AWS has no one call for it. `TestFailover` is what goes over to a replica while automatic failover
/// is enabled, and AWS chooses the replica; `ModifyReplicationGroup` with a primary is what promotes a
/// chosen one, and is refused while automatic failover is enabled. To switch that off and on again would
/// be two changes more, and would leave the group without failover in between.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_TestFailover.html>
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Replication.PromoteReplica.html>
pub struct Failover {
    params: ElasticacheFailover,
    way: Way,
    clients: Arc<Clients>,
}

#[derive(Clone)]
enum Way {
    From(String),
    To(String),
}

/// A replication group as it is now.
struct Group {
    status: String,
    primary: String,
    /// The shard's id.
    shard: String,
    fails_over_by_itself: bool,
}

impl Failover {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where it is not said which node is primary afterwards.
    pub fn new(params: ElasticacheFailover, clients: Arc<Clients>) -> Result<Self, String> {
        let way = match (&params.from, &params.to) {
            (Some(from), None) => Way::From(from.clone()),
            (None, Some(to)) => Way::To(to.clone()),
            _ => return Err("one of `from` and `to` says which node is primary afterwards".into()),
        };
        Ok(Self { params, way, clients })
    }

    async fn look(&self, until: Instant) -> Result<Group, Failure> {
        let name = &self.params.replication_group;
        let client = client(&self.clients, &self.params.region, until).await?;
        let request = client.elasticache().describe_replication_groups().replication_group_id(name);
        let answer = aws::call("elasticache DescribeReplicationGroups", until, request.send()).await?;
        let Some(found) = answer.replication_groups().first() else {
            return Err(Failure::unknown(format!("elasticache DescribeReplicationGroups: an empty list for {name}")));
        };
        self.group(found).map_err(Failure::refused)
    }

    fn group(&self, found: &ReplicationGroup) -> Result<Group, String> {
        let name = &self.params.replication_group;
        if found.cluster_enabled() == Some(true) {
            return Err(format!(
                "{name} has cluster mode enabled: AWS does not tell which of its nodes are primary, so that it could \
                 not be seen whether a failover happened"
            ));
        }
        let shard = found.node_groups().first().ok_or_else(|| format!("{name} has no nodes"))?;
        let members = shard.node_group_members();
        let (Way::From(node) | Way::To(node)) = &self.way;
        if !members.iter().any(|member| member.cache_cluster_id() == Some(node)) {
            return Err(format!("{node} is not a node of {name}"));
        }
        let primary = members.iter().find(|member| member.current_role() == Some("primary"));
        Ok(Group {
            status: found.status().unwrap_or("unknown").to_owned(),
            primary: primary.and_then(|member| member.cache_cluster_id()).unwrap_or("nobody").to_owned(),
            shard: shard.node_group_id().unwrap_or_default().to_owned(),
            fails_over_by_itself: matches!(
                found.automatic_failover(),
                Some(AutomaticFailoverStatus::Enabled | AutomaticFailoverStatus::Enabling)
            ),
        })
    }

    fn is_over(&self, group: &Group) -> bool {
        match &self.way {
            Way::From(from) => group.primary != *from && group.primary != "nobody",
            Way::To(to) => group.primary == *to,
        }
    }

    /// What keeps AWS from taking it.
    fn obstacle(&self, group: &Group) -> Option<Failure> {
        let name = &self.params.replication_group;
        match (&self.way, group.fails_over_by_itself) {
            (Way::To(_), true) => Some(Failure::refused(format!(
                "automatic failover of {name} is enabled, and AWS then promotes no node of our choice: write `from = \
                 \"{}\"` instead of `to`",
                group.primary
            ))),
            (Way::From(_), false) => Some(Failure::refused(format!(
                "automatic failover of {name} is disabled, and AWS then chooses no node to promote: write `to = \"…\"` \
                 instead of `from`"
            ))),
            _ if matches!(group.status.as_str(), "deleting" | "create-failed") => {
                Some(Failure::refused(format!("{name} is {}", group.status)))
            }
            _ if group.status != "available" => {
                Some(Failure::again(format!("{name} is {}; it has to be available first", group.status)))
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Action for Failover {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.elasticache();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let group = match self.look(until(context, LOOK)).await {
            Ok(group) => group,
            Err(failure) => return failure.observed(),
        };
        let evidence =
            format!("{} is {}, and its primary is {}", self.params.replication_group, group.status, group.primary);
        match self.obstacle(&group) {
            _ if self.is_over(&group) && group.status == "available" => Observed::Done { evidence },
            _ if self.is_over(&group) => Observed::InProgress { evidence },
            // What is under way may be ours: what came of it is seen when it is over.
            Some(failure) => failure.observed(),
            None => Observed::NotDone { evidence, before: serde_json::json!({ "primary": group.primary }) },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let name = &self.params.replication_group;
        let ready = async {
            let group = self.look(until).await?;
            if self.is_over(&group) {
                return Err(Failure::again(format!("the primary of {name} is {} by now", group.primary)));
            }
            match self.obstacle(&group) {
                Some(failure) => Err(failure),
                None => Ok((group, client(&self.clients, &self.params.region, until).await?)),
            }
        };
        let (group, client) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let sent = match &self.way {
            Way::From(_) => {
                let request =
                    client.elasticache().test_failover().replication_group_id(name).node_group_id(group.shard);
                context.permit()?;
                aws::call("elasticache TestFailover", until, request.send()).await.map(drop)
            }
            Way::To(to) => {
                let request = client
                    .elasticache()
                    .modify_replication_group()
                    .replication_group_id(name)
                    .primary_cluster_id(to)
                    .apply_immediately(true);
                context.permit()?;
                aws::call("elasticache ModifyReplicationGroup", until, request.send()).await.map(drop)
            }
        };
        Ok(match sent {
            Ok(()) => Applied::Accepted { evidence: format!("ElastiCache took the failover of {name}") },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(until(context, LOOK)).await {
            Err(failure) => failure.verified(),
            Ok(group) => {
                let evidence = format!(
                    "{} is {}, and its primary is {}",
                    self.params.replication_group, group.status, group.primary
                );
                if self.is_over(&group) && group.status == "available" {
                    Verified::yes(evidence)
                } else {
                    Verified::NotYet { evidence }
                }
            }
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Makes a secondary replication group of a global datastore its primary.
/// <https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/Redis-Global-Datastores-Console.html>
pub struct FailoverGlobal {
    params: ElasticacheFailoverGlobal,
    clients: Arc<Clients>,
}

/// A global datastore as it is now.
struct Global {
    status: String,
    primary: String,
    is_over: bool,
}

impl FailoverGlobal {
    /// The action for these parameters.
    pub fn new(params: ElasticacheFailoverGlobal, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn look(&self, until: Instant) -> Result<Global, Failure> {
        let name = &self.params.global_replication_group;
        let client = client(&self.clients, &self.params.region, until).await?;
        let request = client
            .elasticache()
            .describe_global_replication_groups()
            .global_replication_group_id(name)
            .show_member_info(true);
        let answer = aws::call("elasticache DescribeGlobalReplicationGroups", until, request.send()).await?;
        let Some(found) = answer.global_replication_groups().first() else {
            let reason = format!("elasticache DescribeGlobalReplicationGroups: an empty list for {name}");
            return Err(Failure::unknown(reason));
        };
        self.global(found).map_err(Failure::refused)
    }

    fn global(&self, found: &GlobalReplicationGroup) -> Result<Global, String> {
        let ElasticacheFailoverGlobal { region, global_replication_group, replication_group, .. } = &self.params;
        let members = found.members();
        let ours = members.iter().find(|member| {
            member.replication_group_id() == Some(replication_group)
                && member.replication_group_region() == Some(region)
        });
        let Some(ours) = ours else {
            return Err(format!("{replication_group} in {region} is not a member of {global_replication_group}"));
        };
        let primary =
            members.iter().find(|member| member.role().is_some_and(|role| role.eq_ignore_ascii_case("primary")));
        let named = |text: Option<&str>| text.unwrap_or("unknown").to_owned();
        Ok(Global {
            status: named(found.status()),
            primary: primary.map_or_else(
                || "nobody".to_owned(),
                |member| {
                    format!("{} in {}", named(member.replication_group_id()), named(member.replication_group_region()))
                },
            ),
            is_over: ours.role().is_some_and(|role| role.eq_ignore_ascii_case("primary")),
        })
    }
}

/// A global datastore whose primary is lost is not `available` everywhere.
fn settled(status: &str) -> bool {
    matches!(status, "available" | "primary-only")
}

#[async_trait]
impl Action for FailoverGlobal {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.elasticache();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let Global { status, primary, is_over } = match self.look(until(context, LOOK)).await {
            Ok(found) => found,
            Err(failure) => return failure.observed(),
        };
        let evidence = format!("{} is {status}, and its primary is {primary}", self.params.global_replication_group);
        match status.as_str() {
            _ if is_over && settled(&status) => Observed::Done { evidence },
            _ if is_over => Observed::InProgress { evidence },
            "deleting" | "deleted" => Observed::Impossible { reason: evidence },
            // While it is `modifying` AWS refuses a failover: one is under way, ours or another.
            "modifying" | "creating" => Observed::Unknown { reason: format!("{evidence}; that has to end first") },
            _ => Observed::NotDone { evidence, before: serde_json::json!({ "primary": primary }) },
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ElasticacheFailoverGlobal { region, global_replication_group, replication_group, .. } = &self.params;
        let ready = async {
            if self.look(until).await?.is_over {
                return Err(Failure::again(format!("{replication_group} is the primary by now")));
            }
            client(&self.clients, region, until).await
        };
        let client = match ready.await {
            Ok(client) => client,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = client
            .elasticache()
            .failover_global_replication_group()
            .global_replication_group_id(global_replication_group)
            .primary_region(region)
            .primary_replication_group_id(replication_group);
        context.permit()?;
        Ok(match aws::call("elasticache FailoverGlobalReplicationGroup", until, request.send()).await {
            Ok(_) => Applied::Accepted {
                evidence: format!("ElastiCache took the failover of {global_replication_group} to {replication_group}"),
            },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(until(context, LOOK)).await {
            Err(failure) => failure.verified(),
            Ok(Global { status, primary, is_over }) => {
                let evidence =
                    format!("{} is {status}, and its primary is {primary}", self.params.global_replication_group);
                if is_over && settled(&status) { Verified::yes(evidence) } else { Verified::NotYet { evidence } }
            }
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
