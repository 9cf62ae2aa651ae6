#!/usr/bin/env python3
"""The AWS API for tests: moto, made as strict as AWS documents it, breakable, and with a call log.

usage: server.py PORT

moto by itself is too kind to a failover: promotions finish at once, changes are always in sync,
impossible changes succeed. `honest_rds.py` and `honest_route53.py` replace those parts; each rule
there names the AWS page it follows. This file is the outside: a WSGI application around moto with
control endpoints that no AWS API has (all JSON):

POST   /_fault     a rule {service, region, action, contains, kind, times, seconds, code, status,
                   message}; the first four narrow it (absent = any), `times` = how often (absent =
                   until cleared). Answers {"id": N}. Kinds: see KINDS.
DELETE /_fault     clears all rules and lets go what hangs
GET    /_fault     the rules with their hit counts
GET    /_calls     every API call so far, in order; DELETE forgets them
POST   /_settings  changes delays: see settings.py
POST   /_hook      {on: promote|stop|start|reboot, region, id, argv}: run this command when the
                   DB instance does that, so that a real server can stand behind it
POST   /_rds       {region, id, status}: puts a DB instance into any status
POST   /_rds_snapshot {region, id, status, age}: the same for a snapshot, or makes it older (seconds)
POST   /_rds_cluster {region, id, status}: the same for a cluster
POST   /_elasticache {region, id, status}: the same for a replication group or a cache cluster
POST   /_elasticache_global {id, members}: a global datastore of {region: replication group}
POST   /_eks       {region, name, status}: puts an EKS cluster into any status
POST   /_rds_maintenance {arn, action, date}: maintenance is pending
POST   /_elasticache_primary {region, id}: its node group loses its primary
POST   /_elasticache_shard {region, id, status}: puts its node group into any status
POST   /_iam_deny  {action, decision}: what the double of the policy simulator decides
POST   /_publish   {zone, server, port, key, addresses}: see publish.py
GET    /_state     DB instances and hosted zones as they are, and what the hooks did
"""

import io
import json
import logging
import os
import re
import socket
import struct
import sys
import threading
import time
from urllib.parse import parse_qsl

# Credentials of whoever runs the tests must not reach moto's own clients.
for name in [n for n in os.environ if n.startswith("AWS_")]:
    del os.environ[name]
os.environ.update(MOTO_PORT=sys.argv[1] if len(sys.argv) > 1 else "5000")

import faster  # noqa: E402, F401
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple  # noqa: E402

import honest_aurora  # noqa: E402
import honest_compute  # noqa: E402
import honest_elasticache  # noqa: E402
import honest_looks  # noqa: E402
import honest_rds  # noqa: E402
import honest_rds_backups  # noqa: E402
import honest_route53  # noqa: E402
import publish  # noqa: E402
import settings  # noqa: E402
import simulated_iam  # noqa: E402

# What a rule can do. `success_then_*` carry the call out first: the caller cannot know.
KINDS = {
    "throttle",
    "access_denied",
    "expired_token",
    "error",  # any: `status`, `code`, `message`
    "error500",
    "error503",
    "html502",
    "reset",
    "hang",
    "slow",
    "success_then_500",
    "success_then_timeout",
    "success_then_reset",
}


class Handler(MotoRequestHandler):
    """Ends a connection whose answer was withheld; werkzeug would keep it for the next request."""

    def connection_dropped(self, error, environ=None):
        # Closing with a zero linger time sends RST.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


class Rule:
    def __init__(self, number, given):
        unknown = set(given) - {
            "service", "region", "action", "contains", "kind",
            "times", "seconds", "code", "status", "message",
        }  # fmt: skip
        if unknown or given.get("kind") not in KINDS:
            raise ValueError(f"kind must be one of {sorted(KINDS)}; unknown: {unknown}")
        self.number, self.given, self.hits = number, given, 0
        self.released = threading.Event()

    def matches(self, call, raw):
        want = self.given
        if want.get("times") is not None and self.hits >= want["times"]:
            return False
        if any(want.get(k) not in (None, call[k]) for k in ("service", "region", "action")):
            return False
        return want.get("contains", "") in raw

    def wait(self, default):
        self.released.wait(self.given.get("seconds", default))


