//! Accounts and groups.

use std::collections::BTreeSet;

use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, ResourceId};
use crate::shell::{Cmd, Script};

use super::{DiffError, Resource};

/// A group that should be there, or absent.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Whether it should be there.
    pub present: bool,
}

impl Resource for Group {
    fn id(&self) -> ResourceId {
        ResourceId::new("group", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::Group(self.name.clone())]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let there = facts.groups.contains(&self.name);
        Ok(match (self.present, there) {
            (true, true) | (false, false) => Vec::new(),
            (true, false) => vec![Change::run(
                self.id(),
                Action::Create,
                "missing",
                Script::new().cmd(Cmd::new("groupadd").arg("--system").arg(&self.name)),
            )],
            (false, true) => vec![Change::run(
                self.id(),
                Action::Remove,
                "exists",
                Script::new().cmd(Cmd::new("groupdel").arg(&self.name)),
            )],
        })
    }
}

/// A system account that should be there, or absent.
#[derive(Debug, Clone)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Whether it should be there.
    pub present: bool,
    /// Home folder; not created.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Groups besides its own.
    pub groups: BTreeSet<String>,
}

impl Resource for User {
    fn id(&self) -> ResourceId {
        ResourceId::new("user", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::User(self.name.clone())]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let groups = || self.groups.iter().cloned().collect::<Vec<_>>().join(",");
        let fact = match (self.present, facts.users.get(&self.name)) {
            (false, None) => return Ok(Vec::new()),
            (false, Some(_)) => {
                let script = Script::new().cmd(Cmd::new("userdel").arg(&self.name));
                return Ok(vec![Change::run(self.id(), Action::Remove, "exists", script)]);
            }
            (true, None) => {
                let mut add = Cmd::new("useradd").arg("--system").arg("--user-group").arg("--no-create-home");
                add = add.arg("--home-dir").arg(&self.home).arg("--shell").arg(&self.shell);
                if !self.groups.is_empty() {
                    add = add.arg("--groups").arg(groups());
                }
                let script = Script::new().cmd(add.arg(&self.name));
                return Ok(vec![Change::run(self.id(), Action::Create, "missing", script)]);
            }
            (true, Some(fact)) => fact,
        };
        let mut differs = Vec::new();
        let mut usermod = Cmd::new("usermod");
        if fact.home != self.home {
            differs.push(format!("home is {}, should be {}", fact.home, self.home));
            usermod = usermod.arg("--home").arg(&self.home);
        }
        if fact.shell != self.shell {
            differs.push(format!("shell is {}, should be {}", fact.shell, self.shell));
            usermod = usermod.arg("--shell").arg(&self.shell);
        }
        if !self.groups.is_subset(&fact.groups) {
            differs.push(format!("not in all of {}", groups()));
            usermod = usermod.arg("--append").arg("--groups").arg(groups());
        }
        if differs.is_empty() {
            return Ok(Vec::new());
        }
        let script = Script::new().cmd(usermod.arg(&self.name));
        Ok(vec![Change::run(self.id(), Action::Update, differs.join("; "), script)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::user::User as Fact;

    fn wanted(present: bool) -> User {
        User {
            name: "library".into(),
            present,
            home: "/srv/library".into(),
            shell: "/usr/sbin/nologin".into(),
            groups: BTreeSet::from(["redis".to_string()]),
        }
    }

    fn facts(home: &str, groups: &[&str]) -> Facts {
        let mut facts = Facts::default();
        facts.users.insert(
            "library".into(),
            Fact {
                home: home.into(),
                shell: "/usr/sbin/nologin".into(),
                groups: groups.iter().map(|group| (*group).to_string()).collect(),
            },
        );
        facts
    }

    #[test]
    fn create_change_noop_and_remove() {
        let created = wanted(true).diff(&Facts::default()).unwrap();
        insta::assert_debug_snapshot!(created[0].steps, @r"
        [
            Run(
                useradd --system --user-group --no-create-home --home-dir /srv/library --shell /usr/sbin/nologin --groups redis library
                ,
            ),
        ]
        ");
        assert!(wanted(true).diff(&facts("/srv/library", &["library", "redis"])).unwrap().is_empty());
        let changed = wanted(true).diff(&facts("/home/x", &["library"])).unwrap();
        assert_eq!(changed[0].why, "home is /home/x, should be /srv/library; not in all of redis");
        assert_eq!(wanted(false).diff(&facts("/x", &[])).unwrap()[0].action, Action::Remove);
        assert!(wanted(false).diff(&Facts::default()).unwrap().is_empty());
    }
}
