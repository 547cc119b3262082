//! A resource with a condition that only the server can tell, or one whose failure could lock the user out.
//!
//! Invariant: where the server can't have it, nothing of it is planned.

use crate::facts::host::Capability;
use crate::facts::{Ask, Facts};
use crate::plan::{Change, ResourceId};

use super::{DiffError, Resource};

/// A resource and what is special about it.
pub struct Qualified {
    /// The resource.
    pub inner: Box<dyn Resource>,
    /// What the server must be able to do.
    pub needs: Option<Capability>,
    /// Whether a mistake in it could lock the user out.
    pub guarded: bool,
}

impl Qualified {
    fn mark(&self, mut changes: Vec<Change>) -> Vec<Change> {
        changes.iter_mut().for_each(|change| change.may_lock_out |= self.guarded);
        changes
    }

    fn applies(&self, facts: &Facts) -> bool {
        self.needs.is_none_or(|needs| !facts.host.lacking.contains_key(&needs))
    }
}

impl Resource for Qualified {
    fn id(&self) -> ResourceId {
        self.inner.id()
    }

    fn asks(&self) -> Vec<Ask> {
        self.inner.asks()
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        if self.applies(facts) { Ok(self.mark(self.inner.diff(facts)?)) } else { Ok(Vec::new()) }
    }

    fn react(&self, facts: &Facts, before: &[Change]) -> Vec<Change> {
        if self.applies(facts) { self.mark(self.inner.react(facts, before)) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::package::Package;

    #[test]
    fn what_the_server_cannot_have_is_not_planned() {
        let package = Package { name: "systemd-timesyncd".into(), installed: true, why: String::new() };
        let clock = Qualified { inner: Box::new(package), needs: Some(Capability::Clock), guarded: true };
        let mut facts = Facts::default();
        let planned = clock.diff(&facts).unwrap();
        assert!(planned.len() == 1 && planned[0].may_lock_out);
        facts.host.lacking.insert(Capability::Clock, "chronyd keeps it".into());
        assert!(clock.diff(&facts).unwrap().is_empty());
    }
}
