//! Devices that take push: several per person, each with its token or subscription.

use todoke_domain::{
    MunicipalityCode, Timestamp,
    delivery::{DevicePermission, Provider},
    ids::{AccountId, DeviceId},
};

use crate::{StoreError, Tx, column::OptionalNumber};

/// A phone, tablet or browser.
#[derive(Clone, sqlx::FromRow)]
pub struct Device {
    /// Chosen by the device itself; stays over rotations of its token.
    #[sqlx(try_from = "String")]
    pub device_id: DeviceId,
    /// The wall.
    #[sqlx(try_from = "String")]
    pub municipality_code: MunicipalityCode,
    /// Whose it is.
    #[sqlx(try_from = "String")]
    pub account_id: AccountId,
    /// Who carries push to it.
    #[sqlx(try_from = "String")]
    pub kind: Provider,
    /// Registration token, or the endpoint of a browser's subscription.
    pub address: String,
    /// Public key of a browser's subscription; empty for others.
    pub p256dh: String,
    /// Authentication secret of a browser's subscription; empty for others.
    pub auth: String,
    /// A development build that Apple serves from another host.
    pub sandbox: bool,
    /// Whether it shows notifications.
    #[sqlx(try_from = "String")]
    pub permission: DevicePermission,
    /// Locale of the texts it wants, such as `ja` or `ja-easy`; empty when it wants those of its person.
    pub language: String,
    /// `ios`, `android` or `web`.
    pub platform: String,
    /// Version of the system; may be empty.
    pub os_version: String,
    /// Version of the app; may be empty.
    pub app_version: String,
    /// Since when it has its present address.
    #[sqlx(rename = "registered_at_us", try_from = "i64")]
    pub registered_at: Timestamp,
    /// When it was last heard of.
    #[sqlx(rename = "seen_at_us", try_from = "i64")]
    pub seen_at: Timestamp,
    /// When it was removed.
    #[sqlx(rename = "removed_at_us", try_from = "OptionalNumber")]
    pub removed_at: Option<Timestamp>,
    /// Why it was removed: `own_wish`, `moved`, `signed_out`, `account_deleted` or the provider's code.
    pub removed_reason: Option<String>,
}

impl std::fmt::Debug for Device {
    /// Without the address: it is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("device_id", &self.device_id)
            .field("kind", &self.kind)
            .field("permission", &self.permission)
            .finish_non_exhaustive()
    }
}

/// A device of which it has to be looked at whether push reaches it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ReachDue {
    /// The device.
    #[sqlx(try_from = "String")]
    pub device_id: DeviceId,
    /// Pseudonym of its person.
    pub person_key: Option<i64>,
    /// Whether the statistics know it as one that push reaches.
    pub told_reachable: bool,
}

macro_rules! select_device {
    ($rest:literal) => {
        concat!(
            "SELECT device_id, municipality_code, account_id, kind, address, p256dh, auth, sandbox, permission, language, platform, ",
            "os_version, app_version, registered_at_us, seen_at_us, removed_at_us, removed_reason FROM device ",
            $rest
        )
    };
}

