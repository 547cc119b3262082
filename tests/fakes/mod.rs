//! Stand-ins for the clouds that ship talks to: each speaks its cloud's protocol on a port of the loopback interface,
//! remembers what it was told, and fails when a test says so.
//!
//! Invariant: a fake runs inside the test's process and knows nothing of ship; only real clients and the cloud's own
//! documents say what is right. When a fake itself goes wrong, the test that uses it fails.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test support"
)]

pub mod aws;
pub mod digitalocean;
pub mod http;
pub mod names;
pub mod s3;
