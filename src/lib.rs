//! `failoverd` watches a primary region, decides by quorum and by the owner's recovery objectives,
//! and carries out the disaster-recovery plan.
//!
//! # How data flows
//! ```text
//! probes ─Observation→ detect ─Vote→ quorum ─Verdict→ scenario ─Incident→ policy ─Decision→ run ─Effect→ actions
//!                                                                          │  ▲ Outcome ──────────┘
//!                               journal ◄── every record ─────────────────┘      notices, metrics
//! ```
//! Everything that decides is one synchronous value, the brain (`core::Brain`): events go in with
//! `now`, effects come out. It has no clock, socket, file, randomness or await in it. The daemon
//! drives it with real time, the simulator with virtual time and seeded faults.
//!
//! # Who may import whom (enforced by `tests/house.rs`)
//! | room | imports |
//! |---|---|
//! | [`model`] | nothing of ours |
//! | `core` | `model` |
//! | [`ports`] | `model` |
//! | [`config`] | `model`, `core` (the arithmetic of plans) |
//! | [`clients`] | `model`, `config` |
//! | `probes`, [`actions`], [`notify`] | `model`, `ports`, `config`, `clients` |
//! | `state` | `model`, `ports`, `config`, `clients`, `core` (the lease, what is handed on between members) |
//! | [`readiness`] | `model`, `core` (what findings come to), `config`, `clients`, `ports`, `actions` |
//! | [`rights`] | `model`, `config` |
//! | [`backtest`] | `model`, `core`, `config`, `clients` |
//! | `control` | `model`, `core` (views and commands) |
//! | [`vantage`] | `model`, `core` (ballots), `config`, `clients` (what errors say), `control` (the accept loop) |
//! | `cli` | all but `daemon`'s insides |
//! | `daemon`, `fuzzing` (tests only) | all |

#![warn(missing_docs)]

pub mod actions;
pub mod backtest;
pub mod cli;
pub mod clients;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod model;
pub mod notify;
pub mod ports;
pub mod probes;
pub mod readiness;
pub mod rights;
pub mod state;
pub mod vantage;
