//! One conversation with the mail server, step by step: only so can be told what was refused, and whether a mail may
//! have gone out although no answer came.

use std::time::Duration;

use http::Uri;
use lettre::{
    message::Mailbox,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        commands::{Data, Mail, Rcpt, Rset},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::Severity,
    },
};

use super::{MailError, MailSettings, message::Letter};
use crate::Outcome;

/// When a conversation broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing that could be delivered had been written.
    BeforeContent(&'static str),
    /// The mail was written; whether the server took it is unknown.
    AfterContent(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    None,
    StartTlsIfOffered,
    StartTls,
    Tls,
}

/// The mail server.
pub(super) struct Server {
    host: String,
    port: u16,
    security: Security,
    tls: TlsParameters,
    hello: ClientId,
    credentials: Option<Credentials>,
    answer_max: Duration,
}

impl Server {
    pub(super) fn new(settings: &MailSettings) -> Result<Self, MailError> {
        let url: Uri = settings.smtp_url.parse().map_err(|_| MailError::Server)?;
        let (security, default_port) = match (url.scheme_str(), url.query()) {
            (Some("smtps"), None) => (Security::Tls, 465),
            (Some("smtp"), None) => (Security::None, 25),
            (Some("smtp"), Some("tls=required")) => (Security::StartTls, 587),
            (Some("smtp"), Some("tls=opportunistic")) => (Security::StartTlsIfOffered, 587),
            _ => return Err(MailError::Server),
        };
        let host = url.host().ok_or(MailError::Server)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut tls = TlsParameters::builder(host.clone());
        if !settings.extra_roots_pem.is_empty() {
            tls = tls.add_root_certificate(
                Certificate::from_pem(settings.extra_roots_pem.as_bytes()).map_err(MailError::Tls)?,
            );
        }
        let from: Mailbox = settings.from.parse().map_err(MailError::Sender)?;
        let hello = if settings.hello_name.is_empty() { from.email.domain() } else { &settings.hello_name };
        Ok(Self {
            port: url.port_u16().unwrap_or(default_port),
            host,
            security,
            tls: tls.build_rustls().map_err(MailError::Tls)?,
            hello: ClientId::Domain(hello.to_owned()),
            credentials: credentials(&url, settings)?,
            answer_max: Duration::from_millis(settings.answer_timeout_ms),
        })
    }

    /// Connects, secures the connection as configured, and signs in.
    pub(super) async fn connect(&self) -> Result<Connection, Outcome> {
        let later = |code| Outcome::Later { code, after: None };
        let wrapper = (self.security == Security::Tls).then(|| self.tls.clone());
        // The whole greeting is several answers; each may take its time.
        let greeting = tokio::time::timeout(self.answer_max * 2, async {
            let address = (self.host.as_str(), self.port);
            let mut smtp =
                AsyncSmtpConnection::connect_tokio1(address, Some(self.answer_max), &self.hello, wrapper, None)
                    .await
                    .map_err(|error| unreachable(&error))?;
            let upgrade = match self.security {
                Security::None | Security::Tls => false,
                Security::StartTlsIfOffered => smtp.can_starttls(),
                Security::StartTls if smtp.can_starttls() => true,
                Security::StartTls => return Err("no_starttls"),
            };
            if upgrade {
                smtp.starttls(self.tls.clone(), &self.hello).await.map_err(|error| unreachable(&error))?;
            }
            if let Some(credentials) = &self.credentials {
                let signed_in = smtp.auth(DEFAULT_MECHANISMS, credentials).await;
                signed_in.map_err(|error| if error.is_permanent() { "auth_refused" } else { unreachable(&error) })?;
            }
            Ok(smtp)
        });
        let smtp = greeting.await.map_err(|_| later("connect_timeout"))?.map_err(later)?;
        Ok(Connection { smtp, answer_max: self.answer_max, usable: true })
    }
}

fn unreachable(error: &Error) -> &'static str {
    match error {
        error if error.is_tls() => "tls_failed",
        error if error.is_timeout() => "connect_timeout",
        error if error.is_transient() || error.is_permanent() => "server_refuses",
        _ => "unreachable",
    }
}

