//! The web app's files and the headers every answer carries.

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use crate::problem::Problem;

/// Paths that are never a page of the app.
const NOT_PAGES: [&str; 8] =
    ["/v1/", "/connection/", "/demo/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/assets/"];

const CSP: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src 'self' ws: wss:; worker-src 'self'; font-src 'self'; object-src 'none'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

/// A file of the web app, or its first page for every address that is one of its screens.
pub async fn page(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    if !matches!(method, Method::GET | Method::HEAD) {
        return Problem::not_found("path").into_response();
    }
    let file = match todoke_dashboards::file(path) {
        Some(file) => file,
        None if NOT_PAGES.iter().any(|prefix| path.starts_with(prefix)) => {
            return Problem::not_found("path").into_response();
        }
        None => todoke_dashboards::index(),
    };
    let cache = if file.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [(header::CONTENT_TYPE, file.content_type), (header::CACHE_CONTROL, cache)];
    (StatusCode::OK, headers, file.bytes).into_response()
}

/// Secure headers (N-SEC-15).
pub fn harden(headers: &mut HeaderMap, https: bool) {
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert("permissions-policy", HeaderValue::from_static("camera=(self), geolocation=(self), microphone=()"));
    if https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
