//! The lane of one provider.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use todoke_domain::{
    Timestamp,
    delivery::{DevicePermission, Provider, Purpose},
    ids::{AccountId, DeliveryId, MessageId},
};
use todoke_store::{StoreError, Wall, delivery::Delivery, device::Device, when_settled};
use tokio_util::sync::CancellationToken;

use super::{
    Bucket, Common,
    gate::{Gate, Service},
    mark::{Attempt, Marks},
    metric,
};
use crate::{Address, Channel, Kind, Outcome, Outgoing, Speed};

/// Apple's push service ends a subscription that gets pushes without showing anything.
const NO_SILENT_PUSH: &str = "push.apple.com";

/// One provider's part of the queue.
pub(super) struct Lane {
    common: Arc<Common>,
    provider: Provider,
    channel: Arc<dyn Channel>,
    gate: Gate,
    bucket: Bucket,
}

/// What one look at the queue gave.
#[derive(Default)]
struct Turn {
    flights: Vec<BoxFuture<'static, Attempt>>,
    /// Flights, and what was put back.
    n_claimed: usize,
}

impl Lane {
    pub(super) fn new(common: &Arc<Common>, provider: Provider, channel: Arc<dyn Channel>) -> Self {
        let settings = &common.settings;
        Self {
            provider,
            channel,
            gate: Gate::new(settings, provider),
            bucket: Bucket::new(settings.per_second_max(provider)),
            common: common.clone(),
        }
    }

