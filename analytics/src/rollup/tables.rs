//! What days tell in place of sections of the report: the same rows under the same names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::error::DataFusionError;
use jiff::{ToSpan, civil::Date};
use roaring::RoaringBitmap;

use super::{
    Usage,
    day::{Client, ClientDay, DeviceRow, EventCount},
};
use crate::{calendar, dimension::Dimension, error::ReportError, parameters::Reach, report::ReportRequest};

/// The days of one municipality as one request splits them.
#[derive(Debug)]
pub(crate) struct Tables<'a> {
    pub(super) request: &'a ReportRequest,
    /// The newest day the lake knows anything of.
    pub(super) horizon: Date,
    pub(super) reach: Reach,
    pub(super) usage: &'a Usage,
    /// The days whose sessions count, along the chosen dimensions.
    pub(super) split: BTreeMap<Date, BTreeMap<Client, ClientDay>>,
}

/// Who was active in some days.
#[derive(Debug, Default)]
struct Active {
    known: RoaringBitmap,
    anonymous: RoaringBitmap,
    nameless: bool,
}

impl<'a> Tables<'a> {
    /// For figures, not for underlying rows.
    pub(crate) fn of(request: &'a ReportRequest, horizon: Date, usage: &'a Usage) -> Self {
        let reach = Reach::of(request.from, request.to);
        let mut split: BTreeMap<Date, BTreeMap<Client, ClientDay>> = BTreeMap::new();
        for (date, day) in usage.days.range(reach.window_from..=reach.active_to) {
            let clients = split.entry(*date).or_default();
            for client_day in &day.clients {
                clients.entry(chosen(&client_day.client, &request.by)).or_default().add(client_day);
            }
        }
        Self { request, horizon, reach, usage, split }
    }

    /// The rows of a section; `None` for a step that nobody needs any more.
    pub(crate) fn table(&self, section: &str) -> Result<Option<RecordBatch>, ReportError> {
        let table = match section {
            "event_day" => self.event_day(),
            "session_day" => self.session_day(),
            "failed_day" => self.failed_day(),
            "active_day" => self.active_day(),
            "active_week" => self.active_week(),
            "active_month" => self.active_month(),
            "active_span" => self.active_span(),
            "crashed" => self.crashed(),
            "rolling_end" => self.rolling_end(),
            "retention" => self.retention(),
            "device_event" => self.device_event(),
            "device_platform" => self.device_platform(),
            _ => return Ok(None),
        };
        Ok(Some(table?))
    }

    pub(super) fn by(&self, dimension: Dimension) -> bool {
        self.request.by.contains(&dimension)
    }

    /// The line of a day.
    pub(super) fn span(&self, date: Date) -> String {
        if self.by(Dimension::Day) {
            date.to_string()
        } else if self.by(Dimension::Week) {
            week_start(date).to_string()
        } else if self.by(Dimension::Month) {
            month(date)
        } else {
            String::new()
        }
    }

    /// The lines, each with its last day that has passed, or its first if none has.
    fn lines(&self) -> BTreeMap<String, Date> {
        let mut lines: BTreeMap<String, Date> = BTreeMap::new();
        for date in self.request.from.series(1.day()).take_while(|date| *date <= self.request.to) {
            let last = lines.entry(self.span(date)).or_insert(date);
            if date <= self.horizon {
                *last = date;
            }
        }
        lines
    }

    fn clients_of(&self, from: Date, to: Date) -> impl Iterator<Item = (Date, &Client, &ClientDay)> {
        // A range that ends before it begins is refused by the map, and has no days.
        let days = (from <= to).then(|| self.split.range(from..=to)).into_iter().flatten();
        days.flat_map(|(date, clients)| clients.iter().map(move |(client, day)| (*date, client, day)))
    }

    fn active(&self, from: Date, to: Date) -> BTreeMap<Client, Active> {
        let mut all: BTreeMap<Client, Active> = BTreeMap::new();
        for (_, client, day) in self.clients_of(from, to) {
            if day.known.is_empty() && day.anonymous.is_empty() && !day.nameless {
                continue;
            }
            let active = all.entry(client.clone()).or_default();
            active.known |= &day.known;
            active.anonymous |= &day.anonymous;
            active.nameless |= day.nameless;
        }
        all
    }

