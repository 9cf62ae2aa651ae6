"""Puts a hosted zone's records on a real name server once they are in sync.

Route 53's records are in a model; what users resolve comes from a server. With a target set, each
change reaches a real authoritative server (by RFC 2136 update) when GetChange would say INSYNC.
"""

import subprocess
import time

from settings import LOCK, later

TARGETS = {}
LOG = []


def set_target(zone, server, port, key, addresses):
    """`key` is `algorithm:name:secret`; `addresses` maps an alias target's DNS name to the address
    that it stands for here."""
    known = {name.lower().rstrip("."): address for name, address in addresses.items()}
    TARGETS[zone] = {"server": server, "port": port, "key": key, "addresses": known}
    return {}


def schedule(zone_id, zone_name, touched, records):
    target = TARGETS.get(zone_id)
    if target:
        later("route53_insync", lambda: send(target, zone_name, touched, records))


def send(target, zone_name, touched, records):
    lines = [f"server {target['server']} {target['port']}", f"zone {zone_name}"]
    lines += [f"update delete {name} {kind}" for name, kind in touched]
    with LOCK:
        current = [r for r in records() if (r["Name"], r["Type"]) in touched]
    for record in current:
        alias = record.get("AliasTarget")
        values = record.get("ResourceRecords", [])
        if alias:
            address = target["addresses"].get(alias["DNSName"].rstrip("."))
            values = [address] if address else []
        ttl = record.get("TTL", 60)
        lines += [f"update add {record['Name']} {ttl} {record['Type']} {v}" for v in values]
    script = "\n".join([*lines, "send", ""])
    done = subprocess.run(
        ["nsupdate", "-y", target["key"]], input=script, capture_output=True, text=True, timeout=30
    )
    LOG.append({"zone": zone_name, "exit": done.returncode, "output": done.stderr, "at": time.time()})
