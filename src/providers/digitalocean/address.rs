//! The reserved IP: taken, led to the droplet, given back.

use std::net::Ipv4Addr;

use serde_json::json;

use crate::cloud::{Found, Owner, Wish};
use crate::providers::cloud::Progress;
use crate::providers::error::CloudError;

use super::api::{Links, ReservedIp, Taken};
use super::client::Call;
use super::tags::{self, Mark};
use super::{DigitalOcean, Wait};

impl DigitalOcean {
    async fn reserved_ip(&self, ip: &str) -> Result<Option<ReservedIp>, CloudError> {
        self.client.find(&Call::get(&["reserved_ips", ip], "look at the reserved IP"), "reserved_ip").await
    }

    async fn leading_to(&self, droplet: &str) -> Result<Option<ReservedIp>, CloudError> {
        let all = self.reserved_ips().await?;
        Ok(all.into_iter().find(|reserved| reserved.droplet().as_deref() == Some(droplet)))
    }

    pub(super) async fn add_address(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (id, number) = super::server::droplet_id(found)?;
        let name = wish.owner.host_name();
        let body = json!({"droplet_id": number});
        let call = Call::post(&["reserved_ips"], body, format!("take a reserved IP for the droplet {name}"));
        let wait = self.attaching(&name, progress);
        let find = || async { Ok(self.leading_to(&id).await?.map(Taken::from)) };
        let make = || self.in_turn(&wait, || self.client.whole::<Taken>(&call));
        let taken = self.make(find, make).await?;
        let ip = taken.reserved_ip.ip;
        self.create_tag(&tags::mark(&wish.owner, &Mark::Address(ip))).await?;
        found.address = Some(taken.reserved_ip.address(true));
        let reserved = self.lead(ip, (&id, number), &name, taken.links.action(), progress).await?;
        found.address = Some(reserved.address(true));
        Ok(())
    }

    pub(super) async fn attach_address(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (id, number) = super::server::droplet_id(found)?;
        let Some(address) = &mut found.address else { return self.add_address(wish, found, progress).await };
        if !address.tagged {
            self.create_tag(&tags::mark(&wish.owner, &Mark::Address(address.ip))).await?;
            address.tagged = true;
        }
        let reserved = self.lead(address.ip, (&id, number), &wish.owner.host_name(), None, progress).await?;
        *address = reserved.address(true);
        Ok(())
    }

    /// Leads an address to a droplet, which the action `running` may be doing already.
    async fn lead(
        &self,
        ip: Ipv4Addr,
        (id, number): (&str, i64),
        name: &str,
        running: Option<String>,
        progress: Progress<'_>,
    ) -> Result<ReservedIp, CloudError> {
        let ip = ip.to_string();
        let actions = ["reserved_ips", &ip, "actions"];
        let body = json!({"type": "assign", "droplet_id": number});
        let call = Call::post(&actions, body, format!("lead the reserved IP {ip} to the droplet {name}"));
        let arrived = || async {
            let reserved = self.reserved_ip(&ip).await?;
            Ok(reserved.filter(|reserved| reserved.droplet().as_deref() == Some(id) && !reserved.locked))
        };
        self.bring_about(&self.attaching(name, progress), &call, &actions, running, arrived).await
    }

    pub(super) async fn remove_address(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        if let Some(address) = &found.address {
            self.give_back(&wish.owner, &address.id, progress).await?;
        }
        found.address = None;
        Ok(())
    }

    /// Gives an address back, then forgets it: in this order it is found again at any time.
    pub(super) async fn give_back(
        &self,
        owner: &Owner,
        ip: &str,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let wait = Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for the reserved IP {ip} to be free"),
            late: format!("the reserved IP {ip} is still there"),
            progress,
        };
        let call = Call::delete(&["reserved_ips", ip], format!("give back the reserved IP {ip}"));
        self.in_turn(&wait, || self.client.delete(&call)).await?;
        let gone = || async { Ok(self.reserved_ip(ip).await?.is_none().then_some(())) };
        self.until(&wait, gone).await?;
        match ip.parse() {
            Ok(ip) => self.delete_tag(&tags::mark(owner, &Mark::Address(ip))).await,
            Err(_) => Ok(()),
        }
    }

    /// Tags the addresses that lead to a droplet which is about to go.
    pub(super) async fn remember_addresses(&self, owner: &Owner, droplet: &str) -> Result<(), CloudError> {
        for reserved in self.reserved_ips().await? {
            if reserved.droplet().as_deref() == Some(droplet) {
                self.create_tag(&tags::mark(owner, &Mark::Address(reserved.ip))).await?;
            }
        }
        Ok(())
    }

    fn attaching<'a>(&self, name: &str, progress: Progress<'a>) -> Wait<'a> {
        Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for the reserved IP to lead to the droplet {name}"),
            late: format!("the reserved IP does not lead to the droplet {name}"),
            progress,
        }
    }
}

impl From<ReservedIp> for Taken {
    fn from(reserved_ip: ReservedIp) -> Self {
        Self { reserved_ip, links: Links::default() }
    }
}
