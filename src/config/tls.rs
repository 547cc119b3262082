//! `tls:`, as written and as it holds: where the certificate comes from, and how long browsers insist on HTTPS.
//!
//! Invariant: an address, a file name and a number that get past this module go into a command line or a site of nginx
//! without being looked at again.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::Server;
use super::validate::Check;

/// Where Let's Encrypt's certificates come from.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Where its certificates for trying things out come from, which no browser trusts.
pub const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Seconds that browsers insist on HTTPS unless the user says otherwise: long enough to count, and short enough to go
/// back from.
const HSTS_S: u32 = 3600;

/// Seconds in a year: what the list that browsers bring along asks for.
const YEAR_S: u32 = 31_536_000;

/// Where the certificate comes from, and what browsers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate's origin.
    pub origin: Origin,
    /// What `Strict-Transport-Security` says; `None` sends none.
    pub hsts: Option<Hsts>,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There is none: the site is served by HTTP.
    None,
    /// Made on the server, trusted by nobody.
    SelfSigned,
    /// From an authority that speaks ACME.
    Acme(Acme),
    /// Files of the user's, relative to the project.
    Own {
        /// The certificate, followed by those between it and its root.
        certificate: String,
        /// Its private key.
        key: String,
    },
}

/// An authority that speaks ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The address of its directory.
    pub directory: String,
    /// Where it writes to.
    pub email: Option<String>,
    /// A file with the root that its own server is trusted by, relative to the project; `None` is the usual ones.
    pub ca: Option<String>,
}

/// How long browsers insist on HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hsts {
    /// Seconds.
    pub max_age_s: u32,
    /// Whether that holds for all names below the site's.
    pub subdomains: bool,
    /// Whether the site agrees to be in the list that browsers bring along.
    pub preload: bool,
}

impl Tls {
    /// No certificate at all.
    pub const NONE: Self = Self { origin: Origin::None, hsts: None };

    /// Whether the site is meant to be served by HTTPS.
    pub fn is_on(&self) -> bool {
        self.origin != Origin::None
    }
}

impl fmt::Display for Hsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max-age={}", self.max_age_s)?;
        if self.subdomains {
            f.write_str("; includeSubDomains")?;
        }
        if self.preload { f.write_str("; preload") } else { Ok(()) }
    }
}

/// `tls:` as a word or with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSpec {
    word: Option<TlsWord>,
    map: TlsMap,
}

/// Where the certificate comes from, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TlsWord {
    /// Let's Encrypt.
    LetsEncrypt,
    /// Made on the server, trusted by nobody: for local machines.
    #[serde(rename = "self-signed")]
    SelfSigned,
    /// None: the site is served by HTTP.
    None,
}

/// The certificate's settings. Without `certificate` and `key`, it comes from Let's Encrypt or from `directory`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TlsSettings")]
struct TlsMap {
    /// Where the authority writes to about the certificate. Default: nowhere.
    #[schemars(example = &"ops@example.com")]
    email: Option<String>,
    /// Whether the certificate is one of Let's Encrypt's for trying things out, which no browser trusts. Default: false.
    #[schemars(extend("default" = false))]
    staging: Option<bool>,
    /// Directory of another authority that speaks ACME. Default: Let's Encrypt's.
    #[schemars(example = &"https://acme.example.com/directory")]
    directory: Option<String>,
    /// File with the root certificate that the directory's own server is trusted by, if it is a private one.
    #[schemars(example = &"ops/ca.pem")]
    ca: Option<String>,
    /// A certificate of your own: a PEM file with it and those between it and its root.
    #[schemars(example = &"certs/site.pem")]
    certificate: Option<String>,
    /// Its private key: a PEM file, best one that git ignores.
    #[schemars(example = &"certs/site.key")]
    key: Option<String>,
    /// How long browsers insist on HTTPS, in seconds; 0 says nothing to them. Default: 3600.
    hsts: Option<HstsSpec>,
}

/// How long browsers insist on HTTPS, as seconds or with settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HstsSpec {
    max_age: Option<u32>,
    subdomains: Option<bool>,
    preload: Option<bool>,
    word: bool,
}

