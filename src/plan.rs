//! The plan as a value: what will change, why, and the steps that do it.
//!
//! Invariant: what is shown is exactly what runs; there is no other path from a decision to the server.

pub mod markdown;

use std::fmt;

use imara_diff::{Algorithm, Diff, InternedInput, Interner, Token, UnifiedDiffConfig, UnifiedDiffPrinter};
use serde::Serialize;

use crate::shell::Script;

/// Lines of a new file that a plan shows on a terminal.
const SHOWN: usize = 4;

/// Names one resource: its kind and what the server calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ResourceId {
    /// `file`, `unit`, `package` …
    pub kind: &'static str,
    /// A path, a unit's name, a package.
    pub name: String,
}

impl ResourceId {
    /// Names a resource.
    pub fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It isn't there yet.
    Create,
    /// It differs.
    Update,
    /// It is there and shouldn't be.
    Remove,
    /// A command whose result is missing, or a step of a release.
    Run,
    /// A unit that should run and doesn't.
    Start,
    /// A unit that runs and shouldn't.
    Stop,
    /// A unit whose inputs changed and that only reads them at its start.
    Restart,
    /// A unit whose inputs changed.
    Reload,
}

impl Action {
    /// The sign in front of a change.
    pub fn sign(self) -> char {
        match self {
            Action::Create => '+',
            Action::Remove | Action::Stop => '-',
            Action::Update => '~',
            Action::Run | Action::Start | Action::Restart | Action::Reload => '>',
        }
    }

    /// The word for a change.
    pub fn verb(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Remove => "remove",
            Action::Run => "run",
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Restart => "restart",
            Action::Reload => "reload",
        }
    }
}

/// A whole file to be put in place by a rename.
#[derive(Clone, PartialEq, Eq)]
pub struct FileWrite {
    /// Absolute path.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Permission bits in octal, `0644`.
    pub mode: String,
    /// Whether the content must not be shown.
    pub secret: bool,
}

impl fmt::Debug for FileWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = if self.secret { "***".into() } else { String::from_utf8_lossy(&self.content) };
        write!(f, "write {} {}:{} {}\n{content}", self.path, self.owner, self.group, self.mode)
    }
}

/// One thing the server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Runs a script as root with `sh -eu`.
    Run(Script),
    /// Puts a file in place.
    Write(FileWrite),
}

/// A difference between what is and what should be, and how it goes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What changes.
    pub id: ResourceId,
    /// How.
    pub action: Action,
    /// The reason, for a person.
    pub why: String,
    /// A unified diff or a list, for a person.
    pub diff: Option<String>,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// Whether a mistake here could lock the user out of the server.
    pub may_lock_out: bool,
    /// What may be done of it beside the installation of packages; if that fails, nothing is lost.
    pub early: Option<Script>,
}

impl Change {
    /// A change without a diff.
    pub fn new(id: ResourceId, action: Action, why: impl Into<String>, steps: Vec<Step>) -> Self {
        Self { id, action, why: why.into(), diff: None, steps, may_lock_out: false, early: None }
    }

    /// A change that runs one script.
    pub fn run(id: ResourceId, action: Action, why: impl Into<String>, script: Script) -> Self {
        Self::new(id, action, why, vec![Step::Run(script)])
    }

    /// Adds a diff.
    #[must_use]
    pub fn with_diff(mut self, diff: impl Into<String>) -> Self {
        self.diff = Some(diff.into());
        self
    }

    /// `create file /etc/…`, `restart nginx.service`, as progress lines show it.
    pub fn title(&self) -> String {
        match self.action {
            Action::Run => self.id.name.clone(),
            Action::Start | Action::Stop | Action::Restart | Action::Reload => {
                format!("{} {}", self.action.verb(), self.id.name)
            }
            Action::Create | Action::Update | Action::Remove => {
                format!("{} {}", self.action.verb(), self.id)
            }
        }
    }
}

