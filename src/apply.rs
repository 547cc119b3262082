//! A plan as the bundle that the server runs: one script a change, in order, with the files they put in place.
//!
//! Invariant: pure. The bundle travels over stdin into a folder that only root can read.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Action, Change, FileWrite, Plan, Step};
use crate::resources::file::sha256;
use crate::shell::{Cmd, Script, Stretch};

/// The steps of an apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// One step a change, in order.
    pub steps: Vec<BundleStep>,
    /// Files the steps use, by name.
    pub data: Vec<(String, Vec<u8>)>,
    /// Units that the plan starts, restarts or reloads.
    pub units: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleStep {
    /// Its file name, which sorts in order.
    pub id: String,
    /// What the user sees while it runs.
    pub title: String,
    /// What runs, as root with `sh -eu`, in the apply's folder.
    pub script: Script,
}

/// Turns a plan into the bundle that runs it.
pub fn bundle(plan: &Plan) -> Bundle {
    let mut data = Vec::new();
    let steps = plan
        .changes
        .iter()
        .enumerate()
        .map(|(index, change)| BundleStep {
            id: format!("{:04}", index + 1),
            title: change.title(),
            script: script(change, &mut data),
        })
        .collect();
    let acts = |action| matches!(action, Action::Start | Action::Restart | Action::Reload);
    let units = plan.changes.iter().filter(|change| change.id.kind == "unit" && acts(change.action));
    let units = units.map(|change| change.id.name.clone()).collect();
    Bundle { steps, data, units }
}

/// Begins a line that stands for what the server keeps; the rest of it is its name.
const KEPT: char = '\u{1f}';

/// Parts of ship shorter than this are sent each time.
const WORTH_KEEPING: usize = 400;

/// The steps as files. Parts of ship that are in them are files of their own, named by their content, which the server keeps
/// and which are left out if it has them: they are most of what a release takes. Without `kept`, each step is whole.
pub fn step_files(bundle: &Bundle, kept: Option<&BTreeSet<String>>) -> Vec<(String, Vec<u8>)> {
    let mut parts = BTreeMap::new();
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for step in &bundle.steps {
        let whole = step.script.text();
        let sent = match kept {
            // What a configuration says may look like the name of a part.
            Some(kept) if !whole.contains(KEPT) => {
                let stretches = step.script.stretches().into_iter();
                stretches.map(|stretch| stand_in(stretch, kept, &mut parts)).collect()
            }
            _ => whole.to_string(),
        };
        files.push((format!("steps/{}", step.id), sent.into_bytes()));
    }
    files.extend(parts);
    files
}

/// What is sent of a step in place of a stretch of it: its name where the server keeps it, with its text in `parts` if it
/// doesn't have it yet.
fn stand_in(stretch: Stretch<'_>, kept: &BTreeSet<String>, parts: &mut BTreeMap<String, Vec<u8>>) -> String {
    match stretch {
        Stretch::Fixed(text) if text.len() >= WORTH_KEEPING => {
            let name: String = sha256(text.as_bytes()).chars().take(16).collect();
            if !kept.contains(&name) {
                parts.insert(format!("parts/{name}"), text.as_bytes().to_vec());
            }
            format!("{KEPT}{name}\n")
        }
        Stretch::Fixed(text) | Stretch::Own(text) => text.to_string(),
    }
}

fn script(change: &Change, data: &mut Vec<(String, Vec<u8>)>) -> Script {
    change.steps.iter().fold(Script::new(), |script, step| match step {
        Step::Run(run) => script.then(run),
        Step::Write(write) => {
            let name = format!("{:04}", data.len() + 1);
            let script = script.then(&write_script(write, &format!("data/{name}")));
            data.push((name, write.content.clone()));
            script
        }
    })
}

/// Where an apply keeps what a file held before it, in its own folder.
fn backup(path: &str) -> String {
    format!("before{path}")
}

