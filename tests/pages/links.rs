//! Links between the pages, and the pieces of `ship.yml` on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ship::config::{self, Defaults};
use ship::playbook::{self, Templates, Vars};
use ship::project::{Tree, detect};

use super::blocks::{blocks, pages, pieces};

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    heading.trim().to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let (mut found, mut fenced) = (BTreeSet::new(), false);
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if !fenced && line.starts_with('#') {
            let anchor = anchor(line.trim_start_matches('#'));
            // A second one of that name gets a number.
            let numbered = (1..).map(|number| format!("{anchor}-{number}"));
            let free = std::iter::once(anchor.clone()).chain(numbered).find(|name| !found.contains(name));
            found.extend(free);
        }
    }
    found
}

/// Where the links of a page lead.
fn links(text: &str) -> Vec<String> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if fenced || line.starts_with("    ") {
            continue;
        }
        found.extend(line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned));
    }
    found
}

/// A link's path from the repository's root.
fn below(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_link_leads_somewhere() {
    let pages: BTreeMap<String, String> = pages().into_iter().collect();
    let (mut broken, mut count) = (Vec::new(), 0);
    for (page, text) in &pages {
        for link in links(text).into_iter().filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = page.rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default();
            let target = if file.is_empty() { page.clone() } else { below(folder, file) };
            let there = super::root().join(&target).exists();
            let has = |text: &String| anchors(text).contains(anchor);
            if !there || !anchor.is_empty() && !pages.get(&target).is_some_and(has) {
                broken.push(format!("{page}: {link}"));
            }
            count += 1;
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(count > 60, "{count}");
}

#[test]
fn the_index_lists_every_page() {
    let pages: BTreeMap<String, String> = pages().into_iter().collect();
    let index = links(&pages["docs/README.md"]);
    let lacks: Vec<&String> = pages
        .keys()
        .filter(|page| page.starts_with("docs/") && *page != "docs/README.md")
        .filter(|page| !index.iter().any(|link| format!("docs/{link}") == **page))
        .collect();
    assert!(lacks.is_empty(), "docs/README.md lacks {lacks:?}");
    assert!(
        links(&pages["README.md"]).iter().any(|link| link == "docs/README.md"),
        "README.md doesn't name it"
    );
}

#[test]
fn every_piece_of_ship_yml_is_valid() {
    let files = [
        ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'library.settings') # django"),
        ("library/settings.py", ""),
        ("library/wsgi.py", ""),
        ("requirements.txt", "Django"),
        ("ops/memcached.yml", ""),
        ("ops/password.yml", ""),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let project = detect(&Tree::from_map(BTreeMap::from(files)));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (page, piece) in pieces() {
        // What the piece takes for granted.
        let mut text = piece.replace('…', "x");
        for (key, line) in [
            ("server:", "server: {provider: ssh, host: 203.0.113.7}\n"),
            ("domains:", "domains: [library.example.com]\n"),
        ] {
            if !piece.starts_with(key) {
                text.push_str(line);
            }
        }
        let defaults = Defaults { folder_name: "library", playbooks: &["redis"] };
        if let Err(error) = config::load("ship.yml", &text, None, &project, &defaults) {
            wrong.push(format!("{page}: {piece}{error}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 40, "{count}");
}

#[test]
fn every_playbook_is_read() {
    let templates = Arc::new(Templates::new([]).unwrap());
    let mut count = 0;
    for block in blocks().iter().filter(|block| block.lines[0].starts_with("# ops/")) {
        let read = playbook::resources(&block.page, &block.lines.join("\n"), &Vars::default(), &templates);
        let read = read.unwrap_or_else(|error| panic!("{}: {error}", block.page));
        assert!(!read.is_empty(), "{block:?}");
        count += 1;
    }
    assert!(count > 3, "{count}");
}

#[test]
fn anchors_are_those_of_the_hosts() {
    assert_eq!(anchor(" `ship db restore`"), "ship-db-restore");
    assert_eq!(anchor(" Keys of ship.yml"), "keys-of-shipyml");
    assert_eq!(anchors("# A\n## A\n"), BTreeSet::from(["a".to_owned(), "a-1".to_owned()]));
}
