//! Files of the log: frames behind each other, each with its length and sum.
//!
//! ```text
//! frame = magic (4) length (4) sum (4) n_rows (4) position (8) payload
//! file  = frame with the file's preamble, frames with rows
//! ```
//! Numbers are little-endian; the sum is CRC-32 of everything after itself. A file has its name only with its whole
//! preamble, and a frame is written after the sync of the one before it.

use std::{
    cmp::Ordering,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    IngestError,
    row::{self, Dictionary, EncodedEvents, LogRows, Meanings},
    usage_log::OpenDisk,
};

pub(crate) const HEAD_BYTES: usize = 24;
const ROWS: [u8; 4] = *b"TDr1";
const PREAMBLE: [u8; 4] = *b"TDp1";
const IDS: [u8; 4] = *b"TDi2";
/// Of files with ids as they were sent, beside marks with the sender's key in them.
const OLDER_IDS: [u8; 4] = *b"TDi1";
/// How the marks of a file's rows were made: the first way had the sender's key in them.
const MARKS: u8 = 1;
/// No writer makes longer ones; a length beyond it is damage.
const FRAME_BYTES_MAX: usize = 1 << 30;
/// Disks write as much at once; what they had no time to write reads as zeros.
const SECTOR_BYTES: usize = 512;
/// A file that does not have its name yet.
const BEGUN: &str = "begun.draft";
const ID_BYTES: usize = 24;

/// A file that is appended to. A trait because disks fail in ways that a test must be able to order.
pub(crate) trait Disk: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file off.
    fn cut(&mut self, n_bytes: u64) -> io::Result<()>;
}

impl Disk for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, n_bytes: u64) -> io::Result<()> {
        self.set_len(n_bytes)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Preamble {
    pub(crate) log_id: String,
    pub(crate) dictionary: Dictionary,
    #[serde(default)]
    marks: u8,
}

/// A file of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Position of its first frame.
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
    pub(crate) meanings: Meanings,
    // For reading at places; the writer has a handle of its own.
    file: File,
}

/// Where a frame with rows is.
#[derive(Clone, Debug)]
pub(crate) struct FrameRef {
    pub(crate) position: u64,
    pub(crate) n_rows: u32,
    pub(crate) segment: Arc<Segment>,
    offset: u64,
    n_bytes: usize,
}

impl FrameRef {
    pub(crate) fn new(segment: &Arc<Segment>, position: u64, n_rows: u32, offset: u64, n_bytes: usize) -> Self {
        Self { position, n_rows, segment: Arc::clone(segment), offset, n_bytes }
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes as u64
    }

    /// Its payload, checked.
    pub(crate) fn read(&self) -> Result<Vec<u8>, IngestError> {
        let mut bytes = vec![0; self.n_bytes];
        self.segment.file.read_exact_at(&mut bytes, self.offset).map_err(IngestError::log("reading"))?;
        match parse(&bytes) {
            Some(frame) if frame.magic == ROWS && frame.position == self.position => {
                bytes.drain(..HEAD_BYTES);
                Ok(bytes)
            }
            _ => Err(IngestError::Damaged { path: self.segment.path.clone(), at: self.offset }),
        }
    }
}

pub(crate) fn log_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

pub(crate) fn ids_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.ids"))
}

/// The first positions of the files with an extension, ascending.
pub(crate) fn list(dir: &Path, extension: &str) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let is_ours = path.extension().is_some_and(|e| e == extension);
        found.extend(path.file_stem().filter(|_| is_ours).and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Fills in the head of a frame whose payload follows [`HEAD_BYTES`] free bytes.
pub(crate) fn seal_frame(frame: &mut [u8], n_rows: u32, position: u64) {
    seal(frame, ROWS, n_rows, position);
}

fn seal(frame: &mut [u8], magic: [u8; 4], n_rows: u32, position: u64) {
    let length = u32::try_from(frame.len() - HEAD_BYTES).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&magic);
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[12..16].copy_from_slice(&n_rows.to_le_bytes());
    frame[16..24].copy_from_slice(&position.to_le_bytes());
    let sum = crc32fast::hash(&frame[12..]);
    frame[8..12].copy_from_slice(&sum.to_le_bytes());
}

