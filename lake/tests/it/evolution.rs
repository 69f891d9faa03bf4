//! Fields are only ever added: files that are there stay as they are, and who knows fewer columns goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema},
    },
    parquet::arrow::ArrowWriter,
};
use deltalake::{
    DeltaTable, DeltaTableBuilder, ensure_table_uri,
    kernel::{
        Action, Add, DataType as DeltaType, PrimitiveType, StructField,
        transaction::{CommitBuilder, CommitProperties},
    },
    protocol::{DeltaOperation, SaveMode},
};
use serde_json::json;
use todoke_domain::Event;
use todoke_lake::{CompactOptions, Erasure, Lake, LakeError, LakeOptions, LakeView, Origin, Scope};

use crate::support::*;

const DAY: &str = "2026-11-21";
/// Columns of `app` as an early version of the catalogue might have had them.
const EARLY: [&str; 16] = [
    "event_id",
    "event_type",
    "schema_version",
    "occurred_at",
    "recorded_at",
    "ingested_at",
    "fiscal_year",
    "actor_role",
    "actor_key",
    "subject_kind",
    "subject_id",
    "recorded_offline",
    "session_id",
    "screen_id",
    "municipality_code",
    "jst_date",
];

fn delta_type(ty: &DataType) -> PrimitiveType {
    match ty {
        DataType::Utf8 | DataType::Utf8View => PrimitiveType::String,
        DataType::Int64 => PrimitiveType::Long,
        DataType::Int32 => PrimitiveType::Integer,
        DataType::Int16 => PrimitiveType::Short,
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Date32 => PrimitiveType::Date,
        DataType::Timestamp(..) => PrimitiveType::Timestamp,
        other => panic!("no column of these tests is {other}"),
    }
}

fn located(dir: &Path) -> DeltaTable {
    let uri = ensure_table_uri(dir.join("app").to_str().unwrap()).unwrap();
    DeltaTableBuilder::from_url(uri).unwrap().build().unwrap()
}

/// The table `app` with some of the present columns, empty.
async fn created(dir: &Path, columns: &[&str]) -> DeltaTable {
    let present = rows(&[view(1, CHIYODA)]).table("app").unwrap().schema();
    let fields = columns.iter().map(|name| {
        let field = present.field_with_name(name).unwrap();
        StructField::new(field.name().clone(), DeltaType::Primitive(delta_type(field.data_type())), field.is_nullable())
    });
    located(dir)
        .create()
        .with_columns(fields.collect::<Vec<_>>())
        .with_partition_columns(["municipality_code", "jst_date"])
        .await
        .unwrap()
}

/// Commits a file of one day as another version of this program might have written it.
async fn written(dir: &Path, delta: &DeltaTable, name: &str, batch: &RecordBatch) {
    let partition = format!("municipality_code={CHIYODA}/jst_date={DAY}");
    let folder = dir.join("app").join(&partition);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let add = Add {
        path: format!("{partition}/{name}"),
        partition_values: [
            ("municipality_code".to_owned(), Some(CHIYODA.to_owned())),
            ("jst_date".to_owned(), Some(DAY.to_owned())),
        ]
        .into(),
        size: i64::try_from(std::fs::metadata(&path).unwrap().len()).unwrap(),
        modification_time: now().as_micros() / 1_000,
        data_change: true,
        stats: Some(json!({ "numRecords": batch.num_rows() }).to_string()),
        ..Add::default()
    };
    let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
    CommitBuilder::from(CommitProperties::default())
        .with_actions(vec![Action::Add(add)])
        .build(Some(delta.snapshot().unwrap()), delta.log_store(), operation)
        .await
        .unwrap();
}

/// Rows of `app` with some of its columns, without those of the partition.
fn batch(events: &[Event], columns: &[&str]) -> RecordBatch {
    let built = rows(events);
    let whole = built.table("app").unwrap();
    let wanted: BTreeSet<&str> =
        columns.iter().copied().filter(|name| !["municipality_code", "jst_date"].contains(name)).collect();
    let schema = whole.schema();
    let places: Vec<usize> = schema
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| wanted.contains(field.name().as_str()))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), wanted.len());
    whole.project(&places).unwrap()
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Fails unless every file of `before` is there with the bytes it had.
fn assert_untouched(dir: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let now = contents(dir);
    for (path, bytes) in before {
        assert!(now.get(path) == Some(bytes), "{} was rewritten", path.display());
    }
}

async fn counted(view: &LakeView, what: &str) -> i64 {
    number(&session(&view.snapshot(), &Scope::All), &format!("SELECT {what} FROM events_app")).await
}

