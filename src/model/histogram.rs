//! Durations counted in buckets of growing width: how slow something was, in little room.

use std::time::Duration;

/// How many buckets there are.
pub const BUCKETS: usize = 176;

/// The upper bound of the first bucket, in nanoseconds: what is quicker counts as a tenth of a
/// millisecond.
const FIRST: u64 = 100_000;

/// The upper bounds, in nanoseconds, each a little more than a tenth above the one before: up to an hour.
static BOUNDS: [u64; BUCKETS] = bounds();

const fn bounds() -> [u64; BUCKETS] {
    let mut bounds = [FIRST; BUCKETS];
    let mut place = 1;
    while place < BUCKETS {
        bounds[place] = bounds[place - 1] * 1105 / 1000;
        place += 1;
    }
    bounds
}

/// A bucket. What it stands for is at most 5 % from each duration in it, between a tenth of a
/// millisecond and an hour; what is quicker or slower counts as these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    /// The bucket of a duration.
    pub fn of(duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < nanoseconds).min(BUCKETS - 1);
        Self(u8::try_from(place).unwrap_or(u8::MAX))
    }

    /// The bucket at a place; `None` from [`BUCKETS`] on.
    pub fn at(place: usize) -> Option<Self> {
        u8::try_from(place).ok().filter(|_| place < BUCKETS).map(Self)
    }

    /// Its place, the quickest at 0.
    pub fn place(self) -> usize {
        usize::from(self.0)
    }

    /// What it stands for: the duration that is in the same proportion from both of its bounds.
    pub fn duration(self) -> Duration {
        let place = self.place();
        let upper = u128::from(BOUNDS[place]);
        let nanoseconds = match place.checked_sub(1).map(|below| u128::from(BOUNDS[below])) {
            Some(lower) => 2 * lower * upper / (lower + upper),
            None => upper,
        };
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_buckets_reach_from_a_tenth_of_a_millisecond_to_an_hour() {
        assert_eq!(Bucket::of(Duration::ZERO).duration(), Duration::from_micros(100));
        assert!(BOUNDS[BUCKETS - 1] >= 3_600_000_000_000, "{}", BOUNDS[BUCKETS - 1]);
        assert_eq!(Bucket::of(Duration::MAX).place(), BUCKETS - 1);
        assert_eq!(Bucket::at(BUCKETS), None);
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
    }

    proptest! {
        #[test]
        fn a_bucket_stands_for_what_is_in_it_within_five_percent(nanoseconds in FIRST..3_600_000_000_000_u64) {
            let told = Bucket::of(Duration::from_nanos(nanoseconds)).duration().as_secs_f64();
            let real = Duration::from_nanos(nanoseconds).as_secs_f64();
            prop_assert!((told - real).abs() <= 0.05 * real, "{told} for {real}");
        }
    }
}
