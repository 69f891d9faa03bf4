//! Sessions over real sockets, with a gate whose record is in memory.

mod client;
mod limits;
mod official;
mod recovery;
mod rights;
mod stub;

use std::time::Duration;

/// For anything that should happen at once.
const DEADLINE: Duration = Duration::from_secs(20);
