//! The project's files on this machine: which belong to a release, their digests, what git says of them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sha2::{Digest as _, Sha256};

use crate::config::{Config, Django};
use crate::error::Failure;
use crate::project::dependencies::{self, Dependencies, Packages};
use crate::project::settings::Settings;
use crate::resources::file::{hex, sha256};
use crate::resources::placed::Placed;
use crate::tree::{Entry, Kind, Tree};

mod digests;

use digests::{Digests, Seen, Stamp};

/// What never belongs to a release, wherever it lies.
const NEVER: [&str; 6] = [".git", ".ship", ".vagrant", "__pycache__", ".venv", "node_modules"];

/// The paths of a project's files, relative, with `/`: the working tree as git sees it, or by `.gitignore`
/// alone where there is no git; `.shipignore` subtracts, and no virtual environment is among them.
pub fn list(project: &Path) -> Result<Vec<String>, Failure> {
    let mut paths = match git_files(project) {
        Some(paths) => paths,
        None => walk(project, project)?,
    };
    let ignored = ship_ignore(project)?;
    // A virtual environment that git was given all the same: the server makes its own.
    let environments: Vec<String> = paths
        .iter()
        .filter_map(|path| path.strip_suffix("pyvenv.cfg"))
        .filter(|folder| folder.ends_with('/'))
        .map(str::to_owned)
        .collect();
    paths.retain(|path| {
        !environments.iter().any(|folder| path.starts_with(folder.as_str()))
            && !path.split('/').any(|part| NEVER.contains(&part))
            && !path.ends_with(".pyc")
            && !ignored.matched_path_or_any_parents(path, false).is_ignore()
    });
    if let Some(odd) = paths.iter().find(|path| path.contains(['\n', '\0'])) {
        return Err(Failure::input(format!("{odd:?} has a line break in its name"))
            .hint("rename the file, or name it in .shipignore"));
    }
    Ok(paths.into_iter().collect())
}

fn ship_ignore(project: &Path) -> Result<Gitignore, Failure> {
    let file = project.join(".shipignore");
    let mut builder = GitignoreBuilder::new(project);
    if file.is_file()
        && let Some(error) = builder.add(&file)
    {
        return Err(Failure::input(format!("can't read .shipignore: {error}")));
    }
    builder.build().map_err(|error| Failure::input(format!("can't read .shipignore: {error}")))
}

fn git_files(project: &Path) -> Option<BTreeSet<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(project)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let mut paths = BTreeSet::new();
    for path in output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
        let path = String::from_utf8_lossy(path).into_owned();
        let full = project.join(&path);
        match full.symlink_metadata() {
            // A submodule is one entry for git.
            Ok(meta) if meta.is_dir() => paths.extend(walk(project, &full).ok()?),
            Ok(_) => {
                paths.insert(path);
            }
            // Deleted, and not yet committed so.
            Err(_) => {}
        }
    }
    Some(paths)
}

fn walk(project: &Path, from: &Path) -> Result<BTreeSet<String>, Failure> {
    let mut paths = BTreeSet::new();
    let walker = ignore::WalkBuilder::new(from).hidden(false).require_git(false).git_global(false).build();
    for entry in walker {
        let entry =
            entry.map_err(|error| Failure::input(format!("can't list the project's files: {error}")))?;
        if entry.file_type().is_some_and(|kind| kind.is_dir()) {
            continue;
        }
        if let Some(path) = entry.path().strip_prefix(project).ok().and_then(Path::to_str) {
            paths.insert(path.to_string());
        }
    }
    Ok(paths)
}

/// Takes the digests of all files, on all processors; what is as it was when it was last read is not read again.
pub fn tree(project: &Path, paths: &[String]) -> Result<Tree, Failure> {
    tree_knowing(&Digests::of(project), project, paths)
}

