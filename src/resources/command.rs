//! Commands that run once: until a path exists, or until a check says that the work is done.

use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, ResourceId};
use crate::shell::Script;

use super::{DiffError, Resource};

/// A command and the proof that it was done.
#[derive(Debug, Clone)]
pub struct Command {
    /// What it does, unique.
    pub name: String,
    /// The script.
    pub run: Script,
    /// What may be done of it beside the installation of packages.
    pub early: Option<Script>,
    /// What tells that there is nothing to do.
    pub done: Done,
    /// Why the server needs it.
    pub why: String,
}

/// The proof that a command was done.
#[derive(Debug, Clone)]
pub enum Done {
    /// A path exists.
    Creates(String),
    /// A script exits with 0.
    Unless(Script),
}

impl Resource for Command {
    fn id(&self) -> ResourceId {
        ResourceId::new("command", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![match &self.done {
            Done::Creates(path) => Ask::Path { path: path.clone(), unless_sha256: None },
            Done::Unless(script) => Ask::Check { name: self.name.clone(), script: script.clone() },
        }]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let (done, missing) = match &self.done {
            Done::Creates(path) => (facts.paths.contains_key(path), format!("{path} is missing")),
            Done::Unless(_) => {
                (facts.checks.get(&self.name).copied().unwrap_or(false), "not done yet".into())
            }
        };
        if done {
            return Ok(Vec::new());
        }
        let why = if self.why.is_empty() { missing } else { self.why.clone() };
        let change = Change::run(self.id(), Action::Run, why, self.run.clone());
        Ok(vec![Change { early: self.early.clone(), ..change }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_until_its_proof_is_there() {
        let command = Command {
            name: "make a key".into(),
            run: Script::from_text("keygen"),
            early: None,
            done: Done::Unless(Script::from_text("test -s key")),
            why: String::new(),
        };
        assert_eq!(command.diff(&Facts::default()).unwrap()[0].why, "not done yet");
        let mut facts = Facts::default();
        facts.checks.insert("make a key".into(), false);
        assert_eq!(command.diff(&facts).unwrap().len(), 1);
        facts.checks.insert("make a key".into(), true);
        assert!(command.diff(&facts).unwrap().is_empty());
    }
}
