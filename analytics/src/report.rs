//! The reports: what they are called, what they can be split by, what they answer.

use std::{fmt, str::FromStr, sync::LazyLock};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use jiff::civil::Date;
use serde::Serialize;
use todoke_domain::{MunicipalityCode, Timestamp, ids::FacilityId};

use crate::{
    dimension::Dimension,
    error::ReportError,
    labels::label,
    sections::{self, Section},
};

/// A report of spec/reports.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReportId {
    /// R01 統計（簡易版）
    StatisticsSimple,
    /// R04 アンケート結果集計
    SurveyAggregate,
    /// R05 アプリ利用情報
    AppUsage,
    /// R08 クーポン請求データ
    CouponClaim,
    /// R13 通知配信実績
    MessageDelivery,
    /// R17 KPI指標
    Kpi,
    /// R18 操作・出力記録
    AccessAudit,
}

impl ReportId {
    /// All reports.
    pub const ALL: [Self; 7] = [
        Self::StatisticsSimple,
        Self::SurveyAggregate,
        Self::AppUsage,
        Self::CouponClaim,
        Self::MessageDelivery,
        Self::Kpi,
        Self::AccessAudit,
    ];

    /// The id in requests and file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StatisticsSimple => "statistics_simple",
            Self::SurveyAggregate => "survey_aggregate",
            Self::AppUsage => "app_usage",
            Self::CouponClaim => "coupon_claim",
            Self::MessageDelivery => "message_delivery",
            Self::Kpi => "kpi",
            Self::AccessAudit => "access_audit",
        }
    }

    /// The title for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::StatisticsSimple => "統計（簡易版）",
            Self::SurveyAggregate => "アンケート結果集計",
            Self::AppUsage => "アプリ利用情報",
            Self::CouponClaim => "クーポン請求データ",
            Self::MessageDelivery => "通知配信実績",
            Self::Kpi => "KPI指標",
            Self::AccessAudit => "操作・出力記録",
        }
    }

    const fn number(self) -> &'static str {
        match self {
            Self::StatisticsSimple => "R01",
            Self::SurveyAggregate => "R04",
            Self::AppUsage => "R05",
            Self::CouponClaim => "R08",
            Self::MessageDelivery => "R13",
            Self::Kpi => "R17",
            Self::AccessAudit => "R18",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::StatisticsSimple => {
                "登録、配付、利用、期限切れ、取消、残高を期間で集計します。取消は行われた日の期間に数えます。"
            }
            Self::SurveyAggregate => {
                "期間内に届いた回答（最後の版、締切前）を設問ごとに集計します。匿名アンケートのクロス集計で5件未満の値は「*」にします。"
            }
            Self::AppUsage => {
                "アプリの利用者数、セッション、画面、リテンション、エラー、通知を集計します。利用状況の収集に同意した人だけが対象です。"
            }
            Self::CouponClaim => {
                "期間にかかる月の請求を、事業所・対象事業・月ごとに、利用と取消の内訳、進み具合、振替の結果とともに示します。金額は最後に作成したときのものです。"
            }
            Self::MessageDelivery => {
                "通知の作成、送信、到達、開封、失敗、所要時間を集計します。通知は作成された日に数えます。メールは配信元の受付を到達とみなします。"
            }
            Self::Kpi => {
                "情報発信に関するKPI（K08 通知許可端末数、K13 情報発信数、K14 プッシュ開封、K21 一斉配信の所要時間）を月ごとに示します。"
            }
            Self::AccessAudit => {
                "個人に関する行の閲覧と出力、SQLの実行、パラメータの変更、利用の取消、決定の取消、利用停止などの記録を集計します。"
            }
        }
    }

    /// What it can be split by.
    pub const fn dimensions(self) -> &'static [Dimension] {
        use Dimension as D;
        match self {
            Self::StatisticsSimple => {
                &[D::Month, D::ProgrammeCode, D::FacilityId, D::WardCode, D::ClassAge, D::CouponSetId, D::CouponKind]
            }
            Self::SurveyAggregate => &[D::WardCode, D::ClassAge, D::ProgrammeCode, D::FacilityId],
            Self::AppUsage => &[
                D::Day,
                D::Week,
                D::Month,
                D::Platform,
                D::AppVersion,
                D::Role,
                D::ScreenId,
                D::ErrorKind,
                D::MessageType,
            ],
            Self::MessageDelivery => &[
                D::Day,
                D::Week,
                D::Month,
                D::Hour,
                D::MessageType,
                D::Category,
                D::Channel,
                D::FacilityId,
                D::BroadcastId,
            ],
            Self::CouponClaim | Self::Kpi => &[],
            Self::AccessAudit => &[D::Day, D::Month, D::Role],
        }
    }

    /// The text of its `.sql` file.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::StatisticsSimple => include_str!("../reports/statistics_simple.sql"),
            Self::SurveyAggregate => include_str!("../reports/survey_aggregate.sql"),
            Self::AppUsage => include_str!("../reports/app_usage.sql"),
            Self::CouponClaim => include_str!("../reports/coupon_claim.sql"),
            Self::MessageDelivery => include_str!("../reports/message_delivery.sql"),
            Self::Kpi => include_str!("../reports/kpi.sql"),
            Self::AccessAudit => include_str!("../reports/access_audit.sql"),
        }
    }

    /// The text of the `.sql` file of its underlying rows.
    pub const fn rows_sql(self) -> &'static str {
        match self {
            Self::StatisticsSimple => include_str!("../reports/statistics_simple_rows.sql"),
            Self::SurveyAggregate => include_str!("../reports/survey_aggregate_rows.sql"),
            Self::AppUsage => include_str!("../reports/app_usage_rows.sql"),
            Self::CouponClaim => include_str!("../reports/coupon_claim_rows.sql"),
            Self::MessageDelivery => include_str!("../reports/message_delivery_rows.sql"),
            Self::Kpi => include_str!("../reports/kpi_rows.sql"),
            Self::AccessAudit => include_str!("../reports/access_audit_rows.sql"),
        }
    }

    /// Its sets of underlying rows, the usual one first.
    pub const fn row_sets(self) -> &'static [&'static str] {
        match self {
            Self::StatisticsSimple => &["rows"],
            Self::SurveyAggregate => &["answers", "targets"],
            Self::AppUsage => &["sessions", "views", "cohorts", "errors", "pushes", "devices", "members"],
            Self::CouponClaim => &["lines"],
            Self::MessageDelivery => &["messages", "broadcasts"],
            Self::Kpi => &["counted"],
            Self::AccessAudit => &["accesses"],
        }
    }

    /// Whether its lines name dimensions that nobody chose: its own ways of splitting.
    pub(crate) const fn names_dimensions(self) -> bool {
        matches!(self, Self::SurveyAggregate | Self::CouponClaim | Self::Kpi)
    }

    pub(crate) fn sections(self, rows: bool) -> &'static [Section] {
        static PARSED: LazyLock<Vec<[Vec<Section>; 2]>> = LazyLock::new(|| {
            ReportId::ALL.iter().map(|id| [sections::parse(id.sql()), sections::parse(id.rows_sql())]).collect()
        });
        let at = Self::ALL.iter().position(|id| *id == self).unwrap_or_default();
        &PARSED[at][usize::from(rows)]
    }

    /// Refuses dimensions the report lacks, and two of one kind.
    pub(crate) fn check_dimensions(self, by: &[Dimension]) -> Result<(), ReportError> {
        use Dimension as D;
        let refuse = |dimension: Dimension| Err(ReportError::DimensionNotOffered(dimension.as_str()));
        if let Some(alien) = by.iter().find(|d| !self.dimensions().contains(d)) {
            return refuse(*alien);
        }
        let mut times = by.iter().filter(|d| d.is_time());
        if let (Some(_), Some(second)) = (times.next(), times.next()) {
            return refuse(*second);
        }
        // A view or an error is told by screen, a push by type: neither goes with the other, nor with a client.
        let special = |d: &&D| matches!(d, D::ScreenId | D::ErrorKind | D::MessageType);
        let by_type = by.contains(&D::MessageType);
        let clash = by.iter().find(|d| match d {
            D::Platform | D::AppVersion | D::Role => by.iter().any(|other| special(&other)),
            D::ScreenId | D::ErrorKind => by_type,
            _ => false,
        });
        clash.map_or(Ok(()), |d| refuse(*d))
    }
}