fn tree_knowing(known: &Digests, project: &Path, paths: &[String]) -> Result<Tree, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let chunk = paths.len().div_ceil(threads).max(1);
    let parts: Vec<Result<Vec<_>, Failure>> = std::thread::scope(|scope| {
        let workers: Vec<_> = paths
            .chunks(chunk)
            .map(|part| {
                scope.spawn(move || {
                    part.iter().filter_map(|path| entry(project, path, known).transpose()).collect()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Failure::failed("hashing the files stopped"))))
            .collect()
    });
    let all = parts.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
    let (entries, seen): (Vec<Entry>, Vec<Option<Seen>>) = all.unzip();
    known.keep(&seen.into_iter().flatten().collect::<Vec<_>>());
    Ok(Tree::new(entries))
}

/// A file as a release has it, and as what it is known again.
fn entry(project: &Path, path: &str, known: &Digests) -> Result<Option<(Entry, Option<Seen>)>, Failure> {
    let full = project.join(path);
    let failed = |error: std::io::Error| Failure::input(format!("can't read {path}: {error}"));
    let meta = match full.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if meta.is_symlink() {
        let target = std::fs::read_link(&full).map_err(failed)?;
        let target = target.to_string_lossy().into_owned();
        let link = Entry { path: path.into(), kind: Kind::Link, sha256: sha256(target.as_bytes()), size: 0 };
        return Ok(Some((link, None)));
    }
    if !meta.is_file() {
        return Ok(None);
    }
    let kind = if is_executable(&meta) { Kind::Executable } else { Kind::Plain };
    let stamp = Stamp::of(&meta);
    let before = stamp.as_ref().and_then(|stamp| known.known(path, stamp));
    let (sha256, size) = match before {
        Some(digest) => (digest.to_owned(), meta.len()),
        None => {
            let file = File::open(&full).map_err(failed)?;
            let mut bytes = Hashing { inner: file, hasher: Sha256::new(), size: 0 };
            std::io::copy(&mut bytes, &mut std::io::sink()).map_err(failed)?;
            (hex(&bytes.hasher.finalize()), bytes.size)
        }
    };
    let seen = stamp.map(|stamp| Seen { path: path.into(), stamp, sha256: sha256.clone() });
    Ok(Some((Entry { path: path.into(), kind, sha256, size }, seen)))
}

#[cfg(unix)]
fn is_executable(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    false
}

/// Packs files for the server: owners, times and odd permission bits are left out.
pub fn pack(project: &Path, tree: &Tree, paths: &[String]) -> Result<tempfile::NamedTempFile, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("can't pack the files to upload: {error}"));
    let file = tempfile::NamedTempFile::new().map_err(failed)?;
    let wanted: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
    let gzip = flate2::write::GzEncoder::new(std::io::BufWriter::new(file), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    for entry in tree.entries().iter().filter(|entry| wanted.contains(entry.path.as_str())) {
        let full = project.join(&entry.path);
        let changed = |error: std::io::Error| Failure::failed(format!("can't pack {}: {error}", entry.path));
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        match entry.kind {
            Kind::Link => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                header.set_mode(0o777);
                let target = std::fs::read_link(&full).map_err(changed)?;
                archive.append_link(&mut header, &entry.path, target).map_err(changed)?;
            }
            Kind::Plain | Kind::Executable => {
                header.set_size(entry.size);
                header.set_mode(if entry.kind == Kind::Executable { 0o755 } else { 0o644 });
                // Hashed again on its way: between the plan and now an editor may have saved.
                let file = File::open(&full).map_err(changed)?;
                let mut bytes = Hashing { inner: file.take(entry.size), hasher: Sha256::new(), size: 0 };
                archive.append_data(&mut header, &entry.path, &mut bytes).map_err(changed)?;
                if bytes.size != entry.size || hex(&bytes.hasher.finalize()) != entry.sha256 {
                    return Err(Failure::failed(format!("{} changed while ship was deploying", entry.path))
                        .hint("nothing was changed on the server; run it again"));
                }
            }
        }
    }
    let gzip = archive.into_inner().map_err(failed)?;
    let mut buffer = gzip.finish().map_err(failed)?;
    buffer.flush().map_err(failed)?;
    buffer.into_inner().map_err(|error| failed(error.into_error()))
}

/// Takes the digest of what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    size: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        self.size += read as u64;
        Ok(read)
    }
}

