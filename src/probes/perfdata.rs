//! Performance data of a monitoring plugin: `'label'=value[UOM];[warn];[crit];[min];[max]`.
//!
//! Thresholds and limits are read over: what a plugin thinks of its figures is in its exit code.

use crate::model::Figure;

/// So many figures are kept.
const MOST: usize = 32;

/// A longer label or unit is no figure's, in characters.
const LONGEST: usize = 64;

/// The figures in what a plugin wrote: after the `|` of its first line, and after the first `|` of
/// the lines below it, to the end. What is not understood is passed over.
pub(super) fn figures(output: &str) -> Vec<Figure> {
    let (first, rest) = output.split_once('\n').unwrap_or((output, ""));
    let mut found = Vec::new();
    for part in [first, rest] {
        if let Some((_, data)) = part.split_once('|') {
            read(data, &mut found);
        }
    }
    found
}

fn read(mut data: &str, found: &mut Vec<Figure>) {
    while found.len() < MOST {
        data = data.trim_start();
        let Some((label, rest)) = label(data) else { return };
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        found.extend(figure(label, &rest[..end]));
        data = &rest[end..];
    }
}

/// The label up to its `=`, and what follows. A label with a space in it stands in single quotes,
/// and a quote in it is doubled. A word without `=` is passed over.
fn label(data: &str) -> Option<(String, &str)> {
    if let Some(quoted) = data.strip_prefix('\'') {
        let mut label = String::new();
        let mut rest = quoted;
        loop {
            let (part, after) = rest.split_once('\'')?;
            label.push_str(part);
            match after.strip_prefix('\'') {
                Some(more) => {
                    label.push('\'');
                    rest = more;
                }
                None => return Some((label, after.strip_prefix('=')?)),
            }
        }
    }
    let (label, rest) = data.split_once('=')?;
    // What stands before the last space belongs to no figure.
    let label = label.rsplit(char::is_whitespace).next().unwrap_or_default();
    Some((label.to_owned(), rest))
}

/// `value[UOM];…`. A value of `U` says that the plugin does not know it.
fn figure(label: String, text: &str) -> Option<Figure> {
    let value = text.split(';').next().unwrap_or_default();
    let (number, unit) = value.split_at(number_length(value));
    let value: f64 = number.parse().ok()?;
    let short = |text: &str| text.chars().count() <= LONGEST && !text.contains(char::is_control);
    let good = !label.is_empty() && value.is_finite() && short(&label) && short(unit);
    good.then(|| Figure { name: label, value, unit: unit.to_owned() })
}

/// How far the number goes: `-1.5`, and also `1e-5`, which some plugins write.
fn number_length(text: &str) -> usize {
    let digits = |text: &str| text.find(|c: char| !matches!(c, '0'..='9' | '.')).unwrap_or(text.len());
    let sign = |text: &str| usize::from(text.starts_with(['-', '+']));
    let signed = |text: &str| sign(text) + digits(&text[sign(text)..]);
    let length = signed(text);
    let Some(exponent) = text[length..].strip_prefix(['e', 'E']) else { return length };
    let more = signed(exponent);
    if exponent[sign(exponent)..].starts_with(|c: char| c.is_ascii_digit()) { length + 1 + more } else { length }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Vec<(String, f64, String)> {
        figures(output).into_iter().map(|figure| (figure.name, figure.value, figure.unit)).collect()
    }

    fn one(name: &str, value: f64, unit: &str) -> (String, f64, String) {
        (name.into(), value, unit.into())
    }

    #[test]
    fn figures_are_read_as_the_guidelines_have_them() {
        let output = "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n\
            / 15272 MB (77%);\n/boot 68 MB (69%); | /boot=68MB;88;93;0;98\n/home=69357MB;253404;253409;0;253414";
        assert_eq!(read(output), [one("/", 2643.0, "MB"), one("/boot", 68.0, "MB"), one("/home", 69357.0, "MB")]);
        assert_eq!(
            read("OK | 'C:\\ a b'=12% 'it''s'=-1.5s;;;; time=0.001s"),
            [one("C:\\ a b", 12.0, "%"), one("it's", -1.5, "s"), one("time", 0.001, "s")]
        );
    }

    #[test]
    fn what_is_no_figure_is_passed_over() {
        assert_eq!(read("OK"), []);
        assert_eq!(read("OK | a=U;1;2 =5 b= c=1e5 'open=1 d"), [one("c", 100_000.0, "")]);
        assert_eq!(read(&format!("OK | {}=1 b=2", "x".repeat(65))), [one("b", 2.0, "")]);
        let many: String = (0..1000).map(|n| format!("l{n}={n} ")).collect();
        assert_eq!(read(&format!("OK | {many}")).len(), 32);
    }
}
