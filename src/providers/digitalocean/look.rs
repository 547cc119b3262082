//! What there is in the account: for a plan, and for an end.
//!
//! Invariant: nothing here changes anything, and nothing is taken for the owner's but by its exact tag or name.

use std::net::{IpAddr, Ipv4Addr};

use crate::cloud::{self, Address, Found, Owner, Thing, ThingKind, Wish};
use crate::providers::error::CloudError;

use super::DigitalOcean;
use super::api::{Droplet, Project, ReservedIp, Resource, SshKey, Tag, VolumeInfo, spell};
use super::client::Call;
use super::rules::FirewallInfo;
use super::tags::{self, Mark};

impl DigitalOcean {
    /// All droplets with the owner's tag.
    pub(super) async fn droplets_of(&self, owner: &Owner) -> Result<Vec<Droplet>, CloudError> {
        let call = Call::get(&["droplets"], "list droplets").query("tag_name", tags::owner(owner));
        let mut droplets: Vec<Droplet> = self.client.list(&call, "droplets").await?;
        droplets.retain(|droplet| droplet.belongs_to(owner));
        Ok(droplets)
    }

    /// The owner's droplet.
    pub(super) async fn droplet_of(&self, owner: &Owner) -> Result<Option<Droplet>, CloudError> {
        only_one(owner, self.droplets_of(owner).await?)
    }

    pub(super) async fn droplet(&self, id: &str) -> Result<Option<Droplet>, CloudError> {
        self.client.find(&Call::get(&["droplets", id], "look at the droplet"), "droplet").await
    }

    pub(super) async fn reserved_ips(&self) -> Result<Vec<ReservedIp>, CloudError> {
        self.client.list(&Call::get(&["reserved_ips"], "list reserved IPs"), "reserved_ips").await
    }

    pub(super) async fn tag_names(&self) -> Result<Vec<String>, CloudError> {
        let tags: Vec<Tag> = self.client.list(&Call::get(&["tags"], "list tags"), "tags").await?;
        Ok(tags.into_iter().map(|tag| tag.name).collect())
    }

    pub(super) async fn firewall_of(&self, owner: &Owner) -> Result<Option<FirewallInfo>, CloudError> {
        Ok(self.firewalls_of(owner).await?.into_iter().next())
    }

    async fn firewalls_of(&self, owner: &Owner) -> Result<Vec<FirewallInfo>, CloudError> {
        let mut firewalls: Vec<FirewallInfo> =
            self.client.list(&Call::get(&["firewalls"], "list firewalls"), "firewalls").await?;
        firewalls.retain(|firewall| firewall.name == owner.unique_name());
        firewalls.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(firewalls)
    }

    async fn keys(&self) -> Result<Vec<SshKey>, CloudError> {
        self.client.list(&Call::get(&["account", "keys"], "list SSH keys"), "ssh_keys").await
    }

    pub(super) async fn key(&self, line: &str) -> Result<Option<String>, CloudError> {
        Ok(self.keys().await?.iter().find(|key| key.is(line)).map(|key| key.id.to_string()))
    }

    /// The owner's volume in the wished region.
    pub(super) async fn volume_of(&self, wish: &Wish) -> Result<Option<VolumeInfo>, CloudError> {
        let call = Call::get(&["volumes"], "list volumes")
            .query("name", super::volume::name(&wish.owner))
            .query("region", wish.region.clone().unwrap_or_default());
        let volumes: Vec<VolumeInfo> = self.client.list(&call, "volumes").await?;
        Ok(volumes.into_iter().find(|volume| volume.belongs_to(&wish.owner)))
    }

    /// The id of a project and the names of what it holds.
    pub(super) async fn project(&self, wished: &str) -> Result<(String, Vec<String>), CloudError> {
        let id = if is_uuid(wished) {
            wished.to_ascii_lowercase()
        } else {
            let projects: Vec<Project> =
                self.client.list(&Call::get(&["projects"], "list projects"), "projects").await?;
            project_named(wished, &projects)?
        };
        let call = Call::get(&["projects", &id, "resources"], format!("look into the project {wished}"));
        let resources: Vec<Resource> = match self.client.list(&call, "resources").await {
            Err(error) if super::client::is_missing(&error) => return Err(no_project(wished, &[])),
            resources => resources?,
        };
        Ok((id, resources.into_iter().map(|resource| resource.urn).collect()))
    }

