//! `failoverd watch`: live on a terminal, a line for each change elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::context::{Context, now};
use super::exit::{Exit, Failure, print};
use super::render::Style;
use super::render::changes::{render_changes, render_run_changes};
use super::render::run::render_run;
use super::render::status::render_status;
use super::render::style::Tone;
use super::render::time::whole;
use crate::control::ClientError;
use crate::core::view::{RunView, StatusView};
use crate::model::{Epoch, RunId, RunResult};

/// A daemon that restarts is waited for; longer than this it is gone.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long somebody watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// For as long as nobody stops it.
    Stopped,
    /// Until the active run ends; where none is active, until the next one has begun and ended.
    NextRunEnds,
    /// Until this run ends.
    Ends(RunId),
}

impl Until {
    /// To the end of the run that a command began; of the next one where it has not begun yet.
    pub fn after(run: Option<RunId>) -> Self {
        run.map_or(Self::NextRunEnds, Self::Ends)
    }
}

impl Context {
    /// Follows the status, for as long as `until` says.
    ///
    /// # Errors
    /// [`Failure`]; where the run was aborted, with exit code 1.
    pub async fn watch(&self, until: Until) -> Result<(), Failure> {
        let mut screen = Screen::new(self.json, self.style);
        let mut wait = RunWait::new(until);
        let mut lost: Option<Instant> = None;
        let run = loop {
            match self.follow(&mut screen, &mut wait, &mut lost).await {
                Ok(run) => break run,
                Err(Broken::Fatal(failure)) => return Err(failure),
                Err(Broken::Lost(error)) => {
                    // Not there from the beginning, or a program reads along: that is an answer.
                    if !screen.has_drawn() || self.json {
                        return Err(error.into());
                    }
                    let since = *lost.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(error.into());
                    }
                    screen.lost(since.elapsed())?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        screen.finish();
        self.conclude(&run).await
    }

    /// Follows one connection. `Ok` with the run that was waited for, at its end.
    async fn follow(
        &self,
        screen: &mut Screen,
        wait: &mut RunWait,
        lost: &mut Option<Instant>,
    ) -> Result<RunView, Broken> {
        let mut views = Box::pin(self.client.watch().await?);
        let mut redraw = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                view = views.next() => {
                    let view = view.unwrap_or_else(|| Err(self.ended()))?;
                    *lost = None;
                    self.show_ended(screen, &view).await?;
                    let over = wait.over(&view);
                    if !screen.has_drawn() && wait.until == Until::NextRunEnds {
                        screen.note("no run is active; waiting for the next one").map_err(Broken::Fatal)?;
                    }
                    screen.show(view).map_err(Broken::Fatal)?;
                    match over {
                        Over::No => {}
                        Over::Run(run) => return Ok(self.client.run(&run).await?),
                        Over::Newest => return self.newest().await,
                    }
                }
                _ = redraw.tick() => screen.tick().map_err(Broken::Fatal)?,
            }
        }
    }

    /// A run that is gone from the view has ended: what happened to it since the last view is asked
    /// for, or its last steps would never be seen.
    async fn show_ended(&self, screen: &Screen, view: &StatusView) -> Result<(), Broken> {
        let Some(before) = screen.lines_before().and_then(|last| last.run.as_ref()) else { return Ok(()) };
        if view.run.as_ref().is_some_and(|run| run.id == before.id) {
            return Ok(());
        }
        let after = self.client.run(&before.id).await?;
        for line in render_run_changes(before, &after, view.at) {
            print(&format!("{line}\n")).map_err(Broken::Fatal)?;
        }
        Ok(())
    }

    /// The run that began and ended between two views.
    async fn newest(&self) -> Result<RunView, Broken> {
        let newest = self.client.runs().await?.into_iter().next();
        newest.ok_or_else(|| Broken::Fatal(Failure::new(Exit::Failed, "not_found", "the run is gone")))
    }

    fn ended(&self) -> ClientError {
        ClientError::Broken { socket: self.client.socket().into(), why: "it has stopped".into() }
    }

    /// The end of a run: its report, and an exit code by its result.
    async fn conclude(&self, run: &RunView) -> Result<(), Failure> {
        if !self.json {
            print(&format!("\n{}", render_run(run, now(), &self.style)))?;
        }
        match run.result {
            Some(RunResult::Done) | None => Ok(()),
            Some(RunResult::Aborted) => {
                Err(Failure::new(Exit::Failed, "aborted", format!("run {} was aborted", run.id)))
            }
        }
    }
}

/// Waits for the end of a run, view by view.
struct RunWait {
    until: Until,
    /// The epoch of the first view: each run takes one, so that also a run that began and ended
    /// between two views is noticed.
    epoch: Option<Epoch>,
}

/// What a view says of the run that is waited for.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// It has not ended.
    No,
    /// This one has ended.
    Run(RunId),
    /// The newest one has ended, unseen.
    Newest,
}

impl RunWait {
    fn new(until: Until) -> Self {
        Self { until, epoch: None }
    }

