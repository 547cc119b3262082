//! What there is: EC2's answers as [`Found`]. Writes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{Builder, Region};
use aws_sdk_ec2::types::{
    Address as Ec2Address, Filter, Instance, InstanceAttributeName, InstanceStateName, SecurityGroup,
    Volume as Ec2Volume, VolumeAttachmentState, VolumeState,
};

use super::{Ec2, actions, names, rules};
use crate::cloud::{Address, Firewall, Found, Owner, Server, Settings, State, Volume, Wish};
use crate::providers::error::CloudError;

/// The states in which an instance counts.
const ALIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];

/// How many a page of a list is asked to have.
const PAGE: i32 = 500;

/// How long another region has for its answer.
const GLANCE: Duration = Duration::from_secs(10);

impl Ec2 {
    /// The owner's instances that count.
    pub(super) async fn instances(&self, owner: &Owner) -> Result<Vec<Instance>, CloudError> {
        self.instances_in(None, owner, vec![names::filter("instance-state-name", ALIVE)]).await
    }

    /// The owner's instances, also those that are gone but still shown.
    pub(super) async fn all_instances(&self, owner: &Owner) -> Result<Vec<Instance>, CloudError> {
        self.instances_in(None, owner, Vec::new()).await
    }

    pub(super) async fn instances_in(
        &self,
        region: Option<&str>,
        owner: &Owner,
        filters: Vec<Filter>,
    ) -> Result<Vec<Instance>, CloudError> {
        let call = self.reads(actions::DESCRIBE_INSTANCES, format!("look for the instance of {owner}"));
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut ask = self
                .client
                .describe_instances()
                .filters(names::filter_of(owner))
                .max_results(PAGE)
                .set_next_token(next);
            for filter in &filters {
                ask = ask.filters(filter.clone());
            }
            let answer = match region {
                Some(region) => {
                    let there = Builder::new()
                        .region(Region::new(region.to_owned()))
                        .retry_config(RetryConfig::disabled())
                        .timeout_config(TimeoutConfig::builder().operation_timeout(GLANCE).build());
                    ask.customize().config_override(there).send().await
                }
                None => ask.send().await,
            };
            let answer = answer.map_err(|error| call.fail(&error))?;
            let instances = answer.reservations().iter().flat_map(|reservation| reservation.instances());
            found.extend(instances.filter(|instance| names::is_of(instance.tags(), owner)).cloned());
            match answer.next_token() {
                Some(token) if !token.is_empty() => next = Some(token.to_owned()),
                Some(_) | None => return Ok(found),
            }
        }
    }

    /// The owner's instance.
    pub(super) async fn mine(&self, owner: &Owner) -> Result<Option<Instance>, CloudError> {
        one(owner, "instances", self.instances(owner).await?, Instance::instance_id)
    }

    /// One instance, in whatever state; `None` while EC2 doesn't show it.
    pub(super) async fn instance(&self, id: &str) -> Result<Option<Instance>, CloudError> {
        let call = self.reads(actions::DESCRIBE_INSTANCES, format!("look at the instance {id}"));
        let answer = self.client.describe_instances().instance_ids(id).send().await;
        match answer.map_err(|error| call.fail(&error)) {
            Ok(answer) => Ok(answer
                .reservations()
                .iter()
                .flat_map(|reservation| reservation.instances())
                .next()
                .cloned()),
            Err(error) if error.code() == Some("InvalidInstanceID.NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether EC2 refuses to terminate the instance.
    pub(super) async fn is_protected(&self, id: &str) -> Result<bool, CloudError> {
        let call =
            self.reads(actions::DESCRIBE_INSTANCE_ATTRIBUTE, format!("look whether {id} is protected"));
        let answer = self
            .client
            .describe_instance_attribute()
            .instance_id(id)
            .attribute(InstanceAttributeName::DisableApiTermination)
            .send()
            .await
            .map_err(|error| call.fail(&error))?;
        Ok(answer.disable_api_termination().and_then(|attribute| attribute.value()) == Some(true))
    }

    /// The owner's security groups: one a VPC.
    pub(super) async fn groups(&self, owner: &Owner) -> Result<Vec<SecurityGroup>, CloudError> {
        let call =
            self.reads(actions::DESCRIBE_SECURITY_GROUPS, format!("look for the security group of {owner}"));
        let ask = self.client.describe_security_groups().filters(names::filter_of(owner));
        let all = ask.into_paginator().items().send().try_collect().await;
        let mut groups = all.map_err(|error| call.fail(&error))?;
        groups.retain(|group| names::is_of(group.tags(), owner));
        Ok(groups)
    }

    /// The owner's addresses.
    pub(super) async fn addresses(&self, owner: &Owner) -> Result<Vec<Ec2Address>, CloudError> {
        let call = self.reads(actions::DESCRIBE_ADDRESSES, format!("look for the elastic IP of {owner}"));
        let ask = self.client.describe_addresses().filters(names::filter_of(owner));
        let answer = ask.send().await.map_err(|error| call.fail(&error))?;
        let ours = answer.addresses().iter().filter(|address| names::is_of(address.tags(), owner));
        Ok(ours.cloned().collect())
    }

    /// The owner's volumes, root disks included.
    pub(super) async fn volumes(&self, owner: &Owner) -> Result<Vec<Ec2Volume>, CloudError> {
        let call = self.reads(actions::DESCRIBE_VOLUMES, format!("look for the volume of {owner}"));
        let ask = self.client.describe_volumes().filters(names::filter_of(owner));
        let all = ask.into_paginator().items().send().try_collect().await;
        let mut volumes = all.map_err(|error| call.fail(&error))?;
        volumes.retain(|volume| {
            names::is_of(volume.tags(), owner)
                && !matches!(volume.state(), Some(VolumeState::Deleting | VolumeState::Deleted))
        });
        Ok(volumes)
    }

    /// Everything.
    pub(super) async fn everything(&self, wish: &Wish) -> Result<Found, CloudError> {
        let owner = &wish.owner;
        let (instance, key, groups, addresses, volumes) = tokio::try_join!(
            self.mine(owner),
            self.key(wish),
            self.groups(owner),
            self.addresses(owner),
            self.volumes(owner),
        )?;
        let mut found = Found { key, ..Found::default() };
        if let Some(instance) = &instance {
            let mut server = server(instance, &self.region)?;
            server.settings.protected = self.is_protected(&server.id).await?;
            let root = volumes.iter().find(|volume| is_root_of(volume, instance));
            server.disk_gb = root.and_then(|root| root.size()).and_then(|size| u32::try_from(size).ok());
            found.server = Some(server);
        }
        let id = found.server.as_ref().map(|server| server.id.as_str());
        found.firewall =
            group_for(wish, instance.as_ref(), &groups).map(|group| firewall(group, instance.as_ref()));
        found.address = pick_address(&addresses, id);
        found.volume = pick_volume(owner, &volumes, id)?;
        Ok(found)
    }

    /// The account's other regions that have an instance of the owner's. A region that doesn't answer has none: this only
    /// guards against a mistake, and organisations forbid whole regions.
    pub(super) async fn elsewhere(&self, owner: &Owner) -> Result<Vec<(String, String)>, CloudError> {
        let call = self.reads(actions::DESCRIBE_REGIONS, "list the account's regions");
        let answer = self.client.describe_regions().send().await.map_err(|error| call.fail(&error))?;
        let others = answer.regions().iter().filter_map(|region| region.region_name());
        let mut asked = tokio::task::JoinSet::new();
        for region in others.filter(|region| *region != self.region) {
            let (ec2, owner, region) = (self.clone(), owner.clone(), region.to_owned());
            asked.spawn(async move {
                let alive = vec![names::filter("instance-state-name", ALIVE)];
                let found = ec2.instances_in(Some(&region), &owner, alive).await.unwrap_or_default();
                let ids: Vec<String> =
                    found.iter().filter_map(|instance| instance.instance_id().map(str::to_owned)).collect();
                (region, ids)
            });
        }
        let mut elsewhere = BTreeSet::new();
        while let Some(Ok((region, ids))) = asked.join_next().await {
            elsewhere.extend(ids.into_iter().map(|id| (region.clone(), id)));
        }
        Ok(elsewhere.into_iter().collect())
    }
}

/// Refuses to choose between two.
pub(super) fn one<T>(
    owner: &Owner,
    kind: &str,
    mut things: Vec<T>,
    id: impl Fn(&T) -> Option<&str>,
) -> Result<Option<T>, CloudError> {
    if things.len() < 2 {
        return Ok(things.pop());
    }
    let ids: Vec<&str> = things.iter().filter_map(id).collect();
    Err(CloudError::Impossible {
        message: format!("{} {kind} carry the tag `ship` = `{owner}`: {}", ids.len(), ids.join(", ")),
        hints: vec!["take the tag off those that aren't the site's, or remove them, in the console".into()],
    })
}

/// How far an instance is; `None` when it is on its way out.
pub(super) fn state(instance: &Instance) -> Option<State> {
    match instance.state().and_then(|state| state.name()) {
        Some(InstanceStateName::Pending) => Some(State::Starting),
        Some(InstanceStateName::Running) => Some(State::Running),
        Some(InstanceStateName::Stopping) => Some(State::Stopping),
        Some(InstanceStateName::Stopped) => Some(State::Stopped),
        _ => None,
    }
}

/// An instance in our terms. Whether it is protected, and its disk, are not part of EC2's answer.
pub(super) fn server(instance: &Instance, region: &str) -> Result<Server, CloudError> {
    let (Some(id), Some(state)) = (instance.instance_id(), state(instance)) else {
        return Err(CloudError::Unreachable {
            cloud: super::CLOUD,
            doing: "look for the instance".into(),
            why: "the answer has an instance without an id, or in no state that ship knows".into(),
        });
    };
    let tag = |key| names::value(instance.tags(), key).filter(|value| !value.is_empty()).map(str::to_owned);
    Ok(Server {
        id: id.to_owned(),
        state,
        region: region.to_owned(),
        size: instance.instance_type().map(|size| size.as_str().to_owned()).unwrap_or_default(),
        image: tag(names::IMAGE),
        disk_gb: None,
        network: instance.vpc_id().map(str::to_owned),
        subnet: instance.subnet_id().map(str::to_owned),
        ipv4: instance.public_ip_address().and_then(|address| address.parse().ok()),
        ipv6: None,
        birth_key: tag(names::BIRTH_KEY),
        host_key: tag(names::HOST_KEY),
        settings: Settings { labels: names::labels(instance.tags()), ..Settings::default() },
    })
}

pub(super) fn is_root_of(volume: &Ec2Volume, instance: &Instance) -> bool {
    let root = instance
        .block_device_mappings()
        .iter()
        .find(|disk| disk.device_name().is_some() && disk.device_name() == instance.root_device_name());
    let id = root.and_then(|disk| disk.ebs()).and_then(|ebs| ebs.volume_id());
    id.is_some() && id == volume.volume_id()
}

/// The group in the server's VPC; without a server the one in the wished VPC, or any.
pub(super) fn group_for<'g>(
    wish: &Wish,
    instance: Option<&Instance>,
    groups: &'g [SecurityGroup],
) -> Option<&'g SecurityGroup> {
    let vpc = instance.and_then(|instance| instance.vpc_id()).or(wish.network.as_deref());
    match vpc {
        Some(vpc) => groups.iter().find(|group| group.vpc_id() == Some(vpc)),
        None => groups.first(),
    }
}

