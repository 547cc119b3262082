//! From a request to an answer: who asks, whether they may, which operation it is, lists in pages, errors as the real
//! API words them.
//!
//! Texts of errors are the real API's where public reports quote them; see each use.

use serde_json::{Map, Value, json};

use super::account::{Account, Unsettled};
use super::document::{DOCUMENT, Operation, Scopes};
use super::{catalog, dns, droplets, network, resources};

/// One request on its way to an answer.
#[derive(Debug)]
pub struct Call<'a> {
    /// The account that the token belongs to.
    pub account: &'a mut Account,
    /// What the path has in place of `{…}`.
    pub parameters: Vec<String>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The body; an empty object if there was none.
    pub body: Value,
    /// What the token may do.
    pub scopes: &'a Scopes,
    /// The address that the client used, for links to pages.
    pub base: String,
    /// The path, for links to pages.
    pub path: String,
    /// The identifiers of what the call has made.
    pub made: Vec<(&'static str, String)>,
}

/// An error as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Status code.
    pub status: u16,
    /// What went wrong.
    pub message: String,
}

/// Status and body of an answer.
pub type Answer = Result<(u16, Value), Refusal>;

impl Refusal {
    /// 422: the request was understood and is wrong.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self { status: 422, message: message.into() }
    }

    /// 404.
    pub fn not_found() -> Self {
        Self { status: 404, message: "The resource you were accessing could not be found.".into() }
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self { status: 409, message: message.into() }
    }

    /// 403.
    pub fn forbidden() -> Self {
        Self { status: 403, message: "You are not authorized to perform this operation".into() }
    }

    /// The body that says so.
    pub fn json(&self, request_id: &str) -> Value {
        let id = match self.status {
            400 => "bad_request",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            409 => "conflict",
            422 => "unprocessable_entity",
            429 => "too_many_requests",
            503 => "service_unavailable",
            _ => "server_error",
        };
        json!({"id": id, "message": self.message, "request_id": request_id})
    }
}

impl Call<'_> {
    /// A query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(has, _)| has == name).map(|(_, value)| value.as_str())
    }

    /// A text in the body; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    /// A list of texts in the body; empty if there is none.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let items = self.body[name].as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    /// The number in place of a parameter.
    pub fn number(&self, parameter: usize) -> Result<u64, Refusal> {
        self.parameters[parameter].parse().map_err(|_| Refusal::not_found())
    }

    /// Refuses unless the token has that scope, too.
    pub fn need(&self, scope: &str) -> Result<(), Refusal> {
        let may = self.scopes.as_ref().is_none_or(|scopes| scopes.contains(scope));
        if may { Ok(()) } else { Err(Refusal::forbidden()) }
    }

    /// One page of a list. `id` is what the thing is known by, `show` how it looks.
    pub fn page<T>(
        &mut self,
        list: &'static str,
        items: impl FnOnce(&Account) -> Vec<T>,
        id: impl Fn(&T) -> String,
        show: impl Fn(&Account, &T) -> Value,
    ) -> Answer {
        let mut items = items(self.account);
        items.retain(|item| !self.account.unsettled.iter().any(|new| new.list == list && new.id == id(item)));
        settle(self.account, list);
        let number =
            |name: &str| self.query(name).and_then(|value| value.parse::<usize>().ok()).filter(|&n| n > 0);
        let (page, per_page) = (number("page").unwrap_or(1), number("per_page").unwrap_or(20).min(200));
        let shown = items.iter().skip((page - 1) * per_page).take(per_page);
        let shown: Vec<_> = shown.map(|item| show(self.account, item)).collect();
        let last = items.len().div_ceil(per_page).max(1);
        let mut pages = Map::new();
        let mut link = |name: &str, to: usize| pages.insert(name.into(), json!(self.link(to)));
        if page > 1 {
            link("first", 1);
            link("prev", page - 1);
        }
        if page < last {
            link("next", page + 1);
            link("last", last);
        }
        let links = if pages.is_empty() { json!({}) } else { json!({"pages": pages}) };
        Ok((200, json!({list: shown, "links": links, "meta": {"total": items.len()}})))
    }

    fn link(&self, page: usize) -> String {
        let mut query: Vec<_> = self.query.iter().filter(|(name, _)| name != "page").cloned().collect();
        query.push(("page".into(), page.to_string()));
        let query: Vec<_> =
            query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        format!("{}{}?{}", self.base, self.path, query.join("&"))
    }

    /// Notes that something was made, for lists that shall not show it yet.
    pub fn made(&mut self, list: &'static str, id: impl ToString) {
        self.made.push((list, id.to_string()));
    }
}

/// One look less until new things show in that list.
pub fn settle(account: &mut Account, list: &str) {
    account.unsettled.iter_mut().filter(|new| new.list == list).for_each(|new| new.lists -= 1);
    account.unsettled.retain(|new: &Unsettled| new.lists > 0);
}

