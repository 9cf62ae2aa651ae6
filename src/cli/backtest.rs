//! `failoverd backtest`: recorded history through the detection as it is configured, and as it might be.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::{Backtest, Global};
use super::check::{load_options, load_or_tell};
use super::context::now;
use super::exit::{Exit, Failure, print, print_json};
use super::render::Style;
use super::render::backtest::render_backtest;
use crate::backtest::history::History;
use crate::backtest::report::{Advice, Job, Report, run};
use crate::backtest::sweep::Sweep;
use crate::backtest::{Wrong, labels, moment, page, source_csv, source_own, source_prometheus};
use crate::clients::prometheus_range::Server;
use crate::clients::{Clients, Failure as ClientFailure};
use crate::config::{LoadOptions, Loaded};
use crate::state::{history_path, read_history};

/// A token is shorter than that.
const LONGEST_TOKEN: u64 = 64 * 1024;

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Given(what) => Self::new(Exit::Usage, "input", what),
            Wrong::Failed(what) => Self::new(Exit::Failed, "source", what),
        }
    }
}

/// `failoverd backtest`.
///
/// # Errors
/// [`Failure`]; exit code 1 where outages are labelled and no setting deals with all of them.
pub async fn backtest(global: &Global, args: &Backtest) -> Result<(), Failure> {
    // Nothing is reached: neither the targets nor the secrets are needed here.
    let options = LoadOptions { further: None, ..load_options(global, false) };
    let loaded = load_or_tell(global, &options)?;
    let sweep = args.sweep.as_deref().map(|text| Sweep::parse(text, &loaded.file)).transpose()?.unwrap_or_default();
    let outages = args.outages.as_deref().map(|path| labels::read(path, &loaded.settings)).transpose()?;
    let mut notes = Vec::new();
    let history = history(args, &loaded, global.json, &mut notes).await?;
    let variants = sweep.variants(&loaded.file);
    let bar = bar(global.json, "{spinner} played {pos} of {len} settings, {elapsed}");
    bar.set_length(u64::try_from(variants.len()).unwrap_or(u64::MAX).saturating_add(1));
    let job = Job {
        options: &options,
        settings: &loaded.settings,
        history: &history,
        labels: outages.map(|outages| labels::within(outages, &history)),
        variants,
        phases: args.phases,
        notes,
    };
    let report = run(job, &|| bar.inc(1))?;
    bar.finish_and_clear();
    if let Some(path) = &args.html {
        std::fs::write(path, page::render(&report, &history)).map_err(|error| {
            Failure::new(Exit::Failed, "output", format!("{}: the page cannot be written: {error}", path.display()))
        })?;
    }
    if global.json {
        print_json(&report)?;
    } else {
        print(&render_backtest(&report, &Style::detect()))?;
    }
    end(&report)
}

/// Without labels there is nothing that could be wrong.
fn end(report: &Report) -> Result<(), Failure> {
    match (&report.advice, &report.outages) {
        (Advice::None(_), Some(_)) => Err(Failure::said(Exit::Failed)),
        _ => Ok(()),
    }
}

async fn history(args: &Backtest, loaded: &Loaded, quiet: bool, notes: &mut Vec<String>) -> Result<History, Failure> {
    let time = |text: &Option<String>, flag: &str| {
        let read = text.as_deref().map(moment).transpose();
        read.map_err(|what| Failure::usage(format!("{flag}: {what}")))
    };
    let window = (time(&args.from, "--from")?, time(&args.to, "--to")?);
    if let (Some(from), Some(to)) = window
        && from >= to
    {
        return Err(Failure::usage("--from is not before --to"));
    }
    if let Some(file) = &args.history {
        return own(file.as_deref(), loaded, window, notes);
    }
    if let Some(path) = &args.csv {
        return Ok(source_csv::open(path, &loaded.settings, window)?);
    }
    let Some(address) = &args.prometheus else {
        return Err(Failure::usage("say where the history is: --history, --csv FILE or --prometheus URL"));
    };
    let from = window.0.ok_or_else(|| Failure::usage("--prometheus needs --from, and takes --to (default: now)"))?;
    let to = window.1.unwrap_or_else(|| now().0);
    let queries = source_prometheus::queries(&args.metric, &loaded.settings)?;
    let refused = |failure: ClientFailure| Failure::usage(failure.to_string());
    let client = Clients::new(&loaded.file.limits).http(args.ca_file.as_deref()).map_err(refused)?;
    let server = Server::new(client, address, token(args.token_file.as_deref())?).map_err(refused)?;
    if args.metric.is_empty() {
        notes.push(
            "failoverd_probe_health is the verdict after `fall` and `rise`, and not each look: what was short is \
             not in it. Better: the looks themselves, with --metric or --csv."
                .into(),
        );
    }
    let bar = bar(quiet, "{spinner} asked {msg} for {pos} of {len} pieces, {elapsed}");
    bar.set_message(server.host().to_owned());
    let progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let history = source_prometheus::fetch(&server, &queries, (from, to), &progress).await;
    bar.finish_and_clear();
    Ok(history?)
}

/// What the daemon has recorded itself.
fn own(
    file: Option<&Path>,
    loaded: &Loaded,
    window: source_csv::Window,
    notes: &mut Vec<String>,
) -> Result<History, Failure> {
    let beside = || history_path(&loaded.file.local_state().unwrap_or_default());
    let path = file.map_or_else(beside, Path::to_owned);
    let read = read_history(&path, window.0, window.1);
    let stretches = read.map_err(|error| Failure::new(Exit::Failed, "source", error.to_string()))?;
    notes.push(
        "From the daemon's own history: what a probe saw is exact at each instant; how long a single look took is \
         known within 5 %, and its place within five minutes."
            .into(),
    );
    Ok(source_own::spread(&stretches, &loaded.settings, window, notes)?)
}

fn token(path: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let unread = |what: String| Failure::usage(format!("--token-file {}: {what}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| unread(error.to_string()))?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, LONGEST_TOKEN), &mut text)
        .map_err(|error| unread(error.to_string()))?;
    match text.trim() {
        "" => Err(unread("there is nothing in it".into())),
        token if token.chars().all(|c| c.is_ascii_graphic()) => Ok(Some(token.to_owned())),
        _ => Err(unread("there is more than one token in it".into())),
    }
}

fn bar(quiet: bool, template: &str) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Option<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, text).expect("written");
        token(Some(&path)).map_err(|failure| failure.message)
    }

    #[test]
    fn a_token_is_one_line_of_a_file() {
        assert_eq!(read(b"  sesame.x_y-z==\n"), Ok(Some("sesame.x_y-z==".into())));
        assert_eq!(token(None).map_err(|failure| failure.message), Ok(None));
        assert!(read(b" \n").expect_err("empty").contains("there is nothing in it"));
        let two = read(b"sesame\nopen").expect_err("two");
        assert!(two.contains("more than one token") && !two.contains("sesame"), "{two}");
        assert!(read(&[0xff, 0xfe]).is_err());
        let gone = token(Some(Path::new("/nowhere/token"))).map_err(|failure| failure.message);
        assert!(gone.expect_err("gone").starts_with("--token-file /nowhere/token: "));
    }
}
