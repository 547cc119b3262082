//! What the user's OpenSSH configuration says of a host.
//!
//! `ssh -G HOST` is asked when ssh is installed: only OpenSSH itself understands Include, Match and its tokens.
//! Without it, a plain reading of `~/.ssh/config`. What ship.yml says explicitly wins over both.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::known_hosts::glob;
use super::{CONNECT_TIMEOUT, Endpoint, HostKeyPolicy, Via};

/// What ship.yml or the command line says of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// A host name, an address, or an alias from `~/.ssh/config`.
    pub host: String,
    /// The port, if given.
    pub port: Option<u16>,
    /// The user, if given.
    pub user: Option<String>,
    /// The private keys, if given.
    pub keys: Vec<PathBuf>,
}

/// What a configuration says of one host, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// HostName.
    pub hostname: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// IdentityFile, each.
    pub identity_files: Vec<String>,
    /// IdentitiesOnly.
    pub identities_only: bool,
    /// IdentityAgent.
    pub identity_agent: Option<String>,
    /// ProxyJump.
    pub proxy_jump: Option<String>,
    /// ProxyCommand.
    pub proxy_command: Option<String>,
    /// UserKnownHostsFile and GlobalKnownHostsFile.
    pub known_hosts: Vec<String>,
    /// HostKeyAlias.
    pub host_key_alias: Option<String>,
}

impl HostConfig {
    /// Takes one keyword, if it has no value yet.
    fn set(&mut self, keyword: &str, value: &str) {
        let text = || (!value.is_empty() && value != "none").then(|| value.to_owned());
        match keyword.to_ascii_lowercase().as_str() {
            "hostname" => keep(&mut self.hostname, text()),
            "user" => keep(&mut self.user, text()),
            "port" => keep(&mut self.port, value.parse().ok()),
            "identityfile" => self.identity_files.extend(text()),
            "identitiesonly" => self.identities_only |= value == "yes",
            "identityagent" => keep(&mut self.identity_agent, Some(value.to_owned())),
            "proxyjump" => keep(&mut self.proxy_jump, text()),
            "proxycommand" => keep(&mut self.proxy_command, text()),
            "userknownhostsfile" | "globalknownhostsfile" => {
                self.known_hosts.extend(words(value).into_iter().filter(|word| word != "none"));
            }
            "hostkeyalias" => keep(&mut self.host_key_alias, text()),
            _ => {}
        }
    }
}

fn keep<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

/// Reads what `ssh -G` prints.
pub fn parse_ssh_g(text: &str) -> HostConfig {
    let mut config = HostConfig::default();
    for line in text.lines() {
        if let Some((keyword, value)) = line.split_once(' ') {
            config.set(keyword, value.trim());
        }
    }
    config
}

/// Reads a configuration file for `host`: Host blocks only; Match blocks and Include are passed over.
pub fn parse_config(text: &str, host: &str) -> HostConfig {
    let mut config = HostConfig::default();
    let mut applies = true;
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (keyword, value) = line.split_once([' ', '\t', '=']).unwrap_or((line, ""));
        let value = value.trim_start_matches([' ', '\t', '=']).trim();
        if keyword.eq_ignore_ascii_case("host") {
            applies = host_applies(&words(value), host);
        } else if keyword.eq_ignore_ascii_case("match") {
            applies = false;
        } else if applies {
            let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            config.set(keyword, unquoted.unwrap_or(value));
        }
    }
    config
}

fn host_applies(patterns: &[String], host: &str) -> bool {
    let negated = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(|p| glob(p, host));
    !negated && patterns.iter().any(|pattern| !pattern.starts_with('!') && glob(pattern, host))
}

