//! Files of the user's that git must not have, such as `secrets.json`: sent once, kept on the server.
//!
//! Invariant: the content is never shown, and readable by root and the site alone.

use crate::facts::path::PathKind;
use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, FileWrite, ResourceId, Step};
use crate::shell::{Cmd, Script};

use super::file::sha256;
use super::{DiffError, Resource};

/// A secret file, if this computer has it; the one on the server stays otherwise.
#[derive(Clone)]
pub struct Placed {
    /// The application, whose group may read it.
    pub app: String,
    /// The name that the project knows it by.
    pub name: String,
    /// What it holds.
    pub content: Option<Vec<u8>>,
}

impl std::fmt::Debug for Placed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placed").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The folder of an application's secret files.
pub fn folder(app: &str) -> String {
    format!("/etc/ship/{app}/files")
}

/// The file's name in that folder: one level, whatever the path in the project.
pub fn kept_as(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

impl Placed {
    fn path(&self) -> String {
        format!("{}/{}", folder(&self.app), kept_as(&self.name))
    }
}

impl Resource for Placed {
    fn id(&self) -> ResourceId {
        ResourceId::new("secret file", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::Path { path: self.path(), unless_sha256: None }]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let Some(content) = &self.content else { return Ok(Vec::new()) };
        let fact = facts.paths.get(&self.path());
        let same = fact.is_some_and(|fact| {
            let content = matches!(&fact.kind, PathKind::File { sha256: is, .. } if *is == sha256(content));
            content && fact.owner == "root" && fact.group == self.app && fact.mode == "640"
        });
        if same {
            return Ok(Vec::new());
        }
        let make = Cmd::new("install").args(["-d", "-m", "0750", "-g"]).arg(&self.app).arg(folder(&self.app));
        let write = FileWrite {
            path: self.path(),
            content: content.clone(),
            owner: "root".into(),
            group: self.app.clone(),
            mode: "0640".into(),
            secret: true,
        };
        let (action, why) = match fact {
            Some(_) => (Action::Update, "differs from the one here"),
            None => (Action::Create, "from this computer, for the site alone"),
        };
        Ok(vec![Change::new(
            self.id(),
            action,
            why,
            vec![Step::Run(Script::new().cmd(make)), Step::Write(write)],
        )])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::path::PathFact;

    #[test]
    fn a_file_is_sent_once_and_never_shown() {
        let placed = |content: Option<&[u8]>| Placed {
            app: "site".into(),
            name: "config/secrets.json".into(),
            content: content.map(<[u8]>::to_vec),
        };
        let path = "/etc/ship/site/files/config%2Fsecrets.json";
        assert_eq!(placed(None).path(), path);
        let mut facts = Facts::default();
        assert_eq!(placed(None).diff(&facts).unwrap(), []);
        let changes = placed(Some(b"hunter2\xff")).diff(&facts).unwrap();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].diff.is_none() && !format!("{changes:?}").contains("hunter2"));
        let fact = |mode: &str| PathFact {
            kind: PathKind::File { sha256: sha256(b"hunter2\xff"), content: None },
            mode: mode.into(),
            owner: "root".into(),
            group: "site".into(),
        };
        facts.paths.insert(path.into(), fact("640"));
        assert_eq!(placed(Some(b"hunter2\xff")).diff(&facts).unwrap(), []);
        assert_eq!(placed(Some(b"other")).diff(&facts).unwrap()[0].action, Action::Update);
        facts.paths.insert(path.into(), fact("644"));
        assert_eq!(placed(Some(b"hunter2\xff")).diff(&facts).unwrap().len(), 1);
    }
}
