//! Ownership and marks as DigitalOcean's tags, which are all that ship remembers there.
//!
//! Invariant: a tag is the owner's when it is exactly `ship:APP:ENV` or goes on with a colon: `ship:blog` is not
//! `ship:blog2`'s. Letters in tags have no case for DigitalOcean, and none here.

use core::net::Ipv4Addr;

use crate::cloud::{KeyHex, Owner};

/// What a tag says beside whose something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// On a droplet: the image it was made from, as `ship.yml` named it.
    Image(String),
    /// On a droplet: the host key that came with its user-data.
    BirthKey(KeyHex),
    /// On a droplet: the host key that it made itself.
    HostKey(KeyHex),
    /// On nothing: this reserved IP is the owner's. Reserved IPs can't carry tags themselves.
    Address(Ipv4Addr),
}

/// The tag of everything that is the owner's: `ship:library:default`.
pub fn owner(owner: &Owner) -> String {
    format!("ship:{}:{}", owner.app, owner.environment)
}

/// The tag of a mark: `ship:library:default:image:ubuntu-24_2e04`.
pub fn mark(of: &Owner, mark: &Mark) -> String {
    let (kind, value) = match mark {
        Mark::Image(image) => ("image", encode(image)),
        Mark::BirthKey(key) => ("birthkey", key.clone()),
        Mark::HostKey(key) => ("hostkey", key.clone()),
        Mark::Address(ip) => ("ip", ip.to_string().replace('.', "-")),
    };
    format!("{}:{kind}:{value}", owner(of))
}

/// Whether a tag is the owner's tag itself.
pub fn is_owner(of: &Owner, tag: &str) -> bool {
    tag.eq_ignore_ascii_case(&owner(of))
}

/// Whether a tag is the owner's tag or one of its marks.
pub fn is_ours(of: &Owner, tag: &str) -> bool {
    is_owner(of, tag) || rest(of, tag).is_some()
}

/// Reads a mark back; anything else is nothing.
pub fn read(of: &Owner, tag: &str) -> Option<Mark> {
    let rest = rest(of, tag)?.to_ascii_lowercase();
    let (kind, value) = rest.split_once(':')?;
    match kind {
        "image" => decode(value).map(Mark::Image),
        "birthkey" => Some(Mark::BirthKey(value.to_owned())),
        "hostkey" => Some(Mark::HostKey(value.to_owned())),
        "ip" => value.replace('-', ".").parse().ok().map(Mark::Address),
        _ => None,
    }
}

/// What follows the owner's tag and a colon.
fn rest<'t>(of: &Owner, tag: &'t str) -> Option<&'t str> {
    let mine = owner(of);
    let (start, rest) = tag.split_at_checked(mine.len())?;
    start.eq_ignore_ascii_case(&mine).then_some(rest)?.strip_prefix(':')
}

/// Lower-case letters, digits and dashes stay; every other byte is `_` and two hex digits.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => out.push(char::from(byte)),
            _ => out.push_str(&format!("_{byte:02x}")),
        }
        out
    })
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, coded)) = rest.split_once('_') {
        bytes.extend_from_slice(plain.as_bytes());
        let (hex, after) = coded.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library() -> Owner {
        Owner { app: "library".into(), environment: "default".into() }
    }

    #[test]
    fn marks_are_tags_and_back() {
        let key = "0f".repeat(32);
        let cases = [
            (Mark::Image("debian-12".into()), "ship:library:default:image:debian-12"),
            (Mark::Image("ubuntu-24.04".into()), "ship:library:default:image:ubuntu-24_2e04"),
            (Mark::BirthKey(key.clone()), &format!("ship:library:default:birthkey:{key}")),
            (Mark::HostKey(key.clone()), &format!("ship:library:default:hostkey:{key}")),
            (Mark::Address([203, 0, 113, 7].into()), "ship:library:default:ip:203-0-113-7"),
        ];
        for (value, tag) in cases {
            assert_eq!(mark(&library(), &value), tag);
            assert_eq!(read(&library(), tag), Some(value.clone()));
            assert_eq!(read(&library(), &tag.replace("ship", "Ship")), Some(value), "no case");
        }
    }

    #[test]
    fn a_longer_name_is_someone_elses() {
        for tag in [
            "ship:library:default2",
            "ship:library",
            "ship:librar:default:ip:203-0-113-7",
            "",
            "ship:library:défault",
        ] {
            assert!(!is_ours(&library(), tag), "{tag}");
            assert_eq!(read(&library(), tag), None);
        }
        assert!(is_ours(&library(), "ship:library:default") && is_owner(&library(), "SHIP:Library:default"));
        assert!(is_ours(&library(), "ship:library:default:whatever"));
        assert!(!is_owner(&library(), "ship:library:default:image:debian-12"));
    }

    #[test]
    fn what_no_mark_says_is_nothing() {
        for tag in ["image:_", "image:_zz", "image:_ff", "ip:203-0-113", "colour:red", "image"] {
            assert_eq!(read(&library(), &format!("ship:library:default:{tag}")), None, "{tag}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_image_fits_in_a_tag(image in "\\PC{0,40}") {
            let tag = mark(&library(), &Mark::Image(image.clone()));
            proptest::prop_assert!(tag.chars().all(|c| c.is_ascii_alphanumeric() || ":-_".contains(c)));
            proptest::prop_assert_eq!(read(&library(), &tag), Some(Mark::Image(image)));
        }
    }
}
