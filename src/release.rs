//! A release as steps: whether one is due, why, and what the server does for it.
//!
//! Invariant: pure. A step's work is done when its stamp says so; every step can run again after any
//! interruption.

pub mod backups;
pub mod builds;
pub mod database;
pub mod extensions;
mod frontend;
pub mod gates;
mod held;
mod migrations;
pub mod mysql;
mod operations;
pub mod overlay;
pub mod place;
pub mod preview;
pub mod processes;
pub mod protection;
pub mod python;
pub mod restart;
pub mod rollback;
mod space;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod venv;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Worker};
use crate::facts::app::{App, Build, Record};
use crate::facts::{Ask, Facts};
use crate::human::count;
use crate::plan::{Action, Change, ResourceId};
use crate::playbook::{TemplateError, Templates, Vars};
use crate::process::serving::Server;
use crate::project::Packages;
use crate::project::settings::{Known, Need, Settings, Token};
use crate::resources::file::sha256;
use crate::resources::placed::{Placed, kept_as};
use crate::shell::{Cmd, Script};
use crate::tree::{Delta, Tree};

use self::steps::Steps;
pub use self::venv::extra_packages;

/// A step exits with this code when Django's answer isn't the one that the plan was made with.
pub const ANSWER_DIFFERS: i32 = 64;

/// A step exits with this code when it needs what only the user can give, or ask otherwise for: the input is to change.
pub const NEEDS_INPUT: i32 = 65;

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

    /// What Django will say of a project that it was not asked about yet: the usual, with the folders that the overlay
    /// sets where the settings have none, and the URLs that the settings write down.
    pub fn foretold(config: &Config, settings: &Settings) -> Self {
        let mut layout = Self::usual();
        let values = settings.values();
        let url = |name: &str, otherwise: Option<String>| match values.of(name) {
            Known::Is(tokens) => match tokens.as_slice() {
                [Token::Text(text)] => local_url(text),
                _ => otherwise,
            },
            Known::Computed => otherwise,
            // Django's own, the empty text, is no path of its own on the site.
            Known::Absent => None,
        };
        layout.static_url = url("STATIC_URL", layout.static_url);
        for one in overlay::expected(config, settings, None, false) {
            match one.switch.as_str() {
                "static_root" => layout.static_root = Some(format!("/srv/{}/static", config.app)),
                "media_root" => {
                    layout.media_root = Some(format!("/srv/{}/shared/media", config.app));
                    layout.media_url = url("MEDIA_URL", layout.media_url.take());
                }
                _ => {}
            }
        }
        layout
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

/// A URL of the settings as a path on this site, if it is one: Django puts a slash before what has none.
fn local_url(text: &str) -> Option<String> {
    let path = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    (path != "/" && !text.contains("://") && !text.starts_with("//")).then_some(path)
}

/// What a release is made from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The project's files.
    pub tree: Tree,
    /// What is installed for it.
    pub packages: Packages,
    /// The migrations of the project's own apps: path and content.
    pub migrations: Vec<(String, String)>,
    /// The files that the settings are made from.
    pub settings: Settings,
    /// Secret files of `files:`, with their content as far as this computer has them.
    pub files: Vec<Placed>,
    /// Abbreviated commit.
    pub commit: Option<String>,
    /// Branch.
    pub branch: Option<String>,
    /// Whether there are uncommitted changes.
    pub dirty: bool,
    /// `user@host`.
    pub who: String,
}

impl Source {
    /// Of whoever needs none of the project's files.
    pub fn without_code(who: String) -> Self {
        Self {
            tree: Tree::default(),
            packages: Packages::default(),
            migrations: Vec::new(),
            settings: Settings::default(),
            files: Vec::new(),
            commit: None,
            branch: None,
            dirty: false,
            who,
        }
    }
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
    /// Files that are neither on this computer nor on the server.
    #[error("files are missing: {}", .0.join(", "))]
    MissingFiles(Vec<String>),
    /// Variables that the settings can't be loaded without, and nobody set.
    #[error("variables are not set: {}", .needs.iter().map(|need| need.name.as_str()).collect::<Vec<_>>().join(", "))]
    MissingVariables {
        /// What is missing and who reads it.
        needs: Vec<Need>,
        /// Further names from the project's example, with its file.
        exampled: Vec<(String, String)>,
    },
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
    /// Whether the site is served by HTTPS, so that Django should know.
    pub https: bool,
    /// Whether it will be when the release starts, as far as that can be told.
    pub https_soon: bool,
}

