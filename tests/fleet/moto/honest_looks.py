"""What probes look at, where moto does not know the call: pending maintenance of RDS; and a node group
of ElastiCache that has lost its primary.

Each rule names its page below https://docs.aws.amazon.com/.
"""

from datetime import datetime, timezone

from moto.core.responses import ActionResult
from moto.elasticache.models import elasticache_backends
from moto.rds.exceptions import RDSClientError
from moto.rds.responses import RDSResponse

ACCOUNT = "123456789012"
# Pending maintenance by ARN.
MAINTENANCE = {}


def describe_pending_maintenance_actions(self):
    """AmazonRDS/latest/APIReference/API_DescribePendingMaintenanceActions.html: "The ARN of a resource to
    return pending maintenance actions for"; a resource without any is not in the list; error
    ResourceNotFoundFault. API_PendingMaintenanceAction.html: a date only where one is set."""
    arn = self._get_param("ResourceIdentifier")
    known = [i.db_instance_arn for i in self.backend.databases.values()]
    known += [c.db_cluster_arn for c in self.backend.clusters.values()]
    if arn and arn not in known:
        raise RDSClientError("ResourceNotFoundFault", f"{arn} not found.")
    wanted = [arn] if arn else known
    found = [
        {"ResourceIdentifier": one, "PendingMaintenanceActionDetails": MAINTENANCE[one]}
        for one in wanted
        if one in MAINTENANCE
    ]
    return ActionResult({"PendingMaintenanceActions": found})


def set_maintenance(arn, action, date):
    """Plans maintenance for a resource; `date` in seconds since 1970, or nothing."""
    detail = {"Action": action, "Description": "New version"}
    if date is not None:
        detail["CurrentApplyDate"] = datetime.fromtimestamp(date, timezone.utc)
    MAINTENANCE[arn] = [detail]
    return {}


def lose_primary(region, id):
    """AmazonElastiCache/latest/dg/AutoFailover.html: until a replica is promoted there is no primary."""
    group = elasticache_backends[ACCOUNT][region].replication_groups[id]
    for member in group.node_groups[0]["node_group_members"]:
        member["current_role"] = "replica"
    return {}


def set_shard(region, id, status):
    """AmazonElastiCache/latest/APIReference/API_NodeGroup.html: `creating`, `available`, `modifying`,
    `deleting`."""
    elasticache_backends[ACCOUNT][region].replication_groups[id].node_groups[0]["status"] = status
    return {}


def install():
    RDSResponse.describe_pending_maintenance_actions = describe_pending_maintenance_actions
