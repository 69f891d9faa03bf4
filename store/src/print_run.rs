//! Print runs: letters that are printed together and stay together.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{AccountId, PrintRunId},
};

use crate::{StoreError, Tx};

/// A run to be made.
#[derive(Debug, Clone)]
pub struct NewPrintRun {
    /// Id.
    pub print_run_id: PrintRunId,
    /// Who made it.
    pub made_by: Option<AccountId>,
    /// Who writes the letters.
    pub sender_name: String,
    /// The lines under the sender's name.
    pub sender_contact: String,
    /// When.
    pub created_at: Timestamp,
}

/// A run, with how far its letters came.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct PrintRun {
    /// Id.
    #[sqlx(try_from = "String")]
    pub print_run_id: PrintRunId,
    /// Name of who made it.
    pub made_by: String,
    /// Letters in it.
    pub n_letters: i64,
    /// Letters not printed yet.
    pub n_queued: i64,
    /// Letters printed and not posted yet.
    pub n_printed: i64,
    /// Letters posted.
    pub n_posted: i64,
    /// Letters that came back, those included in whose place another one goes.
    pub n_returned: i64,
    /// Letters whose message was taken back since, whatever became of them.
    pub n_withdrawn: i64,
    /// Who writes the letters, as it was then.
    pub sender_name: String,
    /// The lines under the sender's name, as they were then.
    pub sender_contact: String,
    /// When.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
}

macro_rules! select_run {
    ($rest:literal) => {
        concat!(
            "SELECT r.print_run_id, COALESCE(a.name, '') AS made_by, r.n_letters,
                (SELECT COUNT(*) FROM print_item i WHERE i.print_run_id = r.print_run_id AND i.state = 'queued') AS n_queued,
                (SELECT COUNT(*) FROM print_item i WHERE i.print_run_id = r.print_run_id AND i.state = 'printed') AS n_printed,
                (SELECT COUNT(*) FROM print_item i WHERE i.print_run_id = r.print_run_id AND i.state = 'posted') AS n_posted,
                (SELECT COUNT(*) FROM print_item i WHERE i.print_run_id = r.print_run_id
                    AND i.state IN ('returned', 'replaced')) AS n_returned,
                (SELECT COUNT(*) FROM print_item i WHERE i.print_run_id = r.print_run_id
                    AND i.withdrawn_at_us IS NOT NULL) AS n_withdrawn,
                r.sender_name, r.sender_contact, r.created_at_us
             FROM print_run r LEFT JOIN account a ON a.account_id = r.made_by ",
            $rest
        )
    };
}

// Materialised for the reason that claims of deliveries are.
macro_rules! take_letters {
    ($lock:literal) => {
        concat!(
            "WITH waiting AS MATERIALIZED (
                SELECT letter_no FROM print_item WHERE municipality_code = $1 AND state = 'queued' AND print_run_id IS NULL
                ORDER BY letter_no LIMIT $3 ",
            $lock,
            ")
             UPDATE print_item SET print_run_id = $2
             WHERE municipality_code = $1 AND letter_no IN (SELECT letter_no FROM waiting)"
        )
    };
}

const TAKE_SQLITE: &str = take_letters!("");
// Two runs made at once share nothing, and neither waits for the other.
const TAKE_POSTGRES: &str = take_letters!("FOR UPDATE SKIP LOCKED");

impl Tx {
    /// Makes a run of the oldest letters that wait, at most `n_max`. Gives how many it took; of none there is no run.
    pub async fn make_print_run(
        &mut self,
        code: &MunicipalityCode,
        run: &NewPrintRun,
        n_max: i64,
    ) -> Result<u64, StoreError> {
        let sql = if self.is_postgres() { TAKE_POSTGRES } else { TAKE_SQLITE };
        let n = execute!(self, sql, self.wall.inside(code), run.print_run_id.to_string(), n_max)?;
        if n > 0 {
            execute!(
                self,
                "INSERT INTO print_run (print_run_id, municipality_code, made_by, n_letters, sender_name, sender_contact,
                    created_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                run.print_run_id.to_string(),
                self.wall.inside(code),
                run.made_by.map(|id| id.to_string()),
                i64::try_from(n).unwrap_or(i64::MAX),
                run.sender_name.as_str(),
                run.sender_contact.as_str(),
                run.created_at.as_micros(),
            )?;
        }
        Ok(n)
    }

    /// A run.
    pub async fn print_run(&mut self, code: &MunicipalityCode, id: PrintRunId) -> Result<Option<PrintRun>, StoreError> {
        fetch_optional!(
            self,
            PrintRun,
            select_run!("WHERE r.municipality_code = $1 AND r.print_run_id = $2"),
            self.wall.inside(code),
            id.to_string(),
        )
    }

    /// Runs of a municipality before `before`, newest first.
    pub async fn print_runs(
        &mut self,
        code: &MunicipalityCode,
        before: Option<PrintRunId>,
        n_max: i64,
    ) -> Result<Vec<PrintRun>, StoreError> {
        fetch_all!(
            self,
            PrintRun,
            select_run!(
                "WHERE r.municipality_code = $1 AND ($2 = '' OR r.print_run_id < $2) ORDER BY r.print_run_id DESC LIMIT $3"
            ),
            self.wall.inside(code),
            before.map(|id| id.to_string()).unwrap_or_default(),
            n_max,
        )
    }
}
