//! What can be set while the instance runs: protection and tags.

use aws_sdk_ec2::types::{AttributeBooleanValue, Tag};

use super::{Ec2, actions, names};
use crate::cloud::{Found, Setting};
use crate::providers::error::CloudError;

impl Ec2 {
    /// Sets what can be set while the instance runs.
    pub(super) async fn set(&self, setting: &Setting, found: &mut Found) -> Result<(), CloudError> {
        let Some(server) = &mut found.server else { return Ok(()) };
        match setting {
            Setting::Protected(on) => {
                self.protect(&server.id, *on).await?;
                server.settings.protected = *on;
            }
            Setting::Label(key, value) => {
                self.add_tag(&server.id, key, value).await?;
                server.settings.labels.insert(key.clone(), value.clone());
            }
            // The configuration of an instance has no such keys.
            Setting::Backups(_) | Setting::Ipv6 | Setting::Project(_) => {}
        }
        Ok(())
    }

    /// Makes EC2 refuse to terminate the instance, or not.
    async fn protect(&self, id: &str, on: bool) -> Result<(), CloudError> {
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
}
