//! What protects the server, and what each process may do: as written, and as checked.
//!
//! Invariant: everything is on unless ship.yml says otherwise; what comes out fits into the files it is written to.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::spec::Switch;
use super::validate::{Check, May};

/// What protects the server: `off` for nothing of it, or a map of what differs.
#[derive(Debug, Clone, Default)]
pub struct HardeningSpec {
    off: bool,
    items: HardeningMap,
}

/// What protects the server.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HardeningSettings")]
struct HardeningMap {
    /// Closes every port but sshd's, 80 and 443, with a table of nftables of its own. Default: on.
    firewall: Option<FirewallSpec>,
    /// sshd takes keys alone, no password of root's, no outdated algorithms, and a bounded number of guests. Default: on.
    ssh: Option<Switch>,
    /// Security updates by themselves. Default: on, and no reboot.
    updates: Option<UpdatesSpec>,
    /// A swap file where there is no swap: auto sizes it from the memory, a number is MiB. Default: auto.
    swap: Option<SwapSpec>,
    /// The clock is set by NTP. Default: on.
    time: Option<Switch>,
    /// The journal is bounded, and log files are rotated. Default: on.
    logs: Option<Switch>,
    /// Settings of the kernel. Default: on.
    kernel: Option<Switch>,
    /// The site's processes see and may do no more than they need. Default: on.
    sandbox: Option<Switch>,
}

/// The firewall: `on`, `off`, or what else it lets in.
#[derive(Debug, Clone, Default)]
struct FirewallSpec {
    off: bool,
    items: FirewallMap,
}

/// What else the firewall lets in.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FirewallSettings")]
struct FirewallMap {
    /// Further ports: 8443, 8000-8010, 51820/udp.
    #[schemars(with = "Option<Vec<PortText>>")]
    allow: Option<Vec<String>>,
    /// Network interfaces that everything may come in by, such as docker0 or wg0.
    interfaces: Option<Vec<String>>,
}

/// Security updates: `on`, `off`, or when the server may reboot for them.
#[derive(Debug, Clone, Default)]
struct UpdatesSpec {
    off: bool,
    items: UpdatesMap,
}

/// When the server may reboot.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UpdatesSettings")]
struct UpdatesMap {
    /// The time at which the server reboots if an update needs it, by its own clock, or off. Default: off, and
    /// `ship status` says when a reboot is due.
    #[schemars(example = &"04:00", regex(pattern = r"^(off|([01][0-9]|2[0-3]):[0-5][0-9])$"))]
    reboot: Option<String>,
}

/// `auto`, `off` or MiB.
#[derive(Debug, Clone, Copy)]
struct SwapSpec(Swap);

/// Which network a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// All of it.
    #[default]
    On,
    /// This server alone: its database, its Redis.
    Local,
    /// None; Unix sockets alone.
    Off,
}

/// What protects the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardening {
    /// The firewall, if there is one.
    pub firewall: Option<Firewall>,
    /// Whether sshd's settings are ours.
    pub ssh: bool,
    /// Security updates, if they come by themselves.
    pub updates: Option<Updates>,
    /// The swap file.
    pub swap: Swap,
    /// Whether the clock is kept.
    pub time: bool,
    /// Whether logs are bounded.
    pub logs: bool,
    /// Whether the kernel's settings are ours.
    pub kernel: bool,
}

impl Default for Hardening {
    fn default() -> Self {
        Self {
            firewall: Some(Firewall::default()),
            ssh: true,
            updates: Some(Updates::default()),
            swap: Swap::Auto,
            time: true,
            logs: true,
            kernel: true,
        }
    }
}

/// What the firewall lets in besides sshd, 80 and 443.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Firewall {
    /// TCP ports or ranges.
    pub tcp: Vec<String>,
    /// UDP ports or ranges.
    pub udp: Vec<String>,
    /// Trusted network interfaces.
    pub interfaces: Vec<String>,
}

/// Security updates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Updates {
    /// When the server may reboot, `04:00`.
    pub reboot: Option<String>,
}

/// The swap file's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Swap {
    /// None.
    Off,
    /// From the memory.
    #[default]
    Auto,
    /// This many MiB.
    Mb(u32),
}

/// What a process may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory in MiB; `None` is four fifths of the server's.
    pub memory_mb: Option<u32>,
    /// Which network it has.
    pub network: Network,
    /// Whether it is locked in.
    pub sandbox: bool,
    /// Further folders that it may write to.
    pub writable: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mb: None, network: Network::On, sandbox: true, writable: Vec::new() }
    }
}

