//! "Did you mean": the nearest of what is allowed.

/// May a probe, scenario, plan, step, … be called so? Names become metric labels, file names and
/// command-line arguments; these characters need no quoting in any of them.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// The candidate that was probably meant, if one is near enough.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '.', ' '], "_");
    let wrong = plain(wrong);
    // What was only begun is near, however long the rest is.
    let distance = |candidate: &str| match plain(candidate) {
        whole if wrong.len() >= 3 && whole.starts_with(&wrong) => 1,
        whole => strsim::damerau_levenshtein(&wrong, &whole),
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        // A third of the letters may be wrong; more than that suggests anything for everything.
        .filter(|(distance, candidate)| *distance <= wrong.chars().count().max(candidate.chars().count()).div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The fix for a wrong name: the nearest one, else all there are.
pub fn fix<'a>(wrong: &str, what: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let mut candidates: Vec<&str> = candidates.into_iter().collect();
    candidates.sort_unstable();
    candidates.dedup();
    match nearest(wrong, candidates.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if candidates.is_empty() => format!("there is no {what} yet"),
        None if candidates.len() == 1 => format!("write `{}`", candidates[0]),
        None => format!("write one of {}", list(&candidates)),
    }
}

/// `` `a`, `b` or `c` ``.
pub fn list(of: &[&str]) -> String {
    let quoted: Vec<String> = of.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let names = ["interval", "timeout", "region"];
        assert_eq!(nearest("intervall", names), Some("interval"));
        assert_eq!(nearest("time-out", names), Some("timeout"));
        assert_eq!(nearest("regoin", names), Some("region"));
        assert_eq!(nearest("frequency", names), None);
        assert_eq!(fix("frequency", "key", names), "write one of `interval`, `region` or `timeout`");
    }

    #[test]
    fn names_need_no_quoting() {
        assert!(is_plain_name("db-1.us_west"));
        assert!(!is_plain_name("a b"));
        assert!(!is_plain_name(""));
        assert!(!is_plain_name("datenbänke"));
    }
}
