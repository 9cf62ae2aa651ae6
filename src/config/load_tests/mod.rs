use super::*;
use crate::model::{EffectKind, HumanDuration, Mode, OnError, Work};

mod cloud;
mod correlation;
mod damping;
mod drills;
mod language;
mod members;
mod people;
mod probes;
mod services;
mod switches;
mod windows;
mod witnesses;
mod wrong;
mod wrong_databases;
mod wrong_probes;

fn example(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name)
}

/// A folder with `failoverd.toml` and, in `conf.d`, the fragments.
struct Folder {
    folder: tempfile::TempDir,
    options: LoadOptions,
}

impl Folder {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("failoverd.toml");
        std::fs::write(&file, text).unwrap();
        Self { folder, options: LoadOptions::file_only(file) }
    }

    fn fragment(self, name: &str, text: &str) -> Self {
        let conf = self.folder.path().join("conf.d");
        std::fs::create_dir_all(&conf).unwrap();
        std::fs::write(conf.join(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, text: &str) -> Self {
        self.options.environment.insert(name.into(), text.into());
        self
    }

    fn load(&self) -> Result<Loaded, Faults> {
        load(&self.options)
    }

    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn faults(&self) -> Faults {
        self.load().err().unwrap_or_default()
    }
}

/// What a newcomer copies from the README is the example, and works.
#[test]
fn the_first_example_is_the_one_in_the_readme() {
    let loaded = load(&LoadOptions::file_only(example("first.toml"))).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.settings.mode, Mode::AlertOnly, "the first configuration touches nothing");
    let text = std::fs::read_to_string(example("first.toml")).unwrap();
    let readme = std::fs::read_to_string(FilePath::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(readme.contains(&format!("```toml\n{text}```")), "README.md shows another text than first.toml");
}

#[test]
fn the_example_loads_without_a_word() {
    let loaded = load(&LoadOptions::file_only(example("minimal.toml"))).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let settings = &loaded.settings;
    assert_eq!(settings.name.as_str(), "shop");
    assert_eq!(settings.domain.as_str(), "shop");
    assert_eq!(settings.safety_percent, 120);
    assert_eq!(settings.anchors.len(), 2);
    assert_eq!(settings.anchors[0].as_str(), "anchor:1.1.1.1:443");
    assert_eq!(loaded.probes.len(), settings.probes.len());
    let scenarios: Vec<&str> = settings.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    assert_eq!(scenarios, ["regional-outage", "name-broken"]);
    let scenario = &settings.scenarios[0];
    assert_eq!((settings.mode, scenario.mode), (Mode::Approve, Mode::Auto), "it has none of its own");
    assert_eq!(scenario.service.as_str(), "shop");
    assert_eq!(
        scenario.when.to_string(),
        "at least 2 of (all of (api is down, edge is down), db is down, cache is down)"
    );
    assert_eq!(scenario.requires[0].to_string(), "standby is up");
    let plan = &settings.plans[0];
    let steps: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["promote", "promote-cache", "scale", "ready", "route", "verify", "tell"]);
    assert_eq!(plan.steps[6].on_error, OnError::Continue);
    assert_eq!(plan.steps[0].on_error, OnError::Park);
    assert_eq!(plan.steps[0].work.action().map(|spec| spec.effect), Some(EffectKind::Promote));
    assert_eq!(loaded.hash.len(), 64);
}

/// The runbooks as plans: each folder with its table.
#[test]
fn the_runbooks_load_without_a_word() {
    let folders: Vec<PathBuf> = std::fs::read_dir(example(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(!folders.is_empty());
    for folder in folders {
        let file = folder.join("failoverd.toml");
        let loaded = load(&LoadOptions::file_only(&file)).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        for plan in &loaded.settings.plans {
            assert!(readme.contains(&format!("`{}`", plan.name)), "{}: {} is not told", folder.display(), plan.name);
        }
        let empty = readme.lines().filter(|line| line.starts_with('|') && line.contains("|  |")).count();
        assert_eq!(empty, 0, "{}: an empty cell", folder.display());
    }
}

#[test]
fn the_embedded_default_alone_is_a_daemon_that_watches_nothing() {
    let folder = Folder::new("");
    let loaded = folder.loaded();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.settings.mode, Mode::Approve);
    assert_eq!(loaded.file.metrics.listen.as_deref(), Some("127.0.0.1:9464"));
    assert_eq!(loaded.sources, std::slice::from_ref(&folder.options.file));
}

/// What the comments of the default show has to be right too.
#[test]
fn the_examples_in_the_comments_of_the_default_load() {
    let shown: Vec<&str> = EMBEDDED
        .lines()
        .skip_while(|line| !line.starts_with("# From here on: examples."))
        .filter(|line| line.starts_with('#') && !line.starts_with("# ") && !line.starts_with("#:"))
        .map(|line| &line[1..])
        .collect();
    let text = shown.join("\n");
    assert!(text.contains("[plans.regional-failover.steps.ask]"), "{text}");
    let loaded = Folder::new(&text).load().unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.settings.plans[0].steps.len(), 11);
}

