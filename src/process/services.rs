//! What a site needs beside itself: Redis, memcached, and the workers of its task queue.
//!
//! Invariant: a service is wanted only where the project both requires a client for it and looks for it on its own
//! host or asks the environment where it is. Evidence is named, so that a plan can say why.

use std::collections::{BTreeMap, BTreeSet};

use crate::project::engines::Engines;
use crate::project::is_dotted;

/// A service that ship can put beside the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Redis.
    Redis,
    /// memcached.
    Memcached,
}

impl Service {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Redis, Self::Memcached];

    /// Its name, which is its playbook's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memcached => "memcached",
        }
    }

    /// Requirements that talk to it.
    fn clients(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &[
                "redis",
                "django-redis",
                "channels-redis",
                "rq",
                "django-rq",
                "huey",
                "django-q",
                "django-q2",
                "celery",
                "kombu",
                "hiredis",
                "django-cacheops",
                "dramatiq",
                "arq",
            ],
            Self::Memcached => &["pymemcache", "pylibmc", "python-memcached", "django-pylibmc"],
        }
    }

    /// Places on the site's own host.
    fn places(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &[
                "redis://localhost",
                "redis://127.0.0.1",
                "localhost:6379",
                "127.0.0.1:6379",
                "'localhost', 6379",
                "\"localhost\", 6379",
                "'127.0.0.1', 6379",
                "\"127.0.0.1\", 6379",
            ],
            Self::Memcached => &["localhost:11211", "127.0.0.1:11211"],
        }
    }

    /// Variables that say where it is, and what to say. A broker's queues must outlive a cache that is emptied, so
    /// they are in a database of their own.
    fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Redis => &[
                ("REDIS_URL", "redis://127.0.0.1:6379/0"),
                ("CELERY_BROKER_URL", "redis://127.0.0.1:6379/1"),
                ("CELERY_BROKER", "redis://127.0.0.1:6379/1"),
                ("BROKER_URL", "redis://127.0.0.1:6379/1"),
                ("CELERY_RESULT_BACKEND", "redis://127.0.0.1:6379/1"),
                ("REDIS_HOST", "127.0.0.1"),
                ("REDIS_PORT", "6379"),
            ],
            Self::Memcached => {
                &[("MEMCACHED_URL", "127.0.0.1:11211"), ("MEMCACHE_SERVERS", "127.0.0.1:11211")]
            }
        }
    }
}

/// What the project's own files say of what runs beside the site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// Services that the settings look for on this host, with the place and the file.
    pub places: BTreeMap<Service, (String, String)>,
    /// Variables that the settings read, with the file.
    pub reads: BTreeMap<String, String>,
    /// The module with the Celery application, with its file.
    pub celery: Option<(String, String)>,
    /// Whether Celery has anything to do by the clock, with the file.
    pub beat: Option<String>,
    /// Databases that the settings name.
    pub engines: Engines,
    /// Whether the settings name these: `RQ_QUEUES`, `Q_CLUSTER`, `HUEY`.
    pub queues: BTreeSet<String>,
    /// ASGI_APPLICATION by settings module.
    pub asgi: BTreeMap<String, String>,
    /// Every module called `asgi`.
    pub asgi_modules: Vec<String>,
}

impl Signs {
    /// Whether a file may say something of this.
    pub fn wants(path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let folder = path.rsplit('/').nth(1).unwrap_or_default();
        name.starts_with("settings")
            || matches!(
                name,
                "celery.py" | "celery_app.py" | "celeryconfig.py" | "tasks.py" | "huey.py" | "asgi.py"
            )
            || matches!(folder, "settings" | "config" | "conf")
    }

    /// Takes note of a file: its path in the project, its module as seen from `manage.py`'s folder.
    pub fn read(&mut self, path: &str, module: Option<&str>, text: &str) {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let code = lines.join("\n");
        self.engines.read(path, &code);
        for service in Service::ALL {
            if let Some(place) = service.places().iter().find(|place| code.contains(**place)) {
                let place = place.replace(['\'', '"'], "");
                self.places.entry(service).or_insert_with(|| (place, path.to_owned()));
            }
            for (name, _) in service.variables() {
                let quoted = [format!("\"{name}\""), format!("'{name}'")];
                let reads = |line: &str| {
                    quoted.iter().any(|quoted| line.contains(quoted))
                        && ["env", "config(", "getenv"].iter().any(|word| line.contains(word))
                };
                if lines.iter().any(|line| reads(line)) {
                    self.reads.entry((*name).to_owned()).or_insert_with(|| path.to_owned());
                }
            }
        }
        if let Some(module) = module {
            if module == "asgi" || module.ends_with(".asgi") {
                self.asgi_modules.push(module.to_owned());
            }
            if code.contains("Celery(") && code.contains("celery") && self.celery.is_none() {
                // `celery -A package` finds its `celery.py`.
                let app = module.strip_suffix(".celery").unwrap_or(module);
                self.celery = Some((app.to_owned(), path.to_owned()));
            }
            if let Some(app) = assigned(&lines, "ASGI_APPLICATION") {
                self.asgi.insert(module.to_owned(), app);
            }
        }
        let beats = ["beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE", "add_periodic_task"];
        if self.beat.is_none() && beats.iter().any(|word| code.contains(word)) {
            self.beat = Some(path.to_owned());
        }
        for name in ["RQ_QUEUES", "Q_CLUSTER", "HUEY"] {
            if lines.iter().any(|line| line.starts_with(name)) {
                self.queues.insert(name.to_owned());
            }
        }
    }
}