/// Answers a request of someone who may ask.
pub fn answer(call: &mut Call<'_>, method: &str, operation: &Operation) -> Answer {
    if DOCUMENT.lacks(operation, &call.query, &call.body, call.scopes).is_some() {
        return Err(Refusal::forbidden());
    }
    if call.account.status == "locked" && method != "GET" {
        return Err(Refusal { status: 403, message: "You are not allowed to perform this operation".into() });
    }
    let path = operation.path.strip_prefix("/v2/").expect("every path is of version 2");
    match (method, path) {
        ("GET", "account") => resources::account(call),
        ("GET", "account/keys") => resources::list_keys(call),
        ("POST", "account/keys") => resources::create_key(call),
        ("GET", "account/keys/{ssh_key_identifier}") => resources::get_key(call),
        ("DELETE", "account/keys/{ssh_key_identifier}") => resources::delete_key(call),
        ("GET", "actions/{action_id}") => droplets::get_action(call, 0, |_| true),
        ("GET", "domains") => dns::list_domains(call),
        ("POST", "domains") => dns::create_domain(call),
        ("GET", "domains/{domain_name}") => dns::get_domain(call),
        ("DELETE", "domains/{domain_name}") => dns::delete_domain(call),
        ("GET", "domains/{domain_name}/records") => dns::list_records(call),
        ("POST", "domains/{domain_name}/records") => dns::create_record(call),
        ("GET", "domains/{domain_name}/records/{domain_record_id}") => dns::get_record(call),
        ("PUT" | "PATCH", "domains/{domain_name}/records/{domain_record_id}") => dns::update_record(call),
        ("DELETE", "domains/{domain_name}/records/{domain_record_id}") => dns::delete_record(call),
        ("GET", "droplets") => droplets::list(call),
        ("POST", "droplets") => droplets::create(call),
        ("GET", "droplets/{droplet_id}") => droplets::get(call),
        ("DELETE", "droplets/{droplet_id}") => droplets::delete(call),
        ("GET", "droplets/{droplet_id}/actions") => droplets::list_actions(call),
        ("POST", "droplets/{droplet_id}/actions") => droplets::act(call),
        ("GET", "droplets/{droplet_id}/actions/{action_id}") => droplets::get_droplet_action(call),
        ("GET", "firewalls") => network::list_firewalls(call),
        ("POST", "firewalls") => network::create_firewall(call),
        ("GET", "firewalls/{firewall_id}") => network::get_firewall(call),
        ("PUT", "firewalls/{firewall_id}") => network::update_firewall(call),
        ("DELETE", "firewalls/{firewall_id}") => network::delete_firewall(call),
        ("GET", "images") => resources::list_images(call),
        ("GET", "images/{image_id}") => resources::get_image(call),
        ("GET", "projects") => resources::list_projects(call),
        ("GET", "projects/default") => resources::default_project(call),
        ("GET", "projects/{project_id}") => resources::get_project(call),
        ("GET", "projects/default/resources" | "projects/{project_id}/resources") => {
            resources::list_project_resources(call)
        }
        ("POST", "projects/default/resources" | "projects/{project_id}/resources") => {
            resources::assign_to_project(call)
        }
        ("GET", "regions") => {
            let regions = catalog::REGIONS.map(|(slug, ..)| slug).to_vec();
            call.page("regions", |_| regions, ToString::to_string, |_, slug| catalog::region(slug))
        }
        ("GET", "sizes") => {
            let sizes = catalog::SIZES.to_vec();
            call.page("sizes", |_| sizes, |size| size.slug.to_owned(), |_, size| size.json())
        }
        ("GET", "reserved_ips") => network::list_reserved_ips(call),
        ("POST", "reserved_ips") => network::create_reserved_ip(call),
        ("GET", "reserved_ips/{reserved_ip}") => network::get_reserved_ip(call),
        ("DELETE", "reserved_ips/{reserved_ip}") => network::delete_reserved_ip(call),
        ("GET", "reserved_ips/{reserved_ip}/actions") => network::list_reserved_ip_actions(call),
        ("POST", "reserved_ips/{reserved_ip}/actions") => network::act_on_reserved_ip(call),
        ("GET", "reserved_ips/{reserved_ip}/actions/{action_id}") => network::get_reserved_ip_action(call),
        ("GET", "tags") => resources::list_tags(call),
        ("POST", "tags") => resources::create_tag(call),
        ("GET", "tags/{tag_id}") => resources::get_tag(call),
        ("DELETE", "tags/{tag_id}") => resources::delete_tag(call),
        ("POST", "tags/{tag_id}/resources") => resources::tag_resources(call, true),
        ("DELETE", "tags/{tag_id}/resources") => resources::tag_resources(call, false),
        ("GET", "volumes") => resources::list_volumes(call),
        ("POST", "volumes") => resources::create_volume(call),
        ("GET", "volumes/{volume_id}") => resources::get_volume(call),
        ("DELETE", "volumes/{volume_id}") => resources::delete_volume(call),
        ("GET", "volumes/{volume_id}/actions") => resources::list_volume_actions(call),
        ("POST", "volumes/{volume_id}/actions") => resources::act_on_volume(call),
        ("GET", "volumes/{volume_id}/actions/{action_id}") => resources::get_volume_action(call),
        ("GET", "vpcs") => network::list_vpcs(call),
        ("GET", "vpcs/{vpc_id}") => network::get_vpc(call),
        _ => panic!("the document has {method} {path}, and tests/fakes/digitalocean does not serve it"),
    }
}

/// A query's or path's text without `%41` and `+`.
pub fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        rest = more;
        let hex = more
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &more[2..];
            }
            (b'+', _) if plus => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The opposite, for links.
fn encode(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// A query as names and values.
pub fn parse_query(query: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name, true), decode(value, true))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

/// Whether a name fits `^[a-zA-Z0-9][…]*$` with these further characters.
pub fn is_name(name: &str, further: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || further.contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits)
}
