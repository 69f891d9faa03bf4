//! The declarative catalogues: event types, message types and their texts.
//!
//! The data are the TOML files under `domain/catalogue/`; they are compiled in, parsed once at first
//! use, and checked by the tests of this module. Arrow schemas, routing and the tables under
//! `docs/catalogues/` come from them. To add a message or an event, add a row there.

mod cause;
pub mod code;
pub mod events;
mod field_type;
pub mod format;
pub mod messages;
mod payload;
mod reach;
pub mod template;

#[cfg(test)]
mod checks;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod scenarios;

/// Parses one compiled-in file.
///
/// # Panics
/// When the file is malformed; it is part of the binary, and a test parses every one of them.
fn parse_compiled_in<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> T {
    match toml::from_str(text) {
        Ok(parsed) => parsed,
        Err(error) => panic!("compiled-in catalogue {name}: {error}"),
    }
}
