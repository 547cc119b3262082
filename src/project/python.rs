//! The few things read out of Python's own files: string literals, requirement lines, versions.
//!
//! Invariant: only a plain literal counts. What is computed is left to Django itself to answer.

use std::fmt;

use toml::{Table, Value};

use super::Bounds;

/// A Python version, `3.11` or `3.11.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// `3`.
    pub major: u32,
    /// `11`.
    pub minor: u32,
    /// `4`, if it was written.
    pub patch: Option<u32>,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.patch {
            Some(patch) => write!(f, ".{patch}"),
            None => Ok(()),
        }
    }
}

/// Reads `3.11` or `3.11.4`; nothing else.
pub fn parse_version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| {
        let digits = !part.is_empty() && part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits { part.parse::<u32>().ok() } else { None }
    });
    let (major, minor) = (parts.next()??, parts.next()??);
    let patch = match parts.next() {
        Some(patch) => Some(patch?),
        None => None,
    };
    parts.next().is_none().then_some(Version { major, minor, patch })
}

/// What a file says about Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    /// This version.
    Wish(Version),
    /// Any of these.
    Bounds(Bounds),
}

type Reader = fn(&str) -> Option<Says>;

/// Files that say something about Python among other things, and how each is read.
pub(super) const SAYS_PYTHON: [(&str, Reader); 4] = [
    ("Pipfile", of_pipfile),
    ("pyproject.toml", of_pyproject),
    ("setup.py", of_setup),
    ("setup.cfg", of_setup),
];

fn of_pipfile(text: &str) -> Option<Says> {
    let file: Table = text.parse().ok()?;
    let requires = file.get("requires")?.as_table()?;
    let version = requires.get("python_full_version").or_else(|| requires.get("python_version"))?;
    parse_version(version.as_str()?).map(Says::Wish)
}

fn of_pyproject(text: &str) -> Option<Says> {
    let file: Table = text.parse().ok()?;
    let table = |table: &Table, key: &str| table.get(key).and_then(Value::as_table).cloned();
    let own = table(&file, "project").and_then(|project| project.get("requires-python").cloned());
    let poetry = || table(&table(&table(&file, "tool")?, "poetry")?, "dependencies")?.get("python").cloned();
    let value = own.or_else(poetry)?;
    Bounds::parse(value.as_str()?).map(Says::Bounds)
}

fn of_setup(text: &str) -> Option<Says> {
    let (_, rest) = text.split_once("python_requires")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let value = literal(rest).or_else(|| rest.lines().next().map(str::to_owned))?;
    Bounds::parse(&value).map(Says::Bounds)
}

/// The module that `manage.py` or `wsgi.py` puts into `DJANGO_SETTINGS_MODULE`.
pub(super) fn settings_module(text: &str) -> Option<String> {
    let text = without_comments(text);
    text.match_indices("DJANGO_SETTINGS_MODULE").find_map(|(at, name)| {
        let rest = text.get(at + name.len()..)?;
        let rest = rest.strip_prefix(['"', '\''])?;
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '=' | '('));
        literal(rest).filter(|value| is_dotted(value))
    })
}

/// The text assigned to `name` at the start of a line.
pub(super) fn assigned_text(text: &str, name: &str) -> Option<String> {
    without_comments(text).lines().find_map(|line| {
        let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?;
        literal(value.trim_start()).filter(|value| is_dotted(value))
    })
}

/// A plain string literal at the start of `text`; no escapes, so that it says what it shows.
fn literal(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (value, _) = text.get(1..)?.split_once(quote)?;
    (!value.is_empty() && !value.contains(['\\', '\n'])).then(|| value.to_owned())
}

pub(super) fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).fold(String::new(), |mut all, line| {
        all.push_str(line);
        all.push('\n');
        all
    })
}

/// Whether `text` is a dotted path of Python names.
pub(crate) fn is_dotted(text: &str) -> bool {
    text.split('.').all(is_identifier)
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The module that a path names, seen from the folder of `manage.py`.
pub(super) fn module_of(path: Option<&str>) -> Option<String> {
    let stem = path?.strip_suffix(".py")?;
    let stem = stem.strip_suffix("/__init__").unwrap_or(stem);
    let module = stem.replace('/', ".");
    is_dotted(&module).then_some(module)
}

/// Whether a module is called like Django settings: `settings`, `settings_prod`, `settings.production`.
pub(super) fn is_settings(module: &str) -> bool {
    let named = |part: &str| part == "settings" || part.starts_with("settings_");
    let mut parts = module.rsplit('.');
    parts.next().is_some_and(named) || parts.next() == Some("settings")
}

/// What a requirements file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Requirements {
    /// What it asks for.
    pub packages: Vec<Requirement>,
    /// Files named with `-r`, relative to this one.
    pub includes: Vec<String>,
}

