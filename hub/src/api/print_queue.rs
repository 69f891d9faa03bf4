//! Letters: the queue, the runs they are printed in, and what became of them.

use std::borrow::Cow;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use todoke_domain::{ids::PrintRunId, qr::QrToken};
use todoke_notifier::paper::{self, Letter, Printed, Sender};
use todoke_store::{
    print_item::{LettersOf, PrintItem},
    print_run::PrintRun,
};
use todoke_workflow::{audit::Access, messaging::LetterStep};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{self, Asked, At, Body, id, page_size, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

/// Letters of a run unless asked otherwise: what a person folds and posts in a day.
const RUN_LETTERS: i64 = 1_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(mark))
        .routes(routes!(resend))
        .routes(routes!(runs))
        .routes(routes!(make_run))
        .routes(routes!(sheets))
        .routes(routes!(file))
        .routes(routes!(mark_run))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct LetterQuery {
    /// `queued`, `unaddressed`, `printed`, `posted`, `returned`, `replaced` or `withdrawn`
    state: Option<String>,
    /// Letters of this run only
    print_run_id: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
}

#[utoipa::path(get, path = "/v1/print-queue", tag = "solicitations", params(LetterQuery),
    responses((status = 200, description = "letters with their state, newest first")))]
async fn list(
    State(app): State<AppState>,
    caller: Caller,
    Asked(query): Asked<LetterQuery>,
) -> Result<Json<Value>, Problem> {
    let run = match query.print_run_id.as_deref().filter(|run| !run.is_empty()) {
        Some(run) => Some(id("print_run_id", run)?),
        None => None,
    };
    let of = LettersOf {
        state: query.state.unwrap_or_default(),
        run,
        before: query.cursor.filter(|cursor| !cursor.is_empty()),
    };
    let n_max = page_size(query.limit);
    let letters = app.workflow.print_queue(&caller.actor, &of, n_max).await?;
    audited(&app, &caller, Access::View, "letter", letters.len()).await?;
    let items: Vec<LetterLine> = letters.into_iter().map(LetterLine::from).collect();
    Ok(Json(input::list(items, n_max, |letter| letter.letter_no.clone())))
}

#[derive(Debug, Serialize)]
struct LetterLine {
    letter_no: String,
    letter_kind: String,
    recipient: String,
    title: String,
    state: String,
    print_run_id: Option<PrintRunId>,
    created_at: todoke_domain::Timestamp,
    withdrawn_at: Option<todoke_domain::Timestamp>,
}

impl From<PrintItem> for LetterLine {
    fn from(item: PrintItem) -> Self {
        Self {
            letter_no: item.letter_no,
            letter_kind: item.letter_kind,
            recipient: item.recipient_name,
            title: item.title,
            state: item.state,
            print_run_id: item.print_run_id,
            created_at: item.created_at,
            withdrawn_at: item.withdrawn_at,
        }
    }
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
    let step = letter_step(&body.state)?;
    let marked = app.workflow.mark_letters(&caller.actor, &body.letter_nos, step, app.now()).await?;
    Ok(Json(json!({ "marked": marked })))
}

#[utoipa::path(post, path = "/v1/print-queue/{letter_no}/resend", tag = "solicitations", params(("letter_no" = String, Path)),
    responses((status = 202, description = "queued once more under a new number, to where the register has the child now"),
              (status = 409, description = "it is on its way, was sent again already, is a message's, or nobody knows an address")))]
async fn resend(
    State(app): State<AppState>,
    caller: Caller,
    At(letter_no): At<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let again = app.workflow.resend_letter(&caller.actor, &letter_no, app.now()).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "letter_no": again }))))
}

fn letter_step(state: &str) -> Result<LetterStep, Problem> {
    match state {
        "printed" => Ok(LetterStep::Printed),
        "posted" => Ok(LetterStep::Posted),
        "returned" => Ok(LetterStep::Returned),
        _ => Err(Problem::invalid_field("state", "printed、posted、returned のいずれかです。")),
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RunQuery {
    cursor: Option<String>,
    limit: Option<i64>,
}

#[utoipa::path(get, path = "/v1/print-runs", tag = "solicitations", params(RunQuery),
    responses((status = 200, description = "runs with how far their letters came, newest first, and how many letters wait for the next")))]
async fn runs(
    State(app): State<AppState>,
    caller: Caller,
    Asked(query): Asked<RunQuery>,
) -> Result<Json<Value>, Problem> {
    let before = match query.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => Some(id("cursor", cursor)?),
        None => None,
    };
    let n_max = page_size(query.limit);
    let (runs, waiting) = app.workflow.print_runs(&caller.actor, before, n_max).await?;
    let items: Vec<RunLine> = runs.into_iter().map(RunLine::from).collect();
    let mut page = input::list(items, n_max, |run| run.print_run_id.to_string());
    page["waiting"] = json!(waiting);
    Ok(Json(page))
}

