//! Which release a rollback goes back to, what the database has to do with it, and its steps.
//!
//! Invariant: pure. A rollback is a release with a number of its own: code, virtual environment and environment are
//! those of its target as they were; the database follows only as the user has chosen.

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::heredoc;
use crate::config::hardening::Limits;
use crate::config::{Config, Worker};
use crate::facts::Facts;
use crate::facts::app::{App, Dump, Record, Rollback};
use crate::human::{bytes, count, moment};
use crate::plan::Change;
use crate::shell::Script;

use super::steps::{AS_APP, Steps};
use super::{Context, Layout};

/// What a release is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It serves.
    Live,
    /// It served, and can serve again.
    Good,
    /// It served, and was left for an older one or failed its checks.
    Bad,
    /// It never served.
    Failed,
    /// It served, and its files are gone.
    Gone,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Good => "good",
            State::Bad => "bad",
            State::Failed => "failed",
            State::Gone => "gone",
        }
    }
}

/// What a release is worth.
pub fn state(app: &App, number: u32) -> State {
    let recorded = app.releases.iter().any(|record| record.number == number);
    let build = app.builds.get(&number);
    if app.current == Some(number) {
        State::Live
    } else if build.and_then(|build| build.failed.as_ref()).is_some_and(|failed| failed.bad) {
        State::Bad
    } else if !recorded {
        State::Failed
    } else if build.is_none_or(|build| build.tree.is_none() || build.venv.is_none()) {
        State::Gone
    } else if was_left(app, number) || build.is_some_and(|build| build.failed.is_some()) {
        State::Bad
    } else {
        State::Good
    }
}

/// The releases that somebody went back from, each with the number of the rollback.
fn left(app: &App) -> impl Iterator<Item = (u32, u32)> {
    let back = |record: &Record| {
        let rollback = record.rollback?;
        // Going on to a newer one, or only with the database, says nothing against a release.
        (origin(app, rollback.to) < origin(app, rollback.from)).then_some((rollback.from, record.number))
    };
    app.releases.iter().filter_map(back)
}

/// Whether somebody went back from it.
fn was_left(app: &App, number: u32) -> bool {
    left(app).any(|(from, _)| from == number)
}

/// Whether somebody went back from what it consists of, under whatever number, since it was made.
fn given_up(app: &App, number: u32) -> bool {
    left(app).any(|(from, by)| by > number && origin(app, from) == origin(app, number))
}

/// The release that a chain of rollbacks goes back to.
fn origin(app: &App, number: u32) -> u32 {
    let mut origin = number;
    // Every step leads to a smaller number.
    while let Some(to) = app
        .releases
        .iter()
        .find(|record| record.number == origin)
        .and_then(|record| record.rollback)
        .map(|rollback| rollback.to)
        .filter(|to| *to < origin)
    {
        origin = to;
    }
    origin
}

/// The release whose files are these, if somebody went back from it.
pub fn left_with(app: &App, tree: &str) -> Option<(u32, u32)> {
    let number = app
        .builds
        .iter()
        .rev()
        .find(|(number, build)| build.tree.as_deref() == Some(tree) && was_left(app, **number))
        .map(|(number, _)| *number)?;
    left(app).filter(|(from, _)| *from == number).last()
}

/// Why there is no rollback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// Nothing runs.
    #[error("there is no release yet")]
    Nothing,
    /// No older release is good.
    #[error("there is no good release before v{live}")]
    NoneBefore {
        /// The live one.
        live: u32,
    },
    /// The number was never used.
    #[error("there is no v{number}")]
    Unknown {
        /// The number.
        number: u32,
    },
    /// Its files are gone.
    #[error("v{number} is no longer on the server, which keeps {kept} releases")]
    Gone {
        /// The number.
        number: u32,
        /// `keep` of the configuration.
        kept: u32,
    },
    /// It was never finished.
    #[error("v{number} never served")]
    Failed {
        /// The number.
        number: u32,
    },
    /// It serves already.
    #[error("v{number} is live, and the database has nothing that it doesn't know of")]
    Live {
        /// The number.
        number: u32,
    },
}

/// A failed release beyond the live one that has changed the database.
fn unfinished(app: &App) -> Option<u32> {
    let live = app.current?;
    let changed = |number: &u32| {
        app.builds.get(number).is_some_and(|build| !build.applied.is_empty() || build.partly.is_some())
    };
    let recorded = |number: &u32| app.releases.iter().any(|record| record.number == *number);
    app.builds.keys().rev().copied().find(|number| *number > live && changed(number) && !recorded(number))
}

