//! How far an outage reaches: services, a zone, the region.

use failoverd::model::*;

use crate::desk::Desk;
use crate::settings::*;

/// `api` and `db` in zone a, `cache` and `queue` in zone b of the primary region.
fn placed() -> Settings {
    with(|s| {
        s.probes.push(probe("queue"));
        for probe in &mut s.probes {
            let zone = match probe.name.as_str() {
                "api" | "db" => "east-a",
                "cache" | "queue" => "east-b",
                _ => continue,
            };
            (probe.region, probe.zone) = (Some("east".into()), Some(zone.into()));
        }
        s.scenarios = vec![scenario("services", at_least(1, &["api", "db", "cache"]), "regional")];
        s.scenarios[0].mode = Mode::AlertOnly;
    })
}

fn seen(settings: Settings, down: &[&str], blinded: &[&str]) -> (Desk, String) {
    let mut desk = Desk::settled(settings);
    down.iter().for_each(|probe| desk.see(probe, bad()));
    blinded.iter().for_each(|probe| desk.see(probe, blind()));
    desk.run_for(10);
    let extent = desk.brain.status(desk.now).scenarios[0].extent.as_ref().map(ToString::to_string);
    (desk, extent.unwrap_or_default())
}

#[test]
fn services_zone_and_region_are_told_apart() {
    for (down, told) in [
        (&["db"][..], "db down"),
        (&["db", "cache"], "db, cache down"),
        (&["api", "db"], "zone east-a down (api, db)"),
        (&["api", "db", "cache"], "api, db, cache down"),
        (&["api", "db", "cache", "queue"], "region east down (api, db, cache, queue)"),
    ] {
        let (desk, extent) = seen(placed(), down, &[]);
        assert_eq!(extent, told);
        let incident = &desk.brain.incidents()[0];
        assert_eq!(incident.extent.as_ref().unwrap().to_string(), told);
        assert!(incident.timeline.iter().any(|line| line.text == format!("extent: {told}")), "{incident:?}");
        let replayed = failoverd::core::ledger::Ledger::replay(&desk.durable).unwrap();
        assert_eq!(&replayed, desk.brain.ledger());
    }
}

#[test]
fn what_has_no_verdict_makes_nothing_down_and_is_told() {
    let told = seen(placed(), &["api", "db", "cache"], &["queue"]).1;
    assert_eq!(told, "region east down (api, db, cache); cannot tell queue");
    let told = seen(placed(), &["db"], &["queue", "api"]).1;
    assert_eq!(told, "db down; cannot tell api, queue", "one is no region");
    let mut settings = placed();
    settings.probes.iter_mut().for_each(|probe| probe.zone = None);
    let told = seen(settings, &["api", "db"], &["queue", "cache"]).1;
    assert_eq!(told, "api, db down; cannot tell cache, queue", "no more than cannot be told");
}

#[test]
fn a_region_that_is_seen_in_one_zone_only_is_that_zone() {
    let mut settings = placed();
    settings.probes.iter_mut().filter(|probe| probe.zone.is_some()).for_each(|probe| probe.zone = Some("a".into()));
    assert_eq!(seen(settings, &["api", "db", "cache", "queue"], &[]).1, "zone a down (api, db, cache, queue)");
}

#[test]
fn it_grows_and_does_not_shrink_and_a_target_that_flaps_does_not_fill_the_journal() {
    let (mut desk, _) = seen(placed(), &["api", "db"], &[]);
    let grown = |desk: &Desk| desk.entries(|entry| matches!(entry, Entry::ExtentSeen { .. }));
    let opened = desk.notices_of(NoticeKind::IncidentOpened)[0].subject.clone();
    assert!(opened.contains("; ") && opened.contains("down"), "{opened}");
    let before = grown(&desk);
    for _ in 0..20 {
        desk.see("cache", bad());
        desk.run_for(5);
        desk.see("cache", up());
        desk.run_for(5);
    }
    assert_eq!(grown(&desk), before + 1, "another probe, once");
    desk.see("cache", bad());
    desk.see("queue", bad());
    desk.run_for(5);
    let extent = |desk: &Desk| desk.brain.incidents()[0].extent.as_ref().map(Extent::brief);
    assert_eq!((grown(&desk), extent(&desk).as_deref()), (before + 2, Some("region east")));
    desk.see("cache", up());
    desk.see("queue", up());
    desk.run_for(10);
    assert_eq!((grown(&desk), extent(&desk).as_deref()), (before + 2, Some("region east")));
}