struct Frame<'a> {
    magic: [u8; 4],
    n_rows: u32,
    position: u64,
    payload: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

/// The frame at the beginning of `bytes`, if there is a whole one.
fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let magic: [u8; 4] = *bytes.first_chunk()?;
    let n_bytes = usize::try_from(word(bytes, 4)).ok().filter(|n| *n <= FRAME_BYTES_MAX)?;
    let whole = bytes.get(..HEAD_BYTES + n_bytes)?;
    if ![ROWS, PREAMBLE, IDS, OLDER_IDS].contains(&magic) || crc32fast::hash(&whole[12..]) != word(bytes, 8) {
        return None;
    }
    let position = u64::from_le_bytes(*whole[16..].first_chunk()?);
    Some(Frame { magic, n_rows: word(bytes, 12), position, payload: &whole[HEAD_BYTES..] })
}

/// What a file of the log was found to hold.
pub(crate) struct Found {
    pub(crate) log_id: String,
    pub(crate) segment: Arc<Segment>,
    pub(crate) frames: Vec<FrameRef>,
    /// Keys and marks of its events.
    pub(crate) ids: Vec<(u128, u64)>,
    /// A version with other marks wrote it: so are those in the file with its ids.
    pub(crate) is_older: bool,
    /// Where whole frames end, if something else follows.
    pub(crate) torn_at: Option<u64>,
}

/// Reads a file and checks every frame. `None` for one that has no preamble: a crash of an earlier
/// version left it, and it never held anything.
///
/// Errors: [`IngestError::Damaged`] when a frame is damaged in a way that no crash does: then something
/// that was acknowledged is gone, and nobody should go on as if it were not.
pub(crate) fn scan(dir: &Path, first: u64) -> Result<Option<Found>, IngestError> {
    let path = log_path(dir, first);
    let mut file = File::open(&path).map_err(IngestError::log("opening"))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(IngestError::log("reading"))?;
    let damaged = |at: usize| IngestError::Damaged { path: path.clone(), at: at as u64 };
    let Some(preamble) = parse(&bytes).filter(|frame| frame.magic == PREAMBLE) else {
        return if whole_frame_after(&bytes, 0) { Err(damaged(0)) } else { Ok(None) };
    };
    let Preamble { log_id, dictionary, marks } = serde_json::from_slice(preamble.payload).map_err(|_| damaged(0))?;
    let meanings = dictionary.meanings().map_err(|unknown| IngestError::Newer { unknown })?;
    let mut at = HEAD_BYTES + preamble.payload.len();
    let segment = Arc::new(Segment { first, path: path.clone(), meanings, file });
    let is_older = marks < MARKS;
    let mut found = Found { log_id, segment, frames: Vec::new(), ids: Vec::new(), is_older, torn_at: None };
    while at < bytes.len() {
        let next = first + found.frames.len() as u64;
        let Some(frame) = parse(&bytes[at..]).filter(|frame| frame.magic == ROWS && frame.position == next) else {
            if whole_frame_after(&bytes, at) || !is_torn(&bytes, at, next) {
                return Err(damaged(at));
            }
            found.torn_at = Some(at as u64);
            break;
        };
        let n_bytes = HEAD_BYTES + frame.payload.len();
        let ids = if is_older {
            marked_anew(frame.payload, &found.segment.meanings)
        } else {
            row::read_marks(frame.payload).ok()
        };
        found.ids.extend(ids.ok_or_else(|| damaged(at))?);
        found.frames.push(FrameRef::new(&found.segment, next, frame.n_rows, at as u64, n_bytes));
        at += n_bytes;
    }
    Ok(Some(found))
}