/// What the release must know of the server.
pub fn asks(config: &Config, tree: &Tree) -> Vec<Ask> {
    vec![
        Ask::Host,
        Ask::App { app: config.app.clone(), tree: tree.digest().into() },
        Ask::Unit(format!("{}.socket", config.app)),
    ]
}

/// The layout that the plan is made with: Django's answer for the release being built, else for the live one, else
/// what the settings' text makes likely.
pub fn predicted_layout(app: &App, config: &Config, source: &Source) -> Layout {
    let pending = pending(app, &source.tree).and_then(|number| app.builds.get(&number));
    let answers = [pending, app.live().map(|(_, build)| build)];
    let answer = answers.into_iter().flatten().find_map(Layout::answered);
    answer.unwrap_or_else(|| Layout::foretold(config, &source.settings))
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
    check_variables(context, app)?;
    check_files(source, app)?;
    let python = python::choose(&config.python, &source.packages, &facts.host)?;
    let venv = venv::hash(config, source, &python);
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
            reasons.extend(config_reason(app, live, &wanted_plain, &source.files));
            if live.https != context.https {
                let now = if context.https { "by HTTPS from now on" } else { "no more by HTTPS" };
                reasons.push(format!("the site is served {now}, and Django must know"));
            }
            if live.recipe.as_deref() != Some(recipe.as_str()) {
                reasons.push("its units or its overlay changed".into());
            }
            if reasons.is_empty() {
                let mut changes = repairs(config, facts, number, before);
                if !app.releases.iter().any(|record| record.number == number) {
                    let layout = predicted_layout(app, config, source);
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

    let layout = predicted_layout(app, config, source);
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
    // First of all: where it can't be had, nothing else is worth doing.
    changes.extend(python.install(facts, config.python_mirror.as_deref()));
    if let Some(delta) = &upload {
        changes.push(steps.upload(delta, &reasons.join("; ")));
    }
    if !app.venvs.contains(&venv) {
        changes.push(steps.venv(&python));
    }
    changes.extend(steps.frontend());
    let already = upload.is_none().then(|| reasons.join("; "));
    changes.push(steps.prepare(already.unwrap_or_default()));
    // Before anything that the old release would notice.
    changes.push(steps.preflight(true, before.is_empty()));
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
    let python = python::choose(&context.config.python, &context.source.packages, &facts.host)?;
    let venv = venv::hash(context.config, context.source, &python);
    let recipe = recipe(context, facts)?;
    let layout = predicted_layout(&facts.app, context.config, context.source);
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
    changes.extend(steps.release_command());
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
    Ok(vec![steps.copy(live, what), steps.prepare_as(live), steps.preflight(false, true)]
        .into_iter()
        .chain(steps.release_command())
        .chain([steps.switch(&[]), steps.record()])
        .collect())
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

/// How a secret file is called among the parts of the environment.
fn file_part(name: &str) -> String {
    format!("files/{}", kept_as(name))
}

/// Whether each secret file is here or on the server.
fn check_files(source: &Source, app: &App) -> Result<(), ReleaseError> {
    let lost = |file: &&Placed| file.content.is_none() && !app.config.contains_key(&file_part(&file.name));
    let missing: Vec<String> = source.files.iter().filter(lost).map(|file| file.name.clone()).collect();
    if missing.is_empty() { Ok(()) } else { Err(ReleaseError::MissingFiles(missing)) }
}

/// Variables that every site has, besides those of `plain_env`: set by systemd, or made on the server.
const ALWAYS_SET: [&str; 10] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "LANG",
    "INVOCATION_ID",
    "SECRET_KEY",
    "DJANGO_SECRET_KEY",
    "DATABASE_URL",
];

/// Whether all is there that the settings can't be loaded without.
fn check_variables(context: &Context<'_>, app: &App) -> Result<(), ReleaseError> {
    let Context { source, vars, .. } = context;
    let plain: BTreeSet<String> = vars
        .get("plain_env")
        .and_then(|list| list.try_iter().ok())
        .into_iter()
        .flatten()
        .filter_map(|pair| pair.get_attr("name").ok()?.as_str().map(str::to_owned))
        .collect();
    let from_files =
        if source.settings.reads_env_file() { source.settings.set_by_files() } else { BTreeSet::new() };
    let known = |name: &String| {
        ALWAYS_SET.contains(&name.as_str())
            || plain.contains(name)
            || app.config.contains_key(&secret_file(name))
            || from_files.contains(name)
    };
    let needs: Vec<Need> = source.settings.needs().into_iter().filter(|need| !known(&need.name)).collect();
    if needs.is_empty() {
        return Ok(());
    }
    let mut exampled = source.settings.exampled();
    exampled.retain(|(name, _)| !known(name) && !needs.iter().any(|need| need.name == *name));
    Err(ReleaseError::MissingVariables { needs, exampled })
}

/// The file that holds a secret, in the folder of the environment's parts.
pub fn secret_file(name: &str) -> String {
    format!("20-{name}.env")
}

/// The name of the secret that a file holds.
pub fn secret_name(file: &str) -> Option<&str> {
    file.strip_prefix("20-")?.strip_suffix(".env")
}

fn config_reason(app: &App, live: &Build, wanted_plain: &str, files: &[Placed]) -> Option<String> {
    let mut wanted = app.config.clone();
    let contents =
        files.iter().filter_map(|file| Some((file_part(&file.name), sha256(file.content.as_ref()?))));
    wanted.extend(contents);
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

/// A worker as its unit's template knows it.
pub fn worker_item(name: &str, worker: &Worker) -> minijinja::Value {
    minijinja::Value::from_pairs([
        ("name", minijinja::Value::from(name)),
        ("command", worker.command.as_str().into()),
        ("stop_timeout_s", worker.stop_timeout_s.into()),
        ("origin", worker.origin.as_str().into()),
        ("may", protection::may(&worker.limits)),
    ])
}

/// The digest of everything that an instance reads only at its start, besides code and environment.
fn recipe(context: &Context<'_>, facts: &Facts) -> Result<String, ReleaseError> {
    let mut text = String::new();
    let module = matches!(context.config.web.serving.server, Server::Inherits { .. });
    let module = module.then_some("django/ship_serve.py.j2");
    let names = ["django/gunicorn.py.j2", "systemd/web@.service.j2", "systemd/app.socket.j2"];
    for name in names.into_iter().chain(module) {
        text.push_str(&context.templates.render(name, context.vars, Some(&facts.host))?);
    }
    for (name, worker) in &context.config.workers {
        let mut vars = context.vars.clone();
        vars.insert("item".into(), worker_item(name, worker));
        text.push_str(&context.templates.render("systemd/worker@.service.j2", &vars, Some(&facts.host))?);
    }
    text.push_str(overlay::program(context.config, &context.source.settings).unwrap_or_default().text());
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
        [one, two, rest @ ..] => format!("{one}, {two} and {} changed", count(rest.len(), "more file")),
    }
}

/// What is wrong with the live release although nothing about it should change.
fn repairs(config: &Config, facts: &Facts, number: u32, before: &[Change]) -> Vec<Change> {
    let app = &facts.app;
    let mut changes = Vec::new();
    // What the instances read at their start was changed by hand, and is put back by the changes before.
    let settings = format!("/etc/ship/{}/gunicorn.py", config.app);
    let alone = config.web.serving.is_alone();
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
    if !alone && !fact.active && !before.iter().any(|change| change.id.name == socket) {
        fix(&socket, Action::Start, "is not running", "start");
    }
    if !alone && fact.file_state != "enabled" {
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