    fn over(&mut self, view: &StatusView) -> Over {
        let active = view.run.as_ref().map(|run| &run.id);
        let first = *self.epoch.get_or_insert(view.epoch);
        match (&self.until, active) {
            (Until::Ends(run), active) if active != Some(run) => Over::Run(run.clone()),
            (Until::NextRunEnds, Some(active)) => {
                self.until = Until::Ends(active.clone());
                Over::No
            }
            (Until::NextRunEnds, None) if view.epoch > first => Over::Newest,
            (Until::Stopped | Until::NextRunEnds | Until::Ends(_), _) => Over::No,
        }
    }
}

/// Why a connection is not followed any more.
enum Broken {
    /// It may come back.
    Lost(ClientError),
    /// It is no use.
    Fatal(Failure),
}

impl From<ClientError> for Broken {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotRunning { .. } | ClientError::Broken { .. } => Self::Lost(error),
            ClientError::Permission { .. } | ClientError::Refused(_) | ClientError::Answer { .. } => {
                Self::Fatal(error.into())
            }
        }
    }
}

/// Where it is shown.
struct Screen {
    style: Style,
    kind: Kind,
    last: Option<StatusView>,
}

enum Kind {
    /// Redrawn in place.
    Terminal(ProgressBar),
    /// A line for each change; was the loss of the connection told?
    Lines(bool),
    /// A view a line.
    Json,
}

impl Screen {
    fn new(json: bool, style: Style) -> Self {
        let kind = if json {
            Kind::Json
        } else if std::io::stdout().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout_with_hz(10));
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            Kind::Terminal(bar)
        } else {
            Kind::Lines(false)
        };
        Self { style, kind, last: None }
    }

    fn has_drawn(&self) -> bool {
        self.last.is_some()
    }

    /// The view before, where each change is a line.
    fn lines_before(&self) -> Option<&StatusView> {
        self.last.as_ref().filter(|_| matches!(self.kind, Kind::Lines(_)))
    }

    /// A line of its own, where there are lines.
    fn note(&self, text: &str) -> Result<(), Failure> {
        if matches!(self.kind, Kind::Lines(_)) { print(&format!("{text}\n")) } else { Ok(()) }
    }

    fn show(&mut self, view: StatusView) -> Result<(), Failure> {
        match &mut self.kind {
            Kind::Terminal(_) => {
                self.last = Some(view);
                return self.tick();
            }
            Kind::Lines(lost) => {
                *lost = false;
                for line in render_changes(self.last.as_ref(), &view) {
                    print(&format!("{line}\n"))?;
                }
            }
            Kind::Json if self.last.as_ref() == Some(&view) => {}
            Kind::Json => {
                let line = serde_json::to_string(&view).unwrap_or_default();
                print(&format!("{line}\n"))?;
            }
        }
        self.last = Some(view);
        Ok(())
    }

    /// Countdowns move on although nothing else does.
    fn tick(&mut self) -> Result<(), Failure> {
        if let (Kind::Terminal(bar), Some(view)) = (&self.kind, &self.last) {
            // The width is asked anew: people resize their terminals.
            self.style.width = Style::detect().width;
            bar.set_message(render_status(view, now(), &self.style).trim_end().to_owned());
            bar.tick();
        }
        Ok(())
    }

    fn lost(&mut self, since: Duration) -> Result<(), Failure> {
        match &mut self.kind {
            Kind::Terminal(bar) => {
                let frame = self.last.as_ref().map_or(String::new(), |view| render_status(view, now(), &self.style));
                let text = format!("! the daemon does not answer for {}; trying again", whole(since));
                bar.set_message(format!("{frame}{}", self.style.paint(Tone::Bad, &text)));
                bar.tick();
                Ok(())
            }
            Kind::Lines(told) if !*told => {
                *told = true;
                print("the daemon does not answer; trying again\n")
            }
            Kind::Lines(_) | Kind::Json => Ok(()),
        }
    }

    fn finish(&self) {
        if let Kind::Terminal(bar) = &self.kind {
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{failing_over, outage};

    fn run() -> RunId {
        failing_over().run.expect("a run").id
    }

    #[test]
    fn where_no_run_is_active_the_next_one_is_waited_for() {
        let mut wait = RunWait::new(Until::NextRunEnds);
        assert_eq!(wait.over(&outage()), Over::No);
        assert_eq!(wait.over(&failing_over()), Over::No);
        assert_eq!(wait.over(&outage()), Over::Run(run()));
    }

    #[test]
    fn a_run_that_nobody_saw_is_noticed_by_its_epoch() {
        let mut wait = RunWait::new(Until::NextRunEnds);
        let mut view = outage();
        assert_eq!(wait.over(&view), Over::No);
        view.epoch = view.epoch.next();
        assert_eq!(wait.over(&view), Over::Newest);
    }

    #[test]
    fn the_run_of_a_command_may_have_ended_already() {
        assert_eq!(RunWait::new(Until::after(Some(run()))).over(&outage()), Over::Run(run()));
        assert_eq!(RunWait::new(Until::after(Some(run()))).over(&failing_over()), Over::No);
        assert_eq!(RunWait::new(Until::after(None)).over(&outage()), Over::No);
        assert_eq!(RunWait::new(Until::Stopped).over(&outage()), Over::No);
    }
}
