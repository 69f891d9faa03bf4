//! Devices that take push.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_store::device::Device;
use todoke_workflow::messaging::DeviceDraft;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::input::{At, Body, all, path_id};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, remove))
        .routes(routes!(test))
        .routes(routes!(web_key))
}

fn device_json(device: &Device) -> Value {
    json!({
        "device_id": device.device_id,
        "kind": device.kind.as_str(),
        "permission": device.permission.as_str(),
        "language": Some(&device.language).filter(|language| !language.is_empty()),
        "platform": device.platform,
        "os_version": device.os_version,
        "app_version": device.app_version,
        "registered_at": device.registered_at,
        "seen_at": device.seen_at,
    })
}

#[utoipa::path(get, path = "/v1/devices", tag = "devices", responses((status = 200, description = "the caller's devices, the one heard of last first")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let devices = app.workflow.devices(&caller.actor).await?;
    Ok(Json(all(devices.iter().map(device_json).collect())))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct KeysBody {
    p256dh: String,
    auth: String,
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct DeviceBody {
    /// `fcm`, `apns` or `webpush`
    kind: String,
    /// Registration token of FCM or APNs
    token: String,
    /// Endpoint of a browser's subscription
    endpoint: String,
    /// Keys of a browser's subscription
    keys: KeysBody,
    /// Development build on Apple's sandbox
    sandbox: bool,
    /// `granted`, `denied` or `default`
    permission: String,
    /// Locale of the texts on this device, the account's by default and where a text lacks it
    language: String,
    /// `ios`, `android` or `web`
    platform: String,
    os_version: String,
    app_version: String,
}

#[utoipa::path(put, path = "/v1/devices/{device_id}", tag = "devices", params(("device_id" = String, Path, description = "a UUID the device chose for itself and keeps")),
    request_body = DeviceBody, responses((status = 200, description = "registered, or changed: a new token replaces the old one"),
    (status = 409, description = "the id is another person's: choose a new one"), (status = 422, description = "fields to correct")))]
async fn put(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<DeviceBody>,
) -> Result<Json<Value>, Problem> {
    let draft = DeviceDraft {
        kind: body.kind,
        address: if body.endpoint.is_empty() { body.token } else { body.endpoint },
        p256dh: body.keys.p256dh,
        auth: body.keys.auth,
        sandbox: body.sandbox,
        permission: body.permission,
        language: body.language,
        platform: body.platform,
        os_version: body.os_version,
        app_version: body.app_version,
    };
    let device = app.workflow.put_device(&caller.actor, path_id(&id)?, &draft, app.now()).await?;
    Ok(Json(device_json(&device)))
}

#[utoipa::path(delete, path = "/v1/devices/{device_id}", tag = "devices", params(("device_id" = String, Path)),
    responses((status = 204, description = "nothing is pushed to it any more")))]
async fn remove(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<StatusCode, Problem> {
    app.workflow.remove_device(&caller.actor, path_id(&id)?, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/v1/devices/{device_id}/test", tag = "devices", params(("device_id" = String, Path)),
    responses((status = 202, description = "a quiet test message is on its way"), (status = 409, description = "the device shows no notifications, as it says itself")))]
async fn test(
    State(app): State<AppState>,
    caller: Caller,
    At(id): At<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let delivery = app.workflow.test_device(&caller.actor, path_id(&id)?, app.now()).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "delivery_id": delivery }))))
}

#[utoipa::path(get, path = "/v1/push/web-key", tag = "devices",
    responses((status = 200, description = "the browser's applicationServerKey, base64url"), (status = 404, description = "no key is set: push to browsers is off")))]
async fn web_key(State(app): State<AppState>) -> Result<Json<Value>, Problem> {
    let settings = &app.config().web_push;
    if !settings.is_on() {
        return Err(Problem::not_found("web push key"));
    }
    Ok(Json(json!({ "key": settings.public_key })))
}
