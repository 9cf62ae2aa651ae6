//! Durable runs: failoverd killed at every boundary of a real plan, on real parts, goes on from what
//! it observes: nothing is done twice, nothing is forgotten.

mod boundaries;

mod traces;

