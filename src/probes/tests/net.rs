use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig};
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use serde_json::json;
use tokio::net::UdpSocket;

use super::*;
use crate::config::probe::{HttpProbe, TcpProbe};
use crate::probes::dial::dial_any;
use crate::probes::names::Names;

#[tokio::test]
async fn a_connection_is_up_refused_or_swallowed() {
    let server = Server::answering("").await;
    let tcp = |address: SocketAddr| probe(json!({ "tcp": { "address": address.to_string() } }));
    assert_eq!(attempt(&*tcp(server.address), LONG).await.health(), Health::Up);
    let seen = attempt(&*tcp(closed_port().await), LONG).await;
    assert_saw(&seen, Health::Down, CauseKind::ConnectionRefused);
    let hole = black_hole().await;
    let seen = attempt(&*tcp(hole.0), SHORT).await;
    assert_saw(&seen, Health::Down, CauseKind::Timeout);
    assert!(seen.cause().unwrap().detail.starts_with("no connection"), "{seen:?}");
}

#[test]
fn an_address_has_a_host_and_a_port() {
    for address in ["h", "h:", ":1", "h:0", "h:99999", "2001:db8::1:80", "a b:1", ""] {
        assert!(refused(json!({ "tcp": { "address": address } })).starts_with("address:"), "{address}");
    }
    for address in ["h:1", "[2001:db8::1]:80", "192.0.2.1:443"] {
        probe(json!({ "tcp": { "address": address } }));
    }
}

/// What the name server of these tests does, by the name that it is asked for.
fn answer_to(query: &Message, over_tcp: bool) -> Option<Message> {
    let question = query.queries.first()?.clone();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.add_query(question.clone());
    let name = question.name().clone();
    let data = match name.to_ascii().split('.').next()? {
        "up" | "lossy" => RData::A(A::new(192, 0, 2, 1)),
        "slow" => RData::A(A::new(127, 0, 0, 1)),
        "alias" => RData::CNAME(CNAME(Name::from_ascii("LB.example.").ok()?)),
        "text" => RData::TXT(TXT::new(vec!["Some Text.".into()])),
        "long" if over_tcp => RData::A(A::new(192, 0, 2, 2)),
        "long" => {
            answer.metadata.truncation = true;
            return Some(answer);
        }
        "failing" => {
            answer.metadata.response_code = ResponseCode::ServFail;
            return Some(answer);
        }
        "refusing" => {
            answer.metadata.response_code = ResponseCode::Refused;
            return Some(answer);
        }
        // Round and round; and as some servers send it, all of it in one answer.
        "loop" => RData::CNAME(CNAME(Name::from_ascii("pool.example.").ok()?)),
        "pool" => RData::CNAME(CNAME(Name::from_ascii("loop.example.").ok()?)),
        // An address of the other family than the one that was asked for.
        "crossed" if wanted_family(&question) == Some(4) => RData::AAAA(AAAA::new(0, 0, 0, 0, 0, 0, 0, 1)),
        "crossed" => RData::A(A::new(127, 0, 0, 1)),
        "silent" => return None,
        "empty" => return Some(answer),
        _ => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return Some(answer);
        }
    };
    let wanted = question.query_type();
    let crossed = question.name().to_ascii().starts_with("crossed");
    if data.record_type() == wanted || crossed || matches!(data, RData::CNAME(_)) {
        answer.add_answer(Record::from_rdata(name, 60, data));
    }
    Some(answer)
}

fn wanted_family(question: &Query) -> Option<u8> {
    match question.query_type() {
        RecordType::A => Some(4),
        RecordType::AAAA => Some(6),
        _ => None,
    }
}

/// The same port on both; somebody else may have the one that UDP was given.
async fn same_port() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free on both");
}