/// The same as it is written with each process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsSpec {
    /// MiB.
    pub memory: Option<u32>,
    /// Which network.
    pub network: Option<Network>,
    /// Whether it is locked in.
    pub sandbox: Option<Switch>,
    /// Folders.
    pub writable: Option<Vec<String>>,
}

/// A port or a range, as nftables takes it.
fn ports(text: &str) -> Option<String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-') {
        None => Some(port(text)?.to_string()),
        Some((from, to)) => {
            let (from, to) = (port(from)?, port(to)?);
            (from < to).then(|| format!("{from}-{to}"))
        }
    }
}

impl Check<'_> {
    /// What protects the server, and whether processes are locked in.
    pub(super) fn hardening(&mut self, written: Option<HardeningSpec>) -> (Hardening, bool) {
        let HardeningSpec { off, items } = written.unwrap_or_default();
        let on = |switch: Option<Switch>| switch.map_or(!off, |switch| switch.0);
        let firewall = match items.firewall {
            None => (!off).then(Firewall::default),
            Some(FirewallSpec { off: true, .. }) => None,
            Some(FirewallSpec { items, .. }) => Some(self.firewall(items)),
        };
        let updates = match items.updates {
            None => (!off).then(Updates::default),
            Some(UpdatesSpec { off: true, .. }) => None,
            Some(UpdatesSpec { items, .. }) => {
                let reboot = items.reboot.filter(|text| text != "off");
                if let Some(text) = &reboot
                    && !is_time(text)
                {
                    self.value(
                        &["hardening", "updates", "reboot"],
                        format!("`{text}` is not a time of the day"),
                        ["such as `reboot: \"04:00\"`, in quotes".to_owned()],
                    );
                }
                Some(Updates { reboot })
            }
        };
        let swap = items.swap.map_or(if off { Swap::Off } else { Swap::Auto }, |swap| swap.0);
        let hardening = Hardening {
            firewall,
            ssh: on(items.ssh),
            updates,
            swap,
            time: on(items.time),
            logs: on(items.logs),
            kernel: on(items.kernel),
        };
        (hardening, on(items.sandbox))
    }

    fn firewall(&mut self, items: FirewallMap) -> Firewall {
        let mut firewall = Firewall::default();
        for (index, text) in items.allow.unwrap_or_default().iter().enumerate() {
            let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            match (ports(number), protocol) {
                (Some(ports), "tcp") => firewall.tcp.push(ports),
                (Some(ports), "udp") => firewall.udp.push(ports),
                (_, _) => self.value(
                    &["hardening", "firewall", "allow", &index.to_string()],
                    format!("`{text}` is not a port"),
                    ["such as 8443, 8000-8010 or 51820/udp".to_owned()],
                ),
            }
        }
        for (index, name) in items.interfaces.unwrap_or_default().into_iter().enumerate() {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*');
            if name.is_empty() || name.len() > 15 || !name.chars().all(good) {
                let path = ["hardening", "firewall", "interfaces", &index.to_string()];
                self.value(&path, format!("`{name}` is not the name of a network interface"), []);
            }
            firewall.interfaces.push(name);
        }
        firewall
    }

    /// What one process may do.
    pub(super) fn limits(&mut self, path: &[&str], written: LimitsSpec, may: May) -> Limits {
        let at = |key| path.iter().copied().chain([key]).collect::<Vec<_>>();
        let memory_mb = written
            .memory
            .map(|memory| self.number(&at("memory"), Some(memory), memory, 16..=16_777_216, "MiB"));
        let network = written.network.unwrap_or_default();
        if network == Network::Local && !may.guarded {
            self.value(
                &at("network"),
                "the firewall keeps a process to its own server, and it is switched off",
                ["`network: off` needs no firewall".to_owned()],
            );
        }
        let sandbox = written.sandbox.map_or(may.locked, |switch| switch.0);
        if !sandbox && network == Network::Off {
            self.value(&at("network"), "only what is locked in can be without a network", []);
        }
        let writable = written.writable.unwrap_or_default();
        for (index, folder) in writable.iter().enumerate() {
            let bad =
                |c: char| c.is_control() || c.is_whitespace() || matches!(c, '%' | '"' | '\'' | '\\' | ':');
            if !folder.starts_with('/')
                || folder == "/"
                || folder.contains(bad)
                || folder.split('/').any(|part| part == "..")
            {
                let mut path = at("writable");
                let index = index.to_string();
                path.push(&index);
                self.value(&path, format!("`{folder}` is not the path of a folder"), []);
            }
        }
        Limits { memory_mb, network, sandbox, writable }
    }
}

