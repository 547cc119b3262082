//! `ship` takes a Django project and one YAML file to a running site on a server you own.
//!
//! See ARCHITECTURE.md for the code map and its invariants.

pub mod apply;
pub mod assets;
#[cfg(feature = "aws")]
pub mod aws;
pub mod backup;
pub mod cli;
pub mod cloud;
pub mod commands;
pub mod config;
pub mod diagnosis;
pub mod dns;
pub mod dotenv;
pub mod engine;
pub mod error;
pub mod facts;
pub mod guard;
pub mod heroku;
pub mod human;
pub mod interrupt;
pub mod nearest;
pub mod plan;
pub mod playbook;
pub mod process;
pub mod project;
pub mod providers;
pub mod release;
pub mod resources;
pub mod shell;
pub mod source;
pub mod table;
pub mod tls;
pub mod transport;
pub mod tree;
pub mod ui;
