//! Lock files of poetry, PDM and pipenv as a requirements file, which uv and pip install alike.
//!
//! Invariant: what comes out pins every package, with its hashes as long as all have some.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toml::{Table, Value};

use super::super::python::{self, normalized};
use super::{FOR_SERVERS, at, strings};

/// A lock file's production half.
#[derive(Debug, Default)]
pub(super) struct Locked {
    pub(super) text: String,
    pub(super) names: BTreeMap<String, Option<String>>,
    pub(super) local: bool,
}

/// One package of a lock file.
#[derive(Debug, Default)]
struct Package {
    name: String,
    version: String,
    extras: Vec<String>,
    marker: Option<String>,
    hashes: BTreeSet<String>,
    /// Where it comes from, when that is not an index.
    place: Option<Place>,
}

#[derive(Debug)]
enum Place {
    Url(String),
    Path(String),
}

/// The tables of an array.
pub(super) fn tables<'t>(table: &'t Table, key: &str) -> Vec<&'t Table> {
    table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table).collect()
}

fn text<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    table.get(key).and_then(Value::as_str)
}

fn locked(indexes: &[String], mut packages: Vec<Package>) -> Locked {
    packages.sort_by(|a, b| (&a.name, &a.version, &a.marker).cmp(&(&b.name, &b.version, &b.marker)));
    // pip wants either all hashes or none.
    let hashed = packages.iter().all(|package| package.place.is_none() && !package.hashes.is_empty());
    let mut out = Locked::default();
    for line in indexes {
        out.text.push_str(line);
        out.text.push('\n');
    }
    for package in &packages {
        let extras =
            if package.extras.is_empty() { String::new() } else { format!("[{}]", package.extras.join(",")) };
        let name = &package.name;
        let what = match &package.place {
            None => format!("{name}{extras}=={}", package.version),
            Some(Place::Url(url)) => format!("{name}{extras} @ {url}"),
            Some(Place::Path(path)) => {
                out.local = true;
                format!("./{}", path.trim_start_matches("./"))
            }
        };
        out.text.push_str(&what);
        if let Some(marker) = &package.marker {
            // Writing to a String can't fail.
            let _ = write!(out.text, " ; {marker}");
        }
        if hashed {
            for hash in &package.hashes {
                let _ = write!(out.text, " \\\n    --hash={hash}");
            }
        }
        out.text.push('\n');
        let version = (!package.version.is_empty()).then(|| package.version.clone());
        out.names.insert(normalized(name), version);
    }
    out
}

/// `Pipfile.lock`.
pub(super) fn pipenv(lock: &str) -> Result<Locked, String> {
    let lock: serde_json::Value = serde_json::from_str(lock).map_err(|error| format!("not JSON: {error}"))?;
    let entries = lock.get("default").and_then(|value| value.as_object());
    let entries = entries.ok_or("has no section `default`")?;
    let mut packages = Vec::new();
    for (name, entry) in entries {
        let field = |key: &str| entry.get(key).and_then(|value| value.as_str());
        let list = |key: &str| {
            let items = entry.get(key).and_then(|value| value.as_array()).into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let place = match (field("git"), field("path"), field("file")) {
            (Some(url), ..) => Some(Place::Url(git(url, field("ref"), field("subdirectory")))),
            (_, Some(path), _) => Some(Place::Path(path.to_owned())),
            (_, _, Some(url)) if url.contains("://") => Some(Place::Url(url.to_owned())),
            (_, _, Some(path)) => Some(Place::Path(path.to_owned())),
            (None, None, None) => None,
        };
        let version = field("version").unwrap_or_default().trim_start_matches("==").to_owned();
        if place.is_none() && version.is_empty() {
            return Err(format!("does not pin `{name}`"));
        }
        packages.push(Package {
            name: name.clone(),
            version,
            extras: list("extras"),
            marker: field("markers").map(str::to_owned),
            hashes: list("hashes").into_iter().collect(),
            place,
        });
    }
    let sources = lock.pointer("/_meta/sources").and_then(|value| value.as_array());
    let text = |source: &'_ serde_json::Value, key: &str| {
        source.get(key).and_then(|value| value.as_str().map(str::to_owned))
    };
    let named: Vec<(String, String)> = sources
        .into_iter()
        .flatten()
        .filter_map(|source| Some((text(source, "name").unwrap_or_default(), text(source, "url")?)))
        .collect();
    Ok(locked(&indexes(pairs(&named)), packages))
}

