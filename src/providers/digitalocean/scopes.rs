//! Every call that ship makes to DigitalOcean, and what a token must be allowed for it: the call itself, and to see the
//! fields of the answer that ship reads, since those are left out for a token that may not.
//!
//! Invariant: the one list of both. A call that is not in it is not made in any test, and docs/digitalocean.md has the
//! same scopes for the same features.

/// What a call is for; tokens that are made for less need less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// A droplet with its firewall, and everything that `ship up` looks at.
    Server,
    /// `server.reserved_ip`.
    Address,
    /// `server.volume`.
    Volume,
    /// `server.project`.
    Project,
    /// `server.vpc`.
    Network,
    /// `dns: digitalocean`.
    Dns,
    /// `dns.create_zone`.
    Zone,
    /// `ship destroy`, and replacing a droplet.
    Destroy,
}

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is for.
    pub features: &'static [Feature],
    /// `GET`, `POST`…
    pub method: &'static str,
    /// The path as DigitalOcean's own description has it.
    pub path: &'static str,
    /// The scopes that a token with custom scopes needs.
    pub scopes: &'static [&'static str],
}

const fn endpoint(
    features: &'static [Feature],
    method: &'static str,
    path: &'static str,
    scopes: &'static [&'static str],
) -> Endpoint {
    Endpoint { features, method, path, scopes }
}

use Feature::{Address, Destroy, Dns, Project, Server, Volume, Zone};

/// What ordering a droplet in a network of one's choice takes beside.
pub const IN_NETWORK: &[&str] = &["vpc:read"];
/// What another size takes beside.
pub const RESIZE: &[&str] = &["droplet:create"];

