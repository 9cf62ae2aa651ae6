"""What the honest parts share: the lock around moto's state, delays, and work done later."""

import subprocess
import threading
import time

# Every look at and change of moto's state happens under it.
LOCK = threading.RLock()

# Seconds. Short, so that tests are quick; a test about waiting sets its own.
DELAYS = {
    "rds_promote": 0.3,
    "rds_reboot": 0.2,
    "rds_stop": 0.2,
    "rds_start": 0.2,
    "route53_insync": 0.2,
}

# What each hook's command did: {on, region, id, argv, exit, output, at}.
HOOK_LOG = []


def change(**given):
    unknown = set(given) - set(DELAYS)
    if unknown:
        raise ValueError(f"unknown: {sorted(unknown)}; there are {sorted(DELAYS)}")
    DELAYS.update(given)
    return DELAYS


def later(seconds, work):
    """Runs `work` after a while, without the lock."""
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()


def run_hook(argv, **about):
    """Runs a command to its end and writes down what came of it; true when it succeeded."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        exit_code, output = done.returncode, done.stdout + done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        exit_code, output = None, repr(error)
    HOOK_LOG.append({**about, "argv": argv, "exit": exit_code, "output": output, "at": time.time()})
    return exit_code == 0
