//! Domains and their records. A record's name is relative to its domain, but a search by name wants the whole name.
//!
//! Two equal records are no error for the real API, so they are none here.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::account::{Account, Domain, Record};
use super::api::{Answer, Call, Refusal, is_name};

/// `GET /v2/domains`
pub fn list_domains(call: &mut Call<'_>) -> Answer {
    let domains = |account: &Account| account.domains.clone();
    call.page("domains", domains, |domain| domain.name.clone(), |_, domain| domain.json(true))
}

/// `POST /v2/domains`
pub fn create_domain(call: &mut Call<'_>) -> Answer {
    let refuse = |message: &str| Err(Refusal::unprocessable(message));
    let name = call.text("name").to_lowercase();
    if !is_name(&name, ".-") || !name.contains('.') || name.split('.').any(str::is_empty) {
        return refuse("Name is not a valid domain name");
    }
    if call.account.domains.iter().any(|domain| domain.name == name) {
        return refuse("Name already exists");
    }
    let address = call.body["ip_address"].as_str().map(str::to_owned);
    if address.as_ref().is_some_and(|address| address.parse::<Ipv4Addr>().is_err()) {
        return refuse(NOT_IPV4);
    }
    call.account.add_domain(&name);
    if let Some(address) = address {
        call.account.add_record(&name, "A", "@", &address);
    }
    call.made("domains", &name);
    let domain = find(call.account, &name)?;
    Ok((201, json!({"domain": domain.json(false)})))
}

fn find<'a>(account: &'a mut Account, name: &str) -> Result<&'a mut Domain, Refusal> {
    account.domains.iter_mut().find(|domain| domain.name == name).ok_or_else(Refusal::not_found)
}

/// `GET /v2/domains/{domain_name}`
pub fn get_domain(call: &mut Call<'_>) -> Answer {
    let domain = find(call.account, &call.parameters[0])?;
    Ok((200, json!({"domain": domain.json(true)})))
}

/// `DELETE /v2/domains/{domain_name}`
pub fn delete_domain(call: &mut Call<'_>) -> Answer {
    let name = find(call.account, &call.parameters[0])?.name.clone();
    call.account.domains.retain(|domain| domain.name != name);
    call.account.leave_projects(&format!("do:domain:{name}"));
    Ok((204, Value::Null))
}

/// `GET /v2/domains/{domain_name}/records`
pub fn list_records(call: &mut Call<'_>) -> Answer {
    let (name, kind) = (call.query("name").map(str::to_lowercase), call.query("type").map(str::to_uppercase));
    let domain = find(call.account, &call.parameters[0])?.clone();
    let wanted = |record: &&Record| {
        name.as_ref().is_none_or(|name| domain.fqdn(record) == *name)
            && kind.as_ref().is_none_or(|kind| record.kind == *kind)
    };
    let records: Vec<_> = domain.records.iter().filter(wanted).cloned().collect();
    call.page("domain_records", |_| records, |record| record.id.to_string(), |_, record| record.json())
}

/// `GET /v2/domains/{domain_name}/records/{domain_record_id}`
pub fn get_record(call: &mut Call<'_>) -> Answer {
    let id = call.number(1)?;
    let domain = find(call.account, &call.parameters[0])?;
    let found = domain.records.iter().find(|record| record.id == id);
    found.map(|record| (200, json!({"domain_record": record.json()}))).ok_or_else(Refusal::not_found)
}

/// `POST /v2/domains/{domain_name}/records`
pub fn create_record(call: &mut Call<'_>) -> Answer {
    let id = call.account.next_id();
    let body = call.body.clone();
    let domain = find(call.account, &call.parameters[0])?;
    let kind = body["type"].as_str().unwrap_or_default().to_uppercase();
    if !["A", "AAAA", "CAA", "CNAME", "MX", "NS", "SRV", "TXT"].contains(&kind.as_str()) {
        return Err(Refusal::unprocessable("Record type is invalid"));
    }
    let record =
        requested(domain, &body, Record { id, kind, name: "@".into(), ttl: 1800, ..Record::default() })?;
    domain.records.push(record.clone());
    call.made("domain_records", id);
    Ok((201, json!({"domain_record": record.json()})))
}

