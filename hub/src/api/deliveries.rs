//! Deliveries as the operator looks at them, and what can be done about a message that is out.

use axum::{Json, extract::State, http::StatusCode};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_domain::time::add_days;
use todoke_workflow::{
    audit::Access,
    messaging::{Correction, LetterInVain, MessageQuery},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, Body, PAGE_MAX, all, id, list, page_size, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

/// Hours after which a mandatory message counts as unreached (R13).
const UNREACHED_HOURS: u32 = 24;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(search))
        .routes(routes!(life))
        .routes(routes!(correct))
        .routes(routes!(withdraw))
        .routes(routes!(funnel))
        .routes(routes!(unreached))
        .routes(routes!(resend))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct Search {
    /// Part of the recipient's name, or of number, name or kana of the household
    q: String,
    /// Row of the message catalogue, such as `coupon.used`
    #[serde(rename = "type")]
    message_type: String,
    /// First day, `YYYY-MM-DD`; a week before the last by default
    from: Option<String>,
    /// Last day; today by default
    to: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
}

#[utoipa::path(get, path = "/v1/messages", tag = "deliveries", params(Search),
    responses((status = 200, description = "newest first, without their texts; also those that arrived or were withdrawn")))]
async fn search(
    State(app): State<AppState>,
    caller: Caller,
    Asked(search): Asked<Search>,
) -> Result<Json<Value>, Problem> {
    let (from, to) = days(&app, search.from.as_deref(), search.to.as_deref())?;
    let before = match search.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => Some(id("cursor", cursor)?),
        None => None,
    };
    let n_max = page_size(search.limit);
    let asked = MessageQuery { words: search.q, message_type: search.message_type, from, to, before };
    let found = app.workflow.find_messages(&caller.actor, &asked, n_max).await?;
    audited(&app, &caller, Access::View, "message", found.len()).await?;
    let items = found.into_iter().map(|row| {
        json!({
            "message_id": row.message_id,
            "type": row.message_type,
            "title": row.title,
            "subject_no": row.subject_no,
            "created_at": row.created_at,
            "read_at": row.read_at,
            "corrected_at": row.corrected_at,
            "withdrawn_at": row.withdrawn_at,
            "name": row.name,
            "guardian_no": row.guardian_no,
        })
    });
    Ok(Json(list(items.collect(), n_max, |item: &Value| item["message_id"].as_str().unwrap_or_default().to_owned())))
}

#[utoipa::path(get, path = "/v1/messages/{message_id}/deliveries", tag = "deliveries", params(("message_id" = String, Path)),
    responses((status = 200, description = "the message and each of its deliveries with the times of its states")))]
async fn life(State(app): State<AppState>, caller: Caller, At(raw): At<String>) -> Result<Json<Value>, Problem> {
    let life = app.workflow.message_life(&caller.actor, path_id(&raw)?).await?;
    audited(&app, &caller, Access::View, "message", 1).await?;
    let message = &life.message;
    Ok(Json(json!({
        "message": {
            "message_id": message.message_id,
            "type": message.message_type,
            "class": message.class,
            "title": message.title,
            "subject": { "kind": message.subject_kind, "id": message.subject_id, "no": message.subject_no },
            "recipient": life.recipient,
            "locale": message.locale,
            "template_version": message.template_version,
            "in_inbox": message.in_inbox,
            "created_at": message.created_at,
            "delivered_at": message.delivered_at,
            "read_at": message.read_at,
        },
        "deliveries": life.deliveries,
    })))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct CorrectionBody {
    title: String,
    body: String,
}

#[utoipa::path(post, path = "/v1/messages/{message_id}/correct", tag = "deliveries", params(("message_id" = String, Path)),
    request_body = CorrectionBody, responses((status = 204, description = "the inbox has the new words, devices are told that there is a correction")))]
async fn correct(
    State(app): State<AppState>,
    caller: Caller,
    At(raw): At<String>,
    Body(body): Body<CorrectionBody>,
) -> Result<StatusCode, Problem> {
    let correction = Correction { title: body.title, body: body.body };
    app.workflow.correct_message(&caller.actor, path_id(&raw)?, &correction, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/v1/messages/{message_id}/withdraw", tag = "deliveries", params(("message_id" = String, Path)),
    responses((status = 204, description = "out of the inbox and off the devices; a mail that left cannot be taken back")))]
