//! The server: HTTP API, sign-in, websockets, relay, timers, and the `todoke` command.

pub mod api;
pub mod auth;
pub mod broadcasts;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod dimensions;
pub mod feed;
pub mod gate;
pub mod history_lock;
pub mod limit;
pub mod live;
pub mod local;
pub mod problem;
pub mod quarantine;
pub mod realtime;
pub mod run_file;
pub mod server;
pub mod services;
pub mod state;
pub mod telemetry;
pub mod timers;
pub mod token;
pub mod web;
