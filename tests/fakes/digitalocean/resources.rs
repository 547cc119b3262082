//! The account itself, SSH keys, images, tags, volumes and projects.

use serde_json::{Value, json};

use super::account::{Account, Effect, Project, Target, Volume};
use super::api::{Answer, Call, Refusal, is_name};
use super::catalog;
use super::droplets::{get_action, is_tag, page_of_actions, show_action};

fn unprocessable(message: impl Into<String>) -> Answer {
    Err(Refusal::unprocessable(message))
}

/// `GET /v2/account`
pub fn account(call: &mut Call<'_>) -> Answer {
    let account = &call.account;
    Ok((
        200,
        json!({"account": {
            "droplet_limit": account.droplet_limit, "floating_ip_limit": account.reserved_ip_limit,
            "reserved_ip_limit": account.reserved_ip_limit, "volume_limit": 100, "email": "sammy@example.com",
            "name": "Sammy the Shark", "uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef", "email_verified": true,
            "status": account.status, "status_message": "",
            "team": {"uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "My Team"},
        }}),
    ))
}

// --- SSH keys ---

/// `GET /v2/account/keys`
pub fn list_keys(call: &mut Call<'_>) -> Answer {
    call.page("ssh_keys", |account| account.keys.clone(), |key| key.id.to_string(), |_, key| key.json())
}

/// `POST /v2/account/keys`
pub fn create_key(call: &mut Call<'_>) -> Answer {
    let (name, public_key) = (call.text("name").to_owned(), call.text("public_key").to_owned());
    if name.is_empty() {
        return unprocessable("Name can't be blank");
    }
    let before = call.account.keys.len();
    let Some(key) = call.account.add_key(&name, &public_key) else {
        return unprocessable("Key invalid, key should be of the format `type key [comment]`");
    };
    if call.account.keys[..before].iter().any(|other| other.fingerprint == key.fingerprint) {
        call.account.keys.pop();
        return unprocessable("SSH Key is already in use on your account");
    }
    call.made("ssh_keys", key.id);
    call.made("key identifiers", key.id);
    Ok((201, json!({"ssh_key": key.json()})))
}

fn find_key(call: &Call<'_>) -> Result<usize, Refusal> {
    let identifier = &call.parameters[0];
    let is = |key: &super::account::Key| key.id.to_string() == *identifier || key.fingerprint == *identifier;
    call.account.keys.iter().position(is).ok_or_else(Refusal::not_found)
}

/// `GET /v2/account/keys/{ssh_key_identifier}`
pub fn get_key(call: &mut Call<'_>) -> Answer {
    let index = find_key(call)?;
    Ok((200, json!({"ssh_key": call.account.keys[index].json()})))
}

/// `DELETE /v2/account/keys/{ssh_key_identifier}`
pub fn delete_key(call: &mut Call<'_>) -> Answer {
    let index = find_key(call)?;
    call.account.keys.remove(index);
    Ok((204, Value::Null))
}

// --- images ---

/// `GET /v2/images`
pub fn list_images(call: &mut Call<'_>) -> Answer {
    let none = call.query("private") == Some("true") || call.query("type") == Some("application");
    let slugs: Vec<_> = catalog::IMAGES.iter().filter(|_| !none).map(|(_, slug, ..)| *slug).collect();
    call.page("images", |_| slugs, ToString::to_string, |_, slug| catalog::image_json(slug))
}

/// `GET /v2/images/{image_id}`, where that may be a slug
pub fn get_image(call: &mut Call<'_>) -> Answer {
    let (_, slug, ..) = catalog::image(&call.parameters[0]).ok_or_else(Refusal::not_found)?;
    Ok((200, json!({"image": catalog::image_json(slug)})))
}

// --- tags ---

/// `GET /v2/tags`
pub fn list_tags(call: &mut Call<'_>) -> Answer {
    call.page("tags", |account| account.tags.clone(), Clone::clone, |account, tag| account.tag_json(tag))
}

/// `POST /v2/tags`
pub fn create_tag(call: &mut Call<'_>) -> Answer {
    let name = call.text("name").to_owned();
    if !is_tag(&name) {
        return unprocessable(
            "Name is invalid: tags may contain letters, numbers, colons, dashes, and underscores",
        );
    }
    let before = call.account.tags.len();
    let tag = call.account.add_tag(&name);
    if call.account.tags.len() == before {
        return unprocessable("name already exists");
    }
    call.made("tags", &tag);
    Ok((201, json!({"tag": call.account.tag_json(&tag)})))
}

fn find_tag(call: &Call<'_>) -> Result<String, Refusal> {
    call.account.tags.iter().find(|tag| **tag == call.parameters[0]).cloned().ok_or_else(Refusal::not_found)
}

/// `GET /v2/tags/{tag_id}`
pub fn get_tag(call: &mut Call<'_>) -> Answer {
    let tag = find_tag(call)?;
    Ok((200, json!({"tag": call.account.tag_json(&tag)})))
}

/// `DELETE /v2/tags/{tag_id}`: from everything that carries it, too.
pub fn delete_tag(call: &mut Call<'_>) -> Answer {
    let tag = find_tag(call)?;
    let account = &mut *call.account;
    account.tags.retain(|has| *has != tag);
    account.droplets.iter_mut().for_each(|droplet| droplet.tags.retain(|has| *has != tag));
    account.volumes.iter_mut().for_each(|volume| volume.tags.retain(|has| *has != tag));
    account.firewalls.iter_mut().for_each(|firewall| firewall.tags.retain(|has| *has != tag));
    Ok((204, Value::Null))
}

/// `POST` and `DELETE /v2/tags/{tag_id}/resources`
pub fn tag_resources(call: &mut Call<'_>, add: bool) -> Answer {
    let tag = find_tag(call)?;
    let wanted = call.body["resources"].as_array().cloned().unwrap_or_default();
    let kinds: Vec<_> = wanted.iter().filter_map(|resource| resource["resource_type"].as_str()).collect();
    for kind in &kinds {
        // Volumes have no scope of that name: what can make one can tag it.
        call.need(if *kind == "volume" { "block_storage:create" } else { "droplet:update" })?;
    }
    let id = |resource: &Value| resource["resource_id"].as_str().unwrap_or_default().to_owned();
    for (resource, kind) in wanted.iter().zip(&kinds) {
        let id = id(resource);
        let tags = match *kind {
            "droplet" => {
                id.parse().ok().and_then(|id| call.account.droplet_mut(id)).map(|droplet| &mut droplet.tags)
            }
            "volume" => {
                let volumes = call.account.volumes.iter_mut();
                volumes.into_iter().find(|volume| volume.id == id).map(|volume| &mut volume.tags)
            }
            other => panic!("tests/fakes/digitalocean has no resources of type {other:?}"),
        };
        let tags = tags.ok_or_else(Refusal::not_found)?;
        tags.retain(|has| *has != tag);
        tags.extend(add.then(|| tag.clone()));
    }
    Ok((204, Value::Null))
}

// --- volumes ---

/// `GET /v2/volumes`
pub fn list_volumes(call: &mut Call<'_>) -> Answer {
    call.account.look(|action| matches!(action.target, Target::Volume(_)));
    let (name, region) = (call.query("name").map(str::to_owned), call.query("region").map(str::to_owned));
    let wanted = |volume: &&Volume| {
        name.as_ref().is_none_or(|name| volume.name == *name)
            && region.as_ref().is_none_or(|region| volume.region == *region)
    };
    let volumes: Vec<_> = call.account.volumes.iter().filter(wanted).cloned().collect();
    call.page("volumes", |_| volumes, |volume| volume.id.clone(), |_, volume| volume.json())
}

/// `POST /v2/volumes`
pub fn create_volume(call: &mut Call<'_>) -> Answer {
    let (name, region) = (call.text("name").to_owned(), call.text("region").to_owned());
    let good = is_name(&name, "-") && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 64;
    if !good || name != name.to_lowercase() {
        return unprocessable("Name is invalid");
    }
    if !catalog::is_open(&region) {
        return unprocessable("Region is not available for volumes");
    }
    let size = call.body["size_gigabytes"].as_u64().unwrap_or(0);
    if !(1..=16_384).contains(&size) {
        return unprocessable("Size gigabytes must be between 1 and 16384");
    }
    if call.account.volumes.iter().any(|volume| volume.name == name && volume.region == region) {
        return Err(Refusal::conflict("failed to create volume: already exists"));
    }
    let volume = Volume {
        id: call.account.next_uuid(),
        name,
        region,
        size,
        description: call.text("description").into(),
        filesystem_type: call.text("filesystem_type").into(),
        filesystem_label: call.text("filesystem_label").into(),
        tags: call.texts("tags").iter().map(|tag| call.account.add_tag(tag)).collect(),
        droplet: None,
        created_at: super::account::now(),
    };
    call.account.assign_to_project(0, format!("do:volume:{}", volume.id));
    call.account.volumes.push(volume.clone());
    call.made("volumes", &volume.id);
    Ok((201, json!({"volume": volume.json()})))
}

fn find_volume(call: &Call<'_>) -> Result<Volume, Refusal> {
    let found = call.account.volumes.iter().find(|volume| volume.id == call.parameters[0]);
    found.cloned().ok_or_else(Refusal::not_found)
}

/// `GET /v2/volumes/{volume_id}`
pub fn get_volume(call: &mut Call<'_>) -> Answer {
    let target = Target::Volume(find_volume(call)?.number());
    call.account.look(|action| action.target == target);
    Ok((200, json!({"volume": find_volume(call)?.json()})))
}

/// `DELETE /v2/volumes/{volume_id}`
pub fn delete_volume(call: &mut Call<'_>) -> Answer {
    let volume = find_volume(call)?;
    if volume.droplet.is_some() {
        return Err(Refusal::conflict("the volume is attached to a Droplet; detach it first"));
    }
    call.account.volumes.retain(|has| has.id != volume.id);
    call.account.leave_projects(&format!("do:volume:{}", volume.id));
    Ok((204, Value::Null))
}

/// `POST /v2/volumes/{volume_id}/actions`
pub fn act_on_volume(call: &mut Call<'_>) -> Answer {
    let volume = find_volume(call)?;
    let target = Target::Volume(volume.number());
    if call.account.is_locked(target) {
        return unprocessable("The volume already has a pending event.");
    }
    let (droplet, region) = (call.body["droplet_id"].as_u64(), call.text("region").to_owned());
    if !region.is_empty() && region != volume.region {
        return unprocessable("The volume is not in this region.");
    }
    let (kind, effect) = match call.text("type") {
        "attach" => {
            let id = droplet.ok_or_else(|| Refusal::unprocessable("droplet_id is required"))?;
            let found = call.account.droplet(id).ok_or_else(Refusal::not_found)?;
            if found.region != volume.region {
                return unprocessable("The Droplet and the volume must be in the same region.");
            }
            if volume.droplet.is_some() {
                return unprocessable("The volume is already attached to a Droplet.");
            }
            ("attach_volume", Effect::Attach(droplet))
        }
        "detach" if volume.droplet.is_none() || volume.droplet != droplet => {
            return unprocessable("The volume is not attached to this Droplet.");
        }
        "detach" => ("detach_volume", Effect::Attach(None)),
        "resize" => {
            let size = call.body["size_gigabytes"].as_u64().unwrap_or(0);
            if size <= volume.size {
                return unprocessable("Volumes can only be made larger.");
            }
            ("resize_volume", Effect::Grow(size))
        }
        _ => return unprocessable("Type is not a valid action"),
    };
    let droplet = droplet.or(volume.droplet);
    if droplet.is_some_and(|id| call.account.is_busy(id)) {
        return unprocessable("Droplet already has a pending event.");
    }
    let action = call.account.act(kind, target, droplet, effect, None);
    Ok((202, json!({"action": show_action(call.account, action)})))
}

/// `GET /v2/volumes/{volume_id}/actions`
pub fn list_volume_actions(call: &mut Call<'_>) -> Answer {
    let volume = find_volume(call)?;
    page_of_actions(call, Target::Volume(volume.number()))
}

/// `GET /v2/volumes/{volume_id}/actions/{action_id}`
pub fn get_volume_action(call: &mut Call<'_>) -> Answer {
    let volume = find_volume(call)?;
    get_action(call, 1, |action| action.target == Target::Volume(volume.number()))
}

// --- projects ---

/// `GET /v2/projects`
pub fn list_projects(call: &mut Call<'_>) -> Answer {
    let projects = |account: &Account| account.projects.clone();
    call.page("projects", projects, |project| project.id.clone(), |_, project| project.json())
}

/// `GET /v2/projects/default`
pub fn default_project(call: &mut Call<'_>) -> Answer {
    let project = call.account.projects.iter().find(|project| project.is_default);
    Ok((200, json!({"project": project.expect("there is always one").json()})))
}

/// The project that the path names, or the default one.
fn find_project(call: &Call<'_>) -> Result<usize, Refusal> {
    let is = |project: &Project| match call.parameters.first() {
        Some(id) => project.id == *id,
        None => project.is_default,
    };
    call.account.projects.iter().position(is).ok_or_else(Refusal::not_found)
}

/// `GET /v2/projects/{project_id}`
pub fn get_project(call: &mut Call<'_>) -> Answer {
    let index = find_project(call)?;
    Ok((200, json!({"project": call.account.projects[index].json()})))
}

/// `GET /v2/projects/{project_id}/resources`: those that the token may read.
pub fn list_project_resources(call: &mut Call<'_>) -> Answer {
    let index = find_project(call)?;
    let mut resources = call.account.projects[index].resources.clone();
    resources.retain(|(urn, _)| call.need(read_scope(urn)).is_ok());
    call.page("resources", |_| resources, |(urn, _)| urn.clone(), |_, (urn, at)| resource(urn, at, "ok"))
}

/// The scope that reading a resource needs.
fn read_scope(urn: &str) -> &'static str {
    match kind_and_id(urn) {
        ("droplet", _) => "droplet:read",
        ("domain", _) => "domain:read",
        ("floatingip", _) => "reserved_ip:read",
        ("volume", _) => "block_storage:read",
        (other, _) => panic!("tests/fakes/digitalocean has no resources {other:?}"),
    }
}

