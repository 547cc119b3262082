//! Proving who the user is: which keys are offered, in which order, and who signs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::MethodKind;
use russh::client::{self, AuthResult};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::connect::{Client, Clock, late};
use super::{ATTEMPTS, Ending, ask, ending};
use crate::transport::error::{AuthRefusal, TransportError};
use crate::transport::{Endpoint, Prompt};

/// A login in progress.
pub(super) struct Login<'a> {
    pub(super) handle: client::Handle<Client>,
    endpoint: &'a Endpoint,
    prompt: &'a Arc<dyn Prompt>,
    clock: &'a Clock,
    ending: &'a watch::Receiver<Option<Ending>>,
    refusal: AuthRefusal,
    rsa_hash: Option<Option<HashAlg>>,
    offered: HashSet<Vec<u8>>,
}

/// A private key file, as far as it can be read without a passphrase.
pub(super) enum KeyFile {
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

impl<'a> Login<'a> {
    pub(super) fn new(
        handle: client::Handle<Client>,
        endpoint: &'a Endpoint,
        prompt: &'a Arc<dyn Prompt>,
        clock: &'a Clock,
        ending: &'a watch::Receiver<Option<Ending>>,
    ) -> Self {
        let refusal = AuthRefusal {
            user: endpoint.user.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            ..AuthRefusal::default()
        };
        Self { handle, endpoint, prompt, clock, ending, refusal, rsa_hash: None, offered: HashSet::new() }
    }

    pub(super) async fn run(&mut self, banner: &Mutex<String>) -> Result<(), TransportError> {
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

pub(super) fn read_key(path: &Path) -> Result<KeyFile, String> {
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
