//! Who takes the lease when nobody holds it: one that has watched all the while before one that has just
//! begun.
//!
//! A member that began in the middle of an outage never saw the primary, and predicts a greater loss than
//! there is; where it leads, a failover waits for a person although another member could have carried it out.

use std::time::Duration;

/// May a member ask for the lease, whose time is `ttl`, now? `up_for` is how long it has lived, `free_for` for
/// how long it has known that nobody holds the lease.
///
/// A leader that died and came back has lived for less than a `ttl` when its old lease ends: it leaves the
/// others a quarter of one to come first.
pub fn may_campaign(ttl: Duration, up_for: Duration, free_for: Duration) -> bool {
    up_for >= ttl * 2 || free_for >= ttl / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_new_comes_after_those_that_have_watched() {
        let (seconds, ttl) = (Duration::from_secs, Duration::from_secs(8));
        assert!(may_campaign(ttl, seconds(16), Duration::ZERO));
        assert!(!may_campaign(ttl, seconds(15), Duration::from_millis(1_999)));
        assert!(may_campaign(ttl, Duration::ZERO, seconds(2)), "where nobody else comes it must not wait for ever");
    }
}
