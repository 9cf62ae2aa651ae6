//! Ways to break the brain on purpose, so that the simulator is tested too: each has to be found by it.
//!
//! They are there only with the cargo feature `sabotage`, which no release build can have, and nothing is
//! broken until a test says so for its thread.

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A call under an epoch that was overtaken is let through.
    EpochCheck,
    /// One failure domain is a quorum.
    QuorumCount,
    /// A step is called before its intent is handed to the journal.
    IntentOrder,
    /// Data loss holds nothing back.
    RpoGuard,
    /// A lease is acted under until it is over.
    LeaseMargin,
    /// A run is taken over under the epoch of the former leader.
    OldEpochAtTakeOver,
}

impl Sabotage {
    /// Everything that can be broken.
    pub const ALL: [Self; 6] = [
        Self::EpochCheck,
        Self::QuorumCount,
        Self::IntentOrder,
        Self::RpoGuard,
        Self::LeaseMargin,
        Self::OldEpochAtTakeOver,
    ];
}

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` breaks what decides: it is for tests of debug builds only");

#[cfg(feature = "sabotage")]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// Breaks this, and nothing else, in this thread from now on.
#[cfg(feature = "sabotage")]
pub fn break_only(what: Option<Sabotage>) {
    BROKEN.set(what);
}

#[cfg(feature = "sabotage")]
pub(crate) fn is_broken(what: Sabotage) -> bool {
    BROKEN.get() == Some(what)
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn is_broken(_: Sabotage) -> bool {
    false
}
