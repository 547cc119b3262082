//! Playbooks and templates: recipes as YAML and minijinja, turned into resources.
//!
//! A playbook is a list; each item names one resource by its kind. Every text in it is a template of its
//! own, rendered after the YAML was read, so a value can never change a playbook's structure.
//!
//! Invariant: pure. Files come in as text; what is unknown in a template is an error, never an empty string.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Deserialize;

use crate::config::ConfigError;
use crate::facts::host::{Capability, Host};
use crate::resources::Resource;
use crate::resources::command::{Command, Done};
use crate::resources::file::{Absent, Access, Content, Directory, File, Link};
use crate::resources::mysql;
use crate::resources::package::Package;
use crate::resources::postgres::{Database, Role};
use crate::resources::qualified::Qualified;
use crate::resources::unit::Unit;
use crate::resources::user::{Group, User};
use crate::shell::{self, Script};

/// Variables of playbooks and templates.
pub type Vars = BTreeMap<String, Value>;

/// All templates by name, the user's own in place of ours.
pub struct Templates {
    env: Environment<'static>,
    /// Where a template comes from, as shown in errors.
    origins: BTreeMap<String, String>,
}

/// A template that doesn't render.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("{origin}:{line}: {problem}")]
pub struct TemplateError {
    /// The file.
    pub origin: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// The line itself.
    pub source_line: String,
}

/// A playbook that can't be read.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum PlaybookError {
    /// Wrong YAML, an unknown key, a wrong type.
    #[error(transparent)]
    Yaml(ConfigError),
    /// An item that makes no sense.
    #[error("{origin}: item {item}: {problem}")]
    Item {
        /// The file.
        origin: String,
        /// Number of the item, from 1.
        item: usize,
        /// What is wrong.
        problem: String,
    },
    /// A text in it that doesn't render.
    #[error("{origin}: item {item}: {error}")]
    Template {
        /// The file.
        origin: String,
        /// Number of the item, from 1.
        item: usize,
        /// What is wrong.
        error: TemplateError,
    },
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates").field("origins", &self.origins).finish_non_exhaustive()
    }
}

impl Templates {
    /// Reads templates: name, where it comes from, text.
    pub fn new(sources: impl IntoIterator<Item = (String, String, String)>) -> Result<Self, TemplateError> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        if let Ok(syntax) = syntax {
            env.set_syntax(syntax);
        }
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.add_filter("sh", |value: String| shell::quote(&value));
        env.add_filter("systemd", |value: String| systemd(&value));
        env.add_filter("envfile", |value: String| envfile(&value));
        env.add_filter("nginx", |value: String| nginx(&value));
        env.add_filter("python", |value: String| python(&value));
        let mut templates = Self { env, origins: BTreeMap::new() };
        for (name, origin, text) in sources {
            templates.origins.insert(name.clone(), origin);
            templates
                .env
                .add_template_owned(name.clone(), text)
                .map_err(|error| templates.error(&name, &error))?;
        }
        Ok(templates)
    }

    /// Renders a template. Without `host`, whatever needs facts of the server is an error.
    pub fn render(&self, name: &str, vars: &Vars, host: Option<&Host>) -> Result<String, TemplateError> {
        let template = self.env.get_template(name).map_err(|error| self.error(name, &error))?;
        let context = context(vars, host);
        template.render(context).map_err(|error| self.error(name, &error))
    }

    fn text(&self, origin: &str, text: &str, vars: &Vars) -> Result<String, TemplateError> {
        if !text.contains("{{") && !text.contains("{%") {
            return Ok(text.to_string());
        }
        self.env
            .render_named_str(origin, text, context(vars, None))
            .map_err(|error| self.error(origin, &error))
    }

    fn condition(&self, origin: &str, expression: &str, vars: &Vars) -> Result<bool, TemplateError> {
        let compiled = self.env.compile_expression(expression).map_err(|error| self.error(origin, &error))?;
        Ok(compiled.eval(context(vars, None)).map_err(|error| self.error(origin, &error))?.is_true())
    }

    fn error(&self, name: &str, error: &minijinja::Error) -> TemplateError {
        // An included template tells its own name.
        let name = error.name().unwrap_or(name);
        let line = error.line().unwrap_or(1);
        let source_line = error
            .template_source()
            .and_then(|source| source.lines().nth(line.saturating_sub(1)))
            .unwrap_or_default()
            .trim()
            .to_string();
        let problem = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        let origin = self.origins.get(name).cloned().unwrap_or_else(|| name.to_string());
        TemplateError { origin, line, problem, source_line }
    }
}

