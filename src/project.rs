//! What a project's files say about it: names and contents in, facts out.
//!
//! Invariant: nothing here touches a disk or runs Python. What the files don't say plainly stays
//! `None`, and a choice between several answers is the user's.

mod python;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub(crate) use python::is_dotted;
pub use python::{Version, parse_version};

use crate::error::Failure;
use crate::nearest::nearest;

/// Requirements files that are looked for in a folder, the best first.
const REQUIREMENTS: [&str; 4] =
    ["requirements.txt", "requirements/production.txt", "requirements/prod.txt", "requirements/base.txt"];

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
    /// Requirements files to install, relative to the project; empty when there is none.
    pub requirements: Vec<String>,
    /// How to write a requirements file from what else pins the dependencies, when there is none.
    pub export: Option<Found>,
    /// The Python asked for by `runtime.txt`, `.python-version` or `requires-python = "==…"`.
    pub python: Option<Found>,
    /// The lowest Python that `pyproject.toml` allows; a bound, not a wish.
    pub python_at_least: Option<Found>,
    /// Names of the required distributions, lower-cased and with dashes, `-r` followed.
    pub packages: BTreeSet<String>,
    /// Whether the requirements hold gunicorn.
    pub has_gunicorn: bool,
    /// The `Procfile`'s lines by name.
    pub procfile: BTreeMap<String, String>,
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
    project.find_requirements(tree);
    project.find_python(tree);
    project.find_procfile(tree);
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

    /// Procfile lines that are neither the site itself nor a release step: candidates for workers.
    pub fn worker_candidates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.procfile
            .iter()
            .map(|(name, command)| (name.as_str(), command.as_str()))
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
            "no manage.py of a Django project in {} or below it ({} files searched)",
            self.folder,
            self.files.len()
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

    /// The requirements files for a root: its own first, then those at the top of the project.
    pub fn requirements_for(&self, root: &Root) -> Vec<String> {
        let own = REQUIREMENTS.iter().map(|name| under(&root.dir, name)).find(|path| self.has_file(path));
        own.map_or_else(|| self.requirements.clone(), |path| vec![path])
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
            let Some(module) = python::module_of(below(dir, path)) else { continue };
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
        Root { dir: dir.to_owned(), settings, settings_modules, wsgi_modules }
    }

    fn find_requirements(&mut self, tree: &Tree<'_>) {
        // With several roots it is not known yet which one counts; the top of the project does anyway.
        let mut folders = Vec::new();
        if let [only] = self.roots.as_slice() {
            folders.push(only.dir.clone());
        }
        folders.push(".".to_owned());
        let found = folders
            .iter()
            .flat_map(|folder| REQUIREMENTS.iter().map(move |name| under(folder, name)))
            .find(|path| tree.has(path));
        match found {
            Some(path) => {
                let mut seen = BTreeSet::new();
                self.read_requirements(tree, &path, &mut seen);
                self.requirements = vec![path];
            }
            None => self.find_export(tree, &folders),
        }
        self.has_gunicorn = self.packages.contains("gunicorn");
    }

    fn read_requirements(&mut self, tree: &Tree<'_>, path: &str, seen: &mut BTreeSet<String>) {
        if !tree.has(path) || !seen.insert(path.to_owned()) {
            return;
        }
        let Some(text) = tree.text(path) else {
            self.note(
                format!("{path} is not UTF-8 text"),
                "PowerShell's `>` writes UTF-16, which pip on the server can't read: save the file as UTF-8",
            );
            return;
        };
        let requirements = python::requirements(&text);
        self.packages.extend(requirements.packages);
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        for include in requirements.includes {
            self.read_requirements(tree, &join(folder, &include), seen);
        }
    }

    fn find_export(&mut self, tree: &Tree<'_>, folders: &[String]) {
        const OTHERS: [(&str, &str); 5] = [
            ("uv.lock", "uv export --no-dev --format requirements-txt -o requirements.txt"),
            ("poetry.lock", "poetry export --without-hashes -o requirements.txt"),
            ("Pipfile.lock", "pipenv requirements > requirements.txt"),
            ("Pipfile", "pipenv lock && pipenv requirements > requirements.txt"),
            ("pyproject.toml", "uv pip compile pyproject.toml -o requirements.txt"),
        ];
        for (name, command) in OTHERS {
            let Some(path) = folders.iter().map(|folder| under(folder, name)).find(|path| tree.has(path))
            else {
                continue;
            };
            self.note(
                format!("dependencies are in {path}, and there is no requirements file"),
                format!("this version installs from a requirements file: `{command}`"),
            );
            self.export = Some(Found { value: command.to_owned(), origin: path });
            return;
        }
        self.note(
            "no requirements file",
            "the site's packages can't be installed without one: `pip freeze > requirements.txt` in its virtual environment",
        );
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
        let Some((path, text)) = first_text(tree, &folders, "pyproject.toml") else { return };
        let Some(wish) = python::requires_python(&text) else { return };
        match wish {
            python::RequiresPython::Exactly(version) if self.python.is_none() => {
                self.python = Some(Found { value: version.to_string(), origin: path });
            }
            python::RequiresPython::Exactly(version) | python::RequiresPython::AtLeast(version) => {
                self.python_at_least = Some(Found { value: version.to_string(), origin: path });
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
        if let Some(release) = self.procfile.get("release").cloned()
            && !matches!(release.as_str(), "python manage.py migrate" | "python manage.py migrate --noinput")
        {
            self.note(
                format!("{path} has the release step `{release}`"),
                "ship migrates and collects static files itself; anything else in it is not run",
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
