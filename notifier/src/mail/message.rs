//! The mail itself.

use std::time::SystemTime;

use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use todoke_domain::Timestamp;

use super::html::html;
use crate::{Outcome, Outgoing};

/// What goes over the wire.
pub(super) struct Letter {
    pub(super) envelope: Envelope,
    pub(super) content: Vec<u8>,
}

impl Letter {
    /// Whether the server must understand addresses beyond ASCII (RFC 6531).
    pub(super) fn has_non_ascii_address(&self) -> bool {
        let mut addresses = self.envelope.to().iter().chain(self.envelope.from());
        addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii())
    }
}

/// The mail for one message.
///
/// Its Message-ID is the message's id, so that a second copy is recognised and a bounce finds its way back.
pub(super) fn letter(outgoing: &Outgoing, to: &str, from: &Mailbox, now: Timestamp) -> Result<Letter, Outcome> {
    let to = recipient(to).ok_or(Outcome::Gone { code: "bad_address", since: None })?;
    let from = match &outgoing.from {
        Some(other) => other.parse().map_err(|_| Outcome::Refused { code: "bad_sender" })?,
        None => from.clone(),
    };
    // Worked out from the headers it would have no recipient: there lettre reads a quoted address without its quotes.
    let envelope = Envelope::new(Some(from.email.clone()), vec![to.clone()]);
    let envelope = envelope.map_err(|_| Outcome::Refused { code: "bad_message" })?;
    let date = SystemTime::UNIX_EPOCH + now.since(Timestamp::from_micros(0));
    let mut builder = Message::builder()
        .envelope(envelope)
        .date(date)
        .message_id(Some(format!("<{}@{}>", outgoing.message_id, from.email.domain())))
        .from(from)
        .to(Mailbox::new(None, to))
        .subject(one_line(&outgoing.title))
        // RFC 3834: nobody's holiday notice shall answer, and Exchange wants it said in its own words.
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("X-Auto-Response-Suppress", "All"));
    if let Some(url) = &outgoing.unsubscribe {
        builder = builder
            .raw_header(header("List-Unsubscribe", &format!("<{}>", one_line(url))))
            .raw_header(header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"));
    }
    let text = text(outgoing);
    let html = html(&outgoing.title, &text, &outgoing.link);
    let message = builder.multipart(MultiPart::alternative_plain_html(text, html));
    let message = message.map_err(|_| Outcome::Refused { code: "bad_message" })?;
    Ok(Letter { envelope: message.envelope().clone(), content: message.formatted() })
}

/// An address for envelope and header. Mobile carriers gave out addresses with two dots in a row or one before the `@`;
/// in protocols these stand in quotes (RFC 5321, 4.1.2).
fn recipient(raw: &str) -> Option<Address> {
    raw.parse().ok().or_else(|| {
        let (local, domain) = raw.rsplit_once('@')?;
        Address::new(format!("\"{local}\""), domain).ok()
    })
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// A header's text cannot bring further headers along.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The plain text, ending with the link when it does not hold it already.
fn text(outgoing: &Outgoing) -> String {
    if outgoing.link.is_empty() || outgoing.body.contains(&outgoing.link) {
        return outgoing.body.clone();
    }
    format!("{}\n\n{}\n", outgoing.body.trim_end(), outgoing.link)
}
