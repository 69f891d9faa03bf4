//! Where an event becomes messages: the catalogue says which, to whom and how; this finds the people,
//! writes the texts and queues the channels, in the transaction of the use case. And what comes of them:
//! receipts, escalations, corrections, and how the operator looks at all that.

mod amend;
mod device;
mod escalate;
mod in_vain;
mod inbox;
mod letter;
mod print;
mod raise;
mod receipt;
mod recipients;
mod route;
mod step;
mod trace;

pub use amend::Correction;
pub use device::DeviceDraft;
pub use in_vain::LetterInVain;
pub use inbox::{Inbox, StepOutcome};
pub(crate) use letter::NewLetter;
pub use letter::letter_kind;
pub use print::{LetterStep, RUN_LETTERS_MAX};
pub use raise::About;
pub(crate) use raise::{TEMPLATE_ERROR, Unwritten, message_json};
pub use receipt::{BouncedMail, Opened, ReceiptKind};
pub use trace::{Contact, DeliveryView, Life, MessageQuery};
