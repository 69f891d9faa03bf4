//! One batch: one transaction that holds the broadcast's row, does a bounded piece and moves the cursor.
//!
//! **Invariant:** cursor, messages, events, publications and deliveries commit together. A crash before the
//! commit leaves the batch to be done again; the keys of the messages and the primary key of the deliveries
//! make even a batch that was done twice harmless.

use std::time::Duration;

use serde_json::{Map, Value, json};
use todoke_domain::{
    Event, Timestamp,
    broadcast::{BroadcastEvent, BroadcastKind, BroadcastState, PER_PERSON_AND_DAY_MAX, pace_allows},
    catalogue::{
        format,
        messages::{Channel as Via, ChannelSet, LOCALE_COMPLETE},
        template::{Placeholder, Placeholders, Rendered, TemplateError},
    },
    channel::Channel,
    ids::{AccountId, BroadcastId, EventId, MessageId},
};
use todoke_store::{
    broadcast::{Broadcast, Round, RoundState, Unrouted},
    delivery::NewDelivery,
    message::Message,
    segment::{Member, Who},
};

use super::{
    broadcast_about, collapse_key,
    route::{Plan, Transit, Words},
    send::{Sender, counted_since},
    sent_between, step,
};
use crate::{
    Actor, Work, WorkflowError,
    messaging::{TEMPLATE_ERROR, Unwritten, message_json},
    work::Subject,
};

/// People per transaction: enough that commits cost little, few enough that a payment beside it waits for
/// tens of milliseconds only.
const BATCH: i64 = 500;
/// Why somebody who has had enough of them that day does not get an ordinary one.
const DAILY_LIMIT: &str = "daily_limit";
/// A node that stays silent for this long has lost the broadcast to the next one that looks.
const LEASE: Duration = Duration::from_secs(3);

/// What a batch did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Batch {
    pub(super) created: usize,
    pub(super) routed: usize,
    pub(super) is_emergency: bool,
}

impl Sender {
    /// Does the next piece of a broadcast, if it is this node's to do.
    pub(super) async fn batch(&self, actor: &Actor, id: BroadcastId, now: Timestamp) -> Result<Batch, WorkflowError> {
        let mut work = self.workflow.begin_long(actor, now).await?;
        let mut row = work.open_broadcast(id).await?;
        let is_other = row.sender != self.name;
        if !matches!(row.state()?, BroadcastState::Sending | BroadcastState::Sent)
            || (is_other && row.leased_until > now)
        {
            return Ok(Batch::default());
        }
        if is_other {
            row.sender.clone_from(&self.name);
            row.fence += 1;
        }
        row.leased_until = now.plus(LEASE);
        let mut batch = Batch { is_emergency: row.kind()? == BroadcastKind::Emergency, ..Batch::default() };
        if let Some(mut round) = next_round(work.tx.rounds(id).await?, now)? {
            if round.state()? == RoundState::Routing {
                batch.routed = work.route_batch(&mut row, &mut round).await?;
            } else {
                round.state = RoundState::Creating.as_str().to_owned();
                batch.created = work.create_batch(&row, &mut round).await?;
            }
            work.tx.update_round(&round).await?;
        }
        work.tx.update_broadcast(&row).await?;
        work.commit().await?;
        Ok(batch)
    }
}

/// The first round that has something left to do.
fn next_round(rounds: Vec<Round>, now: Timestamp) -> Result<Option<Round>, WorkflowError> {
    for round in rounds {
        match round.state()? {
            RoundState::Creating | RoundState::Routing => return Ok(Some(round)),
            RoundState::Waiting if round.due_at <= now => return Ok(Some(round)),
            RoundState::Waiting => return Ok(None),
            RoundState::Done | RoundState::Cancelled => {}
        }
    }
    Ok(None)
}

