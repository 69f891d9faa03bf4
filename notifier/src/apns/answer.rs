//! What Apple's answers mean.

use std::borrow::Cow;

use http::StatusCode;
use serde::Deserialize;
use todoke_domain::Timestamp;

use super::APNS_ID;
use crate::{
    Outcome,
    http::{Reply, retry_after},
};

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Final(Outcome),
    /// The provider token is too old.
    TokenExpired,
}

#[derive(Default, Deserialize)]
struct Problem<'a> {
    #[serde(default, borrow)]
    reason: Cow<'a, str>,
    /// Milliseconds since 1970, of 410 only.
    timestamp: Option<i64>,
}

/// What an answer of an environment means. `proven`: it has taken a message of ours before, so topic and base URL are
/// right.
pub(super) fn meaning(reply: &Reply, now: Timestamp, proven: bool) -> Meaning {
    if reply.status == StatusCode::OK {
        let id = reply.headers.get(APNS_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        return Meaning::Final(Outcome::Accepted { provider_id: id });
    }
    let problem: Problem<'_> = serde_json::from_slice(&reply.body).unwrap_or_default();
    let after = retry_after(&reply.headers, now);
    let later = |code| Outcome::Later { code, after };
    let since = problem.timestamp.map(|ms| Timestamp::from_micros(ms.saturating_mul(1_000)));
    Meaning::Final(match &*problem.reason {
        "ExpiredProviderToken" => return Meaning::TokenExpired,
        // Also what every device gets when the base URL is the other environment's: that must not cost every device.
        "BadDeviceToken" if proven => Outcome::Gone { code: "bad_device_token", since: None },
        "BadDeviceToken" => later("bad_device_token"),
        "Unregistered" => Outcome::Gone { code: "unregistered", since },
        "ExpiredToken" => Outcome::Gone { code: "expired_token", since },
        "PayloadTooLarge" => Outcome::Refused { code: "too_large" },
        // Key, team or topic are set wrongly: an operator can mend that, and nothing is lost meanwhile.
        "InvalidProviderToken" | "MissingProviderToken" => later("provider_token_refused"),
        "BadTopic" | "MissingTopic" | "TopicDisallowed" => later("topic_refused"),
        "DeviceTokenNotForTopic" => later("device_token_not_for_topic"),
        // Too many to this one device.
        "TooManyRequests" => later("device_busy"),
        "TooManyProviderTokenUpdates" => later("too_many_provider_token_updates"),
        "IdleTimeout" => later("idle_timeout"),
        "Shutdown" | "ServiceUnavailable" => later("unavailable"),
        "InternalServerError" => later("internal"),
        _ => by_status(reply.status, since, later),
    })
}

fn by_status(status: StatusCode, since: Option<Timestamp>, later: impl Fn(&'static str) -> Outcome) -> Outcome {
    match status {
        StatusCode::GONE => Outcome::Gone { code: "unregistered", since },
        StatusCode::FORBIDDEN => later("forbidden"),
        StatusCode::TOO_MANY_REQUESTS => later("too_many_requests"),
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Refused { code: "too_large" },
        status if status.is_server_error() => later("unavailable"),
        _ => Outcome::Refused { code: "refused" },
    }
}
