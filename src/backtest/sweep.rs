//! The variants of the configuration that are tried: `fall=2..6,interval=1s..10s,confirm_for=10s|30s`.

use std::fmt;

use super::Wrong;
use crate::config::path::{Path, Segment};
use crate::config::shape::{File, Probe};
use crate::config::suggest;
use crate::model::HumanDuration;

/// More variants than that are not tried.
pub const MOST_VARIANTS: usize = 500;

/// What people find sensible between two durations, in milliseconds.
const LADDER: [u64; 27] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 15_000, 20_000, 30_000, 45_000, 60_000, 90_000,
    120_000, 180_000, 300_000, 600_000, 900_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000,
];

const KEYS: [&str; 7] = ["interval", "fast_interval", "timeout", "fall", "rise", "max_age", "confirm_for"];

/// One value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// `fall`, `rise`.
    Count(u32),
    /// All others.
    Time(HumanDuration),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Time(time) => write!(f, "{time}"),
        }
    }
}

/// One parameter and what is tried of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    /// Of this probe or scenario only.
    of: Option<String>,
    key: &'static str,
    values: Vec<Value>,
}

/// A sweep: each value of each parameter with each of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep(Vec<Parameter>);

/// One setting that is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// For people: `fall 3, interval 2s`.
    pub name: String,
    /// What is set, above all that is written.
    pub overrides: Vec<(Path, Value)>,
}

impl Sweep {
    /// Reads what was typed, for this configuration.
    ///
    /// # Errors
    /// [`Wrong`] with the part that is wrong.
    pub fn parse(text: &str, file: &File) -> Result<Self, Wrong> {
        let wrong = |what: String| Wrong::Given(format!("--sweep: {what}"));
        let mut parameters: Vec<Parameter> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let parameter = parameter(part, file).map_err(wrong)?;
            if parameters.iter().any(|known| (&known.of, known.key) == (&parameter.of, parameter.key)) {
                let name = part.split('=').next().unwrap_or_default();
                return Err(wrong(format!("`{name}` is there twice; write its values as `{name}=A|B`")));
            }
            parameters.push(parameter);
        }
        // What holds for one is set after what holds for all.
        parameters.sort_by_key(|parameter| parameter.of.is_some());
        let sweep = Self(parameters);
        match sweep.size() {
            size if size > MOST_VARIANTS => Err(wrong(format!(
                "these are {size} variants ({}), at most {MOST_VARIANTS} are tried: leave some values out",
                sweep.0.iter().map(|one| one.values.len().to_string()).collect::<Vec<_>>().join(" × ")
            ))),
            _ => Ok(sweep),
        }
    }

    /// How many variants it has.
    fn size(&self) -> usize {
        if self.0.is_empty() { 0 } else { self.0.iter().fold(1, |size, one| size.saturating_mul(one.values.len())) }
    }

    /// All variants, in the order typed, the last parameter changing first.
    pub fn variants(&self, file: &File) -> Vec<Variant> {
        (0..self.size()).map(|number| self.variant(number, file)).collect()
    }

    fn variant(&self, mut number: usize, file: &File) -> Variant {
        let mut chosen: Vec<(&Parameter, Value)> = Vec::new();
        for parameter in self.0.iter().rev() {
            chosen.push((parameter, parameter.values[number % parameter.values.len()]));
            number /= parameter.values.len();
        }
        chosen.reverse();
        let mut overrides: Vec<(Path, Value)> = Vec::new();
        for (parameter, value) in &chosen {
            for path in paths(parameter, file) {
                match overrides.iter_mut().find(|(known, _)| *known == path) {
                    Some(known) => known.1 = *value,
                    None => overrides.push((path, *value)),
                }
            }
        }
        let words = chosen.iter().map(|(parameter, value)| match &parameter.of {
            Some(of) => format!("{of}.{} {value}", parameter.key),
            None => format!("{} {value}", parameter.key),
        });
        Variant { name: words.collect::<Vec<_>>().join(", "), overrides }
    }
}