/// Keys and marks, as they are made now, of a frame's rows.
fn marked_anew(payload: &[u8], meanings: &Meanings) -> Option<Vec<(u128, u64)>> {
    let mut rows = LogRows::default();
    rows.add(payload, meanings).ok()?;
    let events = EncodedEvents::of(&rows.to_events().ok()?).ok()?;
    let marks =
        events.blocks.iter().flat_map(|block| block.marks.iter().map(move |mark| (block.key(mark.id), mark.mark)));
    Some(marks.collect())
}

/// The name of the log that a file belongs to; `None` without a whole preamble. Leaves the place in the file alone.
pub(crate) fn log_id(file: &File) -> io::Result<Option<String>> {
    let mut bytes = vec![0; HEAD_BYTES];
    if !is_filled(&mut bytes, file)? {
        return Ok(None);
    }
    let n_bytes = usize::try_from(word(&bytes, 4)).unwrap_or(0).min(FRAME_BYTES_MAX);
    bytes.resize(HEAD_BYTES + n_bytes, 0);
    if !is_filled(&mut bytes, file)? {
        return Ok(None);
    }
    let preamble = parse(&bytes).filter(|frame| frame.magic == PREAMBLE);
    Ok(preamble.and_then(|frame| Some(serde_json::from_slice::<Preamble>(frame.payload).ok()?.log_id)))
}

/// Reads the beginning of a file; `false` if it is shorter.
fn is_filled(bytes: &mut [u8], file: &File) -> io::Result<bool> {
    match file.read_exact_at(bytes, 0) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn whole_frame_after(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let begins = rest.windows(4).enumerate().filter(|(_, window)| *window == ROWS);
    begins.into_iter().any(|(begin, _)| parse(&rest[begin..]).is_some())
}

/// Whether a crash can have left what stands at `at`, where the frame of this position should be.
///
/// Only the last frame can be torn, and nothing follows it: it is short, or it has its length and lacks sectors.
fn is_torn(bytes: &[u8], at: usize, position: u64) -> bool {
    let tail = bytes.get(at..).unwrap_or_default();
    let (Some(head), Some(summed)) = (tail.get(..HEAD_BYTES), tail.get(12..)) else { return true };
    if crc32fast::hash(summed) == word(head, 8) {
        // All of it is there but the magic or the length that were written.
        return false;
    }
    if head[..4] != ROWS || head[16..] != position.to_le_bytes() {
        return lacks_a_sector(bytes, at, sector_end(at + HEAD_BYTES - 1).min(bytes.len()));
    }
    let n_bytes = usize::try_from(word(head, 4)).map_or(usize::MAX, |n| n.saturating_add(HEAD_BYTES));
    match tail.len().cmp(&n_bytes) {
        Ordering::Less => true,
        Ordering::Equal => lacks_a_sector(bytes, at, bytes.len()),
        Ordering::Greater => false,
    }
}

/// Whether all that lies between two places of a file and in one sector is zero.
fn lacks_a_sector(bytes: &[u8], from: usize, to: usize) -> bool {
    let mut begins = std::iter::once(from).chain((sector_end(from)..to).step_by(SECTOR_BYTES));
    begins.any(|begin| bytes[begin..sector_end(begin).min(to)].iter().all(|byte| *byte == 0))
}

fn sector_end(at: usize) -> usize {
    (at / SECTOR_BYTES + 1) * SECTOR_BYTES
}

/// The whole frames with rows at the beginning of a file, whatever file it is, and what follows them.
pub(crate) fn whole_frames(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut frames, mut rest) = (Vec::new(), bytes);
    while let Some(frame) = parse(rest) {
        if frame.magic == ROWS {
            frames.push(frame.payload);
        }
        rest = &rest[HEAD_BYTES + frame.payload.len()..];
    }
    (frames, rest)
}

