//! The machine: operating system, processors, memory, free space, Python.

use std::collections::{BTreeMap, BTreeSet};

use crate::shell::Script;

use super::{FactError, key_values};

/// The machine and its operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Host {
    /// `ID` of os-release: `debian`, `ubuntu`.
    pub os: String,
    /// `VERSION_ID` of os-release: `12`, `24.04`.
    pub os_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_name: String,
    /// `uname -m`.
    pub arch: String,
    /// Processors that can be used.
    pub cores: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Free space of the file system that holds `/srv`, in MiB.
    pub free_mb: u64,
    /// Its size in MiB.
    pub disk_mb: u64,
    /// Memory that programs can still have, in MiB.
    pub available_mb: u64,
    /// Its inodes; `None` where the file system has no fixed number.
    pub inodes: Option<u64>,
    /// Free inodes of the same; `None` where the file system has no fixed number.
    pub free_inodes: Option<u64>,
    /// `3.11.2` if there is a `python3`.
    pub python: Option<String>,
    /// The Python that apt would install, `3.11`.
    pub python_candidate: Option<String>,
    /// The Pythons that uv has brought, `3.10`.
    pub managed_pythons: Vec<String>,
    /// Whether a reboot is due.
    pub reboot_required: bool,
    /// What can't be done here, and why.
    pub lacking: BTreeMap<Capability, String>,
    /// The ports that sshd listens on; empty if it can't say.
    pub ssh_ports: Vec<u16>,
    /// TCP ports that something listens on, not for this server alone.
    pub open_ports: BTreeSet<u16>,
    /// TCP ports that something listens on, at any address.
    pub taken_ports: BTreeSet<u16>,
}

/// What not every server can do: a container has no kernel of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Filtering packets.
    Firewall,
    /// Having swap of its own, where there is none.
    Swap,
    /// Setting the clock, where nothing else does.
    Clock,
    /// Setting the kernel's parameters.
    Kernel,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Firewall, Self::Swap, Self::Clock, Self::Kernel];

    /// As a playbook and ship.yml name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Swap => "swap",
            Self::Clock => "time",
            Self::Kernel => "kernel",
        }
    }
}

impl Host {
    /// Whether this is a system that the recipes are made for.
    pub fn is_supported(&self) -> bool {
        matches!(self.os.as_str(), "debian" | "ubuntu")
    }

    /// A server that is yet to be made from an image such as `debian-12`. `None` for images of other names.
    pub fn expected(image: &str, cores: u32, memory_mb: u64) -> Option<Self> {
        let (os, version) = image.split_once('-')?;
        let python = python_of(os, version)?;
        Some(Self {
            os: os.into(),
            os_version: version.into(),
            os_name: image.into(),
            cores,
            memory_mb,
            free_mb: u64::MAX >> 20,
            python_candidate: Some(python.into()),
            ..Self::default()
        })
    }

    /// Whether less than a tenth of the inodes is free.
    pub fn is_short_of_inodes(&self) -> bool {
        matches!((self.free_inodes, self.inodes), (Some(free), Some(total)) if free < total / 10)
    }

    /// Whether less than a tenth of the disk is free.
    pub fn is_short_of_disk(&self) -> bool {
        self.free_mb < self.disk_mb / 10
    }

    /// Memory after what the kernel and firmware keep, rounded to what the size was sold as, in MiB.
    pub fn nominal_memory_mb(&self) -> u64 {
        self.memory_mb.div_ceil(256) * 256
    }

    /// The host as templates see it: sized as it was sold, so that a new kernel's few KiB change no file.
    pub fn nominal(&self) -> Self {
        Self { memory_mb: self.nominal_memory_mb(), ..self.clone() }
    }
}

/// Asks for [`Host`].
pub fn script() -> Script {
    Script::from_text(
        r#"(
. /etc/os-release 2>/dev/null
printf 'os=%s\nos_version=%s\nos_name=%s\n' "${ID-}" "${VERSION_ID-}" "${PRETTY_NAME-}"
printf 'arch=%s\ncores=%s\n' "$(uname -m)" "$(nproc 2>/dev/null)"
while read -r key value _; do
  case "$key" in
  MemTotal:) printf 'memory_kb=%s\n' "$value" ;;
  MemAvailable:) printf 'available_kb=%s\n' "$value"; break ;;
  esac
done </proc/meminfo
top=/srv; [ -d $top ] || top=/
df -Pk $top 2>/dev/null | { read -r _; read -r _ total _ free _; printf 'disk_kb=%s\nfree_kb=%s\n' "$total" "$free"; }
df -Pi $top 2>/dev/null | { read -r _; read -r _ total _ free _; printf 'inodes=%s\nfree_inodes=%s\n' "$total" "$free"; }
printf 'python=%s\n' "$(python3 -V 2>/dev/null)"
printf 'managed_pythons=%s\n' "$(cd /opt/ship/python 2>/dev/null && ls -d 3.* 2>/dev/null | tr '\n' ' ')"
[ ! -e /run/reboot-required ] || printf 'reboot_required=1\n'
case $(systemd-detect-virt --container 2>/dev/null) in ''|none) contained= ;; *) contained=1 ;; esac
while read -r key value; do
  [ "$key" != CapEff: ] || [ $((0x$value >> 12 & 1)) = 1 ] || printf 'lacking_firewall=this container may not filter packets\n'