/// Everything `up` would do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The changes, in the order in which they run.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes that nobody could foresee from `other`.
    pub fn without(&self, other: &Plan) -> Plan {
        let foreseen = |change: &&Change| !other.changes.iter().any(|known| known.id == change.id);
        Plan { changes: self.changes.iter().filter(foreseen).cloned().collect() }
    }

    /// The same with no more than the beginning of what new files hold.
    pub fn shortened(&self) -> Plan {
        let short = |change: &Change| {
            let lines: Vec<&str> = change.diff.as_deref().unwrap_or_default().lines().collect();
            let mut short = change.clone();
            // One line more instead of two that are left out would be no gain.
            if let (Some(kept), true) = (lines.get(..SHOWN), lines.len() > SHOWN + 2)
                && change.action == Action::Create
            {
                let left = lines.len() - SHOWN;
                short.diff = Some(format!("{}\n… {left} more lines, with -v\n", kept.join("\n")));
            }
            short
        };
        Plan { changes: self.changes.iter().map(short).collect() }
    }

    /// `3 to create, 1 to restart`.
    pub fn summary(&self) -> String {
        if self.is_empty() {
            return "nothing to change".into();
        }
        let order = [
            Action::Create,
            Action::Update,
            Action::Remove,
            Action::Run,
            Action::Start,
            Action::Stop,
            Action::Restart,
            Action::Reload,
        ];
        let parts: Vec<String> = order
            .into_iter()
            .filter_map(|action| {
                let count = self.changes.iter().filter(|change| change.action == action).count();
                (count > 0).then(|| format!("{count} to {}", action.verb()))
            })
            .collect();
        parts.join(", ")
    }

    /// The plan as text, without colours.
    pub fn to_text(&self, diffs: bool) -> String {
        self.lines(diffs).into_iter().map(|line| format!("{}\n", line.text)).collect()
    }

    /// The plan line by line. Folders that are only created say nothing by themselves and share a line.
    pub fn lines(&self, diffs: bool) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut rest = self.changes.as_slice();
        while let Some((first, after)) = rest.split_first() {
            let plain = |change: &Change| change.id.kind == "directory" && change.action == Action::Create;
            let run = rest.iter().take_while(|change| plain(change)).count();
            if run > 2 {
                let (folders, after) = rest.split_at(run);
                let names: Vec<&str> = folders.iter().map(|change| change.id.name.as_str()).collect();
                lines.push(Line {
                    text: format!("  + {run} folders"),
                    kind: LineKind::Change(Action::Create),
                });
                if diffs {
                    let text = |name: &&str| Line { text: format!("      +{name}"), kind: LineKind::Diff };
                    lines.extend(names.iter().map(text));
                }
                rest = after;
                continue;
            }
            lines.push(Line { text: change_line(first), kind: LineKind::Change(first.action) });
            for line in first.diff.as_deref().filter(|_| diffs).unwrap_or_default().lines() {
                // Only lists and files have signs; what is said of a release's steps is prose.
                let sign = line.starts_with(['+', '-', '~', '@']);
                let prose = first.id.kind == "release" && !sign;
                let kind = if prose { LineKind::Remark } else { LineKind::Diff };
                lines.push(Line { text: format!("      {line}"), kind });
            }
            rest = after;
        }
        lines
    }

    /// The plan as JSON, without the scripts (they may hold secrets).
    pub fn to_json(&self) -> serde_json::Value {
        let changes: Vec<serde_json::Value> = self
            .changes
            .iter()
            .map(|change| {
                serde_json::json!({
                    "kind": change.id.kind,
                    "name": change.id.name,
                    "action": change.action,
                    "why": change.why,
                    "diff": change.diff,
                })
            })
            .collect();
        serde_json::json!({ "changes": changes, "summary": self.summary() })
    }
}

/// A line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text.
    pub text: String,
    /// What it is, for its colour.
    pub kind: LineKind,
}

/// What a line of a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// A change.
    Change(Action),
    /// Part of a diff, after six spaces.
    Diff,
    /// What is said of a step, after six spaces.
    Remark,
}

/// `  + file /etc/nginx/…    why`.
pub fn change_line(change: &Change) -> String {
    let what = match change.action {
        Action::Create | Action::Update | Action::Remove => change.id.to_string(),
        Action::Run | Action::Start | Action::Stop | Action::Restart | Action::Reload => change.title(),
    };
    if change.why.is_empty() {
        format!("  {} {what}", change.action.sign())
    } else {
        format!("  {} {what:<52} {}", change.action.sign(), change.why)
    }
}

/// Lines around a change.
const CONTEXT: u32 = 2;

