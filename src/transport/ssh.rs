//! The SSH session: connecting, proving who both sides are, and running scripts. With its two parts below it, the only
//! module that knows russh.
//!
//! Invariants: no byte of authentication is sent before the host key was accepted; a script's status is either known
//! or the run is an error; every writer is raced against the reader, since a dead channel never wakes a writer.

mod connect;
mod keys;
mod login;

pub use keys::{generate_host_key, own_public_key};

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{future, io};

use bytes::{Bytes, BytesMut};
use russh::client::{self, Msg};
use russh::{Channel, ChannelMsg, Disconnect, Pty as Mode, Sig};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use connect::{Carrier, Client, Clock, dial, shake_hands};
use login::Login;

use super::command::{self, Become, Framed, Opening, Refusal};
use super::error::{SudoReason, TransportError};
use super::line::{Life, SILENCE, Watched};
use super::{Endpoint, Exec, Flow, OnOutput, Output, Prompt, Pty, Stdin, Stream, Transport, terminal};
use crate::shell::{Script, Secret};

/// How many channels sshd allows at once unless told otherwise (`MaxSessions`).
const MAX_SESSIONS: usize = 10;
/// How often a passphrase or a sudo password is asked for.
const ATTEMPTS: u32 = 3;
/// How long nothing must have come after the exit status before the server is asked whether that was all.
const QUIET: Duration = Duration::from_millis(200);
/// How often a server that has no room for a channel is asked again, though ship has none open: one that has just ended
/// may still count.
const AGAIN: u32 = 10;
/// How much of a stream is read at once.
const CHUNK: usize = 64 * 1024;

/// A connection to a server, logged in.
pub struct Session {
    handle: client::Handle<Client>,
    user: String,
    host: String,
    prompt: Arc<dyn Prompt>,
    slots: Arc<Semaphore>,
    sudo: tokio::sync::Mutex<Option<Secret>>,
    ending: watch::Receiver<Option<Ending>>,
    life: Arc<Life>,
    /// What carries the connection, if it isn't TCP.
    carrier: Carrier,
    /// How it was reached.
    endpoint: Endpoint,
}

impl Session {
    /// Connects, verifies the host key, and logs in.
    ///
    /// Both together may take `endpoint.connect_timeout`; the time the user or an agent takes to answer is not
    /// counted. A jump host has its own limit.
    pub async fn connect(endpoint: &Endpoint, prompt: Arc<dyn Prompt>) -> Result<Self, TransportError> {
        let clock = Clock::new(endpoint.connect_timeout);
        let (stream, carrier) = dial(endpoint, &prompt, &clock).await?;
        let life = Arc::new(Life::default());
        let (ended, ending) = watch::channel(None);
        let banner = Arc::new(Mutex::new(String::new()));
        let client = Client { asks: None, accepted: None, ended, life: life.clone(), banner: banner.clone() };
        let shaken = shake_hands(endpoint, &prompt, &clock, Watched::new(stream, life.clone()), client).await;
        let handle = shaken.inspect_err(|_| life.arm())?;
        let mut login = Login::new(handle, endpoint, &prompt, &clock, &ending);
        if let Err(error) = login.run(&banner).await {
            life.arm();
            return Err(error);
        }
        let handle = login.handle;
        life.arm();
        Ok(Self {
            handle,
            user: endpoint.user.clone(),
            host: endpoint.host.clone(),
            prompt,
            slots: Arc::new(Semaphore::new(MAX_SESSIONS)),
            sudo: tokio::sync::Mutex::new(None),
            ending,
            life,
            carrier,
            endpoint: endpoint.clone(),
        })
    }

    /// Connects and logs in once more, in the same way. A password for sudo that was typed is not asked for again.
    pub async fn again(&self) -> Result<Self, TransportError> {
        let fresh = Self::connect(&self.endpoint, Arc::clone(&self.prompt)).await?;
        fresh.sudo.lock().await.clone_from(&*self.sudo.lock().await);
        Ok(fresh)
    }

    /// Runs `script` as root and collects what it says.
    pub async fn exec(&self, script: &Script, stdin: Bytes) -> Result<Output, TransportError> {
        let stdin = if stdin.is_empty() { Stdin::Empty } else { Stdin::Bytes(stdin) };
        self.run(Exec::as_root(script).stdin(stdin)).await
    }

