//! Results as files and pages: CSV, JSON, Parquet, Arrow, aligned text.

pub(crate) mod cell;
mod csv;
pub(crate) mod json;
mod text;

use std::str::FromStr;

use arrow::{array::RecordBatch, datatypes::SchemaRef, ipc::writer::StreamWriter};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use crate::{error::FormatError, report::ReportTable, sql::SqlAnswer};

pub use json::{answer_json, report_json};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned text for a terminal.
    Table,
    /// CSV as of flows.md Part I.
    Csv,
    /// JSON.
    Json,
    /// Parquet, zstd.
    Parquet,
    /// Arrow IPC stream.
    Arrow,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::Table, Self::Csv, Self::Json, Self::Parquet, Self::Arrow];

    /// Name in requests; also the file extension, apart from `table`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// File extension without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Table => "txt",
            other => other.as_str(),
        }
    }

    /// Media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// A text that is not a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a format is table, csv, json, parquet or arrow")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(raw: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.as_str() == raw).ok_or(UnknownFormat)
    }
}

/// A report in a format. The header of CSV and Parquet holds names, that of the text table labels.
pub fn report_bytes(table: &ReportTable, format: Format) -> Result<Vec<u8>, FormatError> {
    match format {
        Format::Json => json::bytes(&report_json(table)),
        Format::Table => {
            let labels: Vec<&str> = table.columns.iter().map(|column| column.label.as_str()).collect();
            text::bytes(&labels, &table.schema, &table.batches)
        }
        _ => plain_bytes(&table.schema, &table.batches, format),
    }
}

/// An answer to SQL in a format.
pub fn answer_bytes(answer: &SqlAnswer, format: Format) -> Result<Vec<u8>, FormatError> {
    match format {
        Format::Json => json::bytes(&answer_json(answer)),
        Format::Table => {
            let names: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
            text::bytes(&names, &answer.schema, &answer.batches)
        }
        _ => plain_bytes(&answer.schema, &answer.batches, format),
    }
}

fn plain_bytes(schema: &SchemaRef, batches: &[RecordBatch], format: Format) -> Result<Vec<u8>, FormatError> {
    match format {
        Format::Csv => csv::bytes(schema, batches),
        Format::Parquet => parquet_bytes(schema, batches),
        _ => arrow_bytes(schema, batches),
    }
}

/// Rows per Parquet row group.
const ROW_GROUP_ROWS: usize = 131_072;

fn parquet_bytes(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, FormatError> {
    let failed = |source| FormatError { format: "parquet", source: Box::new(source) };
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties)).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

fn arrow_bytes(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, FormatError> {
    let failed = |source| FormatError { format: "arrow", source: Box::new(source) };
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}
