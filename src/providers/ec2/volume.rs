//! The data volume.

use aws_sdk_ec2::types::{ResourceType, Volume as Ec2Volume, VolumeAttachmentState, VolumeState, VolumeType};

use super::{Ec2, actions, look, names};
use crate::aws;
use crate::cloud::{Found, Volume, Wish};
use crate::providers::cloud::{Progress, once};
use crate::providers::error::CloudError;

/// What the volume is asked to be called; Nitro instances call it otherwise, and by its id.
const DEVICE: &str = "/dev/sdf";

/// How many volumes may have been made for one server and deleted before.
const GENERATIONS: u32 = 10;

impl Ec2 {
    /// Makes the volume in the server's zone, and attaches it.
    pub(super) async fn add_volume(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (Some(size_gb), Some(server)) = (wish.volume_gb, &found.server) else { return Ok(()) };
        let instance = self.instance(&server.id).await?;
        let zone = instance.as_ref().and_then(|instance| instance.placement());
        let Some(zone) = zone.and_then(|placement| placement.availability_zone()) else {
            return Err(self
                .reads(actions::DESCRIBE_INSTANCES, "look up the instance's zone")
                .senseless("availability zone"));
        };
        let volume = self.make_volume(wish, &server.id, size_gb, zone).await?;
        found.volume = look::volume(&volume);
        self.attach_volume(found, progress).await
    }

    async fn make_volume(
        &self,
        wish: &Wish,
        server: &str,
        size_gb: u32,
        zone: &str,
    ) -> Result<Ec2Volume, CloudError> {
        for generation in 0..GENERATIONS {
            let token = names::volume_token(&wish.owner, server, generation);
            let find = || self.data_volume(wish);
            let send = || self.send_volume(wish, size_gb, zone, &token);
            let id = match once(&self.patience.looks, find, send).await {
                // The token made one before, of another size.
                Err(error) if error.code() == Some("IdempotentParameterMismatch") => None,
                made => made?.volume_id().map(str::to_owned),
            };
            // One that was made with the token before and is deleted by now never shows.
            let seen = match &id {
                Some(id) => self.shown(|| self.volume(id)).await?,
                None => self.shown(find).await?,
            };
            if let Some(volume) = seen.filter(|volume| !is_gone(volume)) {
                return Ok(volume);
            }
        }
        Err(super::worn_out("volume", GENERATIONS))
    }

    async fn send_volume(
        &self,
        wish: &Wish,
        size_gb: u32,
        zone: &str,
        token: &str,
    ) -> Result<Ec2Volume, CloudError> {
        let call = self.writes(actions::CREATE_VOLUME, format!("create a volume of {size_gb} GiB in {zone}"));
        let mut tags = names::tags(&wish.owner);
        tags.push(names::tag(names::DISK, names::DATA));
        let answer = self
            .client
            .create_volume()
            .availability_zone(zone)
            .size(i32::try_from(size_gb).unwrap_or(i32::MAX))
            .volume_type(VolumeType::Gp3)
            .encrypted(true)
            .client_token(token)
            .tag_specifications(names::specification(ResourceType::Volume, tags))
            .send()
            .await
            .map_err(|error| call.fail(&error))?;
        let volume = Ec2Volume::builder().set_volume_id(answer.volume_id().map(str::to_owned)).build();
        if volume.volume_id().is_none() { Err(call.senseless("id of the volume")) } else { Ok(volume) }
    }

    /// The owner's data volume, when there is no server yet.
    pub(super) async fn only_volume(&self, wish: &Wish) -> Result<Option<Volume>, CloudError> {
        Ok(self.data_volume(wish).await?.as_ref().and_then(look::volume))
    }

    async fn data_volume(&self, wish: &Wish) -> Result<Option<Ec2Volume>, CloudError> {
        let mut volumes = self.volumes(&wish.owner).await?;
        volumes.retain(|volume| names::value(volume.tags(), names::DISK) == Some(names::DATA));
        look::one(&wish.owner, "volumes", volumes, |volume| volume.volume_id())
    }

    /// Attaches the volume to the server.
    pub(super) async fn attach_volume(
        &self,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (Some(volume), Some(server)) = (&mut found.volume, &found.server) else { return Ok(()) };
        let at = self.available(volume, &server.id, progress).await?;
        if at.as_deref() != Some(server.id.as_str()) {
            let doing = format!("attach the volume {} to {}", volume.id, server.id);
            let call = self.writes(actions::ATTACH_VOLUME, doing);
            let attached = self
                .visibly(&["InvalidVolume.NotFound"], || async {
                    let ask = self.client.attach_volume().volume_id(&volume.id).instance_id(&server.id);
                    ask.device(DEVICE).send().await.map_err(|error| call.fail(&error))
                })
                .await;
            match attached {
                // Attached by the first of two calls whose answer was lost; the wait below sees it.
                Err(error) if error.code() == Some("VolumeInUse") => {}
                end => drop(end?),
            }
        }
        progress(&format!("waiting for the volume {}", volume.id));
        let (id, to) = (volume.id.clone(), server.id.clone());
        self.until_volume(
            &id,
            || format!("the volume {id} is not attached to {to}"),
            |volume| {
                let link = volume.attachments().iter().find(|link| link.instance_id() == Some(to.as_str()));
                link.is_some_and(|link| link.state() == Some(&VolumeAttachmentState::Attached))
            },
        )
        .await?;
        volume.server = Some(server.id.clone());
        Ok(())
    }

