//! Uploaded images and PDFs.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    ids::{AccountId, ApplicationId, DocumentId},
};

use crate::{StoreError, Tx, column::OptionalText};

/// A document without its bytes.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Document {
    /// Id.
    #[sqlx(try_from = "String")]
    pub document_id: DocumentId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Who uploaded it.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// The application it belongs to.
    #[sqlx(try_from = "OptionalText")]
    pub application_id: Option<ApplicationId>,
    /// `guardian_identity`, `child_identity` or `other`.
    pub kind: String,
    /// Media type, as found in the bytes.
    pub content_type: String,
}

impl Tx {
    /// Adds a document.
    pub async fn insert_document(&mut self, row: &Document, content: &[u8], now: Timestamp) -> Result<(), StoreError> {
        execute!(
            self,
            "INSERT INTO document (document_id, municipality_code, account_id, kind, content_type, content, created_at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            row.document_id.to_string(), row.municipality_code.as_str(), row.account_id.to_string(), &row.kind,
            &row.content_type, content, now.as_micros(),
        )?;
        Ok(())
    }

    /// One document without its bytes.
    pub async fn document(&mut self, id: DocumentId) -> Result<Option<Document>, StoreError> {
        let row = fetch_optional!(
            self,
            Document,
            "SELECT document_id, municipality_code, account_id, application_id, kind, content_type FROM document WHERE document_id = $1",
            id.to_string(),
        )?;
        Ok(self.see(row))
    }

    /// A document's bytes.
    pub async fn document_content(&mut self, id: DocumentId) -> Result<Option<Vec<u8>>, StoreError> {
        let row: Option<(Vec<u8>,)> = fetch_optional!(
            self,
            (Vec<u8>,),
            "SELECT content FROM document WHERE document_id = $1 AND ($2 = '' OR municipality_code = $2)",
            id.to_string(),
            self.wall.code()
        )?;
        Ok(row.map(|(content,)| content))
    }

    /// Attaches an own, still free document to an application; `false` when it is not such a one.
    pub async fn attach_document(
        &mut self,
        id: DocumentId,
        owner: AccountId,
        application: ApplicationId,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE document SET application_id = $3 WHERE document_id = $1 AND account_id = $2 AND application_id IS NULL",
            id.to_string(),
            owner.to_string(),
            application.to_string(),
        )?;
        Ok(n > 0)
    }

    /// Documents of an application, in order of upload.
    pub async fn documents_of(&mut self, application: ApplicationId) -> Result<Vec<Document>, StoreError> {
        let rows = fetch_all!(
            self,
            Document,
            "SELECT document_id, municipality_code, account_id, application_id, kind, content_type FROM document WHERE application_id = $1 ORDER BY document_id",
            application.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Deletes documents that were never attached to anything.
    pub async fn prune_documents(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        execute!(self, "DELETE FROM document WHERE application_id IS NULL AND created_at_us < $1", before.as_micros())
    }
}
