//! `.env` files: names and values, a line each, as the tools around Django read and write them.
//!
//! Invariant: pure, and nothing is expanded: what stands in quotes is the value.

use std::fmt::Write as _;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
    /// Whether it stood in quotes.
    pub quoted: bool,
}

/// A line that is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it. Never what stands there, which may be secret.
    pub why: &'static str,
}

/// Reads a file.
pub fn parse(text: &str) -> Result<Vec<Entry>, BadLine> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let (this, after) = rest.split_at(end);
        let trimmed = this.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after;
            continue;
        }
        let bad = |why| BadLine { line, why };
        let start = this.find(|c: char| !c.is_whitespace()).unwrap_or(0);
        let body = rest.get(start..).unwrap_or_default();
        let body = match body.strip_prefix("export") {
            Some(after) if after.starts_with([' ', '\t']) => after.trim_start_matches([' ', '\t']),
            Some(_) | None => body,
        };
        let (name, value) = body.split_once('=').ok_or(bad("there is no `=`"))?;
        if name.contains('\n') {
            return Err(bad("there is no `=`"));
        }
        let name = name.trim();
        let value = value.trim_start_matches([' ', '\t']);
        let (value, quoted, left) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (value, left) = quoted(value.get(1..).unwrap_or_default(), quote)
                    .ok_or(bad("the quote is never closed"))?;
                let end = left.find('\n').map_or(left.len(), |at| at + 1);
                let (tail, left) = left.split_at(end);
                if !(tail.trim().is_empty() || tail.trim().starts_with('#')) {
                    return Err(bad("something follows the closing quote"));
                }
                line += value.1;
                (value.0, true, left)
            }
            Some(_) | None => {
                let end = value.find('\n').map_or(value.len(), |at| at + 1);
                let (own, left) = value.split_at(end);
                let own = own.find(" #").and_then(|at| own.get(..at)).unwrap_or(own);
                let own = if own.trim_start().starts_with('#') { "" } else { own };
                (own.trim().to_owned(), false, left)
            }
        };
        entries.retain(|entry| entry.name != name);
        entries.push(Entry { name: name.to_owned(), value, quoted });
        rest = left;
    }
    Ok(entries)
}

/// The content up to the closing quote with the number of line breaks in it, and what follows.
fn quoted(text: &str, quote: char) -> Option<((String, usize), &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if quote == '"' => match characters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                other @ ('"' | '\\' | '$' | '`') => value.push(other),
                other => {
                    value.push('\\');
                    value.push(other);
                }
            },
            end if end == quote => {
                let written = text.get(..at)?;
                return Some(((value, written.matches('\n').count()), text.get(at + 1..)?));
            }
            other => value.push(other),
        }
    }
    None
}

/// Writes entries so that [`parse`] reads them back.
pub fn render<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in entries {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+-,?&=".contains(c);
        if value.chars().all(plain) {
            let _ = writeln!(text, "{name}={value}");
        } else {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\r', "\\r");
            let _ = writeln!(text, "{name}=\"{escaped}\"");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_people_write_them() {
        let text = "# mine\nA=1\n  export B = two words  # note\nC=\"a \\\"b\\\"\\n$X\" # note\nD='it $is\nraw\\n'\nE=\nF=#no\nG=a#b\nKEY=\"-----BEGIN\nabc\n-----END\"\r\nA=3\n";
        let read: Vec<(String, String, bool)> =
            parse(text).unwrap().into_iter().map(|entry| (entry.name, entry.value, entry.quoted)).collect();
        let expected = [
            ("B", "two words", false),
            ("C", "a \"b\"\n$X", true),
            ("D", "it $is\nraw\\n", true),
            ("E", "", false),
            ("F", "", false),
            ("G", "a#b", false),
            ("KEY", "-----BEGIN\nabc\n-----END", true),
            ("A", "3", false),
        ];
        let expected: Vec<(String, String, bool)> =
            expected.into_iter().map(|(name, value, quoted)| (name.into(), value.into(), quoted)).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error("A=1\n\nhunter2\n"), "line 3: there is no `=`");
        assert_eq!(error("A=\"x\n\n"), "line 1: the quote is never closed");
        assert_eq!(error("A='x\ny'\nB='x' y"), "line 3: something follows the closing quote");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(value in "[^\0]*", other in "[^\0]*") {
            let text = render([("A", value.as_str()), ("B", other.as_str())]);
            let read = parse(&text).unwrap();
            proptest::prop_assert_eq!(&read[0].value, &value);
            proptest::prop_assert_eq!(&read[1].value, &other);
        }
    }
}
