//! `failoverd backtest` as somebody runs it: on files, and on a real Prometheus.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::fleet::prometheus::Prometheus;

/// Quick to fail over, and too quick: `fall = 2`, five seconds.
const CONFIG: &str = r#"
[daemon]
name = "shop"
mode = "approve"

[defaults.probe]
interval = "2s"
fall = 2

[probes.api]
http = { url = "https://api.shop.example/health" }

[probes.backup-api]
fall = 2
http = { url = "https://backup.shop.example/health" }

[anchors]
tcp = ["1.1.1.1:443", "9.9.9.9:443"]

[policy]
cool_down = "10m"
failover_limit = 20

[scenarios.api-outage]
severity = "P1"
when = "api is down"
requires = ["backup-api is up"]
confirm_for = "5s"
rto = "5m"
plan = "switch"

[plans.switch.steps.route]
route53.upsert_alias = { zone = "Z123", name = "api.shop.example", target = "lb.us-west-2.elb.amazonaws.com", target_zone = "Z456" }

[plans.switch.steps.verify]
after = ["route"]
verify.probe = { probe = "backup-api", for = "5s" }
"#;

/// 2026-07-30T00:00:00Z
const MIDNIGHT: i64 = 1_785_369_600;
/// Six hours.
const LENGTH: i64 = 21_600;
const TRUE_OUTAGES: [(i64, i64); 2] = [(7_200, 7_500), (14_400, 14_760)];

/// Was it down then? Two outages, a minute of flapping, and a partition of 43 seconds.
fn is_down(second: i64) -> bool {
    let flapping = (600..660).contains(&second) && second % 10 < 6;
    flapping || (3_600..3_643).contains(&second) || is_outage(second)
}

fn is_outage(second: i64) -> bool {
    TRUE_OUTAGES.iter().any(|(from, to)| (*from..*to).contains(&second))
}

struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new(config: &str) -> Self {
        let desk = Self { dir: tempfile::tempdir().expect("a directory") };
        desk.write("failoverd.toml", config);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Exit code, output, errors.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::cargo_bin("failoverd").expect("built");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FAILOVERD")) {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").timeout(Duration::from_secs(300));
        let output = command.arg("backtest").arg("--config").arg(self.path("failoverd.toml")).args(args).output();
        let output = output.expect("started");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn json(&self, args: &[&str]) -> (i32, Value) {
        let (code, out, err) = self.run(&[args, &["--json"]].concat());
        (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
    }

    fn history(&self) -> String {
        let mut text = String::from("time,probe,health,latency_ms,cause\n");
        for second in 0..=LENGTH {
            let at = MIDNIGHT + second;
            let api = if is_down(second) { "down,3,connection_refused" } else { "up,12," };
            let _ = writeln!(text, "{at},api,{api}\n{at},backup-api,up,15,");
        }
        self.write("history.csv", &text)
    }

    fn labels(&self) -> String {
        let mut text = String::from("from,to,scenario,note\n");
        for (from, to) in TRUE_OUTAGES {
            let _ = writeln!(text, "{},{},api-outage,\"<b>the database, again</b>\"", MIDNIGHT + from, MIDNIGHT + to);
        }
        self.write("outages.csv", &text)
    }
}