    /// Runs a script and collects what it says.
    pub async fn run(&self, exec: Exec<'_>) -> Result<Output, TransportError> {
        let mut output = Output::default();
        let mut collect = |stream: Stream, data: &[u8]| {
            match stream {
                Stream::Out => output.stdout.extend_from_slice(data),
                Stream::Err => output.stderr.extend_from_slice(data),
            }
            Flow::Continue
        };
        let status = self.stream(exec, &mut collect).await?;
        // Only a stop has no status, and `collect` never stops.
        output.status = status.unwrap_or_default();
        Ok(output)
    }

    /// Runs a script and hands over what it says as it comes. `None`: `on_output` stopped it.
    ///
    /// While `on_output` works, nothing is read from the server.
    pub async fn stream(
        &self,
        exec: Exec<'_>,
        on_output: OnOutput<'_>,
    ) -> Result<Option<i32>, TransportError> {
        self.perform(exec, None, on_output).await
    }

    /// Runs a command with this process's stdin, stdout and stderr; with `pty`, on a terminal of its own.
    ///
    /// With `pty`, the local terminal is raw until the command ends and follows changes of its size. Returns the
    /// exit status.
    pub async fn interactive(
        &self,
        command: &Script,
        as_root: bool,
        pty: Option<super::TermSize>,
    ) -> Result<i32, TransportError> {
        let local = |source| self.local_input(source);
        let mut keys = terminal::Keys::open().map_err(local)?;
        let pty = match pty {
            None => None,
            Some(size) => Some(Pty {
                term: std::env::var("TERM").unwrap_or_else(|_| "xterm-256color".to_owned()),
                size: terminal::size().unwrap_or(size),
                resized: Some(terminal::resizes().map_err(local)?),
            }),
        };
        let mut ends = [SignalKind::terminate(), SignalKind::hangup()].map(signal);
        let _raw = match pty {
            Some(_) => terminal::RawMode::enter().map_err(local)?,
            None => None,
        };
        let exec = Exec { script: command, stdin: Stdin::Stream(&mut keys), as_root };
        let mut show = |stream: Stream, data: &[u8]| terminal::show(stream, data);
        tokio::select! {
            status = self.perform(exec, pty, &mut show) => status.map(|status| status.unwrap_or(128 + 13)),
            number = ended_by(&mut ends) => Ok(128 + number),
        }
    }

    /// Like [`Session::interactive`] with `pty`, for a terminal that is not this process's own.
    pub async fn on_terminal(
        &self,
        exec: Exec<'_>,
        pty: Pty,
        on_output: OnOutput<'_>,
    ) -> Result<Option<i32>, TransportError> {
        self.perform(exec, Some(pty), on_output).await
    }

    /// Says goodbye and waits until the connection is closed, at most a second.
    pub async fn close(self) {
        let goodbye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        if timeout(Duration::from_secs(1), goodbye).await.is_ok() {
            let _ = timeout(Duration::from_secs(1), self.handle).await;
        }
        match self.carrier {
            Carrier::None => {}
            Carrier::Jump(session) => Box::pin(session.close()).await,
            // Killed when dropped.
            Carrier::Command(child) => drop(child),
        }
    }

    /// Runs a script with the rights it needs, asking for a sudo password on the way if there is one.
    async fn perform(
        &self,
        mut exec: Exec<'_>,
        mut pty: Option<Pty>,
        on_output: OnOutput<'_>,
    ) -> Result<Option<i32>, TransportError> {
        let mut how = match (exec.as_root && self.user != "root", self.sudo.lock().await.clone()) {
            (false, _) => Become::Login,
            (true, None) => Become::Sudo,
            (true, Some(password)) => Become::SudoPassword(password),
        };
        loop {
            let nonce = nonce();
            let framed = match pty {
                None => command::framed(exec.script, &how, &nonce),
                Some(_) => command::framed_for_pty(exec.script, &how, &nonce),
            };
            let job = Job { framed, stdin: exec.stdin.again(), pty: pty.as_mut() };
            let (status, said) = match self.channel(job, &mut *on_output).await? {
                Ran::Ended(status) => return Ok(Some(status)),
                Ran::Stopped => return Ok(None),
                Ran::NeverStarted { status, said } => (status, said),
            };
            let refusal = match how {
                Become::Login => Refusal::NotSudo,
                Become::Sudo | Become::SudoPassword(_) => command::without_password(status, &said),
            };
            match (refusal, &how) {
                (Refusal::NotSudo, _) => {
                    let (user, host) = (self.user.clone(), self.host.clone());
                    return Err(TransportError::NotAShell { user, host, status, said });
                }
                (Refusal::Denied(reason), _) => return Err(self.denied(reason)),
                (Refusal::WantsPassword | Refusal::WrongPassword, Become::Login | Become::Sudo) => {
                    how = Become::SudoPassword(self.sudo_password().await?);
                }
                (Refusal::WantsPassword | Refusal::WrongPassword, Become::SudoPassword(_)) => {
                    return Err(self.denied(SudoReason::Other(said.trim().to_owned())));
                }
            }
        }
    }

