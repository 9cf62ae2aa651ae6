//! Wrong steps of PostgreSQL and Redis, and what is said of them.

use super::wrong::told_within;

/// The code of each fault of a step, with the key that it is told of.
fn told(step: &str) -> Vec<String> {
    let text = format!("[plans.p.steps.x]\n{step}");
    told_within(&text)
        .into_iter()
        .map(|fault| fault.split_once(' ').map_or(fault.clone(), |(_, code)| code.into()))
        .collect()
}

#[test]
fn what_is_wrong_is_told_before_an_outage() {
    let at = "url = \"postgresql://db.example/shop\"";
    let folders = "data_directory = \"/d\", bin_directory = \"/b\"";
    for (step, expected) in [
        (format!("postgres.sql = {{ {at}, statement = \"SELECT 1\", expect = \"1\" }}"), vec![]),
        (format!("postgres.sql = {{ {at}, statement = [\"SELECT 1\", \"SHOW port\"], at_least = 1 }}"), vec![]),
        (format!("postgres.sql = {{ {at}, statement = \"DELETE FROM x\" }}"), vec!["bad_statement"]),
        (format!("postgres.sql = {{ {at}, statement = \"SELECT pg_promote()\" }}"), vec!["bad_statement"]),
        (format!("postgres.sql = {{ {at}, statement = [] }}"), vec!["bad_statement"]),
        (format!("postgres.sql = {{ {at}, statement = \"SELECT 1\", lock_timeout = \"0s\" }}"), vec!["zero"]),
        ("postgres.sql = { url = \"postgresql://u:pw@db/x\", statement = \"SELECT 1\" }".into(), vec!["plain_secret"]),
        ("postgres.sql = { url = \"mysql://db/x\", statement = \"SELECT 1\" }".into(), vec!["bad_url"]),
        (format!("postgres.sql = {{ {at}, statement = \"SELECT 1\", expected = \"1\" }}"), vec!["unknown_key"]),
        (format!("postgres.verify_write = {{ {at}, table = \"a.b.c\" }}"), vec!["bad_table"]),
        (format!("postgres.verify_write = {{ {at}, row = {{ a = \"b\" }} }}"), vec!["empty"]),
        (format!("postgres.fence = {{ {at}, revoke_connect = [\"shop\"] }}"), vec!["unknown_key"]),
        (format!("postgres.follow = {{ {at}, source = \"postgresql://new\", {folders} }}"), vec![]),
        (
            format!("postgres.follow = {{ {at}, source = \"postgresql://u:pw@new\", {folders}, slot = \"A-1\" }}"),
            vec!["plain_secret", "bad_slot"],
        ),
        (
            format!(
                "postgres.follow = {{ {at}, source = \"postgresql://n\", data_directory = \"d\", bin_directory = \"/b\" }}"
            ),
            vec!["not_absolute"],
        ),
        (
            format!("postgres.follow = {{ {at}, source = \"postgresql://n\", {folders}, on_diverged = \"delete\" }}"),
            vec!["unknown_value"],
        ),
        (format!("postgres.restore = {{ {at}, dump = \"/shop.dump\" }}"), vec![]),
        (format!("postgres.restore = {{ {at}, dump = \"/shop.sql.gz\" }}"), vec!["plain_dump"]),
        (format!("postgres.restore = {{ {at}, dump = \"shop.dump\", jobs = 0 }}"), vec!["not_absolute", "zero"]),
        (format!("postgres.compare_counts = {{ {at} }}"), vec!["not_exactly_one"]),
        (format!("postgres.compare_counts = {{ {at}, against = {{ \"a.b.c\" = 1 }} }}"), vec!["bad_counts"]),
        (format!("postgres.compare_counts = {{ {at}, against = {{ a = -1 }} }}"), vec!["wrong_value"]),
        (
            format!("postgres.compare_counts = {{ {at}, against = {{ a = 1 }}, tolerance_percent = 101 }}"),
            vec!["bad_tolerance"],
        ),
        (
            "redis.command = { url = \"redis://c\", command = [\"SADD\", \"blocked\", { env = \"PATH\" }] }".into(),
            vec![],
        ),
        ("redis.command = { url = \"redis://c\", command = [\"SHUTDOWN\"] }".into(), vec!["bad_command"]),
        ("redis.command = { url = \"redis://:pw@c\", command = [\"PING\"] }".into(), vec!["plain_secret"]),
        ("redis.follow = { url = \"redis://c\", master = \"redis://c\" }".into(), vec!["same"]),
        ("redis.flush = { url = \"http://c\" }".into(), vec!["bad_url", "needs_approval"]),
    ] {
        let mut told = told(&step);
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected, "{step}");
    }
}
