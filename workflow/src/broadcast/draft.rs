//! A broadcast as its author writes it.

use jiff::civil::Date;
use serde::Deserialize;
use todoke_domain::{
    Timestamp,
    broadcast::{BroadcastKind, PACE_DEFAULT, PACE_MAX, RESEND_AFTER_MIN},
    ids::SegmentId,
    segment::Segment,
    text,
};
use todoke_store::{Tx, broadcast::Broadcast, segment::SavedSegment};

use crate::{
    WorkflowError,
    error::Fields,
    segment::{SegmentDraft, check_segment, definition},
};

/// A broadcast as its author writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BroadcastDraft {
    /// Ordinary, event or emergency.
    pub kind: BroadcastKind,
    /// Heading, at most 100 characters.
    pub title: String,
    /// Text, at most 4,000 characters.
    pub body: String,
    /// Screen of the app it leads to, such as `/coupon`; empty for none.
    #[serde(default)]
    pub link: String,
    /// Day of the event; for events only.
    #[serde(default)]
    pub event_on: Option<Date>,
    /// Place of the event; for events only.
    #[serde(default)]
    pub place: String,
    /// Push as well; an emergency always is pushed.
    #[serde(default = "yes")]
    pub push: bool,
    /// Mail as well; an emergency always is mailed, an event never.
    #[serde(default)]
    pub email: bool,
    /// A saved segment; with another `segment` beside it, that one counts.
    #[serde(default)]
    pub segment_id: Option<SegmentId>,
    /// A definition of its own; without both, everybody.
    #[serde(default)]
    pub segment: Option<SegmentDraft>,
    /// When it goes out; as soon as it is released when left out.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
    /// Hand-overs to push and mail per second; 500 when left out. Not for emergencies.
    #[serde(default)]
    pub pace_per_s: Option<u32>,
    /// Minutes after which it goes again to those who have not read it: any of 15, 30 and 60.
    #[serde(default)]
    pub resend_after_min: Vec<u32>,
}

const fn yes() -> bool {
    true
}

impl BroadcastDraft {
    /// Checks it and writes it into `row`.
    pub(super) async fn write_to(self, row: &mut Broadcast, tx: &mut Tx) -> Result<(), WorkflowError> {
        let mut fields = Fields::default();
        let title = fields.take("title", text::line(&self.title, 100));
        let body = fields.take("body", text::lines(self.body.trim(), 4_000));
        if self.body.trim().is_empty() {
            fields.refuse("body", "入力してください。");
        }
        if !is_own_path(&self.link) {
            fields.refuse("link", "アプリの画面は「/」から始まる200文字以内で入力してください。");
        }
        let place = self.place.trim().to_owned();
        if self.kind == BroadcastKind::Event {
            fields.take("place", text::line(&place, 100));
            if self.event_on.is_none() {
                fields.refuse("event_on", "開催日を入力してください。");
            }
        }
        if self.email && !self.kind.may_be_mailed() {
            fields.refuse("email", "行事案内はメールでは送信できません。");
        }
        let pace = self.pace_per_s.unwrap_or(PACE_DEFAULT);
        if !(1..=PACE_MAX).contains(&pace) {
            fields.refuse("pace_per_s", "配信の速さは1から10000までです。");
        }
        let resends = resends(&self.resend_after_min, &mut fields);
        let (segment, saved) = audience(self.segment_id, self.segment, tx, &mut fields).await?;
        fields.finish()?;
        let (Some(title), Some(body), Some(segment)) = (title, body, segment) else {
            return Err(WorkflowError::Internal("an unchecked broadcast"));
        };
        row.kind = self.kind.as_str().to_owned();
        row.title = title;
        row.body = body;
        row.link = self.link;
        row.event_on = self.event_on.filter(|_| self.kind == BroadcastKind::Event);
        row.place = if self.kind == BroadcastKind::Event { place } else { String::new() };
        row.push = self.push || self.kind == BroadcastKind::Emergency;
        row.email = self.email || self.kind == BroadcastKind::Emergency;
        row.segment_id = saved.as_ref().map(|saved| saved.segment_id);
        row.segment_name = match saved {
            Some(saved) => saved.name,
            None if segment.is_everybody() => "すべての方".to_owned(),
            None => "条件に合う方".to_owned(),
        };
        row.definition = definition(&segment)?;
        row.starts_at = self.starts_at;
        row.pace_per_s = i64::from(pace);
        row.resend_after_min = plan_text(&resends);
        Ok(())
    }
}

/// The minutes of a plan, in order, each once.
pub(super) fn resends(wanted: &[u32], fields: &mut Fields) -> Vec<u32> {
    if wanted.iter().any(|minutes| !RESEND_AFTER_MIN.contains(minutes)) {
        fields.refuse("resend_after_min", "再送は15分後、30分後、60分後から選んでください。");
    }
    RESEND_AFTER_MIN.into_iter().filter(|minutes| wanted.contains(minutes)).collect()
}

/// A plan as the record keeps it.
pub(super) fn plan_text(resends: &[u32]) -> String {
    let list: Vec<String> = resends.iter().map(u32::to_string).collect();
    format!("[{}]", list.join(","))
}

/// The definition, and the saved segment it is, if it still is one.
async fn audience(
    id: Option<SegmentId>,
    draft: Option<SegmentDraft>,
    tx: &mut Tx,
    fields: &mut Fields,
) -> Result<(Option<Segment>, Option<SavedSegment>), WorkflowError> {
    let saved = match id {
        Some(id) => tx.segment(id).await?,
        None => None,
    };
    if id.is_some() && saved.is_none() {
        fields.refuse("segment_id", "セグメントが見つかりません。");
    }
    let kept = saved.as_ref().map(SavedSegment::segment).transpose()?;
    let segment = match draft {
        Some(draft) => check_segment(draft, tx, fields).await?,
        None => Some(kept.clone().unwrap_or_else(Segment::everybody)),
    };
    // What was changed on the way is no longer that segment, and must not go out under its name.
    let saved = saved.filter(|_| kept == segment);
    Ok((segment, saved))
}

/// A screen of our own, or none: a message must not lead a family elsewhere under the city's name.
fn is_own_path(link: &str) -> bool {
    let plain = link.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>'));
    link.is_empty() || (link.len() <= 200 && plain && link.starts_with('/') && !link.starts_with("//"))
}
