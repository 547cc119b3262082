//! Certificates and their keys as files hold them: what a certificate says, and whether a key is its own.
//!
//! Invariant: pure; the only place that knows how certificates are encoded.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

/// What a server's certificate says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    /// The names that it is for, lower case; addresses too.
    pub names: BTreeSet<String>,
    /// Who issued it, as people call them.
    pub issuer: String,
    /// From when it holds, in seconds since 1970.
    pub not_before_s: i64,
    /// Until when.
    pub not_after_s: i64,
    /// Its key: `EC 256`, `RSA 2048`.
    pub key: String,
    /// Whether it names a responder that tells whether it was withdrawn (OCSP).
    pub ocsp: bool,
}

/// Why a certificate and its key can't be used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// There is no certificate in the file.
    #[error("no certificate in PEM")]
    NoCertificate,
    /// A certificate in it is damaged.
    #[error("a certificate that can't be read")]
    Damaged,
    /// There is no private key in the file.
    #[error("no private key in PEM")]
    NoKey,
    /// The key needs a password.
    #[error("a private key behind a password, which nginx could not open")]
    Encrypted,
    /// The key is of a kind that servers don't take.
    #[error("a private key of a kind that is not RSA, EC or Ed25519")]
    OddKey,
    /// The key belongs to another certificate.
    #[error("a private key that belongs to another certificate")]
    OtherKey,
}

impl Leaf {
    /// Reads the first certificate of a PEM file.
    pub fn parse(pem: &[u8]) -> Option<Self> {
        let first = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
        let (_, certificate) = X509Certificate::from_der(&first).ok()?;
        let issuer = certificate.issuer();
        let word = |mut found: Box<dyn Iterator<Item = &str> + '_>| found.next().map(str::to_owned);
        let organization = word(Box::new(issuer.iter_organization().filter_map(|one| one.as_str().ok())));
        let common = word(Box::new(issuer.iter_common_name().filter_map(|one| one.as_str().ok())));
        let mut names = BTreeSet::new();
        if let Ok(Some(found)) = certificate.subject_alternative_name() {
            names.extend(found.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => None,
            }));
        }
        let ocsp = certificate.extensions().iter().any(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => {
                // id-ad-ocsp, RFC 6960.
                access.accessdescs.iter().any(|one| one.access_method.to_id_string() == "1.3.6.1.5.5.7.48.1")
            }
            _ => false,
        });
        let key = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
            Ok(PublicKey::EC(point)) => format!("EC {}", point.key_size()),
            Ok(_) | Err(_) => "another kind".to_owned(),
        };
        Some(Self {
            names,
            issuer: organization.or(common).unwrap_or_else(|| "nobody".to_owned()),
            not_before_s: certificate.validity().not_before.timestamp(),
            not_after_s: certificate.validity().not_after.timestamp(),
            key,
            ocsp,
        })
    }

    /// Whether it is for a name, by itself or as one of `*.example.com`.
    pub fn covers(&self, name: &str) -> bool {
        let wild = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.names.contains(name) || wild.is_some_and(|wild| self.names.contains(&wild))
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(four) => Some(core::net::Ipv4Addr::from(four).to_string()),
        Err(_) => Some(core::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
    }
}

/// Reads a certificate and its key, and whether they belong together.
pub fn pair(certificate: &[u8], key: &[u8]) -> Result<Leaf, PairError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| PairError::Damaged)?;
    if chain.is_empty() {
        return Err(PairError::NoCertificate);
    }
    let leaf = Leaf::parse(certificate).ok_or(PairError::Damaged)?;
    let text = String::from_utf8_lossy(key);
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(PairError::Encrypted);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PairError::NoKey)?;
    let key = any_supported_type(&key).map_err(|_| PairError::OddKey)?;
    CertifiedKey::new(chain, Arc::clone(&key)).keys_match().map_err(|_| PairError::OtherKey)?;
    Ok(leaf)
}
