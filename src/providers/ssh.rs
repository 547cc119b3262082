//! An existing host, reached as `ssh` would reach it.

use std::path::{Path, PathBuf};

use crate::config::SshServer;
use crate::transport::Endpoint;
use crate::transport::sshconfig::{self, Target};

/// Decides how to reach the host: ship.yml first, then `~/.ssh/config`.
pub async fn endpoint(project: &Path, server: &SshServer) -> Endpoint {
    let target = Target {
        host: server.host.clone(),
        user: server.user.clone(),
        port: server.port,
        keys: server.key.iter().map(|key| expand(project, key)).collect(),
    };
    sshconfig::resolve(&target, &project.join(".ship/known_hosts")).await
}

/// `~/x` is the user's home; a relative path is the project's.
pub fn expand(project: &Path, key: &str) -> PathBuf {
    match (key.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        (Some(_) | None, _) => project.join(key),
    }
}
