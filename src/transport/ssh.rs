//! The SSH session: connecting, proving who both sides are, and running scripts. The only file that knows russh.
//!
//! Invariants: no byte of authentication is sent before the host key was accepted; a script's status is either known
//! or the run is an error; every writer is raced against the reader, since a dead channel never wakes a writer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{future, io};

use bytes::{Bytes, BytesMut};
use russh::client::{self, AuthResult, ChannelOpenHandle, DisconnectReason, Msg};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Disconnect, MethodKind, Pty as Mode, Sig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::command::{self, Become, Framed, Opening, Refusal};
use super::error::{AuthRefusal, ChangedHostKey, SudoReason, TransportError};
use super::known_hosts::{self, HostKey, KnownHostsFile, Verdict};
use super::line::{KEEPALIVE, Life, SILENCE, Watched};
use super::{
    Endpoint, Exec, Flow, HostKeyPolicy, OnOutput, Output, Prompt, Pty, Stdin, Stream, Transport, Via,
    terminal,
};
use crate::shell::{Script, Secret};

/// How many channels sshd allows at once unless told otherwise (`MaxSessions`).
const MAX_SESSIONS: usize = 10;
/// How often a passphrase or a sudo password is asked for.
const ATTEMPTS: u32 = 3;
/// How long nothing must have come after the exit status before the server is asked whether that was all.
const QUIET: Duration = Duration::from_millis(200);
/// How long the next address waits for the one before it.
const STAGGER: Duration = Duration::from_millis(250);
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
}

