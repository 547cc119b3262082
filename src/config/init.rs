//! The `ship.yml` that `ship init` writes: short, commented, and true to what was found.
//!
//! Invariant: what it writes loads without an error, for any project that can be deployed.

use std::fmt::Write as _;

use super::validate::name_problem;
use super::{Database, app_name};
use crate::process::services::proposals;
use crate::project::Project;
use crate::project::dependencies::Kind;

/// Renders a `ship.yml` for a project in a folder of this name.
///
/// A key is active where ship could not know better by itself; what was found is a comment, so
/// that it follows the project's files when they change.
pub fn render(project: &Project, folder: &str) -> String {
    let mut out = Lines(String::new());
    out.line("# yaml-language-server: $schema=.ship/schema.json");
    out.line("# Every key: `ship schema`. Only `server` is required.");
    out.line("");
    out.line(&format!("app: {}", plain(&app_name(folder))));
    out.line("");
    out.line("# Where the site runs. A local machine to try it on:");
    out.line("server: {provider: vagrant}");
    out.line("# A server that `ship up` makes, with DIGITALOCEAN_TOKEN set, or with your AWS credentials:");
    out.line("# server: {provider: digitalocean, region: fra1, size: s-1vcpu-1gb}");
    out.line("# server: {provider: ec2, region: eu-central-1, size: t3.small}");
    out.line("# A Debian or Ubuntu server of yours, with a key that ssh uses by itself, or `key: ~/.ssh/id_ed25519`:");
    out.line("# server: {provider: ssh, host: 203.0.113.7, user: root}");
    out.line("");
    out.line("# The names that the site answers to; without them, any.");
    out.line("# domains: [example.com, www.example.com]");
    out.line("# Who keeps their records: digitalocean, route53, or none, and ship says what to set.");
    out.line("# dns: digitalocean");
    out.line(
        "# With domains, a server in the world gets a certificate of Let's Encrypt's. For a local machine:",
    );
    out.line("# tls: self-signed");
    out.line("");
    python(project, &mut out);
    django(project, &mut out);
    requirements(project, &mut out);
    out.line("");
    out.line("# postgres, mysql, sqlite, or external (the secret DATABASE_URL says where).");
    match project.signs.engines.mysql(&project.packages) {
        Some(why) => {
            out.comment(&format!("{why}."));
            out.line("database: mysql");
        }
        None => out.line("database: postgres"),
    }
    out.line("# Backups every night; `to` sends them to a bucket, encrypted.");
    out.line("# backups: {at: \"03:30\", to: s3://my-backups}");
    workers(project, &mut out);
    out.line("");
    variables(project, &mut out);
    out.0
}

/// The environment: what `app.json` names, else an example.
fn variables(project: &Project, out: &mut Lines) {
    let found = project.app_json.clone().unwrap_or_default();
    let allowed = |name: &&String| name_problem(name, Database::Postgres).is_none();
    out.line("# Environment variables that are no secret, as text.");
    let env: Vec<String> = found
        .env
        .iter()
        .filter(|(name, value)| allowed(name) && !value.chars().any(is_break))
        .map(|(name, value)| format!("{name}: {}", serde_json::Value::from(value.as_str())))
        .collect();
    match env.as_slice() {
        [] => out.line("# env: {TIME_ZONE: UTC}"),
        some => out.line(&format!("env: {{{}}}    # found in app.json", some.join(", "))),
    }
    out.line("# Names only; `ship config set NAME=VALUE` sets their values on the server.");
    let names = |names: &[String]| names.iter().filter(allowed).cloned().collect::<Vec<_>>().join(", ");
    let (secrets, optional) = (names(&found.secrets), names(&found.optional));
    if secrets.is_empty() {
        let example = if optional.is_empty() { "EMAIL_HOST_PASSWORD" } else { &optional };
        out.line(&format!("# secrets: [{example}]"));
    } else {
        out.line(&format!("secrets: [{secrets}]    # found in app.json"));
    }
}

struct Lines(String);

impl Lines {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A comment of one line, whatever the text holds.
    fn comment(&mut self, text: &str) {
        let text: String =
            text.chars().map(|c| if c.is_control() || is_break(c) { ' ' } else { c }).collect();
        self.line(&format!("# {text}"));
    }
}

fn python(project: &Project, out: &mut Lines) {
    match (&project.python, &project.python_bounds) {
        (Some(found), _) => {
            out.comment(&format!("python: \"{}\"    # found in {}", found.value, found.origin))
        }
        (None, Some((bounds, origin))) => {
            out.comment(&format!(
                "{origin} allows Python {bounds}; the distribution's is taken if it is one of them."
            ));
        }
        (None, None) => out.line("# python: \"3.11\"    # without it, the distribution's"),
    }
}

