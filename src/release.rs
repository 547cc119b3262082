//! A release as steps: whether one is due, why, and what the server does for it.
//!
//! Invariant: pure. A step's work is done when its stamp says so; every step can run again after any
//! interruption.

pub mod gates;
mod migrations;
mod operations;
pub mod preview;
pub mod rollback;
mod space;
mod steps;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Database, Worker};
use crate::facts::app::{App, Build, Record};
use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, ResourceId};
use crate::playbook::{TemplateError, Templates, Vars};
use crate::resources::file::sha256;
use crate::shell::{Cmd, Script};
use crate::tree::{Delta, Tree};

use self::steps::Steps;

/// A step exits with this code when Django's answer isn't the one that the plan was made with.
pub const ANSWER_DIFFERS: i32 = 64;

/// The file of the environment that comes from `ship.yml`.
pub const PLAIN_ENV: &str = "10-plain.env";

/// Where Django serves files from, as the project's own settings say. Paths inside the project are relative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// MEDIA_ROOT.
    pub media_root: Option<String>,
    /// MEDIA_URL if it is a path on this site.
    pub media_url: Option<String>,
    /// STATIC_ROOT; `None` also without `django.contrib.staticfiles`.
    pub static_root: Option<String>,
    /// STATIC_URL if it is a path on this site.
    pub static_url: Option<String>,
}

impl Layout {
    /// What most projects say: the plan of a first deploy is made with it.
    pub fn usual() -> Self {
        Self {
            media_root: Some("media".into()),
            media_url: Some("/media/".into()),
            static_root: Some("staticfiles".into()),
            static_url: Some("/static/".into()),
        }
    }

    /// The folders of a release that the server replaces by shared ones.
    pub fn shared_folders(&self) -> Vec<String> {
        [&self.static_root, &self.media_root]
            .into_iter()
            .flatten()
            .filter(|root| !root.starts_with('/'))
            .cloned()
            .collect()
    }

    /// What Django answered for a build.
    pub(crate) fn answered(build: &Build) -> Option<Self> {
        serde_json::from_str(build.answer.as_deref()?).ok()
    }

    fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a release is made from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The project's files.
    pub tree: Tree,
    /// The requirements files with everything they include: path and content.
    pub requirements: Vec<(String, String)>,
    /// The migrations of the project's own apps: path and content.
    pub migrations: Vec<(String, String)>,
    /// Abbreviated commit.
    pub commit: Option<String>,
    /// Branch.
    pub branch: Option<String>,
    /// Whether there are uncommitted changes.
    pub dirty: bool,
    /// `user@host`.
    pub who: String,
}

/// A release that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The N of vN.
    pub number: u32,
    /// The files to send, if not all are there.
    pub upload: Option<Delta>,
}

/// Why a release can't be planned.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A template doesn't render.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Secrets that ship.yml names and nobody set.
    #[error("secrets are not set: {}", .0.join(", "))]
    MissingSecrets(Vec<String>),
    /// The server has another Python.
    #[error("the project wants Python {wanted} ({origin}), and {os} has {has}")]
    Python {
        /// As asked for.
        wanted: String,
        /// The file or key that says so.
        origin: String,
        /// The system's name.
        os: String,
        /// What it has.
        has: String,
    },
    /// Less free space than the release needs.
    #[error("the server has {free_mb} MiB free and this release needs about {needed_mb} MiB")]
    NoSpace {
        /// Free space in MiB.
        free_mb: u64,
        /// What is needed in MiB.
        needed_mb: u64,
    },
    /// Room for fewer files than the release has.
    #[error("the server's disk has room for {free} more files and this release needs about {needed}")]
    NoInodes {
        /// Free inodes.
        free: u64,
        /// What is needed.
        needed: u64,
    },
}

/// Everything a release is decided from.
pub struct Context<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The files and where they come from.
    pub source: &'a Source,
    /// Templates.
    pub templates: &'a Templates,
    /// Variables of the templates.
    pub vars: &'a Vars,
}

