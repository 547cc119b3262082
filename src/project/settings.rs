//! What the text of a project's settings says plainly: literals that production can't use, and variables they need.
//!
//! Invariant: nothing runs. What a condition or a function decides counts as unknown; Django itself is asked later.

use std::collections::{BTreeMap, BTreeSet};

use super::join;

/// The files that the settings are made from, as far as their imports say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Path and text of each, the settings module first.
    pub files: Vec<(String, String)>,
    /// Path and text of what sets variables beside them: `.env` files that belong to the project.
    pub env_files: Vec<(String, String)>,
    /// The same of examples such as `.env.example`.
    pub examples: Vec<(String, String)>,
    /// `manage.py`, `wsgi.py` and the like.
    pub entries: Vec<(String, String)>,
    /// The folder of `manage.py`, `.` for the top.
    pub root: String,
}

/// A variable that the settings can't do without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Its name.
    pub name: String,
    /// The file that reads it.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
}

/// What is known of a setting from the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing assigns it.
    Absent,
    /// It is assigned once, at the top level, from these tokens.
    Is(Vec<Token>),
    /// It is computed, or depends on something.
    Computed,
}

/// A piece of Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A name, dotted ones in one piece: `os.environ.get`.
    Name(String),
    /// A string literal's content.
    Text(String),
    /// Any other sign.
    Sign(char),
}

/// A logical line.
struct Statement {
    line: usize,
    indent: usize,
    tokens: Vec<(Token, usize)>,
}

impl Settings {
    /// Finds the files, reading them through `read`.
    pub fn find(
        root: &str,
        module: &str,
        wsgi: &str,
        paths: &[String],
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let mut found = Self { root: root.to_owned(), ..Self::default() };
        found.follow(module, read);
        let (mut env_files, mut examples) = (Vec::new(), Vec::new());
        for path in paths {
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_env = name.starts_with(".env") || name.ends_with(".env") || name.starts_with("env.");
            let is_example = ["example", "sample", "dist", "template"].iter().any(|word| name.contains(word));
            let into = match (is_env, is_example) {
                (true, true) => &mut examples,
                (true, false) => &mut env_files,
                (false, _) if name == "settings.ini" => &mut env_files,
                (false, _) => continue,
            };
            into.extend(read(path).map(|text| (path.clone(), text)));
        }
        let wsgi = wsgi.split(':').next().unwrap_or(wsgi).replace('.', "/");
        let entries = [join(root, "manage.py"), join(root, &format!("{wsgi}.py"))];
        let entries = entries.into_iter().filter_map(|path| read(&path).map(|text| (path, text))).collect();
        Self { env_files, examples, entries, ..found }
    }

    fn follow(&mut self, module: &str, read: &dyn Fn(&str) -> Option<String>) {
        let base = join(&self.root, &module.replace('.', "/"));
        let candidates = [format!("{base}.py"), format!("{base}/__init__.py")];
        let Some((path, text)) = candidates.into_iter().find_map(|path| read(&path).map(|text| (path, text)))
        else {
            return;
        };
        if self.files.len() > 50 || self.files.iter().any(|(known, _)| *known == path) {
            return;
        }
        let package = path.ends_with("/__init__.py");
        let imported: Vec<String> = imports(&statements(&text))
            .into_iter()
            .map(|import| absolute(module, package, &import.0))
            .collect();
        self.files.push((path, text));
        for import in imported {
            self.follow(&import, read);
        }
    }

    /// The file of a module, if it is among those found.
    fn file(&self, module: &str) -> Option<(&str, &str)> {
        let base = join(&self.root, &module.replace('.', "/"));
        let is = |path: &str| path == format!("{base}.py") || path == format!("{base}/__init__.py");
        self.files.iter().find(|(path, _)| is(path)).map(|(path, text)| (path.as_str(), text.as_str()))
    }

    fn module(&self) -> Option<String> {
        let (path, _) = self.files.first()?;
        super::python::module_of(super::below(&self.root, path))
    }

    /// What each setting is, as the text says.
    pub fn values(&self) -> Values {
        let mut values = Values::default();
        if let Some(module) = self.module() {
            self.collect(&module, &mut values, 0);
        } else {
            values.open = true;
        }
        values
    }

