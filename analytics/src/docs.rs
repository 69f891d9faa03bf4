//! What is offered to SQL: tables and views with their columns, types, classes and meaning.

use arrow::datatypes::DataType;
use serde::Serialize;
use todoke_domain::catalogue::events::{self, Field};

use crate::{error::SqlError, labels::label, session::Session, views};

/// A column of an offered table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnDoc {
    /// Name in SQL.
    pub name: String,
    /// Type in SQL words.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Personal-data class of events.md §2: `A`, `C` or `F`; B, D and E are never here.
    pub class: &'static str,
    /// What it holds.
    pub description: String,
}

/// An offered table or view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableDoc {
    /// Name in SQL.
    pub name: String,
    /// What a row is.
    pub description: String,
    /// Its columns in order.
    pub columns: Vec<ColumnDoc>,
}

/// All offered tables: views first, then dimensions, then events.
pub(crate) async fn tables(mut session: Session) -> Result<Vec<TableDoc>, SqlError> {
    let internal = |error: datafusion::error::DataFusionError| SqlError::Internal(Box::new(error));
    session.register_all().await.map_err(internal)?;
    let mut docs = Vec::new();
    for name in session.offered() {
        let provider = session.ctx.table_provider(name.as_str()).await.map_err(internal)?;
        let group = name.strip_prefix("events_");
        let columns =
            provider.schema().fields().iter().map(|field| column(group, field.name(), field.data_type())).collect();
        docs.push(TableDoc { description: description(&name), columns, name });
    }
    docs.sort_by_key(|doc| (rank(&doc.name), doc.name.clone()));
    Ok(docs)
}

fn rank(name: &str) -> u8 {
    match name {
        _ if views::get(name).is_some() => 0,
        _ if name.starts_with("events_") => 2,
        _ => 1,
    }
}

fn column(group: Option<&str>, name: &str, data_type: &DataType) -> ColumnDoc {
    let (class, description) = match field(group, name) {
        Some(field) => (field.class.as_str(), field.description.clone()),
        None => (if name.ends_with("_key") { "A" } else { "F" }, label(name).into_owned()),
    };
    ColumnDoc { name: name.to_owned(), data_type: type_text(data_type), class, description }
}

/// The catalogued field behind a column: of the table's own group first, for views of any group.
fn field(group: Option<&str>, name: &str) -> Option<&'static Field> {
    let of_group = group.and_then(|group| events::lake_fields(group).iter().find(|field| field.name == name));
    let envelope = || events::envelope().iter().find(|field| field.name == name);
    let anywhere = || {
        let mut fields = events::groups().iter().flat_map(|group| group.lake_fields().iter());
        fields.find(|field| field.name == name)
    };
    of_group.or_else(envelope).or_else(|| if group.is_none() { anywhere() } else { None })
}

/// A type in the words of SQL.
pub(crate) fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => "VARCHAR".to_owned(),
        DataType::Int64 | DataType::UInt64 | DataType::UInt32 => "BIGINT".to_owned(),
        DataType::Int32 | DataType::UInt16 => "INTEGER".to_owned(),
        DataType::Int16 | DataType::Int8 | DataType::UInt8 => "SMALLINT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::List(item) | DataType::LargeList(item) => format!("{}[]", type_text(item.data_type())),
        DataType::Struct(fields) => {
            let parts: Vec<String> =
                fields.iter().map(|f| format!("{} {}", f.name(), type_text(f.data_type()))).collect();
            format!("STRUCT({})", parts.join(", "))
        }
        other => other.to_string().to_uppercase(),
    }
}

fn description(name: &str) -> String {
    let known = match name {
        "coupon_ledger" => "クーポン台帳の明細。増減（符号付き）と残高",
        "coupon_uses" => "クーポン利用1件ごと。取消後の正味額",
        "applications" => "申請1件ごと。各段階の最初の日時と現在の状態",
        "reservations" => "予約1件ごと。日時、結果、目安料金、キャンセル料、利用枠",
        "claims" => "請求1件ごと。現在の状態",
        "coupon_claims" => "クーポン請求1件ごと。最後の計算と、差戻し後の進み具合",
        "coupon_claim_lines" => "クーポン請求に含まれる利用と取消ごと（取消は負）",
        "results_reports" => "実績報告1件ごと。現在の状態",
        "message_steps" => "通知の段階ごと。アプリだけが見た開封と郵送を含む",
        "messages" => "通知と経路ごと。各配信状態の最初の日時",
        "sessions" => "アプリのセッションごと。30分の無操作で終了",
        "daily_active" => "日・利用者・利用環境ごとの利用",
        "survey_answers" => "アンケートの回答・設問・選択肢ごと",
        "person_wards" => "利用者・児童の行政区の履歴",
        "persons" => "利用者・代理利用者・児童ごと。登録日、削除日、行政区、生年月、クラス年齢（すべて仮名）",
        "facilities" => "事業所",
        "programmes" => "対象事業",
        "coupon_sets" => "クーポンセット",
        "surveys" => "アンケート",
        "survey_questions" => "アンケートの設問",
        "kpi_targets" => "KPIの目標値",
        "calendar" => "暦。曜日、祝日、年度、月",
        _ => "",
    };
    match name.strip_prefix("events_") {
        Some(group) => format!("{group}.* のイベント。1行が1イベント"),
        None => known.to_owned(),
    }
}
