//! Sends what is queued: the ways out of the system, and the dispatcher that decides what leaves when.
//!
//! Four channels speak the protocols of their providers: [`fcm`], [`apns`], [`web_push`] and [`mail`]; each makes one
//! attempt for one message to one address and says what became of it ([`Channel`], [`Outcome`]). Letters are printed
//! in runs ([`paper`]). What is sent when, how often it is tried again and what a dead address leads to is decided by
//! [`dispatch`].

pub mod apns;
pub mod bounce;
pub mod channel;
pub mod dispatch;
mod expiry;
mod failure;
pub mod fcm;
mod http;
mod jwt;
pub mod mail;
pub mod paper;
mod shorten;
mod tag;
pub mod web_push;

pub use channel::{Address, Blame, Channel, Kind, Outcome, Outgoing, Speed};
pub use http::{BadUrl, RootsError};
pub use jwt::KeyError;
pub use tag::tag;
