//! Droplets and what can be done to them.

use serde_json::{Value, json};

use super::account::{Account, Action, Droplet, Effect, Status, Target, Work};
use super::api::{Answer, Call, Refusal, is_name, settle};
use super::catalog::{self, Size};

/// `GET /v2/droplets`
pub fn list(call: &mut Call<'_>) -> Answer {
    let (tag, name) = (call.query("tag_name").map(str::to_owned), call.query("name").map(str::to_lowercase));
    if tag.is_some() && name.is_some() {
        return Err(Refusal::unprocessable("tag_name and name cannot be combined"));
    }
    let wanted = |droplet: &Droplet| {
        tag.as_ref().is_none_or(|tag| droplet.tags.contains(tag))
            && name.as_ref().is_none_or(|name| droplet.name.to_lowercase() == *name)
    };
    let ids: Vec<_> =
        call.account.droplets.iter().filter(|droplet| wanted(droplet)).map(|droplet| droplet.id).collect();
    ids.iter().for_each(|id| call.account.look_at_droplet(*id));
    call.page("droplets", |_| ids, ToString::to_string, |account, id| show(account, *id))
}

fn show(account: &Account, id: u64) -> Value {
    account.droplet_json(account.droplet(id).expect("listed"))
}

/// `GET /v2/droplets/{droplet_id}`
pub fn get(call: &mut Call<'_>) -> Answer {
    let id = find(call)?;
    call.account.look_at_droplet(id);
    Ok((200, json!({"droplet": show(call.account, id)})))
}

fn find(call: &Call<'_>) -> Result<u64, Refusal> {
    let id = call.number(0)?;
    call.account.droplet(id).map(|droplet| droplet.id).ok_or_else(Refusal::not_found)
}

/// `POST /v2/droplets`
pub fn create(call: &mut Call<'_>) -> Answer {
    let several = call.body.get("names").is_some();
    let names = if several { call.texts("names") } else { vec![call.text("name").to_owned()] };
    for name in &names {
        if !is_name(name, ".-") || name.ends_with(['.', '-']) || name.len() > 255 {
            return unprocessable("Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)");
        }
    }
    let size = Size::find(call.text("size"));
    let size =
        size.ok_or_else(|| Refusal::unprocessable("You specified an invalid size for Droplet creation."))?;
    let region = call.text("region").to_owned();
    if !catalog::REGIONS.iter().any(|(slug, ..)| *slug == region) {
        return unprocessable("You specified an invalid region for Droplet creation.");
    }
    if !size.is_in(&region) {
        return unprocessable("Size is not available in this region.");
    }
    let image = call.body["image"].as_str().map_or_else(|| call.body["image"].to_string(), str::to_owned);
    let Some((_, image, ..)) = catalog::image(&image) else {
        return unprocessable("You specified an invalid image for Droplet creation.");
    };
    let ssh_keys = keys(call)?;
    let user_data = call.body["user_data"].as_str().map(str::to_owned);
    if user_data.as_ref().is_some_and(|data| data.len() > 64 * 1024) {
        return unprocessable("User data is too long (maximum is 64 KiB)");
    }
    let tags = call.texts("tags");
    if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
        return unprocessable(format!("{tag} is not a valid tag name"));
    }
    let vpc = call.body["vpc_uuid"].as_str().map(str::to_owned);
    let in_region = |id: &String| call.account.vpcs.iter().any(|vpc| vpc.id == *id && vpc.region == region);
    if vpc.as_ref().is_some_and(|id| !in_region(id)) {
        return unprocessable("Failed to resolve VPC");
    }
    if call.account.droplets.len() + names.len() > call.account.droplet_limit {
        return unprocessable("creating this/these droplet(s) will exceed your droplet limit");
    }

    let flag = |call: &Call<'_>, name: &str| call.body[name].as_bool().unwrap_or(false);
    let (mut droplets, mut links) = (Vec::new(), Vec::new());
    for name in &names {
        let mut droplet = call.account.blank_droplet(name, &region);
        let id = droplet.id;
        droplet.size = size.slug.into();
        droplet.disk = size.disk;
        droplet.image = (*image).into();
        droplet.tags = tags.iter().map(|tag| call.account.add_tag(tag)).collect();
        droplet.ssh_keys.clone_from(&ssh_keys);
        droplet.user_data.clone_from(&user_data);
        droplet.backups = flag(call, "backups");
        droplet.ipv6 = flag(call, "ipv6");
        droplet.monitoring = flag(call, "monitoring");
        droplet.with_droplet_agent = call.body["with_droplet_agent"].as_bool();
        droplet.vpc = vpc.clone().unwrap_or(droplet.vpc);
        call.account.insert_droplet(droplet);
        let action = call.account.act("create", Target::Droplet(id), None, Effect::Run, Some(Work::Boot(id)));
        call.made("droplets", id);
        links.push(
            json!({"id": action, "rel": "create", "href": format!("{}/v2/actions/{action}", call.base)}),
        );
        droplets.push(show(call.account, id));
    }
    let shown = if several { json!({"droplets": droplets}) } else { json!({"droplet": droplets[0]}) };
    let mut answer = shown;
    answer["links"] = json!({"actions": links});
    Ok((202, answer))
}

