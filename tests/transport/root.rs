//! sudo and login shells, with throw-away users: these tests need root.

use std::fs;
use std::process::{Command, Stdio as Pipe};

use super::*;

/// A user with a password, and a rule in sudoers.d; both are gone when dropped.
struct User {
    name: String,
}

impl User {
    fn new(name: &str, shell: &str, rule: &str) -> Self {
        assert!(
            server::is_root(),
            "the tests in transport::root need root: run `cargo test` as root, or skip them with \
             `-- --skip transport::root`"
        );
        assert!(Path::new("/usr/bin/sudo").exists(), "these tests need sudo: apt-get install sudo");
        assert!(Path::new(shell).exists(), "these tests need {shell}: apt-get install zsh fish csh");
        let name = format!("ship-{name}-{}", std::process::id() % 10_000);
        let user = Self { name };
        user.remove();
        let added = Command::new("useradd").args(["-m", "-s", shell, &user.name]).status().unwrap();
        assert!(added.success());
        let mut child = Command::new("chpasswd").stdin(Pipe::piped()).spawn().unwrap();
        let line = format!("{}:right horse\n", user.name);
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), line.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        if !rule.is_empty() {
            fs::write(user.rules(), rule.replace("USER", &user.name)).unwrap();
        }
        user
    }

    fn rules(&self) -> String {
        format!("/etc/sudoers.d/{}", self.name)
    }

    fn remove(&self) {
        let _ = fs::remove_file(self.rules());
        let _ = Command::new("userdel").args(["-rf", &self.name]).stderr(Pipe::null()).status();
    }

    fn endpoint(&self, server: &Server) -> Endpoint {
        let mut endpoint = server.endpoint();
        endpoint.user.clone_from(&self.name);
        endpoint
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.remove();
    }
}

const WHO: &str = "id -un; cat; echo err >&2; exit 6";

