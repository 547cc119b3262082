//! Amazon EC2 behind the trait [`Cloud`]. `mod.rs` says what to do; each file beside it does it for one kind of thing.
//!
//! Invariants: no state but AWS's own answers: everything of ship's carries the tag `ship` = `APP/ENV` from the call
//! that makes it; and a call that makes something either carries a token that is the same on every computer, or is sent
//! once and looked for before it is sent again.

pub mod actions;
mod address;
mod firewall;
mod image;
mod key;
mod look;
mod names;
mod network;
mod power;
mod rules;
mod server;
mod settings;
mod size;
mod things;
mod volume;

use std::future::Future;

use aws_config::SdkConfig;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Builder;
use aws_sdk_ec2::config::retry::RetryConfig;

use super::cloud::{Birth, Cloud, Progress};
use super::error::CloudError;
use crate::aws::{self, Action, Call, Patience};
use crate::cloud::{Act, Found, KeyHex, Owner, Quote, Server, Thing, Wish};

/// What messages call it.
const CLOUD: &str = "EC2";

/// EC2 in one region of one account.
#[derive(Debug, Clone)]
pub struct Ec2 {
    client: Client,
    region: String,
    patience: Patience,
}

impl Ec2 {
    /// Takes credentials and region as every AWS tool does; `region` comes before the environment's and the profile's.
    /// Nothing is sent yet.
    pub async fn open(region: Option<&str>) -> Result<Self, CloudError> {
        Self::with(&aws::config(region).await, Patience::default())
    }

    /// Takes what the SDK was told.
    pub fn with(config: &SdkConfig, patience: Patience) -> Result<Self, CloudError> {
        let region = config.region().map(AsRef::as_ref).unwrap_or_default();
        let hint = "`server.region: eu-central-1` in ship.yml, or AWS_REGION, or `aws configure set region`";
        let impossible = |message| Err(CloudError::Impossible { message, hints: vec![hint.into()] });
        if region.is_empty() {
            return impossible("no AWS region is set".to_owned());
        }
        if !region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return impossible(format!("`{region}` is no AWS region"));
        }
        let own = aws_sdk_ec2::config::Builder::from(config)
            .retry_config(patience.retries())
            .timeout_config(patience.timeouts())
            .build();
        Ok(Self { region: region.to_owned(), client: Client::from_conf(own), patience })
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    fn reads(&self, action: Action, doing: impl Into<String>) -> Call {
        Call { cloud: CLOUD, action, doing: doing.into(), writes: false }
    }

    fn writes(&self, action: Action, doing: impl Into<String>) -> Call {
        Call { cloud: CLOUD, action, doing: doing.into(), writes: true }
    }

    /// For calls that make something and have no token: the SDK must not repeat them.
    fn sent_once(&self) -> Builder {
        Builder::new().retry_config(RetryConfig::disabled())
    }

    /// Repeats a call while EC2 doesn't see yet what was made a moment ago.
    async fn visibly<T, Fut>(&self, codes: &[&str], call: impl FnMut() -> Fut) -> Result<T, CloudError>
    where
        Fut: Future<Output = Result<T, CloudError>>,
    {
        aws::patiently(&self.patience, self.patience.visible, codes, call).await
    }

