//! The caller's own data, switches, consents and household.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_domain::{
    Role, Timestamp,
    catalogue::messages::{self, Channel, Class},
};
use todoke_store::account::Preference;
use todoke_workflow::account::{ProfileChange, profile_revision};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    input::{At, Body, IfMatch, all},
    sessions::account_json,
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(profile, change, delete))
        .routes(routes!(change_password))
        .routes(routes!(change_email))
        .routes(routes!(preferences, set_preferences))
        .routes(routes!(consents))
        .routes(routes!(set_consent))
        .routes(routes!(add_proxy))
}

#[utoipa::path(get, path = "/v1/me", tag = "me", responses((status = 200, description = "profile")))]
async fn profile(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let (account, guardian) = app.workflow.profile(&caller.actor).await?;
    let mut me = account_json(&app, &account).await?;
    me["name_kana"] = json!(account.name_kana);
    me["language"] = json!(account.language);
    me["version"] = json!(profile_revision(&account, guardian.as_ref())?);
    if let Some(on) = app.workflow.receive_mail(&caller.actor).await? {
        me["receive_mail"] = json!(on);
    }
    if let Some(guardian) = guardian {
        me["guardian_no"] = json!(guardian.guardian_no);
        me["sex"] = json!(guardian.sex);
        me["birth_date"] = json!(guardian.birth_date.map(|day| day.to_string()));
        me["postal_code"] = json!(guardian.postal_code);
        me["address"] = json!(guardian.address);
        me["ward_code"] = json!(guardian.ward_code);
        me["phone"] = json!(guardian.phone);
        me["contact_channel"] = json!(guardian.contact_channel);
        me["suspended"] = json!(guardian.suspended);
        let household = app.workflow.own_household(&caller.actor).await?;
        me["proxy"] = household.iter().find(|member| member.role == Role::ProxyGuardian).map_or(Value::Null, |proxy| {
            json!({ "account_id": proxy.account_id, "email": proxy.email, "name": proxy.name, "state": proxy.state })
        });
    }
    Ok(Json(me))
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct ProfileBody {
    name: Option<String>,
    name_kana: Option<String>,
    postal_code: Option<String>,
    address: Option<String>,
    ward_code: Option<String>,
    phone: Option<String>,
    contact_channel: Option<String>,
    /// Locale of the messages: `ja`, `ja-easy`, or another that some text is in; a text that lacks it comes in `ja`
    language: Option<String>,
    /// Offices only: optional messages come by mail as well
    receive_mail: Option<bool>,
}

impl ProfileBody {
    fn has_profile(&self) -> bool {
        let fields = [
            &self.name,
            &self.name_kana,
            &self.postal_code,
            &self.address,
            &self.ward_code,
            &self.phone,
            &self.contact_channel,
            &self.language,
        ];
        fields.iter().any(|field| field.is_some())
    }
}

#[utoipa::path(patch, path = "/v1/me", tag = "me", request_body = ProfileBody,
    responses((status = 204, description = "changed"), (status = 409, description = "`If-Match` names another version"),
    (status = 422, description = "fields to correct, such as a language that no text is in")))]
async fn change(
    State(app): State<AppState>,
    caller: Caller,
    IfMatch(version): IfMatch,
    Body(body): Body<ProfileBody>,
) -> Result<StatusCode, Problem> {
    let now = app.now();
    if let Some(on) = body.receive_mail {
        app.workflow.set_receive_mail(&caller.actor, on, now).await?;
    }
    if !body.has_profile() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let change = ProfileChange {
        name: body.name,
        name_kana: body.name_kana,
        postal_code: body.postal_code,
        address: body.address,
        ward_code: body.ward_code,
        phone: body.phone,
        contact_channel: body.contact_channel,
        language: body.language,
        expected: version,
    };
    app.workflow.change_profile(&caller.actor, &change, now).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(delete, path = "/v1/me", tag = "me", responses((status = 204, description = "account deleted, the proxy's too")))]
async fn delete(State(app): State<AppState>, caller: Caller) -> Result<StatusCode, Problem> {
    app.workflow.delete_own_account(&caller.actor, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, ToSchema)]
