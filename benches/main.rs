//! `make bench`: how quick, how small. Each figure stands beside a reference that was measured in
//! the same run on the same machine, so that the ratio means something where the machine is busy.
//!
//! `cargo bench --bench daemon -- detect` runs one of them; `FAILOVERD_BENCH_ROUNDS` sets how often
//! each figure is taken. Nothing here fails by a figure: timed assertions belong in no test.

#[path = "../tests/fleet/mod.rs"]
mod fleet;

mod act;
mod campaign;
mod detect;
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

const BENCHES: [&str; 5] = ["detect", "act", "executor", "regional", "footprint"];
/// Takes minutes, so that it is run only where it is named.
const CAMPAIGN: &str = "campaign";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == target::FLAG) {
        return target::serve(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == campaign::PART) {
        return campaign::play();
    }
    let known = || BENCHES.into_iter().chain([CAMPAIGN]);
    if let Some(unknown) = arguments.iter().find(|wanted| !known().any(|bench| bench == wanted.as_str())) {
        eprintln!("bench: there is no {unknown}; there are {}", known().collect::<Vec<_>>().join(", "));
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
    let named = |bench: &str| arguments.iter().any(|argument| argument == bench);
    let wanted = |bench: &str| named(bench) || (arguments.is_empty() && bench != CAMPAIGN);
    let mut failed = false;
    for bench in known().filter(|bench| wanted(bench)) {
        if let Err(error) = runtime.block_on(run(bench)) {
            eprintln!("bench {bench}: could not be run: {error:#}");
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn run(bench: &str) -> Result<()> {
    match bench {
        "detect" => detect::bench(rounds(24)).await,
        "act" => act::bench(rounds(24)).await,
        "executor" => executor::bench(rounds(7)).await,
        "regional" => regional::bench(rounds(5)).await,
        CAMPAIGN => campaign::bench().await,
        _ => footprint::bench(rounds(15)).await,
    }
}

/// How often each figure is taken.
fn rounds(usual: usize) -> usize {
    let wanted = std::env::var("FAILOVERD_BENCH_ROUNDS").ok();
    wanted.and_then(|text| text.parse().ok()).filter(|rounds| *rounds > 0).unwrap_or(usual)
}
