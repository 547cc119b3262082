//! Changes to the database alone: under the deploy lock, finished by the server itself, shown step by step.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::Failure;
use crate::facts::Ask;
use crate::facts::app::App;
use crate::plan::{Change, Plan};
use crate::tls;
use crate::transport::Session;
use crate::ui::Ui;

use super::{Applied, Desired, Planned, Route, apply, settled};

/// Runs the changes that `make` gives for what is on the server.
pub async fn change_database(
    session: &Session,
    desired: &Desired,
    project: &Path,
    make: &(dyn Fn(&App) -> Result<Vec<Change>, Failure> + Sync),
    ui: &Ui,
) -> Result<(), Failure> {
    let config = &desired.config;
    let asks = BTreeSet::from([Ask::App { app: config.app.clone(), tree: String::new() }]);
    for _ in 0..3 {
        ui.working("looking at the server");
        let facts = settled(session, &asks, config, true, ui).await?;
        let planned =
            Planned { plan: Plan { changes: make(&facts.app)? }, release: None, tls: tls::State::default() };
        match apply(Route::plain(session), desired, &facts, &planned, project, ui).await? {
            Applied::Done { .. } => return Ok(()),
            Applied::Overtaken | Applied::Answered => {}
        }
    }
    Err(Failure::failed("other deploys come in between all the time").hint("try again when they are done"))
}
