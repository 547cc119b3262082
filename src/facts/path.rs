//! Files, folders and links: what is at a path.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;

use crate::shell::{Cmd, Script};

use super::{Ask, FactError};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFact {
    /// File, folder, link or something else.
    pub kind: PathKind,
    /// Permission bits in octal without leading zeros, `644`.
    pub mode: String,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
}

/// The kind of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathKind {
    /// A regular file.
    File {
        /// SHA-256 in lower-case hex; empty if it could not be read.
        sha256: String,
        /// Its bytes, if asked for and at most 256 KiB.
        content: Option<Vec<u8>>,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Link {
        /// Where it points.
        to: String,
    },
    /// A device, socket, pipe.
    Other,
}

/// Asks for all paths at once: one `stat`, one `sha256sum`, and the contents that differ.
pub fn script(asks: &BTreeSet<Ask>) -> Script {
    let mut paths = Vec::new();
    let mut contents = Vec::new();
    for ask in asks {
        if let Ask::Path { path, unless_sha256 } = ask {
            if paths.last() != Some(&path.as_str()) {
                paths.push(path.as_str());
            }
            if let Some(digest) = unless_sha256 {
                contents.push((digest, path));
            }
        }
    }
    if paths.is_empty() {
        return Script::new();
    }
    let stat = Cmd::new("stat").arg("--printf").arg("%f\\t%a\\t%U\\t%G\\t%n\\n").arg("--").args(&paths);
    let links =
        Cmd::new("find").args(&paths).raw("-maxdepth 0 -type l -printf 'link\\t%l\\t%p\\n' 2>/dev/null");
    let sums = Cmd::new("sha256sum").arg("--").args(&paths).raw("2>/dev/null)");
    let mut script = Script::new()
        .cmd(stat.raw("2>/dev/null"))
        .cmd(links)
        .line(&format!("sums=$({}", sums.text()))
        .line("[ -z \"$sums\" ] || printf '%s\\n' \"$sums\" | sed 's/^/sum\\t/'")
        .line("body() {")
        .line("  case \"$sums\" in *\"$1  $2\"*) return ;; esac")
        .line("  [ -f \"$2\" ] && [ \"$(stat -c %s -- \"$2\")\" -le 262144 ] || return 0")
        .line("  printf 'body\\t%s\\t%s\\n' \"$(base64 -w0 <\"$2\")\" \"$2\"")
        .line("}");
    for (digest, path) in contents {
        script = script.cmd(Cmd::new("body").arg(digest).arg(path));
    }
    script
}

/// Reads what [`script`] printed.
pub fn parse(body: &str) -> Result<BTreeMap<String, PathFact>, FactError> {
    let mut paths: BTreeMap<String, PathFact> = BTreeMap::new();
    for line in body.lines() {
        let bad = || FactError::new("path", line);
        let (first, rest) = line.split_once('\t').ok_or_else(bad)?;
        match first {
            "link" => {
                let (target, path) = rest.rsplit_once('\t').ok_or_else(bad)?;
                if let Some(fact) = paths.get_mut(path) {
                    fact.kind = PathKind::Link { to: target.into() };
                }
            }
            "sum" => {
                let (digest, path) = rest.split_once("  ").ok_or_else(bad)?;
                if let Some(PathKind::File { sha256, .. }) = paths.get_mut(path).map(|fact| &mut fact.kind) {
                    *sha256 = digest.into();
                }
            }
            "body" => {
                let (encoded, path) = rest.split_once('\t').ok_or_else(bad)?;
                let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| bad())?;
                if let Some(PathKind::File { content, .. }) = paths.get_mut(path).map(|fact| &mut fact.kind) {
                    *content = Some(bytes);
                }
            }
            raw_mode => {
                let mut fields = rest.splitn(4, '\t');
                let (Some(mode), Some(owner), Some(group), Some(path)) =
                    (fields.next(), fields.next(), fields.next(), fields.next())
                else {
                    return Err(bad());
                };
                let raw = u32::from_str_radix(raw_mode, 16).map_err(|_| bad())?;
                // The file-type bits of st_mode, see inode(7).
                let kind = match raw & 0o170_000 {
                    0o100_000 => PathKind::File { sha256: String::new(), content: None },
                    0o040_000 => PathKind::Directory,
                    0o120_000 => PathKind::Link { to: String::new() },
                    _ => PathKind::Other,
                };
                paths.insert(
                    path.into(),
                    PathFact { kind, mode: mode.into(), owner: owner.into(), group: group.into() },
                );
            }
        }
    }
    Ok(paths)
}
