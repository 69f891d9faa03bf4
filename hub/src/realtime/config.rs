//! Limits of the realtime hub, all in one place.

use serde::{Deserialize, Serialize};

/// Limits and intervals. What happens when one is reached is told in `docs/realtime.md`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RealtimeConfig {
    /// Origins that may open a socket, like `https://todoke.example`; `*` for any. Empty: the origin's
    /// host must be the host of the request. Requests without an Origin (apps, servers) always may.
    pub allowed_origins: Vec<String>,
    /// Open sockets on this node; more are refused with 503.
    pub connections_max: usize,
    /// Open sockets of one account on this node; the next one is closed with 3504.
    pub user_connections_max: usize,
    /// Subscriptions of one connection, server-side ones included.
    pub subscriptions_max: usize,
    /// Length of a channel name. Bytes.
    pub channel_bytes_max: usize,
    /// Length of a message from a client. Bytes.
    pub frame_bytes_max: usize,
    /// What may wait for a client that does not read, before it is cut with 3008. Bytes.
    pub queue_bytes_max: usize,
    /// From the upgrade to the connect command. Seconds.
    pub connect_timeout_s: u64,
    /// Between two pings of the server. Seconds.
    pub ping_interval_s: u64,
    /// From a ping to the answer that must come, before the connection counts as half-open. Seconds;
    /// shorter than the interval.
    pub pong_timeout_s: u64,
    /// What a client has to renew its token after it ran out. Seconds.
    pub expired_close_delay_s: u64,
    /// From sending a close frame to giving up on the peer's. Seconds.
    pub close_timeout_s: u64,
    /// What one command may take. Seconds.
    pub command_timeout_s: u64,
    /// Publications that a returning client gets; one that missed more starts from a snapshot.
    pub recovery_n_max: usize,
    /// The same in bytes of data.
    pub recovery_bytes_max: usize,
    /// Publications in one answer to a history command.
    pub history_n_max: usize,
    /// Precision of every interval above. Milliseconds.
    pub tick_ms: u64,
    /// Between two samples of the connections, which are written to the log of events. Seconds.
    pub sample_every_s: u64,
}

impl Default for RealtimeConfig {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            connections_max: 200_000,
            user_connections_max: 50,
            subscriptions_max: 128,
            channel_bytes_max: 255,
            frame_bytes_max: 64 * 1024,
            queue_bytes_max: 1024 * 1024,
            connect_timeout_s: 10,
            ping_interval_s: 25,
            pong_timeout_s: 10,
            expired_close_delay_s: 25,
            close_timeout_s: 5,
            command_timeout_s: 10,
            recovery_n_max: 1_000,
            recovery_bytes_max: 1024 * 1024,
            history_n_max: 300,
            tick_ms: 250,
            sample_every_s: 60,
        }
    }
}

impl RealtimeConfig {
    /// What does not fit together, in words for whoever wrote the configuration.
    pub fn check(&self) -> Result<(), String> {
        if self.pong_timeout_s == 0 || self.pong_timeout_s >= self.ping_interval_s {
            return Err("realtime.pong_timeout_s must be above 0 and below realtime.ping_interval_s".to_owned());
        }
        if self.tick_ms == 0 || self.tick_ms > 1_000 {
            return Err("realtime.tick_ms must be from 1 to 1000".to_owned());
        }
        if self.sample_every_s == 0 {
            return Err("realtime.sample_every_s must be above 0".to_owned());
        }
        if self.frame_bytes_max < 1_024 {
            return Err("realtime.frame_bytes_max must be at least 1024".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound() {
        assert_eq!(RealtimeConfig::default().check(), Ok(()));
        let late = RealtimeConfig { pong_timeout_s: 25, ..RealtimeConfig::default() };
        assert!(late.check().is_err());
    }
}
