//! The demo: a made-up city with a year behind it, made by the same use cases that run live.

mod broadcasts;
pub mod city;
mod people;
mod reach;
mod seed;
mod traffic;
mod usage;

pub use seed::{DemoAccounts, DemoPlan, prepare};
pub use traffic::run as run_traffic;