impl FromStr for ReportId {
    type Err = ReportError;
    fn from_str(raw: &str) -> Result<Self, ReportError> {
        let found = Self::ALL.into_iter().find(|id| id.as_str() == raw);
        found.ok_or_else(|| ReportError::UnknownReport(raw.to_owned()))
    }
}

impl fmt::Display for ReportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Figures, or the rows they were counted from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RowsKind {
    /// The figures.
    #[default]
    Figures,
    /// Underlying rows: the named set, or the report's first.
    Underlying(Option<String>),
}

/// Which coupon claims R08 tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimsOf {
    /// All of the municipality.
    #[default]
    Municipality,
    /// Those of one facility.
    Facility(FacilityId),
    /// Those that are with the city: what the operator has passed on, and nobody has sent back since.
    WithCity,
}

/// What to report.
#[derive(Clone, Debug)]
pub struct ReportRequest {
    /// Which report.
    pub report: ReportId,
    /// Whose data; nothing of another municipality is read.
    pub municipality: MunicipalityCode,
    /// First day, JST.
    pub from: Date,
    /// Last day, JST, included.
    pub to: Date,
    /// What to split by. Underlying rows carry all dimensions and ignore this.
    pub by: Vec<Dimension>,
    /// Figures or rows.
    pub rows: RowsKind,
    /// R04: one survey only.
    pub survey_id: Option<String>,
    /// R01: one coupon set only.
    pub coupon_set_id: Option<String>,
    /// R08: these claims only.
    pub claims: ClaimsOf,
    /// The caller's now; printed, never used for a figure.
    pub created_at: Timestamp,
}

