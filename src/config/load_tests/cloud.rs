//! Wrong parameters of the actions of AWS, and what is said of them.

use super::*;

/// The codes of what is said of a step's action, but for those that a lone step brings.
fn codes(action: &str) -> Vec<&'static str> {
    let text = format!("[plans.p.steps.x]\n{action}\n[probes.a]\ntcp = {{ address = \"a:1\" }}\n");
    let faults = match Folder::new(&text).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    let lone = ["no_anchors", "one_route", "nothing_required", "loss_not_bounded"];
    faults.iter().map(|fault| fault.code).filter(|code| !lone.contains(code)).collect()
}

#[test]
fn what_is_well_is_let_through() {
    for action in [
        r#"rds.failover = { region = "us-east-1", instance = "shop" }"#,
        r#"rds.restore_snapshot = { region = "us-east-1", instance = "new", snapshot = "newest", source = "shop", settings = { security_groups = ["sg-1"] } }"#,
        r#"rds.restore_point_in_time = { region = "us-east-1", instance = "new", source = "shop", restore_time = "2026-11-01T03:30:00Z", settings = { security_groups = ["sg-1"] } }"#,
        r#"rds.failover_global_cluster = { region = "us-west-2", global_cluster = "g", cluster = "arn:aws:rds:us-west-2:123456789012:cluster:west", allow_data_loss = true }"#,
        r#"secretsmanager.put = { region = "us-west-2", secret = "s", set = { user = "a" }, hosts = { URL = "[::1]:5432", OTHER = "db.example" } }"#,
        r#"s3.fetch = { region = "us-west-2", bucket = "b", prefix = "daily/", to = "/tmp/x" }"#,
        r#"eks.wait_cluster = { region = "us-west-2", cluster = "shop" }"#,
    ] {
        assert_eq!(codes(action), Vec::<&str>::new(), "{action}");
    }
}

/// A failover among the copies of one region is for that region; what promotes a copy of another one has
/// no use for the primary region's.
#[test]
fn only_what_leaves_the_primary_region_is_told_that_it_stays_there() {
    let primary = "[regions.us-west-2]\nrole = \"primary\"";
    for action in [
        r#"rds.failover = { region = "us-west-2", instance = "shop" }"#,
        r#"rds.failover_cluster = { region = "us-west-2", cluster = "shop", instance = "shop-2" }"#,
        r#"elasticache.failover = { region = "us-west-2", replication_group = "shop", from = "shop-001" }"#,
    ] {
        assert_eq!(codes(&format!("{action}\n{primary}")), Vec::<&str>::new(), "{action}");
    }
    for action in [
        r#"rds.promote_read_replica = { region = "us-west-2", instance = "shop", replica_of = "main" }"#,
        r#"rds.failover_global_cluster = { region = "us-west-2", global_cluster = "g", cluster = "arn:aws:rds:us-west-2:123456789012:cluster:west", allow_data_loss = true }"#,
        r#"elasticache.failover_global = { region = "us-west-2", global_replication_group = "g", replication_group = "c" }"#,
    ] {
        assert_eq!(codes(&format!("{action}\n{primary}")), ["promotes_in_primary"], "{action}");
    }
}

