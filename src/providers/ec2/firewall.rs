//! The security group: its rules, and that the instance is in it.
//!
//! Invariant: what is missing is let in before what is too much is shut out; other groups of the instance stay.

use aws_sdk_ec2::types::{IpPermission, ResourceType, SecurityGroup};

use super::{Ec2, actions, names, rules};
use crate::aws;
use crate::cloud::{Firewall, Found, Owner, Rule, Wish};
use crate::providers::cloud::once;
use crate::providers::error::CloudError;

/// How often rules that somebody else changes at the same time are compared anew.
const ROUNDS: u32 = 3;

impl Ec2 {
    /// Makes the group with its rules, in the VPC where the server is or will be.
    pub(super) async fn add_firewall(&self, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        let vpc = match found.server.as_ref().and_then(|server| server.network.clone()) {
            Some(vpc) => vpc,
            None => self.vpc(wish).await?,
        };
        let id = self.group_in(&vpc, wish).await?;
        let applied = found.server.is_none();
        found.firewall = Some(Firewall { id, rules: wish.rules.clone(), applied });
        self.apply_firewall(wish, found).await
    }

    /// Makes the rules what they should be, and puts the group in front of the server.
    pub(super) async fn set_firewall(&self, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        let Some(firewall) = &mut found.firewall else { return self.add_firewall(wish, found).await };
        self.set_rules(&firewall.id, wish).await?;
        firewall.rules = wish.rules.clone();
        self.apply_firewall(wish, found).await
    }

    /// The owner's group in a VPC, made if it isn't there, with its rules.
    pub(super) async fn group_in(&self, vpc: &str, wish: &Wish) -> Result<String, CloudError> {
        let look = || self.group_of(&wish.owner, vpc);
        let id = match look().await? {
            Some(id) => id,
            None => once(&self.patience.looks, look, || self.make_group(vpc, wish)).await?,
        };
        self.set_rules(&id, wish).await?;
        Ok(id)
    }

    async fn group_of(&self, owner: &Owner, vpc: &str) -> Result<Option<String>, CloudError> {
        let groups = self.groups(owner).await?;
        let there = groups.iter().find(|group| group.vpc_id() == Some(vpc));
        Ok(there.and_then(|group| group.group_id()).map(str::to_owned))
    }

    async fn make_group(&self, vpc: &str, wish: &Wish) -> Result<String, CloudError> {
        let name = wish.owner.unique_name();
        let call = self.writes(actions::CREATE_SECURITY_GROUP, format!("create the security group {name}"));
        let send = || async {
            let answer = self
                .client
                .create_security_group()
                .group_name(&name)
                .description(format!("What reaches the server of {}. Made by ship.", wish.owner))
                .vpc_id(vpc)
                .tag_specifications(names::specification(
                    ResourceType::SecurityGroup,
                    names::tags(&wish.owner),
                ))
                .customize()
                .config_override(self.sent_once())
                .send()
                .await
                .map_err(|error| call.fail(&error))?;
            answer.group_id().map(str::to_owned).ok_or_else(|| call.senseless("id of the security group"))
        };
        match aws::unthrottled(&self.patience, send).await {
            Err(error) if error.code() == Some("InvalidGroup.Duplicate") => {
                self.group_of(&wish.owner, vpc).await?.ok_or_else(|| CloudError::Impossible {
                    message: format!("a security group {name} is in {vpc} already, and not with ship's tag"),
                    hints: vec!["rename it, or delete it if nothing needs it".into()],
                })
            }
            end => end,
        }
    }

    async fn set_rules(&self, id: &str, wish: &Wish) -> Result<(), CloudError> {
        for _ in 1..ROUNDS {
            match self.converge(id, wish).await {
                Err(error)
                    if matches!(
                        error.code(),
                        Some("InvalidPermission.Duplicate" | "InvalidPermission.NotFound")
                    ) => {}
                end => return end,
            }
        }
        self.converge(id, wish).await
    }

