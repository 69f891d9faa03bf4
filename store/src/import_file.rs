//! Files that were imported, or refused, with what was said about their rows.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{AccountId, ImportId},
};

use crate::{StoreError, Tx, column::OptionalText};

/// A file.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ImportFile {
    /// Id.
    #[sqlx(try_from = "String")]
    pub import_id: ImportId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Code of the kind of file, such as `movement`.
    pub file_kind: String,
    /// Name the sender gave it.
    pub file_name: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// `completed` or `failed`.
    pub state: String,
    /// Rows without the header.
    pub n_rows: i64,
    /// Errors found; 0 when completed.
    pub n_errors: i64,
    /// The result file: row number, column, reason.
    pub result_csv: String,
    /// Who sent it; `None` for the command line.
    #[sqlx(try_from = "OptionalText")]
    pub account_id: Option<AccountId>,
    /// When.
    #[sqlx(rename = "at_us", try_from = "i64")]
    pub at: Timestamp,
}

macro_rules! select_import_file {
    ($rest:literal) => {
        concat!(
            "SELECT import_id, municipality_code, file_kind, file_name, sha256, state, n_rows, n_errors, result_csv, account_id, at_us ",
            "FROM import_file ", $rest
        )
    };
}

impl Tx {
    /// Notes a file.
    pub async fn insert_import_file(&mut self, row: &ImportFile) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO import_file (import_id, municipality_code, file_kind, file_name, sha256, state, n_rows, n_errors, result_csv, account_id, at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            row.import_id.to_string(), row.municipality_code.as_str(), &row.file_kind, &row.file_name, &row.sha256, &row.state,
            row.n_rows, row.n_errors, &row.result_csv, row.account_id.map(|id| id.to_string()), row.at.as_micros(),
        )?;
        Ok(())
    }

    /// Holds off other imports of the municipality until the end of the transaction.
    pub async fn lock_imports(&mut self, code: &MunicipalityCode) -> Result<(), StoreError> {
        execute!(self, "UPDATE municipality SET name = name WHERE municipality_code = $1", code.as_str())?;
        Ok(())
    }

    /// One file.
    pub async fn import_file(&mut self, id: ImportId) -> Result<Option<ImportFile>, StoreError> {
        let row = fetch_optional!(self, ImportFile, select_import_file!("WHERE import_id = $1"), id.to_string())?;
        Ok(self.see(row))
    }

    /// The completed import of the very same file, if there was one.
    pub async fn import_of_hash(
        &mut self,
        code: &MunicipalityCode,
        file_kind: &str,
        sha256: &str,
    ) -> Result<Option<ImportFile>, StoreError> {
        let row = fetch_optional!(
            self,
            ImportFile,
            select_import_file!(
                "WHERE municipality_code = $1 AND sha256 = $3 AND file_kind = $2 AND state = 'completed' ORDER BY at_us DESC LIMIT 1"
            ),
            code.as_str(),
            file_kind,
            sha256,
        )?;
        Ok(self.see(row))
    }

    /// Files of a municipality, newest first.
    pub async fn import_files(&mut self, code: &MunicipalityCode, n_max: i64) -> Result<Vec<ImportFile>, StoreError> {
        let rows = fetch_all!(
            self,
            ImportFile,
            select_import_file!("WHERE municipality_code = $1 ORDER BY at_us DESC, import_id DESC LIMIT $2"),
            code.as_str(),
            n_max,
        )?;
        Ok(self.see_all(rows))
    }
}