pub(super) fn firewall(group: &SecurityGroup, instance: Option<&Instance>) -> Firewall {
    let applied = instance.is_none_or(|instance| {
        instance
            .security_groups()
            .iter()
            .any(|of| of.group_id().is_some() && of.group_id() == group.group_id())
    });
    Firewall { id: group.group_id().unwrap_or_default().to_owned(), rules: rules::rules(group), applied }
}

/// The address that leads to the server, or else the first.
pub(super) fn pick_address(addresses: &[Ec2Address], server: Option<&str>) -> Option<Address> {
    let leads = |address: &&Ec2Address| server.is_some() && address.instance_id() == server;
    let chosen = addresses
        .iter()
        .find(leads)
        .or_else(|| addresses.iter().min_by_key(|address| address.allocation_id()))?;
    self::address(chosen)
}

/// An elastic IP in our terms.
pub(super) fn address(address: &Ec2Address) -> Option<Address> {
    Some(Address {
        id: address.allocation_id()?.to_owned(),
        ip: address.public_ip()?.parse().ok()?,
        server: address.instance_id().filter(|id| !id.is_empty()).map(str::to_owned),
        tagged: true,
    })
}

/// The data volume: the one attached to the server, or the only one.
pub(super) fn pick_volume(
    owner: &Owner,
    volumes: &[Ec2Volume],
    server: Option<&str>,
) -> Result<Option<Volume>, CloudError> {
    let data: Vec<&Ec2Volume> = volumes
        .iter()
        .filter(|volume| names::value(volume.tags(), names::DISK) == Some(names::DATA))
        .collect();
    let attached = data.iter().find(|volume| server.is_some() && attached_to(volume) == server).copied();
    let chosen = match attached {
        Some(volume) => Some(volume),
        None => one(owner, "volumes", data, |volume| volume.volume_id())?,
    };
    Ok(chosen.and_then(volume))
}

/// The instance that the volume is attached to.
pub(super) fn attached_to(volume: &Ec2Volume) -> Option<&str> {
    let holds = |state: Option<&VolumeAttachmentState>| {
        !matches!(state, Some(VolumeAttachmentState::Detached | VolumeAttachmentState::Detaching))
    };
    volume.attachments().iter().find(|link| holds(link.state()))?.instance_id()
}

/// A volume in our terms.
pub(super) fn volume(volume: &Ec2Volume) -> Option<Volume> {
    let id = volume.volume_id()?;
    Some(Volume {
        id: id.to_owned(),
        size_gb: u32::try_from(volume.size()?).ok()?,
        server: attached_to(volume).map(str::to_owned),
        device: format!("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}", id.replace('-', "")),
    })
}
