//! Waiting for a condition with a deadline.

use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);

/// Asks `probe` again and again until it gives a value.
///
/// Panics with `what` when there is none after `deadline`.
pub async fn eventually<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut poll = tokio::time::interval(POLL);
    let asking = async {
        loop {
            poll.tick().await;
            if let Some(value) = probe().await {
                return value;
            }
        }
    };
    tokio::time::timeout(deadline, asking).await.unwrap_or_else(|_| panic!("not within {deadline:?}: {what}"))
}