fn answers(passwords: &[&'static str]) -> Arc<Answers> {
    Arc::new(Answers { passwords: Mutex::new(passwords.to_vec()), ..Answers::default() })
}

fn denied(user: &User, server: &Server, answers: &Arc<Answers>) -> TransportError {
    block_on(async {
        let session = Session::connect(&user.endpoint(server), answers.clone()).await.unwrap();
        let output = session.exec(&Script::from_text(WHO), Bytes::from("in")).await;
        let error = output.unwrap_err();
        assert!(matches!(error, TransportError::SudoDenied { .. }), "{error:?}");
        error
    })
}

/// What [`WHO`] says; sudo may complain that this machine doesn't know its own name.
fn ran_as_root(output: Output) {
    assert_eq!((output.status, output.stdout.as_slice()), (6, b"root\nin".as_slice()), "{output:?}");
    let stderr = output.stderr_text();
    let said: Vec<&str> =
        stderr.lines().filter(|line| !line.starts_with("sudo: unable to resolve host")).collect();
    assert_eq!(said, ["err"]);
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn sudo_without_a_password_asks_for_none() {
    let (server, user) = (Server::start(), User::new("free", "/bin/bash", "USER ALL=(ALL) NOPASSWD: ALL\n"));
    let prompt = answers(&[]);
    block_on(async {
        let session = Session::connect(&user.endpoint(&server), prompt.clone()).await.unwrap();
        let output = session.exec(&Script::from_text(WHO), Bytes::from("in")).await.unwrap();
        ran_as_root(output);
        let login = Script::from_text("id -un");
        let output = session.run(Exec::as_login(&login)).await.unwrap();
        assert_eq!(output.stdout_text().trim(), user.name);
    });
    assert_eq!(prompt.asked(), 0);
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_sudo_password_is_asked_for_once_and_never_seen() {
    let (server, user) = (Server::start(), User::new("pass", "/bin/bash", "USER ALL=(ALL) ALL\n"));
    let prompt = answers(&["wrong", "right horse"]);
    block_on(async {
        let session = Session::connect(&user.endpoint(&server), prompt.clone()).await.unwrap();
        for _ in 0..2 {
            let output = session.exec(&Script::from_text(WHO), Bytes::from("in")).await.unwrap();
            ran_as_root(output);
        }
        let payload = Bytes::from((0..20_000_000u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
        let mut stream = payload.as_ref();
        let script = Script::from_text("cat");
        let output = session.run(Exec::as_root(&script).stdin(Stdin::Stream(&mut stream))).await.unwrap();
        assert!(output.stdout == payload, "{} bytes", output.stdout.len());

        let mut seen = Vec::new();
        let mut on_output = |_: Stream, _: &[u8]| {
            seen = seen_in_processes("right horse");
            Flow::Stop
        };
        let script = Script::from_text("echo up; sleep 60");
        session.stream(Exec::as_root(&script), &mut on_output).await.unwrap();
        assert_eq!(seen, Vec::<String>::new());
    });
    assert_eq!(prompt.asked(), 2);
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_stream_survives_the_question_for_the_password() {
    let (server, user) = (Server::start(), User::new("strm", "/bin/bash", "USER ALL=(ALL) ALL\n"));
    block_on(async {
        let session = Session::connect(&user.endpoint(&server), answers(&["right horse"])).await.unwrap();
        let mut stream: &[u8] = b"all of it";
        let script = Script::from_text("cat");
        let output = session.run(Exec::as_root(&script).stdin(Stdin::Stream(&mut stream))).await.unwrap();
        assert_eq!(output.stdout_text(), "all of it");
    });
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn three_wrong_passwords_are_enough() {
    let (server, user) = (Server::start(), User::new("wrong", "/bin/bash", "USER ALL=(ALL) ALL\n"));
    let prompt = answers(&["a", "b", "c", "right horse"]);
    let error = denied(&user, &server, &prompt);
    assert!(error.to_string().contains("does not take the password"), "{error}");
    assert_eq!(prompt.asked(), 3);
    let error = denied(&user, &server, &answers(&[]));
    assert!(Failure::from(error).to_string().contains("NOPASSWD"));
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_user_without_sudo_is_told_how_to_get_it() {
    let (server, user) = (Server::start(), User::new("none", "/bin/bash", ""));
    let error = denied(&user, &server, &answers(&["right horse"]));
    let text = Failure::from(error).to_string();
    assert!(text.contains("sudo does not allow it") && text.contains("adduser"), "{text}");
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_sudo_that_wants_a_terminal_is_named() {
    let rule = "Defaults:USER requiretty\nUSER ALL=(ALL) NOPASSWD: ALL\n";
    let (server, user) = (Server::start(), User::new("tty", "/bin/bash", rule));
    let error = denied(&user, &server, &answers(&[]));
    assert!(Failure::from(error).to_string().contains("!requiretty"));
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_terminal_as_root_with_and_without_a_password() {
    for (name, rule) in [("ptyn", "USER ALL=(ALL) NOPASSWD: ALL\n"), ("ptyp", "USER ALL=(ALL) ALL\n")] {
        let (server, user) = (Server::start(), User::new(name, "/bin/bash", rule));
        block_on(async {
            let session = Session::connect(&user.endpoint(&server), answers(&["right horse"])).await.unwrap();
            let (mut keys, mut stdin) = tokio::io::duplex(64);
            keys.write_all(b"hello\r").await.unwrap();
            let script = Script::from_text(format!(
                "# {}\nid -un; [ -t 0 ] && [ -t 1 ] && echo tty; stty size; read -r line; echo \"got $line\"; exit 9",
                "x".repeat(50_000)
            ));
            let mut all = Vec::new();
            let mut on_output = |_: Stream, data: &[u8]| {
                all.extend_from_slice(data);
                Flow::Continue
            };
            let pty = Pty { term: "xterm".into(), size: TermSize { columns: 90, rows: 30 }, resized: None };
            let exec = Exec::as_root(&script).stdin(Stdin::Stream(&mut stdin));
            let run = session.on_terminal(exec, pty, &mut on_output);
            let status = tokio::time::timeout(Duration::from_secs(20), run).await.expect("it hangs").unwrap();
            let all = String::from_utf8_lossy(&all).into_owned();
            assert_eq!(status, Some(9), "{all:?}");
            for line in ["root", "tty", "30 90", "got hello"] {
                assert!(all.lines().any(|said| said == line), "{all:?}");
            }
            assert!(!all.contains("right horse") && !all.contains("ship-"), "{all:?}");
        });
    }
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn every_login_shell_runs_the_script() {
    let server = Server::start();
    for shell in ["/bin/bash", "/bin/dash", "/usr/bin/zsh", "/usr/bin/fish", "/bin/csh"] {
        let name = shell.rsplit('/').next().unwrap();
        let user = User::new(name, shell, "USER ALL=(ALL) NOPASSWD: ALL\n");
        block_on(async {
            let session = Session::connect(&user.endpoint(&server), Arc::new(NeverAsk)).await.unwrap();
            let payload = Bytes::from("a\0b!$HOME\n");
            let script = Script::from_text("x='O'\\''Hara !! $x'; echo \"$x\"; cat; exit 12");
            for as_root in [false, true] {
                let exec = Exec { script: &script, stdin: Stdin::Bytes(payload.clone()), as_root };
                let output = session.run(exec).await.unwrap();
                assert_eq!(
                    (output.status, output.stdout_text().as_str()),
                    (12, "O'Hara !! $x\na\0b!$HOME\n"),
                    "{shell}"
                );
            }
        });
    }
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn an_account_without_a_shell_is_told_apart() {
    let (server, user) = (Server::start(), User::new("nologin", "/usr/sbin/nologin", ""));
    block_on(async {
        let session = Session::connect(&user.endpoint(&server), Arc::new(NeverAsk)).await.unwrap();
        let error = session.run(Exec::as_login(&Script::from_text("true"))).await.unwrap_err();
        assert!(matches!(error, TransportError::NotAShell { .. }), "{error:?}");
    });
}
