//! Resources: what the server should be, one file a kind. Each says what it must know ([`Resource::asks`])
//! and what follows from the answer ([`Resource::diff`]).
//!
//! Invariant: pure. A resource never touches the server; it returns changes as values.

pub mod command;
pub mod file;
pub mod mysql;
pub mod package;
pub mod placed;
pub mod postgres;
pub mod qualified;
pub mod unit;
pub mod user;

use crate::facts::{Ask, Facts};
use crate::plan::{Change, ResourceId};
use crate::playbook::TemplateError;

/// One thing that should be so.
pub trait Resource: Send + Sync {
    /// Its name.
    fn id(&self) -> ResourceId;
    /// What it must know.
    fn asks(&self) -> Vec<Ask>;
    /// What must change.
    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError>;
    /// What follows from the changes before it: restarts and reloads.
    fn react(&self, _facts: &Facts, _before: &[Change]) -> Vec<Change> {
        Vec::new()
    }
}

/// Why a difference can't be told.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A template doesn't render.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Something else is in the way.
    #[error("{id}: {problem}")]
    InTheWay {
        /// Whose.
        id: ResourceId,
        /// What.
        problem: String,
    },
}

/// Adds what the resources differ in to the changes before them, restarts included.
pub fn diff_into(
    changes: &mut Vec<Change>,
    resources: &[Box<dyn Resource>],
    facts: &Facts,
) -> Result<(), DiffError> {
    for resource in resources {
        changes.extend(resource.diff(facts)?);
        let reactions = resource.react(facts, changes);
        changes.extend(reactions);
    }
    Ok(())
}
