use super::*;
use crate::model::{Condition, EffectKind, Health, HumanDuration, Mode, OnError, Work};

fn example(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name)
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
    assert_eq!(scenario.mode, Mode::Approve);
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
    assert_eq!(plan.steps[0].work.action().map(|spec| spec.effect), Some(EffectKind::Promote));
    assert_eq!(loaded.hash.len(), 64);
}

#[test]
fn the_embedded_default_alone_is_a_daemon_that_watches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("failoverd.toml");
    std::fs::write(&file, "").unwrap();
    let loaded = load(&LoadOptions::file_only(&file)).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.settings.mode, Mode::Approve);
    assert_eq!(loaded.file.metrics.listen.as_deref(), Some("127.0.0.1:9464"));
    assert_eq!(loaded.sources, [file]);
}
