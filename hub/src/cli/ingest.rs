//! `todoke ingest`: historical events from files straight into the lake, each once.
//!
//! The lake itself knows how far it has a file: every piece is committed as an application transaction named by the
//! file's content. Whatever was cut off is taken up where it was, and a server may run on the folder meanwhile.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use serde_json::json;
use todoke_domain::{MunicipalityCode, Timestamp};
use todoke_ingest::{
    EncodedEvents, Rejected,
    history::{HistoryFile, HistoryFormat, HistoryReader, ParsedHistory},
};
use todoke_lake::{EventRows, Lake, Origin, Told};
use todoke_store::{Durability, Store, Wall};

use super::{Common, output, progress::Progress};
use crate::{
    clock::Clock,
    history_lock::HistoryLock,
    local,
    nodes::refuse_while_erasing,
    quarantine,
    server::{open_lake, open_record},
};

#[derive(Debug, Args)]
pub(super) struct IngestArgs {
    /// NDJSON or CSV, also compressed (.gz, .zst), or Parquet
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Municipality of the events, six digits
    #[arg(long, value_name = "CODE")]
    municipality: MunicipalityCode,
    /// ndjson, csv or parquet; otherwise the file's name says it
    #[arg(long)]
    format: Option<HistoryFormat>,
    /// Stop a file with more bad records than this
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    quarantined_max: u64,
}

/// What became of a file in this run.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    taken: u64,
    repeated: u64,
    quarantined: u64,
    /// Records in pieces that the lake had before.
    before: u64,
    /// Whether the lake knew the file.
    is_known: bool,
}

/// A piece of a file on its way into the lake.
struct Piece {
    rows: EventRows,
    repeated: u64,
    /// With their numbers in the file.
    rejected: Vec<(u64, Rejected)>,
    n_records: u64,
}

/// What goes from piece to piece.
struct Reading {
    file: HistoryFile,
    reader: HistoryReader,
    n_records: u64,
}

impl Reading {
    /// Reads the next piece, also one that the lake has: which events are repetitions depends on all before.
    fn next(mut self, now: Timestamp) -> anyhow::Result<(Self, Option<Piece>)> {
        let Some(lines) = self.file.next_piece()? else { return Ok((self, None)) };
        let ParsedHistory { events, repeated, rejected } = self.reader.read(&lines, now);
        let first = self.n_records + 1;
        let rejected = rejected.into_iter().map(|(place, refused)| (first + place as u64, refused)).collect();
        let n_records = lines.n_records() as u64;
        self.n_records += n_records;
        Ok((self, Some(Piece { rows: rows(&events, now)?, repeated, rejected, n_records })))
    }
}

fn rows(events: &EncodedEvents, now: Timestamp) -> anyhow::Result<EventRows> {
    let rows = events.lake_rows(now)?;
    for error in rows.rejected() {
        tracing::error!(event.id = %error.event_id, event.r#type = %error.event_type, fault = error.fault.code(),
            field = %error.field, "an event went to the lake's quarantine");
    }
    Ok(rows)
}

pub(super) async fn run(args: IngestArgs) -> anyhow::Result<()> {
    let config = args.common.load()?;
    let store = open_record(&config, Durability::Full).await?;
    let mut tx = store.begin_read(Wall::None).await?;
    let all = tx.municipalities().await?;
    drop(tx);
    let code = &args.municipality;
    anyhow::ensure!(all.iter().any(|known| known.municipality_code == *code), "there is no municipality {code}");
    let _lock = HistoryLock::shared(&config.data)?;
    refuse_while_erasing(&config).await?;
    // Beside a running server this is safe: its commits and these have other origins, and the tables take both.
    let lake = open_lake(&config, &Told::Unknown).await?;
    let mut loader = Loader { store, lake, args: &args, reader: Some(HistoryReader::new(code.clone())) };
    let mut done = Ok(());
    for path in &args.files {
        done = loader.file(path).await.with_context(|| path.display().to_string());
        if done.is_err() {
            break;
        }
    }
    // A running server shows it at once; another time it would see it with its next commit or compaction.
    let shown = local::ask(&config.data, "/local/lake/refresh", &json!({})).await;
    done?;
    shown?;
    Ok(())
}

struct Loader<'a> {
    store: Store,
    lake: Arc<Lake>,
    args: &'a IngestArgs,
    // `None` only after a failure, which ends the run.
    reader: Option<HistoryReader>,
}

impl Loader<'_> {
    async fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let (owned, format) = (path.to_owned(), self.args.format);
        let file = tokio::task::spawn_blocking(move || HistoryFile::open(&owned, format)).await??;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut progress = Progress::new(&name, file.bytes(), file.bytes_read());
        let outcome = self.pieces(file, &mut progress).await;
        drop(progress);
        let Outcome { taken, repeated, quarantined, before, is_known } = outcome?;
        let text = if is_known && taken + quarantined == 0 {
            format!("{name}: already taken\n")
        } else {
            let before = if before > 0 { format!(", {before} records before this run") } else { String::new() };
            format!("{name}: {taken} taken, {repeated} repeated, {quarantined} quarantined{before}\n")
        };
        output::write(text.as_bytes())
    }

    async fn pieces(&mut self, file: HistoryFile, progress: &mut Progress) -> anyhow::Result<Outcome> {
        let code = &self.args.municipality;
        let origin: Arc<str> = file.origin(code).into();
        let known = self.lake.committed_version(&origin).await?;
        let mut outcome = Outcome { is_known: known.is_some(), ..Outcome::default() };
        let reader = self.reader.take().context("an earlier file failed")?;
        let clock = Clock::system();
        let mut reading = Reading { file, reader, n_records: 0 };
        let mut number = 0;
        // While a piece is committed the next one is read.
        let now = clock.now();
        let mut next = tokio::task::spawn_blocking(move || reading.next(now));
        loop {
            let piece;
            (reading, piece) = next.await??;
            let Some(piece) = piece else { break };
            let n_records = reading.n_records;
            let now = clock.now();
            next = tokio::task::spawn_blocking(move || reading.next(now));
            number += 1;
            // The last known piece may be in some of its tables only: those that have it take nothing.
            if known.is_some_and(|known| number < known) {
                outcome.before += piece.n_records;
            } else {
                self.take(&origin, number, &piece, &mut outcome).await?;
            }
            progress.show(n_records);
        }
        self.reader = Some(reading.reader);
        Ok(outcome)
    }

    async fn take(&self, origin: &Arc<str>, number: i64, piece: &Piece, outcome: &mut Outcome) -> anyhow::Result<()> {
        let now = Clock::system().now();
        let max = self.args.quarantined_max;
        let n_rejected = piece.rejected.len() as u64;
        anyhow::ensure!(
            outcome.quarantined + n_rejected <= max,
            "more than {max} bad records: is it the right file? What was taken stays; a larger --quarantined-max goes on"
        );
        // Before the lake: what is bad in a piece must be kept once the piece counts as taken.
        let code = &self.args.municipality;
        let kept = quarantine::keep_records(&self.store, code, origin, &piece.rejected, now).await?;
        outcome.quarantined += kept;
        outcome.repeated += piece.repeated;
        if piece.rows.n_rows() > 0 {
            outcome.taken += self.lake.append(Origin::new(Arc::clone(origin), number), &piece.rows, now).await?.rows;
        }
        Ok(())
    }
}
