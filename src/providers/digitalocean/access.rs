//! Who gets in: the account's SSH key and the firewall.

use serde_json::json;

use crate::cloud::{Found, Owner, Wish};
use crate::providers::error::CloudError;

use super::DigitalOcean;
use super::api::SshKey;
use super::client::Call;
use super::rules::{self, FirewallInfo};
use super::tags;

impl DigitalOcean {
    pub(super) async fn add_key(&self, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        let name = wish.owner.unique_name();
        let body = json!({"name": name, "public_key": wish.public_key.trim()});
        let call = Call::post(&["account", "keys"], body, format!("add the SSH key {name}"));
        let make =
            || async { self.client.call::<SshKey>(&call, "ssh_key").await.map(|key| key.id.to_string()) };
        found.key = Some(self.make(|| self.key(&wish.public_key), make).await?);
        Ok(())
    }

    pub(super) async fn add_firewall(&self, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        let owner = &wish.owner;
        // A firewall can't refer to a tag that isn't there.
        self.ensure_owner_tag(owner).await?;
        let doing = format!("create the firewall {}", owner.unique_name());
        let call = Call::post(&["firewalls"], rules::new_firewall(owner, &wish.rules), doing);
        let make = || self.client.call::<FirewallInfo>(&call, "firewall");
        let firewall = self.make(|| self.firewall_of(owner), make).await?;
        let server = found.server.as_ref().map(|server| server.id.as_str());
        found.firewall = Some(firewall.firewall(owner, server));
        Ok(())
    }

    pub(super) async fn set_firewall(&self, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        let owner = &wish.owner;
        let Some(id) = found.firewall.as_ref().map(|firewall| firewall.id.as_str()) else {
            return self.add_firewall(wish, found).await;
        };
        self.ensure_owner_tag(owner).await?;
        let name = owner.unique_name();
        let look = Call::get(&["firewalls", id], format!("look at the firewall {name}"));
        let now: FirewallInfo = self.client.call(&look, "firewall").await?;
        let doing = format!("change the firewall {name}");
        let call = Call::put(&["firewalls", id], now.with_rules(owner, &wish.rules), doing);
        let firewall: FirewallInfo = self.client.call(&call, "firewall").await?;
        let server = found.server.as_ref().map(|server| server.id.as_str());
        found.firewall = Some(firewall.firewall(owner, server));
        Ok(())
    }

    /// Makes sure that the owner's tag exists. A tag that is new says that no earlier run has ordered a droplet.
    pub(super) async fn ensure_owner_tag(&self, owner: &Owner) -> Result<(), CloudError> {
        let tag = tags::owner(owner);
        if !self.is_settled(&tag) && self.ensure_tag(&tag).await? {
            self.settle(&tag);
        }
        Ok(())
    }
}
