//! `ship` takes a Django project and one YAML file to a running site on a server you own.
//!
//! See ARCHITECTURE.md for the code map and its invariants.

pub mod config;
pub mod error;
pub mod nearest;
pub mod project;
pub mod shell;
pub mod transport;
pub mod facts;
pub mod plan;
pub mod playbook;
pub mod resources;
pub mod apply;
pub mod tree;
pub mod assets;
pub mod engine;
pub mod providers;
pub mod release;
pub mod source;
pub mod ui;
pub mod cli;
pub mod commands;
