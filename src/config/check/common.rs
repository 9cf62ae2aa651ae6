//! Checks that many parts need.

use std::path::Path as FilePath;

use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::trust::{self, Matter};
use crate::model::HumanDuration;

/// A duration of nothing where something has to pass.
pub fn not_zero(report: &mut Report<'_>, path: &Path, duration: Option<HumanDuration>) {
    if duration == Some(HumanDuration::ZERO) {
        report.error("zero", path, "this must be longer than 0s", "write a duration, for example `2s`");
    }
}

/// A count of nothing where at least one is needed.
pub fn at_least_one(report: &mut Report<'_>, path: &Path, count: Option<u32>) {
    if count == Some(0) {
        report.error("zero", path, "this must be at least 1", "write 1 or more");
    }
}

/// An empty text where something has to be said.
pub fn not_empty(report: &mut Report<'_>, path: &Path, text: &str) {
    if text.trim().is_empty() {
        report.error("empty", path, "this is empty", "write something here, or leave the key out");
    }
}

/// `host:port`.
pub fn address(report: &mut Report<'_>, path: &Path, text: &str) {
    let well = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let bare = !host.is_empty() && !host.contains([':', '/', ' ', '@']);
        (bracketed || bare) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !well {
        report.error(
            "bad_address",
            path,
            format!("`{text}` is not an address"),
            "write `host:port`, for example `db.example:5432` or `[2001:db8::1]:443`",
        );
    }
}

/// An HTTP method.
pub fn method(report: &mut Report<'_>, path: &Path, method: &str) {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if !METHODS.contains(&method) {
        let fix = crate::config::suggest::fix(method, "method", METHODS);
        report.error("bad_method", path, format!("`{method}` is not an HTTP method"), fix);
    }
}

/// HTTP statuses.
pub fn statuses(report: &mut Report<'_>, path: &Path, statuses: &[u16]) {
    for (place, status) in statuses.iter().enumerate() {
        if !(100..=599).contains(status) {
            report.error(
                "bad_status",
                &path.index(place),
                format!("{status} is not an HTTP status"),
                "write a number from 100 to 599",
            );
        }
    }
}

/// A file that is named. That it is not there is only a warning: `check` may run on another machine.
pub fn file_is_there(report: &mut Report<'_>, path: &Path, file: Option<&FilePath>) {
    let Some(file) = file.filter(|_| report.inspects()) else { return };
    if let Err(error) = std::fs::File::open(file) {
        report.warn(
            "file_not_readable",
            path,
            format!("cannot read {}: {error}", file.display()),
            "make it readable for the user that failoverd runs as",
        );
    }
    trust::check(report, path, file, Matter::Decision);
}

/// An AWS region's name; a wrong one is found only by the first call, in the middle of an outage.
pub fn aws_region(report: &mut Report<'_>, path: &Path, region: &str) {
    let parts: Vec<&str> = region.split('-').collect();
    let letters = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    let well = match parts.as_slice() {
        [words @ .., number] if words.len() >= 2 => {
            words.iter().all(letters) && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
        }
        _ => false,
    };
    if !well {
        report.warn(
            "odd_region",
            path,
            format!("`{region}` does not look like an AWS region"),
            "write it like `us-west-2`",
        );
    }
}
