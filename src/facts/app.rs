//! The application on the server: its releases, what is built, what runs, who is deploying.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::shell::Script;

use super::FactError;

/// Everything known of the application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct App {
    /// The apply that runs now.
    pub applying: Option<Applying>,
    /// Counts the applies; a plan made before another apply is refused by it.
    pub generation: u64,
    /// The recorded releases, oldest first.
    pub releases: Vec<Record>,
    /// What was built of each release, by number.
    pub builds: BTreeMap<u32, Build>,
    /// The release that `current` points to.
    pub current: Option<u32>,
    /// Complete virtual environments, by their hash.
    pub venvs: BTreeSet<String>,
    /// SHA-256 of each part of the environment, by file name.
    pub config: BTreeMap<String, String>,
    /// The files of the newest build, if they differ from those to be deployed.
    pub manifest: Option<String>,
    /// Active instances: unit name to when it became active.
    pub active: BTreeMap<String, Instance>,
    /// Instances that start at boot.
    pub enabled: BTreeSet<String>,
    /// Timers and services of jobs that are there.
    pub job_units: BTreeSet<String>,
    /// The ports of all sites of the server, by the name of the application.
    pub sockets: BTreeMap<String, u16>,
    /// The environment whose site this is.
    pub environment: Option<String>,
    /// Units that an interrupted apply should still have started, restarted or reloaded.
    pub pending: BTreeSet<String>,
    /// Parts of ship that the server keeps, by what their content makes of their names.
    pub kept: BTreeSet<String>,
}

/// A running instance of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// `active`, `failed` …
    pub state: String,
    /// When it became active, as systemd writes it.
    pub since: String,
    /// How often systemd restarted it.
    pub restarts: u32,
    /// Memory in bytes, if accounted.
    pub memory: Option<u64>,
}

/// An apply that runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applying {
    /// Its id.
    pub id: String,
    /// `user@host` of who started it.
    pub who: String,
    /// When, RFC 3339.
    pub since: String,
    /// The step it is at: its number, of how many, and its title.
    pub step: Option<(u32, u32, String)>,
}

impl std::fmt::Display for Applying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = if self.who.is_empty() { "someone" } else { &self.who };
        write!(f, "{who} has been changing this server since {}", self.since)?;
        match &self.step {
            Some((number, of, title)) => write!(f, ", at step {number} of {of}, `{title}`"),
            None => Ok(()),
        }
    }
}

/// A line of `releases.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The N of vN.
    pub number: u32,
    /// When it went live, RFC 3339, by the server's clock.
    pub at: String,
    /// `user@host` of who released it.
    pub who: String,
    /// Abbreviated commit, if the project is in git.
    #[serde(default)]
    pub commit: Option<String>,
    /// Branch.
    #[serde(default)]
    pub branch: Option<String>,
    /// Whether there were uncommitted changes.
    #[serde(default)]
    pub dirty: bool,
    /// What changed: `code`, the config command, or `rollback to v7`.
    #[serde(default)]
    pub what: String,
    /// The migrations that it applied, in order: `catalog.0003_rating`.
    #[serde(default)]
    pub migrations: Vec<String>,
    /// What was left for what, if it is a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
}

/// The two ends of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The release that was live.
    pub from: u32,
    /// The release whose code and environment it took.
    pub to: u32,
}

/// How far a release is built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// Digest of its tree once all files are there.
    pub tree: Option<String>,
    /// Hash of its virtual environment once that is complete.
    pub venv: Option<String>,
    /// SHA-256 of each part of its environment, by file name.
    pub config: BTreeMap<String, String>,
    /// Digest of the recipe (units, gunicorn settings) it was last started with.
    pub recipe: Option<String>,
    /// Whether Django was told that the site is served by HTTPS.
    pub https: bool,
    /// Django's answer about itself, one line of JSON.
    pub answer: Option<String>,
    /// The rest of what Django said of its settings, one line of JSON.
    pub settings: Option<String>,
    /// What it was made from, and by whom: of a release that never came to be recorded, too.
    pub record: Option<Record>,
    /// Why it isn't live, if it failed.
    pub failed: Option<Failed>,
    /// The migrations that it applied, in order, whether or not it went live.
    pub applied: Vec<String>,
    /// A migration of it that stopped half-way and left something behind.
    pub partly: Option<String>,
    /// The dump of the database from before its migrations.
    pub dump: Option<Dump>,
}