/// What the release must know of the server.
pub fn asks(config: &Config, tree: &Tree) -> Vec<Ask> {
    vec![
        Ask::App { app: config.app.clone(), tree: tree.digest().into() },
        Ask::Unit(format!("{}.socket", config.app)),
    ]
}

/// The layout that the plan is made with: Django's answer for the release being built, else for the live one.
pub fn predicted_layout(app: &App, tree: &Tree) -> Layout {
    let pending = pending(app, tree).and_then(|number| app.builds.get(&number));
    let answers = [pending, app.live().map(|(_, build)| build)];
    answers.into_iter().flatten().find_map(Layout::answered).unwrap_or_else(Layout::usual)
}

/// An unfinished release with exactly these files.
fn pending(app: &App, tree: &Tree) -> Option<u32> {
    let (number, digest) = app.newest_tree()?;
    let recorded = app.releases.iter().any(|record| record.number == number);
    // One that visitors have seen fail is over. Under its number another attempt would look as if it never had.
    let bad =
        app.builds.get(&number).and_then(|build| build.failed.as_ref()).is_some_and(|failed| failed.bad);
    (digest == tree.digest() && app.current.is_none_or(|current| number > current) && !recorded && !bad)
        .then_some(number)
}

/// Decides whether a release is due, and how it is made. `before` are the changes of everything else.
pub fn plan(
    context: &Context<'_>,
    facts: &Facts,
    before: &[Change],
) -> Result<(Vec<Change>, Option<Release>), ReleaseError> {
    let Context { config, source, .. } = context;
    let app = &facts.app;
    check_secrets(config, app)?;
    let python = python(config, facts)?;
    let venv = venv_hash(config, source, &python);
    let recipe = recipe(context, facts)?;
    let wanted_plain =
        sha256(context.templates.render("django/plain.env.j2", context.vars, None)?.as_bytes());

    let mut reasons = Vec::new();
    match app.live() {
        None => reasons.push("first release".to_string()),
        Some((number, live)) => {
            if live.tree.as_deref() != Some(source.tree.digest()) {
                reasons.push(String::new());
            }
            if live.venv.as_deref() != Some(venv.as_str()) {
                reasons.push("requirements changed".into());
            }
            reasons.extend(config_reason(app, live, &wanted_plain));
            if live.recipe.as_deref() != Some(recipe.as_str()) {
                reasons.push("its units changed".into());
            }
            if reasons.is_empty() {
                let mut changes = repairs(config, facts, number, before);
                if !app.releases.iter().any(|record| record.number == number) {
                    let layout = predicted_layout(app, &source.tree);
                    let record = code_record(source);
                    let steps =
                        Steps { context, app, number, venv: &venv, recipe: &recipe, layout: &layout, record };
                    changes.push(steps.health());
                    changes.push(steps.record());
                }
                return Ok((changes, None));
            }
        }
    }

    let layout = predicted_layout(app, &source.tree);
    let pending = pending(app, &source.tree);
    let number = pending.unwrap_or_else(|| app.next_number());
    let upload = if pending.is_some() { None } else { Some(delta(app, source, &layout)) };
    let nothing = Delta::default();
    space::check(facts, source, upload.as_ref().unwrap_or(&nothing), app.venvs.contains(&venv))?;
    let files = upload.as_ref().map(files_reason).unwrap_or_default();
    for reason in &mut reasons {
        if reason.is_empty() {
            reason.clone_from(&files);
        }
    }
    if let Some(number) = pending {
        let failed = app.builds.get(&number).and_then(|build| build.failed.as_ref());
        reasons.push(match failed {
            Some(failed) => format!("trying again what failed: {}", failed.reason),
            None => "finishing an interrupted one".into(),
        });
    }
    if app.live().is_some_and(|(_, live)| live.tree.as_deref() != Some(source.tree.digest()))
        && let Some((number, by)) = rollback::left_with(app, source.tree.digest())
    {
        reasons.push(format!("these are the files of v{number}, which v{by} went back from"));
    }
    reasons.retain(|reason| !reason.is_empty());

    let steps = Steps {
        context,
        app,
        number,
        venv: &venv,
        recipe: &recipe,
        layout: &layout,
        record: code_record(source),
    };
    let mut changes = Vec::new();
    if let Some(delta) = &upload {
        changes.push(steps.upload(delta, &reasons.join("; ")));
    }
    if !app.venvs.contains(&venv) {
        changes.push(steps.venv(&python));
    }
    let already = upload.is_none().then(|| reasons.join("; "));
    changes.push(steps.prepare(already.unwrap_or_default()));
    // Before anything that the old release would notice.
    changes.push(steps.preflight());
    let new = upload.as_ref().filter(|_| app.current.is_some());
    changes.extend(steps.migrations(&new.map(|delta| new_migrations(source, delta)).unwrap_or_default()));
    Ok((changes, Some(Release { number, upload })))
}

