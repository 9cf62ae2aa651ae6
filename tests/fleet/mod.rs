//! Real counterparts for tests, benches and the demo.

pub mod kube;
pub mod kube_real;
pub mod kube_standin;
