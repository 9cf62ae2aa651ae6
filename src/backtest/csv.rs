//! CSV (RFC 4180, one record a line) with faults that name file, line and column.

use std::io::BufRead;

use super::Wrong;
use crate::config::suggest;
use crate::model::WallTime;

/// A line that is longer is none of ours.
const LONGEST_LINE: usize = 64 * 1024;

/// One field and where it begins, in characters from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) text: String,
    pub(super) column: usize,
}

/// A file that is read line by line.
pub(super) struct Reader<R> {
    source: R,
    name: String,
    line: usize,
    buffer: Vec<u8>,
    /// Which field of a line is which of the wanted columns.
    places: Vec<Option<usize>>,
    width: usize,
}

/// A line, its fields in the order of the wanted columns.
pub(super) struct Row<'a> {
    name: &'a str,
    line: usize,
    fields: &'a [Field],
    places: &'a [Option<usize>],
}

impl<R: BufRead> Reader<R> {
    /// Reads the headings. `needed` have to be there, `optional` may be; in any order.
    pub(super) fn new(source: R, name: &str, needed: &[&str], optional: &[&str]) -> Result<Self, Wrong> {
        let mut reader =
            Self { source, name: name.to_owned(), line: 0, buffer: Vec::new(), places: Vec::new(), width: 0 };
        let mut fields = Vec::new();
        if !reader.read(&mut fields)? {
            return Err(Wrong::Given(format!("{name}: this is empty; its first line has to be {}", needed.join(","))));
        }
        let known: Vec<&str> = needed.iter().chain(optional).copied().collect();
        let mut places = vec![None; known.len()];
        for (place, field) in fields.iter().enumerate() {
            let heading = field.text.trim().to_ascii_lowercase();
            let Some(wanted) = known.iter().position(|known| *known == heading) else {
                let fix = suggest::fix(&heading, "column", known.iter().copied());
                return Err(reader.wrong(field.column, &format!("there is no column `{}`: {fix}", field.text.trim())));
            };
            if places[wanted].replace(place).is_some() {
                return Err(reader.wrong(field.column, &format!("the column `{heading}` is there twice")));
            }
        }
        if let Some((missing, _)) = needed.iter().zip(&places).find(|(_, place)| place.is_none()) {
            let what = format!("the column `{missing}` is missing; the first line has to name {}", needed.join(","));
            return Err(reader.wrong(1, &what));
        }
        reader.width = fields.len();
        reader.places = places;
        Ok(reader)
    }

    /// The next line that is not empty; its fields are put into `fields`.
    pub(super) fn next<'a>(&'a mut self, fields: &'a mut Vec<Field>) -> Result<Option<Row<'a>>, Wrong> {
        if !self.read(fields)? {
            return Ok(None);
        }
        if fields.len() != self.width {
            let (found, wanted) = (fields.len(), self.width);
            return Err(self.wrong(1, &format!("there are {found} fields, and the first line has {wanted}")));
        }
        Ok(Some(Row { name: &self.name, line: self.line, fields, places: &self.places }))
    }

    /// Splits the next line that is not empty. `false` at the end.
    fn read(&mut self, fields: &mut Vec<Field>) -> Result<bool, Wrong> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX) + 1;
            let mut limited = std::io::Read::take(&mut self.source, most);
            let read = limited.read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|error| Wrong::Given(format!("{}: this cannot be read: {error}", self.name)))?;
            if read == 0 {
                return Ok(false);
            }
            if read > LONGEST_LINE {
                return Err(self.wrong(1, &format!("this line is longer than {LONGEST_LINE} bytes")));
            }
            let text = std::str::from_utf8(&self.buffer).map_err(|_| self.wrong(1, "this line is not UTF-8"))?;
            let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            let text = text.trim_end_matches(['\n', '\r']);
            if text.trim().is_empty() {
                continue;
            }
            split(text, fields).map_err(|(column, what)| self.wrong(column, what))?;
            return Ok(true);
        }
    }

    fn wrong(&self, column: usize, what: &str) -> Wrong {
        Wrong::Given(format!("{}:{}:{column}: {what}", self.name, self.line))
    }
}

impl Row<'_> {
    /// The field of a wanted column, without the blanks around it; empty where there is none.
    pub(super) fn text(&self, column: usize) -> &str {
        self.field(column).map_or("", |field| field.text.trim())
    }

    fn field(&self, column: usize) -> Option<&Field> {
        self.places.get(column).copied().flatten().and_then(|place| self.fields.get(place))
    }

    /// Something is wrong with the field of a wanted column.
    pub(super) fn wrong(&self, column: usize, what: impl AsRef<str>) -> Wrong {
        let place = self.field(column).map_or(1, |field| field.column);
        Wrong::Given(format!("{}:{}:{place}: {}", self.name, self.line, what.as_ref()))
    }

    /// The field as a time.
    pub(super) fn time(&self, column: usize) -> Result<i64, Wrong> {
        time(self.text(column)).map_err(|what| self.wrong(column, what))
    }
}

