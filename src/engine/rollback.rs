//! Going back: the release to go back to, what the database has to do with it, and the switch.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;

use crate::config::Database;
use crate::error::Failure;
use crate::facts::app::App;
use crate::facts::{self, Facts};
use crate::human::count;
use crate::plan::{Change, Plan};
use crate::release::rollback::{self, RollbackError, Surplus, Way};
use crate::release::{self, Context, Layout};
use crate::resources;
use crate::transport::Session;
use crate::ui::Ui;

use super::{Applied, Desired, Planned, Route, apply, diff_failure, probe, settled};

/// What the user wants of a rollback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The release; none for the last good one before the live one.
    pub target: Option<u32>,
    /// What happens to the database if the target doesn't know all of it; none to be asked.
    pub way: Option<Way>,
    /// The application's name, typed already.
    pub confirmed: Option<String>,
}

/// What a rollback did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolledBack {
    /// The release that was made of it.
    pub number: u32,
    /// The release that it went back to.
    pub target: u32,
    /// Whether the site is served by HTTPS.
    pub https: bool,
}

/// Goes back.
pub async fn rollback(
    session: &Session,
    desired: &Desired,
    project: &Path,
    wish: &Wish,
    ui: &Ui,
) -> Result<RolledBack, Failure> {
    let asks = desired.asks()?;
    let mut agreed = None;
    for _ in 0..3 {
        ui.working("looking at the server");
        let facts = settled(session, &asks, &desired.config, true, ui).await?;
        let placed = desired.placed(&facts)?;
        let desired = placed.as_ref().unwrap_or(desired);
        let app = &facts.app;
        let target = rollback::choose(app, wish.target, desired.config.keep_releases).map_err(no_rollback)?;
        let (surplus, way) = decide(session, desired, app, target, wish, ui, &mut agreed).await?;
        let planned = Planned {
            plan: plan(desired, &facts, target, &surplus, way)?,
            release: None,
            tls: desired.tls(&facts),
        };
        ui.plan(&planned.plan, ui.is_json() || ui.verbose());
        let outcome = facts::of_release(&asks);
        let route = Route { look: Some(&outcome), ..Route::plain(session) };
        match apply(route, desired, &facts, &planned, project, ui).await? {
            Applied::Done { seen } => {
                let number = app.next_number();
                let after = match seen {
                    Some(seen) => *seen,
                    None => {
                        ui.working("verifying");
                        probe(session, &outcome).await?
                    }
                };
                verify(&after, desired, number)?;
                return Ok(RolledBack { number, target, https: planned.tls.is_served() });
            }
            Applied::Overtaken => {}
            Applied::Answered => {
                return Err(Failure::failed(format!("Django answers otherwise than it did for v{target}"))
                    .hint("its settings depend on something that isn't part of a release"));
            }
        }
    }
    Err(Failure::failed("other deploys come in between all the time").hint("try again when they are done"))
}

fn no_rollback(error: RollbackError) -> Failure {
    let failure = Failure::failed(error.to_string());
    match error {
        RollbackError::Nothing => failure.hint("`ship up` makes the first one"),
        RollbackError::NoneBefore { .. }
        | RollbackError::Unknown { .. }
        | RollbackError::Failed { .. }
        | RollbackError::Live { .. } => failure.hint("`ship releases` lists what there is"),
        RollbackError::Gone { .. } => failure
            .hint("check its commit out and run `ship up`")
            .hint("`keep: N` in ship.yml keeps more of them"),
    }
}

/// What the database has to do with it, and what the user wants of it.
async fn decide(
    session: &Session,
    desired: &Desired,
    app: &App,
    target: u32,
    wish: &Wish,
    ui: &Ui,
    agreed: &mut Option<Way>,
) -> Result<(Surplus, Way), Failure> {
    if wish.way == Some(Way::Keep) {
        return Ok((Surplus::default(), Way::Keep));
    }
    ui.working("asking the database what is applied");
    let output = session.exec(&rollback::schema_script(&desired.config, target), Bytes::new()).await?;
    if !output.success() {
        return Err(Failure::failed("Django could not be asked which migrations are applied")
            .detail(output.stderr_text())
            .hint("`ship rollback --keep-schema` goes back without asking"));
    }
    ui.idle();
    let schema = rollback::parse_schema(&output.stdout_text());
    let Some(surplus) = rollback::surplus(app, &schema, target) else {
        return Err(Failure::failed(format!("nobody noted which migrations v{target} has"))
            .hint("`ship rollback --keep-schema` leaves the database as it is"));
    };
    if surplus.is_empty() {
        if app.current == Some(target) {
            return Err(no_rollback(RollbackError::Live { number: target }));
        }
        return Ok((surplus, Way::Keep));
    }
    let way = match wish.way.or(*agreed) {
        Some(way) => way,
        None => ask(app, target, &surplus, desired.config.database, ui)?,
    };
    check(desired, target, &surplus, way)?;
    if way == Way::Restore && agreed.is_none() {
        confirm(desired, &surplus, wish, ui)?;
    }
    *agreed = Some(way);
    Ok((surplus, way))
}