/// The release to go back to: the one asked for, else the last good one before what is live. A release that never went
/// live and left its migrations behind is gone back from first.
pub fn choose(app: &App, wanted: Option<u32>, kept: u32) -> Result<u32, RollbackError> {
    let live = app.current.ok_or(RollbackError::Nothing)?;
    match wanted {
        None if unfinished(app).is_some() => Ok(live),
        None => {
            let from = origin(app, live);
            let good = |number: &u32| state(app, *number) == State::Good && !given_up(app, *number);
            let older = app.builds.keys().rev().copied().filter(|number| *number < from);
            older.into_iter().find(good).ok_or(RollbackError::NoneBefore { live })
        }
        Some(number) => match state(app, number) {
            State::Live if unfinished(app).is_none() => Err(RollbackError::Live { number }),
            State::Live | State::Good | State::Bad => Ok(number),
            State::Gone => Err(RollbackError::Gone { number, kept }),
            State::Failed if app.builds.contains_key(&number) => Err(RollbackError::Failed { number }),
            State::Failed => Err(RollbackError::Unknown { number }),
        },
    }
}

/// A migration that is applied now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// `catalog.0003_rating`.
    pub name: String,
    /// What of it can't be taken back; empty if nothing.
    pub irreversible: String,
    /// Whether taking it back only removes what older code doesn't know of.
    pub additive: bool,
    /// Those that it stands for.
    pub replaces: Vec<String>,
}

/// What the server says about the database's schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// The release that was asked, whose code has the most migrations.
    pub asked: u32,
    /// What is applied and known to it.
    pub applied: Vec<Applied>,
    /// What the target's code has; `None` if nobody noted it.
    pub target: Option<BTreeSet<String>>,
}

/// Asks for [`Schema`]: which migrations the target's code has, and what is applied.
pub fn schema_script(config: &Config, target: u32) -> Script {
    let line = "as_app \"$top/venvs/$n/bin/python\" - applied";
    Script::from_text("set -eu\nexport LC_ALL=C.UTF-8")
        .set("app", &config.app)
        .set("root", config.django.suffix())
        .set("target", format!("v{target}"))
        .line("top=/srv/$app; cd /var/lib/ship/$app/releases")
        .line("if [ -e \"$target/migrations\" ]; then echo noted; sed 's/^/has\\t/' \"$target/migrations\"; fi")
        .line("n=; most=-1")
        .line("for folder in $(ls -d v* | sort -V); do")
        .line("  [ -e \"$folder/migrations\" ] && [ -e \"$folder/venv\" ] && [ -e \"/etc/ship/$app/$folder.env\" ] || continue")
        .line("  lines=$(wc -l <\"$folder/migrations\"); if [ \"$lines\" -ge \"$most\" ]; then most=$lines; n=$folder; fi")
        .line("done")
        .line("[ -n \"$n\" ] || exit 0")
        .line("release=$top/releases/$n")
        .line("printf 'asked\\t%s\\n' \"$n\"")
        .line("SHIP_UNIT=-.slice")
        .then(&Script::fixed(AS_APP))
        .then(&heredoc(line, super::migrations::PROGRAM))
}

/// Reads what [`schema_script`] printed. Lines of anything else are the project's own.
pub fn parse_schema(text: &str) -> Schema {
    let mut schema = Schema::default();
    for line in text.lines() {
        let mut fields = line.split('\t');
        match fields.next() {
            Some("noted") => schema.target = Some(BTreeSet::new()),
            Some("has") => {
                if let (Some(target), Some(name)) = (&mut schema.target, fields.next()) {
                    target.insert(name.into());
                }
            }
            Some("asked") => {
                schema.asked = fields.next().and_then(crate::facts::app::release_number).unwrap_or(0);
            }
            Some("applied") => {
                let mut field = || fields.next().unwrap_or_default().to_string();
                let (name, irreversible, additive, replaces) = (field(), field(), field(), field());
                let replaces =
                    replaces.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect();
                schema.applied.push(Applied { name, irreversible, additive: !additive.is_empty(), replaces });
            }
            Some(_) | None => {}
        }
    }
    schema
}

