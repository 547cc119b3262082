//! The SSH transport against real OpenSSH servers on this machine.

// Clippy's own exception for tests does not reach the helpers of a test binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod root;
mod server;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use ship::error::Failure;
use ship::shell::{Script, Secret};
use ship::transport::{
    Endpoint, Exec, Flow, HostKey, HostKeyPolicy, NeverAsk, Output, Prompt, Pty, Session, Stdin, Stream,
    TermSize, TransportError, Via,
};
use tokio::io::AsyncWriteExt;

use server::{Server, free_port, keygen, seen_in_processes, wait_for};

/// Runs to the end; a minute and a half is more than the slowest takes, and nothing here may hang.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(90), work).await })
        .expect("still not done after 90 s")
}

async fn connect(endpoint: &Endpoint) -> Result<Session, TransportError> {
    Session::connect(endpoint, Arc::new(NeverAsk)).await
}

fn run(server: &Server, text: &str) -> Output {
    block_on(async {
        let session = connect(&server.endpoint()).await.unwrap();
        let output = session.run(Exec::as_login(&Script::from_text(text))).await.unwrap();
        session.close().await;
        output
    })
}

fn refused(result: Result<Session, TransportError>) -> TransportError {
    match result {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

/// Answers what it is told to and counts the questions.
#[derive(Default)]
struct Answers {
    passphrases: Mutex<Vec<&'static str>>,
    passwords: Mutex<Vec<&'static str>>,
    accept: bool,
    asked: AtomicU32,
    shown: Mutex<Option<HostKey>>,
}

impl Answers {
    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    fn next(&self, answers: &Mutex<Vec<&'static str>>) -> Option<Secret> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = answers.lock().unwrap();
        (!answers.is_empty()).then(|| Secret::new(answers.remove(0)))
    }
}

impl Prompt for Answers {
    fn passphrase(&self, _: &Path, _: u32) -> Option<Secret> {
        self.next(&self.passphrases)
    }

    fn sudo_password(&self, _: &str, _: &str, _: u32) -> Option<Secret> {
        self.next(&self.passwords)
    }

    fn confirm_host_key(&self, _: &str, _: u16, key: &HostKey) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.shown.lock().unwrap() = Some(key.clone());
        self.accept
    }
}

struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(server: &Server) -> Self {
        let socket = server.path("agent");
        let child =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        assert!(wait_for(Duration::from_secs(5), || socket.exists()));
        Self { child, socket }
    }

    fn add(&self, key: &Path) {
        let status = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

mod running {
    use super::*;

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn both_outputs_and_the_status_come_back() {
        let server = Server::start();
        let output = run(&server, "echo out; echo err >&2; printf 'no newline'; exit 42");
        assert_eq!(
            output,
            Output { status: 42, stdout: b"out\nno newline".to_vec(), stderr: b"err\n".to_vec() }
        );
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_death_by_signal_is_128_and_its_number() {
        let server = Server::start();
        assert_eq!(run(&server, "echo before; kill -TERM $$; sleep 9").status, 143);
        assert_eq!(run(&server, "kill -KILL $$").status, 137);
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn fifty_megabytes_go_there_and_back() {
        let server = Server::start();
        let payload: Vec<u8> =
            (0..50_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let payload = Bytes::from(payload);
        block_on(async {
            let session = connect(&server.endpoint()).await.unwrap();
            let exec = Script::from_text("cat");
            let output =
                session.run(Exec::as_login(&exec).stdin(Stdin::Bytes(payload.clone()))).await.unwrap();
            assert_eq!(output.stdout.len(), payload.len());
            assert_eq!(Sha256::digest(&output.stdout), Sha256::digest(&payload));

            let sum = Script::from_text("sha256sum");
            let mut stream = payload.as_ref();
            let output = session.run(Exec::as_login(&sum).stdin(Stdin::Stream(&mut stream))).await.unwrap();
            let hex: String = Sha256::digest(&payload).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(output.stdout_text().starts_with(&hex));
        });
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_script_that_does_not_read_its_stdin_ends() {
        let server = Server::start();
        block_on(async {
            let session = connect(&server.endpoint()).await.unwrap();
            let payload = Bytes::from(vec![0; 20_000_000]);
            let output = session
                .run(Exec::as_login(&Script::from_text("exit 3")).stdin(Stdin::Bytes(payload)))
                .await
                .unwrap();
            assert_eq!(output.status, 3);
        });
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_script_is_never_in_argv() {
        let server = Server::start();
        let secret = format!("needle-{}", server.port);
        // The needle is put together on the server so that the search does not find this test.
        let script = Script::from_text(format!("x='{secret}'\necho ready\ncat\n: \"$x\""));
        block_on(async {
            let session = connect(&server.endpoint()).await.unwrap();
            let (mut sender, mut receiver) = tokio::io::duplex(64);
            sender.write_all(secret.as_bytes()).await.unwrap();
            let mut seen = None;
            let mut on_output = |_: Stream, _: &[u8]| {
                seen = Some(seen_in_processes(&secret));
                Flow::Stop
            };
            let exec = Exec::as_login(&script).stdin(Stdin::Stream(&mut receiver));
            assert_eq!(session.stream(exec, &mut on_output).await.unwrap(), None);
            assert_eq!(seen, Some(Vec::new()));
        });
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_child_in_the_background_does_not_hold_up_the_end() {
        let server = Server::start();
        let start = Instant::now();
        let output = run(&server, "sleep 60 & echo started; exit 5");
        assert_eq!((output.status, output.stdout_text().as_str()), (5, "started\n"));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_silent_command_is_not_given_up() {
        let server = Server::start();
        assert_eq!(run(&server, "sleep 16; echo done").stdout_text(), "done\n");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn more_runs_at_once_than_the_server_allows() {
        for (config, count) in [("", 30), ("MaxSessions 2", 6)] {
            let server = Server::with(config);
            block_on(async {
                let session = Arc::new(connect(&server.endpoint()).await.unwrap());
                let mut runs = tokio::task::JoinSet::new();
                for index in 0..count {
                    let session = session.clone();
                    runs.spawn(async move {
                        let script =
                            Script::from_text(format!("head -c 3000000 /dev/zero | wc -c; exit {index}"));
                        (index, session.run(Exec::as_login(&script)).await.unwrap())
                    });
                }
                while let Some(done) = runs.join_next().await {
                    let (index, output) = done.unwrap();
                    assert_eq!((output.status, output.stdout_text().as_str()), (index, "3000000\n"));
                }
            });
        }
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn live_output_can_be_stopped() {
        let server = Server::start();
        block_on(async {
            let session = connect(&server.endpoint()).await.unwrap();
            let script = Script::from_text("while :; do echo tick; sleep 0.05; done");
            let mut ticks = 0;
            let mut on_output = |_: Stream, _: &[u8]| {
                ticks += 1;
                if ticks == 3 { Flow::Stop } else { Flow::Continue }
            };
            assert_eq!(session.stream(Exec::as_login(&script), &mut on_output).await.unwrap(), None);
            assert_eq!(ticks, 3);
            let after = session.run(Exec::as_login(&Script::from_text("echo still here"))).await.unwrap();
            assert_eq!(after.stdout_text(), "still here\n");
        });
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_login_shell_that_prints_a_banner_spoils_nothing() {
        let server = Server::with(
            "ForceCommand printf 'Welcome!\\nto the box'; echo noise >&2; exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
        );
        let output = run(&server, "cat /dev/null; echo clean; exit 4");
        assert_eq!((output.status, output.stdout_text().as_str()), (4, "clean\n"));
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_login_that_runs_something_else_is_told_apart() {
        let server = Server::with(
            "ForceCommand echo 'Please login as the user \"debian\" rather than the user \"root\".'; exit 142",
        );
        block_on(async {
            let session = connect(&server.endpoint()).await.unwrap();
            let error = session.run(Exec::as_login(&Script::from_text("true"))).await.unwrap_err();
            assert!(matches!(&error, TransportError::NotAShell { status: 142, .. }), "{error:?}");
            assert!(Failure::from(error).to_string().contains("hint: set `server.user: debian`"));
        });
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn what_cannot_be_read_here_is_this_sides_failure() {
        struct Broken;
        impl tokio::io::AsyncRead for Broken {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Err(std::io::ErrorKind::InvalidData.into()))
            }
        }
        let server = Server::start();
        block_on(async {
            let session = connect(&server.endpoint()).await.unwrap();
            let exec = Script::from_text("cat");
            let error =
                session.run(Exec::as_login(&exec).stdin(Stdin::Stream(&mut Broken))).await.unwrap_err();
            assert!(matches!(error, TransportError::LocalInput { .. }), "{error:?}");
        });
    }
}

mod configured {
    use ship::transport::sshconfig::{Target, resolve};

    use super::*;

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn what_is_explicit_survives_the_users_configuration() {
        let target = Target {
            host: "203.0.113.9".into(),
            port: Some(2222),
            user: Some("deploy".into()),
            keys: vec!["/k".into()],
        };
        let endpoint = block_on(resolve(&target, Path::new("pins")));
        assert_eq!((endpoint.port, endpoint.user.as_str()), (2222, "deploy"));
        assert_eq!(endpoint.keys, [PathBuf::from("/k")]);
        let HostKeyPolicy::KnownHosts { read, pins } = endpoint.host_key else { panic!() };
        assert!(!read.is_empty() && pins == Path::new("pins"));
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_host_that_looks_like_an_option_is_a_host() {
        let server = Server::start();
        let touched = server.path("touched");
        for host in ["-oProxyCommand=touch", "-F/dev/stdin", "-v"] {
            let host = format!("{host} {}", touched.display());
            let target = Target { host: host.clone(), ..Target::default() };
            let endpoint = block_on(resolve(&target, Path::new("pins")));
            assert_eq!(endpoint.host, host);
            assert!(matches!(endpoint.via, Via::Direct) && !touched.exists());
        }
    }
}

mod terminal {
    use super::*;

    /// Not a test by itself: what the one below runs inside a terminal.
    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn child() {
        let Ok(way) = std::env::var("SHIP_TEST_TERMINAL") else { return };
        let (port, dir) = way.split_once(' ').unwrap();
        let dir = Path::new(dir);
        let key = HostKey::parse(&fs::read_to_string(dir.join("host_ed25519.pub")).unwrap()).unwrap();
        let mut endpoint = Endpoint::new("127.0.0.1", server::whoami(), HostKeyPolicy::Pinned(vec![key]));
        (endpoint.port, endpoint.agent, endpoint.keys) = (port.parse().unwrap(), None, vec![dir.join("id")]);
        let status = block_on(async {
            let session = connect(&endpoint).await.unwrap();
            let script =
                Script::from_text("stty -g >/dev/null && echo READY; read -r x; echo \"got $x\"; exit 3");
            let size = TermSize { columns: 80, rows: 24 };
            session.interactive(&script, false, Some(size)).await.unwrap()
        });
        println!("\r\nstatus {status}\r");
        panic!("the terminal is restored all the same");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn the_local_terminal_is_raw_for_as_long_as_the_command_runs() {
        use std::io::{Read, Write};
        let server = Server::start();
        let exe = std::env::current_exe().unwrap();
        let command = format!(
            "stty -g; {} --exact transport::terminal::child --include-ignored --nocapture; echo; stty -g; read -r y; echo \"then $y\"",
            exe.display()
        );
        let mut child = Command::new("timeout")
            .args(["--foreground", "90", "script", "-qec", &command, "/dev/null"])
            .env("SHIP_TEST_TERMINAL", format!("{} {}", server.port, server.dir.path().display()))
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs script: apt-get install bsdutils");
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut said = String::new();
        let mut until = |needle: &str| {
            let mut buffer = [0; 4096];
            while !said.contains(needle) {
                let count = stdout.read(&mut buffer).unwrap();
                assert!(count > 0, "no {needle:?} in {said:?}");
                said.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        until("READY");
        stdin.write_all(b"hello\r").unwrap();
        until("status 3");
        // A key pressed after the end belongs to the next reader.
        stdin.write_all(b"next\r").unwrap();
        until("then next");
        assert!(said.contains("got hello"), "{said:?}");
        let modes: Vec<&str> =
            said.split_ascii_whitespace().filter(|word| word.matches(':').count() > 20).collect();
        assert_eq!(modes.len(), 2, "{said:?}");
        assert_eq!(modes[0], modes[1]);
        drop(stdin);
        child.wait().unwrap();
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_command_on_a_terminal_sees_one() {
        let server = Server::start();
        // Longer than any buffer of the terminal, with bytes a terminal would act on.
        let script = Script::from_text(format!(
            "# {}\n# \x03\x04\x11\x13\x7f\r\n[ -t 0 ] && [ -t 1 ] && echo \"$TERM\" tty\nstty size\nread -r line\n\
             echo \"got $line\"\nread -r line\nstty size\nexit 7",
            "x".repeat(100_000)
        ));
        block_on(async {
            let session = connect(&server.endpoint()).await.unwrap();
            let (mut keys, mut stdin) = tokio::io::duplex(64);
            let (resize, resized) = tokio::sync::mpsc::channel(1);
            let size = TermSize { columns: 123, rows: 45 };
            let pty = Pty { term: "vt220".into(), size, resized: Some(resized) };
            let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
            let mut on_output = |_: Stream, data: &[u8]| {
                said.send(String::from_utf8_lossy(data).into_owned()).unwrap();
                Flow::Continue
            };
            let user = async {
                let mut all = String::new();
                while !all.contains("45 123") {
                    all += &heard.recv().await.unwrap();
                }
                keys.write_all(b"hello\r").await.unwrap();
                while !all.contains("got hello") {
                    all += &heard.recv().await.unwrap();
                }
                resize.send(TermSize { columns: 80, rows: 24 }).await.unwrap();
                // The new size and the key travel on one connection, in this order.
                tokio::time::sleep(Duration::from_millis(200)).await;
                keys.write_all(b"\r").await.unwrap();
                while !all.contains("24 80") {
                    all += &heard.recv().await.unwrap();
                }
                all
            };
            let exec = Exec::as_login(&script).stdin(Stdin::Stream(&mut stdin));
            let (status, all) = tokio::join!(session.on_terminal(exec, pty, &mut on_output), user);
            assert_eq!(status.unwrap(), Some(7));
            assert!(all.starts_with("vt220 tty\r\n45 123\r\n"), "{all:?}");
            assert!(!all.contains("ship-"), "{all:?}");
        });
    }
}

mod lines {
    use super::*;

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_port_that_hangs_up_is_no_ssh_server() {
        let server = Server::start();
        for greeting in ["", "Exceeded MaxStartups\r\n"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut endpoint = server.endpoint();
            endpoint.port = listener.local_addr().unwrap().port();
            let closing = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                std::io::Write::write_all(&mut stream, greeting.as_bytes()).unwrap();
            });
            let error = refused(block_on(connect(&endpoint)));
            assert!(matches!(error, TransportError::NoBanner { .. }) && error.may_pass(), "{error:?}");
            closing.join().unwrap();
        }
    }

    /// Runs a script on a server that is signalled once it has started, and tells how long the error took.
    fn signalled(signal: &str, script: &str, payload: Bytes) -> (TransportError, Duration) {
        let server = Server::start();
        block_on(async {
            let session = connect(&server.endpoint()).await.unwrap();
            let mut since = None;
            let mut on_output = |_: Stream, _: &[u8]| {
                since.get_or_insert_with(|| {
                    server.signal_connections(signal);
                    Instant::now()
                });
                Flow::Continue
            };
            let script = Script::from_text(script);
            let exec = Exec::as_login(&script).stdin(Stdin::Bytes(payload));
            let error =
                tokio::time::timeout(Duration::from_secs(60), session.stream(exec, &mut on_output)).await;
            let error = error.expect("the run hangs").unwrap_err();
            let took = since.unwrap().elapsed();
            (error, took)
        })
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_killed_server_is_a_lost_connection() {
        let (error, took) = signalled("-KILL", "echo started; sleep 60", Bytes::new());
        assert!(
            matches!(&error, TransportError::Lost { reason, .. } if reason.contains("closed")),
            "{error:?}"
        );
        assert!(took < Duration::from_secs(3), "{took:?}");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_frozen_server_is_noticed_while_reading() {
        let (error, took) = signalled("-STOP", "echo started; sleep 60", Bytes::new());
        assert!(
            matches!(&error, TransportError::Lost { reason, .. } if reason.contains("no answer")),
            "{error:?}"
        );
        assert!(took < Duration::from_secs(15), "{took:?}");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_frozen_server_is_noticed_while_writing() {
        let payload = Bytes::from(vec![1; 200_000_000]);
        let (error, took) = signalled("-STOP", "echo started; cat >/dev/null", payload);
        assert!(
            matches!(&error, TransportError::Lost { reason, .. } if reason.contains("no answer")),
            "{error:?}"
        );
        assert!(took < Duration::from_secs(15), "{took:?}");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_port_that_says_nothing_is_no_ssh_server() {
        let server = Server::start();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut endpoint = server.endpoint();
        endpoint.port = listener.local_addr().unwrap().port();
        endpoint.connect_timeout = Duration::from_secs(1);
        let start = Instant::now();
        let error = refused(block_on(connect(&endpoint)));
        assert!(matches!(error, TransportError::NoBanner { .. }) && error.may_pass(), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(3));
        drop(listener);
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_server_frozen_before_the_login_is_a_timeout() {
        // The listener takes the connection and says its name, but nobody answers the first packet.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::start();
        let silent = std::thread::spawn(move || {
            use std::io::Write;
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"SSH-2.0-frozen\r\n").unwrap();
            stream
        });
        let mut endpoint = server.endpoint();
        (endpoint.port, endpoint.connect_timeout) = (port, Duration::from_secs(1));
        let error = refused(block_on(connect(&endpoint)));
        assert!(matches!(error, TransportError::Timeout { during: "agreeing on keys", .. }), "{error:?}");
        drop(silent.join().unwrap());
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_closed_port_refuses() {
        let server = Server::start();
        let mut endpoint = server.endpoint();
        endpoint.port = free_port();
        let error = refused(block_on(connect(&endpoint)));
        assert!(matches!(error, TransportError::Refused { .. }) && error.may_pass(), "{error:?}");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_name_without_an_address_says_so() {
        let server = Server::start();
        let mut endpoint = server.endpoint();
        endpoint.host = "no-such-host.invalid".into();
        let error = refused(block_on(connect(&endpoint)));
        assert!(matches!(error, TransportError::DnsFailed { .. }), "{error:?}");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_server_behind_another_is_reached_and_both_are_verified() {
        let (gate, inner) = (Server::start(), Server::start());
        let mut endpoint = inner.endpoint();
        endpoint.via = Via::Jump(Box::new(gate.endpoint()));
        block_on(async {
            let session = connect(&endpoint).await.unwrap();
            let script = Script::from_text("echo \"$SSH_CONNECTION\"");
            let output = session.run(Exec::as_login(&script)).await.unwrap();
            assert!(output.stdout_text().trim().ends_with(&inner.port.to_string()));
            session.close().await;
            let mut wrong = gate.endpoint();
            wrong.host_key = HostKeyPolicy::Pinned(vec![inner.host_key("ed25519")]);
            endpoint.via = Via::Jump(Box::new(wrong));
            assert!(matches!(refused(connect(&endpoint).await), TransportError::HostKeyChanged(_)));
        });
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_proxy_command_carries_the_connection() {
        let server = Server::start();
        let mut endpoint = server.endpoint();
        endpoint.via =
            Via::Command(format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 & cat >&3'", server.port));
        block_on(async {
            let session = connect(&endpoint).await.unwrap();
            assert!(session.run(Exec::as_login(&Script::from_text("true"))).await.unwrap().success());
        });
    }
}

mod host_keys {
    use super::*;

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_changed_key_is_refused_before_any_login() {
        let (server, other) = (Server::with("LogLevel DEBUG1"), Server::start());
        let text = format!("\n[127.0.0.1]:{} {}\n", server.port, other.host_key("ed25519"));
        let mut endpoint = server.endpoint();
        endpoint.host_key = server.known_hosts(&text);
        let answers = Arc::new(Answers { accept: true, ..Answers::default() });
        let error = refused(block_on(Session::connect(&endpoint, answers.clone())));
        let TransportError::HostKeyChanged(change) = &error else { panic!("{error:?}") };
        assert_eq!(change.place.as_ref().unwrap().line, 2);
        assert!(change.new.contains(&server.host_key("ed25519").fingerprint()));
        assert!(change.old.contains(&other.host_key("ed25519").fingerprint()));
        assert_eq!(answers.asked(), 0);
        assert!(wait_for(Duration::from_secs(5), || server.log().contains("Connection closed")
            || server.log().contains("Connection reset")
            || server.log().contains("Disconnected")));
        assert!(!server.log().contains("userauth"), "{}", server.log());
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn the_first_key_is_shown_and_pinned() {
        let server = Server::with("LogLevel DEBUG1");
        let mut endpoint = server.endpoint();
        endpoint.host_key = server.known_hosts("");
        let declined = Arc::new(Answers::default());
        let error = refused(block_on(Session::connect(&endpoint, declined.clone())));
        assert!(matches!(error, TransportError::HostKeyUnknown { .. }), "{error:?}");
        assert_eq!(declined.asked(), 1);
        assert!(!server.path("ship").exists() && !server.log().contains("userauth"));

        let accepted = Arc::new(Answers { accept: true, ..Answers::default() });
        block_on(Session::connect(&endpoint, accepted.clone())).unwrap();
        let shown = accepted.shown.lock().unwrap().clone().unwrap();
        let keygen =
            Command::new("ssh-keygen").arg("-lf").arg(server.path("host_ed25519.pub")).output().unwrap();
        assert!(String::from_utf8(keygen.stdout).unwrap().contains(&shown.fingerprint()));
        let pinned = fs::read_to_string(server.path("ship/known_hosts")).unwrap();
        assert_eq!(pinned, format!("[127.0.0.1]:{} {shown}\n", server.port));

        block_on(Session::connect(&endpoint, accepted.clone())).unwrap();
        assert_eq!(accepted.asked(), 1, "the second time it is known");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_host_known_by_its_ecdsa_key_alone_is_known() {
        let server = Server::start();
        let mut endpoint = server.endpoint();
        let text = format!("[127.0.0.1]:{} {}\n", server.port, server.host_key("ecdsa"));
        endpoint.host_key = server.known_hosts(&text);
        block_on(connect(&endpoint)).unwrap();
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_revoked_key_is_refused() {
        let server = Server::start();
        let mut endpoint = server.endpoint();
        let key = server.host_key("ed25519");
        endpoint.host_key =
            server.known_hosts(&format!("[127.0.0.1]:{} {key}\n@revoked * {key}\n", server.port));
        let error = refused(block_on(connect(&endpoint)));
        assert!(matches!(error, TransportError::HostKeyRevoked { .. }), "{error:?}");
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_pinned_key_must_match() {
        let (server, other) = (Server::start(), Server::start());
        let mut endpoint = server.endpoint();
        endpoint.host_key = HostKeyPolicy::Pinned(vec![other.host_key("ed25519")]);
        assert!(matches!(refused(block_on(connect(&endpoint))), TransportError::HostKeyChanged(_)));
        endpoint.host_key = HostKeyPolicy::Pinned(vec![server.host_key("ecdsa")]);
        block_on(connect(&endpoint)).unwrap();
        endpoint.host_key = HostKeyPolicy::Pinned(Vec::new());
        assert!(matches!(refused(block_on(connect(&endpoint))), TransportError::HostKeyUnknown { .. }));
    }
}

mod logins {
    use super::*;

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_wrong_key_is_refused_with_what_was_tried() {
        let server = Server::start();
        keygen(&server.path("wrong"), "ed25519", "");
        let mut endpoint = server.endpoint();
        endpoint.keys = vec![server.path("wrong")];
        let error = refused(block_on(connect(&endpoint)));
        let TransportError::AuthRefused(refusal) = &error else { panic!("{error:?}") };
        assert_eq!(refusal.methods, ["publickey"]);
        assert_eq!(refusal.tried.len(), 1);
        assert!(refusal.tried[0].contains("wrong (SHA256:"), "{refusal:?}");
        endpoint.keys = vec![server.path("wrong"), server.path("id")];
        block_on(connect(&endpoint)).unwrap();
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn the_usual_files_are_tried_and_missing_ones_are_not_an_error() {
        let server = Server::start();
        let mut endpoint = server.endpoint();
        (endpoint.keys, endpoint.default_keys) =
            (Vec::new(), vec![server.path("nothing"), server.path("id")]);
        block_on(connect(&endpoint)).unwrap();
        endpoint.default_keys = Vec::new();
        let error = refused(block_on(connect(&endpoint)));
        assert!(
            matches!(&error, TransportError::AuthRefused(refusal) if refusal.tried.is_empty()),
            "{error:?}"
        );
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_named_key_must_be_readable() {
        let server = Server::start();
        let mut endpoint = server.endpoint();
        fs::write(server.path("garbage"), "no key\n").unwrap();
        for name in ["missing", "garbage"] {
            endpoint.keys = vec![server.path(name)];
            let error = refused(block_on(connect(&endpoint)));
            assert!(matches!(error, TransportError::KeyUnreadable { .. }), "{error:?}");
        }
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn rsa_and_ecdsa_keys_work() {
        let server = Server::start();
        for kind in ["rsa", "ecdsa"] {
            let path = server.path(kind);
            keygen(&path, kind, "");
            let public = fs::read_to_string(path.with_extension("pub")).unwrap();
            fs::write(server.path("authorized_keys"), public).unwrap();
            let mut endpoint = server.endpoint();
            endpoint.keys = vec![path];
            block_on(connect(&endpoint)).unwrap();
        }
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn the_agent_signs() {
        let server = Server::start();
        let agent = Agent::start(&server);
        agent.add(&server.path("id"));
        let mut endpoint = server.endpoint();
        (endpoint.keys, endpoint.agent) = (Vec::new(), Some(agent.socket.clone()));
        block_on(connect(&endpoint)).unwrap();
        // A public key names the agent's key, even when the agent may sign for named keys only.
        (endpoint.keys, endpoint.identities_only) = (vec![server.path("id.pub")], true);
        block_on(connect(&endpoint)).unwrap();
        endpoint.keys = Vec::new();
        assert!(matches!(refused(block_on(connect(&endpoint))), TransportError::AuthRefused(_)));
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_missing_agent_is_no_obstacle() {
        let server = Server::start();
        let mut endpoint = server.endpoint();
        endpoint.agent = Some(server.path("no-agent"));
        block_on(connect(&endpoint)).unwrap();
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn an_agent_with_too_many_keys_is_explained() {
        let server = Server::start();
        let agent = Agent::start(&server);
        for index in 0..7 {
            let path = server.path(&format!("other{index}"));
            keygen(&path, "ed25519", "");
            agent.add(&path);
        }
        agent.add(&server.path("id"));
        let mut endpoint = server.endpoint();
        endpoint.agent = Some(agent.socket.clone());
        block_on(connect(&endpoint)).expect("a named key comes first");
        endpoint.keys = Vec::new();
        let error = refused(block_on(connect(&endpoint)));
        let TransportError::AuthRefused(refusal) = &error else { panic!("{error:?}") };
        assert!(refusal.said.as_ref().unwrap().contains("Too many authentication failures"), "{refusal:?}");
        assert!(Failure::from(error).to_string().contains("IdentitiesOnly"));
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn an_encrypted_key_needs_its_passphrase() {
        let server = Server::start();
        let path = server.path("sealed");
        keygen(&path, "ed25519", "open sesame");
        let mut endpoint = server.endpoint();
        endpoint.keys = vec![path.clone()];
        let with = |passphrases: &[&'static str]| {
            Arc::new(Answers { passphrases: Mutex::new(passphrases.to_vec()), ..Answers::default() })
        };

        let never = with(&["open sesame"]);
        let error = refused(block_on(Session::connect(&endpoint, never.clone())));
        assert!(matches!(error, TransportError::AuthRefused(_)), "{error:?}");
        assert_eq!(never.asked(), 0, "the server would not take the key anyway");

        fs::copy(path.with_extension("pub"), server.path("authorized_keys")).unwrap();
        let second = with(&["wrong", "open sesame"]);
        block_on(Session::connect(&endpoint, second.clone())).unwrap();
        assert_eq!(second.asked(), 2);
        let wrong = refused(block_on(Session::connect(&endpoint, with(&["a", "b", "c", "d"]))));
        assert!(matches!(wrong, TransportError::BadPassphrase { .. }), "{wrong:?}");
        let none = refused(block_on(Session::connect(&endpoint, with(&[]))));
        assert!(
            matches!(&none, TransportError::AuthRefused(refusal) if refusal.tried[0].contains("passphrase"))
        );
    }

    #[test]
    #[ignore = "needs an sshd of its own: scripts/test runs it"]
    fn a_second_factor_is_named() {
        let server = Server::with("AuthenticationMethods publickey,password\nPasswordAuthentication yes");
        let error = refused(block_on(connect(&server.endpoint())));
        assert!(matches!(&error, TransportError::AuthRefused(refusal) if refusal.partial), "{error:?}");
    }
}

#[test]
#[ignore = "needs an sshd of its own: scripts/test runs it"]
fn a_connect_and_an_exec_take_no_more_than_a_moment() {
    let server = Server::start();
    block_on(async {
        let endpoint = server.endpoint();
        let script = Script::from_text("true");
        for _ in 0..3 {
            let start = Instant::now();
            let session = connect(&endpoint).await.unwrap();
            let connected = start.elapsed();
            assert!(session.run(Exec::as_login(&script)).await.unwrap().success());
            let first = start.elapsed();
            assert!(session.run(Exec::as_login(&script)).await.unwrap().success());
            eprintln!(
                "connect {connected:?}, exec {:?}, again {:?}",
                first - connected,
                start.elapsed() - first
            );
            let last = Instant::now();
            session.close().await;
            assert!(last.elapsed() < Duration::from_millis(500), "close took {:?}", last.elapsed());
        }
    });
}