/// A dotted name that is assigned as a plain text.
fn assigned(lines: &[&str], name: &str) -> Option<String> {
    lines.iter().find_map(|line| {
        let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim();
        let value = value.trim_end_matches(|c: char| c.is_whitespace()).trim_matches(['"', '\'']);
        is_dotted(value).then(|| value.to_owned())
    })
}

/// Which services the site needs on its own host, and why. `named` are variables that the user sets himself.
pub fn wanted(
    signs: &Signs,
    packages: &BTreeSet<String>,
    named: &dyn Fn(&str) -> bool,
) -> BTreeMap<Service, String> {
    let mut wanted = BTreeMap::new();
    for service in Service::ALL {
        let Some(client) = service.clients().iter().find(|client| packages.contains(**client)) else {
            continue;
        };
        // Celery may have any broker: only Redis's own client tells.
        let certain = !matches!(*client, "celery" | "kombu" | "huey" | "django-q" | "django-q2" | "dramatiq");
        let asked = service.variables().iter().find_map(|(name, _)| {
            let path = signs.reads.get(*name)?;
            Some((*name, path))
        });
        if service.variables().iter().any(|(name, _)| signs.reads.contains_key(*name) && named(name)) {
            continue;
        }
        match (signs.places.get(&service), asked) {
            (Some((place, path)), _) => {
                wanted.insert(service, format!("{path} looks for {place}"));
            }
            (None, Some((name, path))) if certain || name.starts_with("REDIS") => {
                wanted.insert(service, format!("{path} reads {name}, and {client} is required"));
            }
            (None, _) => {}
        }
    }
    wanted
}

/// Variables of the services that the project reads: name and value.
pub fn variables<'a>(
    signs: &'a Signs,
    services: impl Iterator<Item = &'a Service>,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    services
        .flat_map(|service| service.variables().iter())
        .filter(|(name, _)| signs.reads.contains_key(*name))
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
}

/// A process that the project's own settings call for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its name.
    pub name: &'static str,
    /// Its command line.
    pub command: String,
    /// Why.
    pub why: String,
}

