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
mod waiting;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::cloud::{Act, Found, KeyHex, Owner, Quote, Server, Thing, ThingKind, Wish};

use self::client::{Access, Call, Client, Waits};
use self::tags::Mark;
use self::waiting::Wait;
use super::cloud::{Birth, Cloud, Progress};
use super::error::CloudError;

/// An account at DigitalOcean.
#[derive(Debug)]
pub struct DigitalOcean {
    client: Client,
    /// Owners' tags of which this process knows that no droplet is on its way to carry them.
    settled: Mutex<BTreeSet<String>>,
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

    /// Makes sure that a tag exists; says whether it is new.
    async fn ensure_tag(&self, name: &str) -> Result<bool, CloudError> {
        Ok(!self.has_tag(name).await? && self.create_tag(name).await?)
    }

    async fn has_tag(&self, name: &str) -> Result<bool, CloudError> {
        let look = Call::get(&["tags", name], format!("look for the tag {name}"));
        Ok(self.client.find::<api::Tag>(&look, "tag").await?.is_some())
    }

    /// Creates a tag; says whether it is new.
    async fn create_tag(&self, name: &str) -> Result<bool, CloudError> {
        let body = json!({"name": name});
        let create = Call::post(&["tags"], body, format!("create the tag {name}")).repeatable();
        match self.client.send(&create).await {
            // Whatever the API thinks of a tag that exists, it is what was wanted.
            Err(CloudError::Refused { message, .. }) if message.to_ascii_lowercase().contains("already") => {
                Ok(false)
            }
            result => result.map(|()| true),
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
        // What the caller knows of the droplet may be older, or newer, than its tags.
        let droplet = self.droplet(&server.id).await?;
        for tag in droplet.iter().flat_map(|droplet| &droplet.tags) {
            if let Some(Mark::BirthKey(_)) = tags::read(owner, tag) {
                self.delete_tag(tag).await?;
            }
        }
        Ok(())
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
