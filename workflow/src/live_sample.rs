//! What nodes saw of their live connections, for R13: figures of a minute, of nobody in particular.

use serde_json::json;
use todoke_domain::Timestamp;

use crate::{Actor, Workflow, WorkflowError, work::Subject};

/// What one node saw of one municipality's connections since its last sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveSample {
    /// Most connections that were open at the same time.
    pub sessions: u32,
    /// Channels that returning clients got back without loss.
    pub recovered: u32,
    /// Publications that were sent to them again.
    pub republished: u32,
}

impl Workflow {
    /// Notes a sample of the actor's municipality. `node` tells the nodes apart: each numbers its own samples.
    pub async fn note_live_sample(
        &self,
        actor: &Actor,
        node: &str,
        sample: LiveSample,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        // The catalogue's counts end where a signed 32-bit number does.
        let n = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let mut work = self.begin(actor, now).await?;
        let subject = Subject::new("node", format!("{node}:{}", actor.municipality_code));
        let payload = json!({
            "sessions": n(sample.sessions), "recovered": n(sample.recovered), "republished": n(sample.republished),
        });
        work.event("system.live_sampled", subject, payload);
        work.commit().await?;
        Ok(())
    }
}
