//! What a project's files say about it: names and contents in, facts out.
//!
//! Invariant: nothing here touches a disk or runs Python. What the files don't say plainly stays
//! `None`, and a choice between several answers is the user's.

mod bounds;
pub mod dependencies;
pub mod engines;
pub mod libraries;
pub mod node;
mod python;
mod server;
pub mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use bounds::Bounds;
pub use dependencies::{Dependencies, Packages};
pub use node::Node;
pub use python::{Version, parse_version};
pub(crate) use python::{is_dotted, normalized};
pub use server::AppJson;

use crate::error::Failure;
use crate::human::count;
use crate::nearest::nearest;
use crate::process::services::Signs;
use crate::process::{command, release_line};

type Reader<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// A project's files: relative paths with `/`, and a way to read the small ones.
pub struct Tree<'a> {
    folder: String,
    paths: Vec<String>,
    read: Reader<'a>,
}

impl<'a> Tree<'a> {
    /// A tree of `paths`, whose text `read` returns: `None` for what is not UTF-8 or too large.
    pub fn new(
        paths: impl IntoIterator<Item = impl Into<String>>,
        read: impl Fn(&str) -> Option<String> + 'a,
    ) -> Self {
        let mut paths: Vec<String> = paths.into_iter().map(Into::into).collect();
        paths.sort();
        paths.dedup();
        Self { folder: "this folder".to_owned(), paths, read: Box::new(read) }
    }

    /// Says where the tree is, for messages: a path as the user would write it.
    #[must_use]
    pub fn in_folder(mut self, folder: &str) -> Self {
        self.folder = format!("`{folder}`");
        self
    }

    /// A tree held in memory.
    pub fn from_map(files: BTreeMap<String, String>) -> Tree<'static> {
        Tree::new(files.keys().cloned().collect::<Vec<_>>(), move |path| files.get(path).cloned())
    }

    /// The text of a file, without a byte order mark.
    fn text(&self, path: &str) -> Option<String> {
        let text = (self.read)(path)?;
        Some(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
    }

    fn has(&self, path: &str) -> bool {
        self.paths.binary_search_by(|known| known.as_str().cmp(path)).is_ok()
    }
}

/// A value and the file that said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: String,
    /// The file, relative to the project.
    pub origin: String,
}

/// A folder with Django's `manage.py`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The folder relative to the project, `.` for the top.
    pub dir: String,
    /// The settings module that `wsgi.py` or `manage.py` sets.
    pub settings: Option<Found>,
    /// Every settings module below the folder, with its `WSGI_APPLICATION`.
    pub settings_modules: BTreeMap<String, Option<String>>,
    /// Every module called `wsgi` below the folder.
    pub wsgi_modules: Vec<String>,
    /// The files that say which packages it needs.
    pub dependencies: Option<Dependencies>,
    /// The command that writes such a file, when there is none but what it could be written from.
    pub export: Option<Found>,
}

/// Something worth telling the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub what: String,
    /// Why it matters, or what to do.
    pub why: String,
}

/// What a project's files say about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Project {
    /// Every folder with Django's `manage.py`, the shallowest first.
    pub roots: Vec<Root>,
    /// The Python asked for by `runtime.txt`, `.python-version` or `Pipfile`.
    pub python: Option<Found>,
    /// The Pythons that `pyproject.toml` or `setup.py` allow, and the file that says it; bounds, not a wish.
    pub python_bounds: Option<(Bounds, String)>,
    /// Names of the required distributions, lower-cased and with dashes.
    pub packages: BTreeSet<String>,
    /// The `Procfile`'s lines by name.
    pub procfile: BTreeMap<String, String>,
    /// Whether settings or models name `django.contrib.gis`.
    pub geodjango: bool,
    /// The front end that node builds.
    pub node: Option<Node>,
    /// Heroku's `app.json`.
    pub app_json: Option<AppJson>,
    /// What says of services, task queues and ASGI.
    pub signs: Signs,
    /// What the user should know.
    pub findings: Vec<Finding>,
    folder: String,
    files: BTreeSet<String>,
    other_manage: Vec<String>,
}

/// Why a project can't be deployed as it is; no place in `ship.yml` is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectError {
    /// What is wrong, in one line.
    pub message: String,
    /// What to try.
    pub hints: Vec<String>,
}

impl ProjectError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new() }
    }

    #[must_use]
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for ProjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProjectError {}

impl From<ProjectError> for Failure {
    fn from(error: ProjectError) -> Self {
        error.hints.into_iter().fold(Failure::input(error.message), Failure::hint)
    }
}