#[test]
fn what_would_fail_in_the_outage_is_told_before_it() {
    for (action, code) in [
        (r#"rds.failover = { region = "us-east-1", instance = "a.b" }"#, "bad_instance"),
        (r#"rds.failover = { region = "east", instance = "a" }"#, "odd_region"),
        (r#"rds.stop = { region = "us-east-1", instance = "" }"#, "bad_instance"),
        (r#"rds.restore_snapshot = { region = "us-east-1", instance = "a", snapshot = "newest" }"#, "whose_snapshot"),
        (
            r#"rds.restore_snapshot = { region = "us-east-1", instance = "a", snapshot = "s" }"#,
            "default_security_group",
        ),
        (
            r#"rds.restore_snapshot = { region = "us-east-1", instance = "a", snapshot = "newest", source = "A" }"#,
            "restores_over_itself",
        ),
        (
            r#"rds.restore_snapshot = { region = "us-east-1", instance = "a", snapshot = "s", settings = { tags = { "failoverd:run" = "x" } } }"#,
            "bad_tag",
        ),
        (
            r#"rds.restore_point_in_time = { region = "us-east-1", instance = "a", source = "b", restore_time = "noon" }"#,
            "bad_restore_time",
        ),
        (
            r#"rds.restore_point_in_time = { region = "us-east-1", instance = "a", restore_time = "latest" }"#,
            "which_backup",
        ),
        (r#"rds.create_read_replica = { region = "us-east-1", instance = "a", source = "a" }"#, "own_replica"),
        (r#"rds.failover_cluster = { region = "us-east-1", cluster = "a b", instance = "a" }"#, "bad_instance"),
        (
            r#"rds.failover_global_cluster = { region = "us-west-2", global_cluster = "g", cluster = "arn:aws:rds:us-west-2:123456789012:cluster:w" }"#,
            "loss_not_allowed",
        ),
        (
            r#"rds.switchover_global_cluster = { region = "us-east-1", global_cluster = "g", cluster = "arn:aws:rds:us-west-2:123456789012:cluster:w" }"#,
            "bad_cluster",
        ),
        (
            r#"rds.switchover_global_cluster = { region = "us-east-1", global_cluster = "g", cluster = "w" }"#,
            "bad_cluster",
        ),
        (r#"secretsmanager.put = { region = "us-west-2", secret = "s" }"#, "which_value"),
        (r#"secretsmanager.put = { region = "us-west-2", secret = "s", host = "a", whole = "b" }"#, "which_value"),
        (r#"secretsmanager.put = { region = "us-west-2", secret = "s", host = "a/b" }"#, "bad_host"),
        (r#"secretsmanager.put = { region = "us-west-2", secret = "s", host = "a:99999" }"#, "bad_address"),
        (r#"secretsmanager.put = { region = "us-west-2", secret = "s", set = { password = "x" } }"#, "plain_secret"),
        (
            r#"secretsmanager.put = { region = "us-west-2", secret = "s", whole = "postgres://u:p@h/d" }"#,
            "plain_secret",
        ),
        (r#"iam.deactivate_access_key = { user = "u", access_key_id = "AKIA" }"#, "bad_access_key"),
        (r#"elasticache.failover = { region = "us-east-1", replication_group = "c" }"#, "which_way"),
        (r#"elasticache.reboot = { region = "us-east-1", cluster = "" }"#, "empty"),
        (
            r#"elasticache.failover_global = { region = "us-east-1", global_replication_group = "", replication_group = "c" }"#,
            "empty",
        ),
        (r#"autoscaling.set_desired = { region = "us-east-1", group = "", desired = 1 }"#, "empty"),
        (r#"ecs.update_service = { region = "us-east-1", cluster = "c", service = "s" }"#, "changes_nothing"),
        (r#"eks.wait_cluster = { region = "us-east-1", cluster = "" }"#, "empty"),
        (r#"s3.fetch = { region = "us-east-1", bucket = "b", to = "/tmp/x" }"#, "which_object"),
        (r#"s3.fetch = { region = "us-east-1", bucket = "b", key = "k", to = "x" }"#, "bad_file"),
        (r#"arc.routing_control = { endpoints = [], states = { "arn:aws:x" = "On" } }"#, "no_endpoint"),
        (
            r#"arc.routing_control = { endpoints = [{ region = "us-east-1", url = "ftp://x" }], states = { "arn:aws:x" = "On" } }"#,
            "bad_endpoint",
        ),
        (
            r#"arc.routing_control = { endpoints = [{ region = "us-east-1", url = "https://x" }], states = {} }"#,
            "how_many_controls",
        ),
        (
            r#"arc.routing_control = { endpoints = [{ region = "us-east-1", url = "https://x" }], states = { x = "On" } }"#,
            "bad_arn",
        ),
    ] {
        assert!(codes(action).contains(&code), "{action}: {:?}", codes(action));
    }
}
