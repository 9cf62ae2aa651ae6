//! Against the health service of tonic, over a real HTTP/2 server.

use std::convert::Infallible;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tower_service::Service;

use super::certificates::{Authority, DAY};
use super::*;

/// Serves HTTP/2 on a connection until it ends.
async fn serve<S, F, A>(stream: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A + Send + Sync + Clone + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// A server whose every request is answered so.
async fn answering<A>(answer: impl Fn() -> A + Send + Sync + Clone + 'static) -> Server
where
    A: Future<Output = Response<Body>> + Send + 'static,
{
    Server::start(move |_, stream| {
        let answer = answer.clone();
        serve(stream, move |_| answer())
    })
    .await
}

async fn saying(status: Status) -> Server {
    answering(move || {
        let status = status.clone();
        async move { status.into_http() }
    })
    .await
}

/// tonic's own health service; each connection is one of `acceptor` where there is one.
async fn healthy(acceptor: Option<tokio_rustls::TlsAcceptor>) -> (Server, tonic_health::server::HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let server = Server::start(move |_, stream| {
        let (health, acceptor) = (health.clone(), acceptor.clone());
        let answer = move |request: Request<Incoming>| {
            let mut health = health.clone();
            async move { health.call(request).await.unwrap_or_else(|never| match never {}) }
        };
        async move {
            match acceptor {
                None => serve(stream, answer).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, answer).await;
                    }
                }
            }
        }
    })
    .await;
    (server, reporter)
}

fn ask(server: &Server, service: &str) -> Box<dyn Probe> {
    probe(json!({ "grpc": { "url": format!("http://{}", server.address), "service": service } }))
}

#[tokio::test]
async fn the_servers_word_on_each_service_decides() {
    let (server, reporter) = healthy(None).await;
    let (whole, orders) = (ask(&server, ""), ask(&server, "shop.Orders"));
    for _ in 0..3 {
        let seen = attempt(&*whole, LONG).await;
        assert_eq!((seen.health(), seen.cause()), (Health::Up, None), "{seen:?}");
    }
    assert_eq!(server.connections(), 1, "the connection is kept");
    assert_saw(&attempt(&*orders, LONG).await, Health::Down, CauseKind::NotFound);
    for (status, seen) in [
        (ServingStatus::NotServing, Some(CauseKind::NotServing)),
        (ServingStatus::Serving, None),
        (ServingStatus::Unknown, Some(CauseKind::NotServing)),
    ] {
        reporter.set_service_status("shop.Orders", status).await;
        let looked = attempt(&*orders, LONG).await;
        assert_eq!(looked.cause().map(|cause| cause.kind), seen, "{looked:?}");
        assert_eq!(looked.health(), if seen.is_some() { Health::Down } else { Health::Up });
    }
    assert_eq!(attempt(&*whole, LONG).await.health(), Health::Up, "the server as a whole serves");
}

#[tokio::test]
async fn the_certificate_is_checked_and_http2_is_agreed_on() {
    let ours = Authority::new();
    let identity = ours.identity("127.0.0.1", -DAY, 90 * DAY);
    let secure = |server: &Server, authority: &Authority| {
        probe(json!({ "grpc": { "url": format!("https://{}", server.address), "ca_file": authority.file() } }))
    };
    let (server, _reporter) = healthy(Some(identity.acceptor(&[b"h2"]))).await;
    let seen = attempt(&*secure(&server, &ours), LONG).await;
    assert_eq!(seen.health(), Health::Up, "{seen:?}");
    assert_saw(&attempt(&*secure(&server, &Authority::new()), LONG).await, Health::Down, CauseKind::Tls);
    let (old, _reporter) = healthy(Some(identity.acceptor(&[b"http/1.1"]))).await;
    assert_saw(&attempt(&*secure(&old, &ours), LONG).await, Health::Down, CauseKind::Tls);
}