#[test]
fn the_recommended_setting_has_no_false_failover_and_keeps_its_word() {
    let desk = Desk::new(CONFIG);
    let (history, labels) = (desk.history(), desk.labels());
    let page = desk.path("page.html");
    let page = page.to_str().expect("UTF-8");
    let sweep = ["--sweep", "fall=2|4,confirm_for=5s|20s|1m"];
    let source = ["--csv", &history, "--outages", &labels];
    let (code, report) = desk.json(&[&source[..], &sweep, &["--html", page]].concat());
    assert_eq!(code, 0, "{report:#}");

    let current = &report["tried"][0]["score"];
    assert!(current["false_trips"].as_u64().is_some_and(|count| count >= 1), "{current:#}");
    assert_eq!((&current["genuine"], &current["missed"]), (&json!(2), &json!(0)), "{current:#}");
    let partition = "2026-07-30T01:00:";
    let listed = current["listed"].as_array().expect("a list");
    let in_partition = listed.iter().find(|trip| trip["at"].as_str().is_some_and(|at| at.starts_with(partition)));
    assert_eq!(in_partition.expect("the partition")["genuine"], json!(false), "{current:#}");

    assert_eq!(report["tried"].as_array().map(Vec::len), Some(7));
    let place = report["advice"]["take"].as_u64().expect("one is recommended");
    let best = &report["tried"][usize::try_from(place).expect("small")];
    assert_eq!(best["name"], "fall 2, confirm_for 1m", "{report:#}");
    let score = &best["score"];
    assert_eq!((&score["false_trips"], &score["missed"], &score["meets_rto"]), (&json!(0), &json!(0), &json!(true)));
    // Each of the others that confirms for less takes the partition for an outage.
    for tried in report["tried"].as_array().expect("a list") {
        let patient = tried["name"].as_str().is_some_and(|name| name.ends_with("1m"));
        assert_eq!(tried["score"]["false_trips"] == json!(0), patient, "{tried:#}");
    }

    // Written beside the configuration it is what was promised.
    let toml = best["toml"].as_str().expect("text");
    assert_eq!(
        toml,
        "[defaults.probe]\nfall = 2\n\n[probes.backup-api]\nfall = 2\n\n[scenarios.api-outage]\nconfirm_for = \"1m\"\n"
    );
    desk.write("conf.d/90-backtest.toml", toml);
    let (code, again) = desk.json(&source);
    assert_eq!((code, &again["tried"][0]["score"]), (0, score), "{again:#}");
    assert_eq!(again["advice"]["take"], json!(0));

    let html = std::fs::read_to_string(page).expect("written");
    for banned in ["<script", "src=", "href", "url(", "http:", "https:", "<b>the database"] {
        assert!(!html.contains(banned), "{banned}");
    }
    assert!(html.starts_with("<!doctype html>") && html.contains("<svg") && html.contains("fall 2, confirm_for 1m"));
    assert!(html.contains("&lt;b&gt;the database, again"));
    assert!(html.len() < 1_000_000, "{}", html.len());
}

#[test]
fn for_people_it_ends_with_what_to_write_or_why_there_is_nothing() {
    let desk = Desk::new(CONFIG);
    let (history, labels) = (desk.history(), desk.labels());
    let source = ["--csv", &history, "--outages", &labels];
    let (code, out, err) = desk.run(&[&source[..], &["--sweep", "confirm_for=5s|1m"]].concat());
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.ends_with("confirm_for 1m\n\n[scenarios.api-outage]\nconfirm_for = \"1m\"\n"), "{out}");
    for words in ["FALSE failover of api-outage", "Nothing was recorded of the anchors", "as configured"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let (code, out, _) = desk.run(&[&source[..], &["--sweep", "confirm_for=5s|4m"]].concat());
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("refused: the RTO of 5m cannot be met"), "{out}");
    assert!(out.contains("No setting is recommended: of 3 settings 2 fail over where there was no outage"), "{out}");
    // Nobody labelled anything: nothing is false, and nothing is recommended.
    let (code, out, _) = desk.run(&["--csv", &history]);
    assert!(code == 0 && !out.contains("FALSE failover") && out.contains("(--outages)"), "{out}");
    // A part of the time, in which nothing happened but the flapping.
    let (code, report) = desk.json(&["--csv", &history, "--to", "2026-07-30T00:30:00Z", "--outages", &labels]);
    assert_eq!((code, &report["to"]), (1, &json!("2026-07-30T00:30:00.000Z")), "no label can be judged");
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_the_fix() {
    let desk = Desk::new(CONFIG);
    let refuse = |args: &[&str], words: &str| {
        let (code, out, err) = desk.run(args);
        assert_eq!(code, 2, "{args:?}: {out}{err}");
        assert!(err.contains(words) && out.is_empty(), "{args:?}: {words}: {out}{err}");
    };
    let csv = |text: &str| desk.write("h.csv", text);
    let good = csv("time,probe,health\n1785369600,api,up\n1785369602,api,up\n");
    refuse(&["--csv", &good, "--sweep", "fal=2"], "there is no parameter `fal`: did you mean `fall`?");
    refuse(&["--csv", &good, "--sweep", "fall=2..60,rise=1..10"], "590 variants (59 × 10), at most 500");
    refuse(&["--csv", &good, "--from", "yesterday"], "--from: `yesterday` is not a time");
    refuse(&["--csv", &good, "--from", "20", "--to", "10"], "--from is not before --to");
    let labels = desk.write("o.csv", "from,to,scenario\n1785369600,1785369601,api-outge\n");
    refuse(
        &["--csv", &good, "--outages", &labels],
        "o.csv:2:23: the configuration has no scenario `api-outge`: did you",
    );
    refuse(&["--csv", "/nonexistent"], "/nonexistent: this cannot be read");
    refuse(
        &["--csv", &csv("time,probe,health\n1785369600,apii,up\n")],
        "h.csv:2:12: the configuration has no probe `apii`: did you mean `api`?",
    );
    refuse(&["--csv", &csv("time,probe,health\n1785369600,api,ok\n")], "h.csv:2:16: `ok` is no health");
    refuse(&["--csv", &csv("time,probe,helth\n")], "h.csv:1:12: there is no column `helth`: did you mean `health`?");
    refuse(&["--csv", &csv("time,probe,health\n")], "nothing was recorded");
    refuse(&[], "--csv");
    refuse(&["--prometheus", "http://127.0.0.1:1"], "--from");
    refuse(&["--prometheus", "nowhere", "--from", "10"], "not a URL");
    refuse(&["--prometheus", "http://127.0.0.1:1", "--from", "10", "--metric", "apii=up"], "did you mean `api`?");
    // Ten years at two seconds.
    let long = csv("time,probe,health\n1470000000,api,up\n1785369602,api,up\n");
    refuse(&["--csv", &long, "--sweep", "fall=2..5"], "million looks in all");
}

