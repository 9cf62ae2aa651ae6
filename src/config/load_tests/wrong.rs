//! Wrong configurations and what is said of them.

use super::*;

/// `line:column code` of every fault.
fn told(text: &str) -> Vec<String> {
    Folder::new(text).faults().iter().map(|fault| format!("{}:{} {}", fault.line, fault.column, fault.code)).collect()
}

/// Of the errors and warnings, those that a probe, a scenario and a plan of their own do not bring.
pub(super) fn told_within(text: &str) -> Vec<String> {
    let around = "\n[probes.a]\ntcp = { address = \"a:1\" }\n[probes.b]\npostgres = { url = \"postgresql://b\" }\n";
    match Folder::new(&format!("{text}{around}")).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    }
    .iter()
    .filter(|fault| {
        !["no_anchors", "one_route", "nothing_required", "loss_not_bounded", "any_replica"].contains(&fault.code)
    })
    .map(|fault| format!("{}:{} {}", fault.line, fault.column, fault.code))
    .collect()
}

const MANY: &str = r#"[daemon]
mode = "atuo"
stat = "x"
[defaults.probe]
fall = "3"
timeout = "5 parsecs"
[regions.us-east-1]
role = "primary"
[probes.api]
region = "us-east-2"
http = { url = "https://api.example", method = "FETCH" }
[probes.two]
http = { url = "ftp://x" }
tcp = { address = "x" }
[probes.db]
postgres = { expect = "primry" }
[groups.a]
any = ["b"]
[groups.b]
any = ["a", "api"]
[scenarios.s]
severity = "P0"
when = { at_least = 4, of = ["apii", "db", { probe = "two", weight = 0 }] }
rto = "10m"
plan = "plann"
whenn = 3
[plans.plan.steps.x]
after = ["y"]
wait = "3s"
[plans.plan.steps.y]
after = ["x"]
rds.promot = { region = "x" }
[anchors]
tcp = ["1.1.1.1"]
at_least = 2
[notify.a]
sns = { topic = "critical" }
[bogus]
"#;

#[test]
fn every_fault_is_told_at_once() {
    assert_eq!(
        told(MANY),
        [
            "2:8 unknown_value",
            "3:1 unknown_key",
            "5:8 wrong_value",
            "6:11 wrong_value",
            "10:10 unknown_name",
            "11:48 bad_method",
            "13:16 bad_url",
            "14:1 not_exactly_one",
            "16:1 missing_key",
            "16:23 unknown_value",
            "20:8 circle",
            "21:12 missing_key",
            "23:21 impossible_quorum",
            "23:30 unknown_name",
            "23:70 zero",
            "25:8 unknown_name",
            "26:1 unknown_key",
            "28:1 circle",
            "32:5 unknown_value",
            "34:8 bad_address",
            "35:12 impossible_quorum",
            "36:2 one_route",
            "37:17 bad_topic",
            "38:2 unknown_key",
        ]
    );
}

