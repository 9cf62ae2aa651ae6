"""Route 53 record changes as AWS documents them, where moto is kinder.

Each rule names its page below https://docs.aws.amazon.com/Route53/latest/.
"""

import random
import string
import time

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.route53.exceptions import InvalidInput, NoSuchHealthCheck, Route53ClientError
from moto.route53.models import RecordSet, Route53Backend, route53_backends
from moto.route53.responses import Route53

import publish
from settings import over

ACCOUNT = "123456789012"
# Change id -> when it was submitted, for people and on the monotonic clock.
CHANGES = {}
ROUTING = ("SetIdentifier", "Weight", "Region", "Failover", "GeoLocation", "MultiValueAnswer", "HealthCheckId")


class InvalidChangeBatch(Route53ClientError):
    def __init__(self, problems):
        super().__init__("InvalidChangeBatch", "[" + ", ".join(problems) + "]")


class NoSuchChange(Route53ClientError):
    def __init__(self, change):
        super().__init__("NoSuchChange", f"Could not find resource with ID: {change}")


def full_name(name):
    """DeveloperGuide/DomainNameFormat.html: names are stored in lower case and end in a dot whether
    or not that was given; an asterisk is stored, and returned, as \\052."""
    return name.lower().rstrip(".").replace("*", "\\052") + "."


def wanted(record_set):
    """A record set from a request in the form in which it is stored, and compared for DELETE."""
    record = {"Name": full_name(record_set["Name"]), "Type": record_set["Type"]}
    alias = record_set.get("AliasTarget")
    if alias:
        # APIReference/API_AliasTarget.html
        record["AliasTarget"] = {
            "HostedZoneId": alias["HostedZoneId"],
            "DNSName": full_name(alias["DNSName"]),
            "EvaluateTargetHealth": str(alias["EvaluateTargetHealth"]).lower() == "true",
        }
    if record_set.get("TTL") is not None:
        record["TTL"] = int(record_set["TTL"])
    if record_set.get("ResourceRecords"):
        record["ResourceRecords"] = [r["Value"] for r in record_set["ResourceRecords"]]
    for field in ROUTING:
        if record_set.get(field) is not None:
            record[field] = record_set[field]
    return record


def stored(record):
    """A stored record set in the form of `wanted`."""
    fields = {
        "Name": full_name(record.name),
        "Type": record.type,
        "AliasTarget": record.alias_target,
        "TTL": None if record.ttl is None else int(record.ttl),
        "ResourceRecords": list(record.records or []) or None,
        "SetIdentifier": record.set_identifier,
        "Weight": record.weight,
        "Region": record.region,
        "Failover": record.failover,
        "GeoLocation": record.geo_location,
        "MultiValueAnswer": record.multi_value_answer,
        "HealthCheckId": record.health_check_id,
    }
    return {k: v for k, v in fields.items() if v is not None}


def key(record):
    return record["Name"], record["Type"], record.get("SetIdentifier")


def comparable(record):
    values = sorted(record.get("ResourceRecords", []))
    return {**{k: str(v) for k, v in record.items()}, "ResourceRecords": values}


def check_shape(action, record):
    """APIReference/API_ResourceRecordSet.html: TTL "if you're creating or updating an alias resource
    record set, omit TTL"; otherwise TTL and ResourceRecords are required."""
    alias = "AliasTarget" in record
    plain = "TTL" in record or "ResourceRecords" in record
    where = (
        f"in Change with [Action={action}, Name={record['Name']}, Type={record['Type']}, "
        f"SetIdentifier={record.get('SetIdentifier', 'null')}]"
    )
    expected = (
        "Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], "
        "or TrafficPolicyInstanceId], but found "
    )
    if alias and plain:
        raise InvalidInput(f"{expected}more than one {where}")
    if not alias and not ("TTL" in record and "ResourceRecords" in record):
        raise InvalidInput(f"{expected}none {where}")