/// Looks at a project's files.
pub fn detect(tree: &Tree<'_>) -> Project {
    let mut project = Project {
        folder: tree.folder.clone(),
        files: tree.paths.iter().cloned().collect(),
        ..Project::default()
    };
    project.find_roots(tree);
    project.find_dependencies(tree);
    project.find_python(tree);
    project.find_libraries(tree);
    if let Some(why) = project.signs.engines.mysql(&project.packages) {
        project.note(why, "the site gets MariaDB, unless `database:` says otherwise");
    }
    project.find_procfile(tree);
    project.find_app_json(tree);
    project.find_node(tree);
    project
}

impl Project {
    /// Whether the project has this file; `path` is relative to the project.
    pub fn has_file(&self, path: &str) -> bool {
        self.files.contains(path)
    }

    /// Every file of the project.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// Procfile lines that are neither the site itself nor a release step: processes beside the site.
    pub fn worker_candidates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.procfile
            .iter()
            .map(|(name, line)| (name.as_str(), command::without_runner(line)))
            .filter(|(name, _)| !matches!(*name, "web" | "release"))
    }

    /// The folder with `manage.py`: the wanted one, or the only one.
    pub fn root(&self, wanted: Option<&str>) -> Result<&Root, ProjectError> {
        let list = || self.roots.iter().map(|root| root.dir.as_str()).collect::<Vec<_>>().join(", ");
        match (wanted, self.roots.as_slice()) {
            (None, [only]) => Ok(only),
            (None, []) => Err(self.no_manage()),
            (None, [..]) => {
                Err(ProjectError::new(format!("the project has several manage.py, in {}", list()))
                    .hint("name the folder of the one to deploy: `django: {root: …}`"))
            }
            (Some(dir), roots) => roots.iter().find(|root| root.dir == dir).ok_or_else(|| {
                let error =
                    ProjectError::new(format!("the folder `{dir}` has no manage.py of a Django project"));
                if roots.is_empty() { error } else { error.hint(format!("manage.py is in {}", list())) }
            }),
        }
    }

    fn no_manage(&self) -> ProjectError {
        let error = ProjectError::new(format!(
            "no manage.py of a Django project in {} or below it ({} searched)",
            self.folder,
            count(self.files.len(), "file")
        ));
        let error = match self.other_manage.first() {
            Some(path) => error.hint(format!("{path} does not mention Django")),
            None => error,
        };
        error.hint("run ship in the project's folder, or name it with `-C DIR`").hint(
            "virtual environments, node_modules and hidden folders are not searched, nor what git ignores",
        )
    }

    /// Whether `module` is a Python file or package below `root`.
    pub fn has_module(&self, root: &Root, module: &str) -> bool {
        let path = under(&root.dir, &module.replace('.', "/"));
        is_dotted(module)
            && (self.has_file(&format!("{path}.py")) || self.has_file(&format!("{path}/__init__.py")))
    }

    /// The settings module: the wanted one if it exists, or the one that the project's files name.
    pub fn settings(&self, root: &Root, wanted: Option<&str>) -> Result<String, ProjectError> {
        let modules = || root.settings_modules.keys().map(String::as_str);
        let (module, missing) = match (wanted, &root.settings) {
            (Some(module), _) => (
                module,
                format!("the settings module `{module}` does not exist as a file below {}", root.place()),
            ),
            (None, Some(found)) => (
                found.value.as_str(),
                format!("{} names the settings module `{}`, which does not exist", found.origin, found.value),
            ),
            (None, None) => {
                return match modules().collect::<Vec<_>>().as_slice() {
                    [only] => Ok((*only).to_owned()),
                    _ => Err(root.choose_settings(format!(
                        "{} does not say plainly which settings module it uses",
                        under(&root.dir, "manage.py")
                    ))),
                };
            }
        };
        if self.has_module(root, module) {
            return Ok(module.to_owned());
        }
        let error = match nearest(module, modules()) {
            Some(near) => ProjectError::new(missing).hint(format!("did you mean `{near}`?")),
            None => ProjectError::new(missing),
        };
        let ProjectError { message, mut hints } = error;
        let listed = root.choose_settings(message);
        // Who wrote the key needs no telling that there is one.
        hints.extend(listed.hints.into_iter().take(if wanted.is_some() { 1 } else { 2 }));
        Err(ProjectError { message: listed.message, hints })
    }

    /// The WSGI callable, as gunicorn takes it, for a settings module.
    pub fn wsgi(&self, root: &Root, settings: &str) -> Result<String, ProjectError> {
        let declared = root.settings_modules.get(settings).and_then(Option::as_deref);
        if let Some((module, callable)) = declared.and_then(|text| text.rsplit_once('.'))
            && self.has_module(root, module)
        {
            return Ok(if callable == "application" {
                module.to_owned()
            } else {
                format!("{module}:{callable}")
            });
        }
        let mut package = settings;
        while let Some((parent, _)) = package.rsplit_once('.') {
            package = parent;
            let module = format!("{package}.wsgi");
            if root.wsgi_modules.contains(&module) {
                return Ok(module);
            }
        }
        match root.wsgi_modules.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(ProjectError::new(format!("no wsgi.py below {}", root.place())).hint(
                "`django-admin startproject` writes one beside the settings; name it with `django: {wsgi: package.wsgi}`",
            )),
            several => Err(ProjectError::new(format!("several WSGI modules: {}", several.join(", ")))
                .hint("name the one to serve: `django: {wsgi: package.wsgi}`")),
        }
    }

    fn note(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.findings.push(Finding { what: what.into(), why: why.into() });
    }

    fn find_roots(&mut self, tree: &Tree<'_>) {
        let environments: Vec<String> =
            tree.paths.iter().filter_map(|path| path.strip_suffix("pyvenv.cfg")).map(str::to_owned).collect();
        let ignored = |path: &str| {
            environments.iter().any(|folder| !folder.is_empty() && path.starts_with(folder))
                || path.split('/').any(|part| {
                    (part.starts_with('.') && part != ".")
                        || matches!(
                            part,
                            "venv" | "virtualenv" | "site-packages" | "node_modules" | "__pycache__"
                        )
                })
        };
        let python: Vec<&str> = tree
            .paths
            .iter()
            .map(String::as_str)
            .filter(|path| path.ends_with(".py") && !ignored(path) && !path.contains(char::is_control))
            .collect();
        let mut dirs = Vec::new();
        for path in &python {
            let Some(dir) = dir_of(path, "manage.py") else { continue };
            let text = tree.text(path);
            if text.as_deref().is_some_and(|text| !text.to_lowercase().contains("django")) {
                self.other_manage.push((*path).to_owned());
            } else {
                dirs.push(dir);
            }
        }
        dirs.sort_by_key(|dir| (if *dir == "." { 0 } else { dir.split('/').count() }, *dir));
        for dir in dirs {
            let root = self.look_at_root(tree, dir, &python);
            self.roots.push(root);
        }
    }

    fn look_at_root(&mut self, tree: &Tree<'_>, dir: &str, python: &[&str]) -> Root {
        let manage = under(dir, "manage.py");
        let setting_of = |path: &str| {
            let text = tree.text(path)?;
            let value = python::settings_module(&text)?;
            Some(Found { value, origin: path.to_owned() })
        };
        let mut settings_modules = BTreeMap::new();
        let mut wsgi_modules = Vec::new();
        let mut wsgi_settings: Vec<Found> = Vec::new();
        for path in python {
            let module = python::module_of(below(dir, path));
            if Signs::wants(path)
                && let Some(text) = tree.text(path)
            {
                self.signs.read(path, module.as_deref(), &text);
            }
            let Some(module) = module else { continue };
            if python::is_settings(&module) {
                let wsgi = tree.text(path).and_then(|text| python::assigned_text(&text, "WSGI_APPLICATION"));
                settings_modules.insert(module, wsgi);
            } else if module == "wsgi" || module.ends_with(".wsgi") {
                wsgi_modules.push(module);
                wsgi_settings.extend(setting_of(path));
            }
        }
        // What serves the site elsewhere is wsgi.py; manage.py often names a developer's settings.
        let from_manage = setting_of(&manage);
        let exists = |found: &Found| settings_modules.contains_key(&found.value);
        let served = match wsgi_settings.as_slice() {
            [only] if exists(only) => Some(only.clone()),
            [] | [_] | [..] => None,
        };
        let settings = match (from_manage, served) {
            (Some(manage), Some(wsgi)) if manage.value != wsgi.value => {
                self.note(
                    format!(
                        "{} uses `{}`, {} uses `{}`",
                        manage.origin, manage.value, wsgi.origin, wsgi.value
                    ),
                    format!(
                        "a site is served through {}, so its settings are taken; `django.settings` overrides",
                        wsgi.origin
                    ),
                );
                Some(wsgi)
            }
            (Some(manage), _) => Some(manage),
            (None, served) => served,
        };
        let settings = settings.map(|found| self.for_server(tree, dir, found, &settings_modules));
        Root {
            dir: dir.to_owned(),
            settings,
            settings_modules,
            wsgi_modules,
            dependencies: None,
            export: None,
        }
    }

    /// The settings meant for a server, when the project's files name others.
    fn for_server(
        &mut self,
        tree: &Tree<'_>,
        dir: &str,
        found: Found,
        modules: &BTreeMap<String, Option<String>>,
    ) -> Found {
        let is_empty = |module: &str| {
            let text = tree.text(&under(dir, &format!("{}/__init__.py", module.replace('.', "/"))));
            text.is_some_and(|text| python::without_comments(&text).trim().is_empty())
        };
        let Some(value) = server::settings_for_server(&found.value, modules.keys(), is_empty) else {
            return found;
        };
        self.note(
            format!("settings are `{value}`, although {} names `{}`", found.origin, found.value),
            "by their name they are meant for a server; `django: {settings: …}` overrides",
        );
        Found { value, origin: found.origin }
    }

    /// Makes one of several roots the one that comes first.
    pub fn prefer(&mut self, dir: &str) {
        self.roots.sort_by_key(|root| root.dir != dir);
    }

    fn find_dependencies(&mut self, tree: &Tree<'_>) {
        let mut findings: Vec<Finding> = Vec::new();
        for root in &mut self.roots {
            let found = dependencies::search(tree, &root.dir);
            root.dependencies = found.dependencies;
            root.export = found.export;
            for finding in found.findings {
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        self.findings.extend(findings);
        let Some(dependencies) = self.roots.first().and_then(|root| root.dependencies.clone()) else {
            return;
        };
        let inputs = dependencies::inputs(&dependencies, |path| match tree.text(path) {
            Some(text) => Ok(text),
            None => Err(path.to_owned()),
        });
        match inputs.map(|inputs| Packages::read(&dependencies, inputs)) {
            Ok(Ok(packages)) => self.packages = packages.names.into_keys().collect(),
            Ok(Err(error)) => self.note(error.message, error.hints.join("; ")),
            Err(path) if tree.has(&path) => self.note(
                format!("{path} is not UTF-8 text"),
                "PowerShell's `>` writes UTF-16, which pip on the server can't read: save the file as UTF-8",
            ),
            Err(path) => {
                self.note(format!("there is no {path}"), format!("{} names it", dependencies.shown()))
            }
        }
    }

    fn find_libraries(&mut self, tree: &Tree<'_>) {
        let names = |path: &&str| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name == "models.py" || path.contains("/models/") || path.contains("settings")
        };
        let python = tree.paths.iter().map(String::as_str).filter(|path| path.ends_with(".py"));
        let said = python.filter(names).find(|path| {
            tree.text(path).is_some_and(|text| python::without_comments(&text).contains(libraries::GEODJANGO))
        });
        if let Some(path) = said.map(str::to_owned) {
            self.geodjango = true;
            self.note(format!("{path} uses GeoDjango"), "its libraries GDAL, GEOS and PROJ are installed");
        }
        let found = self.roots.first().and_then(|root| root.dependencies.as_ref());
        let Some(Ok(packages)) = found.map(|found| {
            let inputs = dependencies::inputs(found, |path| tree.text(path).ok_or(())).unwrap_or_default();
            Packages::read(found, inputs)
        }) else {
            return;
        };
        let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (library, names) in libraries::needed(&packages, false, &[]) {
            for name in names {
                by_name.entry(name).or_default().push(library.clone());
            }
        }
        for (name, libraries) in by_name {
            let what = match name.as_str() {
                "git" => "packages come from git".to_owned(),
                name => format!("{name} needs what no wheel brings"),
            };
            self.note(what, format!("the server gets {}", libraries.join(", ")));
        }
    }

    fn find_python(&mut self, tree: &Tree<'_>) {
        let mut folders = vec![".".to_owned()];
        if let [only] = self.roots.as_slice() {
            folders.push(only.dir.clone());
        }
        for name in ["runtime.txt", ".python-version"] {
            let Some((path, text)) = first_text(tree, &folders, name) else { continue };
            let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
            let Some(line) = line else { continue };
            match parse_version(line.strip_prefix("python-").unwrap_or(line)) {
                Some(version) if self.python.is_none() => {
                    self.python = Some(Found { value: version.to_string(), origin: path });
                }
                Some(_) => {}
                None => self.note(
                    format!("{path} says `{line}`, which is not a version such as 3.11"),
                    "it is not followed; `python: \"3.11\"` in ship.yml decides",
                ),
            }
        }
        for (name, read) in python::SAYS_PYTHON {
            let Some((path, text)) = first_text(tree, &folders, name) else { continue };
            match read(&text) {
                Some(python::Says::Wish(version)) if self.python.is_none() => {
                    self.python = Some(Found { value: version.to_string(), origin: path });
                }
                Some(python::Says::Bounds(bounds)) if self.python_bounds.is_none() => {
                    self.python_bounds = Some((bounds, path));
                }
                Some(python::Says::Wish(_) | python::Says::Bounds(_)) | None => {}
            }
        }
    }

    fn find_procfile(&mut self, tree: &Tree<'_>) {
        let mut folders = vec![".".to_owned()];
        if let [only] = self.roots.as_slice() {
            folders.push(only.dir.clone());
        }
        let Some((path, text)) = first_text(tree, &folders, "Procfile") else { return };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(':') {
                Some((name, command))
                    if !name.contains(char::is_whitespace) && !command.trim().is_empty() =>
                {
                    self.procfile.insert(name.to_owned(), command.trim().to_owned());
                }
                Some(_) | None => self.note(
                    format!("{path} has the line `{line}`"),
                    "it is not of the form `name: command` and was left out",
                ),
            }
        }
        self.note_release(&path);
    }

    fn find_app_json(&mut self, tree: &Tree<'_>) {
        let Some(found) =
            tree.text("app.json").filter(|_| tree.has("app.json")).and_then(|text| server::app_json(&text))
        else {
            return;
        };
        let count = |(name, count): (&String, &u64)| format!("{count} {name}");
        let formation: Vec<String> = found.formation.iter().map(count).collect();
        if !formation.is_empty() {
            self.note(
                format!("app.json asks for {}", formation.join(", ")),
                "the site's workers are sized for the server; others are named under `processes`",
            );
        }
        if let Some(command) = &found.postdeploy {
            self.note(
                format!("app.json runs `{command}` after the first deploy"),
                "ship does not: `ship run` does, once the site is up",
            );
        }
        if !found.secrets.is_empty() {
            self.note(
                format!("app.json wants {}", found.secrets.join(", ")),
                "they are in `secrets`; `ship config set NAME=VALUE` sets each before the first `ship up`",
            );
        }
        self.app_json = Some(found);
    }

    fn find_node(&mut self, tree: &Tree<'_>) {
        let Some(found) = self.roots.first().and_then(|root| node::find(tree, &root.dir)) else { return };
        let package = under(&found.folder, "package.json");
        let locked =
            if found.lock.is_some() { "" } else { "; without a lock file, versions may differ next time" };
        self.note(
            format!("{package} has a build script"),
            format!(
                "node builds the front end of each release on the server{locked}; `node: off` leaves it out"
            ),
        );
        self.node = Some(found);
    }

    fn note_release(&mut self, path: &str) {
        if let Some(rest) = self.procfile.get("release").and_then(|line| release_line::rest(line)) {
            self.note(
                format!("{path} has the release step `{rest}`"),
                "it runs once for each release, after the migrations and before the release serves",
            );
        }
    }
}