/// What the database has that the target doesn't know of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surplus {
    /// Those migrations, in no order.
    pub migrations: Vec<Applied>,
    /// One that stopped half-way, and the release it belongs to.
    pub partly: Option<(u32, String)>,
    /// The first release that applied one of them, with its dump.
    pub dump: Option<(u32, Dump)>,
    /// The release whose code can take them back.
    pub with: u32,
}

impl Surplus {
    /// Whether the target knows all that there is.
    pub fn is_empty(&self) -> bool {
        self.migrations.is_empty() && self.partly.is_none()
    }

    /// What can't be taken back: the migration and why.
    pub fn irreversible(&self) -> Vec<(String, String)> {
        let partly = self.partly.iter().map(|(_, name)| (name.clone(), "applied half-way".to_string()));
        let rest = self.migrations.iter().filter(|migration| !migration.irreversible.is_empty());
        rest.map(|migration| (migration.name.clone(), migration.irreversible.clone())).chain(partly).collect()
    }

    /// One line a migration, for a person.
    pub fn text(&self) -> String {
        let kind = |migration: &Applied| match migration.irreversible.as_str() {
            "" => "can be reversed".to_string(),
            why => format!("can't be reversed: {why}"),
        };
        let width = self.migrations.iter().map(|migration| migration.name.len()).max().unwrap_or(0);
        let mut lines: Vec<String> = self
            .migrations
            .iter()
            .map(|migration| format!("  {:<width$}  {}", migration.name, kind(migration)))
            .collect();
        lines.extend(
            self.partly.iter().map(|(number, name)| format!("  {name}  applied half-way by v{number}")),
        );
        lines.join("\n")
    }

    /// The dump, for a person.
    pub fn dump_text(&self) -> Option<String> {
        let (number, dump) = self.dump.as_ref()?;
        Some(format!("the dump of {} from before v{number} ({})", moment(&dump.at), bytes(dump.bytes)))
    }
}

/// What the database has that the target doesn't know of; `None` if nobody noted what the target knows.
pub fn surplus(app: &App, schema: &Schema, target: u32) -> Option<Surplus> {
    let known = schema.target.as_ref()?;
    let lacks = |migration: &&Applied| {
        let replaced =
            !migration.replaces.is_empty() && migration.replaces.iter().all(|name| known.contains(name));
        !known.contains(&migration.name) && !replaced
    };
    let migrations: Vec<Applied> = schema.applied.iter().filter(lacks).cloned().collect();
    let partly = unfinished(app)
        .and_then(|number| Some((number, app.builds.get(&number)?.partly.clone()?)))
        .filter(|(_, name)| !known.contains(name));
    let names: BTreeSet<&str> = migrations.iter().map(|migration| migration.name.as_str()).collect();
    let first = app.builds.iter().filter(|(number, _)| **number > target).find(|(number, build)| {
        build.applied.iter().any(|name| names.contains(name.as_str()))
            || partly.as_ref().is_some_and(|(of, _)| of == *number)
    });
    // Of a migration that no kept release applied, no dump is from before it.
    let covered: BTreeSet<&str> = app
        .builds
        .iter()
        .filter(|(number, _)| **number > target)
        .flat_map(|(_, build)| build.applied.iter().map(String::as_str))
        .collect();
    let dump = first
        .filter(|_| names.iter().all(|name| covered.contains(name)))
        .and_then(|(number, build)| Some((*number, build.dump.clone()?)));
    Some(Surplus { migrations, partly, dump, with: schema.asked })
}

/// What happens to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It stays as it is.
    Keep,
    /// What the target doesn't know of is taken back.
    Reverse,
    /// A dump takes its place.
    Restore,
}