    /// The sudo password, asked for once per session and checked before it is used.
    async fn sudo_password(&self) -> Result<Secret, TransportError> {
        let mut known = self.sudo.lock().await;
        if let Some(password) = &*known {
            return Ok(password.clone());
        }
        for attempt in 1..=ATTEMPTS {
            let (prompt, user, host) = (self.prompt.clone(), self.user.clone(), self.host.clone());
            let answer = ask(move || prompt.sudo_password(&user, &host, attempt)).await.flatten();
            let password = answer.ok_or_else(|| {
                self.denied(if attempt == 1 { SudoReason::NoPassword } else { SudoReason::WrongPassword })
            })?;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut collect = |stream: Stream, data: &[u8]| {
                match stream {
                    Stream::Out => out.extend_from_slice(data),
                    Stream::Err => err.extend_from_slice(data),
                }
                Flow::Continue
            };
            let job = Job { framed: command::sudo_check(&password), stdin: Stdin::Empty, pty: None };
            let status = match self.channel(job, &mut collect).await? {
                Ran::Ended(status) | Ran::NeverStarted { status, .. } => status,
                Ran::Stopped => 1,
            };
            match command::with_password(
                status,
                &String::from_utf8_lossy(&out),
                &String::from_utf8_lossy(&err),
            ) {
                None => {
                    *known = Some(password.clone());
                    return Ok(password);
                }
                Some(Refusal::Denied(reason)) => return Err(self.denied(reason)),
                Some(Refusal::WantsPassword | Refusal::WrongPassword | Refusal::NotSudo) => {}
            }
        }
        Err(self.denied(SudoReason::WrongPassword))
    }

    /// What was to be sent can't be read here.
    pub(super) fn local_input(&self, source: io::Error) -> TransportError {
        TransportError::LocalInput { host: self.host.clone(), source }
    }

    fn denied(&self, reason: SudoReason) -> TransportError {
        TransportError::SudoDenied { user: self.user.clone(), host: self.host.clone(), reason }
    }

    async fn lost(&self) -> TransportError {
        let reason = match ending(&self.ending).await {
            _ if self.life.silent() => silence(),
            Some(Ending::Told(said)) => format!("the server said: {said}"),
            Some(Ending::Broke(reason)) => reason,
            None => "the server closed it".to_owned(),
        };
        TransportError::Lost { host: self.host.clone(), reason }
    }

    /// Opens a channel, waiting for one of the others to end if the server has no room.
    async fn open(&self) -> Result<(Channel<Msg>, OwnedSemaphorePermit), TransportError> {
        let Ok(slot) = self.slots.clone().acquire_owned().await else { return Err(self.lost().await) };
        let mut refused = 0;
        loop {
            match self.handle.channel_open_session().await {
                Ok(channel) => return Ok((channel, slot)),
                Err(russh::Error::ChannelOpenFailure(reason)) => {
                    let others = MAX_SESSIONS - 1 - self.slots.available_permits().min(MAX_SESSIONS - 1);
                    refused += 1;
                    if others == 0 && refused > AGAIN {
                        let (host, reason) = (self.host.clone(), format!("{reason:?}"));
                        return Err(TransportError::ChannelRefused { host, reason });
                    }
                    // The server allows fewer than it usually does; one of ours will end.
                    sleep(QUIET).await;
                }
                Err(_) => return Err(self.lost().await),
            }
        }
    }

