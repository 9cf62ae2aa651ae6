//! Ten minutes of random partitions between three vantages and two regions.

use super::Line;

/// Nothing here yet.
pub fn bench() -> Vec<Line> {
    vec![Line {
        figure: "10 minutes of random partitions, 3 vantages, 2 regions".into(),
        reference: "ground truth".into(),
        ours: "–".into(),
        aim: "no false failover; each outage found in its budget".into(),
        met: None,
    }]
}
