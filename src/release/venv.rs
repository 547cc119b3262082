//! The virtual environment of a release: its name, what goes into it beside the project's own wishes, and its making.
//!
//! Invariant: the name follows from everything that is installed, so that two releases share one only if they may.

use crate::apply::heredoc;
use crate::config::{Config, Database};
use crate::plan::Change;
use crate::project::Packages;
use crate::project::dependencies::How;
use crate::project::engines::MYSQL_DRIVERS;
use crate::resources::file::sha256;
use crate::shell::{Cmd, Script};

use super::Source;
use super::python::Interpreter;
use super::steps::{COMPILE, Steps};

/// Packages that a project needs on a server and may not name itself.
pub fn extra_packages(config: &Config, packages: &Packages) -> Vec<&'static str> {
    // Without its extra, uvicorn knows nothing of websockets: a bare `uvicorn` of the project's is not enough.
    let there = |package: &str| !package.contains('[') && packages.has(package);
    let servers = config.web.serving.packages().iter().copied();
    let mut extra: Vec<&'static str> = servers.filter(|package| !there(package)).collect();
    let drivers = ["psycopg", "psycopg-binary", "psycopg2", "psycopg2-binary", "psycopg2cffi"];
    if config.database == Database::Postgres && !drivers.iter().any(|name| packages.has(name)) {
        // Django takes psycopg 3 since 4.2, and psycopg2's answers about time zones since 2.9 only since 3.1.
        extra.push(match packages.version("django") {
            Some(django) if django < (3, 1) => "psycopg2-binary<2.9",
            Some(django) if django < (4, 2) => "psycopg2-binary",
            Some(_) | None => "psycopg[binary]",
        });
    }
    if config.speaks_mysql && !MYSQL_DRIVERS.iter().any(|name| packages.has(name)) {
        // The one that Django itself names; PyMySQL only pretends to be it.
        extra.push("mysqlclient");
    }
    extra
}

/// Names a virtual environment by all that goes into it.
pub(super) fn hash(config: &Config, source: &Source, python: &Interpreter) -> String {
    let packages = &source.packages;
    let mut text = format!("1\n{}\n{}\n", python.key(), extra_packages(config, packages).join(" "));
    text.push_str(&packages.fingerprint());
    // A package of the project itself is installed from its files.
    if packages.local {
        text.push_str(source.tree.digest());
    }
    if packages.dependencies.itself {
        text.push_str("itself");
    }
    sha256(text.as_bytes()).chars().take(12).collect()
}

impl Steps<'_> {
    /// Makes the virtual environment.
    pub(super) fn venv(&self, python: &Interpreter) -> Change {
        let config = self.context.config;
        let packages = &self.context.source.packages;
        let extra = extra_packages(config, packages);
        let script = self
            .guarded("install Python packages")
            .line("if [ -e \"$top/venvs/$venv/.ship-complete\" ]; then : >idle; exit 0; fi")
            .line("install -d -o \"$app-build\" -g \"$app-build\" -m 0750 \"/var/cache/ship/$app\"")
            .then(&credentials(config, packages))
            .then(&heredoc("runuser -u \"$app-build\" -- sh -eu", self.making(python, &sources(packages))));
        let mut why = format!("Python {}, {}", python.series, packages.dependencies.shown());
        for name in extra {
            why.push_str(&format!(" + {name}"));
        }
        let mut change = self.change("install Python packages", why, script);
        change.early = self.early(python);
        change
    }

    /// What makes the environment, in the folder that `sources` goes to.
    fn making(&self, python: &Interpreter, sources: &Script) -> Script {
        let packages = &self.context.source.packages;
        let extra = extra_packages(self.context.config, packages);
        let body = self
            .prelude()
            .set("python", python.program())
            .set("folder", &packages.dependencies.folder)
            .set("base", self.app.current.map(|live| format!("v{live}")).unwrap_or_default())
            .then(&Script::fixed(PREPARE))
            .then(sources)
            .then(&install(packages));
        let body = if extra.is_empty() { body } else { body.cmd(Cmd::new("install").args(&extra)) };
        body.then(&heredoc(
            "compile() {\n\"$target/bin/python\" -I - \"$target\" \"$top/venvs/$base\"",
            COMPILE,
        ))
        .line("}")
        .line("if [ -n \"$late\" ]; then compile >/dev/null 2>&1 || true; fi")
        .line("sync -f \"$target\"")
        .line("touch \"$target/.ship-complete\"")
    }

    /// The same while the server's packages are still being installed, as far as it takes nothing but wheels that anyone may
    /// have. The step itself finds it done, or begins anew.
    fn early(&self, python: &Interpreter) -> Option<Script> {
        let config = self.context.config;
        let packages = &self.context.source.packages;
        let own = packages.local || packages.git || packages.dependencies.itself;
        if own || python.managed || !credentials(config, packages).is_empty() {
            return None;
        }
        let sources = packages.inputs.iter().fold(
            Script::new().line("mkdir \"$work/project\"").line("cd \"$work/project\""),
            |script, (path, text)| {
                script
                    .set("file", path)
                    .line("mkdir -p \"$(dirname \"./$file\")\"")
                    .then(&heredoc("cat >\"./$file\"", text.clone()))
            },
        );
        let script = self.prelude().then(&Script::fixed(EARLY));
        let run = "timeout 600 runuser -u \"$app-build\" -- sh -eu";
        Some(script.then(&heredoc(run, self.making(python, &sources))))
    }
}

