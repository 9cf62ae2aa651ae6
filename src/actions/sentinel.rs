//! The text that marks a record with the epoch that last wrote it: `epoch=7 run=RUN-20261101-001`,
//! the same as Route 53's sentinel holds between its quotes.

use crate::model::RunId;
use crate::ports::ActionContext;

/// The mark of a context.
pub(super) fn text(context: &ActionContext) -> String {
    // The name of a run is ours and has no quotes; a foreign one must not break out of them.
    let run: String = context
        .run
        .as_ref()
        .map_or("none", RunId::as_str)
        .chars()
        .filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
        .take(100)
        .collect();
    format!("epoch={} run={run}", context.epoch)
}

/// The epoch in a mark; `None` where it is not one of ours.
pub(super) fn epoch(text: &str) -> Option<u64> {
    let mut words = text.trim().trim_matches('"').split_ascii_whitespace();
    let epoch = words.next()?.strip_prefix("epoch=")?.parse().ok()?;
    words.next()?.strip_prefix("run=")?;
    Some(epoch)
}

#[cfg(test)]
mod tests {
    use super::epoch;

    #[test]
    fn only_our_own_mark_holds_an_epoch() {
        assert_eq!(epoch("epoch=7 run=RUN-20261101-001"), Some(7));
        assert_eq!(epoch("\"epoch=7 run=none\""), Some(7));
        for text in ["", "epoch=7", "epoch=x run=y", "v=spf1 -all", "run=y epoch=7"] {
            assert_eq!(epoch(text), None, "{text}");
        }
    }
}
