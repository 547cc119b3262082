//! docs/reference.md, made from the command line and the schema of `ship.yml`.
//!
//! Invariant: the page is what the program says of itself; `SHIP_RECORD_REFERENCE=1` writes it anew.

use std::fmt::Write as _;

use clap::CommandFactory as _;
use serde_json::Value;
use ship::error::Exit;

/// What the exit codes mean, for all commands.
const EXITS: [(Option<Exit>, &str); 6] = [
    (None, "done, or nothing to do"),
    (Some(Exit::Failed), "failed; the site is as it was"),
    (Some(Exit::Changes), "`ship plan` found changes"),
    (Some(Exit::Input), "your input is wrong: the command line, `ship.yml` or the project"),
    (Some(Exit::Unreachable), "the server can't be reached, or refuses the login"),
    (Some(Exit::Interrupted), "Ctrl-C"),
];

#[test]
fn the_reference_is_what_the_program_says() {
    let path = super::root().join("docs/reference.md");
    let page = page();
    if std::env::var_os("SHIP_RECORD_REFERENCE").is_some() {
        // In one piece: other tests read the pages meanwhile.
        let new = path.with_extension("new");
        std::fs::write(&new, &page).unwrap();
        std::fs::rename(&new, &path).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).find(|(made, there)| made != there);
    assert!(
        page == written,
        "docs/reference.md is not what the program says: {differs:#?}\n\
         write it anew: SHIP_RECORD_REFERENCE=1 cargo test --no-default-features --test main the_reference"
    );
}

#[test]
fn every_key_says_what_it_does() {
    let schema = schema();
    let mut tables = Vec::new();
    collect("", "", &schema, &mut tables);
    assert!(tables.len() > 15, "{}", tables.len());
    let all = tables.iter().flat_map(|table| &table.rows);
    let silent: Vec<&Row> = all.filter(|row| row.does.is_empty() && row.key != "`provider`").collect();
    assert!(silent.is_empty(), "keys without a description: {silent:#?}");
}

/// The whole page.
fn page() -> String {
    let mut ship = ship::cli::Cli::command();
    ship.build();
    let mut page = String::from(
        "# Reference\n\nEvery command and every key of `ship.yml`. Made from the program itself; a test compares.\n\n\
         - [Commands](#commands)\n- [Exit codes](#exit-codes)\n- [Keys of ship.yml](#keys-of-shipyml)\n\n## Commands\n\n\
         | command | |\n|---|---|\n",
    );
    index(&ship, "ship", &mut page);
    page.push_str("\nThese go with every command:\n\n");
    options(&ship, true, &mut page);
    commands(&ship, "ship", &mut page);
    page.push_str("\n## Exit codes\n\n| code | |\n|---:|---|\n");
    for (exit, means) in EXITS {
        let _ = writeln!(page, "| {} | {means} |", exit.map_or(0, |exit| exit as u8));
    }
    page.push_str(
        "\n`ship run`, `manage`, `shell` and `ssh` end with the code of the command that they ran, 128 + n after signal n.\n",
    );
    page.push_str(
        "\n## Keys of ship.yml\n\nOnly `server` is required. `ship schema` prints the same as a JSON Schema, for editors.\n",
    );
    let mut tables = Vec::new();
    collect("", "", &schema(), &mut tables);
    for table in tables {
        table.write(&mut page);
    }
    page
}

/// All commands, one a line.
fn index(command: &clap::Command, name: &str, page: &mut String) {
    for below in shown(command) {
        let name = format!("{name} {}", below.get_name());
        let _ = writeln!(page, "| [`{name}`](#{}) | {} |", name.replace(' ', "-"), about(below));
        index(below, &name, page);
    }
}

