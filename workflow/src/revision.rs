//! Optimistic locking of forms that overwrite (N-SEC-23): a form is shown with the fingerprint of what it
//! will overwrite and sends it back; when the content has changed meanwhile, the second save is refused.

use serde::Serialize;

use crate::{WorkflowError, secret};

/// Characters of a fingerprint: 64 bits, plenty against a chance meeting.
const CHARS: usize = 16;

/// The fingerprint of what a form overwrites. Two windows that show the same have the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Revision(String);

impl Revision {
    /// Of the fields of a form.
    pub fn of(fields: &impl Serialize) -> Result<Self, WorkflowError> {
        let text = serde_json::to_string(fields).map_err(|_| WorkflowError::Internal("a form could not be written"))?;
        Ok(Self(secret::hash(&text)[..CHARS].to_owned()))
    }

    /// Refuses a save that began from another content. Without an expectation nothing is checked: machines
    /// that overwrite on purpose.
    pub fn expect(&self, expected: Option<&str>) -> Result<(), WorkflowError> {
        match expected {
            Some(expected) if expected != self.0 => Err(WorkflowError::Stale),
            Some(_) | None => Ok(()),
        }
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_is_refused_and_the_same_is_not() {
        let shown = Revision::of(&("題", 1)).unwrap();
        let now = Revision::of(&("題", 2)).unwrap();
        assert!(shown.expect(Some(&shown.to_string())).is_ok());
        assert!(matches!(now.expect(Some(&shown.to_string())), Err(WorkflowError::Stale)));
        assert!(now.expect(None).is_ok());
    }
}
