//! Outcomes that nobody knows: the call was carried out, and its answer never came, or lied. What
//! became of it is observed; nothing is sent twice.

use failoverd::model::{Applied, Entry};
use failoverd::state::read_records;

use super::traces::{at_the_end, undisturbed};
use crate::fleet::moto::{Fault, Kind};
use crate::rig::{Edit, Rig};

/// So that no answer is given up for soon.
const IMPATIENT: &[Edit] = &[
    ("replica_of = \"shop\" }\ntimeout = \"30s\"", "replica_of = \"shop\" }\ntimeout = \"4s\""),
    ("target_zone = \"Z0987654321XYZ\" }\ntimeout = \"30s\"", "target_zone = \"Z0987654321XYZ\" }\ntimeout = \"4s\""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_observed_and_not_repeated() {
    let mut rig = Rig::start(IMPATIENT).await.unwrap();
    rig.world.keep().await.unwrap();
    let expected = undisturbed(&mut rig).await.unwrap();
    let promotions = [("PromoteReadReplica", "promote"), ("ChangeResourceRecordSets", "route")];
    for kind in [Kind::SuccessThenTimeout, Kind::SuccessThen500, Kind::SuccessThenReset] {
        rig.reset().await.unwrap();
        for (action, _) in promotions {
            rig.world.moto.fault(Fault::new(kind).action(action).times(1)).await.unwrap();
        }
        let mut daemon = rig.outage().await.unwrap();
        let seen = at_the_end(&rig, &mut daemon).await.unwrap();
        // One of each was carried out, says this.
        assert_eq!(seen, expected, "{kind:?}");
        let records = read_records(&rig.state()).unwrap();
        for (action, name) in promotions {
            let calls = rig.world.moto.calls_of(action).await.unwrap();
            assert_eq!(calls.len(), 1, "{kind:?}: {action} was sent again: {calls:#?}");
            let unknown = records.iter().any(|record| {
                matches!(&record.entry, Entry::StepApplied { step, outcome: Applied::Unknown { .. }, .. } if step.as_str() == name)
            });
            assert!(unknown, "{kind:?}: the outcome of {action} was known, so that this tested nothing");
        }
    }
}
