//! What a missing answer means to whoever sent the message.

use crate::{Outcome, http::Failure};

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(code) => Self::Later { code, after: None },
            Failure::NoAnswer(code) => Self::Doubtful { code },
        }
    }
}
