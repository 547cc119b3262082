//! Digests of files that were read before, so that a large project is not read again for every plan.
//!
//! Invariant: a digest counts only for the very same file (size, both times, inode), and only if that file had been at rest
//! before it was read: what changes within a tick of the clock looks the same. A cache that can't be read or written is none.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::resources::file::sha256;

/// How long a file must have been at rest: more than a tick of any file system.
const AT_REST: Duration = Duration::from_secs(3);
/// What was read of files and bytes in vain before it is worth writing down.
const WORTH: (usize, u64) = (1000, 16 << 20);
const HEADER: &str = "ship digests 1";

/// What tells that a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    inode: u64,
    /// Nanoseconds since 1970: of its bytes, and of anything about it.
    modified: i128,
    changed: i128,
}

impl Stamp {
    #[cfg(unix)]
    pub(super) fn of(meta: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Some(Self {
            size: meta.len(),
            inode: meta.ino(),
            modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        })
    }

    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Option<Self> {
        None
    }

    fn at_rest(&self, since: i128) -> bool {
        self.modified < since && self.changed < since
    }
}

/// A file that was read, or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) stamp: Stamp,
    pub(super) sha256: String,
}

/// What is known of a project's files.
#[derive(Debug)]
pub(super) struct Digests {
    known: HashMap<String, (Stamp, String)>,
    file: Option<PathBuf>,
    /// Nanoseconds since 1970: what has changed since may change once more in the same tick.
    at_rest_since: i128,
}

impl Digests {
    /// What was kept of that project in the user's cache.
    pub(super) fn of(project: &Path) -> Self {
        let file = folder().and_then(|folder| {
            let project = project.canonicalize().ok()?;
            let name: String = sha256(project.as_os_str().as_encoded_bytes()).chars().take(16).collect();
            Some(folder.join("ship").join(format!("digests-{name}")))
        });
        Self::at(file, SystemTime::now())
    }

    /// What is kept in that file, at that time.
    pub(super) fn at(file: Option<PathBuf>, now: SystemTime) -> Self {
        let known = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let at_rest_since = now.checked_sub(AT_REST).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            known: known.as_deref().and_then(parse).unwrap_or_default(),
            file,
            at_rest_since: at_rest_since.map_or(0, |time| i128::try_from(time.as_nanos()).unwrap_or(0)),
        }
    }

    /// The digest of a file that is as it was when it was read.
    pub(super) fn known(&self, path: &str, stamp: &Stamp) -> Option<&str> {
        self.known.get(path).filter(|(known, _)| known == stamp).map(|(_, digest)| digest.as_str())
    }

    /// Writes down what is known now, if enough of it is new.
    pub(super) fn keep(&self, all: &[Seen]) {
        let new: Vec<&Seen> =
            all.iter().filter(|read| self.known(&read.path, &read.stamp).is_none()).collect();
        let bytes: u64 = new.iter().map(|read| read.stamp.size).sum();
        if let Some(file) = &self.file
            && (new.len() >= WORTH.0 || bytes >= WORTH.1)
        {
            // A disk that is full of other things is no reason to stop here.
            let _ = write(file, &text(all.iter().filter(|read| read.stamp.at_rest(self.at_rest_since))));
        }
    }
}

/// `$XDG_CACHE_HOME`, or where it would be.
fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(std::env::home_dir()?.join(".cache")))
}

fn text<'a>(all: impl Iterator<Item = &'a Seen>) -> String {
    let line = |Seen { path, stamp, sha256 }: &Seen| {
        let Stamp { size, inode, modified, changed } = stamp;
        format!("{sha256} {size} {inode} {modified} {changed} {path}\n")
    };
    std::iter::once(format!("{HEADER}\n")).chain(all.map(line)).collect()
}

/// All of it, or nothing: a line that can't be read makes the rest doubtful.
fn parse(text: &str) -> Option<HashMap<String, (Stamp, String)>> {
    let lines = text.strip_prefix(HEADER)?.strip_prefix('\n')?.strip_suffix('\n').unwrap_or_default();
    lines
        .lines()
        .map(|line| {
            let mut words = line.splitn(6, ' ');
            let digest = words.next().filter(|digest| digest.len() == 64)?.to_owned();
            let stamp = Stamp {
                size: words.next()?.parse().ok()?,
                inode: words.next()?.parse().ok()?,
                modified: words.next()?.parse().ok()?,
                changed: words.next()?.parse().ok()?,
            };
            Some((words.next()?.to_owned(), (stamp, digest)))
        })
        .collect()
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn read(path: &str, size: u64, modified: i128) -> Seen {
        let stamp = Stamp { size, inode: 7, modified, changed: modified };
        Seen { path: path.into(), stamp, sha256: DIGEST.into() }
    }

    /// A cache in a folder that is not there yet, at second 100.
    fn cache(folder: &tempfile::TempDir) -> Digests {
        Digests::at(Some(folder.path().join("new/digests")), UNIX_EPOCH + Duration::from_secs(100))
    }

    #[test]
    fn the_very_same_file_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let big = read("a folder/a file", 17 << 20, 5);
        cache(&folder).keep(std::slice::from_ref(&big));
        let again = cache(&folder);
        assert_eq!(again.known(&big.path, &big.stamp), Some(DIGEST));
        assert_eq!(again.known("another", &big.stamp), None);
        for other in [
            Stamp { size: 1, ..big.stamp },
            Stamp { inode: 8, ..big.stamp },
            Stamp { modified: 6, ..big.stamp },
            Stamp { changed: 6, ..big.stamp },
        ] {
            assert_eq!(again.known(&big.path, &other), None, "{other:?}");
        }
    }

    #[test]
    fn what_may_still_change_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (rests, moves) =
            (read("rests", 17 << 20, 96_000_000_000), read("moves", 17 << 20, 98_000_000_000));
        cache(&folder).keep(&[rests.clone(), moves.clone()]);
        let again = cache(&folder);
        assert!(again.known("rests", &rests.stamp).is_some());
        assert!(again.known("moves", &moves.stamp).is_none());
    }

    #[test]
    fn little_is_not_worth_a_file_and_much_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/digests");
        let many: Vec<Seen> = (0..1000).map(|n| read(&n.to_string(), 1, 5)).collect();
        cache(&folder).keep(&many[1..]);
        assert!(!file.exists());
        cache(&folder).keep(&many);
        let written = std::fs::metadata(&file).unwrap().modified().unwrap();
        cache(&folder).keep(&many);
        assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), written, "nothing of it was new");
    }

    #[test]
    fn a_damaged_cache_is_none() {
        let whole = text([read("a", 1, 5), read("b", 2, 6)].iter());
        assert_eq!(parse(&whole).unwrap().len(), 2);
        assert_eq!(parse(&text([].iter())).unwrap().len(), 0);
        for damaged in ["", "ship digests 0\n", &whole[..whole.len() - 100], &whole.replace(" 1 7", " 1 x")] {
            assert!(parse(damaged).is_none_or(|known| known.is_empty()), "{damaged}");
        }
    }
}
