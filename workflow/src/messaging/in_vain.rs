//! Letters that reached nobody and are no delivery of a message: their households are not registered, so that all that is
//! known of them is the register.

use todoke_domain::{MunicipalityCode, Timestamp, role::Permission, time::add_days};
use todoke_store::{Tx, print_item::PrintItem};

use super::trace::UNREACHED_DAYS;
use crate::{Actor, Workflow, WorkflowError, audit::Access, work::Subject};

/// A letter that reached nobody, and what can be done.
#[derive(Debug)]
pub struct LetterInVain {
    /// The letter.
    pub letter: PrintItem,
    /// What to do next, the best first: `address` or `resend`.
    pub next: Vec<&'static str>,
}

/// Where a letter can be sent.
#[derive(Debug)]
struct Place {
    postal_code: String,
    address: String,
}

impl Workflow {
    /// Letters that came back or have no address and belong to no message, newest first; of those with the same code the
    /// newest only, and not if that one is on its way.
    pub async fn letters_in_vain(
        &self,
        actor: &Actor,
        n_max: i64,
        now: Timestamp,
    ) -> Result<Vec<LetterInVain>, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let code = &actor.municipality_code;
        let mut tx = self.read(actor).await?;
        let from = Timestamp::jst_midnight(add_days(now.jst_date(), -UNREACHED_DAYS));
        let mut found = Vec::new();
        for letter in tx.print_items_in_vain(code, from, n_max).await? {
            let next = match place_of(&mut tx, code, &letter).await? {
                // Somebody has put it right already.
                Some(place) if place.address != letter.address => vec!["resend"],
                Some(_) => vec!["address", "resend"],
                None => vec!["address"],
            };
            found.push(LetterInVain { letter, next });
        }
        Ok(found)
    }

    /// Sends a letter of no message again, to where the register has its child now. Gives the new letter's number.
    ///
    /// Errors: [`WorkflowError::Conflict`] for one that is on its way, was sent again, is a message's, or that nobody knows
    /// an address for.
    pub async fn resend_letter(&self, actor: &Actor, letter_no: &str, now: Timestamp) -> Result<String, WorkflowError> {
        actor.require(Permission::PublishNotices)?;
        let code = actor.municipality_code.clone();
        let mut work = self.begin(actor, now).await?;
        let letter = work.tx.print_item(&code, letter_no).await?.ok_or(WorkflowError::NotFound("letter"))?;
        if work.tx.delivery_of_letter(&code, letter_no).await?.is_some() {
            return Err(WorkflowError::Conflict("お知らせの配信から再送してください。".to_owned()));
        }
        if !matches!(letter.state.as_str(), "returned" | "unaddressed") {
            return Err(WorkflowError::Conflict("この通知書は再送できません。".to_owned()));
        }
        let Some(place) = place_of(&mut work.tx, &code, &letter).await? else {
            let words = "宛先の住所が分かりません。異動情報等データで住所を取り込んでから、もう一度送ってください。";
            return Err(WorkflowError::Conflict(words.to_owned()));
        };
        // Of two who send it again, one finds it replaced.
        if !work.tx.mark_print_item(&code, letter_no, &letter.state, "replaced").await? {
            return Err(WorkflowError::Conflict("すでに再送されています。".to_owned()));
        }
        let again = PrintItem {
            postal_code: place.postal_code,
            address: place.address,
            print_run_id: None,
            created_at: now,
            ..letter
        };
        let again = work.enqueue(&code, again).await?;
        work.audit(Access::Resend, Subject::new("letter", &code), 1);
        work.commit().await?;
        Ok(again.letter_no)
    }
}

/// Where the child lives whose code is on a letter; `None` where the code is void, the child is gone or nobody knows.
async fn place_of(tx: &mut Tx, code: &MunicipalityCode, letter: &PrintItem) -> Result<Option<Place>, WorkflowError> {
    let Some(token) = letter.qr_token.as_deref() else { return Ok(None) };
    let Some(qr) = tx.child_qr(code, token).await? else { return Ok(None) };
    let place = match (qr.resident_no, qr.child_id) {
        (Some(resident_no), _) => {
            let resident = tx.resident(code, &resident_no).await?.filter(|resident| !resident.is_gone());
            resident.map(|resident| Place { postal_code: resident.postal_code, address: resident.address })
        }
        (None, Some(child)) => match tx.child(child).await? {
            Some(child) => {
                let guardian = tx.guardian(child.guardian_id).await?;
                guardian.map(|guardian| Place { postal_code: guardian.postal_code, address: guardian.address })
            }
            None => None,
        },
        (None, None) => None,
    };
    Ok(place.filter(|place| !place.address.trim().is_empty()))
}
