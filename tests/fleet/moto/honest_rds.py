"""RDS DB instances as AWS documents them, where moto is kinder.

Each rule names its page below https://docs.aws.amazon.com/AmazonRDS/latest/.
"""

import secrets

from moto.rds.exceptions import DBInstanceNotFoundError, RDSClientError
from moto.rds.models import DBInstance, RDSBackend, rds_backends

from settings import LOCK, later, run_hook

ACCOUNT = "123456789012"
HOOKS = {}


class InvalidState(RDSClientError):
    def __init__(self, message):
        super().__init__("InvalidDBInstanceState", message)


def find(backend, identifier):
    """APIReference/API_DBInstance.html: identifiers are stored in lower case."""
    instance = backend.databases.get((identifier or "").lower())
    if instance is None:
        raise DBInstanceNotFoundError(identifier)
    return instance


def available(backend, identifier):
    """APIReference/CommonErrors and each action's Errors: InvalidDBInstanceState, "the DB instance
    isn't in a valid state"; UserGuide/accessing-monitoring.html#Overview.DBInstance.Status lists
    the states in which an instance is being worked on."""
    instance = find(backend, identifier)
    if instance.status != "available":
        raise InvalidState(f"Instance {identifier} is not in available state.")
    return instance


def transit(instance, action, meanwhile, afterwards, finish=lambda: None):
    """Shows `meanwhile` until the delay is over and the hook, if any, has succeeded."""
    instance.status = meanwhile
    about = {"on": action, "region": instance.region, "id": instance.db_instance_identifier}

    def work():
        argv = HOOKS.get((action, about["region"], about["id"]))
        # UserGuide/accessing-monitoring.html: `failed` is what RDS cannot recover from.
        done = run_hook(argv, **about) if argv else True
        with LOCK:
            if instance.status != meanwhile:
                return  # a test has put it into another state in between
            instance.status = afterwards if done else "failed"
            if done:
                finish()

    later(f"rds_{action}", work)
    return instance


def promote_read_replica(self, db_kwargs):
    """APIReference/API_PromoteReadReplica.html: the identifier "must match the identifier of an
    existing read replica"; not while it is `backing-up`; errors DBInstanceNotFound and
    InvalidDBInstanceState.
    UserGuide/USER_ReadRepl.Promote.html: RDS reboots the instance before it becomes available; it
    can take several minutes or longer; status `modifying` meanwhile. The other replicas of the
    same source are not touched."""
    instance = find(self, db_kwargs["db_instance_identifier"])
    if not instance.is_replica:
        raise InvalidState("DB Instance is not a read replica.")
    available(self, instance.db_instance_identifier)
    source = instance.source_db_instance_identifier
    changes = {k: v for k, v in db_kwargs.items() if k != "db_instance_identifier"}
    instance.update(**changes)

    def finish():
        instance.is_replica = False
        instance.source_db_instance_identifier = None
        forget_replica(self, source, instance)

    return transit(instance, "promote", "modifying", "available", finish)


def forget_replica(backend, source, instance):
    """Takes a promoted instance off its former source's list, which names replicas in its own
    region by identifier and others by ARN (APIReference/API_DBInstance.html)."""
    try:
        parent = backend.find_db_from_id(source)
    except RDSClientError:
        return  # the source may be gone: that is what promotion is for
    names = (instance.db_instance_identifier, instance.db_instance_arn)
    parent.replicas = [r for r in parent.replicas if r not in names]


def create_read_replica(original):
    """APIReference/API_CreateDBInstanceReadReplica.html: the source must be available, with backups
    enabled, and the identifier new."""

    def create(self, db_kwargs):
        identifier = db_kwargs["db_instance_identifier"].lower()
        db_kwargs["db_instance_identifier"] = identifier
        if identifier in self.databases:
            raise RDSClientError("DBInstanceAlreadyExists", "DB instance already exists")
        source = self.find_db_from_id(db_kwargs["source_db_instance_identifier"])
        if source.status != "available":
            raise InvalidState(f"Instance {source.db_instance_identifier} is not in available state.")
        if not int(source.backup_retention_period or 0):
            raise InvalidState(
                "Automated backups are not enabled for this database instance. To enable automated "
                "backups, use ModifyDBInstance to set the backup retention period to a non-zero value."
            )
        replica = original(self, db_kwargs)
        # moto copies the source; these belong to each instance alone.
        replica.backend = self
        replica.dbi_resource_id = "db-" + secrets.token_hex(13).upper()
        replica.availability_zone = db_kwargs.get("availability_zone") or f"{self.region_name}a"
        replica.instance_create_time = replica.created
        return replica

    return create


