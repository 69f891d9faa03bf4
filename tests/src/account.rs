//! Signing in as people do: password, then the mailed code.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{http::Client, wait::eventually};

/// An account of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Sign-in name.
    pub email: String,
    /// Password.
    pub password: String,
}

/// Which door a role uses.
pub fn entrance(role: &str) -> &'static str {
    if role.starts_with("guardian") || role == "proxy_guardian" { "guardian" } else { "staff" }
}

/// The codes in the demo's mailbox for an address, newest first.
pub async fn mailed_codes(api: &Client, email: &str) -> Vec<String> {
    let mails = api.get(&format!("/demo/mail.json?to={}", email.replace('+', "%2B"))).await.expect(200);
    let mails = mails.as_array().expect("a list of mails").clone();
    mails.iter().filter_map(|mail| Some(mail["code"].as_str()?.to_owned())).collect()
}

/// Signs in and gives the client of the session together with the answer that opened it.
///
/// Panics when any step is refused.
pub async fn sign_in(api: &Client, who: &Credentials, entrance: &str) -> (Client, Value) {
    let before = mailed_codes(api, &who.email).await.len();
    let begun = api
        .post("/v1/sessions", &json!({"email": who.email, "password": who.password, "entrance": entrance}))
        .await
        .expect(200);
    assert_eq!(begun["state"], "otp_required", "{begun}");
    let code = eventually("the one-time code is mailed", Duration::from_secs(10), async || {
        let codes = mailed_codes(api, &who.email).await;
        (codes.len() > before).then(|| codes[0].clone())
    })
    .await;
    let opened =
        api.post("/v1/sessions/otp", &json!({"challenge_id": begun["challenge_id"], "code": code})).await.expect(201);
    let token = opened["session_token"].as_str().expect("a session token");
    let session = api.with_bearer(token);
    if opened["terms_required"] == true {
        assert!(session.post("/v1/session/terms", &json!({})).await.status < 300);
    }
    (session, opened)
}
