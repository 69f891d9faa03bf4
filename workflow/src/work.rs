//! One use case under way: a transaction that collects its events and publications.

use serde_json::{Map, Value};
use todoke_domain::{Event, Timestamp, channel::Channel, ids::EventId};
use todoke_store::{StoreError, Tx, publication::Publication};

use crate::{Actor, Workflow, WorkflowError};

/// What an event is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Kind, such as `application`.
    pub kind: &'static str,
    /// Id; for a person the key as decimal text.
    pub id: String,
}

impl Subject {
    /// A subject by kind and id.
    pub fn new(kind: &'static str, id: impl ToString) -> Self {
        Self { kind, id: id.to_string() }
    }
}

/// A transaction with the events and publications it will commit.
#[derive(Debug)]
pub struct Work<'a> {
    /// Statements on the record.
    pub tx: Tx,
    /// Who acts.
    pub actor: &'a Actor,
    /// The instant of the use case.
    pub now: Timestamp,
    pub(crate) workflow: &'a Workflow,
    events: Vec<Event>,
    publications: Vec<(Channel, String)>,
}

impl Workflow {
    /// Begins a use case behind the actor's wall.
    pub async fn begin<'a>(&'a self, actor: &'a Actor, now: Timestamp) -> Result<Work<'a>, WorkflowError> {
        Ok(self.work(self.store().begin_write(actor.wall()).await?, actor, now))
    }

    /// As [`Self::begin`], for work by the file or by the page of people: who is done before it does not wait for it.
    pub async fn begin_long<'a>(&'a self, actor: &'a Actor, now: Timestamp) -> Result<Work<'a>, WorkflowError> {
        Ok(self.work(self.store().begin_long(actor.wall()).await?, actor, now))
    }

    fn work<'a>(&'a self, tx: Tx, actor: &'a Actor, now: Timestamp) -> Work<'a> {
        Work { tx, actor, now, workflow: self, events: Vec::new(), publications: Vec::new() }
    }

    /// Begins reading behind the actor's wall.
    pub async fn read(&self, actor: &Actor) -> Result<Tx, WorkflowError> {
        Ok(self.store().begin_read(actor.wall()).await?)
    }
}

impl Work<'_> {
    /// Notes an event; it is written at the commit, in order. `payload` must be an object with the
    /// catalogued fields of the type, and without null members.
    pub fn event(&mut self, event_type: &str, subject: Subject, payload: Value) -> Event {
        let payload = match payload {
            Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => Map::new(),
        };
        let event = Event {
            event_id: EventId::new(self.now),
            event_type: event_type.to_owned(),
            schema_version: 1,
            occurred_at: self.now,
            recorded_at: self.now,
            municipality_code: self.actor.municipality_code.clone(),
            actor_role: self.actor.role_code().to_owned(),
            actor_key: self.actor.person_key,
            source_channel: self.actor.source_channel.to_owned(),
            subject_kind: subject.kind.to_owned(),
            subject_id: subject.id,
            subject_seq: 0,
            correlation_id: self.actor.correlation_id.clone(),
            causation_id: None,
            recorded_offline: false,
            programme_code: None,
            facility_id: None,
            payload,
        };
        self.events.push(event.clone());
        event
    }

    /// An event that is only a cause: what a timer found, where the catalogue has no event of its own for
    /// it. It is not written.
    pub(crate) fn uncaused(&mut self, subject: Subject) -> Event {
        let event = self.event("timer", subject, Value::Null);
        self.events.pop();
        event
    }

    /// Notes an event that happened at a place.
    pub fn event_at(
        &mut self,
        event_type: &str,
        subject: Subject,
        facility: impl ToString,
        programme: Option<&str>,
        payload: Value,
    ) -> Event {
        let mut event = self.event(event_type, subject, payload);
        event.facility_id = Some(facility.to_string());
        event.programme_code = programme.map(str::to_owned);
        self.replace_last(&event);
        event
    }

    /// Notes an event caused by another one.
    pub(crate) fn event_because(&mut self, cause: &Event, event_type: &str, subject: Subject, payload: Value) -> Event {
        let mut event = self.event(event_type, subject, payload);
        event.causation_id = Some(cause.event_id.to_string());
        event.facility_id.clone_from(&cause.facility_id);
        event.programme_code.clone_from(&cause.programme_code);
        self.replace_last(&event);
        event
    }

    /// Notes an event without any trace of who acted, when, or in which request: an anonymous answer.
    pub fn event_anonymous(&mut self, event_type: &str, subject: Subject, at: Timestamp, payload: Value) {
        let mut event = self.event(event_type, subject, payload);
        event.actor_key = None;
        event.correlation_id = None;
        event.occurred_at = at;
        event.recorded_at = at;
        event.event_id = EventId::new(at);
        self.replace_last(&event);
    }

    fn replace_last(&mut self, event: &Event) {
        if let Some(last) = self.events.last_mut() {
            last.clone_from(event);
        }
    }

    /// Publishes live at the commit. `data` has the form of screens.md §0.
    pub fn publish(&mut self, channel: Channel, data: &Value) {
        self.publications.push((channel, data.to_string()));
    }

    /// Publishes many live at the commit, their data as it goes out.
    pub(crate) fn publish_all(&mut self, drafts: impl IntoIterator<Item = (Channel, String)>) {
        self.publications.extend(drafts);
    }

    /// Commits everything, then tells who listens.
    ///
    /// Errors: when it fails nothing has happened. Cancel safe: dropped while the database commits, who listens is
    /// told all the same.
    pub async fn commit(mut self) -> Result<Vec<Publication>, WorkflowError> {
        for event in &self.events {
            // The lake takes only what the catalogue knows: better no commit than an event nobody can read.
            todoke_domain::catalogue::events::check(event).map_err(|error| WorkflowError::Event(Box::new(error)))?;
        }
        self.tx.append_events(&mut self.events).await?;
        let published = self.tx.publish(&self.publications, self.now).await?;
        let queued = self.tx.has_queued_deliveries();
        let (tx, live, told) = (self.tx, self.workflow.live(), published.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends with the commit, and must not end with its caller")]
        let committing = tokio::spawn(async move {
            tx.commit().await?;
            if queued {
                live.deliveries_queued();
            }
            live.committed(told);
            Ok::<(), StoreError>(())
        });
        committing.await.map_err(|_| WorkflowError::Internal("a commit was cut off"))??;
        Ok(published)
    }
}