    fn collect(&self, module: &str, values: &mut Values, depth: usize) {
        let Some((path, text)) = self.file(module).filter(|_| depth < 20) else {
            // Another package's settings may set anything.
            values.open = true;
            return;
        };
        let statements = statements(text);
        let star: BTreeMap<usize, String> = imports(&statements)
            .into_iter()
            .filter(|import| import.1)
            .map(|import| (import.2, absolute(module, path.ends_with("/__init__.py"), &import.0)))
            .collect();
        for statement in &statements {
            if let Some(imported) = star.get(&statement.line) {
                self.collect(imported, values, depth + 1);
                continue;
            }
            values.take(statement);
        }
    }

    /// The variables without which the settings can't be loaded, in their order.
    pub fn needs(&self) -> Vec<Need> {
        let mut found: Vec<Need> = Vec::new();
        for (path, text) in &self.files {
            let statements = statements(text);
            let readers = self.readers(path, &statements, &mut BTreeSet::new());
            for statement in statements.iter().filter(|statement| statement.is_certain()) {
                for (name, line) in readers.reads(statement) {
                    if !found.iter().any(|need| need.name == name) {
                        found.push(Need { name, path: path.clone(), line });
                    }
                }
            }
        }
        found
    }

    /// How a file reads its variables, by what it makes itself or imports from another of the files.
    fn readers(&self, path: &str, statements: &[Statement], seen: &mut BTreeSet<String>) -> Readers {
        let mut readers = Readers::of(statements);
        let module = super::python::module_of(super::below(&self.root, path));
        let Some(module) = module.filter(|_| seen.insert(path.to_owned())) else { return readers };
        for (imported, star, line) in imports(statements) {
            let imported = absolute(&module, path.ends_with("/__init__.py"), &imported);
            let Some((path, text)) = self.file(&imported) else { continue };
            let theirs = self.readers(path, &self::statements(text), seen);
            let named = |name: &String| {
                star || statements.iter().filter(|statement| statement.line == line).any(|statement| {
                    statement
                        .tokens
                        .iter()
                        .any(|(token, _)| matches!(token, Token::Name(word) if word == name))
                })
            };
            readers.configs.extend(theirs.configs.into_iter().filter(named));
            readers.envs.extend(theirs.envs.into_iter().filter(named));
            readers.defaults.extend(theirs.defaults);
        }
        readers
    }

    /// The variables that `.env` files of the project set.
    pub fn set_by_files(&self) -> BTreeSet<String> {
        self.env_files.iter().flat_map(|(_, text)| assigned(text)).collect()
    }

    /// The names in the project's example of a `.env` file, with the file.
    pub fn exampled(&self) -> Vec<(String, String)> {
        let names = |(path, text): &(String, String)| {
            assigned(text).into_iter().map(|name| (name, path.clone())).collect::<Vec<_>>()
        };
        self.examples.iter().flat_map(names).collect()
    }

    /// Whether the settings, or what starts them, read a `.env` file.
    pub fn reads_env_file(&self) -> bool {
        self.files.iter().chain(&self.entries).flat_map(|(_, text)| statements(text)).any(|statement| {
            statement.tokens.iter().any(|(token, _)| {
                matches!(token, Token::Name(name)
                    if ["read_env", "load_dotenv", "decouple", "dotenv_values"].iter().any(|word|
                        name.rsplit('.').next() == Some(word) || name.split('.').next() == Some(word)))
            })
        })
    }

    /// Where manage.py sets `DJANGO_SETTINGS_MODULE` whatever the environment says: file and line.
    pub fn insists(&self) -> Option<(&str, usize)> {
        self.entries.iter().filter(|(path, _)| path.ends_with("manage.py")).find_map(|(path, text)| {
            let line = statements(text).iter().find_map(|statement| {
                let tokens: Vec<&Token> = statement.tokens.iter().map(|(token, _)| token).collect();
                let assigns = tokens.windows(5).any(|window| {
                    matches!(window, [Token::Name(name), Token::Sign('['), Token::Text(text), Token::Sign(']'), Token::Sign('=')]
                        if name.ends_with("environ") && text == "DJANGO_SETTINGS_MODULE")
                });
                assigns.then_some(statement.line)
            })?;
            Some((path.as_str(), line))
        })
    }

