//! Coupon applications (flows F04, F06): submitted, checked, matched, decided.

mod decide;
mod document;
mod error_csv;
mod letter;
mod matching;
mod submit;
mod view;

pub use decide::{Deficiency, Verdict};
pub use document::NewDocument;
pub(crate) use letter::Letter;
pub use matching::MatchRun;
pub use submit::{PaperApplicant, Submission};
pub use view::{ApplicationList, ApplicationView, DocumentView, MatchingView};