#[test]
fn a_fault_is_told_with_its_lines_and_what_to_do() {
    let folder = Folder::new("[daemon]\nmode = \"atuo\"\n");
    let faults = folder.faults();
    let text = faults.render(false);
    for part in ["failoverd.toml:2:8]", "mode = \"atuo\"", "daemon.mode", "did you mean `auto`?", "1 error, 0 warnings"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
    assert!(faults.render(true).contains('\u{1b}'));
    let json = faults.to_json();
    assert_eq!(json[0]["line"], 2);
    assert_eq!(json[0]["column"], 8);
    assert_eq!(json[0]["code"], "unknown_value");
    assert_eq!(json[0]["path"], "daemon.mode");
    assert_eq!(json[0]["level"], "error");
}

#[test]
fn text_that_is_not_toml_is_told_in_every_file() {
    let folder = Folder::new("[daemon\nname = 1\nname = 2\n").fragment("a.toml", "x = = 1");
    let faults = folder.faults();
    assert!(faults.iter().all(|fault| fault.code == "syntax" && fault.line > 0), "{faults}");
    let files: std::collections::BTreeSet<&str> = faults.iter().map(|fault| fault.source.as_str()).collect();
    assert_eq!(files.len(), 2);
    let huge = Folder::new("[policy]\nfailover_limit = 99999999999999999999\nsafety = inf").faults();
    assert_eq!(huge.0.len(), 2, "{huge}");
}

#[test]
fn no_fault_shows_a_secret() {
    for text in [
        "[probes.a]\nhttp = { url = \"https://user:sesame@x\" }\nfall = 0",
        "[probes.a]\nhttp = { url = \"https://sesame@x\" }",
        "[probes.a]\npostgres = { url = \"postgresql://app:se/same@db/x\" }",
        "[probes.a]\npostgres = { url = \"host=db password=sesame\" }",
        "[probes.a]\nhttp = { url = \"https://x/?access_token=sesame\" }",
        "[probes.a]\nhttp = { url = \"https://x\", headers = { Authorization = \"Bearer sesame\" } }",
        "[probes.a]\nhttp = { url = \"https://x\", headers = \"Authorization: sesame\" }",
        "[probes.a]\nhttp = { url = { plain = \"sesame\" } }",
        "[probes.a.http.url]\nplain = \"sesame\"",
        "[probes.a]\nhttp = { url = [\"sesame\"] }",
        "[probes.a]\nhttp = { url = \"https://x\", password = \"sesame\" }",
        "[notify.a]\nwebhook = { url = \"https://hooks.slack.com/services/T0/B0/sesame\" }",
        "[notify.a]\nwebhook = { url = \"htps://hooks/sesame\" }",
        "[probes.a\nurl = \"https://user:sesame@x\"",
    ] {
        let faults = Folder::new(text).faults();
        assert!(faults.has_errors(), "{text}");
        for shown in [faults.render(false), faults.to_string(), faults.to_json().to_string(), format!("{faults:?}")] {
            assert!(!shown.contains("same"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_secret_in_the_environment_is_not_shown_either() {
    let faults = Folder::new("[probes.a]\nfall = 2")
        .variable("FAILOVERD__PROBES__A__HTTP__URL", "https://user:sesame@x")
        .faults();
    assert_eq!(faults.0.len(), 1);
    assert!(!format!("{faults:?}{}", faults.render(false)).contains("sesame"));
}

#[test]
fn probes() {
    for (text, expected) in [
        ("[probes.x]\nfall = 2", vec!["1:9 not_exactly_one"]),
        ("[probes.\"x y\"]\ntcp = { address = \"a:1\" }", vec!["1:9 bad_name"]),
        ("[probes.x]\ninterval = \"0s\"\ntcp = { address = \"a:1\" }", vec!["2:12 zero"]),
        ("[probes.x]\nmax_age = \"2s\"\ntcp = { address = \"a:1\" }", vec!["2:11 vote_expires"]),
        ("[probes.x]\nfast_interval = \"3s\"\ntcp = { address = \"a:1\" }", vec!["2:17 slow_fast_interval"]),
        ("[probes.x]\ntcp = { address = \"a:0\" }", vec!["2:19 bad_address"]),
        ("[probes.x]\ntcp = [\"a:1\"]", vec!["2:1 wrong_value"]),
        ("[probes.x]\nhttp = { url = \"https://\" }", vec!["2:16 bad_url"]),
        ("[probes.x]\nhttp = { url = \"https://x\", matches = \"(\" }", vec!["2:39 bad_pattern"]),
        ("[probes.x]\nhttp = { url = \"https://x\", json = { \"$.a\" = 1 } }", vec!["2:38 bad_pointer"]),
        ("[probes.x]\nhttp = { url = \"https://x\", status = [99] }", vec!["2:39 bad_status"]),
        ("[probes.x]\nhttp = { url = \"https://x\", max_latency = \"1s\" }", vec!["2:43 never_slow"]),
        ("[probes.x]\ndns = { name = \"https://x\" }", vec!["2:16 bad_name"]),
        ("[probes.x]\ndns = { name = \"x\", server = \"x\" }", vec!["2:30 wrong_value"]),
        (
            "[probes.x]\nredis = { url = \"redis://x\", expect = \"primary\", max_lag = \"1s\" }",
            vec!["2:60 lag_of_primary"],
        ),
        ("[anchors]\ntcp = []", vec!["2:1 empty"]),
        ("[anchors]\ntcp = [\"a:1\", \"a:1\"]", vec!["2:15 twice"]),
    ] {
        assert_eq!(told_within(text), expected, "{text}");
    }
}

#[test]
fn a_postgres_address_names_one_server() {
    for (address, expected) in [
        ("app@a:5432,b:5432/shop", vec!["2:20 several_hosts"]),
        ("app@a,b/shop?sslmode=verify-full", vec!["2:20 several_hosts"]),
        ("app@a/shop?host=b", vec!["2:20 several_hosts"]),
        ("/shop?host=a%2Cb", vec!["2:20 several_hosts"]),
        ("app@a/shop?hostaddr=192.0.2.1,192.0.2.2", vec!["2:20 several_hosts"]),
        ("app@a/shop?hostaddr=192.0.2.1&application_name=x,y", vec![]),
        ("app@[2001:db8::1]:5432/shop", vec![]),
        ("/shop?host=/run/postgresql", vec![]),
    ] {
        let text = format!("[probes.x]\npostgres = {{ url = \"postgresql://{address}\" }}");
        assert_eq!(told_within(&text), expected, "{text}");
    }
}

#[test]
fn daemon_and_policy() {
    for (text, expected) in [
        ("[daemon]\nname = \"\"", vec!["2:8 bad_name"]),
        ("[daemon]\nstate = \"sqlite:x.db\"", vec!["2:9 relative_path"]),
        ("[daemon]\nstate = \"etcd://n1\"", vec!["2:9 bad_state"]),
        ("[daemon]\nname = \"n\"\nstate = \"etcd://n1:1\"", vec!["2:8 not_a_member", "3:9 few_endpoints"]),
        ("[daemon]\nmanual_scenario = \"x\"", vec!["2:19 unknown_name"]),
        ("[quorum]\nvantages = 2", vec!["2:12 impossible_quorum"]),
        ("[quorum]\nvantages = 0", vec!["2:12 zero"]),
        ("[policy]\nsafety = 0.5", vec!["2:10 bad_safety"]),
        ("[policy]\nfailover_limit = 0", vec!["2:18 never_acts"]),
        ("[policy]\nfailover_limit = -1", vec!["2:18 wrong_value"]),
        ("[policy]\ncool_down = 5", vec!["2:13 wrong_value"]),
        ("[metrics]\nlisten = \"9464\"", vec!["2:10 bad_address"]),
        ("[metrics]\nlisten = \"0.0.0.0:9464\"", vec!["2:10 open_to_others"]),
        ("[log]\nfilter = \"failoverd=lots\"", vec!["2:10 bad_filter"]),
        ("[limits]\nrds = 0", vec!["2:7 zero"]),
        ("[defaults.step]\nretry = { attempts = 0 }", vec!["2:22 zero"]),
        ("[defaults.step]\nretry = { backoff = \"1m\", max_backoff = \"1s\" }", vec!["2:21 bad_retry"]),
        ("\"a.b\" = 1", vec!["1:1 unknown_key"]),
        ("[notify.x]", vec!["1:9 not_exactly_one"]),
        (
            "[notify.x]\nsns = { topic = \"arn:aws:sns:eu-west-1:123456789012:x\", region = \"eu-west-2\" }",
            vec!["2:66 wrong_region"],
        ),
    ] {
        assert_eq!(told_within(text), expected, "{text}");
    }
}

#[test]
fn scenarios() {
    let base = "[scenarios.s]\nseverity = \"P1\"\nconfirm_for = \"1s\"\nrto = \"1h\"\n";
    for (text, expected) in [
        ("when = \"a is donw\"", vec!["5:8 bad_condition"]),
        ("when = \"a b\"", vec!["5:8 bad_condition"]),
        ("when = { }", vec!["5:1 not_exactly_one"]),
        ("when = { all = [] }", vec!["5:10 empty"]),
        ("when = { all = [\"a\"], any = [\"b\"] }", vec!["5:23 not_exactly_one"]),
        ("when = { of = [\"a\"] }", vec!["5:10 not_exactly_one"]),
        ("when = { at_least = 1 }", vec!["5:1 not_exactly_one"]),
        ("when = { at_least = 2, of = [\"a\", \"a\"] }", vec!["5:35 twice"]),
        ("when = { at_least = 1, of = [] }", vec!["5:24 empty"]),
        ("when = { probe = \"a\", weight = 2 }", vec!["5:23 weight_of_nothing"]),
        ("when = \"a\"\nunless = [\"c\"]", vec!["6:11 unknown_name"]),
        ("when = \"a\"\nrpo = \"1s\"", vec!["6:7 rpo_not_measured"]),
        ("when = \"a\"\nrpo = \"1s\"\nreplication = [{ standby = \"a\" }]", vec!["7:28 lag_not_measured"]),
        ("when = \"a\"\nreplication = [{ standby = \"b\" }]", vec!["6:1 rpo_not_set"]),
        ("when = \"a\"\nplan = 5", vec!["6:8 wrong_value"]),
        ("when = \"g is up\"\n[groups.g]\nany = [\"a\"]", vec!["5:8 bad_condition"]),
        ("when = \"g\"\nrequires = [\"g\"]\n[groups.g]\nany = [\"a\"]", vec!["6:13 group_means_down"]),
        ("when = \"g\"\nrequires = [\"g\"]\n[groups.g]\nany = [\"a is up\"]", vec![]),
        ("when = \"a\"\n[groups.a]\nany = [\"b\"]", vec!["6:9 ambiguous_name"]),
    ] {
        assert_eq!(told_within(&format!("{base}{text}")), expected, "{text}");
    }
}

/// Nothing would be looked at before the first change.
#[test]
fn a_plan_that_changes_something_needs_something_that_is_down() {
    let scenario = "[scenarios.s]\nseverity = \"P1\"\nconfirm_for = \"1s\"\nrto = \"1h\"\nplan = \"p\"\n";
    let promote = "redis.promote = { url = \"redis://a\" }";
    for (when, step, expected) in [
        ("when = \"a is unknown\"", promote, vec!["6:8 nothing_is_down"]),
        ("when = { any = [\"a is up\", \"b is not unknown\"] }", promote, vec!["6:1 nothing_is_down"]),
        ("when = \"a is not up\"", promote, vec![]),
        ("when = { any = [\"a is unknown\", \"b\"] }", promote, vec![]),
        ("when = \"a is unknown\"", "verify.probe = { probe = \"b\" }", vec![]),
    ] {
        let text = format!("{scenario}{when}\n[plans.p.steps.x]\n{step}");
        assert_eq!(told_within(&text), expected, "{when}, {step}");
    }
}

#[test]
fn plans() {
    let rds = "rds.promote_read_replica = { region = \"us-west-2\", instance = \"a\" }";
    let redis = "redis.promote = { url = \"redis://a\" }";
    for (text, expected) in [
        ("[plans.p]\nsteps = {}".to_owned(), vec!["1:8 empty"]),
        ("[plans.p]".to_owned(), vec!["1:8 missing_key"]),
        ("[plans.p.steps.x]\nafter = []".to_owned(), vec!["1:16 not_exactly_one"]),
        (format!("[plans.p.steps.x]\n{rds}\nwait = \"1s\""), vec!["3:1 not_exactly_one"]),
        ("[plans.p.steps.x]\nafter = [\"y\"]\nwait = \"1s\"".to_owned(), vec!["2:10 unknown_name"]),
        ("[plans.p.steps.x]\nafter = [\"x\"]\nwait = \"1s\"".to_owned(), vec!["2:1 circle"]),
        ("[plans.p.steps.x]\nverify.probe = { probe = \"c\" }".to_owned(), vec!["2:26 unknown_name"]),
        ("[plans.p.steps.x]\ntimeout = \"1s\"\nwait = \"2s\"".to_owned(), vec!["2:11 timeout_too_short"]),
        ("[plans.p.steps.x]\nestimate = \"1h\"\nwait = \"2s\"".to_owned(), vec!["2:12 timeout_too_short"]),
        (format!("[plans.p.steps.x]\n{redis}\n[plans.p.steps.y]\n{redis}"), vec!["3:16 two_promotions"]),
        (
            format!("[plans.p]\npoint_of_no_return = \"x\"\n[plans.p.steps.x]\n{rds}\n[plans.p.steps.y]\n{redis}"),
            vec!["2:22 promotion_before_point"],
        ),
        (
            format!(
                "[plans.p.steps.x]\n{redis}\n[plans.p.steps.r]\nroute53.upsert_alias = {{ zone = \"Z\", name = \"a.b\", values = [\"192.0.2.1\"] }}"
            ),
            vec!["3:16 route_before_promotion"],
        ),
        (format!("[plans.p.steps.x]\n{redis}\non_error = \"continue\""), vec!["3:12 goes_on_without"]),
        (
            "[plans.p.steps.x]\napproval = { message = \"m\" }\non_error = \"continue\"".to_owned(),
            vec!["3:12 goes_on_without"],
        ),
        ("[plans.p.steps.x]\nwait = \"1s\"\non_error = \"continue\"".to_owned(), vec![]),
        (
            format!("[regions.us-west-2]\nrole = \"primary\"\n[plans.p.steps.x]\n{rds}"),
            vec!["3:16 promotes_in_primary"],
        ),
    ] {
        assert_eq!(told_within(&text), expected, "{text}");
    }
}

/// The faults with this code that are errors.
fn errors_of(text: &str, code: &str) -> Vec<String> {
    let faults = Folder::new(text).load().err();
    let faults = faults.iter().flat_map(|faults| faults.iter());
    faults
        .filter(|fault| fault.code == code)
        .map(|fault| {
            assert_eq!(fault.level, Level::Error);
            format!("{}; {}", fault.message, fault.fix)
        })
        .collect()
}

/// S6 is no matter of taste: a route is refused that waits neither for each promotion nor for a look
/// at where the traffic goes, in a plan of several services too.
#[test]
fn traffic_moves_to_what_was_promoted_or_looked_at() {
    let told = |after: &str, on_error: &str| {
        let plan = format!(
            "[probes.b]\ntcp = {{ address = \"b:1\" }}\n[plans.p.steps.db]\nredis.promote = {{ url = \"redis://a\" }}\n\
             [plans.p.steps.cache]\nredis.promote = {{ url = \"redis://c\", service = \"c\" }}\n\
             [plans.p.steps.seen]\nverify.probe = {{ probe = \"b\" }}\non_error = \"{on_error}\"\n\
             [plans.p.steps.between]\nafter = [\"cache\"]\nwait = \"1s\"\n[plans.p.steps.r]\nafter = [{after}]\n\
             route53.upsert_alias = {{ zone = \"Z\", name = \"a.b\", values = [\"192.0.2.1\"] }}"
        );
        errors_of(&plan, "route_before_promotion")
    };
    for (after, on_error, ahead) in [
        ("", "park", Some("`db` and `cache`")),
        ("\"db\"", "park", Some("`cache`")),
        ("\"between\"", "park", Some("`db`")),
        ("\"seen\"", "continue", Some("`db` and `cache`")),
        ("\"db\", \"between\"", "park", None),
        ("\"seen\"", "park", None),
        ("\"seen\"", "compensate", None),
    ] {
        let told = told(after, on_error);
        match ahead {
            None => assert_eq!(told, Vec::<String>::new(), "{after}"),
            Some(names) => {
                assert_eq!(told.len(), 1, "{after}: {told:?}");
                assert!(told[0].contains(&format!("does not wait for {names}; add {names} to")), "{told:?}");
            }
        }
    }
}

/// S7: what is to keep the old primary from writing comes before every promotion, and may not fail.
#[test]
fn a_fence_guards_every_promotion() {
    let told = |effect: &str, on_error: &str, after: &str| {
        let plan = format!(
            "[plans.p.steps.f]\nhttp.request = {{ url = \"https://x\", effect = \"{effect}\" }}\non_error = \"{on_error}\"\n\
             [plans.p.steps.db]\nafter = [\"f\"]\nredis.promote = {{ url = \"redis://a\" }}\n\
             [plans.p.steps.cache]\nafter = [{after}]\nredis.promote = {{ url = \"redis://c\", service = \"c\" }}"
        );
        errors_of(&plan, "fence_guards_nothing")
    };
    let early = told("fence", "park", "");
    assert!(early.len() == 1 && early[0].contains("cache") && !early[0].contains("`db`"), "{early:?}");
    let fails = told("fence", "continue", "\"db\"");
    assert!(fails.len() == 1 && fails[0].contains("still takes writes"), "{fails:?}");
    for (effect, on_error, after) in
        [("fence", "park", "\"db\""), ("fence", "compensate", "\"f\""), ("call", "continue", "")]
    {
        assert_eq!(told(effect, on_error, after), Vec::<String>::new(), "{effect} {on_error} {after}");
    }
    let alone =
        "[plans.p.steps.f]\nhttp.request = { url = \"https://x\", effect = \"fence\" }\non_error = \"continue\"";
    assert_eq!(errors_of(alone, "fence_guards_nothing"), Vec::<String>::new(), "there is nothing to guard");
}

#[test]
fn actions() {
    for (text, expected) in [
        ("kubernetes.scale = { deployment = \"api\", replicas = 1 }", vec!["2:35 bad_deployment"]),
        ("kubernetes.scale = { deployment = \"a/b/c\", replicas = 1 }", vec!["2:35 bad_deployment"]),
        ("kubernetes.scale = { deployment = \"a/b\", replicas = 0 }", vec!["2:53 nothing_to_do"]),
        ("kubernetes.scale = { deployment = \"a/b\", replicas = -1 }", vec!["2:53 wrong_value"]),
        ("sns.publish = { topic = \"x\", message = \"m\" }", vec!["2:25 bad_topic"]),
        ("rds.promote_read_replica = { region = \"west\", instance = \"a\" }", vec!["2:39 odd_region"]),
        ("rds.promote_read_replica = { region = \"us-west-2\", instance = \"a.b\" }", vec!["2:63 bad_instance"]),
        ("http.request = { url = \"https://x\", body = \"\", json = 1 }", vec!["2:55 not_exactly_one"]),
        ("http.request = { url = \"x\" }", vec!["2:24 bad_url"]),
        ("route53.upsert_alias = { zone = \"Z\", name = \"a.b\" }", vec!["2:9 not_exactly_one"]),
        ("route53.upsert_alias = { zone = \"Z\", name = \"a.b\", target = \"c.d\" }", vec!["2:61 missing_key"]),
        (
            "route53.upsert_alias = { zone = \"Z\", name = \"a.b\", target = \"c.d\", target_zone = \"Y\", values = [\"1\"] }",
            vec!["2:87 not_exactly_one"],
        ),
        (
            "route53.upsert_alias = { zone = \"Z\", name = \"a.b\", record = \"CNAME\", target = \"c.d\", target_zone = \"Y\" }",
            vec!["2:61 bad_record"],
        ),
        ("route53.upsert_alias = { zone = \"Z\", name = \"a.b\", values = [\"c.d\"] }", vec!["2:62 bad_record"]),
        (
            "route53.upsert_alias = { zone = \"Z\", name = \"a.b\", values = [\"192.0.2.1\"], ttl = \"1h\" }",
            vec!["2:82 long_ttl"],
        ),
        ("exec.run = { argv = [\"true\"] }", vec!["2:22 not_absolute"]),
        ("exec.run = { argv = [] }", vec!["2:14 empty"]),
        ("exec.run = { argv = [\"/bin/sh\", \"-c\", \"x\"] }", vec!["2:14 through_a_shell"]),
        ("exec.run = { argv = [\"/x\"], time_limit = \"1m\" }", vec!["2:42 longer_than_apply"]),
        ("exec.run = { argv = [\"/x\"], output_limit = 1 }", vec!["2:44 too_small"]),
        ("exec.run = { argv = [\"/x\"], env = { DB_PASSWORD = \"abc\" } }", vec!["2:51 plain_secret"]),
        ("exec.run = { argv = [\"/x\"], effect = \"verify\", idempotent = true }", vec!["2:61 contradiction"]),
        ("dns.verify = { name = \"a.b\" }", vec!["2:5 not_exactly_one"]),
        ("dns.verify = { name = \"a\", values = [\"1\"] }", vec!["2:23 bad_name"]),
        (
            "dns.update = { server = \"s\", zone = \"z.b\", name = \"a.c\", values = [\"1.2.3.4\"], key_name = \"k\", key = { file = \"/x\" } }",
            vec!["2:37 bad_zone"],
        ),
        (
            "dns.update = { server = \"s\", zone = \"b\", name = \"a.b\", values = [\"c.d\"], key_name = \"k\", key = { file = \"/x\" } }",
            vec!["2:66 bad_record"],
        ),
        (
            "cloudflare.dns = { zone = \"b.c\", name = \"a.b\", content = \"1.2.3.4\", token = { file = \"/x\" } }",
            vec!["2:27 bad_zone"],
        ),
        ("http.request = { url = \"https://x\", method = \"GET\", outputs = { a = \"b\" } }", vec!["2:69 bad_pointer"]),
    ] {
        assert_eq!(told_within(&format!("[plans.p.steps.x]\n{text}")), expected, "{text}");
    }
}

#[test]
fn kubernetes_actions() {
    for (text, expected) in [
        ("set_env = { deployment = \"a/b\" }", "nothing_to_do"),
        ("set_env = { deployment = \"a\", unset = [\"A\"] }", "bad_deployment"),
        ("set_env = { deployment = \"a/b\", env = { A = \"1\" }, unset = [\"A\"] }", "set_and_unset"),
        ("set_env = { deployment = \"a/b\", env = { \"A=\" = \"1\" } }", "bad_variable"),
        ("set_env = { deployment = \"a/b\", env = { DB_PASSWORD = \"zzz\" } }", "plain_secret"),
        ("rollout_restart = { }", "not_exactly_one"),
        ("rollout_restart = { deployment = \"a/b\", namespace = \"a\" }", "not_exactly_one"),
        ("rollout_restart = { deployments = [\"a\"] }", "bad_deployment"),
        ("rollout_restart = { deployment = \"a/b\", selector = \"a=b\" }", "missing_key"),
        ("rollout_restart = { namespace = \"a\", selector = \"\" }", "empty_selector"),
        ("rollout_status = { namespace = \"A\" }", "bad_name"),
        ("rollout_undo = { deployment = \"a/b\", to_revision = 0 }", "zero"),
        ("secret = { secret = \"a\", data = { host = \"b\" } }", "bad_secret"),
        ("secret = { secret = \"a/b\", data = { } }", "empty"),
        ("secret = { secret = \"a/b\", data = { \"a b\" = \"b\" } }", "bad_key"),
        ("secret = { secret = \"a/b\", data = { db_password = \"zzz\" } }", "plain_secret"),
        ("secret = { secret = \"a/b\", data = { url = \"redis://u:zzz@b\" } }", "plain_secret"),
        ("wait = { resource = \"node\", condition = \"Ready\" }", "bad_resource"),
        ("wait = { resource = \"node/a\" }", "not_exactly_one"),
        ("wait = { resource = \"node/a\", pointer = \"/a\" }", "missing_key"),
        ("wait = { resource = \"node/a\", pointer = \"a\", equals = 1 }", "bad_pointer"),
        ("pods_ready = { namespace = \"a\", at_least = 0 }", "zero"),
        ("endpoints_ready = { }", "not_exactly_one"),
        ("endpoints_ready = { service = \"a\" }", "bad_service"),
        ("create_job = { cron_job = \"a\" }", "bad_cron_job"),
        ("cordon = { nodes = [\"a\"], selector = \"a=b\" }", "not_exactly_one"),
        ("cordon = { selector = \" \" }", "empty_selector"),
        ("delete_pods = { namespace = \"a\", selector = \"\" }", "empty_selector"),
    ] {
        let told = told_within(&format!("[plans.p.steps.x]\nkubernetes.{text}"));
        assert!(told.len() == 1 && told[0].ends_with(expected), "{text}: {told:?}");
    }
    for text in ["{ }", "{ schedule = \"a\", backup = \"b\" }"] {
        let told = told_within(&format!("[plans.p.steps.x]\nvelero.restore = {text}"));
        assert!(told.len() == 1 && told[0].ends_with("not_exactly_one"), "{text}: {told:?}");
    }
    let told = told_within("[plans.p.steps.x]\nvelero.restore = { schedule = \"A B\" }");
    assert!(told.len() == 1 && told[0].ends_with("bad_name"), "{told:?}");
}

#[test]
fn an_objective_that_cannot_be_met_is_told_term_by_term() {
    let text = "[probes.a]\ntcp = { address = \"a:1\" }\n[scenarios.s]\nseverity = \"P1\"\nwhen = \"a\"\nconfirm_for = \"30s\"\n\
        rto = \"5m\"\nplan = \"p\"\n[plans.p.steps.x]\nestimate = \"4m\"\nwait = \"4m\"\n[plans.p.steps.y]\nafter = [\"x\"]\nwait = \"10s\"";
    let faults = Folder::new(text).faults();
    let fault = faults.iter().find(|fault| fault.level == Level::Error).unwrap();
    assert_eq!((fault.code, fault.line, fault.column), ("rto_out_of_reach", 7, 7));
    assert_eq!(
        fault.message,
        "the RTO of 5m cannot be met: 5m 38s are needed, 38s too many: detection 7s + confirm_for 30s + last look 1s \
         + plan 4m 10s × 1.2 = 5m (x 4m → y 10s)"
    );
    assert!(Folder::new(&text.replace("\"5m\"", "\"338s\"")).load().is_ok());
}

/// Whatever stands in place of whatever value: no panic, no endless loop, and no fault without a
/// place.
#[test]
fn any_value_may_be_wrong() {
    fn paths(value: &serde_json::Value, at: Path, all: &mut Vec<Path>) {
        match value {
            serde_json::Value::Object(table) => table.iter().for_each(|(key, value)| paths(value, at.key(key), all)),
            serde_json::Value::Array(of) => of.iter().enumerate().for_each(|(n, value)| paths(value, at.index(n), all)),
            _ => {}
        }
        all.push(at);
    }
    let text = std::fs::read_to_string(example("minimal.toml")).unwrap();
    let layers = Layers {
        texts: vec![
            layers::parse(None, EMBEDDED).unwrap(),
            layers::parse(Some(&example("minimal.toml")), &text).unwrap(),
        ],
        variables: Vec::new(),
    };
    let whole = layers.merge().unwrap();
    let mut all = Vec::new();
    paths(&whole, Path::default(), &mut all);
    assert!(all.len() > 150);
    for path in &all {
        for wrong in
            [serde_json::json!(5), "zzz".into(), serde_json::json!([]), serde_json::json!({ "zzz": 1 }), true.into()]
        {
            let mut tree = whole.clone();
            *path.find_mut(&mut tree).unwrap() = wrong;
            let mut report = Report::new(&layers, false);
            let order = expand::expand(&mut tree, &mut report);
            let references = references::take(&mut tree, &mut report);
            let file = read::read(&mut tree, &mut report);
            let readable = file.is_some();
            if let Some(file) = file {
                check::all(&file, &order, &references, &mut report);
            }
            let faults = report.finish();
            assert!(readable, "{path}: {faults}");
            assert!(faults.iter().all(|fault| fault.line > 0), "{path}: {faults}");
            assert!(faults.iter().filter(|fault| fault.level == Level::Error).count() < 15, "{path}: {faults}");
        }
    }
}
