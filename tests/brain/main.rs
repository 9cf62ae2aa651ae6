//! The brain in virtual time: one hand-written case per promise, reason and turn of a run.
mod approval;
mod desk;
mod holds;
mod language;
mod limits;
mod look;
mod loss;
mod operators;
mod reload;
mod restart;
mod settings;
mod sight;
mod steps;
mod undo;
mod wakes;
mod windows;
mod witnesses;