    pub(super) async fn look_around(&self, wish: &Wish) -> Result<Found, CloudError> {
        let owner = &wish.owner;
        let volume = async {
            match wish.volume_gb {
                Some(_) => self.volume_of(wish).await,
                None => Ok(None),
            }
        };
        let project = async {
            match &wish.settings.project {
                Some(project) => self.project(project).await.map(Some),
                None => Ok(None),
            }
        };
        let (droplet, firewall, reserved, tags, volume, project) = tokio::try_join!(
            self.droplet_of(owner),
            self.firewall_of(owner),
            self.reserved_ips(),
            self.tag_names(),
            volume,
            project,
        )?;
        let ips: Vec<Ipv4Addr> = reserved.iter().map(|reserved| reserved.ip).collect();
        let server = droplet.map(|droplet| {
            let mut server = droplet.server(owner, &ips);
            spell(&mut server.settings.labels, &wish.settings.labels);
            let urn = urn(&server.id);
            let inside = project.as_ref().is_some_and(|(_, urns)| urns.contains(&urn));
            server.settings.project = wish.settings.project.clone().filter(|_| inside);
            server
        });
        let id = server.as_ref().map(|server| server.id.as_str());
        let mut found = Found {
            key: None,
            firewall: firewall.map(|firewall| firewall.firewall(owner, id)),
            address: address_of(wish, id, &reserved, &tags),
            volume: volume.map(|volume| volume.volume()),
            server,
        };
        // A list may not have what was made a moment ago.
        if let Some(address) = found.address.as_mut().filter(|address| !address.tagged) {
            address.tagged = self.has_tag(&tags::mark(owner, &Mark::Address(address.ip))).await?;
        }
        // A server that stays needs no key of the account's.
        let stays = found.server.as_ref().is_some_and(|server| server.size == wish.size)
            && cloud::plan(wish, &found, None, false).replaces.is_empty();
        if !stays {
            found.key = self.key(&wish.public_key).await?;
        }
        Ok(found)
    }

    pub(super) async fn everything_of(&self, owner: &Owner) -> Result<Vec<Thing>, CloudError> {
        let volumes = Call::get(&["volumes"], "list volumes");
        let (droplets, firewalls, reserved, tags, volumes, keys) = tokio::try_join!(
            self.droplets_of(owner),
            self.firewalls_of(owner),
            self.reserved_ips(),
            self.tag_names(),
            self.client.list::<VolumeInfo>(&volumes, "volumes"),
            self.keys(),
        )?;
        let ids: Vec<String> = droplets.iter().map(|droplet| droplet.id.to_string()).collect();
        let mut things = Vec::new();
        for droplet in &droplets {
            let at = droplet.public_v4().next().map(|ip| format!(", {ip}")).unwrap_or_default();
            let label = format!("{} ({}, {}{at})", droplet.name, droplet.size_slug, droplet.region.slug);
            let addresses =
                droplet.public_v4().map(IpAddr::from).chain(droplet.public_v6().map(IpAddr::from));
            let addresses = addresses.collect();
            things.push(Thing { kind: ThingKind::Server, id: droplet.id.to_string(), label, addresses });
        }
        for reserved in &reserved {
            let ours = reserved.droplet().is_some_and(|id| ids.contains(&id));
            if ours || is_tagged(owner, reserved.ip, &tags) {
                let (id, addresses) = (reserved.ip.to_string(), vec![IpAddr::from(reserved.ip)]);
                things.push(Thing { kind: ThingKind::Address, label: id.clone(), id, addresses });
            }
        }
        let mut thing =
            |kind, id: String, label: String| things.push(Thing { kind, id, label, addresses: Vec::new() });
        for volume in volumes.iter().filter(|volume| volume.belongs_to(owner)) {
            let label = format!("{} ({} GiB, {})", volume.name, volume.size_gigabytes, volume.region.slug);
            thing(ThingKind::Volume, volume.id.clone(), label);
        }
        for firewall in firewalls {
            thing(ThingKind::Firewall, firewall.id, firewall.name);
        }
        for key in keys.into_iter().filter(|key| key.name == owner.unique_name()) {
            thing(ThingKind::Key, key.id.to_string(), key.name);
        }
        for tag in tags.into_iter().filter(|tag| tags::is_ours(owner, tag)) {
            thing(ThingKind::Tag, tag.clone(), tag);
        }
        things.sort();
        Ok(things)
    }
}

