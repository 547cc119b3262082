//! lock → probe → plan → confirm → apply → verify, over one connection.
//!
//! The decisions are elsewhere and pure; here they are put in order and carried to the server and back.

mod rollback;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minijinja::Value;
use tokio::io::AsyncReadExt as _;

use crate::apply::{
    Bundle, End, Event, JournalReader, Launch, attach_script, bundle, cause, launch_script, order,
    stop_script,
};
use crate::assets::{Asset, Assets, template_failure};
use crate::config::{Config, Database, PlaybookRef};
use crate::error::{Exit, Failure};
use crate::facts::app::App;
use crate::facts::host::Host;
use crate::facts::{self, Ask, Facts};
use crate::plan::Plan;
use crate::playbook::{self, PlaybookError, Templates, Vars};
use crate::release::gates::{CAUSE, HINT, NOTE};
use crate::release::preview;
use crate::release::{self, Context, Layout, Release, ReleaseError, Source, secret_file};
use crate::resources::{self, DiffError, Resource};
use crate::shell::Script;
use crate::transport::{Exec, Flow, Output, Session, Stdin, Stream, TransportError};
use crate::ui::Ui;

pub use self::rollback::{RolledBack, Wish, rollback};

/// The port gunicorn's socket listens on.
const PORT: u16 = 8000;

/// What helps against a full disk.
const FULL_HINT: &str = "look what fills it with `ship ssh -- df -h` and `ship ssh -- du -xsh /var/* /srv/*`";

/// Everything known before the server is asked.
pub struct Desired {
    config: Config,
    source: Source,
    assets: Assets,
    templates: Arc<Templates>,
    custom: Vec<Asset>,
    volume: Option<String>,
}

/// What there is to do.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The release in it, if one is due.
    pub release: Option<Release>,
}

impl Desired {
    /// Reads what the configuration names.
    pub fn new(project: &Path, config: Config, source: Source, assets: Assets) -> Result<Self, Failure> {
        let templates = Arc::new(assets.templates()?);
        let custom = config.playbooks.iter().map(|reference| custom_playbook(project, reference, &assets));
        let custom = custom.collect::<Result<_, _>>()?;
        Ok(Self { config, source, assets, templates, custom, volume: None })
    }