    /// Whether the settings are classes of django-configurations, which nothing can be laid over.
    pub fn are_classes(&self) -> bool {
        self.files.iter().any(|(_, text)| {
            statements(text).iter().any(|statement| {
                matches!(statement.tokens.as_slice(), [(Token::Name(from), _), (Token::Name(name), _), ..]
                    if from == "from" && name == "configurations")
            })
        })
    }

    /// Whether any file names this text in a string.
    pub fn mentions(&self, text: &str) -> bool {
        self.files.iter().any(|(_, source)| {
            statements(source).iter().any(|statement| {
                statement.tokens.iter().any(|(token, _)| *token == Token::Text(text.to_owned()))
            })
        })
    }
}

/// What the text says of each setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    values: BTreeMap<String, Known>,
    /// Whether something else may set anything.
    open: bool,
}

impl Values {
    /// What is known of a setting.
    pub fn of(&self, name: &str) -> Known {
        match self.values.get(name) {
            Some(known) => known.clone(),
            None if self.open => Known::Computed,
            None => Known::Absent,
        }
    }

    fn take(&mut self, statement: &Statement) {
        let names = |words: &[&str]| {
            statement.tokens.iter().zip(statement.tokens.iter().skip(1)).any(|((token, _), (next, _))| {
                matches!(token, Token::Name(name) if words.contains(&name.as_str()))
                    && *next == Token::Sign('(')
            })
        };
        if names(&["locals", "globals", "vars", "include", "setattr"]) {
            // django_heroku.settings(locals()) and the like.
            self.open = true;
            self.values.values_mut().for_each(|known| *known = Known::Computed);
        }
        let mut tokens = statement.tokens.iter().map(|(token, _)| token);
        let Some(Token::Name(name)) = tokens.next() else { return };
        let setting = name.split('.').next().unwrap_or(name);
        if setting.is_empty() || setting.chars().any(char::is_lowercase) {
            return;
        }
        let rest: Vec<Token> = tokens.cloned().collect();
        let known = match rest.split_first() {
            Some((Token::Sign('='), value))
                if statement.indent == 0 && name == setting && value.first() != Some(&Token::Sign('=')) =>
            {
                Known::Is(value.to_vec())
            }
            // NAME += …, NAME["x"] = …, NAME.append(…), NAME: type = …, or any of it on a condition.
            _ => Known::Computed,
        };
        self.values.insert(setting.to_owned(), known);
    }
}

impl Statement {
    /// Whether it runs whenever the settings are loaded, and all of it.
    fn is_certain(&self) -> bool {
        const OPENS: [&str; 13] = [
            "if", "elif", "else", "for", "while", "try", "except", "finally", "with", "def", "class",
            "async", "del",
        ];
        const CHOOSES: [&str; 6] = ["if", "or", "and", "lambda", "for", "not"];
        let names: Vec<&str> = self
            .tokens
            .iter()
            .filter_map(|(token, _)| match token {
                Token::Name(name) => Some(name.as_str()),
                Token::Text(_) | Token::Sign(_) => None,
            })
            .collect();
        self.indent == 0
            && names.first().is_none_or(|first| !OPENS.contains(first))
            && !names.iter().any(|name| CHOOSES.contains(name))
    }
}

/// How a file reads its variables.
#[derive(Default)]
struct Readers {
    /// Functions of decouple.
    configs: BTreeSet<String>,
    /// Objects of django-environ or environs.
    envs: BTreeSet<String>,
    /// Names with a default in `Env(NAME=(cast, default))`.
    defaults: BTreeSet<String>,
}

