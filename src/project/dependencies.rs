//! Where a project says which packages it needs, and what is installed for it.
//!
//! Invariant: pure. A lock file is taken as it is or refused with the command that renews it; where several files
//! say what is needed, the most exact one counts, and the user is told.

mod locks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{Finding, Found, ProjectError, Tree, join, python, under};

/// Requirements files that are looked for in a folder, the best first.
const REQUIREMENTS: [&str; 10] = [
    "requirements.txt",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements-production.txt",
    "requirements-prod.txt",
    "requirements_prod.txt",
    "requirements/requirements.txt",
    "requirements/base.txt",
    "requirements/common.txt",
    "requirements_base.txt",
];

/// Names of groups and extras that are meant for a server.
const FOR_SERVERS: [&str; 3] = ["prod", "production", "deploy"];

/// Who wrote the file that says which packages are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requirements files, as pip reads them.
    Requirements,
    /// `uv.lock`.
    Uv,
    /// `poetry.lock`.
    Poetry,
    /// `pdm.lock`.
    Pdm,
    /// `Pipfile.lock`.
    Pipenv,
    /// `[project]` in `pyproject.toml`, without a lock file.
    Pyproject,
    /// `setup.py` or `setup.cfg`.
    Setup,
}

/// The files that say which packages a project needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies {
    /// Whose files they are.
    pub kind: Kind,
    /// The folder that they are in, relative to the project; `.` for the top.
    pub folder: String,
    /// The files, the one that decides first, relative to the project.
    pub files: Vec<String>,
    /// Whether the project itself is a package that must be installed to be importable, or to have its commands.
    pub itself: bool,
}

/// How the packages get into a virtual environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// From requirements files of the project.
    Files(Vec<String>),
    /// From a requirements file with this text.
    Text(String),
    /// By uv itself, with these further arguments of `uv sync`.
    Sync(Vec<String>),
    /// The project is installed as a package and brings what it needs.
    Itself,
}

/// What is installed for a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// The files that it comes from.
    pub dependencies: Dependencies,
    /// Everything that decides about it: path and content.
    pub inputs: Vec<(String, String)>,
    /// The distributions, lower-cased and with dashes, with their version where it is pinned. An extra that is a
    /// distribution of its own (`psycopg[binary]`) is one.
    pub names: BTreeMap<String, Option<String>>,
    /// How it is installed.
    pub how: How,
    /// Whether files of the project are installed, so that another tree is another environment.
    pub local: bool,
    /// Whether something comes from a git repository.
    pub git: bool,
}

impl Default for Packages {
    fn default() -> Self {
        let dependencies = Dependencies {
            kind: Kind::Requirements,
            folder: ".".to_owned(),
            files: Vec::new(),
            itself: false,
        };
        Self {
            dependencies,
            inputs: Vec::new(),
            names: BTreeMap::new(),
            how: How::Files(Vec::new()),
            local: false,
            git: false,
        }
    }
}

impl Dependencies {
    /// Requirements files that the user names.
    pub fn requirements(files: Vec<String>) -> Self {
        Self { kind: Kind::Requirements, folder: ".".to_owned(), files, itself: false }
    }

    /// What the plan calls them.
    pub fn shown(&self) -> String {
        match self.kind {
            Kind::Requirements => self.files.join(", "),
            Kind::Uv | Kind::Poetry | Kind::Pdm | Kind::Pipenv | Kind::Pyproject | Kind::Setup => {
                self.files.first().cloned().unwrap_or_default()
            }
        }
    }
}