/// The numbers of the keys that a request names by number or fingerprint.
fn keys(call: &mut Call<'_>) -> Result<Vec<u64>, Refusal> {
    let wanted = call.body["ssh_keys"].as_array().cloned().unwrap_or_default();
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for identifier in wanted {
        let text = identifier.as_str().map_or_else(|| identifier.to_string(), str::to_owned);
        let key = call.account.keys.iter().find(|key| key.id.to_string() == text || key.fingerprint == text);
        let settling =
            |id: &str| call.account.unsettled.iter().any(|new| new.list == "key identifiers" && new.id == id);
        match key {
            Some(key) if !settling(&key.id.to_string()) => found.push(key.id),
            Some(_) | None => unknown.push(text),
        }
    }
    settle(call.account, "key identifiers");
    if unknown.is_empty() {
        return Ok(found);
    }
    let unknown = unknown.join(", ");
    Err(Refusal::unprocessable(format!("{unknown} are invalid key identifiers for Droplet creation.")))
}

/// Whether that can be a tag.
pub fn is_tag(tag: &str) -> bool {
    (1..=255).contains(&tag.len()) && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_-:".contains(c))
}

fn unprocessable(message: impl Into<String>) -> Answer {
    Err(Refusal::unprocessable(message))
}

/// `DELETE /v2/droplets/{droplet_id}`: volumes and reserved addresses stay behind.
pub fn delete(call: &mut Call<'_>) -> Answer {
    let id = find(call)?;
    let account = &mut *call.account;
    for reserved in account.reserved_ips.iter_mut().filter(|reserved| reserved.droplet == Some(id)) {
        reserved.droplet = None;
    }
    for volume in account.volumes.iter_mut().filter(|volume| volume.droplet == Some(id)) {
        volume.droplet = None;
    }
    account.firewalls.iter_mut().for_each(|firewall| firewall.droplet_ids.retain(|has| *has != id));
    account.leave_projects(&format!("do:droplet:{id}"));
    account.droplets.retain(|droplet| droplet.id != id);
    account.unsettled.retain(|new| new.list != "droplets" || new.id != id.to_string());
    if account.boots {
        account.work.push((None, Work::Remove(id)));
    }
    Ok((204, Value::Null))
}