    /// Runs one framed script on one channel.
    async fn channel(&self, job: Job<'_>, on_output: OnOutput<'_>) -> Result<Ran, TransportError> {
        let Job { framed, stdin, pty } = job;
        let (channel, _slot) = self.open().await?;
        let (mut reader, writer) = channel.split();
        let mut resized = None;
        let mut terminal_asked = pty.is_some();
        if let Some(pty) = pty {
            let (columns, rows) = (u32::from(pty.size.columns), u32::from(pty.size.rows));
            if writer.request_pty(true, &pty.term, columns, rows, 0, 0, &RAW).await.is_err() {
                return Err(self.lost().await);
            }
            resized = pty.resized.as_mut();
        }
        if writer.exec(true, framed.command).await.is_err() {
            return Err(self.lost().await);
        }
        let mut opening = Opening::new(framed.markers);
        let (seen, progress) = watch::channel(opening.seen());
        let mut feeding: Pin<Box<dyn Future<Output = Result<(), io::Error>> + Send + '_>> =
            Box::pin(feed(&writer, framed.pieces, opening.markers(), stdin, progress));
        let mut early = Vec::new();
        let mut end = None;
        let mut quiet_rounds = 0;
        let mut quiet: Pin<Box<dyn Future<Output = ()> + Send + '_>> = Box::pin(future::pending());
        loop {
            let message = tokio::select! {
                message = reader.wait() => message,
                fed = &mut feeding => {
                    feeding = Box::pin(future::pending());
                    if let Err(source) = fed {
                        let _ = writer.signal(Sig::TERM).await;
                        let _ = writer.close().await;
                        return Err(self.local_input(source));
                    }
                    continue;
                }
                Some(size) = next_size(&mut resized) => {
                    let _ = writer.window_change(u32::from(size.columns), u32::from(size.rows), 0, 0).await;
                    continue;
                }
                () = &mut quiet => {
                    quiet_rounds += 1;
                    if quiet_rounds == 2 {
                        // A child in the background holds the outputs open; what was said is all here.
                        let _ = writer.close().await;
                        break;
                    }
                    quiet = Box::pin(self.quiet_round());
                    continue;
                }
            };
            let (stream, data) = match message {
                None => {
                    drop(feeding);
                    return Err(self.lost().await);
                }
                Some(ChannelMsg::Data { data }) => (Stream::Out, opening.push(data)),
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => (Stream::Err, data),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    end = Some(i32::try_from(exit_status).unwrap_or(255));
                    quiet = Box::pin(self.quiet_round());
                    continue;
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    end = Some(128 + signal_number(&signal_name));
                    quiet = Box::pin(self.quiet_round());
                    continue;
                }
                Some(ChannelMsg::Close) => break,
                // The answers come in the order of the questions: first the one about the terminal.
                Some(ChannelMsg::Success) => {
                    terminal_asked = false;
                    continue;
                }
                Some(ChannelMsg::Failure) if terminal_asked => {
                    let _ = writer.close().await;
                    return Err(TransportError::NoTerminal {
                        user: self.user.clone(),
                        host: self.host.clone(),
                    });
                }
                Some(ChannelMsg::Failure) => {
                    let (host, reason) =
                        (self.host.clone(), "the server refuses to execute commands".to_owned());
                    return Err(TransportError::ChannelRefused { host, reason });
                }
                Some(_) => continue,
            };
            if end.is_some() {
                quiet_rounds = 0;
                quiet = Box::pin(self.quiet_round());
            }
            seen.send_if_modified(|seen| std::mem::replace(seen, opening.seen()) != opening.seen());
            if !opening.passed() {
                if stream == Stream::Err {
                    early.extend_from_slice(&data);
                }
                continue;
            }
            for (stream, data) in [(Stream::Err, std::mem::take(&mut early).into()), (stream, data)] {
                if !data.is_empty() && on_output(stream, &data) == Flow::Stop {
                    let _ = writer.signal(Sig::TERM).await;
                    let _ = writer.close().await;
                    return Ok(Ran::Stopped);
                }
            }
        }
        drop(feeding);
        match end {
            None => Err(TransportError::Lost {
                host: self.host.clone(),
                reason: "the server ended the command without saying how".to_owned(),
            }),
            Some(status) if opening.passed() => Ok(Ran::Ended(status)),
            Some(status) => {
                let mut said = opening.instead();
                said.extend_from_slice(&early);
                Ok(Ran::NeverStarted { status, said: String::from_utf8_lossy(&said).into_owned() })
            }
        }
    }

    /// A pause and a round trip: what the server sent before its answer has been read by then.
    async fn quiet_round(&self) {
        sleep(QUIET).await;
        let _ = self.handle.send_ping().await;
    }
}

