//! Files of other systems.

use axum::{
    Json,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_workflow::{audit::Access, import::ImportKind};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, At, all, path_id},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

/// A year of movements of a large city.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const FILE_NAME: &str = "x-file-name";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(import))
        .routes(routes!(result))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

#[utoipa::path(get, path = "/v1/imports", tag = "imports", responses((status = 200, description = "newest first")))]
async fn list(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    let files = app.workflow.imports(&caller.actor).await?;
    let items = files.into_iter().map(|file| {
        json!({
            "import_id": file.import_id,
            "kind": file.file_kind,
            "file_name": file.file_name,
            "state": file.state,
            "rows": file.n_rows,
            "errors": file.n_errors,
            "created_at": file.at,
        })
    });
    Ok(Json(all(items.collect())))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Import the same bytes again
    force: Option<bool>,
}

#[utoipa::path(post, path = "/v1/imports/{kind}", tag = "imports", params(("kind" = String, Path, description = "`movement`, `facility_usage`, `household_relation`, `external_application`, or `transfer_result` from the app section"), Query),
    request_body(content = Vec<u8>, content_type = "text/csv", description = "UTF-8 or Windows-31J; the name of the file percent-encoded in X-File-Name"), responses(
    (status = 201, description = "all rows taken"), (status = 409, description = "the same file was imported before"),
    (status = 422, description = "no row taken; `import_id` leads to the list of errors")))]
async fn import(
    State(app): State<AppState>,
    caller: Caller,
    At(kind): At<String>,
    Asked(query): Asked<Query>,
    headers: HeaderMap,
    content: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let kind: ImportKind = kind.parse().map_err(|_| Problem::not_found("kind"))?;
    let name = headers.get(FILE_NAME).and_then(|name| name.to_str().ok()).map(percent_decoded).unwrap_or_default();
    let now = app.now();
    let outcome =
        app.workflow.import_file(&caller.actor, kind, &name, &content, query.force.unwrap_or(false), now).await?;
    if !outcome.is_completed() {
        let errors: Vec<Value> = outcome
            .first_errors
            .iter()
            .map(|error| json!({ "field": format!("{}.{}", error.row, error.column), "detail": format!("{}行目：{}", error.row, error.reason) }))
            .collect();
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "import-failed", "The file was not imported")
            .detail(format!("{}件の誤りがあるため、取り込みませんでした。", outcome.errors))
            .member("import_id", outcome.import_id.to_string())
            .member("errors", errors));
    }
    let mut answer = json!(outcome);
    if kind == ImportKind::Movement {
        let run = app.workflow.match_waiting(&caller.actor, now).await?;
        answer["matched"] = json!(run.matched);
        answer["unmatched"] = json!(run.failed);
    }
    Ok((StatusCode::CREATED, Json(answer)))
}

#[utoipa::path(get, path = "/v1/imports/{import_id}/result.csv", tag = "imports", params(("import_id" = String, Path)),
    responses((status = 200, description = "row, column, reason", content_type = "text/csv")))]
async fn result(State(app): State<AppState>, caller: Caller, At(id): At<String>) -> Result<impl IntoResponse, Problem> {
    let csv = app.workflow.import_result(&caller.actor, path_id(&id)?).await?;
    audited(&app, &caller, Access::Export, "import_result", csv.lines().count().saturating_sub(1)).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"import_result.csv\""),
    ];
    Ok((headers, csv))
}

/// Text whose other bytes are written `%E3`; what is not valid after that is kept as it came.
fn percent_decoded(raw: &str) -> String {
    let hex = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(high * 16 + low);
                rest = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| raw.to_owned())
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn file_names_come_percent_encoded() {
        assert_eq!(percent_decoded("%E7%95%B0%E5%8B%95_2026-11.csv"), "異動_2026-11.csv");
        assert_eq!(percent_decoded("100%.csv"), "100%.csv");
        assert_eq!(percent_decoded("%FF.csv"), "%FF.csv");
    }
}
