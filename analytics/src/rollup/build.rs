//! Making days: the sections of the report itself, run for some days with every client told apart.

use std::{collections::BTreeMap, sync::LazyLock};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Date32Type, Int64Type, TimeUnit},
};
use datafusion::error::DataFusionError;
use jiff::civil::Date;

use super::day::{Client, ClientDay, Day, DeviceRow, EventCount, People, PlatformDevices};
use crate::{
    calendar,
    dimension::Dimension,
    error::ReportError,
    parameters::Parameters,
    report::ReportId,
    run,
    sections::{self, Section},
    session::Session,
};

const BY_CLIENT: [Dimension; 3] = [Dimension::Platform, Dimension::AppVersion, Dimension::Role];
const BY_EVENT: [Dimension; 4] = [Dimension::Role, Dimension::ScreenId, Dimension::ErrorKind, Dimension::MessageType];
/// Sections of the report whose rows a day is made of.
const TOLD_BY_CLIENT: [&str; 6] = ["session", "silent", "session_day", "failed_day", "event_day", "user_day"];
const TOLD_BY_EVENT: &str = "event_day";

/// What is asked beside the report's own sections.
const OWN_SQL: &str = include_str!("../../reports/app_usage_days.sql");

fn own_sections() -> &'static [Section] {
    static PARSED: LazyLock<Vec<Section>> = LazyLock::new(|| sections::parse(OWN_SQL));
    &PARSED
}

/// All text that decides what is in a day.
pub(super) fn definition() -> [&'static str; 2] {
    [ReportId::AppUsage.sql(), OWN_SQL]
}

/// The days from `from` to `to` that have anything to tell.
///
/// A day depends on its own rows and on those of the days before and after it, and on nothing else: made alone or
/// with others it is the same.
pub(super) async fn build(
    mut session: Session,
    from: Date,
    to: Date,
    people: &mut People,
) -> Result<BTreeMap<Date, Day>, ReportError> {
    let mut drafts = Drafts { from, to, people, days: BTreeMap::new() };
    let by_client = Parameters::of_days(from, to, &BY_CLIENT);
    let sections = ReportId::AppUsage.sections(false);
    for section in sections.iter().filter(|s| TOLD_BY_CLIENT.contains(&s.name) && s.runs(&BY_CLIENT)) {
        let (schema, rows) = run::step(&mut session, section, &by_client).await?;
        for batch in rows.iter().flatten() {
            match section.name {
                "session_day" => drafts.take_sessions(batch)?,
                "failed_day" => drafts.take_failed(batch)?,
                "event_day" => drafts.take_events_by_client(batch)?,
                "user_day" => drafts.take_users(batch)?,
                _ => {}
            }
        }
        // Later sections read the sessions; the rest is taken.
        if matches!(section.name, "session" | "silent") {
            session.keep(section.name, &schema, rows)?;
        }
    }
    for section in own_sections() {
        let (_, rows) = run::step(&mut session, section, &by_client).await?;
        for batch in rows.iter().flatten() {
            match section.name {
                "crashed_key" => drafts.take_crashed(batch)?,
                "first_client" => drafts.take_first(batch)?,
                "start" => drafts.take_starts(batch)?,
                "device_row" => drafts.take_device_rows(batch)?,
                _ => {}
            }
        }
    }
    let by_event = Parameters::of_days(from, to, &BY_EVENT);
    for section in sections.iter().filter(|s| s.name == TOLD_BY_EVENT && s.runs(&BY_EVENT)) {
        let (_, rows) = run::step(&mut session, section, &by_event).await?;
        for batch in rows.iter().flatten() {
            drafts.take_events(batch)?;
        }
    }
    Ok(drafts.finish())
}

/// Rows by the names of their columns, in plain types.
struct Rows<'a>(&'a RecordBatch);