/// What browsers are told.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HstsSettings")]
struct HstsMap {
    /// Seconds. Default: 3600.
    #[schemars(range(max = 63_072_000), extend("default" = 3600))]
    max_age: Option<u32>,
    /// Whether it holds for every name below the site's, too. Default: false.
    #[schemars(extend("default" = false))]
    subdomains: Option<bool>,
    /// Whether the site agrees to be in the list that browsers bring along, which is hard to leave. Default: false.
    #[schemars(extend("default" = false))]
    preload: Option<bool>,
}

impl<'de> Deserialize<'de> for TlsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;
        impl<'de> Visitor<'de> for WordOrMap {
            type Value = TlsSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`letsencrypt`, `self-signed` or `none`, or a map (email, staging, directory, ca, certificate, key, hsts)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TlsSpec, E> {
                let word = TlsWord::deserialize(de::value::StrDeserializer::<E>::new(text))
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(TlsSpec { word: Some(word), map: TlsMap::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TlsSpec, A::Error> {
                let map = TlsMap::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(TlsSpec { word: None, map })
            }
        }
        deserializer.deserialize_any(WordOrMap)
    }
}

impl<'de> Deserialize<'de> for HstsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrMap;
        impl<'de> Visitor<'de> for NumberOrMap {
            type Value = HstsSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds, or a map (max_age, subdomains, preload)")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<HstsSpec, E> {
                let max_age = u32::try_from(number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
                    .map(Some)?;
                Ok(HstsSpec { max_age, subdomains: None, preload: None, word: true })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HstsSpec, A::Error> {
                let map = HstsMap::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let HstsMap { max_age, subdomains, preload } = map;
                Ok(HstsSpec { max_age, subdomains, preload, word: false })
            }
        }
        deserializer.deserialize_any(NumberOrMap)
    }
}

impl JsonSchema for TlsSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<TlsWord>();
        let map = generator.subschema_for::<TlsMap>();
        json_schema!({"anyOf": [word, map], "default": "letsencrypt"})
    }
}

impl JsonSchema for HstsSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hsts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<HstsMap>();
        json_schema!({
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": 63_072_000}, map],
            "default": 3600,
        })
    }
}

