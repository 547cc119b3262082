//! How a dump travels: the server makes it in one piece first, so that a line that was cut is taken up where it broke
//! off, and what has arrived is compared with what was sent.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::error::{Exit, Failure};
use crate::human::bytes;
use crate::release::database::{self, Of};
use crate::release::gates::{CAUSE, HINT, NOTE};
use crate::shell::Script;
use crate::transport::{Exec, Flow, Output, Session, Stdin, Stream};
use crate::ui::Ui;

use super::super::Workspace;

/// How often a cut line is taken up again without a byte in between.
const PATIENCE: u32 = 8;

/// A connection that is made again when it was lost.
pub(in super::super) struct Line<'w> {
    pub(super) workspace: &'w Workspace,
    pub(super) ui: &'w Arc<Ui>,
    session: Option<Session>,
}

impl<'w> Line<'w> {
    pub(in super::super) fn new(workspace: &'w Workspace, ui: &'w Arc<Ui>) -> Self {
        Self { workspace, ui, session: None }
    }

    /// The connection.
    pub(super) async fn session(&mut self) -> Result<&Session, Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.workspace.connect(false, self.ui).await?.0,
        };
        Ok(self.session.insert(session))
    }

    pub(in super::super) async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }
}

/// A dump that waits on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spooled {
    pub(super) id: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// A name for a spool that nobody else has.
pub(in super::super) fn new_id() -> String {
    format!("{}-{}", jiff::Timestamp::now().as_millisecond(), std::process::id())
}

/// What a script has said of its failure, as a failure.
pub(in super::super) fn said(what: &str, output: &Output) -> Failure {
    let out = output.stdout_text();
    let after =
        |beginning: &str| out.lines().filter_map(|line| line.strip_prefix(beginning)).collect::<Vec<_>>();
    let message = match after(CAUSE).first() {
        Some(cause) => format!("{what}: {cause}"),
        None => what.to_owned(),
    };
    let failure = Failure::failed(message).detail(output.stderr_text());
    after(HINT).into_iter().fold(failure, Failure::hint)
}

/// A script that goes over a copy before anything leaves the server.
pub(super) fn read_script(path: Option<&Path>) -> Result<(Of, Bytes), Failure> {
    let Some(path) = path else { return Ok((Of::Site, Bytes::new())) };
    let text = std::fs::read(path)
        .map_err(|error| Failure::input(format!("can't read {}: {error}", path.display())))?;
    let sql = match path.extension().and_then(|extension| extension.to_str()) {
        Some("sql") => true,
        Some("py") => false,
        Some(_) | None => {
            return Err(Failure::input(format!("{} is neither SQL nor Python", path.display()))
                .hint("its name ends in .sql or .py"));
        }
    };
    Ok((Of::Anonymised { sql }, text.into()))
}

/// Has the server make a dump.
pub(super) async fn make(line: &mut Line<'_>, of: Of, script: Bytes) -> Result<Spooled, Failure> {
    let id = new_id();
    let work = database::spool_dump(&line.workspace.config, &id, of);
    let doing = match of {
        Of::Site => "dumping the database",
        Of::Anonymised { .. } => "dumping a copy of the database that the script has gone over",
    };
    let nothing =
        || Failure::failed("there is no database of the site's on the server").hint("`ship up` makes it");
    spool(line, &id, &work, script, doing, "the database was not dumped", &nothing).await
}

/// Has the server put something into a spool. `nothing` is what status 44 means.
pub(super) async fn spool(
    line: &mut Line<'_>,
    id: &str,
    work: &Script,
    stdin: Bytes,
    doing: &str,
    failed: &str,
    nothing: &(dyn Fn() -> Failure + Sync),
) -> Result<Spooled, Failure> {
    let ui = line.ui;
    let session = line.session().await?;
    ui.working(doing);
    let stdin = if stdin.is_empty() { Stdin::Empty } else { Stdin::Bytes(stdin) };
    let output = session.run(Exec::as_root(work).stdin(stdin)).await?;
    ui.idle();
    if output.status == 44 {
        return Err(nothing());
    }
    if !output.success() {
        return Err(said(failed, &output));
    }
    for note in output.stdout_text().lines().filter_map(|line| line.strip_prefix(NOTE)) {
        ui.note(note);
    }
    told(id, &output).ok_or_else(|| said("the server did not say what it has dumped", &output))
}

