//! Notices (お知らせ): published for a time, shown to their audience, each reader told once.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::json;
use todoke_domain::{
    Event, Role, Timestamp,
    catalogue::template::{Placeholder, Placeholders},
    ids::NoticeId,
    role::Permission,
    text,
};
use todoke_store::notice::Notice;

use crate::{Actor, Work, Workflow, WorkflowError, error::Fields, messaging::About, work::Subject};

/// Whether readers get a notice or lose it.
#[derive(Debug, Clone, Copy)]
enum Way {
    Out,
    Back,
}

/// Readers told, or whose message is taken back, in one transaction: few enough that nobody waits long for the record.
const RUN_CHUNK: i64 = 200;
/// Longest list for those who publish.
const LISTED_MAX: i64 = 500;

/// A notice as its author writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeDraft {
    /// Heading, at most 100 characters.
    pub title: String,
    /// Text, at most 4,000 characters.
    pub body: String,
    /// `all`, `guardians` or `facilities`.
    pub audience: String,
    /// First day; today when left out.
    #[serde(default)]
    pub valid_from: Option<Date>,
    /// Last day.
    pub valid_to: Date,
    /// Push as well.
    #[serde(default)]
    pub push: bool,
}

/// A notice as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct NoticeView {
    /// Id.
    pub notice_id: NoticeId,
    /// Heading.
    pub title: String,
    /// Text.
    pub body: String,
    /// `all`, `guardians` or `facilities`.
    pub audience: String,
    /// First day.
    pub valid_from: Date,
    /// Last day.
    pub valid_to: Date,
    /// Push was asked for.
    pub push: bool,
    /// When it was published.
    pub published_at: Timestamp,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn_at: Option<Timestamp>,
}

impl From<Notice> for NoticeView {
    fn from(notice: Notice) -> Self {
        Self {
            notice_id: notice.notice_id,
            title: notice.title,
            body: notice.body,
            audience: notice.audience,
            valid_from: notice.valid_from,
            valid_to: notice.valid_to,
            push: notice.push,
            published_at: notice.published_at,
            withdrawn_at: notice.withdrawn_at,
        }
    }
}

impl Workflow {
    /// Publishes a notice. From its first day on its audience sees it; [`Workflow::due_notices`] tells them.
    pub async fn publish_notice(
        &self,
        actor: &Actor,
        draft: NoticeDraft,
        now: Timestamp,
    ) -> Result<NoticeView, WorkflowError> {
        actor.require(Permission::PublishNotices)?;
        let today = now.jst_date();
        let valid_from = draft.valid_from.unwrap_or(today);
        let mut fields = Fields::default();
        let title = fields.take("title", text::line(&draft.title, 100));
        let body = fields.take("body", text::lines(draft.body.trim(), 4_000));
        if draft.body.trim().is_empty() {
            fields.refuse("body", "入力してください。");
        }
        if !matches!(draft.audience.as_str(), "all" | "guardians" | "facilities") {
            fields.refuse("audience", "対象を選んでください。");
        }
        if draft.valid_to < valid_from || draft.valid_to < today {
            fields.refuse("valid_to", "掲載の終了日は、開始日以後の、今日以後の日にしてください。");
        }
        fields.finish()?;
        let (Some(title), Some(body)) = (title, body) else {
            return Err(WorkflowError::Internal("an unchecked notice"));
        };
        let mut work = self.begin(actor, now).await?;
        let notice_id = NoticeId::new(now);
        let event = work.event(
            "notice.published",
            Subject::new("notice", notice_id),
            json!({
                "notice_id": notice_id,
                "audience": draft.audience,
                "valid_from": valid_from.to_string(),
                "valid_to": draft.valid_to.to_string(),
            }),
        );
        let notice = Notice {
            notice_id,
            municipality_code: actor.municipality_code.clone(),
            title,
            body,
            audience: draft.audience,
            valid_from,
            valid_to: draft.valid_to,
            push: draft.push,
            event_id: event.event_id,
            told_after: String::new(),
            told: false,
            published_at: now,
            withdrawn_at: None,
            taken_after: None,
        };
        work.tx.insert_notice(&notice).await?;
        work.commit().await?;
        Ok(notice.into())
    }

    /// Takes a notice back: it is no longer shown, and who has not been told yet is not told. The messages of who has
    /// been are taken back by [`Workflow::due_notices`].
    pub async fn withdraw_notice(&self, actor: &Actor, id: NoticeId, now: Timestamp) -> Result<(), WorkflowError> {
        actor.require(Permission::PublishNotices)?;
        let mut work = self.begin(actor, now).await?;
        let notice = work.tx.notice(id).await?.ok_or(WorkflowError::NotFound("notice"))?;
        if !work.tx.withdraw_notice(id, now).await? {
            return Err(WorkflowError::Conflict("すでに取り下げられています。".to_owned()));
        }
        work.event(
            "notice.withdrawn",
            Subject::new("notice", id),
            json!({
                "notice_id": id,
                "audience": notice.audience,
                "valid_from": notice.valid_from.to_string(),
                "valid_to": notice.valid_to.to_string(),
            }),
        );
        work.commit().await?;
        Ok(())
    }