/// Migration files that the server doesn't have like this, with what they do.
fn new_migrations(source: &Source, delta: &Delta) -> Vec<(String, Vec<String>)> {
    let sent = |path: &String| delta.send.contains(path);
    let files = source.migrations.iter().filter(|(path, _)| sent(path));
    files.map(|(path, text)| (path.clone(), operations::operations(text))).collect()
}

/// Whether a file of the project is a migration, which a plan tells about.
pub fn is_migration(path: &str) -> bool {
    operations::is_migration(path)
}

/// The second half of a release: after the units and the web server's site are in place. `before` are the changes of
/// everything else.
pub fn finish(
    context: &Context<'_>,
    facts: &Facts,
    release: &Release,
    before: &[Change],
) -> Result<Vec<Change>, ReleaseError> {
    let python = python(context.config, facts)?;
    let venv = venv_hash(context.config, context.source, &python);
    let recipe = recipe(context, facts)?;
    let layout = predicted_layout(&facts.app, &context.source.tree);
    let steps = Steps {
        context,
        app: &facts.app,
        number: release.number,
        venv: &venv,
        recipe: &recipe,
        layout: &layout,
        record: code_record(context.source),
    };
    let mut changes = Vec::new();
    if layout.static_root.is_some() {
        changes.push(steps.collectstatic());
    }
    changes.push(steps.switch(before));
    changes.push(steps.record());
    Ok(changes)
}

/// A release of the live code with the environment as it is now: no upload, no packages, no migrations.
pub fn config_change(context: &Context<'_>, facts: &Facts, what: &str) -> Result<Vec<Change>, ReleaseError> {
    let app = &facts.app;
    let Some((live, build)) = app.live() else { return Ok(Vec::new()) };
    check_secrets(context.config, app)?;
    let layout = Layout::answered(build).unwrap_or_else(Layout::usual);
    let record = app.releases.iter().rev().find(|record| record.number == live);
    let record = Record {
        number: app.next_number(),
        at: String::new(),
        who: context.source.who.clone(),
        commit: record.and_then(|record| record.commit.clone()),
        branch: record.and_then(|record| record.branch.clone()),
        dirty: record.is_some_and(|record| record.dirty),
        what: what.into(),
        migrations: Vec::new(),
        rollback: None,
    };
    let steps = Steps {
        context,
        app,
        number: record.number,
        venv: build.venv.as_deref().unwrap_or_default(),
        recipe: build.recipe.as_deref().unwrap_or_default(),
        layout: &layout,
        record,
    };
    Ok(vec![
        steps.copy(live, what),
        steps.prepare(String::new()),
        steps.preflight(),
        steps.switch(&[]),
        steps.record(),
    ])
}

fn code_record(source: &Source) -> Record {
    Record {
        number: 0,
        at: String::new(),
        who: source.who.clone(),
        commit: source.commit.clone(),
        branch: source.branch.clone(),
        dirty: source.dirty,
        what: "code".into(),
        migrations: Vec::new(),
        rollback: None,
    }
}

fn check_secrets(config: &Config, app: &App) -> Result<(), ReleaseError> {
    let missing: Vec<String> =
        config.secrets.iter().filter(|name| !app.config.contains_key(&secret_file(name))).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(ReleaseError::MissingSecrets(missing)) }
}

