//! The verbs about what people were told and have to do: `duty`, `notices`.

use super::args::DutyVerb;
use super::context::{Context, now};
use super::exit::{Failure, print, print_json};
use super::render::people::{render_duties, render_notices};
use crate::core::Command;

impl Context {
    /// `failoverd duty`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn duty(&self, verb: &DutyVerb) -> Result<(), Failure> {
        match verb {
            DutyVerb::Done { incident, name, note } => {
                let (incident, duty) = (incident.as_str().into(), name.as_str().into());
                self.give(Command::DutyDone { incident, duty, note: note.clone() }).await.map(drop)
            }
            DutyVerb::List => {
                let duties = self.client.status().await?.duties;
                if self.json {
                    return print_json(&duties);
                }
                print(&render_duties(&duties, now(), &self.style))
            }
        }
    }

    /// `failoverd notices`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn notices(&self) -> Result<(), Failure> {
        let notices = self.client.notices().await?;
        if self.json {
            return print_json(&notices);
        }
        print(&render_notices(&notices, now(), &self.style))
    }
}
