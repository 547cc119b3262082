//! Changes of `ship.yml` in place: one value changes, and every comment, quote and blank line stays.
//!
//! Invariant: pure. The new text is read again and compared: it says what the old one said but for the change, or the
//! change is refused.

use super::yaml::{self, Kind, Node};

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A word, a number, a line.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A word.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// As YAML on one line.
    fn flow(&self) -> String {
        match self {
            Self::Text(text) => scalar(text),
            Self::List(items) => {
                format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", "))
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Self)| format!("{}: {}", scalar(key), value.flow());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn of(node: &Node) -> Self {
        match &node.kind {
            Kind::Scalar { text, .. } => Self::Text(text.clone()),
            Kind::List(items) => Self::List(items.iter().map(Self::of).collect()),
            Kind::Map(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect())
            }
        }
    }

    /// The value with another one at that path.
    fn with(self, path: &[&str], value: Self) -> Self {
        let Some((first, rest)) = path.split_first() else { return value };
        let mut entries = match self {
            Self::Map(entries) => entries,
            Self::Text(_) | Self::List(_) => Vec::new(),
        };
        match entries.iter_mut().find(|(key, _)| key == first) {
            Some((_, old)) => *old = std::mem::replace(old, Self::List(Vec::new())).with(rest, value),
            None => entries.push(((*first).to_owned(), Self::Map(Vec::new()).with(rest, value))),
        }
        Self::Map(entries)
    }
}

/// A scalar as it may stand anywhere, also between braces.
fn scalar(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let special = ["true", "false", "yes", "no", "on", "null", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(harmless)
        && !special.contains(&text.to_ascii_lowercase().as_str());
    // JSON's strings are YAML's.
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// Why a text can't be changed by a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is written in a way that only you can change")]
pub struct CantEdit {
    /// What was to be changed.
    pub path: String,
}

/// Says what is written at a path, if anything is.
pub fn read(text: &str, path: &[&str]) -> Option<Value> {
    let root = yaml::parse(text).ok()?;
    let node = path.iter().try_fold(&root, |node, key| node.get(key))?;
    (!node.is_null()).then(|| Value::of(node))
}

/// The text with that value at that path, whether or not anything was there.
pub fn set(text: &str, path: &[&str], value: &Value) -> Result<String, CantEdit> {
    let cant = || CantEdit { path: path.join(".") };
    let root = yaml::parse(text).map_err(|_| cant())?;
    let mut node = &root;
    let mut done = 0;
    while let Some(next) = path.get(done).and_then(|key| node.get(key)) {
        node = next;
        done += 1;
    }
    let rest = path.get(done..).unwrap_or_default();
    let new = match rest.split_first() {
        None => replace(text, node, &value.flow()),
        Some((key, below)) => {
            let value = below
                .iter()
                .rev()
                .fold(value.clone(), |value, key| Value::Map(vec![((*key).to_owned(), value)]));
            match &node.kind {
                Kind::Map(entries) => {
                    insert(text, node, entries, &format!("{}: {}", scalar(key), value.flow()))
                }
                _ => replace(text, node, &Value::Map(vec![((*key).to_owned(), value)]).flow()),
            }
        }
    };
    let expected = Value::of(&root).with(path, value.clone());
    checked(new, &expected).ok_or_else(cant)
}

/// The text with another item at the end of the list at that path.
pub fn push(text: &str, path: &[&str], item: &str) -> Result<String, CantEdit> {
    let cant = || CantEdit { path: path.join(".") };
    let root = yaml::parse(text).map_err(|_| cant())?;
    let node = path.iter().try_fold(&root, |node, key| node.get(key));
    let mut items = match node.map(|node| &node.kind) {
        Some(Kind::List(items)) => items.iter().map(Value::of).collect(),
        Some(Kind::Scalar { .. } | Kind::Map(_)) | None => Vec::new(),
    };
    items.push(Value::text(item));
    let all = Value::List(items);
    let new = match node.map(|node| (node, &node.kind)) {
        Some((node, Kind::List(written))) if !written.is_empty() => {
            let last = written.last().and_then(|last| Some((last, text.get(last.span.end..)?)));
            last.and_then(|(last, _)| {
                if is_flow(text, node) {
                    splice(text, last.span.end, last.span.end, &format!(", {}", scalar(item)))
                } else {
                    let line = text.get(..last.span.start)?.rfind('\n').map_or(0, |at| at + 1);
                    let dash = text.get(line..last.span.start)?.find('-')?;
                    let end = line_end(text, last.span.end);
                    splice(text, end, end, &format!("\n{}- {}", " ".repeat(dash), scalar(item)))
                }
            })
        }
        _ => return set(text, path, &all),
    };
    checked(new, &Value::of(&root).with(path, all)).ok_or_else(cant)
}

/// The text without an item of the list at that path, which must be there.
pub fn remove(text: &str, path: &[&str], item: &str) -> Result<String, CantEdit> {
    let cant = || CantEdit { path: path.join(".") };
    let root = yaml::parse(text).map_err(|_| cant())?;
    let node = path.iter().try_fold(&root, |node, key| node.get(key)).ok_or_else(cant)?;
    let Kind::List(items) = &node.kind else { return Err(cant()) };
    let index = items.iter().position(|one| one.text() == Some(item)).ok_or_else(cant)?;
    let left: Vec<Value> =
        items.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, one)| Value::of(one)).collect();
    let span = |at: usize| items.get(at).map(|one| one.span.clone());
    let own = span(index).ok_or_else(cant)?;
    let new = if is_flow(text, node) {
        match (index.checked_sub(1).and_then(span), span(index + 1)) {
            (_, Some(next)) => splice(text, own.start, next.start, ""),
            (Some(before), None) => splice(text, before.end, own.end, ""),
            (None, None) => splice(text, own.start, own.end, ""),
        }
    } else if left.is_empty() {
        // Nothing may stay behind that would be read as no value at all.
        let colon = text.get(node.key_span.end..).and_then(|rest| rest.find(':')).ok_or_else(cant)?;
        let colon = node.key_span.end + colon + 1;
        line_of(text, own.start).and_then(|(start, end)| {
            let without = splice(text, start, end, "")?;
            splice(&without, colon, colon, " []")
        })
    } else {
        line_of(text, own.start).and_then(|(start, end)| splice(text, start, end, ""))
    };
    checked(new, &Value::of(&root).with(path, Value::List(left))).ok_or_else(cant)
}

