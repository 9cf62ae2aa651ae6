//! The entry: reads the command line and hands over.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use failoverd::cli;
use failoverd::cli::args::{Cli, Global, Verb};
use failoverd::cli::check::load_options;
use failoverd::cli::exit::{Exit, Failure};
use failoverd::config;
use failoverd::daemon::{self, RunOptions, StartError};

/// With ten thousand probes reading the configuration takes 100 MB for a moment. glibc would keep them
/// for the life of the daemon; this one gives them back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long tasks that are still under way at the end may take.
const LAST_TASKS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // One TLS stack for every client. An error means that somebody was quicker, with the same one.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    let result = match &cli.verb {
        Verb::Run { alert_only } => run(&cli.global, Body::Daemon { alert_only: *alert_only }),
        Verb::Witness { name } => run(&cli.global, Body::Witness { name }),
        verb => runtime(tokio::runtime::Builder::new_current_thread())
            .and_then(|runtime| runtime.block_on(cli::dispatch(&cli.global, verb))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(cli.global.json),
    }
}

fn runtime(mut builder: tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, Failure> {
    let failed = |error| Failure::new(Exit::Failed, "runtime", format!("cannot start: {error}"));
    builder.enable_all().build().map_err(failed)
}

/// What runs until it is stopped.
enum Body<'a> {
    Daemon { alert_only: bool },
    Witness { name: &'a str },
}

/// Runs it. Two workers: one for the loop, one for what must not wait for it.
fn run(global: &Global, body: Body<'_>) -> Result<(), Failure> {
    let user = Some(rustix::process::geteuid().as_raw());
    let load = config::LoadOptions { user, ..load_options(global, true) };
    // Told where the log goes: whoever runs a daemon reads that.
    let wrong = |faults: config::Faults| {
        let found = faults.render(false);
        Failure::new(Exit::Usage, "configuration", format!("the configuration is wrong, nothing is begun\n{found}"))
    };
    let loaded = config::load(&load).map_err(wrong)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2);
    let runtime = runtime(builder)?;
    let ended = match body {
        Body::Daemon { alert_only } => {
            let options = RunOptions { load, socket: global.socket.clone(), alert_only };
            runtime.block_on(daemon::run(loaded, options))
        }
        Body::Witness { name } => runtime.block_on(daemon::run_witness(loaded, load, name)),
    };
    // The state is closed in order with the tasks that hold it; what does not end, such as the helper
    // of a kubeconfig, must not hold up the end.
    runtime.shutdown_timeout(LAST_TASKS);
    ended.map_err(|error| {
        let exit = if error.exit_code() == 2 { Exit::Usage } else { Exit::Failed };
        match error {
            StartError::Told { .. } => Failure::said(exit),
            error => Failure::new(exit, "daemon", error.to_string()),
        }
    })
}
