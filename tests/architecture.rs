//! The invariants of ARCHITECTURE.md, checked against the sources themselves.

use std::path::{Path, PathBuf};

/// Files and folders whose code is pure, and what they must not name.
const PURE: [&str; 33] = [
    "diagnosis.rs",
    "heroku.rs",
    "cloud.rs",
    "config",
    "config.rs",
    "process",
    "process.rs",
    "dns/mod.rs",
    "dns/records",
    "dns/records.rs",
    "dns/zones.rs",
    "project",
    "project.rs",
    "playbook.rs",
    "providers/digitalocean/api.rs",
    "providers/digitalocean/rules.rs",
    "providers/digitalocean/scopes.rs",
    "providers/digitalocean/tags.rs",
    "resources",
    "facts",
    "plan",
    "plan.rs",
    "release.rs",
    "release",
    "guard.rs",
    "human.rs",
    "apply.rs",
    "tree.rs",
    "shell.rs",
    "tls",
    "tls.rs",
    "dotenv.rs",
    "table.rs",
];
const IMPURE: [&str; 12] = [
    "tokio",
    "russh",
    "reqwest",
    "aws_c",
    "aws_s",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "SystemTime",
    "Instant",
    "Timestamp::now",
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every source file with the part of it that isn't tests.
fn product() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&top, &mut paths);
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(&top).unwrap().to_str().unwrap().to_string();
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_string();
        (name, code)
    };
    paths.iter().map(read).filter(|(name, _)| !name.ends_with("tests.rs")).collect()
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn pure_modules_do_no_io() {
    let mut found = Vec::new();
    for (name, text) in product() {
        if !PURE.iter().any(|pure| name == *pure || name.starts_with(&format!("{pure}/"))) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            found.extend(
                IMPURE
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| format!("src/{name}:{} uses {word}", number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "pure modules do IO:\n{}", found.join("\n"));
}

/// Libraries that one place alone may know, so that they can be replaced there.
#[test]
fn libraries_are_wrapped() {
    let rules: [(&str, &[&str]); 13] = [
        ("russh", &["transport/ssh"]),
        ("serde_yaml", &["config/", "playbook.rs"]),
        ("indicatif", &["ui.rs"]),
        ("shlex", &["shell.rs"]),
        ("aws_config", &["aws", "providers/ec2", "dns/route53.rs"]),
        ("aws_sdk_ec2", &["aws", "providers/ec2"]),
        ("aws_sdk_route53", &["dns/route53.rs"]),
        ("reqwest", &["providers/digitalocean/client"]),
        ("backon", &["providers/digitalocean/client"]),
        ("psl", &["dns/zones.rs"]),
        ("hickory_proto", &["dns/resolve"]),
        ("x509_parser", &["tls/x509.rs"]),
        ("rustls", &["tls/x509.rs"]),
    ];
    let mut found = Vec::new();
    for (name, text) in product() {
        for (library, places) in rules {
            let uses = code_lines(&text).any(|(_, line)| line.contains(&format!("{library}::")));
            if uses && !places.iter().any(|place| name.starts_with(place)) {
                found.push(format!("src/{name} uses {library}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<String> =
        product().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "no `//!` at the top of {}", silent.join(", "));
}
