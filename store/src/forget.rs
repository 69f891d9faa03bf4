//! The keys under which people stand in the lake: finding them, and taking them out of the record.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use todoke_domain::{MunicipalityCode, Role};

use crate::{DbKind, Store, StoreError, Tx, Wall};

/// Bytes of a record's file looked through at a time.
const BLOCK: usize = 1 << 20;

impl Tx {
    /// Keys of the people behind a number, those of deleted accounts included: of a guardian's number the household's
    /// accounts with this role, of a child's own number or the one in the register the child, else the account with this
    /// id or the one that signs in with this mail address.
    ///
    /// A child that was invited and then registered without its code has two: its own and that of its invitation.
    pub async fn person_keys(
        &mut self,
        code: &MunicipalityCode,
        number: &str,
        role: Role,
    ) -> Result<Vec<i64>, StoreError> {
        let rows: Vec<(i64,)> = fetch_all!(
            self,
            (i64,),
            "SELECT a.person_key FROM account a JOIN guardian g ON g.guardian_id = a.guardian_id
             WHERE a.municipality_code = $1 AND g.guardian_no = $2 AND a.role = $3 AND a.person_key IS NOT NULL
             UNION SELECT person_key FROM account
             WHERE municipality_code = $1 AND (account_id = $2 OR email = $2) AND person_key IS NOT NULL
             UNION SELECT person_key FROM child
             WHERE municipality_code = $1 AND (child_no = $2 OR resident_no = $2) AND person_key IS NOT NULL
             UNION SELECT person_key FROM solicitation WHERE municipality_code = $1 AND resident_no = $2
             UNION SELECT s.person_key FROM solicitation s
             JOIN child c ON c.municipality_code = s.municipality_code
                 AND (c.child_id = s.child_id OR c.resident_no = s.resident_no)
             WHERE s.municipality_code = $1 AND c.child_no = $2",
            self.wall.inside(code),
            number,
            role.as_str(),
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

    /// How many events the log has, and how many of them name a key in their text.
    pub async fn events_reread(&mut self, code: &MunicipalityCode, key: i64) -> Result<(i64, i64), StoreError> {
        fetch_one!(
            self,
            (i64, i64),
            "SELECT COUNT(*), COALESCE(SUM(CASE WHEN body LIKE '%' || $2 || '%' THEN 1 ELSE 0 END), 0)
             FROM event WHERE municipality_code = $1",
            self.wall.inside(code),
            key.to_string(),
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

    /// Gives a person another key, also where it stands as the subject of what was sent. Whoever knows only the old one
    /// cannot find the person any more.
    pub async fn replace_person_key(&mut self, code: &MunicipalityCode, old: i64, new: i64) -> Result<(), StoreError> {
        let code = self.wall.inside(code).to_owned();
        for sql in [
            "UPDATE account SET person_key = $3 WHERE municipality_code = $1 AND person_key = $2",
            "UPDATE child SET person_key = $3 WHERE municipality_code = $1 AND person_key = $2",
            "UPDATE solicitation SET person_key = $3 WHERE municipality_code = $1 AND person_key = $2",
        ] {
            execute!(self, sql, &code, old, new)?;
        }
        if code.is_empty() {
            // Behind another wall. The last two tables have none.
            return Ok(());
        }
        let (old, new) = (old.to_string(), new.to_string());
        for sql in [
            "UPDATE message SET subject_id = REPLACE(subject_id, $2, $3), dedupe_key = REPLACE(dedupe_key, $2, $3),
                 link = REPLACE(link, $2, $3)
             WHERE municipality_code = $1 AND (subject_id LIKE '%' || $2 || '%' OR dedupe_key LIKE '%' || $2 || '%'
                 OR link LIKE '%' || $2 || '%')",
            "UPDATE delivery SET collapse_key = REPLACE(collapse_key, $2, $3), link = REPLACE(link, $2, $3)
             WHERE municipality_code = $1 AND (collapse_key LIKE '%' || $2 || '%' OR link LIKE '%' || $2 || '%')",
        ] {
            execute!(self, sql, &code, &old, &new)?;
        }
        let published = "UPDATE publication SET data = REPLACE(data, $1, $2) WHERE data LIKE '%' || $1 || '%'";
        execute!(self, published, &old, &new)?;
        // The events that it counted are of the stand-in now; those of the new key begin anew.
        execute!(self, "DELETE FROM subject_counter WHERE subject_id = $1", &old)?;
        Ok(())
    }
}

impl Store {
    /// From now on SQLite overwrites what this process deletes or replaces, instead of leaving it in places that are not
    /// used. On PostgreSQL it goes with its vacuum, which is the database's own.
    pub async fn overwrite_deleted(&self) -> Result<(), StoreError> {
        if self.kind() == DbKind::Sqlite {
            let mut tx = self.begin_write(Wall::None).await?;
            execute!(tx, "PRAGMA secure_delete = ON")?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// Makes sure that the file of a SQLite record that nobody has open holds none of these keys, as decimal text or as
/// SQLite writes an integer, not even where nothing is stored any more. What tables have kept there since long is gone
/// only when the file is written anew, which needs room for a second one and is done only if a key is found.
///
/// `false` if a key is still there: it is in a row.
pub async fn purge_sqlite(path: &Path, keys: &[i64]) -> Result<bool, StoreError> {
    if !is_in_files(path, keys).await? {
        return Ok(true);
    }
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await?;
    sqlx::query("VACUUM").execute(&mut connection).await?;
    connection.close().await?;
    Ok(!is_in_files(path, keys).await?)
}

/// Looks through the database and what its log may have left.
async fn is_in_files(path: &Path, keys: &[i64]) -> Result<bool, StoreError> {
    let wanted: Vec<Vec<u8>> =
        keys.iter().flat_map(|key| [key.to_string().into_bytes(), key.to_be_bytes().to_vec()]).collect();
    let paths = ["", "-wal"].map(|end| PathBuf::from(format!("{}{end}", path.display())));
    let look = move || -> io::Result<bool> {
        for path in paths {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if is_in(file, &wanted)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let looked = tokio::task::spawn_blocking(look).await.map_err(io::Error::other).and_then(|found| found);
    Ok(looked.map_err(sqlx::Error::Io)?)
}

fn is_in(mut file: impl Read, wanted: &[Vec<u8>]) -> io::Result<bool> {
    let overlap = wanted.iter().map(Vec::len).max().unwrap_or(1).saturating_sub(1);
    let mut block = Vec::with_capacity(BLOCK + overlap);
    loop {
        let n = file.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        if n == 0 {
            return Ok(false);
        }
        if wanted.iter().any(|wanted| block.windows(wanted.len()).any(|window| window == wanted.as_slice())) {
            return Ok(true);
        }
        block.drain(..block.len().saturating_sub(overlap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Durability;

    const KEY: i64 = 1_234_567_890_123_456_789;

    #[tokio::test]
    async fn what_was_deleted_long_ago_leaves_the_file_and_what_is_stored_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.sqlite");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        for sql in [
            "PRAGMA secure_delete = OFF",
            "CREATE TABLE noted (id INTEGER PRIMARY KEY, words TEXT, key BIGINT)",
            "INSERT INTO noted VALUES (1, 'child:1234567890123456789', 0), (2, 'other', 1234567890123456789), (3, 'c', 0)",
            "DELETE FROM noted WHERE id < 3",
        ] {
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
        assert!(is_in_files(&path, &[KEY]).await.unwrap(), "the test can find");
        assert!(purge_sqlite(&path, &[KEY]).await.unwrap());
        assert!(!is_in_files(&path, &[KEY]).await.unwrap());
        for sql in [
            "UPDATE noted SET words = 'of 1234567890123456789'",
            "UPDATE noted SET words = '', key = 1234567890123456789",
        ] {
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            assert!(!purge_sqlite(&path, &[7, KEY]).await.unwrap(), "{sql}");
        }
    }

    #[tokio::test]
    async fn what_an_erasure_deletes_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("record.sqlite"), Durability::Full).await.unwrap();
        store.overwrite_deleted().await.unwrap();
        let mut tx = store.begin_write(Wall::None).await.unwrap();
        let is_on: Result<(i64,), StoreError> = fetch_one!(tx, (i64,), "PRAGMA secure_delete");
        assert_eq!(is_on.unwrap(), (1,));
        drop(tx);
        store.close().await;
    }

    #[test]
    fn a_key_is_found_across_blocks() {
        let key = KEY.to_string().into_bytes();
        for before in [0, BLOCK - key.len(), BLOCK - 3, BLOCK, 2 * BLOCK - 1] {
            let mut bytes = vec![b'.'; before];
            bytes.extend(&key);
            assert!(is_in(bytes.as_slice(), std::slice::from_ref(&key)).unwrap(), "{before}");
            bytes.pop();
            assert!(!is_in(bytes.as_slice(), std::slice::from_ref(&key)).unwrap(), "{before}");
        }
    }
}