    fn known(&self, from: Date, to: Date) -> BTreeMap<&Client, RoaringBitmap> {
        let mut all: BTreeMap<&Client, RoaringBitmap> = BTreeMap::new();
        for (_, client, day) in self.clients_of(from, to) {
            if !day.known.is_empty() {
                *all.entry(client).or_default() |= &day.known;
            }
        }
        all
    }

    fn session_day(&self) -> Result<RecordBatch, ReportError> {
        let days = self.clients_of(self.reach.window_from, self.reach.active_to);
        let rows: Vec<_> = days.filter(|(_, _, day)| day.sessions > 0).collect();
        let mut columns = vec![("jst_date", dates(rows.iter().map(|(date, _, _)| *date)))];
        columns.extend(client_columns(rows.iter().map(|(_, client, _)| *client)));
        columns.push(("sessions", numbers(rows.iter().map(|(_, _, day)| day.sessions))));
        columns.push(("duration_ms", numbers(rows.iter().map(|(_, _, day)| day.duration_ms))));
        columns.push(("app_duration_ms", numbers(rows.iter().map(|(_, _, day)| day.app_duration_ms))));
        batch(columns)
    }

    fn failed_day(&self) -> Result<RecordBatch, ReportError> {
        let days = self.clients_of(self.reach.window_from, self.reach.active_to);
        let rows: Vec<_> = days.filter(|(_, _, day)| day.failed > 0).collect();
        let mut columns = vec![("jst_date", dates(rows.iter().map(|(date, _, _)| *date)))];
        columns.extend(client_columns(rows.iter().map(|(_, client, _)| *client)));
        columns.push(("failed", numbers(rows.iter().map(|(_, _, day)| day.failed))));
        batch(columns)
    }

    /// Views, errors and openings. Along clients they are those of the sessions, else what the events say.
    fn event_day(&self) -> Result<RecordBatch, ReportError> {
        let mut counts: BTreeMap<(Date, Client, EventKind), i64> = BTreeMap::new();
        if self.by(Dimension::Platform) || self.by(Dimension::AppVersion) {
            for (date, client, day) in self.clients_of(self.request.from, self.request.to) {
                for (event_type, n) in [("app.screen_viewed", day.views), ("app.error_occurred", day.errors)] {
                    if n > 0 {
                        let kind = EventKind { event_type: event_type.to_owned(), ..EventKind::default() };
                        *counts.entry((date, client.clone(), kind)).or_default() += n;
                    }
                }
            }
        } else {
            for (date, day) in self.usage.days.range(self.request.from..=self.request.to) {
                for count in &day.events {
                    let role = if self.by(Dimension::Role) { count.role.clone() } else { String::new() };
                    let client = Client { role, ..Client::default() };
                    *counts.entry((*date, client, self.kind(count))).or_default() += count.n;
                }
            }
        }
        let mut columns = vec![("jst_date", dates(counts.keys().map(|(date, _, _)| *date)))];
        columns.extend(client_columns(counts.keys().map(|(_, client, _)| client)));
        columns.push(("event_type", texts(counts.keys().map(|(_, _, kind)| kind.event_type.as_str()))));
        columns.push(("screen_id", texts(counts.keys().map(|(_, _, kind)| kind.screen_id.as_str()))));
        columns.push(("error_kind", texts(counts.keys().map(|(_, _, kind)| kind.error_kind.as_str()))));
        columns.push(("message_type", texts(counts.keys().map(|(_, _, kind)| kind.message_type.as_str()))));
        columns.push(("n", numbers(counts.values().copied())));
        batch(columns)
    }

    fn kind(&self, count: &EventCount) -> EventKind {
        let told =
            |dimension: Dimension, value: &str| if self.by(dimension) { value.to_owned() } else { String::new() };
        EventKind {
            event_type: count.event_type.clone(),
            screen_id: told(Dimension::ScreenId, &count.screen_id),
            error_kind: told(Dimension::ErrorKind, &count.error_kind),
            message_type: told(Dimension::MessageType, &count.message_type),
        }
    }

