//! How a script travels: the remote command, the marker that shows it started, and what sudo's refusals mean.
//!
//! Pure. The remote command has a constant shape and reads the same in sh, bash, dash, zsh, fish and csh:
//! `sh -c 'eval "$(head -c N)"'`. The script is the first N bytes on stdin (`head -c`, GNU's and uutils' alike,
//! reads not a byte more), so whatever follows is the script's own stdin. A long script goes packed. Invariant: no
//! part of a script, and no password, is ever in the command.

use std::io::Write as _;

use bytes::Bytes;

use super::error::SudoReason;
use crate::shell::{Script, Secret};

/// What sudo's check of a password prints when it was right.
const SUDO_OK: &str = "ship-sudo-ok";

/// How the script gets its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Become {
    /// The login user's own are enough.
    Login,
    /// sudo, hoping that it asks for nothing.
    Sudo,
    /// sudo, with the password it asks for.
    SudoPassword(Secret),
}

/// What is sent, in order: each piece waits until so many markers have been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The number of markers to wait for.
    pub(super) after: usize,
    /// What is then sent.
    pub(super) bytes: Bytes,
}

/// A script, ready to travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Framed {
    /// The remote command.
    pub(super) command: String,
    /// The markers the server will print on stdout, in order; the script has started with the last.
    pub(super) markers: Vec<String>,
    /// What is sent ahead of the script's own stdin.
    pub(super) pieces: Vec<Piece>,
}

/// Frames a script for pipes: no pseudo-terminal.
pub(super) fn framed(script: &Script, how: &Become, nonce: &str) -> Framed {
    let begin = format!("ship-begin-{nonce}");
    let body = body(&format!("printf '{begin}\\n'\n"), script);
    let (read, body) = packed(body);
    let run = format!("sh -c 'eval \"$({read})\"'");
    let (command, head) = match how {
        Become::Login => (run, String::new()),
        Become::Sudo => (format!("sudo -n {run}"), String::new()),
        // -k: a remembered login would leave the password unread, and the script would start with it.
        Become::SudoPassword(password) => (format!("sudo -k -S -p '' {run}"), password_line(password)),
    };
    let first = Bytes::from([head.into_bytes(), body].concat());
    Framed { command, markers: vec![begin], pieces: vec![Piece { after: 0, bytes: first }] }
}

/// Frames a script for a pseudo-terminal that starts raw and without echo.
///
/// sudo throws away what was typed before it asked, so every piece waits for its marker.
pub(super) fn framed_for_pty(script: &Script, how: &Become, nonce: &str) -> Framed {
    let (ask, ready, begin) =
        (format!("ship-ask-{nonce}"), format!("ship-ready-{nonce}"), format!("ship-begin-{nonce}"));
    let body = body(&format!("stty sane iutf8 2>/dev/null\nprintf '{begin}\\n'\n"), script);
    let run = format!("sh -c 'printf {ready}; eval \"$(head -c {})\"'", body.len());
    let text = Bytes::from(body);
    match how {
        Become::Login | Become::Sudo => Framed {
            command: if *how == Become::Sudo { format!("sudo -n {run}") } else { run },
            markers: vec![ready, begin],
            pieces: vec![Piece { after: 1, bytes: text }],
        },
        Become::SudoPassword(password) => Framed {
            command: format!("sudo -k -S -p {ask} {run}"),
            markers: vec![ask, ready, begin],
            pieces: vec![
                Piece { after: 1, bytes: Bytes::from(password_line(password)) },
                Piece { after: 2, bytes: text },
            ],
        },
    }
}

/// A command that finds out whether a password is right, and what is sent to it.
///
/// Nothing follows the password: after a wrong one sudo would read the script's first lines as further guesses.
pub(super) fn sudo_check(password: &Secret) -> Framed {
    Framed {
        command: format!("env LC_ALL=C sudo -k -S -p '' sh -c 'printf {SUDO_OK}'"),
        markers: Vec::new(),
        pieces: vec![Piece { after: 0, bytes: Bytes::from(password_line(password)) }],
    }
}

fn password_line(password: &Secret) -> String {
    format!("{}\n", password.reveal().replace(['\n', '\r'], ""))
}

/// A shell drops NULs from `$(…)`, which would make the count wrong for good reason: they never belong there.
fn body(prelude: &str, script: &Script) -> String {
    format!("{prelude}{}", script.text().replace('\0', ""))
}

/// Scripts shorter than this are not worth a process to unpack them.
const WORTH_PACKING: usize = 2048;

