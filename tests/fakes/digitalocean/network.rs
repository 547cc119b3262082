//! Firewalls, reserved addresses and private networks.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::account::{Account, Effect, Firewall, Target, Work};
use super::api::{Answer, Call, Refusal, is_name};
use super::catalog;
use super::droplets::{get_action, page_of_actions, show_action};

/// `GET /v2/firewalls`
pub fn list_firewalls(call: &mut Call<'_>) -> Answer {
    call.account
        .firewalls
        .iter_mut()
        .for_each(|firewall| firewall.pending = firewall.pending.saturating_sub(1));
    let firewalls = |account: &Account| account.firewalls.clone();
    call.page("firewalls", firewalls, |firewall| firewall.id.clone(), Account::firewall_json)
}

/// `POST /v2/firewalls`
pub fn create_firewall(call: &mut Call<'_>) -> Answer {
    let id = call.account.next_uuid();
    let firewall = requested(call, id)?;
    call.made("firewalls", &firewall.id);
    call.account.firewalls.push(firewall.clone());
    Ok((202, json!({"firewall": call.account.firewall_json(&firewall)})))
}

fn find(call: &Call<'_>) -> Result<usize, Refusal> {
    let found = call.account.firewalls.iter().position(|firewall| firewall.id == call.parameters[0]);
    found.ok_or_else(Refusal::not_found)
}

/// `GET /v2/firewalls/{firewall_id}`
pub fn get_firewall(call: &mut Call<'_>) -> Answer {
    let index = find(call)?;
    let firewall = &mut call.account.firewalls[index];
    firewall.pending = firewall.pending.saturating_sub(1);
    Ok((200, json!({"firewall": call.account.firewall_json(&call.account.firewalls[index])})))
}

/// `PUT /v2/firewalls/{firewall_id}`: what is not given is reset.
pub fn update_firewall(call: &mut Call<'_>) -> Answer {
    let index = find(call)?;
    let created_at = call.account.firewalls[index].created_at.clone();
    let firewall = Firewall { created_at, ..requested(call, call.parameters[0].clone())? };
    call.account.firewalls[index] = firewall.clone();
    Ok((200, json!({"firewall": call.account.firewall_json(&firewall)})))
}

/// `DELETE /v2/firewalls/{firewall_id}`
pub fn delete_firewall(call: &mut Call<'_>) -> Answer {
    let index = find(call)?;
    call.account.firewalls.remove(index);
    Ok((204, Value::Null))
}

/// The firewall that a request describes.
fn requested(call: &Call<'_>, id: String) -> Result<Firewall, Refusal> {
    let refuse = |message: String| Err(Refusal::unprocessable(message));
    let name = call.text("name").to_owned();
    if !is_name(&name, ".-") || name.len() > 255 {
        return refuse("name is invalid".into());
    }
    if call.account.firewalls.iter().any(|other| other.name == name && other.id != id) {
        return Err(Refusal::conflict("duplicate name"));
    }
    let list = |name: &str| call.body[name].as_array().cloned().unwrap_or_default();
    let (mut inbound_rules, mut outbound_rules) = (list("inbound_rules"), list("outbound_rules"));
    if inbound_rules.is_empty() && outbound_rules.is_empty() {
        return refuse("must specify at least one rule".into());
    }
    for (rules, end) in [(&mut inbound_rules, "sources"), (&mut outbound_rules, "destinations")] {
        for number in 0..rules.len() {
            let rule = checked_rule(call.account, &rules[number], end)?;
            if rules[..number].contains(&rule) {
                return refuse("duplicate rule".into());
            }
            rules[number] = rule;
        }
    }
    let droplet_ids: Vec<_> = list("droplet_ids").iter().filter_map(Value::as_u64).collect();
    if let Some(id) = droplet_ids.iter().find(|id| call.account.droplet(**id).is_none()) {
        return refuse(format!("droplet {id} not found"));
    }
    let tags = existing_tags(call.account, &call.body["tags"])?;
    let mut firewall = Firewall {
        id,
        name,
        inbound_rules,
        outbound_rules,
        droplet_ids,
        tags,
        created_at: super::account::now(),
        pending: 0,
    };
    if call.account.droplets_behind(&firewall).next().is_some() {
        firewall.pending = call.account.polls;
    }
    Ok(firewall)
}