    /// Looks for what should be there, for as long as EC2 may need to show it.
    async fn shown<T, Fut>(&self, look: impl FnMut() -> Fut) -> Result<Option<T>, CloudError>
    where
        Fut: Future<Output = Result<Option<T>, CloudError>>,
    {
        match aws::until(&self.patience, self.patience.visible, String::new, look).await {
            Ok(seen) => Ok(Some(seen)),
            Err(CloudError::Late { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses what would be a second server in another region.
    async fn is_the_only_one(&self, owner: &Owner) -> Result<(), CloudError> {
        let elsewhere = self.elsewhere(owner).await?;
        let Some((region, id)) = elsewhere.first() else { return Ok(()) };
        Err(CloudError::Impossible {
            message: format!(
                "the server of {owner} is in {region} ({id}); this would make a second one in {}",
                self.region
            ),
            hints: vec![
                format!("to keep it: `server.region: {region}` in ship.yml"),
                format!(
                    "to move: `ship destroy` with `server.region: {region}` first, after a dump of its database"
                ),
            ],
        })
    }
}

fn worn_out(kind: &str, generations: u32) -> CloudError {
    CloudError::Impossible {
        message: format!("EC2 remembers {generations} earlier {kind}s of this name, all gone"),
        hints: vec!["it forgets them within a day or two".into()],
    }
}

impl Cloud for Ec2 {
    /// One call. Whether the server is protected, and the size of its disk, is not part of the answer.
    async fn find(&self, owner: &Owner) -> Result<Option<Server>, CloudError> {
        self.mine(owner).await?.map(|instance| look::server(&instance, &self.region)).transpose()
    }

    async fn look(&self, wish: &Wish) -> Result<Found, CloudError> {
        self.everything(wish).await
    }

    async fn quote(&self, wish: &Wish) -> Result<Quote, CloudError> {
        let (size, mine) = tokio::try_join!(self.size(&wish.size), self.mine(&wish.owner))?;
        if wish.volume_gb.is_some() && !size.nvme {
            return Err(CloudError::Impossible {
                message: format!("`server.size: {}` gives volumes no names to find them by", wish.size),
                hints: vec!["take a newer one (t3, t4g, m6i …), or leave `server.volume` out".into()],
            });
        }
        let mut quote = Quote { memory_mb: size.memory_mb, cores: size.cores, monthly: None, obstacle: None };
        match &mine {
            Some(instance) => quote.obstacle = power::obstacle(instance, wish, size.architecture),
            None => self.is_the_only_one(&wish.owner).await?,
        }
        if mine.is_none() || quote.obstacle.is_some() {
            let image = self.image(&wish.image, size.architecture).await?;
            if wish.disk_gb.is_some_and(|disk| disk < image.least_gb) {
                return Err(CloudError::Impossible {
                    message: format!("the image {} needs a disk of {} GiB", wish.image, image.least_gb),
                    hints: vec![format!("`server.disk: {}`", image.least_gb)],
                });
            }
            let found = Found { volume: self.only_volume(wish).await?, ..Found::default() };
            let zone = self.volume_zone(&found).await?;
            self.site(wish, zone.as_deref()).await?;
        }
        Ok(quote)
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
            Act::StartServer => self.start_server(found, progress).await,
            Act::Resize => self.resize(wish, found, progress).await,
            Act::AddAddress => self.add_address(wish, found).await,
            Act::AttachAddress => self.attach_address(found).await,
            Act::RemoveAddress => self.remove_address(wish, found, progress).await,
            Act::AddVolume => self.add_volume(wish, found, progress).await,
            Act::AttachVolume => self.attach_volume(found, progress).await,
            Act::GrowVolume => self.grow_volume(wish, found, progress).await,
            Act::Set(setting) => self.set(setting, found).await,
            Act::DestroyServer => self.destroy_server(wish, found, progress).await,
        }
    }

    async fn add_host_key(&self, _: &Owner, server: &Server, key: &KeyHex) -> Result<(), CloudError> {
        self.add_tag(&server.id, names::HOST_KEY, key).await
    }

    async fn drop_birth_key(&self, _: &Owner, server: &Server) -> Result<(), CloudError> {
        self.drop_tag(&server.id, names::BIRTH_KEY).await
    }

    async fn things(&self, owner: &Owner) -> Result<Vec<Thing>, CloudError> {
        self.all(owner).await
    }

    async fn remove(&self, owner: &Owner, thing: &Thing, progress: Progress<'_>) -> Result<(), CloudError> {
        self.take_away(owner, thing, progress).await
    }
}

#[cfg(test)]
mod tests;
