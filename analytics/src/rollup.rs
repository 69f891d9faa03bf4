//! R05 by day: for each municipality and day who was active and what was counted, kept so that a report reads days
//! and not events.
//!
//! A day is known by a mark of the files and staged rows it was made from, those of its neighbours included, for
//! sessions cross midnight. Late rows, compaction and erasure change the mark, so nothing has to be told to let go
//! of a day. Days with staged rows are kept in memory only. docs/decisions/0016-rollups.md says why it is so.

mod build;
mod day;
mod file;
mod returns;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use jiff::{ToSpan, civil::Date};
use roaring::RoaringBitmap;
use todoke_domain::MunicipalityCode;
use todoke_lake::DayState;

use day::{Day, People};
pub(crate) use tables::Tables;

use crate::{
    dimension::Dimension,
    error::ReportError,
    report::ReportRequest,
    session::{Author, Sessions},
    source::{SourceSnapshot, ViewSource},
};

/// Days of one municipality.
type Days = BTreeMap<Date, Arc<Day>>;

/// What is kept of one municipality, for one report.
#[derive(Debug)]
pub(crate) struct Usage {
    days: Days,
    /// If asked for, the platform of every device whose opening or permission is told.
    device_platforms: BTreeMap<i64, String>,
}

/// Events that one round of making days may read; what is made is kept before the next round.
const ROWS_MAX: u64 = 2_000_000;

/// Where days of app usage are kept, and how many.
#[derive(Clone, Debug)]
pub struct RollupConfig {
    /// A folder of their own. It may be deleted at any time; days are then made again.
    pub dir: PathBuf,
    /// Most memory for the days of municipalities nobody asks about just now. Bytes.
    pub bytes_max: usize,
}