/// Where figures come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// First day.
    pub period_from: Date,
    /// Last day, included.
    pub period_to: Date,
    /// The picture of the lake; the same one gives the same figures.
    pub snapshot_id: String,
    /// When the report was made.
    pub created_at: Timestamp,
    /// The latest record the picture holds.
    pub watermark: Option<Timestamp>,
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportColumn {
    /// Name in files.
    pub name: String,
    /// Name for people.
    pub label: String,
}

impl ReportColumn {
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), label: label(name).into_owned() }
    }
}

/// A report's answer.
#[derive(Clone, Debug)]
pub struct ReportTable {
    /// Which report.
    pub report: ReportId,
    /// Title for people.
    pub title: String,
    /// `<report_id>_<from>_<to>`, or `<report_id>_rows_<from>_<to>`.
    pub file_stem: String,
    /// Columns in order; figures end with the four provenance columns.
    pub columns: Vec<ReportColumn>,
    /// Their types.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Where they come from.
    pub provenance: Provenance,
}

/// A named choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Name in requests.
    pub name: &'static str,
    /// Name for people.
    pub label: &'static str,
}

/// An extra filter of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportParameter {
    /// Name in requests.
    pub name: &'static str,
    /// Name for people.
    pub label: &'static str,
    /// `survey` or `coupon_set`: what to choose from.
    pub kind: &'static str,
}

/// A report as the catalogue shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ReportDoc {
    /// Id.
    pub report_id: &'static str,
    /// `R01` and so on.
    pub number: &'static str,
    /// Title.
    pub title: &'static str,
    /// What it counts.
    pub description: &'static str,
    /// What it can be split by.
    pub dimensions: Vec<Named>,
    /// Extra filters.
    pub parameters: Vec<ReportParameter>,
    /// Sets of underlying rows, the usual one first.
    pub row_sets: Vec<Named>,
    /// The SQL of the figures.
    pub sql: &'static str,
    /// The SQL of the underlying rows.
    pub rows_sql: &'static str,
}

/// The catalogue.
pub fn catalogue() -> &'static [ReportDoc] {
    static DOCS: LazyLock<Vec<ReportDoc>> = LazyLock::new(|| ReportId::ALL.into_iter().map(doc).collect());
    &DOCS
}

fn doc(id: ReportId) -> ReportDoc {
    let parameters = match id {
        ReportId::StatisticsSimple => {
            vec![ReportParameter { name: "coupon_set_id", label: "クーポンセット", kind: "coupon_set" }]
        }
        ReportId::SurveyAggregate => {
            vec![ReportParameter { name: "survey_id", label: "アンケート", kind: "survey" }]
        }
        ReportId::AppUsage
        | ReportId::CouponClaim
        | ReportId::MessageDelivery
        | ReportId::Kpi
        | ReportId::AccessAudit => Vec::new(),
    };
    ReportDoc {
        report_id: id.as_str(),
        number: id.number(),
        title: id.title(),
        description: id.description(),
        dimensions: id.dimensions().iter().map(|d| Named { name: d.as_str(), label: d.label() }).collect(),
        parameters,
        row_sets: id.row_sets().iter().map(|name| Named { name, label: row_set_label(name) }).collect(),
        sql: id.sql(),
        rows_sql: id.rows_sql(),
    }
}

fn row_set_label(name: &str) -> &'static str {
    match name {
        "answers" => "回答",
        "targets" => "対象者",
        "sessions" => "セッション",
        "views" => "画面表示",
        "cohorts" => "初回利用者（リテンション）",
        "errors" => "エラー",
        "pushes" => "プッシュ通知",
        "devices" => "端末",
        "members" => "登録と同意",
        "lines" => "利用と取消",
        "messages" => "通知と手段",
        "broadcasts" => "一斉配信",
        "accesses" => "操作・出力",
        _ => "集計根拠データ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dimension as D;

    #[test]
    fn dimensions_that_do_not_go_together_are_refused() {
        let usage = ReportId::AppUsage;
        assert!(usage.check_dimensions(&[D::Month, D::Platform, D::Role]).is_ok());
        assert!(usage.check_dimensions(&[D::Day, D::ScreenId, D::ErrorKind]).is_ok());
        for bad in [
            vec![D::Day, D::Month],
            vec![D::Platform, D::ScreenId],
            vec![D::ScreenId, D::MessageType],
            vec![D::WardCode],
        ] {
            assert!(usage.check_dimensions(&bad).is_err(), "{bad:?}");
        }
        assert!(ReportId::StatisticsSimple.check_dimensions(&[D::Platform]).is_err());
    }

    #[test]
    fn every_row_set_is_a_final_section() {
        for id in ReportId::ALL {
            for name in id.row_sets() {
                assert!(id.sections(true).iter().any(|s| s.is_final && s.name == *name), "{id} {name}");
            }
        }
    }
}