/// Options for indexes, by name and address; PyPI is what the server uses anyway, or the mirror that it was told to use
/// instead.
fn indexes<'u>(sources: impl Iterator<Item = (&'u str, &'u str)>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let wanted =
        sources.filter(|(name, url)| !name.eq_ignore_ascii_case("pypi") && seen.insert((*url).to_owned()));
    wanted.map(|(_, url)| format!("--extra-index-url {url}")).collect()
}

fn pairs(sources: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    sources.iter().map(|(name, url)| (name.as_str(), url.as_str()))
}

fn git(url: &str, revision: Option<&str>, subdirectory: Option<&str>) -> String {
    let url = url.strip_prefix("git+").unwrap_or(url);
    // `git@host:path` is a spelling of ssh's alone.
    let url = match url.strip_prefix("git@").and_then(|rest| rest.split_once(':')) {
        Some((host, path)) => format!("ssh://git@{host}/{path}"),
        None => url.to_owned(),
    };
    let revision = revision.map(|revision| format!("@{revision}")).unwrap_or_default();
    let folder = subdirectory.map(|folder| format!("#subdirectory={folder}")).unwrap_or_default();
    format!("git+{url}{revision}{folder}")
}

/// `poetry.lock`, of any version since poetry 1.0.
pub(super) fn poetry(lock: &Table, pyproject: &Table) -> Result<Locked, String> {
    let entries = tables(lock, "package");
    let roots = poetry_roots(pyproject);
    let known: BTreeSet<String> =
        entries.iter().filter_map(|entry| text(entry, "name")).map(normalized).collect();
    if let Some(missing) = roots.iter().find(|root| !root.optional && !known.contains(&root.name)) {
        return Err(format!("does not know `{}` of pyproject.toml", missing.name));
    }
    let groups: BTreeSet<&str> = std::iter::once("main").chain(FOR_SERVERS).collect();
    let grouped = entries.iter().any(|entry| entry.contains_key("groups"));
    let reached = if grouped { BTreeMap::new() } else { reach(&entries, &roots)? };
    let old_files = at(lock, &["metadata", "files"]).and_then(Value::as_table);
    let mut packages = Vec::new();
    let mut urls = Vec::new();
    for entry in &entries {
        let (Some(name), Some(version)) = (text(entry, "name"), text(entry, "version")) else { continue };
        let marker = if grouped {
            let own = strings(entry.get("groups"));
            if !own.iter().any(|group| groups.contains(group.as_str()))
                || entry.get("optional").and_then(Value::as_bool) == Some(true)
            {
                continue;
            }
            group_marker(entry, &own, &groups)
        } else {
            match reached.get(&normalized(name)) {
                Some(condition) => condition.marker(),
                None => continue,
            }
        };
        let source = entry.get("source").and_then(Value::as_table);
        let of_source = |key: &str| source.and_then(|source| text(source, key));
        let url = of_source("url").unwrap_or_default();
        let place = match of_source("type") {
            Some("git") => {
                let revision = of_source("resolved_reference").or_else(|| of_source("reference"));
                Some(Place::Url(git(url, revision, of_source("subdirectory"))))
            }
            Some("directory" | "file") => Some(Place::Path(url.to_owned())),
            Some("url") => Some(Place::Url(url.to_owned())),
            Some(_) => {
                urls.push((of_source("reference").unwrap_or_default().to_owned(), url.to_owned()));
                None
            }
            None => None,
        };
        let files = entry.get("files").or_else(|| old_files.and_then(|files| files.get(name)));
        let hashes = hashes_of(files);
        let wanted = roots.iter().filter(|root| root.name == normalized(name));
        let extras: BTreeSet<String> = wanted.flat_map(|root| root.extras.iter().cloned()).collect();
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            extras: extras.into_iter().collect(),
            marker,
            hashes,
            place,
        });
    }
    Ok(locked(&indexes(pairs(&urls)), packages))
}