    async fn converge(&self, id: &str, wish: &Wish) -> Result<(), CloudError> {
        let there = rules::entries(&self.group(id).await?);
        let has = |rule: &Rule| there.iter().any(|entry| entry.rule == *rule);
        let missing: Vec<IpPermission> =
            wish.rules.iter().filter(|rule| !has(rule)).filter_map(rules::permission).collect();
        if !missing.is_empty() {
            let call =
                self.writes(actions::AUTHORIZE_INGRESS, format!("add rules to the security group {id}"));
            self.visibly(&["InvalidGroup.NotFound", "InvalidGroupId.NotFound"], || async {
                let ask = self.client.authorize_security_group_ingress().group_id(id);
                let sent = ask.set_ip_permissions(Some(missing.clone())).send().await;
                sent.map_err(|error| call.fail(&error))
            })
            .await?;
        }
        let surplus: Vec<IpPermission> = there
            .iter()
            .filter(|entry| !wish.rules.contains(&entry.rule))
            .map(|entry| entry.permission.clone())
            .collect();
        if !surplus.is_empty() {
            let call =
                self.writes(actions::REVOKE_INGRESS, format!("take rules from the security group {id}"));
            let ask = self.client.revoke_security_group_ingress().group_id(id);
            let sent = ask.set_ip_permissions(Some(surplus)).send().await;
            sent.map_err(|error| call.fail(&error))?;
        }
        Ok(())
    }

    async fn group(&self, id: &str) -> Result<SecurityGroup, CloudError> {
        let call = self.reads(actions::DESCRIBE_SECURITY_GROUPS, format!("look at the security group {id}"));
        self.visibly(&["InvalidGroup.NotFound", "InvalidGroupId.NotFound"], || async {
            let answer = self.client.describe_security_groups().group_ids(id).send().await;
            let answer = answer.map_err(|error| call.fail(&error))?;
            answer.security_groups().first().cloned().ok_or_else(|| call.senseless("security group"))
        })
        .await
    }

    /// Adds the group to those that the server is in.
    async fn apply_firewall(&self, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        let (Some(firewall), Some(server)) = (&mut found.firewall, &found.server) else { return Ok(()) };
        let Some(instance) = self.instance(&server.id).await? else { return Ok(()) };
        let mut groups: Vec<String> = instance
            .security_groups()
            .iter()
            .filter_map(|group| group.group_id().map(str::to_owned))
            .collect();
        if !groups.contains(&firewall.id) {
            groups.push(firewall.id.clone());
            let name = wish.owner.unique_name();
            let call = self.writes(
                actions::MODIFY_INSTANCE_ATTRIBUTE,
                format!("put the security group {name} in front of {}", server.id),
            );
            self.visibly(&["InvalidGroup.NotFound", "InvalidGroupId.NotFound"], || async {
                let ask = self.client.modify_instance_attribute().instance_id(&server.id);
                let sent = ask.set_groups(Some(groups.clone())).send().await;
                sent.map_err(|error| call.fail(&error))
            })
            .await?;
        }
        firewall.applied = true;
        Ok(())
    }

    /// Deletes a group once nothing uses it any more.
    pub(super) async fn delete_group(&self, id: &str) -> Result<(), CloudError> {
        let call = self.writes(actions::DELETE_SECURITY_GROUP, format!("delete the security group {id}"));
        // The interface of an instance that was just terminated holds on to it for a while.
        let ended =
            aws::patiently(&self.patience, self.patience.release, &["DependencyViolation"], || async {
                let sent = self.client.delete_security_group().group_id(id).send().await;
                sent.map_err(|error| call.fail(&error))
            })
            .await;
        match ended {
            Err(error)
                if matches!(error.code(), Some("InvalidGroup.NotFound" | "InvalidGroupId.NotFound")) =>
            {
                Ok(())
            }
            end => end.map(|_| ()),
        }
    }
}
