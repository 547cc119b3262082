//! Keys outside of a connection: a new server's first host key, and the user's own public key.

use std::path::{Path, PathBuf};

use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};

use super::login::{KeyFile, read_key};
use crate::shell::Secret;
use crate::transport::HostKey;

/// Makes an Ed25519 host key: the private half as OpenSSH's file, and the public half.
pub fn generate_host_key() -> Option<(Secret, HostKey)> {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).ok()?;
    let file = key.to_openssh(LineEnding::LF).ok()?;
    let public = HostKey::parse(&key.public_key().to_openssh().ok()?)?;
    Some((Secret::new(file.as_str()), public))
}

/// The user's public key as an `authorized_keys` line: of the file `named`, or the agent's first one, or that of the
/// first of the `usual` files that exists. `Err` names the file that can't be read and why.
pub async fn own_public_key(
    named: Option<&Path>,
    agent: Option<&Path>,
    usual: &[PathBuf],
) -> Result<Option<String>, String> {
    if let Some(path) = named {
        return public_half(path).map(Some);
    }
    if let Some(socket) = agent
        && let Ok(mut agent) = AgentClient::connect_uds(socket).await
        && let Ok(identities) = agent.request_identities().await
        && let Some(first) = identities.first()
    {
        return Ok(first.public_key().into_owned().to_openssh().ok());
    }
    match usual.iter().find(|path| path.is_file()) {
        Some(path) => public_half(path).map(Some),
        None => Ok(None),
    }
}

/// The `.pub` file beside a key has its comment; the key itself is asked where there is none.
fn public_half(path: &Path) -> Result<String, String> {
    let beside = std::fs::read_to_string(format!("{}.pub", path.display())).ok();
    if let Some(key) = beside.and_then(|text| PublicKey::from_openssh(&text).ok()) {
        return key.to_openssh().map_err(|error| error.to_string());
    }
    let key = match read_key(path).map_err(|why| format!("can't read the key {}: {why}", path.display()))? {
        KeyFile::Public(key) => key,
        KeyFile::Open(key) => key.public_key().clone(),
        KeyFile::Sealed { public: Some(key), .. } => key,
        KeyFile::Sealed { public: None, .. } => {
            return Err(format!(
                "the key {0} is encrypted and has no {0}.pub beside it; `ssh-keygen -y -f {0} > {0}.pub` makes one",
                path.display()
            ));
        }
    };
    key.to_openssh().map_err(|error| error.to_string())
}