/// A dump of the database, kept with a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dump {
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was taken, RFC 3339, by the server's clock.
    pub at: String,
}

/// A release that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Whether it ran for visitors and was taken back; otherwise it failed before.
    pub bad: bool,
    /// When, RFC 3339, by the server's clock.
    pub at: String,
    /// What failed and why, one line.
    pub reason: String,
}

impl App {
    /// The newest build whose files are all there.
    pub fn newest_tree(&self) -> Option<(u32, &str)> {
        self.builds.iter().rev().find_map(|(number, build)| Some((*number, build.tree.as_deref()?)))
    }

    /// The build that is live.
    pub fn live(&self) -> Option<(u32, &Build)> {
        let number = self.current?;
        Some((number, self.builds.get(&number)?))
    }

    /// The number that nothing has used yet.
    pub fn next_number(&self) -> u32 {
        let built = self.builds.keys().next_back().copied().unwrap_or(0);
        let recorded = self.releases.iter().map(|record| record.number).max().unwrap_or(0);
        built.max(recorded) + 1
    }
}

/// Asks for [`App`]. `tree` is the digest of the local tree: its manifest is only sent when it differs.
pub fn script(app: &str, tree: &str) -> Script {
    Script::new().set("app", app).set("tree", tree).line(
        r#"state=/var/lib/ship/$app
( cd "$state" 2>/dev/null || exit 0
if [ -e lock ] && ! flock -n -s lock true; then
  line=$(cat applying 2>/dev/null)
  if [ -n "$line" ]; then
    apply=apply/${line%%"$(printf '\t')"*}
    step=$(LC_ALL=C sed -n 's/^\x1e[0-9]*\tstart //p' "$apply/journal" 2>/dev/null | tail -n 1)
    line="$line$(printf '\t%s\t%s' "$(grep -c . "$apply/order" 2>/dev/null)" "$step")"
  fi
  printf 'applying\t%s\n' "$line"
fi
[ ! -e generation ] || printf 'generation\t%s\n' "$(cat generation)"
[ ! -e pending ] || sed 's/^/pending\t/' pending
# A power loss may have left less of a part than its name says.
( cd kept 2>/dev/null && sha256sum -- * 2>/dev/null | sed -n 's/^\([0-9a-f]\{16\}\)[0-9a-f]*  \1$/kept\t\1/p' )
tail -n 200 releases.jsonl 2>/dev/null | sed 's/^/release\t/'
cd releases 2>/dev/null && {
  grep -s '' v*/tree v*/venv v*/config v*/recipe v*/https v*/answer.json v*/settings.json v*/record v*/failed v*/applied v*/partly | sed 's/^/build\t/'
  newest=; for n in $(ls -d v* 2>/dev/null | sed 's/^v//' | sort -rn); do
    if [ -e "v$n/tree" ]; then newest=v$n; break; fi
  done
  if [ -n "$newest" ] && [ "$(cat "$newest/tree")" != "$tree" ]; then
    printf 'manifest\t%s\n' "$(gzip -c "$newest/manifest" | base64 -w0)"
  fi
}
)
printf 'current\t%s\n' "$(readlink "/srv/$app/current" 2>/dev/null)"
( cd "/srv/$app/venvs" 2>/dev/null && for done in */.ship-complete; do
    [ ! -e "$done" ] || printf 'venv\t%s\n' "${done%/.ship-complete}"
  done )
( cd "/var/backups/ship/$app" 2>/dev/null && for file in v[0-9]*.dump; do
    [ ! -e "$file" ] || printf 'dump\t%s\t%s\t%s\n' "${file%.dump}" "$(stat -c %s "$file")" "$(date -u -r "$file" +%Y-%m-%dT%H:%M:%SZ)"
  done )
( cd "/etc/ship/$app/config" 2>/dev/null && sha256sum -- *.env 2>/dev/null | sed 's/^/config\t/' )
( cd "/etc/ship/$app/files" 2>/dev/null && sha256sum -- * 2>/dev/null | sed 's|^\([0-9a-f]*\)  |config\t\1  files/|' )
[ ! -e "/etc/ship/$app/environment" ] || printf 'environment\t%s\n' "$(cat "/etc/ship/$app/environment")"
( for file in /etc/systemd/system/*.socket; do
    if [ -f "$file" ] && grep -q '^# Managed by ship' "$file"; then
      socket=${file##*/}
      printf 'socket\t%s\t%s\n' "${socket%.socket}" "$(sed -n 's/^ListenStream=127\.0\.0\.1://p' "$file")"
    fi
  done )
( cd /etc/systemd/system 2>/dev/null && for file in "$app"-job-*.timer "$app"-job-*.service; do
    # Another application's name may begin as this one's.
    service=${file%.timer}; service=${service%.service}.service
    if [ -e "$file" ] && { [ ! -e "$service" ] || grep -q "^WorkingDirectory=/srv/$app/" "$service"; }; then
      printf 'job\t%s\n' "$file"
    fi
  done )
( cd /etc/systemd/system/multi-user.target.wants 2>/dev/null && ls -d -- "$app"@*.service "$app"-*@*.service 2>/dev/null | while IFS= read -r unit; do
    template=/etc/systemd/system/${unit%@*}@.service
    if [ ! -e "$template" ] || grep -q "^WorkingDirectory=/srv/$app/" "$template"; then printf 'enabled\t%s\n' "$unit"; fi
  done )
systemctl show --property=Id,ActiveState,ActiveEnterTimestamp,NRestarts,MemoryCurrent -- "$app@*.service" "$app-*@*.service" 2>/dev/null \
  | awk 'NF { sub(/=/, "\t"); value[$1] = substr($0, length($1) + 2); next } { show() } END { show() }
    function show() { if (value["Id"] != "") printf "instance\t%s\t%s\t%s\t%s\t%s\n", value["Id"], value["ActiveState"], value["NRestarts"], value["MemoryCurrent"], value["ActiveEnterTimestamp"]; delete value }'
"#,
    )
}