/// Takes back what an earlier step of the same apply did to a file.
pub fn restore_script(path: &str) -> Script {
    let (kept, path) = (crate::shell::quote(&backup(path)), crate::shell::quote(path));
    Script::new().line(&format!("if [ -e {kept} ]; then mv -fT -- {kept} {path}; else rm -f -- {path}; fi"))
}

/// Puts a file in place by a rename, so that nobody ever reads half of it.
fn write_script(write: &FileWrite, source: &str) -> Script {
    let temporary = format!("{}.ship-new", write.path);
    let folder =
        write.path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    let kept = Cmd::new("cp").arg("-aT").arg("--").arg(&write.path).arg(backup(&write.path));
    Script::new()
        .cmd(Cmd::new("mkdir").arg("-p").arg("--").arg(folder).arg(backup(folder)))
        .line(&format!("[ ! -e {} ] || {}", crate::shell::quote(&write.path), kept.text()))
        .cmd(
            Cmd::new("install")
                .arg("-o")
                .arg(&write.owner)
                .arg("-g")
                .arg(&write.group)
                .arg("-m")
                .arg(&write.mode)
                .arg("--")
                .arg(source)
                .arg(&temporary),
        )
        .cmd(Cmd::new("mv").arg("-fT").arg("--").arg(&temporary).arg(&write.path))
}

/// Names of an apply on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The application.
    pub app: String,
    /// The apply's id, unique.
    pub id: String,
    /// The generation that the plan was made for.
    pub generation: u64,
    /// `user@host` of who applies.
    pub who: String,
    /// Size of the bundle in bytes, which comes first on stdin.
    pub bundle_bytes: usize,
    /// Whether an upload follows on stdin.
    pub upload: bool,
    /// What asks for the outcome in the same session, if every step succeeds.
    pub look: Option<Script>,
}

/// Receives the bundle, starts it as a transient unit, receives the upload, and follows the journal.
pub fn launch_script(launch: &Launch) -> Script {
    let script = Script::from_text("set -eu\numask 077\nexport LC_ALL=C.UTF-8")
        .set("app", &launch.app)
        .set("id", &launch.id)
        .set("who", &launch.who)
        .set("generation", launch.generation.to_string())
        .line("applies=/var/lib/ship/$app/apply")
        .line("apply=$applies/$id")
        .line("install -d -m 0755 /var/lib/ship \"/var/lib/ship/$app\"")
        .line("install -d -m 0700 \"$applies\"")
        // Two that begin at once must not take each other's steps for what a power loss left behind.
        .line("exec 8>>\"/run/ship-$app.launch\"")
        .line("flock -w 60 8 || true")
        // The journals of the last twenty applies are kept for whoever asks what happened. One that runs is needed.
        .line("ls -1t \"$applies\" | tail -n +21 | while IFS= read -r old; do")
        .line("  systemctl is-active --quiet \"ship-$app-$old.service\" || rm -rf \"$applies/$old\"")
        .line("done")
        // What a power loss left behind: steps and files, secrets among them.
        .line("for old in \"$applies\"/*/; do")
        .line("  [ -d \"$old/steps\" ] || continue")
        .line("  systemctl is-active --quiet \"ship-$app-$(basename \"$old\").service\" ||")
        .line("    ( cd \"$old\" && rm -rf steps data parts before upload upload.part upload.failed )")
        .line("done")
        .line("mkdir \"$apply\"")
        .line(&format!("head -c {} | tar -xmzf - -C \"$apply\" --no-same-owner", launch.bundle_bytes))
        .line(": >\"$apply/journal\"")
        .line(
            "systemd-run --quiet --collect --unit=\"ship-$app-$id\" --description=\"ship: changing $app\" \
             --property=KillMode=control-group --property=TimeoutStopSec=90 --property=OOMScoreAdjust=-500 --property=Nice=5 \
             /bin/bash \"$apply/run\" \"$apply\" \"$generation\" \"$who\" </dev/null",
        )
        .line("exec 8>&-");
    let script = script.then(&follow(&launch.id, 0));
    let script = if launch.upload {
        script
            // Without its part, a full disk may have room to say so.
            .line("if why=$(cat 2>&1 >\"$apply/upload.part\"); then mv \"$apply/upload.part\" \"$apply/upload\"")
            .line("else rm -f \"$apply/upload.part\"; printf '%s\\n' \"$why\" >\"$apply/upload.failed\" || true; fi")
            .line("wait")
    } else {
        script.line("wait")
    };
    match &launch.look {
        Some(look) => script
            .line("case $(tail -n 1 \"$apply/journal\") in *'\tend 0') ;; *) exit 0 ;; esac")
            .line(&format!("printf '\\036{LOOK}\\n'"))
            .line("set +eu")
            .then(look),
        None => script,
    }
}

