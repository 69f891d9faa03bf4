//! Coupons with ledgers that add up, and a seeded generator of them.

use serde_json::json;
use todoke_domain::Timestamp;

use crate::city::City;

/// A coupon that keeps its own balance.
pub(crate) struct Coupon {
    pub(crate) id: String,
    pub(crate) child: i64,
    pub(crate) set: String,
    seq: i64,
    pub(crate) balance: i64,
}

impl Coupon {
    pub(crate) fn new(id: &str, child: i64, set: &str) -> Self {
        Self { id: id.to_owned(), child, set: set.to_owned(), seq: 0, balance: 0 }
    }

    fn next(&mut self, delta: i64) -> i64 {
        self.seq += 1;
        self.balance += delta;
        self.seq
    }

    pub(crate) fn distribute(&mut self, city: &mut City, at: Timestamp, yen: i64) {
        let seq = self.next(yen);
        city.event("coupon.distributed", at, json!({
            "coupon_id": self.id, "child_key": self.child, "coupon_set_id": self.set, "coupon_kind": "yen",
            "lot_id": format!("{}-{seq}", self.id), "amount_yen": yen, "amount_units": 0, "bucket": null, "expires_on": "2027-03-31",
            "cycle_no": 1, "balance_after_yen": self.balance, "balance_after_units": 0, "ledger_seq": seq,
        }));
    }

    pub(crate) fn spend(
        &mut self,
        city: &mut City,
        at: Timestamp,
        use_id: &str,
        yen: i64,
        purpose: &str,
        place: (&str, &str),
    ) {
        let seq = self.next(-yen);
        city.event("coupon.used", at, json!({
            "use_id": use_id, "coupon_id": self.id, "child_key": self.child, "guardian_key": self.child + 1, "coupon_set_id": self.set,
            "coupon_kind": "yen", "purpose": purpose, "amount_yen": yen, "amount_units": 0,
            "lines": [{"lot_id": format!("{}-1", self.id), "bucket": null, "amount": yen}], "fee_total_yen": null,
            "application_id": null, "reservation_id": null, "initiated_by": "guardian", "device_less": false,
            "balance_after_yen": self.balance, "balance_after_units": 0, "ledger_seq": seq, "used_on": at.jst_date().to_string(),
            "programme_code": place.0, "facility_id": place.1,
        }));
    }

    pub(crate) fn reverse(
        &mut self,
        city: &mut City,
        at: Timestamp,
        use_id: &str,
        yen: i64,
        purpose: &str,
        place: (&str, &str),
    ) {
        let seq = self.next(yen);
        city.event("coupon.use_reversed", at, json!({
            "use_id": use_id, "reversal_id": format!("r-{use_id}"), "coupon_id": self.id, "child_key": self.child, "purpose": purpose,
            "amount_yen": yen, "amount_units": 0, "lines": [{"lot_id": format!("{}-1", self.id), "bucket": null, "amount": yen}],
            "reason_code": "mistake", "balance_after_yen": self.balance, "balance_after_units": 0, "ledger_seq": seq,
            "programme_code": place.0, "facility_id": place.1,
        }));
    }

    pub(crate) fn adjust(&mut self, city: &mut City, at: Timestamp, delta: i64) {
        let seq = self.next(delta);
        city.event("coupon.adjusted", at, json!({
            "coupon_id": self.id, "child_key": self.child, "bucket": null, "delta_yen": delta, "delta_units": 0,
            "reason_code": "correction", "balance_after_yen": self.balance, "balance_after_units": 0, "ledger_seq": seq,
        }));
    }

    pub(crate) fn expire(&mut self, city: &mut City, at: Timestamp, yen: i64) {
        let seq = self.next(-yen);
        city.event("coupon.expired", at, json!({
            "coupon_id": self.id, "child_key": self.child, "lot_id": format!("{}-1", self.id), "written_off_yen": yen,
            "written_off_units": 0, "rule": "age", "ledger_seq": seq,
        }));
    }

    pub(crate) fn revoke(&mut self, city: &mut City, at: Timestamp) {
        let rest = self.balance;
        let seq = self.next(-rest);
        city.event("coupon.revoked", at, json!({
            "coupon_id": self.id, "child_key": self.child, "written_off_yen": rest, "written_off_units": 0, "ledger_seq": seq,
        }));
    }
}

/// A small seeded generator: the same city every time, no dependency.
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Registers a guardian and a child, has the application approved, sometimes revoked.
pub(crate) fn register(
    city: &mut City,
    child: i64,
    at: Timestamp,
    ward: &str,
    class_age: i64,
    revoked_at: Option<Timestamp>,
) {
    let guardian = child + 1;
    city.event("account.registered", at, json!({
        "guardian_key": guardian, "method": "mail", "ward_code": ward, "age_band": null, "contact_channel": "app", "children": 1,
    }));
    city.event("child.registered", at, json!({
        "child_key": child, "guardian_key": guardian, "birth_month": "2024-05-01", "sex": "f", "class_age": class_age, "via_child_qr": false,
    }));
    let application = format!("a-{child}");
    city.event("application.submitted", at, json!({
        "application_id": application, "application_kind": "coupon", "child_key": child, "guardian_key": guardian, "entry": "online",
        "via_child_qr": false, "contact_channel": "app", "attachments": 1,
    }));
    city.event(
        "application.decided",
        at,
        json!({
            "application_id": application, "application_kind": "coupon", "decision": "approved", "reason_code": null,
        }),
    );
    if let Some(at) = revoked_at {
        city.event(
            "application.decision_revoked",
            at,
            json!({"application_id": application, "previous": "approved", "requested_by": "city"}),
        );
    }
}
