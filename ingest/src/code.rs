//! Texts that may go to the lake: codes and ids, never words.

use serde_json::Value;

use crate::RejectReason;

/// Characters of a code, such as a version or a screen id.
pub(crate) const CHARS_MAX: usize = 64;

const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut c: u8 = 0;
    while c < 128 {
        allowed[c as usize] = c.is_ascii_alphanumeric()
            || matches!(c, b'.' | b'_' | b'-' | b':' | b'/' | b'+' | b' ' | b'(' | b')' | b';' | b',');
        c += 1;
    }
    allowed
};

/// A code has no characters with which a name, an address or a sentence could be written in Japanese,
/// nor the one that makes an e-mail address.
pub(crate) fn check(text: &str) -> Result<(), RejectReason> {
    if text.len() > CHARS_MAX {
        return Err(RejectReason::TooLong);
    }
    if text.is_empty() || !text.bytes().all(|byte| ALLOWED[usize::from(byte)]) {
        return Err(RejectReason::IllTyped);
    }
    Ok(())
}

/// Checks every text in a value, however deep.
pub(crate) fn check_all(value: &Value) -> Result<(), RejectReason> {
    match value {
        Value::String(text) => check(text),
        Value::Array(items) => items.iter().try_for_each(check_all),
        Value::Object(members) => members.values().try_for_each(check_all),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
