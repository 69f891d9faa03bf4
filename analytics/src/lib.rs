//! Reports and SQL over the lake.
//!
//! A report is a `.sql` file in `reports/`; its underlying rows are another. Both run over one picture of
//! one municipality's tables, so a figure can be re-added from its rows. SQL of people runs in a session
//! that knows the same tables and nothing else: it can read no file, write nothing, and see no other
//! municipality, because the session holds nothing else.
//!
//! Nothing here reads a clock, and nothing here knows HTTP.

mod aggregate;
mod calendar;
mod dimension;
mod docs;
mod error;
pub mod format;
mod functions;
mod labels;
mod parameters;
pub mod reference;
mod report;
mod rollup;
mod run;
mod sections;
mod session;
mod source;
mod sql;
mod views;

use std::{future::Future, sync::Arc, time::Duration};

use todoke_domain::MunicipalityCode;
use tokio::task::JoinSet;

pub use aggregate::{AGGREGATES, Aggregate, PERSONS_MIN, aggregate};
pub use dimension::Dimension;
pub use docs::{ColumnDoc, TableDoc};
pub use error::{Cause, ErrorKind, FormatError, ReportError, SourceError, SqlError};
pub use format::Format;
pub use report::{
    ClaimsOf, Named, Provenance, ReportColumn, ReportDoc, ReportId, ReportParameter, ReportRequest, ReportTable,
    RowsKind, catalogue,
};
pub use rollup::{RollupConfig, forget_rollups};
pub use session::EngineConfig;
pub use source::{LakeSource, SourceSnapshot, ViewSource};
pub use sql::{SqlAnswer, SqlColumn, SqlLimits, SqlRequest};

use rollup::Rollups;
use session::{Author, Sessions};

/// Makes reports and answers SQL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    source: Arc<dyn ViewSource>,
    sessions: Arc<Sessions>,
    rollups: Option<Arc<Rollups>>,
}

impl Engine {
    /// Over a source. Fails only if the folder for spilling is unusable.
    pub fn new(source: Arc<dyn ViewSource>, config: EngineConfig) -> Result<Self, SourceError> {
        let rollups = config.rollups.clone().map(|config| Arc::new(Rollups::new(config)));
        let sessions = Sessions::new(config).map_err(SourceError::new)?;
        Ok(Self { source, sessions: Arc::new(sessions), rollups })
    }

    /// All reports, with the SQL they run.
    pub fn reports(&self) -> &'static [ReportDoc] {
        catalogue()
    }

    /// Makes a report. Cancel safe: dropped, it stops and leaves nothing.
    pub async fn report(&self, request: &ReportRequest) -> Result<ReportTable, ReportError> {
        run::check_period(request.from, request.to)?;
        request.report.check_dimensions(&request.by)?;
        let snapshot = self.source.open(&request.municipality)?;
        let (sessions, request) = (Arc::clone(&self.sessions), request.clone());
        let rollups = self.rollups.clone().filter(|_| run::is_told_by_days(&request));
        let made = async move {
            let usage = match &rollups {
                Some(rollups) => Some(rollups.usage(&sessions, &snapshot, &request).await?),
                None => None,
            };
            run::run(sessions.open(snapshot, Author::Report), &request, usage.as_ref()).await
        };
        match self.isolated(made, self.sessions.config().report_timeout).await {
            Ok(answer) => answer,
            Err(Stopped::Late) => Err(ReportError::Timeout),
            Err(Stopped::Broken(cause)) => Err(ReportError::Internal(Box::new(cause))),
        }
    }

    /// Deletes from the disk the days of app usage that were made from other rows than the lake has now: those that are
    /// past their time, and those with people whom another node has forgotten. Nothing is made in their place.
    ///
    /// Errors: the days of a municipality cannot be looked at or deleted; those of the others are.
    pub async fn tidy_rollups(&self) -> Result<(), ReportError> {
        match &self.rollups {
            Some(rollups) => rollups.tidy(self.source.as_ref()).await,
            None => Ok(()),
        }
    }

    /// Answers one statement. Cancel safe: dropped, it stops and leaves nothing.
    pub async fn sql(&self, request: &SqlRequest) -> Result<SqlAnswer, SqlError> {
        let snapshot = self.source.open(&request.municipality)?;
        let session = self.sessions.open(snapshot, Author::Person);
        let (text, rows_max) = (request.text.clone(), request.limits.rows_max);
        let made = async move { sql::run(session, &text, rows_max).await };
        match self.isolated(made, request.limits.timeout).await {
            Ok(answer) => answer,
            Err(Stopped::Late) => Err(SqlError::Timeout),
            Err(Stopped::Broken(cause)) => Err(SqlError::Internal(Box::new(cause))),
        }
    }

    /// The tables offered to SQL.
    pub async fn schema(&self, municipality: &MunicipalityCode) -> Result<Vec<TableDoc>, SqlError> {
        let snapshot = self.source.open(municipality)?;
        docs::tables(self.sessions.open(snapshot, Author::Person)).await
    }

    /// Runs on the engine's runtime, if it has one, for at most `limit`. Dropping the future ends the work.
    async fn isolated<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        limit: Duration,
    ) -> Result<T, Stopped> {
        let Some(runtime) = &self.sessions.config().runtime else {
            return tokio::time::timeout(limit, work).await.map_err(|_| Stopped::Late);
        };
        let mut task = JoinSet::new();
        task.spawn_on(work, runtime);
        match tokio::time::timeout(limit, task.join_next()).await {
            Ok(Some(joined)) => joined.map_err(Stopped::Broken),
            Ok(None) | Err(_) => Err(Stopped::Late),
        }
    }
}

enum Stopped {
    Late,
    Broken(tokio::task::JoinError),
}