enum Carrier {
    None,
    Jump(Box<Session>),
    Command(Box<tokio::process::Child>),
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

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
        let mut login = Login {
            handle: shaken.inspect_err(|_| life.arm())?,
            endpoint,
            prompt: &prompt,
            clock: &clock,
            ending: &ending,
            refusal: AuthRefusal {
                user: endpoint.user.clone(),
                host: endpoint.host.clone(),
                port: endpoint.port,
                ..AuthRefusal::default()
            },
            rsa_hash: None,
            offered: HashSet::new(),
        };
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
        })
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
        let local = |source| TransportError::LocalInput { host: self.host.clone(), source };
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
        loop {
            match self.handle.channel_open_session().await {
                Ok(channel) => return Ok((channel, slot)),
                Err(russh::Error::ChannelOpenFailure(reason)) => {
                    let others = MAX_SESSIONS - 1 - self.slots.available_permits().min(MAX_SESSIONS - 1);
                    if others == 0 {
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
        if let Some(pty) = pty {
            let (columns, rows) = (u32::from(pty.size.columns), u32::from(pty.size.rows));
            if writer.request_pty(false, &pty.term, columns, rows, 0, 0, &RAW).await.is_err() {
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
                        return Err(TransportError::LocalInput { host: self.host.clone(), source });
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
fn nonce() -> String {
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

/// A deadline that stands still while someone thinks.
struct Clock {
    limit: Duration,
    deadline: Mutex<Instant>,
    thinking: AtomicUsize,
}

impl Clock {
    fn new(limit: Duration) -> Self {
        Self { limit, deadline: Mutex::new(Instant::now() + limit), thinking: AtomicUsize::new(0) }
    }

    fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, by: Duration) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// `None` once the deadline has passed.
    async fn limit<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                value = &mut work => return Some(value),
                () = sleep_until(self.deadline()) => {}
            }
            // While someone thinks, look again in a while: the deadline moves when they are done.
            if self.thinking.load(Ordering::Relaxed) == 0 && self.deadline() <= Instant::now() {
                return None;
            }
            tokio::select! {
                biased;
                value = &mut work => return Some(value),
                () = sleep(QUIET) => {}
            }
        }
    }

    /// Waits for someone without counting the time.
    async fn thinking<T>(&self, work: impl Future<Output = T>) -> T {
        self.thinking.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let value = work.await;
        self.extend(start.elapsed());
        self.thinking.fetch_sub(1, Ordering::Relaxed);
        value
    }
}

/// Reaches the server's port.
async fn dial(
    endpoint: &Endpoint,
    prompt: &Arc<dyn Prompt>,
    clock: &Clock,
) -> Result<(Box<dyn Duplex>, Carrier), TransportError> {
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    match &endpoint.via {
        Via::Direct => Ok((Box::new(dial_tcp(endpoint, clock).await?), Carrier::None)),
        Via::Jump(jump) => {
            let connecting = Box::pin(Session::connect(jump, prompt.clone()));
            let session = clock.thinking(connecting).await?;
            let open =
                session.handle.channel_open_direct_tcpip(host.as_str(), u32::from(port), "127.0.0.1", 0);
            match clock.limit(open).await {
                Some(Ok(channel)) => Ok((Box::new(channel.into_stream()), Carrier::Jump(Box::new(session)))),
                Some(Err(russh::Error::ChannelOpenFailure(reason))) => {
                    let reason = format!("{} says {reason:?}", session.host);
                    Err(TransportError::NoRoute { host, port, reason })
                }
                Some(Err(_)) => Err(session.lost().await),
                None => Err(late(endpoint, "connecting through the jump host")),
            }
        }
        Via::Command(command) => {
            let mut child = tokio::process::Command::new("sh");
            child.arg("-c").arg(format!("exec {command}")).kill_on_drop(true);
            child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            let failed = |reason: String| TransportError::NoRoute { host: host.clone(), port, reason };
            let mut child = child.spawn().map_err(|error| failed(error.to_string()))?;
            match (child.stdout.take(), child.stdin.take()) {
                (Some(out), Some(into)) => {
                    Ok((Box::new(tokio::io::join(out, into)), Carrier::Command(Box::new(child))))
                }
                (Some(_) | None, _) => Err(failed("the proxy command has no pipes".to_owned())),
            }
        }
    }
}

fn late(endpoint: &Endpoint, during: &'static str) -> TransportError {
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    TransportError::Timeout { host, port, during, after: endpoint.connect_timeout }
}

/// Tries each address, the next one starting a moment after the one before: the first that answers wins.
async fn dial_tcp(endpoint: &Endpoint, clock: &Clock) -> Result<TcpStream, TransportError> {
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    let lookup = tokio::net::lookup_host((endpoint.host.as_str(), port));
    let addresses: Vec<SocketAddr> = match clock.limit(lookup).await {
        None => return Err(late(endpoint, "looking up its name")),
        Some(Err(source)) => return Err(TransportError::DnsFailed { host, source }),
        Some(Ok(addresses)) => addresses.collect(),
    };
    let mut attempts = JoinSet::new();
    for (index, address) in addresses.into_iter().enumerate() {
        let pause = STAGGER * u32::try_from(index).unwrap_or(u32::MAX);
        attempts.spawn(async move {
            sleep(pause).await;
            TcpStream::connect(address).await
        });
    }
    let mut failure = None;
    let first = clock.limit(async {
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => failure = Some(error),
                Err(_) => {}
            }
        }
        None
    });
    match first.await {
        None => Err(late(endpoint, "connecting")),
        Some(Some(stream)) => {
            // Without it every small packet waits for the answer to the one before: 30 ms a command.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Some(None) => Err(match failure {
            None => TransportError::DnsFailed { host, source: io::ErrorKind::NotFound.into() },
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                TransportError::Refused { host, port }
            }
            Some(error) if error.kind() == io::ErrorKind::TimedOut => late(endpoint, "connecting"),
            Some(error) => TransportError::NoRoute { host, port, reason: error.to_string() },
        }),
    }
}

