//! Real counterparts for tests, benches and the demo.
