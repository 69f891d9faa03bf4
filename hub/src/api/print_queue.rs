//! Letters to be printed.

use std::borrow::Cow;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_domain::qr::QrToken;
use todoke_notifier::paper::{self, Letter, Printed, Sender};
use todoke_store::print_item::PrintItem;
use todoke_workflow::{audit::Access, messaging::LetterStep};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Body, PAGE_MAX, all},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(file)).routes(routes!(sheets)).routes(routes!(mark))
}

#[utoipa::path(get, path = "/v1/print-queue", tag = "solicitations", responses((status = 200, description = "the newest letters")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let letters = app.workflow.print_queue(&caller.actor, PAGE_MAX).await?;
    audited(&app, &caller, Access::View, "letter", letters.len()).await?;
    let items = letters.into_iter().map(|letter| {
        json!({
            "letter_no": letter.letter_no,
            "letter_kind": letter.letter_kind,
            "recipient": letter.recipient_name,
            "title": letter.title,
            "created_at": letter.created_at,
        })
    });
    Ok(Json(all(items.collect())))
}

#[utoipa::path(get, path = "/v1/print-queue.csv", tag = "solicitations",
    responses((status = 200, description = "every letter with address, text and the code to print", content_type = "text/csv")))]
async fn file(State(app): State<AppState>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    let (csv, n_letters) = app.workflow.print_queue_csv(&caller.actor).await?;
    audited(&app, &caller, Access::Export, "letter", n_letters).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"print_queue.csv\""),
    ];
    Ok((headers, csv))
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct MarkBody {
    letter_nos: Vec<String>,
    /// `printed`, `posted` or `returned`
    state: String,
}

#[utoipa::path(post, path = "/v1/print-queue/marks", tag = "solicitations", request_body = MarkBody,
    responses((status = 200, description = "how many were marked; letters in another state are left out")))]
async fn mark(State(app): State<AppState>, caller: Caller, Body(body): Body<MarkBody>) -> Result<Json<Value>, Problem> {
    let step = match body.state.as_str() {
        "printed" => LetterStep::Printed,
        "posted" => LetterStep::Posted,
        "returned" => LetterStep::Returned,
        _ => return Err(Problem::invalid_field("state", "printed、posted、returned のいずれかです。")),
    };
    let marked = app.workflow.mark_letters(&caller.actor, &body.letter_nos, step, app.now()).await?;
    Ok(Json(json!({ "marked": marked })))
}

#[utoipa::path(get, path = "/v1/print-queue.pdf", tag = "solicitations",
    responses((status = 200, description = "the newest letters for window envelopes, one page or more each; `todoke-incomplete` names letters with a character to be completed by hand", content_type = "application/pdf"),
              (status = 503, description = "there is no font to print with")))]
async fn sheets(State(app): State<AppState>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    let n_max = i64::try_from(paper::LETTERS_MAX).unwrap_or(i64::MAX);
    let letters = app.workflow.print_queue(&caller.actor, n_max).await?;
    audited(&app, &caller, Access::Export, "letter", letters.len()).await?;
    let (name, contact) = app.workflow.print_sender(&caller.actor, app.now()).await?;
    let sender = Sender { name, lines: contact.lines().map(str::to_owned).collect() };
    let font_file = app.config().print.font_file.clone();
    let app_address = format!("{}/", app.config().public_url().trim_end_matches('/'));
    let print = move || -> Result<Printed, Problem> {
        let font = if font_file.as_os_str().is_empty() {
            todoke_dashboards::letter_font().ok_or_else(no_font)?
        } else {
            Cow::Owned(std::fs::read(&font_file).map_err(|_| no_font())?)
        };
        let letters: Vec<Letter> = letters.into_iter().map(|item| letter(item, &app_address)).collect();
        paper::print(&letters, &sender, &font).map_err(|error| Problem::internal(&error))
    };
    let printed = tokio::task::spawn_blocking(print).await.map_err(|error| Problem::internal(&error))??;
    let headers = [
        (header::CONTENT_TYPE, "application/pdf".to_owned()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"print_queue.pdf\"".to_owned()),
        (header::HeaderName::from_static("todoke-incomplete"), printed.incomplete.join(",")),
    ];
    Ok((headers, printed.pdf))
}

/// Kinds of letters that invite to the app: they carry the code that opens it.
const INVITATIONS: [&str; 2] = ["solicitation", "resolicitation"];

fn letter(item: PrintItem, app_address: &str) -> Letter {
    let is_invitation = INVITATIONS.contains(&item.letter_kind.as_str());
    let code = item.qr_token.as_deref().and_then(|token| QrToken::parse(token).ok());
    Letter {
        letter_no: item.letter_no,
        postal_code: item.postal_code,
        address: item.address,
        recipient_name: item.recipient_name,
        title: item.title,
        body: item.body,
        date: item.created_at.jst_date(),
        code: code.map(|token| (token.to_string(), token.grouped())),
        app: is_invitation.then(|| app_address.to_owned()),
    }
}

fn no_font() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-font", "No font to print with")
        .detail("印刷用のフォントがありません。print.font_file を設定するか、npm ci の後にビルドしてください。")
}

#[cfg(test)]
mod tests {
    use todoke_domain::Timestamp;

    use super::*;

    #[test]
    fn invitations_carry_the_code_of_the_app_and_no_other_letter_does() {
        let app_of = |kind: &str| {
            let item = PrintItem {
                letter_no: "P-000001".to_owned(),
                letter_kind: kind.to_owned(),
                recipient_name: String::new(),
                postal_code: String::new(),
                address: String::new(),
                title: String::new(),
                body: String::new(),
                qr_token: None,
                created_at: Timestamp::from_micros(0),
            };
            letter(item, "https://todoke.example.jp/").app
        };
        for kind in ["solicitation", "resolicitation"] {
            assert_eq!(app_of(kind).as_deref(), Some("https://todoke.example.jp/"), "{kind}");
        }
        for kind in ["deficiency", "rejection", "distribution", "qr_reissue", "message"] {
            assert_eq!(app_of(kind), None, "{kind}");
        }
    }
}
