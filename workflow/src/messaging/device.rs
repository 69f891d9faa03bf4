//! Devices of a person: registering, rotating, removing, trying out.

use serde_json::json;
use todoke_domain::{
    Timestamp,
    catalogue::messages::{Channel, Speed},
    delivery::{self, DeliveryState, DevicePermission, Provider, Purpose},
    ids::{AccountId, DeliveryId, DeviceId, MessageId},
};
use todoke_store::{delivery::NewDelivery, device::Device};

use crate::{Actor, FieldError, Workflow, WorkflowError, secret, work::Subject};

/// Longest token or endpoint, bytes: push services keep them below 1,000.
const ADDRESS_BYTES_MAX: usize = 2_048;
/// Devices a person may have; the one not heard of for longest makes room.
const DEVICES_MAX: usize = 20;
/// A test is worth seeing while the person waits for it.
const TEST_LIFE: std::time::Duration = std::time::Duration::from_secs(300);

/// Devices looked at in one transaction.
const REACH_CHUNK: i64 = 200;

/// A device as it describes itself.
#[derive(Debug, Clone, Default)]
pub struct DeviceDraft {
    /// `fcm`, `apns` or `webpush`.
    pub kind: String,
    /// Token, or the endpoint of a browser's subscription.
    pub address: String,
    /// Public key of a subscription.
    pub p256dh: String,
    /// Secret of a subscription.
    pub auth: String,
    /// Development build on Apple's sandbox.
    pub sandbox: bool,
    /// `granted`, `denied` or `default`.
    pub permission: String,
    /// Locale of the texts on this device, where it differs from the person's; may be empty.
    pub language: String,
    /// `ios`, `android` or `web`.
    pub platform: String,
    /// Version of the system.
    pub os_version: String,
    /// Version of the app.
    pub app_version: String,
}

impl Workflow {
    /// Registers a device of the caller or notes what has changed about it.
    ///
    /// Errors: [`WorkflowError::Conflict`] when the id is another person's: the device then takes a new one.
    pub async fn put_device(
        &self,
        actor: &Actor,
        id: DeviceId,
        draft: &DeviceDraft,
        now: Timestamp,
    ) -> Result<Device, WorkflowError> {
        let (account, _) = actor.household()?;
        let device = parse(id, account, actor, draft, now)?;
        let mut work = self.begin(actor, now).await?;
        if !work.tx.put_device(&device).await? {
            return Err(WorkflowError::Conflict("この端末IDは使われています。新しいIDで登録してください。".to_owned()));
        }
        let all = work.tx.devices_of(account).await?;
        for old in all.iter().skip(DEVICES_MAX) {
            work.tx.remove_device(account, old.device_id, "too_many", now).await?;
        }
        let kept = all.into_iter().find(|known| known.device_id == id);
        work.commit().await?;
        kept.ok_or(WorkflowError::Internal("a registered device is not there"))
    }

    /// The caller's devices, the one heard of last first.
    pub async fn devices(&self, actor: &Actor) -> Result<Vec<Device>, WorkflowError> {
        let account = actor.account()?;
        Ok(self.read(actor).await?.devices_of(account).await?)
    }

    /// Removes a device of the caller.
    pub async fn remove_device(&self, actor: &Actor, id: DeviceId, now: Timestamp) -> Result<(), WorkflowError> {
        let account = actor.account()?;
        let mut work = self.begin(actor, now).await?;
        if !work.tx.remove_device(account, id, "own_wish", now).await? {
            return Err(WorkflowError::NotFound("device"));
        }
        work.commit().await?;
        Ok(())
    }

    /// Looks at the devices of a municipality that have changed and notes for the statistics which of them push
    /// reaches: only of people who let their use of the app be counted (events.md 5.9). Who withdraws that is
    /// counted out.
    ///
    /// Gives the number of devices whose reach has changed.
    pub async fn tell_reach(&self, actor: &Actor, now: Timestamp) -> Result<usize, WorkflowError> {
        let code = &actor.municipality_code;
        let mut n = 0;
        while !self.read(actor).await?.reach_due(code, 1).await?.is_empty() {
            let mut work = self.begin_long(actor, now).await?;
            for device in work.tx.reach_due(code, REACH_CHUNK).await? {
                let Some(granted) = work.tx.look_at_reach(device.device_id).await? else { continue };
                let Some(key) = device.person_key.filter(|_| granted != device.told_reachable) else { continue };
                let key = secret::device_key(key, device.device_id);
                let payload = json!({ "device_key": key, "granted": granted });
                work.event("app.push_permission_changed", Subject::new("device", key), payload);
                n += 1;
            }
            work.commit().await?;
        }
        Ok(n)
    }

