//! The dimension tables: what the record's owner writes into the lake beside the events, so that SQL
//! and reports can name things. Nothing here is about a person.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use datafusion::{catalog::TableProvider, datasource::MemTable};
use todoke_domain::{MunicipalityCode, Timestamp};
use todoke_lake::Dimension;

use crate::{calendar, error::SourceError};

/// A facility.
#[derive(Clone, Debug)]
pub struct FacilityRow {
    /// Whose facility it is.
    pub municipality_code: MunicipalityCode,
    /// Id as in events.
    pub facility_id: String,
    /// Number people see.
    pub facility_no: Option<String>,
    /// Name.
    pub name: String,
    /// Ward, six digits.
    pub ward_code: Option<String>,
    /// `facility_provider` or `dispatch_provider`.
    pub provider_kind: Option<String>,
    /// Shown to guardians.
    pub is_public: bool,
    /// Programmes it offers.
    pub programme_codes: Vec<String>,
}

/// A programme; the same in every municipality.
#[derive(Clone, Debug)]
pub struct ProgrammeRow {
    /// Code as in events.
    pub programme_code: String,
    /// Name.
    pub name: String,
}

/// A coupon set.
#[derive(Clone, Debug)]
pub struct CouponSetRow {
    /// Whose set it is.
    pub municipality_code: MunicipalityCode,
    /// Id as in events.
    pub coupon_set_id: String,
    /// Title.
    pub title: String,
    /// `yen` or `hours`.
    pub coupon_kind: String,
}

/// A survey.
#[derive(Clone, Debug)]
pub struct SurveyRow {
    /// Whose survey it is.
    pub municipality_code: MunicipalityCode,
    /// Id as in events.
    pub survey_id: String,
    /// Title.
    pub title: String,
    /// Answers carry no person.
    pub anonymous: bool,
    /// When answering opens.
    pub opens_at: Option<Timestamp>,
    /// When answering closes.
    pub closes_at: Option<Timestamp>,
    /// `draft`, `scheduled`, `open`, `closed`, `aggregated` or `presented`.
    pub state: String,
}

/// A question of a survey.
#[derive(Clone, Debug)]
pub struct QuestionRow {
    /// Whose survey it is.
    pub municipality_code: MunicipalityCode,
    /// Its survey.
    pub survey_id: String,
    /// Id as in the answers of `survey.answered`.
    pub question_id: String,
    /// From 1.
    pub question_no: i32,
    /// `single`, `multiple`, `scale`, `number` or `text`.
    pub kind: String,
    /// What is asked.
    pub text: String,
    /// Options in order; answers count them from 1.
    pub options: Vec<String>,
    /// Must be answered.
    pub required: bool,
    /// Least value of a scale or number.
    pub min: Option<f64>,
    /// Greatest value of a scale or number.
    pub max: Option<f64>,
    /// KPI it measures.
    pub kpi: Option<String>,
}

fn texts(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true)
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn at(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
}

/// Columns of a dimension table.
pub fn schema(dimension: Dimension) -> SchemaRef {
    let wall = Field::new("municipality_code", DataType::Utf8, false);
    Arc::new(Schema::new(match dimension {
        Dimension::Facilities => vec![
            wall,
            text("facility_id"),
            text("facility_no"),
            text("name"),
            text("ward_code"),
            text("provider_kind"),
            Field::new("is_public", DataType::Boolean, true),
            texts("programme_codes"),
        ],
        Dimension::Programmes => vec![text("programme_code"), text("name")],
        Dimension::CouponSets => vec![wall, text("coupon_set_id"), text("title"), text("coupon_kind")],
        Dimension::Surveys => vec![
            wall,
            text("survey_id"),
            text("title"),
            Field::new("anonymous", DataType::Boolean, true),
            at("opens_at"),
            at("closes_at"),
            text("state"),
        ],
        Dimension::SurveyQuestions => vec![
            wall,
            text("survey_id"),
            text("question_id"),
            Field::new("question_no", DataType::Int32, true),
            text("kind"),
            text("text"),
            texts("options"),
            Field::new("required", DataType::Boolean, true),
            Field::new("min", DataType::Float64, true),
            Field::new("max", DataType::Float64, true),
            text("kpi"),
        ],
        Dimension::KpiTargets => vec![
            wall,
            text("kpi"),
            Field::new("fiscal_year", DataType::Int32, true),
            Field::new("target", DataType::Float64, true),
        ],
        Dimension::Calendar => return calendar::schema(),
    }))
}