/// `POST /v2/droplets/{droplet_id}/actions`
pub fn act(call: &mut Call<'_>) -> Answer {
    let id = find(call)?;
    let kind = call.text("type").to_owned();
    if call.account.is_busy(id) {
        return unprocessable("Droplet already has a pending event.");
    }
    let droplet = call.account.droplet(id).expect("found").clone();
    let on = droplet.status == Status::Active;
    let (effect, work) = match kind.as_str() {
        "power_on" if on => return unprocessable("Droplet is already powered on."),
        "power_on" => (Effect::Run, Some(Work::Start(id))),
        "power_off" | "shutdown" if !on => return unprocessable("The droplet is already off."),
        "power_off" => (Effect::Off, Some(Work::Stop(id, false))),
        "shutdown" => (Effect::Off, Some(Work::Stop(id, true))),
        "resize" => (resize(call, &droplet)?, None),
        "enable_backups" if droplet.backups => {
            return unprocessable("Backups have already been enabled on this Droplet.");
        }
        "enable_backups" => (Effect::Backups(true), None),
        "disable_backups" if !droplet.backups => {
            return unprocessable("Backups have already been disabled on this Droplet.");
        }
        "disable_backups" => (Effect::Backups(false), None),
        "enable_ipv6" if droplet.ipv6 => return unprocessable("IPv6 is already enabled on this Droplet."),
        "enable_ipv6" => (Effect::Ipv6, None),
        other => panic!("tests/fakes/digitalocean does not serve the droplet action {other:?}"),
    };
    let action = call.account.act(&kind, Target::Droplet(id), None, effect, work);
    Ok((201, json!({"action": show_action(call.account, action)})))
}

fn resize(call: &Call<'_>, droplet: &Droplet) -> Result<Effect, Refusal> {
    let refuse = |message: &str| Err(Refusal::unprocessable(message));
    let (slug, disk) = (call.text("size"), call.body["disk"].as_bool().unwrap_or(false));
    let Some(size) = Size::find(slug) else {
        return refuse("You specified an invalid size for Droplet creation.");
    };
    if !size.is_in(&droplet.region) {
        return refuse("Size is not available in this region.");
    }
    if droplet.status == Status::Active {
        return refuse("Droplet is currently on. Please power it off to run this event.");
    }
    if droplet.size == slug {
        return refuse("This size is not available because it is the Droplet's current size.");
    }
    if size.disk < droplet.disk {
        return refuse("This size is not available because it has a smaller disk.");
    }
    Ok(Effect::Resize(slug.to_owned(), disk))
}

/// `GET /v2/droplets/{droplet_id}/actions`
pub fn list_actions(call: &mut Call<'_>) -> Answer {
    let id = find(call)?;
    page_of_actions(call, Target::Droplet(id))
}

/// The actions on one thing, newest first.
pub fn page_of_actions(call: &mut Call<'_>, target: Target) -> Answer {
    call.account.look(|action| action.target == target);
    let actions = |account: &Account| -> Vec<u64> {
        let on = account.actions.iter().filter(|action| action.target == target);
        on.rev().map(|action| action.id).collect()
    };
    call.page("actions", actions, ToString::to_string, |account, id| show_action(account, *id))
}

/// An action as the API shows it.
pub fn show_action(account: &Account, id: u64) -> Value {
    account.action_json(account.actions.iter().find(|action| action.id == id).expect("an action"))
}

/// `GET /v2/droplets/{droplet_id}/actions/{action_id}`
pub fn get_droplet_action(call: &mut Call<'_>) -> Answer {
    let id = call.number(0)?;
    get_action(call, 1, |action| action.target == Target::Droplet(id))
}

/// An action, if it concerns what the path names; a look at it.
pub fn get_action(call: &mut Call<'_>, parameter: usize, concerns: impl Fn(&Action) -> bool) -> Answer {
    let id = call.number(parameter)?;
    let found = call.account.actions.iter().any(|action| action.id == id && concerns(action));
    if !found {
        return Err(Refusal::not_found());
    }
    call.account.look(|action| action.id == id);
    Ok((200, json!({"action": show_action(call.account, id)})))
}
