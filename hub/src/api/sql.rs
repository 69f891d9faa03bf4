//! SQL over the lake, within the caller's municipality.

use std::time::Instant;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use todoke_analytics::{Format, SqlLimits, SqlRequest, format};
use todoke_domain::role::Permission;
use todoke_workflow::audit::Access;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    audited::audited,
    input::{Asked, Body},
    reports::{file, output},
};
use crate::{auth::Caller, problem::Problem, state::AppState};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(run)).routes(routes!(schema))
}

#[derive(Debug, Deserialize, ToSchema)]
struct SqlBody {
    sql: String,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// `json` (default), `csv`, `parquet` or `arrow`
    format: Option<String>,
}

#[utoipa::path(post, path = "/v1/sql", tag = "sql", request_body = SqlBody, params(Query),
    responses((status = 200, description = "rows; reading statements only"), (status = 400, description = "refused or wrong"), (status = 504, description = "60 s are over")))]
async fn run(
    State(app): State<AppState>,
    caller: Caller,
    Asked(query): Asked<Query>,
    Body(body): Body<SqlBody>,
) -> Result<Response, Problem> {
    caller.actor.require(Permission::QueryLake)?;
    let format = output(query.format.as_deref())?;
    let limits = if format == Format::Json { SqlLimits::shown() } else { SqlLimits::export() };
    let request = SqlRequest { municipality: caller.actor.municipality_code.clone(), text: body.sql, limits };
    let begun = Instant::now();
    let answer = app.engine.sql(&request).await?;
    audited(&app, &caller, Access::Sql, "lake", answer.n_rows.max(1)).await?;
    if format == Format::Json {
        let mut value = format::answer_json(&answer);
        value["elapsed_ms"] = json!(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        return Ok(Json(value).into_response());
    }
    let bytes = format::answer_bytes(&answer, format).map_err(|error| Problem::internal(&error))?;
    Ok(file(bytes, format, "query"))
}

#[utoipa::path(get, path = "/v1/sql/schema", tag = "sql", responses((status = 200, description = "offered tables with columns, classes and meanings")))]
async fn schema(State(app): State<AppState>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.actor.require(Permission::QueryLake)?;
    let tables = app.engine.schema(&caller.actor.municipality_code).await?;
    Ok(Json(json!({ "tables": tables })))
}