#[tokio::test]
async fn an_older_table_gets_columns_without_a_rewrite_and_readers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let delta = created(dir.path(), &EARLY).await;
    written(dir.path(), &delta, "part-early.parquet", &batch(&[view(1, CHIYODA), view(2, CHIYODA)], &EARLY)).await;
    let before = contents(dir.path());
    assert!(before.keys().any(|path| path.ends_with("part-early.parquet")));
    // One reader that began with the old columns, and what it saw then.
    let reader = LakeView::open_readonly(dir.path()).await.unwrap();
    let old_picture = reader.snapshot();
    assert_eq!((counted(&reader, "count(*)").await, counted(&reader, "count(dwell_ms)").await), (2, 0));

    let lake = open(dir.path()).await;
    assert_untouched(dir.path(), &before);
    lake.append(Origin::new("record", 1), &rows(&[view(3, CHIYODA)]), now()).await.unwrap();
    assert_untouched(dir.path(), &before);
    assert_each_once(&lake, "app", 3).await;
    let own = lake.view();
    assert_eq!((counted(&own, "count(dwell_ms)").await, counted(&own, "max(dwell_ms)").await), (1, 3));
    assert_eq!(counted(&own, "count(screen_id)").await, 3);

    let old = session(&old_picture, &Scope::All);
    assert_eq!(number(&old, "SELECT count(session_id) FROM events_app").await, 2, "its picture stays");
    assert!(reader.refresh().await.unwrap());
    assert_eq!((counted(&reader, "count(*)").await, counted(&reader, "count(dwell_ms)").await), (3, 1));
    // Merged, old rows stay null where they had nothing to say.
    let merged = lake.compact("app", &CompactOptions::default(), at("2026-11-22T03:00:00Z")).await.unwrap();
    assert_eq!((merged.files_before, merged.files_after), (2, 1));
    assert_eq!((counted(&own, "count(*)").await, counted(&own, "count(dwell_ms)").await), (3, 1));
    assert_untouched(dir.path(), &before);
}

/// Rows rest on the entry that added their columns.
#[tokio::test]
async fn columns_are_on_the_disk_before_the_table_is_used() {
    let dir = tempfile::tempdir().unwrap();
    created(dir.path(), &EARLY).await;
    let lake = Lake::open(dir.path(), LakeOptions::default()).await.unwrap();
    assert_eq!(lake.stats().iter().find(|table| table.table == "app").unwrap().version, 1);
    assert_eq!(std::fs::read_to_string(dir.path().join("app/_delta_log/_last_synced")).unwrap(), "1");
}

/// During an upgrade of several nodes this version is the old one.
#[tokio::test]
async fn a_column_of_a_newer_version_is_nobodys_end() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.append(Origin::new("record", 1), &rows(&[view(1, CHIYODA)]), now()).await.unwrap();
    let before = contents(dir.path());
    let mut delta = located(dir.path());
    delta.load().await.unwrap();
    let colour = StructField::new("colour".to_owned(), DeltaType::Primitive(PrimitiveType::String), true);
    let delta = delta.add_columns().with_fields(vec![colour]).await.unwrap();
    let built = rows(&[view(2, CHIYODA)]);
    let known: Vec<String> = built.table("app").unwrap().schema().fields().iter().map(|f| f.name().clone()).collect();
    let known = batch(&[view(2, CHIYODA)], &known.iter().map(String::as_str).collect::<Vec<_>>());
    let mut fields: Vec<Field> = known.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("colour", DataType::Utf8, true));
    let mut columns = known.columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["red"])) as ArrayRef);
    let newer = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    written(dir.path(), &delta, "part-newer.parquet", &newer).await;

    // A writer that was there before goes on, without having looked, and reads what it knows of.
    lake.append(Origin::new("record", 2), &rows(&[view(3, CHIYODA)]), now()).await.unwrap();
    assert_each_once(&lake, "app", 3).await;
    assert_eq!(counted(&lake.view(), "count(dwell_ms)").await, 3);
    assert_untouched(dir.path(), &before);
    // What it cannot read it does not rewrite: the newer version's column would be lost.
    let tomorrow = at("2026-11-22T03:00:00Z");
    assert_eq!(lake.compact("app", &CompactOptions::default(), tomorrow).await.unwrap().partitions, 0);
    let who = Erasure {
        municipality: CHIYODA.parse().unwrap(),
        stand_ins: BTreeMap::from([(7, 8)]),
        removed_from: BTreeSet::from(["app".to_owned()]),
    };
    let refused = lake.erase(&who, now()).await;
    assert!(matches!(refused, Err(LakeError::Foreign { .. })), "{refused:?}");
    drop(lake);
    let lake = open(dir.path()).await;
    assert_each_once(&lake, "app", 3).await;
    assert!(dir.path().join(format!("app/municipality_code={CHIYODA}/jst_date={DAY}/part-newer.parquet")).exists());
}
