#![doc = "failoverd."]
pub mod model;
pub mod ports;
