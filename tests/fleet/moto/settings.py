"""What the honest parts share: the lock around moto's state, delays, and work done later."""

import subprocess
import threading
import time

# Every look at and change of moto's state happens under it.
LOCK = threading.RLock()
# Told when a delay changes; what waits looks again.
CHANGED = threading.Condition()

# Seconds. Short, so that tests are quick; a test about waiting sets its own.
DELAYS = {
    "rds_promote": 0.3,
    "rds_reboot": 0.2,
    "rds_stop": 0.2,
    "rds_start": 0.2,
    "route53_insync": 0.2,
    "rds_restore": 0.2,
    "rds_replica": 0,
    "rds_zone": 0,
    "rds_cluster_failover": 0.2,
    "rds_global": 0.2,
    "elasticache_failover": 0.2,
    "elasticache_reboot": 0.2,
    "elasticache_global": 0.2,
    "autoscaling_launch": 0.2,
    "ecs_deploy": 0.2,
}

# What each hook's command did: {on, region, id, argv, exit, output, at}.
HOOK_LOG = []


def change(**given):
    """Applies to what is already waiting too: a test can hold a change for an hour, look around, and
    let it go by setting the delay to zero, instead of racing against a short one."""
    unknown = set(given) - set(DELAYS)
    if unknown:
        raise ValueError(f"unknown: {sorted(unknown)}; there are {sorted(DELAYS)}")
    with CHANGED:
        DELAYS.update(given)
        CHANGED.notify_all()
    return DELAYS


def over(name, since):
    """Whether the delay of this name, counted from `since`, has passed."""
    return time.monotonic() - since >= DELAYS[name]


def later(name, work):
    """Runs `work` when the delay of this name has passed, without the lock."""
    since = time.monotonic()

    def wait():
        with CHANGED:
            while not over(name, since):
                CHANGED.wait(DELAYS[name] - (time.monotonic() - since))
        work()

    threading.Thread(target=wait, daemon=True).start()


def run_hook(argv, **about):
    """Runs a command to its end and writes down what came of it; true when it succeeded."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        exit_code, output = done.returncode, done.stdout + done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        exit_code, output = None, repr(error)
    HOOK_LOG.append({**about, "argv": argv, "exit": exit_code, "output": output, "at": time.time()})
    return exit_code == 0
