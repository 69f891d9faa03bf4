//! SQL for people: one reading statement over one municipality's tables, within limits.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use datafusion::{
    common::{TableReference, format::ExplainFormat, tree_node::TreeNodeRecursion},
    error::DataFusionError,
    execution::memory_pool::MemoryConsumer,
    logical_expr::LogicalPlan,
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{ast::Statement as SqlStatement, dialect::PostgreSqlDialect},
    },
};
use futures_util::StreamExt;
use serde::Serialize;
use todoke_domain::{MunicipalityCode, Timestamp};

use crate::{
    docs::type_text,
    error::SqlError,
    session::{self, Session},
};

/// Longest statement. Bytes.
const TEXT_BYTES_MAX: usize = 100_000;

/// Limits of one query (screens.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlLimits {
    /// Most rows of the answer; the rest is cut off and said so.
    pub rows_max: usize,
    /// Longest run.
    pub timeout: Duration,
}

impl SqlLimits {
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// For a page: 100,000 rows, 60 s.
    pub const fn shown() -> Self {
        Self { rows_max: 100_000, timeout: Self::TIMEOUT }
    }

    /// For a file: 1,000,000 rows, 60 s.
    pub const fn export() -> Self {
        Self { rows_max: 1_000_000, timeout: Self::TIMEOUT }
    }
}

/// A query.
#[derive(Clone, Debug)]
pub struct SqlRequest {
    /// Whose tables; no text can reach others.
    pub municipality: MunicipalityCode,
    /// One statement.
    pub text: String,
    /// Limits.
    pub limits: SqlLimits,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SqlColumn {
    /// Name.
    pub name: String,
    /// Type in SQL words.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct SqlAnswer {
    /// Columns in order.
    pub columns: Vec<SqlColumn>,
    /// Their types.
    pub schema: SchemaRef,
    /// The rows, at most `rows_max`.
    pub batches: Vec<RecordBatch>,
    /// There were more rows.
    pub truncated: bool,
    /// Rows in `batches`.
    pub n_rows: usize,
    /// The picture of the lake that was read.
    pub snapshot_id: String,
    /// The latest record it holds.
    pub watermark: Option<Timestamp>,
}

/// Runs one statement in a session of its own.
pub(crate) async fn run(mut session: Session, text: &str, rows_max: usize) -> Result<SqlAnswer, SqlError> {
    let statement = parse(text)?;
    let offered = session.offered();
    if reads_schema(&session, &statement)? {
        session.register_all().await.map_err(failed)?;
    } else {
        session.register_for(&statement).await.map_err(failed)?;
    }
    let plan = session.ctx.state().statement_to_plan(statement).await.map_err(failed)?;
    check_plan(&plan, &offered)?;
    let frame = session.ctx.execute_logical_plan(plan).await.map_err(failed)?;
    let mut rows = frame.execute_stream().await.map_err(failed)?;
    let schema = rows.schema();
    let kept = MemoryConsumer::new("answer").register(&session.ctx.runtime_env().memory_pool);
    let (mut batches, mut n_rows, mut truncated) = (Vec::new(), 0, false);
    while let Some(batch) = rows.next().await {
        let mut batch = batch.map_err(failed)?;
        let room = rows_max - n_rows;
        if batch.num_rows() > room {
            batch = batch.slice(0, room);
            truncated = true;
        }
        batch = session::compacted(&batch, &batch.schema()).map_err(DataFusionError::from).map_err(failed)?;
        n_rows += batch.num_rows();
        kept.try_grow(session::n_bytes(&batch)).map_err(failed)?;
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
        if truncated {
            break;
        }
    }
    let columns =
        schema.fields().iter().map(|f| SqlColumn { name: f.name().clone(), data_type: type_text(f.data_type()) });
    Ok(SqlAnswer {
        columns: columns.collect(),
        schema: Arc::clone(&schema),
        batches,
        truncated,
        n_rows,
        snapshot_id: session.snapshot.id.clone(),
        watermark: session.snapshot.watermark,
    })
}

/// Exactly one statement of an allowed kind.
fn parse(text: &str) -> Result<Statement, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SqlError::Syntax("too long".to_owned()));
    }
    let mut statements = DFParserBuilder::new(text)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(64)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(failed)?;
    let statement = statements.pop_front().ok_or(SqlError::Empty)?;
    if !statements.is_empty() {
        return Err(SqlError::MoreThanOneStatement);
    }
    check_statement(&statement)?;
    Ok(statement)
}

