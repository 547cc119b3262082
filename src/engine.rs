//! lock → probe → plan → confirm → apply → verify, over one connection.
//!
//! The decisions are elsewhere and pure; here they are put in order and carried to the server and back.

mod certificate;
mod database;
mod login;
mod restart;
mod rollback;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minijinja::Value;
use tokio::io::AsyncReadExt as _;

use crate::apply::{
    Bundle, End, Event, JournalReader, Launch, attach_script, bundle, cause, launch_script, order,
    step_files, stop_script,
};
use crate::assets::{Asset, Assets, template_failure};
use crate::config::{Config, Database, PlaybookRef};
use crate::error::{Exit, Failure};
use crate::facts::app::App;
use crate::facts::host::Host;
use crate::facts::{self, Ask, Facts};
use crate::guard;
use crate::plan::{Change, Plan, ResourceId};
use crate::playbook::{self, PlaybookError, Templates, Vars};
use crate::project::libraries;
use crate::project::settings::Need;
use crate::release::builds;
use crate::release::gates::{ASKING, CAUSE, HINT, NOTE};
use crate::release::place::PlaceError;
use crate::release::preview;
use crate::release::{self, Context, Layout, Release, ReleaseError, Source, secret_file};
use crate::resources::package::Package;
use crate::resources::{self, DiffError, Resource};
use crate::shell::Script;
use crate::tls;
use crate::transport::{Exec, Flow, Output, Session, Stdin, Stream, Talk, TransportError};
use crate::ui::Ui;

use self::certificate::OwnCertificate;
pub use self::database::change_database;
pub use self::restart::restart;
pub use self::rollback::{RolledBack, Wish, rollback};

/// What helps against a full disk.
const FULL_HINT: &str = "look what fills it with `ship ssh -- df -h` and `ship ssh -- du -xsh /var/* /srv/*`";

/// An upload up to so many bytes goes with the steps, without waiting for them to be read: that saves a round trip.
const AT_ONCE: u64 = 1 << 20;

/// Begins a line of a step that is worth a second look.
const ADVICE: &str = "ship: ";

/// Everything known before the server is asked.
#[derive(Clone)]
pub struct Desired {
    config: Config,
    source: Source,
    assets: Assets,
    templates: Arc<Templates>,
    custom: Vec<Asset>,
    volume: Option<String>,
    addresses: Vec<IpAddr>,
    certificate: OwnCertificate,
    names_move: bool,
}

/// What there is to do.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The release in it, if one is due.
    pub release: Option<Release>,
    /// How it is with HTTPS.
    pub tls: tls::State,
}

impl Desired {
    /// Reads what the configuration names.
    pub fn new(project: &Path, config: Config, source: Source, assets: Assets) -> Result<Self, Failure> {
        let templates = Arc::new(assets.templates()?);
        let custom = config.playbooks.iter().map(|reference| custom_playbook(project, reference, &assets));
        let custom = custom.collect::<Result<_, _>>()?;
        let certificate = OwnCertificate::read(project, &config)?;
        Ok(Self {
            config,
            source,
            assets,
            templates,
            custom,
            volume: None,
            addresses: Vec::new(),
            certificate,
            names_move: false,
        })
    }

