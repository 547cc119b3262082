//! Where servers come from: one file a provider. Each answers with an address to connect to.

mod any;
pub mod cloud;
pub mod digitalocean;
#[cfg(feature = "aws")]
pub mod ec2;
pub mod error;
pub mod machine;
pub mod ssh;
pub mod vagrant;

use std::path::Path;
use std::sync::Arc;

use crate::assets::Assets;
use crate::config::{Config, Server};
use crate::error::Failure;
use crate::transport::{Prompt, Session};
use crate::ui::Ui;

#[cfg(not(feature = "aws"))]
pub use any::no_aws;
pub use any::{AnyCloud, cloud_of};

/// What connecting to a server takes.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The project's folder.
    pub project: &'a Path,
    /// The configuration.
    pub config: &'a Config,
    /// Templates.
    pub assets: &'a Assets,
    /// Whether a machine that isn't there may be created and started.
    pub may_create: bool,
}

/// Connects to the project's server, after creating it where the provider can.
///
/// The name or address that comes with the session is the one for a browser.
pub async fn connect(place: &Place<'_>, ui: &Arc<Ui>) -> Result<(Session, String), Failure> {
    match &place.config.server {
        Server::Ssh(server) => {
            let endpoint = ssh::endpoint(place.project, server).await;
            ui.working(&format!("connecting to {}", endpoint.host));
            let session = Session::connect(&endpoint, Arc::clone(ui) as Arc<dyn Prompt>).await?;
            Ok((session, authority(&endpoint.host)))
        }
        Server::Vagrant(server) => {
            let (session, endpoint) = vagrant::connect(place, server, ui).await?;
            Ok((session, vagrant::site(place, &authority(&endpoint.host))))
        }
        Server::DigitalOcean(_) | Server::Ec2(_) => {
            let Some(cloud) = cloud_of(place.config).await? else {
                return Err(Failure::input("`server.provider` is no cloud"));
            };
            let (session, server) = machine::connect(place, &cloud, ui).await?;
            Ok((session, server.ipv4.map(|address| address.to_string()).unwrap_or_default()))
        }
    }
}

/// A host as it stands in a URL.
fn authority(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_string() }
}