    fn active_day(&self) -> Result<RecordBatch, ReportError> {
        let counted: Vec<(Date, BTreeMap<Client, Active>)> =
            self.split.keys().map(|date| (*date, self.active(*date, *date))).collect();
        let rows =
            || counted.iter().flat_map(|(date, clients)| clients.iter().map(move |(client, a)| (*date, client, a)));
        let mut columns = vec![("jst_date", dates(rows().map(|(date, _, _)| date)))];
        columns.extend(client_columns(rows().map(|(_, client, _)| client)));
        columns.extend(active_columns(rows().map(|(_, _, active)| active)));
        batch(columns)
    }

    fn active_week(&self) -> Result<RecordBatch, ReportError> {
        let weeks: BTreeSet<Date> = self.lines().values().map(|last| week_start(*last)).collect();
        let counted: Vec<(Date, BTreeMap<Client, Active>)> =
            weeks.into_iter().map(|week| (week, self.active(week, week.saturating_add(6.days())))).collect();
        let rows =
            || counted.iter().flat_map(|(week, clients)| clients.iter().map(move |(client, a)| (*week, client, a)));
        let mut columns = vec![("iso_week_start", dates(rows().map(|(week, _, _)| week)))];
        columns.extend(client_columns(rows().map(|(_, client, _)| client)));
        columns.extend(active_columns(rows().map(|(_, _, active)| active)));
        batch(columns)
    }

    fn active_month(&self) -> Result<RecordBatch, ReportError> {
        let months: BTreeSet<Date> = self.lines().values().map(|last| last.first_of_month()).collect();
        let counted: Vec<(String, BTreeMap<Client, Active>)> =
            months.into_iter().map(|first| (month(first), self.active(first, first.last_of_month()))).collect();
        let rows = || {
            counted
                .iter()
                .flat_map(|(month, clients)| clients.iter().map(move |(client, a)| (month.as_str(), client, a)))
        };
        let mut columns = vec![("month", texts(rows().map(|(month, _, _)| month)))];
        columns.extend(client_columns(rows().map(|(_, client, _)| client)));
        columns.extend(active_columns(rows().map(|(_, _, active)| active)));
        batch(columns)
    }

    fn active_span(&self) -> Result<RecordBatch, ReportError> {
        self.people_of_lines(|day| &day.known)
    }

    fn crashed(&self) -> Result<RecordBatch, ReportError> {
        self.people_of_lines(|day| &day.crashed)
    }

    fn people_of_lines(&self, of: impl Fn(&ClientDay) -> &RoaringBitmap) -> Result<RecordBatch, ReportError> {
        let mut people: BTreeMap<(String, &Client), RoaringBitmap> = BTreeMap::new();
        for (date, client, day) in self.clients_of(self.request.from, self.request.to) {
            let set = of(day);
            if !set.is_empty() {
                *people.entry((self.span(date), client)).or_default() |= set;
            }
        }
        let mut columns = vec![("span", texts(people.keys().map(|(span, _)| span.as_str())))];
        columns.extend(client_columns(people.keys().map(|(_, client)| *client)));
        columns.push(("users", numbers(people.values().map(n_of))));
        batch(columns)
    }

    /// The 7 and 30 days that end with the last day of each line.
    fn rolling_end(&self) -> Result<RecordBatch, ReportError> {
        let mut users: BTreeMap<(String, &Client), [i64; 2]> = BTreeMap::new();
        for (span, last) in self.lines() {
            for (at, n_days) in [7_i64, 30].into_iter().enumerate() {
                let first = last.saturating_sub((n_days - 1).days());
                for (client, people) in self.known(first, last) {
                    users.entry((span.clone(), client)).or_default()[at] = n_of(&people);
                }
            }
        }
        let mut columns = vec![("span", texts(users.keys().map(|(span, _)| span.as_str())))];
        columns.extend(client_columns(users.keys().map(|(_, client)| *client)));
        columns.push(("users_7", numbers(users.values().map(|n| n[0]))));
        columns.push(("users_30", numbers(users.values().map(|n| n[1]))));
        batch(columns)
    }

