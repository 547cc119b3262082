//! Host keys and the known_hosts format: which lines speak of a host, and what they say of a key.
//!
//! Pure. A line that can't be understood is skipped, as OpenSSH does; `@cert-authority` lines are skipped too,
//! since ship never asks for host certificates.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A server's public key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostKey {
    /// The key's type: `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`…
    pub algorithm: String,
    /// The key as it travels (RFC 4253, 6.6).
    pub blob: Vec<u8>,
}

impl HostKey {
    /// Reads `TYPE BASE64 [comment]`, a line of a `.pub` file. `None` if it isn't one.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let algorithm = words.next()?;
        let blob = STANDARD.decode(words.next()?).ok()?;
        // The blob starts with its own type, length first; a line whose two types differ is damaged.
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let inner = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        (inner == algorithm.as_bytes()).then(|| Self { algorithm: algorithm.to_owned(), blob: blob.clone() })
    }

    /// An Ed25519 key from its 32 bytes in hex, as tags hold it. `None` if it isn't one.
    pub fn from_ed25519_hex(hex: &str) -> Option<Self> {
        let digits = hex.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).ok());
        let key = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()?;
        if hex.len() != 64 || key.len() != 32 {
            return None;
        }
        let name = b"ssh-ed25519";
        let mut blob = Vec::with_capacity(51);
        for part in [name.as_slice(), &key] {
            blob.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
            blob.extend_from_slice(part);
        }
        Some(Self { algorithm: "ssh-ed25519".to_owned(), blob })
    }

    /// The 32 bytes of an Ed25519 key in lower-case hex. `None` for other types.
    pub fn ed25519_hex(&self) -> Option<String> {
        let key = self.blob.get(19..).filter(|key| self.algorithm == "ssh-ed25519" && key.len() == 32)?;
        Some(key.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The fingerprint as `ssh-keygen -l` prints it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }
}

/// A known_hosts file that was read.
#[derive(Debug, Clone)]
pub struct KnownHostsFile {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// A line of a file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// What the files say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A line records this key for this host.
    Known,
    /// No line speaks of this host.
    Unknown,
    /// Lines speak of this host, and all record other keys.
    Changed {
        /// The line that disagrees: one of the same type if there is one.
        place: Place,
        /// What it records.
        recorded: HostKey,
    },
    /// A `@revoked` line names this key.
    Revoked {
        /// The line.
        place: Place,
    },
}

/// The name under which known_hosts records a host: `host`, or `[host]:port` for a port other than 22.
pub fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// The line that pins a key.
pub fn pin_line(host: &str, port: u16, key: &HostKey) -> String {
    format!("{} {key}\n", lookup_name(host, port))
}

/// Judges `key`, shown by `host` on `port`. Revocation in any file wins over a record in any other.
pub fn check(files: &[KnownHostsFile], host: &str, port: u16, key: &HostKey) -> Verdict {
    let entries = matching(files, &lookup_name(host, port));
    if let Some(entry) = entries.iter().find(|entry| entry.revoked && entry.key == *key) {
        return Verdict::Revoked { place: entry.place.clone() };
    }
    let recorded: Vec<&Entry> = entries.iter().filter(|entry| !entry.revoked).collect();
    if recorded.iter().any(|entry| entry.key == *key) {
        return Verdict::Known;
    }
    let other =
        recorded.iter().find(|entry| entry.key.algorithm == key.algorithm).or_else(|| recorded.first());
    match other {
        Some(entry) => Verdict::Changed { place: entry.place.clone(), recorded: entry.key.clone() },
        None if port == 22 => Verdict::Unknown,
        // As OpenSSH does: a key recorded for the host without a port is good on its other ports.
        None => match check(files, host, 22, key) {
            Verdict::Known => Verdict::Known,
            Verdict::Revoked { place } => Verdict::Revoked { place },
            Verdict::Unknown | Verdict::Changed { .. } => Verdict::Unknown,
        },
    }
}

