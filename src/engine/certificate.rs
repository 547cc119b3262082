//! A certificate of the user's own, and the root of a private authority: files of this computer, read and looked at before
//! anything is done with them.

use std::path::Path;
use std::time::SystemTime;

use crate::config::Config;
use crate::config::tls::{Acme, Origin};
use crate::error::Failure;
use crate::resources::Resource;
use crate::resources::file::{Access, Content, File};
use crate::tls;
use crate::tls::x509::{Leaf, PairError, pair};

/// What this computer has of it.
#[derive(Clone, Default)]
pub(super) struct OwnCertificate {
    /// The certificate and its key, as they are sent.
    files: Option<(String, String)>,
    /// What the certificate says.
    pub(super) leaf: Option<Leaf>,
    /// The private authority's root.
    pub(super) ca: Option<String>,
}

impl OwnCertificate {
    /// Reads what `tls` names, and refuses what would not work.
    pub(super) fn read(project: &Path, config: &Config) -> Result<Self, Failure> {
        let read = |key: &str, file: &str| {
            let bytes = std::fs::read(project.join(file)).map_err(|error| {
                Failure::input(format!("can't read {file}, which `tls.{key}` names: {error}"))
            })?;
            String::from_utf8(bytes).map_err(|_| {
                Failure::input(format!("{file}, which `tls.{key}` names, is not PEM"))
                    .hint("`openssl x509 -inform der -in FILE` turns a certificate into PEM")
            })
        };
        match &config.tls.origin {
            Origin::None | Origin::SelfSigned | Origin::Acme(Acme { ca: None, .. }) => Ok(Self::default()),
            Origin::Acme(Acme { ca: Some(file), .. }) => {
                let text = read("ca", file)?;
                if Leaf::parse(text.as_bytes()).is_none() {
                    return Err(Failure::input(format!(
                        "{file}, which `tls.ca` names, holds no certificate in PEM"
                    )));
                }
                Ok(Self { ca: Some(text), ..Self::default() })
            }
            Origin::Own { certificate, key } => {
                let (chain, secret) = (read("certificate", certificate)?, read("key", key)?);
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                let leaf = check(config, certificate, key, &chain, &secret, now)?;
                Ok(Self { files: Some((chain, secret)), leaf: Some(leaf), ca: None })
            }
        }
    }

    /// The files on the server.
    pub(super) fn resources(&self, config: &Config) -> Vec<Box<dyn Resource>> {
        let (Some((chain, key)), Some(files)) = (&self.files, tls::files(config)) else { return Vec::new() };
        let file = |path: String, text: &String, secret: bool, why: &str| -> Box<dyn Resource> {
            let access = Access { owner: "root".into(), group: "root".into(), mode: "0600".into() };
            Box::new(File { path, content: Content::Text(text.clone()), access, secret, why: why.into() })
        };
        // Not shown either: hundreds of lines that tell nobody anything.
        vec![
            file(files.key, key, true, "the certificate's key, for root alone"),
            file(files.certificate, chain, true, "yours"),
        ]
    }
}

/// Whether a certificate of the user's can serve the site.
fn check(
    config: &Config,
    certificate: &str,
    key: &str,
    chain: &str,
    secret: &str,
    now_s: i64,
) -> Result<Leaf, Failure> {
    let leaf = pair(chain.as_bytes(), secret.as_bytes()).map_err(|error| {
        let of_key = match error {
            PairError::NoCertificate | PairError::Damaged => false,
            PairError::NoKey | PairError::Encrypted | PairError::OddKey | PairError::OtherKey => true,
        };
        let (name, file) = if of_key { ("key", key) } else { ("certificate", certificate) };
        let failure = Failure::input(format!("{file}, which `tls.{name}` names, holds {error}"));
        match error {
            PairError::Encrypted => {
                failure.hint(format!("`openssl pkey -in {file} -out NEW` takes the password away"))
            }
            PairError::OtherKey => failure.hint(format!("the certificate is in {certificate}")),
            PairError::NoCertificate | PairError::Damaged | PairError::NoKey | PairError::OddKey => failure,
        }
    })?;
    let missing: Vec<&str> =
        config.domains.iter().filter(|name| !leaf.covers(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = leaf.names.iter().map(String::as_str).collect();
        return Err(Failure::input(format!("{certificate} is not for {}", missing.join(", ")))
            .hint(format!("it is for {}", names.join(", "))));
    }
    if leaf.not_after_s <= now_s {
        return Err(Failure::input(format!("{certificate} ended on {}", tls::moment(leaf.not_after_s))));
    }
    if leaf.not_before_s > now_s {
        return Err(Failure::input(format!(
            "{certificate} holds only from {}",
            tls::moment(leaf.not_before_s)
        )));
    }
    Ok(leaf)
}
