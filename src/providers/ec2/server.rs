//! The instance, made once.
//!
//! Invariant: however often and from wherever it is asked for, a generation's token makes one instance.

use std::io::Write as _;

use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, Instance, InstanceMetadataEndpointState,
    InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceType, ResourceType, Tag,
    VolumeType,
};
use base64::Engine as _;

use super::image::Chosen;
use super::network::Site;
use super::{Ec2, actions, look, names};
use crate::cloud::{Found, Wish};
use crate::providers::cloud::{Birth, Progress, once};
use crate::providers::error::CloudError;

/// The most that EC2 takes as user-data.
const USER_DATA: usize = 16 * 1024;

/// How many servers of the owner's may have been made and terminated before in AWS's memory of tokens.
const GENERATIONS: u32 = 100;

/// Refusals of what was made a moment ago.
const NOT_VISIBLE: [&str; 4] = [
    "InvalidGroup.NotFound",
    "InvalidGroupId.NotFound",
    "InvalidKeyPair.NotFound",
    "InvalidSecurityGroupID.NotFound",
];

/// Everything that an instance is made of.
struct Order<'a> {
    wish: &'a Wish,
    image: Chosen,
    site: Site,
    group: String,
    with_key: bool,
    user_data: String,
    tags: Vec<Tag>,
}

impl Ec2 {
    /// Makes the instance and waits until it runs.
    pub(super) async fn create_server(
        &self,
        wish: &Wish,
        found: &mut Found,
        birth: &Birth,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let order = self.order(wish, found, birth).await?;
        let instance = self.made(&order, progress).await?;
        let id = instance.instance_id().unwrap_or_default();
        let instance = self.until_running(id, progress).await?;
        let mut server = look::server(&instance, &self.region)?;
        server.settings.protected = wish.settings.protected;
        server.disk_gb = wish.disk_gb;
        found.server = Some(server);
        if let Some(firewall) = &mut found.firewall {
            firewall.applied = true;
        }
        Ok(())
    }

    async fn order<'a>(&self, wish: &'a Wish, found: &Found, birth: &Birth) -> Result<Order<'a>, CloudError> {
        let user_data = user_data(&birth.user_data)?;
        let size = self.size(&wish.size).await?;
        let zone = self.volume_zone(found).await?;
        let (image, site) =
            tokio::try_join!(self.image(&wish.image, size.architecture), self.site(wish, zone.as_deref()))?;
        let group = self.group_in(&site.vpc, wish).await?;
        let mut tags = names::tags(&wish.owner);
        tags.extend([
            names::tag(names::IMAGE, &wish.image),
            names::tag(names::AMI, &image.ami),
            names::tag(names::BIRTH_KEY, &birth.host_key),
        ]);
        tags.extend(wish.settings.labels.iter().map(|(key, value)| names::tag(key, value)));
        Ok(Order { wish, image, site, group, with_key: found.key.is_some(), user_data, tags })
    }

    /// The zone that the data volume is in.
    pub(super) async fn volume_zone(&self, found: &Found) -> Result<Option<String>, CloudError> {
        let Some(volume) = &found.volume else { return Ok(None) };
        let volume = self.volume(&volume.id).await?;
        Ok(volume.and_then(|volume| volume.availability_zone().map(str::to_owned)))
    }

    async fn made(&self, order: &Order<'_>, progress: Progress<'_>) -> Result<Instance, CloudError> {
        let owner = &order.wish.owner;
        let used: Vec<String> = self
            .all_instances(owner)
            .await?
            .iter()
            .filter(|instance| look::state(instance).is_none())
            .filter_map(|instance| instance.client_token().map(str::to_owned))
            .collect();
        for generation in 0..GENERATIONS {
            let token = names::server_token(owner, &self.region, generation);
            if used.contains(&token) {
                continue;
            }
            let made = self
                .visibly(&NOT_VISIBLE, || {
                    once(&self.patience.looks, || self.mine(owner), || self.run(order, &token))
                })
                .await;
            match made {
                Ok(instance) if look::state(&instance).is_none() => {}
                Err(error) if error.code() == Some("IdempotentInstanceTerminated") => {}
                // Another run made one, with another host key in its user-data.
                Err(error) if error.code() == Some("IdempotentParameterMismatch") => {
                    progress("EC2 remembers an earlier one of this name: looking whether it is there");
                    if let Some(instance) = self.shown(|| self.mine(owner)).await? {
                        return Ok(instance);
                    }
                }
                end => return end,
            }
        }
        Err(super::worn_out("instance", GENERATIONS))
    }

    async fn run(&self, order: &Order<'_>, token: &str) -> Result<Instance, CloudError> {
        let wish = order.wish;
        let call = self.writes(
            actions::RUN_INSTANCES,
            format!("create the instance {} ({})", wish.owner.host_name(), wish.size),
        );
        let mut disk_tags = names::tags(&wish.owner);
        disk_tags.push(names::tag(names::DISK, names::ROOT));
        let interface = InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(&order.site.subnet)
            .groups(&order.group)
            .associate_public_ip_address(true)
            .delete_on_termination(true)
            .build();
        let metadata = InstanceMetadataOptionsRequest::builder()
            .http_endpoint(InstanceMetadataEndpointState::Enabled)
            .http_tokens(HttpTokensState::Required)
            .http_put_response_hop_limit(1)
            .build();
        let answer = self
            .client
            .run_instances()
            .min_count(1)
            .max_count(1)
            .client_token(token)
            .image_id(&order.image.ami)
            .instance_type(InstanceType::from(wish.size.as_str()))
            .set_key_name(order.with_key.then(|| wish.owner.unique_name()))
            .network_interfaces(interface)
            .block_device_mappings(root_disk(&order.image, wish.disk_gb))
            .metadata_options(metadata)
            .set_disable_api_termination(wish.settings.protected.then_some(true))
            .user_data(&order.user_data)
            .tag_specifications(names::specification(ResourceType::Instance, order.tags.clone()))
            .tag_specifications(names::specification(ResourceType::Volume, disk_tags))
            .send()
            .await
            .map_err(|error| call.fail(&error))?;
        let made = answer.instances().iter().find(|instance| instance.instance_id().is_some());
        made.cloned().ok_or_else(|| call.senseless("instance"))
    }
}

/// The root disk: encrypted, gone with its instance.
fn root_disk(image: &Chosen, disk_gb: Option<u32>) -> BlockDeviceMapping {
    let size = disk_gb.unwrap_or(image.least_gb).max(image.least_gb);
    let disk = EbsBlockDevice::builder()
        .volume_type(VolumeType::Gp3)
        .volume_size(i32::try_from(size).unwrap_or(i32::MAX))
        .encrypted(true)
        .delete_on_termination(true)
        .build();
    BlockDeviceMapping::builder().device_name(&image.root_device).ebs(disk).build()
}

/// The user-data as EC2 takes it: packed if it is long, which cloud-init understands.
pub(super) fn user_data(text: &str) -> Result<String, CloudError> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() > USER_DATA {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        // Writing into memory does not fail.
        let packed = packer.write_all(&bytes).and_then(|()| packer.finish());
        bytes = packed.unwrap_or(bytes);
    }
    if bytes.len() > USER_DATA {
        return Err(CloudError::Impossible {
            message: format!(
                "what the new server is to do at its first boot has {} bytes, and EC2 takes {USER_DATA}",
                bytes.len()
            ),
            hints: vec!["shorten .ship/templates/cloud/user-data.yml.j2".into()],
        });
    }
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}