fn credentials(url: &Uri, settings: &MailSettings) -> Result<Option<Credentials>, MailError> {
    if !settings.username.is_empty() {
        return Ok(Some(Credentials::new(settings.username.clone(), settings.password.clone())));
    }
    let authority = url.authority().ok_or(MailError::Server)?.as_str();
    let Some((user, _)) = authority.rsplit_once('@') else { return Ok(None) };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| percent_decoded(text).ok_or(MailError::Server);
    Ok(Some(Credentials::new(decoded(name)?, decoded(password)?)))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// An open conversation.
pub(super) struct Connection {
    smtp: AsyncSmtpConnection,
    answer_max: Duration,
    usable: bool,
}

impl Connection {
    /// Whether another mail can go over it.
    pub(super) fn is_usable(&self) -> bool {
        self.usable && !self.smtp.has_broken()
    }

    pub(super) async fn send(&mut self, letter: &Letter) -> Result<Outcome, Failure> {
        let result = self.conversation(letter).await;
        match &result {
            Ok(Outcome::Accepted { .. }) => {}
            // A mail that was refused half-way leaves its sender behind on the server.
            Ok(_) => self.usable = matches!(self.answer(|smtp| Box::pin(smtp.command(Rset))).await, Ok(Ok(_))),
            Err(_) => self.usable = false,
        }
        result
    }

    async fn conversation(&mut self, letter: &Letter) -> Result<Outcome, Failure> {
        let Some(options) = self.options(letter) else { return Ok(Outcome::Refused { code: "no_smtputf8" }) };
        let sender = Mail::new(letter.envelope.from().cloned(), options);
        if let Some(outcome) = self.step(sender, sender_refused).await? {
            return Ok(outcome);
        }
        for address in letter.envelope.to() {
            if let Some(outcome) = self.step(Rcpt::new(address.clone(), vec![]), recipient_refused).await? {
                return Ok(outcome);
            }
        }
        if let Some(outcome) = self.step(Data, content_refused).await? {
            return Ok(outcome);
        }
        match self.answer(|smtp| Box::pin(smtp.message(&letter.content))).await {
            Ok(Ok(response)) => Ok(Outcome::Accepted {
                provider_id: response.first_line().map(|line| line.chars().take(200).collect()),
            }),
            Ok(Err(error)) if error.status().is_some() => Ok(content_refused(&error)),
            Ok(Err(_)) => Err(Failure::AfterContent("connection_lost")),
            Err(_) => Err(Failure::AfterContent("answer_timeout")),
        }
    }

    /// What has to be said about the mail beforehand. `None`: the server does not take such addresses.
    fn options(&self, letter: &Letter) -> Option<Vec<MailParameter>> {
        let server = self.smtp.server_info();
        let mut options = Vec::new();
        if letter.has_non_ascii_address() {
            server.supports_feature(Extension::SmtpUtfEight).then(|| options.push(MailParameter::SmtpUtfEight))?;
        }
        if !letter.content.is_ascii() && server.supports_feature(Extension::EightBitMime) {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        Some(options)
    }

    /// One command. `Some` when the server refused it.
    async fn step(
        &mut self,
        command: impl std::fmt::Display + Send + 'static,
        refused: fn(&Error) -> Outcome,
    ) -> Result<Option<Outcome>, Failure> {
        match self.answer(|smtp| Box::pin(smtp.command(command))).await {
            Ok(Ok(_)) => Ok(None),
            Ok(Err(error)) if error.status().is_some() => {
                // 421: the server is about to hang up, whatever was asked.
                let closing = error.status().is_some_and(|code| u16::from(code) == 421);
                if closing { Err(Failure::BeforeContent("server_closing")) } else { Ok(Some(refused(&error))) }
            }
            Ok(Err(_)) => Err(Failure::BeforeContent("connection_lost")),
            Err(_) => Err(Failure::BeforeContent("answer_timeout")),
        }
    }

    async fn answer<'a, T>(
        &'a mut self,
        ask: impl FnOnce(&'a mut AsyncSmtpConnection) -> std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    ) -> Result<T, tokio::time::error::Elapsed> {
        tokio::time::timeout(self.answer_max, ask(&mut self.smtp)).await
    }
}

fn sender_refused(error: &Error) -> Outcome {
    // Our sender, not their mailbox: an operator can mend that.
    Outcome::Later { code: if is_transient(error) { "busy" } else { "sender_refused" }, after: None }
}

fn recipient_refused(error: &Error) -> Outcome {
    let status = error.status().map(u16::from).unwrap_or_default();
    let enhanced = enhanced_status(&error.to_string());
    if is_transient(error) {
        // 4.3.x and 4.4.x speak of the server and its network, whoever the recipient is (RFC 3463).
        let code = if matches!(enhanced, Some([4, 3 | 4, _])) { "busy" } else { "mailbox_busy" };
        return Outcome::Later { code, after: None };
    }
    match enhanced {
        // 5.1.x speaks of the address, 5.2.1 of a mailbox that was switched off (RFC 3463).
        Some([5, 1, _] | [5, 2, 1]) => Outcome::Gone { code: "unknown_mailbox", since: None },
        Some([5, 2, 2]) => Outcome::Refused { code: "mailbox_full" },
        Some(_) => Outcome::Refused { code: "recipient_refused" },
        None if matches!(status, 550 | 551 | 553) => Outcome::Gone { code: "unknown_mailbox", since: None },
        None => Outcome::Refused { code: "recipient_refused" },
    }
}

fn content_refused(error: &Error) -> Outcome {
    if is_transient(error) {
        return Outcome::Later { code: "busy", after: None };
    }
    match enhanced_status(&error.to_string()) {
        // Some servers look at the recipient only after the content.
        Some([5, 1, 1 | 2 | 3 | 6 | 10]) => Outcome::Gone { code: "unknown_mailbox", since: None },
        _ => Outcome::Refused { code: "content_refused" },
    }
}

fn is_transient(error: &Error) -> bool {
    error.status().is_some_and(|code| code.severity == Severity::TransientNegativeCompletion)
}

/// The enhanced status code (RFC 3463) in an answer, such as `5.1.1`.
pub(crate) fn enhanced_status(text: &str) -> Option<[u16; 3]> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ':' | ';' | '-' | '#')).find_map(|word| {
        let mut parts = word.split('.').map(|part| part.parse::<u16>().ok());
        let status = [parts.next()??, parts.next()??, parts.next()??];
        (parts.next().is_none() && matches!(status[0], 2 | 4 | 5)).then_some(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, MailError> {
        Server::new(&MailSettings { smtp_url: url.to_owned(), ..MailSettings::default() })
    }

    #[test]
    fn the_url_says_how_the_connection_is_secured() {
        for (url, security, port) in [
            ("smtp://mail.example.jp", Security::None, 25),
            ("smtp://mail.example.jp:2525", Security::None, 2525),
            ("smtp://mail.example.jp?tls=required", Security::StartTls, 587),
            ("smtp://u:p%40ss@mail.example.jp:2587?tls=opportunistic", Security::StartTlsIfOffered, 2587),
            ("smtps://mail.example.jp", Security::Tls, 465),
        ] {
            let server = server(url).unwrap();
            assert_eq!(
                (server.security, server.port, server.host.as_str()),
                (security, port, "mail.example.jp"),
                "{url}"
            );
        }
        for url in ["mail.example.jp", "http://mail.example.jp", "smtp://mail.example.jp?tls=maybe"] {
            assert!(matches!(server(url), Err(MailError::Server)), "{url}");
        }
    }

    #[test]
    fn a_password_may_hold_any_character() {
        assert_eq!(percent_decoded("p%40ss%3Aw").as_deref(), Some("p@ss:w"));
        assert_eq!(percent_decoded("p%4"), None);
    }

    #[test]
    fn enhanced_codes_are_found_where_servers_put_them() {
        assert_eq!(enhanced_status("permanent error (550): 5.1.1 <a@example.jp>: unknown"), Some([5, 1, 1]));
        assert_eq!(enhanced_status("550 mailbox unavailable, see 1.2.3.4"), None);
    }
}
