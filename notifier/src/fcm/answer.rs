//! What Firebase's answers mean. Decided by `details[].errorCode` where there is one, then by the status.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use serde::Deserialize;
use todoke_domain::Timestamp;

use crate::{
    Outcome,
    http::{Reply, retry_after},
};

/// The wait that Firebase's documentation asks for when a quota is used up and no other is given.
const QUOTA_WAIT: Duration = Duration::from_secs(60);

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Final(Outcome),
    /// The access token is not taken; a new one may be.
    TokenRefused,
}

#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    error: Problem,
}

#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    error_code: String,
    #[serde(default)]
    field_violations: Vec<Violation>,
}

#[derive(Deserialize)]
struct Violation {
    #[serde(default)]
    field: String,
}

impl Problem {
    /// The argument that was not taken is the registration token, not what we wrote around it.
    fn is_about_the_token(&self) -> bool {
        let named =
            self.details.iter().flat_map(|detail| &detail.field_violations).any(|at| at.field == "message.token");
        named || self.message.contains("registration token")
    }
}

pub(super) fn meaning(reply: &Reply, now: Timestamp) -> Meaning {
    if reply.status.is_success() {
        let sent = serde_json::from_slice::<Sent<'_>>(&reply.body).ok();
        return Meaning::Final(Outcome::Accepted { provider_id: sent.map(|sent| sent.name.into_owned()) });
    }
    let problem = serde_json::from_slice::<Answer>(&reply.body).unwrap_or_default().error;
    let after = retry_after(&reply.headers, now);
    let code = problem.details.iter().map(|detail| detail.error_code.as_str()).find(|code| !code.is_empty());
    let later = |code| Outcome::Later { code, after };
    Meaning::Final(match code.unwrap_or_default() {
        "UNREGISTERED" => Outcome::Gone { code: "unregistered", since: None },
        "INVALID_ARGUMENT" => invalid(&problem),
        // The token belongs to another project. Not "gone": a wrong project in our settings must not cost every device.
        "SENDER_ID_MISMATCH" => Outcome::Refused { code: "sender_id_mismatch" },
        "QUOTA_EXCEEDED" => Outcome::Later { code: "quota_exceeded", after: after.or(Some(QUOTA_WAIT)) },
        "UNAVAILABLE" => later("unavailable"),
        "INTERNAL" => later("internal"),
        // Apple's or the browser's credentials in the Firebase project: an operator can mend that.
        "THIRD_PARTY_AUTH_ERROR" => later("third_party_auth_error"),
        _ => return by_status(reply.status, &problem, after),
    })
}

fn invalid(problem: &Problem) -> Outcome {
    if problem.is_about_the_token() {
        return Outcome::Gone { code: "invalid_token", since: None };
    }
    Outcome::Refused { code: "invalid_argument" }
}

fn by_status(status: StatusCode, problem: &Problem, after: Option<Duration>) -> Meaning {
    let later = |code| Outcome::Later { code, after };
    Meaning::Final(match status {
        StatusCode::UNAUTHORIZED => return Meaning::TokenRefused,
        _ if problem.status == "UNAUTHENTICATED" => return Meaning::TokenRefused,
        StatusCode::BAD_REQUEST => invalid(problem),
        // Without an error code these speak of our project or our rights, not of the device.
        StatusCode::FORBIDDEN => later("permission_denied"),
        StatusCode::NOT_FOUND => later("project_not_found"),
        StatusCode::REQUEST_TIMEOUT => later("request_timeout"),
        StatusCode::TOO_MANY_REQUESTS => Outcome::Later { code: "quota_exceeded", after: after.or(Some(QUOTA_WAIT)) },
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Refused { code: "too_large" },
        status if status.is_server_error() => later("unavailable"),
        _ => Outcome::Refused { code: "refused" },
    })
}