/// A part for each command, in the order of `ship --help`.
fn commands(command: &clap::Command, name: &str, page: &mut String) {
    for below in shown(command) {
        let name = format!("{name} {}", below.get_name());
        let _ = write!(page, "\n### `{name}`\n\n{}.\n", about(below));
        let aliases: Vec<String> = below.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
        if !aliases.is_empty() {
            let _ = write!(page, "\nAlso: {}.\n", aliases.join(", "));
        }
        let mut own = String::new();
        options(below, false, &mut own);
        if !own.is_empty() {
            let _ = write!(page, "\n{own}");
        }
        let help = below.get_after_help().map(ToString::to_string).unwrap_or_default();
        for paragraph in help.split("\n\n") {
            page.push('\n');
            for line in paragraph.lines().filter(|line| *line != "Examples:") {
                let _ = writeln!(page, "{}", example(line).unwrap_or_else(|| line.to_owned()));
            }
        }
        commands(below, &name, page);
    }
}

/// A line of an example as a shell reads it: what explains it becomes a comment.
fn example(line: &str) -> Option<String> {
    let line = line.strip_prefix("  ")?;
    let Some(at) = line.find("  ") else { return Some(format!("    {line}")) };
    let (command, rest) = line.split_at(at);
    let spaces = rest.len() - rest.trim_start().len();
    Some(format!("    {command}{}# {}", " ".repeat(spaces), rest.trim_start()))
}

fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