/// What the server may say to us outside of channels.
struct Client {
    /// Who decides about the host key.
    asks: Option<mpsc::Sender<(HostKey, oneshot::Sender<bool>)>>,
    /// The key that was accepted: it must stay the same when keys are renewed.
    accepted: Option<HostKey>,
    ended: watch::Sender<Option<Ending>>,
    life: Arc<Life>,
    banner: Arc<Mutex<String>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let shown = HostKey { algorithm: key.algorithm().as_str().to_owned(), blob: key.to_bytes()? };
        if let Some(accepted) = &self.accepted {
            return Ok(*accepted == shown);
        }
        let (answer, answered) = oneshot::channel();
        let Some(asks) = self.asks.take() else { return Ok(false) };
        if asks.send((shown.clone(), answer)).await.is_err() || !answered.await.unwrap_or(false) {
            return Ok(false);
        }
        self.accepted = Some(shown);
        Ok(true)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut client::Session) -> Result<(), russh::Error> {
        self.banner.lock().unwrap_or_else(PoisonError::into_inner).push_str(banner);
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let reason = match reason {
            DisconnectReason::ReceivedDisconnect(info) => Ending::Told(info.message.trim().to_owned()),
            DisconnectReason::Error(_) if self.life.silent() => Ending::Broke(silence()),
            DisconnectReason::Error(error) if closed(&error) => {
                Ending::Broke("the server closed it".to_owned())
            }
            DisconnectReason::Error(error) => Ending::Broke(error.to_string()),
        };
        self.ended.send_replace(Some(reason));
        Ok(())
    }

    // ship asks for no forwarding, so a server that opens a channel gets none: dropping the reply refuses it.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }
}

/// Whether the other side hung up.
fn closed(error: &russh::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error {
        russh::Error::HUP | russh::Error::Disconnect => true,
        russh::Error::IO(error) => matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe),
        _ => false,
    }
}

/// Why a connection is over.
#[derive(Debug, Clone)]
enum Ending {
    /// The server said so.
    Told(String),
    /// Nobody said anything.
    Broke(String),
}

/// Agrees on keys with the server and judges the host key it shows.
async fn shake_hands(
    endpoint: &Endpoint,
    prompt: &Arc<dyn Prompt>,
    clock: &Clock,
    stream: Watched<Box<dyn Duplex>>,
    mut client: Client,
) -> Result<client::Handle<Client>, TransportError> {
    let keeper = Keeper::open(endpoint).await?;
    let (asks, mut asked) = mpsc::channel(1);
    let life = client.life.clone();
    client.asks = Some(asks);
    let mut connecting = std::pin::pin!(client::connect_stream(Arc::new(keeper.config()), stream, client));
    let mut refused = None;
    let connected = clock.limit(async {
        loop {
            tokio::select! {
                connected = &mut connecting => return connected,
                Some((key, answer)) = asked.recv() => {
                    let judged = keeper.judge(key, prompt, clock).await;
                    let _ = answer.send(judged.is_ok());
                    refused = judged.err();
                }
            }
        }
    });
    let connected = connected.await;
    if let Some(refused) = refused {
        return Err(refused);
    }
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    match connected {
        Some(Ok(handle)) => Ok(handle),
        None if life.received() == 0 => {
            let reason = format!("it said nothing for {} s", clock.limit.as_secs());
            Err(TransportError::NoBanner { host, port, reason })
        }
        None => Err(late(endpoint, "agreeing on keys")),
        Some(Err(error)) if closed(&error) => {
            let reason = "it closed the connection at once".to_owned();
            Err(TransportError::NoBanner { host, port, reason })
        }
        Some(Err(russh::Error::Version)) => {
            let reason = "it speaks something else".to_owned();
            Err(TransportError::NoBanner { host, port, reason })
        }
        Some(Err(error)) => Err(TransportError::Handshake { host, reason: error.to_string() }),
    }
}

/// What is known of the server's key, and what to do with one that isn't.
struct Keeper<'a> {
    endpoint: &'a Endpoint,
    name: &'a str,
    port: u16,
    files: Vec<KnownHostsFile>,
}