fn is_time(text: &str) -> bool {
    let number = |text: &str, below| text.len() == 2 && text.parse::<u8>().is_ok_and(|number| number < below);
    text.split_once(':').is_some_and(|(hours, minutes)| number(hours, 24) && number(minutes, 60))
}

/// Reads `on`, `off` or a map.
struct SwitchOrMap<T> {
    expected: &'static str,
    made: std::marker::PhantomData<T>,
}

impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for SwitchOrMap<T> {
    type Value = (bool, T);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<Self::Value, E> {
        Ok((!on, T::default()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "on" | "yes" => Ok((false, T::default())),
            "off" | "no" => Ok((true, T::default())),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok((false, T::deserialize(de::value::MapAccessDeserializer::new(map))?))
    }
}

fn switch_or_map<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<(bool, T), D::Error> {
    deserializer.deserialize_any(SwitchOrMap { expected, made: std::marker::PhantomData })
}

impl<'de> Deserialize<'de> for HardeningSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (off, items) = switch_or_map(deserializer, "`off`, or a map such as `{firewall: off}`")?;
        Ok(Self { off, items })
    }
}

impl<'de> Deserialize<'de> for FirewallSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (off, items) = switch_or_map(deserializer, "`on`, `off`, or a map such as `{allow: [8443]}`")?;
        Ok(Self { off, items })
    }
}

impl<'de> Deserialize<'de> for UpdatesSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (off, items) =
            switch_or_map(deserializer, "`on`, `off`, or a map such as `{reboot: \"04:00\"}`")?;
        Ok(Self { off, items })
    }
}

impl<'de> Deserialize<'de> for SwapSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrNumber;
        impl Visitor<'_> for AutoOrNumber {
            type Value = SwapSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, `off`, or MiB from 64 to 65536")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<SwapSpec, E> {
                Ok(SwapSpec(if on { Swap::Auto } else { Swap::Off }))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SwapSpec, E> {
                match u32::try_from(number) {
                    Ok(number @ 64..=65536) => Ok(SwapSpec(Swap::Mb(number))),
                    Ok(_) | Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SwapSpec, E> {
                match text {
                    "auto" | "on" => Ok(SwapSpec(Swap::Auto)),
                    "off" => Ok(SwapSpec(Swap::Off)),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(AutoOrNumber)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Network;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`on`, `local` or `off`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Network, E> {
                Ok(if on { Network::On } else { Network::Off })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Network, E> {
                match text {
                    "on" => Ok(Network::On),
                    "local" => Ok(Network::Local),
                    "off" => Ok(Network::Off),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// `on`, `off`, or what `T` says.
fn switch_or<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let map = generator.subschema_for::<T>();
    json_schema!({"anyOf": [{"enum": ["on", "off", true, false]}, map], "default": "on"})
}

impl JsonSchema for HardeningSpec {
    fn schema_name() -> Cow<'static, str> {
        "Hardening".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        switch_or::<HardeningMap>(generator)
    }
}

impl JsonSchema for FirewallSpec {
    fn schema_name() -> Cow<'static, str> {
        "Firewall".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        switch_or::<FirewallMap>(generator)
    }
}

impl JsonSchema for UpdatesSpec {
    fn schema_name() -> Cow<'static, str> {
        "Updates".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        switch_or::<UpdatesMap>(generator)
    }
}

impl JsonSchema for SwapSpec {
    fn schema_name() -> Cow<'static, str> {
        "Swap".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"enum": ["auto", "on", "off", true, false]}, {"type": "integer", "minimum": 64, "maximum": 65536}],
            "default": "auto",
        })
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["on", "local", "off", true, false], "default": "on"})
    }
}

/// A port as editors should take it: a number too, since the typed text is what counts.
struct PortText;

