//! The settings module that ship runs a project under: its text, and what of the project's settings it changes.
//!
//! Invariant: Django itself decides what is changed (`templates/django/overlay.py`). Before it has been asked, the
//! same is foretold from the text of the settings, as far as that is certain.

use serde::Deserialize;
use serde_json::json;

use crate::config::spec::OVERRIDES;
use crate::config::{Config, Database};
use crate::facts::app::Build;
use crate::project::settings::{Known, Settings, Token, Values};
use crate::shell::Script;

/// The module that `DJANGO_SETTINGS_MODULE` names.
pub const MODULE: &str = "ship_settings";

/// What is decided of settings.
const DECIDE: &str = include_str!("../../templates/django/overlay.py");
/// How it is laid over them.
const SETTINGS: &str = include_str!("../../templates/django/settings.py");

/// A setting that the site runs with instead of the project's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Override {
    /// What `django.overlay` calls it.
    pub switch: String,
    /// The setting.
    pub name: String,
    /// What the project says; secrets are masked.
    pub old: String,
    /// What holds.
    pub new: String,
    /// The reason.
    pub why: String,
}

/// Whether the project runs under an overlay, and the module's text.
pub fn program(config: &Config, settings: &Settings) -> Option<Script> {
    if !config.django.overlay.on || settings.are_classes() {
        return None;
    }
    let home = format!("/srv/{}", config.app);
    let data = json!({
        "settings": config.django.settings,
        "domains": config.domains,
        "tls": config.tls.is_on(),
        "database": database_word(config.database),
        "off": config.django.overlay.off,
        "releases": format!("{home}/releases/"),
        "folders": [format!("{home}/releases"), format!("{home}/shared"), format!("{home}/static")],
        "static": format!("{home}/static"),
        "media": format!("{home}/shared/media"),
    });
    // A JSON text as a Python string: JSON's string literals are a subset of Python's.
    let data = serde_json::Value::from(data.to_string());
    let program =
        Script::new().line("# Written by ship.\nimport json\n").line(&format!("SHIP = json.loads({data})"));
    Some(program.then(&DECIDE.into()).line("\n").then(&SETTINGS.into()))
}

/// How `ship.yml` calls a database.
pub fn database_word(database: Database) -> &'static str {
    match database {
        Database::Postgres => "postgres",
        Database::Sqlite => "sqlite",
        Database::Mysql => "mysql",
        Database::External => "external",
    }
}

/// What Django said of a build.
pub fn answered(build: &Build) -> Option<Vec<Override>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        overrides: Vec<Override>,
    }
    serde_json::from_str::<Answer>(build.settings.as_deref()?).ok().map(|answer| answer.overrides)
}

/// What will be overridden: as Django answered last, corrected by what the settings' text says now.
///
/// `https` if the site is served by it, or will be.
pub fn expected(
    config: &Config,
    settings: &Settings,
    last: Option<Vec<Override>>,
    https: bool,
) -> Vec<Override> {
    if program(config, settings).is_none() {
        return Vec::new();
    }
    let foretold = predict(config, settings, https);
    let mut all = last.unwrap_or_default();
    all.retain(|one| !foretold.iter().any(|other| other.name == one.name));
    all.extend(foretold);
    all.retain(|one| !config.django.overlay.off.contains(&one.switch.as_str()));
    let place = |one: &Override| {
        OVERRIDES.iter().position(|(name, _)| *name == one.switch).unwrap_or(OVERRIDES.len())
    };
    all.sort_by_key(place);
    all
}

/// Overrides as a plan shows them.
pub fn lines(overrides: &[Override]) -> Vec<String> {
    let width = overrides.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let line = |one: &Override| format!("{:<width$}  {} → {}  ({})", one.name, one.old, one.new, one.why);
    overrides.iter().map(line).collect()
}

