//! A running demo with a guardian who can pay and a facility where they can.

use serde_json::{Value, json};
use todoke_tests::{
    http::{Answer, Client},
    todoke::Todoke,
};

/// Who and what a payment needs.
pub(crate) struct Scene {
    pub(crate) guardian: Client,
    pub(crate) staff: Client,
    /// As `GET /v1/home` gives it.
    pub(crate) coupon: Value,
    pub(crate) facility_id: String,
    pub(crate) programme_code: String,
}

impl Scene {
    /// Signs both in and finds a coupon with money and a programme the facility runs.
    pub(crate) async fn of(todoke: &Todoke) -> Self {
        let guardian = todoke.sign_in("guardian").await;
        let staff = todoke.sign_in("facility_staff").await;
        Self::with(guardian, staff).await
    }

    /// As [`Scene::of`], with people who are signed in already.
    pub(crate) async fn with(guardian: Client, staff: Client) -> Self {
        let account = staff.get("/v1/session").await.expect(200)["account"].clone();
        let facility_id = text(&account, "facility_id");
        let facility = staff.get(&format!("/v1/facilities/{facility_id}")).await.expect(200);
        let coupon = rich_coupon(&guardian).await;
        let set = coupon["coupon_set_id"].as_str().unwrap_or_default();
        let programmes = facility["programme_codes"].as_array().or_else(|| facility["programmes"].as_array());
        let programmes = programmes.unwrap_or_else(|| panic!("no programmes of the facility: {facility}"));
        let code =
            |programme: &Value| programme.as_str().or_else(|| programme["programme_code"].as_str()).unwrap().to_owned();
        let programme_code =
            programmes.first().map(code).unwrap_or_else(|| panic!("no programme for {set} at {facility}"));
        Self { guardian, staff, coupon, facility_id, programme_code }
    }

    pub(crate) fn coupon_id(&self) -> &str {
        self.coupon["coupon_id"].as_str().unwrap()
    }

    pub(crate) fn balance(&self) -> i64 {
        self.coupon["balance_yen"].as_i64().unwrap()
    }

    /// The body of a payment of `amount` yen.
    pub(crate) fn payment(&self, amount: i64) -> Value {
        json!({
            "coupon_id": self.coupon_id(), "facility_id": self.facility_id, "programme_code": self.programme_code,
            "amount_yen": amount, "confirm_repeat": true,
        })
    }

    /// Pays from the guardian's device.
    pub(crate) async fn pay(&self, key: &str, amount: i64) -> Answer {
        self.guardian.with_header("idempotency-key", key).post("/v1/coupon-uses", &self.payment(amount)).await
    }

    /// The uses that the guardian's inbox tells of, one for each message.
    pub(crate) async fn uses_told(&self) -> Vec<String> {
        let of_uses = inbox(&self.guardian).await.into_iter().filter(|message| message["type"] == "coupon.used");
        of_uses.map(|message| text(&message["subject"], "id")).collect()
    }

    /// What is on the coupon now. Yen.
    pub(crate) async fn balance_now(&self) -> i64 {
        let coupons = coupons(&self.guardian).await;
        let coupon = coupons.iter().find(|coupon| coupon["coupon_id"] == self.coupon_id()).expect("the coupon");
        coupon["balance_yen"].as_i64().unwrap()
    }
}

/// All coupons of a guardian's children.
async fn coupons(guardian: &Client) -> Vec<Value> {
    let home = guardian.get("/v1/home").await.expect(200);
    let children = home["children"].as_array().expect("children").iter();
    children.flat_map(|child| child["coupons"].as_array().expect("coupons").clone()).collect()
}

/// The coupon of a guardian with the most on it.
async fn rich_coupon(guardian: &Client) -> Value {
    let richest = coupons(guardian).await.into_iter().max_by_key(|coupon| coupon["balance_yen"].as_i64());
    let coupon = richest.expect("the demo's guardian has a coupon");
    assert!(coupon["balance_yen"].as_i64() >= Some(1_000), "the demo's guardian has no money left: {coupon}");
    coupon
}

/// A text field. Panics when it is absent.
pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {value}")).to_owned()
}

/// Rows of a SQL query as an analyst gets them over HTTP.
pub(crate) async fn sql(analyst: &Client, query: &str) -> Vec<Vec<Value>> {
    let answer = analyst.post("/v1/sql", &json!({"sql": query})).await.expect(200);
    serde_json::from_value(answer["rows"].clone()).expect("rows")
}

/// All messages of an inbox, newest first.
pub(crate) async fn inbox(who: &Client) -> Vec<Value> {
    let (mut messages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = who.get(&format!("/v1/inbox{cursor}")).await.expect(200);
        messages.extend(page["items"].as_array().expect("items").iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("?cursor={next}"),
            None => return messages,
        }
    }
}
