//! Getting to the server: the way there, the handshake, and the judgement of its host key.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::Channel;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Msg};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Ending, QUIET, Session, ask, silence};
use crate::transport::error::{ChangedHostKey, TransportError};
use crate::transport::known_hosts::{self, HostKey, KnownHostsFile, Verdict};
use crate::transport::line::{KEEPALIVE, Life, Watched};
use crate::transport::{Endpoint, HostKeyPolicy, Prompt, Via};

/// How long the next address waits for the one before it.
const STAGGER: Duration = Duration::from_millis(250);

/// What carries a connection, if it isn't TCP.
pub(super) enum Carrier {
    None,
    Jump(Box<Session>),
    Command(Box<tokio::process::Child>),
}

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A deadline that stands still while someone thinks.
pub(super) struct Clock {
    limit: Duration,
    deadline: Mutex<Instant>,
    thinking: AtomicUsize,
}

impl Clock {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, deadline: Mutex::new(Instant::now() + limit), thinking: AtomicUsize::new(0) }
    }

    fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, by: Duration) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// `None` once the deadline has passed.
    pub(super) async fn limit<T>(&self, work: impl Future<Output = T>) -> Option<T> {
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
    pub(super) async fn thinking<T>(&self, work: impl Future<Output = T>) -> T {
        self.thinking.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let value = work.await;
        self.extend(start.elapsed());
        self.thinking.fetch_sub(1, Ordering::Relaxed);
        value
    }
}

/// Reaches the server's port.
pub(super) async fn dial(
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

pub(super) fn late(endpoint: &Endpoint, during: &'static str) -> TransportError {
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
pub(super) struct Client {
    /// Who decides about the host key.
    pub(super) asks: Option<mpsc::Sender<(HostKey, oneshot::Sender<bool>)>>,
    /// The key that was accepted: it must stay the same when keys are renewed.
    pub(super) accepted: Option<HostKey>,
    pub(super) ended: watch::Sender<Option<Ending>>,
    pub(super) life: Arc<Life>,
    pub(super) banner: Arc<Mutex<String>>,
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

/// Agrees on keys with the server and judges the host key it shows.
pub(super) async fn shake_hands(
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
