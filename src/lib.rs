//! `ship` takes a Django project and one YAML file to a running site on a server you own.
//!
//! See ARCHITECTURE.md for the code map and its invariants.

pub mod config;
pub mod error;
pub mod nearest;
pub mod project;
pub mod shell;
pub mod transport;