    /// Waits until the volume can be attached, or is at the server already: where it is attached to. An instance that is
    /// gone may hold on to it for a moment.
    async fn available(
        &self,
        volume: &Volume,
        server: &str,
        progress: Progress<'_>,
    ) -> Result<Option<String>, CloudError> {
        let id = volume.id.as_str();
        progress(&format!("waiting for the volume {id}"));
        let late = || format!("the volume {id} is not free");
        aws::until(&self.patience, self.patience.change, late, || async {
            let Some(volume) = self.volume(id).await? else { return Ok(None) };
            match look::attached_to(&volume) {
                Some(at) if at == server => Ok(Some(Some(at.to_owned()))),
                Some(other) => {
                    let holder = self.instance(other).await?;
                    let gone = holder.as_ref().and_then(look::state).is_none();
                    if gone { Ok(None) } else { Err(self.held(id, other)) }
                }
                None => Ok((volume.state() == Some(&VolumeState::Available)).then_some(None)),
            }
        })
        .await
    }

    /// Somebody attached the volume to another instance.
    fn held(&self, id: &str, other: &str) -> CloudError {
        let region = &self.region;
        CloudError::Impossible {
            message: format!("the volume {id} is attached to {other}, which is not the site's server"),
            hints: vec![format!(
                "unmount it there, then `aws ec2 detach-volume --region {region} --volume-id {id}`"
            )],
        }
    }

    /// Makes the volume larger. The file system on it is the server's business.
    pub(super) async fn grow_volume(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (Some(volume), Some(size_gb)) = (&mut found.volume, wish.volume_gb) else { return Ok(()) };
        let size = i32::try_from(size_gb).unwrap_or(i32::MAX);
        let call = self.writes(actions::MODIFY_VOLUME, format!("make {} {size_gb} GiB large", volume.id));
        let id = volume.id.clone();
        let grown = || async { Ok(self.volume(&id).await?.filter(|volume| volume.size() >= Some(size))) };
        let sent = self.client.modify_volume().volume_id(&id).size(size).send().await;
        match sent.map_err(|error| call.fail(&error)) {
            // Refused because it is being changed: maybe by the first of two calls, whose answer was lost.
            Err(error)
                if matches!(
                    error.code(),
                    Some("VolumeModificationRateExceeded" | "IncorrectModificationState")
                ) =>
            {
                self.shown(grown).await?.ok_or(error)?;
            }
            end => drop(end?),
        }
        progress(&format!("waiting for the volume {id}"));
        let late = || format!("the volume {id} is not {size_gb} GiB large");
        aws::until(&self.patience, self.patience.change, late, grown).await?;
        volume.size_gb = size_gb;
        Ok(())
    }

    /// Deletes a volume of the owner's once nothing uses it any more.
    pub(super) async fn delete_volume(&self, id: &str) -> Result<(), CloudError> {
        let free = aws::until(
            &self.patience,
            self.patience.release,
            || format!("the volume {id} is still attached"),
            || async {
                let Some(volume) = self.volume(id).await? else { return Ok(Some(false)) };
                Ok((volume.state() != Some(&VolumeState::InUse)).then_some(true))
            },
        )
        .await?;
        if !free {
            return Ok(());
        }
        let call = self.writes(actions::DELETE_VOLUME, format!("delete the volume {id}"));
        let sent = self.client.delete_volume().volume_id(id).send().await;
        match sent.map_err(|error| call.fail(&error)) {
            Err(error) if error.code() == Some("InvalidVolume.NotFound") => return Ok(()),
            end => drop(end?),
        }
        aws::until(
            &self.patience,
            self.patience.change,
            || format!("the volume {id} is still being deleted"),
            || async { Ok(self.volume(id).await?.is_none().then_some(())) },
        )
        .await
    }

    async fn until_volume(
        &self,
        id: &str,
        late: impl FnOnce() -> String,
        is: impl Fn(&Ec2Volume) -> bool,
    ) -> Result<Ec2Volume, CloudError> {
        let look = || async { Ok(self.volume(id).await?.filter(|volume| is(volume))) };
        aws::until(&self.patience, self.patience.change, late, look).await
    }

    /// One volume; `None` while EC2 doesn't show it, and when it is deleted.
    pub(super) async fn volume(&self, id: &str) -> Result<Option<Ec2Volume>, CloudError> {
        let call = self.reads(actions::DESCRIBE_VOLUMES, format!("look at the volume {id}"));
        let answer = self.client.describe_volumes().volume_ids(id).send().await;
        match answer.map_err(|error| call.fail(&error)) {
            Ok(answer) => Ok(answer.volumes().first().filter(|volume| !is_deleted(volume)).cloned()),
            Err(error) if error.code() == Some("InvalidVolume.NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_deleted(volume: &Ec2Volume) -> bool {
    volume.state() == Some(&VolumeState::Deleted)
}

fn is_gone(volume: &Ec2Volume) -> bool {
    matches!(volume.state(), Some(VolumeState::Deleting | VolumeState::Deleted))
}
