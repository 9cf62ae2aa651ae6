//! `failoverd watch`: live on a terminal, a line for each change elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::context::{Context, now};
use super::exit::{Exit, Failure, print};
use super::render::Style;
use super::render::changes::render_changes;
use super::render::run::render_run;
use super::render::status::render_status;
use super::render::style::Tone;
use super::render::time::whole;
use crate::control::ClientError;
use crate::core::view::StatusView;
use crate::model::{RunId, RunResult};

/// A daemon that restarts is waited for; longer than this it is gone.
const PATIENCE: Duration = Duration::from_secs(300);

impl Context {
    /// Follows the status; with `until_run_ends` to the end of the active run.
    ///
    /// # Errors
    /// [`Failure`]; where the run was aborted, with exit code 1.
    pub async fn watch(&self, until_run_ends: bool) -> Result<(), Failure> {
        let mut screen = Screen::new(self.json, self.style);
        let mut run: Option<RunId> = None;
        let mut lost: Option<Instant> = None;
        loop {
            let outcome = self.follow(&mut screen, until_run_ends, &mut run, &mut lost).await;
            match outcome {
                Ok(()) => break,
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
        }
        screen.finish();
        match run {
            Some(run) => self.conclude(&run).await,
            None if self.json => Ok(()),
            None => print("No run is active.\n"),
        }
    }

    /// Follows one connection. `Ok` at the end of the run.
    async fn follow(
        &self,
        screen: &mut Screen,
        until_run_ends: bool,
        run: &mut Option<RunId>,
        lost: &mut Option<Instant>,
    ) -> Result<(), Broken> {
        let mut views = Box::pin(self.client.watch().await?);
        let mut redraw = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                view = views.next() => {
                    let view = view.unwrap_or_else(|| Err(self.ended()))?;
                    *lost = None;
                    let active = view.run.as_ref().map(|run| run.id.clone());
                    screen.show(view).map_err(Broken::Fatal)?;
                    if until_run_ends && (active.is_none() || run.is_some() && *run != active) {
                        return Ok(());
                    }
                    if until_run_ends {
                        *run = active;
                    }
                }
                _ = redraw.tick() => screen.tick().map_err(Broken::Fatal)?,
            }
        }
    }

    fn ended(&self) -> ClientError {
        ClientError::Broken { socket: self.client.socket().into(), why: "it has stopped".into() }
    }

    /// The end of a run: its report, and an exit code by its result.
    async fn conclude(&self, run: &RunId) -> Result<(), Failure> {
        let view = self.client.run(run).await?;
        if !self.json {
            print(&format!("\n{}", render_run(&view, now(), &self.style)))?;
        }
        match view.result {
            Some(RunResult::Done) | None => Ok(()),
            Some(RunResult::Aborted) => Err(Failure::new(Exit::Failed, "aborted", format!("run {run} was aborted"))),
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
