//! A restart of what is live, under the lock of a deploy.

use std::path::Path;

use crate::error::Failure;
use crate::plan::Plan;
use crate::release::{self, restart};
use crate::tls;
use crate::transport::Session;
use crate::ui::Ui;

use super::{Applied, Desired, Planned, Route, apply, settled};

/// Restarts these processes of the live release, and says which one that is.
pub async fn restart(
    session: &Session,
    desired: &Desired,
    project: &Path,
    processes: &[String],
    ui: &Ui,
) -> Result<u32, Failure> {
    let asks = release::asks(&desired.config, &desired.source.tree).into_iter().collect();
    for _ in 0..3 {
        ui.working("looking at the server");
        let facts = settled(session, &asks, &desired.config, true, ui).await?;
        let Some(live) = facts.app.current else {
            return Err(Failure::failed("there is no release yet").hint("`ship up` makes the first one"));
        };
        let placed = desired.placed(&facts)?;
        let desired = placed.as_ref().unwrap_or(desired);
        let changes = restart::changes(&desired.config, live, processes);
        let planned = Planned { plan: Plan { changes }, release: None, tls: tls::State::default() };
        match apply(Route::plain(session), desired, &facts, &planned, project, ui).await? {
            Applied::Done { .. } => return Ok(live),
            Applied::Overtaken | Applied::Answered => {}
        }
    }
    Err(Failure::failed("other deploys come in between all the time").hint("try again when they are done"))
}