/// What keeps the overlay from being all there is.
pub fn remark(config: &Config, settings: &Settings) -> Option<String> {
    if !config.django.overlay.on {
        return None;
    }
    if settings.are_classes() {
        return Some("! the settings are classes of django-configurations: nothing is laid over them".into());
    }
    let (path, line) = settings.insists()?;
    Some(format!(
        "! {path}:{line} sets DJANGO_SETTINGS_MODULE whatever the environment says: the site runs under the overlay, \
         what {path} starts by hand does not; `os.environ.setdefault` would"
    ))
}

/// Apps whose models have fields of django.contrib.postgres when the database is PostgreSQL.
const POSTGRES_FIELDS: [&str; 2] = ["wagtail.search", "modelsearch"];

/// Whether nothing gives a setting a value: neither the settings, nor a variable that they read it from.
fn is_unset(known: &Known, config: &Config) -> bool {
    match known {
        Known::Absent => true,
        Known::Is(tokens) => match tokens.as_slice() {
            [Token::Name(reader), Token::Sign('('), Token::Text(variable), Token::Sign(')')] => {
                ["os.environ.get", "os.getenv", "environ.get", "getenv"].contains(&reader.as_str())
                    && !config.env.contains_key(variable)
                    && !config.secrets.contains(variable)
            }
            _ => false,
        },
        Known::Computed => false,
    }
}

