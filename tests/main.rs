//! The one test binary.

mod boxes;
mod story;
mod support;
mod transport;