async fn withdraw(State(app): State<AppState>, caller: Caller, At(raw): At<String>) -> Result<StatusCode, Problem> {
    app.workflow.withdraw_message(&caller.actor, path_id(&raw)?, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Days {
    /// First day, `YYYY-MM-DD`; a week before the last by default
    from: Option<String>,
    /// Last day; today by default
    to: Option<String>,
}

/// The days that are asked for: the last week unless said otherwise.
fn days(app: &AppState, from: Option<&str>, to: Option<&str>) -> Result<(Date, Date), Problem> {
    let day = |field: &str, raw: Option<&str>, otherwise: Date| {
        raw.filter(|raw| !raw.is_empty()).map_or(Ok(otherwise), |raw| id(field, raw))
    };
    let to = day("to", to, app.now().jst_date())?;
    Ok((day("from", from, add_days(to, -6))?, to))
}

#[utoipa::path(get, path = "/v1/deliveries/funnel", tag = "deliveries", params(Days),
    responses((status = 200, description = "by message type and channel: how many were made, sent, accepted, delivered, opened, failed")))]
async fn funnel(
    State(app): State<AppState>,
    caller: Caller,
    Asked(asked): Asked<Days>,
) -> Result<Json<Value>, Problem> {
    let (from, to) = days(&app, asked.from.as_deref(), asked.to.as_deref())?;
    let rows = app.workflow.delivery_funnel(&caller.actor, from, to).await?;
    audited(&app, &caller, Access::View, "message_funnel", rows.len()).await?;
    let items = rows.into_iter().map(|row| {
        json!({
            "type": row.message_type, "channel": row.channel, "created": row.created, "sent": row.sent,
            "accepted": row.accepted, "delivered": row.delivered, "opened": row.opened, "failed": row.failed,
            "expired": row.expired, "superseded": row.superseded,
        })
    });
    Ok(Json(json!({ "from": from.to_string(), "to": to.to_string(), "items": items.collect::<Vec<_>>() })))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Patience {
    /// Hours a message may take; 24 by default
    hours: Option<u32>,
}

#[utoipa::path(get, path = "/v1/deliveries/unreached", tag = "deliveries", params(Patience),
    responses((status = 200, description = "mandatory messages that reached nobody, with what was tried and what can be done next; beside them, in `letters`, letters that are no message's, since their households are not registered, and came back or have no address")))]
async fn unreached(
    State(app): State<AppState>,
    caller: Caller,
    Asked(patience): Asked<Patience>,
) -> Result<Json<Value>, Problem> {
    let hours = patience.hours.unwrap_or(UNREACHED_HOURS);
    let contacts = app.workflow.unreached(&caller.actor, hours, PAGE_MAX, app.now()).await?;
    audited(&app, &caller, Access::View, "message", contacts.len()).await?;
    let letters = app.workflow.letters_in_vain(&caller.actor, PAGE_MAX, app.now()).await?;
    audited(&app, &caller, Access::View, "letter", letters.len()).await?;
    let items = contacts.into_iter().map(|contact| {
        json!({
            "message_id": contact.row.message_id,
            "type": contact.row.message_type,
            "title": contact.row.title,
            "subject_no": contact.row.subject_no,
            "created_at": contact.row.created_at,
            "account_id": contact.row.account_id,
            "name": contact.row.name,
            "guardian_no": contact.row.guardian_no,
            "phone": contact.row.phone,
            "deliveries": contact.deliveries,
            "next": contact.next,
        })
    });
    let mut page = all(items.collect());
    page["letters"] = letters
        .into_iter()
        .map(|LetterInVain { letter, next }| {
            json!({
                "letter_no": letter.letter_no,
                "letter_kind": letter.letter_kind,
                "recipient": letter.recipient_name,
                "title": letter.title,
                "state": letter.state,
                "created_at": letter.created_at,
                "next": next,
            })
        })
        .collect();
    Ok(Json(page))
}

#[utoipa::path(post, path = "/v1/deliveries/{delivery_id}/resend", tag = "deliveries", params(("delivery_id" = String, Path)),
    responses((status = 202, description = "queued once more"), (status = 409, description = "it has not failed, or was sent again already")))]
async fn resend(
    State(app): State<AppState>,
    caller: Caller,
    At(raw): At<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let again = app.workflow.resend_delivery(&caller.actor, path_id(&raw)?, app.now()).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "delivery_id": again }))))
}
