//! What a release's migrations would do, told by Django itself before there is a release.
//!
//! Invariant: the server is as it was afterwards. The live release's files are linked into a folder that is gone when
//! the question is answered; the new Python files lie on top of them, and nothing of them writes to the database.

use crate::apply::heredoc;
use crate::config::Config;
use crate::facts::app::App;
use crate::plan::Plan;
use crate::shell::{Cmd, Script};

use super::gates::{CAUSE, NOTE};
use super::migrations::PROGRAM;
use super::steps::AS_APP;
use super::{Release, Source};

/// The change that shows the answer.
pub(super) const MIGRATE: &str = "migrate the database";

/// More Python than this is not sent for a look ahead.
const LIMIT: u64 = 16 << 20;

/// The question for a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// What asks; the packed files follow on its standard input.
    pub script: Script,
    /// The files to pack.
    pub send: Vec<String>,
}

/// The question, if there are new migrations and a live release whose Django can be asked about them.
pub fn preview(config: &Config, source: &Source, app: &App, release: &Release) -> Option<Preview> {
    let delta = release.upload.as_ref()?;
    let (live, build) = app.live()?;
    build.venv.as_ref()?;
    let python = |path: &&String| path.ends_with(".py");
    let send: Vec<String> = delta.send.iter().filter(python).cloned().collect();
    if delta.send_bytes > LIMIT || !source.migrations.iter().any(|(path, _)| send.contains(path)) {
        return None;
    }
    let mut gone = Cmd::new("remove");
    for path in delta.gone.iter().filter(python) {
        gone = gone.arg(path);
    }
    let script = Script::from_text("set -eu\nexport LC_ALL=C.UTF-8\numask 022")
        .set("app", &config.app)
        .set("n", format!("v{live}"))
        .set("root", config.django.suffix())
        .line("top=/srv/$app; SHIP_UNIT=-.slice")
        .line("rm -rf \"$top\"/releases/plan.*.new; release=$top/releases/plan.$$.new")
        .line("trap 'rm -rf \"$release\"' EXIT")
        .line("cp -al \"$top/releases/$n\" \"$release\"")
        .line("remove() { ( cd \"$release\" && rm -f -- \"$@\" ); }")
        .cmd(gone)
        .line("tar -xmz -C \"$release\" --no-same-owner --unlink-first --delay-directory-restore")
        .line("chgrp -R \"$app\" \"$release\" 2>/dev/null || true")
        .then(&Script::fixed(AS_APP))
        .then(&heredoc("as_app \"$top/venvs/$n/bin/python\" - pending 2>&1", PROGRAM));
    Some(Preview { script, send })
}

/// What Django said, for a person; nothing if nothing is pending.
pub fn parse(text: &str, success: bool) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(note) = line.strip_prefix(NOTE) {
            lines.push(note.to_string());
        } else if let Some(warning) = line.strip_prefix("ship: ") {
            lines.push(format!("! {warning}"));
        } else if let Some(cause) = line.strip_prefix(CAUSE) {
            lines.push(format!("! {cause}"));
        }
    }
    if !success && !lines.iter().any(|line| line.starts_with("! ")) {
        let last =
            text.lines().rfind(|line| line.starts_with(|c: char| !c.is_whitespace())).unwrap_or_default();
        lines.push(format!("! what they do can be told only once the release is built: {last}"));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Shows the answer where the plan has named only the files.
pub fn show(plan: &mut Plan, answer: Option<String>) {
    if let Some(answer) = answer
        && let Some(change) = plan.changes.iter_mut().find(|change| change.id.name == MIGRATE)
    {
        change.diff = Some(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_django_says_becomes_lines_of_the_plan() {
        let said = "has\tcatalog.0003_rating\nship-note: migration catalog.0003_rating, can be reversed\n\
                    ship-note:   - Add field rating to book\nhello from settings\n\
                    ship: catalog.0003_rating: catalog_book has about 2.0 million rows: an index is built\n";
        insta::assert_snapshot!(parse(said, true).unwrap(), @r"
        migration catalog.0003_rating, can be reversed
          - Add field rating to book
        ! catalog.0003_rating: catalog_book has about 2.0 million rows: an index is built
        ");
        assert_eq!(parse("has\tcatalog.0003_rating\n", true), None);
        assert_eq!(
            parse("ship-cause: migrations conflict: a and b in c\n", false).unwrap(),
            "! migrations conflict: a and b in c"
        );
        assert_eq!(
            parse("Traceback (most recent call last):\n  File \"x\"\nModuleNotFoundError: No module named 'x'\n", false).unwrap(),
            "! what they do can be told only once the release is built: ModuleNotFoundError: No module named 'x'"
        );
    }
}
