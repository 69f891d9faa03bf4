//! One day of app usage: counts, and who was there.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

/// What a session ran on, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Client {
    pub(super) platform: String,
    pub(super) app_version: String,
    pub(super) role: String,
}

/// A day of one client. The sets hold numbers of [`People`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ClientDay {
    pub(super) client: Client,
    pub(super) sessions: i64,
    pub(super) duration_ms: i64,
    /// Without staff screens.
    pub(super) app_duration_ms: i64,
    /// Sessions with an error.
    pub(super) failed: i64,
    pub(super) views: i64,
    pub(super) errors: i64,
    /// There were sessions with neither person nor device.
    pub(super) nameless: bool,
    /// People with a session.
    #[serde(skip)]
    pub(super) known: RoaringBitmap,
    /// Devices with a session of nobody who is known.
    #[serde(skip)]
    pub(super) anonymous: RoaringBitmap,
    /// People whose first session of the day was here.
    #[serde(skip)]
    pub(super) first: RoaringBitmap,
    /// People with a fatal error.
    #[serde(skip)]
    pub(super) crashed: RoaringBitmap,
}

impl ClientDay {
    /// Takes in what another client did that day.
    pub(super) fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.duration_ms += other.duration_ms;
        self.app_duration_ms += other.app_duration_ms;
        self.failed += other.failed;
        self.views += other.views;
        self.errors += other.errors;
        self.nameless |= other.nameless;
        self.known |= &other.known;
        self.anonymous |= &other.anonymous;
        self.first |= &other.first;
        self.crashed |= &other.crashed;
    }
}

/// Views, errors and opened pushes, as they are counted without a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EventCount {
    pub(super) event_type: String,
    pub(super) role: String,
    pub(super) screen_id: String,
    pub(super) error_kind: String,
    pub(super) message_type: String,
    pub(super) n: i64,
}

/// A first opening or a change of the push permission, as the event says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DeviceRow {
    pub(super) occurred_at_us: Option<i64>,
    pub(super) event_type: String,
    pub(super) device_key: Option<i64>,
    pub(super) granted: Option<bool>,
    pub(super) platform: Option<String>,
    pub(super) app_version: Option<String>,
    pub(super) actor_role: Option<String>,
}

/// Devices on which sessions of a platform started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PlatformDevices {
    pub(super) platform: String,
    #[serde(skip)]
    pub(super) devices: RoaringBitmap,
}

/// A day of one municipality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Day {
    pub(super) clients: Vec<ClientDay>,
    pub(super) events: Vec<EventCount>,
    pub(super) device_rows: Vec<DeviceRow>,
    pub(super) platforms: Vec<PlatformDevices>,
    /// People for whom a session start was noted, whatever else is known of that session.
    #[serde(skip)]
    pub(super) starts: RoaringBitmap,
}

impl Day {
    /// All its sets, always in the same order.
    pub(super) fn sets(&self) -> Vec<&RoaringBitmap> {
        let mut sets = vec![&self.starts];
        for client in &self.clients {
            sets.extend([&client.known, &client.anonymous, &client.first, &client.crashed]);
        }
        sets.extend(self.platforms.iter().map(|platform| &platform.devices));
        sets
    }

    /// The same, to be filled.
    pub(super) fn sets_mut(&mut self) -> Vec<&mut RoaringBitmap> {
        let mut sets = vec![&mut self.starts];
        for client in &mut self.clients {
            sets.extend([&mut client.known, &mut client.anonymous, &mut client.first, &mut client.crashed]);
        }
        sets.extend(self.platforms.iter_mut().map(|platform| &mut platform.devices));
        sets
    }

    /// About what it takes of memory. Bytes.
    pub(super) fn n_bytes(&self) -> usize {
        let sets: usize = self.sets().iter().map(|set| set.serialized_size()).sum();
        let rows = self.clients.len() * size_of::<ClientDay>()
            + self.events.len() * size_of::<EventCount>()
            + self.device_rows.len() * size_of::<DeviceRow>();
        size_of::<Self>() + sets + rows
    }
}

/// Keys of people and devices as small numbers: keys are random, and sets of them would hold each by itself.
#[derive(Debug, Default)]
pub(super) struct People {
    numbers: HashMap<i64, u32>,
    keys: Vec<i64>,
}

impl People {
    /// The number of a key, a new one if it was never met.
    pub(super) fn number(&mut self, key: i64) -> u32 {
        let Self { numbers, keys } = self;
        *numbers.entry(key).or_insert_with(|| {
            keys.push(key);
            // More than four thousand million people are not met.
            u32::try_from(keys.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// The number of a key that was met.
    pub(super) fn known(&self, key: i64) -> Option<u32> {
        self.numbers.get(&key).copied()
    }

    /// The key of a number.
    pub(super) fn key(&self, number: u32) -> Option<i64> {
        self.keys.get(usize::try_from(number).ok()?).copied()
    }

    /// About what it takes of memory. Bytes.
    pub(super) fn n_bytes(&self) -> usize {
        self.keys.len() * 2 * (size_of::<i64>() + size_of::<u64>())
    }
}