    /// Says where the server finds the data volume: a path below `/dev`.
    pub fn set_volume(&mut self, device: Option<String>) {
        self.volume = device;
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everything that one probe must learn.
    pub fn asks(&self) -> Result<BTreeSet<Ask>, Failure> {
        let vars = self.vars(&Layout::usual());
        let mut asks: BTreeSet<Ask> = release::asks(&self.config, &self.source.tree).into_iter().collect();
        for part in self.resources(&vars)? {
            asks.extend(part.iter().flat_map(|resource| resource.asks()));
        }
        Ok(asks)
    }

    /// Compares with the facts.
    pub fn plan(&self, facts: &Facts) -> Result<Planned, Failure> {
        if !facts.host.is_supported() {
            let name = if facts.host.os_name.is_empty() { "an unknown system" } else { &facts.host.os_name };
            return Err(Failure::input(format!("the server runs {name}; ship needs Debian or Ubuntu")));
        }
        let layout = release::predicted_layout(&facts.app, &self.source.tree);
        let vars = self.vars(&layout);
        let context =
            Context { config: &self.config, source: &self.source, templates: &self.templates, vars: &vars };
        let [before, after] = self.resources(&vars)?;
        let mut changes = Vec::new();
        resources::diff_into(&mut changes, &before, facts).map_err(diff_failure)?;
        let (release_changes, release) = release::plan(&context, facts, &changes).map_err(release_failure)?;
        changes.extend(release_changes);
        resources::diff_into(&mut changes, &after, facts).map_err(diff_failure)?;
        // Packages of the second half join the one transaction of the first.
        let mut changes = resources::package::merge(changes, &facts.broken_packages);
        if let Some(release) = &release {
            let finish = release::finish(&context, facts, release, &changes).map_err(release_failure)?;
            changes.extend(finish);
        }
        Ok(Planned { plan: Plan { changes }, release })
    }

    /// Compares with a server that is yet to be made, as far as it can be foretold.
    pub fn plan_for_new(&self, host: Host) -> Result<Plan, Failure> {
        let mut facts = Facts { host, ..Facts::default() };
        // Secrets can be set only once there is a server; whether they are is asked then.
        facts.app.config =
            self.config.secrets.iter().map(|name| (secret_file(name), String::new())).collect();
        Ok(self.plan(&facts)?.plan)
    }

    /// Resources before the release is built, and those that depend on Django's answer.
    fn resources(&self, vars: &Vars) -> Result<[Vec<Box<dyn Resource>>; 2], Failure> {
        let mut before = match self.volume {
            Some(_) => self.builtin("volume", vars)?,
            None => Vec::new(),
        };
        before.extend(self.builtin("base", vars)?);
        before.extend(self.builtin("python", vars)?);
        match self.config.database {
            Database::Postgres => before.extend(self.builtin("postgres", vars)?),
            Database::Sqlite => before.extend(self.builtin("sqlite", vars)?),
            Database::External => {}
        }
        for asset in &self.custom {
            before.extend(self.read(asset, vars)?);
        }
        before.extend(self.builtin("django", vars)?);
        Ok([before, self.builtin("nginx", vars)?])
    }

    fn builtin(&self, name: &str, vars: &Vars) -> Result<Vec<Box<dyn Resource>>, Failure> {
        match self.assets.playbook(name) {
            Some(asset) => self.read(asset, vars),
            None => Err(Failure::input(format!("there is no playbook `{name}`"))),
        }
    }

    fn read(&self, asset: &Asset, vars: &Vars) -> Result<Vec<Box<dyn Resource>>, Failure> {
        playbook::resources(&asset.origin, &asset.text, vars, &self.templates).map_err(|error| match error {
            PlaybookError::Template { error, .. } => template_failure(&error),
            PlaybookError::Yaml(error) => error.into(),
            other @ PlaybookError::Item { .. } => Failure::input(other.to_string()),
        })
    }

    /// What playbooks and templates may use, besides `host`.
    fn vars(&self, layout: &Layout) -> Vars {
        let config = &self.config;
        let app = &config.app;
        let home = format!("/srv/{app}");
        let text = |text: &str| Value::from(text);
        let root = config.django.suffix();
        let workers: Vec<Value> =
            config.workers.iter().map(|(name, worker)| release::worker_item(name, worker)).collect();
        Vars::from([
            ("app".into(), text(app)),
            ("user".into(), text(app)),
            ("build_user".into(), Value::from(format!("{app}-build"))),
            ("home".into(), text(&home)),
            ("port".into(), Value::from(PORT)),
            ("domains".into(), Value::from(config.domains.clone())),
            (
                "database".into(),
                text(match config.database {
                    Database::Postgres => "postgres",
                    Database::Sqlite => "sqlite",
                    Database::External => "external",
                }),
            ),
            ("plain_env".into(), Value::from(self.plain_env())),
            ("web_workers".into(), Value::from(config.web.workers.unwrap_or(0))),
            ("timeout_s".into(), Value::from(config.web.timeout_s)),
            ("start_timeout_s".into(), Value::from(config.web.boot_timeout_s)),
            ("max_upload_mb".into(), Value::from(config.web.max_upload_mb)),
            ("workers".into(), Value::from(workers)),
            ("volume_device".into(), Value::from(self.volume.clone())),
            ("mounts".into(), Value::from(mounts(config))),
            ("django_root".into(), Value::from(root)),
            ("wsgi".into(), text(&config.django.wsgi)),
            (
                "static".into(),
                served(
                    layout.static_url.as_deref(),
                    layout.static_root.as_deref(),
                    &format!("{home}/static"),
                ),
            ),
            (
                "media".into(),
                served(
                    layout.media_url.as_deref(),
                    layout.media_root.as_deref(),
                    &format!("{home}/shared/media"),
                ),
            ),
        ])
    }

    /// The environment that `ship.yml` and the usual habits give the site; `env:` has the last word.
    fn plain_env(&self) -> Vec<Value> {
        let config = &self.config;
        let hosts = if config.domains.is_empty() { "*".to_string() } else { config.domains.join(",") };
        let origins: Vec<String> = config
            .domains
            .iter()
            .flat_map(|domain| [format!("https://{domain}"), format!("http://{domain}")])
            .collect();
        let mut env: BTreeMap<String, String> = BTreeMap::from([
            ("DJANGO_SETTINGS_MODULE".into(), config.django.settings.clone()),
            ("DEBUG".into(), "False".into()),
            ("DJANGO_DEBUG".into(), "False".into()),
            ("ALLOWED_HOSTS".into(), hosts.clone()),
            ("DJANGO_ALLOWED_HOSTS".into(), hosts),
            ("PORT".into(), PORT.to_string()),
            ("PYTHONUNBUFFERED".into(), "1".into()),
            ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
            ("LC_ALL".into(), "C.UTF-8".into()),
        ]);
        if !origins.is_empty() {
            env.insert("CSRF_TRUSTED_ORIGINS".into(), origins.join(","));
        }
        env.extend(config.env.clone());
        env.into_iter().map(|(name, value)| Value::from_pairs([("name", name), ("value", value)])).collect()
    }
}

/// What is kept on the data volume, if there is one: a folder of it, and where the server wants it.
fn mounts(config: &Config) -> Vec<Value> {
    let mount = |folder: &str, at: String| {
        // A mount unit is named after its path: slashes become dashes, and dashes `\x2d`.
        let unit = at.trim_start_matches('/').replace('-', "\\x2d").replace('/', "-");
        Value::from_pairs([("unit", format!("{unit}.mount")), ("folder", folder.to_string()), ("at", at)])
    };
    let mut mounts = vec![mount("shared", format!("/srv/{}/shared", config.app))];
    if config.database == Database::Postgres {
        mounts.push(mount("postgresql", "/var/lib/postgresql".into()));
    }
    mounts
}

/// What nginx serves by itself: a URL and the folder behind it.
fn served(url: Option<&str>, root: Option<&str>, shared: &str) -> Value {
    let (Some(url), Some(root)) = (url, root) else {
        return Value::from_pairs([("location", Value::from(())), ("alias", Value::from(()))]);
    };
    let folder = if root.starts_with('/') { root.trim_end_matches('/') } else { shared };
    let slash = |path: &str| format!("{}/", path.trim_end_matches('/'));
    Value::from_pairs([("location", slash(url)), ("alias", slash(folder))])
}

fn custom_playbook(project: &Path, reference: &PlaybookRef, assets: &Assets) -> Result<Asset, Failure> {
    match reference {
        PlaybookRef::Builtin(name) => assets.playbook(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = assets.playbook_names().collect();
            Failure::input(format!("there is no playbook `{name}`")).hint(format!(
                "there are {}; a file is named with its path, ./ops/{name}.yml",
                known.join(", ")
            ))
        }),
        PlaybookRef::File(path) => std::fs::read_to_string(project.join(path))
            .map(|text| Asset { origin: path.clone(), text })
            .map_err(|error| Failure::input(format!("can't read the playbook {path}: {error}"))),
    }
}