/// What git says of the project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Git {
    /// Abbreviated commit.
    pub commit: Option<String>,
    /// Branch.
    pub branch: Option<String>,
    /// Whether there are uncommitted changes.
    pub dirty: bool,
}

/// Asks git once.
pub fn git(project: &Path) -> Git {
    let output = Command::new("git")
        .arg("-C")
        .arg(project)
        .args(["status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", "."])
        .output();
    match output {
        Ok(output) if output.status.success() => parse_git(&String::from_utf8_lossy(&output.stdout)),
        Ok(_) | Err(_) => Git::default(),
    }
}

fn parse_git(status: &str) -> Git {
    let mut git = Git::default();
    for line in status.lines() {
        match line.strip_prefix("# ") {
            Some(header) => match header.split_once(' ') {
                Some(("branch.oid", oid)) if oid != "(initial)" => git.commit = oid.get(..10).map(Into::into),
                Some(("branch.head", head)) if head != "(detached)" => git.branch = Some(head.into()),
                Some(_) | None => {}
            },
            None => git.dirty = true,
        }
    }
    git
}

/// What is installed for the project, read from its files.
pub fn packages(project: &Path, dependencies: &Dependencies) -> Result<Packages, Failure> {
    let inputs = dependencies::inputs(dependencies, |path| {
        std::fs::read_to_string(project.join(path))
            .map_err(|error| Failure::input(format!("can't read the requirements in {path}: {error}")))
    })?;
    Ok(Packages::read(dependencies, inputs)?)
}

/// The project's migrations: path and content. One that can't be read is only missing from a plan.
pub fn migrations(project: &Path, paths: &[String]) -> Vec<(String, String)> {
    let read = |path: &&String| Some(((*path).clone(), std::fs::read_to_string(project.join(path)).ok()?));
    paths.iter().filter(|path| crate::release::is_migration(path)).filter_map(|path| read(&path)).collect()
}

/// The files of the project that its settings are made from.
pub fn settings(project: &Path, paths: &[String], django: &Django) -> Settings {
    let known: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
    let read =
        |path: &str| known.contains(path).then(|| std::fs::read_to_string(project.join(path)).ok()).flatten();
    Settings::find(&django.root, &django.settings, &django.wsgi, paths, &read)
}

/// The secret files, as far as this computer has them.
pub fn placed(project: &Path, config: &Config) -> Result<Vec<Placed>, Failure> {
    let read = |(name, here): (&String, &String)| {
        let content = match std::fs::read(project.join(here)) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::input(format!("can't read {here} for `files`: {error}"))),
        };
        Ok(Placed { app: config.app.clone(), name: name.clone(), content })
    };
    config.files.iter().map(read).collect()
}