/// A rule as it will be shown; what it names must exist.
fn checked_rule(account: &Account, rule: &Value, end: &str) -> Result<Value, Refusal> {
    let refuse = |message: String| Err(Refusal::unprocessable(message));
    let (protocol, mut ports) =
        (rule["protocol"].as_str().unwrap_or_default(), rule["ports"].as_str().unwrap_or_default());
    if !["tcp", "udp", "icmp"].contains(&protocol) {
        return refuse(format!("invalid protocol {protocol:?}"));
    }
    if protocol == "icmp" || ports == "all" {
        ports = "0";
    }
    let number = |port: &str| port.parse::<u16>().is_ok_and(|_| !port.starts_with('+'));
    if !ports.split_once('-').map_or_else(|| number(ports), |(first, last)| number(first) && number(last)) {
        return refuse(format!("invalid ports {ports:?}"));
    }
    let target = rule[end].as_object().cloned().unwrap_or_default();
    if target.values().all(|value| value.as_array().is_none_or(Vec::is_empty)) {
        return refuse(format!("rule must have {end}"));
    }
    for address in target.get("addresses").and_then(Value::as_array).into_iter().flatten() {
        let text = address.as_str().unwrap_or_default();
        let (ip, bits) = text.split_once('/').unwrap_or((text, "0"));
        let most = if ip.contains(':') { 128 } else { 32 };
        if ip.parse::<IpAddr>().is_err() || bits.parse::<u8>().map_or(true, |bits| bits > most) {
            return refuse(format!("invalid address {text:?}"));
        }
    }
    existing_tags(account, target.get("tags").unwrap_or(&Value::Null))?;
    Ok(json!({"protocol": protocol, "ports": ports, end: target}))
}

fn existing_tags(account: &Account, tags: &Value) -> Result<Vec<String>, Refusal> {
    let tags = tags.as_array().into_iter().flatten().filter_map(Value::as_str);
    let known = |tag: &str| account.tags.iter().find(|has| *has == tag).cloned();
    let missing = |tag: &str| Refusal::unprocessable(format!("tag {tag} does not exist"));
    tags.map(|tag| known(tag).ok_or_else(|| missing(tag))).collect()
}

/// `GET /v2/reserved_ips`
pub fn list_reserved_ips(call: &mut Call<'_>) -> Answer {
    call.account.look(|action| matches!(action.target, Target::Ip(_)));
    let reserved = |account: &Account| account.reserved_ips.clone();
    call.page("reserved_ips", reserved, |reserved| reserved.ip.to_string(), Account::reserved_ip_json)
}

fn find_ip(call: &Call<'_>) -> Result<Ipv4Addr, Refusal> {
    let ip = call.parameters[0].parse().map_err(|_| Refusal::not_found())?;
    call.account.reserved_ip(ip).map(|reserved| reserved.ip).ok_or_else(Refusal::not_found)
}

fn show_ip(account: &Account, ip: Ipv4Addr) -> Value {
    account.reserved_ip_json(account.reserved_ip(ip).expect("found"))
}

/// `POST /v2/reserved_ips`
pub fn create_reserved_ip(call: &mut Call<'_>) -> Answer {
    let refuse = |message: &str| Err(Refusal::unprocessable(message));
    let droplet = call.body["droplet_id"].as_u64();
    let region = match droplet {
        Some(id) => call.account.droplet(id).ok_or_else(Refusal::not_found)?.region.clone(),
        None => call.text("region").to_owned(),
    };
    if region.is_empty() {
        return refuse("Droplet or region must be specified.");
    }
    if !catalog::is_open(&region) {
        return refuse("Region is not available for reserved IPs.");
    }
    if let Some(id) = droplet {
        assignable(call.account, id, &region)?;
    }
    if call.account.reserved_ips.len() >= call.account.reserved_ip_limit {
        return refuse("creating this/these reserved IP(s) will exceed your Reserved IP limit");
    }
    let ip = call.account.add_reserved_ip(&region).expect("the fake has addresses for any sensible limit");
    call.made("reserved_ips", ip);
    let mut links = json!({});
    if let Some(id) = droplet {
        let action = assign(call.account, ip, Some(id));
        let base = &call.base;
        links = json!({
            "droplets": [{"id": id, "rel": "droplet", "href": format!("{base}/v2/droplets/{id}")}],
            "actions": [{"id": action, "rel": "assign_ip", "href": format!("{base}/v2/actions/{action}")}],
        });
    }
    Ok((202, json!({"reserved_ip": show_ip(call.account, ip), "links": links})))
}

