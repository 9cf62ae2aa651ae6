use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

/// A server that hands each request (with its body) to `answer`; and what it was asked.
async fn site(answer: impl Fn(&str) -> String + Send + Sync + Clone + 'static) -> (Server, UnboundedReceiver<String>) {
    let (seen, requests) = unbounded_channel();
    let server = Server::start(move |_, mut stream| {
        let (answer, seen) = (answer.clone(), seen.clone());
        async move {
            while let Some(mut request) = read_request(&mut stream).await {
                let length = request.to_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length: ").and_then(|length| length.trim().parse().ok())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                if stream.read_exact(&mut body).await.is_err() {
                    return;
                }
                request.push_str(&String::from_utf8_lossy(&body));
                let text = answer(&request);
                let _ = seen.send(request);
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (server, requests)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A shop: logs in with a form, reads with a token and a cookie.
fn shop(request: &str) -> String {
    if request.starts_with("POST /login ") {
        if request.ends_with("\r\n\r\npassword=canary+pass%26word&user=probe") {
            let body = r#"{"access_token":"canary-token","n":7,"user":{"id":"canary-id"}}"#;
            return format!(
                "HTTP/1.1 200 OK\r\nset-cookie: session=canary-cookie; HttpOnly\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
        return answer("401 Unauthorized", "wrong: canary-pass");
    }
    let lower = request.to_lowercase();
    let known =
        lower.contains("authorization: bearer canary-token\r\n") && lower.contains("cookie: session=canary-cookie\r\n");
    if known { answer("200 OK", r#"{"status":"ok"}"#) } else { answer("403 Forbidden", "no: canary-token") }
}

fn steps(server: &Server, password: &std::path::Path, second: Value) -> Value {
    let mut read = json!({
        "url": format!("http://{}/orders?canary-query", server.address),
        "headers": { "authorization": { "join": ["Bearer ", { "taken": "token" }] } },
        "json": { "/status": "ok" },
    });
    read.as_object_mut().unwrap().extend(second.as_object().unwrap().clone());
    json!([
        {
            "url": format!("http://{}/login", server.address),
            "send": { "form": { "user": "probe", "password": { "file": password } } },
            "take": { "token": "/access_token", "number": "/n", "id": "/user/id" },
        },
        read,
    ])
}

fn sequence(steps: Value) -> Box<dyn Probe> {
    probe(json!({ "http_sequence": { "steps": steps } }))
}

fn password(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn what_the_login_gave_is_sent_by_the_next_step() {
    let (server, mut requests) = site(shop).await;
    let file = password("canary pass&word");
    let probe = sequence(steps(&server, file.path(), json!({})));
    for _ in 0..2 {
        let seen = attempt(&*probe, LONG).await;
        assert_eq!((seen.health(), seen.cause()), (Health::Up, None), "{seen:?}");
        let login = requests.recv().await.unwrap();
        assert!(login.contains("content-type: application/x-www-form-urlencoded\r\n"), "{login}");
        assert!(!login.to_lowercase().contains("cookie:"), "cookies live for one attempt: {login}");
        assert!(requests.recv().await.unwrap().starts_with("GET /orders?canary-query HTTP/1.1\r\n"));
    }
    // In a body as well, and in a table beside others.
    let other = json!({
        "send": { "json": { "who": { "taken": "id" }, "list": [1, { "join": ["n", { "taken": "number" }] }], "env": 1, "x": null } },
    });
    assert_eq!(attempt(&*sequence(steps(&server, file.path(), other)), LONG).await.health(), Health::Up);
    requests.recv().await.unwrap();
    let second = requests.recv().await.unwrap();
    assert!(second.starts_with("POST /orders") && second.contains("content-type: application/json\r\n"), "{second}");
    let sent: Value = serde_json::from_str(second.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(sent, json!({ "who": "canary-id", "list": [1, "n7"], "env": 1, "x": null }));
}

#[tokio::test]
async fn the_step_that_failed_is_named_and_nothing_that_was_taken() {
    let (server, _requests) = site(shop).await;
    let file = password("canary pass&word");
    for (second, kind, words) in [
        (json!({ "headers": {} }), CauseKind::HttpStatus, "step 2 of 2: the status is 403"),
        (json!({ "json": { "/status": "fine" } }), CauseKind::HttpBody, "step 2 of 2: /status is \"ok\""),
        (json!({ "status": [204] }), CauseKind::HttpStatus, "step 2 of 2: the status is 200"),
        (json!({ "take": { "none": "/none" } }), CauseKind::HttpBody, "step 2 of 2: there is no /none"),
        (
            json!({ "url": format!("http://{}/canary", closed_port().await) }),
            CauseKind::ConnectionRefused,
            "step 2 of 2: ",
        ),
    ] {
        let seen = attempt(&*sequence(steps(&server, file.path(), second)), LONG).await;
        assert_saw(&seen, Health::Down, kind);
        assert!(seen.cause().unwrap().detail.starts_with(words), "{seen:?}");
        assert!(!format!("{seen:?}").contains("canary"), "{seen:?}");
    }
    // What a server echoes of it is not shown either.
    let (echo, _requests) = site(|_| answer("200 OK", r#"{"access_token":"canary-token"}"#)).await;
    let step = json!([{
        "url": format!("http://{}/", echo.address),
        "take": { "token": "/access_token" },
        "json": { "/access_token": "another" },
    }]);
    let seen = attempt(&*sequence(step), LONG).await;
    assert_saw(&seen, Health::Down, CauseKind::HttpBody);
    assert!(!format!("{seen:?}").contains("canary"), "{seen:?}");
}

#[tokio::test]
async fn a_login_that_is_refused_says_nothing_of_the_target() {
    let file = password("canary wrong");
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "422 Unprocessable Content"] {
        let (server, _requests) = site(move |_| answer(status, "canary")).await;
        let seen = attempt(&*sequence(steps(&server, file.path(), json!({}))), LONG).await;
        assert_saw(&seen, Health::Unknown, CauseKind::AuthenticationFailed);
        assert!(seen.cause().unwrap().detail.starts_with("step 1 of 2: "), "{seen:?}");
    }
    for (status, health, kind) in [
        ("500 Internal Server Error", Health::Down, CauseKind::HttpStatus),
        ("302 Found", Health::Down, CauseKind::HttpStatus),
        ("429 Too Many Requests", Health::Unknown, CauseKind::LocalThrottled),
    ] {
        let (server, _requests) = site(move |_| answer(status, "")).await;
        assert_saw(&attempt(&*sequence(steps(&server, file.path(), json!({}))), LONG).await, health, kind);
    }
    let gone = std::path::Path::new("/nonexistent/password");
    let (server, _requests) = site(shop).await;
    let seen = attempt(&*sequence(steps(&server, gone, json!({}))), LONG).await;
    assert_saw(&seen, Health::Unknown, CauseKind::LocalCredentials);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn one_deadline_covers_all_steps_and_names_the_one_that_it_met() {
    let slow = Server::start(|_, mut stream| async move {
        let _ = read_request(&mut stream).await;
        tokio::time::sleep(SHORT * 3).await;
        let _ = stream.write_all(answer("200 OK", "").as_bytes()).await;
    })
    .await;
    let url = json!({ "url": format!("http://{}/", slow.address) });
    let seen = attempt(&*sequence(json!([url, url, url, url])), SHORT * 5).await;
    assert_saw(&seen, Health::Down, CauseKind::Timeout);
    assert!(seen.cause().unwrap().detail.starts_with("step 2 of 4: no whole answer"), "{seen:?}");
    let late = probe(json!({ "http_sequence": { "steps": [url, url], "max_latency": "150ms" } }));
    assert_saw(&attempt(&*late, LONG).await, Health::Down, CauseKind::Slow);
}

#[tokio::test]
async fn a_value_that_is_none_or_too_long_is_not_taken() {
    let long = format!(r#"{{"v":"{}"}}"#, "x".repeat(17_000));
    for (body, words) in [
        (r#"{"v":[1]}"#.to_owned(), "is no text"),
        ("nothing".to_owned(), "is not JSON"),
        (r#"{"w":1}"#.to_owned(), "there is no /v"),
        (long, "longer than 16 KiB"),
    ] {
        let (server, _requests) = site(move |_| answer("200 OK", &body)).await;
        let step = json!([{ "url": format!("http://{}/", server.address), "take": { "v": "/v" } }]);
        let seen = attempt(&*sequence(step), LONG).await;
        assert_saw(&seen, Health::Down, CauseKind::HttpBody);
        assert!(seen.cause().unwrap().detail.contains(words), "{seen:?}");
    }
    // What cannot stand in a header is not sent.
    let (server, mut requests) = site(|_| answer("200 OK", r#"{"v":"a\r\nx: y"}"#)).await;
    let url = format!("http://{}/", server.address);
    let two = json!([{ "url": url, "take": { "v": "/v" } }, { "url": url, "headers": { "x-v": { "taken": "v" } } }]);
    let seen = attempt(&*sequence(two), LONG).await;
    assert_eq!(seen.health(), Health::Down, "{seen:?}");
    requests.recv().await.unwrap();
    assert!(requests.try_recv().is_err(), "the second request was sent");
}

#[test]
fn what_cannot_be_used_is_named() {
    let step = |step: Value| refused(json!({ "http_sequence": { "steps": [{ "url": "http://h/" }, step] } }));
    assert!(step(json!({ "url": "ftp://u:hunter2@h/" })).starts_with("steps[1].url: has to begin"));
    assert!(step(json!({ "url": "http://h/", "method": "G T" })).starts_with("steps[1].method:"));
    assert!(step(json!({ "url": "http://h/", "headers": { "a b": "x" } })).starts_with("steps[1].headers.a b:"));
    assert!(step(json!({ "url": "http://h/", "matches": "(" })).starts_with("steps[1].matches:"));
    assert!(
        step(json!({ "url": "http://h/", "send": { "json": { "a": { "env": 3 } } } })).starts_with("steps[1].send:")
    );
    assert!(refused(json!({ "http_sequence": { "steps": [] } })).starts_with("steps:"));
    let nine: Vec<Value> = (0..9).map(|_| json!({ "url": "http://h/" })).collect();
    assert!(refused(json!({ "http_sequence": { "steps": nine } })).starts_with("steps:"));
}