/// Who deploys: `user@host`.
pub fn who() -> String {
    let ask = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty()).or_else(|| ask("id", "-un"));
    let host = ask("uname", "-n");
    let clean = |text: Option<String>| {
        text.unwrap_or_else(|| "unknown".into())
            .replace(|c: char| c.is_control() || c == '"' || c == '\\', "")
    };
    format!("{}@{}", clean(user), clean(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let full = folder.path().join(path);
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            std::fs::write(full, text).unwrap();
        }
        folder
    }

    #[test]
    fn ignore_files_decide_without_git() {
        let folder = project(&[
            (".gitignore", "*.sqlite3\n/media/\n"),
            (".shipignore", "docs/\n"),
            ("manage.py", ""),
            ("db.sqlite3", ""),
            ("media/a.png", ""),
            ("docs/a.md", ""),
            ("app/__pycache__/x.pyc", ""),
            (".ship/x", ""),
            (".env.example", ""),
        ]);
        assert_eq!(list(folder.path()).unwrap(), [".env.example", ".gitignore", ".shipignore", "manage.py"]);
    }

    #[test]
    fn what_was_read_before_is_read_again_once_it_differs() {
        let many: Vec<String> = (0..1200).map(|n| format!("{n}.txt")).collect();
        let files: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "same")).collect();
        let folder = project(&files);
        let cache = tempfile::tempdir().unwrap();
        let known = || {
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
            Digests::at(Some(cache.path().join("digests")), later)
        };
        let first = tree_knowing(&known(), folder.path(), &many).unwrap();
        assert!(cache.path().join("digests").exists());
        assert_eq!(tree_knowing(&known(), folder.path(), &many).unwrap(), first);
        // Another content of the same length in the same file, which claims to be as old.
        let changed = folder.path().join("7.txt");
        let time = std::fs::metadata(&changed).unwrap().modified().unwrap();
        std::fs::write(&changed, "else").unwrap();
        File::options().write(true).open(&changed).unwrap().set_modified(time).unwrap();
        let second = tree_knowing(&known(), folder.path(), &many).unwrap();
        let delta = second.delta(first.manifest(), &[]);
        assert_eq!(delta.send, ["7.txt"]);
        // What the cache says is believed: it is what spares the reading.
        let text = std::fs::read_to_string(cache.path().join("digests")).unwrap();
        let (digest, rest) = text.lines().nth(1).unwrap().split_once(' ').unwrap();
        let other = text.replacen(&format!("{digest} {rest}"), &format!("{} {rest}", "0".repeat(64)), 1);
        std::fs::write(cache.path().join("digests"), other).unwrap();
        let third = tree_knowing(&known(), folder.path(), &many).unwrap();
        assert!(third.manifest().starts_with(&"0".repeat(64)));
    }

    #[test]
    fn a_virtual_environment_is_no_part_of_the_project() {
        let folder = project(&[
            ("manage.py", ""),
            ("env/pyvenv.cfg", ""),
            ("env/lib/python3.11/site-packages/django/__init__.py", ""),
            ("environment.py", ""),
        ]);
        assert_eq!(list(folder.path()).unwrap(), ["environment.py", "manage.py"]);
        let git = |args: &[&str]| {
            let done = Command::new("git").arg("-C").arg(folder.path()).args(args).status().unwrap();
            assert!(done.success(), "git {args:?}");
        };
        git(&["init", "-q"]);
        git(&["add", "-A"]);
        assert_eq!(list(folder.path()).unwrap(), ["environment.py", "manage.py"]);
    }

    #[test]
    fn requirements_follow_their_includes() {
        let folder = project(&[
            ("requirements.txt", "-r reqs/prod.txt  # live\nDjango\n"),
            ("reqs/prod.txt", "--requirement=base.txt\n-c ../constraints.txt\ngunicorn\n"),
            ("reqs/base.txt", "pillow\n-r prod.txt\n"),
            ("constraints.txt", "pillow<12\n"),
        ]);
        let found =
            packages(folder.path(), &Dependencies::requirements(vec!["requirements.txt".into()])).unwrap();
        let names: Vec<&str> = found.inputs.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["requirements.txt", "reqs/prod.txt", "reqs/base.txt", "constraints.txt"]);
    }

    #[test]
    fn git_status_is_read() {
        let git = parse_git("# branch.oid 0123456789abcdef\n# branch.head main\n1 .M N... a\n");
        assert_eq!(git, Git { commit: Some("0123456789".into()), branch: Some("main".into()), dirty: true });
        assert_eq!(parse_git("# branch.oid (initial)\n# branch.head main\n").commit, None);
    }

    #[test]
    fn a_tree_packs_links_and_modes() {
        let folder = project(&[("a.py", "x"), ("run.sh", "#!/bin/sh\n")]);
        std::os::unix::fs::symlink("a.py", folder.path().join("l.py")).unwrap();
        std::fs::set_permissions(
            folder.path().join("run.sh"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        let paths = list(folder.path()).unwrap();
        let tree = tree(folder.path(), &paths).unwrap();
        let packed = pack(folder.path(), &tree, &paths).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(packed.path()).unwrap()));
        let mut seen: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                format!("{:o} {}", entry.header().mode().unwrap(), entry.path().unwrap().display())
            })
            .collect();
        seen.sort();
        assert_eq!(seen, ["644 a.py", "755 run.sh", "777 l.py"]);
    }
}
