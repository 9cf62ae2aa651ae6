//! Service-level objectives: for how much of a window a service has to be available.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::ServiceName;
use super::time::HumanDuration;

/// The share of a window in which a service has to be available: `99.95%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct SloTarget(u32);

/// What stands for all of the window.
const WHOLE: u32 = 1_000_000;

impl SloTarget {
    /// From 0 to 1.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

/// Why a text is no objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no service-level objective: write a percentage above 0% and below 100%, with four decimals at most, for example `99.95%`"
)]
pub struct SloError {
    text: String,
}

impl FromStr for SloTarget {
    type Err = SloError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SloError { text: text.to_owned() };
        let number = text.trim().strip_suffix('%').ok_or_else(error)?.trim();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || whole.len() > 3 || decimals.len() > 4 {
            return Err(error());
        }
        let parts: u32 = format!("{whole}{decimals:0<4}").parse().map_err(|_| error())?;
        // All of it would leave no budget, so that any second is more than allowed.
        if 0 < parts && parts < WHOLE { Ok(Self(parts)) } else { Err(error()) }
    }
}

impl TryFrom<String> for SloTarget {
    type Error = SloError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SloTarget> for String {
    fn from(target: SloTarget) -> Self {
        target.to_string()
    }
}

impl fmt::Display for SloTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:04}", self.0 % 10_000);
        let decimals = decimals.trim_end_matches('0');
        let point = if decimals.is_empty() { "" } else { "." };
        f.pad(&format!("{}{point}{decimals}%", self.0 / 10_000))
    }
}

/// What was promised of a service's availability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slo {
    /// For how much of the window.
    pub target: SloTarget,
    /// The window, up to now.
    pub window: HumanDuration,
}

/// What the brain knows of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// Its name, as scenarios have it.
    pub name: ServiceName,
    /// What was promised of it.
    pub slo: Slo,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_percentages_that_leave_a_budget() {
        for (text, parts, shown) in [("99.95%", 999_500, "99.95%"), ("99 %", 990_000, "99%"), ("0.0001%", 1, "0.0001%")]
        {
            let read: SloTarget = text.parse().expect("an objective");
            assert_eq!((read.0, read.to_string().as_str()), (parts, shown), "{text}");
        }
        for wrong in ["100%", "0%", "99.95", "0.9995", "-1%", "99.99999%", "1000%", "%", ".5%", "99.%", "nan%"] {
            assert!(wrong.parse::<SloTarget>().is_err(), "{wrong}");
        }
    }
}
