use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::probes::runner::{ProbeRunner, ProbeSpec};

fn get(server: &Server, more: serde_json::Value) -> Box<dyn Probe> {
    let mut http = json!({ "url": format!("http://{}/health?token=hunter2", server.address) });
    http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    probe(json!({ "http": http }))
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn a_right_answer_is_up_and_the_connection_is_kept_for_a_while() {
    let server = Server::answering(answer("200 OK", r#"{"status":"ok","n":[1,2]}"#)).await;
    let probe = get(
        &server,
        json!({ "contains": "status", "matches": "^\\{.*\\}$", "json": { "/status": "ok", "/n/1": 2.0 }, "max_latency": "10s", "fresh_every": 5 }),
    );
    for _ in 0..5 {
        let seen = attempt(&*probe, LONG).await;
        assert_eq!(seen.health(), Health::Up, "{seen:?}");
    }
    assert_eq!(server.connections(), 1);
    for _ in 0..5 {
        assert_eq!(attempt(&*probe, LONG).await.health(), Health::Up);
    }
    assert_eq!(server.connections(), 2, "after five attempts the connection is a new one");
}

#[tokio::test]
async fn one_request_a_connection_says_so_and_a_kept_one_serves_ten() {
    let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |_, mut stream| {
        let asked = asked.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                let _ = asked.send(request);
                let _ = stream.write_all(&answer("200 OK", "ok")).await;
            }
        }
    })
    .await;
    let fresh = get(&server, json!({ "fresh_every": 1 }));
    for _ in 0..3 {
        assert_eq!(attempt(&*fresh, LONG).await.health(), Health::Up);
        assert!(requests.recv().await.unwrap().contains("connection: close\r\n"));
    }
    assert_eq!(server.connections(), 3);
    let kept = get(&server, json!({}));
    for _ in 0..20 {
        assert_eq!(attempt(&*kept, LONG).await.health(), Health::Up);
        assert!(!requests.recv().await.unwrap().contains("connection:"));
    }
    assert_eq!(server.connections(), 5);
}

#[tokio::test]
async fn chunks_and_interim_answers_are_read_and_what_comes_too_much_ends_the_connection() {
    let chunked = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n";
    let server = Server::answering(chunked).await;
    let probe = get(&server, json!({ "contains": "fine" }));
    for _ in 0..3 {
        let seen = attempt(&*probe, LONG).await;
        assert_eq!(seen.health(), Health::Up, "{seen:?}");
    }
    assert_eq!(server.connections(), 1);
    // A second answer that nobody asked for must not be taken for the next one's.
    let twice = [answer("200 OK", "ok"), answer("500 No", "")].concat();
    let server = Server::answering(twice).await;
    let probe = get(&server, json!({}));
    for _ in 0..2 {
        assert_eq!(attempt(&*probe, LONG).await.health(), Health::Up);
    }
    assert_eq!(server.connections(), 2);
    let endless = Server::answering("HTTP/1.1 100 Continue\r\n\r\n".repeat(20)).await;
    assert_saw(&attempt(&*get(&endless, json!({})), LONG).await, Health::Down, CauseKind::Protocol);
}