/// The command that reads a script from its stdin, and what it reads there.
fn packed(body: String) -> (String, Vec<u8>) {
    if body.len() >= WORTH_PACKING {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        if let Ok(bytes) = packer.write_all(body.as_bytes()).and_then(|()| packer.finish()) {
            return (format!("head -c {} | gzip -dc", bytes.len()), bytes);
        }
    }
    (format!("head -c {}", body.len()), body.into_bytes())
}

/// A script that is followed by another, once this side has read what it says and knows what comes next: what begins the
/// other is a line with the size of its packed text. Nothing follows if the line ends.
pub(super) fn followed(script: &Script, marker: &str) -> Script {
    Script::from_text("(")
        .then(script)
        .line(") </dev/null")
        .line(&format!("printf '\\n%s\\n' {marker}"))
        .line("IFS= read -r ship_size || exit 0")
        .line("eval \"$(head -c \"$ship_size\" | gzip -dc)\"")
}

/// The script that follows, as it is sent.
pub(super) fn following(script: &Script) -> std::io::Result<Bytes> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(body("", script).as_bytes())?;
    let packed = packer.finish()?;
    Ok([format!("{}\n", packed.len()).into_bytes(), packed].concat().into())
}

/// How much of what came before the start is kept as evidence.
const KEPT: usize = 16 * 1024;

/// Removes from stdout everything up to and including the markers: a login shell may print there first.
#[derive(Debug)]
pub(super) struct Opening {
    markers: Vec<String>,
    seen: usize,
    held: Vec<u8>,
}

impl Opening {
    /// Waits for these markers, in order.
    pub(super) fn new(markers: Vec<String>) -> Self {
        Self { markers, seen: 0, held: Vec::new() }
    }

    /// How many markers have been seen.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// How many markers there are.
    pub(super) fn markers(&self) -> usize {
        self.markers.len()
    }

    /// Whether the script has started.
    pub(super) fn passed(&self) -> bool {
        self.seen >= self.markers.len()
    }

    /// Takes what came and returns what belongs to the script.
    pub(super) fn push(&mut self, data: Bytes) -> Bytes {
        if self.passed() {
            return data;
        }
        self.held.extend_from_slice(&data);
        while let Some(marker) = self.markers.get(self.seen) {
            let last = self.seen + 1 == self.markers.len();
            let Some(end) = end_of(&self.held, marker.as_bytes(), last) else { break };
            self.held.drain(..end);
            self.seen += 1;
        }
        if self.passed() {
            return Bytes::from(std::mem::take(&mut self.held));
        }
        if self.held.len() > 4 * KEPT {
            self.held.drain(..self.held.len() - KEPT);
        }
        Bytes::new()
    }

    /// What came instead of the start.
    pub(super) fn instead(self) -> Vec<u8> {
        let mut held = self.held;
        held.drain(..held.len().saturating_sub(KEPT));
        held
    }
}

/// Where the marker ends in `held`; with its line break, if it ends a line.
fn end_of(held: &[u8], marker: &[u8], line: bool) -> Option<usize> {
    let mut from = 0;
    loop {
        let rest = held.get(from..)?;
        let at = from + rest.windows(marker.len()).position(|window| window == marker)?;
        let end = at + marker.len();
        if !line {
            return Some(end);
        }
        match held.get(end..)? {
            [b'\n', ..] => return Some(end + 1),
            [b'\r', b'\n', ..] => return Some(end + 2),
            // The line break is still on its way.
            [] | [b'\r'] => return None,
            [..] => from = end,
        }
    }
}

/// Why a script that was to run through sudo didn't start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// sudo wants a password.
    WantsPassword,
    /// The password was wrong.
    WrongPassword,
    /// sudo will not, whatever the password.
    Denied(SudoReason),
    /// It wasn't sudo.
    NotSudo,
}

/// What `sudo -n` meant. `said` is everything it printed, in whatever language.
pub(super) fn without_password(status: i32, said: &str) -> Refusal {
    match denial(status, said) {
        Some(reason) => Refusal::Denied(reason),
        None if said.contains("sudo") => Refusal::WantsPassword,
        None => Refusal::NotSudo,
    }
}