/// What the server says of a spool.
fn told(id: &str, output: &Output) -> Option<Spooled> {
    let out = output.stdout_text();
    let line = out.lines().find_map(|line| line.strip_prefix("ship-spooled: "))?;
    let (bytes, sha256) = line.split_once(' ')?;
    Some(Spooled { id: id.to_owned(), bytes: bytes.parse().ok()?, sha256: sha256.trim().to_owned() })
}

/// Fetches what is spooled, from `done` bytes on, which `digest` has seen. However often the line is cut, each byte is
/// written once.
pub(super) async fn fetch(
    line: &mut Line<'_>,
    spooled: &Spooled,
    mut done: u64,
    mut digest: Sha256,
    sink: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let (workspace, ui) = (line.workspace, line.ui);
    let mut tries = 0;
    while done < spooled.bytes {
        let before = done;
        let script = database::spool_read(&workspace.config, &spooled.id, done);
        let mut broken = None;
        let mut stderr = Vec::new();
        let mut shown = 0;
        let mut take = |stream: Stream, piece: &[u8]| {
            if stream == Stream::Err {
                stderr.extend_from_slice(piece);
                return Flow::Continue;
            }
            if let Err(error) = sink.write_all(piece) {
                broken = Some(error);
                return Flow::Stop;
            }
            digest.update(piece);
            done += piece.len() as u64;
            if done - shown > 1 << 20 {
                shown = done;
                let percent = done.saturating_mul(100) / spooled.bytes.max(1);
                ui.working(&format!("fetching: {} of {}, {percent} %", bytes(done), bytes(spooled.bytes)));
            }
            Flow::Continue
        };
        let result = match line.session().await {
            Ok(session) => session.stream(Exec::as_root(&script), &mut take).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        if let Some(error) = broken {
            return Err(Failure::failed(format!("can't write what has been fetched: {error}")));
        }
        match result {
            Ok(Some(0) | None) => {}
            Ok(Some(_)) => {
                return Err(Failure::failed("the server has no longer what it has dumped")
                    .detail(String::from_utf8_lossy(&stderr).into_owned()));
            }
            Err(failure) => {
                line.session = None;
                tries = if done > before { 1 } else { tries + 1 };
                if tries > PATIENCE || !matches!(failure.exit, Exit::Unreachable | Exit::Failed) {
                    return Err(failure.hint("the same command once more goes on from there"));
                }
                ui.warn(&format!("the line was cut after {}: {}", bytes(done), failure.message));
                tokio::time::sleep(Duration::from_millis(250 * u64::from(tries.min(8)))).await;
            }
        }
    }
    ui.idle();
    sink.flush().map_err(|error| Failure::failed(format!("can't write what has been fetched: {error}")))?;
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != spooled.sha256 {
        return Err(Failure::failed("what has arrived is not what the server sent: the checksums differ"));
    }
    let remove = database::spool_remove(&workspace.config, &spooled.id);
    // What can't be removed now, the next dump removes.
    if let Ok(session) = line.session().await {
        let _ = session.run(Exec::as_root(&remove)).await;
    }
    Ok(())
}

/// The beginning of a file that was broken off: its path, its spool's id.
fn broken_off(file: &Path) -> Option<(PathBuf, String)> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let found = entry.file_name();
        let id = found.to_str()?.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".part")?;
        let good = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        good.then(|| (entry.path(), id.to_owned()))
    })
}