impl Check<'_> {
    /// What `tls` says; with domains that the world can see, Let's Encrypt unless it says otherwise.
    pub(super) fn tls(&mut self, spec: Option<TlsSpec>, domains: &[String], server: &Server) -> Tls {
        let local = matches!(server, Server::Vagrant(_));
        let acme = |directory: &str| Acme { directory: directory.to_owned(), email: None, ca: None };
        let usual = Hsts { max_age_s: HSTS_S, subdomains: false, preload: false };
        let Some(spec) = spec else {
            if domains.is_empty() || local {
                return Tls::NONE;
            }
            return Tls { origin: Origin::Acme(acme(LETS_ENCRYPT)), hsts: Some(usual) };
        };
        match spec.word {
            Some(TlsWord::None) => return Tls::NONE,
            // Who clicks a warning away can't do so once the browser insists.
            Some(TlsWord::SelfSigned) => return Tls { origin: Origin::SelfSigned, hsts: None },
            Some(TlsWord::LetsEncrypt) => {
                self.can_be_had(domains, local, true);
                return Tls { origin: Origin::Acme(acme(LETS_ENCRYPT)), hsts: Some(usual) };
            }
            None => {}
        }
        let map = spec.map;
        let hsts = self.hsts(map.hsts);
        if map.certificate.is_some() || map.key.is_some() {
            return Tls { origin: self.own(&map), hsts };
        }
        let staging = map.staging.unwrap_or(false);
        self.can_be_had(domains, local, map.directory.is_none());
        if let Some(email) = &map.email
            && !is_email(email)
        {
            let such = "such as `email: ops@example.com`".to_owned();
            self.value(&["tls", "email"], format!("`{email}` is not an email address"), [such]);
        }
        if let Some(directory) = &map.directory {
            let host = directory.strip_prefix("https://").unwrap_or_default();
            if host.is_empty() || !directory.bytes().all(|byte| byte.is_ascii_graphic()) {
                self.value(
                    &["tls", "directory"],
                    format!("`{directory}` is not an address that starts with https://"),
                    ["such as `directory: https://acme.example.com/directory`".to_owned()],
                );
            }
            if staging {
                let hint = "leave out one of them".to_owned();
                self.key(&["tls", "staging"], "it stands for a `directory` of Let's Encrypt's", [hint]);
            }
        }
        if let Some(ca) = &map.ca {
            self.file_name(&["tls", "ca"], ca);
            if map.directory.is_none() {
                self.key(
                    &["tls", "ca"],
                    "Let's Encrypt's own server needs none",
                    ["it is for a `directory` of one's own".to_owned()],
                );
            }
        }
        let directory =
            map.directory.unwrap_or_else(|| if staging { STAGING } else { LETS_ENCRYPT }.to_owned());
        let origin = Origin::Acme(Acme { directory, email: map.email, ca: map.ca });
        Tls { origin, hsts: hsts.filter(|_| !staging) }
    }

    /// Whether an authority could look at the site at all.
    fn can_be_had(&mut self, domains: &[String], local: bool, public: bool) {
        if domains.is_empty() {
            let hint = "`domains: [library.example.com]`, or `tls: self-signed`".to_owned();
            self.key(&["tls"], "there are no `domains` that a certificate could be for", [hint]);
        } else if local && public {
            let hint = "`tls: self-signed`".to_owned();
            self.key(&["tls"], "Let's Encrypt can't reach a Vagrant machine", [hint]);
        }
    }

    fn own(&mut self, map: &TlsMap) -> Origin {
        let others = [
            ("email", map.email.is_some()),
            ("staging", map.staging.is_some()),
            ("directory", map.directory.is_some()),
            ("ca", map.ca.is_some()),
        ];
        for (name, _) in others.into_iter().filter(|(_, written)| *written) {
            self.key(&["tls", name], "a certificate of one's own comes from no authority that ship asks", []);
        }
        let (certificate, key) = match (&map.certificate, &map.key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(certificate), None) => {
                let hint = "`key: certs/site.key`".to_owned();
                self.key(&["tls", "certificate"], "its `key` is missing", [hint]);
                (certificate.clone(), String::new())
            }
            (None, key) => {
                let hint = "`certificate: certs/site.pem`".to_owned();
                self.key(&["tls", "key"], "its `certificate` is missing", [hint]);
                (String::new(), key.clone().unwrap_or_default())
            }
        };
        for (name, file) in [("certificate", &map.certificate), ("key", &map.key)] {
            if let Some(file) = file {
                self.file_name(&["tls", name], file);
            }
        }
        Origin::Own { certificate, key }
    }

    fn hsts(&mut self, spec: Option<HstsSpec>) -> Option<Hsts> {
        let spec = spec.unwrap_or(HstsSpec { max_age: None, subdomains: None, preload: None, word: false });
        let path: &[&str] = if spec.word { &["tls", "hsts"] } else { &["tls", "hsts", "max_age"] };
        let max_age_s = self.number(path, spec.max_age, HSTS_S, 0..=2 * YEAR_S, "seconds");
        let hsts = Hsts {
            max_age_s,
            subdomains: spec.subdomains.unwrap_or(false),
            preload: spec.preload.unwrap_or(false),
        };
        if hsts.preload && (max_age_s < YEAR_S || !hsts.subdomains) {
            self.key(
                &["tls", "hsts", "preload"],
                "browsers' list takes only sites that promise a year, for all names below theirs",
                [format!(
                    "`hsts: {{max_age: {YEAR_S}, subdomains: true, preload: true}}`, once you are sure"
                )],
            );
        }
        (max_age_s > 0).then_some(hsts)
    }

    fn file_name(&mut self, path: &[&str], file: &str) {
        if file.is_empty() || file.contains(char::is_control) {
            self.value(path, "not a file name", []);
        }
    }
}

/// Whether a text could be an address for letters, and is safe as an argument.
fn is_email(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-@".contains(c);
    let halves = text.split_once('@');
    halves.is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'))
        && !text.starts_with('-')
        && text.chars().all(allowed)
}