/// Reads what [`script`] printed.
pub fn parse(body: &str) -> Result<App, FactError> {
    let mut app = App::default();
    for line in body.lines() {
        let bad = || FactError::new("app", line);
        let (key, value) = line.split_once('\t').ok_or_else(bad)?;
        match key {
            "applying" => {
                let mut fields = value.split('\t').map(str::to_string);
                app.applying = Some(Applying {
                    id: fields.next().unwrap_or_default(),
                    who: fields.next().unwrap_or_default(),
                    since: fields.next().unwrap_or_default(),
                    step: step(fields.next().as_deref(), fields.next().as_deref()),
                });
            }
            // Empty after a power loss at the wrong moment.
            "generation" => app.generation = value.parse().unwrap_or(0),
            "pending" => {
                app.pending.insert(value.into());
            }
            "kept" => {
                app.kept.insert(value.into());
            }
            // A line torn by a power loss must not stop every later deploy.
            "release" => app.releases.extend(serde_json::from_str::<Record>(value).ok()),
            // Somebody's copy of a release folder is no release.
            "build" => parse_build(&mut app.builds, value).unwrap_or_default(),
            "dump" => parse_dump(&mut app.builds, value).unwrap_or_default(),
            "manifest" => {
                app.manifest =
                    Some(unpack(value).ok_or_else(|| FactError::new("app", "the manifest is damaged"))?)
            }
            "current" => app.current = value.rsplit('/').next().and_then(release_number),
            "venv" => {
                app.venvs.insert(value.into());
            }
            "config" => {
                let (digest, name) = value.split_once("  ").ok_or_else(bad)?;
                app.config.insert(name.into(), digest.into());
            }
            "environment" => {
                app.environment = Some(value.trim().into()).filter(|name: &String| !name.is_empty())
            }
            "socket" => {
                let (name, port) = value.split_once('\t').ok_or_else(bad)?;
                app.sockets.extend(port.parse().ok().map(|port| (name.to_string(), port)));
            }
            "job" => {
                app.job_units.insert(value.into());
            }
            "enabled" => {
                app.enabled.insert(value.into());
            }
            "instance" => {
                let mut fields = value.splitn(5, '\t').map(str::to_string);
                let name = fields.next().ok_or_else(bad)?;
                let instance = Instance {
                    state: fields.next().unwrap_or_default(),
                    restarts: fields.next().and_then(|text| text.parse().ok()).unwrap_or(0),
                    memory: fields
                        .next()
                        .and_then(|text| text.parse().ok())
                        .filter(|bytes| *bytes != u64::MAX),
                    since: fields.next().unwrap_or_default(),
                };
                app.active.insert(name, instance);
            }
            _ => return Err(bad()),
        }
    }
    Ok(app)
}