impl Transport for Session {
    async fn exec(&self, script: &Script, stdin: Bytes) -> Result<Output, TransportError> {
        Session::exec(self, script, stdin).await
    }
}

/// One framed script, what follows it, and the terminal it gets.
struct Job<'a> {
    framed: Framed,
    stdin: Stdin<'a>,
    pty: Option<&'a mut Pty>,
}

/// How a channel ended.
enum Ran {
    /// With a status.
    Ended(i32),
    /// Because `on_output` had enough.
    Stopped,
    /// With a status, but something else ran than the script.
    NeverStarted { status: i32, said: String },
}

/// A terminal that hands over each byte as it is, and shows none: the script sets it right when it starts.
const RAW: [(Mode, u32); 8] = [
    (Mode::ECHO, 0),
    (Mode::ICANON, 0),
    (Mode::ISIG, 0),
    (Mode::IEXTEN, 0),
    (Mode::ICRNL, 0),
    (Mode::INLCR, 0),
    (Mode::IXON, 0),
    (Mode::OPOST, 0),
];

/// Sends the script and then its stdin. An error is this side's: the reader notices the server's.
async fn feed(
    writer: &russh::ChannelWriteHalf<Msg>,
    pieces: Vec<command::Piece>,
    started: usize,
    stdin: Stdin<'_>,
    mut progress: watch::Receiver<usize>,
) -> Result<(), io::Error> {
    for piece in pieces {
        if progress.wait_for(|seen| *seen >= piece.after).await.is_err()
            || writer.data_bytes(piece.bytes).await.is_err()
        {
            return Ok(());
        }
    }
    match stdin {
        Stdin::Empty => {}
        Stdin::Bytes(bytes) => {
            if writer.data_bytes(bytes).await.is_err() {
                return Ok(());
            }
        }
        Stdin::Stream(stream) => {
            if progress.wait_for(|seen| *seen >= started).await.is_err() {
                return Ok(());
            }
            loop {
                let mut chunk = BytesMut::with_capacity(CHUNK);
                if stream.read_buf(&mut chunk).await? == 0 {
                    break;
                }
                if writer.data_bytes(chunk.freeze()).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    let _ = writer.eof().await;
    Ok(())
}

async fn next_size(resized: &mut Option<&mut mpsc::Receiver<super::TermSize>>) -> Option<super::TermSize> {
    match resized {
        Some(resized) => resized.recv().await,
        None => future::pending().await,
    }
}

/// Waits for SIGTERM or SIGHUP and returns its number.
async fn ended_by(signals: &mut [io::Result<tokio::signal::unix::Signal>; 2]) -> i32 {
    let [terminate, hangup] = signals;
    tokio::select! {
        () = arrived(terminate) => 15,
        () = arrived(hangup) => 1,
    }
}

async fn arrived(signal: &mut io::Result<tokio::signal::unix::Signal>) {
    match signal {
        Ok(signal) => {
            signal.recv().await;
        }
        Err(_) => future::pending().await,
    }
}

fn signal_number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        // OpenSSH has no name for the others, so their number is lost on the way.
        Sig::Custom(name) => match name.as_str() {
            "USR2" => 12,
            _ => 127,
        },
    }
}

/// A word that no banner contains by chance. Not secret.
pub(super) fn nonce() -> String {
    use std::hash::{BuildHasher, Hasher};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{:016x}", hasher.finish())
}

/// Why the connection is gone. Waits a moment: a channel may learn of the end before its reason is known.
async fn ending(ending: &watch::Receiver<Option<Ending>>) -> Option<Ending> {
    let mut ending = ending.clone();
    match timeout(Duration::from_secs(1), ending.wait_for(Option::is_some)).await {
        Ok(Ok(reason)) => reason.clone(),
        Ok(Err(_)) | Err(_) => None,
    }
}

fn silence() -> String {
    format!("no answer for {} s", SILENCE.as_secs())
}

/// Asks the user on a thread that may block. `None` if the prompt panicked.
async fn ask<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(question).await.ok()
}

/// Why a connection is over.
#[derive(Debug, Clone)]
enum Ending {
    /// The server said so.
    Told(String),
    /// Nobody said anything.
    Broke(String),
}