struct PasswordBody {
    current_password: String,
    new_password: String,
}

#[utoipa::path(put, path = "/v1/me/password", tag = "me", request_body = PasswordBody, responses((status = 204, description = "changed")))]
async fn change_password(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<PasswordBody>,
) -> Result<StatusCode, Problem> {
    app.workflow.change_password(&caller.actor, &body.current_password, body.new_password, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, ToSchema)]
struct EmailBody {
    email: String,
}

#[utoipa::path(post, path = "/v1/me/email", tag = "me", request_body = EmailBody, responses((status = 202, description = "a link is mailed to the new address")))]
async fn change_email(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<EmailBody>,
) -> Result<StatusCode, Problem> {
    app.workflow.request_email_change(&caller.actor, &body.email, app.now()).await?;
    Ok(StatusCode::ACCEPTED)
}

#[utoipa::path(get, path = "/v1/me/preferences", tag = "me", responses((status = 200, description = "every switch, with the ones that cannot be moved")))]
async fn preferences(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let set = app.workflow.preferences(&caller.actor).await?;
    let mut items = Vec::new();
    let mut seen = Vec::new();
    for kind in messages::all() {
        if seen.contains(&kind.category) {
            continue;
        }
        seen.push(kind.category);
        let movable =
            messages::all().iter().any(|other| other.category == kind.category && other.class == Class::Optional);
        for channel in [Channel::Push, Channel::Email] {
            let own = set.iter().find(|p| p.category == kind.category.as_str() && p.channel == channel.as_str());
            items.push(json!({
                "category": kind.category.as_str(),
                "channel": channel.as_str(),
                "enabled": own.map_or_else(|| kind.category.on_by_default(caller.account.role, channel), |p| p.enabled),
                "locked": !movable,
            }));
        }
    }
    Ok(Json(all(items)))
}

#[derive(Debug, Deserialize, ToSchema)]
struct PreferenceBody {
    category: String,
    channel: String,
    enabled: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
struct PreferencesBody {
    items: Vec<PreferenceBody>,
}

#[utoipa::path(put, path = "/v1/me/preferences", tag = "me", request_body = PreferencesBody, responses((status = 204, description = "set")))]
async fn set_preferences(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<PreferencesBody>,
) -> Result<StatusCode, Problem> {
    let items: Vec<Preference> = body
        .items
        .into_iter()
        .map(|item| Preference { category: item.category, channel: item.channel, enabled: item.enabled })
        .collect();
    app.workflow.set_preferences(&caller.actor, &items, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(get, path = "/v1/me/consents", tag = "me", responses((status = 200, description = "consents as they stand")))]
async fn consents(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let consents = app.workflow.consents(&caller.actor).await?;
    let items = consents.into_iter().map(|consent| {
        json!({
            "kind": consent.kind, "granted": consent.granted, "version": consent.version,
            "changed_at": Timestamp::from_micros(consent.at_us),
        })
    });
    Ok(Json(all(items.collect())))
}

#[derive(Debug, Deserialize, ToSchema)]
struct ConsentBody {
    granted: bool,
}

#[utoipa::path(put, path = "/v1/me/consents/{kind}", tag = "me", request_body = ConsentBody,
    params(("kind" = String, Path, description = "usage_analytics or identity_data")), responses((status = 204, description = "holds from now on")))]
async fn set_consent(
    State(app): State<AppState>,
    caller: Caller,
    At(kind): At<String>,
    Body(body): Body<ConsentBody>,
) -> Result<StatusCode, Problem> {
    app.workflow.set_consent(&caller.actor, &kind, body.granted, app.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct ProxyBody {
    email: String,
    name: String,
    name_kana: String,
    relation: String,
}

#[utoipa::path(post, path = "/v1/me/proxy", tag = "me", request_body = ProxyBody, responses((status = 201, description = "registered; a link is mailed")))]
async fn add_proxy(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<ProxyBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let proxy = app
        .workflow
        .add_proxy(&caller.actor, &body.email, &body.name, &body.name_kana, &body.relation, app.now())
        .await?;
    Ok((StatusCode::CREATED, Json(json!({ "account_id": proxy.account_id, "state": proxy.state }))))
}
