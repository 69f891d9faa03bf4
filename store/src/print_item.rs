//! The print queue: letters to people without the app (O09).

use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{DeliveryId, PrintRunId},
};

use crate::{
    StoreError, Tx,
    column::{OptionalNumber, OptionalText},
};

/// A letter, from the queue to the post.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct PrintItem {
    /// Number people see.
    pub letter_no: String,
    /// `solicitation`, `resolicitation`, `deficiency`, `rejection`, `distribution`, `qr_reissue`, or `message` for one that
    /// the catalogue sends by letter.
    pub letter_kind: String,
    /// To whom.
    pub recipient_name: String,
    /// Where.
    pub postal_code: String,
    /// Where.
    pub address: String,
    /// Heading.
    pub title: String,
    /// Text.
    pub body: String,
    /// Child QR to print on it.
    pub qr_token: Option<String>,
    /// `queued`, `printed`, `posted` or `returned`; `unaddressed` while nobody knows where to, `replaced` once another
    /// letter goes in its place, `withdrawn` when its message was taken back before it was printed.
    pub state: String,
    /// The run it is printed in; `None` while it waits.
    #[sqlx(try_from = "OptionalText")]
    pub print_run_id: Option<PrintRunId>,
    /// When it was queued.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
    /// When its message was taken back.
    #[sqlx(rename = "withdrawn_at_us", try_from = "OptionalNumber")]
    pub withdrawn_at: Option<Timestamp>,
}

/// Which letters to list.
#[derive(Debug, Clone, Default)]
pub struct LettersOf {
    /// In this state only; in any when empty.
    pub state: String,
    /// Of this run only.
    pub run: Option<PrintRunId>,
    /// Those before this number.
    pub before: Option<String>,
}

macro_rules! select_letter {
    ($rest:literal) => {
        concat!(
            "SELECT letter_no, letter_kind, recipient_name, postal_code, address, title, body, qr_token, state, print_run_id, \
             created_at_us, withdrawn_at_us FROM print_item ",
            $rest
        )
    };
}

