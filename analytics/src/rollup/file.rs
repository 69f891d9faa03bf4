//! Days on disk: one file per municipality and day, which may go at any time.
//!
//! `magic and version · CRC-32 of the rest · mark · length of the head · head as JSON · set of all numbers ·
//! their keys · the sets of the day`. All numbers are little-endian; sets are in Roaring's own form. A file that
//! is damaged, of another version or made from other rows is as good as none.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::Path,
};

use jiff::civil::Date;
use roaring::RoaringBitmap;
use todoke_domain::MunicipalityCode;

use super::day::{Day, People};

/// Name of the format and its version.
const MAGIC: [u8; 8] = *b"TDKDAY01";

/// A day as it was read, with the numbers of the process that wrote it.
#[derive(Debug)]
pub(super) struct Stored {
    day: Day,
    everybody: RoaringBitmap,
    keys: Vec<i64>,
}

impl Stored {
    /// The day with the numbers of this process.
    pub(super) fn adopt(self, people: &mut People) -> Day {
        let Self { mut day, everybody, keys } = self;
        let numbers: HashMap<u32, u32> =
            everybody.iter().zip(keys).map(|(before, key)| (before, people.number(key))).collect();
        if numbers.iter().any(|(before, now)| before != now) {
            for set in day.sets_mut() {
                let mut renumbered: Vec<u32> = set.iter().filter_map(|n| numbers.get(&n).copied()).collect();
                // A set grows quickly only at its end.
                renumbered.sort_unstable();
                *set = renumbered.into_iter().collect();
            }
        }
        day
    }
}

/// A day as the bytes of its file.
pub(super) fn encode(day: &Day, mark: u64, people: &People) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(day)?;
    let mut everybody = RoaringBitmap::new();
    for set in day.sets() {
        everybody |= set;
    }
    let mut body = Vec::with_capacity(head.len() + 1024);
    body.extend_from_slice(&mark.to_le_bytes());
    body.extend_from_slice(&(head.len() as u64).to_le_bytes());
    body.extend_from_slice(&head);
    everybody.serialize_into(&mut body)?;
    for number in &everybody {
        let key = people.key(number).ok_or_else(|| io::Error::other("a number without a key"))?;
        body.extend_from_slice(&key.to_le_bytes());
    }
    for set in day.sets() {
        set.serialize_into(&mut body)?;
    }
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    file.append(&mut body);
    Ok(file)
}

/// The day of a file made under this mark; `None` if it is anything else.
pub(super) fn decode(file: &[u8], mark: u64) -> Option<Stored> {
    let rest = file.strip_prefix(MAGIC.as_slice())?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != crc32fast::hash(rest) {
        return None;
    }
    let (made_under, rest) = rest.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*made_under) != mark {
        return None;
    }
    let (n_head, rest) = rest.split_first_chunk::<8>()?;
    let (head, mut rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*n_head)).ok()?)?;
    let mut day: Day = serde_json::from_slice(head).ok()?;
    let everybody = RoaringBitmap::deserialize_from(&mut rest).ok()?;
    let n_keys = usize::try_from(everybody.len()).ok()?;
    let (keys, mut rest) = rest.split_at_checked(n_keys.checked_mul(size_of::<i64>())?)?;
    let keys: Option<Vec<i64>> =
        keys.chunks_exact(size_of::<i64>()).map(|key| Some(i64::from_le_bytes(key.try_into().ok()?))).collect();
    for set in day.sets_mut() {
        *set = RoaringBitmap::deserialize_from(&mut rest).ok()?;
    }
    let keys = keys?;
    rest.is_empty().then_some(Stored { day, everybody, keys })
}

fn name(date: Date) -> String {
    format!("{date}.day")
}

/// The stored day of a folder, if it was made under this mark and is whole. Blocking.
pub(super) fn read(folder: &Path, date: Date, mark: u64) -> Option<Stored> {
    decode(&fs::read(folder.join(name(date))).ok()?, mark)
}

/// Puts a day's bytes in place as a whole. Blocking.
pub(super) fn write(folder: &Path, date: Date, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let part = folder.join(format!("{date}.{}.part", std::process::id()));
    fs::write(&part, bytes)?;
    fs::rename(&part, folder.join(name(date)))
}

/// Whether a file says that it was made under this mark; whether it is whole, its reader sees. Blocking.
pub(super) fn is_made_under(path: &Path, mark: u64) -> bool {
    let mut start = [0; MAGIC.len() + size_of::<u32>() + size_of::<u64>()];
    let is_read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    is_read && start.starts_with(&MAGIC) && start.ends_with(&mark.to_le_bytes())
}

/// The municipalities that have a folder below `dir`. Blocking.
pub(super) fn municipalities(dir: &Path) -> io::Result<Vec<MunicipalityCode>> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in listed {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<MunicipalityCode>().ok()));
    }
    Ok(found)
}

/// Deletes whatever in a folder is not a day that `is_wanted`, by its date and file. Blocking.
pub(super) fn sweep(folder: &Path, is_wanted: impl Fn(Date, &Path) -> bool) -> io::Result<()> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in listed {
        let entry = entry?;
        let file_name = entry.file_name();
        let date = file_name.to_str().and_then(|name| name.strip_suffix(".day")?.parse::<Date>().ok());
        let path = entry.path();
        if !date.is_some_and(|date| is_wanted(date, &path)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::day::{Client, ClientDay, DeviceRow, PlatformDevices},
        *,
    };

    fn day(people: &mut People, keys: &[i64]) -> Day {
        let set: RoaringBitmap = keys.iter().map(|key| people.number(*key)).collect();
        let client = Client { platform: "ios".into(), app_version: "1.0".into(), role: "guardian".into() };
        let row = DeviceRow {
            occurred_at_us: Some(1),
            event_type: "app.first_opened".into(),
            device_key: Some(i64::MIN),
            granted: None,
            platform: Some("ios".into()),
            app_version: None,
            actor_role: None,
        };
        Day {
            clients: vec![ClientDay { client, sessions: 3, known: set.clone(), ..ClientDay::default() }],
            events: Vec::new(),
            device_rows: vec![row],
            platforms: vec![PlatformDevices { platform: "ios".into(), devices: set.clone() }],
            starts: set,
        }
    }

    #[test]
    fn a_day_comes_back_under_the_numbers_of_the_reader() {
        let keys = [7, -3, i64::MAX, 1 << 40];
        let mut people = People::default();
        let written = encode(&day(&mut people, &keys), 5, &people).unwrap();
        let mut others = People::default();
        others.number(1 << 40);
        others.number(99);
        let adopted = decode(&written, 5).unwrap().adopt(&mut others);
        assert_eq!(adopted, day(&mut others, &keys));
        assert_eq!(decode(&written, 5).unwrap().adopt(&mut people), day(&mut people, &keys));
    }

    #[test]
    fn a_file_is_whole_and_of_these_rows_or_as_good_as_none() {
        let mut people = People::default();
        let written = encode(&day(&mut people, &[1, 2, 3]), 5, &people).unwrap();
        assert!(decode(&written, 6).is_none(), "made from other rows");
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged, 5).is_none(), "byte {at}");
            assert!(decode(&written[..at], 5).is_none(), "cut at {at}");
        }
    }
}
