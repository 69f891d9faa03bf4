//! Files of other systems (flows.md, Part I): each is taken as a whole or not at all, and answered with a
//! list of what is wrong in which row.

mod external;
mod movement;
mod register;
mod table;
mod transfer_result;

use std::collections::HashSet;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use todoke_domain::{
    Timestamp,
    catalogue::template::{Placeholder, Placeholders},
    ids::ImportId,
    role::Permission,
};
use todoke_store::import_file::ImportFile;

use crate::{Actor, Work, Workflow, WorkflowError, messaging::About, work::Subject};
use table::{Findings, Table};

pub(crate) use movement::born_from;
pub use table::RowError;

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportKind {
    /// I01 異動情報
    Movement,
    /// I02 施設利用実績情報
    FacilityUsage,
    /// I03 関係者情報
    HouseholdRelation,
    /// I05 口座振替結果データ
    TransferResult,
    /// I08 外部申請情報
    ExternalApplication,
}

impl ImportKind {
    const ALL: [Self; 5] =
        [Self::Movement, Self::FacilityUsage, Self::HouseholdRelation, Self::TransferResult, Self::ExternalApplication];

    /// The code in the record, in events and in addresses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Movement => "movement",
            Self::FacilityUsage => "facility_usage",
            Self::HouseholdRelation => "household_relation",
            Self::TransferResult => "transfer_result",
            Self::ExternalApplication => "external_application",
        }
    }

    /// The name people see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Movement => "異動情報",
            Self::FacilityUsage => "施設利用実績情報",
            Self::HouseholdRelation => "関係者情報",
            Self::TransferResult => "口座振替結果データ",
            Self::ExternalApplication => "外部申請情報",
        }
    }

    /// Who takes such files in: what the bank answers comes to the city, all else to the operator.
    const fn permission(self) -> Permission {
        match self {
            Self::TransferResult => Permission::OrderTransfers,
            Self::Movement | Self::FacilityUsage | Self::HouseholdRelation | Self::ExternalApplication => {
                Permission::ImportData
            }
        }
    }
}

/// A text that names no kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such kind of file")]
pub struct ImportKindError;

impl std::str::FromStr for ImportKind {
    type Err = ImportKindError;
    fn from_str(raw: &str) -> Result<Self, ImportKindError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == raw).ok_or(ImportKindError)
    }
}

/// What came of a file.
#[derive(Debug, Clone, Serialize)]
pub struct ImportOutcome {
    /// Id, for the list of results.
    pub import_id: ImportId,
    /// `completed` or `failed`.
    pub state: &'static str,
    /// Rows without the header.
    pub rows: usize,
    /// Errors found; with one or more nothing was taken.
    pub errors: usize,
    /// Households with a child of the age that is invited to apply (movement data).
    pub target_households: Option<i64>,
    /// The first errors.
    pub first_errors: Vec<RowError>,
}

impl ImportOutcome {
    /// Whether the file was taken.
    pub fn is_completed(&self) -> bool {
        self.state == COMPLETED
    }
}

const COMPLETED: &str = "completed";
const FAILED: &str = "failed";
const FIRST_ERRORS: usize = 20;
/// Longest list of imports shown.
const LISTED_MAX: i64 = 200;

/// A file as it came.
struct Incoming<'a> {
    kind: ImportKind,
    file_name: &'a str,
    bytes: &'a [u8],
    sha256: String,
}

impl Workflow {
    /// Imports a file, all of it or nothing. A refused file is recorded with its errors and is no `Err`.
    ///
    /// After movement data the applications that wait for matching should be tried again (T03).
    ///
    /// Errors: [`WorkflowError::Conflict`] when the same bytes were imported before and `force` is not set.
    /// Cancel safe: dropped before the commit, nothing has happened.
    pub async fn import_file(
        &self,
        actor: &Actor,
        kind: ImportKind,
        file_name: &str,
        bytes: &[u8],
        force: bool,
        now: Timestamp,
    ) -> Result<ImportOutcome, WorkflowError> {
        actor.require(kind.permission())?;
        let incoming = Incoming { kind, file_name, bytes, sha256: hex::encode(Sha256::digest(bytes)) };
        let mut findings = Findings::default();
        let mut work = self.begin_long(actor, now).await?;
        work.tx.lock_imports(&actor.municipality_code).await?;
        if !force && work.tx.import_of_hash(&actor.municipality_code, kind.as_str(), &incoming.sha256).await?.is_some()
        {
            return Err(WorkflowError::Conflict("同じ内容のファイルがすでに取り込まれています。".to_owned()));
        }
        let (rows, target_households) = work.take_in(&incoming, &mut findings).await?;
        if !findings.errors.is_empty() {
            // What the rows did so far goes with the transaction; the refusal itself is kept by another one.
            drop(work);
            work = self.begin(actor, now).await?;
        }
        let outcome = work.note_import(&incoming, rows, target_households, &findings).await?;
        work.commit().await?;
        Ok(outcome)
    }

    /// Imports of the municipality, newest first: the operator sees all, the city those it may make.
    pub async fn imports(&self, actor: &Actor) -> Result<Vec<ImportFile>, WorkflowError> {
        require_some(actor)?;
        let mut tx = self.read(actor).await?;
        let mut files = tx.import_files(&actor.municipality_code, LISTED_MAX).await?;
        files.retain(|file| may_see(actor, file));
        Ok(files)
    }