fn kind_and_id(urn: &str) -> (&str, &str) {
    urn.strip_prefix("do:").and_then(|urn| urn.split_once(':')).unwrap_or(("", urn))
}

fn resource(urn: &str, assigned_at: &str, status: &str) -> Value {
    let (kind, id) = kind_and_id(urn);
    let kind = if kind == "floatingip" { "floating_ip" } else { kind };
    let link = format!("https://api.digitalocean.com/v2/{kind}s/{id}");
    json!({"urn": urn, "assigned_at": assigned_at, "links": {"self": link}, "status": status})
}

/// `POST /v2/projects/{project_id}/resources`
pub fn assign_to_project(call: &mut Call<'_>) -> Answer {
    let index = find_project(call)?;
    let mut answered = Vec::new();
    for urn in call.texts("resources") {
        call.need(read_scope(&urn))?;
        let account = &mut *call.account;
        let (_, id) = kind_and_id(&urn);
        let exists = match kind_and_id(&urn).0 {
            "droplet" => account.droplets.iter().any(|droplet| droplet.id.to_string() == id),
            "domain" => account.domains.iter().any(|domain| domain.name == id),
            "floatingip" => account.reserved_ips.iter().any(|reserved| reserved.ip.to_string() == id),
            _ => account.volumes.iter().any(|volume| volume.id == id),
        };
        let there = account.projects[index].resources.iter().any(|(has, _)| *has == urn);
        let status = match (exists, there) {
            (false, _) => "not_found",
            (true, true) => "already_assigned",
            (true, false) => "assigned",
        };
        if status == "assigned" {
            account.assign_to_project(index, urn.clone());
        }
        answered.push(resource(&urn, &super::account::now(), status));
    }
    Ok((200, json!({"resources": answered})))
}
