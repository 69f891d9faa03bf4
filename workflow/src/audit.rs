//! Who looked at personal rows, took them away or intervened (N-SEC-19): an event of its own beside the one
//! of the change, so that R18 shows all of them alike.

use serde_json::json;
use todoke_domain::{Role, Timestamp};

use crate::{Actor, Work, Workflow, WorkflowError, work::Subject};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Shown on a screen.
    View,
    /// Taken away as a file.
    Export,
    /// Letters taken for printing.
    Print,
    /// Letters marked as printed, posted or returned.
    MarkLetters,
    /// A statement over the lake.
    Sql,
    /// A parameter set.
    SetParameter,
    /// The account a facility is paid to set.
    SetBankAccount,
    /// A balance changed by hand.
    Adjust,
    /// A use undone.
    Reverse,
    /// A decision taken back.
    Revoke,
    /// A household suspended.
    Suspend,
    /// A household let in again.
    Resume,
    /// The words of a message replaced.
    Correct,
    /// A message taken back.
    Withdraw,
    /// A delivery sent once more.
    Resend,
    /// The operator asked to do one of these.
    Request,
    /// A broadcast that had not gone out changed.
    ChangeBroadcast,
    /// A broadcast given back to its author.
    RejectBroadcast,
    /// A broadcast held.
    PauseBroadcast,
    /// A broadcast let go on.
    ResumeBroadcast,
    /// When a broadcast goes out again set.
    PlanResends,
    /// A saved segment made or changed.
    SaveSegment,
    /// A saved segment deleted.
    DeleteSegment,
    /// A machine's key made.
    IssueKey,
    /// The sources replaced that a key may send events of.
    SetKeySources,
    /// A key ended.
    RevokeKey,
    /// A node of the lake given up, with what only its log had.
    ForgetNode,
    /// A person forgotten in the lake.
    Erase,
    /// Held events let go that could not be taken.
    Discard,
}

impl Access {
    /// The code in the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Export => "export",
            Self::Print => "print",
            Self::MarkLetters => "letters_marked",
            Self::Sql => "sql",
            Self::SetParameter => "parameter_set",
            Self::SetBankAccount => "bank_account_set",
            Self::Adjust => "adjust",
            Self::Reverse => "reverse",
            Self::Revoke => "revoke",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Correct => "correct",
            Self::Withdraw => "withdraw",
            Self::Resend => "resend",
            Self::Request => "request",
            Self::ChangeBroadcast => "broadcast_changed",
            Self::RejectBroadcast => "broadcast_rejected",
            Self::PauseBroadcast => "broadcast_paused",
            Self::ResumeBroadcast => "broadcast_resumed",
            Self::PlanResends => "resends_planned",
            Self::SaveSegment => "segment_saved",
            Self::DeleteSegment => "segment_deleted",
            Self::IssueKey => "api_key_issued",
            Self::SetKeySources => "api_key_sources_set",
            Self::RevokeKey => "api_key_revoked",
            Self::ForgetNode => "node_forgotten",
            Self::Erase => "erase",
            Self::Discard => "quarantine_discarded",
        }
    }
}

impl Work<'_> {
    /// Notes an access of an office; what households do with their own data is no access.
    pub(crate) fn audit(&mut self, what: Access, object: Subject, rows: usize) {
        if self.actor.role.is_some_and(Role::is_household) {
            return;
        }
        let payload = json!({ "what": what.as_str(), "object_kind": object.kind, "rows": rows });
        self.event("access.audited", object, payload);
    }
}

impl Workflow {
    /// Notes that an office has seen or taken `rows` personal rows of one kind. It is durable before the
    /// rows are handed out, so that nobody sees them unnoticed. Nothing is noted of households, nor of no rows.
    pub async fn note_access(
        &self,
        actor: &Actor,
        what: Access,
        object_kind: &'static str,
        rows: usize,
        now: Timestamp,
    ) -> Result<(), WorkflowError> {
        if rows == 0 || actor.role.is_some_and(Role::is_household) {
            return Ok(());
        }
        let mut work = self.begin(actor, now).await?;
        work.audit(what, Subject::new(object_kind, &actor.municipality_code), rows);
        work.commit().await?;
        Ok(())
    }

    /// Notes that a node was given up, by the name of its log: events of the municipality that only it had are lost.
    pub async fn note_forgotten_node(&self, actor: &Actor, log: &str, now: Timestamp) -> Result<(), WorkflowError> {
        let mut work = self.begin(actor, now).await?;
        work.audit(Access::ForgetNode, Subject::new("node", log), 1);
        work.commit().await?;
        Ok(())
    }
}