/// A unified diff of two texts, without the file header.
pub fn unified_diff(old: &str, new: &str) -> String {
    let lines = InternedInput::new(old, new);
    let mut diff = Diff::compute(Algorithm::Histogram, &lines);
    diff.postprocess_lines(&lines);
    let mut config = UnifiedDiffConfig::default();
    config.context_len(CONTEXT);
    diff.unified_diff(&Hunks(&lines.interner), config, &lines).to_string()
}

/// Hunks as `diff -u` writes them.
struct Hunks<'a>(&'a Interner<&'a str>);

impl Hunks<'_> {
    fn line(&self, mut f: impl fmt::Write, sign: char, line: Token) -> fmt::Result {
        let text = self.0[line];
        let end = if text.ends_with('\n') { "" } else { "\n\\ No newline at end of file\n" };
        write!(f, "{sign}{text}{end}")
    }
}

impl UnifiedDiffPrinter for Hunks<'_> {
    fn display_header(
        &self,
        mut f: impl fmt::Write,
        start_before: u32,
        start_after: u32,
        len_before: u32,
        len_after: u32,
    ) -> fmt::Result {
        let range = |start: u32, len: u32| match len {
            0 => format!("{start},0"),
            1 => format!("{}", start + 1),
            _ => format!("{},{len}", start + 1),
        };
        writeln!(f, "@@ -{} +{} @@", range(start_before, len_before), range(start_after, len_after))
    }

    fn display_context_token(&self, f: impl fmt::Write, token: Token) -> fmt::Result {
        self.line(f, ' ', token)
    }

    fn display_hunk(&self, mut f: impl fmt::Write, before: &[Token], after: &[Token]) -> fmt::Result {
        before.iter().try_for_each(|line| self.line(&mut f, '-', *line))?;
        after.iter().try_for_each(|line| self.line(&mut f, '+', *line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_like_a_sentence() {
        let plan = Plan {
            changes: vec![
                Change::new(ResourceId::new("package", "nginx"), Action::Create, "not installed", vec![]),
                Change::new(ResourceId::new("file", "/etc/a"), Action::Update, "content differs", vec![])
                    .with_diff("-old\n+new\n"),
                Change::new(
                    ResourceId::new("unit", "nginx.service"),
                    Action::Reload,
                    "/etc/a changed",
                    vec![],
                ),
            ],
        };
        insta::assert_snapshot!(plan.to_text(true), @r"
          + package nginx                                        not installed
          ~ file /etc/a                                          content differs
              -old
              +new
          > reload nginx.service                                 /etc/a changed
        ");
        assert_eq!(plan.summary(), "1 to create, 1 to update, 1 to reload");
        assert_eq!(Plan::default().summary(), "nothing to change");
    }

    #[test]
    fn of_new_files_the_beginning_is_shown() {
        let lines: String = (1..=9).map(|number| format!("+line {number}\n")).collect();
        let file = |action| {
            Change::new(ResourceId::new("file", "/etc/a"), action, "", vec![]).with_diff(lines.clone())
        };
        let plan = Plan { changes: vec![file(Action::Create), file(Action::Update)] };
        let diffs: Vec<Option<String>> =
            plan.shortened().changes.into_iter().map(|change| change.diff).collect();
        let begins = "+line 1\n+line 2\n+line 3\n+line 4\n… 5 more lines, with -v\n";
        // What is there already is shown with every difference.
        assert_eq!(diffs, [Some(begins.to_owned()), Some(lines)]);
    }

    #[test]
    fn what_is_said_of_a_release_is_no_diff() {
        let step = Change::new(ResourceId::new("release", "migrate the database"), Action::Run, "", vec![])
            .with_diff(
                "migration books.0002, can be reversed\n  - Add field author to book\n~ books/models.py\n",
            );
        let kinds: Vec<LineKind> =
            Plan { changes: vec![step] }.lines(true).into_iter().map(|line| line.kind).collect();
        let [_, migration, operation, file] = kinds.as_slice() else { panic!("{kinds:?}") };
        assert_eq!([migration, operation, file], [&LineKind::Remark, &LineKind::Remark, &LineKind::Diff]);
    }

    #[test]
    fn a_secret_file_does_not_print() {
        let write = FileWrite {
            path: "/etc/ship/a.env".into(),
            content: b"KEY=hunter2".to_vec(),
            owner: "root".into(),
            group: "a".into(),
            mode: "0640".into(),
            secret: true,
        };
        assert!(!format!("{write:?}").contains("hunter2"));
    }
}