/// What the ways are, in the words of their options.
fn ways(surplus: &Surplus, database: Database) -> Vec<(Way, String)> {
    let mut ways = Vec::new();
    if surplus.irreversible().is_empty() {
        ways.push((Way::Reverse, "reverse them; what only they hold is lost".to_string()));
    }
    if let (Some(dump), false) = (surplus.dump_text(), database == Database::External) {
        ways.push((Way::Restore, format!("restore {dump}; everything written since then is lost")));
    }
    ways.push((Way::Keep, "keep the database as it is; the older code may not get on with it".to_string()));
    ways
}

fn option(way: Way) -> &'static str {
    match way {
        Way::Reverse => "--reverse",
        Way::Restore => "--restore-dump",
        Way::Keep => "--keep-schema",
    }
}

fn refusal(target: u32, surplus: &Surplus) -> Failure {
    let number = surplus.migrations.len() + usize::from(surplus.partly.is_some());
    let verb = if number == 1 { "is" } else { "are" };
    Failure::failed(format!("v{target} doesn't know of {}, which {verb} applied", count(number, "migration")))
        .detail(surplus.text())
}

fn ask(app: &App, target: u32, surplus: &Surplus, database: Database, ui: &Ui) -> Result<Way, Failure> {
    let ways = ways(surplus, database);
    let failure = refusal(target, surplus);
    if !ui.interactive() {
        return Err(ways.iter().fold(failure, |failure, (way, text)| {
            failure.hint(format!("ship rollback v{target} {:<14}  {text}", option(*way)))
        }));
    }
    ui.note(&format!("{}:\n{}", failure.message, surplus.text()));
    let mut choices: Vec<String> = ways.iter().map(|(_, text)| text.clone()).collect();
    choices.push(format!("leave everything as it is, {} live", super::live_name(app)));
    match ui.choose("What shall happen to the database?", &choices)?.and_then(|index| ways.get(index)) {
        Some((way, _)) => Ok(*way),
        None => Err(Failure::failed("nothing was changed")),
    }
}

/// Refuses what can't be.
fn check(desired: &Desired, target: u32, surplus: &Surplus, way: Way) -> Result<(), Failure> {
    let others = |failure: Failure| {
        ways(surplus, desired.config.database).iter().filter(|(other, _)| *other != way).fold(
            failure,
            |failure, (way, text)| {
                failure.hint(format!("ship rollback v{target} {:<14}  {text}", option(*way)))
            },
        )
    };
    match way {
        Way::Keep => Ok(()),
        Way::Reverse => {
            let stuck: Vec<String> =
                surplus.irreversible().iter().map(|(name, why)| format!("{name} ({why})")).collect();
            if stuck.is_empty() {
                return Ok(());
            }
            Err(others(
                Failure::failed(format!("can't be reversed: {}", stuck.join(", "))).detail(surplus.text()),
            ))
        }
        Way::Restore if surplus.dump.is_none() => Err(others(
            Failure::failed("there is no dump from before these migrations").detail(surplus.text()),
        )),
        Way::Restore => Ok(()),
    }
}

/// What is lost for good takes more than a yes.
fn confirm(desired: &Desired, surplus: &Surplus, wish: &Wish, ui: &Ui) -> Result<(), Failure> {
    let name = &desired.config.app;
    ui.note(&format!(
        "{} takes the place of the database: everything written since then is lost",
        surplus.dump_text().unwrap_or_default()
    ));
    match &wish.confirmed {
        Some(typed) if typed == name => Ok(()),
        Some(typed) => Err(Failure::input(format!("--confirm {typed} is not {name}: nothing was changed"))),
        None if ui.confirm_by_name(name)? => Ok(()),
        None => Err(Failure::failed("nothing was changed")),
    }
}

fn plan(desired: &Desired, facts: &Facts, target: u32, surplus: &Surplus, way: Way) -> Result<Plan, Failure> {
    let app = &facts.app;
    let layout = |number: Option<u32>| {
        let build = number.and_then(|number| app.builds.get(&number));
        build.and_then(Layout::answered).unwrap_or_else(Layout::usual)
    };
    let wanted = layout(Some(target));
    let state = desired.tls(facts);
    let vars = desired.vars(&wanted, &state, Some(&facts.host));
    let mut between = Vec::new();
    // Only what follows from the release itself: the rest of ship.yml is not what a rollback is about.
    if wanted != layout(app.current) {
        let [_, after] = desired.resources(&vars)?;
        resources::diff_into(&mut between, &after, facts).map_err(diff_failure)?;
    }
    let context = Context {
        config: &desired.config,
        source: &desired.source,
        templates: &desired.templates,
        vars: &vars,
        https: state.is_served(),
        https_soon: state.is_served() || state.due.is_some(),
    };
    let changes: Vec<Change> = release::rollback::steps(&context, facts, target, surplus, way, between);
    Ok(Plan { changes })
}

fn verify(facts: &Facts, desired: &Desired, number: u32) -> Result<(), Failure> {
    let app = &facts.app;
    let down: BTreeSet<String> = release::instances(&desired.config, number)
        .into_iter()
        .take(1)
        .filter(|unit| app.active.get(unit).is_none_or(|instance| instance.state != "active"))
        .collect();
    match (app.current == Some(number), down.first()) {
        (true, None) => Ok(()),
        (false, _) => Err(Failure::failed(format!("after the rollback {} is live", super::live_name(app)))),
        (true, Some(unit)) => Err(Failure::failed(format!("{unit} does not run after the rollback"))
            .hint("ship logs --process web")),
    }
}