fn hashes_of(files: Option<&Value>) -> BTreeSet<String> {
    let files = files.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    files.filter_map(|file| text(file, "hash")).map(str::to_owned).collect()
}

/// The marker of a package in poetry's newer locks: one for all groups, or one a group.
fn group_marker(entry: &Table, own: &[String], groups: &BTreeSet<&str>) -> Option<String> {
    match entry.get("markers")? {
        Value::String(marker) => Some(marker.clone()),
        Value::Table(by_group) => {
            let wanted = own.iter().filter(|group| groups.contains(group.as_str()));
            // A group that has no marker wants it always.
            let markers: Option<BTreeSet<&str>> = wanted.map(|group| text(by_group, group)).collect();
            markers.map(|markers| either(markers.into_iter()))
        }
        _ => None,
    }
}

fn either<'m>(markers: impl Iterator<Item = &'m str>) -> String {
    let markers: Vec<&str> = markers.collect();
    match markers.as_slice() {
        [only] => (*only).to_owned(),
        several => several.iter().map(|marker| format!("({marker})")).collect::<Vec<_>>().join(" or "),
    }
}

/// Something that the project itself asks for.
#[derive(Debug)]
struct Wanted {
    name: String,
    marker: Option<String>,
    extras: Vec<String>,
    optional: bool,
}

/// What poetry's pyproject.toml asks for on a server.
fn poetry_roots(pyproject: &Table) -> Vec<Wanted> {
    let mut roots = Vec::new();
    let mut groups = vec![at(pyproject, &["tool", "poetry", "dependencies"])];
    groups
        .extend(FOR_SERVERS.map(|group| at(pyproject, &["tool", "poetry", "group", group, "dependencies"])));
    for (name, value) in groups.into_iter().flatten().filter_map(Value::as_table).flatten() {
        if name != "python" {
            roots.extend(wants(name, value));
        }
    }
    let mut lines = strings(at(pyproject, &["project", "dependencies"]));
    for group in FOR_SERVERS {
        lines.extend(strings(at(pyproject, &["dependency-groups", group])));
    }
    roots.extend(lines.iter().filter_map(|line| requirement(line)));
    roots
}

/// One line of a project's dependencies.
fn requirement(line: &str) -> Option<Wanted> {
    let package = python::requirements(line).packages.into_iter().next()?;
    let marker = line.split_once(';').map(|(_, marker)| marker.trim().to_owned());
    Some(Wanted { name: package.name, marker, extras: package.extras, optional: false })
}

/// `django = "^4.2"`, `{version = …, markers = …}`, or a list of these.
fn wants(name: &str, value: &Value) -> Vec<Wanted> {
    let one = |table: Option<&Table>| {
        let flag = |key: &str| table.and_then(|table| table.get(key)).and_then(Value::as_bool) == Some(true);
        let mut markers: Vec<String> = Vec::new();
        markers.extend(table.and_then(|table| text(table, "markers")).map(str::to_owned));
        markers.extend(table.and_then(|table| text(table, "python")).and_then(python_marker));
        markers.extend(
            table.and_then(|table| text(table, "platform")).map(|name| format!("sys_platform == '{name}'")),
        );
        let marker = match markers.as_slice() {
            [] => None,
            several => {
                Some(several.iter().map(|marker| format!("({marker})")).collect::<Vec<_>>().join(" and "))
            }
        };
        let extras = table.map(|table| strings(table.get("extras"))).unwrap_or_default();
        Wanted { name: normalized(name), marker, extras, optional: flag("optional") }
    };
    match value {
        Value::Array(items) => items.iter().map(|item| one(item.as_table())).collect(),
        other => vec![one(other.as_table())],
    }
}

/// `<3.11` as a marker; what is not as plain is no condition.
fn python_marker(bounds: &str) -> Option<String> {
    let clauses = bounds.split(',').map(|clause| {
        let clause = clause.trim();
        let operator =
            [">=", "<=", "==", ">", "<"].into_iter().find(|operator| clause.starts_with(operator))?;
        let version = clause.strip_prefix(operator)?.trim();
        Some(format!("python_version {operator} '{version}'"))
    });
    clauses.collect::<Option<Vec<_>>>().map(|clauses| clauses.join(" and "))
}