impl Rows<'_> {
    fn column(&self, name: &str, wanted: &DataType) -> Result<ArrayRef, ReportError> {
        let missing = || ReportError::Internal(format!("a day has no column {name}").into());
        let found = self.0.column_by_name(name).ok_or_else(missing)?;
        Ok(cast(found, wanted).map_err(DataFusionError::from)?)
    }

    fn days(&self) -> Result<Date32Array, ReportError> {
        Ok(self.column("jst_date", &DataType::Date32)?.as_primitive::<Date32Type>().clone())
    }

    fn texts(&self, name: &str) -> Result<StringArray, ReportError> {
        Ok(self.column(name, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    fn numbers(&self, name: &str) -> Result<Int64Array, ReportError> {
        Ok(self.column(name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    fn flags(&self, name: &str) -> Result<BooleanArray, ReportError> {
        Ok(self.column(name, &DataType::Boolean)?.as_boolean().clone())
    }

    /// Microseconds since 1970.
    fn instants(&self, name: &str) -> Result<Int64Array, ReportError> {
        let instants = self.column(name, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
        let numbers = cast(&instants, &DataType::Int64).map_err(DataFusionError::from)?;
        Ok(numbers.as_primitive::<Int64Type>().clone())
    }

    fn clients(&self) -> Result<Clients, ReportError> {
        Ok(Clients {
            platform: self.texts("platform")?,
            app_version: self.texts("app_version")?,
            role: self.texts("role")?,
        })
    }

    fn n(&self) -> usize {
        self.0.num_rows()
    }
}

struct Clients {
    platform: StringArray,
    app_version: StringArray,
    role: StringArray,
}

impl Clients {
    fn of(&self, row: usize) -> Client {
        Client {
            platform: text(&self.platform, row),
            app_version: text(&self.app_version, row),
            role: text(&self.role, row),
        }
    }
}

fn text(texts: &StringArray, row: usize) -> String {
    optional_text(texts, row).unwrap_or_default()
}

fn optional_text(texts: &StringArray, row: usize) -> Option<String> {
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}

fn number(numbers: &Int64Array, row: usize) -> Option<i64> {
    numbers.is_valid(row).then(|| numbers.value(row))
}

#[derive(Default)]
struct Draft {
    clients: BTreeMap<Client, ClientDay>,
    platforms: BTreeMap<String, PlatformDevices>,
    day: Day,
}

impl Draft {
    fn client(&mut self, client: Client) -> &mut ClientDay {
        self.clients.entry(client).or_default()
    }
}

/// Days being made.
struct Drafts<'p> {
    from: Date,
    to: Date,
    people: &'p mut People,
    days: BTreeMap<Date, Draft>,
}

impl Drafts<'_> {
    /// The draft of a row's day; `None` for the day before, which is only looked at.
    fn draft(&mut self, days: &Date32Array, row: usize) -> Option<&mut Draft> {
        let date = calendar::day_of(days.is_valid(row).then(|| days.value(row))?);
        if !(self.from..=self.to).contains(&date) {
            return None;
        }
        Some(self.days.entry(date).or_default())
    }

    fn take_sessions(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, clients) = (rows.days()?, rows.clients()?);
        let (sessions, all_ms) = (rows.numbers("sessions")?, rows.numbers("duration_ms")?);
        let app_ms = rows.numbers("app_duration_ms")?;
        for row in 0..rows.n() {
            if let Some(draft) = self.draft(&days, row) {
                let client = draft.client(clients.of(row));
                client.sessions += number(&sessions, row).unwrap_or_default();
                client.duration_ms += number(&all_ms, row).unwrap_or_default();
                client.app_duration_ms += number(&app_ms, row).unwrap_or_default();
            }
        }
        Ok(())
    }

    fn take_failed(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, clients, failed) = (rows.days()?, rows.clients()?, rows.numbers("failed")?);
        for row in 0..rows.n() {
            if let Some(draft) = self.draft(&days, row) {
                draft.client(clients.of(row)).failed += number(&failed, row).unwrap_or_default();
            }
        }
        Ok(())
    }

    fn take_events_by_client(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, clients) = (rows.days()?, rows.clients()?);
        let (types, counts) = (rows.texts("event_type")?, rows.numbers("n")?);
        for row in 0..rows.n() {
            let n = number(&counts, row).unwrap_or_default();
            if let Some(draft) = self.draft(&days, row) {
                let client = draft.client(clients.of(row));
                match text(&types, row).as_str() {
                    "app.screen_viewed" => client.views += n,
                    "app.error_occurred" => client.errors += n,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn take_users(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, clients) = (rows.days()?, rows.clients()?);
        let (persons, known) = (rows.numbers("person")?, rows.flags("known")?);
        for row in 0..rows.n() {
            let person = number(&persons, row).map(|key| self.people.number(key));
            if let Some(draft) = self.draft(&days, row) {
                let client = draft.client(clients.of(row));
                match person {
                    Some(person) if known.value(row) => client.known.insert(person),
                    Some(device) => client.anonymous.insert(device),
                    None => !std::mem::replace(&mut client.nameless, true),
                };
            }
        }
        Ok(())
    }

    fn take_crashed(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, clients, guardians) = (rows.days()?, rows.clients()?, rows.numbers("guardian_key")?);
        for row in 0..rows.n() {
            let Some(person) = number(&guardians, row).map(|key| self.people.number(key)) else { continue };
            if let Some(draft) = self.draft(&days, row) {
                draft.client(clients.of(row)).crashed.insert(person);
            }
        }
        Ok(())
    }

    fn take_first(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, clients, guardians) = (rows.days()?, rows.clients()?, rows.numbers("guardian_key")?);
        for row in 0..rows.n() {
            let Some(person) = number(&guardians, row).map(|key| self.people.number(key)) else { continue };
            if let Some(draft) = self.draft(&days, row) {
                draft.client(clients.of(row)).first.insert(person);
            }
        }
        Ok(())
    }

    fn take_starts(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, platforms) = (rows.days()?, rows.texts("platform")?);
        let (guardians, devices) = (rows.numbers("guardian_key")?, rows.numbers("device_key")?);
        for row in 0..rows.n() {
            let guardian = number(&guardians, row).map(|key| self.people.number(key));
            let device = number(&devices, row).map(|key| self.people.number(key));
            let Some(draft) = self.draft(&days, row) else { continue };
            draft.day.starts.extend(guardian);
            if let (Some(device), Some(platform)) = (device, optional_text(&platforms, row)) {
                draft.platforms.entry(platform).or_default().devices.insert(device);
            }
        }
        Ok(())
    }

    fn take_device_rows(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, instants, types) = (rows.days()?, rows.instants("occurred_at")?, rows.texts("event_type")?);
        let (devices, granted) = (rows.numbers("device_key")?, rows.flags("granted")?);
        let (platforms, versions) = (rows.texts("platform")?, rows.texts("app_version")?);
        let roles = rows.texts("actor_role")?;
        for row in 0..rows.n() {
            if let Some(draft) = self.draft(&days, row) {
                draft.day.device_rows.push(DeviceRow {
                    occurred_at_us: number(&instants, row),
                    event_type: text(&types, row),
                    device_key: number(&devices, row),
                    granted: granted.is_valid(row).then(|| granted.value(row)),
                    platform: optional_text(&platforms, row),
                    app_version: optional_text(&versions, row),
                    actor_role: optional_text(&roles, row),
                });
            }
        }
        Ok(())
    }

    fn take_events(&mut self, batch: &RecordBatch) -> Result<(), ReportError> {
        let rows = Rows(batch);
        let (days, types, roles) = (rows.days()?, rows.texts("event_type")?, rows.texts("role")?);
        let (screens, kinds) = (rows.texts("screen_id")?, rows.texts("error_kind")?);
        let (messages, counts) = (rows.texts("message_type")?, rows.numbers("n")?);
        for row in 0..rows.n() {
            if let Some(draft) = self.draft(&days, row) {
                draft.day.events.push(EventCount {
                    event_type: text(&types, row),
                    role: text(&roles, row),
                    screen_id: text(&screens, row),
                    error_kind: text(&kinds, row),
                    message_type: text(&messages, row),
                    n: number(&counts, row).unwrap_or_default(),
                });
            }
        }
        Ok(())
    }

    fn finish(self) -> BTreeMap<Date, Day> {
        let day = |draft: Draft| {
            let clients = draft.clients.into_iter().map(|(client, day)| ClientDay { client, ..day }).collect();
            let platforms = draft
                .platforms
                .into_iter()
                .map(|(platform, devices)| PlatformDevices { platform, ..devices })
                .collect();
            Day { clients, platforms, ..draft.day }
        };
        self.days.into_iter().map(|(date, draft)| (date, day(draft))).collect()
    }
}
