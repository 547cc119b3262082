//! The one test binary.

mod boxes;
mod support;
mod transport;
