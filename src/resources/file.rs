//! Files, folders, links and what must not be there. Whole files only: nothing edits a line in place.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::facts::path::{PathFact, PathKind};
use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, FileWrite, ResourceId, Step, unified_diff};
use crate::playbook::{TemplateError, Templates};
use crate::shell::{Cmd, Script};

use super::{DiffError, Resource};

/// Where a file's content comes from.
#[derive(Clone)]
pub enum Content {
    /// It is known.
    Text(String),
    /// A template, which may use what only the server knows (`host`).
    Template {
        /// Its name.
        name: String,
        /// All templates.
        templates: Arc<Templates>,
        /// Everything but `host`.
        vars: Arc<BTreeMap<String, minijinja::Value>>,
    },
}

impl Content {
    fn render(&self, facts: Option<&Facts>) -> Result<String, TemplateError> {
        match self {
            Content::Text(text) => Ok(text.clone()),
            Content::Template { name, templates, vars } => {
                templates.render(name, vars, facts.map(|facts| &facts.host))
            }
        }
    }
}

/// Owner, group and permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits in octal, `0644`.
    pub mode: String,
}

impl Access {
    /// What differs, and the script that mends it.
    fn diff(&self, path: &str, fact: &PathFact) -> Option<(String, Script)> {
        let mode = self.mode.trim_start_matches('0');
        let mut differs = Vec::new();
        let mut script = Script::new();
        if fact.owner != self.owner || fact.group != self.group {
            differs.push(format!(
                "owner is {}:{}, should be {}:{}",
                fact.owner, fact.group, self.owner, self.group
            ));
            let owner = format!("{}:{}", self.owner, self.group);
            script = script.cmd(Cmd::new("chown").arg("--no-dereference").arg(owner).arg("--").arg(path));
        }
        if fact.mode.trim_start_matches('0') != mode {
            differs.push(format!("mode is {:0>4}, should be {:0>4}", fact.mode, mode));
            script = script.cmd(Cmd::new("chmod").arg(&self.mode).arg("--").arg(path));
        }
        (!differs.is_empty()).then(|| (differs.join("; "), script))
    }
}

/// A regular file with exactly this content.
#[derive(Clone)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// What it holds.
    pub content: Content,
    /// Who may do what.
    pub access: Access,
    /// Whether the content must not be shown.
    pub secret: bool,
    /// Why the server needs it.
    pub why: String,
}

impl Resource for File {
    fn id(&self) -> ResourceId {
        ResourceId::new("file", &self.path)
    }

    fn asks(&self) -> Vec<Ask> {
        let unless_sha256 = match (self.secret, self.content.render(None)) {
            (true, _) => None,
            (false, Ok(text)) => Some(sha256(text.as_bytes())),
            // It needs facts (or is broken, which `diff` will tell): ask for the content in any case.
            (false, Err(_)) => Some("always".into()),
        };
        vec![Ask::Path { path: self.path.clone(), unless_sha256 }]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let wanted = self.content.render(Some(facts))?;
        let write = || {
            vec![Step::Write(FileWrite {
                path: self.path.clone(),
                content: wanted.clone().into_bytes(),
                owner: self.access.owner.clone(),
                group: self.access.group.clone(),
                mode: self.access.mode.clone(),
                secret: self.secret,
            })]
        };
        let show = |change: Change, old: &str| {
            if self.secret { change } else { change.with_diff(unified_diff(old, &wanted)) }
        };
        let Some(fact) = facts.paths.get(&self.path) else {
            let why = if self.why.is_empty() { "missing" } else { &self.why };
            return Ok(vec![show(Change::new(self.id(), Action::Create, why, write()), "")]);
        };
        match &fact.kind {
            PathKind::File { sha256: is, content } => {
                if *is == sha256(wanted.as_bytes()) {
                    return Ok(access_change(self.id(), &self.access, &self.path, fact));
                }
                let old = content.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                Ok(vec![show(Change::new(self.id(), Action::Update, "content differs", write()), &old)])
            }
            PathKind::Link { to } => {
                let why = format!("is a link to {to}, should be a file");
                Ok(vec![show(Change::new(self.id(), Action::Update, why, write()), "")])
            }
            PathKind::Directory | PathKind::Other => Err(DiffError::InTheWay {
                id: self.id(),
                problem: "there is something else than a file; move it away".into(),
            }),
        }
    }
}

