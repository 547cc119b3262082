//! The documentation against what it speaks of: command lines as ship reads and runs them, links, pieces of ship.yml,
//! docs/reference.md against the program, docs/server.md against the playbooks and a server, docs/failures.md against the
//! messages.

mod blocks;
mod links;
mod reference;
mod run;

use std::path::Path;

use clap::Parser as _;

use crate::boxes::TestBox;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The paths of the page's tables, as they stand there.
fn paths() -> Vec<String> {
    let page = root().join("docs/server.md");
    let text = std::fs::read_to_string(page).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `/"));
    rows.map(|row| format!("/{}", row.split('`').next().unwrap())).collect()
}

/// Whether a path of the page stands for a path of a server.
fn names(written: &str, path: &str) -> bool {
    let (written, below) = match written.strip_suffix("/…") {
        Some(folder) => (folder, true),
        None => (written, false),
    };
    let mut pattern = written.replace("APP", "library");
    for word in ["vN", "HASH", "NAME", "ID"] {
        pattern = pattern.replace(word, "*");
    }
    let (mut parts, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (parts.next(), found.next()) {
            (None, None) => return true,
            (None, Some(_)) => return below,
            (Some(part), Some(name)) if fits(part, name) => {}
            (Some(_), _) => return false,
        }
    }
}

/// Whether a name fits a part with stars.
fn fits(part: &str, name: &str) -> bool {
    match part.split_once('*') {
        None => part == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && fits(after, &rest[at..]))
        }),
    }
}

#[test]
fn the_page_names_what_the_playbooks_make() {
    let named = paths();
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("playbooks")).unwrap() {
        let path = entry.unwrap().path();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let kinds = ["- file: ", "- directory: ", "- link: ", "- absent: "];
            let Some(made) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else { continue };
            for made in made.trim_matches(['[', ']']).split(", ") {
                let made = made
                    .trim_matches('"')
                    .replace("{{ app }}", "library")
                    .replace("{{ home }}", "/srv/library")
                    .replace("{{ item }}", "502")
                    .replace("{{ item.name }}", "name")
                    .replace("{{ item.unit }}", "srv-library-shared.mount");
                assert!(
                    named.iter().any(|name| names(name, &made)) || folder_of_some(&named, &made),
                    "{}: docs/server.md lacks {made}",
                    path.display()
                );
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

/// Whether the page names every file of ship's on a server that has been deployed to.
pub fn names_all_of(server: &TestBox) {
    let found = server.exec(
        "find /etc/ship /var/lib/ship /var/backups/ship /var/cache/ship /opt/ship /srv -mindepth 1 -xdev \
           -not -path '/srv/*/releases/*/*' -not -path '*/venvs/*/*' -not -path '/opt/ship/*/*'; \
         find /etc/systemd/system /etc/nginx/conf.d /etc/nginx/sites-available /etc/nginx/sites-enabled /var/log/nginx \
           -name '*library*' -not -path '*.wants/*'; ls -d /etc/nginx/conf.d/ship*",
    );
    let named = paths();
    let missing: Vec<&str> = found
        .lines()
        .filter(|path| !named.iter().any(|name| names(name, path)) && !folder_of_some(&named, path))
        .collect();
    assert!(missing.is_empty(), "docs/server.md lacks {missing:#?}");
}

/// Whether a folder only holds what is named: it needs no line of its own.
fn folder_of_some(named: &[String], folder: &str) -> bool {
    let depth = folder.split('/').count();
    named.iter().any(|name| {
        let parts: Vec<&str> = name.trim_end_matches("/…").split('/').collect();
        parts.len() > depth && names(&parts[..depth].join("/"), folder)
    })
}

#[test]
fn paths_of_the_page_stand_for_paths() {
    assert!(names("/etc/ship/APP/vN.env", "/etc/ship/library/v12.env"));
    assert!(!names("/etc/ship/APP/vN.env", "/etc/ship/library/other/v12.env"));
    assert!(names("/etc/systemd/system/APP-job-NAME.timer", "/etc/systemd/system/library-job-nightly.timer"));
    assert!(names("/opt/ship/uv/…", "/opt/ship/uv/bin/uv") && names("/opt/ship/uv/…", "/opt/ship/uv"));
    assert!(!names("/srv/APP", "/srv/other") && !names("/srv/APP", "/srv/library/x"));
}

/// A line without what the shell does with the output.
fn own_part(line: &str) -> &str {
    let mut quote = None;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, ';' | '>' | '<' | '|' | '&') => return &line[..at],
            (Some(_), _) | (None, _) => {}
        }
    }
    line
}

#[test]
fn the_documentation_s_command_lines_are_read() {
    let mut count = 0;
    for block in blocks::blocks() {
        for line in block.commands().filter(|line| line.starts_with("ship ")) {
            let words = shlex::split(own_part(line)).unwrap_or_else(|| panic!("{}: {line}", block.page));
            if let Err(error) = ship::cli::Cli::try_parse_from(words) {
                panic!("{}: {line}\n{error}", block.page);
            }
            count += 1;
        }
    }
    assert!(count > 150, "only {count} command lines were found");
}

/// All texts below a folder.
fn texts(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, into);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            into.push_str(&text);
        }
    }
}

#[test]
fn the_failures_that_are_explained_are_those_that_ship_tells() {
    let mut sources = String::new();
    for folder in ["src", "templates", "playbooks"] {
        texts(&root().join(folder), &mut sources);
    }
    let page = std::fs::read_to_string(root().join("docs/failures.md")).unwrap();
    let mut count = 0;
    for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let message = row.split('`').next().unwrap();
        // Between what stands for a name or a number.
        let mut pieces = vec![String::new()];
        for word in message.split(' ') {
            if word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == ':') {
                pieces.push(String::new());
            } else {
                let piece = pieces.last_mut().unwrap();
                *piece = format!("{piece} {word}").trim_start().to_owned();
            }
        }
        for piece in pieces
            .iter()
            .filter(|piece| piece.len() > 5 && !piece.contains(":LINE") && !piece.contains(":PORT"))
        {
            assert!(sources.contains(piece.as_str()), "nobody says {piece:?}");
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}
