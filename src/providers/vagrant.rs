//! A local machine that Vagrant makes: containers on Linux servers and CI, virtual machines on desktops.
//!
//! Vagrant itself takes seconds to say anything, so its answer about how to log in is kept in
//! `.ship/vagrant/NAME/ssh-config` and tried first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use minijinja::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::cloud::Owner;
use crate::config::{VagrantProvider, VagrantServer};
use crate::error::{Exit, Failure};
use crate::transport::{Endpoint, HostKeyPolicy, Prompt, Session};
use crate::ui::Ui;

use super::Place;

/// Connects to the machine; creates or starts it if it isn't there.
pub async fn connect(
    place: &Place<'_>,
    server: &VagrantServer,
    ui: &Arc<Ui>,
) -> Result<(Session, Endpoint), Failure> {
    let folder = folder(place);
    let kept = folder.join("ssh-config");
    if let Ok(text) = std::fs::read_to_string(&kept)
        && let Some(endpoint) = parse_ssh_config(&text, &folder)
    {
        ui.working("connecting to the Vagrant machine");
        let quick = Endpoint { connect_timeout: std::time::Duration::from_secs(5), ..endpoint.clone() };
        // Whatever else is the case, not running or made anew: Vagrant decides.
        if let Ok(session) = Session::connect(&quick, Arc::clone(ui) as Arc<dyn Prompt>).await {
            return Ok((session, endpoint));
        }
    }
    if !place.may_create {
        return Err(Failure::unreachable("the Vagrant machine isn't running").hint("start it with `ship up`"));
    }
    let provider = provider(server.provider).await?;
    write_vagrantfile(place, server, provider, &folder)?;
    ui.note(&format!("starting a Vagrant machine ({provider})"));
    ui.working("vagrant up");
    up(&folder, provider, ui).await?;
    let text = run(&folder, &["ssh-config"]).await?;
    let endpoint = parse_ssh_config(&text, &folder)
        .ok_or_else(|| Failure::failed("`vagrant ssh-config` says not how to log in").detail(text.clone()))?;
    // VirtualBox has the machine behind its own NAT: the site is where its port 80 is forwarded to.
    let http = if is_loopback(&endpoint.host) {
        run(&folder, &["port", "--guest", "80"]).await?
    } else {
        String::new()
    };
    let port = http.trim().parse::<u16>().map(|port| format!("{PORT_NOTE}{port}\n")).unwrap_or_default();
    let text = format!("{port}{text}");
    std::fs::write(&kept, &text)
        .map_err(|error| Failure::failed(format!("can't write {}: {error}", kept.display())))?;
    // A machine made anew has a new key; it is read from the machine's own first answer on this host's bridge.
    if let HostKeyPolicy::KnownHosts { pins, .. } = &endpoint.host_key {
        let _ = std::fs::remove_file(pins);
    }
    ui.working("connecting to the Vagrant machine");
    let session = Session::connect(&endpoint, Arc::new(TrustOnce)).await?;
    Ok((session, endpoint))
}

