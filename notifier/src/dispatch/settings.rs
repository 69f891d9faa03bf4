//! What the dispatcher is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use todoke_domain::delivery::{Provider, RetryPolicy};

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
    /// Pushes per second, per provider and node; 0 means without limit.
    pub push_per_second_max: u32,
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
        if provider == Provider::Smtp { self.mail_per_second_max } else { self.push_per_second_max }
    }
}