/// `PUT` and `PATCH /v2/domains/{domain_name}/records/{domain_record_id}`: what is not given stays.
pub fn update_record(call: &mut Call<'_>) -> Answer {
    let id = call.number(1)?;
    let mut body = call.body.clone();
    let domain = find(call.account, &call.parameters[0])?;
    let index = domain.records.iter().position(|record| record.id == id).ok_or_else(Refusal::not_found)?;
    let record = domain.records[index].clone();
    if record.kind == "SOA" {
        body = json!({"ttl": body["ttl"]});
    }
    let record = requested(domain, &body, record)?;
    domain.records[index] = record.clone();
    Ok((200, json!({"domain_record": record.json()})))
}

/// `DELETE /v2/domains/{domain_name}/records/{domain_record_id}`
pub fn delete_record(call: &mut Call<'_>) -> Answer {
    let id = call.number(1)?;
    let domain = find(call.account, &call.parameters[0])?;
    let index = domain.records.iter().position(|record| record.id == id).ok_or_else(Refusal::not_found)?;
    if domain.records[index].kind == "SOA" {
        return Err(Refusal::unprocessable("SOA records cannot be deleted"));
    }
    domain.records.remove(index);
    Ok((204, Value::Null))
}

const NOT_IPV4: &str = "IP address did not match IPv4 format (e.g. 255.255.255.255).";

/// A record with what the request says changed, if that makes a record.
fn requested(domain: &Domain, body: &Value, mut record: Record) -> Result<Record, Refusal> {
    let refuse = |message: &str| Err(Refusal::unprocessable(message));
    if let Some(name) = body["name"].as_str() {
        let name = name.to_lowercase();
        // A name with a final dot is the whole name.
        record.name = match name.strip_suffix('.') {
            Some(whole) if whole == domain.name => "@".into(),
            Some(whole) => match whole.strip_suffix(&domain.name).and_then(|name| name.strip_suffix('.')) {
                Some(name) => name.into(),
                None => return refuse("Name must be within the domain"),
            },
            None => name,
        };
    }
    let wild = record.name.strip_prefix("*.").unwrap_or(&record.name);
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if !matches!(wild, "@" | "*") && (wild.is_empty() || !wild.chars().all(fits)) {
        return refuse(
            "Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, ., _ and -) Or a single record of '@'.",
        );
    }
    if let Some(data) = body["data"].as_str() {
        record.data = data.into();
    }
    if let Some(ttl) = body["ttl"].as_u64() {
        record.ttl = ttl;
    }
    if record.ttl < 30 {
        return refuse("Ttl must be greater than or equal to 30");
    }
    for (field, name) in [
        (&mut record.priority, "priority"),
        (&mut record.port, "port"),
        (&mut record.weight, "weight"),
        (&mut record.flags, "flags"),
    ] {
        *field = body[name].as_u64().or(*field);
    }
    record.tag = body["tag"].as_str().map(str::to_owned).or(record.tag);
    check_data(&mut record, body)?;

    let others = || domain.records.iter().filter(|other| other.id != record.id && other.name == record.name);
    if others().any(|other| other.kind == "CNAME" || record.kind == "CNAME") {
        return refuse("CNAME records cannot share a name with other records");
    }
    Ok(record)
}

/// Checks what a record says by its kind; a name loses its final dot.
fn check_data(record: &mut Record, body: &Value) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::unprocessable(message));
    if record.data.is_empty() {
        return refuse("Data can't be blank");
    }
    match record.kind.as_str() {
        "A" if record.data.parse::<Ipv4Addr>().is_err() => refuse(NOT_IPV4),
        "AAAA" if record.data.parse::<Ipv6Addr>().is_err() => {
            refuse("IPv6 address did not match IPv6 format (e.g. 2001:db8::ff00:42:8329).")
        }
        "CNAME" | "MX" | "NS" | "SRV" if body["data"].is_string() => {
            let name = record.data.strip_suffix('.').map(str::to_owned);
            if name.is_none() && record.data != "@" {
                return refuse("Data needs to end with a dot (.)");
            }
            record.data = name.unwrap_or_else(|| "@".into());
            match record.kind.as_str() {
                "MX" | "SRV" if record.priority.is_none() => refuse("Priority can't be blank"),
                "SRV" if record.port.is_none() || record.weight.is_none() => {
                    refuse("Port and weight can't be blank")
                }
                _ => Ok(()),
            }
        }
        "CAA" if record.flags.is_none() || record.tag.is_none() => refuse("Flags and tag can't be blank"),
        "TXT" if record.data.len() > 512 => refuse("Data is too long (maximum is 512 characters)"),
        _ => Ok(()),
    }
}