impl Work<'_> {
    /// Creates the messages of the next people.
    async fn create_batch(&mut self, row: &Broadcast, round: &mut Round) -> Result<usize, WorkflowError> {
        let plan = Plan::of(row, self.started(row)?)?;
        let segment = row.segment()?;
        let who = match round.round {
            0 => Who::Of(&segment, self.now),
            _ => Who::Unread(plan.cause().event_id),
        };
        let is_capped = round.round == 0 && row.kind()? == BroadcastKind::Segment;
        let since = counted_since(is_capped, self.now);
        let members = self.tx.members(&row.municipality_code, who, &round.created_after, BATCH, since).await?;
        if i64::try_from(members.len()).unwrap_or(BATCH) < BATCH {
            round.state = RoundState::Routing.as_str().to_owned();
        }
        let Some(last) = members.last() else { return Ok(0) };
        round.created_after = last.account_id.to_string();
        let n_picked = members.len();
        let (members, capped): (Vec<Member>, Vec<Member>) =
            members.into_iter().partition(|to| to.n_since < PER_PERSON_AND_DAY_MAX);
        if !capped.is_empty() {
            round.n_suppressed += i64::try_from(capped.len()).unwrap_or(0);
            for id in self.untold(row, &plan, &capped).await? {
                self.note_suppressed(id, DAILY_LIMIT);
            }
        }
        let words = plan.words(&self.broadcast_values(row).await?);
        let n_created = match words {
            Ok(words) => self.tell(row, round, &plan, &members, words.inbox).await?,
            Err(error) => {
                round.n_suppressed += i64::try_from(members.len()).unwrap_or(0);
                self.tell_nobody(row, &plan, &members, &error).await?;
                0
            }
        };
        round.n_created += i64::try_from(n_created).unwrap_or(0);
        round.first_sent_at = round.first_sent_at.or(Some(self.now));
        round.last_sent_at = Some(self.now);
        Ok(n_picked)
    }

    async fn tell(
        &mut self,
        row: &Broadcast,
        round: &Round,
        plan: &Plan,
        members: &[Member],
        text: Rendered,
    ) -> Result<usize, WorkflowError> {
        let model = self.model(row, plan, text);
        let key = key(plan, row, round);
        let copies: Vec<Message> = members
            .iter()
            .map(|member| Message {
                message_id: MessageId::new(self.now),
                account_id: member.account_id,
                dedupe_key: format!("{key}{}", member.account_id),
                ..model.clone()
            })
            .collect();
        let added = self.tx.insert_messages(&copies).await?;
        let devices = self.devices_among(members.iter()).await?;
        let live = self.live_text(row, plan, &model);
        let model_id = model.message_id.to_string();
        let (mut events, mut drafts) = (Vec::with_capacity(added.len()), Vec::with_capacity(added.len()));
        for (copy, member) in copies.iter().zip(members).filter(|(copy, _)| added.contains(&copy.message_id)) {
            let channels = plan.channels(member, devices.contains_key(&member.account_id))?;
            events.push(self.created(plan, &model, copy.message_id, member, channels)?);
            drafts.push((Channel::Guardian(copy.account_id), live.replace(&model_id, &copy.message_id.to_string())));
        }
        self.tx.append_events(&mut events).await?;
        self.publish_all(drafts);
        Ok(added.len())
    }

    /// The words lack a value, so that there is no message: the record says so for each person.
    async fn tell_nobody(
        &mut self,
        row: &Broadcast,
        plan: &Plan,
        members: &[Member],
        error: &TemplateError,
    ) -> Result<(), WorkflowError> {
        let ids = self.untold(row, plan, members).await?;
        self.suppress_unwritten(row, plan, ids, error).await
    }

    /// Notes messages that are not made, one for each person; why not is for the caller to note.
    async fn untold(
        &mut self,
        row: &Broadcast,
        plan: &Plan,
        members: &[Member],
    ) -> Result<Vec<MessageId>, WorkflowError> {
        let model = self.model(row, plan, no_words());
        let devices = self.devices_among(members.iter()).await?;
        let mut events = Vec::with_capacity(members.len());
        let mut ids = Vec::with_capacity(members.len());
        for member in members {
            let id = MessageId::new(self.now);
            let channels = plan.channels(member, devices.contains_key(&member.account_id))?;
            events.push(self.created(plan, &model, id, member, channels)?);
            ids.push(id);
        }
        self.tx.append_events(&mut events).await?;
        Ok(ids)
    }

    /// Notes that these messages cannot be sent, and tells the operator.
    async fn suppress_unwritten(
        &mut self,
        row: &Broadcast,
        plan: &Plan,
        ids: Vec<MessageId>,
        error: &TemplateError,
    ) -> Result<(), WorkflowError> {
        let suppressed: Vec<Event> = ids.into_iter().map(|id| self.note_suppressed(id, TEMPLATE_ERROR)).collect();
        let Some(first) = suppressed.into_iter().next() else { return Ok(()) };
        self.tell_unwritten(&Unwritten::new(plan.kind, &row.broadcast_id.to_string(), error, first)).await
    }

    /// The message that every copy is made from; its id stands for the copy's own in the live text.
    fn model(&self, row: &Broadcast, plan: &Plan, text: Rendered) -> Message {
        Message {
            message_id: MessageId::new(self.now),
            municipality_code: row.municipality_code.clone(),
            account_id: AccountId::new(self.now),
            message_type: plan.kind.id.clone(),
            category: plan.kind.category.as_str().to_owned(),
            class: plan.kind.class.as_str().to_owned(),
            subject_kind: "broadcast".to_owned(),
            subject_id: row.broadcast_id.to_string(),
            subject_no: None,
            title: text.subject,
            body: text.body,
            link: row.link.clone(),
            in_inbox: true,
            cause_event_id: plan.cause().event_id,
            dedupe_key: String::new(),
            locale: LOCALE_COMPLETE.to_owned(),
            template_version: i64::from(plan.kind.template_version),
            created_at: self.now,
            delivered_at: None,
            read_at: None,
        }
    }

    /// What open inboxes get, also of types without live channel: the inbox itself is live (screens.md GD18).
    fn live_text(&self, row: &Broadcast, plan: &Plan, model: &Message) -> String {
        let about = broadcast_about(row);
        let mut data = Map::new();
        data.insert("message".to_owned(), message_json(model));
        json!({
            "type": plan.kind.id,
            "subject": { "kind": about.subject_kind, "id": about.subject_id, "no": about.subject_no },
            "state": "started",
            "at": self.now,
            "data": data,
        })
        .to_string()
    }

    fn created(
        &mut self,
        plan: &Plan,
        model: &Message,
        id: MessageId,
        to: &Member,
        channels: ChannelSet,
    ) -> Result<Event, WorkflowError> {
        let channels: Vec<&str> = channels.iter().map(Via::as_str).collect();
        let mut event = self.uncaused(Subject::new("message", id));
        "message.created".clone_into(&mut event.event_type);
        event.causation_id = Some(plan.cause().event_id.to_string());
        let payload = json!({
            "message_id": id,
            "message_type": plan.kind.id,
            "template_version": plan.kind.template_version,
            "locale": model.locale,
            "recipient_key": to.person_key,
            "recipient_role": to.role.as_str(),
            "class": model.class,
            "channels": channels,
            "collapse_key": format!("{}:{}", model.subject_kind, model.subject_id),
            "cause_event_id": model.cause_event_id,
        });
        if let Value::Object(payload) = payload {
            event.payload = payload.into_iter().filter(|(_, value)| !value.is_null()).collect();
        }
        todoke_domain::catalogue::events::check(&event).map_err(|error| WorkflowError::Event(Box::new(error)))?;
        Ok(event)
    }

    /// Hands the next people to push and mail, as many as the pace allows.
    async fn route_batch(&mut self, row: &mut Broadcast, round: &mut Round) -> Result<usize, WorkflowError> {
        let allowed = allowed(row, round, self.now)?;
        if allowed == 0 {
            return Ok(0);
        }
        let plan = Plan::of(row, self.started(row)?)?;
        let key = key(&plan, row, round);
        let n_max = allowed.min(BATCH);
        let picked = self.tx.unrouted(plan.cause().event_id, &key, &round.routed_after, n_max).await?;
        let words = plan.words(&self.broadcast_values(row).await?);
        let deliveries = self.route_each(row, &plan, words, &picked).await?;
        self.tx.insert_deliveries(&deliveries).await?;
        if let Some(last) = picked.last() {
            round.routed_after = last.to.account_id.to_string();
            round.last_sent_at = Some(self.now);
            round.n_routed += i64::try_from(picked.len()).unwrap_or(0);
            round.n_queued += i64::try_from(deliveries.len()).unwrap_or(0);
        }
        if i64::try_from(picked.len()).unwrap_or(n_max) < n_max {
            round.state = RoundState::Done.as_str().to_owned();
            if round.round == 0 {
                self.finish(row, round).await?;
            }
        }
        Ok(picked.len())
    }

    /// The deliveries of messages; none, and an event for each message, when the words lack a value.
    async fn route_each(
        &mut self,
        row: &Broadcast,
        plan: &Plan,
        words: Result<Words, TemplateError>,
        picked: &[Unrouted],
    ) -> Result<Vec<NewDelivery>, WorkflowError> {
        let (text, missing) = match words {
            Ok(words) => (words.transit, None),
            Err(error) => (no_words(), Some(error)),
        };
        let transit = Transit {
            text,
            link: row.link.clone(),
            collapse_key: collapse_key(row)?,
            cause_at: row.started_at.unwrap_or(self.now),
        };
        let devices = self.devices_among(picked.iter().map(|message| &message.to)).await?;
        let (mut deliveries, mut kept_back) = (Vec::new(), Vec::new());
        for message in picked {
            // Whoever has read it in the meantime needs no push.
            if message.read_at.is_some() {
                continue;
            }
            let own = devices.get(&message.to.account_id).map_or(&[][..], Vec::as_slice);
            if missing.is_none() {
                deliveries.extend(self.route_broadcast(plan, &transit, message.message_id, &message.to, own)?);
            } else if plan.leaves_the_app(&message.to, own)? {
                kept_back.push(message.message_id);
            }
        }
        if let Some(error) = missing {
            self.suppress_unwritten(row, plan, kept_back, &error).await?;
        }
        Ok(deliveries)
    }

    async fn finish(&mut self, row: &mut Broadcast, round: &Round) -> Result<(), WorkflowError> {
        step(row, BroadcastEvent::Finish)?;
        row.finished_at = Some(self.now);
        let spans = sent_between(round.first_sent_at, round.last_sent_at);
        let event = self.broadcast_event("broadcast.completed", row, spans);
        self.publish_broadcast("broadcast.completed", row, Value::Null);
        let author = match row.author_id {
            Some(author) => self.tx.account(author).await?,
            None => None,
        };
        let mut about = broadcast_about(row);
        about.account = author.filter(|author| author.email.is_some());
        about.values = Placeholders::new().with(Placeholder::Count, round.n_created.to_string());
        self.raise(&event, &about).await
    }

    /// The `broadcast.started` of a broadcast, as its messages name it: it was written at the start.
    fn started(&mut self, row: &Broadcast) -> Result<Event, WorkflowError> {
        let event_id = row.event_id.ok_or(WorkflowError::Internal("a broadcast that has not started"))?;
        Ok(Event { event_id, ..self.as_started(row) })
    }

    /// The `broadcast.started` that a broadcast would have if it began now; it is not written.
    pub(super) fn as_started(&mut self, row: &Broadcast) -> Event {
        let mut event = self.uncaused(Subject::new("broadcast", row.broadcast_id));
        "broadcast.started".clone_into(&mut event.event_type);
        event.payload = [("kind".to_owned(), json!(row.kind))].into_iter().collect();
        event
    }

    /// What the texts say: who sends it, to whom and why, and how to stop it (messages.md §9).
    pub(super) async fn broadcast_values(&mut self, row: &Broadcast) -> Result<Placeholders, WorkflowError> {
        let municipality = self.tx.municipality(&row.municipality_code).await?;
        let city = municipality.map(|municipality| municipality.name).unwrap_or_default();
        let foot = match row.kind()? {
            BroadcastKind::Segment => format!(
                "発信：{city}\n「{}」へお送りしています。受け取り方は、アプリの「設定」で変えられます。",
                row.segment_name
            ),
            BroadcastKind::Event => format!("発信：{city}"),
            BroadcastKind::Emergency => {
                let at = row.started_at.unwrap_or(self.now);
                format!("発信：{city}　{}", format::deadline(at.jst()))
            }
        };
        let mut values = Placeholders::new()
            .with(Placeholder::Title, row.title.clone())
            .with(Placeholder::Body, format!("{}\n\n{foot}", row.body))
            .with(Placeholder::Place, row.place.clone());
        if let Some(day) = row.event_on {
            values.set(Placeholder::Date, format::day(day));
        }
        Ok(values)
    }
}

/// How many may be handed over now. Less than a quarter of a second's worth is not worth a transaction.
fn allowed(row: &Broadcast, round: &Round, now: Timestamp) -> Result<i64, WorkflowError> {
    if !row.kind()?.is_paced() || !(row.push || row.email) {
        return Ok(BATCH);
    }
    let pace = u32::try_from(row.pace_per_s).unwrap_or(u32::MAX);
    let last = round.last_sent_at.filter(|_| round.n_routed > 0);
    let allowed = pace_allows(pace, last, now);
    Ok(if allowed < pace.div_ceil(4) { 0 } else { i64::from(allowed) })
}

fn no_words() -> Rendered {
    Rendered { subject: String::new(), body: String::new() }
}

/// What the keys of a round's messages begin with; the account follows.
fn key(plan: &Plan, row: &Broadcast, round: &Round) -> String {
    let id: EventId = plan.cause().event_id;
    format!("{}:{}:{id}:{}:", plan.kind.id, row.broadcast_id, round.round)
}