impl Readers {
    fn of(statements: &[Statement]) -> Self {
        let mut readers = Self::default();
        for statement in statements {
            let tokens: Vec<&Token> = statement.tokens.iter().map(|(token, _)| token).collect();
            if let [Token::Name(from), Token::Name(module), ..] = tokens.as_slice()
                && from == "from"
                && module == "decouple"
            {
                readers.configs.insert("config".to_owned());
            }
            let made = match tokens.as_slice() {
                [Token::Name(name), Token::Sign('='), Token::Name(class), Token::Sign('('), ..] => {
                    Some((name, class.as_str()))
                }
                _ => None,
            };
            match made {
                Some((name, class))
                    if class == "Env" || class.ends_with(".Env") || class.ends_with("FileAwareEnv") =>
                {
                    readers.envs.insert(name.clone());
                    readers.defaults.extend(tokens.windows(3).filter_map(|window| match window {
                        [Token::Sign('(' | ','), Token::Name(key), Token::Sign('=')] => Some(key.clone()),
                        _ => None,
                    }));
                }
                Some((name, "AutoConfig" | "Config" | "decouple.AutoConfig")) => {
                    readers.configs.insert(name.clone());
                }
                Some(_) | None => {}
            }
        }
        readers
    }

    /// The variables that a statement reads without a default.
    fn reads(&self, statement: &Statement) -> Vec<(String, usize)> {
        let tokens = &statement.tokens;
        let mut found = Vec::new();
        for (at, (token, line)) in tokens.iter().enumerate() {
            let Token::Name(name) = token else { continue };
            let sign = |offset: usize| match tokens.get(at + offset) {
                Some((Token::Sign(sign), _)) => Some(*sign),
                Some((Token::Name(_) | Token::Text(_), _)) | None => None,
            };
            let text = match tokens.get(at + 2) {
                Some((Token::Text(text), _)) => Some(text),
                Some((Token::Name(_) | Token::Sign(_), _)) | None => None,
            };
            if matches!(name.as_str(), "os.environ" | "environ") {
                if let (Some('['), Some(variable), Some(']')) = (sign(1), text, sign(3))
                    && (sign(4) != Some('=') || sign(5) == Some('='))
                {
                    found.push((variable.clone(), *line));
                }
                continue;
            }
            let (object, method) = name.split_once('.').unwrap_or((name, ""));
            let env = self.envs.contains(object);
            let config = method.is_empty() && self.configs.contains(object);
            if !(env || config) || sign(1) != Some('(') {
                continue;
            }
            let default_name = match method {
                "db" | "db_url" | "dj_db_url" => Some("DATABASE_URL"),
                "cache" | "cache_url" | "dj_cache_url" => Some("CACHE_URL"),
                "email" | "email_url" | "dj_email_url" => Some("EMAIL_URL"),
                "" | "str" | "bool" | "int" | "float" | "list" | "tuple" | "json" | "dict" | "url"
                | "bytes" | "path" | "decimal" | "timedelta" | "uuid" | "date" | "datetime" | "enum" => None,
                _ => continue,
            };
            let arguments = arguments(tokens.get(at + 1..).unwrap_or_default());
            let given = arguments.first().and_then(|argument| match argument.as_slice() {
                [Token::Text(text)] => Some(text.as_str()),
                _ => None,
            });
            // A second argument by position is, or may be, the default.
            let has_default = arguments.iter().skip(1).any(|argument| {
                !matches!(argument.as_slice(), [Token::Name(key), Token::Sign('='), ..]
                    if matches!(key.as_str(), "cast" | "multiline" | "engine" | "subcast" | "backend" | "conn_max_age" | "ssl_require"))
            });
            let by_keyword =
                matches!(arguments.first().map(Vec::as_slice), Some([Token::Name(_), Token::Sign('='), ..]));
            if has_default || by_keyword {
                continue;
            }
            let variable = match (given, arguments.is_empty()) {
                (Some(variable), _) => variable,
                (None, true) => match default_name {
                    Some(name) => name,
                    None => continue,
                },
                (None, false) => continue,
            };
            if !self.defaults.contains(variable) {
                found.push((variable.to_owned(), *line));
            }
        }
        found
    }
}

/// The arguments of a call whose `(` comes first.
fn arguments(tokens: &[(Token, usize)]) -> Vec<Vec<Token>> {
    let mut depth = 0_usize;
    let mut all: Vec<Vec<Token>> = vec![Vec::new()];
    for (token, _) in tokens {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Token::Sign(',') if depth == 1 => {
                all.push(Vec::new());
                continue;
            }
            Token::Sign(_) | Token::Name(_) | Token::Text(_) => {}
        }
        if depth == 0 {
            break;
        }
        if let Some(last) =
            all.last_mut().filter(|last| depth > 1 || !last.is_empty() || *token != Token::Sign('('))
        {
            last.push(token.clone());
        }
    }
    all.retain(|argument| !argument.is_empty());
    all
}