fn diff_failure(error: DiffError) -> Failure {
    match error {
        DiffError::Template(error) => template_failure(&error),
        other @ DiffError::InTheWay { .. } => Failure::failed(other.to_string()),
    }
}

fn release_failure(error: ReleaseError) -> Failure {
    match error {
        ReleaseError::Template(error) => template_failure(&error),
        ReleaseError::MissingSecrets(names) => {
            let noun = if names.len() == 1 { "secret" } else { "secrets" };
            let verb = if names.len() == 1 { "is" } else { "are" };
            let set: Vec<String> = names.iter().map(|name| format!("{name}=…")).collect();
            Failure::input(format!("{noun} {} {verb} not set on the server", names.join(", ")))
                .hint(format!("ship config set {}", set.join(" ")))
        }
        error @ ReleaseError::Python { .. } => Failure::input(error.to_string())
            .hint("ask for the version that the server has, or take an image that has the one you want"),
        error @ ReleaseError::NoSpace { .. } => {
            Failure::failed(error.to_string()).hint("nothing was changed").hint(FULL_HINT)
        }
        error @ ReleaseError::NoInodes { .. } => Failure::failed(error.to_string())
            .hint("nothing was changed")
            .hint("look where they are with `ship ssh -- du -x --inodes -d 3 / | sort -n | tail`"),
    }
}