    /// Sends until stopped, and then notes what is still under way.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let common = self.common.clone();
        let mut flying: FuturesUnordered<BoxFuture<'static, Attempt>> = FuturesUnordered::new();
        let mut over: Vec<Attempt> = Vec::new();
        let (mut look, mut stopping) = (true, false);
        loop {
            let room = if look && !stopping { self.room(flying.len()) } else { 0 };
            if room > 0 || !over.is_empty() {
                match self.cycle(&mut over, room).await {
                    Ok(turn) => {
                        // A full hand means that there may be more.
                        look = room > 0 && turn.n_claimed >= room;
                        flying.extend(turn.flights);
                    }
                    Err(error) => {
                        look = false;
                        tracing::warn!(error = %error, provider = self.provider.as_str(), "deliveries wait");
                    }
                }
            } else {
                look = false;
            }
            if stopping && flying.is_empty() && over.is_empty() {
                return;
            }
            if look && flying.is_empty() {
                continue;
            }
            tokio::select! {
                Some(attempt) = flying.next(), if !flying.is_empty() => {
                    let landed = over.len();
                    over.push(attempt);
                    while let Some(Some(more)) = flying.next().now_or_never() {
                        over.push(more);
                    }
                    self.learn(&over[landed..]);
                    look = true;
                }
                () = common.wake.of(self.provider).notified(), if !stopping => look = true,
                () = stop.cancelled(), if !stopping => stopping = true,
                () = tokio::time::sleep(common.settings.poll()) => look = true,
            }
        }
    }

    /// Sends what is due now, until nothing is or the breaker or the pace holds back; gives the number of attempts.
    pub(super) async fn send_due(&mut self) -> Result<usize, StoreError> {
        let (mut n, mut over) = (0, Vec::new());
        loop {
            let room = self.room(0);
            let turn = self.cycle(&mut over, room).await?;
            if turn.n_claimed == 0 {
                return Ok(n);
            }
            n += turn.flights.len();
            over = futures_util::future::join_all(turn.flights).await;
            self.learn(&over);
        }
    }

    /// How many more may be claimed.
    fn room(&mut self, n_flying: usize) -> usize {
        let now = (self.common.now)();
        let free = self.common.settings.parallel_max(self.provider).saturating_sub(n_flying);
        if free == 0 {
            return 0;
        }
        let paced = self.bucket.available(now);
        if paced == 0 {
            return 0;
        }
        self.gate.room(free.min(paced), now)
    }

    /// Notes what is over and claims up to `room`, in one transaction. When it fails, `over` is kept.
    ///
    /// Beside many payments there are as many of these, so they share transactions.
    async fn cycle(&mut self, over: &mut Vec<Attempt>, room: usize) -> Result<Turn, StoreError> {
        let mut admitted = Vec::new();
        let turn = when_settled(self.turn(over, room, &mut admitted)).await.unwrap_or_else(Err);
        if turn.is_err() && room > 0 {
            // A probe that never left would be waited for for ever.
            self.gate.give_back(&admitted, (self.common.now)());
        }
        turn
    }

    async fn turn(
        &mut self,
        over: &mut Vec<Attempt>,
        room: usize,
        admitted: &mut Vec<Option<Service>>,
    ) -> Result<Turn, StoreError> {
        let common = self.common.clone();
        let now = (common.now)();
        let claim = room > 0 && {
            let mut look = common.store.begin_read(Wall::None).await?;
            look.has_due_deliveries(self.provider, now).await?
        };
        if over.is_empty() && !claim {
            if room > 0 {
                self.gate.give_back(&[], now);
            }
            return Ok(Turn::default());
        }
        let retries = common.settings.retries();
        let mut tx = common.store.begin_write(Wall::None).await?;
        let mut marks = Marks::new(&mut tx, now, &retries, common.keep_texts);
        for attempt in over.iter() {
            marks.attempt(attempt).await?;
        }
        let mut claimed = Vec::new();
        if claim {
            let n_max = i64::try_from(room).unwrap_or(i64::MAX);
            claimed = marks.tx.claim_deliveries(self.provider, n_max, now, now.plus(common.settings.lease())).await?;
        }
        let n_claimed = claimed.len();
        let devices = self.devices(&mut marks, &claimed).await?;
        let leaving = self.admit(&mut marks, claimed, &devices, now, admitted).await?;
        for row in &leaving {
            marks.handed(row);
        }
        let unread = self.unread(&mut marks, &leaving).await?;
        marks.finish().await?;
        tx.commit().await?;
        over.clear();
        if room > 0 && n_claimed == 0 {
            self.gate.give_back(&[], now);
        }
        self.bucket.take(leaving.len());
        let leaving = leaving.into_iter().zip(admitted.iter().cloned());
        let flights = leaving.map(|(row, service)| self.fly(row, service, &devices, &unread, now)).collect();
        Ok(Turn { flights, n_claimed })
    }

    /// Puts back what is for a service that takes nothing now, and gives the rest. `admitted` gets the service of each.
    async fn admit(
        &mut self,
        marks: &mut Marks<'_>,
        claimed: Vec<Delivery>,
        devices: &HashMap<String, Device>,
        now: Timestamp,
        admitted: &mut Vec<Option<Service>>,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut leaving = Vec::with_capacity(claimed.len());
        let mut held: BTreeMap<Timestamp, Vec<DeliveryId>> = BTreeMap::new();
        for row in claimed {
            match self.gate.admit(devices.get(&row.target), now) {
                Ok(service) => {
                    admitted.push(service);
                    leaving.push(row);
                }
                Err(until) => held.entry(until).or_default().push(row.delivery_id),
            }
        }
        for (until, ids) in &held {
            marks.tx.put_back_deliveries(ids, *until).await?;
        }
        Ok(leaving)
    }

    async fn devices(
        &self,
        marks: &mut Marks<'_>,
        claimed: &[Delivery],
    ) -> Result<HashMap<String, Device>, StoreError> {
        if self.provider == Provider::Smtp || claimed.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = claimed.iter().map(|row| row.target.clone()).collect();
        let found = marks.tx.devices(&ids).await?;
        Ok(found.into_iter().map(|device| (device.device_id.to_string(), device)).collect())
    }

    async fn unread(&self, marks: &mut Marks<'_>, claimed: &[Delivery]) -> Result<HashMap<AccountId, i64>, StoreError> {
        if self.provider == Provider::Smtp || claimed.is_empty() {
            return Ok(HashMap::new());
        }
        let people: Vec<AccountId> = claimed.iter().map(|row| row.account_id).collect();
        Ok(marks.tx.unread_among(&people).await?.into_iter().collect())
    }

    /// The attempt as a future.
    fn fly(
        &self,
        row: Delivery,
        service: Option<Service>,
        devices: &HashMap<String, Device>,
        unread: &HashMap<AccountId, i64>,
        now: Timestamp,
    ) -> BoxFuture<'static, Attempt> {
        let waited = now.since(row.due_at).as_secs_f64();
        metrics::histogram!(metric::WAIT_SECONDS, "provider" => self.provider.as_str()).record(waited);
        let device = devices.get(&row.target).cloned();
        let address = match self.address(&row, device.as_ref()) {
            Ok(address) => address,
            Err(code) => {
                let outcome = Outcome::Refused { code };
                return async move { Attempt { row, device: None, service, outcome, took: Duration::ZERO } }.boxed();
            }
        };
        let badge = unread.get(&row.account_id).copied().unwrap_or(0);
        let outgoing = self.outgoing(&row, address, badge);
        let (channel, clock) = (self.channel.clone(), self.common.now.clone());
        async move {
            let begun = Instant::now();
            let outcome = channel.send(&outgoing, clock()).await;
            Attempt { row, device, service, outcome, took: begun.elapsed() }
        }
        .boxed()
    }

    fn address(&self, row: &Delivery, device: Option<&Device>) -> Result<Address, &'static str> {
        if self.provider == Provider::Smtp {
            return Ok(Address::Email { address: row.target.clone() });
        }
        let device = device.filter(|device| device.removed_at.is_none()).ok_or("device_removed")?;
        if device.permission != DevicePermission::Granted && row.purpose != Purpose::Withdraw {
            return Err("no_permission");
        }
        let token = device.address.clone();
        match device.kind {
            Provider::Fcm => Ok(Address::Fcm { token }),
            Provider::Apns => Ok(Address::Apns { token, sandbox: device.sandbox }),
            Provider::WebPush => {
                let host = token.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
                if row.purpose == Purpose::Withdraw && host.ends_with(NO_SILENT_PUSH) {
                    return Err("no_silent_push");
                }
                Ok(Address::WebPush { endpoint: token, p256dh: device.p256dh.clone(), auth: device.auth.clone() })
            }
            Provider::Smtp | Provider::Paper => Err("wrong_channel"),
        }
    }

    fn outgoing(&self, row: &Delivery, address: Address, badge: i64) -> Outgoing {
        let mail = self.provider == Provider::Smtp;
        let base = &self.common.base_url;
        let receipt = row.receipt();
        let link = match (row.link.is_empty(), mail) {
            (true, _) => String::new(),
            (false, true) => format!("{base}/m/{receipt}"),
            (false, false) => format!("{base}{}", row.link),
        };
        let body = if mail && !link.is_empty() {
            format!("{}\n\n詳しくは次の画面でご確認ください。\n{link}", row.body)
        } else {
            row.body.clone()
        };
        // A second mail with the first one's Message-ID would be hidden as its copy.
        let message_id =
            if mail && row.edition > 0 { MessageId::from(row.delivery_id.as_uuid()) } else { row.message_id };
        Outgoing {
            message_id,
            address,
            kind: match row.purpose {
                Purpose::Notification => Kind::Notification,
                Purpose::Withdraw => Kind::Withdraw,
                Purpose::Test => Kind::Test,
            },
            speed: match row.speed {
                0 => Speed::Now,
                1 => Speed::Minute,
                _ => Speed::Batch,
            },
            title: row.subject.clone(),
            body,
            link,
            collapse_key: (row.collapse_key != row.message_id.to_string()).then(|| row.collapse_key.clone()),
            label: row.message_type.clone(),
            expires_at: row.expires_at,
            badge: if mail { None } else { u32::try_from(badge).ok() },
            unsubscribe: (mail && row.optional).then(|| format!("{base}/v1/unsubscribe/{receipt}")),
            receipt: (!mail).then(|| receipt.to_string()),
            from: None,
        }
    }

    /// What outcomes say about the provider: before the next ones are claimed, so that a provider that is out is
    /// not asked once more.
    fn learn(&mut self, over: &[Attempt]) {
        let now = (self.common.now)();
        let provider = self.provider.as_str();
        for attempt in over {
            let outcome = match &attempt.outcome {
                Outcome::Accepted { .. } => "accepted",
                Outcome::Later { .. } => "later",
                Outcome::Gone { .. } => "gone",
                Outcome::Refused { .. } => "refused",
                Outcome::Doubtful { .. } => "doubtful",
            };
            metrics::counter!(metric::ATTEMPTS, "provider" => provider, "outcome" => outcome).increment(1);
            metrics::histogram!(metric::ATTEMPT_SECONDS, "provider" => provider).record(attempt.took.as_secs_f64());
            self.gate.learn(attempt, now);
        }
        let is_out = if self.gate.is_out() { 1.0 } else { 0.0 };
        metrics::gauge!(metric::BREAKER_OPEN, "provider" => provider).set(is_out);
    }
}