/// A name server on UDP and TCP; the first datagram that asks for `lossy` is lost, and
/// `slow` is answered late.
async fn name_server() -> (SocketAddr, [AbortOnDropHandle<()>; 2]) {
    let (udp, tcp) = same_port().await;
    let address = udp.local_addr().unwrap();
    let datagrams = tokio::spawn(async move {
        let mut buffer = [0; 2048];
        let mut lost = false;
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
            // A forged answer first: another id, which the probe has to pass over.
            let mut forged = query.clone().into_response();
            forged.metadata.id = query.metadata.id.wrapping_add(1);
            let _ = udp.send_to(&forged.to_vec().unwrap(), from).await;
            let lossy = query.queries.first().is_some_and(|query| query.name().to_ascii().starts_with("lossy"));
            if lossy && !std::mem::replace(&mut lost, true) {
                continue;
            }
            if query.queries.first().is_some_and(|query| query.name().to_ascii().starts_with("slow")) {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            if let Some(answer) = answer_to(&query, false) {
                let _ = udp.send_to(&answer.to_vec().unwrap(), from).await;
            }
        }
    });
    let streams = tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let Ok(length) = stream.read_u16().await else { continue };
            let mut buffer = vec![0; usize::from(length)];
            if stream.read_exact(&mut buffer).await.is_ok() {
                let answer = Message::from_vec(&buffer).ok().and_then(|query| answer_to(&query, true)).unwrap();
                let bytes = answer.to_vec().unwrap();
                let _ = stream.write_u16(u16::try_from(bytes.len()).unwrap()).await;
                let _ = stream.write_all(&bytes).await;
            }
        }
    });
    (address, [AbortOnDropHandle::new(datagrams), AbortOnDropHandle::new(streams)])
}

#[tokio::test]
async fn dns_answers_are_told_apart() {
    let (server, _tasks) = name_server().await;
    let dns = |name: &str, record: &str, expect: &[&str]| {
        probe(
            json!({ "dns": { "name": format!("{name}.example"), "record": record, "expect": expect, "server": server } }),
        )
    };
    for (name, record, expect) in [
        ("up", "A", &["192.0.2.1"][..]),
        ("up", "A", &[]),
        ("alias", "CNAME", &["lb.example"]),
        ("alias", "CNAME", &["LB.EXAMPLE."]),
        ("text", "TXT", &["Some Text."]),
        ("long", "A", &["192.0.2.2"]),
        ("lossy", "A", &["192.0.2.1"]),
    ] {
        let seen = attempt(&*dns(name, record, expect), LONG).await;
        assert_eq!(seen.health(), Health::Up, "{name}: {seen:?}");
    }
    for (name, record, expect, kind) in [
        ("up", "A", &["192.0.2.1", "192.0.2.9"][..], CauseKind::WrongAnswer),
        ("up", "AAAA", &[], CauseKind::WrongAnswer),
        ("alias", "A", &[], CauseKind::WrongAnswer),
        ("text", "TXT", &["some text"], CauseKind::WrongAnswer),
        ("empty", "A", &[], CauseKind::WrongAnswer),
        ("nobody", "A", &[], CauseKind::NameNotFound),
        ("failing", "A", &[], CauseKind::NameServerFailure),
        ("refusing", "A", &[], CauseKind::NameServerFailure),
    ] {
        assert_saw(&attempt(&*dns(name, record, expect), LONG).await, Health::Down, kind);
    }
    assert_saw(&attempt(&*dns("silent", "A", &[]), SHORT).await, Health::Down, CauseKind::Timeout);
    let nobody = probe(json!({ "dns": { "name": "up.example", "server": closed_port().await } }));
    assert_saw(&attempt(&*nobody, LONG).await, Health::Down, CauseKind::ConnectionRefused);
}

fn clients_through(server: SocketAddr) -> ProbeContext {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = server.port();
        connection
    };
    let connections = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
    let config = ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections)]);
    let clients = ProbeClients { names: Arc::new(Names::through(config)), ..ProbeClients::system() };
    ProbeContext::new(clients, LONG)
}