/// The steps of a rollback. `between` are changes that the target needs of the server before it serves.
pub fn steps(
    context: &Context<'_>,
    facts: &Facts,
    target: u32,
    surplus: &Surplus,
    way: Way,
    between: Vec<Change>,
) -> Vec<Change> {
    let app = &facts.app;
    let (Some(live), Some(build)) = (app.current, app.builds.get(&target)) else { return Vec::new() };
    let number = app.next_number();
    let config = with_processes_of(context.config, app, live);
    let context = Context { config: &config, ..*context };
    let layout = Layout::answered(build).unwrap_or_else(Layout::usual);
    let recorded = app.releases.iter().rev().find(|record| record.number == target);
    let what = format!("rollback to v{target}");
    let live_build = app.builds.get(&live);
    let steps = Steps {
        context: &context,
        app,
        number,
        venv: build.venv.as_deref().unwrap_or_default(),
        // The units are those of the live release, whoever they start.
        recipe: live_build.and_then(|build| build.recipe.as_deref()).unwrap_or_default(),
        layout: &layout,
        record: Record {
            number,
            at: String::new(),
            who: context.source.who.clone(),
            commit: recorded.and_then(|record| record.commit.clone()),
            branch: recorded.and_then(|record| record.branch.clone()),
            dirty: recorded.is_some_and(|record| record.dirty),
            what: what.clone(),
            migrations: Vec::new(),
            rollback: Some(Rollback { from: live, to: target }),
        },
    };
    let names: Vec<String> = surplus.migrations.iter().map(|migration| migration.name.clone()).collect();
    let reverse = way == Way::Reverse && !names.is_empty();
    // Old code runs beside what it doesn't know of; new code does not run without what it needs.
    let late = reverse && surplus.migrations.iter().all(|migration| migration.additive);
    let why = format!("v{target} doesn't know of {}", count(names.len(), "migration"));
    let mut changes = vec![steps.copy(target, &what), steps.prepare_of(target)];
    let restore = surplus.dump.as_ref().filter(|_| way == Way::Restore);
    if !between.is_empty() || (reverse && !late) || restore.is_some() {
        changes.push(steps.ask());
    }
    changes.extend(between.iter().cloned());
    if reverse && !late {
        changes.extend(steps.reverse(surplus.with, &names, &why, false));
    }
    if let Some((of, dump)) = restore {
        changes.extend(steps.restore(*of, &format!("of {}", dump.at)));
    }
    // What it lacks of the database is there by now, so the verdict is about itself.
    changes.push(steps.preflight(true, false));
    changes.extend(steps.migrations(&[]));
    if layout.static_root.is_some() {
        changes.push(steps.collect_again());
    }
    changes.push(steps.switch(&between));
    changes.push(steps.put_environment_back());
    changes.push(steps.record());
    if late {
        changes.extend(steps.reverse(surplus.with, &names, &why, true));
    }
    changes
}