/// All of them.
pub const ENDPOINTS: [Endpoint; 43] = [
    endpoint(&[Server], "GET", "/v2/account", &["account:read", "droplet:read"]),
    endpoint(&[Server], "GET", "/v2/account/keys", &["ssh_key:read"]),
    endpoint(&[Server], "POST", "/v2/account/keys", &["ssh_key:create"]),
    endpoint(&[Destroy], "DELETE", "/v2/account/keys/{ssh_key_identifier}", &["ssh_key:delete"]),
    endpoint(&[Server], "GET", "/v2/droplets", &["droplet:read", "tag:read"]),
    endpoint(
        &[Server],
        "POST",
        "/v2/droplets",
        &["droplet:create", "image:read", "ssh_key:read", "tag:create"],
    ),
    endpoint(&[Server], "GET", "/v2/droplets/{droplet_id}", &["droplet:read", "tag:read"]),
    endpoint(&[Destroy], "DELETE", "/v2/droplets/{droplet_id}", &["droplet:delete"]),
    endpoint(&[Server], "POST", "/v2/droplets/{droplet_id}/actions", &["droplet:update"]),
    endpoint(&[Server], "GET", "/v2/droplets/{droplet_id}/actions/{action_id}", &["droplet:read"]),
    endpoint(&[Server], "GET", "/v2/firewalls", &["firewall:read", "tag:read"]),
    endpoint(&[Server], "POST", "/v2/firewalls", &["firewall:create", "tag:create", "tag:read"]),
    endpoint(&[Server], "GET", "/v2/firewalls/{firewall_id}", &["firewall:read", "tag:read"]),
    endpoint(
        &[Server],
        "PUT",
        "/v2/firewalls/{firewall_id}",
        &["firewall:update", "droplet:read", "tag:create", "tag:read"],
    ),
    endpoint(&[Destroy], "DELETE", "/v2/firewalls/{firewall_id}", &["firewall:delete"]),
    endpoint(&[Server], "GET", "/v2/images/{image_id}", &["image:read"]),
    endpoint(&[Server], "GET", "/v2/sizes", &["sizes:read", "regions:read"]),
    endpoint(&[Server], "GET", "/v2/tags", &["tag:read"]),
    endpoint(&[Server], "POST", "/v2/tags", &["tag:create"]),
    endpoint(&[Server], "GET", "/v2/tags/{tag_id}", &["tag:read"]),
    // `ship up` forgets the host key that a droplet was born with.
    endpoint(&[Server], "DELETE", "/v2/tags/{tag_id}", &["tag:delete"]),
    endpoint(&[Server], "POST", "/v2/tags/{tag_id}/resources", &["tag:create", "droplet:update"]),
    endpoint(&[Server], "GET", "/v2/reserved_ips", &["reserved_ip:read", "droplet:read"]),
    endpoint(&[Address], "POST", "/v2/reserved_ips", &["reserved_ip:create"]),
    endpoint(&[Address], "GET", "/v2/reserved_ips/{reserved_ip}", &["reserved_ip:read", "droplet:read"]),
    endpoint(&[Address, Destroy], "DELETE", "/v2/reserved_ips/{reserved_ip}", &["reserved_ip:delete"]),
    endpoint(&[Address], "POST", "/v2/reserved_ips/{reserved_ip}/actions", &["reserved_ip:update"]),
    endpoint(&[Address], "GET", "/v2/reserved_ips/{reserved_ip}/actions/{action_id}", &["reserved_ip:read"]),
    endpoint(&[Volume, Destroy], "GET", "/v2/volumes", &["block_storage:read", "tag:read"]),
    endpoint(&[Volume], "POST", "/v2/volumes", &["block_storage:create", "tag:create"]),
    endpoint(&[Volume], "GET", "/v2/volumes/{volume_id}", &["block_storage:read", "tag:read"]),
    endpoint(&[Destroy], "DELETE", "/v2/volumes/{volume_id}", &["block_storage:delete"]),
    endpoint(&[Volume], "POST", "/v2/volumes/{volume_id}/actions", &["block_storage_action:create"]),
    endpoint(&[Volume], "GET", "/v2/volumes/{volume_id}/actions/{action_id}", &["block_storage_action:read"]),
    endpoint(&[Project], "GET", "/v2/projects", &["project:read"]),
    endpoint(&[Project], "GET", "/v2/projects/{project_id}/resources", &["project:read"]),
    endpoint(
        &[Project],
        "POST",
        "/v2/projects/{project_id}/resources",
        &["project:assign_resource", "droplet:read"],
    ),
    endpoint(&[Dns], "GET", "/v2/domains/{domain_name}", &["domain:read"]),
    endpoint(&[Dns], "GET", "/v2/domains/{domain_name}/records", &["domain:read"]),
    endpoint(&[Dns], "POST", "/v2/domains/{domain_name}/records", &["domain:create"]),
    endpoint(&[Dns], "PUT", "/v2/domains/{domain_name}/records/{domain_record_id}", &["domain:update"]),
    endpoint(&[Dns], "DELETE", "/v2/domains/{domain_name}/records/{domain_record_id}", &["domain:delete"]),
    endpoint(&[Zone], "POST", "/v2/domains", &["domain:create"]),
];

/// The kind of a call, by its method and the parts of its path.
pub fn of(method: &str, path: &[&str]) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| {
        let pattern = endpoint.path.split('/').skip(1);
        endpoint.method == method
            && pattern.clone().count() == path.len()
            && pattern.zip(path).all(|(pattern, part)| pattern == *part || pattern.starts_with('{'))
    })
}

/// The scopes that features need, sorted.
pub fn needed(features: &[Feature]) -> Vec<&'static str> {
    let mut scopes: Vec<&str> = ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.features.iter().any(|feature| features.contains(feature)))
        .flat_map(|endpoint| endpoint.scopes)
        .copied()
        .chain(features.contains(&Feature::Network).then_some(IN_NETWORK).into_iter().flatten().copied())
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_by_its_path() {
        let scopes = |method, path: &str| {
            of(method, &path.split('/').skip(1).collect::<Vec<_>>()).map(|endpoint| endpoint.scopes)
        };
        assert_eq!(scopes("GET", "/v2/droplets"), Some(&["droplet:read", "tag:read"][..]));
        assert_eq!(scopes("DELETE", "/v2/droplets/17"), Some(&["droplet:delete"][..]));
        assert_eq!(scopes("DELETE", "/v2/tags/ship:library:default"), Some(&["tag:delete"][..]));
        assert_eq!(scopes("DELETE", "/v2/droplets"), None, "all droplets of a tag at once: never");
    }
}