/// The new text, if it says exactly what it should.
fn checked(new: Option<String>, expected: &Value) -> Option<String> {
    let new = new?;
    let read = yaml::parse(&new).ok()?;
    same(&Value::of(&read), expected).then_some(new)
}

/// Whether two values say the same, in whatever order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.iter().any(|(other, b)| key == other && same(a, b)))
        }
        (Value::Text(_) | Value::List(_) | Value::Map(_), _) => false,
    }
}

fn is_flow(text: &str, node: &Node) -> bool {
    text.get(node.span.start..).is_some_and(|rest| rest.starts_with(['{', '[']))
}

fn splice(text: &str, from: usize, to: usize, with: &str) -> Option<String> {
    Some(format!("{}{with}{}", text.get(..from)?, text.get(to..)?))
}

fn line_end(text: &str, from: usize) -> usize {
    text.get(from..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| from + at)
}

/// The line that a place is on, with its line break.
fn line_of(text: &str, at: usize) -> Option<(usize, usize)> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    Some((start, (line_end(text, at) + 1).min(text.len())))
}

/// Where what is written of a value ends, without what follows it.
fn end_of(text: &str, node: &Node) -> usize {
    let last = match &node.kind {
        Kind::Scalar { .. } => None,
        Kind::List(_) | Kind::Map(_) if is_flow(text, node) => None,
        Kind::List(items) => items.last(),
        Kind::Map(entries) => entries.last().map(|(_, value)| value),
    };
    match last {
        Some(last) => end_of(text, last),
        None => {
            let end = node.span.end.max(node.key_span.end);
            let written = text.get(..end).unwrap_or(text).trim_end().len();
            written.max(node.key_span.end)
        }
    }
}

fn replace(text: &str, node: &Node, with: &str) -> Option<String> {
    if node.is_null() && node.span.is_empty() {
        let colon = text.get(node.key_span.end..)?.find(':')?;
        let at = node.key_span.end + colon + 1;
        return splice(text, at, at, &format!(" {with}"));
    }
    match &node.kind {
        Kind::Scalar { .. } => splice(text, node.span.start, node.span.end, with),
        Kind::List(_) | Kind::Map(_) if is_flow(text, node) => {
            splice(text, node.span.start, node.span.end, with)
        }
        Kind::List(_) | Kind::Map(_) => None,
    }
}

