//! `ship logs`: the journal of the site's units and the files of nginx and PostgreSQL, as one stream in the order of time.
//!
//! A program on the server merges; this side remembers the place after every line that was shown, so that a lost
//! connection is taken up where it broke: no line is missed, none is shown twice.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::cli::Logs;
use crate::config::Config;
use crate::error::Failure;
use crate::facts::app::release_number;
use crate::process::services::Service;
use crate::shell::Script;
use crate::transport::{Exec, Flow, Session, Stdin, Stream, TransportError};
use crate::ui::Ui;

use super::Workspace;

/// The program that reads the logs on the server.
const READER: &str = include_str!("../../templates/operate/logs.py");

/// How many lines are shown unless said otherwise.
const USUAL_LINES: u32 = 100;

/// How often the server is told that somebody still reads, and how long it believes it.
const SIGN: Duration = Duration::from_secs(10);
const IDLE_S: u64 = 45;

/// How long is waited before the line is taken up again.
const RETRY: Duration = Duration::from_secs(1);

/// How the reader says that its input is wrong.
const BAD_INPUT: i32 = 65;

/// Prints or follows.
pub async fn run(workspace: Workspace, args: &Logs, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let mut wanted = Wanted::new(&workspace.config, args)?;
    let mut view = View::new(&wanted, ui);
    let mut session = workspace.connect(false, ui).await?.0;
    ui.idle();
    loop {
        let ended = read(&session, &wanted, &mut view).await;
        wanted.places.clone_from(&view.places);
        match ended {
            Ok(End::Done) => break,
            Err(TransportError::Lost { .. }) if args.follow && !view.closed => {
                session = again(&workspace, ui).await?;
            }
            Ok(End::Refused(status)) => return Err(view.refusal(status)),
            Err(error) => return Err(error.into()),
        }
    }
    session.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Connects once more, as often as it takes.
async fn again(workspace: &Workspace, ui: &Arc<Ui>) -> Result<Session, Failure> {
    ui.warn("the connection is lost; taking the logs up again as soon as the server can be reached");
    loop {
        match workspace.connect(false, ui).await {
            Ok((session, _)) => {
                ui.idle();
                return Ok(session);
            }
            Err(failure) if failure.may_pass => {
                ui.idle();
                tokio::time::sleep(RETRY).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

enum End {
    Done,
    Refused(i32),
}

async fn read(session: &Session, wanted: &Wanted, view: &mut View) -> Result<End, TransportError> {
    // Its stdin is for what is wanted, so the program comes another way.
    let script = Script::from_text(format!("exec python3 -I /dev/fd/3 3<<'SHIP_LOGS'\n{READER}\nSHIP_LOGS"));
    let (mut near, mut far) = tokio::io::duplex(64 * 1024);
    let mut first = serde_json::to_vec(wanted).unwrap_or_default();
    first.push(b'\n');
    let signs = async move {
        let mut sent = near.write_all(&first).await;
        while sent.is_ok() {
            tokio::time::sleep(SIGN).await;
            sent = near.write_all(b".").await;
        }
        std::future::pending::<()>().await;
    };
    view.rest.clear();
    let mut on_output = |stream: Stream, piece: &[u8]| view.take(stream, piece);
    let exec = Exec::as_root(&script).stdin(Stdin::Stream(&mut far));
    let status = tokio::select! {
        status = session.stream(exec, &mut on_output) => status?,
        () = signs => None,
    };
    Ok(match status {
        None | Some(0) => End::Done,
        Some(status) => End::Refused(status),
    })
}

/// What the reader on the server is asked for.
#[derive(Debug, Serialize)]
struct Wanted {
    app: String,
    /// Whose lines are shown.
    processes: Vec<String>,
    /// What the journal is asked for; `None` if nothing.
    units: Option<Units>,
    files: Vec<LogFile>,
    lines: Option<u32>,
    since: Option<String>,
    follow: bool,
    grep: Option<String>,
    release: Option<String>,
    idle_s: u64,
    /// Where each source was left.
    places: BTreeMap<String, serde_json::Value>,
}

/// The units of a site, by how the journal finds them whatever release they are of.
#[derive(Debug, Serialize)]
struct Units {
    templates: Vec<String>,
    plain: Vec<String>,
    identifiers: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LogFile {
    process: &'static str,
    kind: &'static str,
    path: String,
}

impl Wanted {
    fn new(config: &Config, args: &Logs) -> Result<Self, Failure> {
        let app = &config.app;
        let mut known: Vec<String> = vec!["web".into()];
        known.extend(config.workers.keys().cloned());
        known.extend(config.jobs.keys().cloned());
        known.push("run".into());
        let mut files = vec![
            LogFile { process: "nginx", kind: "access", path: format!("/var/log/nginx/{app}.access.log") },
            LogFile { process: "nginx", kind: "error", path: format!("/var/log/nginx/{app}.error.log") },
        ];
        if config.database == crate::config::Database::Postgres {
            let path = "/var/log/postgresql/postgresql-*-main.log".to_owned();
            files.push(LogFile { process: "postgres", kind: "postgres", path });
        }
        if config.services.contains_key(&Service::Redis) {
            let path = "/var/log/redis/redis-server.log".to_owned();
            files.push(LogFile { process: "redis", kind: "redis", path });
        }
        known.extend(files.iter().map(|file| file.process.to_owned()));
        known.dedup();
        let mut processes = Vec::new();
        for name in args.process.iter().flat_map(|names| names.split(',')) {
            // A process stands for its replicas, too.
            let replicas = config.workers.iter().filter(|(_, worker)| worker.process == name);
            let before = processes.len();
            processes.extend(replicas.map(|(own, _)| own.clone()));
            if known.iter().any(|other| other == name) {
                processes.push(name.to_owned());
            }
            if processes.len() == before {
                return Err(Failure::input(format!("there is no process `{name}`"))
                    .hint(format!("there are {}", known.join(", "))));
            }
        }
        if processes.is_empty() {
            processes = known;
        }
        files.retain(|file| processes.iter().any(|name| name == file.process));
        let release = match &args.release {
            None => None,
            Some(name) => {
                let number = release_number(name).or_else(|| name.parse().ok());
                let number = number.ok_or_else(|| {
                    Failure::input(format!("`{name}` is not a release")).hint("they are called v1, v2 …")
                })?;
                // nginx and PostgreSQL know nothing of releases.
                files.clear();
                Some(format!("v{number}"))
            }
        };
        let units = Units::of(config, &processes);
        Ok(Self {
            app: app.clone(),
            units: (!units.is_empty()).then_some(units),
            processes,
            files,
            lines: args.lines.or_else(|| args.since.is_none().then_some(USUAL_LINES)),
            since: args.since.as_deref().map(ago).transpose()?,
            follow: args.follow,
            grep: args.grep.clone(),
            release,
            idle_s: IDLE_S,
            places: BTreeMap::new(),
        })
    }
}

impl Units {
    fn of(config: &Config, processes: &[String]) -> Self {
        let app = &config.app;
        let wanted = |name: &&String| processes.contains(name);
        let web = processes.iter().any(|name| name == "web").then(|| app.clone());
        let workers = config.workers.keys().filter(wanted).map(|name| format!("{app}-{name}"));
        let run = processes.iter().any(|name| name == "run");
        Self {
            templates: web.into_iter().chain(workers).collect(),
            plain: config.jobs.keys().filter(wanted).map(|name| format!("{app}-job-{name}")).collect(),
            identifiers: run.then(|| super::run::identifier(app)).into_iter().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.templates.is_empty() && self.plain.is_empty() && self.identifiers.is_empty()
    }
}

/// `10m`, `2h`, `3d` as `date` takes it; anything else as it stands, for the server's `date` to judge.
fn ago(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        _ if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) => return Ok(text.to_owned()),
        "s" => "seconds",
        "m" | "min" => "minutes",
        "h" => "hours",
        "d" => "days",
        "w" => "weeks",
        "" => return Ok(text.to_owned()),
        // To `date`, a letter is a time zone.
        _ => {
            return Err(Failure::input(format!("`{text}` is no time"))
                .hint("such as `10m`, `1h`, `2d`, `1 hour ago`, `yesterday`, `2026-01-31 12:00`"));
        }
    };
    Ok(format!("{digits} {unit} ago"))
}

/// A line of the reader.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "t")]
    at: Option<i64>,
    #[serde(rename = "p", default)]
    process: Option<String>,
    #[serde(rename = "r", default)]
    release: Option<String>,
    #[serde(rename = "m", default)]
    message: String,
    #[serde(rename = "l", default)]
    level: String,
    #[serde(rename = "s", default)]
    source: String,
    #[serde(rename = "c", default)]
    place: serde_json::Value,
    #[serde(default)]
    error: Option<String>,
}

/// What is shown, and how far each source has come by it.
struct View {
    places: BTreeMap<String, serde_json::Value>,
    rest: Vec<u8>,
    said: String,
    refused: Option<String>,
    closed: bool,
    processes: Vec<String>,
    width: usize,
    ui: Arc<Ui>,
}

impl View {
    fn new(wanted: &Wanted, ui: &Arc<Ui>) -> Self {
        Self {
            places: BTreeMap::new(),
            rest: Vec::new(),
            said: String::new(),
            refused: None,
            closed: false,
            processes: wanted.processes.clone(),
            width: wanted.processes.iter().map(String::len).max().unwrap_or(0),
            ui: Arc::clone(ui),
        }
    }

    fn take(&mut self, stream: Stream, piece: &[u8]) -> Flow {
        if stream == Stream::Err {
            self.said.push_str(&String::from_utf8_lossy(piece));
            return Flow::Continue;
        }
        self.rest.extend_from_slice(piece);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Flow::Continue };
        let rest = self.rest.split_off(end + 1);
        let complete = std::mem::replace(&mut self.rest, rest);
        let mut text = String::new();
        for line in complete.split(|byte| *byte == b'\n') {
            let Ok(record) = serde_json::from_slice::<Record>(line) else { continue };
            if record.error.is_some() {
                self.refused = record.error;
                continue;
            }
            if !record.place.is_null() {
                self.places.insert(record.source.clone(), record.place.clone());
            }
            if let (Some(at), Some(process)) = (record.at, &record.process) {
                text.push_str(&self.line(at, process, &record));
                text.push('\n');
            }
        }
        // A closed pipe is the reader's choice.
        self.closed = !self.ui.pass_on(text.as_bytes());
        if self.closed { Flow::Stop } else { Flow::Continue }
    }

    fn line(&self, at: i64, process: &str, record: &Record) -> String {
        let time = jiff::Timestamp::from_microsecond(at).unwrap_or_default();
        if self.ui.is_json() {
            let value = json!({
                "event": "log",
                // Always as long, so that texts sort as times do.
                "at": time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
                "process": process,
                "release": record.release,
                "message": record.message,
            });
            return value.to_string();
        }
        let release = record.release.as_deref().unwrap_or("");
        let name = format!("{process:<width$} {release:<4}", width = self.width);
        let message = match record.level.as_str() {
            "system" => self.ui.out_paint("2", &record.message),
            "0" | "1" | "2" | "3" => self.ui.out_paint("31", &record.message),
            _ => record.message.clone(),
        };
        let time = time.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string();
        format!(
            "{} {} {message}",
            self.ui.out_paint("2", &time),
            self.ui.out_paint(self.color(process), &name)
        )
    }

    /// A process has the same colour in every run.
    fn color(&self, process: &str) -> &'static str {
        match process {
            "web" => "36",
            "nginx" => "32",
            "postgres" => "34",
            _ => match self.processes.iter().position(|name| name == process).unwrap_or(0) % 4 {
                0 => "35",
                1 => "33",
                2 => "95",
                _ => "93",
            },
        }
    }

    fn refusal(&mut self, status: i32) -> Failure {
        match self.refused.take() {
            Some(why) if status == BAD_INPUT => Failure::input(why),
            _ if status == 127 => Failure::failed("the server has no Python to read its logs with")
                .hint("`ship up` installs what the site needs"),
            _ => Failure::failed("the logs can't be read").detail(std::mem::take(&mut self.said)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_shortly() {
        for (text, expected) in [
            ("10m", "10 minutes ago"),
            ("2h", "2 hours ago"),
            ("1d", "1 days ago"),
            ("yesterday", "yesterday"),
            ("2026-01-31 12:00", "2026-01-31 12:00"),
            ("1 hour ago", "1 hour ago"),
            ("20261121", "20261121"),
            ("m", "m"),
        ] {
            assert_eq!(ago(text).unwrap(), expected);
        }
        assert!(ago("10x").is_err());
    }
}