/// Splits on blanks; double quotes keep them.
fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut any) = (String::new(), false, false);
    for letter in value.chars() {
        match letter {
            '"' => (quoted, any) = (!quoted, true),
            ' ' | '\t' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The names of the key files that OpenSSH tries by itself, best first.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
/// Further names that `ssh -G` lists without anyone having asked for them.
const OTHER_DEFAULTS: [&str; 4] = ["id_ecdsa_sk", "id_ed25519_sk", "id_xmss", "id_dsa"];

/// The key files that are tried when none is named, whether they exist or not.
pub fn default_keys() -> Vec<PathBuf> {
    let home = std::env::home_dir().unwrap_or_default();
    DEFAULT_KEYS.iter().map(|name| home.join(".ssh").join(name)).collect()
}

/// Decides where to connect: asks `ssh -G`, or reads `~/.ssh/config`, for what `target` leaves open.
///
/// `pins` is ship's own known_hosts file. Jump hosts are decided the same way.
pub async fn resolve(target: &Target, pins: &Path) -> Endpoint {
    let config = host_config(target).await;
    let mut endpoint = decide(target, &config, pins, &Surroundings::real());
    if let Some(jumps) = &config.proxy_jump
        && let Some(jump) = jump_target(jumps)
    {
        // Only the last hop is dialled from the one before, so the chain is built from the front.
        let mut hop: Option<Endpoint> = None;
        for target in jump {
            let config = host_config(&target).await;
            let mut next = decide(&target, &config, pins, &Surroundings::real());
            if let Some(before) = hop {
                next.via = Via::Jump(Box::new(before));
            }
            hop = Some(next);
        }
        if let Some(hop) = hop {
            endpoint.via = Via::Jump(Box::new(hop));
        }
    }
    endpoint
}

/// Reads `[user@]host[:port]` or `ssh://…`, several joined by commas.
fn jump_target(jumps: &str) -> Option<Vec<Target>> {
    jumps.split(',').map(|jump| one_jump(jump.trim())).collect()
}

fn one_jump(jump: &str) -> Option<Target> {
    let jump = jump.strip_prefix("ssh://").unwrap_or(jump).trim_end_matches('/');
    let (user, rest) = match jump.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, jump),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match rest.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            Some(_) | None => (rest, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    (!host.is_empty()).then(|| Target { host: host.to_owned(), port, user, keys: Vec::new() })
}

async fn host_config(target: &Target) -> HostConfig {
    match ask_ssh(target).await {
        Some(text) => parse_ssh_g(&text),
        None => {
            let path = std::env::home_dir().unwrap_or_default().join(".ssh/config");
            let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
            parse_config(&text, &target.host)
        }
    }
}

/// `ssh -G`. `None` if ssh is missing, fails, or takes longer than 5 s (a Match exec may).
async fn ask_ssh(target: &Target) -> Option<String> {
    let mut ssh = Command::new("ssh");
    ssh.arg("-G");
    if let Some(port) = target.port {
        ssh.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &target.user {
        ssh.arg(format!("-oUser={user}"));
    }
    // After `--`, a host that starts with a dash is a host.
    ssh.arg("--").arg(&target.host).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(5), ssh.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a decision needs to know of this machine.
struct Surroundings {
    home: PathBuf,
    user: String,
    agent: Option<PathBuf>,
    exists: fn(&Path) -> bool,
}

impl Surroundings {
    fn real() -> Self {
        Self {
            home: std::env::home_dir().unwrap_or_default(),
            user: std::env::var("USER")
                .or_else(|_| std::env::var("LOGNAME"))
                .unwrap_or_else(|_| "root".into()),
            agent: std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from),
            exists: Path::exists,
        }
    }

    fn path(&self, text: &str, host: &str, port: u16, user: &str) -> PathBuf {
        let home = self.home.display().to_string();
        let mut expanded = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                expanded.push(letter);
                continue;
            }
            match letters.next() {
                Some('d') => expanded.push_str(&home),
                Some('h' | 'n' | 'k') => expanded.push_str(host),
                Some('p') => expanded.push_str(&port.to_string()),
                Some('r') => expanded.push_str(user),
                Some('u') => expanded.push_str(&self.user),
                Some('%') | None => expanded.push('%'),
                Some(other) => expanded.extend(['%', other]),
            }
        }
        match expanded.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None => PathBuf::from(expanded),
        }
    }

    fn is_default_key(&self, path: &Path) -> bool {
        let ssh = self.home.join(".ssh");
        DEFAULT_KEYS.iter().chain(&OTHER_DEFAULTS).any(|name| path == ssh.join(name))
    }
}

