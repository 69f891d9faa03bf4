//! Reports and SQL over a real lake in a temporary folder.

mod aggregates;
mod city;
mod claims;
mod claims_view;
mod columns;
mod ledger;
mod messages;
mod rollups;
mod sql;
mod statistics;
mod surveys;
mod usage;
