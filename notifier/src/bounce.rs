//! Mails that came back: delivery status notifications (RFC 3464), as a mail server returns them or a provider's
//! webhook hands them on.

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders, PartType};
use todoke_domain::ids::MessageId;

use crate::mail::enhanced_status;

/// Longest report that is read, bytes.
pub const BYTES_MAX: usize = 1024 * 1024;

/// What a mail server says about one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Bounce {
    /// Message-ID of the mail that was sent, without its angle brackets; empty when the report does not hold it.
    pub original_message_id: String,
    /// Our message, when the Message-ID is one of ours.
    pub message_id: Option<MessageId>,
    /// Whose mailbox it was for.
    pub recipient: String,
    /// Enhanced status code (RFC 3463), such as `5.1.1`.
    pub status: String,
    /// What became of the mail.
    pub verdict: Verdict,
}

impl std::fmt::Debug for Bounce {
    /// Without the recipient: it is personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounce")
            .field("message_id", &self.message_id)
            .field("status", &self.status)
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It will never arrive, because the mailbox is not there.
    UnknownMailbox,
    /// It will never arrive, for another reason: a full mailbox, a policy, its size.
    Failed,
    /// The server is still trying.
    Delayed,
    /// It has arrived, or was handed to a server that reports no further.
    Delivered,
}

impl Verdict {
    /// Whether the mail has permanently failed.
    pub fn is_permanent(self) -> bool {
        matches!(self, Self::UnknownMailbox | Self::Failed)
    }
}

/// Reads a report: one entry per recipient it speaks of. Empty when the mail is no report (a holiday notice, say).
///
/// Anybody can write such a mail. What makes one believable is the Message-ID: it holds 74 random bits.
pub fn parse(raw: &[u8]) -> Vec<Bounce> {
    let raw = &raw[..raw.len().min(BYTES_MAX)];
    let Some(report) = MessageParser::default().parse(raw) else { return Vec::new() };
    let Some(status) = report.parts.iter().find(|part| is(part, "message", "delivery-status")) else {
        return Vec::new();
    };
    let original = original_message_id(&report).unwrap_or_default();
    let message_id = original.split('@').next().and_then(|id| id.parse().ok());
    let status = String::from_utf8_lossy(status.contents()).replace("\r\n", "\n");
    let groups = status.split("\n\n").map(Fields::of);
    groups
        .filter_map(|fields| {
            let recipient = fields.address("original-recipient").or_else(|| fields.address("final-recipient"))?;
            let action = fields.get("action").unwrap_or_default().to_ascii_lowercase();
            let code = fields.get("status").and_then(|status| enhanced_status(&status));
            Some(Bounce {
                original_message_id: original.clone(),
                message_id,
                recipient,
                status: code.map(|[class, subject, detail]| format!("{class}.{subject}.{detail}")).unwrap_or_default(),
                verdict: verdict(&action, code)?,
            })
        })
        .collect()
}

fn verdict(action: &str, code: Option<[u16; 3]>) -> Option<Verdict> {
    match (action, code) {
        ("failed", Some([_, 1, 1 | 2 | 3 | 6 | 10] | [_, 2, 1])) => Some(Verdict::UnknownMailbox),
        ("failed", _) => Some(Verdict::Failed),
        ("delayed", _) => Some(Verdict::Delayed),
        ("delivered" | "relayed" | "expanded", _) => Some(Verdict::Delivered),
        _ => None,
    }
}

fn is(part: &MessagePart<'_>, kind: &str, subkind: &str) -> bool {
    part.content_type().is_some_and(|found| {
        found.ctype().eq_ignore_ascii_case(kind) && found.subtype().is_some_and(|sub| sub.eq_ignore_ascii_case(subkind))
    })
}