fn decide(target: &Target, config: &HostConfig, pins: &Path, around: &Surroundings) -> Endpoint {
    let host = config.hostname.as_deref().unwrap_or("%h").replace("%h", &target.host).replace("%%", "%");
    let user = target.user.clone().or_else(|| config.user.clone()).unwrap_or_else(|| around.user.clone());
    let port = target.port.or(config.port).unwrap_or(22);
    let path = |text: &str| around.path(text, &host, port, &user);
    // `ssh -G` lists the default names whether or not they exist, and files that are simply not there are no error.
    let (default_keys, named): (Vec<PathBuf>, Vec<PathBuf>) = config
        .identity_files
        .iter()
        .map(|text| path(text))
        .filter(|file| (around.exists)(file))
        .partition(|file| around.is_default_key(file));
    let keys = if target.keys.is_empty() { named } else { target.keys.clone() };
    let agent = match config.identity_agent.as_deref() {
        None | Some("SSH_AUTH_SOCK") => around.agent.clone(),
        Some("none") => None,
        Some(text) => Some(path(text)),
    };
    let read = if config.known_hosts.is_empty() {
        vec![around.home.join(".ssh/known_hosts"), PathBuf::from("/etc/ssh/ssh_known_hosts")]
    } else {
        config.known_hosts.iter().map(|text| path(text)).collect()
    };
    let via = match &config.proxy_command {
        Some(command) => Via::Command(proxy_command(command, &host, port, &user)),
        None => Via::Direct,
    };
    Endpoint {
        default_keys: if config.identity_files.is_empty() {
            DEFAULT_KEYS.iter().map(|name| around.home.join(".ssh").join(name)).collect()
        } else {
            default_keys
        },
        keys,
        identities_only: config.identities_only,
        agent,
        via,
        host_key: HostKeyPolicy::KnownHosts { read, pins: pins.to_owned() },
        host_key_alias: config.host_key_alias.clone(),
        connect_timeout: CONNECT_TIMEOUT,
        host,
        port,
        user,
    }
}

