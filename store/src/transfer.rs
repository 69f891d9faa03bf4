//! What the bank is asked to pay: files with a line for each account.

use todoke_domain::{MunicipalityCode, Timestamp, Yen, ids::TransferFileId};

use crate::{StoreError, Tx};

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TransferFile {
    /// Id.
    #[sqlx(try_from = "String")]
    pub transfer_file_id: TransferFileId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Claims in it.
    pub n_claims: i64,
    /// Sum of its lines.
    #[sqlx(try_from = "i64")]
    pub amount_yen: Yen,
    /// When.
    #[sqlx(rename = "requested_at_us", try_from = "i64")]
    pub requested_at: Timestamp,
}

/// A line: one account as it was when the file was made.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TransferLine {
    /// From 1.
    pub line_no: i64,
    /// Numbers of the claims it pays, with spaces between.
    pub claim_nos: String,
    /// Four digits.
    pub bank_code: String,
    /// Three digits.
    pub branch_code: String,
    /// Code of the kind of account.
    pub account_type: String,
    /// Seven digits.
    pub account_no: String,
    /// Holder.
    pub holder_kana: String,
    /// How much.
    #[sqlx(try_from = "i64")]
    pub amount_yen: Yen,
}

impl Tx {
    /// Adds a file with its lines.
    pub async fn insert_transfer_file(&mut self, row: &TransferFile, lines: &[TransferLine]) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO transfer_file (transfer_file_id, municipality_code, n_claims, amount_yen, requested_at_us)
             VALUES ($1, $2, $3, $4, $5)",
            row.transfer_file_id.to_string(),
            row.municipality_code.as_str(),
            row.n_claims,
            row.amount_yen.get(),
            row.requested_at.as_micros(),
        )?;
        let file = row.transfer_file_id.to_string();
        insert_many!(
            self,
            "INSERT INTO transfer_line (transfer_file_id, line_no, claim_nos, bank_code, branch_code, account_type, account_no,
                holder_kana, amount_yen) ",
            lines,
            "",
            |line| file.clone(),
            line.line_no,
            line.claim_nos.clone(),
            line.bank_code.clone(),
            line.branch_code.clone(),
            line.account_type.clone(),
            line.account_no.clone(),
            line.holder_kana.clone(),
            line.amount_yen.get(),
        )?;
        Ok(())
    }

    /// One file.
    pub async fn transfer_file(&mut self, id: TransferFileId) -> Result<Option<TransferFile>, StoreError> {
        let row = fetch_optional!(
            self,
            TransferFile,
            "SELECT transfer_file_id, municipality_code, n_claims, amount_yen, requested_at_us FROM transfer_file
             WHERE transfer_file_id = $1",
            id.to_string(),
        )?;
        Ok(self.see(row))
    }

    /// Files of a municipality, newest first.
    pub async fn transfer_files(
        &mut self,
        code: &MunicipalityCode,
        n_max: i64,
    ) -> Result<Vec<TransferFile>, StoreError> {
        let rows = fetch_all!(
            self,
            TransferFile,
            "SELECT transfer_file_id, municipality_code, n_claims, amount_yen, requested_at_us FROM transfer_file
             WHERE municipality_code = $1 ORDER BY requested_at_us DESC, transfer_file_id DESC LIMIT $2",
            code.as_str(),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }

    /// Lines of a file.
    pub async fn transfer_lines(&mut self, id: TransferFileId) -> Result<Vec<TransferLine>, StoreError> {
        fetch_all!(
            self,
            TransferLine,
            "SELECT l.line_no, l.claim_nos, l.bank_code, l.branch_code, l.account_type, l.account_no, l.holder_kana, l.amount_yen
             FROM transfer_line l JOIN transfer_file f ON f.transfer_file_id = l.transfer_file_id
             WHERE l.transfer_file_id = $1 AND ($2 = '' OR f.municipality_code = $2) ORDER BY l.line_no",
            id.to_string(),
            self.wall.code(),
        )
    }
}
