//! Two regions, three vantages and their clients in network namespaces of their own, and everything that can
//! break between them: a daemon with two witnesses is watched while partitions and outages come, and what it
//! did is held against what the clients saw.
//!
//! ```text
//!   region A: primary, witness east, client 0 ──┐           ┌── region B: backup, daemon, client 1
//!                                               ├─ router ──┤
//!   region C: witness eu, client 2 ─────────────┘           └── the internet: clients 3 and 4, two anchors
//! ```
//! Each node has one link to the router, and the router forgets packets as it is told (nftables). A
//! namespace lives as long as the process that holds it, and that dies with us: nothing is left behind,
//! whatever way we end, and nothing of the machine's own network is touched.

pub mod arena;
pub mod fault;
pub mod judge;
pub mod net;
pub mod part;
pub mod place;
pub mod record;
pub mod schedule;