/// The file that holds a secret, in the folder of the environment's parts.
pub fn secret_file(name: &str) -> String {
    format!("20-{name}.env")
}

/// The name of the secret that a file holds.
pub fn secret_name(file: &str) -> Option<&str> {
    file.strip_prefix("20-")?.strip_suffix(".env")
}

fn config_reason(app: &App, live: &Build, wanted_plain: &str) -> Option<String> {
    let mut wanted = app.config.clone();
    wanted.insert(PLAIN_ENV.into(), wanted_plain.into());
    if wanted == live.config {
        return None;
    }
    let changed: Vec<&str> = wanted
        .iter()
        .filter(|(name, digest)| live.config.get(*name) != Some(*digest))
        .map(|(name, _)| name.as_str())
        .chain(live.config.keys().filter(|name| !wanted.contains_key(*name)).map(String::as_str))
        .map(|file| secret_name(file).unwrap_or(if file == PLAIN_ENV { "env" } else { file }))
        .collect();
    Some(format!("config changed: {}", changed.join(", ")))
}

fn python(config: &Config, facts: &Facts) -> Result<String, ReleaseError> {
    let host = &facts.host;
    let has = host.python.clone().or_else(|| host.python_candidate.clone()).unwrap_or_else(|| "3".into());
    let series = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
    if let crate::config::PythonWish::Version { version, origin } = &config.python
        && series(version) != series(&has)
    {
        return Err(ReleaseError::Python {
            wanted: version.clone(),
            origin: origin.clone(),
            os: host.os_name.clone(),
            has,
        });
    }
    Ok(series(&has))
}

/// Packages that a project needs on a server and may not name itself.
fn extra_packages(config: &Config, source: &Source) -> Vec<&'static str> {
    let names = |name: &str| {
        source.requirements.iter().flat_map(|(_, text)| text.lines()).any(|line| {
            let package: String =
                line.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
            let package = package.to_ascii_lowercase().replace(['_', '.'], "-");
            package == name || package == format!("{name}-binary")
        })
    };
    let mut extra = Vec::new();
    if !names("gunicorn") {
        extra.push("gunicorn");
    }
    if config.database == Database::Postgres && !names("psycopg") && !names("psycopg2") {
        extra.push("psycopg[binary]");
    }
    extra
}

/// Names a virtual environment by all that goes into it.
fn venv_hash(config: &Config, source: &Source, python: &str) -> String {
    let mut text = format!("1\n{python}\n{}\n", extra_packages(config, source).join(" "));
    for (path, content) in &source.requirements {
        text.push_str(&format!("{path}\n{}\n{content}", content.len()));
        // A package of the project itself is installed from its files.
        let local = content.lines().map(str::trim).any(|line| {
            line.starts_with('.')
                || line.starts_with("-e")
                || line.starts_with("--editable")
                || line.contains("file:")
        });
        if local {
            text.push_str(source.tree.digest());
        }
    }
    sha256(text.as_bytes()).chars().take(12).collect()
}

/// A worker as its unit's template knows it.
pub fn worker_item(name: &str, worker: &Worker) -> minijinja::Value {
    minijinja::Value::from_pairs([
        ("name", minijinja::Value::from(name)),
        ("command", worker.command.as_str().into()),
        ("stop_timeout_s", worker.stop_timeout_s.into()),
    ])
}

/// The digest of everything that an instance reads only at its start, besides code and environment.
fn recipe(context: &Context<'_>, facts: &Facts) -> Result<String, ReleaseError> {
    let mut text = String::new();
    for name in ["django/gunicorn.py.j2", "systemd/web@.service.j2", "systemd/app.socket.j2"] {
        text.push_str(&context.templates.render(name, context.vars, Some(&facts.host))?);
    }
    for (name, worker) in &context.config.workers {
        let mut vars = context.vars.clone();
        vars.insert("item".into(), worker_item(name, worker));
        text.push_str(&context.templates.render("systemd/worker@.service.j2", &vars, Some(&facts.host))?);
    }
    Ok(sha256(text.as_bytes()).chars().take(12).collect())
}

