//! What is wrong with a configuration file, and exactly where.
//!
//! Invariant: a problem that a key or value of the file is to blame for has its place; one that
//! something missing is to blame for has the place of what lacks it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::error::{Exit, Failure};

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// The path of the key as written, such as `environments.staging.server.host`; empty for the file.
    pub path: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in one line.
    pub message: String,
    /// Where, unless the project rather than the file is to blame.
    pub place: Option<Place>,
    /// What to try: the nearest valid name, the list of valid ones.
    pub hints: Vec<String>,
    /// Whether something required is missing; another environment may have it.
    pub(crate) missing: bool,
}

impl Problem {
    /// A problem without a place or a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, hints: Vec::new(), missing: false }
    }

    /// Sets where it is.
    #[must_use]
    pub fn at(mut self, span: Range<usize>, path: impl Into<String>) -> Self {
        self.place = Some(Place { span, path: path.into() });
        self
    }

    /// Adds a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// A configuration file that can't be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    text: String,
    problems: Vec<Problem>,
}

impl ConfigError {
    /// What is wrong with the text of a file; the problems come out in the order of the text.
    pub fn new(file: impl Into<String>, text: impl Into<String>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place.as_ref().map_or(usize::MAX, |place| place.span.start));
        Self { file: file.into(), text: text.into(), problems }
    }

    /// The problems, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The line and column of a problem, both from 1; columns count characters.
    pub fn line_column(&self, problem: &Problem) -> Option<(usize, usize)> {
        let place = problem.place.as_ref()?;
        Some((self.line_start(place.span.start).0, self.column(place.span.start)))
    }

    /// The number of the line that holds byte `at`, from 1, and the byte it starts at.
    fn line_start(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |newline| newline + 1))
    }

    fn column(&self, at: usize) -> usize {
        let (_, start) = self.line_start(at);
        self.text.get(start..at).map_or(0, |text| text.chars().count()) + 1
    }

    /// `ship.yml:4:3: what is wrong`.
    fn headline(&self, problem: &Problem) -> String {
        match self.line_column(problem) {
            Some((line, column)) => format!("{}:{line}:{column}: {}", self.file, problem.message),
            None => problem.message.clone(),
        }
    }

    /// The line to blame, with a caret; `None` for a problem of the file as a whole.
    fn excerpt(&self, problem: &Problem) -> Option<String> {
        let place =
            problem.place.as_ref().filter(|place| !place.path.is_empty() || !place.span.is_empty())?;
        let (number, start) = self.line_start(place.span.start);
        let line = self.text.get(start..)?.lines().next()?;
        if shows_secret(&place.path, line) {
            return None;
        }
        let from = place.span.start.saturating_sub(start).min(line.len());
        let to = place.span.end.saturating_sub(start).clamp(from, line.len());
        let from = (0..=from).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        let to = (to..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len());
        let snippet =
            Snippet::source(line).line_start(number).annotation(AnnotationKind::Primary.span(from..to));
        let group = Group::with_level(Level::ERROR).element(snippet);
        let rendered = Renderer::plain().render(&[group]);
        Some(rendered.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
    }
}

/// Whether a line of `secrets` holds more than names: values put there by mistake must not reach a log.
fn shows_secret(path: &str, line: &str) -> bool {
    let names = line.trim().trim_start_matches("secrets:");
    path.split(['.', '[']).any(|part| part == "secrets")
        && names
            .contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | ',' | '[' | ']' | ' '))
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        if let [only] = error.problems.as_slice() {
            let failure = Failure::new(Exit::Input, error.headline(only))
                .detail(error.excerpt(only).unwrap_or_default());
            return only.hints.iter().fold(failure, Failure::hint);
        }
        let mut blocks = String::new();
        let mut said: Vec<&String> = Vec::new();
        for problem in &error.problems {
            blocks.push_str(&format!("\n{}\n", error.headline(problem)));
            if let Some(excerpt) = error.excerpt(problem) {
                blocks.push_str(&format!("{excerpt}\n"));
            }
            for hint in &problem.hints {
                // The list of all keys is of use once.
                if !said.contains(&hint) {
                    blocks.push_str(&format!("hint: {hint}\n"));
                    said.push(hint);
                }
            }
        }
        Failure::new(Exit::Input, format!("{} has {} problems", error.file, error.problems.len()))
            .detail(blocks)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headlines: Vec<String> = self.problems.iter().map(|problem| self.headline(problem)).collect();
        f.write_str(&headlines.join("; "))
    }
}

impl std::error::Error for ConfigError {}
