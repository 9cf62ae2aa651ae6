//! The verbs about several daemons: `members`, `hand-over`.

use super::context::{Context, now};
use super::exit::{Exit, Failure, print, print_json};
use super::render::members::render_members;
use crate::core::Command;

impl Context {
    /// `failoverd members`.
    ///
    /// # Errors
    /// [`Failure`]; also where this daemon is alone.
    pub async fn members(&self) -> Result<(), Failure> {
        let Some(view) = self.client.status().await?.members else {
            let text = "this daemon is alone: its state is a file of its own (`daemon.state = \"sqlite:…\"`)";
            return Err(Failure::new(Exit::Refused, "alone", text));
        };
        if self.json {
            return print_json(&view);
        }
        print(&render_members(&view, now(), &self.style))
    }

    /// `failoverd hand-over`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn hand_over(&self, to: Option<&str>) -> Result<(), Failure> {
        self.give(Command::HandOver { to: to.map(Into::into) }).await.map(drop)
    }
}
