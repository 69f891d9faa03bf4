//! Vocabulary and rules of Todoke: ids, money, time, states, who may do what, and the catalogues.
//!
//! Nothing here does I/O or reads a clock; time and randomness are passed in.

pub mod account;
pub mod application;
pub mod bank_account;
pub mod broadcast;
pub mod catalogue;
pub mod channel;
pub mod city_request;
pub mod claim;
pub mod concurrent_use;
pub mod coupon;
pub mod delivery;
pub mod event;
pub mod event_source;
pub mod external_application;
pub mod ids;
pub mod ledger;
pub mod matching;
pub mod money;
pub mod municipality;
pub mod number;
pub mod parameter;
pub mod qr;
pub mod reason;
pub mod role;
pub mod segment;
pub mod solicitation;
pub mod survey;
pub mod text;
pub mod time;
pub mod topic;

pub use event::Event;
pub use money::Yen;
pub use municipality::MunicipalityCode;
pub use role::Role;
pub use time::Timestamp;
