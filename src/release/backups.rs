//! Backups by the clock as templates and commands know them: what runs when, and which scripts ask for them.
//!
//! Invariant: pure; the keys of a bucket are never in a script.

use minijinja::Value;

use crate::cloud::Owner;
use crate::config::Config;
use crate::shell::Script;

use super::database::file_name;

/// What templates and playbooks know; nothing without `backups`.
pub fn vars(config: &Config) -> Value {
    let Some(backups) = &config.backups else { return Value::from(()) };
    let unit = |name: &str, calendar: &str, does: &str| {
        Value::from_pairs([("name", name), ("calendar", calendar), ("does", does)])
    };
    let mut units = vec![unit("backup", &backups.calendar, "backup")];
    let drill = backups.drill.as_deref();
    units.extend(drill.map(|calendar| unit("drill", calendar, "restoring the newest backup for trial")));
    let gone: Vec<&str> = if drill.is_none() { vec!["drill"] } else { Vec::new() };
    let region = match &backups.store {
        crate::config::backups::Store::S3 { region, .. } => region.clone(),
        crate::config::backups::Store::Server => None,
    };
    let name = Owner::of(config).host_name();
    Value::from_pairs([
        ("units", Value::from(units)),
        ("gone", Value::from(gone)),
        ("text", Value::from(backups.store.text())),
        ("repository", Value::from(backups.store.repository(&config.app, &name))),
        ("region", Value::from(region)),
        ("keep", Value::from(backups.keep.flags())),
        ("media", Value::from(backups.media)),
    ])
}

/// What else the script that takes them is made of.
pub fn library_vars(config: &Config) -> [(String, Value); 2] {
    [
        ("database_library".into(), Value::from(super::database::library(config.database))),
        ("database_file".into(), Value::from(file_name(config.database))),
    ]
}

/// The names of what opens a bucket, as its service's tools know them.
pub const BUCKET_KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The name under which the key of the backups themselves is set.
pub const OWN_KEY: &str = "BACKUP_KEY";

/// Takes lines of an environment file from stdin in the place of those of the same names; a key of the backups from the
/// rest of stdin, if `key` bytes of it are one. They are out of the site's own reach.
pub fn set_script(config: &Config, names: &[&str], env_bytes: usize, key_bytes: usize) -> Script {
    let mut script = Script::from_text("set -eu\numask 077")
        .set("app", &config.app)
        .line("for folder in /etc/ship \"/etc/ship/$app\"; do [ -d \"$folder\" ] || install -d -m 0755 \"$folder\"; done")
        .line("install -d -m 0700 \"/etc/ship/$app/backup\"")
        .line("cd \"/etc/ship/$app/backup\"")
        .line("touch secrets.env; cp secrets.env .secrets");
    for name in names {
        script = script.set("name", name).line("sed -i \"/^$name=/d\" .secrets");
    }
    script = script
        .line(&format!("head -c {env_bytes} >>.secrets"))
        .line("sync .secrets; mv .secrets secrets.env");
    if key_bytes > 0 {
        script = script
            .line(&format!("head -c {key_bytes} >.key; echo >>.key"))
            .line("sync .key; mv .key key; touch key-shown");
    }
    script
}

/// Prints the key of the backups; from then on somebody else has it, too.
pub fn key_script(config: &Config) -> Script {
    Script::from_text("set -eu")
        .set("app", &config.app)
        .line("cd \"/etc/ship/$app/backup\" 2>/dev/null && [ -e key ] || exit 44")
        .line("touch key-shown")
        .line("cat key")
}

/// Runs what the timer runs, and waits for its end. Exits with 44 without backups.
pub fn start_script(config: &Config, what: &str) -> Script {
    Script::from_text("set -u")
        .set("app", &config.app)
        .set("what", what)
        .line("[ -e \"/etc/systemd/system/$app-$what.service\" ] || exit 44")
        .line("since=$(date '+%Y-%m-%d %H:%M:%S')")
        .line("rc=0; systemctl start \"$app-$what.service\" || rc=1")
        .line("journalctl --sync >/dev/null 2>&1 || true")
        .line(
            "journalctl --quiet --output=cat --since=\"$since\" _SYSTEMD_UNIT=\"$app-$what.service\" || true",
        )
        .line("exit $rc")
}

/// Lists what is kept, as restic's JSON; then the dumps on the server itself, a line each: name, bytes, when.
pub fn list_script(config: &Config) -> Script {
    Script::from_text("set -eu")
        .set("app", &config.app)
        .line("cd \"/var/backups/ship/$app\" 2>/dev/null && for file in *.dump; do")
        .line("  [ ! -e \"$file\" ] || printf 'kept\\t%s\\t%s\\t%s\\n' \"${file%.dump}\" \"$(stat -c %s \"$file\")\" \"$(date -u -r \"$file\" +%Y-%m-%dT%H:%M:%SZ)\"")
        .line("done")
        .line("if [ -e \"/etc/ship/$app/backup/run\" ]; then sh \"/etc/ship/$app/backup/run\" list; fi")
}

/// Packs a backup into a spool of this name: the database, and the media as an archive of their own. Exits with 44
/// without backups.
pub fn spool_backup(config: &Config, spool: &str, id: &str) -> Script {
    super::database::prelude(config)
        .set("spool", spool)
        .set("id", id)
        .line("[ -e \"/etc/ship/$app/backup/run\" ] || exit 44")
        .line("spool=$spools/$spool")
        .line("install -d -m 0711 \"$spools\" \"$spool\"; install -d -m 0700 \"$spool/copy\"")
        .line("trap 'rc=$?; rm -rf \"$spool/copy\"; [ $rc -eq 0 ] || rm -rf \"$spool\"' EXIT")
        .line("sh \"/etc/ship/$app/backup/run\" fetch \"$id\" \"$spool/copy\"")
        .line("cd \"$spool/copy\"")
        .line("[ ! -d media ] || { tar --create --gzip --numeric-owner --file media.tar.gz -C media . && rm -rf media; }")
        .line("tar --create --numeric-owner --file \"$spool/data\" *")
        .then(&super::database::tell())
}
