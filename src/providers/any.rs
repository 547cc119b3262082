//! Any of the clouds, chosen by `server.provider`.

use super::cloud::{Birth, Cloud, Progress};
use super::error::CloudError;
use crate::cloud::{Act, Found, KeyHex, Owner, Quote, Server, Thing, Wish, Words};
use crate::config::{self, Config};
use crate::error::Failure;

/// A cloud.
pub enum AnyCloud {}

/// The cloud that the configuration names, if it names one, ready to be asked.
pub async fn cloud_of(config: &Config) -> Result<Option<AnyCloud>, Failure> {
    match &config.server {
        config::Server::DigitalOcean(_)
        | config::Server::Ec2(_)
        | config::Server::Ssh(_)
        | config::Server::Vagrant(_) => Ok(None),
    }
}

impl AnyCloud {
    /// Its words.
    pub fn words(&self) -> &'static Words {
        match *self {}
    }
}

impl Cloud for AnyCloud {
    async fn find(&self, _: &Owner) -> Result<Option<Server>, CloudError> {
        match *self {}
    }
    async fn look(&self, _: &Wish) -> Result<Found, CloudError> {
        match *self {}
    }
    async fn quote(&self, _: &Wish) -> Result<Quote, CloudError> {
        match *self {}
    }
    async fn act(
        &self,
        _: &Act,
        _: &Wish,
        _: &mut Found,
        _: &Birth,
        _: Progress<'_>,
    ) -> Result<(), CloudError> {
        match *self {}
    }
    async fn add_host_key(&self, _: &Owner, _: &Server, _: &KeyHex) -> Result<(), CloudError> {
        match *self {}
    }
    async fn drop_birth_key(&self, _: &Owner, _: &Server) -> Result<(), CloudError> {
        match *self {}
    }
    async fn things(&self, _: &Owner) -> Result<Vec<Thing>, CloudError> {
        match *self {}
    }
    async fn remove(&self, _: &Owner, _: &Thing, _: Progress<'_>) -> Result<(), CloudError> {
        match *self {}
    }
}