/// Deletes what is kept of a municipality on disk: whoever is to be forgotten is in it. Blocking.
pub fn forget_rollups(dir: &Path, municipality: &MunicipalityCode) -> io::Result<()> {
    match std::fs::remove_dir_all(dir.join(municipality.as_str())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// What a day was made from.
#[derive(Clone, Copy, Debug)]
struct Mark {
    value: u64,
    has_staged: bool,
    n_rows: u64,
}

/// The mark of every day that has rows.
fn marks(days: &BTreeMap<Date, DayState>) -> BTreeMap<Date, Mark> {
    static DEFINED: LazyLock<u64> = LazyLock::new(|| {
        let mut hasher = DefaultHasher::new();
        build::definition().hash(&mut hasher);
        hasher.finish()
    });
    let mark = |(date, state): (&Date, &DayState)| {
        let around = [date.saturating_sub(1.day()), *date, date.saturating_add(1.day())];
        let states = around.map(|date| days.get(&date).copied().unwrap_or_default());
        let mut hasher = DefaultHasher::new();
        DEFINED.hash(&mut hasher);
        for state in states {
            (state.n_rows, state.n_staged, state.fingerprint).hash(&mut hasher);
        }
        let has_staged = states.iter().any(|state| state.n_staged > 0);
        (*date, Mark { value: hasher.finish(), has_staged, n_rows: state.n_rows })
    };
    days.iter().map(mark).collect()
}

#[derive(Debug)]
struct Kept {
    mark: u64,
    day: Arc<Day>,
}

/// What is kept of one municipality.
#[derive(Debug, Default)]
struct City {
    people: People,
    days: BTreeMap<Date, Kept>,
    /// The folder was looked through for days that are none any more.
    is_swept: bool,
}

impl City {
    /// Lets go of what was made from other rows, and takes from the disk what was made from these. Blocking.
    fn caught_up(mut self, folder: &Path, wanted: &BTreeMap<Date, Mark>) -> Self {
        let n_before = self.days.len();
        self.days.retain(|date, kept| wanted.get(date).is_some_and(|mark| mark.value == kept.mark));
        if !self.is_swept || self.days.len() < n_before {
            let swept = file::sweep(folder, |date, _| wanted.contains_key(&date));
            if let Err(error) = swept {
                tracing::warn!(%error, "days of app usage that are over could not be deleted");
            }
            self.is_swept = true;
        }
        for (date, mark) in wanted.iter().filter(|(_, mark)| !mark.has_staged) {
            if !self.days.contains_key(date)
                && let Some(stored) = file::read(folder, *date, mark.value)
            {
                let day = Arc::new(stored.adopt(&mut self.people));
                self.days.insert(*date, Kept { mark: mark.value, day });
            }
        }
        self
    }

    /// The days that are missing, in rounds of neighbours.
    fn rounds(&self, wanted: &BTreeMap<Date, Mark>) -> Vec<Vec<Date>> {
        let mut rounds: Vec<Vec<Date>> = Vec::new();
        let (mut is_open, mut n_rows) = (false, 0);
        for (date, mark) in wanted {
            if self.days.contains_key(date) {
                is_open = false;
                continue;
            }
            if !is_open || n_rows + mark.n_rows > ROWS_MAX {
                rounds.push(Vec::new());
                (is_open, n_rows) = (true, 0);
            }
            n_rows += mark.n_rows;
            if let Some(round) = rounds.last_mut() {
                round.push(*date);
            }
        }
        rounds
    }

    /// The last platform, in the order of their names, that a session of a told device started on.
    fn device_platforms(&self) -> BTreeMap<i64, String> {
        let mut devices: BTreeMap<&str, RoaringBitmap> = BTreeMap::new();
        let mut told: BTreeSet<i64> = BTreeSet::new();
        for kept in self.days.values() {
            told.extend(kept.day.device_rows.iter().filter_map(|row| row.device_key));
            for platform in &kept.day.platforms {
                *devices.entry(&platform.platform).or_default() |= &platform.devices;
            }
        }
        let platform = |key: i64| {
            let number = self.people.known(key)?;
            devices
                .iter()
                .rev()
                .find(|(_, devices)| devices.contains(number))
                .map(|(name, _)| (key, (*name).to_owned()))
        };
        told.into_iter().filter_map(platform).collect()
    }

    fn n_bytes(&self) -> usize {
        self.people.n_bytes() + self.days.values().map(|kept| kept.day.n_bytes()).sum::<usize>()
    }
}

#[derive(Debug, Default)]
struct Slot {
    city: Arc<tokio::sync::Mutex<City>>,
    n_bytes: usize,
    used_at: u64,
}

#[derive(Debug, Default)]
struct Cities {
    slots: HashMap<MunicipalityCode, Slot>,
    n_uses: u64,
}

/// The days of all municipalities, made when a report asks for them.
#[derive(Debug)]
pub(crate) struct Rollups {
    config: RollupConfig,
    // std's: held for look-ups only, never across an await.
    cities: Mutex<Cities>,
}

impl Rollups {
    pub(crate) fn new(config: RollupConfig) -> Self {
        Self { config, cities: Mutex::default() }
    }

    fn cities(&self) -> MutexGuard<'_, Cities> {
        // What a panic leaves is at worst a day too few.
        self.cities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn city(&self, municipality: &MunicipalityCode) -> Arc<tokio::sync::Mutex<City>> {
        let mut cities = self.cities();
        cities.n_uses += 1;
        let used_at = cities.n_uses;
        let slot = cities.slots.entry(municipality.clone()).or_default();
        slot.used_at = used_at;
        Arc::clone(&slot.city)
    }

    /// Notes what a municipality takes, and lets go of those longest unused until all fit.
    fn note(&self, municipality: &MunicipalityCode, n_bytes: usize) {
        let mut cities = self.cities();
        if let Some(slot) = cities.slots.get_mut(municipality) {
            slot.n_bytes = n_bytes;
        }
        while cities.slots.values().map(|slot| slot.n_bytes).sum::<usize>() > self.config.bytes_max {
            let oldest = cities.slots.iter().min_by_key(|(_, slot)| slot.used_at).map(|(code, _)| code.clone());
            let Some(oldest) = oldest else { return };
            cities.slots.remove(&oldest);
        }
    }

    /// Deletes from the disk what was made from other rows than `source` has now.
    ///
    /// Errors: of the first municipality that failed; it does not keep the others from it.
    pub(crate) async fn tidy(&self, source: &dyn ViewSource) -> Result<(), ReportError> {
        let dir = self.config.dir.clone();
        let mut outcome = Ok(());
        for municipality in blocking(move || file::municipalities(&dir)).await?.map_err(unusable)? {
            let tidied = self.tidy_one(source, &municipality).await;
            outcome = outcome.and(tidied);
        }
        outcome
    }

    async fn tidy_one(&self, source: &dyn ViewSource, municipality: &MunicipalityCode) -> Result<(), ReportError> {
        let folder = self.config.dir.join(municipality.as_str());
        let city = self.city(municipality);
        // Held, so that nobody writes a day of newer rows meanwhile.
        let _city = city.lock().await;
        let wanted = marks(&source.open(municipality)?.app_days);
        let is_current =
            move |date: Date, path: &Path| wanted.get(&date).is_some_and(|mark| file::is_made_under(path, mark.value));
        blocking(move || file::sweep(&folder, is_current)).await?.map_err(unusable)
    }

    /// All days of the request's municipality as a picture shows them; what is missing is made.
    ///
    /// Cancel safe: what was made before stays on disk.
    pub(crate) async fn usage(
        &self,
        sessions: &Sessions,
        snapshot: &SourceSnapshot,
        request: &ReportRequest,
    ) -> Result<Usage, ReportError> {
        let municipality = &request.municipality;
        let wanted = Arc::new(marks(&snapshot.app_days));
        let folder: Arc<Path> = self.config.dir.join(municipality.as_str()).into();
        let city = self.city(municipality);
        let mut city = city.lock().await;
        // Cut off here, the municipality begins anew: everything is on disk or can be made.
        let before = std::mem::take(&mut *city);
        let (to_read, to_have) = (Arc::clone(&folder), Arc::clone(&wanted));
        *city = blocking(move || before.caught_up(&to_read, &to_have)).await?;
        for round in city.rounds(&wanted) {
            let (Some(from), Some(to)) = (round.first(), round.last()) else { continue };
            let session = sessions.open(snapshot.clone(), Author::Report);
            let mut made = build::build(session, *from, *to, &mut city.people).await?;
            let mut to_write = Vec::new();
            for date in round {
                let Some(mark) = wanted.get(&date) else { continue };
                let day = Arc::new(made.remove(&date).unwrap_or_default());
                if !mark.has_staged {
                    to_write.push((date, file::encode(&day, mark.value, &city.people)));
                }
                city.days.insert(date, Kept { mark: mark.value, day });
            }
            let folder = Arc::clone(&folder);
            blocking(move || store(&folder, to_write)).await?;
        }
        self.note(municipality, city.n_bytes());
        let days = city.days.iter().map(|(date, kept)| (*date, Arc::clone(&kept.day))).collect();
        let is_asked = request.by.contains(&Dimension::Platform);
        let device_platforms = if is_asked { city.device_platforms() } else { BTreeMap::new() };
        Ok(Usage { days, device_platforms })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReportError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ReportError::Internal(Box::new(error)))
}

fn unusable(error: io::Error) -> ReportError {
    ReportError::Internal(Box::new(error))
}

/// Puts days on disk. Those that do not get there are made again after the next start.
fn store(folder: &Path, days: Vec<(Date, io::Result<Vec<u8>>)>) {
    for (date, bytes) in days {
        if let Err(error) = bytes.and_then(|bytes| file::write(folder, date, &bytes)) {
            tracing::warn!(%error, day = %date, "a day of app usage could not be kept on disk");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_day_is_marked_by_itself_and_its_neighbours() {
        let state = |fingerprint| DayState { n_rows: 10, n_staged: 0, fingerprint };
        let days: BTreeMap<Date, DayState> = (1..=5).map(|n| (date(2026, 6, n), state(n as u64))).collect();
        let before = marks(&days);
        let mut later = days.clone();
        later.insert(date(2026, 6, 3), DayState { n_staged: 1, ..state(99) });
        let after = marks(&later);
        let changed: Vec<i8> =
            days.keys().filter(|day| before[*day].value != after[*day].value).map(|day| day.day()).collect();
        assert_eq!(changed, [2, 3, 4]);
        let staged: Vec<i8> = days.keys().filter(|day| after[*day].has_staged).map(|day| day.day()).collect();
        assert_eq!(staged, [2, 3, 4]);
    }

    #[test]
    fn missing_days_are_made_in_rounds_of_neighbours_that_fit() {
        let mark = |n_rows| Mark { value: 1, has_staged: false, n_rows };
        let wanted: BTreeMap<Date, Mark> =
            [(1, 1), (2, 1), (3, 1), (4, ROWS_MAX), (5, 1)].map(|(day, n)| (date(2026, 6, day), mark(n))).into();
        let mut city = City::default();
        city.days.insert(date(2026, 6, 2), Kept { mark: 1, day: Arc::default() });
        let rounds: Vec<Vec<i8>> =
            city.rounds(&wanted).iter().map(|round| round.iter().map(|day| day.day()).collect()).collect();
        assert_eq!(rounds, [vec![1], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn municipalities_longest_unused_give_way() {
        let rollups = Rollups::new(RollupConfig { dir: PathBuf::new(), bytes_max: 100 });
        let code = |n: u32| format!("27100{n}").parse::<MunicipalityCode>().unwrap();
        for n in [1, 2, 1, 3] {
            rollups.city(&code(n));
            rollups.note(&code(n), 40);
        }
        let kept: BTreeSet<MunicipalityCode> = rollups.cities().slots.keys().cloned().collect();
        assert_eq!(kept, BTreeSet::from([code(1), code(3)]));
        rollups.note(&code(3), 101);
        assert!(rollups.cities().slots.is_empty(), "more than all room is not kept either");
    }
}