impl Tx {
    /// Registers a device, or notes what has changed about it; a token or subscription that another device
    /// held moves here. `registered_at` counts anew when the address changes.
    ///
    /// Gives `false`, changing nothing, when the id is another person's.
    pub async fn put_device(&mut self, row: &Device) -> Result<bool, StoreError> {
        let now = row.seen_at;
        let n = execute!(
            self,
            "INSERT INTO device (device_id, municipality_code, account_id, kind, address, p256dh, auth, sandbox, permission, language,
                platform, os_version, app_version, registered_at_us, seen_at_us, removed_at_us, removed_reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $14, 'registering')
             ON CONFLICT (device_id) DO UPDATE SET kind = excluded.kind, address = excluded.address, p256dh = excluded.p256dh,
                auth = excluded.auth, sandbox = excluded.sandbox, permission = excluded.permission, language = excluded.language,
                platform = excluded.platform, os_version = excluded.os_version, app_version = excluded.app_version,
                registered_at_us = CASE WHEN device.address = excluded.address AND device.removed_at_us IS NULL
                    THEN device.registered_at_us ELSE excluded.registered_at_us END,
                seen_at_us = excluded.seen_at_us, removed_at_us = excluded.removed_at_us, removed_reason = excluded.removed_reason,
                reach_due = device.reach_due OR device.removed_at_us IS NOT NULL OR device.permission <> excluded.permission
             WHERE device.account_id = excluded.account_id",
            row.device_id.to_string(), row.municipality_code.as_str(), row.account_id.to_string(), row.kind.as_str(), &row.address,
            &row.p256dh, &row.auth, row.sandbox, row.permission.as_str(), &row.language, &row.platform, &row.os_version,
            &row.app_version, now.as_micros(),
        )?;
        if n == 0 {
            return Ok(false);
        }
        execute!(
            self,
            "UPDATE device SET removed_at_us = $3, removed_reason = 'moved', reach_due = TRUE
             WHERE kind = $1 AND address = $2 AND removed_at_us IS NULL",
            row.kind.as_str(),
            &row.address,
            now.as_micros(),
        )?;
        execute!(
            self,
            "UPDATE device SET removed_at_us = NULL, removed_reason = NULL WHERE device_id = $1",
            row.device_id.to_string(),
        )?;
        Ok(true)
    }

    /// Devices of a person that were not removed, the one heard of last first.
    pub async fn devices_of(&mut self, account: AccountId) -> Result<Vec<Device>, StoreError> {
        let rows = fetch_all!(
            self,
            Device,
            select_device!("WHERE account_id = $1 AND removed_at_us IS NULL ORDER BY seen_at_us DESC, device_id DESC"),
            account.to_string(),
        )?;
        Ok(self.see_all(rows))
    }

    /// Devices of several people that show notifications, in no order.
    pub async fn push_devices(&mut self, accounts: &[AccountId]) -> Result<Vec<Device>, StoreError> {
        let sql = if self.is_postgres() {
            select_device!(
                "WHERE account_id = ANY(string_to_array($1, ',')) AND removed_at_us IS NULL AND permission = 'granted'"
            )
        } else {
            select_device!(
                "WHERE account_id IN (SELECT value FROM json_each($1)) AND removed_at_us IS NULL AND permission = 'granted'"
            )
        };
        let among = self.among(accounts);
        let rows = fetch_all!(self, Device, sql, among)?;
        Ok(self.see_all(rows))
    }

    /// Devices by their ids, removed ones included, in no order.
    pub async fn devices(&mut self, ids: &[String]) -> Result<Vec<Device>, StoreError> {
        let sql = if self.is_postgres() {
            select_device!("WHERE device_id = ANY(string_to_array($1, ','))")
        } else {
            select_device!("WHERE device_id IN (SELECT value FROM json_each($1))")
        };
        let among = self.among(ids);
        let rows = fetch_all!(self, Device, sql, among)?;
        Ok(self.see_all(rows))
    }

    /// Removes a device of a person; `false` when there is none.
    pub async fn remove_device(
        &mut self,
        account: AccountId,
        id: DeviceId,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE device SET removed_at_us = $4, removed_reason = $3, reach_due = TRUE
             WHERE device_id = $1 AND account_id = $2 AND removed_at_us IS NULL AND ($5 = '' OR municipality_code = $5)",
            id.to_string(),
            account.to_string(),
            reason,
            now.as_micros(),
            self.wall.code(),
        )?;
        Ok(n > 0)
    }

    /// Removes every device of a person.
    pub async fn remove_devices_of(
        &mut self,
        account: AccountId,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE device SET removed_at_us = $3, removed_reason = $2, reach_due = TRUE
             WHERE account_id = $1 AND removed_at_us IS NULL AND ($4 = '' OR municipality_code = $4)",
            account.to_string(),
            reason,
            now.as_micros(),
            self.wall.code(),
        )?;
        Ok(())
    }

    /// Removes a device whose provider says that its address is dead: only if it still has that address, and
    /// did not register it after `since`.
    pub async fn remove_dead_device(
        &mut self,
        device: &Device,
        since: Option<Timestamp>,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n = execute!(
            self,
            "UPDATE device SET removed_at_us = $5, removed_reason = $4, reach_due = TRUE
             WHERE device_id = $1 AND address = $2 AND registered_at_us <= $3 AND removed_at_us IS NULL",
            device.device_id.to_string(),
            &device.address,
            since.map_or(i64::MAX, Timestamp::as_micros),
            reason,
            now.as_micros(),
        )?;
        Ok(n > 0)
    }

    /// Up to `n_max` devices of a municipality of which it has to be looked at whether push reaches them.
    pub async fn reach_due(&mut self, code: &MunicipalityCode, n_max: i64) -> Result<Vec<ReachDue>, StoreError> {
        fetch_all!(
            self,
            ReachDue,
            "SELECT d.device_id, a.person_key, d.told_reachable FROM device d JOIN account a ON a.account_id = d.account_id
             WHERE d.reach_due AND d.municipality_code = $1 ORDER BY d.device_id LIMIT $2",
            self.wall.inside(code),
            n_max,
        )
    }

    /// Looks whether push reaches a device of somebody who agrees to be counted, notes it and gives it; `None` when
    /// another node has just looked.
    pub async fn look_at_reach(&mut self, id: DeviceId) -> Result<Option<bool>, StoreError> {
        let row: Option<(bool,)> = fetch_optional!(
            self,
            (bool,),
            "UPDATE device SET reach_due = FALSE, told_reachable = (removed_at_us IS NULL AND permission = 'granted'
                AND EXISTS (SELECT 1 FROM consent c WHERE c.account_id = device.account_id AND c.kind = 'usage_analytics' AND c.granted))
             WHERE device_id = $1 AND reach_due AND ($2 = '' OR municipality_code = $2) RETURNING told_reachable",
            id.to_string(),
            self.wall.code(),
        )?;
        Ok(row.map(|(reachable,)| reachable))
    }

    /// The devices of a person have to be looked at again, whether push reaches them.
    pub async fn review_reach(&mut self, account: AccountId) -> Result<(), StoreError> {
        execute!(
            self,
            "UPDATE device SET reach_due = TRUE WHERE account_id = $1 AND ($2 = '' OR municipality_code = $2)",
            account.to_string(),
            self.wall.code(),
        )?;
        Ok(())
    }

    /// Forgets devices that were removed before `before`.
    pub async fn prune_devices(&mut self, before: Timestamp) -> Result<(), StoreError> {
        execute!(self, "DELETE FROM device WHERE removed_at_us < $1", before.as_micros())?;
        Ok(())
    }
}
