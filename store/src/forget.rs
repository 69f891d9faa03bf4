//! The keys under which people stand in the lake: finding them, and taking them out of the record.

use todoke_domain::MunicipalityCode;

use crate::{StoreError, Tx};

impl Tx {
    /// Keys of the people behind a number: of a guardian (the guardian's own account), of a child, or of whoever
    /// signs in with that mail address.
    pub async fn person_keys(&mut self, code: &MunicipalityCode, number: &str) -> Result<Vec<i64>, StoreError> {
        let rows: Vec<(i64,)> = fetch_all!(
            self,
            (i64,),
            "SELECT a.person_key FROM account a JOIN guardian g ON g.guardian_id = a.guardian_id
             WHERE a.municipality_code = $1 AND g.guardian_no = $2 AND a.role = 'guardian' AND a.person_key IS NOT NULL
             UNION SELECT person_key FROM child WHERE municipality_code = $1 AND child_no = $2 AND person_key IS NOT NULL
             UNION SELECT person_key FROM account WHERE municipality_code = $1 AND email = $2 AND person_key IS NOT NULL",
            self.wall.inside(code),
            number,
        )?;
        Ok(rows.into_iter().map(|(key,)| key).collect())
    }

    /// Up to `n_max` events of the log after `after_seq` whose text names a key, each with its number, in order.
    pub async fn events_naming(
        &mut self,
        code: &MunicipalityCode,
        key: i64,
        after_seq: i64,
        n_max: i64,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        fetch_all!(
            self,
            (i64, String),
            "SELECT seq, body FROM event WHERE municipality_code = $1 AND seq > $2 AND body LIKE '%' || $3 || '%' ORDER BY seq LIMIT $4",
            self.wall.inside(code),
            after_seq,
            key.to_string(),
            n_max,
        )
    }

    /// Replaces the text of an event of the log.
    pub async fn rewrite_event(&mut self, seq: i64, body: &str) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE event SET body = $2 WHERE seq = $1 AND ($3 = '' OR municipality_code = $3)",
            seq,
            body,
            self.wall.code(),
        )?;
        Ok(())
    }

    /// Drops what a person sent that was never taken; gives how many entries there were.
    pub async fn drop_quarantined_of(&mut self, code: &MunicipalityCode, key: i64) -> Result<u64, StoreError> {
        execute!(
            self,
            "DELETE FROM quarantined_event WHERE municipality_code = $1 AND (sender LIKE '%' || $2 || '%' OR content LIKE '%' || $2 || '%')",
            self.wall.inside(code),
            key.to_string(),
        )
    }

    /// Gives a person another key. Whoever knows only the old one cannot find the person any more.
    pub async fn replace_person_key(&mut self, code: &MunicipalityCode, old: i64, new: i64) -> Result<(), StoreError> {
        let code = self.wall.inside(code).to_owned();
        for sql in [
            "UPDATE account SET person_key = $3 WHERE municipality_code = $1 AND person_key = $2",
            "UPDATE child SET person_key = $3 WHERE municipality_code = $1 AND person_key = $2",
            "UPDATE solicitation SET person_key = $3 WHERE municipality_code = $1 AND person_key = $2",
        ] {
            execute!(self, sql, &code, old, new)?;
        }
        Ok(())
    }
}
