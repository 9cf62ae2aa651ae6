"""ElastiCache as AWS documents it, where moto is kinder or does not know the call.

Each rule names its page below https://docs.aws.amazon.com/AmazonElastiCache/latest/.
"""

from moto.core.responses import ActionResult
from moto.elasticache.exceptions import (
    CacheClusterNotFound,
    ElastiCacheException,
    InvalidParameterCombinationException,
    InvalidParameterValueException,
    ReplicationGroupNotFound,
)
from moto.elasticache.models import CacheCluster, elasticache_backends
from moto.elasticache.responses import ElastiCacheResponse

from settings import LOCK, later

ACCOUNT = "123456789012"
# Global datastores by id; they belong to no region.
GLOBALS = {}


class InvalidState(ElastiCacheException):
    def __init__(self, code, message):
        self.code = code
        super().__init__(message)


def group_of(response):
    name = response._get_param("ReplicationGroupId")
    groups = response.elasticache_backend.replication_groups
    if name not in groups:
        raise ReplicationGroupNotFound(name)
    return groups[name]


def promote(group, chosen):
    """dg/Replication.PromoteReplica.html, dg/AutoFailover.html: `modifying` until the other node is
    the primary."""
    members = group.node_groups[0]["node_group_members"]
    group.status = "modifying"

    def finish():
        with LOCK:
            if group.status != "modifying":
                return
            for member in members:
                is_it = member["cache_cluster_id"] == chosen
                member["current_role"] = "primary" if is_it else "replica"
            group.status = "available"

    later("elasticache_failover", finish)
    return ActionResult({"ReplicationGroup": group})


def test_failover(self):
    """APIReference/API_TestFailover.html: errors ReplicationGroupNotFoundFault, NodeGroupNotFoundFault,
    InvalidReplicationGroupState, InvalidParameterCombination ("TestFailover is not available" without
    automatic failover)."""
    group = group_of(self)
    shard = self._get_param("NodeGroupId")
    found = next((g for g in group.node_groups if g["node_group_id"] == shard), None)
    if found is None:
        raise InvalidState("NodeGroupNotFoundFault", f"Node group {shard} not found.")
    if group.automatic_failover != "enabled":
        raise InvalidParameterCombinationException("Automatic failover must be enabled.")
    if group.status != "available":
        raise InvalidState("InvalidReplicationGroupState", f"{group.replication_group_id} is {group.status}.")
    replicas = [m for m in found["node_group_members"] if m["current_role"] != "primary"]
    if not replicas:
        raise InvalidState("InvalidReplicationGroupState", "There is no replica to fail over to.")
    return promote(group, replicas[0]["cache_cluster_id"])


def modify_replication_group(original):
    """APIReference/API_ModifyReplicationGroup.html: PrimaryClusterId promotes that node "for replication
    groups with a single primary"; dg/Replication.PromoteReplica.html: not while Multi-AZ with automatic
    failover is enabled; InvalidReplicationGroupState unless it is available."""

    def modify(self):
        chosen = self._get_param("PrimaryClusterId")
        if not chosen:
            return original(self)
        group = group_of(self)
        if group.automatic_failover == "enabled":
            raise InvalidParameterCombinationException(
                "Cannot manually promote a new master cache cluster while automatic failover is enabled."
            )
        if group.status != "available":
            raise InvalidState("InvalidReplicationGroupState", f"{group.replication_group_id} is {group.status}.")
        if chosen not in [m["cache_cluster_id"] for m in group.node_groups[0]["node_group_members"]]:
            raise InvalidParameterValueException(f"{chosen} is not a member.")
        return promote(group, chosen)

    return modify