impl Packages {
    /// Reads what is needed from the content of the files, `-r` and `-c` followed.
    pub fn read(dependencies: &Dependencies, inputs: Vec<(String, String)>) -> Result<Self, ProjectError> {
        let mut packages = Self { dependencies: dependencies.clone(), inputs, ..Self::default() };
        packages.local = dependencies.itself;
        match dependencies.kind {
            Kind::Requirements => packages.read_requirements(&dependencies.files),
            Kind::Uv => packages.read_uv()?,
            Kind::Poetry => {
                let [lock, pyproject] = packages.both()?;
                packages.take(locks::poetry(&lock, &pyproject).map_err(|why| packages.stale(&why))?);
            }
            Kind::Pdm => {
                let [lock, pyproject] = packages.both()?;
                packages.take(locks::pdm(&lock, &pyproject).map_err(|why| packages.stale(&why))?);
            }
            Kind::Pipenv => {
                let text = packages.inputs.first().map(|(_, text)| text.as_str()).unwrap_or_default();
                packages.take(locks::pipenv(text).map_err(|why| packages.stale(&why))?);
            }
            Kind::Pyproject => packages.read_pyproject()?,
            Kind::Setup => {
                let texts: Vec<String> = packages.inputs.iter().map(|(_, text)| text.clone()).collect();
                for text in texts {
                    packages.add_lines(&setup_requires(&text).join("\n"));
                }
                packages.how = How::Itself;
                packages.local = true;
            }
        }
        Ok(packages)
    }

    /// Whether a distribution is among them.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The pinned version of a distribution as major and minor number.
    pub fn version(&self, name: &str) -> Option<(u32, u32)> {
        let mut parts = self.names.get(name)?.as_deref()?.split('.').map(str::parse::<u32>);
        Some((parts.next()?.ok()?, parts.next().and_then(Result::ok).unwrap_or(0)))
    }

    /// What a virtual environment is made from, for its name.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        if let How::Text(how) = &self.how {
            text.push_str(how);
            return text;
        }
        for (path, content) in &self.inputs {
            text.push_str(&format!("{path}\n{}\n{content}", content.len()));
        }
        text
    }

    /// The names of variables that the files want from the environment, `${NAME}`.
    pub fn variables(&self) -> BTreeSet<String> {
        let named = |text: &str| {
            let name = text.split('}').next().unwrap_or_default();
            let valid = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            (valid && text.len() > name.len()).then(|| name.to_owned())
        };
        let texts = self.inputs.iter().map(|(_, text)| text);
        texts.flat_map(|text| text.split("${").skip(1).filter_map(named)).collect()
    }

    fn both(&self) -> Result<[Table; 2], ProjectError> {
        let table = |index: usize| match self.inputs.get(index) {
            Some((path, text)) => table_of(path, text),
            None => Err(ProjectError::new("a lock file without pyproject.toml")),
        };
        Ok([table(0)?, table(1)?])
    }

    fn stale(&self, why: &str) -> ProjectError {
        let command = match self.dependencies.kind {
            Kind::Poetry => "poetry lock",
            Kind::Pdm => "pdm lock",
            Kind::Pipenv => "pipenv lock",
            Kind::Uv => "uv lock",
            Kind::Requirements | Kind::Pyproject | Kind::Setup => "pip freeze > requirements.txt",
        };
        ProjectError::new(format!("{}: {why}", self.dependencies.shown()))
            .hint(format!("renew it with `{command}`, and commit it"))
    }

    fn take(&mut self, locked: locks::Locked) {
        self.git = locked.text.contains("git+");
        self.local |= locked.local;
        self.names = locked.names;
        self.how = How::Text(locked.text);
    }

    fn read_requirements(&mut self, files: &[String]) {
        let texts: BTreeMap<String, String> = self.inputs.iter().cloned().collect();
        let mut seen = BTreeSet::new();
        let mut queue = files.to_vec();
        while let Some(path) = queue.pop() {
            let Some(text) = texts.get(&path).filter(|_| seen.insert(path.clone())) else { continue };
            let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
            queue.extend(python::requirements(text).includes.iter().map(|include| join(folder, include)));
            self.add_lines(text);
        }
        self.how = How::Files(files.to_vec());
    }

    fn add_lines(&mut self, text: &str) {
        for package in python::requirements(text).packages {
            self.names.extend(package.distributions());
        }
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            self.git |= line.contains("git+");
            self.local |= line.starts_with('.')
                || line.starts_with("-e")
                || line.starts_with("--editable")
                || line.contains("file:");
        }
    }

    fn read_uv(&mut self) -> Result<(), ProjectError> {
        let [lock, pyproject] = self.both()?;
        for package in locks::uv(&lock) {
            let Some(name) = package.get("name").and_then(Value::as_str) else { continue };
            let source = package.get("source").and_then(Value::as_table);
            let is = |key: &str| source.is_some_and(|source| source.contains_key(key));
            self.git |= is("git");
            self.local |= is("editable") || is("directory") || is("path");
            let version = package.get("version").and_then(Value::as_str).map(str::to_owned);
            self.names.insert(python::normalized(name), version);
        }
        let mut arguments = Vec::new();
        let mut wanted = |option: &str, table: Option<&Table>| {
            let names = table.into_iter().flat_map(Table::keys);
            for name in names.filter(|name| FOR_SERVERS.contains(&name.as_str())) {
                arguments.extend([option.to_owned(), name.clone()]);
            }
        };
        wanted("--group", at(&pyproject, &["dependency-groups"]).and_then(Value::as_table));
        wanted("--extra", at(&pyproject, &["project", "optional-dependencies"]).and_then(Value::as_table));
        self.how = How::Sync(arguments);
        Ok(())
    }

    fn read_pyproject(&mut self) -> Result<(), ProjectError> {
        let Some((path, text)) = self.inputs.first().cloned() else { return Ok(()) };
        let pyproject = table_of(&path, &text)?;
        let mut lines = strings(at(&pyproject, &["project", "dependencies"]));
        for extra in FOR_SERVERS {
            lines.extend(strings(at(&pyproject, &["project", "optional-dependencies", extra])));
        }
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        self.add_lines(&text);
        let dynamic = strings(at(&pyproject, &["project", "dynamic"]));
        self.how = if dynamic.iter().any(|name| name == "dependencies") {
            self.local = true;
            How::Itself
        } else if at(&pyproject, &["tool", "uv", "sources"]).is_some() {
            self.local = true;
            How::Files(vec![path])
        } else {
            How::Text(text)
        };
        Ok(())
    }
}

