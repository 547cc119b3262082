//! What of the owner's is in the account, and taking it away.
//!
//! Invariant: each thing is looked up by the owner's tag once more before it is removed; what doesn't carry it stays.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{Instance, Volume};

use super::{Ec2, names};
use crate::cloud::{Owner, Thing, ThingKind};
use crate::providers::cloud::Progress;
use crate::providers::error::CloudError;

impl Ec2 {
    /// Everything that carries the owner's tag.
    pub(super) async fn all(&self, owner: &Owner) -> Result<Vec<Thing>, CloudError> {
        let (instances, addresses, volumes, groups, pairs) = tokio::try_join!(
            self.instances(owner),
            self.addresses(owner),
            self.volumes(owner),
            self.groups(owner),
            self.pairs(owner),
        )?;
        let thing = |kind, id: Option<&str>, label: Option<&str>| {
            let id = id?.to_owned();
            Some(Thing { kind, label: label.unwrap_or(&id).to_owned(), id, addresses: Vec::new() })
        };
        let led_by = |thing: Thing, ip: Option<&str>| {
            let addresses = ip.and_then(|ip| ip.parse().ok()).into_iter().collect();
            Thing { addresses, ..thing }
        };
        let servers = instances.iter().filter_map(|instance| {
            let label = names::value(instance.tags(), "Name");
            let server = thing(ThingKind::Server, instance.instance_id(), label)?;
            Some(led_by(server, instance.public_ip_address()))
        });
        let addresses = addresses.iter().filter_map(|address| {
            let free = thing(ThingKind::Address, address.allocation_id(), address.public_ip())?;
            Some(led_by(free, address.public_ip()))
        });
        let going = going_with(&instances);
        let stays = |volume: &&Volume| volume.volume_id().is_some_and(|id| !going.contains(id));
        let volumes = volumes.iter().filter(stays).filter_map(|volume| {
            let size = volume.size().map(|size| format!("{size} GiB"));
            thing(ThingKind::Volume, volume.volume_id(), size.as_deref())
        });
        let groups = groups
            .iter()
            .filter_map(|group| thing(ThingKind::Firewall, group.group_id(), group.group_name()));
        let pairs =
            pairs.iter().filter_map(|pair| thing(ThingKind::Key, pair.key_pair_id(), pair.key_name()));
        let mut all: Vec<Thing> =
            servers.chain(addresses).chain(volumes).chain(groups).chain(pairs).collect();
        all.sort();
        Ok(all)
    }

    /// Removes one thing, if it is the owner's.
    pub(super) async fn take_away(
        &self,
        owner: &Owner,
        thing: &Thing,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let id = thing.id.as_str();
        match thing.kind {
            ThingKind::Server => {
                let instances = self.instances(owner).await?;
                if instances.iter().any(|instance| instance.instance_id() == Some(id)) {
                    self.terminate(owner, id, progress).await?;
                }
            }
            ThingKind::Address => self.release(owner, id).await?,
            ThingKind::Volume => {
                let volumes = self.volumes(owner).await?;
                if volumes.iter().any(|volume| volume.volume_id() == Some(id)) {
                    progress(&format!("waiting for the volume {id}"));
                    self.delete_volume(id).await?;
                }
            }
            ThingKind::Firewall => {
                if self.groups(owner).await?.iter().any(|group| group.group_id() == Some(id)) {
                    progress("waiting until nothing is behind the security group any more");
                    self.delete_group(id).await?;
                }
            }
            ThingKind::Key => {
                let pairs = self.pairs(owner).await?;
                if let Some(pair) = pairs.iter().find(|pair| pair.key_pair_id() == Some(id)) {
                    self.delete_key(pair).await?;
                }
            }
            ThingKind::Tag => {}
        }
        Ok(())
    }
}

/// The volumes that EC2 deletes together with their instance.
fn going_with(instances: &[Instance]) -> BTreeSet<&str> {
    let disks = instances.iter().flat_map(|instance| instance.block_device_mappings());
    disks
        .filter_map(|disk| disk.ebs())
        .filter(|ebs| ebs.delete_on_termination() == Some(true))
        .filter_map(|ebs| ebs.volume_id())
        .collect()
}
