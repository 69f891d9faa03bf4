//! The harness of the tests: private servers, databases per test, the real binary as a child process, an
//! HTTP client, the official realtime client, and waiting for conditions.
//!
//! A harness that cannot do its part panics with what is missing: a test never passes by not running.

// A failed expectation ends the test that had it, which is what the panics of a harness are for.
#![allow(clippy::unwrap_used, reason = "the library is part of the tests")]

pub mod account;
pub mod crowd;
pub mod http;
pub mod live;
pub mod load;
pub mod mail_server;
pub mod node;
pub mod object_store;
pub mod postgres;
pub mod process;
pub mod push_peer;
pub mod standin;
pub mod stores;
pub mod todoke;
pub mod wait;