#[test]
fn later_layers_win_key_by_key() {
    let folder =
        Folder::new("[daemon]\nname = \"file\"\n[policy]\ncool_down = \"2h\"\n[probes.a]\ntcp = { address = \"a:1\" }")
            .fragment("20-b.toml", "[daemon]\nname = \"twenty\"\n[probes.a]\nfall = 7")
            .fragment("10-a.toml", "[daemon]\nname = \"ten\"\nmode = \"auto\"")
            .fragment(".30-c.toml.swp.toml", "[daemon]\nname = \"hidden\"")
            .fragment("notes.txt", "not toml")
            .variable("FAILOVERD__POLICY__FAILOVER_LIMIT", "9")
            .variable("FAILOVERD__PROBES__A__RISE", "4")
            .variable("FAILOVERDX", "nothing of ours");
    let loaded = folder.loaded();
    assert_eq!(loaded.settings.name.as_str(), "twenty");
    assert_eq!(loaded.settings.mode, Mode::Auto);
    assert_eq!(loaded.settings.cool_down, HumanDuration::secs(7200));
    assert_eq!(loaded.settings.startup_grace, HumanDuration::secs(30));
    assert_eq!(loaded.settings.failover_limit, 9);
    let probe = &loaded.settings.probes[0];
    assert_eq!((probe.fall, probe.rise), (7, 4));
    let names: Vec<String> =
        loaded.sources.iter().filter_map(|file| file.file_name()).map(|name| name.to_string_lossy().into()).collect();
    assert_eq!(names, ["failoverd.toml", "10-a.toml", "20-b.toml"]);
}

#[test]
fn the_environment_reaches_names_that_a_shell_cannot_write() {
    let text = std::fs::read_to_string(example("minimal.toml")).unwrap();
    let folder = Folder::new(&text)
        .variable("FAILOVERD__SCENARIOS__REGIONAL_OUTAGE__RTO", "20m")
        .variable("FAILOVERD__REGIONS__US_EAST_1__ROLE", "witness")
        .variable("FAILOVERD__DAEMON__NAME", "007")
        .variable("FAILOVERD__ANCHORS__TCP", "[\"192.0.2.1:443\"]")
        .variable("FAILOVERD__METRICS__LISTEN", "");
    let loaded = folder.loaded();
    assert_eq!(loaded.settings.scenarios[0].rto, HumanDuration::secs(1200));
    assert_eq!(loaded.settings.name.as_str(), "007", "a text stays the text that it is");
    assert_eq!(loaded.settings.anchors.len(), 1);
    assert_eq!(loaded.file.metrics.listen.as_deref(), Some(""));
}

#[test]
fn a_fault_in_the_environment_names_the_variable() {
    let faults = Folder::new("")
        .variable("FAILOVERD__DAEMON__MODE", "atuo")
        .variable("FAILOVERD__POLICY__FAILOVER_LIMIT", "many")
        .variable("FAILOVERD__DEMON__MODE", "auto")
        .variable("FAILOVERD____X", "1")
        .faults();
    let shown: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.code, fault.place())).collect();
    assert_eq!(
        shown,
        [
            "unknown_value environment FAILOVERD__DAEMON__MODE",
            "unknown_key environment FAILOVERD__DEMON__MODE",
            "wrong_value environment FAILOVERD__POLICY__FAILOVER_LIMIT",
            "unknown_key environment FAILOVERD____X",
        ]
    );
    assert!(faults.render(false).contains("environment FAILOVERD__DAEMON__MODE"));
}

