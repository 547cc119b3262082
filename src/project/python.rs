//! The few things read out of Python's own files: string literals, requirement lines, versions.
//!
//! Invariant: only a plain literal counts. What is computed is left to Django itself to answer.

use std::fmt;

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

/// What `requires-python` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequiresPython {
    /// `==3.11.*`, `~=3.11.0`: one minor version.
    Exactly(Version),
    /// `>=3.9`.
    AtLeast(Version),
}

/// Reads `requires-python` of `pyproject.toml`; only its first `==`, `~=` or `>=` clause counts.
pub(super) fn requires_python(text: &str) -> Option<RequiresPython> {
    let value = text.lines().find_map(|line| {
        let value = line.trim().strip_prefix("requires-python")?.trim_start().strip_prefix('=')?;
        literal(value.trim_start())
    })?;
    value.split(',').map(str::trim).find_map(|clause| {
        let version = |text: &str| parse_version(text.trim().trim_end_matches(".*"));
        if let Some(rest) = clause.strip_prefix("==") {
            version(rest).map(RequiresPython::Exactly)
        } else if let Some(rest) = clause.strip_prefix("~=") {
            // `~=3.11` allows 3.12; `~=3.11.2` does not.
            version(rest).map(|version| match version.patch {
                Some(_) => RequiresPython::Exactly(Version { patch: None, ..version }),
                None => RequiresPython::AtLeast(version),
            })
        } else {
            clause.strip_prefix(">=").and_then(version).map(RequiresPython::AtLeast)
        }
    })
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

fn without_comments(text: &str) -> String {
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

/// What a requirements file names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    /// Distribution names, lower-cased and with dashes.
    pub packages: Vec<String>,
    /// Files named with `-r`, relative to this one.
    pub includes: Vec<String>,
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
            found.packages.extend(distribution(name));
        } else if !line.starts_with('-') {
            found.packages.extend(distribution(line));
        }
    }
    found
}

fn distribution(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
    let name = text.get(..end.unwrap_or(text.len()))?;
    (!name.is_empty()).then(|| name.to_lowercase().replace(['_', '.'], "-"))
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
    fn requires_python_is_a_wish_or_a_bound() {
        let at_least = |minor| Some(RequiresPython::AtLeast(Version { major: 3, minor, patch: None }));
        let exactly = |minor| Some(RequiresPython::Exactly(Version { major: 3, minor, patch: None }));
        for (value, expected) in [
            (">=3.9", at_least(9)),
            (" >= 3.9, <4", at_least(9)),
            ("<4,>=3.10", at_least(10)),
            ("==3.11.*", exactly(11)),
            ("~=3.11.2", exactly(11)),
            ("~=3.11", at_least(11)),
            ("", None),
            ("whatever", None),
        ] {
            let text = format!("[project]\nname = \"x\"\nrequires-python = \"{value}\"\n");
            assert_eq!(requires_python(&text), expected, "{value}");
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
                    gunicorn[gevent]\n-e git+https://example.com/x.git#egg=My.Thing\n--index-url https://example.com\n";
        assert_eq!(
            requirements(text),
            Requirements {
                packages: ["django", "psycopg2-binary", "gunicorn", "my-thing"].map(String::from).to_vec(),
                includes: vec!["base.txt".into(), "dev/x.txt".into()],
            }
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            settings_module(&text);
            settings_module(&format!("\"DJANGO_SETTINGS_MODULE\"{text}"));
            requirements(&text);
            requires_python(&format!("requires-python = {text}"));
            parse_version(&text);
        }
    }
}
