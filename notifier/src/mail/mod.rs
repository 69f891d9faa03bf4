//! E-mail by SMTP.

mod connection;
mod html;
mod message;
mod settings;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lettre::message::Mailbox;
use todoke_domain::Timestamp;
use tokio::{sync::Semaphore, time::Instant};

pub(crate) use self::connection::enhanced_status;
pub use self::settings::{MailError, MailSettings};
use self::{
    connection::{Connection, Failure, Server},
    message::{Letter, letter},
};
use crate::{Address, Channel, Kind, Outcome, Outgoing, expiry};

/// How long an unused connection is kept: less than the five minutes after which servers hang up (RFC 5321).
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Longest time that a mail is worth sending when its message has no end.
const LIFE_MAX: Duration = Duration::from_secs(28 * 86_400);

/// The channel to mailboxes, over one mail server, with a pool of connections.
pub struct Mail {
    server: Server,
    from: Mailbox,
    idle: Mutex<Vec<(Connection, Instant)>>,
    places: Semaphore,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Mail {
    /// A channel over one mail server. Nothing is connected yet.
    pub fn new(settings: &MailSettings) -> Result<Self, MailError> {
        Ok(Self {
            server: Server::new(settings)?,
            from: settings.from.parse().map_err(MailError::Sender)?,
            idle: Mutex::default(),
            places: Semaphore::new(settings.connections_max.clamp(1, 1_000)),
        })
    }

    /// A connection that was in use a moment ago.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < IDLE_MAX);
        idle.pop().map(|(connection, _)| connection)
    }

    async fn over(&self, mut connection: Connection, letter: &Letter) -> Result<Outcome, Failure> {
        let result = connection.send(letter).await;
        if connection.is_usable() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        }
        result
    }

    async fn attempt(&self, outgoing: &Outgoing, address: &str, now: Timestamp) -> Result<Outcome, Outcome> {
        if outgoing.kind == Kind::Withdraw {
            return Err(Outcome::Refused { code: "cannot_be_withdrawn" });
        }
        expiry::life(outgoing, LIFE_MAX, now)?;
        let letter = letter(outgoing, address, &self.from, now)?;
        let later = |code| Outcome::Later { code, after: None };
        let _place = self.places.acquire().await.map_err(|_| later("stopped"))?;
        if let Some(connection) = self.kept() {
            match self.over(connection, &letter).await {
                // The server has hung up on an idle connection; a new one tells whether it is there.
                Err(Failure::BeforeContent(_)) => {}
                result => return result.map_err(Outcome::from),
            }
        }
        let connection = self.server.connect().await?;
        self.over(connection, &letter).await.map_err(Outcome::from)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::BeforeContent(code) => Self::Later { code, after: None },
            Failure::AfterContent(code) => Self::Doubtful { code },
        }
    }
}

#[async_trait]
impl Channel for Mail {
    fn name(&self) -> &'static str {
        "email"
    }

    async fn send(&self, outgoing: &Outgoing, now: Timestamp) -> Outcome {
        let Address::Email { address } = &outgoing.address else { return Outcome::Refused { code: "wrong_channel" } };
        self.attempt(outgoing, address, now).await.unwrap_or_else(|outcome| outcome)
    }
}
