//! What can go wrong, each with a text that is safe to show.

use std::error::Error as StdError;

use datafusion::error::DataFusionError;

/// A cause from outside this crate.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// What an error means to a caller; the HTTP layer maps it to a status, the CLI to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong; repeating it does not help.
    BadRequest,
    /// The data forbid an answer now.
    Conflict,
    /// The answer needs more memory or rows than allowed.
    TooLarge,
    /// The time limit passed.
    Timeout,
    /// A fault on our side.
    Internal,
}

/// The tables could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the lake could not be opened")]
pub struct SourceError(#[source] pub Cause);

impl SourceError {
    /// Wraps a cause.
    pub fn new(cause: impl Into<Cause>) -> Self {
        Self(cause.into())
    }
}

/// A report that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No report has this id.
    #[error("no report `{0}`")]
    UnknownReport(String),
    /// No dimension has this name.
    #[error("no dimension `{0}`")]
    UnknownDimension(String),
    /// The report does not offer the dimension, or not beside the others.
    #[error("dimension `{0}` is not offered here")]
    DimensionNotOffered(&'static str),
    /// The report has no underlying rows of this name.
    #[error("no row set `{0}`")]
    UnknownRows(String),
    /// The period is reversed, longer than ten years, or outside the calendar.
    #[error("bad period")]
    BadPeriod,
    /// The dimensions have too many combinations.
    #[error("{n_cells} cells, {n_max} allowed")]
    TooManyCells {
        /// Combinations asked for.
        n_cells: usize,
        /// Combinations allowed.
        n_max: usize,
    },
    /// The coupon ledger does not add up (R01 check line), so no figure may leave.
    #[error("the ledger of {n_coupons} coupons does not add up, {first} first")]
    CheckFailed {
        /// How many coupons are off.
        n_coupons: usize,
        /// One of them.
        first: String,
    },
    /// The tables could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// More memory than allowed.
    #[error("the memory limit was reached")]
    TooLarge,
    /// The time limit passed.
    #[error("the time limit passed")]
    Timeout,
    /// A fault on our side.
    #[error("the report failed")]
    Internal(#[source] Cause),
}

impl ReportError {
    /// What it means to a caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownReport(_)
            | Self::UnknownDimension(_)
            | Self::DimensionNotOffered(_)
            | Self::UnknownRows(_)
            | Self::BadPeriod => ErrorKind::BadRequest,
            Self::TooManyCells { .. } | Self::TooLarge => ErrorKind::TooLarge,
            Self::CheckFailed { .. } => ErrorKind::Conflict,
            Self::Timeout => ErrorKind::Timeout,
            Self::Source(_) | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// A text for people.
    pub fn detail_ja(&self) -> String {
        match self {
            Self::UnknownReport(_) => "このレポートはありません。".to_owned(),
            Self::UnknownDimension(_) => "この集計軸はありません。".to_owned(),
            Self::DimensionNotOffered(name) => format!("集計軸「{name}」は、このレポートではこの組合せで使えません。"),
            Self::UnknownRows(_) => "この集計根拠データはありません。".to_owned(),
            Self::BadPeriod => {
                "期間が正しくありません。開始日は終了日以前とし、10年以内で指定してください。".to_owned()
            }
            Self::TooManyCells { .. } => "集計軸の組合せが多すぎます。軸を減らしてください。".to_owned(),
            Self::CheckFailed { n_coupons, .. } => {
                format!(
                    "クーポン台帳の検算が合わないため、出力を止めました（{n_coupons}件）。運営事業者に連絡してください。"
                )
            }
            Self::TooLarge => "集計に必要なメモリが上限を超えました。期間か集計軸を減らしてください。".to_owned(),
            Self::Timeout => "集計が制限時間内に終わりませんでした。期間を短くしてください。".to_owned(),
            Self::Source(_) | Self::Internal(_) => {
                "集計を実行できませんでした。時間をおいてもう一度お試しください。".to_owned()
            }
        }
    }
}

impl From<DataFusionError> for ReportError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::TooLarge,
            _ => Self::Internal(Box::new(error)),
        }
    }
}

/// A query that was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// There is no statement.
    #[error("no statement")]
    Empty,
    /// It is not SQL.
    #[error("syntax error: {0}")]
    Syntax(String),
    /// More than one statement.
    #[error("more than one statement")]
    MoreThanOneStatement,
    /// A statement, table or function outside what is offered.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// It names something that does not exist, or mixes types.
    #[error("{0}")]
    Plan(String),
    /// It failed on the data.
    #[error("{0}")]
    Runtime(String),
    /// The tables could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// More memory than allowed.
    #[error("the memory limit was reached")]
    TooLarge,
    /// The time limit passed.
    #[error("the time limit passed")]
    Timeout,
    /// A fault on our side.
    #[error("the query failed")]
    Internal(#[source] Cause),
}

impl SqlError {
    /// What it means to a caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty
            | Self::Syntax(_)
            | Self::MoreThanOneStatement
            | Self::NotAllowed(_)
            | Self::Plan(_)
            | Self::Runtime(_) => ErrorKind::BadRequest,
            Self::TooLarge => ErrorKind::TooLarge,
            Self::Timeout => ErrorKind::Timeout,
            Self::Source(_) | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// A text for people. It never holds a path or a value of a row.
    pub fn detail_ja(&self) -> String {
        match self {
            Self::Empty => "SQLを入力してください。".to_owned(),
            Self::Syntax(text) => format!("SQLの構文が正しくありません。{text}"),
            Self::MoreThanOneStatement => "SQLは1文ずつ実行してください。".to_owned(),
            Self::NotAllowed(what) => {
                format!("実行できるのは SELECT、WITH、EXPLAIN、SHOW、DESCRIBE だけです（{what}）。")
            }
            Self::Plan(text) => format!("SQLを解釈できません。{text}"),
            Self::Runtime(text) => format!("SQLの実行中にエラーになりました。{text}"),
            Self::TooLarge => "メモリの上限を超えました。条件を絞ってください。".to_owned(),
            Self::Timeout => "制限時間内に終わりませんでした。条件を絞ってください。".to_owned(),
            Self::Source(_) | Self::Internal(_) => {
                "SQLを実行できませんでした。時間をおいてもう一度お試しください。".to_owned()
            }
        }
    }
}

/// A result that could not be written in a format.
#[derive(Debug, thiserror::Error)]
#[error("writing {format} failed")]
pub struct FormatError {
    /// Which format.
    pub format: &'static str,
    /// Why.
    #[source]
    pub source: Cause,
}
