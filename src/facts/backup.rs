//! Backups by the clock: the newest one, the last drill, and what failed since.

use serde::Serialize;

use crate::human::{bytes, count};
use crate::shell::Script;

/// What the server knows of its backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Backups {
    /// The newest one.
    pub last: Option<Taken>,
    /// The last that was restored for trial and was good.
    pub drill: Option<Drill>,
    /// Why no backup could be taken since the newest one: when and what.
    pub failed: Option<Trouble>,
    /// Why the last drill failed.
    pub drill_failed: Option<Trouble>,
    /// The timers that are there and run: `backup`, `drill`.
    pub timers: Vec<String>,
    /// Whether somebody other than the server has the key that they are encrypted with.
    pub key_shown: bool,
}

/// A backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// When, RFC 3339, by the server's clock.
    pub at: String,
    /// Its id.
    pub id: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many files of media it has.
    pub files: u64,
}

/// A backup that was restored for trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drill {
    /// When, RFC 3339, by the server's clock.
    pub at: String,
    /// The backup's id.
    pub id: String,
    /// How many tables.
    pub tables: u64,
    /// How many rows they have.
    pub rows: u64,
    /// How many files of media.
    pub files: u64,
}

/// Something that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// When, RFC 3339, by the server's clock.
    pub at: String,
    /// Why.
    pub why: String,
}

/// Something wrong with the backups, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// What is wrong.
    pub what: String,
    /// What mends it.
    pub mend: String,
}

/// Asks for [`Backups`].
pub fn script(app: &str) -> Script {
    Script::new().set("app", app).line(
        r#"( cd "/var/lib/ship/$app/backup" 2>/dev/null && for file in backup backup-failed drill drill-failed; do
    [ ! -e "$file" ] || printf '%s\t%s\n' "$file" "$(head -n 1 "$file")"
  done )
for name in backup drill; do
  ! systemctl is-active --quiet "$app-$name.timer" 2>/dev/null || printf 'timer\t%s\n' "$name"
done
[ ! -e "/etc/ship/$app/backup/key-shown" ] || echo shown"#,
    )
}

/// Reads what [`script`] printed.
pub fn parse(body: &str) -> Backups {
    let mut found = Backups::default();
    for line in body.lines() {
        let mut fields = line.split('\t');
        let kind = fields.next().unwrap_or_default();
        let mut text = || fields.next().unwrap_or_default().to_string();
        match kind {
            "backup" => {
                let (at, id, bytes, files) = (text(), text(), text(), text());
                let number = |text: String| text.parse().unwrap_or(0);
                found.last = Some(Taken { at, id, bytes: number(bytes), files: number(files) });
            }
            "drill" => {
                let (at, id, tables, rows, files) = (text(), text(), text(), text(), text());
                let number = |text: String| text.parse().unwrap_or(0);
                let [tables, rows, files] = [tables, rows, files].map(number);
                found.drill = Some(Drill { at, id, tables, rows, files });
            }
            "backup-failed" => found.failed = Some(Trouble { at: text(), why: text() }),
            "drill-failed" => found.drill_failed = Some(Trouble { at: text(), why: text() }),
            "timer" => found.timers.push(text()),
            "shown" => found.key_shown = true,
            _ => {}
        }
    }
    found
}

impl Backups {
    /// Lines for a person.
    pub fn lines(&self, place: &str) -> Vec<String> {
        let number = |number: u64, noun: &str| count(usize::try_from(number).unwrap_or(usize::MAX), noun);
        let mut lines = vec![match &self.last {
            Some(last) => format!(
                "{} of {} ({}, {}) {place}",
                last.id,
                last.at,
                bytes(last.bytes),
                number(last.files, "file")
            ),
            None => format!("none yet {place}"),
        }];
        lines.extend(self.drill.as_ref().map(|drill| {
            format!(
                "{} was restored for trial at {}: {}, {}, {}",
                drill.id,
                drill.at,
                number(drill.tables, "table"),
                number(drill.rows, "row"),
                number(drill.files, "file")
            )
        }));
        lines
    }

