//! Running a report: the check, the steps, the answer with its provenance.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Date32Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use datafusion::{
    error::DataFusionError,
    physical_plan::{collect, collect_partitioned},
    prelude::DataFrame,
};
use jiff::civil::Date;

use crate::{
    calendar,
    dimension::Dimension,
    error::ReportError,
    parameters::Parameters,
    report::{Provenance, ReportColumn, ReportId, ReportRequest, ReportTable, RowsKind},
    rollup::{Tables, Usage},
    sections::Section,
    session::Session,
};

/// Most lines a report may have.
const CELLS_MAX: usize = 200_000;
/// Longest period. Years.
const YEARS_MAX: i16 = 10;

pub(crate) fn check_period(from: Date, to: Date) -> Result<(), ReportError> {
    let known = from >= calendar::FIRST_DAY && to <= calendar::LAST_DAY;
    if from > to || !known || to.year() - from.year() > YEARS_MAX {
        return Err(ReportError::BadPeriod);
    }
    Ok(())
}

/// Makes a report in a session of its own.
///
/// With `usage`, sections that are kept by day are not run: the days tell their rows.
pub(crate) async fn run(
    mut session: Session,
    request: &ReportRequest,
    usage: Option<&Usage>,
) -> Result<ReportTable, ReportError> {
    let wanted = wanted_rows(request)?;
    let newest = session.snapshot.watermark.map_or(request.to, |at| at.jst_date());
    let tables = usage.map(|usage| Tables::of(request, newest, usage));
    let parameters = Parameters::of(request, newest);
    let by: &[Dimension] = if wanted.is_some() { &[] } else { &request.by };
    if wanted.is_some() && request.report == ReportId::StatisticsSimple {
        // Rows that do not add up must not leave either.
        check_ledger(&mut session, request, &parameters).await?;
    }
    for section in request.report.sections(wanted.is_some()).iter().filter(|s| s.runs(by)) {
        if section.is_final && wanted.is_some_and(|name| name != section.name) {
            continue;
        }
        if let Some(tables) = tables.as_ref().filter(|_| section.is_rolled) {
            if let Some(rows) = tables.table(section.name)? {
                session.keep(section.name, &rows.schema(), vec![vec![rows]])?;
            }
            continue;
        }
        if section.is_final {
            let physical = plan(&mut session, section, &parameters).await?.create_physical_plan().await?;
            let schema = physical.schema();
            // Not by partition: the order of the rows is part of the answer.
            let batches = collect(physical, session.ctx.task_ctx()).await?;
            return finish(request, &session, wanted.is_some(), schema, batches);
        }
        let (schema, rows) = step(&mut session, section, &parameters).await?;
        guard(section, &rows)?;
        session.keep(section.name, &schema, rows)?;
    }
    Err(ReportError::Internal("the report file has no final section for these dimensions".into()))
}

/// The wanted set of underlying rows, if any.
fn wanted_rows(request: &ReportRequest) -> Result<Option<&'static str>, ReportError> {
    let RowsKind::Underlying(name) = &request.rows else { return Ok(None) };
    let offered = request.report.row_sets();
    let found = match name {
        None => offered.first(),
        Some(name) => offered.iter().find(|offered| *offered == name),
    };
    found.copied().map(Some).ok_or_else(|| ReportError::UnknownRows(name.clone().unwrap_or_default()))
}

async fn plan(session: &mut Session, section: &Section, parameters: &Parameters) -> Result<DataFrame, ReportError> {
    let state = session.ctx.state();
    let dialect = state.config_options().sql_parser.dialect;
    let mut statement = state.sql_to_statement(section.sql, &dialect)?;
    parameters.bind(&mut statement)?;
    session.register_for(&statement).await?;
    let plan = session.ctx.state().statement_to_plan(statement).await?;
    Ok(session.ctx.execute_logical_plan(plan).await?)
}

/// Runs the report's own sections up to the check of the ledger.
async fn check_ledger(
    session: &mut Session,
    request: &ReportRequest,
    parameters: &Parameters,
) -> Result<(), ReportError> {
    for section in request.report.sections(false) {
        let (schema, rows) = step(session, section, parameters).await?;
        guard(section, &rows)?;
        if section.name == MISMATCH {
            break;
        }
        session.keep(section.name, &schema, rows)?;
    }
    Ok(())
}

