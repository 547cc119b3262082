//! The instance: made once, started, resized, terminated.
//!
//! Invariant: however often and from wherever it is asked for, a generation's token makes one instance; and an instance
//! is not stopped for a size that it can't have.

use std::io::Write as _;

use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, BlockDeviceMapping, EbsBlockDevice, HttpTokensState, Instance,
    InstanceMetadataEndpointState, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification,
    InstanceType, ResourceType, Tag, VolumeType,
};
use base64::Engine as _;

use super::image::Chosen;
use super::network::Site;
use super::{Ec2, actions, look, names};
use crate::aws;
use crate::cloud::{Found, Owner, Server, State, Wish};
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

    /// Waits until the instance runs, and a little longer for its public address.
    async fn until_running(&self, id: &str, progress: Progress<'_>) -> Result<Instance, CloudError> {
        progress(&format!("waiting for {id} to start"));
        let running = aws::until(
            &self.patience,
            self.patience.change,
            || format!("the instance {id} does not run"),
            || async {
                let Some(instance) = self.instance(id).await? else { return Ok(None) };
                match look::state(&instance) {
                    Some(State::Running) => Ok(Some(instance)),
                    Some(State::Starting | State::Stopping) => Ok(None),
                    Some(State::Stopped) | None => Err(failed_to_start(&instance)),
                }
            },
        )
        .await?;
        let addressed = self
            .shown(|| async {
                let instance = self.instance(id).await?;
                Ok(instance.filter(|instance| instance.public_ip_address().is_some()))
            })
            .await?;
        Ok(addressed.unwrap_or(running))
    }

    async fn until_stopped(&self, id: &str, progress: Progress<'_>) -> Result<(), CloudError> {
        progress(&format!("waiting for {id} to stop"));
        aws::until(
            &self.patience,
            self.patience.change,
            || format!("the instance {id} does not stop"),
            || async {
                let instance = self.instance(id).await?;
                let state = instance.as_ref().and_then(look::state);
                Ok((state == Some(State::Stopped)).then_some(()))
            },
        )
        .await
    }

    /// Powers the instance on, unless it is starting already.
    pub(super) async fn start_server(
        &self,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let Some(server) = &mut found.server else { return Ok(()) };
        if server.state == State::Stopping {
            self.until_stopped(&server.id, progress).await?;
        }
        if server.state != State::Starting {
            self.start(&server.id).await?;
        }
        let instance = self.until_running(&server.id, progress).await?;
        self.refresh(server, &instance)
    }

    async fn start(&self, id: &str) -> Result<(), CloudError> {
        let call = self.writes(actions::START_INSTANCES, format!("start the instance {id}"));
        let sent = self.client.start_instances().instance_ids(id).send().await;
        sent.map_err(|error| call.fail(&error)).map(|_| ())
    }

    fn refresh(&self, server: &mut Server, instance: &Instance) -> Result<(), CloudError> {
        let seen = look::server(instance, &self.region)?;
        server.state = seen.state;
        server.size = seen.size;
        server.ipv4 = seen.ipv4;
        Ok(())
    }

    /// Powers the instance off, gives it another size, powers it on.
    pub(super) async fn resize(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let Some(server) = &mut found.server else { return Ok(()) };
        let id = server.id.clone();
        let size = self.size(&wish.size).await?;
        let Some(instance) = self.instance(&id).await? else { return Ok(()) };
        if let Some(obstacle) = obstacle(&instance, wish, size.architecture) {
            return Err(CloudError::Impossible { message: obstacle, hints: vec![OTHER_ARCHITECTURE.into()] });
        }
        let old = server.size.clone();
        if look::state(&instance) == Some(State::Starting) {
            self.until_running(&id, progress).await?;
        }
        if look::state(&instance) != Some(State::Stopped) {
            let call = self.writes(actions::STOP_INSTANCES, format!("stop the instance {id}"));
            let sent = self.client.stop_instances().instance_ids(&id).send().await;
            sent.map_err(|error| call.fail(&error))?;
            self.until_stopped(&id, progress).await?;
        }
        if let Err(error) = self.start_as(&id, &wish.size).await {
            // A clear no: the site is to be back as it was. Anything else is for the next run to look at.
            if matches!(error, CloudError::Refused { .. }) {
                progress(&format!("{} can't be had; starting {id} as {old} again", wish.size));
                self.start_as(&id, &old).await?;
                let instance = self.until_running(&id, progress).await?;
                self.refresh(server, &instance)?;
            }
            return Err(error);
        }
        let instance = self.until_running(&id, progress).await?;
        self.refresh(server, &instance)
    }

    async fn start_as(&self, id: &str, size: &str) -> Result<(), CloudError> {
        let call =
            self.writes(actions::MODIFY_INSTANCE_ATTRIBUTE, format!("make {size} of the instance {id}"));
        let sent = self
            .client
            .modify_instance_attribute()
            .instance_id(id)
            .instance_type(AttributeValue::builder().value(size).build())
            .send()
            .await;
        sent.map_err(|error| call.fail(&error))?;
        self.start(id).await
    }

    /// Makes EC2 refuse to terminate the instance, or not.
    pub(super) async fn protect(&self, id: &str, on: bool) -> Result<(), CloudError> {
        let doing = format!("{} {id} against termination", if on { "protect" } else { "no longer protect" });
        let call = self.writes(actions::MODIFY_INSTANCE_ATTRIBUTE, doing);
        let sent = self
            .client
            .modify_instance_attribute()
            .instance_id(id)
            .disable_api_termination(AttributeBooleanValue::builder().value(on).build())
            .send()
            .await;
        sent.map_err(|error| call.fail(&error)).map(|_| ())
    }

    /// Sets tags of the instance.
    pub(super) async fn add_tag(&self, id: &str, key: &str, value: &str) -> Result<(), CloudError> {
        let call = self.writes(actions::CREATE_TAGS, format!("set the tag {key} of {id}"));
        let sent = self.client.create_tags().resources(id).tags(names::tag(key, value)).send().await;
        sent.map_err(|error| call.fail(&error)).map(|_| ())
    }

    /// Removes a tag of the instance.
    pub(super) async fn drop_tag(&self, id: &str, key: &str) -> Result<(), CloudError> {
        let call = self.writes(actions::DELETE_TAGS, format!("remove the tag {key} of {id}"));
        let sent = self.client.delete_tags().resources(id).tags(Tag::builder().key(key).build()).send().await;
        sent.map_err(|error| call.fail(&error)).map(|_| ())
    }

    /// Terminates the instance, unless it is protected, and waits until it is gone.
    pub(super) async fn terminate(
        &self,
        owner: &Owner,
        id: &str,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        if self.is_protected(id).await? {
            return Err(CloudError::Impossible {
                message: format!(
                    "the instance {} ({id}) is protected against termination",
                    owner.host_name()
                ),
                hints: vec![
                    "`server.termination_protection: false` in ship.yml and `ship up` lift that; then again"
                        .into(),
                ],
            });
        }
        let call = self
            .writes(actions::TERMINATE_INSTANCES, format!("terminate the instance {}", owner.host_name()));
        let sent = self.client.terminate_instances().instance_ids(id).send().await;
        match sent.map_err(|error| call.fail(&error)) {
            Err(error) if error.code() == Some("InvalidInstanceID.NotFound") => return Ok(()),
            end => drop(end?),
        }
        progress(&format!("waiting for {id} to be gone"));
        aws::until(
            &self.patience,
            self.patience.change,
            || format!("the instance {id} is not gone"),
            || async {
                use aws_sdk_ec2::types::InstanceStateName::Terminated;
                let instance = self.instance(id).await?;
                let state = instance.as_ref().and_then(|instance| instance.state()?.name().cloned());
                Ok((instance.is_none() || state == Some(Terminated)).then_some(()))
            },
        )
        .await
    }

    /// Terminates the server, to make another.
    pub(super) async fn destroy_server(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let Some(server) = &found.server else { return Ok(()) };
        self.terminate(&wish.owner, &server.id, progress).await?;
        let gone = Some(server.id.clone());
        found.server = None;
        if let Some(firewall) = &mut found.firewall {
            firewall.applied = true;
        }
        if let Some(address) = found.address.as_mut().filter(|address| address.server == gone) {
            address.server = None;
        }
        if let Some(volume) = found.volume.as_mut().filter(|volume| volume.server == gone) {
            volume.server = None;
        }
        Ok(())
    }
}

