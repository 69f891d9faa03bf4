//! Bodies with events: bounded before they are read, so that no load becomes a load on memory.

use std::{borrow::Cow, ops::Deref, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt;
use todoke_ingest::{
    IngestError,
    body::{self, Coding},
    cloud_event,
};
use tokio::time::timeout;

use crate::{auth::Caller, bodies::Room, problem::Problem, state::AppState};

/// Longest body as it is sent, bytes.
pub(super) const BODY_BYTES_MAX: usize = 8 << 20;
/// Longest body once it is decompressed, bytes.
pub(super) const DECODED_BYTES_MAX: usize = 16 << 20;
/// A body that is too long is read and dropped up to this length, bytes.
const DRAINED_BYTES_MAX: usize = 64 << 20;
/// Memory that one body takes at the most, MiB: as it was sent and decompressed, what reading it takes beside it, and
/// what rounding up adds.
pub(crate) const BODY_MIB_MAX: usize =
    (BODY_BYTES_MAX + DECODED_BYTES_MAX + cloud_event::reading_bytes(DECODED_BYTES_MAX)) / (1 << 20) + 1;
/// A body of this length is worked on beside the tasks that serve sockets.
const LARGE_BYTES: usize = 128 << 10;

/// A body with its sender and what its headers say. Holds the memory of what was sent until it is dropped.
pub(super) struct Intake {
    pub(super) caller: Caller,
    pub(super) raw: Bytes,
    pub(super) headers: HeaderMap,
    coding: Coding,
    room: Room,
}

/// A body without its compression. Holds what memory that takes beside what was sent.
pub(super) struct Text {
    bytes: Bytes,
    _room: Option<Room>,
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

impl FromRequest<AppState> for Intake {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let patience = Duration::from_secs(app.config().ingest.body_seconds_max);
        let caller = match Caller::from_request_parts(&mut parts, app).await {
            Ok(caller) => caller,
            // Who is told to come again later has to hear it.
            Err(refusal) => {
                drain(body, patience).await;
                return Err(refusal);
            }
        };
        let Some(coding) = Coding::of(header(&parts.headers, &header::CONTENT_ENCODING)) else {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-encoding", "Unknown Content-Encoding")
                .detail("対応していない圧縮形式です。"));
        };
        let too_long = || Problem::from(IngestError::TooLong { bytes_max: BODY_BYTES_MAX });
        // Without a length the body may be as long as any.
        let declared = header(&parts.headers, &header::CONTENT_LENGTH).parse().unwrap_or(BODY_BYTES_MAX);
        if declared > BODY_BYTES_MAX {
            drain(body, patience).await;
            return Err(too_long());
        }
        let room = match app.bodies.take(caller.account.account_id, declared) {
            Ok(room) => room,
            Err(full) => {
                drain(body, patience).await;
                return Err(full.into());
            }
        };
        let read = timeout(patience, axum::body::to_bytes(body, declared.max(1))).await;
        let raw = read.map_err(|_| too_slow())?.map_err(|_| too_long())?;
        Ok(Self { caller, raw, headers: parts.headers, coding, room })
    }
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "Too slow")
        .detail("データの受信に時間がかかりすぎたため、中断しました。もう一度お送りください。")
}

/// Reads what nobody wants, as far as it is reasonable: a client that is answered in the middle of its sending sees
/// a broken connection instead of the answer.
async fn drain(body: Body, patience: Duration) {
    let mut rest = body.into_data_stream();
    let mut n_bytes = 0;
    let to_its_end = async {
        while let Some(Ok(piece)) = rest.next().await {
            n_bytes += piece.len();
            if n_bytes > DRAINED_BYTES_MAX {
                return;
            }
        }
    };
    // Whoever stalls hears nothing either way.
    let _ = timeout(patience, to_its_end).await;
}

impl Intake {
    /// Media type without its parameters, in lower case.
    pub(super) fn media_type(&self) -> String {
        let full = header(&self.headers, &header::CONTENT_TYPE);
        full.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
    }

    /// Takes the memory that reading CloudEvents needs beside the body. Not while it arrives: that may take a minute.
    pub(super) fn room_to_read(&self) -> Result<Room, Problem> {
        let longest = if self.coding == Coding::Plain { self.raw.len() } else { DECODED_BYTES_MAX };
        Ok(self.room.beside(cloud_event::reading_bytes(longest))?)
    }

    /// Decompresses the body and reads it. Returns the text beside what was read. Memory for the longest text is taken
    /// only now, and what the text does not need is given back at once: a compressed body may take long to arrive.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<T, IngestError> + Send + 'static,
    ) -> Result<(Text, T), Problem> {
        let (raw, coding) = (self.raw.clone(), self.coding);
        let mut room = if coding == Coding::Plain { None } else { Some(self.room.beside(DECODED_BYTES_MAX)?) };
        let work = move || {
            let bytes = match body::decode(&raw, coding, DECODED_BYTES_MAX)? {
                Cow::Borrowed(_) => raw.clone(),
                Cow::Owned(bytes) => Bytes::from(bytes),
            };
            if let Some(room) = &mut room {
                room.shrink(bytes.len());
            }
            let read = parse(&bytes)?;
            Ok::<_, IngestError>((Text { bytes, _room: room }, read))
        };
        if coding == Coding::Plain && self.raw.len() < LARGE_BYTES {
            return Ok(work()?);
        }
        Ok(tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))??)
    }
}
