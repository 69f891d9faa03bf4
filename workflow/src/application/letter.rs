//! Letters for people who are reached on paper (flows Part L): a row of the print queue instead of a push.

use todoke_domain::{number::NumberKind, qr::QrToken};
use todoke_store::{application::Application, guardian::Guardian, print_item::PrintItem};

use crate::{Work, WorkflowError};

/// What a letter says.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    /// Kind in the print queue.
    pub(crate) kind: &'a str,
    /// Heading.
    pub(crate) title: &'a str,
    /// Text.
    pub(crate) body: String,
    /// Code to print on it.
    pub(crate) qr: Option<QrToken>,
}

impl Work<'_> {
    /// Queues a letter to a household that is reached on paper, alone or as well; to others none.
    pub(crate) async fn letter_to(&mut self, guardian: Guardian, letter: Letter<'_>) -> Result<(), WorkflowError> {
        if guardian.contact_channel == "app" {
            return Ok(());
        }
        let code = self.actor.municipality_code.clone();
        let item = PrintItem {
            letter_no: self.tx.next_number(&code, NumberKind::Letter, self.now).await?,
            letter_kind: letter.kind.to_owned(),
            recipient_name: guardian.name,
            postal_code: guardian.postal_code,
            address: guardian.address,
            title: letter.title.to_owned(),
            body: letter.body,
            qr_token: letter.qr.map(|token| token.to_string()),
            created_at: self.now,
        };
        Ok(self.tx.insert_print_item(&code, &item).await?)
    }

    /// Queues the letter of one step of an application.
    pub(super) async fn letter_for_paper(
        &mut self,
        application: &Application,
        letter_kind: &str,
        text: &str,
    ) -> Result<(), WorkflowError> {
        let mut guardian =
            self.tx.guardian(application.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        // How the applicant wanted to be told stands in the application, whatever the household chose since.
        guardian.contact_channel.clone_from(&application.contact_channel);
        let contact = self.contact().await?;
        let (title, sentence) = match letter_kind {
            "deficiency" => ("書類不備のお知らせ", format!("次の不備がありました。{text}")),
            "rejection" => ("クーポン受給不承認通知書", format!("申請は承認されませんでした。理由：{text}")),
            _ => ("クーポン配付のおしらせ", format!("申請を承認し、「{text}」を配付しました。")),
        };
        let body = format!("受付番号 {}\n{sentence}\nお問い合わせ先：{contact}", application.application_no);
        self.letter_to(guardian, Letter { kind: letter_kind, title, body, qr: None }).await
    }
}