/// Begins a file, durable and whole or not at all: a crash leaves either no file of this name or one with the log's
/// id. Takes the place of a file without rows. Returns what writes it, what reads it, and the bytes it has.
pub(crate) fn begin(
    dir: &Path,
    first: u64,
    log_id: &str,
    open: &OpenDisk,
) -> Result<(Box<dyn Disk>, Segment, u64), IngestError> {
    let dictionary = Dictionary::present();
    let meanings = dictionary.meanings().map_err(|unknown| IngestError::Newer { unknown })?;
    let mut frame = vec![0; HEAD_BYTES];
    let preamble = Preamble { log_id: log_id.to_owned(), dictionary, marks: MARKS };
    serde_json::to_writer(&mut frame, &preamble).map_err(IngestError::log("encoding"))?;
    seal(&mut frame, PREAMBLE, 0, first);
    let (draft, path) = (dir.join(BEGUN), log_path(dir, first));
    remove(&draft).map_err(IngestError::log("beginning a file"))?;
    let mut disk = open(&draft).map_err(IngestError::room("beginning a file"))?;
    let written = disk.append(&frame).and_then(|()| disk.sync()).and_then(|()| std::fs::rename(&draft, &path));
    written.map_err(IngestError::room("beginning a file"))?;
    sync_folder(dir)?;
    let file = File::open(&path).map_err(IngestError::log("opening"))?;
    Ok((disk, Segment { first, path, meanings, file }, frame.len() as u64))
}

/// Deletes a file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a folder's list of names durable.
pub(crate) fn sync_folder(dir: &Path) -> Result<(), IngestError> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(IngestError::log("syncing its folder"))
}

/// Writes the ids of a file of the log beside it, durable and whole or not at all.
pub(crate) fn write_ids(dir: &Path, first: u64, ids: &[(u128, u64)]) -> Result<(), IngestError> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + ids.len() * ID_BYTES);
    frame.resize(HEAD_BYTES, 0);
    for (id, mark) in ids {
        frame.extend_from_slice(&id.to_le_bytes());
        frame.extend_from_slice(&mark.to_le_bytes());
    }
    seal(&mut frame, IDS, u32::try_from(ids.len()).unwrap_or(u32::MAX), first);
    let (path, draft) = (ids_path(dir, first), dir.join(format!("{first:020}.draft")));
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(&frame)?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    });
    if let Err(error) = written {
        // What is there of it takes the last of the room.
        remove(&draft).map_err(IngestError::log("writing ids"))?;
        return Err(IngestError::room("writing ids")(error));
    }
    sync_folder(dir)
}