/// The files with all that they name with `-r` and `-c`, in the order in which pip reads them.
pub fn inputs<E>(
    dependencies: &Dependencies,
    read: impl Fn(&str) -> Result<String, E>,
) -> Result<Vec<(String, String)>, E> {
    let mut seen = BTreeSet::new();
    let mut queue: Vec<String> = dependencies.files.iter().rev().cloned().collect();
    let mut found = Vec::new();
    while let Some(path) = queue.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let text = read(&path)?;
        if dependencies.kind == Kind::Requirements {
            let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
            let named: Vec<String> = text.lines().filter_map(|line| included(folder, line)).collect();
            queue.extend(named.into_iter().rev());
        }
        found.push((path, text));
    }
    Ok(found)
}

/// The file that a line of a requirements file names.
fn included(folder: &str, line: &str) -> Option<String> {
    let line = line.split(" #").next()?.trim();
    let file = ["--requirement", "--constraint", "-r", "-c"].iter().find_map(|flag| {
        let rest = line.strip_prefix(flag)?;
        let apart = rest.starts_with([' ', '\t', '=']) || flag.len() == 2;
        apart.then(|| rest.trim_start_matches(['=', ' ', '\t']))
    })?;
    (!file.contains("://")).then(|| join(folder, &file.replace('\\', "/")))
}

/// The value at a path of keys.
fn at<'t>(table: &'t Table, path: &[&str]) -> Option<&'t Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, key| value.as_table()?.get(*key))
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn table_of(path: &str, text: &str) -> Result<Table, ProjectError> {
    text.parse::<Table>().map_err(|error| {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(0, |head| head.matches('\n').count());
        ProjectError::new(format!(
            "{path}:{}: {}",
            line + 1,
            error.message().lines().next().unwrap_or_default()
        ))
    })
}

/// The texts of `install_requires`: literals only.
fn setup_requires(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once("install_requires") else { return Vec::new() };
    let rest = rest.trim_start().strip_prefix('=').unwrap_or(rest).trim_start_matches(' ');
    if let Some(list) = rest.strip_prefix(['[', '(']) {
        let list = list.split([']', ')']).next().unwrap_or_default().replace('\'', "\"");
        return list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    }
    // In setup.cfg: a value of indented lines.
    let lines = rest.lines().skip_while(|line| line.trim().is_empty());
    lines
        .take_while(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty())
        .map(|line| line.trim().to_owned())
        .collect()
}

