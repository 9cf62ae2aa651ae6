//! Answers that are meant to hurt whoever asks: each ends in a cause with a name, soon and small.

use std::time::Instant;

use serde_json::json;

use super::*;

fn ask(server: &Server, scheme: &str, more: serde_json::Value) -> Box<dyn Probe> {
    let mut http = json!({ "url": format!("{scheme}://{}/", server.address) });
    http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    probe(json!({ "http": http }))
}

#[tokio::test]
async fn a_tls_handshake_that_stalls_is_a_timeout() {
    // Silent from the start, and after the first bytes of a handshake record.
    for said in [&b""[..], b"\x16\x03\x03\x40\x00\x02"] {
        let stalling = Server::start(move |_, mut stream| async move {
            let _ = stream.write_all(said).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        })
        .await;
        let started = Instant::now();
        let seen = attempt(&*ask(&stalling, "https", json!({})), SHORT).await;
        assert_saw(&seen, Health::Down, CauseKind::Timeout);
        assert!(seen.cause().unwrap().detail.contains("no handshake"), "{seen:?}");
        assert!(started.elapsed() < SHORT * 5);
    }
}

/// Answers with ten gigabytes, and counts how many of them were taken.
#[tokio::test]
async fn ten_gigabytes_are_not_read() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let huge = Server::start(move |_, mut stream| {
        let count = Arc::clone(&count);
        async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\nfirst").await;
            while let Ok(length) = stream.write(&[b'x'; 65536]).await {
                count.fetch_add(length, Ordering::SeqCst);
            }
        }
    })
    .await;
    assert_eq!(attempt(&*ask(&huge, "http", json!({ "contains": "first" })), LONG).await.health(), Health::Up);
    let seen = attempt(&*ask(&huge, "http", json!({ "contains": "last" })), LONG).await;
    assert_saw(&seen, Health::Down, CauseKind::HttpBody);
    assert!(seen.cause().unwrap().detail.contains("1 MiB"), "{seen:?}");
    // What the kernel's buffers took comes on top of what we read.
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "{} bytes", sent.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_bomb_is_not_unpacked_and_not_asked_for() {
    let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
    // The head of a gzip stream; what it would unpack to is nobody's concern.
    let packed = b"\x1f\x8b\x08\x00bomb";
    let bomb = Server::start(move |_, mut stream| {
        let asked = asked.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                let _ = asked.send(request);
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                    packed.len()
                );
                let _ = stream.write_all(&[head.as_bytes(), packed].concat()).await;
            }
        }
    })
    .await;
    // The bytes as they came, and so no JSON.
    assert_eq!(attempt(&*ask(&bomb, "http", json!({ "contains": "bomb" })), LONG).await.health(), Health::Up);
    let seen = attempt(&*ask(&bomb, "http", json!({ "json": { "/a": 1 } })), LONG).await;
    assert_saw(&seen, Health::Down, CauseKind::HttpBody);
    assert!(seen.cause().unwrap().detail.contains("not JSON"), "{seen:?}");
    assert!(!requests.recv().await.unwrap().to_lowercase().contains("accept-encoding"));
}

#[tokio::test]
async fn a_redirect_is_not_followed_wherever_it_leads() {
    let secret = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for target in ["http://169.254.169.254/latest/meta-data/".to_owned(), format!("http://{}/", secret.address)] {
        for status in [301, 302, 303, 307, 308] {
            let answer = format!("HTTP/1.1 {status} There\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
            let redirecting = Server::answering(answer).await;
            let seen = attempt(&*ask(&redirecting, "http", json!({})), LONG).await;
            assert_saw(&seen, Health::Down, CauseKind::HttpStatus);
            assert_eq!(seen.cause().unwrap().detail, format!("the status is {status}"));
            assert_eq!(redirecting.connections(), 1);
        }
    }
    assert_eq!(secret.connections(), 0);
}

/// One byte at a time: of the status line, of a header, of a chunk.
#[tokio::test]
async fn a_drip_ends_at_the_deadline() {
    for start in ["", "HTTP/1.1 200 OK\r\nx: ", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n"] {
        let dripping = Server::start(move |_, mut stream| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(start.as_bytes()).await;
            for byte in b"HTTP/1.1 200 OK\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let started = Instant::now();
        assert_saw(&attempt(&*ask(&dripping, "http", json!({})), SHORT).await, Health::Down, CauseKind::Timeout);
        assert!(started.elapsed() < SHORT * 5);
    }
}
