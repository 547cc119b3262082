//! Whether a release fits, told before anything is sent: bytes and inodes, and what the database must keep.

use crate::facts::Facts;
use crate::tree::Delta;

use super::{ReleaseError, Source};

/// What is never planned with, in MiB: the database, which may share the disk, stops for good without room for its log.
pub(super) const RESERVE_MB: u64 = 64;

/// The same in inodes.
const RESERVE_INODES: u64 = 1000;

/// Django with its usual friends and uv's cache of them: 165 MiB and 11 000 inodes for the example. Twice that.
const VENV_MB: u64 = 300;
const VENV_INODES: u64 = 22_000;

/// nginx, PostgreSQL and Python with what they pull in, their archives included.
const PACKAGES_MB: u64 = 400;
const PACKAGES_INODES: u64 = 10_000;

/// What a release needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// In MiB.
    pub(super) mb: u64,
    /// Files and folders.
    pub(super) inodes: u64,
}

/// Estimates, rather too much than too little.
pub(super) fn need(facts: &Facts, source: &Source, delta: &Delta, has_venv: bool) -> Need {
    let bare = facts.packages.is_empty() || facts.packages.values().any(|package| !package.installed);
    let files = source.tree.entries().len() as u64;
    let sent = delta.send.len() as u64;
    let when = |condition: bool, amount: u64| if condition { amount } else { 0 };
    Need {
        // What is sent arrives packed, is unpacked, and collected if it is a static file; Python compiles the rest.
        mb: RESERVE_MB
            + when(bare, PACKAGES_MB)
            + when(!has_venv, VENV_MB)
            + (delta.send_bytes * 3 + source.tree.bytes() / 4) / (1 << 20),
        // Unchanged files are links and need none; folders and compiled files are always new.
        inodes: RESERVE_INODES
            + when(bare, PACKAGES_INODES)
            + when(!has_venv, VENV_INODES)
            + sent * 2
            + files,
    }
}

/// Refuses a release that would fill the disk.
pub(super) fn check(
    facts: &Facts,
    source: &Source,
    delta: &Delta,
    has_venv: bool,
) -> Result<(), ReleaseError> {
    let need = need(facts, source, delta, has_venv);
    let host = &facts.host;
    if host.free_mb < need.mb {
        return Err(ReleaseError::NoSpace { free_mb: host.free_mb, needed_mb: need.mb });
    }
    match host.free_inodes {
        Some(free) if free < need.inodes => Err(ReleaseError::NoInodes { free, needed: need.inodes }),
        Some(_) | None => Ok(()),
    }
}
