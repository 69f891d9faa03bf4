//! Names of the realtime metrics, with unit and meaning.

/// Gauge: open sockets.
pub const CONNECTIONS: &str = "hub_realtime_connections";
/// Counter: connections that ended, by `code`.
pub const DISCONNECTS: &str = "hub_realtime_disconnects_total";
/// Counter: publications and samples handed to subscribers.
pub const PUBLICATIONS: &str = "hub_realtime_publications_total";
/// Counter: frames put into queues of connections by publications and samples.
pub const DELIVERIES: &str = "hub_realtime_deliveries_total";
/// Histogram, seconds: from the first to the last subscriber's queue, per publication.
pub const FANOUT_SECONDS: &str = "hub_realtime_fanout_seconds";
/// Counter: returning clients, by `source`: `ring`, `durable`, or `none` if not recovered.
pub const RECOVERIES: &str = "hub_realtime_recoveries_total";
/// Counter: commands of clients, by `kind`.
pub const COMMANDS: &str = "hub_realtime_commands_total";
/// Counter: gaps between publications that were filled from the record.
pub const GAPS_REPAIRED: &str = "hub_realtime_gaps_repaired_total";