fn about(command: &clap::Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// A command's arguments and options as a table; nothing if it has none.
fn options(command: &clap::Command, global: bool, page: &mut String) {
    let mut rows = Vec::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        // Those of every command stand once, at the top.
        if argument.is_hide_set() || ["help", "version"].contains(&id) {
            continue;
        }
        if !global && argument.is_global_set() {
            continue;
        }
        let takes = argument.get_num_args().is_some_and(|count| count.takes_values());
        let mut does = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<String> =
            argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        if takes && !values.is_empty() {
            let _ = write!(does, ": {}", values.join(", "));
        }
        let defaults: Vec<String> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        if takes && !defaults.is_empty() {
            let _ = write!(does, " (default: `{}`)", defaults.join(" "));
        }
        if let Some(name) = argument.get_env() {
            let _ = write!(does, "; also from `{}`", name.to_string_lossy());
        }
        let value = match argument.get_value_names() {
            Some(names) if takes => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            _ => id.to_uppercase(),
        };
        let more = if matches!(argument.get_action(), clap::ArgAction::Append) { " …" } else { "" };
        let written = match (argument.get_short(), argument.get_long()) {
            (None, None) if argument.is_required_set() => format!("`{value}{more}`"),
            (None, None) => format!("`[{value}{more}]`"),
            (short, long) => {
                let value = if takes { format!(" {value}") } else { String::new() };
                let short = short.map(|short| format!("-{short}"));
                let long = long.map(|long| format!("--{long}"));
                let names: Vec<String> = short.into_iter().chain(long).collect();
                format!("`{}{value}`", names.join("`, `"))
            }
        };
        rows.push(format!("| {} | {} |", cell(&written), cell(&does)));
    }
    if !rows.is_empty() {
        let _ = write!(page, "| | |\n|---|---|\n{}\n", rows.join("\n"));
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn schema() -> Value {
    serde_json::from_str(&ship::config::schema::json_schema()).unwrap()
}

/// The keys of one map.
#[derive(Debug)]
struct Table {
    title: String,
    about: String,
    rows: Vec<Row>,
}

/// One key.
#[derive(Debug)]
struct Row {
    key: String,
    kind: String,
    default: String,
    does: String,
}

impl Table {
    fn write(&self, page: &mut String) {
        if !self.title.is_empty() {
            let _ = write!(page, "\n### {}\n", self.title);
        }
        if !self.about.is_empty() && !self.title.is_empty() {
            let _ = write!(page, "\n{}\n", self.about);
        }
        page.push_str("\n| key | value | default | |\n|---|---|---|---|\n");
        for Row { key, kind, default, does } in &self.rows {
            let _ = writeln!(page, "| {} | {} | {} | {} |", cell(key), cell(kind), cell(default), cell(does));
        }
    }
}

/// All maps of the schema, each before those below it.
fn collect(path: &str, about: &str, value: &Value, into: &mut Vec<Table>) {
    for map in maps(value) {
        let Some(properties) = map["properties"].as_object() else {
            // A map of names that are the user's own.
            collect(&join(path, "NAME"), "", &map["additionalProperties"], into);
            continue;
        };
        let title = match properties.get("provider").and_then(|provider| provider["const"].as_str()) {
            Some(provider) => format!("`{path}` with `provider: {provider}`"),
            None if path.is_empty() => String::new(),
            None => format!("`{path}`"),
        };
        let (own, _) = split_default(map["description"].as_str().unwrap_or(about));
        let required: Vec<&str> =
            map["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut names: Vec<(&str, &Value)> =
            properties.iter().map(|(name, key)| (name.as_str(), key)).collect();
        if map["additionalProperties"].is_object() {
            names.push(("NAME", &map["additionalProperties"]));
        }
        let rows = names.iter().map(|(name, key)| row(name, key, required.contains(name))).collect();
        into.push(Table { title, about: own, rows });
        for (name, key) in names {
            // An environment has the same keys as the file itself.
            if !(path.is_empty() && name == "environments") {
                collect(&join(path, name), key["description"].as_str().unwrap_or_default(), key, into);
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The choices that a schema gives, each a schema.
fn choices(value: &Value) -> Vec<&Value> {
    match value.get("anyOf").or_else(|| value.get("oneOf")).and_then(Value::as_array) {
        Some(several) => several.iter().flat_map(choices).collect(),
        None => vec![value],
    }
}

/// Those of the choices that are maps whose keys need telling.
fn maps(value: &Value) -> Vec<&Value> {
    let told = |choice: &&Value| {
        choice["properties"].is_object()
            || choices(&choice["additionalProperties"]).iter().any(|c| c["properties"].is_object())
    };
    choices(value).into_iter().filter(told).collect()
}

fn row(name: &str, key: &Value, required: bool) -> Row {
    let (mut does, told) = split_default(key["description"].as_str().unwrap_or_default());
    let default = match (told, &key["default"]) {
        _ if required => "required".to_owned(),
        (Some(told), _) => told,
        (None, Value::Null) => String::new(),
        (None, default) => written(default),
    };
    for choice in choices(key) {
        if let (Some(is), Some(means)) = (choice["const"].as_str(), choice["description"].as_str()) {
            let _ = write!(does, " `{is}`: {means}");
        }
    }
    let example = choices(key)
        .into_iter()
        .chain([key])
        .find_map(|choice| choice["examples"].as_array().and_then(|all| all.first()));
    if let Some(example) = example {
        let _ = write!(does, " Such as `{}`.", written(example));
    }
    let mut kinds: Vec<String> = Vec::new();
    for kind in choices(key).into_iter().flat_map(kind) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Row { key: format!("`{name}`"), kind: kinds.join(", "), default, does: does.trim().to_owned() }
}

/// What a text says, and the default that it names.
fn split_default(text: &str) -> (String, Option<String>) {
    let Some((before, after)) = text.split_once("Default: ") else { return (text.to_owned(), None) };
    let (default, rest) = match after.split_once(". ") {
        Some((default, rest)) => (default, rest),
        None => (after.trim_end_matches('.'), ""),
    };
    (format!("{before}{rest}").trim().to_owned(), Some(default.to_owned()))
}

/// What may stand there, in words.
fn kind(choice: &Value) -> Vec<String> {
    if let Some(is) = choice.get("const") {
        return vec![format!("`{}`", written(is))];
    }
    if let Some(all) = choice["enum"].as_array() {
        // `true` and `false` are how YAML reads on and off.
        return all.iter().filter(|one| one.is_string()).map(|one| format!("`{}`", written(one))).collect();
    }
    let types = match &choice["type"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    let one = |name: &str| match name {
        "string" => "text".to_owned(),
        "boolean" => "`true`, `false`".to_owned(),
        "integer" => match (choice["minimum"].as_u64(), choice["maximum"].as_u64()) {
            (Some(from), Some(to)) => format!("{from} to {to}"),
            (Some(from), None) if from > 0 => format!("{from} or more"),
            _ => "number".to_owned(),
        },
        "array" => "list".to_owned(),
        "object" => "map".to_owned(),
        other => other.to_owned(),
    };
    types.into_iter().filter(|name| *name != "null").map(one).collect()
}

/// A value as YAML has it on one line.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(name, value)| format!("{name}: {}", written(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
