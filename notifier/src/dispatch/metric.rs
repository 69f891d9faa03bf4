//! Names of the dispatcher's metrics. Labels are providers and outcomes, never people.

/// Counter: attempts by `provider` and `outcome` (`accepted`, `later`, `gone`, `refused`, `doubtful`).
pub const ATTEMPTS: &str = "todoke_delivery_attempts_total";
/// Histogram, seconds: one attempt from handing over to the provider's answer, by `provider`.
pub const ATTEMPT_SECONDS: &str = "todoke_delivery_attempt_seconds";
/// Histogram, seconds: from a delivery's due time to its handing over, by `provider`.
pub const WAIT_SECONDS: &str = "todoke_delivery_wait_seconds";
/// Gauge: 1 while a provider counts as out, by `provider`; for browsers while any push service does that has taken
/// messages before.
pub const BREAKER_OPEN: &str = "todoke_delivery_breaker_open";
/// Gauge: deliveries due, by `provider`.
pub const QUEUE: &str = "todoke_delivery_queue";
/// Gauge, seconds: age of the oldest due delivery, by `provider`.
pub const OLDEST_SECONDS: &str = "todoke_delivery_oldest_seconds";