class Fleet:
    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.guard = threading.Lock()
        self.rules, self.calls, self.next_rule = [], [], 1

    def __call__(self, environ, start_response):
        # A chunked body has no length; werkzeug marks where it ends.
        length = environ.get("CONTENT_LENGTH") or (-1 if environ.get("wsgi.input_terminated") else 0)
        body = environ["wsgi.input"].read(int(length))
        environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        path = environ.get("PATH_INFO", "")
        if path.startswith("/_"):
            status, headers, answer = self.control(environ["REQUEST_METHOD"], path, body)
        else:
            status, headers, answer = self.api(environ, body)
        start_response(status, headers)
        return [answer]

    def api(self, environ, body):
        text = body.decode("utf-8", "replace")
        call = describe(environ, text)
        raw = f"{call['path']} {text}"
        with self.guard:
            call["n"] = len(self.calls)
            self.calls.append(call)
            rule = next((r for r in self.rules if r.matches(call, raw)), None)
            if rule:
                rule.hits += 1
        kind = rule and rule.given["kind"]
        call["fault"] = kind
        if kind == "hang":
            rule.wait(3600)
            raise ConnectionResetError("injected")
        if kind == "reset":
            raise ConnectionResetError("injected")
        if kind == "slow":
            rule.wait(5)
        elif kind and not kind.startswith("success_then"):
            return self.refuse(call, rule.given)
        status, headers, answer = self.run(environ)
        call["status"] = int(status.split()[0])
        call["carried_out"] = call["status"] < 400
        if kind == "success_then_timeout":
            rule.wait(3600)
        if kind in ("success_then_timeout", "success_then_reset"):
            raise ConnectionResetError("injected")
        if kind == "success_then_500":
            return self.refuse(call, rule.given)
        return status, headers, answer

    def run(self, environ):
        """One call at a time: moto's state is not made for threads."""
        seen = []
        with settings.LOCK:
            chunks = self.moto(environ, lambda status, headers, *_: seen.append((status, headers)))
            answer = b"".join(chunks)
        return *seen[0], answer

    def refuse(self, call, rule):
        status, code, message = {
            "throttle": (400, "Throttling", "Rate exceeded"),
            "access_denied": (403, "AccessDenied", "User is not authorized to perform this action"),
            "expired_token": (403, "ExpiredToken", "The security token included in the request is expired"),
            "error503": (503, "ServiceUnavailable", "Service is unavailable"),
            "error": (rule.get("status", 400), rule.get("code", "InvalidParameterValue"), rule.get("message", "injected")),
        }.get(rule["kind"], (500, "InternalFailure", "We encountered an internal error"))  # fmt: skip
        if rule["kind"] == "html502":
            call["status"] = 502
            page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
            return "502 Bad Gateway", [("Content-Type", "text/html")], page
        call["status"] = status
        line = f"{status} {'Internal Server Error' if status == 500 else 'Error'}"
        if call["protocol"] == "json":
            if code == "Throttling":
                code = "ThrottlingException"
            answer = json.dumps({"__type": code, "message": message}).encode()
            return line, [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", code)], answer
        if call["service"] == "s3":
            # AmazonS3/latest/API/ErrorResponses.html: the error is the root.
            answer = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            return line, [("Content-Type", "application/xml")], answer.encode()
        fault = "Sender" if status < 500 else "Receiver"
        answer = (
            f"<ErrorResponse><Error><Type>{fault}</Type><Code>{code}</Code>"
            f"<Message>{message}</Message></Error><RequestId>injected-{call['n']}</RequestId></ErrorResponse>"
        )
        return line, [("Content-Type", "text/xml")], answer.encode()

    def control(self, method, path, body):
        try:
            given = json.loads(body) if body else {}
            answer = self.answer_control(method, path, given)
            status = "200 OK"
        except (KeyError, TypeError, ValueError) as error:
            status, answer = "400 Bad Request", {"error": repr(error)}
        return status, [("Content-Type", "application/json")], json.dumps(answer, default=str).encode()

    def answer_control(self, method, path, given):
        if (method, path) == ("POST", "/_fault"):
            with self.guard:
                rule = Rule(self.next_rule, given)
                self.next_rule += 1
                self.rules.append(rule)
            return {"id": rule.number}
        if (method, path) == ("DELETE", "/_fault"):
            with self.guard:
                rules, self.rules = self.rules, []
            for rule in rules:
                rule.released.set()
            return {"cleared": len(rules)}
        if (method, path) == ("GET", "/_fault"):
            return [{"id": r.number, "hits": r.hits, **r.given} for r in self.rules]
        if (method, path) == ("GET", "/_calls"):
            return self.calls
        if (method, path) == ("DELETE", "/_calls"):
            with self.guard:
                self.calls = []
            return {}
        if (method, path) == ("GET", "/_state"):
            with settings.LOCK:
                return {
                    "rds": honest_rds.state(),
                    "route53": honest_route53.state(),
                    "hooks": settings.HOOK_LOG,
                    "published": publish.LOG,
                }
        post = {
            "/_settings": settings.change,
            "/_hook": honest_rds.set_hook,
            "/_rds": honest_rds.set_status,
            "/_rds_snapshot": honest_rds_backups.set_snapshot,
            "/_rds_cluster": honest_aurora.set_cluster,
            "/_elasticache": honest_elasticache.set_status,
            "/_elasticache_global": honest_elasticache.set_global,
            "/_eks": honest_compute.set_eks,
            "/_publish": publish.set_target,
            "/_rds_maintenance": honest_looks.set_maintenance,
            "/_elasticache_primary": honest_looks.lose_primary,
            "/_elasticache_shard": honest_looks.set_shard,
            "/_iam_deny": simulated_iam.deny,
        }
        if method != "POST" or path not in post:
            raise ValueError(f"no control endpoint {method} {path}")
        with settings.LOCK:
            return post[path](**given)


def describe(environ, text):
    """Which service, region and action a request is for, as its signature and protocol say."""
    scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    region, service = scope.groups() if scope else (None, None)
    path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
    target = environ.get("HTTP_X_AMZ_TARGET")
    params, protocol = {}, "xml"
    if target:
        action, protocol = target.rsplit(".", 1)[-1], "json"
        params = json.loads(text or "{}")
    elif "/operation/" in path:
        action, protocol = path.rsplit("/", 1)[-1], "cbor"
    elif "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", "") or "Action=" in text[:200]:
        params = dict(parse_qsl(text, keep_blank_values=True))
        action = params.pop("Action", None)
        params.pop("Version", None)
    else:
        action = rest_action(service, method, path)
        params = {"query": environ.get("QUERY_STRING", ""), "body": text}
    attempt = re.search(r"attempt=(\d+)", environ.get("HTTP_AMZ_SDK_REQUEST", ""))
    return {
        "at": time.time(),
        "service": service,
        "region": region,
        "action": action,
        "method": method,
        "path": path,
        "params": params,
        "protocol": protocol,
        # Which calls are retries of the same one, as the SDKs say.
        "invocation": environ.get("HTTP_AMZ_SDK_INVOCATION_ID"),
        "attempt": int(attempt.group(1)) if attempt else None,
        "user_agent": environ.get("HTTP_USER_AGENT"),
        "status": None,
        "carried_out": False,
    }


REST = {}


def rest_action(service, method, path):
    """The action of a REST call, by the service's own description in botocore."""
    if service not in REST:
        import botocore.session

        routes = []
        try:
            model = botocore.session.get_session().get_service_model(service)
        except Exception:  # an unknown service has no description
            model = None
        for name in model.operation_names if model else []:
            http = model.operation_model(name).http
            uri = http["requestUri"].split("?")[0].rstrip("/")
            pattern = re.sub(r"\\{[^}]*\\\+\\}", ".+", re.escape(uri))
            pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", pattern)
            routes.append((http["method"], re.compile(pattern + "/?$"), name))
        # The most literal description wins where several fit.
        routes.sort(key=lambda r: r[1].pattern.count("[^/]+"))
        REST[service] = routes
    fits = (name for m, pattern, name in REST[service] if m == method and pattern.match(path))
    return next(fits, None)


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    honest_rds.install()
    honest_rds_backups.install()
    honest_aurora.install()
    honest_compute.install()
    honest_elasticache.install()
    honest_route53.install()
    honest_looks.install()
    simulated_iam.install()
    run_simple(
        "127.0.0.1",
        int(sys.argv[1]),
        Fleet(),
        threaded=True,
        request_handler=Handler,
    )