/// The modules that are imported from, whether by star, and on which line: at the top, or below `try:`.
fn imports(statements: &[Statement]) -> Vec<(String, bool, usize)> {
    let mut found = Vec::new();
    let mut opener = "";
    for statement in statements {
        if statement.indent == 0 {
            opener = match statement.tokens.first() {
                Some((Token::Name(name), _)) => name,
                _ => "",
            };
        }
        if statement.indent > 0 && opener != "try" {
            continue;
        }
        let tokens: Vec<&Token> = statement.tokens.iter().map(|(token, _)| token).collect();
        let Some((Token::Name(from), rest)) = tokens.split_first() else { continue };
        if from != "from" {
            continue;
        }
        let dots = rest.iter().take_while(|token| ***token == Token::Sign('.')).count();
        let mut module = ".".repeat(dots);
        let mut rest = rest.get(dots..).unwrap_or_default();
        if let Some((Token::Name(name), after)) = rest.split_first()
            && name != "import"
        {
            module.push_str(name);
            rest = after;
        }
        let star = rest.last() == Some(&&Token::Sign('*'));
        if module.chars().all(|c| c == '.') && !star {
            // from . import base
            for token in rest.iter().skip(1) {
                if let Token::Name(name) = token {
                    found.push((format!("{module}{name}"), false, statement.line));
                }
            }
        } else {
            found.push((module, star, statement.line));
        }
    }
    found
}

/// A module's full name, from one as it is imported in `module`.
fn absolute(module: &str, package: bool, imported: &str) -> String {
    let dots = imported.chars().take_while(|c| *c == '.').count();
    if dots == 0 {
        return imported.to_owned();
    }
    let mut parts: Vec<&str> = module.split('.').collect();
    let up = if package { dots - 1 } else { dots };
    parts.truncate(parts.len().saturating_sub(up));
    parts.extend(imported.get(dots..).filter(|name| !name.is_empty()));
    parts.join(".")
}

/// The names that a file of `NAME=value` lines sets.
fn assigned(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, _) = line.split_once('=')?;
        let name = name.trim();
        let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        valid.then(|| name.to_owned())
    };
    text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(name).collect()
}

/// Cuts Python into logical lines.
fn statements(text: &str) -> Vec<Statement> {
    let mut cutter =
        Cutter { line: 1, depth: 0, indent: 0, tokens: Vec::new(), found: Vec::new(), fresh: true };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = cutter.step(c, rest);
    }
    cutter.end();
    cutter.found
}

struct Cutter {
    line: usize,
    depth: usize,
    indent: usize,
    tokens: Vec<(Token, usize)>,
    found: Vec<Statement>,
    /// Whether nothing of the current line was seen but spaces.
    fresh: bool,
}

impl Cutter {
    fn end(&mut self) {
        if let Some((_, line)) = self.tokens.first() {
            let line = *line;
            self.found.push(Statement {
                line,
                indent: self.indent,
                tokens: std::mem::take(&mut self.tokens),
            });
        }
        (self.indent, self.fresh) = (0, true);
    }