fn samples(name: &str, from: i64, to: i64, value: impl Fn(i64) -> u8) -> String {
    (from..=to).step_by(2).fold(String::new(), |mut text, at| {
        let _ = writeln!(text, "{name} {} {at}", value(at));
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_is_asked_piece_by_piece() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let to = i64::try_from(now).expect("small") - 600;
    let (from, outage) = (to - 3_600, to - 1_800);
    let down = |at: i64| (outage..outage + 300).contains(&at);
    let mut text = String::from("# TYPE probe_success gauge\n");
    text.push_str(&samples("probe_success{instance=\"api\"}", from, to, |at| u8::from(!down(at))));
    text.push_str(&samples("probe_success{instance=\"backup\"}", from, to, |_| 1));
    text.push_str("# TYPE failoverd_probe_health gauge\n");
    for (health, wanted) in [("up", false), ("down", true)] {
        let name = format!("failoverd_probe_health{{probe=\"api\",region=\"\",health=\"{health}\"}}");
        text.push_str(&samples(&name, from, to, |at| u8::from(down(at) == wanted)));
    }
    text.push_str("# EOF\n");
    let prometheus = Prometheus::start_with_history(&text).await.expect("a Prometheus");

    // Four looks a second: an hour of them is more than Prometheus answers at once.
    let desk = Desk::new(&CONFIG.replace("interval = \"2s\"", "interval = \"250ms\""));
    let labels = desk.write("o.csv", &format!("from,to,scenario\n{outage},{},api-outage\n", outage + 300));
    let (url, from, to) = (prometheus.url(), from.to_string(), to.to_string());
    let base = ["--prometheus", &url, "--from", &from, "--to", &to, "--outages", &labels];
    let metrics = [
        "--metric",
        "api=probe_success{instance=\"api\"}",
        "--metric",
        "backup-api=probe_success{instance=\"backup\"}",
    ];
    let (code, report) = desk.json(&[&base[..], &metrics].concat());
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["probes"][0]["looks"], json!(14_401), "{report:#}");
    let score = &report["tried"][0]["score"];
    assert_eq!((&score["trips"], &score["genuine"], &score["missed"]), (&json!(1), &json!(1), &json!(0)), "{score:#}");

    // Our own metric, for which nothing has to be said.
    let (code, report) = desk.json(&base);
    let score = &report["tried"][0]["score"];
    assert_eq!((code, &score["genuine"]), (0, &json!(1)), "{report:#}");
    assert!(report["notes"][0].as_str().is_some_and(|note| note.contains("is the verdict")), "{report:#}");

    let (code, _, err) = desk.run(&[&base[..], &["--metric", "api=probe_success"]].concat());
    assert!(code == 2 && err.contains("gives 2 series, which differ in `instance`"), "{err}");
    let (code, _, err) = desk.run(&[&base[..], &["--metric", "api=probe_success{"]].concat());
    assert!(code == 1 && err.contains("Prometheus refuses the query"), "{err}");
    let (code, _, err) = desk.run(&[&base[..], &["--metric", "api=nothing_of_the_kind"]].concat());
    assert!(code == 1 && err.contains("Prometheus has nothing for `nothing_of_the_kind`"), "{err}");
    drop(prometheus);
    let (code, _, err) = desk.run(&[&base[..], &metrics].concat());
    assert!(code == 1 && err.contains("cannot connect to Prometheus"), "{err}");
}