impl JsonSchema for PortText {
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "pattern": r"^[0-9]+(-[0-9]+)?(/(tcp|udp))?$", "examples": [8443, "51820/udp"]})
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Defaults, load};
    use super::*;
    use crate::project::{Tree, detect};

    fn config(yaml: &str) -> Result<Config, String> {
        let files = [
            ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'a.settings') # django"),
            ("a/settings.py", ""),
            ("a/wsgi.py", ""),
            ("requirements.txt", "Django"),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        let text = format!("server: {{provider: vagrant}}\n{yaml}\n");
        let defaults = Defaults { folder_name: "a", playbooks: &[] };
        load("ship.yml", &text, None, &detect(&Tree::from_map(files)), &defaults).map_err(|error| {
            error.problems().iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
        })
    }

    #[test]
    fn all_is_on_until_something_is_said() {
        let hardening = |yaml| config(yaml).unwrap().hardening;
        assert_eq!(hardening(""), Hardening::default());
        assert_eq!(hardening("hardening: on"), Hardening::default());
        assert_eq!(hardening("hardening: {ssh: on}"), Hardening::default());
        let off = hardening("hardening: off");
        assert!(off.firewall.is_none() && off.updates.is_none() && off.swap == Swap::Off);
        assert!(!(off.ssh || off.time || off.logs || off.kernel));
        assert!(!config("hardening: off").unwrap().web.limits.sandbox);
        let some = hardening(
            "hardening: {firewall: {allow: [8443, 5000-5010, 53/udp, 25/tcp], interfaces: [wg0]}, updates: {reboot: \"04:00\"}, swap: 512}",
        );
        let firewall = Firewall {
            tcp: vec!["8443".into(), "5000-5010".into(), "25".into()],
            udp: vec!["53".into()],
            interfaces: vec!["wg0".into()],
        };
        assert_eq!((some.firewall, some.swap), (Some(firewall), Swap::Mb(512)));
        assert_eq!(some.updates, Some(Updates { reboot: Some("04:00".into()) }));
        assert_eq!(hardening("hardening: {updates: {reboot: off}}").updates, Some(Updates::default()));
    }

    #[test]
    fn each_process_has_limits_of_its_own() {
        let yaml = "hardening: {sandbox: off}\nprocesses: {web: {memory: 600}, a: x, b: {command: y, network: local, sandbox: on, writable: [/var/x]}}\n\
                    schedule: {c: {command: z, at: daily, network: off, sandbox: on}}";
        let config = config(yaml).unwrap();
        assert_eq!((config.web.limits.memory_mb, config.web.limits.sandbox), (Some(600), false));
        assert_eq!(config.workers["a"].limits, Limits { sandbox: false, ..Limits::default() });
        let own = Limits {
            memory_mb: None,
            network: Network::Local,
            sandbox: true,
            writable: vec!["/var/x".into()],
        };
        assert_eq!(config.workers["b"].limits, own);
        assert_eq!(config.jobs["c"].limits.network, Network::Off);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for (yaml, expected) in [
            (
                "hardening: {firewal: off}",
                "`hardening`: unknown field `firewal`, expected one of `firewall`, `ssh`, `updates`, `swap`, `time`, `logs`, `kernel`, `sandbox`",
            ),
            ("hardening: {firewall: {allow: [0]}}", "`hardening.firewall.allow[0]`: `0` is not a port"),
            ("hardening: {firewall: {allow: [9-8]}}", "`hardening.firewall.allow[0]`: `9-8` is not a port"),
            (
                "hardening: {firewall: {allow: [53/icmp]}}",
                "`hardening.firewall.allow[0]`: `53/icmp` is not a port",
            ),
            (
                "hardening: {firewall: {interfaces: ['a\" accept']}}",
                "`hardening.firewall.interfaces[0]`: `a\" accept` is not the name of a network interface",
            ),
            ("hardening: {updates: {reboot: 4}}", "`hardening.updates.reboot`: `4` is not a time of the day"),
            (
                "hardening: {swap: lots}",
                "`hardening.swap`: expected `auto`, `off`, or MiB from 64 to 65536, found the text `lots`",
            ),
            (
                "processes: {web: {network: some}}",
                "`processes.web.network`: expected `on`, `local` or `off`, found the text `some`",
            ),
            (
                "hardening: {firewall: off}\nprocesses: {a: {command: x, network: local}}",
                "`processes.a.network`: the firewall keeps a process to its own server, and it is switched off",
            ),
            (
                "processes: {a: {command: x, network: off, sandbox: off}}",
                "`processes.a.network`: only what is locked in can be without a network",
            ),
            (
                "processes: {a: {command: x, memory: 1}}",
                "`processes.a.memory`: 1 is not from 16 to 16777216 MiB",
            ),
            (
                "processes: {a: {command: x, writable: [/a/../b]}}",
                "`processes.a.writable[0]`: `/a/../b` is not the path of a folder",
            ),
            ("port: 80", "`port`: ports below 1024 are the system's"),
            ("rate_limit: 0", "`rate_limit`: 0 is not from 1 to 100000 requests a second"),
        ] {
            assert_eq!(config(yaml).map(drop), Err(expected.to_owned()), "{yaml}");
        }
    }
}