/// One probe over the connection.
pub async fn probe(session: &Session, asks: &BTreeSet<Ask>) -> Result<Facts, Failure> {
    let script = facts::probe_script(asks);
    let output = session.exec(&script, Bytes::new()).await?;
    let text = output.stdout_text();
    facts::parse(asks, &text).map_err(|error| Failure::failed(error.to_string()).detail(output.stderr_text()))
}

/// Has Django itself tell what the migrations of a plan do, where a release is live that can be asked.
pub async fn preview(
    session: &Session,
    desired: &Desired,
    project: &Path,
    facts: &Facts,
    planned: &mut Planned,
) -> Result<(), Failure> {
    let source = &desired.source;
    let Some(release) = &planned.release else { return Ok(()) };
    let Some(question) = preview::preview(&desired.config, source, &facts.app, release) else {
        return Ok(());
    };
    let packed = crate::source::pack(project, &source.tree, &question.send)?;
    let packed = std::fs::read(packed.path())
        .map_err(|error| Failure::failed(format!("can't read the packed files: {error}")))?;
    let output = session.exec(&question.script, packed.into()).await?;
    preview::show(&mut planned.plan, preview::parse(&output.stdout_text(), output.success()));
    Ok(())
}

/// What an apply came to.
enum Applied {
    Done,
    /// Django answered otherwise than planned: plan again.
    Answered,
    /// Someone else applied in between: plan again.
    Overtaken,
}

/// Makes it so: plans, asks, applies, verifies; as often as Django's answers make it necessary.
///
/// `agreed` is a plan that the user has seen and said yes to already; `wait` for somebody else's apply to end.
pub async fn up(
    session: &Session,
    desired: &Desired,
    project: &Path,
    agreed: Option<&Plan>,
    wait: bool,
    ui: &Ui,
) -> Result<Outcome, Failure> {
    let asks = desired.asks()?;
    let mut confirmed = agreed.is_some();
    let mut shown = agreed;
    let mut outcome = Outcome::default();
    // A first deploy has two rounds, a redeploy one; more means that something never settles.
    for _ in 0..5 {
        ui.working("looking at the server");
        let facts = settled(session, &asks, desired.config(), wait, ui).await?;
        let planned = desired.plan(&facts)?;
        if planned.plan.is_empty() {
            outcome.live = facts.app.current;
            return Ok(outcome);
        }
        match shown.take() {
            Some(shown) => ui.plan_rest(&planned.plan, shown),
            None => ui.plan(&planned.plan, ui.is_json() || ui.verbose()),
        }
        let only_release = planned.plan.changes.iter().all(|change| change.id.kind == "release");
        if !confirmed && !only_release && !ui.confirm("Apply this?")? {
            return Err(Failure::failed("nothing was changed"));
        }
        confirmed = true;
        outcome.changes += planned.plan.changes.len();
        match apply(session, desired, &facts, &planned, project, ui).await? {
            Applied::Done => {}
            Applied::Answered => continue,
            Applied::Overtaken => {
                // Somebody else's deploy makes another plan of it, which nobody has seen yet.
                confirmed = false;
                continue;
            }
        }
        ui.working("verifying");
        let after = probe(session, &asks).await?;
        let left = desired.plan(&after)?;
        outcome.live = after.app.current;
        if left.plan.is_empty() {
            return Ok(outcome);
        }
        return Err(Failure::failed("the server still differs after everything was applied")
            .detail(left.plan.to_text(true))
            .hint("something on the server undoes what ship does; `ship plan -v` shows the differences"));
    }
    Err(Failure::failed("the plan never settles: each look at the server finds something new")
        .hint("does another deploy run all the time?"))
}