/// Whether days of app usage can tell what is asked.
pub(crate) fn is_told_by_days(request: &ReportRequest) -> bool {
    request.report == ReportId::AppUsage && request.rows == RowsKind::Figures
}

/// One section's rows, by partition.
pub(crate) async fn step(
    session: &mut Session,
    section: &Section,
    parameters: &Parameters,
) -> Result<(SchemaRef, Vec<Vec<RecordBatch>>), ReportError> {
    let answer = plan(session, section, parameters).await?;
    let physical = answer.create_physical_plan().await?;
    let schema = physical.schema();
    Ok((schema, collect_partitioned(physical, session.ctx.task_ctx()).await?))
}

const MISMATCH: &str = "mismatch";
const CELL: &str = "cell";

/// Stops a report whose check failed, or that would be too long.
fn guard(section: &Section, rows: &[Vec<RecordBatch>]) -> Result<(), ReportError> {
    let n_rows: usize = rows.iter().flatten().map(RecordBatch::num_rows).sum();
    match section.name {
        MISMATCH if n_rows > 0 => {
            let first = rows.iter().flatten().find(|batch| batch.num_rows() > 0);
            let first = first.and_then(|batch| cast(batch.column(0), &DataType::Utf8).ok());
            let first = first.map(|ids| ids.as_string::<i32>().value(0).to_owned()).unwrap_or_default();
            Err(ReportError::CheckFailed { n_coupons: n_rows, first })
        }
        CELL if n_rows > CELLS_MAX => Err(ReportError::TooManyCells { n_cells: n_rows, n_max: CELLS_MAX }),
        _ => Ok(()),
    }
}

/// Drops the dimensions nobody chose, gives text its plain type and adds the provenance.
fn finish(
    request: &ReportRequest,
    session: &Session,
    underlying: bool,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
) -> Result<ReportTable, ReportError> {
    let provenance = Provenance {
        period_from: request.from,
        period_to: request.to,
        snapshot_id: session.snapshot.id.clone(),
        created_at: request.created_at,
        watermark: session.snapshot.watermark,
    };
    let chosen = |name: &str| match name.parse::<Dimension>() {
        Ok(dimension) => underlying || request.report.names_dimensions() || request.by.contains(&dimension),
        Err(_) => true,
    };
    let kept: Vec<usize> = (0..schema.fields().len()).filter(|at| chosen(schema.field(*at).name())).collect();
    let mut fields: Vec<Field> = kept.iter().map(|at| plain(schema.field(*at))).collect();
    if !underlying {
        fields.extend(provenance_fields());
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let batches = batches
        .into_iter()
        .filter(|batch| batch.num_rows() > 0)
        .map(|batch| {
            let n_rows = batch.num_rows();
            let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
            for (at, field) in kept.iter().zip(schema.fields()) {
                columns.push(cast(batch.column(*at), field.data_type())?);
            }
            if !underlying {
                columns.extend(provenance_columns(&provenance, n_rows));
            }
            let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
            RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(DataFusionError::from)?;
    let part = if underlying { "_rows" } else { "" };
    Ok(ReportTable {
        report: request.report,
        title: request.report.title().to_owned(),
        file_stem: format!("{}{part}_{}_{}", request.report, request.from, request.to),
        columns: schema.fields().iter().map(|field| ReportColumn::named(field.name())).collect(),
        schema,
        batches,
        provenance,
    })
}

/// The column as files have it: plain text, nullable.
fn plain(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(..) | DataType::Null => DataType::Utf8,
        DataType::UInt64 | DataType::UInt32 => DataType::Int64,
        other => other.clone(),
    };
    Field::new(field.name(), data_type, true)
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn provenance_fields() -> [Field; 4] {
    [
        Field::new("period_from", DataType::Date32, true),
        Field::new("period_to", DataType::Date32, true),
        Field::new("snapshot_id", DataType::Utf8, true),
        Field::new("created_at", instant(), true),
    ]
}

fn provenance_columns(provenance: &Provenance, n_rows: usize) -> [ArrayRef; 4] {
    let day = |day: Date| Arc::new(Date32Array::from_value(calendar::days_since_epoch(day), n_rows)) as ArrayRef;
    let created_at =
        TimestampMicrosecondArray::from_value(provenance.created_at.as_micros(), n_rows).with_timezone("UTC");
    [
        day(provenance.period_from),
        day(provenance.period_to),
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&provenance.snapshot_id, n_rows))),
        Arc::new(created_at),
    ]
}
