//! How ship's things are told from everybody else's: tags, filters, tokens. Pure.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};

use crate::cloud::Owner;
use crate::resources::file::sha256;

/// Whose it is: `library/default`, exactly.
pub(super) const OWNER: &str = "ship";
/// What the console shows.
const NAME: &str = "Name";
/// The image as the configuration named it.
pub(super) const IMAGE: &str = "ship-image";
/// The AMI that was chosen for it.
pub(super) const AMI: &str = "ship-ami";
/// The host key that an instance was born with.
pub(super) const BIRTH_KEY: &str = "ship-birth-key";
/// The host key that it made itself.
pub(super) const HOST_KEY: &str = "ship-host-key";
/// What a volume is for: `root` or `data`.
pub(super) const DISK: &str = "ship-disk";
/// A root disk.
pub(super) const ROOT: &str = "root";
/// The data volume.
pub(super) const DATA: &str = "data";

/// A tag.
pub(super) fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// The tags that everything of the owner's carries.
pub(super) fn tags(owner: &Owner) -> Vec<Tag> {
    vec![tag(OWNER, &owner.to_string()), tag(NAME, &owner.host_name())]
}

/// The tags that a call gives to what it makes.
pub(super) fn specification(kind: ResourceType, tags: Vec<Tag>) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
}

/// The value of a tag.
pub(super) fn value<'t>(tags: &'t [Tag], key: &str) -> Option<&'t str> {
    tags.iter().find(|tag| tag.key() == Some(key))?.value()
}

/// Whether the tags are exactly the owner's. Filters know wildcards; this doesn't.
pub(super) fn is_of(tags: &[Tag], owner: &Owner) -> bool {
    value(tags, OWNER) == Some(owner.to_string().as_str())
}

/// The user's own tags.
pub(super) fn labels(tags: &[Tag]) -> BTreeMap<String, String> {
    let own = |key: &str| key == NAME || key == OWNER || key.starts_with("ship-") || key.starts_with("aws:");
    tags.iter()
        .filter_map(|tag| Some((tag.key()?, tag.value().unwrap_or_default())))
        .filter(|(key, _)| !own(key))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Asks for things with one of these values.
pub(super) fn filter<'v>(name: &str, values: impl IntoIterator<Item = &'v str>) -> Filter {
    let values = values.into_iter().map(str::to_owned).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// Asks for what is the owner's.
pub(super) fn filter_of(owner: &Owner) -> Filter {
    filter("tag:ship", [owner.to_string().as_str()])
}

/// The token with which the owner's n-th server is made: the same on every computer, so that a second call with it
/// makes nothing. At most 64 characters.
pub(super) fn server_token(owner: &Owner, region: &str, generation: u32) -> String {
    sha256(format!("ship/{owner}/{region}/{generation}").as_bytes())
}

/// The same for the volume that is made for a server.
pub(super) fn volume_token(owner: &Owner, server: &str, generation: u32) -> String {
    sha256(format!("ship/{owner}/{server}/volume/{generation}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { app: "library".into(), environment: "default".into() }
    }

    #[test]
    fn tokens_are_stable_and_short_enough() {
        let token = server_token(&owner(), "eu-central-1", 0);
        assert_eq!(token, "2910854fa52aa367d6be0a2721f127ecddbc17683fc64a5e3df9417fb4c81340");
        assert_eq!(token.len(), 64);
        let others = [
            server_token(&owner(), "eu-central-1", 1),
            server_token(&owner(), "eu-west-1", 0),
            volume_token(&owner(), "i-1", 0),
            server_token(&Owner { environment: "staging".into(), ..owner() }, "eu-central-1", 0),
        ];
        assert!(others.iter().all(|other| *other != token));
    }

    #[test]
    fn only_the_exact_tag_is_the_owners() {
        let whose = |value: &str| is_of(&[tag("Name", "x"), tag("ship", value)], &owner());
        assert!(whose("library/default"));
        for other in ["library/default2", "Library/default", "library", "*", "xlibrary/default", ""] {
            assert!(!whose(other), "{other}");
        }
        assert!(!is_of(&[tag("Ship", "library/default")], &owner()));
        assert!(!is_of(&[], &owner()));
    }

    #[test]
    fn labels_are_what_is_neither_ships_nor_amazons() {
        let tags = [
            tag("ship", "library/default"),
            tag("ship-image", "debian-12"),
            tag("Name", "library"),
            tag("aws:autoscaling:groupName", "x"),
            tag("team", "web"),
            tag("empty", ""),
            tag("shipping", "yes"),
        ];
        let expected = [("empty", ""), ("shipping", "yes"), ("team", "web")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(labels(&tags), expected);
    }
}