def check_neighbours(record, records):
    """DeveloperGuide/ResourceRecordTypes.html#CNAMEFormat: a CNAME excludes every other record of
    its name; DeveloperGuide/routing-policy.html: records of one name and type share one policy."""
    name, kind, identifier = key(record)
    about = f"with DNS name {name} is not permitted"
    others = [r for r in records.values() if r["Name"] == name and key(r) != key(record)]
    if any((r["Type"] == "CNAME") != (kind == "CNAME") for r in others):
        return f"RRSet of type {kind} {about} as it conflicts with other records with the same DNS name"
    same = [r for r in others if r["Type"] == kind]
    if any((r.get("SetIdentifier") is None) != (identifier is None) for r in same):
        return f"RRSet {about} as simple and non-simple records of one name and type exclude each other"
    return None


def apply(action, record, records, zone_name, health_checks):
    """One change on the working copy; answers what is wrong with it, or None."""
    check_shape(action, record)
    name, kind, _ = key(record)
    about = f"resource record set [name='{name}', type='{kind}'"
    if "SetIdentifier" in record:
        about += f", set identifier='{record['SetIdentifier']}'"
    about += "]"
    old = records.get(key(record))
    if name != zone_name and not name.endswith("." + zone_name):
        return f"RRSet with DNS name {name} is not permitted in zone {zone_name}"
    if record.get("HealthCheckId", None) not in (None, *health_checks):
        raise NoSuchHealthCheck(record["HealthCheckId"])
    if action == "DELETE":
        # APIReference/API_ChangeResourceRecordSets.html: "you must specify all the same values
        # that you specified when you created it".
        if old is None:
            return f"Tried to delete {about} but it was not found"
        if comparable(old) != comparable(record):
            return f"Tried to delete {about} but the values provided do not match the current values"
        del records[key(record)]
        return None
    if action == "CREATE" and old is not None:
        return f"Tried to create {about} but it already exists"
    problem = check_neighbours(record, records)
    if problem is None:
        records[key(record)] = record
    return problem


def change_resource_record_sets(self, zoneid, change_list):
    """APIReference/API_ChangeResourceRecordSets.html: "Route 53 validates the changes in the request
    and then either makes all or none of the changes". Errors: InvalidChangeBatch, InvalidInput,
    NoSuchHostedZone, NoSuchHealthCheck."""
    zone = self.get_hosted_zone(zoneid)
    zone_name = full_name(zone.name)
    records = {key(r): r for r in map(stored, zone.rrsets)}
    problems, touched = [], []
    for change in change_list:
        action, record = change["Action"], wanted(change["ResourceRecordSet"])
        if action not in ("CREATE", "DELETE", "UPSERT"):
            raise InvalidInput(f"Invalid XML; {action!r} is not one of CREATE, DELETE, UPSERT")
        problem = apply(action, record, records, zone_name, self.health_checks)
        if problem:
            problems.append(problem)
        touched.append((record["Name"], record["Type"]))
    if problems:
        raise InvalidChangeBatch(problems)
    zone.rrsets = [RecordSet(record) for record in records.values()]
    publish.schedule(zone.resource_id, zone_name, touched, lambda: list(map(stored, zone.rrsets)))


def new_change():
    """APIReference/API_ChangeInfo.html: an id and PENDING, until every authoritative server has it."""
    change = "C" + "".join(random.choices(string.ascii_uppercase + string.digits, k=20))
    CHANGES[change] = (utcnow(), time.monotonic())
    return change


def info(change):
    submitted, since = CHANGES[change]
    status = "INSYNC" if over("route53_insync", since) else "PENDING"
    return {"ChangeInfo": {"Id": f"/change/{change}", "Status": status, "SubmittedAt": submitted}}


def change_response(original):
    def respond(self):
        original(self)  # for its quota checks and the change itself
        change = new_change()
        answer = info(change)
        answer["ChangeInfo"]["Status"] = "PENDING"
        return ActionResult(answer)

    return respond


def get_change(self):
    """APIReference/API_GetChange.html: PENDING or INSYNC; NoSuchChange."""
    change = self._get_param("Id").rsplit("/", 1)[-1]
    if change not in CHANGES:
        raise NoSuchChange(change)
    return ActionResult(info(change))


def install():
    Route53Backend.change_resource_record_sets = change_resource_record_sets
    Route53.change_resource_record_sets = change_response(Route53.change_resource_record_sets)
    Route53.get_change = get_change


def state():
    zones = route53_backends[ACCOUNT]["aws"].zones
    return {
        zone_id: {"name": zone.name, "records": list(map(stored, zone.rrsets))}
        for zone_id, zone in zones.items()
    }
