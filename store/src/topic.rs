//! Topics of interest that guardians chose.

use todoke_domain::{Timestamp, ids::AccountId, topic::Topic};

use crate::{StoreError, Tx};

impl Tx {
    /// Topics an account chose, in the order of their codes.
    pub async fn topics(&mut self, account: AccountId) -> Result<Vec<Topic>, StoreError> {
        let rows: Vec<(String,)> = fetch_all!(
            self,
            (String,),
            "SELECT t.topic FROM topic_choice t JOIN account a ON a.account_id = t.account_id
             WHERE t.account_id = $1 AND (a.municipality_code = $2 OR $2 = '') ORDER BY t.topic",
            account.to_string(),
            self.wall.code(),
        )?;
        rows.into_iter().map(|(code,)| code.parse().map_err(|_| StoreError::Corrupt { what: "topic" })).collect()
    }

    /// Replaces the topics of an account; what was chosen before keeps its instant.
    pub async fn set_topics(&mut self, account: AccountId, topics: &[Topic], now: Timestamp) -> Result<(), StoreError> {
        for topic in Topic::ALL {
            if topics.contains(&topic) {
                execute!(
                    self,
                    "INSERT INTO topic_choice (account_id, topic, chosen_at_us) VALUES ($1, $2, $3) ON CONFLICT (account_id, topic) DO NOTHING",
                    account.to_string(),
                    topic.as_str(),
                    now.as_micros(),
                )?;
            } else {
                execute!(
                    self,
                    "DELETE FROM topic_choice WHERE account_id = $1 AND topic = $2",
                    account.to_string(),
                    topic.as_str(),
                )?;
            }
        }
        Ok(())
    }
}
