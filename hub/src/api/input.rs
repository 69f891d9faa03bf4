//! Extractors whose refusals are problem documents too, and small shared conversions.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query},
    http::{header, request::Parts},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::problem::Problem;

/// A JSON body.
#[derive(Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
pub(super) struct Body<T>(pub(super) T);

/// Parts of the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
pub(super) struct At<T>(pub(super) T);

/// The query string.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Query), rejection(Problem))]
pub(super) struct Asked<T>(pub(super) T);

/// The version a form was filled from, as `If-Match` gives it; `None` when the client sends none or `*`.
#[derive(Debug)]
pub(super) struct IfMatch(pub(super) Option<String>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let given = parts.headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
        let version = given.map(|value| value.trim().trim_start_matches("W/").trim_matches('"'));
        Ok(Self(version.filter(|version| !matches!(*version, "" | "*")).map(str::to_owned)))
    }
}

/// Longest page of a list.
pub(super) const PAGE_MAX: i64 = 200;
/// Page of a list unless asked otherwise.
const PAGE: i64 = 50;

/// How many items a page holds that was asked for with `limit`.
pub(super) fn page_size(limit: Option<i64>) -> i64 {
    limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

/// A list with the cursor of the next page: the id of the last item when the page is full.
pub(super) fn list<T: Serialize>(items: Vec<T>, n_max: i64, id: impl Fn(&T) -> String) -> Value {
    let full = i64::try_from(items.len()).unwrap_or(i64::MAX) >= n_max;
    let next = items.last().filter(|_| full).map(id);
    json!({ "items": items, "next": next })
}

/// A whole list.
pub(super) fn all<T: Serialize>(items: Vec<T>) -> Value {
    json!({ "items": items, "next": null })
}

/// An id in a request field.
pub(super) fn id<T: std::str::FromStr>(field: &str, raw: &str) -> Result<T, Problem> {
    raw.trim().parse().map_err(|_| Problem::invalid_field(field, "指定が正しくありません。"))
}

/// An id in a path; what is not one is simply not there.
pub(super) fn path_id<T: std::str::FromStr>(raw: &str) -> Result<T, Problem> {
    raw.parse().map_err(|_| Problem::not_found("id"))
}
