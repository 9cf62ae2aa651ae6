use serde_json::json;

use super::certificates::{Authority, DAY};
use super::*;

fn at(server: &Server, authority: &Authority, more: serde_json::Value) -> Box<dyn Probe> {
    let mut tls = json!({ "address": server.address.to_string(), "ca_file": authority.file() });
    tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    probe(json!({ "tls": tls }))
}

#[tokio::test]
async fn a_certificate_is_up_while_it_is_valid_for_long_enough() {
    let ours = Authority::new();
    let long = ours.identity("127.0.0.1", -DAY, 90 * DAY).serve().await;
    let seen = attempt(&*at(&long, &ours, json!({})), LONG).await;
    assert_eq!((seen.health(), seen.cause()), (Health::Up, None), "{seen:?}");

    // A minute more than five days, so that it is still five when it is looked at.
    let short = ours.identity("127.0.0.1", -DAY, 5 * DAY + 60).serve().await;
    let seen = attempt(&*at(&short, &ours, json!({})), LONG).await;
    assert_saw(&seen, Health::Up, CauseKind::CertificateExpiring);
    assert!(seen.cause().unwrap().detail.starts_with("the certificate ends in 5 days, on 20"), "{seen:?}");
    let seen = attempt(&*at(&short, &ours, json!({ "days_left": 4 })), LONG).await;
    assert_eq!((seen.health(), seen.cause()), (Health::Up, None), "{seen:?}");
    assert_saw(
        &attempt(&*at(&long, &ours, json!({ "days_left": 91 })), LONG).await,
        Health::Up,
        CauseKind::CertificateExpiring,
    );
}

#[tokio::test]
async fn what_is_not_valid_here_and_now_is_down() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (identity, words) in [
        (ours.identity("127.0.0.1", -9 * DAY, -DAY), "expired"),
        (ours.identity("127.0.0.1", DAY, 9 * DAY), "not valid yet"),
        (ours.identity("other.example", -DAY, 90 * DAY), "not valid for name"),
        (theirs.identity("127.0.0.1", -DAY, 90 * DAY), "BadSignature"),
        (ours.identity_through_another("127.0.0.1", false), "UnknownIssuer"),
    ] {
        let server = identity.serve().await;
        let seen = attempt(&*at(&server, &ours, json!({})), LONG).await;
        assert_saw(&seen, Health::Down, CauseKind::Tls);
        assert!(seen.cause().unwrap().detail.contains(words), "{words}: {seen:?}");
    }
    let whole = ours.identity_through_another("127.0.0.1", true).serve().await;
    let seen = attempt(&*at(&whole, &ours, json!({})), LONG).await;
    assert_eq!(seen.health(), Health::Up, "{seen:?}");
}

#[tokio::test]
async fn the_name_may_be_another_than_the_host() {
    let ours = Authority::new();
    let server = ours.identity("api.example", -DAY, 90 * DAY).serve().await;
    let named = at(&server, &ours, json!({ "server_name": "api.example" }));
    assert_eq!(attempt(&*named, LONG).await.health(), Health::Up);
    assert_saw(&attempt(&*at(&server, &ours, json!({})), LONG).await, Health::Down, CauseKind::Tls);
}

#[tokio::test]
async fn a_server_that_stalls_cuts_or_speaks_no_tls_is_down() {
    let ours = Authority::new();
    let silent = Server::start(|_, mut stream| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let started = std::time::Instant::now();
    let seen = attempt(&*at(&silent, &ours, json!({})), SHORT).await;
    assert_saw(&seen, Health::Down, CauseKind::Timeout);
    assert!(seen.cause().unwrap().detail.contains("no handshake"), "{seen:?}");
    assert!(started.elapsed() < SHORT * 5);
    let cutting = Server::start(|_, stream| async move { drop(stream) }).await;
    assert_saw(&attempt(&*at(&cutting, &ours, json!({})), LONG).await, Health::Down, CauseKind::ConnectionReset);
    let plain = Server::start(|_, mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    assert_saw(&attempt(&*at(&plain, &ours, json!({})), LONG).await, Health::Down, CauseKind::Tls);
    let nobody = probe(json!({ "tls": { "address": closed_port().await.to_string(), "ca_file": ours.file() } }));
    assert_saw(&attempt(&*nobody, LONG).await, Health::Down, CauseKind::ConnectionRefused);
}

#[test]
fn what_cannot_be_used_is_named() {
    assert!(refused(json!({ "tls": { "address": "api.example" } })).starts_with("address:"));
    assert!(refused(json!({ "tls": { "address": "h:1", "server_name": "a b" } })).starts_with("server_name:"));
    assert!(
        refused(json!({ "tls": { "address": "h:1", "ca_file": "/nonexistent.pem" } })).contains("/nonexistent.pem")
    );
}