fn assignable(account: &Account, id: u64, region: &str) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::unprocessable(message));
    let droplet = account.droplet(id).ok_or_else(Refusal::not_found)?;
    if droplet.region != region {
        return refuse("The Droplet and the reserved IP must be in the same region.");
    }
    if account.is_busy(id) {
        return refuse("Droplet already has a pending event.");
    }
    if account.reserved_ips.iter().any(|reserved| reserved.droplet == Some(id)) {
        return refuse("Droplet already has a reserved IP.");
    }
    Ok(())
}

/// Starts to give an address to a droplet, or to none.
fn assign(account: &mut Account, ip: Ipv4Addr, to: Option<u64>) -> u64 {
    let from = account.reserved_ip(ip).and_then(|reserved| reserved.droplet);
    let kind = if to.is_some() { "assign_ip" } else { "unassign_ip" };
    account.act(kind, Target::Ip(ip), to.or(from), Effect::Assign(to), Some(Work::Move(ip, from, to)))
}

/// `GET /v2/reserved_ips/{reserved_ip}`
pub fn get_reserved_ip(call: &mut Call<'_>) -> Answer {
    let ip = find_ip(call)?;
    call.account.look(|action| action.target == Target::Ip(ip));
    Ok((200, json!({"reserved_ip": show_ip(call.account, ip)})))
}

/// `DELETE /v2/reserved_ips/{reserved_ip}`
pub fn delete_reserved_ip(call: &mut Call<'_>) -> Answer {
    let ip = find_ip(call)?;
    if call.account.is_locked(Target::Ip(ip)) {
        return Err(Refusal::unprocessable("The reserved IP already has a pending event."));
    }
    let from = call.account.reserved_ip(ip).and_then(|reserved| reserved.droplet);
    if call.account.boots && from.is_some() {
        call.account.work.push((None, Work::Move(ip, from, None)));
    }
    call.account.reserved_ips.retain(|reserved| reserved.ip != ip);
    call.account.leave_projects(&format!("do:floatingip:{ip}"));
    call.account.free_ips.insert(0, ip);
    Ok((204, Value::Null))
}

/// `POST /v2/reserved_ips/{reserved_ip}/actions`
pub fn act_on_reserved_ip(call: &mut Call<'_>) -> Answer {
    let refuse = |message: &str| Err(Refusal::unprocessable(message));
    let ip = find_ip(call)?;
    if call.account.is_locked(Target::Ip(ip)) {
        return refuse("The reserved IP already has a pending event.");
    }
    let reserved = call.account.reserved_ip(ip).expect("found").clone();
    let to = match call.text("type") {
        "unassign" if reserved.droplet.is_none() => {
            return refuse("The reserved IP is not assigned to a Droplet.");
        }
        "unassign" => None,
        "assign" => {
            let Some(id) = call.body["droplet_id"].as_u64() else { return refuse("droplet_id is required") };
            assignable(call.account, id, &reserved.region)?;
            Some(id)
        }
        _ => return refuse("Type is not a valid action"),
    };
    let action = assign(call.account, ip, to);
    Ok((201, json!({"action": ip_action(call.account, ip, action)})))
}

fn ip_action(account: &Account, ip: Ipv4Addr, action: u64) -> Value {
    let mut shown = show_action(account, action);
    shown["project_id"] = json!(account.project_of(&format!("do:floatingip:{ip}")));
    shown
}

/// `GET /v2/reserved_ips/{reserved_ip}/actions`
pub fn list_reserved_ip_actions(call: &mut Call<'_>) -> Answer {
    let ip = find_ip(call)?;
    page_of_actions(call, Target::Ip(ip))
}

/// `GET /v2/reserved_ips/{reserved_ip}/actions/{action_id}`
pub fn get_reserved_ip_action(call: &mut Call<'_>) -> Answer {
    let ip = find_ip(call)?;
    get_action(call, 1, |action| action.target == Target::Ip(ip))?;
    let id = call.number(1)?;
    Ok((200, json!({"action": ip_action(call.account, ip, id)})))
}

/// `GET /v2/vpcs`
pub fn list_vpcs(call: &mut Call<'_>) -> Answer {
    call.page("vpcs", |account| account.vpcs.clone(), |vpc| vpc.id.clone(), |_, vpc| vpc.json())
}

/// `GET /v2/vpcs/{vpc_id}`
pub fn get_vpc(call: &mut Call<'_>) -> Answer {
    let found = call.account.vpcs.iter().find(|vpc| vpc.id == call.parameters[0]);
    found.map(|vpc| (200, json!({"vpc": vpc.json()}))).ok_or_else(Refusal::not_found)
}
