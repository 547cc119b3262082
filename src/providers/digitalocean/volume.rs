//! The data volume: made, attached, grown, deleted.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::cloud::{Found, Owner, Wish};
use crate::providers::cloud::Progress;
use crate::providers::error::CloudError;

use super::api::{VolumeInfo, filled};
use super::client::Call;
use super::tags;
use super::{DigitalOcean, Wait};

/// The most letters that a volume's name has.
const LONGEST: usize = 64;

/// What to do about a volume that another droplet has.
const DETACH: &str = "unmount it there and detach it: https://cloud.digitalocean.com/volumes";

/// What the owner's volume is called: the name is part of the path by which the system on the droplet finds it.
pub(super) fn name(owner: &Owner) -> String {
    let name = format!("ship-{}-{}", owner.app, owner.environment);
    if name.len() <= LONGEST {
        return name;
    }
    let hash: String = Sha256::digest(&name).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let start: String = name.chars().take(LONGEST - 9).collect();
    format!("{start}-{hash}")
}

impl DigitalOcean {
    async fn volume(&self, id: &str) -> Result<Option<VolumeInfo>, CloudError> {
        self.client.find(&Call::get(&["volumes", id], "look at the volume"), "volume").await
    }

    pub(super) async fn add_volume(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let owner = &wish.owner;
        let name = name(owner);
        let body = filled(json!({
            "name": name,
            "region": wish.region,
            "size_gigabytes": wish.volume_gb,
            "description": format!("data of {owner}"),
            "tags": [tags::owner(owner)],
        }));
        let call = Call::post(&["volumes"], body, format!("create the volume {name}"));
        let make = self.make(|| self.volume_of(wish), || self.client.call::<VolumeInfo>(&call, "volume"));
        let volume = make.await.map_err(|error| not_ours(error, owner))?;
        found.volume = Some(volume.volume());
        self.attach_volume(wish, found, progress).await
    }

    pub(super) async fn attach_volume(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (droplet, number) = super::server::droplet_id(found)?;
        let Some(volume) = &mut found.volume else { return Ok(()) };
        let name = name(&wish.owner);
        if let Some(other) = volume.server.as_ref().filter(|server| **server != droplet) {
            // Taking a disk from under a system that writes to it destroys data.
            return Err(CloudError::Impossible {
                message: format!("the volume {name} is attached to another droplet (id {other})"),
                hints: vec![DETACH.into()],
            });
        }
        let body = filled(json!({"type": "attach", "droplet_id": number, "region": wish.region}));
        let wait = Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for the volume {name} to be attached"),
            late: format!("the volume {name} is not attached"),
            progress,
        };
        let id = volume.id.clone();
        let actions = ["volumes", &id, "actions"];
        let call = Call::post(&actions, body, format!("attach the volume {name} to the droplet"));
        let look = || async {
            let now = self.volume(&id).await?.ok_or_else(|| gone(&name))?;
            Ok(Some(now.volume()).filter(|now| now.server.as_ref() == Some(&droplet)))
        };
        *volume = self.bring_about(&wait, &call, &actions, None, look).await?;
        Ok(())
    }

    pub(super) async fn grow_volume(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (Some(volume), Some(size)) = (&mut found.volume, wish.volume_gb) else { return Ok(()) };
        let name = name(&wish.owner);
        let body = filled(json!({"type": "resize", "size_gigabytes": size, "region": wish.region}));
        let wait = Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for the volume {name} to grow"),
            late: format!("the volume {name} has not grown"),
            progress,
        };
        let id = volume.id.clone();
        let actions = ["volumes", &id, "actions"];
        let call = Call::post(&actions, body, format!("grow the volume {name} to {size} GiB"));
        let look = || async {
            let now = self.volume(&id).await?.ok_or_else(|| gone(&name))?;
            Ok(Some(now.volume()).filter(|now| now.size_gb >= size))
        };
        *volume = self.bring_about(&wait, &call, &actions, None, look).await?;
        Ok(())
    }

    pub(super) async fn delete_volume(
        &self,
        id: &str,
        label: &str,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let wait = Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for the volume {label} to go"),
            late: format!("the volume {label} is still there"),
            progress,
        };
        // A volume comes off a destroyed droplet some moments later; off one that lives, only a person takes it.
        let off = || async {
            let now = self.volume(id).await?;
            for droplet in now.iter().flat_map(|now| &now.droplet_ids) {
                if self.droplet(&droplet.to_string()).await?.is_some() {
                    return Err(CloudError::Impossible {
                        message: format!("the volume {label} is attached to a droplet (id {droplet})"),
                        hints: vec![DETACH.into()],
                    });
                }
            }
            Ok(now.is_none_or(|now| now.droplet_ids.is_empty()).then_some(()))
        };
        self.until(&wait, off).await?;
        let call = Call::delete(&["volumes", id], format!("delete the volume {label}"));
        self.in_turn(&wait, || self.client.delete(&call)).await?;
        let gone = || async { Ok(self.volume(id).await?.is_none().then_some(())) };
        self.until(&wait, gone).await
    }
}

/// A volume that has the name and was not found has no tag of the owner's.
fn not_ours(mut error: CloudError, owner: &Owner) -> CloudError {
    if let CloudError::Refused { code, hints, .. } = &mut error
        && code.eq_ignore_ascii_case("conflict")
    {
        let tag = tags::owner(owner);
        hints.push(format!(
            "a volume of this name is there without the tag {tag}: rename it, or give it that tag"
        ));
    }
    error
}

fn gone(name: &str) -> CloudError {
    CloudError::Impossible {
        message: format!("the volume {name} is gone"),
        hints: vec!["run `ship up` again: it makes another".into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits() {
        let name =
            |app: &str, environment: &str| name(&Owner { app: app.into(), environment: environment.into() });
        assert_eq!(name("library", "default"), "ship-library-default");
        let (one, other) = (name(&"a".repeat(30), &"b".repeat(30)), name(&"a".repeat(30), &"b".repeat(29)));
        assert!(one.len() == 64 && one != other, "{one} {other}");
    }
}
