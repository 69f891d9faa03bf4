//! Whether the lake holds what it says it holds, and what the record says it should.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use datafusion::{
    arrow::array::AsArray,
    object_store::{ObjectStoreExt, path::Path as StorePath},
};
use jiff::civil::Date;
use todoke_domain::{Event, MunicipalityCode};

use crate::{
    LakeView, QUARANTINE,
    file::{self, DataFile},
    rows::{date_of, day_number},
    schema::{self, EVENT_ID, GroupSchema},
    table::Committed,
};

/// Events of one municipality and day that the record handed over, and what the lake has of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayCheck {
    /// Events in the record.
    pub recorded: u64,
    /// Of those, events the lake has in the right day's partition.
    pub found: u64,
    /// Exclusive or of the ids in the record; equal to the other one when the day is complete.
    pub recorded_hash: u128,
    /// The same of the ids found.
    pub found_hash: u128,
}

/// What a check of the whole lake found.
#[derive(Clone, Debug, Default)]
pub struct LakeCheck {
    /// Live files read from end to end.
    pub files: usize,
    /// Their rows.
    pub rows: u64,
    /// Files that are missing, cut off or unreadable, or hold another number of rows than their log entry says.
    pub faults: Vec<String>,
    /// Events that are in a partition more than once. Compaction takes out what came late; a check
    /// between the two finds them here.
    pub repeated: u64,
    /// By municipality and day.
    pub days: BTreeMap<(MunicipalityCode, Date), DayCheck>,
}

impl LakeCheck {
    /// Days that lack something the record handed over.
    pub fn incomplete(&self) -> impl Iterator<Item = (&(MunicipalityCode, Date), &DayCheck)> {
        self.days.iter().filter(|(_, day)| day.recorded != day.found || day.recorded_hash != day.found_hash)
    }

    /// Nothing is missing, damaged or there twice.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.repeated == 0 && self.incomplete().next().is_none()
    }
}

/// What the record handed over, as far as a check needs it.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    days: Vec<(MunicipalityCode, i32)>,
    day_at: HashMap<(MunicipalityCode, i32), u32>,
    events: HashMap<u128, u32>,
}

impl Recorded {
    /// Notes an event; some 40 bytes of memory each.
    pub fn insert(&mut self, event: &Event) {
        let day = (event.municipality_code.clone(), day_number(event.occurred_at.jst_date()));
        let days = &mut self.days;
        let at = *self.day_at.entry(day).or_insert_with_key(|day| {
            days.push(day.clone());
            u32::try_from(days.len() - 1).unwrap_or(u32::MAX)
        });
        self.events.insert(event.event_id.as_uuid().as_u128(), at);
    }
}

impl LakeView {
    /// Reads every live file and compares it with the log, and the events with the record. One file is in
    /// memory at a time, and the ids of one day.
    pub async fn verify(&self, recorded: &Recorded) -> LakeCheck {
        let mut check = LakeCheck::default();
        let mut days = vec![DayCheck::default(); recorded.days.len()];
        for (id, at) in &recorded.events {
            let day = &mut days[*at as usize];
            day.recorded += 1;
            day.recorded_hash ^= id;
        }
        let snapshot = self.snapshot();
        let mut met: HashSet<u128> = HashSet::new();
        for name in snapshot.groups() {
            let (Some(committed), Some(schema)) = (snapshot.committed(name), schema::group(name)) else { continue };
            for partition in committed.files.chunk_by(|a, b| (&a.municipality, a.day) == (&b.municipality, b.day)) {
                let mut ids = HashSet::new();
                for file in partition {
                    match read_ids(committed, schema, file).await {
                        Ok(found) => {
                            check.files += 1;
                            check.rows += found.len() as u64;
                            // The quarantine may name one event for several reasons.
                            let known = ids.len();
                            ids.extend(&found);
                            if name != QUARANTINE {
                                check.repeated += (found.len() - (ids.len() - known)) as u64;
                            }
                        }
                        Err(fault) => check.faults.push(format!("{name}/{}: {fault}", file.path)),
                    }
                }
                for id in ids {
                    let Some(at) = recorded.events.get(&id) else { continue };
                    let (code, day) = &recorded.days[*at as usize];
                    let here = code.as_str() == &*partition[0].municipality && *day == partition[0].day;
                    if here && met.insert(id) {
                        let day = &mut days[*at as usize];
                        day.found += 1;
                        day.found_hash ^= id;
                    }
                }
            }
        }
        let named = recorded.days.iter().map(|(code, day)| (code.clone(), date_of(*day)));
        check.days = named.zip(days).collect();
        check
    }
}

/// The ids of a file's rows. `Err` with what is wrong with the file.
async fn read_ids(
    committed: &Committed,
    schema: &'static GroupSchema,
    file: &Arc<DataFile>,
) -> Result<Vec<u128>, String> {
    let found = committed.store.get(&StorePath::from(file.path.as_str())).await.map_err(|error| error.to_string())?;
    let content = found.bytes().await.map_err(|error| error.to_string())?;
    if content.len() as u64 != file.bytes {
        return Err(format!("{} bytes, {} in the log", content.len(), file.bytes));
    }
    let decoded = tokio::task::spawn_blocking(move || file::decode(content, schema)).await;
    let batches = decoded.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let mut ids = Vec::with_capacity(file.n_rows);
    for batch in &batches {
        let column = batch.column_by_name(EVENT_ID).ok_or("no event_id")?.as_string_view();
        for id in column.iter() {
            let id = id.and_then(|id| uuid::Uuid::try_parse(id).ok()).ok_or("an event_id that is no UUID")?;
            ids.push(id.as_u128());
        }
    }
    if ids.len() != file.n_rows {
        return Err(format!("{} rows, {} in the log", ids.len(), file.n_rows));
    }
    Ok(ids)
}
