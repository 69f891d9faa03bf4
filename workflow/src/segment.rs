//! Saved segments, and a look at whom a definition selects before anything is sent.

use serde::Serialize;
use todoke_domain::{
    Timestamp, broadcast::BroadcastKind, ids::SegmentId, role::Permission, segment::Segment, text, time::age_months,
};
use todoke_store::{Tx, segment::SavedSegment};

use crate::{Actor, FieldError, Workflow, WorkflowError, audit::Access, error::Fields, work::Subject};

pub use todoke_domain::segment::Draft as SegmentDraft;

/// Households shown of a preview (messages.md §11).
const SAMPLE_MAX: i64 = 10;

/// Checks a definition, the surveys it names included; what is wrong with it goes to `fields`.
pub(crate) async fn check_segment(
    draft: SegmentDraft,
    tx: &mut Tx,
    fields: &mut Fields,
) -> Result<Option<Segment>, WorkflowError> {
    match Segment::parse(draft.people, draft.when) {
        Ok(segment) => {
            for id in segment.when().surveys() {
                let known = tx.survey(id).await?;
                // An anonymous survey does not know who has answered.
                if known.is_none_or(|survey| survey.anonymous) {
                    fields.refuse("when", "記名のアンケートを選んでください。");
                }
            }
            Ok(Some(segment))
        }
        Err(errors) => {
            for error in errors {
                fields.refuse(error.field, error.detail);
            }
            Ok(None)
        }
    }
}

/// A saved segment as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentView {
    /// Id.
    pub segment_id: SegmentId,
    /// Name.
    pub name: String,
    /// The definition.
    #[serde(flatten)]
    pub segment: Segment,
    /// When it was last changed.
    pub changed_at: Timestamp,
}

impl SegmentView {
    fn of(row: &SavedSegment) -> Result<Self, WorkflowError> {
        Ok(Self {
            segment_id: row.segment_id,
            name: row.name.clone(),
            segment: row.segment()?,
            changed_at: row.changed_at,
        })
    }
}

/// Whom a definition selects now.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentPreview {
    /// People, each with an inbox.
    pub count: i64,
    /// Who of them would get a broadcast of the kind by push.
    pub push: i64,
    /// Who of them would get it by mail.
    pub email: i64,
    /// Whether the definition leaves nobody out.
    pub everybody: bool,
    /// Some of them, without names.
    pub sample: Vec<SampleView>,
}

/// A person of a preview, without anything that names them.
#[derive(Debug, Clone, Serialize)]
pub struct SampleView {
    /// Number with its last digits hidden.
    pub no: String,
    /// `guardian` or `proxy_guardian`.
    pub role: &'static str,
    /// Ward of the household.
    pub ward_code: String,
    /// Ages of the children in months, oldest first.
    pub child_age_months: Vec<i16>,
}

