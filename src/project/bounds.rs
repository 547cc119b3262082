//! Which Python versions a project allows, as `requires-python`, poetry and runtime files write it.
//!
//! Invariant: a text is either understood as a whole or not at all; nothing is guessed from half of it.

use std::fmt;

use super::Version;

/// A set of versions: `>=3.9,<3.12`, `^3.10`, `3.11.*`, `~3.9 || ^3.11`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    text: String,
    /// One of these must hold; all clauses of it.
    alternatives: Vec<Vec<Clause>>,
}

/// One comparison. What was not written counts as 0, or as anything where the clause says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clause {
    AtLeast(Triple),
    Above(Triple),
    Below(Triple),
    AtMost(Triple),
    /// The first `usize` numbers are these.
    Like(Triple, usize),
    Unlike(Triple, usize),
}

type Triple = [u32; 3];

impl Bounds {
    /// Reads PEP 440 specifiers, poetry's `^` and `~` and `||`, and a bare version.
    pub fn parse(text: &str) -> Option<Self> {
        let alternatives = text
            .replace("||", "|")
            .split('|')
            .map(|part| {
                let clauses = part.split([',', ' ']).map(str::trim);
                joined(clauses).iter().map(|clause| Clause::read(clause)).collect::<Option<Vec<_>>>()
            })
            .collect::<Option<Vec<_>>>()?;
        let alternatives: Vec<Vec<Clause>> = alternatives.into_iter().map(|all| all.concat()).collect();
        let says_something = alternatives.iter().all(|clauses| !clauses.is_empty());
        says_something.then(|| Self { text: text.trim().to_owned(), alternatives })
    }

    /// Whether a version is allowed. Without a patch number, any patch of the series will do.
    pub fn allows(&self, version: Version) -> bool {
        let triple = |patch| [version.major, version.minor, patch];
        let allowed = |triple: Triple| {
            self.alternatives.iter().any(|clauses| clauses.iter().all(|clause| clause.holds(triple)))
        };
        match version.patch {
            Some(patch) => allowed(triple(patch)),
            // No series had a hundred patches.
            None => (0..100).rev().any(|patch| allowed(triple(patch))),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `>= 3.9` is one clause although it has a space.
fn joined<'t>(parts: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut clauses: Vec<String> = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        match clauses.last_mut() {
            Some(last) if last.ends_with(['=', '<', '>', '^', '~']) => last.push_str(part),
            Some(_) | None => clauses.push(part.to_owned()),
        }
    }
    clauses
}

impl Clause {
    fn read(text: &str) -> Option<Vec<Self>> {
        let operators = ["===", "==", "!=", ">=", "<=", "~=", ">", "<", "^", "~", "="];
        let operator = operators.into_iter().find(|operator| text.starts_with(operator)).unwrap_or("");
        let rest = text.get(operator.len()..)?.trim();
        if rest == "*" && operator.is_empty() {
            return Some(vec![Self::AtLeast([0; 3])]);
        }
        let (triple, written) = numbers(rest.strip_suffix(".*").unwrap_or(rest))?;
        Some(match operator {
            ">=" => vec![Self::AtLeast(triple)],
            ">" => vec![Self::Above(triple)],
            "<" => vec![Self::Below(triple)],
            "<=" => vec![Self::AtMost(triple)],
            "==" | "===" | "=" | "" => vec![Self::Like(triple, written)],
            "!=" => vec![Self::Unlike(triple, written)],
            // All but the last number stay.
            "~=" => vec![Self::AtLeast(triple), Self::Like(triple, written.saturating_sub(1).max(1))],
            // The leftmost number that isn't 0 stays, and Python's never is.
            "^" => vec![Self::AtLeast(triple), Self::Like(triple, 1)],
            "~" => vec![Self::AtLeast(triple), Self::Like(triple, written.min(2))],
            _ => return None,
        })
    }

    fn holds(self, version: Triple) -> bool {
        let like =
            |wanted: Triple, written: usize| version.iter().zip(wanted).take(written).all(|(a, b)| *a == b);
        match self {
            Self::AtLeast(bound) => version >= bound,
            Self::Above(bound) => version > bound,
            Self::Below(bound) => version < bound,
            Self::AtMost(bound) => version <= bound,
            Self::Like(wanted, written) => like(wanted, written),
            Self::Unlike(wanted, written) => !like(wanted, written),
        }
    }
}

/// `3.11` as numbers, and how many were written.
fn numbers(text: &str) -> Option<(Triple, usize)> {
    let mut triple = [0; 3];
    let mut written = 0;
    for part in text.split('.') {
        let digits = !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
        *triple.get_mut(written)? = if digits { part.parse().ok()? } else { return None };
        written += 1;
    }
    Some((triple, written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::parse_version;

    #[test]
    fn what_is_allowed() {
        for (text, yes, no) in [
            (">=3.9", "3.9 3.9.0 3.14", "3.8 3.8.20"),
            (">=3.9,<3.12", "3.9 3.11.9", "3.12 3.8"),
            (">= 3.9, < 4", "3.9 3.14", "3.8"),
            ("==3.11.*", "3.11 3.11.2", "3.10 3.12"),
            ("==3.11.2", "3.11.2 3.11", "3.11.3 3.12"),
            ("~=3.10", "3.10 3.13", "3.9"),
            ("~=3.10.2", "3.10.5 3.10", "3.10.1 3.11"),
            ("^3.10", "3.10 3.14", "3.9"),
            ("~3.10", "3.10 3.10.9", "3.11 3.9"),
            ("3.11.*", "3.11", "3.12"),
            ("~3.9 || ^3.12", "3.9 3.12 3.13", "3.10 3.11"),
            (">3.10,!=3.12.*", "3.11 3.13", "3.12 3.9"),
            ("*", "3.8 3.14", ""),
            ("<=3.10", "3.10 3.9", "3.11"),
        ] {
            let bounds = Bounds::parse(text).unwrap_or_else(|| panic!("{text}"));
            for version in yes.split_whitespace() {
                assert!(bounds.allows(parse_version(version).unwrap()), "{text} allows {version}");
            }
            for version in no.split_whitespace() {
                assert!(!bounds.allows(parse_version(version).unwrap()), "{text} does not allow {version}");
            }
        }
        for text in ["", "whatever", ">=three", ">=3.9,", "pypy3.9", "<", ">=3.10rc1", "||"] {
            let expected = (text == ">=3.9,").then_some(">=3.9,");
            assert_eq!(Bounds::parse(text).map(|bounds| bounds.to_string()).as_deref(), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9.<>=!~^|, *a-z]*") {
            if let Some(bounds) = Bounds::parse(&text) {
                bounds.allows(Version { major: 3, minor: 11, patch: None });
            }
        }
    }
}
