//! Long-lived tasks: owned, named, joined. One that ends early is a fault and stops the process.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::{runtime, sync::oneshot, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// The tasks of a running server.
#[derive(Debug, Default)]
pub struct Services {
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Services {
    /// Starts a service under a name.
    pub fn spawn(&mut self, name: &'static str, service: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.tasks.spawn(async move { (name, service.await) });
    }

    /// Starts a service on a thread and runtime of its own: what it waits for never crosses threads. The runtime goes
    /// on after the service has ended, until `closed`, because others may use what was opened on it (connections of
    /// the record's pool).
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn spawn_on_thread(
        &mut self,
        name: &'static str,
        service: impl Future<Output = anyhow::Result<()>> + Send + 'static,
        closed: CancellationToken,
    ) -> std::io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut ended, end) = oneshot::channel();
        let service = async move {
            let outcome = tokio::select! {
                // A panic ends the service and not the runtime, which others may still need.
                outcome = AssertUnwindSafe(service).catch_unwind() => {
                    Some(outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))))
                }
                // Nobody waits any more: `join_all` has given up.
                () = ended.closed() => None,
            };
            if let Some(outcome) = outcome {
                let _ = ended.send(outcome);
            }
            closed.cancelled().await;
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(service))?;
        self.spawn(name, async move { end.await.unwrap_or_else(|_| Err(anyhow::anyhow!("its thread ended"))) });
        Ok(())
    }

    /// Waits for the first service that ends and says which it was. Cancel safe.
    pub async fn first_end(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow::anyhow!("service {name} ended early"),
            Some(Ok((name, Err(error)))) => error.context(format!("service {name} failed")),
            Some(Err(panic)) => anyhow::Error::new(panic).context("a service panicked"),
            None => anyhow::anyhow!("no service is running"),
        }
    }

    /// Waits for all services, at most `wait_max`; logs those that failed or did not end. `true` if all have ended.
    pub async fn join_all(mut self, wait_max: Duration) -> bool {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                match ended {
                    Ok((name, Ok(()))) => tracing::debug!(service = name, "service stopped"),
                    Ok((name, Err(error))) => {
                        tracing::error!(service = name, error = format!("{error:#}"), "service failed while stopping")
                    }
                    Err(panic) => tracing::error!(error = %panic, "service panicked"),
                }
            }
        };
        let all_ended = timeout(wait_max, all).await.is_ok();
        if !all_ended {
            tracing::error!("services did not stop in time; dropped");
        }
        all_ended
    }
}
