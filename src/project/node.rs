//! A front end that node builds: `package.json` with a `build` script.
//!
//! Invariant: pure; without such a script a project has no front end, whatever else npm would do with it.

use super::{Tree, under};

/// Who installs the packages of a front end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// npm, which comes with Debian.
    Npm,
    /// yarn 1, run by npm.
    Yarn,
    /// pnpm, run by npm.
    Pnpm,
}

/// A front end to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The folder of `package.json`, relative to the project; `.` for the top.
    pub folder: String,
    /// Who installs its packages.
    pub manager: Manager,
    /// The lock file, relative to the project.
    pub lock: Option<String>,
}

impl Node {
    /// The command that installs the packages, as words.
    pub fn install(&self) -> &'static [&'static str] {
        match (self.manager, &self.lock) {
            (Manager::Npm, Some(_)) => &["npm", "ci", "--include=dev", "--no-audit", "--no-fund"],
            (Manager::Npm, None) => &["npm", "install", "--include=dev", "--no-audit", "--no-fund"],
            (Manager::Yarn, _) => &[
                "npm",
                "exec",
                "--yes",
                "--",
                "yarn@1",
                "install",
                "--frozen-lockfile",
                "--production=false",
            ],
            (Manager::Pnpm, _) => {
                &["npm", "exec", "--yes", "--", "pnpm@9", "install", "--frozen-lockfile", "--prod=false"]
            }
        }
    }

    /// The files that decide which packages these are.
    pub fn inputs(&self) -> Vec<String> {
        let own = [under(&self.folder, "package.json"), under(&self.folder, ".npmrc")];
        own.into_iter().chain(self.lock.clone()).collect()
    }

    /// What the plan calls it.
    pub fn shown(&self) -> String {
        let package = under(&self.folder, "package.json");
        self.lock.clone().unwrap_or(package)
    }
}

/// Looks for a front end in the folder of `manage.py`, those above it, and the usual ones beside it.
pub(super) fn find(tree: &Tree<'_>, root: &str) -> Option<Node> {
    let mut folders = vec![root.to_owned()];
    let mut above = root;
    while let Some((folder, _)) = above.rsplit_once('/') {
        folders.push(folder.to_owned());
        above = folder;
    }
    folders.push(".".to_owned());
    for name in ["frontend", "client", "assets", "theme/static_src"] {
        folders.push(under(root, name));
        folders.push(name.to_owned());
    }
    let builds = |folder: &String| {
        let path = under(folder, "package.json");
        let text = if tree.has(&path) { tree.text(&path) } else { None };
        let package: Option<serde_json::Value> = text.and_then(|text| serde_json::from_str(&text).ok());
        package.is_some_and(|package| {
            package.pointer("/scripts/build").is_some_and(serde_json::Value::is_string)
        })
    };
    let folder = folders.into_iter().find(builds)?;
    let lock = |name: &str| Some(under(&folder, name)).filter(|path| tree.has(path));
    let (manager, lock) =
        match (lock("package-lock.json").or_else(|| lock("npm-shrinkwrap.json")), lock("yarn.lock")) {
            (Some(npm), _) => (Manager::Npm, Some(npm)),
            // Only yarn 1 writes no `__metadata`; locks of later ones need the yarn that the project brings.
            (None, Some(yarn)) if tree.text(&yarn).is_some_and(|text| !text.contains("__metadata:")) => {
                (Manager::Yarn, Some(yarn))
            }
            (None, _) => match lock("pnpm-lock.yaml") {
                Some(pnpm) => (Manager::Pnpm, Some(pnpm)),
                None => (Manager::Npm, None),
            },
        };
    Some(Node { folder, manager, lock })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_ends() {
        let build = r#"{"scripts": {"build": "vite build"}}"#;
        let none = r#"{"scripts": {"test": "x"}}"#;
        let yarn = "# yarn lockfile v1\n";
        for (files, root, expected) in [
            (&[("package.json", build)][..], ".", ". npm install "),
            (&[("package.json", build), ("package-lock.json", "")], ".", ". npm ci package-lock.json"),
            (&[("package.json", none)], ".", ""),
            (&[("package.json", "{")], ".", ""),
            (&[("package.json", none), ("frontend/package.json", build)], ".", "frontend npm install "),
            (&[("package.json", build)], "site", ". npm install "),
            (&[("site/package.json", build), ("package.json", build)], "site", "site npm install "),
            (&[("site/frontend/package.json", build)], "site", "site/frontend npm install "),
            (&[("package.json", build), ("yarn.lock", yarn)], ".", ". yarn@1 install yarn.lock"),
            (&[("package.json", build), ("yarn.lock", "__metadata:\n")], ".", ". npm install "),
            (&[("package.json", build), ("pnpm-lock.yaml", "")], ".", ". pnpm@9 install pnpm-lock.yaml"),
        ] {
            let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
            let shown = find(&Tree::from_map(files), root).map_or_else(String::new, |node| {
                let words: Vec<&str> = node
                    .install()
                    .iter()
                    .copied()
                    .filter(|word| !word.starts_with('-') && *word != "exec")
                    .collect();
                let words = words.join(" ").replace("npm yarn", "yarn").replace("npm pnpm", "pnpm");
                format!("{} {words} {}", node.folder, node.lock.unwrap_or_default())
            });
            assert_eq!(shown, expected);
        }
    }
}
