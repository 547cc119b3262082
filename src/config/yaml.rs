//! YAML as a tree that remembers where everything was written, and merges of such trees.
//!
//! Invariant: a scalar keeps the text that was typed (`3.10` stays `3.10`, `true` stays `true`);
//! what it means is decided by the type that reads it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_yaml::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};

use super::error::Problem;

/// How many nodes a file may have once its aliases are followed.
const MOST_NODES: usize = 20_000;

/// What is mostly behind the parser's words.
const SYNTAX_HINTS: [(&str, &str); 6] = [
    ("quoted scalar", "a quote before this place may not be closed"),
    ("flow mapping", "a `{` before this place may not be closed"),
    ("flow sequence", "a `[` before this place may not be closed"),
    ("mapping values", "the line may be indented too far; a value with `: ` in it needs quotes"),
    ("unknown anchor", "a value that starts with `*` needs quotes"),
    ("cannot start any token", "a value that starts with `@`, `%` or a backtick needs quotes"),
];

/// How deep values may be inside each other: far beyond any sense, well within the stack.
const DEEPEST: usize = 40;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Bytes of the value.
    pub(crate) span: Range<usize>,
    /// Bytes of the key in front of it, or of the value where there is none.
    pub(crate) key_span: Range<usize>,
    /// The path as written.
    pub(crate) path: String,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text as typed; `plain` without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the text; keys are unique.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Whether this is YAML's "nothing": an empty value, `~` or `null` without quotes.
    pub(crate) fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            Kind::Scalar { plain: false, .. } | Kind::List(_) | Kind::Map(_) => false,
        }
    }

    /// The value of a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            Kind::Scalar { .. } | Kind::List(_) => None,
        }
    }

    /// An element, if this is a list that has it.
    pub(crate) fn element(&self, index: usize) -> Option<&Node> {
        match &self.kind {
            Kind::List(items) => items.get(index),
            Kind::Scalar { .. } | Kind::Map(_) => None,
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// This map without a key.
    pub(crate) fn without(&self, key: &str) -> Node {
        let mut node = self.clone();
        if let Kind::Map(entries) = &mut node.kind {
            entries.retain(|(name, _)| name != key);
        }
        node
    }

    /// Lays `over` onto this node: maps key by key, everything else replaced. A `server` of another
    /// `provider` replaces the whole one, since the keys of one provider mean nothing to another.
    pub(crate) fn overlaid(&self, over: &Node) -> Node {
        let (Kind::Map(below), Kind::Map(above)) = (&self.kind, &over.kind) else { return over.clone() };
        let provider = |node: &Node| node.get("provider").and_then(Node::text).map(str::to_owned);
        if self.path == "server"
            && let (Some(old), Some(new)) = (provider(self), provider(over))
            && old != new
        {
            return over.clone();
        }
        let mut entries = below.clone();
        for (key, value) in above {
            match entries.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = old.overlaid(value),
                None => entries.push((key.clone(), value.clone())),
            }
        }
        Node { kind: Kind::Map(entries), ..self.clone() }
    }

    fn count(&self) -> usize {
        match &self.kind {
            Kind::Scalar { .. } => 1,
            Kind::List(items) => 1 + items.iter().map(Node::count).sum::<usize>(),
            Kind::Map(entries) => 1 + entries.iter().map(|(_, value)| value.count()).sum::<usize>(),
        }
    }

    /// The same node at another path, for an alias.
    fn moved(&self, path: &str) -> Node {
        let kind = match &self.kind {
            Kind::Scalar { .. } => self.kind.clone(),
            Kind::List(items) => Kind::List(
                items.iter().enumerate().map(|(at, item)| item.moved(&indexed(path, at))).collect(),
            ),
            Kind::Map(entries) => Kind::Map(
                entries.iter().map(|(key, value)| (key.clone(), value.moved(&keyed(path, key)))).collect(),
            ),
        };
        Node { kind, path: path.to_owned(), ..self.clone() }
    }
}

/// The path of `key` in the map at `path`.
pub(crate) fn keyed(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path of element `at` of the list at `path`.
pub(crate) fn indexed(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

/// Reads a text of exactly one document.
pub(crate) fn parse(text: &str) -> Result<Node, Problem> {
    let mut options = Options::default();
    options.emit_comments = false;
    let mut reader = Reader {
        text,
        events: Parser::new_from_str_with_options(text, options),
        anchors: BTreeMap::new(),
        nodes: 0,
        depth: 0,
    };
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Err(Problem::new("a second document (`---`) in the file")
                    .at(bytes(span), "---")
                    .hint("one file holds one document; environments go under `environments`"));
            }
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Comment(..)
            | Event::Anchor(..) => {}
            Event::Alias(..)
            | Event::UnresolvedAlias(..)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd => root = Some(reader.node(event, span, "")?),
            // The parser's enum may grow.
            _ => {}
        }
    }
    match root {
        Some(node) if !node.is_null() => Ok(node),
        Some(_) | None => Err(Problem::new("the file is empty").at(0..0, "")),
    }
}

