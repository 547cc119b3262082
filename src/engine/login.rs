//! The new login that proves that nobody is locked out, and the wait for the server when it doesn't get through.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::apply::{Launch, attach_script};
use crate::error::Failure;
use crate::guard::{PATIENCE_S, confirm_script};
use crate::transport::{Exec, Session, TransportError};
use crate::ui::Ui;

use super::{Follower, Planned};

/// What the server asks for, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// Told when the server asks for a new login.
    pub(super) knocked: Notify,
    /// Why the last one did not get through.
    refused: Mutex<Option<String>>,
}

/// How long the server may take to take everything back, and to let us in again.
const TAKES_BACK: Duration = Duration::from_secs(PATIENCE_S as u64 + 40);

/// Watches an apply, and logs in afresh when it asks for that.
pub(super) async fn answering<T>(
    session: &Session,
    app: &str,
    door: &Door,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = door.knocked.notified() => {}
        }
        tokio::select! {
            done = &mut work => return done,
            // Where this fails, the server finds out by itself.
            _ = prove(session, app, door) => {}
        }
    }
}

/// Logs in afresh, again and again as long as that could help, and says so to the server.
async fn prove(session: &Session, app: &str, door: &Door) -> Result<(), TransportError> {
    let fresh = again(session, Duration::from_secs(PATIENCE_S.into()), door).await?;
    let told = fresh.exec(&confirm_script(app), Bytes::new()).await;
    fresh.close().await;
    told.map(drop)
}

async fn again(session: &Session, patience: Duration, door: &Door) -> Result<Session, TransportError> {
    let deadline = Instant::now() + patience;
    // Slower and slower: sshd shuts out who fails too often.
    let mut pause = Duration::from_millis(500);
    loop {
        match session.again().await {
            Ok(fresh) => return Ok(fresh),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(error) => {
                door.refused
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert_with(|| error.to_string());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(8));
            }
        }
    }
}

/// Waits until the server lets us in again, and follows the apply from where it was lost.
pub(super) async fn wait(
    session: &Session,
    launch: &Launch,
    follower: &mut Follower<'_>,
    error: TransportError,
    ui: &Ui,
) -> Result<Option<i32>, TransportError> {
    ui.warn(&format!(
        "{error}; if the new settings have locked us out, the server takes them back within {PATIENCE_S} s"
    ));
    ui.working("waiting for the server to let us in again");
    let Ok(fresh) = again(session, TAKES_BACK, &follower.door).await else { return Err(error) };
    let script = attach_script(&launch.app, &launch.id, follower.reader.position());
    let door = Arc::clone(&follower.door);
    let mut on_output = |stream, piece: &[u8]| follower.take(stream, piece);
    let work = fresh.stream(Exec::as_root(&script), &mut on_output);
    let done = answering(&fresh, &launch.app, &door, work).await;
    fresh.close().await;
    done
}

/// What is said when the server has taken everything back.
pub(super) fn taken_back(follower: &Follower<'_>, planned: &Planned) -> Failure {
    let changes = planned.plan.changes.iter().filter(|change| change.may_lock_out);
    let mut names: Vec<String> = changes.map(|change| format!("  {}", change.title())).collect();
    names.dedup();
    let why = follower.said_why().unwrap_or_else(|| "the server has taken the new settings back".into());
    let refused = follower.door.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
    names.extend(refused.map(|error| format!("the new login: {error}")));
    Failure::failed(why)
        .detail(names.join("\n"))
        .hint("sshd, the firewall and the site are as they were; nothing after these changes was begun")
        .hint(
            "mend what locks you out (a template in .ship/, a network that filters) and run `ship up` again",
        )
        .hint("or leave it to yourself: `hardening: {ssh: off}` or `{firewall: off}` in ship.yml")
}