/// The ids of [`write_ids`]. `None` for those of an older version, which nobody can place behind their walls.
pub(crate) fn read_ids(dir: &Path, first: u64) -> Result<Option<Vec<(u128, u64)>>, IngestError> {
    let path = ids_path(dir, first);
    let bytes = std::fs::read(&path).map_err(IngestError::log("reading ids"))?;
    let frame = parse(&bytes).filter(|frame| frame.payload.len() % ID_BYTES == 0);
    let frame = match frame {
        Some(frame) if frame.magic == IDS => frame,
        Some(frame) if frame.magic == OLDER_IDS => return Ok(None),
        _ => return Err(IngestError::Damaged { path, at: 0 }),
    };
    let id = |bytes: &[u8]| {
        let id = bytes.first_chunk().map_or(0, |id| u128::from_le_bytes(*id));
        (id, bytes[16..].first_chunk().map_or(0, |mark| u64::from_le_bytes(*mark)))
    };
    Ok(Some(frame.payload.chunks_exact(ID_BYTES).map(id).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use todoke_domain::{Event, Timestamp};

    use super::*;
    use crate::{UsageLog, UsageLogConfig};

    fn view(actor_key: i64) -> Event {
        let payload = json!({ "session_id": "s", "screen_id": "G01", "dwell_ms": 12 });
        let now: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        Event {
            event_id: uuid::Uuid::from_u128(0x0193_2b5c_0000_7000_8000_0000_0000_0001).into(),
            event_type: "app.screen_viewed".to_owned(),
            schema_version: 1,
            occurred_at: now,
            recorded_at: now,
            municipality_code: "131016".parse().unwrap(),
            actor_role: "operator".to_owned(),
            actor_key: Some(actor_key),
            source_channel: "web".to_owned(),
            subject_kind: "device_session".to_owned(),
            subject_id: "s".to_owned(),
            subject_seq: 0,
            correlation_id: None,
            causation_id: None,
            recorded_offline: false,
            programme_code: None,
            facility_id: Some("f-1".to_owned()),
            payload: payload.as_object().unwrap().clone(),
        }
    }

    /// A log as a version left it whose marks had the sender's key in them and whose ids had no wall.
    fn older_log(dir: &Path) {
        let preamble = json!({ "log_id": "older", "dictionary": Dictionary::present() });
        let mut file = vec![0; HEAD_BYTES];
        serde_json::to_writer(&mut file, &preamble).unwrap();
        seal(&mut file, PREAMBLE, 0, 1);
        let mut frame = vec![0; HEAD_BYTES];
        let events = EncodedEvents::of(&[view(7)]).unwrap();
        events.blocks[0].write(None, &mut frame);
        let id = events.blocks[0].marks[0].id.to_le_bytes();
        let mark = frame.windows(16).position(|window| window == id).unwrap() + 16;
        frame[mark..mark + 8].copy_from_slice(&[1; 8]);
        seal_frame(&mut frame, 1, 1);
        file.extend(frame);
        std::fs::write(log_path(dir, 1), file).unwrap();
        let mut ids = [[0; HEAD_BYTES].as_slice(), &id, &[1; 8]].concat();
        seal(&mut ids, OLDER_IDS, 1, 1);
        std::fs::write(ids_path(dir, 1), &ids).unwrap();
        // Beside it, of a file that the lake has taken.
        seal(&mut ids, OLDER_IDS, 1, 0);
        std::fs::write(ids_path(dir, 0), &ids).unwrap();
    }

    #[tokio::test]
    async fn what_an_older_version_took_is_known_after_the_upgrade() {
        let dir = tempfile::tempdir().unwrap();
        older_log(dir.path());
        // At the second start the ids are read from the file that the first one wrote.
        for _ in 0..2 {
            let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
            let events = EncodedEvents::of(&[view(7)]).unwrap();
            let again = log.append(events, view(7).occurred_at).await.unwrap();
            assert_eq!((again.accepted, again.duplicates), (0, 1));
            assert!(again.rejected.is_empty());
        }
        assert!(!ids_path(dir.path(), 0).exists(), "ids without their walls are forgotten");
        assert_eq!(read_ids(dir.path(), 1).unwrap().map(|ids| ids.len()), Some(1));
    }

    #[tokio::test]
    async fn an_id_belongs_to_its_municipality_and_not_to_who_sent_it() {
        let dir = tempfile::tempdir().unwrap();
        let next_door = Event { municipality_code: "131032".parse().unwrap(), ..view(7) };
        let mut other = view(7);
        other.payload.insert("dwell_ms".to_owned(), json!(99));
        for _ in 0..2 {
            let log = UsageLog::open(dir.path(), UsageLogConfig::default()).unwrap();
            let mut outcomes = Vec::new();
            // By another account too, as after a key was replaced; and under the same id in another municipality.
            for event in [view(7), view(8), next_door.clone(), other.clone()] {
                let receipt = log.append(EncodedEvents::of(&[event]).unwrap(), view(7).occurred_at).await.unwrap();
                outcomes.push((receipt.accepted, receipt.duplicates, receipt.rejected.len()));
            }
            let taken = log.read(0, 100).await.unwrap().iter().map(|entry| entry.n_rows).sum::<u32>();
            assert_eq!(taken, 2);
            assert_eq!(outcomes[1], (0, 1, 0));
            assert_eq!(outcomes[3], (0, 0, 1));
        }
    }
}
