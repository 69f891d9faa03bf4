//! The print queue as the operator works it off: runs, their files, and what became of the letters.

use todoke_domain::{Timestamp, delivery::DeliveryStep, ids::PrintRunId, parameter, role::Permission};
use todoke_store::{
    print_item::{LettersOf, PrintItem},
    print_run::{NewPrintRun, PrintRun},
};

use super::receipt::look_at_failure;
use crate::{Actor, FieldError, Work, Workflow, WorkflowError, audit::Access, csv_file, work::Subject};

/// Most letters of one run: what a printer and a person get done in a day, and one PDF holds.
pub const RUN_LETTERS_MAX: i64 = 10_000;

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterStep {
    /// It was printed.
    Printed,
    /// It was posted.
    Posted,
    /// It came back.
    Returned,
}

impl LetterStep {
    /// The state before and after, and the step of the delivery.
    const fn states(self) -> (&'static str, &'static str, DeliveryStep) {
        match self {
            Self::Printed => ("queued", "printed", DeliveryStep::Print),
            Self::Posted => ("printed", "posted", DeliveryStep::Post),
            Self::Returned => ("posted", "returned", DeliveryStep::Return),
        }
    }
}

impl Workflow {
    /// Letters of the municipality, newest first.
    pub async fn print_queue(
        &self,
        actor: &Actor,
        of: &LettersOf,
        n_max: i64,
    ) -> Result<Vec<PrintItem>, WorkflowError> {
        actor.require(Permission::ImportData)?;
        let mut tx = self.read(actor).await?;
        Ok(tx.print_items(&actor.municipality_code, of, n_max).await?)
    }

    /// Runs of the municipality, newest first, and how many letters wait for the next one.
    pub async fn print_runs(
        &self,
        actor: &Actor,
        before: Option<PrintRunId>,
        n_max: i64,
    ) -> Result<(Vec<PrintRun>, i64), WorkflowError> {
        actor.require(Permission::ImportData)?;
        let code = &actor.municipality_code;
        let mut tx = self.read(actor).await?;
        let runs = tx.print_runs(code, before, n_max).await?;
        let waiting = tx.waiting_print_items(code).await?;
        Ok((runs, waiting))
    }

    /// Takes the oldest letters that wait, at most `n_max`, into a run of their own, with the sender as it is now.
    pub async fn make_print_run(&self, actor: &Actor, n_max: i64, now: Timestamp) -> Result<PrintRun, WorkflowError> {
        actor.require(Permission::ImportData)?;
        if !(1..=RUN_LETTERS_MAX).contains(&n_max) {
            return Err(WorkflowError::Invalid(vec![FieldError::new(
                "limit",
                "通数は1から10000までで指定してください。",
            )]));
        }
        let code = actor.municipality_code.clone();
        let mut work = self.begin_long(actor, now).await?;
        let municipality = work.tx.municipality(&code).await?.ok_or(WorkflowError::NotFound("municipality"))?;
        let run = NewPrintRun {
            print_run_id: PrintRunId::new(now),
            made_by: actor.account_id,
            sender_name: municipality.name,
            sender_contact: work.tx.parameter(&code, parameter::CONTACT, now.jst_date()).await?,
            created_at: now,
        };
        let n_letters = work.tx.make_print_run(&code, &run, n_max).await?;
        if n_letters == 0 {
            return Err(WorkflowError::Conflict("印刷待ちの通知書はありません。".to_owned()));
        }
        let rows = usize::try_from(n_letters).unwrap_or(usize::MAX);
        work.audit(Access::Print, Subject::new("print_run", run.print_run_id), rows);
        let made = work.tx.print_run(&code, run.print_run_id).await?;
        work.commit().await?;
        made.ok_or(WorkflowError::Internal("a run that was made is not there"))
    }

