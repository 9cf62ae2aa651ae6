//! The outages that there really were, as a person labelled them: `from,to,scenario[,note]`.

use std::fs::File;
use std::path::Path;

use serde::Serialize;

use super::Wrong;
use super::csv::Reader;
use super::history::History;
use crate::config::suggest;
use crate::model::{ScenarioName, Settings, WallTime};

/// More than so many are not held.
const MOST: usize = 10_000;

/// One outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// When it began.
    pub from: WallTime,
    /// When it was over.
    pub to: WallTime,
    /// The scenario that should have failed over.
    pub scenario: ScenarioName,
    /// In the words of whoever labelled it.
    pub note: String,
}

impl Outage {
    /// Does it go on at that time?
    pub fn holds_at(&self, at: WallTime) -> bool {
        self.from <= at && at <= self.to
    }
}

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<File, Wrong> {
    let unread = |error: std::io::Error| Wrong::Given(format!("{}: this cannot be read: {error}", path.display()));
    let file = File::open(path).map_err(unread)?;
    // A folder opens well, and is found out only by the first read.
    match file.metadata().map_err(unread)?.is_dir() {
        true => Err(Wrong::Given(format!("{}: this is a folder, not a file", path.display()))),
        false => Ok(file),
    }
}

/// Reads the file, sorted by time.
///
/// # Errors
/// [`Wrong`] with file, line and column.
pub fn read(path: &Path, settings: &Settings) -> Result<Vec<Outage>, Wrong> {
    let name = path.display().to_string();
    parse(std::io::BufReader::new(open(path)?), &name, settings)
}

pub(crate) fn parse(source: impl std::io::BufRead, name: &str, settings: &Settings) -> Result<Vec<Outage>, Wrong> {
    let mut reader = Reader::new(source, name, &["from", "to", "scenario"], &["note"])?;
    let (mut fields, mut outages) = (Vec::new(), Vec::new());
    while let Some(row) = reader.next(&mut fields)? {
        let outage = Outage {
            from: WallTime(row.time(0)?),
            to: WallTime(row.time(1)?),
            scenario: row.text(2).into(),
            note: row.text(3).to_owned(),
        };
        if outage.to <= outage.from {
            return Err(row.wrong(1, "the outage ends before it begins"));
        }
        if settings.scenario(&outage.scenario).is_none() {
            let known = settings.scenarios.iter().map(|scenario| scenario.name.as_str());
            let fix = suggest::fix(row.text(2), "scenario", known);
            return Err(row.wrong(2, format!("the configuration has no scenario `{}`: {fix}", row.text(2))));
        }
        if outages.len() == MOST {
            return Err(row.wrong(0, format!("there are more than {MOST} outages")));
        }
        outages.push(outage);
    }
    outages.sort_by_key(|outage| (outage.from, outage.to));
    Ok(outages)
}

/// Those that can be judged, and how many lie outside of what was recorded.
pub fn within(outages: Vec<Outage>, history: &History) -> (Vec<Outage>, usize) {
    let all = outages.len();
    let inside: Vec<Outage> =
        outages.into_iter().filter(|outage| outage.from.0 >= history.from && outage.to.0 <= history.to).collect();
    let outside = all - inside.len();
    (inside, outside)
}

#[cfg(test)]
mod tests {
    use super::super::replay::tests::settings;
    use super::*;

    #[test]
    fn reads_labels_and_names_what_is_wrong() {
        let read = |text: &str| parse(text.as_bytes(), "o.csv", &settings());
        let outages = read("from,to,scenario,note\n200,300,api-outage,\"the switch, again\"\n50,60,api-outage,\n");
        let outages = outages.expect("good");
        assert_eq!((outages[0].from, outages[1].note.as_str()), (WallTime(50_000), "the switch, again"));
        assert!(outages[0].holds_at(WallTime(60_000)) && !outages[0].holds_at(WallTime(60_001)));
        let wrong = |text: &str| read(text).expect_err("wrong").to_string();
        assert_eq!(wrong("from,to,scenario\n300,200,api-outage\n"), "o.csv:2:5: the outage ends before it begins");
        let unknown = wrong("from,to,scenario\n100,200,api-outge\n");
        assert_eq!(unknown, "o.csv:2:9: the configuration has no scenario `api-outge`: did you mean `api-outage`?");
        assert!(read("from,to,scenario\n").expect("none").is_empty());
    }

    #[test]
    fn a_folder_is_no_file() {
        assert!(open(Path::new("/")).expect_err("a folder").to_string().contains("not a file"));
        assert!(open(Path::new("/nonexistent")).is_err());
    }
}
