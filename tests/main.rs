//! The one test binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod architecture;
mod bad_input;
mod boxes;
mod bytes;
mod clouds;
mod complaints;
mod digitalocean;
mod dns;
#[cfg(feature = "aws")]
mod ec2;
mod facts;
mod fakes;
mod faults;
mod gates;
mod resilience;
mod rollback;
mod secrets;
mod story;
mod support;
mod transport;
mod vagrant;