struct Reader<'t> {
    text: &'t str,
    events: Parser<'t, serde_yaml::granit_parser::StrInput<'t>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Problem> {
        self.events.next_event().transpose().map_err(|error| self.syntax(&error))
    }

    fn expect(&mut self) -> Result<(Event<'t>, Span), Problem> {
        self.next()?.ok_or_else(|| Problem::new("the file ends in the middle of a value").at(0..0, ""))
    }

    fn node(&mut self, event: Event<'t>, span: Span, path: &str) -> Result<Node, Problem> {
        let at = bytes(span);
        let tag_at = span.tag_span().map_or_else(|| at.clone(), bytes);
        self.nodes += 1;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Problem::new(format!("values are more than {DEEPEST} levels deep")).at(at, "depth"));
        }
        let (kind, anchor, end) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let forced = self.is_text_tag(tag.as_deref(), &tag_at, path)?;
                let plain = matches!(style, ScalarStyle::Plain) && !forced;
                (Kind::Scalar { text: text.into_owned(), plain }, anchor, at.end)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), &tag_at, path)?;
                let (items, end) = self.list(path)?;
                (Kind::List(items), anchor, end)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), &tag_at, path)?;
                let (entries, end) = self.map(path)?;
                (Kind::Map(entries), anchor, end)
            }
            Event::Alias(id) => {
                self.depth -= 1;
                return self.alias(id, at, path);
            }
            Event::UnresolvedAlias(name) => {
                return Err(Problem::new(format!("the alias `*{name}` has no anchor")).at(at, path));
            }
            _ => return Err(Problem::new("not a value").at(at, path)),
        };
        self.depth -= 1;
        let node =
            Node { kind, key_span: at.clone(), span: at.start..end.max(at.end), path: path.to_owned() };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Range<usize>, path: &str) -> Result<Node, Problem> {
        let Some(target) = self.anchors.get(&id) else {
            return Err(Problem::new("an alias inside the value that it names").at(at, path));
        };
        self.nodes += target.count();
        if self.nodes > MOST_NODES {
            return Err(Problem::new("the aliases make the file too large").at(at, path));
        }
        Ok(target.moved(path))
    }

    fn list(&mut self, path: &str) -> Result<(Vec<Node>, usize), Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.expect()?;
            match event {
                Event::SequenceEnd => return Ok((items, bytes(span).end)),
                Event::Comment(..) | Event::Anchor(..) => {}
                event => {
                    let item = self.node(event, span, &indexed(path, items.len()))?;
                    items.push(item);
                }
            }
        }
    }

    fn map(&mut self, path: &str) -> Result<(Vec<(String, Node)>, usize), Problem> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (event, span) = self.expect()?;
            let (key, plain) = match event {
                Event::MappingEnd => {
                    for (key, value) in merged.into_iter().filter_map(into_entries).flatten() {
                        if !entries.iter().any(|(name, _)| *name == key) {
                            entries.push((key, value));
                        }
                    }
                    return Ok((entries, bytes(span).end));
                }
                Event::Comment(..) | Event::Anchor(..) => continue,
                Event::Scalar(text, style, ..) => (text.into_owned(), matches!(style, ScalarStyle::Plain)),
                _ => {
                    return Err(Problem::new("a key must be plain text")
                        .at(bytes(span), path)
                        .hint("a value with `{`, `[` or `*` in it needs quotes"));
                }
            };
            let key_span = bytes(span);
            let key_path = keyed(path, &key);
            if let Some((_, first)) = entries.iter().find(|(name, _)| *name == key) {
                let line = self.text.get(..first.key_span.start).unwrap_or("").matches('\n').count() + 1;
                return Err(Problem::new(format!("`{key_path}` is there twice"))
                    .at(key_span, key_path)
                    .hint(format!("the first is on line {line}; keep one")));
            }
            let (event, span) = self.expect()?;
            let mut value = self.node(event, span, &key_path)?;
            value.key_span = key_span;
            if plain && key == "<<" {
                merged.extend(self.merge(value.moved(path))?);
            } else {
                entries.push((key, value));
            }
        }
    }

    /// The maps named by `<<`.
    fn merge(&self, value: Node) -> Result<Vec<Node>, Problem> {
        let maps = match value.kind {
            Kind::List(ref items) => items.iter().map(|item| item.moved(&value.path)).collect(),
            Kind::Map(_) | Kind::Scalar { .. } => vec![value],
        };
        match maps.iter().find(|node| !matches!(node.kind, Kind::Map(_))) {
            Some(node) => {
                Err(Problem::new("`<<` takes a map or a list of maps").at(node.key_span.clone(), "<<"))
            }
            None => Ok(maps),
        }
    }

    /// Whether `!!str` makes text of what follows; other tags mean nothing here.
    fn is_text_tag(&self, tag: Option<&Tag>, at: &Range<usize>, path: &str) -> Result<bool, Problem> {
        match tag {
            None => Ok(false),
            Some(tag) => match tag.core_suffix() {
                Some(suffix) => Ok(suffix == "str"),
                None => Err(Problem::new("tags such as `!name` mean nothing here").at(at.clone(), path)),
            },
        }
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let at = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let line_start =
            self.text.get(..at).and_then(|text| text.rfind('\n')).map_or(0, |newline| newline + 1);
        let line = self.text.get(line_start..).and_then(|text| text.lines().next()).unwrap_or("");
        let problem = Problem::new(format!("not valid YAML: {}", error.info()));
        if let Some(tab) =
            line.find('\t').filter(|tab| line.get(..*tab).is_some_and(|head| head.trim().is_empty()))
        {
            let tab = line_start + tab;
            return Problem::new("not valid YAML: a tab indents this line")
                .at(tab..tab + 1, "tab")
                .hint("indent with spaces");
        }
        let problem = problem.at(at..at + 1, "syntax");
        match SYNTAX_HINTS.iter().find(|(part, _)| problem.message.contains(part)) {
            Some((_, hint)) => problem.hint(*hint),
            None => problem,
        }
    }
}

fn into_entries(node: Node) -> Option<Vec<(String, Node)>> {
    match node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::List(_) | Kind::Scalar { .. } => None,
    }
}

fn bytes(span: Span) -> Range<usize> {
    span.byte_range().unwrap_or(0..0)
}
