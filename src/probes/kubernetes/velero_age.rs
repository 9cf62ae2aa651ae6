//! How old Velero's newest completed Backup is.

use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::session::{List, Session, path_segment};
use crate::clients::failure::one_line;
use crate::clients::velero::{self, Newest};
use crate::config::probe::VeleroAgeProbe;
use crate::model::{CauseKind, HumanDuration, Observation};
use crate::ports::Probe;
use crate::probes::classify::Fault;
use crate::probes::{ProbeBuildError, ProbeContext, judged, young_enough};

/// The most Backups that are looked at.
const BACKUPS: usize = 5000;

/// See [`VeleroAgeProbe`].
pub struct VeleroAge {
    session: Session,
    path: String,
    selector: Option<String>,
    max_age: HumanDuration,
}

impl VeleroAge {
    /// Checks the parameters; reads no kubeconfig.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &VeleroAgeProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        let namespace = path_segment(&config.namespace)
            .ok_or_else(|| ProbeBuildError::new("namespace", "is not the name of a namespace"))?;
        let selector = match (&config.schedule, &config.selector) {
            (Some(_), Some(_)) => {
                return Err(ProbeBuildError::new("selector", "stands beside `schedule`: leave one of them out"));
            }
            (Some(schedule), None) => Some(format!("{}={schedule}", velero::SCHEDULE)),
            (None, selector) => selector.clone(),
        };
        Ok(Self {
            session: Session::new(config.cluster(), context),
            path: format!("/apis/velero.io/v1/namespaces/{namespace}/backups"),
            selector,
            max_age: config.max_age,
        })
    }

    /// The API server says "page not found" of a kind that nobody has installed, and so do proxies.
    async fn not_installed(&self, fault: Fault, until: Instant) -> Fault {
        let groups = match self.session.object("/apis", "`get` on /apis", until).await {
            Ok(groups) if fault.kind == CauseKind::ControlPlane => groups,
            _ => return fault,
        };
        match groups["groups"].as_array() {
            Some(groups) if !groups.iter().any(|group| group["name"] == "velero.io") => {
                Fault::theirs(CauseKind::NotFound, "Velero is not installed in this cluster: velero.io is not served")
            }
            _ => fault,
        }
    }

    async fn look(&self) -> Result<(), Fault> {
        let until = self.session.until();
        let list = List {
            path: &self.path,
            selector: self.selector.as_deref(),
            page: 500,
            most: BACKUPS,
            right: "`list` on backups.velero.io",
        };
        let mut newest = Newest::default();
        let listed = self.session.list(&list, until, |backup| newest.take(name(&backup), &backup)).await;
        if let Err(fault) = listed {
            return Err(self.not_installed(fault, until).await);
        }
        let Some((backup, begun)) = newest.found else {
            let text = format!("there are {} Backups, and none of them is Completed", newest.seen);
            return Err(Fault::theirs(CauseKind::NotFound, text));
        };
        let begun: Timestamp = begun
            .parse()
            .map_err(|_| Fault::ours(CauseKind::ControlPlane, format!("Backup {} has no time", one_line(&backup))))?;
        young_enough(&format!("Backup {}", one_line(&backup)), begun, Timestamp::now(), self.max_age)
    }
}

fn name(backup: &Value) -> &str {
    backup.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

#[async_trait]
impl Probe for VeleroAge {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        judged(self.look().await.map(|()| None), started.elapsed())
    }
}
