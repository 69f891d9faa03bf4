//! `todoke report` and `todoke sql`: over a running server when there is one, which also knows the rows of
//! the last seconds, else over the lake's files.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use jiff::civil::Date;
use serde_json::json;
use todoke_analytics::{
    ClaimsOf, Dimension, Engine, EngineConfig, Format, LakeSource, ReportId, ReportRequest, RowsKind, SqlLimits,
    SqlRequest, format,
};
use todoke_domain::MunicipalityCode;
use todoke_lake::LakeView;

use super::{Common, output};
use crate::{clock::Clock, config::Config, local};

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Such as `statistics_simple`, `survey_aggregate` or `app_usage`
    report_id: String,
    #[command(flatten)]
    common: Common,
    /// Municipality, six digits
    #[arg(long, value_name = "CODE")]
    municipality: MunicipalityCode,
    /// First day
    #[arg(long, value_name = "DATE")]
    from: Date,
    /// Last day
    #[arg(long, value_name = "DATE")]
    to: Date,
    /// Dimensions, comma-separated
    #[arg(long, value_name = "DIM,…", default_value = "")]
    by: String,
    /// The underlying rows instead of the figures; with a name, that set of rows
    #[arg(long, value_name = "SET", num_args = 0..=1, default_missing_value = "")]
    rows: Option<String>,
    /// Only this survey
    #[arg(long, value_name = "ID")]
    survey: Option<String>,
    /// Only this coupon set
    #[arg(long, value_name = "ID")]
    coupon_set: Option<String>,
    /// table, csv, json or parquet
    #[arg(long, default_value = "table")]
    format: String,
}

#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// The statement
    sql: String,
    #[command(flatten)]
    common: Common,
    /// Municipality, six digits; may be left out when there is only one
    #[arg(long, value_name = "CODE")]
    municipality: Option<MunicipalityCode>,
    /// table, csv, json, parquet or arrow
    #[arg(long, default_value = "table")]
    format: String,
}

pub(super) async fn report(args: ReportArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    let format: Format = args.format.parse().map_err(|_| anyhow::anyhow!("unknown format {}", args.format))?;
    let rows = match args.rows.as_deref() {
        None => RowsKind::Figures,
        Some("") => RowsKind::Underlying(None),
        Some(name) => RowsKind::Underlying(Some(name.to_owned())),
    };
    let asked = local::ReportCall {
        report: args.report_id.clone(),
        municipality: args.municipality.clone(),
        from: args.from.to_string(),
        to: args.to.to_string(),
        by: args.by.clone(),
        rows: args.rows.clone(),
        survey_id: args.survey.clone(),
        coupon_set_id: args.coupon_set.clone(),
        format: args.format.clone(),
    };
    if let Some(bytes) = local::ask(&config.data, "/local/report", &json!(asked)).await? {
        return output::write(&bytes);
    }
    let request = ReportRequest {
        report: args.report_id.parse::<ReportId>().map_err(told)?,
        municipality: args.municipality,
        from: args.from,
        to: args.to,
        by: Dimension::parse_list(&args.by).map_err(told)?,
        rows,
        survey_id: args.survey,
        coupon_set_id: args.coupon_set,
        claims: ClaimsOf::Municipality,
        created_at: Clock::system().now(),
    };
    let table = engine(&config).await?.report(&request).await.map_err(told)?;
    output::write(&format::report_bytes(&table, format)?)
}

pub(super) async fn sql(args: SqlArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    let format: Format = args.format.parse().map_err(|_| anyhow::anyhow!("unknown format {}", args.format))?;
    let municipality = match args.municipality {
        Some(code) => code,
        None => only_municipality(&config).await?,
    };
    let asked =
        local::SqlCall { sql: args.sql.clone(), municipality: municipality.clone(), format: args.format.clone() };
    if let Some(bytes) = local::ask(&config.data, "/local/sql", &json!(asked)).await? {
        return output::write(&bytes);
    }
    let limits = if format == Format::Table { SqlLimits::shown() } else { SqlLimits::export() };
    let request = SqlRequest { municipality, text: args.sql, limits };
    let answer = engine(&config).await?.sql(&request).await.map_err(told)?;
    output::write(&format::answer_bytes(&answer, format)?)
}

/// What the person at the terminal should read, with the cause behind it.
fn told<E: Told>(error: E) -> anyhow::Error {
    let text = error.text();
    anyhow::Error::new(error).context(text)
}

trait Told: std::error::Error + Send + Sync + 'static {
    fn text(&self) -> String;
}

impl Told for todoke_analytics::ReportError {
    fn text(&self) -> String {
        self.detail_ja()
    }
}

impl Told for todoke_analytics::SqlError {
    fn text(&self) -> String {
        self.detail_ja()
    }
}

async fn engine(config: &Config) -> anyhow::Result<Engine> {
    let location = config.lake_location()?;
    anyhow::ensure!(location.folder().is_none_or(|dir| dir.is_dir()), "there is no lake in {location}");
    let view = LakeView::open_readonly(&location).await.context("the lake cannot be opened")?;
    let engine_config =
        EngineConfig { memory_bytes_max: config.query.memory_mib_max * 1024 * 1024, ..EngineConfig::default() };
    Ok(Engine::new(Arc::new(LakeSource::new(view)), engine_config)?)
}

async fn only_municipality(config: &Config) -> anyhow::Result<MunicipalityCode> {
    let store = crate::server::open_record(config, todoke_store::Durability::Full).await?;
    let mut tx = store.begin_read(todoke_store::Wall::None).await?;
    let mut all = tx.municipalities().await?;
    let codes: Vec<String> = all.iter().map(|m| m.municipality_code.to_string()).collect();
    anyhow::ensure!(all.len() == 1, "say which one: --municipality CODE ({})", codes.join(", "));
    Ok(all.remove(0).municipality_code)
}