/// Only uv can be told to build nothing.
const EARLY: &str = r#"[ -x /opt/ship/uv/bin/uv ]
export UV_NO_BUILD=1
install -d "$top" /var/cache/ship
install -d -o "$app-build" -g "$app-build" "$top/venvs"
install -d -o "$app-build" -g "$app-build" -m 0750 "/var/cache/ship/$app"
"#;

/// Everything goes on as the build user, who may write nowhere but here and into the environment.
const PREPARE: &str = r#"umask 022
export HOME="/var/cache/ship/$app" UV_CACHE_DIR="/var/cache/ship/$app/uv" UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never \
  UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_NO_EDITABLE=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
  PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_CACHE_DIR="/var/cache/ship/$app/pip"
target=$top/venvs/$venv
rm -rf "$target"
work=$(mktemp -d "/var/cache/ship/$app/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
late=
uv=/opt/ship/uv/bin/uv
if [ -x $uv ]; then
  UV_NO_CONFIG=1 $uv venv --quiet --no-project --python "$python" "$target" </dev/null
  # Most packages are those of the live release, the very files: what is compiled of them can be linked, too.
  if [ -n "$base" ] && [ -d "$top/venvs/$base/" ]; then late=1; else export UV_COMPILE_BYTECODE=1; fi
  install() { UV_NO_CONFIG=1 $uv pip install --quiet --python "$target/bin/python" "$@" </dev/null; }
else
  "$python" -m venv "$target" </dev/null
  install() { "$target/bin/python" -m pip install -q "$@" </dev/null; }
fi
"#;

/// Goes to the project's files: to a copy that a build may write to, when something of the project is built.
fn sources(packages: &Packages) -> Script {
    if !packages.local {
        return Script::from_text("cd \"$release\"\n");
    }
    let script = Script::from_text("cp -r \"$release\" \"$work/project\"\ncd \"$work/project\"\n");
    // An environment outlives the release that it was made in, so nothing in it may point there.
    let mut editable = Cmd::new("sed").arg("-i").arg("-E");
    for rule in [
        r"s/^[[:space:]]*(-e|--editable)[[:space:]=]+((git|hg|svn|bzr)\+[^#[:space:]]*)#egg=([A-Za-z0-9._-]+).*$/\4 @ \2/",
        r"s/^[[:space:]]*(-e|--editable)[[:space:]=]+([a-z+]+:|[.\/])/\2/",
        r"s/^[[:space:]]*(-e|--editable)[[:space:]=]+/.\//",
    ] {
        editable = editable.arg("-e").arg(rule);
    }
    let files: Vec<&String> = match &packages.how {
        How::Files(_) => {
            packages.inputs.iter().map(|(path, _)| path).filter(|path| path.ends_with("txt")).collect()
        }
        How::Text(_) | How::Sync(_) | How::Itself => Vec::new(),
    };
    if files.is_empty() { script } else { script.cmd(editable.arg("--").args(&files)) }
}

fn install(packages: &Packages) -> Script {
    let files = |files: &[String]| {
        files.iter().fold(Cmd::new("install"), |command, file| command.arg("-r").arg(file))
    };
    let itself = "install --no-deps \"./$folder\"";
    let script = match &packages.how {
        How::Files(named) => Script::new().cmd(files(named)),
        How::Text(text) => Script::from_text("cd \"./$folder\"\n")
            .then(&heredoc("cat >\"$work/requirements.txt\"", text.clone()))
            .line("install -r \"$work/requirements.txt\"")
            .line("cd - >/dev/null"),
        How::Sync(arguments) => Script::fixed(SYNC).cmd(Cmd::new("from_lock").args(arguments)),
        How::Itself => return Script::from_text("install \"./$folder\"\n"),
    };
    if packages.dependencies.itself { script.line(itself) } else { script }
}

/// Installs what `uv.lock` says, by the one program that reads it in full.
const SYNC: &str = r#"[ -x $uv ] || { echo 'ship-cause: uv.lock needs uv, and PyPI has none for this machine'; exit 1; }
from_lock() {
  UV_PROJECT_ENVIRONMENT="$target" $uv sync --quiet --locked --no-dev --no-editable --no-install-project \
    --python "$target/bin/python" --project "./$folder" "$@" </dev/null
}
"#;

/// Gives the environment the secrets that the project's files ask for: passwords of private indexes.
///
/// They go from root's files into the environment of the build alone, neither into arguments nor into the journal.
fn credentials(config: &Config, packages: &Packages) -> Script {
    let wanted = packages.variables();
    let is_wanted = |name: &String| wanted.contains(name) || name.starts_with("UV_INDEX_");
    let mut script = Script::new();
    for (name, value) in config.env.iter().filter(|(name, _)| is_wanted(name)) {
        script = script.set(name, value).line(&format!("export {name}"));
    }
    for name in config.secrets.iter().filter(|name| is_wanted(name)) {
        let file = super::secret_file(name);
        script = script.line(&format!("set -a; . \"/etc/ship/$app/config/{file}\"; set +a"));
    }
    script
}
