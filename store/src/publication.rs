//! Live publications: numbered per channel in the transaction that causes them, so that a client can
//! always prove it missed nothing.

use std::collections::{BTreeMap, HashMap};

use todoke_domain::{Timestamp, channel::Channel};

use crate::{StoreError, Tx};

/// A publication with its position.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Publication {
    /// Channel name.
    pub channel: String,
    /// 1, 2, 3… per channel, without gaps.
    pub position: i64,
    /// JSON text, as clients get it.
    pub data: String,
}

/// What the table can say about a channel after a position.
#[derive(Debug, Clone)]
pub struct PublicationPage {
    /// In order of position.
    pub publications: Vec<Publication>,
    /// Newest position of the channel; 0 when nothing was ever published.
    pub top: i64,
    /// Whether nothing between the asked position and the last of `publications` has been pruned.
    pub complete: bool,
}

impl Tx {
    /// Numbers and keeps publications. Channels are locked in the order of their names, so that two
    /// transactions that publish to the same channels cannot wait for each other.
    pub async fn publish(
        &mut self,
        drafts: &[(Channel, String)],
        now: Timestamp,
    ) -> Result<Vec<Publication>, StoreError> {
        let mut ordered: Vec<(String, &String)> =
            drafts.iter().map(|(channel, data)| (channel.to_string(), data)).collect();
        ordered.sort_by(|a, b| a.0.cmp(&b.0));
        let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
        for (channel, _) in &ordered {
            *counts.entry(channel).or_default() += 1;
        }
        let wanted: Vec<(&String, i64)> = counts.iter().map(|(channel, n)| (*channel, *n)).collect();
        let heads: Vec<(String, i64)> = insert_many_returning!(
            self,
            (String, i64),
            "INSERT INTO channel_head (channel, position) ",
            wanted,
            " ON CONFLICT (channel) DO UPDATE SET position = channel_head.position + excluded.position
              RETURNING channel, position",
            |row| row.0,
            row.1,
        )?;
        let mut next: HashMap<String, i64> = heads
            .into_iter()
            .map(|(channel, top)| {
                let n = counts.get(&channel).copied().unwrap_or(0);
                (channel, top - n + 1)
            })
            .collect();
        let mut published = Vec::with_capacity(ordered.len());
        for (channel, data) in &ordered {
            let position = next.get_mut(channel).ok_or(StoreError::Corrupt { what: "channel position" })?;
            published.push(Publication { channel: channel.clone(), position: *position, data: (*data).clone() });
            *position += 1;
        }
        insert_many_later!(
            self,
            "INSERT INTO publication (channel, position, at_us, data) ",
            published,
            "",
            |row| &row.channel,
            row.position,
            now.as_micros(),
            &row.data,
        )?;
        Ok(published)
    }

    /// At most `n_max` publications after `after`, oldest first.
    pub async fn publications_since(
        &mut self,
        channel: &str,
        after: i64,
        n_max: i64,
    ) -> Result<PublicationPage, StoreError> {
        let top: Option<(i64,)> =
            fetch_optional!(self, (i64,), "SELECT position FROM channel_head WHERE channel = $1", channel)?;
        let top = top.map_or(0, |(position,)| position);
        let publications: Vec<Publication> = fetch_all!(
            self,
            Publication,
            "SELECT channel, position, data FROM publication WHERE channel = $1 AND position > $2 ORDER BY position LIMIT $3",
            channel,
            after,
            n_max,
        )?;
        // Instants need not rise with positions, so pruning by instant can leave a hole in the middle.
        let without_hole = publications
            .iter()
            .zip(after.saturating_add(1)..)
            .all(|(publication, position)| publication.position == position);
        let complete = after >= top || (without_hole && !publications.is_empty());
        Ok(PublicationPage { publications, top, complete })
    }

    /// The newest `n_max` publications of a channel, newest first, without those of some types.
    pub async fn newest_publications(
        &mut self,
        channel: &str,
        without: &[&str],
        n_max: i64,
    ) -> Result<Vec<Publication>, StoreError> {
        let sql = if self.is_postgres() {
            "SELECT channel, position, data FROM publication
             WHERE channel = $1 AND COALESCE(data::json ->> 'type', '') <> ALL(string_to_array($2, ','))
             ORDER BY position DESC LIMIT $3"
        } else {
            "SELECT channel, position, data FROM publication
             WHERE channel = $1 AND COALESCE(json_extract(data, '$.type'), '') NOT IN (SELECT value FROM json_each($2))
             ORDER BY position DESC LIMIT $3"
        };
        let without = self.among(without);
        fetch_all!(self, Publication, sql, channel, without, n_max)
    }

    /// Forgets publications older than `before`; positions are never reused.
    pub async fn prune_publications(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        execute!(self, "DELETE FROM publication WHERE at_us < $1", before.as_micros())
    }
}
