//! A line on standard error that says how far a file is.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Between two writings.
const EVERY: Duration = Duration::from_millis(200);
const WIDTH: usize = 24;

/// Shown on a terminal, and nowhere else. Takes its line away when it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    name: String,
    bytes: u64,
    bytes_read: Arc<AtomicU64>,
    begun: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    /// Of a file of `bytes`, of which `bytes_read` are read at any moment.
    pub(super) fn new(name: &str, bytes: u64, bytes_read: Arc<AtomicU64>) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        // A file's name may hold anything, and must not steer a terminal.
        let name = name.chars().filter(|c| !c.is_control()).take(40).collect();
        Self { name, bytes, bytes_read, begun: Instant::now(), shown: None, is_terminal }
    }

    /// Shows that so many records are done, unless it was shown just now.
    pub(super) fn show(&mut self, records: u64) {
        if !self.is_terminal || self.shown.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let line = line(&self.name, records, self.begun.elapsed(), self.bytes_read.load(Ordering::Relaxed), self.bytes);
        // Who cannot see it misses nothing.
        let _ = write!(std::io::stderr().lock(), "\r\x1b[K{line}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(name: &str, records: u64, elapsed: Duration, bytes_read: u64, bytes: u64) -> String {
    let percent = (u128::from(bytes_read) * 100 / u128::from(bytes.max(1))).min(100);
    let percent = usize::try_from(percent).unwrap_or(100);
    let done = WIDTH * percent / 100;
    let per_s = u128::from(records) * 1_000 / elapsed.as_millis().max(1);
    let mib = |bytes: u64| format!("{}.{}", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20);
    format!(
        "{name} [{}{}] {percent:>3} %  {} of {} MiB  {records} records  {per_s}/s",
        "#".repeat(done),
        ".".repeat(WIDTH - done),
        mib(bytes_read),
        mib(bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_and_how_fast() {
        let half = line("a.ndjson", 50_000, Duration::from_millis(500), 1 << 20, 2 << 20);
        let bar = format!("[{}{}]", "#".repeat(12), ".".repeat(12));
        assert_eq!(half, format!("a.ndjson {bar}  50 %  1.0 of 2.0 MiB  50000 records  100000/s"));
        let empty = line("a", 0, Duration::ZERO, 0, 0);
        assert!(empty.contains("  0 %") && empty.ends_with("0 records  0/s"), "{empty}");
    }
}
