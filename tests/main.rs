//! The one test binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod architecture;
mod backups;
mod bad_input;
mod boxes;
mod bytes;
mod ci;
mod clouds;
mod complaints;
mod databases;
mod digitalocean;
mod dns;
mod doctor;
#[cfg(feature = "aws")]
mod ec2;
mod facts;
mod fakes;
mod faults;
mod gates;
mod hardening;
mod operate;
mod overlay;
mod pages;
mod processes;
mod projects;
mod resilience;
mod rollback;
mod secrets;
mod story;
mod support;
mod tls;
mod transport;
mod vagrant;
mod zoo;