impl Tx {
    /// Queues a letter.
    pub async fn insert_print_item(&mut self, code: &MunicipalityCode, row: &PrintItem) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO print_item (letter_no, municipality_code, letter_kind, recipient_name, postal_code, address, title, body,
                qr_token, state, print_run_id, created_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            &row.letter_no, code.as_str(), &row.letter_kind, &row.recipient_name, &row.postal_code, &row.address,
            &row.title, &row.body, row.qr_token.as_deref(), &row.state, row.print_run_id.map(|id| id.to_string()),
            row.created_at.as_micros(),
        )?;
        Ok(())
    }

    /// Notes what has become of a letter; `false` when it is not in the state before.
    pub async fn mark_print_item(
        &mut self,
        code: &MunicipalityCode,
        letter_no: &str,
        before: &str,
        after: &str,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE print_item SET state = $4 WHERE municipality_code = $1 AND letter_no = $2 AND state = $3",
            self.wall.inside(code),
            letter_no,
            before,
            after,
        )?;
        Ok(n > 0)
    }

    /// Replaces the words of a letter that is in no run yet; `false` when it may be on paper already.
    pub async fn reword_letter(
        &mut self,
        code: &MunicipalityCode,
        letter_no: &str,
        title: &str,
        body: &str,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE print_item SET title = $3, body = $4 WHERE municipality_code = $1 AND letter_no = $2
             AND state IN ('queued', 'unaddressed') AND print_run_id IS NULL",
            self.wall.inside(code),
            letter_no,
            title,
            body,
        )?;
        Ok(n > 0)
    }

    /// Notes that the message of a letter was taken back. A letter that is in no run yet leaves the queue with it; for
    /// one that may be on paper already it is `false`, and its state stays.
    pub async fn withdraw_letter(
        &mut self,
        code: &MunicipalityCode,
        letter_no: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE print_item SET state = 'withdrawn', withdrawn_at_us = $3 WHERE municipality_code = $1 AND letter_no = $2
             AND state IN ('queued', 'unaddressed') AND print_run_id IS NULL",
            self.wall.inside(code),
            letter_no,
            now.as_micros(),
        )?;
        if n == 0 {
            execute!(
                self,
                "UPDATE print_item SET withdrawn_at_us = $3 WHERE municipality_code = $1 AND letter_no = $2
                 AND withdrawn_at_us IS NULL",
                self.wall.inside(code),
                letter_no,
                now.as_micros(),
            )?;
        }
        Ok(n > 0)
    }

    /// The newest delivery that a letter is, when a message was sent by it.
    pub async fn delivery_of_letter(
        &mut self,
        code: &MunicipalityCode,
        letter_no: &str,
    ) -> Result<Option<DeliveryId>, StoreError> {
        let row: Option<(String,)> = fetch_optional!(
            self,
            (String,),
            "SELECT delivery_id FROM delivery WHERE municipality_code = $1 AND channel = 'paper' AND target = $2
             ORDER BY edition DESC LIMIT 1",
            self.wall.inside(code),
            letter_no,
        )?;
        row.map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "delivery id" })).transpose()
    }

    /// One letter.
    pub async fn print_item(
        &mut self,
        code: &MunicipalityCode,
        letter_no: &str,
    ) -> Result<Option<PrintItem>, StoreError> {
        fetch_optional!(
            self,
            PrintItem,
            select_letter!("WHERE municipality_code = $1 AND letter_no = $2"),
            self.wall.inside(code),
            letter_no,
        )
    }

    /// Letters of a municipality, newest first.
    pub async fn print_items(
        &mut self,
        code: &MunicipalityCode,
        of: &LettersOf,
        n_max: i64,
    ) -> Result<Vec<PrintItem>, StoreError> {
        fetch_all!(
            self,
            PrintItem,
            select_letter!(
                "WHERE municipality_code = $1 AND ($2 = '' OR state = $2) AND ($3 = '' OR print_run_id = $3)
                 AND ($4 = '' OR letter_no < $4) ORDER BY letter_no DESC LIMIT $5"
            ),
            self.wall.inside(code),
            of.state.as_str(),
            of.run.map(|id| id.to_string()).unwrap_or_default(),
            of.before.as_deref().unwrap_or_default(),
            n_max,
        )
    }

    /// Letters made from `from` on that came back or have no address, are no delivery of a message and have no newer one
    /// with the same code, newest first.
    pub async fn print_items_in_vain(
        &mut self,
        code: &MunicipalityCode,
        from: Timestamp,
        n_max: i64,
    ) -> Result<Vec<PrintItem>, StoreError> {
        fetch_all!(
            self,
            PrintItem,
            select_letter!(
                "WHERE municipality_code = $1 AND created_at_us >= $2 AND state IN ('returned', 'unaddressed')
                 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.municipality_code = print_item.municipality_code
                    AND d.channel = 'paper' AND d.target = print_item.letter_no)
                 AND NOT EXISTS (SELECT 1 FROM print_item newer WHERE newer.municipality_code = print_item.municipality_code
                    AND newer.qr_token = print_item.qr_token AND newer.letter_no > print_item.letter_no)
                 ORDER BY letter_no DESC LIMIT $3"
            ),
            self.wall.inside(code),
            from.as_micros(),
            n_max,
        )
    }

    /// The letters of a run, in the order of their numbers.
    pub async fn print_items_of_run(
        &mut self,
        code: &MunicipalityCode,
        run: PrintRunId,
    ) -> Result<Vec<PrintItem>, StoreError> {
        fetch_all!(
            self,
            PrintItem,
            select_letter!("WHERE municipality_code = $1 AND print_run_id = $2 ORDER BY letter_no"),
            self.wall.inside(code),
            run.to_string(),
        )
    }

    /// How many letters wait for a run.
    pub async fn waiting_print_items(&mut self, code: &MunicipalityCode) -> Result<i64, StoreError> {
        let (n,): (i64,) = fetch_one!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM print_item WHERE municipality_code = $1 AND state = 'queued' AND print_run_id IS NULL",
            self.wall.inside(code),
        )?;
        Ok(n)
    }
}
