//! A project's server in a cloud: looked up, planned, made, logged in to. The same for every cloud.
//!
//! Invariants: looking writes nothing; and nothing is sent to a server before it has shown a host key that the
//! cloud's API vouches for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use minijinja::Value;

use super::cloud::{Birth, Cloud};
use super::{Place, ssh};
use crate::assets::template_failure;
use crate::cloud::{self, Found, Owner, Quote, Server, State, Wish};
use crate::config::{self, CloudServer};
use crate::dns::records::Target;
use crate::error::{Exit, Failure};
use crate::facts::host::Host;
use crate::plan::Change;
use crate::playbook::Vars;
use crate::shell::Script;
use crate::transport::ssh::{generate_host_key, own_public_key};
use crate::transport::sshconfig::default_keys;
use crate::transport::{Endpoint, HostKey, HostKeyPolicy, Prompt, Session, TransportError};
use crate::ui::Ui;

/// How long a new server may take from "running" to a login.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// The host key that a server makes for itself.
const OWN_KEY: &str = "/etc/ssh/ship_host_ed25519_key";

/// What `server:` says, if it wants a cloud.
pub fn cloud_server(config: &config::Config) -> Option<&CloudServer> {
    match &config.server {
        config::Server::DigitalOcean(server) => Some(&server.common),
        config::Server::Ec2(server) => Some(&server.common),
        config::Server::Ssh(_) | config::Server::Vagrant(_) => None,
    }
}

/// A server in a cloud, compared with what it should be.
pub struct Machine<'p, C> {
    place: &'p Place<'p>,
    cloud: C,
    wish: Wish,
    found: Found,
    quote: Option<Quote>,
    plan: cloud::Plan,
}

impl<'p, C: Cloud> Machine<'p, C> {
    /// Looks and compares.
    pub async fn look(place: &'p Place<'p>, cloud: C, replace: bool, ui: &Ui) -> Result<Self, Failure> {
        let server = cloud_server(place.config);
        let key = public_key(place, server.and_then(|server| server.key.as_deref())).await?;
        let wish =
            Wish::of(place.config, &key).ok_or_else(|| Failure::input("`server.provider` is no cloud"))?;
        ui.working(&format!("looking at {}", wish.words.cloud));
        let found = cloud.look(&wish).await?;
        let mut machine = Self { place, cloud, wish, found, quote: None, plan: cloud::Plan::default() };
        machine.compare(replace);
        // What a size is and costs matters only when it is about to be taken.
        let sized = machine
            .plan
            .steps
            .iter()
            .any(|step| matches!(step.act, cloud::Act::CreateServer | cloud::Act::Resize));
        if sized {
            machine.quote = Some(machine.cloud.quote(&machine.wish).await?);
            machine.compare(replace);
        }
        Ok(machine)
    }

    fn compare(&mut self, replace: bool) {
        self.plan = cloud::plan(&self.wish, &self.found, self.quote.as_ref(), replace);
    }

