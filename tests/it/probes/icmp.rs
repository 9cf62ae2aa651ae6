//! Real echoes, in a network of our own where that has to be broken: a test runs itself again within
//! `unshare -n`, after the shell has set the network up.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use failoverd::model::{Health, Observation};
use failoverd::probes::attempt;
use serde_json::json;

use super::{LONG, SHORT, probe};

/// What the inner run looks at.
const HOST: &str = "FAILOVERD_TEST_ICMP_HOST";

/// Nobody may open an unprivileged ICMP socket in a new network.
const LOOPBACK: &str = "ip link set lo up";

fn myself() -> PathBuf {
    std::env::current_exe().expect("the test's own program")
}

/// What a probe sees of `host` within a network of its own, with the capabilities that are named.
fn seen_within(setup: &str, capabilities: &str, host: &str) -> String {
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", &format!("set -e; {setup}; exec setpriv {capabilities} \"$0\" \"$@\"")])
        .arg(myself())
        .args(["probes::icmp::inner", "--exact", "--ignored", "--nocapture"])
        .env(HOST, host)
        .output()
        .expect("unshare (util-linux) is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run the tests as root, with iproute2 and util-linux\n{text}{errors}");
    text.lines().find_map(|line| line.split_once("saw ").map(|(_, seen)| seen.to_owned())).unwrap_or_default()
}

const ALL: &str = "--";
const NO_RAW: &str = "--bounding-set -net_raw --inh-caps -net_raw --";

async fn look(host: &str, timeout: Duration) -> Observation {
    attempt(&*probe(json!({ "icmp": { "host": host } })), timeout).await
}

/// The inner run.
#[tokio::test]
#[ignore = "only within a network that another test of this file sets up"]
async fn inner() {
    let host = std::env::var(HOST).expect("started by another test of this file");
    let seen = look(&host, SHORT * 2).await;
    let cause = seen.cause();
    println!("\nsaw {} {}", seen.health(), cause.map_or(String::new(), ToString::to_string));
}

#[tokio::test]
async fn a_host_that_answers_is_up() {
    for host in ["127.0.0.1", "localhost"] {
        let seen = look(host, LONG).await;
        assert_eq!(seen.health(), Health::Up, "{host}: {seen:?}");
    }
    // Many at once: each hears its own answer.
    let all =
        futures::future::join_all((1..60).map(|last| async move { look(&format!("127.0.0.{last}"), LONG).await }));
    for seen in all.await {
        assert_eq!(seen.health(), Health::Up, "{seen:?}");
    }
}

#[test]
fn a_host_that_is_silent_is_down_and_one_without_a_way_is_unreachable() {
    let silent = format!(
        "{LOOPBACK}; ip link add d0 type veth peer name d1; ip addr add 10.9.9.1/24 dev d0; ip link set d0 up; ip link set d1 up"
    );
    let seen = seen_within(&silent, ALL, "10.9.9.2");
    assert!(seen.starts_with("down timeout: no whole answer within 1s"), "{seen}");
    // The answer of a router, or of our own kernel in its place.
    let refused = format!("{LOOPBACK}; ip route add unreachable 10.8.0.0/16");
    let seen = seen_within(&refused, ALL, "10.8.0.1");
    assert!(seen.starts_with("down unreachable: "), "{seen}");
    // Here it is we who have no way.
    let seen = seen_within(LOOPBACK, ALL, "10.7.0.1");
    assert!(seen.starts_with("unknown local_resource: "), "{seen}");
}

#[test]
fn either_kind_of_socket_will_do_and_without_both_it_is_unknown() {
    let seen = seen_within(LOOPBACK, NO_RAW, "127.0.0.1");
    assert!(seen.starts_with("unknown local_permission: we may not open an ICMP socket"), "{seen}");
    assert!(seen.contains("net.ipv4.ping_group_range") && seen.contains("CAP_NET_RAW"), "{seen}");
    assert_eq!(seen_within(LOOPBACK, ALL, "127.0.0.1").trim(), "up", "a raw socket");
    let unprivileged = format!("{LOOPBACK}; echo '0 0' > /proc/sys/net/ipv4/ping_group_range");
    assert_eq!(seen_within(&unprivileged, NO_RAW, "127.0.0.1").trim(), "up", "an unprivileged socket");
    assert_eq!(seen_within(&unprivileged, NO_RAW, "::1").trim(), "up", "and IPv6");
}