/// Restarts the live release with the environment as it is now, as a release of its own.
pub async fn restart_with_config(
    session: &Session,
    desired: &Desired,
    project: &Path,
    what: &str,
    ui: &Ui,
) -> Result<Option<u32>, Failure> {
    let asks = release::asks(&desired.config, &desired.source.tree).into_iter().collect();
    for _ in 0..3 {
        let facts = settled(session, &asks, &desired.config, true, ui).await?;
        let vars = desired.vars(&Layout::usual());
        let context = Context {
            config: &desired.config,
            source: &desired.source,
            templates: &desired.templates,
            vars: &vars,
        };
        let changes = release::config_change(&context, &facts, what).map_err(release_failure)?;
        let planned = Planned { plan: Plan { changes }, release: None };
        match apply(session, desired, &facts, &planned, project, ui).await? {
            Applied::Done => return Ok(Some(facts.app.next_number())),
            Applied::Overtaken => {}
            Applied::Answered => {
                return Err(Failure::failed(
                    "Django answers otherwise with this config than the live release did",
                )
                .hint("`ship up` puts it live together with what depends on it"));
            }
        }
    }
    Err(Failure::failed("other deploys come in between all the time").hint("try again when they are done"))
}

/// What is live, in messages.
fn live_name(app: &App) -> String {
    app.current.map_or_else(|| "no release".into(), |number| format!("v{number}"))
}

/// What `up` did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Number of changes made.
    pub changes: usize,
    /// The release that is live.
    pub live: Option<u32>,
}

impl Outcome {
    /// Whether the site is there for the first time: the moment to speak of its names.
    pub fn is_news(&self) -> bool {
        self.changes > 0 && self.live == Some(1)
    }
}

/// Probes until no other apply runs, following the one that does.
async fn settled(
    session: &Session,
    asks: &BTreeSet<Ask>,
    config: &Config,
    wait: bool,
    ui: &Ui,
) -> Result<Facts, Failure> {
    loop {
        let facts = probe(session, asks).await?;
        let Some(running) = &facts.app.applying else { return Ok(facts) };
        if running.id.is_empty() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            continue;
        }
        if !wait {
            return Err(Failure::failed(running.to_string())
                .hint("without --no-wait, `ship up` follows it and goes on from there"));
        }
        ui.note(&format!("{running}; following it"));
        let script = attach_script(&config.app, &running.id, 0);
        let mut follower = Follower::new(ui);
        session.stream(Exec::as_root(&script), &mut |stream, piece| follower.take(stream, piece)).await?;
        ui.idle();
    }
}

