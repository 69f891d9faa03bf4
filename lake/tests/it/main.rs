//! The lake on a real folder: exactly once, behind walls, through crashes and compaction.

mod erase;
mod evolution;
mod exactly_once;
mod faults;
mod repetitions;
mod retention;
mod support;
mod tables;
mod upkeep;
mod walls;
