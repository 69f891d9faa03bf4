//! Table schemas, made from the event catalogue.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::{
    DeltaTableError,
    kernel::{ArrayType, DataType as DeltaType, PrimitiveType, StructField as DeltaField, StructType},
};
use todoke_domain::catalogue::events::{self, FieldType, LakeUse};

use crate::QUARANTINE;

pub(crate) const MUNICIPALITY: &str = "municipality_code";
pub(crate) const DAY: &str = "jst_date";
pub(crate) const EVENT_ID: &str = "event_id";
pub(crate) const EVENT_TYPE: &str = "event_type";
pub(crate) const OCCURRED_AT: &str = "occurred_at";
pub(crate) const RECORDED_AT: &str = "recorded_at";
pub(crate) const INGESTED_AT: &str = "ingested_at";
pub(crate) const FISCAL_YEAR: &str = "fiscal_year";

/// Columns whose minimum and maximum each file's log entry states. All of them are never null.
pub(crate) const BOUNDED: [&str; 5] = [EVENT_ID, EVENT_TYPE, OCCURRED_AT, RECORDED_AT, INGESTED_AT];

/// One column: its name, catalogue type, and whether it may be null.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) ty: FieldType,
    pub(crate) nullable: bool,
}

/// The columns of one event group's table.
#[derive(Debug)]
pub(crate) struct GroupSchema {
    pub(crate) name: String,
    /// In order: envelope, payload, then the two partition columns.
    pub(crate) columns: Vec<Column>,
    /// Arrow schema of all columns.
    pub(crate) full: SchemaRef,
    /// Arrow schema of what is inside a data file: all but the partition columns.
    pub(crate) file: SchemaRef,
    /// Number of envelope columns in front of the payload.
    pub(crate) n_envelope: usize,
    /// Event type to its allowed payload fields, each with its column.
    pub(crate) fields_of: HashMap<String, HashMap<String, usize>>,
}

/// Envelope columns of events.md §1 that are inside the data files, in order.
fn envelope() -> Vec<Column> {
    let column = |name: &str, ty, nullable| Column { name: name.to_owned(), ty, nullable };
    vec![
        column(EVENT_ID, FieldType::Id, false),
        column(EVENT_TYPE, FieldType::Str, false),
        column("schema_version", FieldType::U16, false),
        column(OCCURRED_AT, FieldType::Ts, false),
        column(RECORDED_AT, FieldType::Ts, false),
        column(INGESTED_AT, FieldType::Ts, false),
        column(FISCAL_YEAR, FieldType::I16, false),
        column("actor_role", FieldType::Str, true),
        column("actor_key", FieldType::Key, true),
        column("source_channel", FieldType::Str, true),
        column("subject_kind", FieldType::Str, true),
        column("subject_id", FieldType::Id, true),
        column("subject_seq", FieldType::U64, true),
        column("correlation_id", FieldType::Id, true),
        column("causation_id", FieldType::Id, true),
        column("recorded_offline", FieldType::Bool, true),
        column("programme_code", FieldType::Str, true),
        column("facility_id", FieldType::Str, true),
    ]
}

fn partition_columns() -> Vec<Column> {
    vec![
        Column { name: MUNICIPALITY.to_owned(), ty: FieldType::Str, nullable: false },
        Column { name: DAY.to_owned(), ty: FieldType::Date, nullable: false },
    ]
}

impl GroupSchema {
    fn new(name: &str, payload: Vec<Column>, fields: impl Iterator<Item = (String, Vec<String>)>) -> Self {
        let mut columns = envelope();
        let n_envelope = columns.len();
        columns.extend(payload);
        let n_file = columns.len();
        let index: HashMap<String, usize> =
            columns.iter().enumerate().skip(n_envelope).map(|(i, c)| (c.name.clone(), i)).collect();
        columns.extend(partition_columns());
        let arrow: Vec<Field> = columns.iter().map(arrow_field).collect();
        let fields_of = fields
            .map(|(event_type, names)| {
                let known = names.into_iter().filter_map(|n| index.get(&n).map(|i| (n, *i))).collect();
                (event_type, known)
            })
            .collect();
        Self {
            name: name.to_owned(),
            file: Arc::new(Schema::new(arrow[..n_file].to_vec())),
            full: Arc::new(Schema::new(arrow)),
            columns,
            n_envelope,
            fields_of,
        }
    }

    fn of_group(name: &str) -> Self {
        let envelope: Vec<String> = envelope().into_iter().map(|c| c.name).collect();
        let payload = events::lake_fields(name)
            .iter()
            .filter(|f| !envelope.contains(&f.name) && f.name != MUNICIPALITY && f.name != DAY)
            .map(|f| Column { name: f.name.clone(), ty: f.ty.clone(), nullable: true })
            .collect();
        let types = events::all().iter().filter(|t| t.group == name).map(|t| {
            let names = t.fields.iter().filter(|f| f.lake == LakeUse::Yes).map(|f| f.name.clone());
            (t.name.clone(), names.collect())
        });
        Self::new(name, payload, types)
    }