/// Where a parameter is written, so that it holds for all that it is meant for: a probe's own value
/// would win over the default.
fn paths(parameter: &Parameter, file: &File) -> Vec<Path> {
    let key = parameter.key;
    let below = |table: &str, name: &str| Path::of(&[table, name, key]);
    match (&parameter.of, key) {
        (Some(of), "confirm_for") => vec![below("scenarios", of)],
        (Some(of), _) => vec![below("probes", of)],
        (None, "confirm_for") => file.scenarios.keys().map(|name| below("scenarios", name)).collect(),
        (None, _) => {
            let own = file.probes.iter().filter(|(_, probe)| has_own(probe, key));
            let own = own.map(|(name, _)| below("probes", name));
            std::iter::once(below("defaults", "probe")).chain(own).collect()
        }
    }
}

fn has_own(probe: &Probe, key: &str) -> bool {
    match key {
        "interval" => probe.interval.is_some(),
        "fast_interval" => probe.fast_interval.is_some(),
        "timeout" => probe.timeout.is_some(),
        "max_age" => probe.max_age.is_some(),
        "fall" => probe.fall.is_some(),
        "rise" => probe.rise.is_some(),
        _ => false,
    }
}

fn parameter(part: &str, file: &File) -> Result<Parameter, String> {
    let Some((name, values)) = part.split_once('=') else {
        return Err(format!("`{part}` has no values; write it like `fall=2..6` or `confirm_for=10s|30s`"));
    };
    let (of, key) = match name.trim().rsplit_once('.') {
        Some((of, key)) => (Some(of), key),
        None => (None, name.trim()),
    };
    let Some(key) = KEYS.into_iter().find(|known| *known == key) else {
        return Err(format!("there is no parameter `{key}`: {}", suggest::fix(key, "parameter", KEYS)));
    };
    if let Some(of) = of {
        let (what, known): (_, Vec<&str>) = match key {
            "confirm_for" => ("scenario", file.scenarios.keys().map(String::as_str).collect()),
            _ => ("probe", file.probes.keys().map(String::as_str).collect()),
        };
        if !known.contains(&of) {
            return Err(format!("the configuration has no {what} `{of}`: {}", suggest::fix(of, what, known)));
        }
    }
    let mut all = Vec::new();
    for text in values.split('|').map(str::trim) {
        let found = if matches!(key, "fall" | "rise") { counts(text) } else { times(text) };
        for value in found.map_err(|what| format!("{name}: {what}"))? {
            if !all.contains(&value) {
                all.push(value);
            }
        }
    }
    Ok(Parameter { of: of.map(str::to_owned), key, values: all })
}

fn counts(text: &str) -> Result<Vec<Value>, String> {
    let read = |text: &str| match text.trim().parse::<u32>() {
        Ok(count @ 1..=1000) => Ok(count),
        _ => Err(format!("`{text}` is no whole number from 1 to 1000")),
    };
    match text.split_once("..") {
        None => Ok(vec![Value::Count(read(text)?)]),
        Some((from, to)) => match (read(from)?, read(to)?) {
            (from, to) if from <= to => Ok((from..=to).map(Value::Count).collect()),
            (from, to) => Err(format!("{from} is more than {to}")),
        },
    }
}

fn times(text: &str) -> Result<Vec<Value>, String> {
    let read = |text: &str| text.trim().parse::<HumanDuration>().map_err(|error| error.to_string());
    match text.split_once("..") {
        None => Ok(vec![Value::Time(read(text)?)]),
        Some((from, to)) => match (read(from)?, read(to)?) {
            (from, to) if from <= to => {
                let between = LADDER.into_iter().map(HumanDuration::millis).filter(|step| from < *step && *step < to);
                let mut all: Vec<HumanDuration> = std::iter::once(from).chain(between).chain([to]).collect();
                all.dedup();
                Ok(all.into_iter().map(Value::Time).collect())
            }
            (from, to) => Err(format!("{from} is more than {to}")),
        },
    }
}

impl Variant {
    /// The overrides as the configuration takes them.
    pub fn texts(&self) -> Vec<(Path, String)> {
        self.overrides.iter().map(|(path, value)| (path.clone(), value.to_string())).collect()
    }

