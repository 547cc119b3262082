//! Any of the clouds, chosen by `server.provider`.

use super::cloud::{Birth, Cloud, Progress};
use super::digitalocean::DigitalOcean;
use super::digitalocean::client::{Access, Waits};
#[cfg(feature = "aws")]
use super::ec2::Ec2;
use super::error::CloudError;
#[cfg(feature = "aws")]
use crate::cloud::EC2;
use crate::cloud::{Act, DIGITALOCEAN, Found, KeyHex, Owner, Quote, Server, Thing, Wish, Words};
use crate::config::{self, Config};
use crate::error::Failure;

/// A cloud.
pub enum AnyCloud {
    /// DigitalOcean.
    DigitalOcean(DigitalOcean),
    /// EC2.
    #[cfg(feature = "aws")]
    Ec2(Ec2),
}

/// The cloud that the configuration names, if it names one, ready to be asked. Nothing is sent yet.
pub async fn cloud_of(config: &Config) -> Result<Option<AnyCloud>, Failure> {
    match &config.server {
        config::Server::DigitalOcean(_) => {
            let access = Access::of(|name| std::env::var(name).ok())?;
            Ok(Some(AnyCloud::DigitalOcean(DigitalOcean::new(&access, Waits::default())?)))
        }
        #[cfg(feature = "aws")]
        config::Server::Ec2(server) => Ok(Some(AnyCloud::Ec2(Ec2::open(server.region.as_deref()).await?))),
        #[cfg(not(feature = "aws"))]
        config::Server::Ec2(_) => Err(no_aws("`server.provider: ec2`")),
        config::Server::Ssh(_) | config::Server::Vagrant(_) => Ok(None),
    }
}

/// What a build without AWS says.
#[cfg(not(feature = "aws"))]
pub fn no_aws(wanted: &str) -> Failure {
    Failure::input(format!("{wanted} needs AWS, and this ship was built without it"))
        .hint("build it with its default features: `cargo install --path .`")
}

/// Calls the same of whichever cloud it is.
macro_rules! whichever {
    ($any:expr, $cloud:ident => $call:expr) => {
        match $any {
            AnyCloud::DigitalOcean($cloud) => $call,
            #[cfg(feature = "aws")]
            AnyCloud::Ec2($cloud) => $call,
        }
    };
}

impl AnyCloud {
    /// Its words.
    pub fn words(&self) -> &'static Words {
        match self {
            AnyCloud::DigitalOcean(_) => &DIGITALOCEAN,
            #[cfg(feature = "aws")]
            AnyCloud::Ec2(_) => &EC2,
        }
    }
}

impl Cloud for AnyCloud {
    async fn find(&self, owner: &Owner) -> Result<Option<Server>, CloudError> {
        whichever!(self, cloud => cloud.find(owner).await)
    }

    async fn look(&self, wish: &Wish) -> Result<Found, CloudError> {
        whichever!(self, cloud => cloud.look(wish).await)
    }

    async fn quote(&self, wish: &Wish) -> Result<Quote, CloudError> {
        whichever!(self, cloud => cloud.quote(wish).await)
    }

    async fn act(
        &self,
        act: &Act,
        wish: &Wish,
        found: &mut Found,
        birth: &Birth,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        whichever!(self, cloud => cloud.act(act, wish, found, birth, progress).await)
    }

    async fn add_host_key(&self, owner: &Owner, server: &Server, key: &KeyHex) -> Result<(), CloudError> {
        whichever!(self, cloud => cloud.add_host_key(owner, server, key).await)
    }

    async fn drop_birth_key(&self, owner: &Owner, server: &Server) -> Result<(), CloudError> {
        whichever!(self, cloud => cloud.drop_birth_key(owner, server).await)
    }

    async fn things(&self, owner: &Owner) -> Result<Vec<Thing>, CloudError> {
        whichever!(self, cloud => cloud.things(owner).await)
    }

    async fn remove(&self, owner: &Owner, thing: &Thing, progress: Progress<'_>) -> Result<(), CloudError> {
        whichever!(self, cloud => cloud.remove(owner, thing, progress).await)
    }
}
