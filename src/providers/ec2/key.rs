//! The user's public key in the account. EC2 takes Ed25519 and RSA keys.
//!
//! cloud-init lets the user in by the user-data alone; the key pair shows in the console whose server it is, and opens
//! EC2's own ways in when cloud-init has failed.

use aws_sdk_ec2::primitives::Blob;
use aws_sdk_ec2::types::{KeyPairInfo, ResourceType};

use super::{Ec2, actions, names};
use crate::aws;
use crate::cloud::{Found, Owner, Wish};
use crate::providers::cloud::once;
use crate::providers::error::CloudError;

impl Ec2 {
    /// The owner's key pairs.
    pub(super) async fn pairs(&self, owner: &Owner) -> Result<Vec<KeyPairInfo>, CloudError> {
        let call = self.reads(actions::DESCRIBE_KEY_PAIRS, format!("look for the key pair of {owner}"));
        let ask = self.client.describe_key_pairs().filters(names::filter_of(owner)).include_public_key(true);
        let answer = ask.send().await.map_err(|error| call.fail(&error))?;
        Ok(answer.key_pairs().iter().filter(|pair| names::is_of(pair.tags(), owner)).cloned().collect())
    }

    /// The id of the owner's key pair with the user's public key.
    pub(super) async fn key(&self, wish: &Wish) -> Result<Option<String>, CloudError> {
        if !wish.shares_key() {
            return Ok(None);
        }
        let pairs = self.pairs(&wish.owner).await?;
        let pair =
            pairs.iter().find(|pair| pair.public_key().is_some_and(|key| is_same(key, &wish.public_key)));
        Ok(pair.and_then(|pair| pair.key_pair_id()).map(str::to_owned))
    }

    /// Gives the account the public key, in place of another one that ship gave it for this owner.
    pub(super) async fn add_key(&self, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        if !wish.shares_key() {
            return Ok(());
        }
        for pair in self.pairs(&wish.owner).await? {
            if pair.public_key().is_some_and(|key| is_same(key, &wish.public_key)) {
                found.key = pair.key_pair_id().map(str::to_owned);
                return Ok(());
            }
            self.delete_key(&pair).await?;
        }
        found.key = Some(once(&self.patience.looks, || self.key(wish), || self.import(wish)).await?);
        Ok(())
    }

    async fn import(&self, wish: &Wish) -> Result<String, CloudError> {
        let name = wish.owner.unique_name();
        let call = self.writes(actions::IMPORT_KEY_PAIR, format!("import the key pair {name}"));
        let send = || async {
            let answer = self
                .client
                .import_key_pair()
                .key_name(&name)
                .public_key_material(Blob::new(wish.public_key.trim().as_bytes()))
                .tag_specifications(names::specification(ResourceType::KeyPair, names::tags(&wish.owner)))
                .customize()
                .config_override(self.sent_once())
                .send()
                .await
                .map_err(|error| call.fail(&error))?;
            answer.key_pair_id().map(str::to_owned).ok_or_else(|| call.senseless("id of the key pair"))
        };
        match aws::unthrottled(&self.patience, send).await {
            Err(error) if error.code() == Some("InvalidKeyPair.Duplicate") => {
                self.key(wish).await?.ok_or_else(|| CloudError::Impossible {
                    message: format!("a key pair {name} is there already, and not with ship's tag"),
                    hints: vec![format!("is it still needed? `aws ec2 delete-key-pair --key-name {name}`")],
                })
            }
            end => end,
        }
    }

    /// Deletes a key pair.
    pub(super) async fn delete_key(&self, pair: &KeyPairInfo) -> Result<(), CloudError> {
        let name = pair.key_name().unwrap_or_default();
        let call = self.writes(actions::DELETE_KEY_PAIR, format!("delete the key pair {name}"));
        let answer = self.client.delete_key_pair().key_name(name).send().await;
        match answer.map_err(|error| call.fail(&error)) {
            Err(error) if error.code() == Some("InvalidKeyPair.NotFound") => Ok(()),
            end => end.map(|_| ()),
        }
    }
}

/// Whether two `authorized_keys` lines have the same key, whatever their comments.
fn is_same(one: &str, other: &str) -> bool {
    let key = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    key(one) == key(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_make_no_other_key() {
        assert!(is_same("ssh-ed25519 AAAA me@laptop\n", "ssh-ed25519 AAAA ship.library.default"));
        assert!(!is_same("ssh-ed25519 AAAA me", "ssh-ed25519 BBBB me"));
        assert!(!is_same("ssh-ed25519 AAAA", "ssh-rsa AAAA"));
    }
}
