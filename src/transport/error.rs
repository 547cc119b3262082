//! Why a server could not be reached, logged in to or kept, and what the user reads about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::known_hosts::Place;
use crate::error::Failure;

/// A failure of the connection itself. A script that ends with a status other than 0 is not one.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The name has no address.
    #[error("the name {host} could not be looked up")]
    DnsFailed {
        /// The name.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// Every address refused the connection: nothing listens on the port.
    #[error("{host} refused the connection on port {port}")]
    Refused {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// There is no way there.
    #[error("{host} port {port} cannot be reached: {reason}")]
    NoRoute {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the system, the jump host or the proxy command said.
        reason: String,
    },
    /// Nothing happened for too long.
    #[error("{host} did not answer on port {port}: ship tried for {} s, {during}", after.as_secs())]
    Timeout {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What was being done.
        during: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The port is open, but what listens there doesn't speak SSH (yet).
    #[error("{host} port {port} is open, but no SSH server answers there: {reason}")]
    NoBanner {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What happened instead.
        reason: String,
    },
    /// The two sides found no common ground, or the connection broke before login.
    #[error("no secure connection to {host}: {reason}")]
    Handshake {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The host key is not the recorded one. Nothing was sent.
    #[error("the host key of {} has changed: it is not the one recorded in {}", .0.host, .0.recorded_in())]
    HostKeyChanged(Box<ChangedHostKey>),
    /// The host key is marked as revoked. Nothing was sent.
    #[error("the host key of {host} ({fingerprint}) is revoked by {place}")]
    HostKeyRevoked {
        /// The host.
        host: String,
        /// The key's SHA-256 fingerprint.
        fingerprint: String,
        /// The `@revoked` line.
        place: Place,
    },
    /// The host key is unknown and was not accepted. Nothing was sent.
    #[error("the host key of {host} is unknown and was not accepted: {algorithm} {fingerprint}")]
    HostKeyUnknown {
        /// The host.
        host: String,
        /// The key's type.
        algorithm: String,
        /// The key's SHA-256 fingerprint.
        fingerprint: String,
    },
    /// A known_hosts file could not be read or written.
    #[error("{} could not be {action}", path.display())]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The server accepted none of the keys.
    #[error("{}@{} refused the login", .0.user, .0.host)]
    AuthRefused(Box<AuthRefusal>),
    /// A private key the user named is unusable.
    #[error("the key {} cannot be used: {reason}", path.display())]
    KeyUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Three wrong passphrases.
    #[error("no passphrase opened the key {}", path.display())]
    BadPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The login works, but does not get to be root.
    #[error("{user}@{host} may not become root: {reason}")]
    SudoDenied {
        /// The login name.
        user: String,
        /// The host.
        host: String,
        /// Why.
        reason: SudoReason,
    },
    /// The server gives no pseudo-terminal.
    #[error("{host} refuses a terminal to {user}")]
    NoTerminal {
        /// The login name.
        user: String,
        /// The host.
        host: String,
    },
    /// The server ran something else than the script: a forced command, `nologin`.
    #[error("{user}@{host} lets ship in, but does not run its commands (status {status})")]
    NotAShell {
        /// The login name.
        user: String,
        /// The host.
        host: String,
        /// The status of what ran instead.
        status: i32,
        /// What it said.
        said: String,
    },
    /// The server opened no channel.
    #[error("{host} runs no command: {reason}")]
    ChannelRefused {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The connection was lost: what was running may still be running, and how it ended is not known.
    #[error("the connection to {host} was lost: {reason}")]
    Lost {
        /// The host.
        host: String,
        /// What ended it.
        reason: String,
    },
    /// What was to be sent, or the terminal, could not be read on this side.
    #[error("the input for {host} could not be read")]
    LocalInput {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
}

/// A host key that differs from the recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedHostKey {
    /// The host.
    pub host: String,
    /// The name under which known_hosts has it.
    pub name: String,
    /// The line that disagrees; `None` if the key was pinned by ship itself.
    pub place: Option<Place>,
    /// The recorded key's type and SHA-256 fingerprint.
    pub old: String,
    /// The shown key's type and SHA-256 fingerprint.
    pub new: String,
}

impl ChangedHostKey {
    fn recorded_in(&self) -> String {
        self.place.as_ref().map_or_else(|| "what ship knows of this server".to_owned(), Place::to_string)
    }
}

/// A login that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthRefusal {
    /// The login name.
    pub user: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Each key that was offered, or why it was not.
    pub tried: Vec<String>,
    /// The methods the server would still take.
    pub methods: Vec<String>,
    /// Whether a key was right, but the server wants a second factor.
    pub partial: bool,
    /// What the server said when it hung up, or before.
    pub said: Option<String>,
}

/// Why sudo refuses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SudoReason {
    /// sudo is not installed.
    #[error("sudo is not installed")]
    Missing,
    /// `requiretty` is set.
    #[error("sudo insists on a terminal (requiretty)")]
    NeedsTerminal,
    /// The user is not in the sudoers file, or not for everything.
    #[error("sudo does not allow it")]
    NotAllowed,
    /// A password is needed and none was given.
    #[error("sudo wants a password, and none was given")]
    NoPassword,
    /// Every password that was given was wrong.
    #[error("sudo does not take the password")]
    WrongPassword,
    /// Something else, in sudo's own words.
    #[error("{0}")]
    Other(String),
}

impl TransportError {
    /// Whether a server that is still booting would fail like this: worth another try in a moment.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::NoRoute { .. } | Self::Timeout { .. } | Self::NoBanner { .. } => {
                true
            }
            Self::DnsFailed { .. }
            | Self::Handshake { .. }
            | Self::HostKeyChanged(_)
            | Self::HostKeyRevoked { .. }
            | Self::HostKeyUnknown { .. }
            | Self::KnownHosts { .. }
            | Self::AuthRefused(_)
            | Self::KeyUnreadable { .. }
            | Self::BadPassphrase { .. }
            | Self::SudoDenied { .. }
            | Self::NotAShell { .. }
            | Self::NoTerminal { .. }
            | Self::ChannelRefused { .. }
            | Self::Lost { .. }
            | Self::LocalInput { .. } => false,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::DnsFailed { .. } => vec!["check `server.host` in ship.yml, and this machine's network".into()],
            Self::Refused { port, .. } => {
                vec![format!("is sshd running, and on port {port}? A server that has just booted needs a moment")]
            }
            Self::NoRoute { .. } => vec!["check this machine's network, VPN or proxy settings".into()],
            Self::Timeout { port, .. } => {
                vec![format!("is the server on, and does its firewall let port {port} through?")]
            }
            Self::NoBanner { port, .. } => vec![
                format!("does sshd listen on port {port}? `server.port` in ship.yml changes it"),
                "fail2ban and MaxStartups close connections like this: wait a few minutes".into(),
            ],
            Self::Handshake { .. } => vec!["is the server's OpenSSH very old, or is something in between?".into()],
            Self::HostKeyChanged(change) => changed_hints(change),
            Self::HostKeyRevoked { .. } => vec!["do not use this server: its key is known to be stolen".into()],
            Self::HostKeyUnknown { .. } => vec![
                "compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the server".into(),
                "if it is the same, answer yes, or run with --yes".into(),
            ],
            Self::AuthRefused(refusal) => refused_hints(refusal),
            Self::KeyUnreadable { .. } => vec!["`server.key` in ship.yml names a private key file".into()],
            Self::BadPassphrase { path } => vec![format!("`ssh-add {}` keeps it open in the agent", path.display())],
            Self::SudoDenied { user, reason, .. } => vec![sudo_hint(user, reason)],
            Self::NotAShell { said, .. } => match asked_to_log_in_as(said) {
                Some(user) => vec![format!("set `server.user: {user}` in ship.yml")],
                None => vec!["the login needs a shell and no forced command".into()],
            },
            Self::NoTerminal { .. } => vec![
                "`PermitTTY no` in the server's sshd_config, or `no-pty` with the key in authorized_keys, forbids it".into(),
                "without a terminal it runs by pipes: `ship run COMMAND </dev/null | cat`".into(),
            ],
            Self::Lost { .. } => vec!["run the same command again: it carries on where the server is".into()],
            Self::KnownHosts { .. } | Self::ChannelRefused { .. } | Self::LocalInput { .. } => Vec::new(),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::DnsFailed { source, .. }
            | Self::KnownHosts { source, .. }
            | Self::LocalInput { source, .. } => Some(source.to_string()),
            Self::HostKeyChanged(change) => {
                Some(format!("  recorded  {}\n  shown     {}", change.old, change.new))
            }
            Self::AuthRefused(refusal) => Some(refused_detail(refusal)),
            Self::NotAShell { said, .. } => Some(said.trim().to_owned()),
            Self::Refused { .. }
            | Self::NoRoute { .. }
            | Self::Timeout { .. }
            | Self::NoBanner { .. }
            | Self::Handshake { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostKeyUnknown { .. }
            | Self::KeyUnreadable { .. }
            | Self::BadPassphrase { .. }
            | Self::SudoDenied { .. }
            | Self::NoTerminal { .. }
            | Self::ChannelRefused { .. }
            | Self::Lost { .. } => None,
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        let mut failure = Failure::unreachable(error.to_string()).detail(error.detail().unwrap_or_default());
        failure.may_pass = error.may_pass()
            || matches!(error, TransportError::DnsFailed { .. } | TransportError::Handshake { .. })
            || matches!(error, TransportError::Lost { .. });
        error.hints().into_iter().fold(failure, Failure::hint)
    }
}

fn changed_hints(change: &ChangedHostKey) -> Vec<String> {
    let mut hints = vec![
        "someone may be between you and the server: do not go on unless you know why it changed".to_owned(),
    ];
    match &change.place {
        Some(place) => hints.push(format!(
            "if you reinstalled the server: ssh-keygen -f {} -R {}",
            crate::shell::quote(&place.path.display().to_string()),
            crate::shell::quote(&change.name)
        )),
        None => hints
            .push("if the server was rebuilt outside ship, destroy it and create it with ship".to_owned()),
    }
    hints
}

fn refused_detail(refusal: &AuthRefusal) -> String {
    let mut lines: Vec<String> = refusal.tried.iter().map(|key| format!("  tried {key}")).collect();
    if lines.is_empty() {
        lines.push("  no key was found to try".to_owned());
    }
    if !refusal.methods.is_empty() {
        lines.push(format!("  the server takes: {}", refusal.methods.join(", ")));
    }
    if let Some(said) = &refusal.said {
        lines.push(format!("  the server said: {}", said.trim()));
    }
    lines.join("\n")
}

fn refused_hints(refusal: &AuthRefusal) -> Vec<String> {
    if refusal.partial {
        return vec![
            "the server wants a second factor after the key: ship's login must need the key alone".into(),
        ];
    }
    let mut hints = Vec::new();
    if refusal.said.as_deref().is_some_and(|said| said.contains("Too many authentication failures")) {
        hints.push(
            "the agent offers more keys than the server lets ship try: name the right one with `server.key`, \
             and set `IdentitiesOnly yes` for this host in ~/.ssh/config"
                .to_owned(),
        );
    }
    if refusal.tried.is_empty() {
        hints.push(
            "`ssh-add FILE` gives your key to the agent, or `server: {key: FILE}` in ship.yml names it; \
             `ssh-keygen -t ed25519` makes one"
                .to_owned(),
        );
    }
    let port = if refusal.port == 22 { String::new() } else { format!("-p {} ", refusal.port) };
    hints.push(format!("to give it your key: ssh-copy-id {port}{}@{}", refusal.user, refusal.host));
    hints.push(
        "is the user right? Cloud images often want `debian`, `admin` or `ubuntu` instead of `root`".into(),
    );
    hints
}

fn sudo_hint(user: &str, reason: &SudoReason) -> String {
    match reason {
        SudoReason::Missing => "as root: apt-get install sudo; or log in as root".to_owned(),
        SudoReason::NeedsTerminal => {
            format!("add `Defaults:{user} !requiretty` to the server's /etc/sudoers.d")
        }
        SudoReason::NotAllowed | SudoReason::Other(_) => {
            format!("as root on the server: adduser {user} sudo; or log in as root")
        }
        SudoReason::NoPassword => format!(
            "run ship on a terminal to be asked for it, or set SHIP_SUDO_PASSWORD; to need none, as root on the \
             server: echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{user}"
        ),
        SudoReason::WrongPassword => format!(
            "it is the password of {user} on the server; to need none: echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{user}, as root on the server"
        ),
    }
}

/// The user that a cloud image names when it turns `root` away.
fn asked_to_log_in_as(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("login as the user")?;
    rest.split('"').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(error: TransportError) -> String {
        Failure::from(error).to_string()
    }

    #[test]
    fn a_changed_key_names_both_and_the_way_out() {
        let change = ChangedHostKey {
            host: "web.example.com".into(),
            name: "[web.example.com]:2222".into(),
            place: Some(Place { path: ".ship/known_hosts".into(), line: 3 }),
            old: "ssh-ed25519 SHA256:old".into(),
            new: "ssh-ed25519 SHA256:new".into(),
        };
        insta::assert_snapshot!(read(TransportError::HostKeyChanged(Box::new(change))), @r"
        error: the host key of web.example.com has changed: it is not the one recorded in .ship/known_hosts:3
          recorded  ssh-ed25519 SHA256:old
          shown     ssh-ed25519 SHA256:new
        hint: someone may be between you and the server: do not go on unless you know why it changed
        hint: if you reinstalled the server: ssh-keygen -f .ship/known_hosts -R '[web.example.com]:2222'
        ");
    }

    #[test]
    fn a_refused_login_says_what_was_tried() {
        let refusal = AuthRefusal {
            user: "root".into(),
            host: "web.example.com".into(),
            port: 22,
            tried: vec!["~/.ssh/id_ed25519 (SHA256:abc)".into()],
            methods: vec!["publickey".into()],
            partial: false,
            said: None,
        };
        insta::assert_snapshot!(read(TransportError::AuthRefused(Box::new(refusal))), @r"
        error: root@web.example.com refused the login
          tried ~/.ssh/id_ed25519 (SHA256:abc)
          the server takes: publickey
        hint: to give it your key: ssh-copy-id root@web.example.com
        hint: is the user right? Cloud images often want `debian`, `admin` or `ubuntu` instead of `root`
        ");
    }

    #[test]
    fn a_silent_server_says_how_long_ship_waited() {
        let error = TransportError::Timeout {
            host: "web.example.com".into(),
            port: 22,
            during: "connecting",
            after: Duration::from_secs(15),
        };
        assert!(error.may_pass());
        insta::assert_snapshot!(read(error), @r"
        error: web.example.com did not answer on port 22: ship tried for 15 s, connecting
        hint: is the server on, and does its firewall let port 22 through?
        ");
    }

    #[test]
    fn a_cloud_image_names_its_user() {
        let error = TransportError::NotAShell {
            user: "root".into(),
            host: "web.example.com".into(),
            status: 142,
            said: "Please login as the user \"debian\" rather than the user \"root\".\n\n".into(),
        };
        insta::assert_snapshot!(read(error), @r#"
        error: root@web.example.com lets ship in, but does not run its commands (status 142)
        Please login as the user "debian" rather than the user "root".
        hint: set `server.user: debian` in ship.yml
        "#);
    }
}
