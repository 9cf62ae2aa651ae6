//! How the fuzzer's targets take their input apart.

/// A parser.
pub(crate) type Target = fn(&[u8]);

/// The first byte chooses one of several parsers, and the rest is theirs.
pub(crate) fn choose<'a>(data: &'a [u8], of: &[Target]) -> Option<(Target, &'a [u8])> {
    let (first, rest) = data.split_first()?;
    of.get(usize::from(*first) % of.len()).map(|one| (*one, rest))
}

/// As text: what a parser of texts is given never has other bytes.
pub(crate) fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}