#[tokio::test]
async fn a_wrong_status_or_body_is_down_with_its_own_cause() {
    for (status, body, more, kind) in [
        ("503 Service Unavailable", "", json!({}), CauseKind::HttpStatus),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", "", json!({}), CauseKind::HttpStatus),
        ("200 OK", "", json!({ "status": [204] }), CauseKind::HttpStatus),
        ("200 OK", "fine", json!({ "contains": "ok" }), CauseKind::HttpBody),
        ("200 OK", "fine", json!({ "matches": "^ok$" }), CauseKind::HttpBody),
        ("200 OK", "fine", json!({ "json": { "/status": "ok" } }), CauseKind::HttpBody),
        ("200 OK", r#"{"status":"bad"}"#, json!({ "json": { "/status": "ok" } }), CauseKind::HttpBody),
        ("200 OK", "{}", json!({ "json": { "/status": "ok" } }), CauseKind::HttpBody),
    ] {
        let server = Server::answering(answer(status, body)).await;
        let seen = attempt(&*get(&server, more), LONG).await;
        assert_saw(&seen, Health::Down, kind);
        assert!(!format!("{seen:?}").contains("hunter2"));
    }
    let server = Server::answering(answer("302 Found\r\nlocation: http://127.0.0.1:1/", "")).await;
    assert_eq!(attempt(&*get(&server, json!({ "status": [302] })), LONG).await.health(), Health::Up);
}

#[tokio::test]
async fn a_right_answer_that_is_late_is_slow() {
    let server = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        let _ = stream.write_all(&answer("200 OK", "ok")).await;
    })
    .await;
    let seen = attempt(&*get(&server, json!({ "max_latency": "50ms" })), LONG).await;
    assert_saw(&seen, Health::Down, CauseKind::Slow);
}

#[tokio::test]
async fn the_deadline_covers_everything() {
    // Silence, headers without end, and a body at one byte at a time.
    let silent = Server::start(|_, mut stream| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let trickle = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let slow_headers = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x-more: x\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for server in [silent, trickle, slow_headers] {
        let started = std::time::Instant::now();
        let seen = attempt(&*get(&server, json!({})), SHORT).await;
        assert_saw(&seen, Health::Down, CauseKind::Timeout);
        assert!(started.elapsed() < SHORT * 5);
    }
}

#[tokio::test]
async fn endless_headers_and_bodies_are_bounded() {
    let headers = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x-more: 0123456789012345678901234567890123456789\r\n").await.is_ok() {}
    })
    .await;
    assert_saw(&attempt(&*get(&headers, json!({})), LONG).await, Health::Down, CauseKind::Protocol);

    let body = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nfirst").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    assert_eq!(attempt(&*get(&body, json!({ "contains": "first" })), LONG).await.health(), Health::Up);
    let seen = attempt(&*get(&body, json!({ "contains": "last" })), LONG).await;
    assert_saw(&seen, Health::Down, CauseKind::HttpBody);
    assert!(seen.cause().unwrap().detail.contains("1 MiB"), "{seen:?}");
}

#[tokio::test]
async fn a_cut_connection_is_reset_and_a_kept_one_is_tried_again() {
    let cut = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
    })
    .await;
    assert_saw(&attempt(&*get(&cut, json!({})), LONG).await, Health::Down, CauseKind::ConnectionReset);

    // Serves one request per connection and then cuts it without a word, when the next arrives.
    let restarting = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(&answer("200 OK", "ok")).await;
        read_request(&mut stream).await;
    })
    .await;
    let probe = get(&restarting, json!({}));
    for _ in 0..3 {
        let seen = attempt(&*probe, LONG).await;
        assert_eq!(seen.health(), Health::Up, "{seen:?}");
    }
}

#[tokio::test]
async fn what_may_change_something_never_goes_over_a_kept_connection() {
    // Each connection serves one request, and swallows the next.
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let stale = Server::start(move |_, mut stream| {
        let count = Arc::clone(&count);
        async move {
            while read_request(&mut stream).await.is_some() {
                if count.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                    return;
                }
                let _ = stream.write_all(&answer("200 OK", "ok")).await;
            }
        }
    })
    .await;
    let post = get(&stale, json!({ "method": "POST" }));
    attempt(&*post, LONG).await;
    // The second request is swallowed, and nobody sends it again.
    assert_saw(&attempt(&*post, LONG).await, Health::Down, CauseKind::ConnectionReset);
    assert_eq!((requests.load(Ordering::SeqCst), stale.connections()), (2, 2));
}

/// Looks of a probe of this server until it is quiet; regular ones are an hour apart.
async fn looks(server: &Server) -> u64 {
    looks_with(server, json!({}), 1).await
}