/// When a package is needed: always, or if one of these markers holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Condition(Option<BTreeSet<String>>);

/// More alternatives than these are not told apart: the package is installed in any case.
const MOST_ALTERNATIVES: usize = 12;

impl Condition {
    fn marker(&self) -> Option<String> {
        self.0.as_ref().map(|markers| either(markers.iter().map(String::as_str)))
    }

    fn and(&self, marker: Option<&str>) -> Self {
        let Some(marker) = marker else { return self.clone() };
        let both = |own: &String| if own == marker { own.clone() } else { format!("({own}) and ({marker})") };
        Self(Some(match &self.0 {
            None => BTreeSet::from([marker.to_owned()]),
            Some(own) => own.iter().map(both).collect(),
        }))
    }

    /// Whether it became wider.
    fn or(&mut self, other: &Self) -> bool {
        let before = self.clone();
        self.0 = match (&self.0, &other.0) {
            (Some(own), Some(more)) => Some(own | more).filter(|all| all.len() <= MOST_ALTERNATIVES),
            (None, _) | (_, None) => None,
        };
        *self != before
    }
}

/// Which packages are needed for these, and when; for locks that don't say it of each.
fn reach(entries: &[&Table], roots: &[Wanted]) -> Result<BTreeMap<String, Condition>, String> {
    let mut by_name: BTreeMap<String, &Table> = BTreeMap::new();
    for entry in entries {
        let Some(name) = text(entry, "name").map(normalized) else { continue };
        if by_name.insert(name.clone(), entry).is_some() {
            return Err(format!(
                "has several versions of `{name}`, in a format that does not say when which counts"
            ));
        }
    }
    let mut reached: BTreeMap<String, Condition> = BTreeMap::new();
    let mut queue: Vec<(String, Condition, Vec<String>)> = Vec::new();
    for root in roots.iter().filter(|root| !root.optional) {
        queue.push((root.name.clone(), Condition(None).and(root.marker.as_deref()), root.extras.clone()));
    }
    let mut with_extras: BTreeSet<(String, Vec<String>)> = BTreeSet::new();
    while let Some((name, condition, extras)) = queue.pop() {
        let Some(entry) = by_name.get(&name) else { continue };
        let wider = match reached.get_mut(&name) {
            Some(known) => known.or(&condition),
            None => {
                reached.insert(name.clone(), condition);
                true
            }
        };
        if !with_extras.insert((name.clone(), extras.clone())) && !wider {
            continue;
        }
        let now = reached.get(&name).cloned().unwrap_or_default();
        for need in needs(entry, &extras) {
            queue.push((need.name, now.and(need.marker.as_deref()), need.extras));
        }
    }
    Ok(reached)
}

/// What a package of a lock needs, with some of its extras.
fn needs(entry: &Table, extras: &[String]) -> Vec<Wanted> {
    let mut found = Vec::new();
    match entry.get("dependencies") {
        // PDM's and uv's way: requirement lines.
        Some(Value::Array(_)) => {
            found.extend(strings(entry.get("dependencies")).iter().filter_map(|line| requirement(line)));
        }
        // Poetry's way; what belongs to an extra is marked optional and listed there once more.
        Some(Value::Table(table)) => {
            let of_extras: BTreeSet<String> = extras
                .iter()
                .flat_map(|extra| strings(at(entry, &["extras", extra])))
                .filter_map(|line| requirement(&line).map(|wanted| wanted.name))
                .collect();
            let all = table.iter().flat_map(|(name, value)| wants(name, value));
            found.extend(all.filter(|need| !need.optional || of_extras.contains(&need.name)).map(
                |mut need| {
                    // `extra == "x"` holds: that is why it was asked for.
                    if need.optional
                        && need.marker.as_deref().is_some_and(|marker| marker.contains("extra =="))
                    {
                        need.marker = None;
                    }
                    need
                },
            ));
        }
        Some(_) | None => {}
    }
    found
}