#[test]
fn a_fault_is_told_in_the_layer_that_set_the_value() {
    let folder =
        Folder::new("[probes.a]\nfall = 0\ntcp = { address = \"a:1\" }").fragment("b.toml", "\n[probes.a]\nrise = 0");
    let faults = folder.faults();
    let places: Vec<String> = faults.iter().map(|fault| fault.place().rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(places, ["failoverd.toml:2:8", "b.toml:3:8"]);
}

#[test]
fn the_same_configuration_has_the_same_hash_and_another_has_another() {
    let one = Folder::new("[daemon]\nname = \"a\"").loaded().hash;
    assert_eq!(one, Folder::new("# a comment\n[daemon]\nname = \"a\"\n").loaded().hash);
    assert_ne!(one, Folder::new("[daemon]\nname = \"b\"").loaded().hash);
}

#[test]
fn defaults_of_timing_follow_the_interval() {
    let text = "[defaults.probe]\nfast_interval = \"1s\"\nmax_age = \"8s\"\n\
        [probes.slow]\ninterval = \"1m\"\ntimeout = \"5s\"\ntcp = { address = \"a:1\" }\n\
        [probes.quick]\ninterval = \"200ms\"\ntcp = { address = \"a:1\" }";
    let loaded = Folder::new(text).loaded();
    let probe = |name: &str| loaded.settings.probe(&name.into()).unwrap().clone();
    assert_eq!(probe("slow").max_age, HumanDuration::secs(185));
    assert_eq!(probe("slow").fast_interval, HumanDuration::secs(1));
    assert_eq!(probe("quick").max_age, HumanDuration::secs(8));
    assert_eq!(probe("quick").fast_interval, HumanDuration::millis(200));
}

#[test]
fn a_long_wait_needs_no_timeout_of_its_own() {
    let text = "[plans.p.steps.s]\nwait = \"30m\"\n[plans.p.steps.t]\nwait = \"1s\"";
    let loaded = Folder::new(text).loaded();
    let steps = &loaded.settings.plans[0].steps;
    assert!(matches!(steps[0].work, Work::Wait { .. }));
    assert_eq!(steps[0].timeout, HumanDuration::secs(3600));
    assert_eq!(steps[1].timeout, HumanDuration::secs(600));
}

/// A daemon in mode alert-only with one scenario of that mode, and one of none.
fn two_scenarios(mode: &str) -> Loaded {
    let text = "[daemon]\nmode = \"alert-only\"\n[probes.a]\ntcp = { address = \"a:1\" }\n\
        [scenarios.own]\nseverity = \"P1\"\nwhen = \"a\"\nconfirm_for = \"1s\"\nrto = \"1h\"\nmode = \"MODE\"\n\
        [scenarios.none]\nseverity = \"P1\"\nwhen = \"a\"\nconfirm_for = \"1s\"\nrto = \"1h\"";
    Folder::new(&text.replace("MODE", mode)).loaded()
}

/// The modes that hold for both, the one of no mode first, with the daemon's set at run time.
fn modes_at(loaded: &Loaded, set: Option<Mode>) -> Vec<Mode> {
    let now = crate::model::Now::default();
    let mut brain = crate::core::Brain::new(loaded.settings.clone(), &[], now).unwrap();
    let command = crate::core::Command::Mode { mode: set };
    let _ = brain.handle(now, crate::core::Event::Command { by: "ann".into(), command });
    brain.status(now).scenarios.iter().map(|scenario| scenario.mode).collect()
}

#[test]
fn a_scenario_cannot_be_freer_than_the_daemon() {
    let loaded = two_scenarios("auto");
    assert!(loaded.warnings.iter().any(|fault| fault.code == "mode_has_no_effect" && fault.line == 10));
    assert_eq!(modes_at(&loaded, None), [Mode::AlertOnly, Mode::AlertOnly]);
}

/// `failoverd mode auto` takes the place of the configuration's mode, and only of that.
#[test]
fn a_freer_mode_at_run_time_reaches_the_scenarios_of_a_loaded_configuration() {
    for (own, set, expected) in [
        ("auto", Mode::Auto, [Mode::Auto, Mode::Auto]),
        ("approve", Mode::Auto, [Mode::Auto, Mode::Approve]),
        ("alert-only", Mode::Auto, [Mode::Auto, Mode::AlertOnly]),
        ("auto", Mode::Approve, [Mode::Approve, Mode::Approve]),
    ] {
        assert_eq!(modes_at(&two_scenarios(own), Some(set)), expected, "own mode {own}, set at run time: {set}");
    }
}

/// What is not up is down: the last look, the start of the outage and the loss ask for what is down.
#[test]
fn not_up_is_down_and_not_down_is_up() {
    let text = "[probes.a]\ntcp = { address = \"a:1\" }\n[groups.g]\nall = [\"a is not up\", { any = [\"a is not unknown\"] }]\n\
        [scenarios.s]\nseverity = \"P1\"\nwhen = \"g\"\nunless = [\"a is not down\"]\nconfirm_for = \"1s\"\nrto = \"1h\"";
    let loaded = Folder::new(text).loaded();
    let scenario = &loaded.settings.scenarios[0];
    assert_eq!(scenario.when.to_string(), "all of (a is down, any of (a is not unknown))");
    assert_eq!(scenario.when.wanted_down(), ["a".into()]);
    assert_eq!(scenario.unless[0].to_string(), "a is up");
}

/// A reload keeps what was seen of a target, and of no other: by this it tells them apart.
#[test]
fn another_target_has_another_fingerprint() {
    let target = |probe: &str| {
        let loaded = Folder::new(&format!("[probes.a]\n{probe}")).loaded();
        loaded.settings.probes[0].target.clone()
    };
    let one = target("postgres = { url = { env = \"DB_URL\" } }");
    assert_eq!(one, target("interval = \"7s\"\nfall = 9\npostgres = { url = { env = \"DB_URL\" } }"));
    assert_ne!(one, target("postgres = { url = { env = \"OTHER_URL\" } }"));
    assert_ne!(target("tcp = { address = \"a:1\" }"), target("tcp = { address = \"a:2\" }"));
}

#[test]
fn a_file_that_is_not_there_is_told_with_its_name() {
    let faults = load(&LoadOptions::file_only("/nowhere/failoverd.toml")).unwrap_err();
    assert_eq!(faults.0.len(), 1);
    assert_eq!(faults.0[0].place(), "/nowhere/failoverd.toml");
    assert_eq!(faults.0[0].code, "file_not_readable");
}

#[test]
fn who_may_write_is_looked_at() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &FilePath, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let mut folder = Folder::new("");
    let secret = folder.folder.path().join("secret");
    let text = format!("[probes.a]\nredis = {{ url = {{ file = {:?} }} }}", secret.display().to_string());
    std::fs::write(&secret, "redis://x\n").unwrap();
    std::fs::write(&folder.options.file, text).unwrap();
    folder.options.inspect = true;

    mode(&folder.options.file, 0o666);
    mode(&secret, 0o602);
    let codes: Vec<(Level, &str, usize)> =
        folder.faults().iter().map(|fault| (fault.level, fault.code, fault.line)).collect();
    assert_eq!(codes, [(Level::Error, "writable_by_all", 0), (Level::Error, "writable_by_all", 2)]);

    mode(&folder.options.file, 0o644);
    mode(&secret, 0o644);
    let codes: Vec<&str> = folder.loaded().warnings.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, ["readable_by_all"]);

    mode(&secret, 0o600);
    assert!(folder.loaded().warnings.is_empty());
    std::fs::remove_file(&secret).unwrap();
    let codes: Vec<&str> = folder.loaded().warnings.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, ["secret_not_there"]);
}