/// A distribution that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Requirement {
    /// Its name, lower-cased and with dashes.
    pub name: String,
    /// Its extras.
    pub extras: Vec<String>,
    /// Its version after `==`.
    pub version: Option<String>,
}

impl Requirement {
    /// The distribution and those of its extras that are published apart, such as `psycopg-binary`.
    pub(super) fn distributions(self) -> Vec<(String, Option<String>)> {
        let parts = self
            .extras
            .iter()
            .filter(|extra| self.name == "psycopg" && matches!(extra.as_str(), "binary" | "c"));
        let mut all: Vec<_> = parts.map(|extra| (format!("{}-{extra}", self.name), None)).collect();
        all.push((self.name, self.version));
        all
    }
}

/// Reads a pip requirements file.
pub(super) fn requirements(text: &str) -> Requirements {
    let mut found = Requirements::default();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let include = ["--requirement", "-r"].iter().find_map(|option| line.strip_prefix(option));
        if let Some(path) = include {
            found.includes.push(path.trim_start_matches(['=', ' ', '\t']).to_owned());
        } else if let Some((_, name)) = line.split_once("#egg=") {
            found.packages.extend(requirement(name));
        } else if !line.starts_with(['-', '.', '/']) {
            found.packages.extend(requirement(line));
        }
    }
    found
}

/// A distribution's name as every index compares it.
pub(crate) fn normalized(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

fn requirement(text: &str) -> Option<Requirement> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
    let (name, rest) = text.split_at_checked(end.unwrap_or(text.len()))?;
    if name.is_empty() || rest.starts_with("://") || rest.starts_with('+') || rest.starts_with('/') {
        return None;
    }
    let rest = rest.trim_start();
    let (extras, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((extras, rest)) => (extras.split(',').map(|extra| extra.trim().to_owned()).collect(), rest),
        None => (Vec::new(), rest),
    };
    let version = rest.trim_start().strip_prefix("==").map(|version| {
        let version = version.trim_start_matches('=').trim_start();
        let end = version.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '*' | '!' | '+'));
        version.get(..end.unwrap_or(version.len())).unwrap_or_default().to_owned()
    });
    Some(Requirement { name: normalized(name), extras, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, shown) in [
            ("3.11", Some("3.11")),
            ("3.10.2", Some("3.10.2")),
            ("3", None),
            ("3.", None),
            ("3.11.4.5", None),
            ("pypy3.9", None),
            ("3.x", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text).map(|v| v.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn settings_literals() {
        for (text, expected) in [
            (r#"os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a.settings")"#, Some("a.settings")),
            (r#"os.environ.setdefault('DJANGO_SETTINGS_MODULE','a.b')"#, Some("a.b")),
            ("os.environ.setdefault(\n    'DJANGO_SETTINGS_MODULE',\n    'a.b',\n)", Some("a.b")),
            (r#"os.environ["DJANGO_SETTINGS_MODULE"] = "a.b""#, Some("a.b")),
            (
                "# setdefault('DJANGO_SETTINGS_MODULE', 'old')\nx('DJANGO_SETTINGS_MODULE', 'new')",
                Some("new"),
            ),
            (r#"setdefault("DJANGO_SETTINGS_MODULE", f"{x}.settings")"#, None),
            (r#"setdefault("DJANGO_SETTINGS_MODULE", pick())"#, None),
            (r#"setdefault("DJANGO_SETTINGS_MODULE", "a b; rm")"#, None),
            ("DJANGO_SETTINGS_MODULE", None),
            ("", None),
        ] {
            assert_eq!(settings_module(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn requirement_lines() {
        let text = "Django==4.2  # the framework\n\n# no\n-r base.txt\n--requirement=dev/x.txt\nPsycopg2_Binary>=2\n\
                    gunicorn[gevent]\n-e git+https://example.com/x.git#egg=My.Thing\n--index-url https://example.com\n\
                    psycopg [binary, pool] >=3 ; python_version > '3'\n./local\ngit+https://example.com/y.git\n\
                    x @ https://example.com/x.zip\n";
        let found = requirements(text);
        let shown: Vec<String> = found
            .packages
            .into_iter()
            .flat_map(Requirement::distributions)
            .map(|(name, version)| format!("{name} {}", version.unwrap_or_default()))
            .collect();
        let expected =
            ["django 4.2", "psycopg2-binary ", "gunicorn ", "my-thing ", "psycopg-binary ", "psycopg ", "x "];
        assert_eq!(shown, expected);
        assert_eq!(found.includes, ["base.txt", "dev/x.txt"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            settings_module(&text);
            settings_module(&format!("\"DJANGO_SETTINGS_MODULE\"{text}"));
            requirements(&text);
            parse_version(&text);
        }
    }
}