fn access_change(id: ResourceId, access: &Access, path: &str, fact: &PathFact) -> Vec<Change> {
    access
        .diff(path, fact)
        .map(|(why, script)| vec![Change::run(id, Action::Update, why, script)])
        .unwrap_or_default()
}

/// A folder.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Who may do what.
    pub access: Access,
}

impl Resource for Directory {
    fn id(&self) -> ResourceId {
        ResourceId::new("directory", &self.path)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::Path { path: self.path.clone(), unless_sha256: None }]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let Some(fact) = facts.paths.get(&self.path) else {
            let Access { owner, group, mode } = &self.access;
            let install = Cmd::new("install").arg("-d").arg("-o").arg(owner).arg("-g").arg(group);
            let script = Script::new().cmd(install.arg("-m").arg(mode).arg("--").arg(&self.path));
            return Ok(vec![Change::run(self.id(), Action::Create, "missing", script)]);
        };
        match &fact.kind {
            PathKind::Directory => Ok(access_change(self.id(), &self.access, &self.path, fact)),
            PathKind::File { .. } | PathKind::Link { .. } | PathKind::Other => Err(DiffError::InTheWay {
                id: self.id(),
                problem: "there is something else than a folder; move it away".into(),
            }),
        }
    }
}

/// A symbolic link.
#[derive(Debug, Clone)]
pub struct Link {
    /// Absolute path.
    pub path: String,
    /// Where it points.
    pub to: String,
}

impl Resource for Link {
    fn id(&self) -> ResourceId {
        ResourceId::new("link", &self.path)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::Path { path: self.path.clone(), unless_sha256: None }]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let link =
            |action, why: String| Change::run(self.id(), action, why, link_script(&self.to, &self.path));
        Ok(match facts.paths.get(&self.path).map(|fact| &fact.kind) {
            None => vec![link(Action::Create, format!("to {}", self.to))],
            Some(PathKind::Link { to }) if *to == self.to => Vec::new(),
            Some(PathKind::Link { to }) => {
                vec![link(Action::Update, format!("points to {to}, should be {}", self.to))]
            }
            Some(PathKind::File { .. }) => {
                vec![link(Action::Update, format!("is a file, should be a link to {}", self.to))]
            }
            Some(PathKind::Directory | PathKind::Other) => {
                return Err(DiffError::InTheWay {
                    id: self.id(),
                    problem: "there is something else than a link; move it away".into(),
                });
            }
        })
    }
}

/// Makes or replaces a link in one rename, so that nobody ever sees it missing.
pub fn link_script(to: &str, path: &str) -> Script {
    let temporary = format!("{path}.ship-new");
    Script::new()
        .cmd(Cmd::new("ln").arg("-sfn").arg("--").arg(to).arg(&temporary))
        .cmd(Cmd::new("mv").arg("-fT").arg("--").arg(&temporary).arg(path))
}

/// A path that must not be there.
#[derive(Debug, Clone)]
pub struct Absent {
    /// Absolute path.
    pub path: String,
    /// Why it has to go.
    pub why: String,
    /// The package that brings it: when the plan installs that, the path goes right after.
    pub brought_by: Option<String>,
}

impl Absent {
    fn remove(&self) -> Change {
        let why = if self.why.is_empty() { "exists" } else { &self.why };
        let script = Script::new().cmd(Cmd::new("rm").arg("-rf").arg("--").arg(&self.path));
        Change::run(self.id(), Action::Remove, why, script)
    }
}

