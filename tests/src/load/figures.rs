//! What is printed: percentiles, cost, and where and from what it was measured.

use std::{process::Command, time::Duration};

use crate::process::workspace_root;

/// Latencies of a run.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Of all samples.
    pub fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// How many there are.
    pub fn n(&self) -> usize {
        self.0.len()
    }

    /// The sample that `per_mille` thousandths of all do not exceed; zero when there is none.
    pub fn at(&self, per_mille: usize) -> Duration {
        let rank = (self.0.len() * per_mille).div_ceil(1_000).max(1) - 1;
        self.0.get(rank).copied().unwrap_or_default()
    }

    /// `p50 … p99 … p99.9 … max`, milliseconds.
    pub fn text(&self) -> String {
        let ms = |at: Duration| at.as_secs_f64() * 1e3;
        let (p50, p99, p999, max) = (self.at(500), self.at(990), self.at(999), self.at(1_000));
        format!("p50 {:.1} ms · p99 {:.1} ms · p99.9 {:.1} ms · max {:.1} ms", ms(p50), ms(p99), ms(p999), ms(max))
    }
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Time on a processor, user and system.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// The most it has had resident, bytes.
    pub most_bytes: u64,
}

impl Usage {
    /// Of a process by its id. Panics when it is not there.
    pub fn of(pid: u32) -> Self {
        // Linux counts processor time for user space in hundredths of a second, whatever its own clock.
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u32 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u32>().ok()).sum();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let bytes = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"));
            let kib: u64 = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            kib * 1_024
        };
        Self { cpu: TICK * ticks, resident_bytes: bytes("VmRSS:"), most_bytes: bytes("VmHWM:") }
    }
}

/// One line of a report.
pub fn line(name: &str, value: impl std::fmt::Display) {
    println!("| {name} | {value} |");
}

/// The head of a report: what ran, where, and what else was running.
pub fn head(title: &str) {
    println!("\n### {title}\n\n| | |\n|---|---|");
    line("commit", commit());
    line("machine", machine());
    line(
        "build",
        if cfg!(debug_assertions) { "dev profile (opt-level 1, debug assertions)" } else { "release profile" },
    );
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    line("load before (1, 5 min)", load.split(' ').take(2).collect::<Vec<_>>().join(", "));
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(workspace_root()).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    format!("{commit}{}", if changed { " with uncommitted changes" } else { "" })
}

fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned()));
        value.unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (cpu, memory) = (field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"));
    format!("{cores} cores, {cpu}, {memory}, Linux {}; load and server on the same cores", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let latencies = Latencies::of((1..=1_000).rev().map(Duration::from_millis).collect());
        assert_eq!(latencies.at(500), Duration::from_millis(500));
        assert_eq!(latencies.at(990), Duration::from_millis(990));
        assert_eq!(latencies.at(1_000), Duration::from_millis(1_000));
        assert_eq!(Latencies::default().at(990), Duration::ZERO);
        assert_eq!(Latencies::of(vec![Duration::from_millis(7)]).at(1), Duration::from_millis(7));
    }
}
