//! A file of historical events: what it is called by, and its records piece by piece.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use todoke_domain::MunicipalityCode;
use todoke_lake::{LakeError, ParquetRecords};

use super::{
    csv::Header,
    lines::{Line, LineReader, Lines},
};
use crate::body::Coding;

/// Records in one piece. A file's pieces are numbered, and the lake knows by their numbers how far it has it: with
/// another size here, [`HistoryFile::origin`] must give other names.
const PIECE_RECORDS: usize = 50_000;
/// A piece ends behind the record that reaches this many bytes.
const PIECE_BYTES: usize = 64 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// Form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryFormat {
    /// A JSON object per line.
    Ndjson,
    /// With a header.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl HistoryFormat {
    /// Name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A text that is not a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a format is ndjson, csv or parquet")]
pub struct UnknownHistoryFormat;

impl FromStr for HistoryFormat {
    type Err = UnknownHistoryFormat;
    fn from_str(raw: &str) -> Result<Self, UnknownHistoryFormat> {
        let all = [Self::Ndjson, Self::Csv, Self::Parquet];
        all.into_iter().find(|format| format.as_str() == raw).ok_or(UnknownHistoryFormat)
    }
}

/// Why a file cannot be taken, or not further.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system refused, or what is compressed is damaged.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// A folder, pipe or device.
    #[error("not a file")]
    NotAFile,
    /// Neither the name nor the caller says what it is.
    #[error("the name does not say what it is; give the format: ndjson, csv or parquet, the latter not compressed")]
    UnknownFormat,
    /// Not a Parquet file, or damaged.
    #[error(transparent)]
    Parquet(#[from] LakeError),
    /// The first line of the CSV is no header.
    #[error("the first line is no header: it does not name `{missing}`")]
    NoHeader {
        /// A column that every file has.
        missing: &'static str,
    },
    /// Somebody writes to it.
    #[error("the file changed while it was read")]
    Changed,
}

/// Counts what is read.
struct Counted {
    file: File,
    n_bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.n_bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[derive(Debug)]
enum Records {
    Ndjson(LineReader),
    Csv(LineReader, Header),
    Parquet(ParquetRecords),
}

/// A file that is being read.
pub struct HistoryFile {
    file: File,
    format: HistoryFormat,
    digest: String,
    bytes: u64,
    modified: SystemTime,
    records: Records,
    n_read: u64,
    bytes_read: Arc<AtomicU64>,
}

impl fmt::Debug for HistoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryFile").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// What a name says about its file: the format, if it does, and how it is compressed.
fn by_name(path: &Path) -> (Option<HistoryFormat>, Coding) {
    let lower = |part: Option<&OsStr>| part.and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    let extension = lower(path.extension());
    let coding = match extension.as_str() {
        "gz" => Coding::Gzip,
        "zst" => Coding::Zstd,
        _ => return (HistoryFormat::of_extension(&extension), Coding::Plain),
    };
    let inner = lower(path.file_stem().and_then(|stem| Path::new(stem).extension()));
    (HistoryFormat::of_extension(&inner), coding)
}

impl HistoryFile {
    /// Opens a file and reads it once from end to end, to know it again by its content. Without a format its name
    /// says what it is: `.ndjson`, `.jsonl`, `.json`, `.csv` or `.parquet`; the lines also as `.gz` or `.zst`.
    pub fn open(path: &Path, format: Option<HistoryFormat>) -> Result<Self, HistoryError> {
        let (named, coding) = by_name(path);
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(HistoryError::NotAFile);
        }
        let format = format.or(named).ok_or(HistoryError::UnknownFormat)?;
        if format == HistoryFormat::Parquet && coding != Coding::Plain {
            return Err(HistoryError::UnknownFormat);
        }
        let digest = digest(&mut file)?;
        file.rewind()?;
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted { file: file.try_clone()?, n_bytes: Arc::clone(&bytes_read) };
        let records = match format {
            HistoryFormat::Ndjson => Records::Ndjson(LineReader::new(decoded(counted, coding)?)),
            HistoryFormat::Csv => {
                let mut lines = LineReader::new(decoded(counted, coding)?);
                let header = match lines.next()? {
                    Some(Line::Text(line)) => Header::parse(line)?,
                    Some(Line::Unreadable(_)) | None => Header::parse("")?,
                };
                Records::Csv(lines, header)
            }
            HistoryFormat::Parquet => Records::Parquet(ParquetRecords::open(counted.file)?),
        };
        let (bytes, modified) = (metadata.len(), metadata.modified()?);
        Ok(Self { file, format, digest, bytes, modified, records, n_read: 0, bytes_read })
    }