fn check_statement(statement: &Statement) -> Result<(), SqlError> {
    let refuse = |what: &str| Err(SqlError::NotAllowed(what.to_owned()));
    match statement {
        Statement::Statement(inner) => match inner.as_ref() {
            SqlStatement::Query(_)
            | SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ExplainTable { .. } => Ok(()),
            other => refuse(&first_word(&other.to_string())),
        },
        Statement::Explain(explain) => {
            // ANALYZE and the tree form print physical plans, and those name files of this machine.
            if explain.options.analyze || matches!(explain.options.format, Some(ExplainFormat::Tree)) {
                return refuse("EXPLAIN ANALYZE");
            }
            match explain.statement.as_ref() {
                Statement::Statement(inner) if matches!(inner.as_ref(), SqlStatement::Query(_)) => Ok(()),
                _ => refuse("EXPLAIN"),
            }
        }
        Statement::CopyTo(_) => refuse("COPY"),
        Statement::CreateExternalTable(_) => refuse("CREATE"),
        Statement::Reset(_) => refuse("RESET"),
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_uppercase()
}

/// Whether a statement asks what tables there are.
fn reads_schema(session: &Session, statement: &Statement) -> Result<bool, SqlError> {
    let query = match statement {
        Statement::Statement(inner) => matches!(inner.as_ref(), SqlStatement::Query(_)),
        Statement::Explain(_) => true,
        _ => false,
    };
    let references = session.ctx.state().resolve_table_references(statement).map_err(failed)?;
    Ok(!query || references.iter().any(|reference| reference.schema() == Some(INFORMATION_SCHEMA)))
}

const INFORMATION_SCHEMA: &str = "information_schema";
const SCHEMA_TABLES: &[&str] = &["tables", "columns", "views"];

/// Only reading nodes, only offered tables: whatever the parser let through ends here.
fn check_plan(plan: &LogicalPlan, offered: &BTreeSet<String>) -> Result<(), SqlError> {
    let mut recursive = BTreeSet::new();
    let mut refused: Option<String> = None;
    let walked = plan.apply_with_subqueries(|node| {
        use LogicalPlan as P;
        match node {
            P::RecursiveQuery(query) => {
                recursive.insert(query.name.clone());
            }
            P::TableScan(scan) if !may_read(&scan.table_name, offered, &recursive) => {
                refused = Some(scan.table_name.to_string());
            }
            P::Projection(_)
            | P::Filter(_)
            | P::Window(_)
            | P::Aggregate(_)
            | P::Sort(_)
            | P::Join(_)
            | P::Repartition(_)
            | P::Union(_)
            | P::TableScan(_)
            | P::EmptyRelation(_)
            | P::Subquery(_)
            | P::SubqueryAlias(_)
            | P::Limit(_)
            | P::Values(_)
            | P::Distinct(_)
            | P::Unnest(_)
            | P::Explain(_)
            | P::DescribeTable(_) => {}
            other => refused = Some(first_word(&other.display().to_string())),
        }
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(failed)?;
    refused.map_or(Ok(()), |what| Err(SqlError::NotAllowed(what)))
}

fn may_read(name: &TableReference, offered: &BTreeSet<String>, recursive: &BTreeSet<String>) -> bool {
    match name.schema() {
        Some(INFORMATION_SCHEMA) => SCHEMA_TABLES.contains(&name.table()),
        _ => offered.contains(name.table()) || recursive.contains(name.table()),
    }
}

/// Longest error text shown. Characters.
const ERROR_CHARS_MAX: usize = 500;

/// Sorts an error by whose fault it is. Texts that could name a file stay inside.
fn failed(error: DataFusionError) -> SqlError {
    let text = |error: &DataFusionError| error.strip_backtrace().chars().take(ERROR_CHARS_MAX).collect::<String>();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => SqlError::TooLarge,
        DataFusionError::SQL(..) => SqlError::Syntax(text(error.find_root())),
        root @ (DataFusionError::Plan(_) | DataFusionError::SchemaError(..) | DataFusionError::NotImplemented(_)) => {
            SqlError::Plan(text(root))
        }
        root @ DataFusionError::Execution(_) => SqlError::Runtime(text(root)),
        root @ DataFusionError::ArrowError(inner, _) if is_about_values(inner) => SqlError::Runtime(text(root)),
        _ => SqlError::Internal(Box::new(error)),
    }
}

fn is_about_values(error: &ArrowError) -> bool {
    matches!(
        error,
        ArrowError::CastError(_)
            | ArrowError::ParseError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::InvalidArgumentError(_)
    )
}
