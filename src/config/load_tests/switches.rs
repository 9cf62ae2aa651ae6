//! Health switches, and the steps that set them.

use super::wrong::told_within;
use super::*;

/// What nobody serves moves no traffic.
#[test]
fn a_health_switch_is_served_before_a_step_sets_it() {
    let listen = "[health_switch]\nlisten = \"0.0.0.0:9465\"\n";
    let east = "[health_switch.switches]\neast = { initially = \"on\" }\n";
    let step = "[plans.p.steps.x]\nhealth_switch.set = { name = \"east\", on = false }\n";
    for (text, expected) in [
        (format!("{listen}{east}{step}"), vec![]),
        (format!("{east}{step}"), vec!["4 not_served"]),
        (format!("{listen}{step}"), vec!["2 empty", "4 unknown_name"]),
        (format!("{listen}{east}{}", step.replace("east", "eats")), vec!["6 unknown_name"]),
        (format!("{listen}{east}{}", step.replace("east", "a b")), vec!["6 bad_name", "6 unknown_name"]),
        (format!("{listen}{east}{}", step.replace("on =", "directory = \"/x\", on =")), vec!["6 not_served"]),
        (
            format!(
                "{listen}{east}[plans.p.parameters.which]\n{}",
                step.replace("\"east\", on", "{ param = \"which\" }, on")
            ),
            vec!["7 bad_name"],
        ),
        (format!("{listen}directory = \"x\"\n{east}"), vec!["3 not_absolute"]),
        (format!("[health_switch]\nlisten = \"9465\"\n{east}"), vec!["2 bad_address"]),
        (format!("[health_switch]\nlisten = \"127.0.0.1:9464\"\n{east}"), vec!["2 twice"]),
        ("[health_switch.switches]\neast = { initially = \"yes\" }".into(), vec!["2 unknown_value"]),
        ("[health_switch.switches]\neast = {}".into(), vec!["2 missing_key"]),
        ("[health_switch.switches]\n\".east\" = { initially = \"on\" }".into(), vec!["2 bad_name"]),
    ] {
        // Where in its line is not looked at here.
        let told = told_within(&text).into_iter().map(|told| {
            let (place, code) = told.split_once(' ').unwrap();
            format!("{} {code}", place.split(':').next().unwrap())
        });
        assert_eq!(told.collect::<Vec<_>>(), expected, "{text}");
    }
}

/// A run that has begun goes on where it began.
#[test]
fn the_directory_of_the_switches_is_pinned_in_the_plan() {
    let text = "[health_switch]\nlisten = \"0.0.0.0:9465\"\ndirectory = \"/srv/health\"\n\
        [health_switch.switches]\neast = { initially = \"on\" }\n\
        [plans.p.steps.x]\nhealth_switch.set = { name = \"east\", on = false }\n";
    let loaded = Folder::new(text).loaded();
    let spec = loaded.settings.plans[0].steps[0].work.action().unwrap();
    assert_eq!(spec.params.pointer("/health_switch/set/directory").unwrap(), "/srv/health");
}
