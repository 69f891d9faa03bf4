//! Uploaded documents (N-SEC-15): type found in the bytes, size limited, seen by owner and examiner only.

use todoke_domain::{Timestamp, ids::DocumentId, role::Permission};
use todoke_store::document::Document;

use crate::{Actor, FieldError, Workflow, WorkflowError};

/// Largest document, bytes.
pub(super) const BYTES_MAX: usize = 8 * 1024 * 1024;

/// A document as uploaded.
#[derive(Debug)]
pub struct NewDocument<'a> {
    /// `guardian_identity`, `child_identity` or `other`.
    pub kind: &'a str,
    /// The bytes.
    pub content: &'a [u8],
}

/// Media type by the first bytes; what a client says about it does not count.
fn sniff(content: &[u8]) -> Option<&'static str> {
    match content {
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some("image/png"),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some("application/pdf"),
        _ => None,
    }
}

impl Workflow {
    /// Keeps a document; it is deleted after a day unless an application takes it.
    pub async fn upload_document(
        &self,
        actor: &Actor,
        document: &NewDocument<'_>,
        now: Timestamp,
    ) -> Result<DocumentId, WorkflowError> {
        let account = actor.account()?;
        if actor.household().is_err() {
            actor.require(Permission::ReviewApplications)?;
        }
        let invalid = |field: &str, detail: &str| WorkflowError::Invalid(vec![FieldError::new(field, detail)]);
        if !matches!(document.kind, "guardian_identity" | "child_identity" | "other") {
            return Err(invalid("kind", "書類の種類を選んでください。"));
        }
        if document.content.len() > BYTES_MAX {
            return Err(invalid("content", "8MB以下のファイルを選んでください。"));
        }
        let content_type = sniff(document.content)
            .ok_or_else(|| invalid("content", "JPEG、PNG、PDFのいずれかのファイルを選んでください。"))?;
        let mut work = self.begin(actor, now).await?;
        let row = Document {
            document_id: DocumentId::new(now),
            municipality_code: actor.municipality_code.clone(),
            account_id: account,
            application_id: None,
            kind: document.kind.to_owned(),
            content_type: content_type.to_owned(),
        };
        work.tx.insert_document(&row, document.content, now).await?;
        work.commit().await?;
        Ok(row.document_id)
    }

    /// A document with its bytes, for its owner and for those who examine applications.
    pub async fn document(&self, actor: &Actor, id: DocumentId) -> Result<(Document, Vec<u8>), WorkflowError> {
        let mut tx = self.read(actor).await?;
        let row = tx.document(id).await?.ok_or(WorkflowError::NotFound("document"))?;
        if actor.account_id != Some(row.account_id) && actor.require(Permission::ReviewApplications).is_err() {
            return Err(WorkflowError::NotFound("document"));
        }
        let content = tx.document_content(id).await?.ok_or(WorkflowError::NotFound("document"))?;
        Ok((row, content))
    }
}
