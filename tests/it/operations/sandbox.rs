//! The real daemon in the sandbox of its unit: callers keep their identity, and every kind of probe whose
//! server can be started beside it sees that server.

use std::path::Path;

use anyhow::{Result, ensure};

use super::shop::{BINARY, has};

const CONFIG: &str = r#"
[daemon]
name = "shop"
[control]
operators = ["games"]
[defaults.probe]
interval = "300ms"
timeout = "3s"
rise = 1
[probes.http]
http = { url = "http://127.0.0.1:9464/healthz" }
[probes.tcp]
tcp = { address = "localhost:6379" }
[probes.icmp]
icmp = { host = "127.0.0.1" }
[probes.dns]
dns = { name = "api.shop.example", record = "A", expect = ["192.0.2.7"], server = "127.0.0.1:5353" }
[probes.redis]
redis = { url = "redis://127.0.0.1:6379" }
[probes.postgres]
postgres = { url = "postgresql://postgres@127.0.0.1:5432/postgres", expect = "primary" }
[probes.tls]
tls = { address = "127.0.0.1:4433", server_name = "api.shop.example", ca_file = "/etc/failoverd/ca.pem" }
[probes.exec]
exec = { command = ["/usr/bin/test", "-d", "/usr"] }
[scenarios.outage]
severity = "P0"
when = "http is down"
confirm_for = "30s"
rto = "5m"
"#;

/// What answers any question with one address.
const DNS: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 5353))
while True:
    q, peer = s.recvfrom(2048)
    end = q.index(b"\0", 12) + 5
    answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\xc0\x00\x02\x07"
    s.sendto(q[:2] + b"\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00" + q[12:end] + answer, peer)
"#;

/// What is asked inside, one answer a line.
const CHECK: &str = r#"
echo booted
failoverd() { /usr/bin/failoverd-under-test "$@"; }
as() { setpriv --reuid="$1" --regid="$1" --clear-groups /usr/bin/failoverd-under-test "$2" 2>&1; }
# Many distributions set it so; a new network has none.
echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range
redis-server --port 6379 --save '' > /dev/null &
python3 /run/work/dns.py &
mkdir -p /tmp/tls && cd /tmp/tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=x \
    -addext subjectAltName=DNS:api.shop.example -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out ca.pem 2> /dev/null
install -m 0644 ca.pem /etc/failoverd/ca.pem
openssl s_server -quiet -accept 4433 -key key.pem -cert ca.pem > /dev/null 2>&1 &
pg=/usr/lib/postgresql/15/bin
install -d -o postgres /tmp/pg && cd /tmp/pg
pg() { program=$1; shift; setpriv --reuid=postgres --regid=postgres --init-groups $pg/$program "$@" > /dev/null 2>&1; }
pg initdb -D /tmp/pg/data --auth=trust --no-sync
pg postgres -D /tmp/pg/data -k /tmp/pg -F &
systemctl restart failoverd
probes() {
    failoverd status --json | python3 -c '
import json, sys
for probe in json.load(sys.stdin)["probes"]:
    print("probe:", probe["name"], probe["health"], probe["why"])'
}
for _ in $(seq 100); do [ "$(probes | grep -c ' up ')" = 8 ] && break; sleep 0.1; done
probes
echo "root: $(failoverd pause)"
echo "operator: $(as 5 resume)"
echo "stranger: $(as 65534 pause)"
echo "seen: $(cat /proc/$(systemctl show failoverd --property=MainPID --value)/status | grep -e Seccomp: -e CapBnd -e NoNewPrivs | tr -d '\t' | tr '\n' ' ')"
echo "root directory: $(ls /proc/$(systemctl show failoverd --property=MainPID --value)/root/ | tr '\n' ' ')"
"#;

#[test]
fn callers_and_probes_work_in_the_sandbox() -> Result<()> {
    let work = tempfile::tempdir()?;
    for (name, text) in [("check.sh", CHECK), ("dns.py", DNS), ("failoverd.toml", CONFIG)] {
        std::fs::write(work.path().join(name), text)?;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let booted = std::process::Command::new("timeout")
        .args(["--signal=KILL", "90", "sh"])
        .arg(here.join("tests/it/systemd_boot.sh"))
        .arg(work.path())
        .arg(here.join("systemd"))
        .args([BINARY, "run --config /etc/failoverd/failoverd.toml"])
        .output()?;
    let said = std::fs::read_to_string(work.path().join("said")).unwrap_or_default();
    ensure!(said.starts_with("booted"), "no systemd: {}", String::from_utf8_lossy(&booted.stderr));
    for probe in ["http", "tcp", "icmp", "dns", "redis", "postgres", "tls", "exec"] {
        has(&said, &[&format!("probe: {probe} up ")]);
    }
    has(
        &said,
        &[
            "root: ",
            "operator: ",
            "nobody (uid 65534) is in no list of [control]",
            "CapBnd:0000000000000000",
            "NoNewPrivs:1",
            "Seccomp:2",
        ],
    );
    ensure!(!said.contains("root: error") && !said.contains("operator: error"), "{said}");
    let root = said.lines().find_map(|line| line.strip_prefix("root directory: ")).unwrap_or_default();
    for hidden in ["home", "opt", "srv", "mnt", "boot"] {
        ensure!(!root.split(' ').any(|name| name == hidden), "{hidden} is there: {root}");
    }
    Ok(())
}
