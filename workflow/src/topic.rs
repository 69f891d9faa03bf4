//! Topics of interest: a guardian's own choice, kept until it is changed.

use todoke_domain::{Timestamp, topic::Topic};

use crate::{Actor, Workflow, WorkflowError};

impl Workflow {
    /// Topics the caller chose.
    pub async fn topics(&self, actor: &Actor) -> Result<Vec<Topic>, WorkflowError> {
        let (account, _) = actor.household()?;
        Ok(self.read(actor).await?.topics(account).await?)
    }

    /// Replaces the caller's topics.
    pub async fn choose_topics(&self, actor: &Actor, topics: &[Topic], now: Timestamp) -> Result<(), WorkflowError> {
        let (account, _) = actor.household()?;
        let mut work = self.begin(actor, now).await?;
        work.tx.set_topics(account, topics, now).await?;
        work.commit().await?;
        Ok(())
    }
}