fn column<T>(rows: &[T], value: impl Fn(&T) -> Option<&str>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<StringArray>())
}

fn flags<T>(rows: &[T], value: impl Fn(&T) -> bool) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(value(row))).collect::<BooleanArray>())
}

fn times<T>(rows: &[T], value: impl Fn(&T) -> Option<Timestamp>) -> ArrayRef {
    let micros: TimestampMicrosecondArray = rows.iter().map(|row| value(row).map(Timestamp::as_micros)).collect();
    Arc::new(micros.with_timezone("UTC"))
}

fn lists<T>(rows: &[T], value: impl Fn(&T) -> &[String]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in rows {
        for item in value(row) {
            lists.values().append_value(item);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

/// The table `facilities`.
pub fn facilities(rows: &[FacilityRow]) -> Result<RecordBatch, ArrowError> {
    let columns = vec![
        column(rows, |r| Some(r.municipality_code.as_str())),
        column(rows, |r| Some(&r.facility_id)),
        column(rows, |r| r.facility_no.as_deref()),
        column(rows, |r| Some(&r.name)),
        column(rows, |r| r.ward_code.as_deref()),
        column(rows, |r| r.provider_kind.as_deref()),
        flags(rows, |r| r.is_public),
        lists(rows, |r| &r.programme_codes),
    ];
    RecordBatch::try_new(schema(Dimension::Facilities), columns)
}

/// The table `programmes`.
pub fn programmes(rows: &[ProgrammeRow]) -> Result<RecordBatch, ArrowError> {
    let columns = vec![column(rows, |r| Some(&r.programme_code)), column(rows, |r| Some(&r.name))];
    RecordBatch::try_new(schema(Dimension::Programmes), columns)
}

/// The table `coupon_sets`.
pub fn coupon_sets(rows: &[CouponSetRow]) -> Result<RecordBatch, ArrowError> {
    let columns = vec![
        column(rows, |r| Some(r.municipality_code.as_str())),
        column(rows, |r| Some(&r.coupon_set_id)),
        column(rows, |r| Some(&r.title)),
        column(rows, |r| Some(&r.coupon_kind)),
    ];
    RecordBatch::try_new(schema(Dimension::CouponSets), columns)
}

/// The table `surveys`.
pub fn surveys(rows: &[SurveyRow]) -> Result<RecordBatch, ArrowError> {
    let columns = vec![
        column(rows, |r| Some(r.municipality_code.as_str())),
        column(rows, |r| Some(&r.survey_id)),
        column(rows, |r| Some(&r.title)),
        flags(rows, |r| r.anonymous),
        times(rows, |r| r.opens_at),
        times(rows, |r| r.closes_at),
        column(rows, |r| Some(&r.state)),
    ];
    RecordBatch::try_new(schema(Dimension::Surveys), columns)
}

/// The table `survey_questions`.
pub fn survey_questions(rows: &[QuestionRow]) -> Result<RecordBatch, ArrowError> {
    let columns = vec![
        column(rows, |r| Some(r.municipality_code.as_str())),
        column(rows, |r| Some(&r.survey_id)),
        column(rows, |r| Some(&r.question_id)),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.question_no))) as ArrayRef,
        column(rows, |r| Some(&r.kind)),
        column(rows, |r| Some(&r.text)),
        lists(rows, |r| &r.options),
        flags(rows, |r| r.required),
        Arc::new(rows.iter().map(|r| r.min).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.max).collect::<Float64Array>()),
        column(rows, |r| r.kpi.as_deref()),
    ];
    RecordBatch::try_new(schema(Dimension::SurveyQuestions), columns)
}

/// The written dimension if it has all columns that reports read, else an empty one (the calendar is
/// always complete: it is computed).
pub(crate) fn or_empty(
    dimension: Dimension,
    written: Arc<dyn TableProvider>,
) -> Result<Arc<dyn TableProvider>, SourceError> {
    let expected = schema(dimension);
    let found = written.schema();
    if dimension != Dimension::Calendar
        && expected.fields().iter().all(|field| found.field_with_name(field.name()).is_ok())
    {
        return Ok(written);
    }
    let rows = match dimension {
        Dimension::Calendar => calendar::batch().clone(),
        _ => RecordBatch::new_empty(Arc::clone(&expected)),
    };
    Ok(Arc::new(MemTable::try_new(expected, vec![vec![rows]]).map_err(SourceError::new)?))
}