    /// What somebody would write to have it, table by table.
    pub fn toml(&self) -> String {
        let mut tables: Vec<(String, Vec<String>)> = Vec::new();
        for (path, value) in &self.overrides {
            let keys: Vec<String> = path.0.iter().filter_map(bare).collect();
            let Some((key, table)) = keys.split_last() else { continue };
            let line = match value {
                Value::Count(count) => format!("{key} = {count}"),
                Value::Time(time) => format!("{key} = \"{time}\""),
            };
            let table = table.join(".");
            match tables.iter_mut().find(|(known, _)| *known == table) {
                Some((_, lines)) => lines.push(line),
                None => tables.push((table, vec![line])),
            }
        }
        let tables = tables.into_iter().map(|(table, lines)| format!("[{table}]\n{}\n", lines.join("\n")));
        tables.collect::<Vec<_>>().join("\n")
    }
}

fn bare(segment: &Segment) -> Option<String> {
    let Segment::Key(key) = segment else { return None };
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    // Names are checked to be plain; a dot is all that has to be quoted.
    Some(if plain { key.clone() } else { format!("{key:?}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let text = "[daemon]\nname = \"x\"\nmode = \"auto\"\nstate = \"sqlite:x\"\nsocket = \"x\"\nshutdown_grace = \"1s\"\n\
            [probes.api]\nfall = 4\ntcp = { address = \"a:1\" }\n[probes.\"db.main\"]\ntcp = { address = \"b:1\" }\n\
            [scenarios.outage]\nseverity = \"P0\"\nwhen = \"api\"\nconfirm_for = \"30s\"\nrto = \"5m\"\n";
        toml::from_str(text).expect("a file")
    }

    fn names(text: &str) -> Vec<String> {
        Sweep::parse(text, &file()).expect("good").variants(&file()).into_iter().map(|variant| variant.name).collect()
    }

    #[test]
    fn ranges_and_lists_make_their_product() {
        assert_eq!(
            names("fall=2..3,confirm_for=10s|30s"),
            [
                "fall 2, confirm_for 10s",
                "fall 2, confirm_for 30s",
                "fall 3, confirm_for 10s",
                "fall 3, confirm_for 30s",
            ]
        );
        assert_eq!(names("interval=1s..10s").len(), 5, "1, 2, 3, 5, 10");
        assert_eq!(names("interval=1500ms..4s"), ["interval 1s 500ms", "interval 2s", "interval 3s", "interval 4s"]);
        assert_eq!(names("fall=2|2..3|9"), ["fall 2", "fall 3", "fall 9"]);
    }

    #[test]
    fn a_value_is_set_wherever_it_would_be_overruled() {
        let variant = |text: &str| Sweep::parse(text, &file()).expect("good").variants(&file()).remove(0);
        assert_eq!(variant("fall=2").toml(), "[defaults.probe]\nfall = 2\n\n[probes.api]\nfall = 2\n");
        let both = variant("db.main.fall=5,fall=2,interval=3s,outage.confirm_for=1m");
        let expected = "[defaults.probe]\nfall = 2\ninterval = \"3s\"\n\n[probes.api]\nfall = 2\n\n\
                        [probes.\"db.main\"]\nfall = 5\n\n[scenarios.outage]\nconfirm_for = \"1m\"\n";
        assert_eq!(both.toml(), expected);
        assert!(both.toml().parse::<toml::Table>().is_ok());
        assert_eq!(variant("fall=2,api.fall=7").toml(), "[defaults.probe]\nfall = 2\n\n[probes.api]\nfall = 7\n");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = |text: &str| Sweep::parse(text, &file()).expect_err("wrong").to_string();
        assert_eq!(wrong("fal=2"), "--sweep: there is no parameter `fal`: did you mean `fall`?");
        assert_eq!(wrong("apo.fall=2"), "--sweep: the configuration has no probe `apo`: did you mean `api`?");
        assert!(wrong("outge.confirm_for=2s").ends_with("no scenario `outge`: did you mean `outage`?"));
        assert_eq!(wrong("fall=6..2"), "--sweep: fall: 6 is more than 2");
        assert!(wrong("fall=0").contains("no whole number from 1"));
        assert!(wrong("interval=5").contains("is not a duration"), "{}", wrong("interval=5"));
        assert!(wrong("fall").contains("has no values"));
        assert!(wrong("fall=2,fall=3").contains("`fall` is there twice"));
        assert_eq!(
            wrong("fall=1..30,rise=1..20"),
            "--sweep: these are 600 variants (30 × 20), at most 500 are tried: leave some values out"
        );
    }
}