/// The processes that run, whatever `ship.yml` says by now: only their units are on the server.
fn with_processes_of(config: &Config, app: &App, live: u32) -> Config {
    let prefix = format!("{}-", config.app);
    let suffix = format!("@v{live}.service");
    let name = |unit: &String| Some(unit.strip_prefix(&prefix)?.strip_suffix(&suffix)?.to_string());
    // Of what nobody names any more, two at once may be one too many.
    let unknown = |name: &str| Worker {
        command: String::new(),
        settle_s: 5,
        stop_timeout_s: 300,
        process: name.to_owned(),
        singleton: true,
        origin: String::new(),
        limits: Limits::default(),
    };
    let worker = |name: &str| config.workers.get(name).cloned().unwrap_or_else(|| unknown(name));
    let workers: BTreeMap<String, Worker> =
        app.enabled.iter().filter_map(name).map(|name| (name.clone(), worker(&name))).collect();
    Config { workers, ..config.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::app::{Build, Failed};

    /// Releases `(number, what it went back from and to)`, all kept and the last one live; what failed isn't recorded.
    fn app(releases: &[(u32, Option<(u32, u32)>)], failed: &[u32]) -> App {
        let mut app = App::default();
        for (number, back) in releases {
            let rollback = back.map(|(from, to)| Rollback { from, to });
            let record = serde_json::json!({"number": number, "at": "", "who": "", "rollback": rollback});
            app.releases.push(serde_json::from_value(record).unwrap());
            app.current = Some(*number);
        }
        for number in releases.iter().map(|(number, _)| number).chain(failed) {
            let build =
                Build { tree: Some(format!("t{number}")), venv: Some("e".into()), ..Build::default() };
            app.builds.insert(*number, build);
        }
        app
    }

    fn chosen(app: &App, wanted: Option<u32>) -> String {
        choose(app, wanted, 5).map_or_else(|error| error.to_string(), |number| format!("v{number}"))
    }

    #[test]
    fn the_last_good_one_is_gone_back_to() {
        let check = |releases: &[(u32, Option<(u32, u32)>)], failed: &[u32], expect: &str| {
            assert_eq!(chosen(&app(releases, failed), None), expect, "{releases:?}");
        };
        check(&[], &[], "there is no release yet");
        check(&[(1, None)], &[], "there is no good release before v1");
        check(&[(1, None), (2, None)], &[3], "v1");
        check(&[(1, None), (3, None)], &[2], "v1");
        // Twice goes on to what was before.
        check(&[(1, None), (2, None), (3, None), (4, Some((3, 2)))], &[], "v1");
        check(&[(1, None), (2, None), (3, None), (4, Some((3, 2))), (5, None)], &[], "v4");
        // What was gone back from is good again once somebody chose it by its number.
        check(&[(1, None), (2, None), (3, Some((2, 1))), (4, Some((3, 2))), (5, None)], &[], "v4");
        check(&[(1, None), (2, None), (3, Some((2, 1))), (4, None)], &[], "v3");
        check(&[(1, None), (2, None), (3, Some((2, 2)))], &[], "v1");
    }

    #[test]
    fn a_release_that_failed_its_checks_is_passed_over() {
        let mut app = app(&[(1, None), (2, None), (3, None)], &[4]);
        app.builds.get_mut(&2).unwrap().failed =
            Some(Failed { bad: true, at: String::new(), reason: "500 at /".into() });
        app.builds.remove(&1);
        assert_eq!([1, 2, 3, 4].map(|number| state(&app, number).word()), ["gone", "bad", "live", "failed"]);
        assert_eq!(chosen(&app, None), "there is no good release before v3");
        assert_eq!(chosen(&app, Some(2)), "v2");
        assert_eq!(chosen(&app, Some(1)), "v1 is no longer on the server, which keeps 5 releases");
        assert_eq!(chosen(&app, Some(4)), "v4 never served");
        assert_eq!(chosen(&app, Some(7)), "there is no v7");
        assert!(chosen(&app, Some(3)).starts_with("v3 is live"));
    }

    #[test]
    fn what_a_failed_release_did_to_the_database_is_gone_back_from_first() {
        let mut app = app(&[(1, None), (2, None)], &[3]);
        app.builds.get_mut(&3).unwrap().applied.push("a.0002_b".into());
        assert_eq!((chosen(&app, None).as_str(), chosen(&app, Some(2)).as_str()), ("v2", "v2"));
    }

    const SAID: &str = "noted\nhas\ta.0001_x\nhas\ta.0002_y\nhas\tb.0001_x\nasked\tv4\nhello from the project\n\
                        applied\ta.0001_x\t\tadditive\t\napplied\ta.0003_z\t\tadditive\t\n\
                        applied\tb.0001_squashed\t\tadditive\tb.0001_x\napplied\ta.0004_w\tRunPython\t\t\n";

    #[test]
    fn what_the_target_does_not_know_of_is_found_with_the_dump_of_before() {
        let schema = parse_schema(SAID);
        let mut app = app(&[(1, None), (2, None), (3, None), (4, None)], &[]);
        let dump = |at: &str| Some(Dump { bytes: 4200, at: at.into() });
        for (number, name) in [(2, "a.0002_y"), (3, "a.0003_z"), (4, "a.0004_w")] {
            let build = app.builds.get_mut(&number).unwrap();
            build.applied.push(name.into());
            build.dump = dump(&format!("day {number}"));
        }
        let found = surplus(&app, &schema, 2).unwrap();
        insta::assert_snapshot!(found.text(), @r"
          a.0003_z  can be reversed
          a.0004_w  can't be reversed: RunPython
        ");
        assert_eq!(found.with, 4);
        assert_eq!(found.irreversible(), [("a.0004_w".to_string(), "RunPython".to_string())]);
        assert_eq!(found.dump_text().unwrap(), "the dump of day 3 from before v3 (4.2 kB)");

        // A dump from before all of it is on no release that is kept.
        app.builds.remove(&3);
        assert_eq!(surplus(&app, &schema, 2).unwrap().dump, None);
        assert_eq!(surplus(&app, &parse_schema("asked\tv4\n"), 2), None);
        let nothing = parse_schema("noted\nhas\ta.0001_x\nasked\tv1\napplied\ta.0001_x\t\t\t\n");
        assert!(surplus(&app, &nothing, 1).unwrap().is_empty());
    }
}
