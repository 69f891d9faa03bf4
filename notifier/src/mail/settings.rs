//! What the channel to mailboxes is told.

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};

/// Settings of outgoing mail (`TODOKE_MAIL__…`). It is off until a server is set.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailSettings {
    /// The mail server. `smtps://host` speaks TLS from the start (port 465), `smtp://host?tls=required` upgrades by
    /// STARTTLS or does not send (port 587), `smtp://host?tls=opportunistic` upgrades where it can (port 587), and
    /// `smtp://host` sends in the clear (port 25). User and password may stand before the host.
    pub smtp_url: String,
    /// User, where the URL names none.
    pub username: String,
    /// Password, where the URL names none.
    pub password: String,
    /// Sender, such as `届け <noreply@example.jp>`. Its domain must allow our server to send (SPF, DKIM, DMARC).
    pub from: String,
    /// Name by which we greet the server; empty means the domain of the sender.
    pub hello_name: String,
    /// Certificates trusted besides the web's, PEM. For a server of one's own, and for tests.
    pub extra_roots_pem: String,
    /// Connections at a time.
    pub connections_max: usize,
    /// Longest wait for each answer of the server, milliseconds.
    pub answer_timeout_ms: u64,
}

impl Default for MailSettings {
    fn default() -> Self {
        Self {
            smtp_url: String::new(),
            username: String::new(),
            password: String::new(),
            from: "届け <noreply@localhost>".to_owned(),
            hello_name: String::new(),
            extra_roots_pem: String::new(),
            connections_max: 8,
            answer_timeout_ms: 30_000,
        }
    }
}

impl std::fmt::Debug for MailSettings {
    /// Without credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailSettings").field("from", &self.from).finish_non_exhaustive()
    }
}

impl MailSettings {
    /// Whether a server is set.
    pub fn is_on(&self) -> bool {
        !self.smtp_url.is_empty()
    }

    /// Domain of the sender: people allow it in their filters, and its DNS says who may send for it. `None` when the
    /// sender is no mail address.
    pub fn domain(&self) -> Option<String> {
        let from: Mailbox = self.from.parse().ok()?;
        Some(from.email.domain().to_owned())
    }
}

/// Why the channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The server's address cannot be used.
    #[error("smtp_url must be smtp://host[:port][?tls=required|opportunistic] or smtps://host[:port]")]
    Server,
    /// TLS cannot be set up: the extra trust roots are no certificates.
    #[error("TLS to the mail server cannot be set up")]
    Tls(#[source] lettre::transport::smtp::Error),
    /// The sender is no mail address.
    #[error("the sender is no mail address")]
    Sender(#[source] lettre::address::AddressError),
}
