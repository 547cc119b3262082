//! Droplets: the DigitalOcean side of [`Cloud`].
//!
//! Invariant: the account's tags are the only memory (see `tags`), looking changes nothing, and whatever is made is
//! made so that it is found again when the answer is lost: a droplet and a volume carry their tags from birth, a
//! firewall and a volume have a name that can't be taken twice, a key is known by itself, an address by its droplet.

pub mod api;
pub mod client;
pub mod scopes;
pub mod tags;

mod access;
mod address;
mod look;
mod quote;
mod rules;
mod server;
mod volume;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cloud::{Act, DIGITALOCEAN, Found, KeyHex, Owner, Quote, Server, Thing, ThingKind, Wish};

use self::client::{Access, Call, Client, Waits, is_busy};
use self::tags::Mark;
use super::cloud::{Birth, Cloud, Progress, once};
use super::error::CloudError;

/// An account at DigitalOcean.
#[derive(Debug)]
pub struct DigitalOcean {
    client: Client,
    /// Owners' tags of which this process knows that no droplet is on its way to carry them.
    settled: Mutex<BTreeSet<String>>,
}

/// Something to wait for. It is shown once, when the waiting begins.
struct Wait<'a> {
    limit: Duration,
    /// `waiting for the droplet library to start`.
    shown: String,
    /// `the droplet library is still starting`.
    late: String,
    progress: Progress<'a>,
}

impl Wait<'_> {
    fn late(&self) -> CloudError {
        CloudError::Late { what: self.late.clone(), seconds: self.limit.as_secs() }
    }
}

/// The time that a wait has taken so far.
struct Patience<'a> {
    wait: &'a Wait<'a>,
    start: Instant,
    shown: bool,
}

impl<'a> Patience<'a> {
    fn new(wait: &'a Wait<'a>) -> Self {
        Self { wait, start: Instant::now(), shown: false }
    }

    fn is_over(&self) -> bool {
        self.start.elapsed() >= self.wait.limit
    }

    async fn pause(&mut self, poll: Duration) {
        if !std::mem::replace(&mut self.shown, true) {
            (self.wait.progress)(&self.wait.shown);
        }
        tokio::time::sleep(poll).await;
    }
}

impl DigitalOcean {
    /// The account that `access` leads to. Nothing is sent.
    pub fn new(access: &Access, waits: Waits) -> Result<Self, CloudError> {
        Ok(Self { client: Client::new(access, waits)?, settled: Mutex::default() })
    }

    fn waits(&self) -> &Waits {
        self.client.waits()
    }

    fn is_settled(&self, tag: &str) -> bool {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(tag)
    }

