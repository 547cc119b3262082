//! How to get in to DigitalOcean's API, and how long to wait there.
//!
//! Invariant: a token travels only over TLS, or not beyond this computer, and is in no error.

use std::time::Duration;

use reqwest::Url;

use crate::providers::digitalocean::scopes;
use crate::providers::error::CloudError;
use crate::shell::Secret;

/// Where tokens are made.
pub const TOKENS: &str = "https://cloud.digitalocean.com/account/api/tokens";
pub(super) const DEFAULT_API: &str = "https://api.digitalocean.com";

/// How to get in.
#[derive(Debug, Clone)]
pub struct Access {
    pub(super) api: Url,
    pub(super) token: Secret,
}

impl Access {
    /// Takes token and address from the environment. `variable` looks one up.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CloudError> {
        let set = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let token =
            set("DIGITALOCEAN_TOKEN").or_else(|| set("DIGITALOCEAN_ACCESS_TOKEN")).ok_or_else(no_token)?;
        let api = set("DIGITALOCEAN_API_URL").unwrap_or_else(|| DEFAULT_API.into());
        Self::new(&api, Secret::new(token))
    }

    /// Checks an address and a token.
    pub fn new(api: &str, token: Secret) -> Result<Self, CloudError> {
        let bad = |why: &str| CloudError::Impossible {
            message: format!("DIGITALOCEAN_API_URL: `{api}` {why}"),
            hints: vec![format!("leave it unset for {DEFAULT_API}")],
        };
        let url = Url::parse(api).map_err(|_| bad("is no URL"))?;
        if url.scheme() != "https" && !is_loopback(&url) {
            return Err(bad("is not https: the token would travel in the clear"));
        }
        if url.cannot_be_a_base() || url.host_str().is_none() {
            return Err(bad("has no host"));
        }
        if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CloudError::Impossible {
                message: "the DigitalOcean token holds characters that no token has".into(),
                hints: vec![format!("copy it again, or make another at {TOKENS}")],
            });
        }
        Ok(Self { api: url, token })
    }

    /// Whether the API is on this computer.
    pub(super) fn is_local(&self) -> bool {
        is_loopback(&self.api)
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn no_token() -> CloudError {
    use scopes::Feature::{Address, Destroy, Server};
    CloudError::Impossible {
        message: "there is no DigitalOcean token: set DIGITALOCEAN_TOKEN".into(),
        hints: vec![
            format!(
                "make one at {TOKENS}, with full access or these scopes: {}",
                scopes::needed(&[Server, Address, Destroy,]).join(" ")
            ),
            "docs/digitalocean.md has the scopes for volumes, projects and DNS".into(),
        ],
    }
}

/// How long to wait for what.
#[derive(Debug, Clone)]
pub struct Waits {
    /// For a connection.
    pub connect: Duration,
    /// For an answer, all of it.
    pub answer: Duration,
    /// Before the second attempt; doubles from there.
    pub first: Duration,
    /// Between two attempts at most.
    pub longest: Duration,
    /// For all attempts while the API can't even be reached.
    pub offline: Duration,
    /// For all attempts.
    pub attempts: Duration,
    /// Before each look whether a call that broke off has happened.
    pub looks: Vec<Duration>,
    /// Until lists show what was just made.
    pub settle: Duration,
    /// Between two looks at something that takes its time.
    pub poll: Duration,
    /// For a droplet to start, to go, or to take an action.
    pub droplet: Duration,
    /// For a droplet to shut down by itself before it is powered off.
    pub shutdown: Duration,
    /// For a droplet to be moved to another size.
    pub resize: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            offline: Duration::from_secs(15),
            attempts: Duration::from_secs(90),
            looks: [500, 1000, 2000, 4000, 8000].map(Duration::from_millis).into(),
            settle: Duration::from_secs(20),
            poll: Duration::from_secs(2),
            droplet: Duration::from_secs(300),
            shutdown: Duration::from_secs(90),
            resize: Duration::from_secs(1200),
        }
    }
}
