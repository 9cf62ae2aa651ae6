//! The daemon as people and machines operate it: real processes on small worlds.

mod after;
mod alert_only;
mod answering;
mod canaries;
mod disk;
mod drills;
mod execute;
mod files;
mod health_switch;
mod intruders;
mod logs;
mod many;
mod metrics;
mod newcomer;
mod people;
mod readiness;
mod roles;
mod runs;
mod sandbox;
mod scorecard;
mod service;
pub mod shop;
mod signals;
mod start;
mod verbs;
mod watching;
