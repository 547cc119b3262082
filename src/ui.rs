//! What the user sees: live progress on a terminal, plain lines without one, or one JSON event a line.
//!
//! Progress goes to stderr, results to stdout. The renderers get the same events.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::error::{Exit, Failure};
use crate::human::{duration, wrapped};
use crate::interrupt::Interrupts;
use crate::plan::{Action, Line, LineKind, Plan};
use crate::shell::Secret;
use crate::table::{Table, Tone};
use crate::transport::{HostKey, Prompt};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Plain,
    Json,
}

/// The user's choices about output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// One JSON event a line on stdout.
    pub json: bool,
    /// Answer yes to every question that can be answered so.
    pub yes: bool,
    /// Show what the steps print.
    pub verbose: bool,
    /// No colours.
    pub no_color: bool,
}

/// The user's side of a run.
#[derive(Debug)]
pub struct Ui {
    mode: Mode,
    yes: bool,
    verbose: bool,
    color: bool,
    /// Whether results are coloured, too.
    out_color: bool,
    interactive: bool,
    started: Instant,
    bar: Mutex<Option<ProgressBar>>,
    interrupts: Interrupts,
}

impl Ui {
    /// Looks at the terminal once.
    pub fn new(options: Options) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let mode = match (options.json, terminal) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Live,
            (false, false) => Mode::Plain,
        };
        let no_color =
            options.no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            mode,
            yes: options.yes,
            verbose: options.verbose,
            color: terminal && !no_color,
            out_color: std::io::stdout().is_terminal() && !no_color,
            interactive: terminal && std::io::stdin().is_terminal() && !options.json,
            started: Instant::now(),
            bar: Mutex::new(None),
            interrupts: Interrupts::default(),
        }
    }

    /// What the user's Ctrl-C does now.
    pub fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// Whether questions can be asked.
    pub fn interactive(&self) -> bool {
        self.interactive
    }

    /// Whether the user wants to see everything.
    pub fn verbose(&self) -> bool {
        self.verbose
    }

    /// Whether events are JSON.
    pub fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// Whether to answer yes to every question.
    pub fn yes(&self) -> bool {
        self.yes
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    /// A piece of a result in a colour, where stdout shows colours: the parameter of the escape sequence, `31` for red.
    pub fn out_paint(&self, code: &str, text: &str) -> String {
        if self.out_color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    /// Prose for stdout, broken between words where it is a terminal.
    pub fn out_wrapped(&self, text: &str) -> String {
        match columns(std::io::stdout()).filter(|_| !self.is_json()) {
            Some(width) => wrapped(text, width),
            None => text.to_owned(),
        }
    }

    /// The same for stderr.
    fn err_wrapped(&self, text: &str) -> String {
        match columns(std::io::stderr()) {
            Some(width) => wrapped(text, width),
            None => text.to_owned(),
        }
    }

    /// A table as wide as the terminal that it is for.
    pub fn table(&self, table: &Table) -> String {
        let width = columns(std::io::stdout()).filter(|_| !self.is_json());
        let painted = |(tone, line): (Tone, String)| match tone {
            Tone::Plain => line,
            Tone::Good => self.out_paint("32", &line),
            Tone::Odd => self.out_paint("33", &line),
            Tone::Bad => self.out_paint("31", &line),
            Tone::Dim => self.out_paint("2", &line),
        };
        table.lines(width).into_iter().map(|line| painted(line) + "\n").collect()
    }

    /// Passes what a server says on to stdout as it is. Says whether anybody still reads it.
    pub fn pass_on(&self, bytes: &[u8]) -> bool {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    }

    /// Emphasis.
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Less important.
    pub fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Good.
    pub fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    /// To be looked at.
    pub fn yellow(&self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Bad.
    pub fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line on stderr, above whatever is in progress.
    fn err_line(&self, line: &str) {
        match &*self.bar() {
            Some(bar) => bar.suspend(|| write_err(line)),
            None => write_err(line),
        }
    }

    /// A JSON event on stdout.
    fn event(&self, value: &serde_json::Value) {
        write_out(&value.to_string());
    }

    /// Something worth knowing.
    pub fn note(&self, text: &str) {
        match self.mode {
            Mode::Json => self.event(&json!({"event": "note", "text": text})),
            Mode::Live | Mode::Plain => self.err_line(&self.err_wrapped(text)),
        }
    }

    /// Something worth a second look.
    pub fn warn(&self, text: &str) {
        match self.mode {
            Mode::Json => self.event(&json!({"event": "warning", "text": text})),
            Mode::Live | Mode::Plain => {
                self.err_line(&self.err_wrapped(&format!("{} {text}", self.yellow("warning:"))));
            }
        }
    }

    /// Shows that something goes on until the next call of anything.
    pub fn working(&self, text: &str) {
        match self.mode {
            Mode::Json => self.event(&json!({"event": "working", "text": text})),
            // Without a terminal nobody waits for a line that only says "wait".
            Mode::Plain if !self.verbose => {}
            Mode::Plain => self.err_line(text),
            Mode::Live => self.spin(text),
        }
    }

    fn spin(&self, text: &str) {
        let mut slot = self.bar();
        if let Some(old) = slot.take() {
            old.finish_and_clear();
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner:.cyan} {wide_msg} {elapsed:.dim}") {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        bar.set_message(text.to_string());
        bar.enable_steady_tick(Duration::from_millis(100));
        *slot = Some(bar);
    }

    /// Takes the spinner away.
    pub fn idle(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    /// A step of the apply begins.
    pub fn step_start(&self, title: &str) {
        match self.mode {
            Mode::Json => self.event(&json!({"event": "step", "state": "started", "step": title})),
            Mode::Live => self.spin(title),
            Mode::Plain => {}
        }
    }

    /// A step printed something.
    pub fn step_output(&self, line: &str) {
        match self.mode {
            Mode::Json if self.verbose => self.event(&json!({"event": "output", "text": line})),
            Mode::Live | Mode::Plain if self.verbose => self.err_line(&self.dim(&format!("      {line}"))),
            Mode::Live => {
                // The last line tells what a long step is at.
                if let (Some(bar), false) = (&*self.bar(), line.trim().is_empty()) {
                    let short: String = line.trim().chars().take(60).collect();
                    let message = bar.message();
                    let title = message.split("  · ").next().unwrap_or_default().to_string();
                    bar.set_message(format!("{title}  · {short}"));
                }
            }
            Mode::Json | Mode::Plain => {}
        }
    }

    /// A step ended that had nothing to do, which is no news, however long it took to know.
    pub fn step_idle(&self, title: &str, took: Duration) {
        match self.mode {
            Mode::Live | Mode::Plain if !self.verbose => self.idle(),
            _ => self.step_done(title, took, true),
        }
    }

    /// A step ended. What took no time is no news, unless the user wants to see everything.
    pub fn step_done(&self, title: &str, took: Duration, ok: bool) {
        match self.mode {
            Mode::Live | Mode::Plain if ok && !self.verbose && took < Duration::from_millis(50) => {
                self.idle()
            }
            Mode::Json => self.event(&json!({
                "event": "step",
                "state": if ok { "done" } else { "failed" },
                "step": title,
                "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
            })),
            Mode::Live | Mode::Plain => {
                self.idle();
                let mark = if ok { self.green("✓") } else { self.red("✗") };
                let title_width =
                    columns(std::io::stderr()).map_or(66, |width| width.saturating_sub(12).min(66));
                self.err_line(&format!(
                    "  {mark} {title:<title_width$} {}",
                    self.dim(&format!("{:>6}", duration(took)))
                ));
            }
        }
    }

    /// Does one step of this computer's own, shown from its start to its end.
    pub async fn step<T, E>(&self, title: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = Instant::now();
        self.step_start(title);
        let done = work.await;
        self.step_done(title, began.elapsed(), done.is_ok());
        done
    }

    /// Shows a plan before it is applied.
    pub fn plan(&self, plan: &Plan, diffs: bool) {
        self.idle();
        match self.mode {
            Mode::Json => self.event(&json!({"event": "plan", "plan": plan.to_json()})),
            Mode::Live | Mode::Plain => {
                let text = self.plan_lines(plan, diffs, |text| self.err_wrapped(text));
                self.err_line(text.trim_end());
            }
        }
    }

    /// Shows what a plan has beyond one that was shown before.
    pub fn plan_rest(&self, plan: &Plan, shown: &Plan) {
        let rest = plan.without(shown);
        if self.is_json() {
            self.plan(plan, true);
        } else if !rest.is_empty() {
            self.note("and, now that the server can be asked:");
            self.plan(&rest, self.verbose());
        }
    }

    /// A plan as coloured text for stdout.
    pub fn plan_text(&self, plan: &Plan, diffs: bool) -> String {
        // Whoever reads it on a terminal wants to see all of it; a file and -v have every line.
        if columns(std::io::stdout()).is_some() && !self.verbose {
            return self.plan_lines(&plan.shortened(), diffs, |text| self.out_wrapped(text));
        }
        self.plan_lines(plan, diffs, |text| self.out_wrapped(text))
    }

    fn plan_lines(&self, plan: &Plan, diffs: bool, wrapped: impl Fn(&str) -> String) -> String {
        let text = |line: &Line| match line.kind {
            // What stands in a file is shown as it stands there.
            LineKind::Diff => self.painted(line),
            LineKind::Change(_) | LineKind::Remark => wrapped(&self.painted(line)),
        };
        plan.lines(diffs).iter().map(|line| format!("{}\n", text(line))).collect()
    }

    fn painted(&self, Line { text, kind }: &Line) -> String {
        match kind {
            LineKind::Change(Action::Create) => self.green(text),
            LineKind::Change(Action::Remove | Action::Stop) => self.red(text),
            LineKind::Change(Action::Update) => self.yellow(text),
            LineKind::Change(Action::Run | Action::Start | Action::Restart | Action::Reload) => text.clone(),
            LineKind::Remark => text.clone(),
            LineKind::Diff => match text.trim_start().chars().next() {
                Some('+') => self.green(text),
                Some('-') => self.red(text),
                Some('@') => self.dim(text),
                Some(_) | None => text.clone(),
            },
        }
    }

    /// A result on stdout.
    pub fn result(&self, text: &str) {
        self.idle();
        let text = text.trim_end_matches('\n');
        // What is coloured for a terminal on stderr may go to a file here.
        if self.out_color { write_out(text) } else { write_out(&without_colors(text)) }
    }

    /// A result on stdout, as text or as the event `result`.
    pub fn result_or_json(&self, text: &str, value: &serde_json::Value) {
        match self.mode {
            Mode::Json => self.event(&json!({"event": "result", "result": value})),
            Mode::Live | Mode::Plain => self.result(text),
        }
    }

    /// The end of a run: on stderr, where progress is.
    pub fn done(&self, text: &str, value: &serde_json::Value) {
        self.idle();
        match self.mode {
            Mode::Json => {
                let mut value = value.clone();
                if let Some(map) = value.as_object_mut() {
                    map.insert("event".into(), json!("done"));
                    map.insert("text".into(), json!(text));
                    map.insert("seconds".into(), json!(self.elapsed().as_secs_f64()));
                }
                self.event(&value);
            }
            Mode::Live | Mode::Plain => {
                let took = self.dim(&format!("({})", duration(self.elapsed())));
                self.err_line(&self.err_wrapped(&format!("{} {took}", self.bold(text))));
            }
        }
    }

    /// A failure, the last thing that is said.
    pub fn failure(&self, failure: &Failure) {
        self.idle();
        match self.mode {
            Mode::Json => self.event(&json!({
                "event": "error",
                "exit": failure.exit as u8,
                "error": failure.message,
                "detail": failure.detail,
                "hints": failure.hints,
            })),
            Mode::Live | Mode::Plain => {
                let text = failure.to_string();
                let text = match text.strip_prefix("error:") {
                    Some(rest) => format!("{}{rest}", self.red("error:")),
                    None => text,
                };
                let text = text.replace("\nhint:", &format!("\n{}", self.bold("hint:")));
                // Details are what others said, to the column; the first line and the hints are ship's.
                let last = text.split('\n').count().saturating_sub(1);
                let own = |(at, line): (usize, &str)| {
                    let hint = line.contains("hint:") && at + failure.hints.len() > last;
                    if at == 0 || hint { self.err_wrapped(line) } else { line.to_owned() }
                };
                let lines: Vec<String> = text.split('\n').enumerate().map(own).collect();
                self.err_line(&lines.join("\n"));
            }
        }
    }

    /// Asks a yes-or-no question; the default is yes.
    pub fn confirm(&self, question: &str) -> Result<bool, Failure> {
        self.idle();
        if self.yes {
            return Ok(true);
        }
        if !self.interactive {
            return Err(Failure::new(Exit::Input, "there is no terminal to confirm on")
                .hint("add --yes to apply without asking, or look first with `ship plan`"));
        }
        Ok(matches!(
            self.ask(&format!("{question} [Y/n] ")).trim().to_ascii_lowercase().as_str(),
            "" | "y" | "yes"
        ))
    }

    /// Asks for a name to be typed; `--yes` is not enough.
    pub fn confirm_by_name(&self, name: &str) -> Result<bool, Failure> {
        self.idle();
        if !self.interactive {
            return Err(Failure::new(Exit::Input, "there is no terminal to confirm on")
                .hint(format!("add --confirm {name}")));
        }
        Ok(self.ask(&format!("Type {} to go on: ", self.bold(name))).trim() == name)
    }

    /// Asks for one of several; nothing chosen is the last one, or nothing that was offered.
    pub fn choose(&self, question: &str, choices: &[String]) -> Result<Option<usize>, Failure> {
        self.idle();
        if !self.interactive {
            return Err(Failure::new(Exit::Input, "there is no terminal to choose on"));
        }
        for (index, choice) in choices.iter().enumerate() {
            self.note(&format!("  {} {choice}", self.bold(&format!("{}.", index + 1))));
        }
        let answer = self.ask(&format!("{question} [{}] ", choices.len()));
        Ok(answer.trim().parse::<usize>().ok().and_then(|number| number.checked_sub(1)))
    }

    fn ask(&self, question: &str) -> String {
        let mut err = std::io::stderr();
        let _ = write!(err, "{question}").and_then(|()| err.flush());
        let mut answer = String::new();
        match std::io::stdin().read_line(&mut answer) {
            Ok(read) if read > 0 => answer,
            Ok(_) | Err(_) => "no".into(),
        }
    }

    fn password(&self, question: &str) -> Option<Secret> {
        if !self.interactive {
            return None;
        }
        let read = || rpassword::prompt_password(question).ok();
        let answer = match &*self.bar() {
            Some(bar) => bar.suspend(read),
            None => read(),
        };
        answer.filter(|text| !text.is_empty()).map(Secret::new)
    }
}

impl Prompt for Ui {
    fn passphrase(&self, key: &Path, attempt: u32) -> Option<Secret> {
        let again = if attempt > 1 { "Wrong. " } else { "" };
        self.password(&format!("{again}Passphrase of {}: ", key.display()))
    }

    fn sudo_password(&self, user: &str, host: &str, attempt: u32) -> Option<Secret> {
        if attempt == 1
            && let Ok(password) = std::env::var("SHIP_SUDO_PASSWORD")
        {
            return Some(Secret::new(password));
        }
        let again = if attempt > 1 { "Sorry, try again. " } else { "" };
        self.password(&format!("{again}sudo password of {user} on {host}: "))
    }

    fn confirm_host_key(&self, host: &str, port: u16, key: &HostKey) -> bool {
        let place = if port == 22 { host.to_string() } else { format!("{host} port {port}") };
        let text = format!("first connection to {place}: its host key is {}", key.fingerprint());
        if self.yes {
            self.note(&format!("{text}; pinned in .ship/known_hosts"));
            return true;
        }
        if !self.interactive {
            return false;
        }
        self.idle();
        self.note(&text);
        self.confirm("Is it the right one?").unwrap_or(false)
    }
}

/// The text without the escape sequences of [`Ui::paint`].
fn without_colors(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut pieces = text.split("\u{1b}[");
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match piece.split_once('m') {
            Some((code, rest)) if code.chars().all(|c| c.is_ascii_digit() || c == ';') => {
                plain.push_str(rest)
            }
            Some(_) | None => {
                plain.push_str("\u{1b}[");
                plain.push_str(piece);
            }
        }
    }
    plain
}

/// How wide the terminal is, if it is one.
fn columns(stream: impl std::io::IsTerminal + std::os::fd::AsFd) -> Option<usize> {
    let size = stream.is_terminal().then(|| rustix::termios::tcgetwinsize(stream).ok())??;
    Some(usize::from(size.ws_col)).filter(|width| *width >= 20)
}

fn write_out(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe is the reader's choice.
    let _ = writeln!(out, "{line}");
}

fn write_err(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_vanish_and_nothing_else_does() {
        assert_eq!(without_colors("a \u{1b}[31mred\u{1b}[0m b [0m"), "a red b [0m");
        assert_eq!(without_colors("\u{1b}[2Kx"), "\u{1b}[2Kx");
    }
}