def reboot_db_instance(self, db_instance_identifier):
    """APIReference/API_RebootDBInstance.html: "a momentary outage ... during which the DB instance
    status is set to rebooting"."""
    instance = available(self, db_instance_identifier)
    return transit(instance, "reboot", "rebooting", "available")


def stop_db_instance(self, db_instance_identifier, db_snapshot_identifier=None):
    """UserGuide/USER_StopInstance.html: the status becomes `stopping`, then `stopped`. Limitations:
    "You can't stop a DB instance that has a read replica, or that is a read replica"."""
    instance = available(self, db_instance_identifier)
    if instance.is_replica or instance.replicas:
        raise InvalidState(
            f"Cannot stop instance {db_instance_identifier}: it has a read replica or is one."
        )
    if db_snapshot_identifier:
        self.create_db_snapshot(db_instance_identifier, db_snapshot_identifier)
    return transit(instance, "stop", "stopping", "stopped")


def start_db_instance(self, db_instance_identifier):
    """APIReference/API_StartDBInstance.html; UserGuide/USER_StartInstance.html."""
    instance = find(self, db_instance_identifier)
    if instance.status != "stopped":
        raise InvalidState(f"Instance {db_instance_identifier} is not stopped, it cannot be started.")
    return transit(instance, "start", "starting", "available")


def modify_db_instance(original):
    """APIReference/API_ModifyDBInstance.html: InvalidDBInstanceState unless it is available."""

    def modify(self, db_instance_identifier, db_kwargs):
        available(self, db_instance_identifier)
        return original(self, db_instance_identifier, db_kwargs)

    return modify


def delete_db_instance(original):
    """APIReference/API_DeleteDBInstance.html. A replica is taken off its source's list first: moto
    looks for it there by identifier, which fails for a source in another region."""

    def delete(self, db_instance_identifier, *args, **kwargs):
        instance = self.databases.get(db_instance_identifier)
        if instance is not None and instance.is_replica:
            instance.is_replica = False
            forget_replica(self, instance.source_db_instance_identifier, instance)
        return original(self, db_instance_identifier, *args, **kwargs)

    return delete


def install():
    RDSBackend.promote_read_replica = promote_read_replica
    RDSBackend.reboot_db_instance = reboot_db_instance
    RDSBackend.stop_db_instance = stop_db_instance
    RDSBackend.start_db_instance = start_db_instance
    RDSBackend.modify_db_instance = modify_db_instance(RDSBackend.modify_db_instance)
    RDSBackend.delete_db_instance = delete_db_instance(RDSBackend.delete_db_instance)
    RDSBackend.create_db_instance_read_replica = create_read_replica(
        RDSBackend.create_db_instance_read_replica
    )


def instances():
    for region, backend in rds_backends[ACCOUNT].items():
        for identifier, instance in backend.databases.items():
            yield region, identifier, instance


def set_hook(on, region, id, argv):
    if on not in ("promote", "stop", "start", "reboot"):
        raise ValueError(f"no such moment: {on!r}")
    HOOKS[(on, region, id)] = argv
    return {}


def set_status(region, id, status):
    instance: DBInstance = find(rds_backends[ACCOUNT][region], id)
    instance.status = status
    return {}


def state():
    return {
        f"{region}/{identifier}": {
            "status": instance.status,
            "arn": instance.db_instance_arn,
            "is_replica": instance.is_replica,
            "source": instance.source_db_instance_identifier,
            "replicas": instance.replicas,
        }
        for region, identifier, instance in instances()
    }