/// From the returned mail or its headers; failing those, from what the report answers.
fn original_message_id(report: &Message<'_>) -> Option<String> {
    let returned = report.parts.iter().find_map(|part| match &part.body {
        PartType::Message(returned) => returned.message_id().map(str::to_owned),
        _ if is(part, "text", "rfc822-headers") || is(part, "message", "rfc822-headers") => {
            let mut headers = part.contents().to_vec();
            headers.extend_from_slice(b"\r\n\r\n");
            MessageParser::default().parse(&headers)?.message_id().map(str::to_owned)
        }
        _ => None,
    });
    returned.or_else(|| report.in_reply_to().as_text_list()?.last().map(|id| id.to_string()))
}

/// One group of `Name: value` lines, folded lines joined.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn of(text: &str) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            match (line.starts_with([' ', '\t']), fields.last_mut(), line.split_once(':')) {
                (true, Some((_, value)), _) => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                (_, _, Some((name, value))) => {
                    fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                }
                _ => {}
            }
        }
        Self(fields)
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }

    /// The address after its type, as in `rfc822; someone@example.jp`.
    fn address(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        let address = value.split_once(';').map_or(value.as_str(), |(_, address)| address);
        let address = address.trim().trim_start_matches('<').trim_end_matches('>');
        (!address.is_empty()).then(|| address.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019aa5b0-1111-7abc-8def-0123456789ab";

    fn report(status: &str, returned: &str) -> Vec<u8> {
        format!(
            "From: MAILER-DAEMON@mx.example.jp\r\nTo: bounce@todoke.example.jp\r\nSubject: Undelivered\r\n\
             MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
             --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n送信できませんでした。\r\n\
             --b\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n{returned}--b--\r\n"
        )
        .into_bytes()
    }

    fn returned() -> String {
        format!(
            "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: noreply@todoke.example.jp\r\nTo: a@example.jp\r\n\
             Message-ID: <{ID}@todoke.example.jp>\r\nSubject: x\r\n\r\nbody\r\n"
        )
    }

    #[test]
    fn an_unknown_mailbox_is_told_from_a_full_one() {
        let status = "Reporting-MTA: dns; mx.example.jp\r\n\r\nFinal-Recipient: rfc822; a@example.jp\r\nAction: failed\r\n\
                      Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 unknown\r\n\r\n\
                      Original-Recipient: rfc822;b@example.jp\r\nFinal-Recipient: rfc822; b@inner.example.jp\r\n\
                      Action: failed\r\nStatus: 5.2.2 (mailbox full)\r\n";
        let bounces = parse(&report(status, &returned()));
        let found: Vec<_> = bounces.iter().map(|b| (b.recipient.as_str(), b.status.as_str(), b.verdict)).collect();
        assert_eq!(
            found,
            [("a@example.jp", "5.1.1", Verdict::UnknownMailbox), ("b@example.jp", "5.2.2", Verdict::Failed)]
        );
        assert!(bounces.iter().all(|bounce| bounce.message_id == Some(ID.parse().unwrap())));
        assert_eq!(bounces[0].original_message_id, format!("{ID}@todoke.example.jp"));
    }

    #[test]
    fn headers_alone_are_enough_and_a_delay_is_no_failure() {
        let status = "Reporting-MTA: dns; mx\r\n\r\nFinal-Recipient: rfc822; a@example.jp\r\nAction: delayed\r\nStatus: 4.4.1\r\n";
        let headers = format!("--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{ID}@x>\r\nSubject: x\r\n");
        let bounces = parse(&report(status, &headers));
        assert_eq!(bounces[0].verdict, Verdict::Delayed);
        assert!(!bounces[0].verdict.is_permanent());
        assert_eq!(bounces[0].message_id, Some(ID.parse().unwrap()));
    }

    #[test]
    fn a_mail_that_is_no_report_says_nothing() {
        assert_eq!(parse(b"From: a@example.jp\r\nSubject: \xe4\xb8\x8d\xe5\x9c\xa8\r\n\r\nI am away."), []);
        assert_eq!(parse(b""), []);
        assert_eq!(parse(&[0xff; 100]), []);
    }
}