impl Resource for Absent {
    fn id(&self) -> ResourceId {
        ResourceId::new("file", &self.path)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::Path { path: self.path.clone(), unless_sha256: None }]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        Ok(facts.paths.contains_key(&self.path).then(|| self.remove()).into_iter().collect())
    }

    fn react(&self, facts: &Facts, before: &[Change]) -> Vec<Change> {
        let installs = |name: &String| {
            before.iter().any(|change| {
                change.id.kind == "package" && change.action == Action::Create && change.id.name == *name
            })
        };
        let comes = !facts.paths.contains_key(&self.path) && self.brought_by.as_ref().is_some_and(installs);
        comes.then(|| self.remove()).into_iter().collect()
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access { owner: "root".into(), group: "root".into(), mode: "0644".into() }
    }

    fn at(path: &str, kind: PathKind, mode: &str) -> Facts {
        let mut facts = Facts::default();
        let fact = PathFact { kind, mode: mode.into(), owner: "root".into(), group: "root".into() };
        facts.paths.insert(path.into(), fact);
        facts
    }

    fn file() -> File {
        File {
            path: "/etc/a".into(),
            content: Content::Text("new\n".into()),
            access: access(),
            secret: false,
            why: String::new(),
        }
    }

    fn is(text: &str) -> PathKind {
        PathKind::File { sha256: sha256(text.as_bytes()), content: Some(text.into()) }
    }

    #[test]
    fn a_file_is_created_changed_kept_and_its_mode_mended() {
        let create = file().diff(&Facts::default()).unwrap();
        assert_eq!(
            (create[0].action, create[0].diff.as_deref()),
            (Action::Create, Some("@@ -0,0 +1 @@\n+new\n"))
        );
        let update = file().diff(&at("/etc/a", is("old\n"), "644")).unwrap();
        assert_eq!(update[0].diff.as_deref(), Some("@@ -1 +1 @@\n-old\n+new\n"));
        assert!(file().diff(&at("/etc/a", is("new\n"), "644")).unwrap().is_empty());
        let mode = file().diff(&at("/etc/a", is("new\n"), "600")).unwrap();
        assert_eq!(mode[0].why, "mode is 0600, should be 0644");
        assert!(file().diff(&at("/etc/a", PathKind::Directory, "755")).is_err());
    }

    #[test]
    fn a_secret_file_asks_for_no_content_and_shows_no_diff() {
        let secret = File { secret: true, ..file() };
        assert_eq!(secret.asks(), [Ask::Path { path: "/etc/a".into(), unless_sha256: None }]);
        assert_eq!(secret.diff(&Facts::default()).unwrap()[0].diff, None);
    }

    #[test]
    fn a_link_is_created_changed_kept_and_replaces_a_file() {
        let link = Link { path: "/etc/l".into(), to: "/x".into() };
        assert_eq!(link.diff(&Facts::default()).unwrap()[0].action, Action::Create);
        let points = |to: &str| at("/etc/l", PathKind::Link { to: to.into() }, "777");
        assert!(link.diff(&points("/x")).unwrap().is_empty());
        assert_eq!(link.diff(&points("/y")).unwrap()[0].why, "points to /y, should be /x");
        assert_eq!(link.diff(&at("/etc/l", is(""), "644")).unwrap()[0].action, Action::Update);
    }

    #[test]
    fn a_folder_is_created_changed_and_kept() {
        let folder = Directory { path: "/srv/a".into(), access: Access { mode: "0755".into(), ..access() } };
        assert_eq!(folder.diff(&Facts::default()).unwrap()[0].action, Action::Create);
        assert!(folder.diff(&at("/srv/a", PathKind::Directory, "755")).unwrap().is_empty());
        assert_eq!(folder.diff(&at("/srv/a", PathKind::Directory, "700")).unwrap()[0].action, Action::Update);
    }

    #[test]
    fn what_must_not_be_there_is_removed_once() {
        let absent = Absent { path: "/etc/a".into(), why: String::new(), brought_by: Some("nginx".into()) };
        assert!(absent.diff(&Facts::default()).unwrap().is_empty());
        assert!(absent.react(&Facts::default(), &[]).is_empty());
        let installs = Change::new(ResourceId::new("package", "nginx"), Action::Create, "", vec![]);
        assert_eq!(absent.react(&Facts::default(), &[installs])[0].action, Action::Remove);
        assert_eq!(absent.diff(&at("/etc/a", is(""), "644")).unwrap()[0].action, Action::Remove);
    }
}
