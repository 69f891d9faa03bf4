//! A file of past events into an empty lake by `todoke ingest`, beside DuckDB converting the same file.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{
    figures::{head, line},
    ingest::{convert, write_ndjson},
};
use crate::todoke::{DemoOptions, Todoke, command_over};

/// Bytes of the data files of a table.
fn data_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.is_dir() && !path.ends_with("_delta_log") {
            bytes += data_bytes(&path)?;
        } else if path.extension().is_some_and(|kind| kind == "parquet") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Loads `events` events from a file and prints the figures. The time is that of the whole command: start, reading,
/// checks, and synced commits.
pub async fn run(events: u64) -> Result<()> {
    let dir = TempDir::with_prefix("todoke-load-")?;
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let (town, data) = (todoke.municipality(), todoke.data_dir().to_path_buf());
    todoke.stop().await;
    let file = dir.path().join("events.ndjson");
    write_ndjson(&file, events)?;
    let file_bytes = fs::metadata(&file)?.len();
    // Not the demo's own lake, which has a history: one that the command makes.
    let lake = dir.path().join("empty");
    head(&format!("`todoke ingest` of {events} events as NDJSON into an empty lake"));
    let path = file.to_str().context("a path that is text")?;
    let mut command = command_over(&data, &["ingest", path, "--municipality", &town]);
    command.env("TODOKE_LAKE__URL", format!("file://{}", lake.display()));
    let begun = Instant::now();
    let output = command.output().await?;
    let seconds = begun.elapsed().as_secs_f64();
    let printed = String::from_utf8_lossy(&output.stdout);
    let all_taken = printed.contains(&format!(": {events} taken, 0 repeated, 0 quarantined"));
    ensure!(output.status.success() && all_taken, "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let ours = events as f64 / seconds;
    line("the file", format!("{} MiB", file_bytes >> 20));
    line("committed", format!("{ours:.0} events/s ({seconds:.1} s)"));
    line("bytes per event in the lake", format!("{:.1}", data_bytes(&lake.join("app"))? as f64 / events as f64));
    if let Some((seconds, bytes)) = convert(&file, &dir.path().join("events.parquet"))? {
        let theirs = events as f64 / seconds;
        line("DuckDB, the same file → zstd Parquet", format!("{theirs:.0} events/s ({seconds:.1} s)"));
        line("its bytes per event", format!("{:.1}", bytes as f64 / events as f64));
        line("ratio", format!("{:.3}", ours / theirs));
    }
    Ok(())
}