fn delta(app: &App, source: &Source, layout: &Layout) -> Delta {
    match &app.manifest {
        Some(manifest) => source.tree.delta(manifest, &layout.shared_folders()),
        // The same files as a release that is there already: nothing is sent, everything is linked.
        None if app.newest_tree().is_some() => {
            source.tree.delta(source.tree.manifest(), &layout.shared_folders())
        }
        None => source.tree.delta("", &[]),
    }
}

fn files_reason(delta: &Delta) -> String {
    let mut names: Vec<&str> = delta.send.iter().chain(&delta.gone).map(String::as_str).collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!("{one} changed"),
        [one, two] => format!("{one}, {two} changed"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more files changed", rest.len()),
    }
}

/// What is wrong with the live release although nothing about it should change.
fn repairs(config: &Config, facts: &Facts, number: u32, before: &[Change]) -> Vec<Change> {
    let app = &facts.app;
    let mut changes = Vec::new();
    // What the instances read at their start was changed by hand, and is put back by the changes before.
    let settings = format!("/etc/ship/{}/gunicorn.py", config.app);
    let touched = |unit: &str| {
        let template = unit.split_once('@').map(|(name, _)| format!("/etc/systemd/system/{name}@.service"));
        before.iter().find(|change| Some(&change.id.name) == template.as_ref() || change.id.name == settings)
    };
    let ours = instances(config, number);
    for unit in
        ours.iter().filter(|unit| app.active.get(*unit).is_some_and(|instance| instance.state == "active"))
    {
        if let Some(change) = touched(unit) {
            let script = Script::new()
                .cmd(Cmd::new("systemctl").arg("daemon-reload"))
                .cmd(Cmd::new("systemctl").arg("restart").arg(unit));
            let why = format!("{} changed", change.id.name);
            changes.push(Change::run(ResourceId::new("unit", unit), Action::Restart, why, script));
        }
    }
    let mut fix = |name: &str, action, why: &str, verb: &str| {
        let script = Script::new().cmd(Cmd::new("systemctl").arg(verb).arg(name));
        changes.push(Change::run(ResourceId::new("unit", name), action, why, script));
    };
    let socket = format!("{}.socket", config.app);
    let fact = facts.units.get(&socket).cloned().unwrap_or_default();
    if !fact.active && !before.iter().any(|change| change.id.name == socket) {
        fix(&socket, Action::Start, "is not running", "start");
    }
    if fact.file_state != "enabled" {
        fix(&socket, Action::Update, "does not start at boot", "enable");
    }
    // Left over by a switch that was interrupted, or started by hand: another release on the same socket.
    let prefixes: Vec<String> =
        ours.iter().filter_map(|unit| unit.split_once('@').map(|(name, _)| format!("{name}@"))).collect();
    let stray = |unit: &&String| {
        !ours.contains(unit) && prefixes.iter().any(|prefix| unit.starts_with(prefix.as_str()))
    };
    for unit in app.enabled.iter().filter(stray) {
        fix(unit, Action::Update, "starts at boot, and is not the live release", "disable");
    }
    let runs = |unit: &&String| {
        app.active
            .get(*unit)
            .is_some_and(|instance| matches!(instance.state.as_str(), "active" | "activating"))
    };
    for unit in app.active.keys().filter(stray).filter(runs) {
        fix(unit, Action::Stop, "is not the live release", "stop");
    }
    for unit in ours {
        let state = app.active.get(&unit).map_or("inactive", |instance| instance.state.as_str());
        match state {
            "active" | "activating" | "reloading" => {}
            "failed" => fix(&unit, Action::Start, "has failed", "restart"),
            _ => fix(&unit, Action::Start, "is not running", "start"),
        }
        if !app.enabled.contains(&unit) {
            fix(&unit, Action::Update, "does not start at boot", "enable");
        }
    }
    changes
}

/// The units of a release, the web one first.
pub fn instances(config: &Config, number: u32) -> Vec<String> {
    let app = &config.app;
    std::iter::once(format!("{app}@v{number}.service"))
        .chain(config.workers.keys().map(|name| format!("{app}-{name}@v{number}.service")))
        .collect()
}
