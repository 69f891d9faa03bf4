//! Who sends a request: session cookie, session token or API key.

use std::{net::SocketAddr, time::Duration};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, Method, header, request::Parts},
};
use todoke_store::{account::Account, session::Session};
use todoke_workflow::{Actor, account::TERMS_VERSION};

use crate::{problem::Problem, state::AppState, telemetry};

/// Name of the session cookie.
pub const COOKIE: &str = "todoke_session";
/// Header that must accompany every change made with the cookie.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// Prefix of API keys.
const KEY_PREFIX: &str = "tdk_";
/// What a person can do before accepting the terms in force (N-SEC-05): see who is signed in, accept, leave.
/// Machines act under the acceptance of the person who issued their key.
const BEFORE_TERMS: [&str; 2] = ["/v1/session", "/v1/session/terms"];
/// The use of a session, or of a key, is noted at most this often.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// A signed-in caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// As use cases see it.
    pub actor: Actor,
    /// Account.
    pub account: Account,
    /// Session; `None` for machines.
    pub session: Option<Session>,
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let now = app.now();
        let bearer = bearer(&parts.headers);
        let (account, session) = match (bearer, cookie(&parts.headers, COOKIE)) {
            (Some(key), _) if key.starts_with(KEY_PREFIX) => {
                let (account, key) = app.workflow.account_of_key(key).await?;
                if key.used_at.is_none_or(|used_at| now.since(used_at) >= TOUCH_EVERY) {
                    // When it was last used is worth no refused request.
                    if let Err(error) = app.workflow.touch_api_key(key.api_key_id, now).await {
                        tracing::warn!(error = %error, "the use of a key was not noted");
                    }
                }
                (account, None)
            }
            (Some(token), _) => {
                let (account, session) = app.workflow.session(token, now).await?;
                (account, Some(session))
            }
            (None, Some(token)) => {
                let (account, session) = app.workflow.session(token, now).await?;
                check_csrf(parts, &session)?;
                (account, Some(session))
            }
            (None, None) => return Err(Problem::signed_out()),
        };
        let per_min = app.config().http.requests_per_min;
        app.limiter.count(format!("account:{}", account.account_id), per_min, now).map_err(Problem::rate_limited)?;
        if let Some(session) = session.as_ref().filter(|session| now.since(session.seen_at) >= TOUCH_EVERY) {
            app.workflow.touch_session(session.session_id, now).await?;
        }
        let must_accept = session.is_some() && account.terms_version < TERMS_VERSION;
        if must_accept && !BEFORE_TERMS.contains(&parts.uri.path()) {
            return Err(Problem::terms_required());
        }
        let actor = Actor::of(&account, Some(telemetry::request_id()));
        Ok(Self { actor, account, session })
    }
}

/// A change with the cookie needs the token that only our own pages know. `sendBeacon` cannot send headers;
/// the usage endpoint, which changes nothing a person sees, is the one that goes without.
fn check_csrf(parts: &Parts, session: &Session) -> Result<(), Problem> {
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) || parts.uri.path() == "/v1/usage" {
        return Ok(());
    }
    let given = parts.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
    if given == Some(session.csrf_token.as_str()) { Ok(()) } else { Err(Problem::denied()) }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// The neighbourhood a request comes from, for limits before sign-in.
#[derive(Debug, Clone)]
pub struct Origin(pub String);

impl FromRequestParts<AppState> for Origin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let forwarded = parts
            .headers
            .get("x-forwarded-for")
            .filter(|_| app.config().http.trust_forwarded_for)
            .and_then(|value| value.to_str().ok())
            .and_then(|list| list.rsplit(',').next())
            .and_then(|last| last.trim().parse().ok());
        let direct = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        Ok(Self(forwarded.or(direct).map_or_else(String::new, telemetry::neighbourhood)))
    }
}
