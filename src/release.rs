//! A release as steps: whether one is due, why, and what the server does for it.
//!
//! Invariant: pure. A step's work is done when its stamp says so; every step can run again after any
//! interruption.

use serde::{Deserialize, Serialize};

use crate::apply::{heredoc, wait_for_upload};
use crate::config::{Config, Database};
use crate::facts::app::{App, Build, Record};
use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, ResourceId};
use crate::playbook::{TemplateError, Templates, Vars};
use crate::resources::file::sha256;
use crate::shell::{Cmd, Script};
use crate::tree::{Delta, Tree};

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
    answers
        .into_iter()
        .flatten()
        .find_map(|build| serde_json::from_str(build.answer.as_deref()?).ok())
        .unwrap_or_else(Layout::usual)
}

/// An unfinished release with exactly these files.
fn pending(app: &App, tree: &Tree) -> Option<u32> {
    let (number, digest) = app.newest_tree()?;
    let recorded = app.releases.iter().any(|record| record.number == number);
    (digest == tree.digest() && app.current.is_none_or(|current| number > current) && !recorded)
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
                return Ok((repairs(config, facts, number, before), None));
            }
        }
    }

    let layout = predicted_layout(app, &source.tree);
    let pending = pending(app, &source.tree);
    let number = pending.unwrap_or_else(|| app.next_number());
    let upload = if pending.is_some() { None } else { Some(delta(app, source, &layout)) };
    if let Some(delta) = &upload {
        check_space(facts, source, delta, app.venvs.contains(&venv))?;
    }
    let files = upload.as_ref().map(files_reason).unwrap_or_default();
    for reason in &mut reasons {
        if reason.is_empty() {
            reason.clone_from(&files);
        }
    }
    if pending.is_some() {
        reasons.push("finishing an interrupted one".into());
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
    Ok((changes, Some(Release { number, upload })))
}

/// The second half of a release: after the units and the web server's site are in place.
pub fn finish(context: &Context<'_>, facts: &Facts, release: &Release) -> Result<Vec<Change>, ReleaseError> {
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
    changes.push(steps.migrate());
    changes.push(steps.switch());
    changes.push(steps.record());
    Ok(changes)
}