fn context(vars: &Vars, host: Option<&Host>) -> Value {
    let mut all = vars.clone();
    if let Some(host) = host {
        all.insert("host".into(), Value::from(Serde(host.nominal())));
    }
    Value::from_pairs(all)
}

/// Escapes a value inside double quotes of a systemd unit: specifiers, variables and C escapes stay as they are.
fn systemd(value: &str) -> String {
    let mut out = String::from("\"");
    for character in value.chars() {
        match character {
            '%' => out.push_str("%%"),
            '$' => out.push_str("$$"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Quotes a value for systemd's `EnvironmentFile=`: inside double quotes, only `\`, `"`, `` ` `` and `$` are special.
pub fn envfile(value: &str) -> String {
    let mut out = String::from("\"");
    for character in value.chars() {
        if matches!(character, '\\' | '"' | '`' | '$') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

/// Quotes a value for nginx. Variables can't be escaped there, so a `$` is refused earlier, by the configuration.
fn nginx(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A Python string literal (JSON's are a subset of Python's, surrogates aside, which UTF-8 can't hold).
fn python(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// One value or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// An item as written. Exactly one of the keys in [`KINDS`] says what it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Item {
    package: Option<OneOrMany>,
    file: Option<String>,
    directory: Option<String>,
    link: Option<String>,
    absent: Option<OneOrMany>,
    user: Option<String>,
    group: Option<String>,
    unit: Option<String>,
    postgres_role: Option<String>,
    postgres_database: Option<String>,
    mysql_user: Option<String>,
    mysql_database: Option<String>,
    command: Option<String>,

    template: Option<String>,
    content: Option<String>,
    owner: Option<String>,
    mode: Option<String>,
    secret: bool,
    to: Option<String>,
    state: State,
    home: Option<String>,
    shell: Option<String>,
    groups: Vec<String>,
    enabled: Option<bool>,
    running: Option<bool>,
    restart_on: Vec<String>,
    reload_on: Vec<String>,
    reload_signal: Option<String>,
    /// Succeeds as soon as a unit that was started can be used, where systemd hears of it much later.
    ready: Option<String>,
    check: Option<String>,
    password_file: Option<String>,
    run: Option<String>,
    /// What may be done of a command beside the installation of packages.
    early: Option<String>,
    creates: Option<String>,
    unless: Option<String>,
    when: Option<String>,
    why: String,
    /// Repeats the item for each value of a list, as `item`.
    each: Option<String>,
    brought_by: Option<String>,
    /// What the server must be able to do: firewall, swap, time or kernel.
    needs: Option<String>,
    /// Whether a mistake here could lock the user out: the server takes it back unless a new login gets through.
    guarded: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Present,
    Absent,
}

/// Turns a playbook into resources.
pub fn resources(
    origin: &str,
    text: &str,
    vars: &Vars,
    templates: &Arc<Templates>,
) -> Result<Vec<Box<dyn Resource>>, PlaybookError> {
    let items: Vec<Item> = crate::config::from_str(origin, text).map_err(PlaybookError::Yaml)?;
    let mut resources = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let number = index + 1;
        let template = |error| PlaybookError::Template { origin: origin.into(), item: number, error };
        let scopes = match &item.each {
            None => vec![vars.clone()],
            Some(list) => each(templates, origin, list, vars).map_err(template)?,
        };
        for vars in scopes {
            if let Some(condition) = &item.when
                && !templates.condition(origin, condition, &vars).map_err(template)?
            {
                continue;
            }
            let reader = Reader { origin, number, templates, vars: &Arc::new(vars) };
            let first = resources.len();
            reader.read(item, &mut resources)?;
            let needs = item.needs.as_deref().map(|name| reader.capability(name)).transpose()?;
            if needs.is_some() || item.guarded {
                let plain = resources.split_off(first);
                let qualify = |inner| -> Box<dyn Resource> {
                    Box::new(Qualified { inner, needs, guarded: item.guarded })
                };
                resources.extend(plain.into_iter().map(qualify));
            }
        }
    }
    Ok(resources)
}

fn each(templates: &Templates, origin: &str, list: &str, vars: &Vars) -> Result<Vec<Vars>, TemplateError> {
    let failed = |error: &minijinja::Error| templates.error(origin, error);
    let values = templates
        .env
        .compile_expression(list)
        .and_then(|expression| expression.eval(context(vars, None)))
        .map_err(|error| failed(&error))?;
    let values = values.try_iter().map_err(|error| failed(&error))?;
    Ok(values
        .map(|value| {
            let mut scope = vars.clone();
            scope.insert("item".into(), value);
            scope
        })
        .collect())
}

struct Reader<'a> {
    origin: &'a str,
    number: usize,
    templates: &'a Arc<Templates>,
    vars: &'a Arc<Vars>,
}

impl Reader<'_> {
    fn bad(&self, problem: impl Into<String>) -> PlaybookError {
        PlaybookError::Item { origin: self.origin.into(), item: self.number, problem: problem.into() }
    }

    fn text(&self, text: &str) -> Result<String, PlaybookError> {
        self.templates.text(self.origin, text, self.vars).map_err(|error| PlaybookError::Template {
            origin: self.origin.into(),
            item: self.number,
            error,
        })
    }

    fn texts(&self, texts: &OneOrMany) -> Result<Vec<String>, PlaybookError> {
        match texts {
            OneOrMany::One(one) => Ok(vec![self.text(one)?]),
            OneOrMany::Many(many) => many.iter().map(|text| self.text(text)).collect(),
        }
    }

    fn optional(&self, text: Option<&String>, default: &str) -> Result<String, PlaybookError> {
        text.map_or_else(|| Ok(default.to_string()), |text| self.text(text))
    }

    fn path(&self, text: &str) -> Result<String, PlaybookError> {
        let path = self.text(text)?;
        if !path.starts_with('/')
            || path.chars().any(char::is_control)
            || path.split('/').any(|part| part == "..")
        {
            return Err(self.bad(format!("`{path}` is not an absolute path")));
        }
        Ok(path)
    }

    fn capability(&self, name: &str) -> Result<Capability, PlaybookError> {
        Capability::ALL.into_iter().find(|one| one.name() == name).ok_or_else(|| {
            let all = Capability::ALL.map(Capability::name).join(", ");
            self.bad(format!("`needs: {name}` is none of {all}"))
        })
    }

    fn script(&self, text: &str) -> Result<Script, PlaybookError> {
        Ok(Script::from_text(self.text(text)?))
    }

    fn access(&self, item: &Item, default_mode: &str) -> Result<Access, PlaybookError> {
        let mode = self.optional(item.mode.as_ref(), default_mode)?;
        if !(3..=4).contains(&mode.len()) || !mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
            return Err(self.bad(format!("`mode: {mode}` is not octal like \"0644\"")));
        }
        let owner = self.optional(item.owner.as_ref(), "root")?;
        let group = match &item.group {
            Some(group) => self.text(group)?,
            None if item.owner.is_some() => owner.clone(),
            None => "root".into(),
        };
        Ok(Access { owner, group, mode })
    }

    fn password_file(&self, item: &Item, kind: &str) -> Result<String, PlaybookError> {
        match &item.password_file {
            Some(file) => self.path(file),
            None if item.state == State::Absent => Ok(String::new()),
            None => Err(self.bad(format!("a {kind} needs `password_file`"))),
        }
    }

    fn read(&self, item: &Item, out: &mut Vec<Box<dyn Resource>>) -> Result<(), PlaybookError> {
        let present = item.state == State::Present;
        let why = self.text(&item.why)?;
        if let Some(names) = &item.package {
            for name in self.texts(names)? {
                out.push(Box::new(Package { name, installed: present, why: why.clone() }));
            }
        } else if let Some(path) = &item.file {
            let content = match (&item.template, &item.content) {
                (Some(name), None) => Content::Template {
                    name: self.text(name)?,
                    templates: Arc::clone(self.templates),
                    vars: Arc::clone(self.vars),
                },
                (None, Some(text)) => Content::Text(self.text(text)?),
                (None, None) | (Some(_), Some(_)) => {
                    return Err(self.bad("a file takes either `template` or `content`"));
                }
            };
            let (path, access) = (self.path(path)?, self.access(item, "0644")?);
            out.push(Box::new(File { path, content, access, secret: item.secret, why }));
        } else if let Some(path) = &item.directory {
            out.push(Box::new(Directory { path: self.path(path)?, access: self.access(item, "0755")? }));
        } else if let Some(path) = &item.link {
            let Some(to) = &item.to else { return Err(self.bad("a link needs `to`")) };
            out.push(Box::new(Link { path: self.path(path)?, to: self.text(to)? }));
        } else if let Some(paths) = &item.absent {
            for path in self.texts(paths)? {
                let path = self.path(&path)?;
                let brought_by = item.brought_by.as_ref().map(|name| self.text(name)).transpose()?;
                out.push(Box::new(Absent { path, why: why.clone(), brought_by }));
            }
        } else if let Some(name) = &item.user {
            out.push(Box::new(User {
                name: self.text(name)?,
                present,
                home: self.optional(item.home.as_ref(), "/nonexistent")?,
                shell: self.optional(item.shell.as_ref(), "/usr/sbin/nologin")?,
                groups: item.groups.iter().map(|group| self.text(group)).collect::<Result<_, _>>()?,
            }));
        } else if let Some(name) = &item.unit {
            let prefixes =
                |list: &[String]| list.iter().map(|text| self.text(text)).collect::<Result<_, _>>();
            out.push(Box::new(Unit {
                name: self.text(name)?,
                enabled: item.enabled,
                running: item.running,
                restart_on: prefixes(&item.restart_on)?,
                reload_on: prefixes(&item.reload_on)?,
                reload_signal: item.reload_signal.as_ref().map(|text| self.text(text)).transpose()?,
                ready: item.ready.as_ref().map(|text| self.script(text)).transpose()?,
                check: item.check.as_ref().map(|text| self.script(text)).transpose()?,
            }));
        } else if let Some(name) = &item.postgres_role {
            let password_file = self.password_file(item, "postgres_role")?;
            out.push(Box::new(Role { name: self.text(name)?, present, password_file }));
        } else if let Some(name) = &item.postgres_database {
            let name = self.text(name)?;
            let owner = self.optional(item.owner.as_ref(), &name)?;
            out.push(Box::new(Database { name, present, owner }));
        } else if let Some(name) = &item.mysql_user {
            let password_file = self.password_file(item, "mysql_user")?;
            out.push(Box::new(mysql::Account { name: self.text(name)?, present, password_file }));
        } else if let Some(name) = &item.mysql_database {
            let name = self.text(name)?;
            let owner = self.optional(item.owner.as_ref(), &name)?;
            out.push(Box::new(mysql::Database { name, present, owner }));
        } else if let Some(name) = &item.command {
            let Some(run) = &item.run else { return Err(self.bad("a command needs `run`")) };
            let done = match (&item.creates, &item.unless) {
                (Some(path), None) => Done::Creates(self.path(path)?),
                (None, Some(script)) => Done::Unless(self.script(script)?),
                (None, None) | (Some(_), Some(_)) => {
                    return Err(
                        self.bad("a command takes either `creates` or `unless`, so that it runs once")
                    );
                }
            };
            let early = item.early.as_ref().map(|early| self.script(early)).transpose()?;
            out.push(Box::new(Command { name: self.text(name)?, run: self.script(run)?, early, done, why }));
        } else if let Some(name) = &item.group {
            out.push(Box::new(Group { name: self.text(name)?, present }));
        } else {
            return Err(self.bad(format!("says not what it is: one of {}", KINDS.join(", "))));
        }
        Ok(())
    }
}

/// The keys that say what an item is.
const KINDS: [&str; 13] = [
    "package",
    "file",
    "directory",
    "link",
    "absent",
    "user",
    "group",
    "unit",
    "postgres_role",
    "postgres_database",
    "mysql_user",
    "mysql_database",
    "command",
];