    /// Says under which addresses the world reaches the server: it may not know them itself.
    pub fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.addresses = addresses.into_iter().collect();
    }

    /// Says where the server finds the data volume: a path below `/dev`.
    pub fn set_volume(&mut self, device: Option<String>) {
        self.volume = device;
    }

    /// Says whether the records of the names are being changed, so that it is too early to ask where they lead.
    pub fn set_names_move(&mut self, move_now: bool) {
        self.names_move = move_now;
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everything that one probe must learn.
    pub fn asks(&self) -> Result<BTreeSet<Ask>, Failure> {
        let vars = self.vars(&Layout::usual(), &tls::State::default(), None);
        let mut asks: BTreeSet<Ask> = release::asks(&self.config, &self.source.tree).into_iter().collect();
        asks.extend(self.certificate_question());
        for part in self.resources(&vars)? {
            asks.extend(part.iter().flat_map(|resource| resource.asks()));
        }
        asks.extend(self.builtin("schedule", &vars)?.iter().flat_map(|resource| resource.asks()));
        asks.extend(self.builtin("backups", &vars)?.iter().flat_map(|resource| resource.asks()));
        Ok(asks)
    }

    /// What must be known of the certificate.
    pub fn certificate_question(&self) -> Option<Ask> {
        tls::question(&self.config, &self.addresses, !self.names_move).map(Ask::Certificate)
    }

    /// How it is with HTTPS.
    pub fn tls(&self, facts: &Facts) -> tls::State {
        tls::look(&self.config, &self.addresses, &facts.certificate, self.certificate.leaf.as_ref())
    }

    /// Compares with the facts.
    pub fn plan(&self, facts: &Facts) -> Result<Planned, Failure> {
        self.plan_without(facts, &BTreeSet::new())
    }

    /// The same without what an authority was asked for already, in vain or not.
    fn plan_without(&self, facts: &Facts, tried: &BTreeSet<ResourceId>) -> Result<Planned, Failure> {
        if !facts.host.is_supported() {
            let name = if facts.host.os_name.is_empty() { "an unknown system" } else { &facts.host.os_name };
            return Err(Failure::input(format!("the server runs {name}; ship needs Debian or Ubuntu")));
        }
        if let Some(placed) = self.placed(facts)? {
            return placed.plan_without(facts, tried);
        }
        let layout = release::predicted_layout(&facts.app, &self.config, &self.source);
        let state = self.tls(facts);
        let vars = self.vars(&layout, &state, Some(&facts.host));
        let context = Context {
            config: &self.config,
            source: &self.source,
            templates: &self.templates,
            vars: &vars,
            https: state.is_served(),
            https_soon: state.is_served() || state.due.is_some(),
        };
        let [before, after] = self.resources(&vars)?;
        let mut changes = Vec::new();
        resources::diff_into(&mut changes, &before, facts).map_err(diff_failure)?;
        let (release_changes, release) = release::plan(&context, facts, &changes).map_err(release_failure)?;
        let mut site = changes.clone();
        resources::diff_into(&mut site, &after, facts).map_err(diff_failure)?;
        let mut site = site.split_off(changes.len());
        let untried = |change: &Change| !tried.contains(&change.id);
        let due: Vec<Change> = tls::changes(&self.config, &state).into_iter().filter(untried).collect();
        // Where nothing of the site is in the way, the certificate comes first: the release then starts with HTTPS on.
        let first = !due.is_empty() && (facts.app.live().is_none() || site.is_empty());
        site.extend(due);
        if first {
            changes.extend(site);
            changes.extend(release_changes);
        } else {
            changes.extend(release_changes);
            changes.extend(site);
        }
        // Packages of the second half join the one transaction of the first.
        let mut changes = resources::package::merge(changes, &facts.broken_packages);
        if let Some(release) = &release {
            let finish = release::finish(&context, facts, release, &changes).map_err(release_failure)?;
            changes.extend(finish);
        }
        // After the switch: a job of this release never runs another one's code.
        resources::diff_into(&mut changes, &self.builtin("schedule", &vars)?, facts).map_err(diff_failure)?;
        changes.extend(release::processes::removed_jobs(&self.config, &facts.app));
        resources::diff_into(&mut changes, &self.builtin("backups", &vars)?, facts).map_err(diff_failure)?;
        changes.extend(tls::trial(&self.config, &state).into_iter().filter(untried));
        release::protection::tell_of_ports(&self.config, &facts.host, &mut changes);
        let changes = guard::guarded(changes, &self.config.app);
        Ok(Planned { plan: Plan { changes }, release, tls: state })
    }

    /// The same with the port that the server has for this site, if it is another.
    fn placed(&self, facts: &Facts) -> Result<Option<Self>, Failure> {
        let port = release::place::port(&self.config, facts).map_err(place_failure)?;
        if port == self.config.port {
            return Ok(None);
        }
        let mut placed = self.clone();
        placed.config.port = port;
        Ok(Some(placed))
    }

    /// What of the server itself is not as it should be, as lines of a plan; releases are another matter.
    pub fn drift(&self, facts: &Facts) -> Result<Vec<String>, Failure> {
        if let Some(placed) = self.placed(facts)? {
            return placed.drift(facts);
        }
        let layout = release::predicted_layout(&facts.app, &self.config, &self.source);
        let vars = self.vars(&layout, &self.tls(facts), Some(&facts.host));
        let [before, after] = self.resources(&vars)?;
        let mut changes = Vec::new();
        let late = [after, self.builtin("schedule", &vars)?, self.builtin("backups", &vars)?];
        for part in std::iter::once(before).chain(late) {
            resources::diff_into(&mut changes, &part, facts).map_err(diff_failure)?;
        }
        Ok(changes.iter().map(|change| format!("{}: {}", change.title(), change.why)).collect())
    }

    /// Compares with a server that is yet to be made, as far as it can be foretold.
    pub fn plan_for_new(&self, host: Host) -> Result<Plan, Failure> {
        let mut facts = Facts { host, ..Facts::default() };
        // Nothing is there that could be taken away.
        let ended = ["backup", "drill"].map(|name| (format!("end the {name} by the clock"), true));
        facts.checks.extend(ended);
        // Secrets can be set only once there is a server; whether they are is asked then.
        let needs = self.source.settings.needs().into_iter().map(|need| need.name);
        let names = self.config.secrets.iter().cloned().chain(needs);
        facts.app.config = names.map(|name| (secret_file(&name), String::new())).collect();
        Ok(self.plan(&facts)?.plan)
    }

    /// Resources before the release is built, and those that depend on Django's answer.
    fn resources(&self, vars: &Vars) -> Result<[Vec<Box<dyn Resource>>; 2], Failure> {
        let mut before = match self.volume {
            Some(_) => self.builtin("volume", vars)?,
            None => Vec::new(),
        };
        before.extend(self.builtin("base", vars)?);
        before.extend(self.builtin("hardening", vars)?);
        before.extend(self.builtin("python", vars)?);
        before.extend(self.libraries());
        match self.config.database {
            Database::Postgres => before.extend(self.builtin("postgres", vars)?),
            Database::Sqlite => before.extend(self.builtin("sqlite", vars)?),
            Database::Mysql => before.extend(self.builtin("mysql", vars)?),
            Database::External => {}
        }
        for service in self.config.services.keys() {
            if !self.config.playbooks.contains(&PlaybookRef::Builtin(service.name().into())) {
                before.extend(self.builtin(service.name(), vars)?);
            }
        }
        for asset in &self.custom {
            before.extend(self.read(asset, vars)?);
        }
        before.extend(self.builtin("django", vars)?);
        let files = self.source.files.iter().cloned();
        before.extend(files.map(|file| Box::new(file) as Box<dyn Resource>));
        before.extend(self.builtin("tls", vars)?);
        before.extend(self.certificate.resources(&self.config));
        Ok([before, self.builtin("nginx", vars)?])
    }

    /// System packages that the project's Python packages need.
    fn libraries(&self) -> Vec<Box<dyn Resource>> {
        let extra = release::extra_packages(&self.config, &self.source.packages);
        let needed = libraries::needed(&self.source.packages, self.config.django.geodjango, &extra);
        let node = if self.config.node.is_some() { &["nodejs", "npm"][..] } else { &[] };
        let node = node.iter().map(|name| -> Box<dyn Resource> {
            Box::new(Package { name: (*name).into(), installed: true, why: "builds the front end".into() })
        });
        let resource = |(name, needed_by): (String, Vec<String>)| -> Box<dyn Resource> {
            Box::new(Package { name, installed: true, why: format!("{} needs it", needed_by.join(", ")) })
        };
        let restic = self.config.backups.iter().map(|_| -> Box<dyn Resource> {
            Box::new(Package { name: "restic".into(), installed: true, why: "takes the backups".into() })
        });
        needed.into_iter().map(resource).chain(node).chain(restic).collect()
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
    fn vars(&self, layout: &Layout, state: &tls::State, host: Option<&Host>) -> Vars {
        let config = &self.config;
        let app = &config.app;
        let home = format!("/srv/{app}");
        let text = |text: &str| Value::from(text);
        let root = config.django.suffix();
        let workers: Vec<Value> =
            config.workers.iter().map(|(name, worker)| release::worker_item(name, worker)).collect();
        let extensions = release::extensions::extensions(config, &self.source);
        let gis = extensions.iter().any(|extension| extension.name == "postgis");
        let extensions: Vec<Value> = extensions
            .into_iter()
            .map(|one| Value::from_pairs([("name", one.name), ("package", one.package.to_owned())]))
            .collect();
        let mut vars = release::processes::vars(config);
        vars.extend(tls::vars(config, state, self.certificate.ca.as_deref(), host, host.is_none()));
        vars.extend(release::backups::library_vars(config));
        vars.extend(Vars::from([
            ("extensions".into(), Value::from(extensions)),
            ("backups".into(), release::backups::vars(config)),
            ("brotli".into(), Value::from(packs_with_brotli(&self.source))),
            ("database_scheme".into(), text(database_scheme(config.database, gis))),
            ("database_why".into(), text(&config.database_why)),
            ("app".into(), text(app)),
            ("user".into(), text(app)),
            ("build_user".into(), Value::from(format!("{app}-build"))),
            ("home".into(), text(&home)),
            ("port".into(), Value::from(config.port)),
            ("domains".into(), Value::from(config.domains.clone())),
            ("database".into(), text(release::overlay::database_word(config.database))),
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
        ]));
        vars
    }

    /// The environment that `ship.yml` and the usual habits give the site; `env:` has the last word.
    fn plain_env(&self) -> Vec<Value> {
        let config = &self.config;
        let hosts = if config.domains.is_empty() { "*".to_string() } else { config.domains.join(",") };
        let origins: Vec<String> = config
            .domains
            .iter()
            .flat_map(|domain| {
                let plain = (!config.tls.is_on()).then(|| format!("http://{domain}"));
                std::iter::once(format!("https://{domain}")).chain(plain)
            })
            .collect();
        let mut env: BTreeMap<String, String> = BTreeMap::from([
            ("DJANGO_SETTINGS_MODULE".into(), config.django.settings.clone()),
            ("DEBUG".into(), "False".into()),
            ("DJANGO_DEBUG".into(), "False".into()),
            ("ALLOWED_HOSTS".into(), hosts.clone()),
            ("DJANGO_ALLOWED_HOSTS".into(), hosts),
            ("PORT".into(), config.port.to_string()),
            ("PYTHONUNBUFFERED".into(), "1".into()),
            ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
            ("LC_ALL".into(), "C.UTF-8".into()),
        ]);
        if !origins.is_empty() {
            env.insert("CSRF_TRUSTED_ORIGINS".into(), origins.join(","));
        }
        env.extend(config.service_variables.clone());
        env.extend(config.env.clone());
        env.into_iter().map(|(name, value)| Value::from_pairs([("name", name), ("value", value)])).collect()
    }
}

/// Whether the project has what WhiteNoise packs files with brotli by.
fn packs_with_brotli(source: &Source) -> bool {
    source.packages.inputs.iter().any(|(_, text)| text.to_lowercase().contains("brotli"))
}

/// What the URL of a database on the server begins with.
fn database_scheme(database: Database, gis: bool) -> &'static str {
    match (database, gis) {
        (Database::Mysql, true) => "mysqlgis",
        (Database::Mysql, false) => "mysql",
        (Database::Postgres | Database::Sqlite | Database::External, true) => "postgis",
        (Database::Postgres | Database::Sqlite | Database::External, false) => "postgres",
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
    match config.database {
        Database::Postgres => mounts.push(mount("postgresql", "/var/lib/postgresql".into())),
        Database::Mysql => mounts.push(mount("mysql", "/var/lib/mysql".into())),
        Database::Sqlite | Database::External => {}
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

fn place_failure(error: PlaceError) -> Failure {
    let failure = Failure::input(error.to_string());
    match error {
        PlaceError::Taken { .. } => failure.hint("leave `port` out, and ship takes a free one"),
        PlaceError::OtherUser { .. } | PlaceError::OtherDatabase { .. } => failure
            .hint("the site needs its own: take another name, `app: …` in ship.yml")
            .hint("docs/from-a-server.md says how the data of a site that runs there moves"),
        PlaceError::OtherEnvironment { app, is, .. } => failure
            .hint(format!("two environments on one server need two names: `app: {app}-…` in one of them"))
            .hint(format!(
                "if {is} was only renamed: `ship ssh -- sudo rm /etc/ship/{app}/environment`, and `ship up` again"
            )),
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
        ReleaseError::MissingFiles(names) => {
            let verb = if names.len() == 1 { "is" } else { "are" };
            Failure::input(format!("{} {verb} neither on this computer nor on the server", names.join(", ")))
                .hint("`files` of ship.yml names them: put them where it says and run `ship up` once")
        }
        ReleaseError::MissingVariables { needs, exampled } => missing_variables(&needs, &exampled),
        error @ ReleaseError::Python { .. } => Failure::input(error.to_string())
            .hint(format!("uv brings {} where the server has another", release::python::managed_range()))
            .hint("`python:` in ship.yml asks for another than the project's files; packages pinned for an older one may need newer pins"),
        error @ ReleaseError::NoSpace { .. } => {
            Failure::failed(error.to_string()).hint("nothing was changed").hint(FULL_HINT)
        }
        error @ ReleaseError::NoInodes { .. } => Failure::failed(error.to_string())
            .hint("nothing was changed")
            .hint("look where they are with `ship ssh -- du -x --inodes -d 3 / | sort -n | tail`"),
    }
}

/// Variables that the settings need, each with its place, and the command that sets them.
fn missing_variables(needs: &[Need], exampled: &[(String, String)]) -> Failure {
    let names: Vec<&str> = needs.iter().map(|need| need.name.as_str()).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    let places: Vec<String> = needs
        .iter()
        .map(|need| format!("{}:{}: the settings need {}", need.path, need.line, need.name))
        .collect();
    let set: Vec<String> = names.iter().map(|name| format!("{name}=…")).collect();
    let failure = Failure::input(format!("{} {verb} not set", names.join(", ")))
        .detail(places.join("\n"))
        .hint(format!("ship config set {}", set.join(" ")))
        .hint("what is no secret may stand in ship.yml: `env: {NAME: value}`");
    match exampled {
        [] => failure,
        [(_, file), ..] => {
            let more: Vec<&str> = exampled.iter().map(|(name, _)| name.as_str()).take(12).collect();
            failure.hint(format!("{file} also has {}", more.join(", ")))
        }
    }
}

/// One probe over the connection.
pub async fn probe(session: &Session, asks: &BTreeSet<Ask>) -> Result<Facts, Failure> {
    let script = facts::packing(&facts::probe_script(asks));
    learned(asks, &session.exec(&script, Bytes::new()).await?)
}

/// What a probe's answer says.
fn learned(asks: &BTreeSet<Ask>, output: &Output) -> Result<Facts, Failure> {
    let text = facts::unpacked(&output.stdout);
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
    /// Every step succeeded; `seen` is what the look at the outcome saw, if one was asked for and came through.
    Done { seen: Option<Box<Facts>> },
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
    let mut tried = BTreeSet::new();
    // A first deploy has two rounds, one more with its certificate, a redeploy one; more means that something never
    // settles.
    for _ in 0..6 {
        ui.working("looking at the server");
        // What the plan takes follows in the same session.
        let talk = Talk::begin(session, &facts::packing(&facts::probe_script(&asks)));
        let (output, talk) = talk.answer().await?;
        let mut facts = learned(&asks, &output)?;
        let mut talk = talk;
        if facts.app.applying.is_some() {
            hang_up(talk.take()).await;
            facts = settled(session, &asks, desired.config(), wait, ui).await?;
        }
        let planned = desired.plan_without(&facts, &tried)?;
        if planned.plan.is_empty() {
            hang_up(talk).await;
            outcome.live = facts.app.current;
            outcome.tls = planned.tls;
            return Ok(outcome);
        }
        if facts.app.current.is_none() {
            tell_what_is_left_out(desired, &facts, ui);
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
        // A release changes nothing but itself.
        let look = if only_release { facts::of_release(&asks) } else { asks.clone() };
        let seen =
            match apply(Route { session, talk, look: Some(&look) }, desired, &facts, &planned, project, ui)
                .await?
            {
                Applied::Done { seen } => seen,
                Applied::Answered => {
                    ui.note("Django's settings are other than their text let foresee: the plan is made anew");
                    continue;
                }
                Applied::Overtaken => {
                    // Somebody else's deploy makes another plan of it, which nobody has seen yet.
                    confirmed = false;
                    continue;
                }
            };
        let of_authority = |plan: &Plan| -> BTreeSet<ResourceId> {
            let ids = plan.changes.iter().map(|change| &change.id).filter(|id| id.kind == tls::KIND);
            ids.cloned().collect()
        };
        let asked = of_authority(&planned.plan);
        let again = !asked.is_empty();
        tried.extend(asked);
        let after = match seen {
            Some(seen) if only_release => facts.after_release(*seen),
            Some(seen) => *seen,
            None => {
                ui.working("verifying");
                probe(session, &asks).await?
            }
        };
        let left = desired.plan_without(&after, &tried)?;
        outcome.live = after.app.current;
        if left.plan.is_empty() {
            outcome.tls = left.tls;
            return Ok(outcome);
        }
        // What follows from a certificate is planned once it is there.
        if again || !of_authority(&left.plan).is_empty() {
            continue;
        }
        return Err(Failure::failed("the server still differs after everything was applied")
            .detail(left.plan.to_text(true))
            .hint("something on the server undoes what ship does; `ship plan -v` shows the differences"));
    }
    Err(Failure::failed("the plan never settles: each look at the server finds something new")
        .hint("does another deploy run all the time?"))
}

/// Says with a first deploy what this server can't have.
pub fn tell_what_is_left_out(desired: &Desired, facts: &Facts, ui: &Ui) {
    let left = release::protection::left_out(&desired.config, &facts.host);
    if !left.is_empty() {
        ui.note(&format!("left out on this server: {}", left.join(", ")));
    }
}

/// What became of a change of config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconfigured {
    /// It is live as this release.
    Live(u32),
    /// Django answers otherwise with it: it takes a whole deploy.
    Answered,
}

/// Restarts the live release with the environment as it is now, as a release of its own.
pub async fn restart_with_config(
    session: &Session,
    desired: &Desired,
    project: &Path,
    what: &str,
    ui: &Ui,
) -> Result<Reconfigured, Failure> {
    let asks = release::asks(&desired.config, &desired.source.tree).into_iter().collect();
    for _ in 0..3 {
        let facts = settled(session, &asks, &desired.config, true, ui).await?;
        let placed = desired.placed(&facts)?;
        let desired = placed.as_ref().unwrap_or(desired);
        let vars = desired.vars(&Layout::usual(), &tls::State::default(), None);
        let context = Context {
            config: &desired.config,
            source: &desired.source,
            templates: &desired.templates,
            vars: &vars,
            https: false,
            https_soon: false,
        };
        let changes = release::config_change(&context, &facts, what).map_err(release_failure)?;
        let planned = Planned { plan: Plan { changes }, release: None, tls: tls::State::default() };
        match apply(Route::plain(session), desired, &facts, &planned, project, ui).await? {
            Applied::Done { .. } => return Ok(Reconfigured::Live(facts.app.next_number())),
            Applied::Overtaken => {}
            Applied::Answered => return Ok(Reconfigured::Answered),
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
    /// How it is with HTTPS.
    pub tls: tls::State,
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

/// Ends a talk that nothing follows in.
async fn hang_up(talk: Option<Talk<'_>>) {
    if let Some(talk) = talk {
        talk.hang_up().await;
    }
}

/// How an apply gets to the server.
struct Route<'a> {
    session: &'a Session,
    /// The talk in which the server told what the plan was made from.
    talk: Option<Talk<'a>>,
    /// What is asked for in the same session when every step has succeeded.
    look: Option<&'a BTreeSet<Ask>>,
}

impl<'a> Route<'a> {
    /// A session of its own, and no look at the outcome.
    fn plain(session: &'a Session) -> Self {
        Self { session, talk: None, look: None }
    }
}

async fn apply(
    route: Route<'_>,
    desired: &Desired,
    facts: &Facts,
    planned: &Planned,
    project: &Path,
    ui: &Ui,
) -> Result<Applied, Failure> {
    let Route { session, talk, look } = route;
    let bundle = bundle(&planned.plan);
    let packed = pack_bundle(&bundle, &desired.assets, &facts.app.kept)?;
    let send = planned.release.as_ref().and_then(|release| release.upload.as_ref()).map(|delta| &delta.send);
    let upload = match send.filter(|send| !send.is_empty()) {
        Some(paths) => Some(crate::source::pack(project, &desired.source.tree, paths)?),
        None => None,
    };
    let cant_read = |error| Failure::failed(format!("can't read the upload back: {error}"));
    let id = format!("{}-{}", jiff::Timestamp::now().as_millisecond(), std::process::id());
    let launch = Launch {
        app: desired.config.app.clone(),
        id: id.clone(),
        generation: facts.app.generation,
        who: desired.source.who.clone(),
        bundle_bytes: packed.len(),
        upload: upload.is_some(),
        look: look.map(|asks| facts::packing(&facts::probe_script(asks))),
    };
    let script = launch_script(&launch);
    let mut follower = Follower { looks: look.is_some(), ..Follower::new(ui) };
    let mut stderr = Vec::new();
    let streamed = {
        let mut input;
        let stdin = match &upload {
            Some(file) => {
                let mut opened = file.reopen().map_err(cant_read)?;
                if opened.metadata().map_err(cant_read)?.len() <= AT_ONCE {
                    let mut all = packed;
                    std::io::Read::read_to_end(&mut opened, &mut all).map_err(cant_read)?;
                    Stdin::Bytes(all.into())
                } else {
                    input = std::io::Cursor::new(packed).chain(tokio::fs::File::from_std(opened));
                    Stdin::Stream(&mut input)
                }
            }
            None => Stdin::Bytes(Bytes::from(packed)),
        };
        let door = Arc::clone(&follower.door);
        let mut on_output = |stream: Stream, piece: &[u8]| {
            if stream == Stream::Err {
                stderr.extend_from_slice(piece);
            }
            follower.take(stream, piece)
        };
        let work = async {
            match talk {
                Some(talk) => talk.go_on(&script, stdin, &mut on_output).await,
                None => session.stream(Exec::as_root(&script).stdin(stdin), &mut on_output).await,
            }
        };
        let work = login::answering(session, &launch.app, &door, work);
        let stop = stop_script(&launch.app, &id);
        interruptible(work, session.exec(&stop, Bytes::new()), ui).await
    };
    let streamed = match streamed {
        Watched::Ended { work: Err(error), asked } if follower.is_guarded(&planned.plan) => {
            ui.idle();
            let work = login::wait(session, &launch, &mut follower, error, ui).await;
            Watched::Ended { work, asked }
        }
        other @ (Watched::Ended { .. } | Watched::Left { .. }) => other,
    };
    ui.idle();
    let (streamed, asked) = match streamed {
        Watched::Ended { work, asked } => (work, asked),
        Watched::Left { heard } => return Err(left(&follower, heard)),
    };
    match (follower.end.take(), streamed) {
        (Some(End::Stopped), _) => Err(halted(&follower, &planned.plan)),
        (Some(end), _) => match ended(end, &follower, planned, facts.app.current)? {
            Applied::Done { .. } => {
                let seen = look.zip(follower.reader.look());
                let seen = seen.and_then(|(asks, packed)| facts::parse(asks, &facts::unpacked(packed)).ok());
                Ok(Applied::Done { seen: seen.map(Box::new) })
            }
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

/// How long a second Ctrl-C waits for the server's answer to the first, which may be on its way.
const ANSWER: Duration = Duration::from_secs(2);

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
    let took = |answer: Result<Output, TransportError>| answer.is_ok_and(|output| output.success());
    let mut heard = None;
    loop {
        tokio::select! {
            work = &mut work => return Watched::Ended { work, asked: true },
            answer = &mut stop, if heard.is_none() => {
                heard = Some(took(answer));
            }
            () = guard.next() => break,
        }
    }
    let heard = match heard {
        Some(heard) => heard,
        None => tokio::time::timeout(ANSWER, stop).await.is_ok_and(took),
    };
    Watched::Left { heard }
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
        (false, false) => "left before the server said that it began".to_string(),
        (true, true) => format!("left; the server finishes `{}` and stops there", follower.current()),
        (true, false) => format!(
            "left; the server may not have heard that it should stop after `{}`: it may do all that follows",
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
        End::Code(0) => Ok(Applied::Done { seen: None }),
        End::Code(code) if code == release::ANSWER_DIFFERS && follower.answer_differs => {
            Ok(Applied::Answered)
        }
        End::Code(release::NEEDS_INPUT) => {
            let why = follower.said_why().unwrap_or_else(|| "the settings lack something".into());
            Err(follower.said(HINT).fold(Failure::input(why), Failure::hint))
        }
        End::Busy | End::Stale | End::Stopped => Ok(Applied::Overtaken),
        End::Code(guard::TAKEN_BACK) => Err(login::taken_back(follower, planned)),
        End::Code(code) => {
            let of_release = follower
                .step()
                .and_then(|index| planned.plan.changes.get(index))
                .is_some_and(|change| change.id.kind == "release");
            let of_database = follower
                .step()
                .and_then(|index| planned.plan.changes.get(index))
                .filter(|change| change.id.kind == "database")
                .map(|change| change.id.name == release::database::SWAPS);
            let cause = follower.said_why();
            let import = cause.as_deref().and_then(builds::import_hint);
            let why = cause.map_or_else(|| format!(" (exit {code})"), |cause| format!(": {cause}"));
            let failure =
                Failure::failed(format!("`{}` failed{why}", follower.current())).detail(follower.tail());
            let failure = import.into_iter().fold(failure, Failure::hint);
            let failure = follower.said(HINT).fold(failure, Failure::hint);
            let built = builds::explain(&follower.lines).into_iter().flat_map(|failure| failure.hints);
            let failure = built.fold(failure, Failure::hint);
            let switched = follower.step().and_then(|index| planned.plan.changes.get(..index));
            let switched =
                switched.into_iter().flatten().any(|change| change.id.name.starts_with("switch to"));
            Err(match (of_release, live) {
                (true, Some(_)) if switched => failure.hint("the new release serves; `ship status` shows it"),
                (true, Some(live)) => failure.hint(format!(
                    "the site is as it was: v{live} serves; mend the cause and run `ship up` again"
                )),
                (true, None) => failure.hint("mend the cause and run `ship up` again"),
                (false, _) if of_database == Some(true) => {
                    failure.hint("`ship status` shows what runs, `ship db backups` the dump of before")
                }
                (false, _) if of_database.is_some() => {
                    failure.hint("the site and its database are as they were")
                }
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
    /// Whether a look at the outcome follows a success.
    looks: bool,
    /// The new login that the server may ask for.
    door: Arc<login::Door>,
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
            looks: false,
            door: Arc::default(),
        }
    }

    fn current(&self) -> String {
        self.current.as_ref().map_or_else(|| "the first step".into(), |current| current.title.clone())
    }

    /// The index of the current step's change.
    fn step(&self) -> Option<usize> {
        self.current.as_ref()?.step.parse::<usize>().ok()?.checked_sub(1)
    }

    /// Whether the server may be about to take the current step back.
    fn is_guarded(&self, plan: &Plan) -> bool {
        self.step().and_then(|index| plan.changes.get(index)).is_some_and(guard::is_within)
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
        let said = self.said(CAUSE).last().map(str::to_string);
        said.or_else(|| builds::explain(&self.lines).map(|failure| failure.cause))
            .or_else(|| cause(&self.lines))
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
                    match (line.strip_prefix(ADVICE), line.strip_prefix(NOTE)) {
                        (Some(advice), _) => self.ui.warn(advice),
                        (_, Some(note)) => self.ui.note(note),
                        (None, None) if line == guard::KNOCK => self.door.knocked.notify_one(),
                        (None, None) if is_for_the_message(&line) => {}
                        (None, None) => self.ui.step_output(&line),
                    }
                    self.lines.push(line);
                }
                Event::Done { step, code, idle, at_ms } => {
                    let (title, began) = match &self.current {
                        Some(current) => (current.title.clone(), current.at_ms),
                        None => (step, at_ms),
                    };
                    let again = code == release::ANSWER_DIFFERS
                        && [ASKING, "preflight"].iter().any(|step| title.starts_with(step));
                    let took = Duration::from_millis(at_ms.saturating_sub(began));
                    match idle {
                        true => self.ui.step_idle(&title, took),
                        false => self.ui.step_done(&title, took, code == 0 || again),
                    }
                    self.answer_differs = again;
                }
                Event::End(end) => {
                    self.end = Some(end);
                    if !self.looks || end != End::Code(0) {
                        return Flow::Stop;
                    }
                    self.ui.working("verifying");
                }
            }
        }
        Flow::Continue
    }
}

/// Whether a line is no output, but was shown already, or is part of the message that a failure ends with.
fn is_for_the_message(line: &str) -> bool {
    [CAUSE, HINT, NOTE, ADVICE].iter().any(|beginning| line.starts_with(beginning))
}

/// The bundle as the archive that the server unpacks, without what it keeps of ship.
fn pack_bundle(bundle: &Bundle, assets: &Assets, kept: &BTreeSet<String>) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("can't pack the steps: {error}"));
    let text = |name| assets.template(name).map(|asset| asset.text.clone()).unwrap_or_default();
    let pending: String = bundle.units.iter().map(|unit| format!("{unit}\n")).collect();
    let mut files = vec![
        ("run".to_string(), text("apply.sh").into_bytes()),
        ("order".to_string(), order(bundle).into_bytes()),
        ("pending".to_string(), pending.into_bytes()),
        ("why-not".to_string(), text("why-not.sh").into_bytes()),
    ];
    // One of the project's own may know nothing of it.
    let puts_together = assets.template("apply.sh").is_some_and(Asset::is_built_in);
    files.extend(step_files(bundle, puts_together.then_some(kept)));
    files.extend(bundle.data.iter().map(|(name, bytes)| (format!("data/{name}"), bytes.clone())));
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(0);
        archive.append_data(&mut header, path, bytes.as_slice()).map_err(failed)?;
    }
    archive.into_inner().and_then(flate2::write::GzEncoder::finish).map_err(failed)
}