/// What comes after this word in a line of its own is no journal, but what the look at the outcome printed.
const LOOK: &str = "look";

/// Asks an apply to end after its current step. It may not have begun yet.
pub fn stop_script(app: &str, id: &str) -> Script {
    Script::from_text("set -eu").set("apply", format!("/var/lib/ship/{app}/apply/{id}")).line(
        r#"for _ in $(seq 100); do
  if [ -e "$apply/journal" ]; then : >"$apply/stop"; exit; fi
  sleep 0.1
done
exit 1"#,
    )
}

/// Follows the journal of an apply that runs already, from a byte on.
pub fn attach_script(app: &str, id: &str, from_byte: u64) -> Script {
    Script::from_text("set -eu\nexport LC_ALL=C.UTF-8")
        .set("apply", format!("/var/lib/ship/{app}/apply/{id}"))
        .set("app", app)
        .line("cd \"$apply\"")
        .then(&follow(id, from_byte))
        .line("wait")
}

/// Where a release's step puts what is to be thrown away: removing many files takes its time. apply.sh knows it, too.
pub fn trash(app: &str) -> String {
    format!("/srv/{app}/releases/.gone")
}

/// Prints the journal as it grows until its steps are done.
fn follow(id: &str, from_byte: u64) -> Script {
    Script::new()
        .set("unit", id)
        .line("main=$(systemctl show -p MainPID --value \"ship-$app-$unit.service\")")
        .line("[ \"${main:-0}\" != 0 ] || main=1999999999")
        // The steps are run by a child of the unit's main process, which then removes what is left of old releases. It may
        // be too early to see it.
        .line("read -r pid _ 2>/dev/null <\"/proc/$main/task/$main/children\" || true")
        .line("pid=${pid:-$main}")
        .line(&format!(
            "tail -s 0.02 -c +{} -f --pid=\"$pid\" -- \"$apply/journal\" </dev/null &",
            from_byte + 1
        ))
}

/// What an apply says while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The lock is held and the steps begin.
    Begin,
    /// A step starts, at milliseconds since 1970 by the server's clock.
    Start {
        /// Its id.
        step: String,
        /// What the user who planned it saw.
        title: String,
        /// When.
        at_ms: u64,
    },
    /// A line that the current step printed.
    Output(String),
    /// A step ended.
    Done {
        /// Its id.
        step: String,
        /// Its exit code.
        code: i32,
        /// Whether it says that it found nothing to do.
        idle: bool,
        /// When.
        at_ms: u64,
    },
    /// Everything ended.
    End(End),
}

/// How an apply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every step succeeded, or one failed with this exit code.
    Code(i32),
    /// Another apply holds the lock.
    Busy,
    /// Another apply ran since the plan was made.
    Stale,
    /// Between two steps, since someone asked for it.
    Stopped,
}

/// Reads the journal as it arrives, in pieces of any size.
#[derive(Debug, Default)]
pub struct JournalReader {
    pending: Vec<u8>,
    bytes: u64,
    look: Option<Vec<u8>>,
}