/// After so many that were asked for, one after the other.
async fn looks_with(server: &Server, more: serde_json::Value, asked: u32) -> u64 {
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let (runner, handle) = ProbeRunner::new(sender, CancellationToken::new());
    let hour = Duration::from_secs(3600);
    let mut http = json!({ "url": format!("http://{}/", server.address) });
    http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let http = serde_json::from_value(http).unwrap();
    let nudged = ProbeContext { nudge: Some(handle.nudge(&"web".into())), ..context() };
    let probe = build(&ProbeKind::Http(http), &nudged).unwrap().into();
    let spec = ProbeSpec { name: "web".into(), index: 0, interval: hour, fast_interval: hour, timeout: LONG, probe };
    handle.replace(vec![spec]);
    let _task = AbortOnDropHandle::new(tokio::spawn(runner.run()));
    for _ in 0..asked {
        handle.probe_now(&"web".into());
        tokio::time::timeout(LONG, events.recv()).await.expect("no report came").expect("the runner ended");
    }
    while tokio::time::timeout(SHORT * 2, events.recv()).await.is_ok() {}
    handle.stats().started
}

#[tokio::test]
async fn a_cut_between_two_looks_calls_for_one_and_a_close_that_was_announced_does_not() {
    let closing = Server::answering(answer("200 OK\r\nConnection: Close", "ok")).await;
    assert_eq!(looks(&closing).await, 1);
    let cutting = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(&answer("200 OK", "ok")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    assert_eq!(looks(&cutting).await, 2, "at once, and only once in an interval");
}

#[tokio::test]
async fn every_address_of_a_name_is_asked() {
    let server = Server::answering(answer("200 OK", "ok")).await;
    let every = |url: String| probe(json!({ "http": { "url": url, "every_address": true } }));
    let good = every(format!("http://{}/", server.address));
    for _ in 0..2 {
        assert_eq!(attempt(&*good, LONG).await.health(), Health::Up);
    }
    assert_eq!(server.connections(), 2, "over a connection of its own");
    let refused = every(format!("http://{}/", closed_port().await));
    assert_saw(&attempt(&*refused, LONG).await, Health::Down, CauseKind::ConnectionRefused);
}

/// One look in so many is fresh; until then the old connection waits only to tell of a cut.
#[tokio::test]
async fn a_cut_of_a_connection_that_has_served_its_time_is_told_too() {
    let two = Server::start(|_, mut stream| async move {
        for _ in 0..2 {
            read_request(&mut stream).await;
            let _ = stream.write_all(&answer("200 OK", "ok")).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    assert_eq!(looks_with(&two, json!({ "fresh_every": 2 }), 2).await, 3, "the third because of the cut");
    assert_eq!(two.connections(), 2, "and it is fresh");
    assert_eq!(looks_with(&two, json!({ "fresh_every": 1 }), 2).await, 2, "nothing is kept");
}

#[tokio::test]
async fn credentials_that_are_not_taken_say_nothing_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hunter2").unwrap();
    for status in ["401 Unauthorized", "407 Proxy Authentication Required"] {
        let server = Server::answering(answer(status, "")).await;
        for more in [
            json!({ "headers": { "x-anything": { "file": file } } }),
            json!({ "headers": { "authorization": "Bearer x" } }),
            json!({ "url": format!("http://me:hunter2@{}/", server.address) }),
        ] {
            let seen = attempt(&*get(&server, more), LONG).await;
            assert_saw(&seen, Health::Unknown, CauseKind::AuthenticationFailed);
        }
        // Nobody said who we are; and where it is expected it is right.
        let seen = attempt(&*get(&server, json!({ "headers": { "x-plain": "x" } })), LONG).await;
        assert_saw(&seen, Health::Down, CauseKind::HttpStatus);
        let expected = json!({ "headers": { "authorization": "Bearer x" }, "status": [401, 407] });
        assert_eq!(attempt(&*get(&server, expected), LONG).await.health(), Health::Up);
    }
}

#[tokio::test]
async fn garbage_and_refusal_have_their_causes() {
    let garbage = Server::answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    assert_saw(&attempt(&*get(&garbage, json!({})), LONG).await, Health::Down, CauseKind::Protocol);
    let url = format!("http://u:hunter2@{}/hunter2", closed_port().await);
    let seen = attempt(&*probe(json!({ "http": { "url": url } })), LONG).await;
    assert_saw(&seen, Health::Down, CauseKind::ConnectionRefused);
    assert!(!format!("{seen:?}").contains("hunter2"));
}

#[tokio::test]
async fn headers_and_credentials_are_sent_and_secrets_are_read_anew() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |_, mut stream| {
        let seen = seen.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                let _ = seen.send(request);
                let _ = stream.write_all(&answer("200 OK", "")).await;
            }
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let url = format!("http://me:p%40ss@{}/", server.address);
    let probe = probe(json!({ "http": { "url": url, "method": "HEAD", "headers": { "x-token": { "file": file } } } }));
    assert_eq!(attempt(&*probe, LONG).await.health(), Health::Up);
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("HEAD / HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-token: first\r\n"), "{request}");
    assert!(request.contains("authorization: Basic bWU6cEBzcw==\r\n"), "{request}");
    std::fs::write(&file, "second").unwrap();
    assert_eq!(attempt(&*probe, LONG).await.health(), Health::Up);
    assert!(requests.recv().await.unwrap().contains("x-token: second\r\n"));
    std::fs::remove_file(&file).unwrap();
    assert_saw(&attempt(&*probe, LONG).await, Health::Unknown, CauseKind::LocalCredentials);
}

/// A server with a certificate that `ca_file` vouches for, valid for the given name.
async fn tls_server(name: &str) -> (Server, tempfile::NamedTempFile) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = [0; 1024];
            while stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                let _ = stream.write_all(&answer("200 OK", "ok")).await;
            }
        }
    })
    .await;
    (server, ca)
}

