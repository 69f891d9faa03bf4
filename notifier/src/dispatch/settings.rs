//! What the dispatcher is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use todoke_domain::delivery::{Provider, RetryPolicy};

use super::Breaker;

/// Settings of the dispatcher (`TODOKE_DELIVERY__…`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchSettings {
    /// Waits after temporary failures, seconds; after the last a delivery has failed.
    pub retries_s: Vec<u64>,
    /// How long a delivery may be under way before its node is taken for dead, seconds.
    pub lease_s: u64,
    /// Longest time until something due is found when nobody said so, milliseconds.
    pub poll_ms: u64,
    /// Pushes under way at a time, per provider.
    pub push_parallel_max: usize,
    /// Pushes per second and node to each provider without a number of its own; 0 means without limit.
    pub push_per_second_max: u32,
    /// Pushes per second and node to Firebase; 0 means as `push_per_second_max`.
    pub fcm_per_second_max: u32,
    /// Pushes per second and node to Apple; 0 means as `push_per_second_max`.
    pub apns_per_second_max: u32,
    /// Pushes per second and node to browsers, all push services together; 0 means as `push_per_second_max`.
    pub web_push_per_second_max: u32,
    /// Mails under way at a time.
    pub mail_parallel_max: usize,
    /// Mails per second and node; 0 means without limit.
    pub mail_per_second_max: u32,
    /// Failures in a row after which a provider counts as out.
    pub breaker_failures: u32,
    /// First pause before a provider that is out is tried again, seconds; it doubles.
    pub breaker_pause_s: u64,
    /// Longest such pause, seconds.
    pub breaker_pause_s_max: u64,
}

impl Default for DispatchSettings {
    fn default() -> Self {
        Self {
            retries_s: RetryPolicy::default().waits.iter().map(Duration::as_secs).collect(),
            lease_s: 120,
            poll_ms: 1_000,
            push_parallel_max: 128,
            push_per_second_max: 0,
            fcm_per_second_max: 0,
            apns_per_second_max: 0,
            web_push_per_second_max: 0,
            mail_parallel_max: 8,
            mail_per_second_max: 0,
            breaker_failures: 10,
            breaker_pause_s: 10,
            breaker_pause_s_max: 300,
        }
    }
}

impl DispatchSettings {
    pub(super) fn retries(&self) -> RetryPolicy {
        RetryPolicy { waits: self.retries_s.iter().copied().map(Duration::from_secs).collect() }
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s.max(1))
    }

    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(10))
    }

    pub(super) fn parallel_max(&self, provider: Provider) -> usize {
        if provider == Provider::Smtp { self.mail_parallel_max } else { self.push_parallel_max }.max(1)
    }

    pub(super) fn per_second_max(&self, provider: Provider) -> u32 {
        let own = match provider {
            Provider::Fcm => self.fcm_per_second_max,
            Provider::Apns => self.apns_per_second_max,
            Provider::WebPush => self.web_push_per_second_max,
            Provider::Smtp | Provider::Paper => return self.mail_per_second_max,
        };
        if own == 0 { self.push_per_second_max } else { own }
    }

    pub(super) fn breaker(&self) -> Breaker {
        Breaker::new(
            self.breaker_failures,
            Duration::from_secs(self.breaker_pause_s),
            Duration::from_secs(self.breaker_pause_s_max),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_without_a_number_of_its_own_goes_by_that_of_all_push() {
        let settings = DispatchSettings {
            push_per_second_max: 300,
            apns_per_second_max: 50,
            mail_per_second_max: 5,
            ..DispatchSettings::default()
        };
        let numbers = Provider::SENT.map(|provider| settings.per_second_max(provider));
        assert_eq!(numbers, [300, 50, 300, 5]);
    }
}