/// The list of an apply's steps, as its runner reads it: id and title.
pub fn order(bundle: &Bundle) -> String {
    let title = |step: &BundleStep| step.title.split_whitespace().collect::<Vec<_>>().join(" ");
    bundle.steps.iter().map(|step| format!("{} {}\n", step.id, title(step))).collect()
}

impl JournalReader {
    /// Bytes of complete lines read so far: where to attach again.
    pub fn position(&self) -> u64 {
        self.bytes
    }

    /// What a [`Launch::look`] printed, if it began.
    pub fn look(&self) -> Option<&[u8]> {
        self.look.as_deref()
    }

    /// Takes a piece; returns the events that it completes.
    pub fn push(&mut self, piece: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(look) = &mut self.look {
            look.extend_from_slice(piece);
            return events;
        }
        self.pending.extend_from_slice(piece);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let text = line.trim_end_matches(['\n', '\r']);
            if text.strip_prefix('\u{1e}') == Some(LOOK) {
                self.look = Some(std::mem::take(&mut self.pending));
                break;
            }
            self.bytes += line.len() as u64;
            events.push(event(text));
        }
        events
    }
}

fn event(line: &str) -> Event {
    let said = line.strip_prefix('\u{1e}').and_then(|rest| {
        let (at, what) = rest.split_once('\t')?;
        let at_ms = at.parse().ok()?;
        let words: Vec<&str> = what.split(' ').collect();
        match words.as_slice() {
            ["begin", _] => Some(Event::Begin),
            ["start", step, title @ ..] => {
                Some(Event::Start { step: (*step).into(), title: title.join(" "), at_ms })
            }
            ["done", step, code, rest @ ..] => {
                let idle = rest.contains(&"idle");
                Some(Event::Done { step: (*step).into(), code: code.parse().ok()?, idle, at_ms })
            }
            ["end", "busy"] => Some(Event::End(End::Busy)),
            ["end", "stale"] => Some(Event::End(End::Stale)),
            ["end", "stopped"] => Some(Event::End(End::Stopped)),
            ["end", code] => Some(Event::End(End::Code(code.parse().ok()?))),
            _ => None,
        }
    });
    said.unwrap_or_else(|| Event::Output(line.to_string()))
}

/// The line of a failed step's output that names the cause, if it is one of the kinds that a deploy meets:
/// a Python exception, nginx's complaint, the error of apt, uv or pip.
pub fn cause(lines: &[String]) -> Option<String> {
    let exception = || {
        let (_, after) =
            lines.split_at(lines.iter().rposition(|line| line.starts_with("Traceback (most recent"))?);
        after.iter().skip(1).find(|line| line.starts_with(|first: char| !first.is_whitespace())).cloned()
    };
    let nginx = || {
        let (_, said) = lines.iter().find_map(|line| line.split_once("[emerg] "))?;
        Some(said.split_once(": ").map_or(said, |(_, what)| what).to_string())
    };
    let tool = || {
        let tags = ["error: ", "ERROR: ", "E: "];
        let said = |line: &String| tags.iter().find_map(|tag| line.strip_prefix(tag)).map(str::to_string);
        let (index, said) = lines.iter().enumerate().find_map(|(index, line)| Some((index, said(line)?)))?;
        // uv names the reason on a line of its own.
        let because = lines.get(index + 1).and_then(|line| line.trim_start().strip_prefix("cause: "));
        Some(because.map_or_else(|| said.clone(), |because| format!("{said}: {because}")))
    };
    let full = || {
        let full = lines.iter().any(|line| line.contains("No space left on device"));
        full.then(|| "the server's disk is full".to_string())
    };
    full()
        .or_else(exception)
        .or_else(nginx)
        .or_else(tool)
        .map(|line| line.trim().to_string())
        .filter(|line| !line.is_empty())
}