fn django(project: &Project, out: &mut Lines) {
    let mut root_key = None;
    let root = match project.roots.as_slice() {
        [] => {
            out.line("# No manage.py was found: ship needs a Django project.");
            out.line("# django: {root: ., settings: project.settings, wsgi: project.wsgi}");
            return;
        }
        [only] => only,
        [first, rest @ ..] => {
            let others: Vec<&str> = rest.iter().map(|root| root.dir.as_str()).collect();
            out.comment(&format!(
                "manage.py is in {} too; `root` says which one is deployed.",
                others.join(", ")
            ));
            root_key = Some(format!("root: {}", plain(&first.dir)));
            first
        }
    };
    let settings = project.settings(root, None).ok().or_else(|| {
        // A choice that only the user can make; the first one at least loads.
        root.settings_modules.keys().next().cloned()
    });
    let settings_key = project.settings(root, None).err().and(settings.clone());
    let wsgi = settings.as_deref().and_then(|settings| project.wsgi(root, settings).ok());
    let wsgi_key = if wsgi.is_none() { root.wsgi_modules.first().cloned() } else { None };
    let active: Vec<String> = root_key
        .into_iter()
        .chain(settings_key.map(|module| format!("settings: {}", plain(&module))))
        .chain(wsgi_key.map(|module| format!("wsgi: {}", plain(&module))))
        .collect();
    if active.is_empty() {
        let origin = root.settings.as_ref().map_or("the project's files", |found| found.origin.as_str());
        out.comment(&format!(
            "django: {{root: {}, settings: {}, wsgi: {}}}    # found in {origin}",
            plain(&root.dir),
            settings.unwrap_or_default(),
            wsgi.unwrap_or_default(),
        ));
    } else {
        if let Some(error) = project.settings(root, None).err() {
            out.comment(&format!("{error}: check `settings`."));
        }
        out.line(&format!("django: {{{}}}", active.join(", ")));
    }
}

fn requirements(project: &Project, out: &mut Lines) {
    let Some(root) = project.roots.first() else { return };
    match (&root.dependencies, &root.export) {
        (Some(found), _) if found.kind == Kind::Requirements => {
            out.comment(&format!("requirements: {}    # found", plain(&found.shown())));
        }
        (Some(found), _) => out.comment(&format!("Packages are installed from {}.", found.shown())),
        (None, Some(found)) => {
            out.comment(&format!(
                "Nothing says what to install; {} is enough for `{}`.",
                found.origin, found.value
            ));
        }
        (None, None) => out.line("# No requirements file; ship installs the site's packages from one."),
    }
}

fn workers(project: &Project, out: &mut Lines) {
    out.line("");
    match project.procfile.get("web") {
        Some(line) => out.comment(&format!(
            "The Procfile's `web: {line}` decides the server; what is named here overrides."
        )),
        None => out.line("# gunicorn is sized by itself; other names are long-running commands."),
    }
    out.line("# processes:");
    out.line("#   web: {workers: auto, timeout: 30}");
    let mut written = String::new();
    for (name, command) in project.worker_candidates() {
        let mut line = String::new();
        // Writing to a String can't fail.
        let _ =
            write!(line, "  {}: {}    # from the Procfile, runs by itself", app_name(name), plain(command));
        out.comment(&line);
        written.push_str(name);
    }
    for proposal in
        proposals(&project.signs, &project.packages).iter().filter(|_| project.procfile.is_empty())
    {
        out.comment(&format!(
            "  {}: {}    # runs by itself: {}",
            proposal.name,
            plain(&proposal.command),
            proposal.why
        ));
        written.push_str(proposal.name);
    }
    if written.is_empty() {
        out.line("#   worker: celery -A project worker");
    }
    out.line("# Commands that run at set times.");
    out.line("# schedule: {clearsessions: {command: python manage.py clearsessions, at: daily}}");
}

fn is_break(c: char) -> bool {
    matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A text as a YAML value inside a flow map: bare when that is safe, else in quotes.
fn plain(text: &str) -> String {
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '.' | '/'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-' | ' ' | '='))
        && !text.ends_with(' ')
        && !matches!(
            text.to_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n" | ".nan" | ".inf"
        );
    if safe {
        return text.to_owned();
    }
    // YAML reads every JSON text as it is.
    serde_json::Value::from(text).to_string()
}
