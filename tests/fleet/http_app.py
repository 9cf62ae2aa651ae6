#!/usr/bin/env python3
"""A small application as a process of its own, so that SIGKILL and SIGSTOP are honest.

usage: http_app.py PORT REGION

GET  /health    {"status": "ok", "region": REGION}, or what was set
GET  /_seen     {"requests": N}: how many requests came, control calls not counted
POST /_control  JSON with any of: status (int), body (text), content_type, delay (seconds),
                and reset (true: back to the start)
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class State:
    def __init__(self, region):
        self.region = region
        self.lock = threading.Lock()
        self.requests = 0
        self.reset()

    def reset(self):
        self.status = 200
        self.body = json.dumps({"status": "ok", "region": self.region})
        self.content_type = "application/json"
        self.delay = 0.0

    def control(self, change):
        with self.lock:
            if change.pop("reset", False):
                self.reset()
            for name, value in change.items():
                if name not in ("status", "body", "content_type", "delay"):
                    raise ValueError(f"unknown setting {name!r}")
                setattr(self, name, value)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes; with Nagle's algorithm that costs 40 ms.
    disable_nagle_algorithm = True

    def answer(self, status, body, content_type="application/json"):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        state = self.server.state
        if self.path == "/_seen":
            return self.answer(200, json.dumps({"requests": state.requests}))
        with state.lock:
            state.requests += 1
            status, body = state.status, state.body
            content_type, delay = state.content_type, state.delay
        if delay:
            time.sleep(delay)
        self.answer(status, body, content_type)

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/_control":
            return self.do_GET()
        try:
            self.server.state.control(json.loads(text))
        except ValueError as error:
            return self.answer(400, json.dumps({"error": str(error)}))
        self.answer(200, "{}")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    server.state = State(sys.argv[2])
    server.serve_forever()
