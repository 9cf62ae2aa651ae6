"""Aurora clusters and global databases as AWS documents them, where moto is kinder or answers 500.

Each rule names its page below https://docs.aws.amazon.com/AmazonRDS/latest/.
"""

from moto.core.responses import ActionResult
from moto.rds.exceptions import (
    DBClusterNotFoundError,
    InvalidDBClusterStateFault,
    InvalidParameterCombination,
    RDSClientError,
)
from moto.rds.models import GlobalCluster, RDSBackend, rds_backends
from moto.rds.responses import RDSResponse

from settings import LOCK, later

ACCOUNT = "123456789012"


def failover_db_cluster(original):
    """APIReference/API_FailoverDBCluster.html: errors DBClusterNotFoundFault, InvalidDBClusterStateFault
    ("the requested operation can't be performed while the cluster is in this state"); it "promotes one
    of the Aurora Replicas" in the background.
    AuroraUserGuide/accessing-monitoring.html: the status is `failing-over` meanwhile."""

    def failover(self, db_cluster_identifier, target_db_instance_identifier=None):
        cluster = self.clusters.get(db_cluster_identifier)
        if cluster is None:
            raise DBClusterNotFoundError(db_cluster_identifier)
        if cluster.status != "available":
            raise InvalidDBClusterStateFault(f"DBCluster {db_cluster_identifier} is {cluster.status}.")
        writer = cluster.writer
        original(self, db_cluster_identifier, target_db_instance_identifier)
        chosen = cluster.writer
        if writer is not None and chosen is not writer:
            chosen.is_cluster_writer, writer.is_cluster_writer = False, True
        cluster.status = "failing-over"

        def finish():
            with LOCK:
                if cluster.status != "failing-over":
                    return
                if writer is not None:
                    writer.is_cluster_writer = False
                chosen.is_cluster_writer = True
                cluster.status = "available"

        later("rds_cluster_failover", finish)
        return cluster

    return failover


def move(self, name, target, lossy):
    """APIReference/API_FailoverGlobalCluster.html and API_SwitchoverGlobalCluster.html: errors
    GlobalClusterNotFoundFault, DBClusterNotFoundFault, InvalidGlobalClusterStateFault,
    InvalidDBClusterStateFault. APIReference/API_FailoverState.html: `pending`, `switching-over`,
    `failing-over`, `cancelling`. A switchover "assumes that your global database is in a healthy
    state"; a failover does not ask after the old primary."""
    found: GlobalCluster = self.global_backend.global_clusters.get(name)
    if found is None:
        raise RDSClientError("GlobalClusterNotFoundFault", f"Global cluster {name} not found")
    chosen = next((c for c in found.members if c.db_cluster_arn == target), None)
    if chosen is None:
        raise DBClusterNotFoundError(target)
    if chosen.is_writer or getattr(found, "failover_state", None):
        raise RDSClientError("InvalidGlobalClusterStateFault", f"{name} is not in a state to be moved there.")
    asked = [chosen] if lossy else found.members
    if any(cluster.status != "available" for cluster in asked):
        raise InvalidDBClusterStateFault("A cluster is not available.")
    word = "failing-over" if lossy else "switching-over"
    writer = next(c for c in found.members if c.is_writer)
    found.status = word
    found.failover_state = {
        "Status": word,
        "FromDbClusterArn": writer.db_cluster_arn,
        "ToDbClusterArn": target,
        "IsDataLossAllowed": lossy,
    }

    def finish():
        with LOCK:
            writer.is_writer, chosen.is_writer = False, True
            found.status, found.failover_state = "available", None

    later("rds_global", finish)
    return ActionResult({"GlobalCluster": found})


def failover_global_cluster(self):
    """APIReference/API_FailoverGlobalCluster.html: AllowDataLoss and Switchover exclude each other; the
    default is a switchover."""
    yes = {k: str(self.params.get(k, "false")).lower() == "true" for k in ("AllowDataLoss", "Switchover")}
    if all(yes.values()):
        raise InvalidParameterCombination("AllowDataLoss and Switchover exclude each other.")
    return move(
        self,
        self.params["GlobalClusterIdentifier"],
        self.params["TargetDbClusterIdentifier"],
        yes["AllowDataLoss"],
    )


def switchover_global_cluster(self):
    return move(
        self, self.params["GlobalClusterIdentifier"], self.params["TargetDbClusterIdentifier"], False
    )


def describe_global_clusters(self):
    """APIReference/API_DescribeGlobalClusters.html: only the one that is named; error
    GlobalClusterNotFoundFault."""
    name = self.params.get("GlobalClusterIdentifier")
    found = self.global_backend.describe_global_clusters()
    if name:
        found = [c for c in found if c.global_cluster_identifier == name.lower()]
        if not found:
            raise RDSClientError("GlobalClusterNotFoundFault", f"Global cluster {name} not found")
    return ActionResult({"GlobalClusters": found})


def set_cluster(region, id, status):
    """Puts a cluster into any status."""
    rds_backends[ACCOUNT][region].clusters[id].status = status
    return {}


def install():
    RDSBackend.failover_db_cluster = failover_db_cluster(RDSBackend.failover_db_cluster)
    RDSResponse.failover_global_cluster = failover_global_cluster
    RDSResponse.switchover_global_cluster = switchover_global_cluster
    RDSResponse.describe_global_clusters = describe_global_clusters
