//! What is left of a failover and of a drill of the examples: report, matrix and replay, held against
//! files that a person has read. Times, ports, checksums and names of the day are taken out of both.

use anyhow::{Context, Result, ensure};
use regex::Regex;

use crate::fleet::process::Finished;
use crate::rig::{PATIENCE, Rig, is_over};

/// Everything that is another one in each run, by what it is.
const CHANGING: &[(&str, &str)] = &[
    (r"(INC|RUN)-\d{8}-\d{3}", "$1-DAY-NNN"),
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+)?( UTC|Z)?", "TIME"),
    (r"\d{4}-\d{2}-\d{2}", "DAY"),
    (r"\d{2}:\d{2}:\d{2}(\.\d+)?", "TIME"),
    (r"\b[0-9a-f]{8,64}\b", "HASH"),
    (r"\b\d+(\.\d+)? ?(ns|µs|us|ms|s|min|m|h|d)\b( \d+(\.\d+)? ?(ms|s|min|m)\b)*", "LONG"),
    (r"\b0s\b", "LONG"),
    (r"[0-9A-F]+/[0-9A-F]+", "LSN"),
    (r"127\.0\.0\.1:\d+", "HERE"),
    (r"/tmp/[^\s|`)]+", "PATH"),
    (r"\(\d+ [a-zA-Z]*B(, \d+ transactions?)?\)", "(WRITES)"),
    (r"-{2,}", "--"),
    (r" {2,}", " "),
];

/// The lines without what changes, in an order that does not depend on who came first.
fn settled(text: &str) -> Result<String> {
    let mut text = text.to_owned();
    for (pattern, instead) in CHANGING {
        text = Regex::new(pattern)?.replace_all(&text, *instead).into_owned();
    }
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n"))
}

/// A part of a report in Markdown: from its heading to the next of that rank.
fn part<'a>(report: &'a str, heading: &str) -> Result<&'a str> {
    let begin = report.find(&format!("\n## {heading}")).with_context(|| format!("no {heading} in {report}"))? + 1;
    let rest = &report[begin..];
    Ok(&rest[..rest[3..].find("\n## ").map_or(rest.len(), |end| end + 3)])
}

fn printed(done: Finished) -> Result<String> {
    ensure!(done.status.success(), "{}\n{}{}", done.status, done.stdout, done.stderr);
    Ok(done.stdout)
}

#[tokio::test]
async fn a_regional_failover_leaves_report_matrix_and_replay() -> Result<()> {
    let mut rig = Rig::start(&[]).await?;
    let mut daemon = rig.outage().await?;
    let run = daemon.run("the failover", is_over).await?;
    ensure!(run.ended.is_some(), "{run:?}");
    let incident = run.incident.context("its incident")?;
    daemon.ends().await?;

    let state = format!("--state={}", rig.state().display());
    let report = printed(rig.verb(&["report", incident.as_str(), &state]).run(PATIENCE).await?)?;
    let parts = [part(&report, "Objectives")?, part(&report, "Action items")?].join("\n");
    insta::assert_snapshot!("regional_failover_report", settled(&parts)?);
    let headings: Vec<&str> = report.lines().filter(|line| line.starts_with('#')).collect();
    insta::assert_snapshot!("regional_failover_report_headings", settled(&headings.join("\n"))?);
    for step in &run.steps {
        ensure!(report.contains(&format!("| {} |", step.name)), "step {} is not in it: {report}", step.name);
    }

    let matrix = printed(rig.verb(&["matrix", "--markdown", &state]).run(PATIENCE).await?)?;
    insta::assert_snapshot!("regional_failover_matrix", settled(&matrix)?);

    let state = rig.state().display().to_string();
    let replay = printed(rig.verb(&["replay", incident.as_str(), "--state", &state]).run(PATIENCE).await?)?;
    ensure!(replay.contains("byte for byte"), "{replay}");
    Ok(())
}
