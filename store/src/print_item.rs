//! The print queue: letters to people without the app (O09).

use todoke_domain::{MunicipalityCode, Timestamp, ids::DeliveryId};

use crate::{StoreError, Tx};

/// A letter waiting to be printed, or printed.
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
    /// When it was queued.
    #[sqlx(rename = "created_at_us", try_from = "i64")]
    pub created_at: Timestamp,
}

impl Tx {
    /// Queues a letter.
    pub async fn insert_print_item(&mut self, code: &MunicipalityCode, row: &PrintItem) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO print_item (letter_no, municipality_code, letter_kind, recipient_name, postal_code, address, title, body,
                qr_token, state, created_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'queued', $10)",
            &row.letter_no, code.as_str(), &row.letter_kind, &row.recipient_name, &row.postal_code, &row.address,
            &row.title, &row.body, row.qr_token.as_deref(), row.created_at.as_micros(),
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

    /// The delivery that a letter is, when a message was sent by it.
    pub async fn delivery_of_letter(
        &mut self,
        code: &MunicipalityCode,
        letter_no: &str,
    ) -> Result<Option<DeliveryId>, StoreError> {
        let row: Option<(String,)> = fetch_optional!(
            self,
            (String,),
            "SELECT delivery_id FROM delivery WHERE municipality_code = $1 AND channel = 'paper' AND target = $2",
            self.wall.inside(code),
            letter_no,
        )?;
        row.map(|(id,)| id.parse().map_err(|_| StoreError::Corrupt { what: "delivery id" })).transpose()
    }

    /// Letters of a municipality, newest first.
    pub async fn print_items(&mut self, code: &MunicipalityCode, n_max: i64) -> Result<Vec<PrintItem>, StoreError> {
        fetch_all!(
            self, PrintItem,
            "SELECT letter_no, letter_kind, recipient_name, postal_code, address, title, body, qr_token, created_at_us FROM print_item
             WHERE municipality_code = $1 ORDER BY letter_no DESC LIMIT $2",
            self.wall.inside(code), n_max,
        )
    }
}