/// The keys recorded for a host: the server is asked for one of these types first.
pub fn recorded(files: &[KnownHostsFile], host: &str, port: u16) -> Vec<HostKey> {
    let mut entries = matching(files, &lookup_name(host, port));
    if port != 22 && !entries.iter().any(|entry| !entry.revoked) {
        entries = matching(files, &lookup_name(host, 22));
    }
    entries.into_iter().filter(|entry| !entry.revoked).map(|entry| entry.key).collect()
}

struct Entry {
    revoked: bool,
    key: HostKey,
    place: Place,
}

fn matching(files: &[KnownHostsFile], name: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            if let Some((revoked, key)) = read_line(line, name) {
                entries.push(Entry { revoked, key, place: place(&file.path, index) });
            }
        }
    }
    entries
}

fn place(path: &Path, index: usize) -> Place {
    Place { path: path.to_owned(), line: index + 1 }
}

/// The key of a line that speaks of `name`, and whether it is revoked.
fn read_line(line: &str, name: &str) -> Option<(bool, HostKey)> {
    let line = line.trim();
    let (revoked, rest) = match line.strip_prefix('@') {
        Some(marked) => (true, marked.strip_prefix("revoked")?.strip_prefix([' ', '\t'])?.trim_start()),
        None => (false, line),
    };
    let (hosts, key) = rest.split_once([' ', '\t'])?;
    if hosts.starts_with('#') || !host_matches(hosts, name) {
        return None;
    }
    Some((revoked, HostKey::parse(key)?))
}

fn host_matches(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return hash_matches(hashed, name).unwrap_or(false);
    }
    let mut matched = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if glob(negated, name) => return false,
            Some(_) => {}
            None => matched |= glob(pattern, name),
        }
    }
    matched
}

fn hash_matches(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&STANDARD.decode(salt).ok()?).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&STANDARD.decode(hash).ok()?).is_ok())
}

