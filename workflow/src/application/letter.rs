//! Letters for people who are reached on paper (flows Part L): a row of the print queue instead of a push.

use todoke_domain::{ids::EventId, qr::QrToken};
use todoke_store::{application::Application, guardian::Guardian};

use crate::{Work, WorkflowError, messaging::NewLetter};

/// What a letter says.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Row of the catalogue that it is the letter of.
    pub(crate) message_type: &'static str,
    /// Heading.
    pub(crate) title: &'static str,
    /// Text.
    pub(crate) body: String,
    /// Code to print on it.
    pub(crate) qr: Option<QrToken>,
}

impl Work<'_> {
    /// Queues a letter to a household that is reached on paper, alone or as well; to others none. Call it after `cause`
    /// has raised its messages: the letter is a delivery of the household's.
    pub(crate) async fn letter_to(
        &mut self,
        guardian: Guardian,
        letter: Letter,
        cause: Option<EventId>,
    ) -> Result<(), WorkflowError> {
        if guardian.contact_channel == "app" {
            return Ok(());
        }
        let household = guardian.guardian_id;
        let letter = NewLetter {
            message_type: letter.message_type,
            recipient_name: guardian.name,
            postal_code: guardian.postal_code,
            address: guardian.address,
            title: letter.title.to_owned(),
            body: letter.body,
            qr_token: letter.qr.map(|token| token.to_string()),
        };
        self.own_letter(letter, Some(household), cause).await
    }

    /// Queues the letter of one step of an application.
    pub(super) async fn letter_for_paper(
        &mut self,
        application: &Application,
        step: PaperStep<'_>,
        cause: Option<EventId>,
    ) -> Result<(), WorkflowError> {
        let guardian = self.tx.guardian(application.guardian_id).await?.ok_or(WorkflowError::NotFound("guardian"))?;
        let contact = self.contact().await?;
        let (message_type, title, sentence) = match step {
            PaperStep::Deficient(items) => (
                "application.coupon.deficient",
                "書類不備のお知らせ",
                format!("次の不備がありました。{items}\n不備を直し、下記へもう一度ご提出ください。"),
            ),
            PaperStep::Rejected(reason) => (
                "application.coupon.rejected",
                "クーポン受給不承認通知書",
                format!("申請は承認されませんでした。理由：{reason}"),
            ),
        };
        let body = format!("受付番号 {}\n{sentence}\nお問い合わせ先：{contact}", application.application_no);
        self.letter_to(guardian, Letter { message_type, title, body, qr: None }, cause).await
    }
}

/// A step of an application that a letter tells of, with what it says.
#[derive(Debug, Clone, Copy)]
pub(super) enum PaperStep<'a> {
    /// What is missing.
    Deficient(&'a str),
    /// Why it was not approved.
    Rejected(&'a str),
}