    /// Names the file's content for the lake, as events of this municipality: a file with other content, also a
    /// longer one that begins the same, has another name.
    pub fn origin(&self, code: &MunicipalityCode) -> String {
        format!("history:{}:{}:{code}", self.digest, self.format.as_str())
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the file that were read so far, in a place that can be watched.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_read)
    }

    /// The next piece of the file, the same at each reading; `None` behind the last one.
    ///
    /// Errors: [`HistoryError::Changed`] when it is not the file any more that was opened.
    pub fn next_piece(&mut self) -> Result<Option<Lines>, HistoryError> {
        let mut lines = Lines::default();
        while lines.n_records() < PIECE_RECORDS && lines.n_bytes() < PIECE_BYTES && self.next_record(&mut lines)? {}
        let metadata = self.file.metadata()?;
        if metadata.len() != self.bytes || metadata.modified()? != self.modified {
            return Err(HistoryError::Changed);
        }
        Ok(Some(lines).filter(|lines| lines.n_records() > 0))
    }

    /// Adds the next record; `false` if there is none.
    fn next_record(&mut self, to: &mut Lines) -> Result<bool, HistoryError> {
        match &mut self.records {
            Records::Ndjson(lines) => match lines.next()? {
                Some(Line::Text(line)) => to.push(line),
                Some(Line::Unreadable(shown)) => to.push_unreadable(&shown),
                None => return Ok(false),
            },
            Records::Csv(lines, header) => match lines.next()? {
                Some(Line::Text(line)) => header.read(line, to),
                Some(Line::Unreadable(shown)) => to.push_unreadable(&shown),
                None => return Ok(false),
            },
            Records::Parquet(rows) => {
                if !rows.next_into(to.text())? {
                    return Ok(false);
                }
                to.end();
                self.n_read += 1;
                let share = u128::from(self.bytes) * u128::from(self.n_read) / u128::from(rows.n_rows().max(1));
                self.bytes_read.store(u64::try_from(share).unwrap_or(self.bytes), Ordering::Relaxed);
            }
        }
        Ok(true)
    }
}

fn decoded(counted: Counted, coding: Coding) -> io::Result<Box<dyn BufRead + Send>> {
    let reader: Box<dyn BufRead + Send> = match coding {
        Coding::Plain => Box::new(BufReader::with_capacity(BUFFER_BYTES, counted)),
        Coding::Gzip => {
            let packed = BufReader::with_capacity(BUFFER_BYTES, counted);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(packed)))
        }
        Coding::Zstd => {
            let stream = zstd::stream::read::Decoder::new(counted)?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, stream))
        }
    };
    Ok(reader)
}

/// SHA-256 of what follows in the file.
fn digest(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const RECORDS: &str = "{\"n\":1}\n{\"n\":2}\n";

    fn records(path: &Path) -> Result<Vec<String>, HistoryError> {
        let mut file = HistoryFile::open(path, None)?;
        let mut found = Vec::new();
        while let Some(lines) = file.next_piece()? {
            found.extend(lines.iter().map(|(line, _)| line.to_owned()));
        }
        assert_eq!(file.bytes_read().load(Ordering::Relaxed), file.bytes());
        Ok(found)
    }

    #[test]
    fn what_is_compressed_is_read_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(RECORDS.as_bytes()).unwrap();
        for (name, content) in [
            ("a.ndjson", RECORDS.as_bytes().to_vec()),
            ("a.JSONL", RECORDS.as_bytes().to_vec()),
            ("a.ndjson.gz", gzip.finish().unwrap()),
            ("a.json.zst", zstd::stream::encode_all(RECORDS.as_bytes(), 3).unwrap()),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            assert_eq!(records(&path).unwrap(), ["{\"n\":1}", "{\"n\":2}"], "{name}");
        }
    }

    #[test]
    fn what_cannot_be_taken_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).unwrap();
            records(&dir.path().join(name))
        };
        assert!(matches!(records(&dir.path().join("none.csv")), Err(HistoryError::Io(_))));
        assert!(matches!(records(dir.path()), Err(HistoryError::NotAFile)));
        assert!(matches!(file("a.txt", RECORDS), Err(HistoryError::UnknownFormat)));
        assert!(matches!(file("a.parquet.gz", ""), Err(HistoryError::UnknownFormat)));
        assert!(matches!(file("a.parquet", RECORDS), Err(HistoryError::Parquet(_))));
        assert!(matches!(file("a.csv", ""), Err(HistoryError::NoHeader { .. })));
        assert!(matches!(file("a.ndjson.gz", RECORDS), Err(HistoryError::Io(_))));
    }

    #[test]
    fn a_file_that_grows_under_the_reader_is_noticed_and_is_another_one_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        std::fs::write(&path, RECORDS).unwrap();
        let code = "131016".parse().unwrap();
        let mut before = HistoryFile::open(&path, None).unwrap();
        std::fs::write(&path, RECORDS.repeat(2)).unwrap();
        assert!(matches!(before.next_piece(), Err(HistoryError::Changed)));
        assert_ne!(HistoryFile::open(&path, None).unwrap().origin(&code), before.origin(&code));
    }
}