    /// `content` is null for what never fitted a table: it may hold what must not enter the lake. What was a row of one
    /// keeps its fields as a JSON object.
    fn of_quarantine() -> Self {
        let payload = ["fault", "field", "content"].map(|name| Column {
            name: name.to_owned(),
            ty: FieldType::Str,
            nullable: true,
        });
        Self::new(QUARANTINE, payload.to_vec(), std::iter::empty())
    }

    /// The same columns as Delta names their types.
    pub(crate) fn delta_fields(&self) -> Result<Vec<DeltaField>, DeltaTableError> {
        self.columns.iter().map(|c| Ok(DeltaField::new(c.name.clone(), delta_type(&c.ty)?, c.nullable))).collect()
    }
}

/// All tables by name: one per event group, and the quarantine.
pub(crate) fn all() -> &'static BTreeMap<String, GroupSchema> {
    static ALL: LazyLock<BTreeMap<String, GroupSchema>> = LazyLock::new(|| {
        let mut all: BTreeMap<String, GroupSchema> =
            events::groups().iter().map(|g| (g.name().to_owned(), GroupSchema::of_group(g.name()))).collect();
        all.insert(QUARANTINE.to_owned(), GroupSchema::of_quarantine());
        all
    });
    &ALL
}

/// The table of a group.
pub(crate) fn group(name: &str) -> Option<&'static GroupSchema> {
    all().get(name)
}

fn arrow_field(column: &Column) -> Field {
    Field::new(&column.name, arrow_type(&column.ty), column.nullable)
}

/// The Arrow type queries see. Strings are views at the top level, where Parquet is decoded into
/// them without a copy, and plain inside lists, where it is not.
pub(crate) fn arrow_type(ty: &FieldType) -> DataType {
    match ty {
        FieldType::Str | FieldType::Id | FieldType::Text => DataType::Utf8View,
        other => nested_arrow_type(other),
    }
}

pub(crate) fn nested_arrow_type(ty: &FieldType) -> DataType {
    match ty {
        FieldType::Yen | FieldType::Key | FieldType::I64 | FieldType::U64 => DataType::Int64,
        FieldType::Units | FieldType::Min | FieldType::N | FieldType::U16 => DataType::Int32,
        FieldType::I16 => DataType::Int16,
        FieldType::F64 => DataType::Float64,
        FieldType::Ts => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        FieldType::Date => DataType::Date32,
        FieldType::Bool => DataType::Boolean,
        FieldType::Str | FieldType::Id | FieldType::Text => DataType::Utf8,
        FieldType::List(item) => DataType::List(Arc::new(Field::new("element", nested_arrow_type(item), true))),
        FieldType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| Field::new(&f.name, nested_arrow_type(&f.ty), true)).collect())
        }
    }
}

fn delta_type(ty: &FieldType) -> Result<DeltaType, DeltaTableError> {
    let primitive = match ty {
        FieldType::Yen | FieldType::Key | FieldType::I64 | FieldType::U64 => PrimitiveType::Long,
        FieldType::Units | FieldType::Min | FieldType::N | FieldType::U16 => PrimitiveType::Integer,
        FieldType::I16 => PrimitiveType::Short,
        FieldType::F64 => PrimitiveType::Double,
        FieldType::Ts => PrimitiveType::Timestamp,
        FieldType::Date => PrimitiveType::Date,
        FieldType::Bool => PrimitiveType::Boolean,
        FieldType::Str | FieldType::Id | FieldType::Text => PrimitiveType::String,
        FieldType::List(item) => return Ok(ArrayType::new(delta_type(item)?, true).into()),
        FieldType::Struct(fields) => {
            let fields = fields.iter().map(|f| Ok(DeltaField::new(f.name.clone(), delta_type(&f.ty)?, true)));
            return Ok(StructType::try_new(fields.collect::<Result<Vec<_>, DeltaTableError>>()?)?.into());
        }
    };
    Ok(DeltaType::Primitive(primitive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_table_with_the_partition_columns_last() {
        for group in events::groups() {
            let schema = super::group(group.name()).unwrap();
            let names: Vec<&str> = schema.full.fields().iter().map(|f| f.name().as_str()).collect();
            assert_eq!(&names[names.len() - 2..], [MUNICIPALITY, DAY]);
            assert_eq!(names[0], EVENT_ID);
            let unique: std::collections::HashSet<&&str> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{}: a column appears twice", group.name());
            for event_type in group.event_types() {
                assert!(schema.fields_of.contains_key(&event_type.name), "{}", event_type.name);
            }
        }
    }

    #[test]
    fn every_lake_field_of_every_type_has_a_column() {
        for event_type in events::all() {
            let schema = group(&event_type.group).unwrap();
            let known = &schema.fields_of[&event_type.name];
            for field in event_type.fields.iter().filter(|f| f.lake == LakeUse::Yes) {
                assert!(known.contains_key(&field.name), "{} {}", event_type.name, field.name);
                assert_eq!(schema.columns[known[&field.name]].ty, field.ty, "{} {}", event_type.name, field.name);
            }
        }
    }
}