/// Matches `*` and `?`, letter case aside. Brackets are ordinary characters here.
pub(super) fn glob(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.to_ascii_lowercase().chars().collect();
    let name: Vec<char> = name.to_ascii_lowercase().chars().collect();
    // One row of the usual table: reachable[i] = the pattern so far matches the first i characters.
    let mut reachable = vec![false; name.len() + 1];
    if let Some(start) = reachable.first_mut() {
        *start = true;
    }
    for token in pattern {
        let mut next = vec![false; reachable.len()];
        let mut seen = false;
        for (index, slot) in next.iter_mut().enumerate() {
            let here = reachable.get(index).copied().unwrap_or(false);
            let before = index.checked_sub(1);
            let step = before.and_then(|i| reachable.get(i)).copied().unwrap_or(false);
            seen |= here;
            *slot = match token {
                '*' => seen,
                '?' => step,
                letter => step && before.and_then(|i| name.get(i)) == Some(&letter),
            };
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    // ssh-keygen's own output, so that the formats are OpenSSH's and not this module's idea of them.
    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFohzKT0qwcEaOEBCp62p/PBjvLPfzRLLvcyTMP82SCL";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKamxmH9P+S4JndY8IKhFWlREKwt4y1niuzq7eAybSIA";

    fn ecdsa() -> String {
        let mut blob = vec![0, 0, 0, 19];
        blob.extend_from_slice(b"ecdsa-sha2-nistp256");
        blob.extend_from_slice(&[7; 80]);
        format!("ecdsa-sha2-nistp256 {}", STANDARD.encode(blob))
    }

    fn hashed(name: &str) -> String {
        let salt = [9; 20];
        let mut mac = Hmac::<Sha1>::new_from_slice(&salt).unwrap();
        mac.update(name.as_bytes());
        format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn files(text: &str) -> Vec<KnownHostsFile> {
        vec![KnownHostsFile { path: "kh".into(), text: text.to_owned() }]
    }

    fn verdict(text: &str, host: &str, port: u16) -> String {
        match check(&files(text), host, port, &HostKey::parse(A).unwrap()) {
            Verdict::Known => "known".into(),
            Verdict::Unknown => "unknown".into(),
            Verdict::Changed { place, recorded } => format!("changed {place} {}", recorded.algorithm),
            Verdict::Revoked { place } => format!("revoked {place}"),
        }
    }

    #[test]
    fn the_matching_table() {
        let ecdsa = ecdsa();
        let hash = hashed("h.example");
        let hash_port = hashed("[h.example]:2222");
        let table: &[(&str, String, &str, u16, &str)] = &[
            ("plain", format!("h.example {A}"), "h.example", 22, "known"),
            ("upper case", format!("H.Example {A}"), "h.EXAMPLE", 22, "known"),
            ("a comment after", format!("h.example {A} me@laptop # x"), "h.example", 22, "known"),
            (
                "tabs and indentation",
                format!("  h.example\t{}", A.replace(' ', "\t")),
                "h.example",
                22,
                "known",
            ),
            ("a list", format!("x,h.example,10.0.0.1 {A}"), "10.0.0.1", 22, "known"),
            ("another host", format!("g.example {A}"), "h.example", 22, "unknown"),
            ("no prefix match", format!("h.example.org {A}"), "h.example", 22, "unknown"),
            ("a commented line", format!("# h.example {A}\n#h.example {A}"), "h.example", 22, "unknown"),
            ("changed", format!("\nh.example {B}"), "h.example", 22, "changed kh:2 ssh-ed25519"),
            ("one of two", format!("h.example {B}\nh.example {A}"), "h.example", 22, "known"),
            (
                "other type only",
                format!("h.example {ecdsa}"),
                "h.example",
                22,
                "changed kh:1 ecdsa-sha2-nistp256",
            ),
            (
                "same type named",
                format!("h.example {ecdsa}\nh.example {B}"),
                "h.example",
                22,
                "changed kh:2 ssh-ed25519",
            ),
            ("star", format!("*.example {A}"), "h.example", 22, "known"),
            ("question mark", format!("?.example {A}"), "h.example", 22, "known"),
            ("question mark is one", format!("?.example {A}"), "hh.example", 22, "unknown"),
            ("negated", format!("*.example,!h.example {A}"), "h.example", 22, "unknown"),
            ("negated first", format!("!h.example,*.example {A}"), "h.example", 22, "unknown"),
            ("negation of another", format!("*.example,!g.example {A}"), "h.example", 22, "known"),
            ("negation alone", format!("!g.example {A}"), "h.example", 22, "unknown"),
            ("a port", format!("[h.example]:2222 {A}"), "h.example", 2222, "known"),
            ("a port is not 22", format!("[h.example]:2222 {A}"), "h.example", 22, "unknown"),
            ("any port", format!("[h.example]:* {A}"), "h.example", 2222, "known"),
            ("22 speaks for others", format!("h.example {A}"), "h.example", 2222, "known"),
            ("but does not accuse", format!("h.example {B}"), "h.example", 2222, "unknown"),
            ("IPv6", format!("[::1]:2222 {A}"), "::1", 2222, "known"),
            ("hashed", format!("{hash} {A}"), "h.example", 22, "known"),
            ("hashed, changed", format!("{hash} {B}"), "h.example", 22, "changed kh:1 ssh-ed25519"),
            ("hashed, other host", format!("{hash} {A}"), "g.example", 22, "unknown"),
            ("hashed with port", format!("{hash_port} {A}"), "h.example", 2222, "known"),
            ("hash damaged", format!("|1|@@|zz {A}"), "h.example", 22, "unknown"),
            ("revoked", format!("@revoked h.example {A}"), "h.example", 22, "revoked kh:1"),
            ("revoked everywhere", format!("h.example {A}\n@revoked * {A}"), "h.example", 22, "revoked kh:2"),
            ("revoked, tab", format!("@revoked\t*\t{A}"), "h.example", 22, "revoked kh:1"),
            ("revoked on another port", format!("@revoked h.example {A}"), "h.example", 2222, "revoked kh:1"),
            ("another key revoked", format!("@revoked * {B}\nh.example {A}"), "h.example", 22, "known"),
            ("revoked is no record", format!("@revoked * {B}"), "h.example", 22, "unknown"),
            ("revoked elsewhere", format!("@revoked g.example {A}\nh.example {A}"), "h.example", 22, "known"),
            ("authority skipped", format!("@cert-authority * {A}"), "h.example", 22, "unknown"),
            ("unknown marker skipped", format!("@whatever * {A}"), "h.example", 22, "unknown"),
            (
                "garbage",
                "h.example\nh.example x\nh.example ssh-ed25519 ???".into(),
                "h.example",
                22,
                "unknown",
            ),
            (
                "type and blob differ",
                format!("h.example {}", A.replace("ssh-ed25519", "ssh-rsa")),
                "h.example",
                22,
                "unknown",
            ),
        ];
        let wrong: Vec<String> = table
            .iter()
            .filter_map(|(what, text, host, port, expect)| {
                let got = verdict(text, host, *port);
                (got != *expect).then(|| format!("{what}: {got}, not {expect}"))
            })
            .collect();
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn openssh_hashes_match() {
        // What `ssh-keygen -H` made of "h.example,[h.example]:2222", and `ssh-keygen -l` of the key.
        let plain = "|1|Sdn+6FDdQy+eCFw7TRT3ffmodcE=|if2plbh5Hyg55cBDcZ6bbZubOS0=";
        let port = "|1|YPpB57XUsttF/VR1un9t3un2VH0=|J50BvEOQh2WHKRJ4nmMKjns8HvE=";
        assert!(host_matches(plain, "h.example") && !host_matches(plain, "[h.example]:2222"));
        assert!(host_matches(port, "[h.example]:2222") && !host_matches(port, "h.example"));
        let fingerprint = HostKey::parse(A).unwrap().fingerprint();
        assert_eq!(fingerprint, "SHA256:qKdXnkkEnE2P7aXUGu5oJ+dPEmW4244l0bBsgvBRaxQ");
    }

    #[test]
    fn the_first_file_does_not_hide_the_second() {
        let key = HostKey::parse(A).unwrap();
        let mut both = files(&format!("h {B}"));
        both.push(KnownHostsFile { path: "pins".into(), text: format!("h {A}") });
        assert_eq!(check(&both, "h", 22, &key), Verdict::Known);
        assert_eq!(recorded(&both, "h", 22).len(), 2);
        both.push(KnownHostsFile { path: "system".into(), text: format!("@revoked * {A}") });
        let place = Place { path: "system".into(), line: 1 };
        assert_eq!(check(&both, "h", 22, &key), Verdict::Revoked { place });
    }

    #[test]
    fn a_pinned_line_is_known_again() {
        let key = HostKey::parse(A).unwrap();
        for (host, port) in [("h.example", 22), ("h.example", 2222), ("::1", 22), ("FE80::1", 22022)] {
            assert_eq!(check(&files(&pin_line(host, port, &key)), host, port, &key), Verdict::Known);
        }
        assert_eq!(pin_line("h", 2222, &key), format!("[h]:2222 {A}\n"));
        assert_eq!(key.fingerprint().len(), "SHA256:".len() + 43);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(?s).{0,200}", host in ".{0,20}", port: u16) {
            check(&files(&text), &host, port, &HostKey::parse(A).unwrap());
        }

        #[test]
        fn a_glob_matches_what_it_was_made_from(name in "[a-z.]{1,12}", at in 0usize..12) {
            let at = at.min(name.len());
            let (left, right) = name.split_at(at);
            let pattern = format!("{}*{}", left, right);
            proptest::prop_assert!(glob(&pattern, &name));
        }
    }
}