/// The overrides that the text of the settings makes certain.
pub fn predict(config: &Config, settings: &Settings, https: bool) -> Vec<Override> {
    let values = settings.values();
    let mut found = Vec::new();
    let mut add = |switch: &str, name: &str, old: String, new: String, why: &str| {
        found.push(Override { switch: switch.into(), name: name.into(), old, new, why: why.into() });
    };
    if values.of("DEBUG") == Known::Is(vec![Token::Name("True".into())]) {
        let why = "with DEBUG on, errors show the site's code and settings to everyone";
        add("debug", "DEBUG", "True".into(), "False".into(), why);
    }
    let key = values.of("SECRET_KEY");
    if key == Known::Absent || key == Known::Is(vec![Token::Text(String::new())]) {
        let why = "made on the server and known to it alone";
        add("secret_key", "SECRET_KEY", "not set".into(), "***".into(), why);
    } else if matches!(&key, Known::Is(tokens) if matches!(tokens.as_slice(), [Token::Text(_)])) {
        let why =
            "whoever reads the code could sign sessions with it; the new one is known to the server alone";
        add("secret_key", "SECRET_KEY", "*** in the code".into(), "***".into(), why);
    }
    if let Some(hosts) = texts(&values.of("ALLOWED_HOSTS")) {
        let missing: Vec<String> = config
            .domains
            .iter()
            .filter(|name| !hosts.iter().any(|host| accepts(host, name)))
            .cloned()
            .collect();
        if !missing.is_empty() {
            let new: Vec<String> = hosts.iter().cloned().chain(missing).collect();
            add("allowed_hosts", "ALLOWED_HOSTS", list(&hosts), list(&new), "`domains` of ship.yml");
        } else if config.domains.is_empty() && !hosts.iter().any(|host| host == "*") {
            let why = "without `domains` in ship.yml, the site answers to any name";
            add("allowed_hosts", "ALLOWED_HOSTS", list(&hosts), "['*']".into(), why);
        }
    }
    if let Some(origins) = texts(&values.of("CSRF_TRUSTED_ORIGINS")) {
        let schemes = if https || config.tls.is_on() { &["https"][..] } else { &["https", "http"] };
        let wanted = config
            .domains
            .iter()
            .flat_map(|name| schemes.iter().map(move |scheme| format!("{scheme}://{name}")));
        let missing: Vec<String> = wanted.filter(|one| !origins.contains(one)).collect();
        if !missing.is_empty() && !origins.iter().any(|origin| origin.contains('*')) {
            let new: Vec<String> = origins.iter().cloned().chain(missing).collect();
            let why = "forms are sent from the `domains` of ship.yml, through nginx";
            add("csrf_trusted_origins", "CSRF_TRUSTED_ORIGINS", list(&origins), list(&new), why);
        }
    }
    let apps = values.of("INSTALLED_APPS");
    let installed =
        |name: &str| matches!(&apps, Known::Is(tokens) if tokens.contains(&Token::Text(name.into())));
    if let Some((old, why)) = database(config.database, &values) {
        let foreign = !old.starts_with("postgres ");
        let new = match config.database {
            Database::Postgres => format!("postgres {} at 127.0.0.1", config.app),
            Database::Sqlite => format!("sqlite /srv/{}/shared/database/db.sqlite3", config.app),
            Database::Mysql => format!("mysql {} at 127.0.0.1", config.app),
            Database::External => "what DATABASE_URL says".into(),
        };
        add("databases", "DATABASES", old, new, why);
        let by = POSTGRES_FIELDS.into_iter().find(|name| installed(name));
        if let Some(by) = by
            && config.database == Database::Postgres
            && foreign
            && !installed("django.contrib.postgres")
        {
            let why = format!("{by} has other fields on PostgreSQL, which need it");
            let old = "without django.contrib.postgres";
            add("installed_apps", "INSTALLED_APPS", old.into(), "with it".into(), &why);
        }
    }
    let unset = |name: &str| is_unset(&values.of(name), config);
    if installed("django.contrib.staticfiles") && unset("STATIC_ROOT") {
        let folder = format!("'/srv/{}/static'", config.app);
        let why = "collectstatic needs a folder, which nginx serves";
        add("static_root", "STATIC_ROOT", "not set".into(), folder, why);
    }
    let own_storage =
        ["STORAGES", "DEFAULT_FILE_STORAGE"].iter().any(|name| values.of(name) != Known::Absent);
    if unset("MEDIA_ROOT") && !own_storage {
        let folder = format!("'/srv/{}/shared/media'", config.app);
        add("media_root", "MEDIA_ROOT", "not set".into(), folder, "uploads are kept outside the releases");
    }
    if https {
        let off = |name: &str| {
            let known = values.of(name);
            known == Known::Absent || known == Known::Is(vec![Token::Name("False".into())])
        };
        if values.of("SECURE_PROXY_SSL_HEADER") == Known::Absent {
            let why = "nginx ends TLS, and tells Django so in this header, which nobody else can set";
            let header = "X-Forwarded-Proto".into();
            add("proxy_ssl_header", "SECURE_PROXY_SSL_HEADER", "not set".into(), header, why);
        }
        for name in ["SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"].into_iter().filter(|name| off(name)) {
            let why = "the site is served by HTTPS";
            add("secure_cookies", name, "False".into(), "True".into(), why);
        }
        let checks = [("SECURE_HSTS_SECONDS", "security.W004"), ("SECURE_SSL_REDIRECT", "security.W008")];
        if values.of("SILENCED_SYSTEM_CHECKS") == Known::Absent
            && checks.iter().all(|(name, _)| values.of(name) == Known::Absent)
        {
            let why = "nginx redirects to HTTPS and sends Strict-Transport-Security, which Django can't see";
            let all: Vec<String> = checks.iter().map(|(_, check)| (*check).to_owned()).collect();
            add("silenced_checks", "SILENCED_SYSTEM_CHECKS", list(&[]), list(&all), why);
        }
    }
    if let Some(old) = mailer(&values) {
        let why = "the project's own is for development and sends nothing; EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER, \
                   EMAIL_HOST_PASSWORD, EMAIL_USE_TLS by `ship config set`, else localhost";
        add("mailers", "MAILERS", old, "SMTP at EMAIL_HOST".into(), why);
    }
    found
}

/// The string literals among these, in order.
fn literals(tokens: &[Token]) -> Vec<&str> {
    tokens
        .iter()
        .filter_map(|token| match token {
            Token::Text(text) => Some(text.as_str()),
            Token::Name(_) | Token::Sign(_) => None,
        })
        .collect()
}

