//! Compaction: how fast a day of many small files becomes few large ones, and the memory that takes.
//!
//! `./bench compaction` makes a lake of a million usage events in 200 files below
//! `$TODOKE_BENCH_DIR` (a temporary folder without it), joins them and prints the figures. The files stay for
//! `duckdb_peer.py`, which writes the same rows.

mod usage;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::civil::{Date, date};
use todoke_domain::{Event, Timestamp};
use todoke_lake::{CompactOptions, EventRows, Lake, LakeOptions, TableStats};

use usage::screen_viewed;

const DAY: Date = date(2026, 11, 20);
const N_FILES: u64 = 200;
const FILE_ROWS: u64 = 5_000;
/// Events of one request, which share its id.
const BATCH_ROWS: u64 = 200;

fn main() {
    let kept = std::env::var_os("TODOKE_BENCH_DIR").map(PathBuf::from);
    let temporary = tempfile::TempDir::new().expect("a temporary folder");
    let dir = kept.unwrap_or_else(|| temporary.path().to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        make(&dir).await;
        measure(&dir).await;
    });
}

/// Noon of the day after: a day that is over is compacted whatever it has.
fn now() -> Timestamp {
    Timestamp::jst_midnight(DAY).plus(Duration::from_secs(36 * 3_600))
}

async fn measure(dir: &Path) {
    let lake = Lake::open(dir, LakeOptions::default()).await.expect("the lake");
    let before = app(&lake);
    let resident = memory("VmRSS:");
    // From here on the kernel's peak is that of the compaction.
    std::fs::write("/proc/self/clear_refs", "5").expect("/proc is mounted");
    let begun = Instant::now();
    let done = lake.compact("app", &CompactOptions::default(), now()).await.expect("a compaction");
    let seconds = begun.elapsed().as_secs_f64();
    let most = memory("VmHWM:");
    let after = app(&lake);
    assert_eq!(after.rows, before.rows, "no event is there twice");
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let per_row = |stats: &TableStats| stats.bytes as f64 / stats.rows as f64;
    println!("compaction of {} files to {}, {} rows", done.files_before, done.files_after, after.rows);
    println!("time: {seconds:.2} s, {:.0} rows/s", before.rows as f64 / seconds);
    println!("read: {:.1} MiB, {:.1} MiB/s", mib(before.bytes), mib(before.bytes) / seconds);
    println!("bytes per row: {:.2} before, {:.2} after", per_row(&before), per_row(&after));
    println!("memory: {:.0} MiB before, {:.0} MiB at most", mib(resident), mib(most));
    println!("of that rows, ids and files: {:.0} MiB at most", mib(done.held_bytes_max as u64));
}

fn app(lake: &Lake) -> TableStats {
    lake.stats().into_iter().find(|table| table.table == "app").expect("the table of usage")
}

/// A line of this process's status, bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let text = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    text.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
}

async fn make(dir: &Path) {
    let options = LakeOptions { fsync: false, ..LakeOptions::default() };
    let lake = Lake::open(dir, options).await.expect("a lake");
    for file in 0..N_FILES {
        let events: Vec<Event> = (file * FILE_ROWS..(file + 1) * FILE_ROWS).map(event).collect();
        let rows = EventRows::build(&events, now()).expect("rows");
        assert!(rows.rejected().is_empty(), "{:?}", rows.rejected().first());
        lake.append_bulk(&rows, now()).await.expect("a commit");
    }
}

/// The `n`th event of the day: a screen somebody saw.
fn event(n: u64) -> Event {
    let at = Timestamp::jst_midnight(DAY).plus(Duration::from_micros(n * 86_000_000_000 / (N_FILES * FILE_ROWS)));
    let screen = ["GD03", "GD04", "GD16", "GD18", "GD06", "GD15"][(n % 6) as usize];
    Event {
        correlation_id: Some(format!("019a0000-0000-7000-8000-{:012}", n / BATCH_ROWS)),
        ..screen_viewed(at, format!("load-{:09}", n / 8), screen, 500 + n % 60_000)
    }
}
