//! The project's files as a sorted list of digests, and what of it the server lacks.
//!
//! Invariant: pure. A manifest line is `SHA256 KIND PATH`, sorted as bytes, so that `comm` and `sort -m` on the
//! server agree with us about the order.

use std::collections::BTreeSet;

use crate::resources::file::sha256;

/// One file of the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Path relative to the project, with `/`.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// SHA-256 of its bytes, of its target for a link, in lower-case hex.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

/// The kind of a file, as far as a release keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A plain file.
    Plain,
    /// An executable file.
    Executable,
    /// A symbolic link.
    Link,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Kind::Plain => '-',
            Kind::Executable => 'x',
            Kind::Link => 'l',
        }
    }
}

/// The project's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
    manifest: String,
    digest: String,
}

/// What turns one manifest into another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Lines of the new manifest that the old one lacks, each with its line end.
    pub added: String,
    /// Lines of the old manifest that the new one lacks.
    pub removed: String,
    /// Paths whose content must be sent.
    pub send: Vec<String>,
    /// Their size in bytes.
    pub send_bytes: u64,
    /// Paths that are gone.
    pub gone: Vec<String>,
}

impl Tree {
    /// Sorts the entries and takes their digest.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_cached_key(line);
        let manifest: String = entries.iter().map(|entry| line(entry) + "\n").collect();
        let digest = sha256(manifest.as_bytes());
        Self { entries, manifest, digest }
    }

    /// The files.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// One line a file.
    pub fn manifest(&self) -> &str {
        &self.manifest
    }

    /// The digest of everything.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    /// What a server with the manifest `old` lacks. Files under `distrusted` folders are always sent: there the
    /// server has replaced a release's folder by a shared one.
    pub fn delta(&self, old: &str, distrusted: &[String]) -> Delta {
        let trusted = |path: &str| {
            !distrusted
                .iter()
                .any(|folder| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')))
        };
        let old_lines: BTreeSet<&str> = old.lines().collect();
        let kept: BTreeSet<&str> =
            old_lines.iter().copied().filter(|line| path_of(line).is_some_and(trusted)).collect();
        let mut delta = Delta::default();
        let new_lines: BTreeSet<&str> = self.manifest.lines().collect();
        for (entry, text) in self.entries.iter().zip(self.manifest.lines()) {
            if !kept.contains(text) {
                delta.added.push_str(text);
                delta.added.push('\n');
                delta.send.push(entry.path.clone());
                delta.send_bytes += entry.size;
            }
        }
        let new_paths: BTreeSet<&str> = self.entries.iter().map(|entry| entry.path.as_str()).collect();
        for text in old_lines {
            if !(kept.contains(text) && new_lines.contains(text)) {
                delta.removed.push_str(text);
                delta.removed.push('\n');
                if let Some(path) = path_of(text).filter(|path| !new_paths.contains(path)) {
                    delta.gone.push(path.to_string());
                }
            }
        }
        delta
    }
}

fn line(entry: &Entry) -> String {
    format!("{} {} {}", entry.sha256, entry.kind.letter(), entry.path)
}

/// The path of a manifest line: after 64 digits, a space, a letter and a space.
fn path_of(line: &str) -> Option<&str> {
    line.get(67..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, text: &str) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::Plain,
            sha256: sha256(text.as_bytes()),
            size: text.len() as u64,
        }
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::new(files.iter().map(|(path, text)| entry(path, text)).collect())
    }

    #[test]
    fn only_what_differs_is_sent() {
        let old = tree(&[("a.py", "1"), ("b.py", "2"), ("gone.py", "3")]);
        let new = tree(&[("a.py", "1"), ("b.py", "two"), ("c.py", "4")]);
        let delta = new.delta(&old.manifest, &[]);
        let mut sent = delta.send.clone();
        sent.sort();
        assert_eq!(sent, ["b.py", "c.py"]);
        assert_eq!(delta.gone, ["gone.py"]);
        assert_eq!(delta.send_bytes, 4);
        assert_eq!(new.delta(&new.manifest, &[]), Delta::default());
        assert_ne!(old.digest(), new.digest());
    }

    #[test]
    fn the_delta_makes_the_new_manifest() {
        let old = tree(&[("a", "1"), ("media/x", "2"), ("z", "9")]);
        let new = tree(&[("a", "1"), ("media/x", "2"), ("b c", "3")]);
        let delta = new.delta(&old.manifest, &["media".into()]);
        let removed: BTreeSet<&str> = delta.removed.lines().collect();
        let mut lines: Vec<&str> = old.manifest.lines().filter(|line| !removed.contains(line)).collect();
        lines.extend(delta.added.lines());
        lines.sort();
        assert_eq!(lines.join("\n") + "\n", new.manifest);
        assert!(delta.send.contains(&"media/x".to_string()), "a shared folder is never trusted");
    }
}