/// What a project calls a droplet.
pub(super) fn urn(droplet: &str) -> String {
    format!("do:droplet:{droplet}")
}

fn only_one(owner: &Owner, droplets: Vec<Droplet>) -> Result<Option<Droplet>, CloudError> {
    if droplets.len() < 2 {
        return Ok(droplets.into_iter().next());
    }
    let name = |droplet: &Droplet| {
        let at = droplet.public_v4().next().map(|ip| format!(" at {ip}")).unwrap_or_default();
        format!("{} (id {}{at})", droplet.name, droplet.id)
    };
    let names: Vec<String> = droplets.iter().map(name).collect();
    let tag = tags::owner(owner);
    Err(CloudError::Impossible {
        message: format!("{} droplets carry the tag {tag}: {}", names.len(), names.join(", ")),
        hints: vec![
            "destroy the one that isn't the site's, or take that tag off it: https://cloud.digitalocean.com/droplets"
                .into(),
        ],
    })
}

fn is_tagged(owner: &Owner, ip: Ipv4Addr, tags: &[String]) -> bool {
    let tag = tags::mark(owner, &Mark::Address(ip));
    tags.iter().any(|name| name.eq_ignore_ascii_case(&tag))
}

/// The owner's address: what leads to the droplet comes first, then what is remembered by a tag.
///
/// Nothing is lost, whatever breaks off when. An address is ordered together with its way to the droplet, in one call,
/// so that it is found by the droplet, with or without a tag; while DigitalOcean is still leading it there, it refuses
/// to make a second one for the same droplet. The tag comes right after the order. Should that not come to pass, the
/// address is not `tagged`, the next plan has a step for it, and whatever parts the address from its droplet
/// (destroying that) makes the tag first. The other way round, an address ordered for the region and then tagged, would
/// be nobody's between the two calls.
///
/// Where no address is wanted, one without the tag is the user's own: it is not ship's to give back. And one of another
/// region can't come along.
fn address_of(
    wish: &Wish,
    droplet: Option<&str>,
    reserved: &[ReservedIp],
    tags: &[String],
) -> Option<Address> {
    let owner = &wish.owner;
    let ours = |reserved: &ReservedIp| droplet.is_some() && reserved.droplet().as_deref() == droplet;
    let mut addresses: Vec<(bool, Address)> = reserved
        .iter()
        .filter(|reserved| {
            ours(reserved) || wish.region.as_ref().is_none_or(|region| *region == reserved.region.slug)
        })
        .map(|reserved| (!ours(reserved), reserved.address(is_tagged(owner, reserved.ip, tags))))
        .filter(|(elsewhere, address)| address.tagged || (!elsewhere && wish.fixed_address))
        .collect();
    addresses.sort_by_key(|(elsewhere, address)| (*elsewhere, address.ip));
    addresses.into_iter().map(|(_, address)| address).next()
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn project_named(wished: &str, projects: &[Project]) -> Result<String, CloudError> {
    let same: Vec<&Project> = projects.iter().filter(|project| project.name == wished).collect();
    match same.as_slice() {
        [project] => Ok(project.id.clone()),
        [] => Err(no_project(wished, projects)),
        [_, _, ..] => Err(CloudError::Impossible {
            message: format!("there are {} projects named {wished} at DigitalOcean", same.len()),
            hints: vec![format!(
                "write its id in `server.project`: {}",
                same.iter().map(|project| project.id.as_str()).collect::<Vec<_>>().join(" or ")
            )],
        }),
    }
}

fn no_project(wished: &str, projects: &[Project]) -> CloudError {
    let names: Vec<&str> = projects.iter().map(|project| project.name.as_str()).collect();
    CloudError::Impossible {
        message: format!("there is no project {wished} at DigitalOcean"),
        hints: match names.as_slice() {
            [] => vec!["make it at https://cloud.digitalocean.com, or leave out `server.project`".into()],
            names => vec![format!("`server.project` may be {}", names.join(", "))],
        },
    }
}

#[cfg(test)]
mod tests;
