//! The usage log and the sink on real files.

mod personal;
mod sink;
mod support;
mod usage_log;
mod week;
