//! What runs of a project and how: command lines, servers, calendars, helpers beside the site.
//!
//! Invariant: pure. Command lines are read as the shell would; what can't be read plainly is run as it stands.

pub mod command;
pub mod release_line;
pub mod schedule;
pub mod services;
pub mod serving;