/// Adds an entry to a map.
fn insert(text: &str, map: &Node, entries: &[(String, Node)], entry: &str) -> Option<String> {
    let Some((_, last)) = entries.last() else {
        let at = map.span.start + 1;
        return splice(text, at, at, entry);
    };
    let end = end_of(text, last);
    if is_flow(text, map) {
        return splice(text, end, end, &format!(", {entry}"));
    }
    let (_, first) = entries.first()?;
    let line = text.get(..first.key_span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let indent = first.key_span.start - line;
    let end = line_end(text, end);
    splice(text, end, end, &format!("\n{}{entry}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# my site
server: {host: 203.0.113.1}   # a machine

domains:
  - example.com   # the one
  - www.example.com
processes:
  web: {workers: 2, timeout: 60}  # two
  worker: celery -A library worker   # slow ones
  # The clock.
  beat:
    command: celery -A library beat

env: {A: "1"}
environments:
  staging: {domains: [staging.example.com]}
"#;

    /// The lines that differ.
    fn changed(new: Result<String, CantEdit>) -> String {
        let new = new.unwrap();
        let diff = crate::plan::unified_diff(FILE, &new);
        diff.lines().filter(|line| line.starts_with(['-', '+'])).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn one_value_changes_and_all_else_stays() {
        let number = |text: &str| Value::text(text);
        let command = Value::Map(vec![
            ("command".into(), Value::text("celery -A library worker")),
            ("replicas".into(), Value::text("2")),
        ]);
        assert_eq!(
            changed(set(FILE, &["processes", "web", "workers"], &number("4"))),
            "-  web: {workers: 2, timeout: 60}  # two\n+  web: {workers: 4, timeout: 60}  # two\n"
        );
        assert_eq!(
            changed(set(FILE, &["processes", "web", "drain"], &number("9"))),
            "-  web: {workers: 2, timeout: 60}  # two\n+  web: {workers: 2, timeout: 60, drain: 9}  # two\n"
        );
        assert_eq!(
            changed(set(FILE, &["processes", "worker"], &command)),
            "-  worker: celery -A library worker   # slow ones\n+  worker: {command: \"celery -A library worker\", replicas: 2}   # slow ones\n"
        );
        assert_eq!(
            changed(set(FILE, &["processes", "beat", "replicas"], &number("0"))),
            "+    replicas: 0\n"
        );
        assert_eq!(
            changed(set(FILE, &["processes", "mail", "command"], &Value::text("./mail"))),
            "+  mail: {command: \"./mail\"}\n"
        );
        assert_eq!(
            changed(set(FILE, &["environments", "staging", "processes", "web", "workers"], &number("1"))),
            "-  staging: {domains: [staging.example.com]}\n+  staging: {domains: [staging.example.com], processes: {web: {workers: 1}}}\n"
        );
        assert_eq!(changed(set(FILE, &["tls"], &Value::text("letsencrypt"))), "+tls: letsencrypt\n");
        assert_eq!(
            set("server:\n  host: a\nprocesses:\n", &["processes", "web", "workers"], &number("3")).unwrap(),
            "server:\n  host: a\nprocesses: {web: {workers: 3}}\n"
        );
        assert_eq!(
            set("server: {host: a}", &["processes", "web", "workers"], &number("3")).unwrap(),
            "server: {host: a}\nprocesses: {web: {workers: 3}}"
        );
    }

    #[test]
    fn lists_grow_and_shrink() {
        let domains = &["domains"][..];
        let staging = &["environments", "staging", "domains"][..];
        assert_eq!(changed(push(FILE, domains, "new.example.com")), "+  - new.example.com\n");
        assert_eq!(
            changed(push(FILE, staging, "b.example.com")),
            "-  staging: {domains: [staging.example.com]}\n+  staging: {domains: [staging.example.com, b.example.com]}\n"
        );
        assert_eq!(changed(remove(FILE, domains, "example.com")), "-  - example.com   # the one\n");
        assert_eq!(
            changed(remove(FILE, staging, "staging.example.com")),
            "-  staging: {domains: [staging.example.com]}\n+  staging: {domains: []}\n"
        );
        let none = remove(&remove(FILE, domains, "example.com").unwrap(), domains, "www.example.com");
        assert!(none.as_ref().unwrap().contains("\ndomains: []\nprocesses:"), "{none:?}");
        assert_eq!(push("a: [x, y]\n", &["a"], "z").unwrap(), "a: [x, y, z]\n");
        assert_eq!(push("a: []\n", &["a"], "z").unwrap(), "a: [z]\n");
        assert_eq!(push("b: 1\n", &["a"], "z").unwrap(), "b: 1\na: [z]\n");
        assert_eq!(remove("a: [x, y, z]\n", &["a"], "x").unwrap(), "a: [y, z]\n");
        assert_eq!(remove("a: [x, y]\n", &["a"], "y").unwrap(), "a: [x]\n");
        assert!(remove(FILE, domains, "other.example.com").is_err());
    }

    #[test]
    fn what_would_say_something_else_is_refused() {
        // An alias is another's value: a change here would be one there.
        let text = "a: &x {n: 1}\nb: *x\n";
        assert!(set(text, &["b", "n"], &Value::text("2")).is_err());
        assert!(set("a: |\n  text\n  more\nb: 1\n", &["a", "n"], &Value::text("2")).is_err());
        assert!(set("a:\n  - x\n", &["a"], &Value::text("2")).is_err());
        assert!(set("a: [", &["a"], &Value::text("2")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_written_so_that_it_reads_the_same(text in "[ -~é\n\t]{0,40}", key in "[a-z]{1,8}") {
            let new = set(FILE, &["env", &key], &Value::text(text.clone())).unwrap();
            proptest::prop_assert_eq!(read(&new, &["env", &key]).unwrap_or(Value::text("")), Value::Text(text));
        }
    }
}
