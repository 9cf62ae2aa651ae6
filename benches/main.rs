//! `make bench`: how quick, how small. Each figure stands beside a reference that was measured in
//! the same run on the same machine, so that the ratio means something where the machine is busy.
//!
//! `cargo bench --bench daemon -- detect` runs one of them, `-- detection` all that `make bench-detect` shows;
//! `FAILOVERD_BENCH_ROUNDS` sets how often each figure is taken. Nothing here fails by a figure: timed assertions belong in no test.

#[path = "../tests/fleet/mod.rs"]
mod fleet;

mod act;
mod detect;
mod detection;
mod endpoint;
mod executor;
mod figures;
mod footprint;
mod reference;
mod regional;
mod rig;
mod target;

use std::process::ExitCode;

use anyhow::Result;

use crate::detection::{Line, PARTS};

/// What runs without a name.
const BENCHES: [&str; 5] = ["detect", "act", "executor", "regional", "footprint"];
/// All parts of `make bench-detect`.
const DETECTION: &str = "detection";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(code) = arguments.split_first().and_then(|(first, rest)| play(first, rest)) {
        return code;
    }
    let known = |wanted: &str| wanted == DETECTION || BENCHES.contains(&wanted) || PARTS.contains(&wanted);
    if let Some(unknown) = arguments.iter().find(|wanted| !known(wanted)) {
        let (benches, parts) = (BENCHES.join(", "), PARTS.join(", "));
        eprintln!("bench: there is no {unknown}; there are {benches}, and {DETECTION} with its parts {parts}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", figures::machine());
    let wanted = |bench: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == bench);
    let mut failed = false;
    for bench in BENCHES.into_iter().filter(|bench| wanted(bench)) {
        if let Err(error) = runtime.block_on(run(bench)) {
            eprintln!("bench {bench}: could not be run: {error:#}");
            failed = true;
        }
    }
    let wanted = |part: &str| arguments.iter().any(|argument| argument == DETECTION || argument == part);
    let mut lines = Vec::new();
    for part in PARTS.into_iter().filter(|part| wanted(part)) {
        match runtime.block_on(detection::part(part)) {
            Ok(measured) => lines.extend(measured),
            Err(error) => {
                eprintln!("bench {part}: could not be run: {error:#}");
                lines.push(Line::not_run(part));
                failed = true;
            }
        }
    }
    if !lines.is_empty() {
        detection::show(&lines);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What this program is when a bench starts it once more, as somebody to measure with.
fn play(part: &str, rest: &[String]) -> Option<ExitCode> {
    match part {
        target::FLAG => Some(target::serve(rest)),
        detection::crowd::FLAG => Some(detection::crowd::serve(rest)),
        detection::cost::FLOOR_FLAG => Some(detection::cost::floor(rest)),
        detection::blackbox::FLAG => Some(detection::blackbox::scrape(rest)),
        detection::frozen::FLAG => Some(detection::frozen::run(rest)),
        detection::loss::FLAG => Some(detection::loss::inside()),
        _ => None,
    }
}

async fn run(bench: &str) -> Result<()> {
    match bench {
        "detect" => detect::bench(rounds(24)).await,
        "act" => act::bench(rounds(24)).await,
        "executor" => executor::bench(rounds(7)).await,
        "regional" => regional::bench(rounds(5)).await,
        _ => footprint::bench(rounds(15)).await,
    }
}

/// How often each figure is taken.
fn rounds(usual: usize) -> usize {
    let wanted = std::env::var("FAILOVERD_BENCH_ROUNDS").ok();
    wanted.and_then(|text| text.parse().ok()).filter(|rounds| *rounds > 0).unwrap_or(usual)
}
