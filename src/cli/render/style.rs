//! Colour and width, decided once and handed to every renderer.

use std::io::IsTerminal;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// How text is dressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// May colours be used?
    pub colour: bool,
    /// The terminal's width; `None` where the text goes elsewhere and is not wrapped.
    pub width: Option<u16>,
}

/// What a piece of text means; the colour follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Somebody may want to look.
    Warn,
    /// As it should not be.
    Bad,
    /// Of less interest.
    Dim,
    /// A heading.
    Head,
    /// Nothing special.
    Plain,
}

impl Style {
    /// For standard output: colours on a terminal only, and not where `NO_COLOR` is set
    /// (<https://no-color.org>).
    pub fn detect() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { colour: terminal && wanted, width: if terminal { Table::new().width() } else { None } }
    }

    /// The text in its tone.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
            Tone::Head => "1",
            Tone::Plain => return text.to_owned(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A cell of a table in its tone.
    pub fn cell(&self, tone: Tone, text: impl Into<String>) -> Cell {
        let cell = Cell::new(clean(&text.into()));
        if !self.colour {
            return cell;
        }
        match tone {
            Tone::Good => cell.fg(Color::Green),
            Tone::Warn => cell.fg(Color::Yellow),
            Tone::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
            Tone::Dim => cell.add_attribute(Attribute::Dim),
            Tone::Head => cell.add_attribute(Attribute::Bold),
            Tone::Plain => cell,
        }
    }

    /// An empty table with these headings.
    pub fn table(&self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(headings.iter().map(|heading| self.cell(Tone::Dim, *heading)));
        // What it finds out about the terminal by itself has no say: renderers are pure.
        table.force_no_tty();
        if self.colour {
            table.enforce_styling();
        }
        match self.width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(60)),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        table
    }
}

/// A finished table, without the blanks that fill the last column.
pub fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text that came from outside (a server's error, a file) without what a terminal would obey.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_they_may_be() {
        let plain = Style::default();
        assert_eq!(plain.paint(Tone::Bad, "down"), "down");
        let coloured = Style { colour: true, width: None };
        assert_eq!(coloured.paint(Tone::Bad, "down"), "\x1b[1;31mdown\x1b[0m");
        let mut table = plain.table(&["a"]);
        table.add_row([plain.cell(Tone::Bad, "x")]);
        assert!(!lines(&table).contains('\x1b'));
        let mut table = coloured.table(&["a"]);
        table.add_row([coloured.cell(Tone::Bad, "x")]);
        assert!(lines(&table).contains('\x1b'));
    }

    #[test]
    fn a_terminal_obeys_nothing_that_came_from_outside() {
        assert_eq!(clean("a\x1b[2Jb\rc"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