fn proxy_command(command: &str, host: &str, port: u16, user: &str) -> String {
    command
        .replace("%h", &crate::shell::quote(host))
        .replace("%p", &port.to_string())
        .replace("%r", &crate::shell::quote(user))
        .replace("%%", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
# a comment
User everyone
Host web web-*  !web-old
    HostName %h.example.com
    Port=2222
    IdentityFile "~/.ssh/my key"
    IdentityFile ~/.ssh/%r-%h
    User = deploy
Host web
    Port 9999
Match host web
    ProxyCommand evil
Host *
    IdentitiesOnly yes
    ProxyJump ops@gate.example.com:2200,second
"#;

    fn around(exists: fn(&Path) -> bool) -> Surroundings {
        Surroundings { home: "/home/me".into(), user: "me".into(), agent: Some("/agent".into()), exists }
    }

    fn endpoint(target: &Target, config: &HostConfig) -> Endpoint {
        decide(target, config, Path::new(".ship/known_hosts"), &around(|_| true))
    }

    fn target(host: &str) -> Target {
        Target { host: host.into(), ..Target::default() }
    }

    #[test]
    fn the_first_value_wins_and_identity_files_add_up() {
        let config = parse_config(CONFIG, "web");
        assert_eq!(config.hostname.as_deref(), Some("%h.example.com"));
        assert_eq!((config.user.as_deref(), config.port), (Some("everyone"), Some(2222)));
        assert_eq!(config.identity_files, ["~/.ssh/my key", "~/.ssh/%r-%h"]);
        assert_eq!(config.proxy_command, None);
        assert!(config.identities_only);
        let old = parse_config(CONFIG, "web-old");
        assert_eq!((old.port, old.identity_files.len()), (None, 0));
        let endpoint = endpoint(&target("web"), &config);
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("web.example.com", 2222));
        assert_eq!(
            endpoint.keys,
            [PathBuf::from("/home/me/.ssh/my key"), "/home/me/.ssh/everyone-web.example.com".into()]
        );
    }

    #[test]
    fn what_ssh_prints_is_read() {
        let text = "user root\nhostname 10.0.0.1\nport 2201\nidentityfile ~/.ssh/id_rsa\nidentityfile ~/.ssh/work\n\
            identitiesonly yes\nuserknownhostsfile /home/me/.ssh/known_hosts /dev/null\n\
            globalknownhostsfile /etc/ssh/ssh_known_hosts\nproxyjump none\nidentityagent none\nhostkeyalias box\n";
        let config = parse_ssh_g(text);
        let endpoint = endpoint(&target("box"), &config);
        assert_eq!(endpoint.keys, [PathBuf::from("/home/me/.ssh/work")]);
        assert_eq!(endpoint.default_keys, [PathBuf::from("/home/me/.ssh/id_rsa")]);
        assert_eq!(
            (endpoint.host.as_str(), endpoint.port, endpoint.user.as_str()),
            ("10.0.0.1", 2201, "root")
        );
        assert_eq!((endpoint.agent, endpoint.host_key_alias.as_deref()), (None, Some("box")));
        assert_eq!(config.proxy_jump, None);
        let HostKeyPolicy::KnownHosts { read, pins } = endpoint.host_key else { panic!() };
        assert_eq!(read.len(), 3);
        assert_eq!(pins, Path::new(".ship/known_hosts"));
    }

    #[test]
    fn default_names_that_do_not_exist_are_not_keys() {
        let config = parse_ssh_g("identityfile ~/.ssh/id_rsa\nidentityfile ~/.ssh/missing\n");
        let endpoint = decide(&target("h"), &config, Path::new("pins"), &around(|_| false));
        assert!(endpoint.keys.is_empty() && endpoint.default_keys.is_empty());
    }

    #[test]
    fn what_ship_yml_says_wins() {
        let config = parse_config(CONFIG, "web");
        let explicit =
            Target { host: "web".into(), port: Some(22), user: Some("root".into()), keys: vec!["k".into()] };
        let endpoint = endpoint(&explicit, &config);
        assert_eq!((endpoint.port, endpoint.user.as_str()), (22, "root"));
        assert_eq!(endpoint.keys, [PathBuf::from("k")]);
    }

    #[test]
    fn nothing_configured_means_the_usual() {
        let endpoint = endpoint(&target("h.example"), &HostConfig::default());
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.user.as_str()), ("h.example", 22, "me"));
        assert_eq!(endpoint.agent, Some("/agent".into()));
        assert_eq!(endpoint.default_keys.first(), Some(&PathBuf::from("/home/me/.ssh/id_ed25519")));
    }

    #[test]
    fn jump_hosts_are_read() {
        let jumps = jump_target("ops@gate:2200, ssh://[::1]:22/,fe80::1").unwrap();
        let seen: Vec<_> = jumps.iter().map(|j| (j.user.as_deref(), j.host.as_str(), j.port)).collect();
        assert_eq!(
            seen,
            [(Some("ops"), "gate", Some(2200)), (None, "::1", Some(22)), (None, "fe80::1", None)]
        );
        assert!(jump_target("gate:x").is_none() && jump_target("").is_none());
    }

    #[test]
    fn a_proxy_command_gets_its_tokens_quoted() {
        assert_eq!(proxy_command("nc -x p:1 %h %p # %%", "a;b", 22, "me"), "nc -x p:1 'a;b' 22 # %");
    }

    proptest::proptest! {
        #[test]
        fn any_config_is_read_without_a_panic(text in "(?s).{0,200}", host in ".{0,10}") {
            parse_config(&text, &host);
            parse_ssh_g(&text);
            jump_target(&text);
        }
    }
}
