//! What protects the server and locks processes in, as playbooks and templates know it.
//!
//! Invariant: follows from the configuration alone.

use minijinja::Value;

use crate::config::Config;
use crate::config::hardening::{Hardening, Limits, Network, Swap};
use crate::facts::host::{Capability, Host};
use crate::plan::{Action, Change};
use crate::playbook::Vars;

/// Variables about both.
pub fn vars(config: &Config) -> Vars {
    Vars::from([
        ("environment".into(), super::place::environment(config).into()),
        ("hardening".into(), hardening(&config.hardening)),
        ("web_may".into(), may(&config.web.limits)),
        ("rate_limit".into(), config.rate_limit.unwrap_or(0).into()),
    ])
}

fn hardening(hardening: &Hardening) -> Value {
    // Nothing is false in a template.
    let nothing = || Value::from(());
    let firewall = hardening.firewall.as_ref().map_or_else(nothing, |firewall| {
        let rules = !(firewall.tcp.is_empty() && firewall.udp.is_empty() && firewall.interfaces.is_empty());
        Value::from_pairs([
            ("rules", Value::from(rules)),
            ("tcp", Value::from(firewall.tcp.clone())),
            ("udp", firewall.udp.clone().into()),
            ("interfaces", firewall.interfaces.clone().into()),
        ])
    });
    let updates = hardening.updates.as_ref().map_or_else(nothing, |updates| {
        Value::from_pairs([("reboot", Value::from(updates.reboot.clone().unwrap_or_default()))])
    });
    let (swap, swap_mb) = match hardening.swap {
        Swap::Off => (false, 0),
        Swap::Auto => (true, 0),
        Swap::Mb(number) => (true, number),
    };
    Value::from_pairs([
        ("firewall", firewall),
        ("ssh", hardening.ssh.into()),
        ("updates", updates),
        ("swap", swap.into()),
        ("swap_mb", swap_mb.into()),
        ("time", hardening.time.into()),
        ("logs", hardening.logs.into()),
        ("kernel", hardening.kernel.into()),
    ])
}

/// What a process may do, as its unit's template knows it.
pub fn may(limits: &Limits) -> Value {
    let network = match limits.network {
        Network::On => "on",
        Network::Local => "local",
        Network::Off => "off",
    };
    let memory = limits.memory_mb.map_or_else(|| "80%".to_owned(), |number| format!("{number}M"));
    Value::from_pairs([
        ("sandbox", Value::from(limits.sandbox)),
        ("memory", memory.into()),
        ("network", network.into()),
        ("writable", limits.writable.clone().into()),
    ])
}

/// What ship.yml wants and this server can't have, each with the reason.
pub fn left_out(config: &Config, host: &Host) -> Vec<String> {
    let Hardening { firewall, swap, time, kernel, .. } = &config.hardening;
    let wanted = |one: Capability| match one {
        Capability::Firewall => firewall.is_some(),
        Capability::Swap => *swap != Swap::Off,
        Capability::Clock => *time,
        Capability::Kernel => *kernel,
    };
    let left = host.lacking.iter().filter(|(one, _)| wanted(**one));
    left.map(|(one, why)| format!("{} ({why})", one.name())).collect()
}

/// What is switched off.
pub fn switched_off(hardening: &Hardening) -> Vec<&'static str> {
    let Hardening { firewall, ssh, updates, swap, time, logs, kernel } = hardening;
    let all = [
        ("firewall", firewall.is_some()),
        ("ssh", *ssh),
        ("updates", updates.is_some()),
        ("swap", *swap != Swap::Off),
        ("time", *time),
        ("logs", *logs),
        ("kernel", *kernel),
    ];
    all.into_iter().filter(|(_, on)| !on).map(|(name, _)| name).collect()
}

/// Says with the first firewall of a server which ports it closes that something listens on.
pub fn tell_of_ports(config: &Config, host: &Host, changes: &mut [Change]) {
    let Some(firewall) = &config.hardening.firewall else { return };
    let first =
        |change: &&mut Change| change.id.name == "/etc/ship/firewall.nft" && change.action == Action::Create;
    let Some(change) = changes.iter_mut().find(first) else { return };
    let within = |port: u16, text: &String| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u16>().unwrap_or(0);
        (number(from)..=number(to)).contains(&port)
    };
    let open = |port: &u16| {
        matches!(port, 22 | 80 | 443)
            || host.ssh_ports.contains(port)
            || firewall.tcp.iter().any(|text| within(*port, text))
    };
    let closed: Vec<String> = host.open_ports.iter().filter(|port| !open(port)).map(u16::to_string).collect();
    if !closed.is_empty() {
        let closed = closed.join(", ");
        change.why += &format!(
            "; this closes {closed}, where programs listen: `hardening: {{firewall: {{allow: [{closed}]}}}}` keeps them open"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Defaults};
    use crate::plan::ResourceId;
    use crate::project::{Tree, detect};

    fn config(yaml: &str) -> Config {
        let files = [
            ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'a.settings') # django"),
            ("a/settings.py", ""),
            ("a/wsgi.py", ""),
            ("requirements.txt", "Django"),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        let text = format!("server: {{provider: ssh, host: h}}\n{yaml}");
        let defaults = Defaults { folder_name: "a", playbooks: &[] };
        config::load("ship.yml", &text, None, &detect(&Tree::from_map(files)), &defaults).unwrap()
    }

    #[test]
    fn what_cannot_be_is_told_and_what_is_off_is_not() {
        let mut host = Host::default();
        host.lacking.insert(Capability::Swap, "a container has the swap of its host".into());
        host.lacking.insert(Capability::Clock, "chronyd keeps it".into());
        let said = left_out(&config("hardening: {swap: off, logs: off}"), &host);
        assert_eq!(said, ["time (chronyd keeps it)"]);
        assert_eq!(switched_off(&config("hardening: {swap: off, logs: off}").hardening), ["swap", "logs"]);
        assert_eq!(switched_off(&config("hardening: off").hardening).len(), 7);
        assert!(switched_off(&config("").hardening).is_empty());
    }

    #[test]
    fn the_first_firewall_says_what_it_closes() {
        let host =
            Host { ssh_ports: vec![2222], open_ports: [25, 80, 2222, 5005, 9000].into(), ..Host::default() };
        let why = |yaml: &str, action| {
            let id = ResourceId::new("file", "/etc/ship/firewall.nft");
            let mut changes = [Change::new(id, action, "closed", Vec::new())];
            tell_of_ports(&config(yaml), &host, &mut changes);
            changes[0].why.clone()
        };
        assert!(why("", Action::Create).contains("this closes 25, 5005, 9000, where"));
        let allowed = "hardening: {firewall: {allow: [9000, 5000-5010]}}";
        assert!(why(allowed, Action::Create).contains("this closes 25, where"));
        assert_eq!(why("", Action::Update), "closed");
    }
}
