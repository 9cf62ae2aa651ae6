//! A host on the network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::causes::{CauseRow, down, unknown};
use super::tls::is_host;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::CauseKind;

/// An ICMP echo (ping): Up when the host answers. One echo for each attempt, to each address of the
/// name; the first answer counts. It says that a kernel is reachable, and nothing of what runs there.
///
/// Many networks drop or limit ICMP: take it for routers, hosts and links that are meant to answer.
/// That a host cannot be reached is `unreachable` where the socket is told so (a raw one is, an
/// unprivileged one mostly is not) and `timeout` else.
///
/// Needs an unprivileged ICMP socket (the sysctl `net.ipv4.ping_group_range` holds a group of
/// failoverd's) or the capability CAP_NET_RAW; without both it is Unknown (`local_permission`).
///
/// Example: `icmp = { host = "gateway.example" }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IcmpProbe {
    /// A name or an address.
    pub host: String,
}

pub(super) const ICMP: &[CauseRow] = &[
    down(CauseKind::Timeout, "no answer to the echo before the deadline"),
    down(CauseKind::Unreachable, "the network says that there is no way to the host, or the packet ran in circles"),
    down(CauseKind::NameNotFound, "the name does not exist (NXDOMAIN, or no address)"),
    unknown(CauseKind::LocalPermission, "we may not open an ICMP socket"),
];

impl IcmpProbe {
    /// What is wrong with it.
    pub(in crate::config) fn check(&self, at: &Path, report: &mut Report<'_>) {
        if !is_host(&self.host) {
            report.error(
                "bad_name",
                &at.key("host"),
                format!("{:?} is not a host", self.host),
                "write a name or an address without scheme and port, for example `gateway.example`; a port is looked at by `tcp`",
            );
        }
    }
}