/// A release of the live code with the environment as it is now: no upload, no packages, no migrations.
pub fn config_change(context: &Context<'_>, facts: &Facts, what: &str) -> Result<Vec<Change>, ReleaseError> {
    let app = &facts.app;
    let Some((live, build)) = app.live() else { return Ok(Vec::new()) };
    check_secrets(context.config, app)?;
    let layout = build
        .answer
        .as_deref()
        .and_then(|answer| serde_json::from_str(answer).ok())
        .unwrap_or_else(Layout::usual);
    let record = app.releases.iter().rev().find(|record| record.number == live);
    let record = Record {
        number: app.next_number(),
        at: String::new(),
        who: context.source.who.clone(),
        commit: record.and_then(|record| record.commit.clone()),
        branch: record.and_then(|record| record.branch.clone()),
        dirty: record.is_some_and(|record| record.dirty),
        what: what.into(),
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
    Ok(vec![steps.copy(live, what), steps.prepare(String::new()), steps.switch(), steps.record()])
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

/// The digest of everything that an instance reads only at its start, besides code and environment.
fn recipe(context: &Context<'_>, facts: &Facts) -> Result<String, ReleaseError> {
    let mut text = String::new();
    for name in ["django/gunicorn.py.j2", "systemd/web@.service.j2", "systemd/app.socket.j2"] {
        text.push_str(&context.templates.render(name, context.vars, Some(&facts.host))?);
    }
    for (name, command) in &context.config.workers {
        text.push_str(&format!("{name}\n{command}\n"));
    }
    Ok(sha256(text.as_bytes()).chars().take(12).collect())
}

fn delta(app: &App, source: &Source, layout: &Layout) -> Delta {
    match &app.manifest {
        Some(manifest) => source.tree.delta(manifest, &layout.shared_folders()),
        // The same files as a release that is there already: nothing is sent, everything is linked.
        None if app.newest_tree().is_some() => Delta::default(),
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

/// A virtual environment is larger than the code; 300 MiB is what Django with its usual friends takes, twice over.
fn check_space(facts: &Facts, source: &Source, delta: &Delta, has_venv: bool) -> Result<(), ReleaseError> {
    let packages = if facts.packages.values().any(|package| !package.installed) || facts.packages.is_empty() {
        400
    } else {
        0
    };
    let venv = if has_venv { 0 } else { 300 };
    let needed_mb = 16 + packages + venv + (delta.send_bytes * 2 + source.tree.bytes() / 4) / (1 << 20);
    if facts.host.free_mb < needed_mb {
        return Err(ReleaseError::NoSpace { free_mb: facts.host.free_mb, needed_mb });
    }
    Ok(())
}

/// What is wrong with the live release although nothing about it should change.
fn repairs(config: &Config, facts: &Facts, number: u32, before: &[Change]) -> Vec<Change> {
    let app = &facts.app;
    let mut changes = Vec::new();
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
    for unit in instances(config, number) {
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

struct Steps<'a> {
    context: &'a Context<'a>,
    app: &'a App,
    number: u32,
    venv: &'a str,
    recipe: &'a str,
    layout: &'a Layout,
    record: Record,
}

impl Steps<'_> {
    fn change(&self, name: &str, why: impl Into<String>, script: Script) -> Change {
        Change::run(ResourceId::new("release", name), Action::Run, why, script)
    }

    /// Variables that every step uses; all paths follow from them.
    fn prelude(&self) -> Script {
        let config = self.context.config;
        let root = match config.django.root.as_str() {
            "." | "" => String::new(),
            root => format!("/{root}"),
        };
        Script::new()
            .set("app", &config.app)
            .set("n", format!("v{}", self.number))
            .set("venv", self.venv)
            .set("root", root)
            .line("top=/srv/$app; release=$top/releases/$n; state=/var/lib/ship/$app/releases/$n")
    }

    /// Runs a command as the site does: its user, its environment, its folder.
    fn as_app(&self) -> Script {
        Script::from_text(
            r#"as_app() {
  systemd-run --quiet --collect --wait --pipe --service-type=exec --property=User="$app" --property=Group="$app" \
    --property=WorkingDirectory="$release$root" --property=EnvironmentFile="/etc/ship/$app/$n.env" \
    --property=UMask=0022 -- "$@"
}
"#,
        )
    }

    fn upload(&self, delta: &Delta, why: &str) -> Change {
        let base = self.app.newest_tree().map(|(number, _)| format!("v{number}")).unwrap_or_default();
        let digest = self.context.source.tree.digest();
        let mut script = self
            .prelude()
            .set("base", base)
            .set("digest", digest)
            .line("umask 022")
            .line("rm -rf \"$release\" \"$release.new\" \"$state\"")
            .line("install -d -m 0700 \"$state\"")
            .line("install -d -m 0750 -g \"$app\" \"$release.new\"")
            .line("export LC_ALL=C")
            .then(&heredoc("cat >added", &delta.added))
            .then(&heredoc("cat >removed", &delta.removed))
            .line("sed -i '/^$/d' added removed")
            .line("if [ -n \"$base\" ]; then comm -23 \"$state/../$base/manifest\" removed >kept; else : >kept; fi")
            .line("sort -m kept added >\"$state/manifest\"")
            .line("cut -c68- kept | tr '\\n' '\\0' | ( cd \"$top/releases/${base:-.}\" && xargs -0r cp -lP --parents -t \"$release.new\" -- )");
        if !delta.send.is_empty() {
            script = script
                .then(&wait_for_upload())
                // -m: files are as old as their arrival. collectstatic only takes those newer than what it has.
                .line("tar -xmzf upload -C \"$release.new\" --no-same-owner --unlink-first --delay-directory-restore");
        }
        let script = script
            .line("rm -f kept added removed")
            .line("echo \"$digest  $state/manifest\" | sha256sum --quiet -c - || { echo 'the files on the server are not those of the laptop'; exit 1; }")
            .line("chgrp -R \"$app\" \"$release.new\" 2>/dev/null || true")
            .line("sync -f \"$release.new\"")
            .line("mv -T \"$release.new\" \"$release\"")
            .line("printf '%s\\n' \"$digest\" >\"$state/.new\" && mv \"$state/.new\" \"$state/tree\"");
        let size = if delta.send.is_empty() {
            String::new()
        } else {
            format!("{}, {}", count(delta.send.len(), "file"), human_bytes(delta.send_bytes))
        };
        let why = [why, size.as_str()]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("; ");
        let mut change = self.change(&format!("upload v{}", self.number), why, script);
        if self.app.newest_tree().is_some() {
            let mut list: Vec<String> = delta.send.iter().map(|path| format!("~ {path}")).collect();
            list.extend(delta.gone.iter().map(|path| format!("- {path}")));
            list.sort_by(|a, b| a.get(2..).cmp(&b.get(2..)));
            let more = list.len().saturating_sub(20);
            list.truncate(20);
            if more > 0 {
                list.push(format!("… and {more} more"));
            }
            if !list.is_empty() {
                change.diff = Some(list.join("\n"));
            }
        }
        change
    }

    /// Takes the live release's files as they are.
    fn copy(&self, live: u32, why: &str) -> Change {
        let script = self.prelude().set("base", format!("v{live}")).line(
            r#"rm -rf "$release" "$release.new" "$state"
cp -al "$top/releases/$base" "$release.new"
install -d -m 0700 "$state"
cp "$state/../$base/manifest" "$state/manifest"
mv -T "$release.new" "$release"
cp "$state/../$base/tree" "$state/.new" && mv "$state/.new" "$state/tree""#,
        );
        self.change(&format!("take the files of v{live}"), why, script)
    }

    fn venv(&self, python: &str) -> Change {
        let config = self.context.config;
        let extra = extra_packages(config, self.context.source);
        let mut install = Cmd::new("install");
        for file in &config.django.requirements {
            install = install.arg("-r").arg(file);
        }
        install = install.args(&extra);
        let inner = Script::from_text(
            r#"umask 022
cd "$release"
export HOME="/var/cache/ship/$app" UV_CACHE_DIR="/var/cache/ship/$app/uv" UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never \
  UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_NO_CONFIG=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
  PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_CACHE_DIR="/var/cache/ship/$app/pip"
target=$top/venvs/$venv
rm -rf "$target"
uv=/opt/ship/uv/bin/uv
if [ -x $uv ]; then
  $uv venv --quiet --python /usr/bin/python3 "$target" </dev/null
  install() { $uv pip install --quiet --python "$target/bin/python" --compile-bytecode "$@" </dev/null; }
else
  python3 -m venv "$target" </dev/null
  install() { "$target/bin/python" -m pip install -q "$@" </dev/null; }
fi
"#,
        )
        .cmd(install)
        .line("touch \"$target/.ship-complete\"");
        let body = self.prelude().then(&inner);
        let script = self
            .prelude()
            .line("install -d -o \"$app-build\" -g \"$app-build\" -m 0750 \"/var/cache/ship/$app\"")
            .then(&heredoc("runuser -u \"$app-build\" -- sh -eu", body.text()));
        let mut why = format!("Python {python}, {}", config.django.requirements.join(", "));
        for name in extra {
            why.push_str(&format!(" + {name}"));
        }
        self.change("install Python packages", why, script)
    }

    /// Composes the environment, links what is shared, and asks Django.
    fn prepare(&self, why: String) -> Change {
        let mut script = self
            .prelude()
            .then(&self.as_app())
            .line("ln -sfn \"$venv\" \"$top/venvs/$n\"")
            .line("( cd \"/etc/ship/$app/config\"")
            .line("  umask 027; cat -- *.env >\"../$n.env.new\"; chgrp \"$app\" \"../$n.env.new\"; mv \"../$n.env.new\" \"../$n.env\"")
            .line("  sha256sum -- *.env >\"$state/config\" )");
        // Python files of the site itself are compiled once, by root, since the site can't write there. The
        // system's Python does it: root must not run what the virtual environment brings.
        script = script.line("python3 -I -m compileall -q -j 0 \"$release\" >/dev/null 2>&1 || true");
        let domains = Cmd::new("-").raw("\"$release\"").args(&self.context.config.domains);
        let question = format!("answer=$(as_app \"$top/venvs/$n/bin/python\" {}", domains.text());
        script = script
            .then(&heredoc(&question, ASK))
            .line(")")
            .line("printf '%s\\n' \"$answer\" | tail -n 1 >\"$state/.new\" && mv \"$state/.new\" \"$state/answer.json\"")
            .line("printf '%s\\n' \"$venv\" >\"$state/venv\"")
            .set("expected", self.layout.line())
            .line("if [ \"$(cat \"$state/answer.json\")\" != \"$expected\" ]; then")
            .line("  printf 'Django answers otherwise than planned: %s\\n' \"$(cat \"$state/answer.json\")\"")
            .line(&format!("  exit {ANSWER_DIFFERS}"))
            .line("fi")
            .then(&self.link_shared());
        self.change("ask Django for its settings", why, script)
    }

    /// Puts links to the shared folders in the places of STATIC_ROOT and MEDIA_ROOT.
    fn link_shared(&self) -> Script {
        let mut script = Script::from_text(
            r#"share() {
  here=$release/$1
  if [ -L "$here" ]; then rm -f "$here"; fi
  if [ -d "$here" ]; then
    # Files of this folder that came with the project are offered once and never overwrite.
    cp -an "$here/." "$2/"; chown -R "$app:$app" "$2"; rm -rf "$here"
  fi
  mkdir -p "$(dirname "$here")"
  ln -s "$2" "$here"
}
"#,
        );
        let shares = [(&self.layout.static_root, "static"), (&self.layout.media_root, "shared/media")];
        for (root, target) in shares {
            if let Some(root) = root.as_deref().filter(|root| !root.starts_with('/')) {
                script = script.set("folder", root).line(&format!("share \"$folder\" \"$top/{target}\""));
            }
        }
        script
    }

    fn manage(&self, arguments: &[&str]) -> String {
        let cmd = Cmd::new("manage.py").args(arguments);
        format!("as_app \"$top/venvs/$n/bin/python\" {}", cmd.text())
    }

    fn collectstatic(&self) -> Change {
        let script = self.prelude().then(&self.as_app()).line(&self.manage(&[
            "collectstatic",
            "--noinput",
            "--verbosity",
            "0",
        ]));
        self.change("collect static files", "", script)
    }

    fn migrate(&self) -> Change {
        let script = self.prelude().then(&self.as_app()).line(&self.manage(&[
            "migrate",
            "--noinput",
            "--verbosity",
            "1",
        ]));
        self.change("migrate the database", "", script)
    }

    fn switch(&self) -> Change {
        let config = self.context.config;
        let mut script = self.prelude().then(&Script::from_text(
            r#"set_live() {
  install -d "/etc/systemd/system/$app.socket.d"
  printf '# Managed by ship: who answers when nobody does.\n[Socket]\nService=%s@%s.service\n' "$app" "$1" \
    >"/etc/systemd/system/$app.socket.d/.live.new"
  mv "/etc/systemd/system/$app.socket.d/.live.new" "/etc/systemd/system/$app.socket.d/live.conf"
}
start() {
  if ! systemctl restart "$1"; then
    echo "$1 does not start. Its last lines:"
    journalctl -q -o cat -n 40 -u "$1" --since "$began" 2>/dev/null | tail -n 40
    systemctl stop "$1" 2>/dev/null || true
    exit 1
  fi
}
began=$(date '+%F %T')
# The socket must name a unit that exists before it can listen at all.
[ -e "/etc/systemd/system/$app.socket.d/live.conf" ] || set_live "$n"
systemctl daemon-reload
systemctl enable --quiet --no-reload "$app.socket" 2>/dev/null || systemctl enable --quiet "$app.socket"
start "$app@$n.service"
set_live "$n"
ln -sfn "$n.env" "/etc/ship/$app/.env.new" && mv -fT "/etc/ship/$app/.env.new" "/etc/ship/$app/live.env"
ln -sfn "releases/$n" "$top/.current.new" && mv -fT "$top/.current.new" "$top/current"
"#,
        ));
        script = script.set("recipe", self.recipe).line("printf '%s\\n' \"$recipe\" >\"$state/recipe\"");
        for name in config.workers.keys() {
            script =
                script.cmd(Cmd::new("start").arg(format!("{}-{name}@v{}.service", config.app, self.number)));
        }
        let mut keep = Cmd::new("set").arg("--");
        for unit in instances(config, self.number) {
            keep = keep.arg(unit);
        }
        let script = script.cmd(keep).line(
            r#"systemctl enable --quiet --no-reload "$@"
keep=" $* "
# Every other instance of this application drains; those of removed processes, too.
others=$( { systemctl list-units --all --plain --no-legend "$app@*.service" "$app-*@*.service" | cut -d' ' -f1
  cd /etc/systemd/system/multi-user.target.wants && ls -d -- "$app"@*.service "$app"-*@*.service 2>/dev/null; } | sort -u)
for unit in $others; do
  case "$keep" in *" $unit "*) continue ;; esac
  systemctl disable --quiet --no-reload "$unit" 2>/dev/null || rm -f "/etc/systemd/system/multi-user.target.wants/$unit"
  systemctl stop --no-block "$unit"
done
systemctl daemon-reload"#,
        );
        let why = match self.app.current {
            Some(old) => format!("v{old} serves until v{} does", self.number),
            None => String::new(),
        };
        self.change(&format!("switch to v{}", self.number), why, script)
    }

    fn record(&self) -> Change {
        let record = Record { number: self.number, ..self.record.clone() };
        let record = serde_json::to_string(&record).unwrap_or_default();
        let script = self
            .prelude()
            .set("record", record)
            .set("keep", self.context.config.keep_releases.to_string())
            .line(
                r#"at=$(date -u +%Y-%m-%dT%H:%M:%SZ)
log=/var/lib/ship/$app/releases.jsonl
printf '%s\n' "$record" | sed "s/\"at\":\"\"/\"at\":\"$at\"/" >>"$log"
sync -f "$log"
# Releases beyond the last few go, and so does every virtual environment that no release uses.
cd "$top/releases"
ls -d v* 2>/dev/null | sed 's/^v//' | grep -x '[0-9]*' | sort -rn | tail -n "+$((keep + 1))" | while IFS= read -r old; do
  [ "v$old" != "$n" ] || continue
  rm -rf "v$old" "$state/../v$old" "/etc/ship/$app/v$old.env" "$top/venvs/v$old"
done
rm -rf ./*.new
cd "$top/venvs"
for link in v[0-9]*; do
  if [ -L "$link" ] && [ ! -d "$top/releases/$link" ]; then rm -f "$link"; fi
done
for folder in *; do
  if [ -L "$folder" ] || [ ! -d "$folder" ]; then continue; fi
  used=
  for link in v[0-9]*; do
    if [ -L "$link" ] && [ "$(readlink "$link")" = "$folder" ]; then used=1; break; fi
  done
  [ -n "$used" ] || rm -rf "$folder"
done"#,
            );
        self.change(&format!("record v{}", self.number), "", script)
    }
}

/// The question that the project's own Django answers.
const ASK: &str = include_str!("../templates/django/ask.py");

/// `1 file`, `3 files`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Bytes for people: `812 B`, `3.4 kB`, `12 MB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = "kB";
    for next in UNITS {
        unit = next;
        if value < 999.5 {
            break;
        }
        if next != "TB" {
            value /= 1000.0;
        }
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}