    /// Sends a quiet test to a device of the caller; it is no message and stays out of the inbox and statistics.
    pub async fn test_device(&self, actor: &Actor, id: DeviceId, now: Timestamp) -> Result<DeliveryId, WorkflowError> {
        let account = actor.account()?;
        let mut work = self.begin(actor, now).await?;
        let device = work.tx.devices_of(account).await?.into_iter().find(|device| device.device_id == id);
        let Some(device) = device else { return Err(WorkflowError::NotFound("device")) };
        let message_id = MessageId::new(now);
        let row = NewDelivery {
            delivery_id: DeliveryId::new(now),
            message_id,
            municipality_code: device.municipality_code,
            account_id: account,
            message_type: "device.test".to_owned(),
            purpose: Purpose::Test,
            provider: device.kind,
            target: device.device_id.to_string(),
            edition: 0,
            speed: delivery::rank(Speed::Now),
            subject: "テスト通知".to_owned(),
            body: "この端末でお知らせを受け取れます。".to_owned(),
            link: "/settings".to_owned(),
            collapse_key: message_id.to_string(),
            optional: false,
            secret: false,
            escalation: None,
            state: DeliveryState::Queued,
            error_code: None,
            due_at: now,
            expires_at: Some(now.plus(TEST_LIFE)),
            receipt_key: rand::random(),
            cause_at: now,
            created_at: now,
        };
        let delivery_id = row.delivery_id;
        work.tx.insert_deliveries(&[row]).await?;
        work.commit().await?;
        Ok(delivery_id)
    }
}

fn parse(
    device_id: DeviceId,
    account_id: AccountId,
    actor: &Actor,
    draft: &DeviceDraft,
    now: Timestamp,
) -> Result<Device, WorkflowError> {
    let mut errors = Vec::new();
    let kind = draft.kind.parse::<Provider>().ok().filter(|kind| kind.channel() == Channel::Push);
    if kind.is_none() {
        errors.push(FieldError::new("kind", "fcm、apns、webpush のいずれかを指定してください。"));
    }
    let printable = draft.address.bytes().all(|b| b.is_ascii_graphic());
    if draft.address.is_empty() || draft.address.len() > ADDRESS_BYTES_MAX || !printable {
        errors.push(FieldError::new("token", "端末のトークンが正しくありません。"));
    }
    if kind == Some(Provider::WebPush) && (draft.p256dh.is_empty() || draft.auth.is_empty()) {
        errors.push(FieldError::new("keys", "購読の鍵（p256dh、auth）を指定してください。"));
    }
    let permission = draft.permission.parse::<DevicePermission>();
    if permission.is_err() {
        errors.push(FieldError::new("permission", "granted、denied、default のいずれかを指定してください。"));
    }
    let (Some(kind), Ok(permission), true) = (kind, permission, errors.is_empty()) else {
        return Err(WorkflowError::Invalid(errors));
    };
    let short = |text: &str| text.chars().take(64).collect::<String>();
    Ok(Device {
        device_id,
        municipality_code: actor.municipality_code.clone(),
        account_id,
        kind,
        address: draft.address.clone(),
        p256dh: short_key(&draft.p256dh),
        auth: short_key(&draft.auth),
        sandbox: draft.sandbox,
        permission,
        // Not refused when it is unknown: an app that names its system's language gets what the person chose.
        language: short(&draft.language),
        platform: short(&draft.platform),
        os_version: short(&draft.os_version),
        app_version: short(&draft.app_version),
        registered_at: now,
        seen_at: now,
        removed_at: None,
        removed_reason: None,
    })
}

fn short_key(text: &str) -> String {
    text.chars().take(256).collect()
}
