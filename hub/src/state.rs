//! What every handler can reach.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use todoke_analytics::Engine;
use todoke_domain::Timestamp;
use todoke_ingest::{SinkStatus, UsageLog};
use todoke_lake::Lake;
use todoke_workflow::Workflow;
use tokio::sync::watch;

use crate::{
    bodies::Bodies, broker::MemoryBroker, clock::Clock, config::Config, gate::RecordGate, limit::Limiter,
    realtime::Realtime, token::Tokens,
};

/// The realtime hub with its parts.
pub type Hub = Realtime<RecordGate, MemoryBroker<RecordGate>>;

/// The parts of a running server.
#[derive(Debug)]
pub struct Parts {
    /// Use cases.
    pub workflow: Workflow,
    /// Websockets.
    pub hub: Arc<Hub>,
    /// Durable log of app usage.
    pub usage: UsageLog,
    /// Memory for bodies with events that are under way.
    pub bodies: Arc<Bodies>,
    /// The lake, for its figures and upkeep.
    pub lake: Arc<Lake>,
    /// How events reach the lake.
    pub sink: watch::Receiver<SinkStatus>,
    /// Reports and SQL.
    pub engine: Engine,
    /// Present instant.
    pub clock: Clock,
    /// Effective configuration.
    pub config: Config,
    /// Signer of socket tokens.
    pub tokens: Arc<Tokens>,
    /// Rate limits.
    pub limiter: Limiter,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Mails can be read at `/demo/mail`.
    pub demo: bool,
    /// Secret that lets commands beside the server ask it; lies in the data folder.
    pub local_secret: String,
}

/// Shared state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Parts>);

impl AppState {
    /// Wraps the parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Effective configuration.
    pub fn config(&self) -> &Config {
        &self.0.config
    }
}

impl std::ops::Deref for AppState {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
