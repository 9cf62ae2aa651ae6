//! The report as Markdown, and as one page of HTML that needs nothing else: no script, no other file, no
//! network.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use super::chart;
use crate::cli::exit::{Exit, Failure};
use crate::core::report::Report;

const MARKDOWN: &str = include_str!("report.md.j2");
const HTML: &str = include_str!("report.html.j2");
const STYLE: &str = include_str!("report.css");

/// As Markdown.
///
/// # Errors
/// [`Failure`] where the template is wrong, which a test sees first.
pub fn markdown(report: &Report) -> Result<String, Failure> {
    let drawn = chart::text(&report.chart);
    render("report.md", MARKDOWN, report, context! { chart => drawn })
}

/// As a page of HTML.
///
/// # Errors
/// As [`markdown`].
pub fn html(report: &Report) -> Result<String, Failure> {
    let drawn = chart::drawing(&report.chart);
    render("report.html", HTML, report, context! { chart => Serde(drawn), style => STYLE })
}

fn render(name: &str, template: &str, report: &Report, more: minijinja::Value) -> Result<String, Failure> {
    let wrong = |error: minijinja::Error| Failure::new(Exit::Failed, "internal", format!("the template: {error:#}"));
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    // Of HTML everything is escaped that was not written here; Markdown has a filter for it.
    environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    environment.add_filter("cell", |text: String| cell(&text));
    environment.add_filter("clock", |time: String| time.get(11..23).map_or_else(|| time.clone(), str::to_owned));
    environment.add_filter("day", |time: String| time.get(..10).map_or_else(|| time.clone(), str::to_owned));
    environment.add_filter("short", |hash: String| hash.get(..12).map_or_else(|| hash.clone(), str::to_owned));
    let template = without_block_lines(template);
    environment.add_template(name, &template).map_err(wrong)?;
    let made_by = env!("CARGO_PKG_VERSION");
    let values = context! { report => Serde(report), made_by => made_by, ..more };
    environment.get_template(name).and_then(|template| template.render(values)).map_err(wrong)
}

/// A line that is nothing but a block leaves no line behind.
fn without_block_lines(template: &str) -> String {
    let is_block = |line: &str| line.starts_with("{%") && line.ends_with("%}");
    template.lines().fold(String::with_capacity(template.len()), |mut text, line| {
        text.push_str(line);
        if !is_block(line) {
            text.push('\n');
        }
        text
    })
}

/// Text from outside in a table of Markdown: one line, and nothing in it is markup.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' => safe.extend(['\\', c]),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\n' | '\r' | '\t' => safe.push(' '),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::chart::tests::report;
    use super::*;

    #[test]
    fn the_markdown_is_as_it_was_seen_to_be_good() {
        insta::assert_snapshot!(markdown(&report("the listener answers 500")).expect("rendered"));
    }

    #[test]
    fn the_page_is_as_it_was_seen_to_be_good() {
        insta::assert_snapshot!(html(&report("the listener answers 500")).expect("rendered"));
    }

    #[test]
    fn the_json_is_as_it_was() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&report("the listener answers 500")).expect("written"));
    }

    #[test]
    fn what_came_from_outside_is_text() {
        let report = report("<script src=\"http://evil.example\">|`x`\n# head");
        let page = html(&report).expect("rendered");
        assert!(!page.contains("<script") && page.contains("&lt;script"), "{page}");
        assert!(!page.contains("href=") && !page.contains("src=\""), "{page}");
        let text = markdown(&report).expect("rendered");
        assert!(!text.contains("<script") && !text.contains("\n# head") && text.contains("\\|\\`x\\`"), "{text}");
    }

    #[test]
    fn equal_journals_make_equal_reports() {
        assert_eq!(html(&report("x")).expect("rendered"), html(&report("x")).expect("rendered"));
    }
}
