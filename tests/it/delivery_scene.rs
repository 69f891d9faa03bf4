//! A dispatcher over scripted channels, and messages raised by hand: what the tests of delivery begin from.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use todoke_domain::{
    Event, MunicipalityCode, Timestamp,
    catalogue::template::{Placeholder, Placeholders},
    delivery::{DevicePermission, Provider},
    ids::{AccountId, DeviceId, EventId, MessageId},
};
use todoke_notifier::{
    Channel, Outcome, Outgoing,
    dispatch::{DispatchSettings, Dispatcher, DispatcherParts, Wake},
};
use todoke_store::{Store, Wall, account::Account, delivery::Delivery, device::Device};
use todoke_tests::stores::TestStore;
use todoke_workflow::{Actor, Workflow, messaging::About};

use crate::city::{City, NOW, town};

/// What a channel answers to a message; `None` leaves it to the others.
type Rule = Box<dyn Fn(&Outgoing) -> Option<Outcome> + Send>;

/// A channel that keeps what it was given and answers as told; without an answer it accepts.
#[derive(Default)]
pub(crate) struct Scripted {
    rule: Mutex<Option<Rule>>,
    answers: Mutex<VecDeque<Outcome>>,
    sent: Mutex<Vec<Outgoing>>,
}

impl Scripted {
    /// The answers to the next sendings, in order.
    pub(crate) fn answer(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.answers.lock().unwrap().extend(outcomes);
    }

    /// Answers by what is sent, from now on.
    pub(crate) fn answer_by(&self, rule: impl Fn(&Outgoing) -> Option<Outcome> + Send + 'static) {
        *self.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// Everything sent so far.
    pub(crate) fn sent(&self) -> Vec<Outgoing> {
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl Channel for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn send(&self, outgoing: &Outgoing, _now: Timestamp) -> Outcome {
        self.sent.lock().unwrap().push(outgoing.clone());
        let ruled = self.rule.lock().unwrap().as_ref().and_then(|rule| rule(outgoing));
        let answer = ruled.or_else(|| self.answers.lock().unwrap().pop_front());
        answer.unwrap_or_else(|| Outcome::Accepted { provider_id: Some("p1".to_owned()) })
    }
}

/// A device of a person that shows what is pushed.
pub(crate) fn device_of(
    code: &MunicipalityCode,
    account_id: AccountId,
    kind: Provider,
    address: &str,
    now: Timestamp,
) -> Device {
    Device {
        device_id: DeviceId::new(now),
        municipality_code: code.clone(),
        account_id,
        kind,
        address: address.to_owned(),
        p256dh: "p".to_owned(),
        auth: "a".to_owned(),
        sandbox: false,
        permission: DevicePermission::Granted,
        language: String::new(),
        platform: "web".to_owned(),
        os_version: String::new(),
        app_version: "1".to_owned(),
        registered_at: now,
        seen_at: now,
        removed_at: None,
        removed_reason: None,
    }
}

/// Everything a test of delivery needs.
pub(crate) struct Scene {
    pub(crate) city: City,
    pub(crate) workflow: Workflow,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) channels: HashMap<Provider, Arc<Scripted>>,
    clock: Arc<AtomicI64>,
    store: Store,
}

impl Scene {
    pub(crate) async fn of(db: &TestStore) -> Self {
        let city = City::found(db, &town(), 1_000).await;
        let workflow = crate::coupon_use::workflow(db.store());
        let channels: HashMap<Provider, Arc<Scripted>> =
            Provider::SENT.iter().map(|provider| (*provider, Arc::new(Scripted::default()))).collect();
        let clock = Arc::new(AtomicI64::new(NOW.as_micros()));
        let dispatcher = dispatcher(db.store(), &channels, &clock);
        Self { city, workflow, dispatcher, channels, clock, store: db.store() }
    }

    /// Another node over the same record and channels.
    pub(crate) fn other_node(&self, store: Store) -> Dispatcher {
        dispatcher(store, &self.channels, &self.clock)
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.load(Ordering::Relaxed))
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.store(self.now().plus(Duration::from_secs(seconds)).as_micros(), Ordering::Relaxed);
    }

    /// Lets time pass until so many seconds after the scene's beginning, noon in Japan.
    pub(crate) fn pass_until(&self, seconds: u64) {
        self.pass(NOW.plus(Duration::from_secs(seconds)).since(self.now()).as_secs());
    }

    /// Sends what is due and gives the number of attempts.
    pub(crate) async fn send(&mut self) -> usize {
        self.dispatcher.send_due().await.unwrap()
    }

    pub(crate) fn sent(&self, provider: Provider) -> Vec<Outgoing> {
        self.channels[&provider].sent()
    }

    /// Registers a device of `account` with the token `address`.
    pub(crate) async fn device(&self, account: &Account, kind: Provider, address: &str) -> DeviceId {
        let device_id = DeviceId::new(self.now());
        self.put_device(account, device_id, kind, address).await;
        device_id
    }