    fn settle(&self, tag: &str) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.to_owned());
    }

    /// Looks until there is something to see.
    async fn until<T, Looking>(
        &self,
        wait: &Wait<'_>,
        mut look: impl FnMut() -> Looking,
    ) -> Result<T, CloudError>
    where
        Looking: Future<Output = Result<Option<T>, CloudError>>,
    {
        let mut patience = Patience::new(wait);
        loop {
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
            if patience.is_over() {
                return Err(wait.late());
            }
            patience.pause(self.waits().poll).await;
        }
    }

    /// Calls until nothing else is being done to the thing: DigitalOcean does one thing at a time.
    async fn in_turn<T, Calling>(
        &self,
        wait: &Wait<'_>,
        mut call: impl FnMut() -> Calling,
    ) -> Result<T, CloudError>
    where
        Calling: Future<Output = Result<T, CloudError>>,
    {
        let mut patience = Patience::new(wait);
        loop {
            match call().await {
                Err(error) if is_busy(&error) && !patience.is_over() => {
                    patience.pause(self.waits().poll).await;
                }
                result => return result,
            }
        }
    }

    /// Has an action done, until `look` shows what it leads to. The action is asked for again only when a look after an
    /// unclear end has shown that it has led to nothing. `actions` is where its state is told, `running` the id of one
    /// that is under way already.
    async fn bring_about<T, Looking>(
        &self,
        wait: &Wait<'_>,
        call: &Call,
        actions: &[&str],
        mut running: Option<String>,
        mut look: impl FnMut() -> Looking,
    ) -> Result<T, CloudError>
    where
        Looking: Future<Output = Result<Option<T>, CloudError>>,
    {
        let mut patience = Patience::new(wait);
        let mut doubt = None;
        loop {
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
            if patience.is_over() {
                return Err(doubt.unwrap_or_else(|| wait.late()));
            }
            match &running {
                None => match self.client.call::<api::Action>(call, "action").await {
                    Ok(action) => {
                        running = Some(action.id.to_string());
                        doubt = None;
                    }
                    Err(error) if is_busy(&error) => {}
                    Err(error) if error.is_unclear() => doubt = Some(error),
                    // What the lost call did may be why there is nothing left to do.
                    Err(error) if doubt.is_some() => return look().await?.ok_or(error),
                    Err(error) => return Err(error),
                },
                Some(id) => self.check_action(call, actions, id).await?,
            }
            patience.pause(self.waits().poll).await;
        }
    }

    async fn check_action(&self, call: &Call, actions: &[&str], id: &str) -> Result<(), CloudError> {
        let path = [actions, &[id]].concat();
        let look = Call::get(&path, "look at the action");
        // Some actions are not told of (terraform-provider-digitalocean#1557); then only their effect is.
        let action = self.client.find::<api::Action>(&look, "action").await?;
        match action {
            Some(action) if action.status == "errored" => Err(CloudError::Refused {
                cloud: DIGITALOCEAN.cloud,
                doing: call.doing().to_owned(),
                code: "errored".into(),
                message: format!("its action {id} failed"),
                hints: vec!["run `ship up` again; https://status.digitalocean.com may say more".into()],
                input: false,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes something once. If DigitalOcean has it already, an earlier call made it whose answer was lost.
    async fn make<T, Finding, Making>(
        &self,
        mut find: impl FnMut() -> Finding,
        make: impl FnMut() -> Making,
    ) -> Result<T, CloudError>
    where
        Finding: Future<Output = Result<Option<T>, CloudError>>,
        Making: Future<Output = Result<T, CloudError>>,
    {
        match once(&self.waits().looks, &mut find, make).await {
            Err(error) if is_conflict(&error) => {
                for wait in std::iter::once(&Duration::ZERO).chain(&self.waits().looks) {
                    tokio::time::sleep(*wait).await;
                    if let Some(found) = find().await? {
                        return Ok(found);
                    }
                }
                Err(error)
            }
            result => result,
        }
    }

    /// Makes sure that a tag exists; says whether it is new.
    async fn ensure_tag(&self, name: &str) -> Result<bool, CloudError> {
        if self.has_tag(name).await? {
            return Ok(false);
        }
        self.create_tag(name).await?;
        Ok(true)
    }

    async fn has_tag(&self, name: &str) -> Result<bool, CloudError> {
        let look = Call::get(&["tags", name], format!("look for the tag {name}"));
        Ok(self.client.find::<api::Tag>(&look, "tag").await?.is_some())
    }

    async fn create_tag(&self, name: &str) -> Result<(), CloudError> {
        let body = json!({"name": name});
        let create = Call::post(&["tags"], body, format!("create the tag {name}")).repeatable();
        match self.client.send(&create).await {
            // Whatever the API thinks of a tag that exists, it is what was wanted.
            Err(CloudError::Refused { message, .. }) if message.to_ascii_lowercase().contains("already") => {
                Ok(())
            }
            result => result,
        }
    }

    async fn delete_tag(&self, name: &str) -> Result<(), CloudError> {
        self.client.delete(&Call::delete(&["tags", name], format!("delete the tag {name}"))).await
    }

    async fn tag_droplet(&self, droplet: &str, tag: &str) -> Result<(), CloudError> {
        self.create_tag(tag).await?;
        let body = json!({"resources": [{"resource_id": droplet, "resource_type": "droplet"}]});
        let doing = format!("put the tag {tag} on the droplet");
        self.client.send(&Call::post(&["tags", tag, "resources"], body, doing).repeatable()).await
    }
}

/// Whether the API says that there is one already.
fn is_conflict(error: &CloudError) -> bool {
    let CloudError::Refused { code, message, .. } = error else { return false };
    code.eq_ignore_ascii_case("conflict") || message.to_ascii_lowercase().contains("already")
}

impl Cloud for DigitalOcean {
    async fn find(&self, owner: &Owner) -> Result<Option<Server>, CloudError> {
        Ok(self.droplet_of(owner).await?.map(|droplet| droplet.server(owner, &[])))
    }

    async fn look(&self, wish: &Wish) -> Result<Found, CloudError> {
        self.look_around(wish).await
    }

    async fn quote(&self, wish: &Wish) -> Result<Quote, CloudError> {
        self.quote_for(wish).await
    }

    async fn act(
        &self,
        act: &Act,
        wish: &Wish,
        found: &mut Found,
        birth: &Birth,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        match act {
            Act::AddKey => self.add_key(wish, found).await,
            Act::AddFirewall => self.add_firewall(wish, found).await,
            Act::SetFirewall => self.set_firewall(wish, found).await,
            Act::CreateServer => self.create_server(wish, found, birth, progress).await,
            Act::StartServer => self.start_server(wish, found, progress).await,
            Act::Resize => self.resize_server(wish, found, progress).await,
            Act::AddAddress => self.add_address(wish, found, progress).await,
            Act::AttachAddress => self.attach_address(wish, found, progress).await,
            Act::RemoveAddress => self.remove_address(wish, found, progress).await,
            Act::AddVolume => self.add_volume(wish, found, progress).await,
            Act::AttachVolume => self.attach_volume(wish, found, progress).await,
            Act::GrowVolume => self.grow_volume(wish, found, progress).await,
            Act::Set(setting) => self.set(setting, wish, found, progress).await,
            Act::DestroyServer => self.destroy_server(wish, found, progress).await,
        }
    }

    async fn add_host_key(&self, owner: &Owner, server: &Server, key: &KeyHex) -> Result<(), CloudError> {
        self.tag_droplet(&server.id, &tags::mark(owner, &Mark::HostKey(key.clone()))).await?;
        match &server.host_key {
            Some(old) if old != key => self.delete_tag(&tags::mark(owner, &Mark::HostKey(old.clone()))).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn drop_birth_key(&self, owner: &Owner, server: &Server) -> Result<(), CloudError> {
        match &server.birth_key {
            Some(key) => self.delete_tag(&tags::mark(owner, &Mark::BirthKey(key.clone()))).await,
            None => Ok(()),
        }
    }

    async fn things(&self, owner: &Owner) -> Result<Vec<Thing>, CloudError> {
        self.everything_of(owner).await
    }

    async fn remove(&self, owner: &Owner, thing: &Thing, progress: Progress<'_>) -> Result<(), CloudError> {
        let (id, label) = (thing.id.as_str(), thing.label.as_str());
        match thing.kind {
            ThingKind::Server => self.destroy_droplet(owner, id, label, progress).await,
            ThingKind::Address => self.give_back(owner, id, progress).await,
            ThingKind::Volume => self.delete_volume(id, label, progress).await,
            ThingKind::Firewall => {
                self.client
                    .delete(&Call::delete(&["firewalls", id], format!("delete the firewall {label}")))
                    .await
            }
            ThingKind::Key => {
                let call = Call::delete(&["account", "keys", id], format!("delete the SSH key {label}"));
                self.client.delete(&call).await
            }
            ThingKind::Tag if tags::is_ours(owner, id) => self.delete_tag(id).await,
            ThingKind::Tag => Err(CloudError::Impossible {
                message: format!("the tag {id} is not {owner}'s"),
                hints: Vec::new(),
            }),
        }
    }
}