/// The number of steps, and the last one's id and title, as a place among them.
fn step(of: Option<&str>, step: Option<&str>) -> Option<(u32, u32, String)> {
    let (id, title) = step?.split_once(' ')?;
    Some((id.parse().ok()?, of?.parse().ok()?, title.into()))
}

/// `v12` to 12.
pub fn release_number(name: &str) -> Option<u32> {
    name.strip_prefix('v')?.parse().ok()
}

fn parse_build(builds: &mut BTreeMap<u32, Build>, value: &str) -> Option<()> {
    let (path, content) = value.split_once(':')?;
    let (release, stamp) = path.split_once('/')?;
    let build = builds.entry(release_number(release)?).or_default();
    match stamp {
        "tree" => build.tree = Some(content.into()),
        "venv" => build.venv = Some(content.into()),
        "recipe" => build.recipe = Some(content.into()),
        "https" => build.https = content == "on",
        "answer.json" => build.answer = Some(content.into()),
        "settings.json" => build.settings = Some(content.into()),
        "record" => build.record = serde_json::from_str(content).ok(),
        "failed" => {
            let mut fields = content.splitn(3, '\t');
            build.failed = Some(Failed {
                bad: fields.next() == Some("bad"),
                at: fields.next().unwrap_or_default().into(),
                reason: fields.next().unwrap_or_default().into(),
            });
        }
        "applied" => build.applied.push(content.into()),
        "partly" => build.partly = Some(content.into()),
        "config" => {
            let (digest, name) = content.split_once("  ")?;
            build.config.insert(name.into(), digest.into());
        }
        _ => return None,
    }
    Some(())
}

fn parse_dump(builds: &mut BTreeMap<u32, Build>, value: &str) -> Option<()> {
    let mut fields = value.split('\t');
    let number = release_number(fields.next()?)?;
    let bytes = fields.next()?.parse().ok()?;
    let at = fields.next()?.into();
    // A dump that outlived its release is nothing to go back to.
    builds.get_mut(&number)?.dump = Some(Dump { bytes, at });
    Some(())
}

fn unpack(encoded: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_each_release_is_read() {
        let app = parse(
            "build\tv2/tree:abc\n\
             build\tv2/record:{\"number\":2,\"at\":\"t\",\"who\":\"me@laptop\",\"dirty\":true,\"what\":\"code\"}\n\
             build\tv2/failed:bad\t2026-01-02T03:04:05Z\tswitch: GET / answered 500\n\
             build\tv3/failed:failed\t2026-01-02T03:04:06Z\tpreflight: a: b\n\
             build\tv4/failed:\n",
        )
        .unwrap();
        let failed = |number: u32| app.builds[&number].failed.clone().unwrap();
        assert_eq!((failed(2).bad, failed(2).reason.as_str()), (true, "switch: GET / answered 500"));
        assert_eq!(app.builds[&2].record.as_ref().unwrap().who, "me@laptop");
        assert_eq!((failed(3).bad, failed(3).at.as_str()), (false, "2026-01-02T03:04:06Z"));
        assert_eq!(failed(3).reason, "preflight: a: b");
        // Torn by a power loss.
        assert_eq!(failed(4), Failed { bad: false, at: String::new(), reason: String::new() });
    }
}