    pub(crate) async fn put_device(&self, account: &Account, device_id: DeviceId, kind: Provider, address: &str) {
        let device = Device {
            device_id,
            ..device_of(&account.municipality_code, account.account_id, kind, address, self.now())
        };
        let mut tx = self.store.begin_write(Wall::None).await.unwrap();
        assert!(tx.put_device(&device).await.unwrap());
        tx.commit().await.unwrap();
    }

    pub(crate) async fn devices(&self, account: &Account) -> Vec<Device> {
        self.store.begin_read(Wall::None).await.unwrap().devices_of(account.account_id).await.unwrap()
    }

    /// Raises the messages of an event about `subject`.
    pub(crate) async fn raise(&self, event_type: &str, subject: &str, payload: Value) {
        let actor = Actor::system(town(), "batch");
        let event = Event {
            event_id: EventId::new(self.now()),
            event_type: event_type.to_owned(),
            schema_version: 1,
            occurred_at: self.now(),
            recorded_at: self.now(),
            municipality_code: town(),
            actor_role: "system".to_owned(),
            actor_key: None,
            source_channel: "batch".to_owned(),
            subject_kind: "thing".to_owned(),
            subject_id: subject.to_owned(),
            subject_seq: 0,
            correlation_id: None,
            causation_id: None,
            recorded_offline: false,
            programme_code: None,
            facility_id: None,
            payload: payload.as_object().cloned().unwrap_or_default(),
        };
        let values = [
            (Placeholder::Child, "大阪 ゆい"),
            (Placeholder::No, "A26-0000001"),
            (Placeholder::Reason, "住所の記載がありません"),
            (Placeholder::Facility, "みどり保育園"),
            (Placeholder::Units, "3時間（3回）"),
            (Placeholder::Rest, "12時間（12回）"),
            (Placeholder::Bucket, "一時保育"),
            (Placeholder::Deadline, "2026年6月1日（月）12:30"),
            (Placeholder::Title, "住民記録.csv"),
            (Placeholder::Link, "http://todoke.test/staff"),
            (Placeholder::Date, "2026年6月1日（月）"),
            (Placeholder::Contact, "子育て支援課"),
            (Placeholder::Amount, "10,000円"),
            (Placeholder::Balance, "10,000円"),
            (Placeholder::Expiry, "2028年5月3日（水）"),
            (Placeholder::Count, "2"),
        ];
        let about = About {
            subject_kind: "thing",
            subject_id: subject.to_owned(),
            state: "changed".to_owned(),
            child: Some(self.city.child.child_id),
            guardian: Some(self.city.guardian.guardian_id),
            facility: Some(self.city.facility.facility_id),
            values: values.into_iter().fold(Placeholders::new(), |values, (name, text)| values.with(name, text)),
            link: "/coupons".to_owned(),
            office_link: "/staff".to_owned(),
            ..About::default()
        };
        let mut work = self.workflow.begin(&actor, self.now()).await.unwrap();
        work.raise(&event, &about).await.unwrap();
        work.commit().await.unwrap();
    }

    /// 「クーポンの利用を再開しました」: to the guardian, on every channel.
    pub(crate) async fn resumed(&self, subject: &str) {
        self.raise("coupon.resumed", subject, json!({})).await;
    }

    /// The newest message of a type to an account.
    pub(crate) async fn message(&self, account: &Account, message_type: &str) -> MessageId {
        let messages = crate::register::inbox(&self.store, account, message_type).await;
        messages.first().unwrap_or_else(|| panic!("no {message_type}")).message_id
    }

    pub(crate) async fn deliveries(&self, id: MessageId) -> Vec<Delivery> {
        self.store.begin_read(Wall::None).await.unwrap().deliveries_of(id).await.unwrap()
    }

    /// (provider, purpose, state) of the deliveries of a message, sorted.
    pub(crate) async fn states(&self, id: MessageId) -> Vec<(&'static str, &'static str, &'static str)> {
        let rows = self.deliveries(id).await;
        let mut states: Vec<_> =
            rows.iter().map(|row| (row.provider.as_str(), row.purpose.as_str(), row.state.as_str())).collect();
        states.sort_unstable();
        states
    }

    /// Payloads of the events of a type, in order.
    pub(crate) async fn events(&self, event_type: &str) -> Vec<Value> {
        let events = crate::register::events_of(&self.store, event_type).await;
        events.into_iter().map(|event| Value::Object(event.payload)).collect()
    }
}

fn dispatcher(store: Store, channels: &HashMap<Provider, Arc<Scripted>>, clock: &Arc<AtomicI64>) -> Dispatcher {
    let clock = clock.clone();
    Dispatcher::new(DispatcherParts {
        store,
        channels: channels.iter().map(|(provider, channel)| (*provider, channel.clone() as Arc<dyn Channel>)).collect(),
        settings: DispatchSettings { breaker_failures: 3, push_parallel_max: 7, ..DispatchSettings::default() },
        base_url: "http://todoke.test".to_owned(),
        keep_texts: false,
        now: Arc::new(move || Timestamp::from_micros(clock.load(Ordering::Relaxed))),
        wake: Wake::default(),
    })
}