impl<'a> Keeper<'a> {
    async fn open(endpoint: &'a Endpoint) -> Result<Self, TransportError> {
        let mut files = Vec::new();
        if let HostKeyPolicy::KnownHosts { read, pins } = &endpoint.host_key {
            for path in read.iter().chain([pins]) {
                match tokio::fs::read(path).await {
                    Ok(bytes) => {
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        files.push(KnownHostsFile { path: path.clone(), text });
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => {
                        return Err(TransportError::KnownHosts {
                            path: path.clone(),
                            action: "read",
                            source,
                        });
                    }
                }
            }
        }
        // An alias stands for the host whatever its port, as in OpenSSH.
        let (name, port) = match &endpoint.host_key_alias {
            Some(alias) => (alias.as_str(), 22),
            None => (endpoint.host.as_str(), endpoint.port),
        };
        Ok(Self { endpoint, name, port, files })
    }

    /// russh's configuration. The server is asked for the recorded types of key first: of several keys it shows
    /// the one that comes first, and the others would look like a change.
    fn config(&self) -> client::Config {
        let recorded = match &self.endpoint.host_key {
            HostKeyPolicy::KnownHosts { .. } => known_hosts::recorded(&self.files, self.name, self.port),
            HostKeyPolicy::Pinned(keys) => keys.clone(),
        };
        let mut preferred = russh::Preferred::DEFAULT;
        let mut order: Vec<Algorithm> = preferred.key.to_vec();
        // SHA-1 signatures can be forged.
        order.retain(|algorithm| *algorithm != Algorithm::Rsa { hash: None });
        order.sort_by_key(|algorithm| !recorded.iter().any(|key| key.algorithm == key_type(algorithm)));
        preferred.key = order.into();
        preferred.compression = vec![russh::compression::NONE].into();
        client::Config {
            client_id: russh::SshId::Standard(concat!("SSH-2.0-ship_", env!("CARGO_PKG_VERSION")).into()),
            preferred,
            keepalive_interval: Some(KEEPALIVE),
            // Zero: russh only asks for signs of life; `Watched` judges them.
            keepalive_max: 0,
            inactivity_timeout: None,
            nodelay: true,
            ..client::Config::default()
        }
    }

    async fn judge(
        &self,
        key: HostKey,
        prompt: &Arc<dyn Prompt>,
        clock: &Clock,
    ) -> Result<(), TransportError> {
        let host = self.endpoint.host.clone();
        let changed = |place, old: &HostKey| {
            Err(TransportError::HostKeyChanged(Box::new(ChangedHostKey {
                host: host.clone(),
                name: known_hosts::lookup_name(self.name, self.port),
                place,
                old: format!("{} {}", old.algorithm, old.fingerprint()),
                new: format!("{} {}", key.algorithm, key.fingerprint()),
            })))
        };
        let pins = match &self.endpoint.host_key {
            HostKeyPolicy::Pinned(keys) => {
                return match keys.iter().find(|pinned| pinned.algorithm == key.algorithm).or(keys.first()) {
                    _ if keys.contains(&key) => Ok(()),
                    Some(pinned) => changed(None, pinned),
                    None => {
                        let (algorithm, fingerprint) = (key.algorithm.clone(), key.fingerprint());
                        Err(TransportError::HostKeyUnknown { host, algorithm, fingerprint })
                    }
                };
            }
            HostKeyPolicy::KnownHosts { pins, .. } => pins,
        };
        match known_hosts::check(&self.files, self.name, self.port, &key) {
            Verdict::Known => Ok(()),
            Verdict::Changed { place, recorded } => changed(Some(place), &recorded),
            Verdict::Revoked { place } => {
                Err(TransportError::HostKeyRevoked { host, fingerprint: key.fingerprint(), place })
            }
            Verdict::Unknown => {
                let (prompt, shown, name, port) =
                    (prompt.clone(), key.clone(), host.clone(), self.endpoint.port);
                let question = ask(move || prompt.confirm_host_key(&name, port, &shown));
                if clock.thinking(question).await != Some(true) {
                    let (algorithm, fingerprint) = (key.algorithm.clone(), key.fingerprint());
                    return Err(TransportError::HostKeyUnknown { host, algorithm, fingerprint });
                }
                let line = known_hosts::pin_line(self.name, self.port, &key);
                let written = pin(pins, &line).await;
                written.map_err(|source| TransportError::KnownHosts {
                    path: pins.clone(),
                    action: "written",
                    source,
                })
            }
        }
    }
}

/// Appends a line to ship's own known_hosts file.
async fn pin(path: &Path, line: &str) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    let mut file = tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).await?;
    file.write_all(line.as_bytes()).await?;
    file.flush().await
}

/// The type of key that an algorithm signs with.
fn key_type(algorithm: &Algorithm) -> &str {
    match algorithm {
        Algorithm::Rsa { .. } => "ssh-rsa",
        other => other.as_str(),
    }
}

