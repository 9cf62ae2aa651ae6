//! What the body of an HTTP answer has to be; the same for probes and for actions.

use std::collections::BTreeMap;

use serde_json::Value;

/// Linear in the body for the short texts that a configuration holds.
pub fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

/// JSON pointers (RFC 6901) and the values that must stand there.
///
/// # Errors
/// The first thing that is wrong, in one line.
pub fn json(body: &[u8], wanted: &BTreeMap<String, Value>) -> Result<(), String> {
    if wanted.is_empty() {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    for (pointer, expected) in wanted {
        match value.pointer(pointer) {
            Some(found) if equal(found, expected) => {}
            Some(found) => return Err(format!("{pointer} is {}, not {expected}", short(found))),
            None => return Err(format!("there is no {pointer} in the body")),
        }
    }
    Ok(())
}

/// `1` and `1.0` are the same number, however the two files wrote it.
fn equal(found: &Value, expected: &Value) -> bool {
    found == expected || matches!((found, expected), (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64())
}

/// A foreign value, short enough for one line.
fn short(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a table".into(),
        scalar => {
            let text = scalar.to_string();
            match text.char_indices().nth(60) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}
