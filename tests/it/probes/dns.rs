use anyhow::Result;
use failoverd::model::{CauseKind, Health};
use serde_json::json;

use super::{assert_falls_silent, assert_saw, look, probe};
use crate::fleet::dns::Dns;

#[tokio::test]
async fn a_real_name_server_is_read_as_it_answers_now() -> Result<()> {
    let mut server =
        Dns::start("shop.example", &["api 60 IN A 192.0.2.1", "www 60 IN CNAME api", "mail 60 IN MX 10 api"]).await?;
    let ask = |name: &str, record: &str, expect: &[&str]| {
        probe(json!({ "dns": { "name": name, "record": record, "expect": expect, "server": server.addr() } }))
    };
    let api = ask("api.shop.example", "A", &["192.0.2.1"]);
    for probe in [
        &api,
        &ask("www.shop.example", "CNAME", &["api.shop.example"]),
        &ask("www.shop.example.", "A", &["192.0.2.1"]),
        &ask("mail.shop.example", "MX", &["10 api.shop.example."]),
        &ask("shop.example", "NS", &["ns.shop.example"]),
        &ask("shop.example", "SOA", &[]),
    ] {
        let seen = look(probe).await;
        assert_eq!(seen.health(), Health::Up, "{seen:?}");
    }
    assert_saw(&look(&ask("none.shop.example", "A", &[])).await, Health::Down, CauseKind::NameNotFound);
    assert_saw(&look(&ask("api.shop.example", "TXT", &[])).await, Health::Down, CauseKind::WrongAnswer);
    assert_saw(&look(&ask("api.other.example", "A", &[])).await, Health::Down, CauseKind::NameServerFailure);

    // Nothing is cached, whatever the TTL.
    let moved = ask("api.shop.example", "A", &["192.0.2.2"]);
    assert_saw(&look(&moved).await, Health::Down, CauseKind::WrongAnswer);
    server.update(&["update delete api.shop.example A", "update add api.shop.example 60 A 192.0.2.2"]).await?;
    assert_eq!(look(&moved).await.health(), Health::Up);
    assert_saw(&look(&api).await, Health::Down, CauseKind::WrongAnswer);

    server.sigstop()?;
    assert_falls_silent(&moved).await;
    server.sigcont()?;
    assert_eq!(look(&moved).await.health(), Health::Up);
    server.kill9();
    assert_saw(&look(&moved).await, Health::Down, CauseKind::ConnectionRefused);
    Ok(())
}