#[derive(Debug, Serialize)]
struct RunLine {
    print_run_id: PrintRunId,
    created_at: todoke_domain::Timestamp,
    made_by: String,
    n_letters: i64,
    n_queued: i64,
    n_printed: i64,
    n_posted: i64,
    n_returned: i64,
    n_withdrawn: i64,
}

impl From<PrintRun> for RunLine {
    fn from(run: PrintRun) -> Self {
        Self {
            print_run_id: run.print_run_id,
            created_at: run.created_at,
            made_by: run.made_by,
            n_letters: run.n_letters,
            n_queued: run.n_queued,
            n_printed: run.n_printed,
            n_posted: run.n_posted,
            n_returned: run.n_returned,
            n_withdrawn: run.n_withdrawn,
        }
    }
}

#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default)]
struct RunBody {
    /// Most letters of the run, the oldest first; 1,000 by default, 10,000 at most
    limit: Option<i64>,
}

#[utoipa::path(post, path = "/v1/print-runs", tag = "solicitations", request_body = RunBody,
    responses((status = 201, description = "the run with the oldest letters that waited; its files stay the same"),
              (status = 409, description = "no letter waits")))]
async fn make_run(
    State(app): State<AppState>,
    caller: Caller,
    Body(body): Body<RunBody>,
) -> Result<(StatusCode, Json<RunLine>), Problem> {
    let run = app.workflow.make_print_run(&caller.actor, body.limit.unwrap_or(RUN_LETTERS), app.now()).await?;
    Ok((StatusCode::CREATED, Json(run.into())))
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct RunMarkBody {
    /// `printed`, `posted` or `returned`
    state: String,
}

#[utoipa::path(post, path = "/v1/print-runs/{print_run_id}/marks", tag = "solicitations", params(("print_run_id" = String, Path)),
    request_body = RunMarkBody, responses((status = 200, description = "how many letters of the run were marked; those in another state are left out")))]
async fn mark_run(
    State(app): State<AppState>,
    caller: Caller,
    At(raw): At<String>,
    Body(body): Body<RunMarkBody>,
) -> Result<Json<Value>, Problem> {
    let step = letter_step(&body.state)?;
    let marked = app.workflow.mark_print_run(&caller.actor, path_id(&raw)?, step, app.now()).await?;
    Ok(Json(json!({ "marked": marked })))
}

#[utoipa::path(get, path = "/v1/print-runs/{print_run_id}/letters.csv", tag = "solicitations", params(("print_run_id" = String, Path)),
    responses((status = 200, description = "every letter of the run with address, text and the code to print", content_type = "text/csv")))]
async fn file(State(app): State<AppState>, caller: Caller, At(raw): At<String>) -> Result<impl IntoResponse, Problem> {
    let (csv, n_letters) = app.workflow.print_run_csv(&caller.actor, path_id(&raw)?).await?;
    audited(&app, &caller, Access::Export, "letter", n_letters).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"letters.csv\""),
    ];
    Ok((headers, csv))
}

#[utoipa::path(get, path = "/v1/print-runs/{print_run_id}/letters.pdf", tag = "solicitations", params(("print_run_id" = String, Path)),
    responses((status = 200, description = "the letters of the run for window envelopes, one page or more each; `todoke-incomplete` names letters with a character to be completed by hand", content_type = "application/pdf"),
              (status = 503, description = "there is no font to print with")))]
async fn sheets(
    State(app): State<AppState>,
    caller: Caller,
    At(raw): At<String>,
) -> Result<impl IntoResponse, Problem> {
    let (run, letters) = app.workflow.print_run(&caller.actor, path_id(&raw)?).await?;
    audited(&app, &caller, Access::Export, "letter", letters.len()).await?;
    let sender = Sender { name: run.sender_name, lines: run.sender_contact.lines().map(str::to_owned).collect() };
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
        (header::CONTENT_DISPOSITION, "attachment; filename=\"letters.pdf\"".to_owned()),
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
    use todoke_workflow::messaging::RUN_LETTERS_MAX;

    use super::*;

    #[test]
    fn a_run_fits_into_one_pdf() {
        assert_eq!(usize::try_from(RUN_LETTERS_MAX), Ok(paper::LETTERS_MAX));
        assert!((1..=RUN_LETTERS_MAX).contains(&RUN_LETTERS));
    }

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
                state: "queued".to_owned(),
                print_run_id: None,
                created_at: Timestamp::from_micros(0),
                withdrawn_at: None,
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