/// The same name, looked up by a TCP and by an HTTP probe.
fn by_name(context: &ProbeContext, name: &str, port: u16) -> [Box<dyn Probe>; 2] {
    let tcp = TcpProbe { address: format!("{name}:{port}"), every_address: false };
    let http: HttpProbe = serde_json::from_value(json!({ "url": format!("http://{name}:{port}/") })).unwrap();
    [ProbeKind::Tcp(tcp), ProbeKind::Http(http)].map(|kind| build(&kind, context).unwrap())
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_down_and_a_silent_resolver_is_unknown() {
    let (server, _tasks) = name_server().await;
    let context = clients_through(server);
    for probe in by_name(&context, "nobody.example", 1) {
        assert_saw(&attempt(&*probe, LONG).await, Health::Down, CauseKind::NameNotFound);
    }
    for probe in by_name(&context, "failing.example", 1) {
        assert_saw(&attempt(&*probe, LONG).await, Health::Unknown, CauseKind::LocalResolver);
    }
    for probe in by_name(&context, "silent.example", 1) {
        assert_saw(&attempt(&*probe, SHORT).await, Health::Unknown, CauseKind::LocalResolver);
    }
    let dead = clients_through(closed_port().await);
    for probe in by_name(&dead, "up.example", 1) {
        assert_saw(&attempt(&*probe, SHORT).await, Health::Unknown, CauseKind::LocalResolver);
    }
}

/// Never Up, never an hour; and what the target's own zone says wrongly is not said of our resolver.
#[tokio::test]
async fn a_name_that_runs_in_circles_or_crosses_families_ends() {
    let (server, _tasks) = name_server().await;
    let context = clients_through(server);
    let started = std::time::Instant::now();
    for name in ["loop.example", "crossed.example"] {
        for probe in by_name(&context, name, 1) {
            let seen = attempt(&*probe, LONG).await;
            println!("{name}: {seen:?}");
            let kind = seen.cause().map(|cause| cause.kind);
            let named = [CauseKind::NameNotFound, CauseKind::LocalResolver, CauseKind::ConnectionRefused];
            assert!(seen.health() != Health::Up && kind.is_some_and(|kind| named.contains(&kind)), "{seen:?}");
        }
    }
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_host_to_ping_is_looked_up_as_all_others() {
    let (server, _tasks) = name_server().await;
    let context = clients_through(server);
    for (host, health, kind) in [
        ("nobody.example", Health::Down, CauseKind::NameNotFound),
        ("failing.example", Health::Unknown, CauseKind::LocalResolver),
    ] {
        let kind_of: ProbeKind = serde_json::from_value(json!({ "icmp": { "host": host } })).unwrap();
        assert_saw(&attempt(&*build(&kind_of, &context).unwrap(), LONG).await, health, kind);
    }
    assert!(refused(json!({ "icmp": { "host": "a b" } })).starts_with("host:"));
}

#[tokio::test]
async fn literal_addresses_need_no_resolver() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let dead = clients_through(closed_port().await);
    for probe in by_name(&dead, "127.0.0.1", server.address.port()) {
        assert_eq!(attempt(&*probe, LONG).await.health(), Health::Up);
    }
}

#[tokio::test]
async fn databases_that_are_not_there_or_silent_are_down_and_say_no_secret() {
    let port = closed_port().await.port();
    let silent = Server::start(|_, mut stream| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let hangup = Server::start(|_, stream| async move { drop(stream) }).await;
    for scheme in ["postgresql", "redis"] {
        let kind = if scheme == "redis" { "redis" } else { "postgres" };
        let at = |port: u16| probe(json!({ kind: { "url": format!("{scheme}://u:hunter2@127.0.0.1:{port}/0") } }));
        let seen = [
            (attempt(&*at(port), LONG).await, CauseKind::ConnectionRefused),
            (attempt(&*at(silent.address.port()), SHORT).await, CauseKind::Timeout),
            (attempt(&*at(hangup.address.port()), LONG).await, CauseKind::ConnectionReset),
        ];
        for (seen, kind) in seen {
            assert_saw(&seen, Health::Down, kind);
            assert!(!format!("{seen:?}").contains("hunter2"));
        }
        let missing = probe(json!({ kind: { "url": { "env": "FAILOVERD_TEST_NOT_SET" } } }));
        assert_saw(&attempt(&*missing, LONG).await, Health::Unknown, CauseKind::LocalCredentials);
        let reason = refused(json!({ kind: { "url": "http://u:hunter2@h" } }));
        assert!(reason.starts_with("url:") && !reason.contains("hunter2"), "{reason}");
    }
}

/// A PostgreSQL server that refuses every session with this SQLSTATE.
async fn refusing_postgres(code: &'static str) -> Server {
    Server::start(move |_, mut stream| async move {
        let Ok(length) = stream.read_u32().await else { return };
        let mut startup = vec![0; (length as usize).saturating_sub(4)];
        if stream.read_exact(&mut startup).await.is_err() {
            return;
        }
        // https://www.postgresql.org/docs/current/protocol-message-formats.html#ERRORRESPONSE
        let fields = format!("SFATAL\0VFATAL\0C{code}\0Mthe server says {code}\0\0");
        let _ = stream.write_u8(b'E').await;
        let _ = stream.write_u32(fields.len() as u32 + 4).await;
        let _ = stream.write_all(fields.as_bytes()).await;
    })
    .await
}

#[tokio::test]
async fn a_refused_postgres_session_is_down_unless_it_is_for_who_we_are() {
    for (code, health, kind) in [
        ("57P03", Health::Down, CauseKind::ConnectionRefused),
        ("53300", Health::Down, CauseKind::ConnectionRefused),
        ("57P01", Health::Down, CauseKind::ConnectionReset),
        ("XX000", Health::Down, CauseKind::QueryFailed),
        ("28P01", Health::Unknown, CauseKind::AuthenticationFailed),
        ("28000", Health::Unknown, CauseKind::AuthenticationFailed),
        ("3D000", Health::Unknown, CauseKind::AuthenticationFailed),
    ] {
        let server = refusing_postgres(code).await;
        let url = format!("postgres://u:hunter2@{}/d?sslmode=disable", server.address);
        let seen = attempt(&*probe(json!({ "postgres": { "url": url } })), LONG).await;
        assert_saw(&seen, health, kind);
        assert!(seen.cause().unwrap().detail.contains(code), "{seen:?}");
    }
}

#[tokio::test]
async fn a_redis_error_is_down_unless_it_is_for_who_we_are() {
    for (words, health, kind) in [
        ("-LOADING Redis is loading the dataset in memory", Health::Down, CauseKind::QueryFailed),
        ("-ERR max number of clients reached", Health::Down, CauseKind::ConnectionRefused),
        ("-BUSY Redis is busy running a script", Health::Down, CauseKind::QueryFailed),
        ("-NOAUTH Authentication required.", Health::Unknown, CauseKind::AuthenticationFailed),
        ("-NOPERM this user has no permissions", Health::Unknown, CauseKind::AuthenticationFailed),
        // The client hangs up on what is no Redis at all.
        ("HTTP/1.1 400 Bad Request", Health::Down, CauseKind::ConnectionReset),
    ] {
        let server = Server::start(move |_, mut stream| async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                // One answer for each of the three commands.
                let _ = stream.write_all(format!("{words}\r\n").repeat(3).as_bytes()).await;
            }
        })
        .await;
        let url = format!("redis://{}/", server.address);
        let seen = attempt(&*probe(json!({ "redis": { "url": url } })), LONG).await;
        assert_saw(&seen, health, kind);
    }
}

