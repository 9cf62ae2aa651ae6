//! The metrics of several daemons on one state.

use prometheus::IntGauge;

use super::metrics::Maker;
use crate::core::view::StatusView;

/// See the module. All of it is made from a view, at once.
pub(super) struct MemberGauges {
    leading: IntGauge,
    has_leader: IntGauge,
    members: IntGauge,
    store_reached: IntGauge,
}

impl MemberGauges {
    pub(super) fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            leading: make.gauge("leading", "1 where this daemon decides: alone, or as the leader of several.")?,
            has_leader: make.gauge("has_leader", "1 where some daemon decides, as far as this one knows.")?,
            members: make.gauge("members", "Daemons that are there, this one among them.")?,
            store_reached: make
                .gauge("state_store_reached", "0 where the state cannot be reached or used from here.")?,
        })
    }

    pub(super) fn set(&self, view: &StatusView) {
        let members = view.members.as_ref();
        self.leading.set(i64::from(members.is_none_or(|members| members.term.is_some())));
        self.has_leader.set(i64::from(members.is_none_or(|members| members.leader.is_some())));
        self.members.set(members.map_or(1, |members| i64::try_from(members.members.len()).unwrap_or(i64::MAX)));
        self.store_reached.set(i64::from(members.is_none_or(|members| members.trouble.is_none())));
    }
}