    fn device_event(&self) -> Result<RecordBatch, ReportError> {
        let days = self.usage.days.range(..=self.request.to);
        let rows: Vec<(Date, &DeviceRow)> =
            days.flat_map(|(date, day)| day.device_rows.iter().map(move |row| (*date, row))).collect();
        let instants: TimestampMicrosecondArray = rows.iter().map(|(_, row)| row.occurred_at_us).collect();
        let keys: Int64Array = rows.iter().map(|(_, row)| row.device_key).collect();
        let granted: BooleanArray = rows.iter().map(|(_, row)| row.granted).collect();
        batch(vec![
            ("jst_date", dates(rows.iter().map(|(date, _)| *date))),
            ("occurred_at", Arc::new(instants.with_timezone("UTC")) as ArrayRef),
            ("event_type", optional(&rows, |row| Some(row.event_type.as_str()))),
            ("device_key", Arc::new(keys) as ArrayRef),
            ("granted", Arc::new(granted) as ArrayRef),
            ("platform", optional(&rows, |row| row.platform.as_deref())),
            ("app_version", optional(&rows, |row| row.app_version.as_deref())),
            ("actor_role", optional(&rows, |row| row.actor_role.as_deref())),
        ])
    }

    fn device_platform(&self) -> Result<RecordBatch, ReportError> {
        let platforms = &self.usage.device_platforms;
        batch(vec![
            ("device_key", numbers(platforms.keys().copied())),
            ("platform", texts(platforms.values().map(String::as_str))),
        ])
    }
}

/// What is counted without a client, along the chosen dimensions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct EventKind {
    event_type: String,
    screen_id: String,
    error_kind: String,
    message_type: String,
}

/// The client as far as it is asked about.
fn chosen(client: &Client, by: &[Dimension]) -> Client {
    let told =
        |dimension: Dimension, value: &str| if by.contains(&dimension) { value.to_owned() } else { String::new() };
    Client {
        platform: told(Dimension::Platform, &client.platform),
        app_version: told(Dimension::AppVersion, &client.app_version),
        role: told(Dimension::Role, &client.role),
    }
}

fn week_start(date: Date) -> Date {
    date.saturating_sub(i64::from(date.weekday().to_monday_zero_offset()).days())
}

fn month(date: Date) -> String {
    date.strftime("%Y-%m").to_string()
}

/// The size of a set.
pub(super) fn n_of(set: &RoaringBitmap) -> i64 {
    i64::try_from(set.len()).unwrap_or(i64::MAX)
}

pub(super) fn numbers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

pub(super) fn texts<'t>(values: impl Iterator<Item = &'t str>) -> ArrayRef {
    // The array asks how many there will be, which not every iterator can tell.
    let values: Vec<&str> = values.collect();
    Arc::new(StringArray::from_iter_values(values))
}

fn optional(rows: &[(Date, &DeviceRow)], of: impl Fn(&DeviceRow) -> Option<&str>) -> ArrayRef {
    Arc::new(rows.iter().map(|(_, row)| of(row)).collect::<StringArray>())
}

fn dates(values: impl Iterator<Item = Date>) -> ArrayRef {
    Arc::new(Date32Array::from_iter_values(values.map(calendar::days_since_epoch)))
}

pub(super) fn client_columns<'c>(clients: impl Iterator<Item = &'c Client>) -> [(&'static str, ArrayRef); 3] {
    let clients: Vec<&Client> = clients.collect();
    [
        ("platform", texts(clients.iter().map(|client| client.platform.as_str()))),
        ("app_version", texts(clients.iter().map(|client| client.app_version.as_str()))),
        ("role", texts(clients.iter().map(|client| client.role.as_str()))),
    ]
}

fn active_columns<'c>(active: impl Iterator<Item = &'c Active>) -> [(&'static str, ArrayRef); 2] {
    let counts: Vec<(i64, i64)> = active
        .map(|active| {
            let users = n_of(&active.known);
            (users, users + n_of(&active.anonymous) + i64::from(active.nameless))
        })
        .collect();
    [
        ("users", numbers(counts.iter().map(|(users, _)| *users))),
        ("users_incl_anonymous", numbers(counts.iter().map(|(_, all)| *all))),
    ]
}

pub(super) fn batch(columns: Vec<(&'static str, ArrayRef)>) -> Result<RecordBatch, ReportError> {
    Ok(RecordBatch::try_from_iter(columns).map_err(DataFusionError::from)?)
}