#[tokio::test]
async fn the_certificate_is_checked_against_the_named_authority() {
    let (server, ca) = tls_server("127.0.0.1").await;
    let url = format!("https://{}/", server.address);
    let good = probe(json!({ "http": { "url": url, "ca_file": ca.path() } }));
    let seen = attempt(&*good, LONG).await;
    assert_eq!(seen.health(), Health::Up, "{seen:?}");
    // Another authority, another name, and no TLS at all.
    let (foreign, other) = tls_server("other.example").await;
    let stranger = probe(json!({ "http": { "url": url, "ca_file": other.path() } }));
    assert_saw(&attempt(&*stranger, LONG).await, Health::Down, CauseKind::Tls);
    let url = format!("https://{}/", foreign.address);
    let misnamed = probe(json!({ "http": { "url": url, "ca_file": other.path() } }));
    assert_saw(&attempt(&*misnamed, LONG).await, Health::Down, CauseKind::Tls);
    let plain = Server::start(|_, mut stream| async move {
        let _ = stream.write_all(&answer("400 Bad Request", "")).await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let url = format!("https://{}/", plain.address);
    let plain = probe(json!({ "http": { "url": url, "ca_file": ca.path() } }));
    assert_saw(&attempt(&*plain, LONG).await, Health::Down, CauseKind::Tls);
}

#[test]
fn what_cannot_be_used_is_named() {
    let http = |more: serde_json::Value| {
        let mut http = json!({ "url": "http://h/" });
        http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(json!({ "http": http }))
    };
    assert!(http(json!({ "url": "ftp://u:hunter2@h/" })).starts_with("url: has to begin"));
    assert!(!http(json!({ "url": "u:hunter2@h" })).contains("hunter2"));
    assert!(http(json!({ "method": "G T" })).starts_with("method:"));
    assert!(http(json!({ "headers": { "a b": "x" } })).starts_with("headers.a b:"));
    assert!(http(json!({ "matches": "(" })).starts_with("matches:"));
    assert!(http(json!({ "json": { "status": 1 } })).contains("write `/status`"));
    assert!(http(json!({ "status": [99] })).starts_with("status:"));
    assert!(http(json!({ "ca_file": "/nonexistent.pem" })).contains("/nonexistent.pem"));
}
