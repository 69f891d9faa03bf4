//! The lake on a real folder: exactly once, behind walls, through crashes and compaction.

mod erase;
mod exactly_once;
mod repetitions;
mod support;
mod tables;
mod upkeep;
mod walls;