/// What was found of a root's dependencies.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) dependencies: Option<Dependencies>,
    /// How to write a file that can be installed from, when there is none.
    pub(super) export: Option<Found>,
    pub(super) findings: Vec<Finding>,
}

/// Looks for the files of a root, in its folder and those above it.
pub(super) fn search(tree: &Tree<'_>, root: &str) -> Search {
    let mut folders = Vec::new();
    let mut folder = root;
    while folder != "." && !folder.is_empty() {
        folders.push(folder);
        folder = folder.rsplit_once('/').map_or(".", |(above, _)| above);
    }
    folders.push(".");
    let mut found = Search::default();
    for folder in &folders {
        let candidates = candidates(tree, folder, root);
        let Some((first, rest)) = candidates.split_first() else { continue };
        let others: Vec<&str> = rest
            .iter()
            .filter_map(|other| other.files.first().map(String::as_str))
            .filter(|path| !first.files.iter().any(|own| own == path))
            .collect();
        if !others.is_empty() {
            let why = match first.kind {
                Kind::Requirements => "a requirements file says more exactly what is installed".to_owned(),
                Kind::Uv | Kind::Poetry | Kind::Pdm | Kind::Pipenv | Kind::Pyproject | Kind::Setup => {
                    let requirements = rest.iter().find(|other| other.kind == Kind::Requirements);
                    let instead = requirements.map_or_else(String::new, |other| {
                        format!("; `requirements: {}` takes the other", other.shown())
                    });
                    format!("a lock file says most exactly what is installed{instead}")
                }
            };
            let what = format!("packages are installed from {}, not {}", first.shown(), others.join(", "));
            found.findings.push(Finding { what, why });
        } else {
            let what = format!("packages are installed from {}", first.shown());
            found.findings.push(Finding { what, why: reason(first).to_owned() });
        }
        found.dependencies = Some(first.clone());
        return found;
    }
    found.explain_none(tree, &folders);
    found
}

/// Why a file is taken, in words.
fn reason(dependencies: &Dependencies) -> &'static str {
    match (dependencies.kind, dependencies.itself) {
        (Kind::Requirements, _) => "the first of the usual names of a requirements file",
        (Kind::Uv, false) => "uv's lock file, production groups only",
        (Kind::Poetry, false) => "poetry's lock file, production groups only",
        (Kind::Pdm, false) => "PDM's lock file, production groups only",
        (Kind::Uv | Kind::Poetry | Kind::Pdm, true) => {
            "a lock file; the project is a package and installed, too"
        }
        (Kind::Pipenv, _) => "pipenv's lock file, without its dev-packages",
        (Kind::Pyproject, false) => {
            "its [project] names them; there is no lock file, so versions may differ next time"
        }
        (Kind::Pyproject, true) => "its [project] names them; the project is a package and installed, too",
        (Kind::Setup, _) => "the project is a package that says what it needs",
    }
}

/// The files of one folder that say what is needed, the most exact first.
fn candidates(tree: &Tree<'_>, folder: &str, root: &str) -> Vec<Dependencies> {
    let path = |name: &str| under(folder, name);
    let has = |name: &str| tree.has(&path(name));
    let pyproject = has("pyproject.toml").then(|| tree.text(&path("pyproject.toml"))).flatten();
    let pyproject = pyproject.as_deref().and_then(|text| text.parse::<Table>().ok());
    let itself = pyproject.as_ref().is_some_and(|table| must_install(tree, table, folder, root));
    let make = |kind, names: &[&str]| Dependencies {
        kind,
        folder: folder.to_owned(),
        files: names.iter().map(|name| path(name)).collect(),
        itself,
    };
    let mut found = Vec::new();
    if pyproject.is_some() {
        let locks = [(Kind::Uv, "uv.lock"), (Kind::Poetry, "poetry.lock"), (Kind::Pdm, "pdm.lock")];
        for (kind, name) in locks.into_iter().filter(|(_, name)| has(name)) {
            found.push(make(kind, &[name, "pyproject.toml"]));
        }
    }
    if has("Pipfile.lock") {
        found.push(Dependencies { itself: false, ..make(Kind::Pipenv, &["Pipfile.lock"]) });
    }
    if let Some(name) = REQUIREMENTS.iter().find(|name| has(name)) {
        found.push(Dependencies { itself: false, ..make(Kind::Requirements, &[name]) });
    }
    if let Some(table) = &pyproject {
        found.extend(of_pyproject(table, folder, itself));
    }
    let names: Vec<&str> = ["setup.py", "setup.cfg"].into_iter().filter(|name| has(name)).collect();
    let requires = |name: &&str| tree.text(&path(name)).is_some_and(|text| text.contains("install_requires"));
    if names.iter().any(requires) && has("setup.py") {
        found.push(Dependencies { itself: true, ..make(Kind::Setup, &names) });
    }
    found
}

