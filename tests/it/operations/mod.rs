//! The daemon as people and machines operate it: real processes on small worlds.

mod after;
mod alert_only;
mod disk;
mod execute;
mod health_switch;
mod logs;
mod many;
mod metrics;
mod newcomer;
mod roles;
mod runs;
mod service;
pub mod shop;
mod signals;
mod start;
mod verbs;
mod watching;