/// A login in progress.
struct Login<'a> {
    handle: client::Handle<Client>,
    endpoint: &'a Endpoint,
    prompt: &'a Arc<dyn Prompt>,
    clock: &'a Clock,
    ending: &'a watch::Receiver<Option<Ending>>,
    refusal: AuthRefusal,
    rsa_hash: Option<Option<HashAlg>>,
    offered: HashSet<Vec<u8>>,
}

/// A private key file, as far as it can be read without a passphrase.
enum KeyFile {
    /// Readable.
    Open(Arc<PrivateKey>),
    /// Encrypted; the public half is known from its header or from the `.pub` file beside it.
    Sealed { text: String, public: Option<PublicKey> },
    /// Only a public key: the agent has the private half.
    Public(PublicKey),
}

/// What is to be done after a key was offered.
enum Next {
    /// Logged in.
    In,
    /// Offer the next key.
    Try,
    /// The server takes no further key.
    Stop,
}

impl Login<'_> {
    async fn run(&mut self, banner: &Mutex<String>) -> Result<(), TransportError> {
        let clock = self.clock;
        match clock.limit(self.keys()).await {
            None => return Err(late(self.endpoint, "logging in")),
            Some(Err(error)) => return Err(error),
            Some(Ok(true)) => return Ok(()),
            Some(Ok(false)) => {}
        }
        if self.handle.is_closed() {
            match ending(self.ending).await {
                Some(Ending::Told(said)) => self.refusal.said = Some(said),
                Some(Ending::Broke(reason)) => {
                    return Err(TransportError::Lost { host: self.endpoint.host.clone(), reason });
                }
                None => {}
            }
        }
        let banner = banner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !banner.trim().is_empty() {
            self.refusal.said = Some(match self.refusal.said.take() {
                Some(said) => format!("{}\n{said}", banner.trim()),
                None => banner,
            });
        }
        Err(TransportError::AuthRefused(Box::new(std::mem::take(&mut self.refusal))))
    }

    /// Offers every key: the named ones, then the agent's own, then the usual files. Whether one was accepted.
    async fn keys(&mut self) -> Result<bool, TransportError> {
        let mut agent = self.agent().await;
        let held = match &mut agent {
            Some(agent) => agent.request_identities().await.unwrap_or_default(),
            None => Vec::new(),
        };
        let named = self.read_keys(&self.endpoint.keys, true)?;
        for (path, file) in &named {
            match self.offer_file(path, file, &mut agent, &held).await? {
                Next::In => return Ok(true),
                Next::Try => {}
                Next::Stop => return Ok(false),
            }
        }
        if !self.endpoint.identities_only
            && let Some(agent) = &mut agent
        {
            for identity in &held {
                match self.offer_agent(agent, identity).await {
                    Next::In => return Ok(true),
                    Next::Try => {}
                    Next::Stop => return Ok(false),
                }
            }
        }
        if named.is_empty() {
            for (path, file) in &self.read_keys(&self.endpoint.default_keys, false)? {
                match self.offer_file(path, file, &mut agent, &held).await? {
                    Next::In => return Ok(true),
                    Next::Try => {}
                    Next::Stop => return Ok(false),
                }
            }
        }
        Ok(false)
    }

    /// The agent, told which server it signs for. `None` if there is none; what is wrong with it is noted.
    async fn agent(&mut self) -> Option<AgentClient<UnixStream>> {
        let path = self.endpoint.agent.as_ref()?;
        match AgentClient::connect_uds(path).await {
            Ok(mut agent) => {
                if let Some(binding) = self.handle.agent_session_binding() {
                    // Older agents know no such thing, and hold no keys that need it.
                    let _ = agent.bind_session(binding, false).await;
                }
                Some(agent)
            }
            Err(error) => {
                self.refusal.tried.push(format!("the agent at {}: {error}", path.display()));
                None
            }
        }
    }

    fn read_keys(
        &self,
        paths: &[PathBuf],
        required: bool,
    ) -> Result<Vec<(PathBuf, KeyFile)>, TransportError> {
        let mut keys = Vec::new();
        for path in paths {
            match read_key(path) {
                Ok(key) => keys.push((path.clone(), key)),
                Err(reason) if required => {
                    return Err(TransportError::KeyUnreadable { path: path.clone(), reason });
                }
                Err(_) => {}
            }
        }
        Ok(keys)
    }

    async fn offer_file(
        &mut self,
        path: &Path,
        file: &KeyFile,
        agent: &mut Option<AgentClient<UnixStream>>,
        held: &[AgentIdentity],
    ) -> Result<Next, TransportError> {
        let public = match file {
            KeyFile::Open(key) => Some(key.public_key().clone()),
            KeyFile::Sealed { public, .. } => public.clone(),
            KeyFile::Public(key) => Some(key.clone()),
        };
        let in_agent = held.iter().find(|identity| match identity {
            AgentIdentity::PublicKey { key, .. } => {
                Some(key.key_data()) == public.as_ref().map(PublicKey::key_data)
            }
            AgentIdentity::Certificate { .. } => false,
        });
        if let (Some(agent), Some(identity)) = (agent, in_agent) {
            return Ok(self.offer_agent(agent, identity).await);
        }
        if public.as_ref().is_some_and(|public| !self.first_offer(public)) {
            return Ok(Next::Try);
        }
        let label = label(&path.display().to_string(), public.as_ref());
        match file {
            KeyFile::Public(_) => {
                self.refusal
                    .tried
                    .push(format!("{label}: only a public key, and the agent does not hold it"));
                Ok(Next::Try)
            }
            KeyFile::Open(key) => Ok(self.offer_key(label, key.clone()).await),
            KeyFile::Sealed { text, public } => {
                if let Some(public) = public
                    && !self.would_accept(public).await
                {
                    self.refusal.tried.push(label);
                    return Ok(if self.handle.is_closed() { Next::Stop } else { Next::Try });
                }
                match self.unseal(path, text).await? {
                    Some(key) => Ok(self.offer_key(label, key).await),
                    None => {
                        self.refusal
                            .tried
                            .push(format!("{label}: it needs a passphrase, and none was given"));
                        Ok(Next::Try)
                    }
                }
            }
        }
    }

    async fn offer_key(&mut self, label: String, key: Arc<PrivateKey>) -> Next {
        let hash = self.hash_for(&key.algorithm()).await;
        let user = self.endpoint.user.clone();
        let result = self.handle.authenticate_publickey(user, PrivateKeyWithHashAlg::new(key, hash)).await;
        self.settle(label, result.map_err(|error| error.to_string()))
    }

    async fn offer_agent(&mut self, agent: &mut AgentClient<UnixStream>, identity: &AgentIdentity) -> Next {
        let mut signer = AgentSigner { agent, clock: self.clock, refused: None };
        let user = self.endpoint.user.clone();
        let (label, result) = match identity {
            AgentIdentity::PublicKey { key, comment } => {
                if !self.first_offer(key) {
                    return Next::Try;
                }
                let hash = self.hash_for(&key.algorithm()).await;
                let label = label(&format!("agent key {comment}"), Some(key));
                (label, self.handle.authenticate_publickey_with(user, key.clone(), hash, &mut signer).await)
            }
            AgentIdentity::Certificate { certificate, comment } => {
                let hash = self.hash_for(&certificate.algorithm()).await;
                let label = format!("agent certificate {comment}");
                let with =
                    self.handle.authenticate_certificate_with(user, certificate.clone(), hash, &mut signer);
                (label, with.await)
            }
        };
        let refused = signer.refused.take();
        self.settle(label, result.map_err(|_| refused.unwrap_or_else(|| "the connection ended".to_owned())))
    }

    /// Whether the server would take the key, without a signature: no passphrase is asked for in vain.
    async fn would_accept(&mut self, key: &PublicKey) -> bool {
        let hash = self.hash_for(&key.algorithm()).await;
        let mut probe = Probe { accepted: false };
        let user = self.endpoint.user.clone();
        let result = self.handle.authenticate_publickey_with(user, key.clone(), hash, &mut probe).await;
        if let Ok(AuthResult::Failure { remaining_methods, .. }) = &result {
            self.note_methods(remaining_methods);
        }
        probe.accepted
    }

    /// Opens an encrypted key. `None` if no passphrase is given.
    async fn unseal(&self, path: &Path, text: &str) -> Result<Option<Arc<PrivateKey>>, TransportError> {
        for attempt in 1..=ATTEMPTS {
            let (prompt, file) = (self.prompt.clone(), path.to_owned());
            let question = ask(move || prompt.passphrase(&file, attempt));
            let Some(passphrase) = self.clock.thinking(question).await.flatten() else { return Ok(None) };
            if let Ok(key) = russh::keys::decode_secret_key(text, Some(passphrase.reveal())) {
                return Ok(Some(Arc::new(key)));
            }
        }
        Err(TransportError::BadPassphrase { path: path.to_owned() })
    }

    fn settle(&mut self, label: String, result: Result<AuthResult, String>) -> Next {
        match result {
            Ok(AuthResult::Success) => Next::In,
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                self.refusal.tried.push(label);
                self.refusal.partial |= partial_success;
                self.note_methods(&remaining_methods);
                let more = remaining_methods.contains(&MethodKind::PublicKey) && !partial_success;
                if more && !self.handle.is_closed() { Next::Try } else { Next::Stop }
            }
            Err(reason) => {
                self.refusal.tried.push(format!("{label}: {reason}"));
                if self.handle.is_closed() { Next::Stop } else { Next::Try }
            }
        }
    }

    fn note_methods(&mut self, methods: &russh::MethodSet) {
        if !methods.is_empty() {
            self.refusal.methods = methods.iter().map(String::from).collect();
        }
    }

    fn first_offer(&mut self, key: &PublicKey) -> bool {
        key.to_bytes().map_or(true, |blob| self.offered.insert(blob))
    }

    /// How to sign with a key of this type. Only RSA has a choice, and finding out may take a second.
    async fn hash_for(&mut self, algorithm: &Algorithm) -> Option<HashAlg> {
        let Algorithm::Rsa { .. } = algorithm else { return None };
        if let Some(hash) = self.rsa_hash {
            return hash;
        }
        let hash = match self.handle.best_supported_rsa_hash().await {
            Ok(Some(hash)) => hash,
            Ok(None) | Err(_) => Some(HashAlg::Sha256),
        };
        self.rsa_hash = Some(hash);
        hash
    }
}