/// Fetches a dump into a file that nobody else can read, and which is complete or not there.
pub(super) async fn into_file(
    line: &mut Line<'_>,
    file: &Path,
    of: Of,
    script: Bytes,
) -> Result<Spooled, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let (workspace, ui) = (line.workspace, line.ui);
    if file.exists() {
        return Err(Failure::input(format!("{} is there already", file.display()))
            .hint("name another file, or remove it"));
    }
    let cant = |path: &Path, error: std::io::Error| {
        Failure::failed(format!("can't write {}: {error}", path.display()))
    };
    let mut begun = None;
    if let Some((part, id)) = broken_off(file) {
        let told_script = database::spool_told(&workspace.config, &id);
        let output = line.session().await?.run(Exec::as_root(&told_script)).await?;
        match told(&id, &output) {
            Some(spooled) => begun = Some((part, spooled)),
            // The server has it no more.
            None => std::fs::remove_file(&part).map_err(|error| cant(&part, error))?,
        }
    }
    let (part, spooled, done, digest) = match begun {
        Some((part, spooled)) => {
            let mut digest = Sha256::new();
            let done = digest_of(&part, &mut digest).map_err(|error| cant(&part, error))?;
            ui.note(&format!("going on after {}", bytes(done)));
            (part, spooled, done, digest)
        }
        None => {
            let spooled = make(line, of, script).await?;
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            (file.with_file_name(format!("{name}.{}.part", spooled.id)), spooled, 0, Sha256::new())
        }
    };
    let mut out: File = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&part)
        .map_err(|error| cant(&part, error))?;
    if let Err(failure) = fetch(line, &spooled, done, digest, &mut out).await {
        if failure.message.contains("checksums") {
            let _ = std::fs::remove_file(&part);
        }
        return Err(failure);
    }
    out.sync_all().map_err(|error| cant(&part, error))?;
    // Never over a file that has come since.
    std::fs::hard_link(&part, file).map_err(|error| cant(file, error))?;
    std::fs::remove_file(&part).map_err(|error| cant(&part, error))?;
    Ok(spooled)
}

/// Digests a file and counts its bytes.
pub(in super::super) fn digest_of(path: &Path, digest: &mut Sha256) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(count);
        }
        digest.update(buffer.get(..read).unwrap_or_default());
        count += read as u64;
    }
}

/// Sends a file into a spool.
pub(super) async fn send(line: &mut Line<'_>, id: &str, file: &Path, name: &str) -> Result<(), Failure> {
    let (workspace, ui) = (line.workspace, line.ui);
    let unreadable =
        |error: std::io::Error| Failure::input(format!("can't read {}: {error}", file.display()));
    let mut digest = Sha256::new();
    let count = digest_of(file, &mut digest).map_err(unreadable)?;
    let sha256: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let script = database::spool_write(&workspace.config, id, name, count, &sha256);
    let mut input = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let session = line.session().await?;
    ui.working(&format!("sending {} ({})", file.display(), bytes(count)));
    let output = session.run(Exec::as_root(&script).stdin(Stdin::Stream(&mut input))).await?;
    ui.idle();
    if output.success() { Ok(()) } else { Err(said(&format!("{} was not sent", file.display()), &output)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_broken_off_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.dump");
        assert_eq!(broken_off(&file), None);
        std::fs::write(folder.path().join("a.dump.x.part"), "").unwrap();
        std::fs::write(folder.path().join("b.dump.1-2.part"), "").unwrap();
        assert_eq!(broken_off(&file), None);
        let part = folder.path().join("a.dump.1768-42.part");
        std::fs::write(&part, "abc").unwrap();
        assert_eq!(broken_off(&file), Some((part, "1768-42".to_owned())));
    }

    #[test]
    fn a_script_is_known_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let kind = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").unwrap();
            read_script(Some(&path)).map(|(of, _)| of).map_err(|failure| failure.exit)
        };
        assert_eq!(kind("a.sql"), Ok(Of::Anonymised { sql: true }));
        assert_eq!(kind("a.py"), Ok(Of::Anonymised { sql: false }));
        assert_eq!(kind("a.sh"), Err(Exit::Input));
    }
}