async fn apply(
    session: &Session,
    desired: &Desired,
    facts: &Facts,
    planned: &Planned,
    project: &Path,
    ui: &Ui,
) -> Result<Applied, Failure> {
    let bundle = bundle(&planned.plan);
    let packed = pack_bundle(&bundle, &desired.assets)?;
    let send = planned.release.as_ref().and_then(|release| release.upload.as_ref()).map(|delta| &delta.send);
    let upload = match send.filter(|send| !send.is_empty()) {
        Some(paths) => Some(crate::source::pack(project, &desired.source.tree, paths)?),
        None => None,
    };
    let id = format!("{}-{}", jiff::Timestamp::now().as_millisecond(), std::process::id());
    let launch = Launch {
        app: desired.config.app.clone(),
        id: id.clone(),
        generation: facts.app.generation,
        who: desired.source.who.clone(),
        bundle_bytes: packed.len(),
        upload: upload.is_some(),
    };
    let script = launch_script(&launch);
    let mut follower = Follower::new(ui);
    let mut stderr = Vec::new();
    let streamed = {
        let mut on_output = |stream: Stream, piece: &[u8]| {
            if stream == Stream::Err {
                stderr.extend_from_slice(piece);
            }
            follower.take(stream, piece)
        };
        let mut input;
        let stdin = match &upload {
            Some(file) => {
                let opened = file
                    .reopen()
                    .map_err(|error| Failure::failed(format!("can't read the upload back: {error}")))?;
                input = std::io::Cursor::new(packed).chain(tokio::fs::File::from_std(opened));
                Stdin::Stream(&mut input)
            }
            None => Stdin::Bytes(Bytes::from(packed)),
        };
        let work = session.stream(Exec::as_root(&script).stdin(stdin), &mut on_output);
        let stop = stop_script(&launch.app, &id);
        interruptible(work, session.exec(&stop, Bytes::new()), ui).await
    };
    ui.idle();
    let (streamed, asked) = match streamed {
        Watched::Ended { work, asked } => (work, asked),
        Watched::Left { heard } => return Err(left(&follower, heard)),
    };
    match (follower.end.take(), streamed) {
        (Some(End::Stopped), _) => Err(halted(&follower, &planned.plan)),
        (Some(end), _) => match ended(end, &follower, planned, facts.app.current)? {
            Applied::Done => Ok(Applied::Done),
            // The next round would be a step that the user does not want.
            Applied::Answered | Applied::Overtaken if asked => Err(halted(&follower, &planned.plan)),
            again @ (Applied::Answered | Applied::Overtaken) => Ok(again),
        },
        (None, Err(error)) if follower.began => Err(Failure::from(error)
            .hint("the server finishes its step by itself; `ship up` follows it or carries on")),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) if follower.began => Err(stopped(session, &follower).await),
        (None, Ok(_)) => {
            Err(not_started(&format!("{}{}", follower.tail(), String::from_utf8_lossy(&stderr))))
        }
    }
}

/// How work on the server ended for the user who watched it.
enum Watched<T> {
    /// By itself; `asked` if Ctrl-C asked for its end.
    Ended { work: T, asked: bool },
    /// A second Ctrl-C left it to itself; `heard` if the server knows of the first.
    Left { heard: bool },
}

/// Watches work on the server: the first Ctrl-C asks the server to stop after its step, the second leaves.
async fn interruptible<T>(
    work: impl Future<Output = T>,
    stop: impl Future<Output = Result<Output, TransportError>>,
    ui: &Ui,
) -> Watched<T> {
    let mut guard = ui.interrupts().guard();
    tokio::pin!(work, stop);
    tokio::select! {
        work = &mut work => return Watched::Ended { work, asked: false },
        () = guard.next() => {}
    }
    ui.note("stopping after this step; Ctrl-C again leaves at once");
    let mut heard = None;
    loop {
        tokio::select! {
            work = &mut work => return Watched::Ended { work, asked: true },
            answer = &mut stop, if heard.is_none() => {
                heard = Some(answer.is_ok_and(|output| output.success()));
            }
            () = guard.next() => return Watched::Left { heard: heard == Some(true) },
        }
    }
}

/// What is said when the server stopped between two steps.
fn halted(follower: &Follower<'_>, plan: &Plan) -> Failure {
    let next = follower.step().map_or(0, |index| index + 1);
    let hint = match plan.changes.get(next) {
        Some(change) => format!("`ship up` carries on with `{}`", change.title()),
        None => "`ship up` carries on".to_string(),
    };
    let message = match follower.step() {
        Some(_) => format!("stopped after `{}`", follower.current()),
        None => "stopped before the first step".to_string(),
    };
    Failure::new(Exit::Interrupted, message).hint(hint)
}