/// The only mailer, if it is one for development.
fn mailer(values: &Values) -> Option<String> {
    let Known::Is(tokens) = values.of("MAILERS") else { return None };
    let texts = literals(&tokens);
    let ["default", "BACKEND", backend] = texts.as_slice() else { return None };
    let name = backend.strip_prefix("django.core.mail.backends.")?.strip_suffix(".EmailBackend")?;
    ["console", "dummy", "filebased", "locmem"].contains(&name).then(|| name.to_owned())
}

/// What the text says of the default database, if it is written down there, and why it can't stay.
fn database(wish: Database, values: &Values) -> Option<(String, &'static str)> {
    const HARMLESS: [&str; 12] = [
        "BASE_DIR",
        "PROJECT_DIR",
        "PROJECT_ROOT",
        "ROOT_DIR",
        "os.path.join",
        "os.path.dirname",
        "os.path.abspath",
        "__file__",
        "str",
        "Path",
        "True",
        "False",
    ];
    let tokens = match values.of("DATABASES") {
        Known::Is(tokens) => tokens,
        Known::Absent => {
            return Some((
                "nothing".into(),
                if wish == Database::External { EXTERNAL } else { "the settings name no database" },
            ));
        }
        Known::Computed => return None,
    };
    let computed = |token: &Token| match token {
        Token::Name(name) => !HARMLESS.contains(&name.as_str()),
        Token::Sign(sign) => *sign == '…',
        Token::Text(_) => false,
    };
    let texts = literals(&tokens);
    // More than one database is for Django to tell apart.
    if tokens.iter().any(computed) || texts.iter().filter(|text| **text == "ENGINE").count() != 1 {
        return None;
    }
    let after = |key: &str| {
        let at = texts.iter().position(|text| *text == key)?;
        texts.get(at + 1).copied()
    };
    let engine = after("ENGINE")?;
    let name = after("NAME").unwrap_or_default();
    if engine.contains("sqlite") || engine.contains("spatialite") {
        let why = match wish {
            Database::Postgres | Database::Mysql => {
                "the project's own would be gone with each release; to keep SQLite: `database: sqlite`"
            }
            Database::Sqlite => "`database: sqlite`: a file that outlives each release",
            Database::External => EXTERNAL,
        };
        return Some((format!("sqlite {name}"), why));
    }
    let kind = ["postgis", "postgres", "mysql", "oracle"].into_iter().find(|kind| engine.contains(kind))?;
    let kind = if kind == "postgis" { "postgres" } else { kind };
    let host =
        after("HOST").filter(|host| !host.is_empty() && !["PORT", "USER", "PASSWORD", "NAME"].contains(host));
    let why = match wish {
        Database::External => EXTERNAL,
        Database::Sqlite => "`database: sqlite`: a file that outlives each release",
        Database::Postgres | Database::Mysql => "the settings don't read it from the environment",
    };
    Some((format!("{kind} {name} at {}", host.unwrap_or("localhost")), why))
}

const EXTERNAL: &str = "DATABASE_URL says where the database is";

/// A list that is written down text by text.
fn texts(known: &Known) -> Option<Vec<String>> {
    match known {
        Known::Absent => Some(Vec::new()),
        Known::Is(tokens) => {
            let inner = match tokens.as_slice() {
                [Token::Sign('['), inner @ .., Token::Sign(']')]
                | [Token::Sign('('), inner @ .., Token::Sign(')')] => inner,
                _ => return None,
            };
            let mut found = Vec::new();
            for token in inner {
                match token {
                    Token::Text(text) => found.push(text.clone()),
                    Token::Sign(',') => {}
                    Token::Name(_) | Token::Sign(_) => return None,
                }
            }
            Some(found)
        }
        Known::Computed => None,
    }
}

/// A list of texts as Python shows it.
fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("'{item}'")).collect();
    let text = format!("[{}]", quoted.join(", "));
    if text.chars().count() <= 80 { text } else { text.chars().take(79).chain(['…']).collect() }
}

fn accepts(pattern: &str, host: &str) -> bool {
    let pattern = pattern.to_lowercase();
    let wild = pattern.strip_prefix('.').is_some_and(|rest| host == rest || host.ends_with(&pattern));
    pattern == "*" || pattern == host || wild
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