done </proc/self/status
swaps=$(while read -r file _; do [ "$file" = Filename ] || printf '%s ' "$file"; done </proc/swaps 2>/dev/null)
case $swaps in
'/var/lib/ship/swap ') ;;
'') [ -z "$contained" ] || printf 'lacking_swap=a container has the swap of its host\n' ;;
*) printf 'lacking_swap=the server has swap already\n' ;;
esac
if [ -n "$contained" ]; then printf 'lacking_time=a container has the clock of its host\n'
else
  for keeper in chronyd ntpd ntpsec openntpd; do
    if command -v $keeper >/dev/null; then printf 'lacking_time=%s keeps it\n' $keeper; break; fi
  done
fi
[ -w /proc/sys/kernel/dmesg_restrict ] || printf 'lacking_kernel=the kernel is not of this container alone\n'
printf 'ssh_ports=%s\n' "$(sshd -T 2>/dev/null | sed -n 's/^port //p' | tr '\n' ' ')"
printf 'listening=%s\n' "$(awk '$4 == "0A" { printf "%s ", $2 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)"
)
"#,
    )
}

/// Reads what [`script`] printed.
pub fn parse(body: &str) -> Result<Host, FactError> {
    let map = key_values(body);
    let text = |key: &str| map.get(key).map(|value| (*value).to_string()).unwrap_or_default();
    let number = |key: &str| -> Result<u64, FactError> {
        let value = text(key);
        value.parse().map_err(|_| FactError::new("host", format!("{key} is `{value}`")))
    };
    // btrfs and the like say 0 of 0.
    let inodes = number("inodes").ok().filter(|total| *total > 0);
    let os = text("os");
    let os_version = text("os_version");
    Ok(Host {
        python_candidate: python_of(&os, &os_version).map(str::to_string),
        os,
        os_version,
        os_name: text("os_name"),
        arch: text("arch"),
        cores: u32::try_from(number("cores").unwrap_or(1)).unwrap_or(1).max(1),
        memory_mb: number("memory_kb")? / 1024,
        free_mb: number("free_kb").unwrap_or(u64::MAX) / 1024,
        disk_mb: number("disk_kb").unwrap_or(0) / 1024,
        available_mb: number("available_kb").unwrap_or(0) / 1024,
        inodes,
        free_inodes: inodes.and_then(|_| number("free_inodes").ok()),
        python: text("python").strip_prefix("Python ").map(str::to_string),
        managed_pythons: text("managed_pythons").split_whitespace().map(str::to_string).collect(),
        reboot_required: map.contains_key("reboot_required"),
        lacking: Capability::ALL
            .into_iter()
            .filter_map(|one| {
                Some((one, (*map.get(format!("lacking_{}", one.name()).as_str())?).to_string()))
            })
            .collect(),
        ssh_ports: text("ssh_ports").split_whitespace().filter_map(|port| port.parse().ok()).collect(),
        open_ports: listening(&text("listening")).filter(|(_, local)| !local).map(|(port, _)| port).collect(),
        taken_ports: listening(&text("listening")).map(|(port, _)| port).collect(),
    })
}

/// Ports of the kernel's list of sockets, `0100007F:1F40`, and whether each is for this server alone.
fn listening(text: &str) -> impl Iterator<Item = (u16, bool)> {
    text.split_whitespace().filter_map(|socket| {
        let (address, port) = socket.split_once(':')?;
        // In the processor's byte order: 127.x.x.x ends with 7F, ::1 with 01000000.
        let v4 = address.len() == 8 && address.ends_with("7F");
        let v6 = address == "00000000000000000000000001000000";
        let mapped =
            address.len() == 32 && address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F");
        Some((u16::from_str_radix(port, 16).ok()?, v4 || v6 || mapped))
    })
}

/// The `python3` of a release, by the distribution's own package lists.
fn python_of(os: &str, version: &str) -> Option<&'static str> {
    match (os, version) {
        ("debian", "11") => Some("3.9"),
        ("debian", "12") => Some("3.11"),
        ("debian", "13") => Some("3.13"),
        ("ubuntu", "22.04") => Some("3.10"),
        ("ubuntu", "24.04") => Some("3.12"),
        ("ubuntu", "25.10") => Some("3.13"),
        ("ubuntu", "26.04") => Some("3.14"),
        _ => None,
    }
}