/// What the check of a password meant. `said` is in English. `None`: the password is right.
pub(super) fn with_password(status: i32, stdout: &str, said: &str) -> Option<Refusal> {
    if status == 0 && stdout.contains(SUDO_OK) {
        return None;
    }
    if let Some(reason) = denial(status, said) {
        return Some(Refusal::Denied(reason));
    }
    let wrong = ["incorrect", "try again", "no password was provided", "Authentication failed"];
    if wrong.iter().any(|text| said.contains(text)) {
        return Some(Refusal::WrongPassword);
    }
    Some(Refusal::Denied(SudoReason::Other(said.trim().to_owned())))
}

fn denial(status: i32, said: &str) -> Option<SudoReason> {
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    if status == 127 || says(&["sudo: not found", "sudo: command not found", "Unknown command: sudo"]) {
        Some(SudoReason::Missing)
    } else if says(&["must have a tty", "no tty present"]) {
        Some(SudoReason::NeedsTerminal)
    } else if says(&["sudoers file", "may not run sudo", "is not allowed to", "I'm afraid I can't do that"]) {
        Some(SudoReason::NotAllowed)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn script() -> Script {
        Script::from_text("cat")
    }

    #[test]
    fn the_command_is_constant_but_for_the_length() {
        let commands: Vec<String> = [Become::Login, Become::Sudo, Become::SudoPassword(Secret::new("pw"))]
            .iter()
            .flat_map(|how| [framed(&script(), how, "1"), framed_for_pty(&script(), how, "1")])
            .map(|framed| framed.command)
            .collect();
        assert_eq!(
            commands,
            [
                r#"sh -c 'eval "$(head -c 28)"'"#,
                r#"sh -c 'printf ship-ready-1; eval "$(head -c 56)"'"#,
                r#"sudo -n sh -c 'eval "$(head -c 28)"'"#,
                r#"sudo -n sh -c 'printf ship-ready-1; eval "$(head -c 56)"'"#,
                r#"sudo -k -S -p '' sh -c 'eval "$(head -c 28)"'"#,
                r#"sudo -k -S -p ship-ask-1 sh -c 'printf ship-ready-1; eval "$(head -c 56)"'"#,
            ]
        );
    }

    #[test]
    fn the_password_is_the_first_line_and_only_there() {
        let framed = framed(&script(), &Become::SudoPassword(Secret::new("p\nw")), "1");
        let sent: Vec<u8> = framed.pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        assert_eq!(String::from_utf8(sent).unwrap(), "pw\nprintf 'ship-begin-1\\n'\ncat\n");
        assert!(!sudo_check(&Secret::new("pw")).command.contains("pw"));
    }

    /// Runs the framed script as a server would, its input written in pieces of `step` bytes.
    fn served(shell: &str, text: &str, payload: &[u8], step: usize) -> Vec<u8> {
        let framed = framed(&Script::from_text(text), &Become::Login, "7");
        let mut child = Command::new(shell)
            .arg("-c")
            .arg(&framed.command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input: Vec<u8> = framed.pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        input.extend_from_slice(payload);
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn({
            let step = step.max(1);
            move || input.chunks(step).for_each(|chunk| stdin.write_all(chunk).unwrap())
        });
        let out = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let mut opening = Opening::new(framed.markers);
        opening.push(Bytes::from(out.stdout)).to_vec()
    }

    #[test]
    fn every_login_shell_hands_over_script_and_payload() {
        let payload: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for shell in ["sh", "bash", "dash"] {
            assert_eq!(served(shell, "cat", &payload, 4096), payload, "{shell}");
        }
        assert_eq!(served("sh", "cat", b"a\0b\n\n", 1), b"a\0b\n\n", "a slow writer");
        assert_eq!(served("sh", "cat <<'E'\n  here\nE", b"rest", 7), b"  here\n");
        assert_eq!(served("sh", "x='\n\n'\nprintf '%s|' \"$x\" 'é'\n\n\n", b"", 3), "\n\n|é|".as_bytes());
        assert_eq!(served("sh", "printf 'a\0b'", b"", 512), b"ab");
        let long = format!("# {}\nwc -c", "x".repeat(300_000));
        for step in [100, 65536] {
            assert_eq!(String::from_utf8(served("sh", &long, &payload, step)).unwrap().trim(), "200000");
        }
    }

    #[test]
    fn a_long_script_travels_packed() {
        let text = "echo 'the same again'\n".repeat(1000);
        let framed = framed(&Script::from_text(&text), &Become::Sudo, "1");
        let [piece] = framed.pieces.as_slice() else { panic!("{framed:?}") };
        assert!(piece.bytes.len() < text.len() / 50, "{}", piece.bytes.len());
        assert_eq!(
            framed.command,
            format!(r#"sudo -n sh -c 'eval "$(head -c {} | gzip -dc)"'"#, piece.bytes.len())
        );
    }

    fn strip(pieces: &[&str]) -> (String, bool) {
        let mut opening = Opening::new(vec!["MARK".into()]);
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&opening.push(Bytes::copy_from_slice(piece.as_bytes())));
        }
        (String::from_utf8(out).unwrap(), opening.passed())
    }

    #[test]
    fn a_banner_is_stripped_and_the_output_kept() {
        assert_eq!(strip(&["MARK\nout\n"]), ("out\n".into(), true));
        assert_eq!(strip(&["Welcome!\nMARK\nout"]), ("out".into(), true));
        assert_eq!(strip(&["no newline MARK\n", "out"]), ("out".into(), true));
        assert_eq!(strip(&["M", "AR", "K", "\n", "o", "ut"]), ("out".into(), true));
        assert_eq!(strip(&["MARK\r\nout"]), ("out".into(), true));
        assert_eq!(strip(&["MARK\r", "\nout"]), ("out".into(), true));
        assert_eq!(strip(&["MARK\nMARK\n"]), ("MARK\n".into(), true), "only the first counts");
        assert_eq!(
            strip(&["+ printf MARK\\n\nMARK\nout"]),
            ("out".into(), true),
            "an echo is not the marker"
        );
        assert_eq!(strip(&["MAR", "M"]), (String::new(), false));
        let mut opening = Opening::new(vec!["MARK".into()]);
        opening.push(Bytes::from("Please login as debian"));
        assert_eq!(opening.instead(), b"Please login as debian");
    }

    proptest::proptest! {
        #[test]
        fn stripping_does_not_depend_on_the_cuts(
            banner in "[a-zA\n]{0,20}", out in "(?s).{0,40}", cuts in proptest::collection::vec(1usize..9, 0..40),
        ) {
            let all = format!("{banner}MARK\n{out}").into_bytes();
            let mut opening = Opening::new(vec!["MARK".into()]);
            let (mut got, mut rest, mut cuts) = (Vec::new(), all.as_slice(), cuts.into_iter());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap_or(100).min(rest.len()));
                got.extend_from_slice(&opening.push(Bytes::copy_from_slice(piece)));
                rest = after;
            }
            proptest::prop_assert_eq!(got, out.into_bytes());
        }
    }

    #[test]
    fn the_markers_come_in_order() {
        let mut opening = Opening::new(vec!["ASK".into(), "READY".into(), "BEGIN".into()]);
        assert_eq!(opening.push(Bytes::from("lecture ASK")), "");
        assert_eq!(opening.seen(), 1);
        assert_eq!(opening.push(Bytes::from("\r\nREADYBEGIN")), "");
        assert_eq!(opening.seen(), 2);
        assert_eq!(opening.push(Bytes::from("\r\n$ ")), "$ ");
    }

    #[test]
    fn what_sudo_says_is_understood() {
        use Refusal::{Denied, NotSudo, WantsPassword, WrongPassword};
        let first = [
            (1, "sudo: a password is required\n", WantsPassword),
            (1, "sudo: Ein Passwort ist notwendig\n", WantsPassword),
            (1, "sudo: interactive authentication is required", WantsPassword),
            (1, "sudo: sorry, you must have a tty to run sudo\n", Denied(SudoReason::NeedsTerminal)),
            (1, "bob is not in the sudoers file.\n", Denied(SudoReason::NotAllowed)),
            (127, "bash: line 1: sudo: command not found\n", Denied(SudoReason::Missing)),
            (142, "Please login as the user \"debian\" rather than the user \"root\".\n", NotSudo),
        ];
        for (status, said, expect) in first {
            assert_eq!(without_password(status, said), expect, "{said}");
        }
        let second = [
            (0, SUDO_OK, "", None),
            (1, "", "Sorry, try again.\nsudo: no password was provided\n", Some(WrongPassword)),
            (1, "", "sudo: 1 incorrect password attempt\n", Some(WrongPassword)),
            (1, "", "bob is not in the sudoers file.\n", Some(Denied(SudoReason::NotAllowed))),
            (1, "", "bob may not run sudo on box.\n", Some(Denied(SudoReason::NotAllowed))),
            (1, "", "sudo: unable to open", Some(Denied(SudoReason::Other("sudo: unable to open".into())))),
        ];
        for (status, stdout, said, expect) in second {
            assert_eq!(with_password(status, stdout, said), expect, "{said}");
        }
    }
}
