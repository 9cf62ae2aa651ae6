//! Anchors of the journal: the number and the checksum of a record, kept where whoever can change the
//! journal cannot. What was cut off or written anew since does not fit them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{Importance, Notice, NoticeKind, RouteName, WallTime};

/// `RECORD:CHECKSUM`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Anchor {
    /// The record's number.
    pub record: u64,
    /// Its checksum, 64 hexadecimal digits.
    pub checksum: String,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.record, self.checksum)
    }
}

impl FromStr for Anchor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "write RECORD:CHECKSUM as `failoverd audit verify` prints it, for example 42:9f86d0…";
        let (record, checksum) = text.split_once(':').ok_or(wrong)?;
        let record = record.parse().map_err(|_| wrong)?;
        let whole = checksum.len() == 64 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !whole || record == 0 {
            return Err(wrong.to_owned());
        }
        Ok(Self { record, checksum: checksum.to_ascii_lowercase() })
    }
}

impl Anchor {
    /// The notice by which it is sent to these routes.
    pub fn notice(&self, daemon: &str, at: WallTime, routes: Vec<RouteName>) -> Notice {
        Notice {
            kind: NoticeKind::Anchor,
            importance: Importance::Info,
            at,
            scenario: None,
            severity: None,
            incident: None,
            run: None,
            subject: format!("{daemon}: anchor of the journal at record {}", self.record),
            body: self.to_string(),
            approval: None,
            routes: Some(routes),
            situation: None,
        }
    }

    /// Those of a text: one on each line, or the notice that a webhook was sent, as JSON. Empty lines,
    /// comments (`#`) and notices of other kinds are passed over.
    ///
    /// # Errors
    /// The number of the first line that is none of that.
    pub fn read(text: &str) -> Result<Vec<Self>, usize> {
        let mut anchors = Vec::new();
        for (place, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.starts_with('{') {
                anchors.push(line.parse().map_err(|_| place + 1)?);
                continue;
            }
            let notice: serde_json::Value = serde_json::from_str(line).map_err(|_| place + 1)?;
            if notice["kind"] == "anchor" {
                // A fallback route says more before it.
                let body = notice["body"].as_str().unwrap_or_default();
                let found = body.split_whitespace().rev().find_map(|word| word.parse().ok());
                anchors.push(found.ok_or(place + 1)?);
            }
        }
        Ok(anchors)
    }
}

/// Does an anchor fit a journal?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Nothing up to there was changed, written anew or cut off.
    Fits,
    /// The journal ends before it.
    CutOff,
    /// The record has another checksum.
    WrittenAnew,
}

/// Whether each anchor fits, in the order of the records. `checksums` are those of all records of a journal.
pub fn fit(mut anchors: Vec<Anchor>, checksums: &[String]) -> Vec<(Anchor, Fit)> {
    anchors.sort();
    anchors.dedup();
    let of = |anchor: Anchor| {
        let place = usize::try_from(anchor.record - 1).unwrap_or(usize::MAX);
        let fit = match checksums.get(place) {
            None => Fit::CutOff,
            Some(checksum) if *checksum == anchor.checksum => Fit::Fits,
            Some(_) => Fit::WrittenAnew,
        };
        (anchor, fit)
    };
    anchors.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(record: u64, digit: &str) -> Anchor {
        format!("{record}:{}", digit.repeat(64)).parse().expect("an anchor")
    }

    #[test]
    fn reads_lines_and_what_webhooks_were_sent() {
        let (a, b) = (anchor(2, "a"), anchor(3, "b"));
        let sent = serde_json::to_string(&a.notice("shop", WallTime(0), vec!["vault".into()])).expect("JSON");
        let mut handed = b.notice("shop", WallTime(0), Vec::new());
        handed.body = format!("The route vault does not take it: 503\n\n{}", handed.body);
        let handed = serde_json::to_string(&handed).expect("JSON");
        let other = r#"{"kind":"incident_opened","body":"x"}"#;
        let text = format!("# kept\n\n{a}\n{sent}\n{other}\n{handed}\n");
        assert_eq!(Anchor::read(&text), Ok(vec![a.clone(), a, b]));
        assert_eq!(Anchor::read("\n5:beef\n"), Err(2));
        assert_eq!(Anchor::read("{\"kind\":\"anchor\",\"body\":\"\"}"), Err(1));
        assert_eq!(Anchor::read(&format!("0:{}", "a".repeat(64))), Err(1), "records begin with 1");
    }

    #[test]
    fn says_which_fit_and_what_the_others_show() {
        let checksums: Vec<String> = ["a", "b", "c"].map(|digit| digit.repeat(64)).to_vec();
        let told = fit(vec![anchor(4, "d"), anchor(1, "a"), anchor(3, "9"), anchor(1, "a")], &checksums);
        let told: Vec<_> = told.into_iter().map(|(anchor, fit)| (anchor.record, fit)).collect();
        assert_eq!(told, [(1, Fit::Fits), (3, Fit::WrittenAnew), (4, Fit::CutOff)]);
    }
}