    /// What is to be done in the cloud, as the plan shows it.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.plan.steps.iter().map(|step| &step.change)
    }

    /// Whether nothing is to be done in the cloud.
    pub fn is_settled(&self) -> bool {
        self.plan.steps.is_empty()
    }

    /// Why the server would have to be replaced, if it would.
    pub fn replaces(&self) -> &[String] {
        &self.plan.replaces
    }

    /// What there is.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Where the site's names should lead.
    pub fn target(&self) -> Target {
        Target::cloud(&self.wish, &self.found, self.destroys())
    }

    /// Where the server finds its data volume: what the cloud says, or, before there is one, a word for it.
    pub fn volume_device(&self) -> Option<String> {
        self.wish.volume_gb?;
        let device = self.found.volume.as_ref().map(|volume| volume.device.clone());
        Some(device.unwrap_or_else(|| "the new volume".into()))
    }

    /// Whether the server can be logged in to as it is.
    pub fn answers(&self) -> bool {
        let runs = |server: &Server| matches!(server.state, State::Running | State::Starting);
        self.found.server.as_ref().is_some_and(runs) && self.found.reachable_at().is_some()
    }

    /// Whether the plan destroys the server there is.
    pub fn destroys(&self) -> bool {
        self.plan.steps.iter().any(|step| step.act == cloud::Act::DestroyServer)
    }

    /// What a new server will be like, as far as its image and size tell; `None` if there is one, or nobody can tell.
    pub fn expected_host(&self) -> Option<Host> {
        let quote = self.quote.as_ref().filter(|_| self.found.server.is_none() || self.destroys())?;
        Host::expected(&self.wish.image, quote.cores, quote.memory_mb)
    }

    /// Does what the plan says.
    pub async fn carry_out(&mut self, ui: &Ui) -> Result<(), Failure> {
        let birth = self.birth()?;
        for step in std::mem::take(&mut self.plan.steps) {
            let title = step.change.title();
            let began = Instant::now();
            ui.step_start(&title);
            let progress = |text: &str| ui.step_output(text);
            let act = self.cloud.act(&step.act, &self.wish, &mut self.found, &birth, &progress);
            let (done, asked) = interruptible(act, &title, ui).await?;
            ui.step_done(&title, began.elapsed(), done.is_ok());
            done?;
            if asked {
                return Err(
                    Failure::new(Exit::Interrupted, format!("stopped after `{title}`")).hint(CARRIES_ON)
                );
            }
        }
        self.verify(ui).await
    }

    /// Compares again: the cloud's word counts, not what was asked of it. Its lists may be a little late.
    async fn verify(&mut self, ui: &Ui) -> Result<(), Failure> {
        const LATE_MS: [u64; 5] = [500, 1000, 2000, 4000, 8000];
        ui.working(&format!("looking at {}", self.wish.words.cloud));
        for wait_ms in LATE_MS {
            self.found = self.cloud.look(&self.wish).await?;
            self.compare(false);
            if self.is_settled() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        let left: Vec<String> =
            self.changes().map(|change| format!("{}: {}", change.title(), change.why)).collect();
        Err(Failure::failed(format!("{} still differs after everything was done", self.wish.words.cloud))
            .detail(left.join("\n"))
            .hint("does somebody else change the same things? `ship up` tries again"))
    }

    fn birth(&self) -> Result<Birth, Failure> {
        let (private, public) =
            generate_host_key().ok_or_else(|| Failure::failed("can't make a host key for the new server"))?;
        let vars = Vars::from([
            ("name".to_string(), Value::from(self.wish.owner.host_name())),
            ("user".to_string(), Value::from(&self.wish.user)),
            ("public_key".to_string(), Value::from(self.wish.public_key.trim())),
            ("host_key".to_string(), Value::from(private.reveal())),
            ("host_key_public".to_string(), Value::from(public.to_string())),
        ]);
        let user_data = self
            .place
            .assets
            .templates()?
            .render("cloud/user-data.yml.j2", &vars, None)
            .map_err(|error| template_failure(&error))?;
        Ok(Birth { user_data, host_key: public.ed25519_hex().unwrap_or_default() })
    }

    /// Logs in to the server; a new one is waited for, and takes a host key of its own on the first connection.
    pub async fn login(&mut self, ui: &Arc<Ui>) -> Result<Session, Failure> {
        let address = self.found.reachable_at();
        let Some(server) = self.found.server.clone() else { return Err(no_server(&self.wish.owner)) };
        let newborn = server.birth_key.is_some();
        let session = login(self.place, &server, address, newborn, ui).await?;
        if !newborn {
            return Ok(session);
        }
        ui.working("waiting for the end of cloud-init");
        // Its own verdict counts for little: it complains of missing locales. What ship needs is probed anyway.
        let wait = Script::from_text(
            "! command -v cloud-init >/dev/null || cloud-init status --wait >/dev/null 2>&1 || :",
        );
        session.exec(&wait, Bytes::new()).await?;
        self.take_own_key(server, session, address, ui).await
    }

    /// Replaces the host key that the metadata service knows by one that never left the server.
    async fn take_own_key(
        &mut self,
        server: Server,
        session: Session,
        address: Option<core::net::Ipv4Addr>,
        ui: &Arc<Ui>,
    ) -> Result<Session, Failure> {
        ui.working("giving the server a host key of its own");
        let made = session.exec(&make_key_script(), Bytes::new()).await?;
        let key = HostKey::parse(made.stdout_text().trim()).and_then(|key| key.ed25519_hex());
        let Some(key) = key.filter(|_| made.success()) else {
            return Err(
                Failure::failed("the server can't make a host key of its own").detail(made.stderr_text())
            );
        };
        // Vouched for before it is used: whoever comes in between finds both in the tags.
        self.cloud.add_host_key(&self.wish.owner, &server, &key).await?;
        let switched = session.exec(&switch_key_script(), Bytes::new()).await?;
        if !switched.success() {
            return Err(Failure::failed("sshd does not take the new host key").detail(switched.stderr_text()));
        }
        session.close().await;
        let grown = Server { birth_key: None, host_key: Some(key), ..server.clone() };
        // The new key alone is accepted from here on.
        let session = login(self.place, &grown, address, true, ui).await?;
        self.cloud.drop_birth_key(&self.wish.owner, &server).await?;
        self.found.server = Some(grown);
        Ok(session)
    }
}

/// Does something in the cloud; Ctrl-C once lets it end, a second one leaves at once. Tells whether there was one.
async fn interruptible<T>(act: impl Future<Output = T>, title: &str, ui: &Ui) -> Result<(T, bool), Failure> {
    let mut guard = ui.interrupts().guard();
    tokio::pin!(act);
    tokio::select! {
        done = &mut act => return Ok((done, false)),
        () = guard.next() => {}
    }
    ui.note("stopping after this step; Ctrl-C again leaves at once");
    tokio::select! {
        done = &mut act => Ok((done, true)),
        () = guard.next() => {
            let message = format!("left in the middle of `{title}`");
            Err(Failure::new(Exit::Interrupted, message).hint(CARRIES_ON))
        }
    }
}

