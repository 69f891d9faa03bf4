//! What can go wrong while events come in.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
};

use todoke_lake::LakeError;

use crate::{FeedError, row::UnknownEvent};

/// A failure of ingest. Nothing that was acknowledged is lost by any of them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IngestError {
    /// Too much waits already; the caller should send the same batch again later.
    #[error("too many events wait; try again in {retry_after_s} s")]
    Busy {
        /// When to try again, seconds.
        retry_after_s: u32,
    },
    /// The body is not a batch at all. A single bad event is a rejection, not an error.
    #[error("not a batch of usage events: {reason}")]
    NotABatch {
        /// What is wrong, for the sender.
        reason: String,
    },
    /// More of a request's events are bad than are kept of one. Nothing of it is stored.
    #[error("more than {n_max} events are not acceptable")]
    TooManyBad {
        /// Bad events of a request, at most.
        n_max: usize,
    },
    /// The body is longer than allowed, as it was sent or once it is decompressed.
    #[error("longer than {bytes_max} bytes")]
    TooLong {
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Another process has the usage log open: two writers on one log would lose events.
    #[error("another process uses the usage log `{path}`")]
    LogInUse {
        /// The log's file.
        path: PathBuf,
    },
    /// The disk is full. Nothing of the batch is stored; there is room again once the lake has taken
    /// more, or somebody has made some.
    #[error("the disk of the usage log is full")]
    DiskFull,
    /// A frame of the usage log is damaged, and it is not the end that a crash tore: something that
    /// was acknowledged cannot be read any more.
    #[error(
        "the usage log `{path}` is damaged at byte {at}: restore the file, or move the log's folder away and know what \
         is lost"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where whole frames end.
        at: u64,
    },
    /// Files of the usage log are missing, too short, or another log's: something that was acknowledged is
    /// not there, and going on would lose more.
    #[error("the usage log `{path}` {fault}")]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: LogFault,
    },
    /// A newer version of Todoke wrote the usage log; start that one again until the lake has it all.
    #[error("a newer version wrote the usage log")]
    Newer {
        /// What this version does not know.
        #[source]
        unknown: UnknownEvent,
    },
    /// An event to append is not of the catalogue.
    #[error("not an event of the catalogue")]
    Unknown(#[from] UnknownEvent),
    /// The usage log could not be opened, read or written.
    #[error("the usage log failed while {doing}")]
    Log {
        /// What was being done.
        doing: &'static str,
        /// The cause; shared because every request of a failed commit gets it.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The log is closed, or its writer ended.
    #[error("the usage log is closed")]
    Closed,
    /// The lake refused.
    #[error("the lake did not take the events")]
    Lake(#[source] Arc<LakeError>),
    /// The record refused.
    #[error("the record did not hand out its events")]
    Feed(#[source] Arc<FeedError>),
}

/// What is wrong with a file of the usage log, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// It is not there.
    #[error("is missing: restore it, or move the log's folder away and know what is lost")]
    Missing,
    /// It is the oldest one, and the lake is not known to have what came before.
    #[error(
        "is the oldest file, and positions {from} to {through} are missing before it: restore their files, or, if the \
         lake has them or they are lost, write the number {through} into the file `done` beside it"
    )]
    OldestMissing {
        /// The first position that is missing.
        from: u64,
        /// The last one.
        through: u64,
    },
    /// Positions after its end were given out.
    #[error(
        "ends at position {found}, and {acknowledged} was acknowledged: restore the files, or move the log's folder \
         away and know what is lost"
    )]
    Short {
        /// The last position that is known to have been given out.
        acknowledged: u64,
        /// The last position that is there.
        found: u64,
    },
    /// The other files, or `done` beside them, have another log's name.
    #[error(
        "belongs to another log than the files beside it: restore those that belong together, or move the log's folder \
         away and know what is lost"
    )]
    Foreign,
}

impl IngestError {
    pub(crate) fn log<E>(doing: &'static str) -> impl Fn(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| Self::Log { doing, source: Arc::new(source) }
    }

    /// As [`Self::log`], of something that needs room on the disk.
    pub(crate) fn room(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| match error.kind() {
            // A limit on the size of files is room that ended, too.
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::DiskFull,
            _ => Self::log(doing)(error),
        }
    }
}

impl From<LakeError> for IngestError {
    fn from(error: LakeError) -> Self {
        Self::Lake(Arc::new(error))
    }
}

impl From<FeedError> for IngestError {
    fn from(error: FeedError) -> Self {
        Self::Feed(Arc::new(error))
    }
}
