//! Files of past events into empty lakes by `todoke ingest`, beside DuckDB converting the same files.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

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

/// Where the events go.
struct City {
    data: PathBuf,
    municipality: String,
    events: u64,
}

/// Loads a file and prints the figures. The time is that of the whole command: start, reading, checks, and synced
/// commits. Gives what DuckDB made of the file; none without it.
async fn load(city: &City, form: &str, file: &Path) -> Result<Option<PathBuf>> {
    // Not the demo's own lake, which has a history: one that the command makes.
    let lake = file.with_extension("lake");
    head(&format!("`todoke ingest` of {} events as {form} into an empty lake", city.events));
    let (path, stem) = (file.to_str(), file.file_stem().and_then(|stem| stem.to_str()));
    let (path, stem) = path.zip(stem).context("a path that is text")?;
    let mut command = command_over(&city.data, &["ingest", path, "--municipality", &city.municipality]);
    command.env("TODOKE_LAKE__URL", format!("file://{}", lake.display()));
    let begun = Instant::now();
    let output = command.output().await?;
    let seconds = begun.elapsed().as_secs_f64();
    let printed = String::from_utf8_lossy(&output.stdout);
    let all_taken = printed.contains(&format!(": {} taken, 0 repeated, 0 quarantined", city.events));
    ensure!(output.status.success() && all_taken, "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let events = city.events as f64;
    let ours = events / seconds;
    line("the file", format!("{} MiB", fs::metadata(file)?.len() >> 20));
    line("committed", format!("{ours:.0} events/s ({seconds:.1} s)"));
    line("bytes per event in the lake", format!("{:.1}", data_bytes(&lake.join("app"))? as f64 / events));
    let converted = file.with_file_name(format!("from-{stem}.parquet"));
    let Some((seconds, bytes)) = convert(file, &converted)? else { return Ok(None) };
    let theirs = events / seconds;
    line("DuckDB, the same file → zstd Parquet", format!("{theirs:.0} events/s ({seconds:.1} s)"));
    line("its bytes per event", format!("{:.1}", bytes as f64 / events));
    line("ratio", format!("{:.3}", ours / theirs));
    Ok(Some(converted))
}

/// Loads `events` events as NDJSON, and then as the zstd Parquet file that DuckDB makes of them.
pub async fn run(events: u64) -> Result<()> {
    let dir = TempDir::with_prefix("todoke-load-")?;
    let todoke = Todoke::demo_in(dir.path(), DemoOptions::small()).await;
    let city = City { data: todoke.data_dir().to_path_buf(), municipality: todoke.municipality(), events };
    todoke.stop().await;
    let written = dir.path().join("events.ndjson");
    write_ndjson(&written, events)?;
    if let Some(parquet) = load(&city, "NDJSON", &written).await? {
        load(&city, "zstd Parquet", &parquet).await?;
    }
    Ok(())
}
