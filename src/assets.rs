//! The product's own playbooks and templates, embedded, with the project's overrides in their place.

use std::collections::BTreeMap;
use std::path::Path;

use include_dir::{Dir, include_dir};

use crate::error::Failure;
use crate::playbook::Templates;

static PLAYBOOKS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/playbooks");
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// A text and where it comes from, as errors name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// The file.
    pub origin: String,
    /// Its text.
    pub text: String,
}

impl Asset {
    /// Whether it is the product's own, as it came.
    pub fn is_built_in(&self) -> bool {
        self.origin.ends_with(BUILT_IN)
    }
}

/// Ends the origin of what is the product's own.
const BUILT_IN: &str = " (built in)";

/// All playbooks and templates by name.
#[derive(Debug, Clone, Default)]
pub struct Assets {
    playbooks: BTreeMap<String, Asset>,
    templates: BTreeMap<String, Asset>,
}

impl Assets {
    /// The embedded ones, with what `.ship/playbooks` and `.ship/templates` of the project replace or add.
    pub fn load(project: &Path) -> Result<Self, Failure> {
        let mut assets = Self::default();
        embedded(&PLAYBOOKS, "playbooks", &mut assets.playbooks);
        embedded(&TEMPLATES, "templates", &mut assets.templates);
        overrides(project, ".ship/playbooks", &mut assets.playbooks)?;
        overrides(project, ".ship/templates", &mut assets.templates)?;
        Ok(assets)
    }

    /// A playbook by its name without `.yml`.
    pub fn playbook(&self, name: &str) -> Option<&Asset> {
        self.playbooks.get(&format!("{name}.yml"))
    }

    /// The names of all playbooks.
    pub fn playbook_names(&self) -> impl Iterator<Item = &str> {
        self.playbooks.keys().filter_map(|name| name.strip_suffix(".yml"))
    }

    /// A template's text.
    pub fn template(&self, name: &str) -> Option<&Asset> {
        self.templates.get(name)
    }

    /// All templates, ready to render.
    pub fn templates(&self) -> Result<Templates, Failure> {
        let sources = self
            .templates
            .iter()
            .filter(|(name, _)| name.ends_with(".j2"))
            .map(|(name, asset)| (name.clone(), asset.origin.clone(), asset.text.clone()));
        Templates::new(sources).map_err(|error| template_failure(&error))
    }
}

/// Shows a template's line with its error.
pub fn template_failure(error: &crate::playbook::TemplateError) -> Failure {
    let failure = Failure::input(error.to_string());
    if error.source_line.is_empty() {
        return failure;
    }
    failure.detail(format!("  |\n{:>1} | {}\n  |", error.line, error.source_line))
}

fn embedded(dir: &Dir<'_>, top: &str, into: &mut BTreeMap<String, Asset>) {
    for file in dir.files() {
        let (Some(name), Some(text)) = (file.path().to_str(), file.contents_utf8()) else { continue };
        let asset = Asset { origin: format!("{top}/{name}{BUILT_IN}"), text: text.to_string() };
        into.insert(name.to_string(), asset);
    }
    for folder in dir.dirs() {
        embedded(folder, top, into);
    }
}

fn overrides(project: &Path, top: &str, into: &mut BTreeMap<String, Asset>) -> Result<(), Failure> {
    let folder = project.join(top);
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in ignore::WalkBuilder::new(&folder).standard_filters(false).build() {
        let entry = entry.map_err(|error| Failure::input(format!("can't read {top}: {error}")))?;
        let path = entry.path();
        let Some(name) = path.strip_prefix(&folder).ok().and_then(Path::to_str).filter(|_| path.is_file())
        else {
            continue;
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::input(format!("can't read {top}/{name}: {error}")))?;
        into.insert(name.to_string(), Asset { origin: format!("{top}/{name}"), text });
    }
    Ok(())
}