/// `pdm.lock`.
pub(super) fn pdm(lock: &Table, pyproject: &Table) -> Result<Locked, String> {
    let entries = tables(lock, "package");
    let mut lines = strings(at(pyproject, &["project", "dependencies"]));
    for group in FOR_SERVERS {
        lines.extend(strings(at(pyproject, &["project", "optional-dependencies", group])));
        lines.extend(strings(at(pyproject, &["dependency-groups", group])));
    }
    let roots: Vec<Wanted> = lines.iter().filter_map(|line| requirement(line)).collect();
    let known: BTreeSet<String> =
        entries.iter().filter_map(|entry| text(entry, "name")).map(normalized).collect();
    if let Some(missing) = roots.iter().find(|root| !known.contains(&root.name)) {
        return Err(format!("does not know `{}` of pyproject.toml", missing.name));
    }
    let groups: BTreeSet<&str> = std::iter::once("default").chain(FOR_SERVERS).collect();
    let grouped = entries.iter().any(|entry| entry.contains_key("groups"));
    // A package with extras is an entry of its own, and the plain one is there, too.
    let plain: Vec<&Table> = entries.iter().copied().filter(|entry| !entry.contains_key("extras")).collect();
    let reached = if grouped { BTreeMap::new() } else { reach(&plain, &roots)? };
    let mut packages = Vec::new();
    for entry in &entries {
        let (Some(name), Some(version)) = (text(entry, "name"), text(entry, "version")) else { continue };
        let marker = if grouped {
            if !strings(entry.get("groups")).iter().any(|group| groups.contains(group.as_str())) {
                continue;
            }
            text(entry, "marker").map(str::to_owned)
        } else {
            match reached.get(&normalized(name)) {
                Some(condition) => condition.marker(),
                None => continue,
            }
        };
        let place = match (text(entry, "git"), text(entry, "path"), text(entry, "url")) {
            (Some(url), ..) => {
                let revision = text(entry, "revision").or_else(|| text(entry, "ref"));
                Some(Place::Url(git(url, revision, text(entry, "subdirectory"))))
            }
            (_, Some(path), _) => Some(Place::Path(path.to_owned())),
            (_, _, Some(url)) => Some(Place::Url(url.to_owned())),
            (None, None, None) => None,
        };
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            extras: strings(entry.get("extras")),
            marker,
            hashes: hashes_of(entry.get("files")),
            place,
        });
    }
    let sources = at(pyproject, &["tool", "pdm", "source"]).and_then(Value::as_array).into_iter().flatten();
    let urls = sources
        .filter_map(Value::as_table)
        .filter_map(|source| Some((text(source, "name").unwrap_or_default(), text(source, "url")?)));
    Ok(locked(&indexes(urls), packages))
}

/// The packages of `uv.lock` that a server gets: those that the project needs without its groups for developers.
pub(super) fn uv(lock: &Table) -> Vec<&Table> {
    let entries = tables(lock, "package");
    let is_root = |entry: &&&Table| {
        let source = entry.get("source").and_then(Value::as_table);
        ["virtual", "editable"].iter().any(|key| source.and_then(|source| text(source, key)) == Some("."))
    };
    // A workspace without a project of its own.
    let Some(root) = entries.iter().find(is_root) else { return entries };
    let named = |list: Option<&Value>| {
        let tables = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
        let named =
            tables.filter_map(|table| Some((text(table, "name")?.to_owned(), strings(table.get("extra")))));
        named.collect::<Vec<_>>()
    };
    let mut queue = named(root.get("dependencies"));
    for group in FOR_SERVERS {
        queue.extend(named(at(root, &["optional-dependencies", group])));
        queue.extend(named(at(root, &["dev-dependencies", group])));
    }
    let mut seen: BTreeSet<(String, Vec<String>)> = BTreeSet::new();
    while let Some((name, extras)) = queue.pop() {
        if !seen.insert((name.clone(), extras.clone())) {
            continue;
        }
        for entry in entries.iter().filter(|entry| text(entry, "name") == Some(name.as_str())) {
            queue.extend(named(entry.get("dependencies")));
            for extra in &extras {
                queue.extend(named(at(entry, &["optional-dependencies", extra])));
            }
        }
    }
    let wanted: BTreeSet<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    entries
        .iter()
        .copied()
        .filter(|entry| text(entry, "name").is_some_and(|name| wanted.contains(name)))
        .collect()
}