impl Workflow {
    /// Counts whom a definition selects, by the ways a broadcast of a kind goes, and shows some of them, masked.
    pub async fn preview_segment(
        &self,
        actor: &Actor,
        draft: SegmentDraft,
        kind: BroadcastKind,
        now: Timestamp,
    ) -> Result<SegmentPreview, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut tx = self.read(actor).await?;
        let mut fields = Fields::default();
        let segment = check_segment(draft, &mut tx, &mut fields).await?;
        fields.finish()?;
        let segment = segment.ok_or(WorkflowError::Internal("an unchecked segment"))?;
        let code = &actor.municipality_code;
        let reach = tx.reach_of_members(code, &segment, now).await?;
        let (push, email) = match kind {
            BroadcastKind::Segment => (reach.n_push, reach.n_email),
            BroadcastKind::Event => (reach.n_push, 0),
            // Nobody can switch it off.
            BroadcastKind::Emergency => (reach.n_device, reach.n_address),
        };
        let mut sample = Vec::new();
        for row in tx.sample_members(code, &segment, SAMPLE_MAX, now).await? {
            let births = tx.birth_dates_of(row.guardian_id, now.jst_date()).await?;
            sample.push(SampleView {
                no: masked(&row.guardian_no),
                role: row.role.as_str(),
                ward_code: row.ward_code,
                child_age_months: births.into_iter().map(|birth| age_months(birth, now.jst_date())).collect(),
            });
        }
        Ok(SegmentPreview { count: reach.n, push, email, everybody: segment.is_everybody(), sample })
    }

    /// Saves a definition by name.
    ///
    /// Errors: [`WorkflowError::Invalid`] when the name is taken.
    pub async fn create_segment(
        &self,
        actor: &Actor,
        name: &str,
        draft: SegmentDraft,
        now: Timestamp,
    ) -> Result<SegmentView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin(actor, now).await?;
        let (name, segment) = checked(&mut work.tx, name, draft).await?;
        let row = SavedSegment {
            segment_id: SegmentId::new(now),
            municipality_code: actor.municipality_code.clone(),
            name,
            definition: definition(&segment)?,
            author_id: actor.account_id,
            created_at: now,
            changed_at: now,
        };
        work.tx.insert_segment(&row).await.map_err(name_taken)?;
        work.audit(Access::SaveSegment, Subject::new("segment", row.segment_id), 1);
        work.commit().await?;
        SegmentView::of(&row)
    }

    /// Changes a saved segment. What was made from it before keeps the old definition.
    pub async fn update_segment(
        &self,
        actor: &Actor,
        id: SegmentId,
        name: &str,
        draft: SegmentDraft,
        now: Timestamp,
    ) -> Result<SegmentView, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin(actor, now).await?;
        let mut row = work.tx.segment(id).await?.ok_or(WorkflowError::NotFound("segment"))?;
        let (name, segment) = checked(&mut work.tx, name, draft).await?;
        row.name = name;
        row.definition = definition(&segment)?;
        row.changed_at = now;
        work.tx.update_segment(&row).await.map_err(name_taken)?;
        work.audit(Access::SaveSegment, Subject::new("segment", row.segment_id), 1);
        work.commit().await?;
        SegmentView::of(&row)
    }

    /// Deletes a saved segment. What was made from it stays.
    pub async fn delete_segment(&self, actor: &Actor, id: SegmentId, now: Timestamp) -> Result<(), WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let mut work = self.begin(actor, now).await?;
        if !work.tx.delete_segment(id).await? {
            return Err(WorkflowError::NotFound("segment"));
        }
        work.audit(Access::DeleteSegment, Subject::new("segment", id), 1);
        work.commit().await?;
        Ok(())
    }

    /// Every saved segment, by name.
    pub async fn segments(&self, actor: &Actor) -> Result<Vec<SegmentView>, WorkflowError> {
        actor.require(Permission::SendBroadcasts)?;
        let rows = self.read(actor).await?.segments(&actor.municipality_code).await?;
        rows.iter().map(SegmentView::of).collect()
    }
}

async fn checked(tx: &mut Tx, name: &str, draft: SegmentDraft) -> Result<(String, Segment), WorkflowError> {
    let mut fields = Fields::default();
    let name = fields.take("name", text::line(name, 60));
    let segment = check_segment(draft, tx, &mut fields).await?;
    fields.finish()?;
    name.zip(segment).ok_or(WorkflowError::Internal("an unchecked segment"))
}

fn name_taken(error: todoke_store::StoreError) -> WorkflowError {
    match error {
        todoke_store::StoreError::Conflict { .. } => {
            WorkflowError::Invalid(vec![FieldError::new("name", "同じ名前のセグメントがあります。")])
        }
        other => other.into(),
    }
}

/// A definition as the record keeps it.
pub(crate) fn definition(segment: &Segment) -> Result<String, WorkflowError> {
    serde_json::to_string(segment).map_err(|_| WorkflowError::Internal("a segment that cannot be written"))
}

/// The number without its last four digits.
fn masked(no: &str) -> String {
    let shown = no.chars().count().saturating_sub(4);
    no.chars().take(shown).chain("****".chars()).collect()
}