impl Root {
    fn place(&self) -> String {
        if self.dir == "." { "the project's folder".to_owned() } else { format!("the folder `{}`", self.dir) }
    }

    fn choose_settings(&self, message: String) -> ProjectError {
        let error = ProjectError::new(message);
        if self.settings_modules.is_empty() {
            return error.hint(format!("no settings module was found below {}", self.place()));
        }
        let list: Vec<&str> = self.settings_modules.keys().map(String::as_str).take(12).collect();
        error
            .hint(format!("settings modules here: {}", list.join(", ")))
            .hint("name one with `django: {settings: …}`")
    }
}

fn first_text(tree: &Tree<'_>, folders: &[String], name: &str) -> Option<(String, String)> {
    folders.iter().map(|folder| under(folder, name)).find_map(|path| {
        let text = if tree.has(&path) { tree.text(&path) } else { None }?;
        Some((path, text))
    })
}

/// `name` in the folder `dir`, which may be `.`.
pub(crate) fn under(dir: &str, name: &str) -> String {
    if dir == "." { name.to_owned() } else { format!("{dir}/{name}") }
}

/// `path` seen from the folder `dir`; `None` when it is elsewhere.
fn below<'p>(dir: &str, path: &'p str) -> Option<&'p str> {
    if dir == "." { Some(path) } else { path.strip_prefix(dir)?.strip_prefix('/') }
}

/// The folder of `path` if the file is called `name`.
fn dir_of<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    match path.strip_suffix(name)? {
        "" => Some("."),
        dir => dir.strip_suffix('/'),
    }
}

/// `path` as written in the folder `dir`, with `.` and `..` resolved.
pub(crate) fn join(dir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