fn label(what: &str, key: Option<&PublicKey>) -> String {
    match key {
        Some(key) => format!("{what} ({})", key.fingerprint(HashAlg::Sha256)),
        None => what.to_owned(),
    }
}

fn read_key(path: &Path) -> Result<KeyFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if let Ok(public) = PublicKey::from_openssh(&text) {
        return Ok(KeyFile::Public(public));
    }
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => Ok(KeyFile::Open(Arc::new(key))),
        Err(russh::keys::Error::KeyIsEncrypted) => {
            let inside = PrivateKey::from_openssh(&text).ok().map(|key| key.public_key().clone());
            let public = inside.or_else(|| {
                let beside = std::fs::read_to_string(format!("{}.pub", path.display())).ok()?;
                PublicKey::from_openssh(&beside).ok()
            });
            Ok(KeyFile::Sealed { text, public })
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Signs with the agent; the time it takes its user to agree is not counted.
struct AgentSigner<'a> {
    agent: &'a mut AgentClient<UnixStream>,
    clock: &'a Clock,
    refused: Option<String>,
}

/// A signature that was not made. The reason is kept by the signer.
struct NotSigned;

impl From<russh::SendError> for NotSigned {
    fn from(_: russh::SendError) -> Self {
        Self
    }
}

impl russh::Signer for AgentSigner<'_> {
    type Error = NotSigned;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, NotSigned> {
        let signed = self.clock.thinking(self.agent.sign_request(key, hash, data)).await;
        signed.map_err(|error| {
            self.refused = Some(format!("the agent did not sign: {error}"));
            NotSigned
        })
    }
}

/// Signs nothing, but remembers that it was asked to.
struct Probe {
    accepted: bool,
}

impl russh::Signer for Probe {
    type Error = NotSigned;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        _: Vec<u8>,
    ) -> Result<Vec<u8>, NotSigned> {
        self.accepted = true;
        Err(NotSigned)
    }
}