/// What is said when the user leaves while the server works.
fn left(follower: &Follower<'_>, heard: bool) -> Failure {
    let message = match (follower.began, heard) {
        // Its first words were still on their way.
        (false, true) => "left; the server finishes the step that it is at and stops there".to_string(),
        (false, false) => "left before the server began".to_string(),
        (true, true) => format!("left; the server finishes `{}` and stops there", follower.current()),
        (true, false) => format!(
            "left; the server has not heard that it should stop: it finishes `{}` and all that follows",
            follower.current()
        ),
    };
    Failure::new(Exit::Interrupted, message)
        .hint("`ship up` follows it or carries on; `ship status` shows it")
}

/// Why an apply never began.
fn not_started(said: &str) -> Failure {
    if said.contains("No space left on device") {
        return Failure::failed("the server's disk is full: it could not begin")
            .detail(said)
            .hint("nothing was changed")
            .hint(FULL_HINT);
    }
    Failure::failed("the server could not start to apply").detail(said)
}

/// Why an apply ended without a word: a full disk can't even hold the end of the journal.
async fn stopped(session: &Session, follower: &Follower<'_>) -> Failure {
    let script = Script::from_text(
        "df -Pk /var/lib/ship /srv | awk 'NR > 1 && $4 < 1024 { full = 1 } END { exit !full }'",
    );
    let full = session.exec(&script, Bytes::new()).await.is_ok_and(|output| output.success());
    let current = follower.current();
    if full {
        return Failure::failed(format!("`{current}` failed: the server's disk is full"))
            .detail(follower.tail())
            .hint(FULL_HINT);
    }
    Failure::failed(format!("the server stopped in the middle of `{current}`"))
        .detail(follower.tail())
        .hint("was it rebooted, or did it run out of memory? `ship up` carries on")
}

fn ended(
    end: End,
    follower: &Follower<'_>,
    planned: &Planned,
    live: Option<u32>,
) -> Result<Applied, Failure> {
    match end {
        End::Code(0) => Ok(Applied::Done),
        End::Code(code) if code == release::ANSWER_DIFFERS && follower.answer_differs => {
            Ok(Applied::Answered)
        }
        End::Busy | End::Stale | End::Stopped => Ok(Applied::Overtaken),
        End::Code(code) => {
            let of_release = follower
                .step()
                .and_then(|index| planned.plan.changes.get(index))
                .is_some_and(|change| change.id.kind == "release");
            let why =
                follower.said_why().map_or_else(|| format!(" (exit {code})"), |cause| format!(": {cause}"));
            let failure =
                Failure::failed(format!("`{}` failed{why}", follower.current())).detail(follower.tail());
            let failure = follower.said(HINT).fold(failure, Failure::hint);
            let switched = follower.step().and_then(|index| planned.plan.changes.get(..index));
            let switched =
                switched.into_iter().flatten().any(|change| change.id.name.starts_with("switch to"));
            Err(match (of_release, live) {
                (true, Some(_)) if switched => failure.hint("the new release serves; `ship status` shows it"),
                (true, Some(live)) => failure.hint(format!(
                    "the site is as it was: v{live} serves; mend the cause and run `ship up` again"
                )),
                (true, None) => failure.hint("mend the cause and run `ship up` again"),
                (false, _) => {
                    failure.hint("`ship up` carries on from here; -v shows all that the steps print")
                }
            })
        }
    }
}

/// The step that an apply is at.
struct Current {
    step: String,
    title: String,
    at_ms: u64,
}

/// Reads an apply's journal into progress.
struct Follower<'a> {
    reader: JournalReader,
    ui: &'a Ui,
    current: Option<Current>,
    lines: Vec<String>,
    began: bool,
    answer_differs: bool,
    end: Option<End>,
}