def reboot_cache_cluster(self):
    """APIReference/API_RebootCacheCluster.html: "the cluster status is set to REBOOTING" (dg/Clusters.
    Rebooting.html: `rebooting cluster nodes`); errors CacheClusterNotFound, InvalidCacheClusterState."""
    name = self._get_param("CacheClusterId")
    clusters = self.elasticache_backend.cache_clusters
    if name not in clusters:
        raise CacheClusterNotFound(name)
    cluster = clusters[name]
    if cluster.cache_cluster_status != "available":
        raise InvalidState("InvalidCacheClusterState", f"{name} is {cluster.cache_cluster_status}.")
    cluster.cache_cluster_status = "rebooting cluster nodes"

    def finish():
        with LOCK:
            if cluster.cache_cluster_status == "rebooting cluster nodes":
                cluster.cache_cluster_status = "available"

    later("elasticache_reboot", finish)
    return ActionResult({"CacheCluster": cluster})


def cache_nodes(self):
    """APIReference/API_CacheNode.html: four digits, from 0001; told with ShowCacheNodeInfo."""
    return [{"CacheNodeId": f"{n + 1:04}", "CacheNodeStatus": "available"} for n in range(self.num_cache_nodes)]


def global_of(response):
    name = response._get_param("GlobalReplicationGroupId")
    if name not in GLOBALS:
        raise InvalidState("GlobalReplicationGroupNotFoundFault", f"{name} not found.")
    return GLOBALS[name]


def describe_global(self):
    """APIReference/API_DescribeGlobalReplicationGroups.html: members only with ShowMemberInfo."""
    found = dict(global_of(self))
    if not self._get_bool_param("ShowMemberInfo"):
        found.pop("Members")
    return ActionResult({"GlobalReplicationGroups": [found]})


def failover_global(self):
    """APIReference/API_FailoverGlobalReplicationGroup.html: PrimaryRegion and PrimaryReplicationGroupId;
    errors GlobalReplicationGroupNotFoundFault, InvalidGlobalReplicationGroupState,
    InvalidParameterValue. `modifying` meanwhile."""
    found = global_of(self)
    wanted = (self._get_param("PrimaryRegion"), self._get_param("PrimaryReplicationGroupId"))
    place = lambda m: (m["ReplicationGroupRegion"], m["ReplicationGroupId"])  # noqa: E731
    if found["Status"] == "modifying":
        raise InvalidState("InvalidGlobalReplicationGroupState", "It is being modified.")
    chosen = next((m for m in found["Members"] if place(m) == wanted), None)
    if chosen is None or chosen["Role"] == "PRIMARY":
        raise InvalidParameterValueException("This is not a secondary replication group.")
    found["Status"] = "modifying"

    def finish():
        with LOCK:
            for member in found["Members"]:
                member["Role"] = "PRIMARY" if place(member) == wanted else "SECONDARY"
            found["Status"] = "available"

    later("elasticache_global", finish)
    return ActionResult({"GlobalReplicationGroup": found})


def set_global(id, members):
    """Puts a global datastore there: {region: replication group}, the primary one first."""
    GLOBALS[id] = {
        "GlobalReplicationGroupId": id,
        "Status": "available",
        "Members": [
            {
                "ReplicationGroupId": group,
                "ReplicationGroupRegion": region,
                "Role": "SECONDARY" if n else "PRIMARY",
                "Status": "associated",
            }
            for n, (region, group) in enumerate(members.items())
        ],
    }
    return {}


def set_status(region, id, status):
    """Puts a replication group or a cache cluster into any status."""
    backend = elasticache_backends[ACCOUNT][region]
    if id in backend.replication_groups:
        backend.replication_groups[id].status = status
    else:
        backend.cache_clusters[id].cache_cluster_status = status
    return {}


def install():
    ElastiCacheResponse.test_failover = test_failover
    ElastiCacheResponse.modify_replication_group = modify_replication_group(
        ElastiCacheResponse.modify_replication_group
    )
    ElastiCacheResponse.reboot_cache_cluster = reboot_cache_cluster
    ElastiCacheResponse.describe_global_replication_groups = describe_global
    ElastiCacheResponse.failover_global_replication_group = failover_global
    CacheCluster.cache_nodes = property(cache_nodes)