#[tokio::test]
async fn another_answer_has_its_own_cause() {
    for (code, health, kind) in [
        (Code::Unimplemented, Health::Down, CauseKind::Protocol),
        (Code::Unavailable, Health::Down, CauseKind::NotServing),
        (Code::Internal, Health::Down, CauseKind::QueryFailed),
        (Code::DeadlineExceeded, Health::Down, CauseKind::Timeout),
        (Code::Unauthenticated, Health::Unknown, CauseKind::AuthenticationFailed),
        (Code::PermissionDenied, Health::Unknown, CauseKind::AuthenticationFailed),
        (Code::ResourceExhausted, Health::Unknown, CauseKind::LocalThrottled),
    ] {
        let server = saying(Status::new(code, "for a reason")).await;
        let seen = attempt(&*ask(&server, ""), LONG).await;
        assert_saw(&seen, health, kind);
        assert!(seen.cause().unwrap().detail.contains("for a reason"), "{seen:?}");
    }
    // A proxy in its place.
    for (status, health, kind) in [
        (503_u16, Health::Down, CauseKind::HttpStatus),
        (404, Health::Down, CauseKind::HttpStatus),
        (403, Health::Unknown, CauseKind::AuthenticationFailed),
        (429, Health::Unknown, CauseKind::LocalThrottled),
    ] {
        let server =
            answering(move || async move { Response::builder().status(status).body(Body::empty()).unwrap() }).await;
        assert_saw(&attempt(&*ask(&server, ""), LONG).await, health, kind);
    }
    // 200, and no word of gRPC.
    let silent = answering(|| async { Response::new(Body::empty()) }).await;
    assert_eq!(attempt(&*ask(&silent, ""), LONG).await.health(), Health::Down);
}

#[tokio::test]
async fn what_is_no_http2_is_down() {
    let old = Server::start(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    assert_saw(&attempt(&*ask(&old, ""), LONG).await, Health::Down, CauseKind::Protocol);
    let cutting = Server::start(|_, stream| async move { drop(stream) }).await;
    assert_saw(&attempt(&*ask(&cutting, ""), LONG).await, Health::Down, CauseKind::ConnectionReset);
    let silent = Server::start(|_, mut stream| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    assert_saw(&attempt(&*ask(&silent, ""), SHORT).await, Health::Down, CauseKind::Timeout);
    let nobody = probe(json!({ "grpc": { "url": format!("http://{}", closed_port().await) } }));
    assert_saw(&attempt(&*nobody, LONG).await, Health::Down, CauseKind::ConnectionRefused);
}

/// The first connection answers once and then swallows everything, as a dead path does; it must not
/// be asked again, and nothing of it may be left.
#[tokio::test]
async fn a_connection_that_swallowed_an_attempt_is_not_used_again() {
    let (ended, mut first_ended) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |number, stream| {
        let (_reporter, health) = tonic_health::server::health_reporter();
        let requests = Arc::new(AtomicUsize::new(0));
        let ended = ended.clone();
        let answer = move |request: Request<Incoming>| {
            let (mut health, requests) = (health.clone(), Arc::clone(&requests));
            async move {
                if number == 0 && requests.fetch_add(1, Ordering::SeqCst) > 0 {
                    std::future::pending::<()>().await;
                }
                health.call(request).await.unwrap_or_else(|never| match never {})
            }
        };
        async move {
            serve(stream, answer).await;
            let _ = ended.send(number);
        }
    })
    .await;
    let probe = ask(&server, "");
    assert_eq!(attempt(&*probe, LONG).await.health(), Health::Up);
    assert_saw(&attempt(&*probe, SHORT).await, Health::Down, CauseKind::Timeout);
    let gone = tokio::time::timeout(LONG, first_ended.recv()).await.expect("the connection was closed");
    assert_eq!((gone, server.connections()), (Some(0), 1));
    let seen = attempt(&*probe, LONG).await;
    assert_eq!((seen.health(), server.connections()), (Health::Up, 2), "{seen:?}");
}

/// As at a restart: each connection serves one request, and is cut when the next one arrives.
#[tokio::test]
async fn a_kept_connection_that_was_cut_is_tried_again_afresh() {
    let server = Server::start(|_, stream| {
        let (_reporter, health) = tonic_health::server::health_reporter();
        let (cut, mut cutting) = tokio::sync::mpsc::unbounded_channel();
        let requests = Arc::new(AtomicUsize::new(0));
        let answer = move |request: Request<Incoming>| {
            let (mut health, requests, cut) = (health.clone(), Arc::clone(&requests), cut.clone());
            async move {
                if requests.fetch_add(1, Ordering::SeqCst) > 0 {
                    let _ = cut.send(());
                    std::future::pending::<()>().await;
                }
                health.call(request).await.unwrap_or_else(|never| match never {})
            }
        };
        async move {
            tokio::select! {
                () = serve(stream, answer) => {}
                _ = cutting.recv() => {}
            }
        }
    })
    .await;
    let probe = ask(&server, "");
    for connections in 1..4 {
        let seen = attempt(&*probe, LONG).await;
        assert_eq!((seen.health(), server.connections()), (Health::Up, connections), "{seen:?}");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    for url in
        ["orders.example:443", "ftp://orders.example", "https://orders.example/health", "https://u@orders.example"]
    {
        assert!(refused(json!({ "grpc": { "url": url } })).starts_with("url:"), "{url}");
    }
}
