"""Somebody who may use the control socket and means no good. Prints what came of it as JSON.

usage: intruder.py SOCKET
"""
import json
import select
import socket
import sys
import threading
import time

PATH = sys.argv[1]


def connect(timeout=60):
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(timeout)
    one.connect(PATH)
    return one


def answer(one):
    """Everything until the other side closes; the status is in the first line."""
    parts = []
    try:
        while part := one.recv(65536):
            parts.append(part)
    except (ConnectionError, BrokenPipeError):
        pass
    return b"".join(parts)


def status(raw):
    words = raw.split(b" ", 2)
    return int(words[1]) if len(words) > 2 and words[0].startswith(b"HTTP/") else 0


def ask(raw):
    one = connect()
    try:
        one.sendall(raw)
    except (ConnectionError, BrokenPipeError):
        pass
    return status(answer(one))


# They hold their places before the crowd comes.
dripping = threading.Semaphore(0)


def drip(head):
    """One byte a second until the other side has had enough; how long that took, and what it said."""
    begun = time.monotonic()
    one = connect()
    one.sendall(head)
    dripping.release()
    while time.monotonic() - begun < 40:
        ready, _, _ = select.select([one], [], [], 1)
        if ready:
            break
        try:
            one.send(b"x")
        except (ConnectionError, BrokenPipeError):
            break
    said = status(answer(one))
    return {"seconds": time.monotonic() - begun, "status": said}


def crowd(count):
    """So many connections at once: how many were turned away."""
    held = [connect() for _ in range(count)]
    away, until = 0, time.monotonic() + 3
    left = list(held)
    while left and time.monotonic() < until:
        ready, _, _ = select.select(left, [], [], 0.2)
        for one in ready:
            try:
                away += one.recv(1) == b""
            except ConnectionError:
                away += 1
            left.remove(one)
    return {"turned_away": away, "held": len(left)}


def post(body, path="/v1/command", extra=""):
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


RUBBISH = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
    "no version": b"GET\r\n\r\n",
    "two lengths": b"POST /v1/command HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "a length of less than nothing": b"POST /v1/command HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    "broken chunks": b"POST /v1/command HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nxx\r\n0\r\n\r\n",
    "a line break in a name": b"GET /v1/status HTTP/1.1\r\nho\nst: x\r\n\r\n",
    "a long head": b"GET /v1/status HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 300_000 + b"\r\n\r\n",
    "many heads": b"GET /v1/status HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    "a long path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "no json": post(b"pause"),
    "no utf-8": post(b'{"command": "\xff\xfe"}'),
    "a deep body": post(b"[" * 60_000),
    "a deep object": post(b'{"command":' * 5_000 + b"1"),
    "an unknown command": post(b'{"command": "explode"}'),
    "a number for a name": post(b'{"command": "ack", "incident": 7}'),
    "a long body": post(b'{"command": "ack", "incident": "' + b"a" * 100_000 + b'"}'),
    "out of the tree": post(b"", "/v1/../../etc/passwd"),
    "a path that is no text": b"GET /v1/runs/%ff%fe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
}

said = {name: ask(raw) for name, raw in RUBBISH.items()}
slow = {}
threads = [
    threading.Thread(target=lambda name=name, head=head: slow.__setitem__(name, drip(head)))
    for name, head in {
        "head": b"GET /v1/status HTTP/1.1\r\nx: ",
        "body": b"POST /v1/command HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n",
    }.items()
]
for thread in threads:
    thread.start()
for thread in threads:
    dripping.acquire()
crowded = crowd(200)
for thread in threads:
    thread.join()
print(json.dumps({"said": said, "crowd": crowded, "slow": slow}))