    /// The result file of an import: row number, column, reason.
    pub async fn import_result(&self, actor: &Actor, id: ImportId) -> Result<String, WorkflowError> {
        require_some(actor)?;
        let mut tx = self.read(actor).await?;
        let file = tx.import_file(id).await?.filter(|file| may_see(actor, file));
        Ok(file.ok_or(WorkflowError::NotFound("import"))?.result_csv)
    }
}

/// Refuses who may import no kind of file.
fn require_some(actor: &Actor) -> Result<(), WorkflowError> {
    actor.require(Permission::ImportData).or_else(|_| actor.require(Permission::OrderTransfers))
}

fn may_see(actor: &Actor, file: &ImportFile) -> bool {
    let kind = file.file_kind.parse::<ImportKind>().map_or(Permission::ImportData, ImportKind::permission);
    actor.require(Permission::ImportData).or_else(|_| actor.require(kind)).is_ok()
}

impl Work<'_> {
    /// Reads the file and applies it where no row is wrong. Gives the number of rows and, for movement
    /// data, of target households.
    async fn take_in(
        &mut self,
        incoming: &Incoming<'_>,
        findings: &mut Findings,
    ) -> Result<(usize, Option<i64>), WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let columns = match incoming.kind {
            ImportKind::Movement => movement::COLUMNS,
            ImportKind::FacilityUsage => register::USAGE_COLUMNS,
            ImportKind::HouseholdRelation => register::RELATION_COLUMNS,
            ImportKind::TransferResult => transfer_result::COLUMNS,
            ImportKind::ExternalApplication => external::COLUMNS,
        };
        let Some(table) = Table::read(incoming.bytes, columns, findings) else { return Ok((0, None)) };
        let rows = table.n_rows();
        match incoming.kind {
            ImportKind::Movement => {
                let movements = movement::parse(&table, &code, self.now.jst_date(), findings);
                if findings.errors.is_empty() {
                    return Ok((rows, Some(self.apply_movements(movements, findings).await?)));
                }
            }
            ImportKind::FacilityUsage => {
                let programmes: HashSet<String> =
                    self.tx.programmes(&code).await?.into_iter().map(|programme| programme.programme_code).collect();
                let usage = register::parse_usage(&table, &code, &programmes, findings);
                if findings.errors.is_empty() {
                    self.tx.upsert_facility_usage(&usage).await?;
                }
            }
            ImportKind::HouseholdRelation => {
                let relations = register::parse_relations(&table, &code, findings);
                if findings.errors.is_empty() {
                    self.tx.replace_relations(&relations).await?;
                }
            }
            ImportKind::TransferResult => self.import_transfer_results(&table, findings).await?,
            ImportKind::ExternalApplication => self.import_external_applications(&table, findings).await?,
        }
        Ok((rows, None))
    }

    async fn note_import(
        &mut self,
        incoming: &Incoming<'_>,
        rows: usize,
        target_households: Option<i64>,
        findings: &Findings,
    ) -> Result<ImportOutcome, WorkflowError> {
        let errors = findings.errors.len();
        let outcome = ImportOutcome {
            import_id: ImportId::new(self.now),
            state: if errors == 0 { COMPLETED } else { FAILED },
            rows,
            errors,
            target_households,
            first_errors: findings.errors.iter().take(FIRST_ERRORS).cloned().collect(),
        };
        let file_name: String = incoming.file_name.chars().filter(|c| !c.is_control()).take(200).collect();
        self.tx
            .insert_import_file(&ImportFile {
                import_id: outcome.import_id,
                municipality_code: self.actor.municipality_code.clone(),
                file_kind: incoming.kind.as_str().to_owned(),
                file_name: file_name.clone(),
                sha256: incoming.sha256.clone(),
                state: outcome.state.to_owned(),
                n_rows: count(rows),
                n_errors: count(errors),
                result_csv: findings.csv(),
                account_id: self.actor.account_id,
                at: self.now,
            })
            .await?;
        let event_type = if outcome.is_completed() { "import.completed" } else { "import.failed" };
        let event = self.event(
            event_type,
            Subject::new("import", outcome.import_id),
            json!({
                "file_kind": incoming.kind.as_str(),
                "rows": rows,
                "errors": errors,
                "target_households": target_households,
                "sha256": incoming.sha256,
            }),
        );
        let targets = target_households.map(|n| format!("（対象世帯{n}）")).unwrap_or_default();
        let path = "/staff/operator/imports";
        let about = About {
            subject_kind: "import",
            subject_id: outcome.import_id.to_string(),
            state: outcome.state.to_owned(),
            values: Placeholders::new()
                .with(Placeholder::Title, format!("{}「{file_name}」{targets}", incoming.kind.label()))
                .with(Placeholder::Count, rows.to_string())
                .with(Placeholder::Link, self.workflow.link(path)),
            office_link: path.to_owned(),
            data: [("import".to_owned(), json!(outcome))].into_iter().collect(),
            ..About::default()
        };
        self.raise(&event, &about).await?;
        Ok(outcome)
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