/// What to do about two architectures.
pub(super) const OTHER_ARCHITECTURE: &str =
    "t3, m6i and the like are x86_64; t4g, m7g and the like are arm64: a server stays what it was made as";

/// Why the instance can't take the wished size.
pub(super) fn obstacle(
    instance: &Instance,
    wish: &Wish,
    architecture: super::size::Architecture,
) -> Option<String> {
    let is = instance.architecture()?;
    let wants = architecture.ec2();
    let old = instance.instance_type().map(|size| size.as_str().to_owned()).unwrap_or_default();
    (*is != wants).then(|| {
        format!(
            "{old} is {}, {} is {}: no server changes its architecture",
            is.as_str(),
            wish.size,
            wants.as_str()
        )
    })
}

pub(super) fn failed_to_start(instance: &Instance) -> CloudError {
    let id = instance.instance_id().unwrap_or_default();
    let reason = instance.state_reason().and_then(|reason| reason.message());
    let reason = reason.or(instance.state_transition_reason()).filter(|reason| !reason.is_empty());
    CloudError::Refused {
        cloud: super::CLOUD,
        doing: format!("start the instance {id}"),
        code: instance.state_reason().and_then(|reason| reason.code()).unwrap_or_default().to_owned(),
        message: reason.unwrap_or("it stopped again, and EC2 gives no reason").to_owned(),
        hints: vec!["`ship up` tries again; another `server.size` or zone may help".into()],
        input: false,
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