impl<'a> Follower<'a> {
    fn new(ui: &'a Ui) -> Self {
        Self {
            reader: JournalReader::default(),
            ui,
            current: None,
            lines: Vec::new(),
            began: false,
            answer_differs: false,
            end: None,
        }
    }

    fn current(&self) -> String {
        self.current.as_ref().map_or_else(|| "the first step".into(), |current| current.title.clone())
    }

    /// The index of the current step's change.
    fn step(&self) -> Option<usize> {
        self.current.as_ref()?.step.parse::<usize>().ok()?.checked_sub(1)
    }

    /// The last lines of the current step.
    fn tail(&self) -> String {
        let shown: Vec<&str> =
            self.lines.iter().map(String::as_str).filter(|line| !is_for_the_message(line)).collect();
        let from = shown.len().saturating_sub(30);
        shown.get(from..).unwrap_or_default().join("\n")
    }

    /// What the current step said with this beginning.
    fn said(&self, beginning: &'static str) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(move |line| line.strip_prefix(beginning))
    }

    /// Why the current step failed: in its own words, or in those of the tool that it ran.
    fn said_why(&self) -> Option<String> {
        self.said(CAUSE).last().map(str::to_string).or_else(|| cause(&self.lines))
    }

    fn take(&mut self, stream: Stream, piece: &[u8]) -> Flow {
        if stream == Stream::Err {
            return Flow::Continue;
        }
        for event in self.reader.push(piece) {
            match event {
                Event::Begin => self.began = true,
                Event::Start { step, title, at_ms } => {
                    self.ui.step_start(&title);
                    self.current = Some(Current { step, title, at_ms });
                    self.lines.clear();
                }
                Event::Output(line) => {
                    match (line.strip_prefix("ship: "), line.strip_prefix(NOTE)) {
                        (Some(advice), _) => self.ui.warn(advice),
                        (_, Some(note)) => self.ui.note(note),
                        (None, None) if is_for_the_message(&line) => {}
                        (None, None) => self.ui.step_output(&line),
                    }
                    self.lines.push(line);
                }
                Event::Done { step, code, at_ms } => {
                    let (title, began) = match &self.current {
                        Some(current) => (current.title.clone(), current.at_ms),
                        None => (step, at_ms),
                    };
                    let again = code == release::ANSWER_DIFFERS && title.starts_with("ask Django");
                    let took = Duration::from_millis(at_ms.saturating_sub(began));
                    self.ui.step_done(&title, took, code == 0 || again);
                    self.answer_differs = again;
                }
                Event::End(end) => {
                    self.end = Some(end);
                    return Flow::Stop;
                }
            }
        }
        Flow::Continue
    }
}

/// Whether a line is no output, but part of the message that a failure ends with.
fn is_for_the_message(line: &str) -> bool {
    [CAUSE, HINT, NOTE].iter().any(|beginning| line.starts_with(beginning))
}

/// The bundle as the archive that the server unpacks.
fn pack_bundle(bundle: &Bundle, assets: &Assets) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("can't pack the steps: {error}"));
    let runner = assets.template("apply.sh").map(|asset| asset.text.clone()).unwrap_or_default();
    let mut files =
        vec![("run".to_string(), runner.into_bytes()), ("order".to_string(), order(bundle).into_bytes())];
    let pending: String = bundle.units.iter().map(|unit| format!("{unit}\n")).collect();
    files.push(("pending".to_string(), pending.into_bytes()));
    files.extend(bundle.steps.iter().map(|step| (format!("steps/{}", step.id), step.script.text().into())));
    files.extend(bundle.data.iter().map(|(name, bytes)| (format!("data/{name}"), bytes.clone())));
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(0);
        archive.append_data(&mut header, path, bytes.as_slice()).map_err(failed)?;
    }
    archive.into_inner().and_then(flate2::write::GzEncoder::finish).map_err(failed)
}