    /// What is wrong. `drills` and `elsewhere` are whether `ship.yml` wants drills, and backups off the server.
    pub fn complaints(&self, app: &str, drills: bool, elsewhere: bool) -> Vec<Complaint> {
        let mut found = Vec::new();
        let mut complain = |what: String, mend: &str| found.push(Complaint { what, mend: mend.to_string() });
        if let Some(trouble) = &self.drill_failed {
            // What is there already is not kept a second time, so a further backup would rest upon the damage.
            let aside = format!(
                "`ship ssh -- sudo mv /var/backups/ship/{app}/store /var/backups/ship/{app}/store.damaged` and `ship db backups now` begin anew"
            );
            let mend = match (trouble.why.contains("damaged"), elsewhere) {
                (true, true) => {
                    "another path in `backups.to` of ship.yml, `ship up` and `ship db backups now` begin anew beside it"
                }
                (true, false) => &aside,
                (false, _) => "`ship db backups drill` tries again",
            };
            complain(format!("the drill of {} found: {}", trouble.at, trouble.why), mend);
        }
        if let Some(trouble) = &self.failed {
            let mend = if trouble.why.contains("keys of") {
                "ship db backups set AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=@FILE"
            } else {
                "`ship db backups now` tries again"
            };
            complain(format!("the backup of {} failed: {}", trouble.at, trouble.why), mend);
        }
        for (name, wanted) in [("backup", true), ("drill", drills)] {
            if wanted && !self.timers.iter().any(|timer| timer == name) {
                complain(format!("the timer of the {name} does not run"), "`ship up` starts it");
            }
        }
        if elsewhere && self.last.is_some() && !self.key_shown {
            complain(
                "only the server has the key that its backups are encrypted with".into(),
                "`ship db backups key` prints it: keep it where the server isn't",
            );
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "backup\t2026-01-02T03:30:09Z\t1a2b3c4d\t5300000\t12\t16\n\
                        drill\t2026-01-01T04:00:00Z\t0f0f0f0f\t16\t190\t1\ntimer\tbackup\ntimer\tdrill\n";

    #[test]
    fn the_newest_backup_and_the_last_drill_are_told() {
        let found = parse(SAID);
        insta::assert_snapshot!(found.lines("in s3://b").join("\n"), @r"
        1a2b3c4d of 2026-01-02T03:30:09Z (5.3 MB, 12 files) in s3://b
        0f0f0f0f was restored for trial at 2026-01-01T04:00:00Z: 16 tables, 190 rows, 1 file
        ");
        assert_eq!(found.complaints("library", true, false), []);
        assert_eq!(found.complaints("library", true, true).len(), 1, "nobody has the key");
        assert_eq!(parse(&format!("{SAID}shown\n")).complaints("library", true, true), []);
        assert_eq!(parse("").lines("on the server itself"), ["none yet on the server itself"]);
    }

    #[test]
    fn what_failed_is_told_with_what_mends_it() {
        let said = "backup-failed\t2026-01-03T03:30:00Z\tnobody has set the keys of https://s3.example.com/b\n\
                    drill-failed\t2026-01-03T04:00:00Z\tbackup 1a2b is damaged: x\ntimer\tbackup\n";
        let text: Vec<String> = parse(said)
            .complaints("library", true, true)
            .iter()
            .map(|one| format!("{}: {}", one.what, one.mend))
            .collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        the drill of 2026-01-03T04:00:00Z found: backup 1a2b is damaged: x: another path in `backups.to` of ship.yml, `ship up` and `ship db backups now` begin anew beside it
        the backup of 2026-01-03T03:30:00Z failed: nobody has set the keys of https://s3.example.com/b: ship db backups set AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=@FILE
        the timer of the drill does not run: `ship up` starts it
        ");
    }
}