    /// A run with its letters, in the order of their numbers.
    pub async fn print_run(&self, actor: &Actor, id: PrintRunId) -> Result<(PrintRun, Vec<PrintItem>), WorkflowError> {
        actor.require(Permission::ImportData)?;
        let code = &actor.municipality_code;
        let mut tx = self.read(actor).await?;
        let run = tx.print_run(code, id).await?.ok_or(WorkflowError::NotFound("print_run"))?;
        let letters = tx.print_items_of_run(code, id).await?;
        Ok((run, letters))
    }

    /// Notes which letters of a run have a character that the font lacks, as printing it has shown.
    pub async fn note_incomplete_letters(
        &self,
        actor: &Actor,
        id: PrintRunId,
        letter_nos: &[String],
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        actor.require(Permission::ImportData)?;
        let mut work = self.begin_long(actor, now).await?;
        work.tx.mark_incomplete_letters(&actor.municipality_code, id, letter_nos).await?;
        work.commit().await?;
        Ok(())
    }

    /// A run as a file for the printer (O09), with the text of each letter and of its code; and how many letters it
    /// holds.
    pub async fn print_run_csv(&self, actor: &Actor, id: PrintRunId) -> Result<(String, usize), WorkflowError> {
        let (_, letters) = self.print_run(actor, id).await?;
        let header =
            ["letter_no", "letter_kind", "recipient_name", "postal_code", "address", "title", "body", "child_qr"];
        let n_letters = letters.len();
        let file = csv_file::encode(
            &header,
            letters.into_iter().map(|letter| {
                vec![
                    letter.letter_no,
                    letter.letter_kind,
                    letter.recipient_name,
                    letter.postal_code,
                    letter.address,
                    letter.title,
                    letter.body,
                    letter.qr_token.unwrap_or_default(),
                ]
            }),
        );
        Ok((file, n_letters))
    }

    /// Marks letters; one that is not in the state before is left out. Gives how many were marked.
    pub async fn mark_letters(
        &self,
        actor: &Actor,
        letter_nos: &[String],
        step: LetterStep,
        now: Timestamp,
    ) -> Result<usize, WorkflowError> {
        actor.require(Permission::ImportData)?;
        let mut work = self.begin_long(actor, now).await?;
        let marked = work.mark_each(letter_nos, step).await?;
        work.audit_marks(Subject::new("letter", &actor.municipality_code), marked);
        work.commit().await?;
        Ok(marked)
    }

    /// Marks the letters of a run; one that is not in the state before is left out. Gives how many were marked.
    pub async fn mark_print_run(
        &self,
        actor: &Actor,
        id: PrintRunId,
        step: LetterStep,
        now: Timestamp,
    ) -> Result<usize, WorkflowError> {
        actor.require(Permission::ImportData)?;
        let code = &actor.municipality_code;
        let mut work = self.begin_long(actor, now).await?;
        work.tx.print_run(code, id).await?.ok_or(WorkflowError::NotFound("print_run"))?;
        let letters = work.tx.print_items_of_run(code, id).await?;
        let letter_nos: Vec<String> = letters.into_iter().map(|letter| letter.letter_no).collect();
        let marked = work.mark_each(&letter_nos, step).await?;
        work.audit_marks(Subject::new("print_run", id), marked);
        work.commit().await?;
        Ok(marked)
    }
}

impl Work<'_> {
    async fn mark_each(&mut self, letter_nos: &[String], step: LetterStep) -> Result<usize, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let (before, after, delivery_step) = step.states();
        let mut marked = 0;
        for letter_no in letter_nos {
            if !self.tx.mark_print_item(&code, letter_no, before, after).await? {
                continue;
            }
            marked += 1;
            let Some(id) = self.tx.delivery_of_letter(&code, letter_no).await? else { continue };
            let Some(row) = self.tx.delivery(id).await? else { continue };
            let stepped = self.step_delivery(&row, delivery_step, None).await?.is_some();
            if stepped && step == LetterStep::Returned {
                self.tx.insert_escalations(&[look_at_failure(&row, self.now)]).await?;
            }
        }
        Ok(marked)
    }

    fn audit_marks(&mut self, object: Subject, marked: usize) {
        if marked > 0 {
            self.audit(Access::MarkLetters, object, marked);
        }
    }
}
