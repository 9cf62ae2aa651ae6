"""Restores, failovers of Multi-AZ instances and new replicas as AWS documents them, where moto is
kinder.

Each rule names its page below https://docs.aws.amazon.com/AmazonRDS/latest/.
"""

from datetime import timedelta

from moto.core.utils import utcnow
from moto.rds.exceptions import InvalidParameterCombination, RDSClientError
from moto.rds.models import DBInstance, DBSnapshot, Event, RDSBackend, rds_backends
from moto.rds.responses import RDSResponse
from moto.core.responses import ActionResult

from honest_rds import ACCOUNT, available, find, transit
from settings import DELAYS, LOCK, later

# UserGuide/USER_PIT.html: "you can restore to any point in time ... up to the latest restorable
# time, typically within the last 5 minutes".
BACKUP_LAG = timedelta(minutes=5)


def latest_restorable_time(self):
    """APIReference/API_DBInstance.html: LatestRestorableTime; an instance without automated backups
    has none (UserGuide/USER_WorkingWithAutomatedBackups.html: a retention period of 0 disables them)."""
    if not int(self.backup_retention_period or 0) or self.is_replica:
        return None
    return max(self.created, utcnow() - BACKUP_LAG)


def creating(instance):
    """UserGuide/accessing-monitoring.html: `creating`, and `available` when it can be connected to.
    A restored instance follows nobody, whatever the backed-up one followed."""
    instance.is_replica = False
    instance.source_db_instance_identifier = None
    instance.dbi_resource_id = f"db-{instance.db_instance_identifier.upper()}"
    return transit(instance, "restore", "creating", "available")


def restore_from_snapshot(original):
    """APIReference/API_RestoreDBInstanceFromDBSnapshot.html: errors InvalidDBSnapshotState ("the state
    of the DB snapshot doesn't allow deletion" or use) and DBInstanceAlreadyExists. "The target database
    is created ... with the default configuration ... security group and parameter group"; "Must be the
    identifier of an existing snapshot"; Multi-AZ only where it is asked for."""

    def restore(self, from_snapshot_id, overrides):
        name = from_snapshot_id.rsplit(":snapshot:", 1)[-1]
        snapshot = self.database_snapshots.get(name)
        if snapshot is not None and snapshot.status != "available":
            raise RDSClientError("InvalidDBSnapshotState", f"The snapshot {name} is {snapshot.status}.")
        overrides["db_instance_identifier"] = overrides["db_instance_identifier"].lower()
        instance = original(self, from_snapshot_id, overrides)
        instance.multi_az = bool(overrides.get("multi_az"))
        instance.deletion_protection = bool(overrides.get("deletion_protection"))
        instance.tags = overrides.get("tags") or []
        return creating(instance)

    return restore


def restore_to_point(original):
    """APIReference/API_RestoreDBInstanceToPointInTime.html: "Must be before the latest restorable time
    for the DB instance"; RestoreTime and UseLatestRestorableTime exclude each other; errors
    InvalidRestoreFault, PointInTimeRestoreNotEnabled, DBInstanceAlreadyExists."""

    def restore(self, source, target, overrides):
        backup = find(self, source)
        latest = backup.latest_restorable_time
        if latest is None:
            raise RDSClientError("PointInTimeRestoreNotEnabled", f"Backups of {source} are not enabled.")
        time, newest = overrides.get("restore_time"), overrides.get("use_latest_restorable_time")
        if (time is None) == (not newest):
            raise InvalidParameterCombination("Specify one of RestoreTime and UseLatestRestorableTime.")
        if time is not None and not backup.created - timedelta(days=35) <= naive(time) <= latest:
            raise RDSClientError("InvalidRestoreFault", f"{time} is not within the backups of {source}.")
        instance = original(self, source, target.lower(), overrides)
        instance.multi_az = bool(overrides.get("multi_az"))
        instance.tags = overrides.get("tags") or []
        return creating(instance)

    return restore


def naive(time):
    return time.replace(tzinfo=None) if hasattr(time, "replace") and not isinstance(time, str) else time


def create_read_replica(original):
    """APIReference/API_CreateDBInstanceReadReplica.html: created in the background; "creating" until it
    can be connected to. Its tags are those of the request."""

    def create(self, db_kwargs):
        replica = original(self, db_kwargs)
        replica.tags = db_kwargs.get("tags") or []
        replica.multi_az = bool(db_kwargs.get("multi_az"))
        # Without a delay it is there at once: most tests only want to have one.
        return transit(replica, "replica", "creating", "available") if DELAYS["rds_replica"] else replica

    return create


def reboot_response(self):
    """APIReference/API_RebootDBInstance.html: ForceFailover, "You can't enable force failover if the
    instance isn't configured for Multi-AZ".
    UserGuide/Concepts.MultiAZ.Failover.html: the standby's zone becomes the primary's; "it can take
    additional time for the RDS console to reflect the new Availability Zone" (`rds_zone`);
    UserGuide/USER_Events.Messages.html: RDS-EVENT-0013 started, RDS-EVENT-0049 completed."""
    name = self.params.get("DBInstanceIdentifier")
    force = str(self.params.get("ForceFailover", "false")).lower() == "true"
    instance = available(self.backend, name)
    if not force:
        return ActionResult({"DBInstance": self.backend.reboot_db_instance(name)})
    if not instance.multi_az:
        raise InvalidParameterCombination("The instance is not configured for Multi-AZ.")
    zone = instance.availability_zone
    other = zone[:-1] + ("b" if zone.endswith("a") else "a")
    instance.add_event("DB_INSTANCE_FAILOVER_START")

    def finish():
        instance.add_event("DB_INSTANCE_FAILOVER_FINISH")
        later("rds_zone", move)

    def move():
        with LOCK:
            instance.availability_zone = other

    transit(instance, "reboot", "rebooting", "available", finish)
    return ActionResult({"DBInstance": instance})


def set_snapshot(region, id, status=None, age=None):
    """Puts a snapshot into any status, or makes it this many seconds older."""
    snapshot: DBSnapshot = rds_backends[ACCOUNT][region].database_snapshots[id]
    if status is not None:
        snapshot.status = status
    if age is not None:
        snapshot.created -= timedelta(seconds=age)
    return {}


def install():
    Event.EVENT_MAP["DB_INSTANCE_FAILOVER_START"] = {
        "Categories": ["failover"],
        "Message": "Multi-AZ instance failover started.",
    }
    Event.EVENT_MAP["DB_INSTANCE_FAILOVER_FINISH"] = {
        "Categories": ["failover"],
        "Message": "Multi-AZ instance failover completed",
    }
    DBInstance.latest_restorable_time = property(latest_restorable_time)
    RDSResponse.reboot_db_instance = reboot_response
    RDSBackend.restore_db_instance_from_db_snapshot = restore_from_snapshot(
        RDSBackend.restore_db_instance_from_db_snapshot
    )
    RDSBackend.restore_db_instance_to_point_in_time = restore_to_point(
        RDSBackend.restore_db_instance_to_point_in_time
    )
    RDSBackend.create_db_instance_read_replica = create_read_replica(
        RDSBackend.create_db_instance_read_replica
    )