/// Destroys the machine.
pub async fn destroy(place: &Place<'_>, ui: &Ui) -> Result<(), Failure> {
    let folder = folder(place);
    if folder.join("Vagrantfile").exists() {
        ui.working("vagrant destroy");
        run(&folder, &["destroy", "--force"]).await?;
    }
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::failed(format!("can't remove {}: {error}", folder.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The first key of a machine that this process has just made on this computer.
struct TrustOnce;

impl Prompt for TrustOnce {
    fn passphrase(&self, _: &Path, _: u32) -> Option<crate::shell::Secret> {
        None
    }

    fn sudo_password(&self, _: &str, _: &str, _: u32) -> Option<crate::shell::Secret> {
        None
    }

    fn confirm_host_key(&self, _: &str, _: u16, _: &crate::transport::HostKey) -> bool {
        true
    }
}

/// In front of the port of this computer that leads to the machine's port 80, in the kept answer.
const PORT_NOTE: &str = "# http-port ";

/// Host and port of the site as a browser on this computer reaches it.
pub fn site(place: &Place<'_>, host: &str) -> String {
    let kept = std::fs::read_to_string(folder(place).join("ssh-config")).unwrap_or_default();
    match kept.lines().find_map(|line| line.strip_prefix(PORT_NOTE)) {
        Some(port) if is_loopback(host) => format!("{host}:{port}"),
        Some(_) | None => host.to_string(),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn folder(place: &Place<'_>) -> PathBuf {
    place.project.join(".ship/vagrant").join(machine_name(place))
}

fn machine_name(place: &Place<'_>) -> String {
    Owner::of(place.config).host_name()
}

fn no_vagrant() -> Failure {
    Failure::new(Exit::Input, "`server.provider` is vagrant, and there is no `vagrant` on this computer")
        .hint("Debian and Ubuntu: `vagrant/setup` of ship's repository installs it with a local box")
        .hint("elsewhere: https://developer.hashicorp.com/vagrant/install, and VirtualBox or libvirt")
}

/// Finds out which hypervisor this computer has.
async fn provider(wish: VagrantProvider) -> Result<&'static str, Failure> {
    match wish {
        VagrantProvider::Lxc => Ok("lxc"),
        VagrantProvider::Virtualbox => Ok("virtualbox"),
        VagrantProvider::Libvirt => Ok("libvirt"),
        VagrantProvider::Auto => {
            let has = |program: &str| {
                std::env::var_os("PATH").is_some_and(|path| {
                    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
                })
            };
            if has("VBoxManage") {
                return Ok("virtualbox");
            }
            if has("virsh") && Path::new("/dev/kvm").exists() {
                return Ok("libvirt");
            }
            if has("lxc-start") {
                return Ok("lxc");
            }
            if !has("vagrant") {
                return Err(no_vagrant());
            }
            Err(Failure::new(Exit::Input, "Vagrant has nothing to run machines with on this computer")
                .hint("install VirtualBox or libvirt; on Linux without virtualisation run `vagrant/setup` of ship's repository, which brings lxc"))
        }
    }
}

fn write_vagrantfile(
    place: &Place<'_>,
    server: &VagrantServer,
    provider: &str,
    folder: &Path,
) -> Result<(), Failure> {
    let usual = if provider == "lxc" { "ship/debian-12" } else { "debian/bookworm64" };
    let vars = BTreeMap::from([
        ("name".to_string(), Value::from(machine_name(place))),
        ("provider".to_string(), Value::from(provider)),
        ("box".to_string(), Value::from(server.vagrant_box.clone().unwrap_or_else(|| usual.into()))),
        ("memory_mb".to_string(), Value::from(server.memory_mb)),
        ("cpus".to_string(), Value::from(server.cpus)),
    ]);
    let text = place
        .assets
        .templates()?
        .render("Vagrantfile.j2", &vars, None)
        .map_err(|error| crate::assets::template_failure(&error))?;
    let write = || {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("Vagrantfile"), text)
    };
    write().map_err(|error| Failure::failed(format!("can't write {}/Vagrantfile: {error}", folder.display())))
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("vagrant");
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env("VAGRANT_CHECKPOINT_DISABLE", "1");
    command
}

fn start_failure(error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::NotFound {
        no_vagrant()
    } else {
        Failure::failed(format!("can't run vagrant: {error}"))
    }
}

async fn up(folder: &Path, provider: &str, ui: &Ui) -> Result<(), Failure> {
    let mut child = command(folder, &["up", "--provider", provider])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| start_failure(&error))?;
    let mut lines = Vec::new();
    let mut out = child.stdout.take().map(|pipe| BufReader::new(pipe).lines());
    let mut err = child.stderr.take().map(|pipe| BufReader::new(pipe).lines());
    while out.is_some() || err.is_some() {
        let line = tokio::select! {
            line = next_line(&mut out), if out.is_some() => line,
            line = next_line(&mut err), if err.is_some() => line,
        };
        if let Some(line) = line {
            ui.step_output(&line);
            lines.push(line);
        }
    }
    let status = child.wait().await.map_err(|error| start_failure(&error))?;
    if status.success() {
        return Ok(());
    }
    let text = lines.join("\n");
    let mut failure =
        Failure::failed(format!("`vagrant up --provider {provider}` failed in {}", folder.display()));
    if text.contains("could not be found") || text.contains("couldn't be found") {
        failure = failure.hint(
            "the box isn't there: run `vagrant/setup` of ship's repository (lxc), or name another one in `server.box`",
        );
    }
    let tail: Vec<&str> = lines.iter().rev().take(20).rev().map(String::as_str).collect();
    Err(failure.detail(tail.join("\n")))
}

async fn next_line<R: tokio::io::AsyncBufRead + Unpin>(
    lines: &mut Option<tokio::io::Lines<R>>,
) -> Option<String> {
    let next = match lines {
        Some(reader) => reader.next_line().await.ok().flatten(),
        None => None,
    };
    if next.is_none() {
        *lines = None;
    }
    next
}

async fn run(folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let output = command(folder, arguments).output().await.map_err(|error| start_failure(&error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let detail = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(Failure::failed(format!("`vagrant {}` failed", arguments.join(" "))).detail(detail))
}

/// Reads what `vagrant ssh-config` prints.
fn parse_ssh_config(text: &str, folder: &Path) -> Option<Endpoint> {
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.trim().split_once(char::is_whitespace)?;
            (name == key).then(|| value.trim().trim_matches('"').to_string())
        })
    };
    let policy = HostKeyPolicy::KnownHosts { read: Vec::new(), pins: folder.join("known_hosts") };
    let mut endpoint = Endpoint::new(value("HostName")?, value("User")?, policy);
    endpoint.port = value("Port")?.parse().ok()?;
    endpoint.keys = vec![PathBuf::from(value("IdentityFile")?)];
    endpoint.identities_only = true;
    endpoint.agent = None;
    Some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_config_is_read() {
        let text = "Host default\n  HostName 10.0.3.17\n  User vagrant\n  Port 22\n  UserKnownHostsFile /dev/null\n  \
                    IdentityFile \"/home/a b/.vagrant/key\"\n  IdentitiesOnly yes\n";
        let endpoint = parse_ssh_config(text, Path::new("/p")).unwrap();
        assert_eq!(
            (endpoint.host.as_str(), endpoint.user.as_str(), endpoint.port),
            ("10.0.3.17", "vagrant", 22)
        );
        assert_eq!(endpoint.keys, [PathBuf::from("/home/a b/.vagrant/key")]);
        assert!(parse_ssh_config("", Path::new("/p")).is_none());
    }
}
