//! Bodies with events: bounded before they are read, so that no load becomes a load on memory.

use std::{borrow::Cow, time::Duration};

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
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{auth::Caller, problem::Problem, state::AppState};

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

/// A body with its sender and what its headers say. Holds its share of the memory until it is dropped.
pub(super) struct Intake {
    pub(super) caller: Caller,
    pub(super) raw: Bytes,
    pub(super) headers: HeaderMap,
    coding: Coding,
    _room: OwnedSemaphorePermit,
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
        let bytes = declared + if coding == Coding::Plain { 0 } else { DECODED_BYTES_MAX };
        let room = match room(app, bytes) {
            Ok(room) => room,
            Err(busy) => {
                drain(body, patience).await;
                return Err(busy);
            }
        };
        let read = timeout(patience, axum::body::to_bytes(body, declared.max(1))).await;
        let raw = read.map_err(|_| too_slow())?.map_err(|_| too_long())?;
        Ok(Self { caller, raw, headers: parts.headers, coding, _room: room })
    }
}

/// A share of the memory for bodies.
fn room(app: &AppState, n_bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let kib = u32::try_from(n_bytes / 1_024 + 1).unwrap_or(u32::MAX);
    let room = app.intake.clone().try_acquire_many_owned(kib);
    room.map_err(|_| Problem::from(IngestError::Busy { retry_after_s: 1 }))
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
    pub(super) fn room_to_read(&self, app: &AppState) -> Result<OwnedSemaphorePermit, Problem> {
        let longest = if self.coding == Coding::Plain { self.raw.len() } else { DECODED_BYTES_MAX };
        room(app, cloud_event::reading_bytes(longest))
    }

    /// Decompresses the body and reads it. Returns the text beside what was read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<T, IngestError> + Send + 'static,
    ) -> Result<(Bytes, T), Problem> {
        let (raw, coding) = (self.raw.clone(), self.coding);
        let work = move || {
            let plain = match body::decode(&raw, coding, DECODED_BYTES_MAX)? {
                Cow::Borrowed(_) => raw.clone(),
                Cow::Owned(bytes) => Bytes::from(bytes),
            };
            let read = parse(&plain)?;
            Ok::<_, IngestError>((plain, read))
        };
        if coding == Coding::Plain && self.raw.len() < LARGE_BYTES {
            return Ok(work()?);
        }
        Ok(tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))??)
    }
}