/// `[project]` if it names what is needed, there or in files that it names.
fn of_pyproject(table: &Table, folder: &str, itself: bool) -> Option<Dependencies> {
    let dynamic = strings(at(table, &["project", "dynamic"])).iter().any(|name| name == "dependencies");
    let files = match at(table, &["tool", "setuptools", "dynamic", "dependencies", "file"]) {
        Some(Value::String(file)) => vec![file.clone()],
        other => strings(other),
    };
    if dynamic && !files.is_empty() {
        let files = files.iter().map(|file| join(folder, file)).collect();
        return Some(Dependencies {
            kind: Kind::Requirements,
            folder: folder.to_owned(),
            files,
            itself: false,
        });
    }
    let named = at(table, &["project", "dependencies"])
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    (named || dynamic).then(|| Dependencies {
        kind: Kind::Pyproject,
        folder: folder.to_owned(),
        files: vec![under(folder, "pyproject.toml")],
        itself: itself || dynamic,
    })
}

/// Whether the project is a package that nothing can import, or whose commands are missing, unless it is installed.
///
/// What lies beside `manage.py` is importable without: such a project is not installed, so that its code comes from
/// its release and a virtual environment can serve many of them.
fn must_install(tree: &Tree<'_>, table: &Table, folder: &str, root: &str) -> bool {
    let is_false = |path: &[&str]| at(table, path).and_then(Value::as_bool) == Some(false);
    if !table.contains_key("build-system")
        || is_false(&["tool", "uv", "package"])
        || is_false(&["tool", "poetry", "package-mode"])
        || is_false(&["tool", "pdm", "distribution"])
    {
        return false;
    }
    let some =
        |path: &[&str]| at(table, path).and_then(Value::as_table).is_some_and(|table| !table.is_empty());
    if some(&["project", "scripts"])
        || some(&["project", "entry-points"])
        || some(&["tool", "poetry", "scripts"])
        || some(&["tool", "poetry", "plugins"])
    {
        return true;
    }
    let name = at(table, &["project", "name"]).or_else(|| at(table, &["tool", "poetry", "name"]));
    let Some(name) = name.and_then(Value::as_str) else { return false };
    let package = python::normalized(name).replace('-', "_");
    let places = [under(folder, "src"), folder.to_owned()];
    places.iter().any(|place| tree.has(&under(place, &format!("{package}/__init__.py"))) && place != root)
}

impl Search {
    fn explain_none(&mut self, tree: &Tree<'_>, folders: &[&str]) {
        const OTHERS: [(&str, &str); 4] = [
            ("Pipfile", "pipenv lock"),
            ("pyproject.toml", "poetry lock"),
            ("pyproject.toml", "uv lock"),
            ("environment.yml", "pip freeze > requirements.txt"),
        ];
        for (name, command) in OTHERS {
            let path = folders.iter().map(|folder| under(folder, name)).find(|path| tree.has(path));
            let Some(path) = path else { continue };
            let text = tree.text(&path).unwrap_or_default();
            let fits = match command {
                "poetry lock" => text.contains("[tool.poetry"),
                "uv lock" => text.contains("[project]"),
                _ => true,
            };
            if fits {
                self.findings.push(Finding {
                    what: format!("{path} alone does not say what exactly is installed"),
                    why: format!("`{command}` writes a file that does"),
                });
                self.export = Some(Found { value: command.to_owned(), origin: path });
                return;
            }
        }
        self.findings.push(Finding {
            what: "no requirements file".to_owned(),
            why:
                "the site's packages can't be installed without one: `pip freeze > requirements.txt` in its \
                  virtual environment"
                    .to_owned(),
        });
    }
}
