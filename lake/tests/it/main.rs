//! The lake on a real folder and in a bucket: exactly once, behind walls, through crashes and compaction.

mod bucket;
mod erase;
mod evolution;
mod exactly_once;
mod faults;
mod memory;
mod places;
mod repetitions;
mod retention;
mod support;
mod tables;
mod upkeep;
mod walls;