/// A step's script that waits for the upload, for the release that needs it.
pub fn wait_for_upload() -> Script {
    Script::from_text(
        r#"seen=- changed=0
until [ -e upload ]; do
  if [ -e upload.failed ]; then
    echo "the upload failed: $(cat upload.failed)"
    exit 74
  fi
  if [ -e stop ]; then exit 77; fi
  # By the time since boot, which never leaps.
  read -r now _ </proc/uptime
  now=${now%.*}
  size=$(stat -c %s upload.part 2>/dev/null || true)
  if [ "$size" != "$seen" ]; then seen=$size changed=$now; fi
  if [ $((now - changed)) -gt 30 ]; then
    echo 'the upload stopped half-way: the connection to the laptop is gone'
    exit 74
  fi
  sleep 0.05
done
"#,
    )
}

/// A heredoc with a quoted delimiter that doesn't occur in the text.
pub fn heredoc(command: &str, text: impl Into<Script>) -> Script {
    let text = text.into();
    let mut delimiter = String::from("SHIP_END");
    while text.text().lines().any(|line| line == delimiter) {
        delimiter.push('_');
    }
    // An empty text is an empty line, too.
    let text = if text.is_empty() { text.line("") } else { text };
    Script::new().line(&format!("{command} <<'{delimiter}'")).then(&text).line(&delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, ResourceId};

    const LONG: &str = concat!(
        "# A part of ship that is long enough for a server to keep it, so that it is sent once and not with every release.\n",
        "# A part of ship that is long enough for a server to keep it, so that it is sent once and not with every release.\n",
        "# A part of ship that is long enough for a server to keep it, so that it is sent once and not with every release.\n",
        "# A part of ship that is long enough for a server to keep it, so that it is sent once and not with every release.\n",
        "true\n",
    );

    fn sent(script: Script, kept: Option<&[&str]>) -> Vec<(String, String)> {
        let step = BundleStep { id: "0001".into(), title: String::new(), script };
        let bundle = Bundle { steps: vec![step], data: Vec::new(), units: Vec::new() };
        let kept: Option<BTreeSet<String>> =
            kept.map(|names| names.iter().map(ToString::to_string).collect());
        let files = step_files(&bundle, kept.as_ref()).into_iter();
        files.map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap())).collect()
    }

    #[test]
    fn what_a_server_keeps_is_sent_once() {
        let script = Script::new()
            .set("n", "v7")
            .then(&heredoc("cat >program", LONG))
            .then(&Script::fixed("short"))
            .line("true");
        let name: String = sha256(LONG.as_bytes()).chars().take(16).collect();
        let step = format!("n=v7\ncat >program <<'SHIP_END'\n\u{1f}{name}\nSHIP_END\nshort\ntrue\n");
        let first = sent(script.clone(), Some(&[]));
        assert_eq!(first, [("steps/0001".into(), step.clone()), (format!("parts/{name}"), LONG.to_string())]);
        assert_eq!(sent(script.clone(), Some(&[&name])), [("steps/0001".into(), step)]);
        assert_eq!(sent(script.clone(), None), [("steps/0001".into(), script.text().to_string())]);
    }

    #[test]
    fn what_a_configuration_says_is_never_kept() {
        let value = format!("{LONG}\u{1f}0123456789abcdef\n");
        let script = Script::new().set("value", &value).then(&LONG.into());
        assert_eq!(sent(script.clone(), Some(&[])), [("steps/0001".into(), script.text().to_string())]);
        let script = heredoc("cat", LONG.to_string());
        assert_eq!(sent(script.clone(), Some(&[])), [("steps/0001".into(), script.text().to_string())]);
    }

    #[test]
    fn a_file_is_put_in_place_by_a_rename() {
        let write = FileWrite {
            path: "/etc/a b/$c".into(),
            content: b"x".to_vec(),
            owner: "root".into(),
            group: "app".into(),
            mode: "0640".into(),
            secret: true,
        };
        let change =
            Change::new(ResourceId::new("file", "/etc/a b/$c"), Action::Create, "", vec![Step::Write(write)]);
        let bundle = bundle(&Plan { changes: vec![change] });
        insta::assert_debug_snapshot!(bundle.steps[0].script, @r"
        mkdir -p -- '/etc/a b' 'before/etc/a b'
        [ ! -e '/etc/a b/$c' ] || cp -aT -- '/etc/a b/$c' 'before/etc/a b/$c'
        install -o root -g app -m 0640 -- data/0001 '/etc/a b/$c.ship-new'
        mv -fT -- '/etc/a b/$c.ship-new' '/etc/a b/$c'
        ");
        assert_eq!(bundle.data, [("0001".to_string(), b"x".to_vec())]);
    }

    #[test]
    fn the_journal_is_read_in_pieces() {
        let text = "\u{1e}5\tbegin 7\n\u{1e}6\tstart 0001 install x  y\nhello\n\u{1e}9\tdone 0001 3\n\u{1e}9\tend 3\n";
        let mut reader = JournalReader::default();
        let mut events = Vec::new();
        for byte in text.as_bytes() {
            events.extend(reader.push(&[*byte]));
        }
        assert_eq!(
            events,
            [
                Event::Begin,
                Event::Start { step: "0001".into(), title: "install x  y".into(), at_ms: 6 },
                Event::Output("hello".into()),
                Event::Done { step: "0001".into(), code: 3, idle: false, at_ms: 9 },
                Event::End(End::Code(3)),
            ]
        );
        assert_eq!(reader.position(), text.len() as u64);
        assert_eq!(reader.look(), None);
    }

    #[test]
    fn a_look_at_the_outcome_follows_the_journal() {
        let journal = b"\x1e9\tend 0\n";
        let all = [journal.as_slice(), b"\x1elook\n\x1f\x8b\n\x1e9\tend 3\n\0"].concat();
        for size in 1..all.len() {
            let mut reader = JournalReader::default();
            let events: Vec<Event> = all.chunks(size).flat_map(|piece| reader.push(piece)).collect();
            assert_eq!(events, [Event::End(End::Code(0))]);
            assert_eq!(reader.look(), Some(b"\x1f\x8b\n\x1e9\tend 3\n\0".as_slice()));
            assert_eq!(reader.position(), journal.len() as u64);
        }
    }

    #[test]
    fn the_cause_is_found() {
        let check = |text: &str| cause(&text.lines().map(str::to_string).collect::<Vec<_>>());
        let chained = "Traceback (most recent call last):\n  File x\nKeyError: 'a'\n\nDuring handling of:\n\n\
                       Traceback (most recent call last):\n  File y\ndjango.X: no\n\tmore\n[INFO] Worker exiting";
        assert_eq!(check(chained).as_deref(), Some("django.X: no"));
        let nginx =
            "2026/01/02 03:04:05 [emerg] 7#7: unknown directive \"x\" in /etc/nginx/a:3\nnginx: test failed";
        assert_eq!(check(nginx).as_deref(), Some("unknown directive \"x\" in /etc/nginx/a:3"));
        assert_eq!(
            check("Reading…\nE: Unable to locate package x").as_deref(),
            Some("Unable to locate package x")
        );
        assert_eq!(
            check("error: No solution found\n  cause: Because you require a<5 and a==5").as_deref(),
            Some("No solution found: Because you require a<5 and a==5")
        );
        assert_eq!(
            check("E: x\ncat: write error: No space left on device").as_deref(),
            Some("the server's disk is full")
        );
        assert_eq!(check("what\never"), None);
    }

    #[test]
    fn a_heredoc_never_ends_early() {
        let script = heredoc("cat", "a\nSHIP_END\n$HOME `id`");
        let out = std::process::Command::new("sh").arg("-c").arg(script.text()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "a\nSHIP_END\n$HOME `id`\n");
    }
}