    fn step<'t>(&mut self, c: char, rest: &'t str) -> &'t str {
        let after = |count: usize| rest.get(count..).unwrap_or_default();
        match c {
            '\n' => {
                self.line += 1;
                if self.depth == 0 {
                    self.end();
                }
                after(1)
            }
            '#' => after(rest.find('\n').unwrap_or(rest.len())),
            '\\' if rest.starts_with("\\\n") || rest.starts_with("\\\r\n") => {
                self.line += 1;
                after(rest.find('\n').map_or(rest.len(), |at| at + 1))
            }
            c if c.is_whitespace() => {
                if self.fresh && self.depth == 0 && self.tokens.is_empty() {
                    self.indent += 1;
                }
                after(c.len_utf8())
            }
            ';' if self.depth == 0 => {
                let indent = self.indent;
                self.end();
                (self.indent, self.fresh) = (indent, false);
                after(1)
            }
            '"' | '\'' => {
                self.fresh = false;
                self.text(rest, false)
            }
            c if c.is_alphabetic() || c == '_' => {
                self.fresh = false;
                let end =
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
                let name = rest.get(..end).unwrap_or_default();
                let prefix = name.len() <= 2 && name.chars().all(|c| "rbufRBUF".contains(c));
                if prefix && after(end).starts_with(['"', '\'']) {
                    return self.text(after(end), !name.eq_ignore_ascii_case("u"));
                }
                self.tokens.push((Token::Name(name.trim_end_matches('.').to_owned()), self.line));
                after(end)
            }
            c => {
                self.fresh = false;
                match c {
                    '(' | '[' | '{' => self.depth += 1,
                    ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                self.tokens.push((Token::Sign(c), self.line));
                after(c.len_utf8())
            }
        }
    }

    /// A string that begins here; one with a prefix is no plain text, and becomes a sign.
    fn text<'t>(&mut self, rest: &'t str, computed: bool) -> &'t str {
        let quote = rest.get(..1).unwrap_or_default();
        let triple = quote.repeat(3);
        let end = if rest.starts_with(&triple) { triple.as_str() } else { quote };
        let line = self.line;
        let mut value = String::new();
        let mut characters = rest.get(end.len()..).unwrap_or_default().char_indices();
        let body = rest.get(end.len()..).unwrap_or_default();
        let mut stop = body.len();
        while let Some((at, c)) = characters.next() {
            if body.get(at..).unwrap_or_default().starts_with(end) {
                stop = at;
                break;
            }
            match c {
                '\\' => {
                    if let Some((_, next)) = characters.next() {
                        self.line += usize::from(next == '\n');
                        value.push(next);
                    }
                }
                '\n' if end.len() == 1 => {
                    stop = at;
                    break;
                }
                '\n' => {
                    self.line += 1;
                    value.push('\n');
                }
                other => value.push(other),
            }
        }
        self.tokens.push((if computed { Token::Sign('…') } else { Token::Text(value) }, line));
        let stopped = body.get(stop..).unwrap_or_default();
        stopped.strip_prefix(end).unwrap_or(stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(files: &[(&str, &str)], module: &str) -> Settings {
        let files: BTreeMap<String, String> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let paths: Vec<String> = files.keys().cloned().collect();
        Settings::find(".", module, "mysite.wsgi", &paths, &|path| files.get(path).cloned())
    }

    fn needs(text: &str) -> Vec<String> {
        let found = settings(&[("s.py", text)], "s").needs();
        found.iter().map(|need| format!("{}:{}", need.name, need.line)).collect()
    }

    #[test]
    fn only_what_surely_fails_is_needed() {
        for (text, expected) in [
            ("import os\nA = os.environ['A']\n", &["A:2"][..]),
            ("from os import environ\nA = [environ[\"A\"], 1]\n", &["A:2"]),
            ("A = os.environ.get('A')\nB = os.getenv('B')\n", &[]),
            ("os.environ['A'] = 'x'\n", &[]),
            ("if X:\n    A = os.environ['A']\n", &[]),
            ("try:\n    A = os.environ['A']\nexcept KeyError:\n    A = 1\n", &[]),
            ("A = os.environ['A'] if 'A' in os.environ else 1\n", &[]),
            ("def f():\n    return os.environ['A']\n", &[]),
            ("# os.environ['A']\nB = \"os.environ['B']\"\n", &[]),
            (
                "from decouple import config\nA = config('A')\nB = config('B', default='')\nC = config('C', cast=bool)\nD = config('D', 'x')\n",
                &["A:2", "C:4"],
            ),
            ("A = config('A')\n", &[]),
            (
                "import environ\nenv = environ.Env(DEBUG=(bool, False))\nD = env('DEBUG')\nA = env('A')\nB = env.str('B', default=1)\n\
              C = env.list(\n    'C'\n)\nX = env.db()\nY = env.db('Y', default='sqlite:///x')\nZ = env.cache()\n",
                &["A:4", "C:6", "DATABASE_URL:9", "CACHE_URL:11"],
            ),
            (
                "from environs import Env\nenv = Env()\nenv.read_env()\nA = env.int('A')\nB = env.int('B', 1)\n",
                &["A:4"],
            ),
            ("DATABASES = {'default': dj_database_url.config()}\n", &[]),
            (
                "DATABASES = {'default': {'NAME': os.environ['DB'], 'USER': os.environ['U']}}\n",
                &["DB:1", "U:1"],
            ),
            ("A = '''\nos.environ['B']\n'''\nC = os.environ['C']\n", &["C:4"]),
            ("A = x or os.environ['A']\n", &[]),
        ] {
            assert_eq!(needs(text), expected, "{text}");
        }
    }

    #[test]
    fn imports_are_followed_inside_the_project() {
        let found = settings(
            &[
                (
                    "cfg/settings/production.py",
                    "from .base import *\nfrom ..keys import KEY\nDEBUG = False\nB = os.environ['B']\n",
                ),
                ("cfg/settings/base.py", "from os import *\nDEBUG = True\nA = os.environ['A']\n"),
                ("cfg/keys.py", "KEY = os.environ['KEY']\n"),
                ("cfg/settings/__init__.py", ""),
            ],
            "cfg.settings.production",
        );
        let paths: Vec<&str> = found.files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["cfg/settings/production.py", "cfg/settings/base.py", "cfg/keys.py"]);
        let needs: Vec<String> = found
            .needs()
            .into_iter()
            .map(|need| format!("{} {}:{}", need.name, need.path, need.line))
            .collect();
        assert_eq!(
            needs,
            ["B cfg/settings/production.py:4", "A cfg/settings/base.py:3", "KEY cfg/keys.py:1"]
        );
        assert_eq!(found.values().of("DEBUG"), Known::Is(vec![Token::Name("False".into())]));
        // `os` is not the project's, and could set anything.
        assert_eq!(found.values().of("STATIC_ROOT"), Known::Computed);
    }

    #[test]
    fn readers_are_imported_too() {
        let found = settings(
            &[
                ("cfg/prod.py", "from .base import *\nA = env('A')\nB = env('B')\nC = config('C')\n"),
                ("cfg/base.py", "from .read import env\n"),
                (
                    "cfg/read.py",
                    "import environ\nfrom decouple import config\nenv = environ.Env(B=(str, ''))\n",
                ),
                ("cfg/__init__.py", ""),
            ],
            "cfg.prod",
        );
        let needs: Vec<String> = found.needs().into_iter().map(|need| need.name).collect();
        // `config` is not handed on by base.py.
        assert_eq!(needs, ["A"]);
    }

    #[test]
    fn what_depends_is_unknown() {
        let of = |text: &str, name: &str| settings(&[("s.py", text)], "s").values().of(name);
        assert_eq!(of("A = 1\n", "B"), Known::Absent);
        assert_eq!(of("if X:\n    B = 1\n", "B"), Known::Computed);
        assert_eq!(of("B = []\nB += [1]\n", "B"), Known::Computed);
        assert_eq!(of("B = []\nB.append(1)\n", "B"), Known::Computed);
        assert_eq!(
            of("B = 'x'\nimport django_heroku\ndjango_heroku.settings(locals())\n", "B"),
            Known::Computed
        );
        assert_eq!(of("B = 'x'  # y\n", "B"), Known::Is(vec![Token::Text("x".into())]));
        assert_eq!(of("B = f'x'\n", "B"), Known::Is(vec![Token::Sign('…')]));
    }

    #[test]
    fn entries_and_env_files() {
        let found = settings(
            &[
                ("manage.py", "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 's'\n"),
                ("s.py", "from decouple import config\n"),
                (".env", "# no\nA=1\nexport B = 'x'\n"),
                (".env.example", "C=\n"),
            ],
            "s",
        );
        assert_eq!(found.insists(), Some(("manage.py", 2)));
        assert!(found.reads_env_file());
        assert_eq!(found.set_by_files().into_iter().collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(found.exampled(), [("C".to_owned(), ".env.example".to_owned())]);
        assert_eq!(
            settings(
                &[("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 's')"), ("s.py", "")],
                "s"
            )
            .insists(),
            None
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[-a-zA-Z_.()\\[\\]{}'\"\\\\#=,: \n;é]{0,200}") {
            let found = settings(&[("s.py", &text)], "s");
            found.needs();
            found.values();
            found.reads_env_file();
        }
    }
}