#[tokio::test]
async fn an_address_that_swallows_hides_no_other() {
    let (hole, server) = (black_hole().await, Server::answering("").await);
    let started = std::time::Instant::now();
    let stream = dial_any(&[hole.0, server.address]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), server.address);
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    // One that refuses has answered: the next is tried at once.
    let started = std::time::Instant::now();
    dial_any(&[closed_port().await, server.address]).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
}

/// The first SYN is dropped, since the backlog is full; there is room again long before the kernel
/// sends it once more, which is after a second.
#[tokio::test]
async fn a_lost_syn_does_not_cost_a_second() {
    let (address, held, listener) = black_hole().await;
    let room = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in &held {
            listener.accept().await.unwrap();
        }
    };
    let started = std::time::Instant::now();
    let addresses = [address];
    let (dialled, ()) = tokio::join!(dial_any(&addresses), room);
    dialled.unwrap();
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_our_resolver_took_is_not_the_targets_slowness() {
    let (server, _tasks) = name_server().await;
    let context = clients_through(server);
    let web = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let http: HttpProbe = serde_json::from_value(
        json!({ "url": format!("http://slow.example:{}/", web.address.port()), "max_latency": "250ms" }),
    )
    .unwrap();
    let probe = build(&ProbeKind::Http(http), &context).unwrap();
    let started = std::time::Instant::now();
    let seen = attempt(&*probe, LONG).await;
    assert!(started.elapsed() > Duration::from_millis(300), "the resolver was quick: {:?}", started.elapsed());
    assert_eq!(seen.health(), Health::Up, "{seen:?}");
}

#[test]
fn our_own_routing_table_is_asked() {
    use crate::probes::dial::has_route;
    assert!(has_route("127.0.0.1:1".parse().unwrap()));
    // Class E is refused by the table of every kernel.
    assert!(!has_route("255.255.255.255:1".parse().unwrap()));
}