/// Splits a line. Fields that stood there before give their memory.
fn split(line: &str, fields: &mut Vec<Field>) -> Result<(), (usize, &'static str)> {
    let mut used = 0;
    let mut begin = |column: usize, fields: &mut Vec<Field>| {
        if fields.len() == used {
            fields.push(Field::default());
        }
        fields[used].text.clear();
        fields[used].column = column;
        used += 1;
        used - 1
    };
    let mut characters = line.chars().enumerate().peekable();
    let mut at = begin(1, fields);
    let mut quoted = false;
    let mut closed = false;
    while let Some((place, c)) = characters.next() {
        let column = place + 1;
        match c {
            '"' if quoted && characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                fields[at].text.push('"');
            }
            '"' if quoted => (quoted, closed) = (false, true),
            c if quoted => fields[at].text.push(c),
            ',' => {
                at = begin(column + 1, fields);
                closed = false;
            }
            '"' if fields[at].text.trim().is_empty() && !closed => {
                fields[at].text.clear();
                quoted = true;
            }
            c if closed && !c.is_whitespace() => return Err((column, "after a closing quote comes a comma")),
            c => fields[at].text.push(c),
        }
    }
    if quoted {
        return Err((fields[at].column, "this quote is not closed on its line"));
    }
    fields.truncate(used);
    Ok(())
}

/// A moment as people and programs write it, in milliseconds since 1970: RFC 3339, or seconds since
/// 1970 with a fraction.
///
/// # Errors
/// Why it is none.
pub fn time(text: &str) -> Result<i64, String> {
    /// The year 9999; whoever is beyond has written milliseconds.
    const LAST: f64 = 253_402_300_799.0;
    if let Ok(seconds) = text.parse::<f64>() {
        return match seconds {
            _ if (0.0..=LAST).contains(&seconds) => Ok((seconds * 1000.0).round() as i64),
            _ if seconds > LAST => Err(format!("`{text}` is not in seconds since 1970; are these milliseconds?")),
            _ => Err(format!("`{text}` is no time since 1970")),
        };
    }
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    let wall = parsed
        .map(|time| WallTime(time.as_millisecond()))
        .map_err(|_| format!("`{text}` is not a time; write RFC 3339 (2026-07-30T03:12:44Z) or seconds since 1970"))?;
    if wall.0 < 0 { Err(format!("`{text}` is before 1970")) } else { Ok(wall.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Result<Vec<(usize, String)>, (usize, &'static str)> {
        let mut fields = Vec::new();
        split(line, &mut fields)?;
        Ok(fields.into_iter().map(|field| (field.column, field.text)).collect())
    }

    #[test]
    fn quotes_hold_commas_and_columns_are_counted_in_characters() {
        let found = fields(r#"a,"b, ""c""",ü,d"#).expect("good");
        assert_eq!(found, [(1, "a".into()), (3, r#"b, "c""#.into()), (14, "ü".into()), (16, "d".into())]);
        assert_eq!(fields("a,,").expect("good").len(), 3);
        assert_eq!(fields(r#"a,"b"#), Err((3, "this quote is not closed on its line")));
        assert_eq!(fields(r#""a"b"#), Err((4, "after a closing quote comes a comma")));
    }

    #[test]
    fn times_are_read_as_people_and_programs_write_them() {
        assert_eq!(time("2026-07-30T03:12:44.5Z"), Ok(1_785_381_164_500));
        assert_eq!(time("2026-07-30T05:12:44+02:00"), Ok(1_785_381_164_000));
        assert_eq!(time("1785381164.25"), Ok(1_785_381_164_250));
        assert!(time("1785381164250").expect_err("milliseconds").contains("milliseconds?"));
        for wrong in ["", "yesterday", "-5", "NaN", "inf", "1960-01-01T00:00:00Z"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    fn read(text: &str) -> Result<Vec<Vec<String>>, Wrong> {
        let mut reader = Reader::new(text.as_bytes(), "x.csv", &["from", "to"], &["note"])?;
        let (mut fields, mut rows) = (Vec::new(), Vec::new());
        while let Some(row) = reader.next(&mut fields)? {
            rows.push((0..3).map(|column| row.text(column).to_owned()).collect());
        }
        Ok(rows)
    }

    #[test]
    fn headings_may_be_in_any_order_and_are_named_where_they_are_wrong() {
        let rows = read("\u{feff}to, From\r\n\r\n2,1\r\n").expect("good");
        assert_eq!(rows, [["1", "2", ""]]);
        let wrong = |text: &str| read(text).expect_err("wrong").to_string();
        assert_eq!(wrong("from,to,note,nots\n"), "x.csv:1:14: there is no column `nots`: did you mean `note`?");
        assert_eq!(wrong("from,note\n"), "x.csv:1:1: the column `to` is missing; the first line has to name from,to");
        assert_eq!(wrong("from,to,from\n"), "x.csv:1:9: the column `from` is there twice");
        assert_eq!(wrong("from,to\n1,2\n1\n"), "x.csv:3:1: there are 1 fields, and the first line has 2");
        assert!(wrong("").contains("this is empty"));
        assert!(wrong(&format!("from,to\n{}\n", "x".repeat(70_000))).contains("x.csv:2:1: this line is longer"));
    }
}