#[test]
fn what_others_may_write_is_refused_where_it_is_named() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let mode = |path: &FilePath, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let mut folder = Folder::new("");
    folder.options.inspect = true;
    folder.options.user = Some(rustix::process::geteuid().as_raw());
    let own = folder.folder.path().to_owned();
    let place = |name: &str| own.join(name).display().to_string();
    std::fs::create_dir(own.join("state")).unwrap();
    for name in ["ca.pem", "own.pem", "own.key", "link.key"] {
        std::fs::write(own.join(name), "x").unwrap();
        mode(&own.join(name), 0o600);
    }
    let text = format!(
        "[daemon]\nstate = \"sqlite:{}\"\n[vantage_tls]\nca_file = {:?}\ncertificate_file = {:?}\nkey_file = {:?}\n\
         [links]\nurl = \"https://a.example\"\nlisten = \"127.0.0.1:9798\"\nkey = {{ file = {:?} }}\n",
        place("state/state.db"),
        place("ca.pem"),
        place("own.pem"),
        place("own.key"),
        place("link.key"),
    );
    std::fs::write(&folder.options.file, text).unwrap();
    mode(&folder.options.file, 0o600);
    assert!(folder.faults().is_empty(), "{}", folder.faults());
    // The lines of the file in which they are named; 0: the file itself.
    for (name, line) in
        [("state", 2), ("ca.pem", 4), ("own.pem", 5), ("own.key", 6), ("link.key", 10), ("failoverd.toml", 0)]
    {
        let path = own.join(name);
        let before = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let found = |code: &str| {
            let faults = folder.faults();
            assert!(faults.iter().any(|fault| (fault.code, fault.line) == (code, line)), "{name} {code}: {faults}");
            let shown = path.display().to_string();
            assert!(faults.iter().all(|fault| fault.fix.ends_with(&shown)), "{faults}");
        };
        mode(&path, before | 0o002);
        found("writable_by_all");
        mode(&path, before);
        chown(&path, Some(4242), None).expect("the tests run as root");
        found("foreign_owner");
        chown(&path, Some(0), None).unwrap();
    }
    assert!(folder.faults().is_empty(), "{}", folder.faults());
}

#[test]
fn a_secret_in_the_place_of_its_reference_is_not_repeated() {
    let links = |key: &str| format!("[links]\nurl = \"https://a.example\"\nlisten = \"127.0.0.1:1\"\nkey = {key}\n");
    for text in [links("\"canary-1\""), "[notify.x]\nopsgenie = { key = 987654 }\n".to_owned()] {
        let faults = Folder::new(&text).faults();
        let said = faults.render(false) + &faults.to_json().to_string();
        assert!(said.contains("wrong_value") && !said.contains("canary-1") && !said.contains("987654"), "{said}");
    }
}