/// The processes of task queues that the project has, where nobody names any.
pub fn proposals(signs: &Signs, packages: &BTreeSet<String>) -> Vec<Proposal> {
    let mut all = Vec::new();
    let has = |name: &str| packages.contains(name);
    let mut propose = |name, command: String, why: String| all.push(Proposal { name, command, why });
    if let (true, Some((app, path))) = (has("celery"), &signs.celery) {
        // Old and new release overlap: a node's name must be its own.
        let node = "-n \"$SHIP_PROCESS-$SHIP_RELEASE@%h\"";
        propose(
            "worker",
            format!("celery -A {app} worker --loglevel INFO {node}"),
            format!("Celery in {path}"),
        );
        let scheduler = has("django-celery-beat");
        let why = if scheduler { Some("django-celery-beat is required".to_owned()) } else { None };
        let why = why.or_else(|| signs.beat.as_ref().map(|path| format!("a schedule in {path}")));
        if let Some(why) = why {
            let scheduler =
                if scheduler { " --scheduler django_celery_beat.schedulers:DatabaseScheduler" } else { "" };
            propose("beat", format!("celery -A {app} beat --loglevel INFO{scheduler}"), why);
        }
    }
    let settings = |name: &str| signs.queues.contains(name);
    if has("django-rq") && settings("RQ_QUEUES") {
        propose("worker", "python manage.py rqworker default".into(), "RQ_QUEUES in the settings".into());
        if has("rq-scheduler") {
            propose("rqscheduler", "python manage.py rqscheduler".into(), "rq-scheduler is required".into());
        }
    }
    if (has("django-q") || has("django-q2")) && settings("Q_CLUSTER") {
        propose("worker", "python manage.py qcluster".into(), "Q_CLUSTER in the settings".into());
    }
    if has("huey") && settings("HUEY") {
        propose("worker", "python manage.py run_huey".into(), "HUEY in the settings".into());
    }
    let mut names = BTreeSet::new();
    all.retain(|proposal| names.insert(proposal.name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows from files (path, text) and requirement names.
    fn check(files: &[(&str, &str)], packages: &[&str], named: &[&str]) -> String {
        let mut signs = Signs::default();
        for (path, text) in files {
            assert!(Signs::wants(path), "{path}");
            let module = path.trim_end_matches(".py").replace('/', ".");
            signs.read(path, Some(&module), text);
        }
        let packages: BTreeSet<String> = packages.iter().map(|name| (*name).to_owned()).collect();
        let services = wanted(&signs, &packages, &|name| named.contains(&name));
        let mut said = String::new();
        for (service, why) in &services {
            said += &format!("{}: {why}\n", service.name());
        }
        for (name, value) in variables(&signs, services.keys()) {
            said += &format!("{name}={value}\n");
        }
        for Proposal { name, command, why } in proposals(&signs, &packages) {
            said += &format!("{name}: {command} ({why})\n");
        }
        said
    }

    #[test]
    fn what_turns_on_and_why() {
        let hard = ("site/settings.py", "CACHES = {'default': {'LOCATION': 'redis://127.0.0.1:6379/1'}}\n");
        let read = ("site/settings.py", "CELERY_BROKER_URL = os.environ.get('CELERY_BROKER_URL')\n");
        let celery = ("site/celery.py", "from celery import Celery\napp = Celery('site')\n");
        let mut said = String::new();
        for (what, files, packages, named) in [
            ("hard-coded", vec![hard], vec!["django-redis"], vec![]),
            ("no client", vec![hard], vec!["django"], vec![]),
            ("elsewhere", vec![("site/settings.py", "'redis://cache.example.com'")], vec!["redis"], vec![]),
            (
                "commented out",
                vec![("site/settings.py", "# X = 'redis://localhost'\n")],
                vec!["redis"],
                vec![],
            ),
            ("celery with redis", vec![read, celery], vec!["celery", "redis"], vec![]),
            ("celery with another broker", vec![read, celery], vec!["celery"], vec![]),
            ("set by the user", vec![read, celery], vec!["celery", "redis"], vec!["CELERY_BROKER_URL"]),
            (
                "beat",
                vec![(
                    "site/celery.py",
                    "from celery import Celery\nx = Celery()\nx.conf.beat_schedule = {}\n",
                )],
                vec!["celery"],
                vec![],
            ),
            ("database scheduler", vec![celery], vec!["celery", "django-celery-beat"], vec![]),
            (
                "RQ",
                vec![(
                    "settings.py",
                    "RQ_QUEUES = {'default': {'HOST': 'localhost', 'PORT': 6379}}\nX = 'localhost:6379'\n",
                )],
                vec!["django-rq", "rq", "redis", "rq-scheduler"],
                vec![],
            ),
            (
                "django-q",
                vec![("settings.py", "Q_CLUSTER = {'orm': 'default'}\n")],
                vec!["django-q2"],
                vec![],
            ),
            (
                "huey",
                vec![("settings.py", "HUEY = {'connection': {'url': 'redis://localhost'}}\n")],
                vec!["huey"],
                vec![],
            ),
            (
                "channels",
                vec![("settings.py", "CHANNEL_LAYERS = {'hosts': [('127.0.0.1', 6379)]}\n")],
                vec!["channels", "channels-redis"],
                vec![],
            ),
            (
                "memcached",
                vec![("settings.py", "LOCATION = '127.0.0.1:11211'\n")],
                vec!["pymemcache"],
                vec![],
            ),
        ] {
            said += &format!("# {what}\n{}", check(&files, &packages, &named));
        }
        insta::assert_snapshot!(said, @r#"
        # hard-coded
        redis: site/settings.py looks for redis://127.0.0.1
        # no client
        # elsewhere
        # commented out
        # celery with redis
        redis: site/settings.py reads CELERY_BROKER_URL, and redis is required
        CELERY_BROKER_URL=redis://127.0.0.1:6379/1
        worker: celery -A site worker --loglevel INFO -n "$SHIP_PROCESS-$SHIP_RELEASE@%h" (Celery in site/celery.py)
        # celery with another broker
        worker: celery -A site worker --loglevel INFO -n "$SHIP_PROCESS-$SHIP_RELEASE@%h" (Celery in site/celery.py)
        # set by the user
        worker: celery -A site worker --loglevel INFO -n "$SHIP_PROCESS-$SHIP_RELEASE@%h" (Celery in site/celery.py)
        # beat
        worker: celery -A site worker --loglevel INFO -n "$SHIP_PROCESS-$SHIP_RELEASE@%h" (Celery in site/celery.py)
        beat: celery -A site beat --loglevel INFO (a schedule in site/celery.py)
        # database scheduler
        worker: celery -A site worker --loglevel INFO -n "$SHIP_PROCESS-$SHIP_RELEASE@%h" (Celery in site/celery.py)
        beat: celery -A site beat --loglevel INFO --scheduler django_celery_beat.schedulers:DatabaseScheduler (django-celery-beat is required)
        # RQ
        redis: settings.py looks for localhost:6379
        worker: python manage.py rqworker default (RQ_QUEUES in the settings)
        rqscheduler: python manage.py rqscheduler (rq-scheduler is required)
        # django-q
        worker: python manage.py qcluster (Q_CLUSTER in the settings)
        # huey
        redis: settings.py looks for redis://localhost
        worker: python manage.py run_huey (HUEY in the settings)
        # channels
        redis: settings.py looks for 127.0.0.1, 6379
        # memcached
        memcached: settings.py looks for 127.0.0.1:11211
        "#);
    }
}