/// What becomes of a cloud that is half made.
const CARRIES_ON: &str = "`ship up` finds what is made by its tags, and carries on";

/// Finds the server and logs in: for commands that change nothing in the cloud.
pub async fn connect<C: Cloud>(
    place: &Place<'_>,
    cloud: &C,
    ui: &Arc<Ui>,
) -> Result<(Session, Server), Failure> {
    let owner = Owner::of(place.config);
    ui.working("looking for the server");
    let server = cloud.find(&owner).await?.ok_or_else(|| no_server(&owner))?;
    let session = login(place, &server, server.ipv4, false, ui).await?;
    Ok((session, server))
}

fn no_server(owner: &Owner) -> Failure {
    Failure::unreachable(format!("there is no server of {owner} yet")).hint("`ship up` makes it")
}

/// Logs in with the host keys that the cloud's tags vouch for. `patient` waits for a server that boots.
async fn login(
    place: &Place<'_>,
    server: &Server,
    address: Option<core::net::Ipv4Addr>,
    patient: bool,
    ui: &Arc<Ui>,
) -> Result<Session, Failure> {
    let Some(address) = address else {
        return Err(Failure::unreachable("the server has no public address").hint("`ship up` gives it one"));
    };
    if matches!(server.state, State::Stopped | State::Stopping) {
        return Err(Failure::unreachable("the server is powered off").hint("`ship up` powers it on"));
    }
    let hexes = [&server.birth_key, &server.host_key];
    let keys: Vec<HostKey> =
        hexes.into_iter().flatten().filter_map(|hex| HostKey::from_ed25519_hex(hex)).collect();
    if keys.is_empty() {
        return Err(Failure::new(
            Exit::Unreachable,
            format!("no tag of the server {} tells its host key", server.id),
        )
        .hint("ship only talks to servers whose key it knows: was the tag removed by hand?"));
    }
    let cloud = cloud_server(place.config);
    let user = cloud.map_or("root", |cloud| cloud.user.as_str());
    let mut endpoint = Endpoint::new(address.to_string(), user, HostKeyPolicy::Pinned(keys));
    if let Some(key) = cloud.and_then(|cloud| cloud.key.as_deref()) {
        endpoint.keys = vec![ssh::expand(place.project, key)];
    }
    ui.working(&format!("connecting to {address}"));
    let began = Instant::now();
    loop {
        let error = match Session::connect(&endpoint, Arc::clone(ui) as Arc<dyn Prompt>).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        if !patient || !is_booting(&error) || began.elapsed() > BOOT_LIMIT {
            return Err(error.into());
        }
        ui.working(&format!("waiting for {address} to boot"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A machine that boots refuses, hangs up or says nothing; and its user comes a moment after its sshd.
fn is_booting(error: &TransportError) -> bool {
    error.may_pass() || matches!(error, TransportError::AuthRefused { .. })
}

fn make_key_script() -> Script {
    Script::new()
        .set("key", OWN_KEY)
        .line("if [ ! -e \"$key\" ] || [ ! -e \"$key.pub\" ]; then")
        .line("  rm -f \"$key.new\" \"$key.new.pub\"")
        .line("  ssh-keygen -q -t ed25519 -N '' -C '' -f \"$key.new\"")
        .line("  mv \"$key.new.pub\" \"$key.pub\"")
        .line("  mv \"$key.new\" \"$key\"")
        .line("fi")
        .line("cat \"$key.pub\"")
}

fn switch_key_script() -> Script {
    Script::new()
        .set("key", OWN_KEY)
        .line("set -e")
        .line("conf=/etc/ssh/sshd_config.d/00-ship.conf")
        .line("printf 'PermitRootLogin no\\nPasswordAuthentication no\\nKbdInteractiveAuthentication no\\nHostKey %s\\n' \"$key\" >\"$conf.new\"")
        .line("mv \"$conf.new\" \"$conf\"")
        .line("mkdir -p /run/sshd")
        .line("sshd -t")
        .line("systemctl reload-or-restart ssh")
        // The key that the metadata service knows, and its copies.
        .line("rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub")
}

/// The user's own public key, which the new server will let in.
async fn public_key(place: &Place<'_>, named: Option<&str>) -> Result<String, Failure> {
    let named = named.map(|key| ssh::expand(place.project, key));
    let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
    let key = own_public_key(named.as_deref(), agent.as_deref(), &default_keys()).await;
    key.map_err(Failure::input)?.ok_or_else(|| {
        Failure::input("you have no SSH key, which a new server would let in")
            .hint("make one with `ssh-keygen -t ed25519`, or name one in `server.key`")
    })
}
