//! Waiting for a condition with a deadline, and giving up on purpose.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

const POLL: Duration = Duration::from_millis(20);

/// Asks `probe` again and again until it gives a value.
///
/// Panics with `what` when there is none after `deadline`.
pub async fn eventually<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut poll = tokio::time::interval(POLL);
    // Who is slow to answer is not asked all the more often afterwards.
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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

/// Polls a future at most `n` times, each time it asks for that, and drops it where it is then.
pub async fn cut_off<F: Future>(future: F, n: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(move |context: &mut Context<'_>| {
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polled >= n => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
