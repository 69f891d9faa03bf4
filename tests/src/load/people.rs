//! Households that can pay and facilities where they can.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    account::{self, Credentials},
    http::{Answer, Client},
    todoke::Todoke,
    wait::eventually,
};

const PASSWORD: &str = "Todoke-load-1";
const MAIL_LIMIT: Duration = Duration::from_secs(30);

/// A signed-in guardian with money on a coupon.
#[derive(Clone, Debug)]
pub struct Household {
    /// Signed in.
    pub client: Client,
    /// The coupon with the most on it.
    pub coupon_id: String,
}

/// Where a coupon can be used.
#[derive(Clone, Debug)]
pub struct Place {
    /// The facility.
    pub facility_id: String,
    /// A programme it runs.
    pub programme_code: String,
}

impl Household {
    /// Pays one yen.
    pub async fn pay(&self, place: &Place, key: &str) -> Result<Answer, crate::http::NoAnswer> {
        let body = json!({
            "coupon_id": self.coupon_id, "facility_id": place.facility_id, "programme_code": place.programme_code,
            "amount_yen": 1, "confirm_repeat": true,
        });
        let client = self.client.with_header("idempotency-key", key);
        client.try_request("POST", "/v1/coupon-uses", &[("content-type", "application/json")], body.to_string()).await
    }
}

/// The demo's first families that have a coupon, each with a password set by the mailed link.
///
/// Panics when the city has fewer.
pub async fn households(todoke: &Todoke, n: usize) -> Vec<Household> {
    let first = todoke.account("guardian").email;
    let domain = first.split_once('@').expect("an address").1.to_owned();
    let mut found = Vec::new();
    for serial in 1.. {
        assert!(serial < 4 * n + 10, "{} of {n} households have a coupon", found.len());
        let who = Credentials { email: format!("family{serial}@{domain}"), password: PASSWORD.to_owned() };
        found.extend(household(&todoke.client(), &who).await);
        if found.len() == n {
            break;
        }
    }
    found
}

async fn household(api: &Client, who: &Credentials) -> Option<Household> {
    api.post("/v1/password-resets", &json!({"email": who.email})).await.expect(202);
    let token = eventually("the link for a new password is mailed", MAIL_LIMIT, async || {
        let mails = api.get(&format!("/demo/mail.json?to={}", who.email)).await.expect(200);
        let links = mails.as_array()?.iter().flat_map(|mail| mail["links"].as_array().cloned().unwrap_or_default());
        links.filter_map(|link| Some(link.as_str()?.split_once("token=")?.1.to_owned())).next()
    })
    .await;
    let set = api.post("/v1/password-resets/confirm", &json!({"token": token, "password": who.password})).await;
    assert!(set.status < 300, "no new password: {}", set.text());
    let (client, _) = account::sign_in(api, who, "guardian").await;
    let home = client.get("/v1/home").await.expect(200);
    let children = home["children"].as_array().cloned().unwrap_or_default();
    let coupons = children.iter().flat_map(|child| child["coupons"].as_array().cloned().unwrap_or_default());
    let richest = coupons.max_by_key(|coupon| coupon["balance_yen"].as_i64())?;
    let coupon_id = richest["coupon_id"].as_str()?.to_owned();
    (richest["balance_yen"].as_i64()? >= 5_000).then_some(Household { client, coupon_id })
}

/// The facilities that take a payment of `payer`.
pub async fn places(payer: &Household) -> Vec<Place> {
    let list = payer.client.get("/v1/facilities").await.expect(200);
    let mut places = Vec::new();
    for facility in list["items"].as_array().expect("facilities") {
        let Some(place) = place(facility) else { continue };
        let tried = payer.pay(&place, &format!("try-{}", place.facility_id)).await;
        if tried.is_ok_and(|answer| answer.status == 201) {
            places.push(place);
        }
    }
    assert!(!places.is_empty(), "no facility takes a payment");
    places
}

/// The facility of the demo's staff, with its signed-in client.
pub async fn staffed(todoke: &Todoke) -> (Client, Place) {
    let staff = todoke.sign_in("facility_staff").await;
    let session = staff.get("/v1/session").await.expect(200);
    let facility_id = session["account"]["facility_id"].as_str().expect("staff of a facility");
    let facility = staff.get(&format!("/v1/facilities/{facility_id}")).await.expect(200);
    let place = place(&facility).expect("a facility with a programme");
    (staff, place)
}

fn place(facility: &Value) -> Option<Place> {
    let programme = &facility["programmes"][0];
    let programme_code = programme.as_str().or_else(|| programme["programme_code"].as_str())?.to_owned();
    Some(Place { facility_id: facility["facility_id"].as_str()?.to_owned(), programme_code })
}
