//! The elastic IP.

use aws_sdk_ec2::types::{DomainType, ResourceType};

use super::{Ec2, actions, look, names};
use crate::aws;
use crate::cloud::{Address, Found, Owner, State, Wish};
use crate::providers::cloud::{Progress, once};
use crate::providers::error::CloudError;

impl Ec2 {
    /// Takes an address and leads it to the server.
    pub(super) async fn add_address(&self, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        let free = || async { Ok(self.addresses(&wish.owner).await?.iter().find_map(look::address)) };
        found.address = Some(once(&self.patience.looks, free, || self.allocate(&wish.owner)).await?);
        self.attach_address(found).await
    }

    async fn allocate(&self, owner: &Owner) -> Result<Address, CloudError> {
        let call = self.writes(actions::ALLOCATE_ADDRESS, format!("take an elastic IP for {owner}"));
        aws::unthrottled(&self.patience, || async {
            let answer = self
                .client
                .allocate_address()
                .domain(DomainType::Vpc)
                .tag_specifications(names::specification(ResourceType::ElasticIp, names::tags(owner)))
                .customize()
                .config_override(self.sent_once())
                .send()
                .await
                .map_err(|error| call.fail(&error))?;
            let ip = answer.public_ip().and_then(|ip| ip.parse().ok());
            match (answer.allocation_id(), ip) {
                (Some(id), Some(ip)) => Ok(Address { id: id.to_owned(), ip, server: None, tagged: true }),
                (_, _) => Err(call.senseless("address")),
            }
        })
        .await
    }

    /// Leads the address to the server.
    pub(super) async fn attach_address(&self, found: &mut Found) -> Result<(), CloudError> {
        let (Some(address), Some(server)) = (&mut found.address, &mut found.server) else { return Ok(()) };
        let doing = format!("lead the elastic IP {} to {}", address.ip, server.id);
        let call = self.writes(actions::ASSOCIATE_ADDRESS, doing);
        self.visibly(&["InvalidAllocationID.NotFound", "InvalidInstanceID"], || async {
            let ask = self.client.associate_address().allocation_id(&address.id).instance_id(&server.id);
            ask.allow_reassociation(true).send().await.map_err(|error| call.fail(&error))
        })
        .await?;
        address.server = Some(server.id.clone());
        server.ipv4 = Some(address.ip);
        Ok(())
    }

    /// Gives the address back; the server gets one of EC2's again.
    pub(super) async fn remove_address(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let Some(address) = found.address.clone() else { return Ok(()) };
        self.release(&wish.owner, &address.id).await?;
        found.address = None;
        let Some(server) = found.server.as_mut().filter(|server| server.ipv4 == Some(address.ip)) else {
            return Ok(());
        };
        server.ipv4 = None;
        if server.state != State::Running {
            return Ok(());
        }
        progress("waiting for another address");
        let (id, old) = (server.id.clone(), address.ip.to_string());
        let another = aws::until(
            &self.patience,
            self.patience.change,
            || format!("the instance {id} has no public address yet"),
            || async {
                let instance = self.instance(&id).await?;
                let ip = instance.as_ref().and_then(|instance| instance.public_ip_address());
                Ok(ip.filter(|ip| **ip != *old).and_then(|ip| ip.parse().ok()))
            },
        )
        .await?;
        server.ipv4 = Some(another);
        Ok(())
    }

    /// Takes an address of the owner's off whatever it leads to, and gives it back.
    pub(super) async fn release(&self, owner: &Owner, id: &str) -> Result<(), CloudError> {
        let addresses = self.addresses(owner).await?;
        let Some(address) = addresses.iter().find(|address| address.allocation_id() == Some(id)) else {
            return Ok(());
        };
        let ip = address.public_ip().unwrap_or(id);
        if let Some(association) = address.association_id().filter(|id| !id.is_empty()) {
            let call = self.writes(actions::DISASSOCIATE_ADDRESS, format!("take the elastic IP {ip} off"));
            let sent = self.client.disassociate_address().association_id(association).send().await;
            match sent.map_err(|error| call.fail(&error)) {
                Err(error) if error.code() == Some("InvalidAssociationID.NotFound") => {}
                end => drop(end?),
            }
        }
        let call = self.writes(actions::RELEASE_ADDRESS, format!("release the elastic IP {ip}"));
        let sent = self.client.release_address().allocation_id(id).send().await;
        match sent.map_err(|error| call.fail(&error)) {
            Err(error) if error.code() == Some("InvalidAllocationID.NotFound") => Ok(()),
            end => end.map(|_| ()),
        }
    }
}