    /// For those who publish every notice of the municipality, for others the ones that stand now and are for them.
    pub async fn notices(&self, actor: &Actor, now: Timestamp) -> Result<Vec<NoticeView>, WorkflowError> {
        let code = &actor.municipality_code;
        let mut tx = self.read(actor).await?;
        let publishes = actor.role.is_none_or(|role| role.may(Permission::PublishNotices));
        let notices = if publishes {
            tx.notices(code, LISTED_MAX).await?
        } else {
            tx.current_notices(code, now.jst_date()).await?
        };
        Ok(notices
            .into_iter()
            .filter(|notice| publishes || is_for(actor.role, &notice.audience))
            .map(NoticeView::from)
            .collect())
    }

    /// Tells the readers of every notice whose first day has come, and takes the messages of withdrawn ones out of
    /// inboxes and queue. May be called as often as one likes and on several nodes: each reader is told once, and a
    /// run that was cut short is gone on with.
    ///
    /// Gives the number of readers told.
    pub async fn due_notices(&self, actor: &Actor, now: Timestamp) -> Result<usize, WorkflowError> {
        let untold = self.read(actor).await?.untold_notices(&actor.municipality_code, now.jst_date()).await?;
        let (mut told, mut failed) = (0, Ok(()));
        for id in untold {
            match self.in_pieces(actor, id, Way::Out, now).await {
                Ok(n) => told += n,
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        let withdrawn = self.read(actor).await?.notices_to_take_back(&actor.municipality_code).await?;
        for id in withdrawn {
            failed = failed.and(self.in_pieces(actor, id, Way::Back, now).await.map(drop));
        }
        failed.map(|()| told)
    }

    /// Tells a notice's readers, or takes it back from them, by transactions of a few readers each, until none is left. Returns how many there were.
    async fn in_pieces(&self, actor: &Actor, id: NoticeId, way: Way, now: Timestamp) -> Result<usize, WorkflowError> {
        let mut done = 0;
        loop {
            let mut work = self.begin_long(actor, now).await?;
            let n = match way {
                Way::Out => work.tell_notice(id).await?,
                Way::Back => work.take_notice_back(id).await?,
            };
            work.commit().await?;
            if n == 0 {
                return Ok(done);
            }
            done += n;
        }
    }
}

impl Work<'_> {
    /// Tells the next readers; 0 when everybody has been told.
    async fn tell_notice(&mut self, id: NoticeId) -> Result<usize, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let Some(notice) =
            self.tx.lock_notice(id).await?.filter(|notice| !notice.told && notice.withdrawn_at.is_none())
        else {
            return Ok(0);
        };
        let readers = self.tx.notice_readers(&code, &notice.audience, &notice.told_after, RUN_CHUNK).await?;
        let Some(last) = readers.last() else {
            self.tx.note_told(id, &notice.told_after, true).await?;
            return Ok(0);
        };
        let told_after = last.to_string();
        let mut accounts = Vec::with_capacity(readers.len());
        for reader in &readers {
            accounts.extend(self.tx.account(*reader).await?);
        }
        let cause = self.published(&notice);
        let about = About {
            subject_kind: "notice",
            subject_id: id.to_string(),
            state: "published".to_owned(),
            addressees: accounts,
            values: Placeholders::new()
                .with(Placeholder::Title, notice.title.clone())
                .with(Placeholder::Body, notice.body.clone()),
            facts: vec![("push_marked", json!(notice.push))],
            link: "/notices".to_owned(),
            office_link: "/staff".to_owned(),
            ..About::default()
        };
        self.raise(&cause, &about).await?;
        self.tx.note_told(id, &told_after, false).await?;
        Ok(readers.len())
    }

    /// Takes the messages of a withdrawn notice back from the next readers; 0 when nobody has one any more.
    async fn take_notice_back(&mut self, id: NoticeId) -> Result<usize, WorkflowError> {
        let Some(notice) = self.tx.lock_notice(id).await? else { return Ok(0) };
        let Some(taken_after) = notice.taken_after else { return Ok(0) };
        let messages = self.tx.standing_messages_of_cause(notice.event_id, &taken_after, RUN_CHUNK).await?;
        for message in &messages {
            self.withdraw(message).await?;
        }
        let last = messages.last().map(|message| message.account_id.to_string());
        self.tx.note_taken_back(id, last.as_deref()).await?;
        Ok(messages.len())
    }

    /// The event of the publication as its messages name it: it was written when the notice was.
    fn published(&mut self, notice: &Notice) -> Event {
        let mut event = self.uncaused(Subject::new("notice", notice.notice_id));
        event.event_id = notice.event_id;
        event.event_type = "notice.published".to_owned();
        event.occurred_at = notice.published_at;
        event.recorded_at = notice.published_at;
        event
    }
}

fn is_for(role: Option<Role>, audience: &str) -> bool {
    match audience {
        "guardians" => role.is_some_and(Role::is_household),
        "facilities" => role.is_some_and(Role::is_facility),
        _ => true,
    }
}
