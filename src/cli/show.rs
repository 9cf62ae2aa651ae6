//! The verbs that only look: `status`, `incidents`, `explain`, `runs`.

use super::context::{Context, now};
use super::exit::{Exit, Failure, print, print_json};
use super::render::explain::render_explain;
use super::render::incident::{render_incident, render_incidents};
use super::render::run::{render_run, render_runs};
use super::render::status::render_status;

impl Context {
    /// `failoverd status`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn status(&self) -> Result<(), Failure> {
        let view = self.client.status().await?;
        if self.json {
            return print_json(&view);
        }
        print(&render_status(&view, now(), &self.style))
    }

    /// `failoverd incidents [ID]`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn incidents(&self, id: Option<&str>) -> Result<(), Failure> {
        let all = self.client.incidents().await?;
        match id {
            None if self.json => print_json(&all),
            None => print(&render_incidents(&all, now(), &self.style)),
            Some(id) => {
                let one = all.iter().find(|incident| incident.id.as_str() == id);
                let one =
                    one.ok_or_else(|| unknown("incident", id, all.iter().map(|incident| incident.id.as_str())))?;
                if self.json { print_json(one) } else { print(&render_incident(one, now(), &self.style)) }
            }
        }
    }

    /// `failoverd explain [SCENARIO]`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn explain(&self, scenario: Option<&str>) -> Result<(), Failure> {
        let scenarios = self.client.explain(scenario.map(Into::into).as_ref()).await?;
        if self.json {
            return print_json(&scenarios);
        }
        print(&render_explain(&scenarios, now(), &self.style))
    }

    /// `failoverd runs [ID]`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn runs(&self, id: Option<&str>) -> Result<(), Failure> {
        match id {
            None => {
                let all = self.client.runs().await?;
                if self.json { print_json(&all) } else { print(&render_runs(&all, now(), &self.style)) }
            }
            Some(id) => {
                let run = self.client.run(&id.into()).await?;
                if self.json { print_json(&run) } else { print(&render_run(&run, now(), &self.style)) }
            }
        }
    }
}

/// There is none of this name; the nearest one is offered.
pub fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let known: Vec<&str> = known.collect();
    let near = known.iter().map(|have| (strsim::jaro_winkler(have, name), have)).filter(|(near, _)| *near > 0.8);
    let near = near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, have)| format!("; did you mean `{have}`?"));
    let all = || match known.as_slice() {
        [] => "; there is none".into(),
        some => format!("; there is: {}", some.iter().take(10).copied().collect::<Vec<_>>().join(", ")),
    };
    let end = near.unwrap_or_else(all);
    Failure::new(Exit::Failed, "not_found", format!("there is no {what} `{name}`{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_the_nearest_name() {
        let known = ["regional-outage", "database"];
        assert!(unknown("scenario", "regional-outge", known.into_iter()).message.ends_with("mean `regional-outage`?"));
        assert!(unknown("scenario", "zzz", known.into_iter()).message.ends_with("regional-outage, database"));
        assert!(unknown("scenario", "zzz", std::iter::empty()).message.ends_with("there is none"));
    }
}
