//! What a project's migration files say they do, read without running them: for a plan, before the server has them.
//!
//! Invariant: pure, and never wrong about more than words. What can't be read is left out; the release's own Django says
//! it all before anything is migrated.

/// The operations of a migration file, a line each: `AddField book.rating`.
pub(super) fn operations(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let list = tokens.windows(3).position(|three| {
        matches!(three, [Token::Name(name), Token::Sign('='), Token::Sign('[')] if name == "operations")
    });
    let Some(inside) = list.and_then(|at| tokens.get(at + 3..)) else { return Vec::new() };
    let (mut found, mut depth, mut last) = (Vec::<Operation>::new(), 0_usize, None);
    for (index, token) in inside.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => {
                if let (0, Some(name)) = (depth, last.take()) {
                    found.push(Operation::new(name));
                }
                depth += 1;
            }
            Token::Sign(')' | ']' | '}') => {
                let Some(less) = depth.checked_sub(1) else { break };
                depth = less;
            }
            Token::Sign(',') if depth == 1 => {
                let next = inside.get(index + 1);
                let keyword = inside.get(index + 2) == Some(&Token::Sign('='));
                if let (Some(operation), Some(Token::Name(_) | Token::Text(_))) = (found.last_mut(), next) {
                    operation.second |= !keyword;
                }
            }
            Token::Name(name) => last = Some(name.clone()),
            Token::Text(text) if depth == 1 => {
                let keyword = match index.checked_sub(2).and_then(|from| inside.get(from..index)) {
                    Some([Token::Name(name), Token::Sign('=')]) => Some(name.as_str()),
                    Some(_) | None => None,
                };
                if let Some(operation) = found.last_mut() {
                    operation.take(keyword, text);
                }
            }
            Token::Sign(_) | Token::Text(_) => {}
        }
        if let (1, Token::Name(name), Some(operation)) = (depth, token, found.last_mut()) {
            operation.reverses |= matches!(name.as_str(), "reverse_code" | "reverse_sql");
        }
    }
    found.iter().map(Operation::line).collect()
}

/// Whether a path is that of a migration.
pub(super) fn is_migration(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or_default();
    parts.next() == Some("migrations") && file.ends_with(".py") && !file.starts_with('_')
}

#[derive(Default)]
struct Operation {
    kind: String,
    model: Option<String>,
    name: Option<String>,
    positional: Vec<String>,
    /// Whether there is a second positional argument.
    second: bool,
    reverses: bool,
}

impl Operation {
    fn new(kind: String) -> Self {
        Self { kind, ..Self::default() }
    }

    fn take(&mut self, keyword: Option<&str>, text: &str) {
        match keyword {
            Some("model_name" | "old_model_name") => self.model = Some(text.into()),
            Some("name" | "old_name") => self.name = Some(text.into()),
            Some(_) => {}
            None => self.positional.push(text.into()),
        }
    }

    fn line(&self) -> String {
        let mut names: Vec<&str> = self.model.iter().chain(&self.name).map(String::as_str).collect();
        let code = matches!(self.kind.as_str(), "RunPython" | "RunSQL");
        if names.is_empty() && !code {
            let field = self.kind.ends_with("Field");
            names = self.positional.iter().take(if field { 2 } else { 1 }).map(String::as_str).collect();
        }
        let what = names.join(".");
        let way_back = self.reverses || self.second;
        let note = if code && !way_back { " (can't be reversed)" } else { "" };
        if what.is_empty() { format!("{}{note}", self.kind) } else { format!("{} {what}{note}", self.kind) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Sign(char),
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = if first == '#' {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' || first == '\'' {
            let (content, length) = literal(rest, first);
            tokens.push(Token::Text(content));
            length
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let prefix = after.starts_with(['"', '\'']) && name.len() <= 2;
            if !prefix {
                tokens.push(Token::Name(name.into()));
            }
            end
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            first.len_utf8()
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    tokens
}

/// A string's content and its length with its quotes.
fn literal(text: &str, quote: char) -> (String, usize) {
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let mark = if text.starts_with(&triple) { triple } else { quote.to_string() };
    let mut escaped = false;
    let body = text.get(mark.len()..).unwrap_or_default();
    for (at, character) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if body.get(at..).is_some_and(|rest| rest.starts_with(&mark)) {
            return (body.get(..at).unwrap_or_default().into(), at + 2 * mark.len());
        }
    }
    (body.into(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_from_a_file() {
        let text = r#"
from django.db import migrations, models
# operations = [migrations.Nonsense()]
class Migration(migrations.Migration):
    """operations = ["""
    dependencies = [("catalog", "0002_first_books")]
    operations = [
        migrations.CreateModel(
            name="Shelf",
            fields=[("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=9))],
            options={"ordering": ["name"]},
        ),
        migrations.AddField(model_name='book', name='rating', field=models.IntegerField(null=True)),
        migrations.RemoveField("book", "cover"),
        AddIndexConcurrently(model_name="book", index=models.Index(fields=["rating"], name="by_rating")),
        migrations.RunPython(forget),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunPython(code=fill, reverse_code=empty),
        migrations.RunSQL("select 'it''s', (\"1\")"),
        migrations.SeparateDatabaseAndState(database_operations=[migrations.DeleteModel("x")]),
    ]
"#;
        insta::assert_snapshot!(operations(text).join("\n"), @r"
          CreateModel Shelf
          AddField book.rating
          RemoveField book.cover
          AddIndexConcurrently book
          RunPython (can't be reversed)
          RunPython
          RunPython
          RunSQL (can't be reversed)
          SeparateDatabaseAndState
        ");
        assert!(operations("what ever").is_empty());
        assert!(operations("operations = [(").is_empty());
    }

    #[test]
    fn migrations_are_told_by_their_path() {
        let yes = ["catalog/migrations/0001_initial.py", "migrations/x.py"];
        let no = [
            "catalog/migrations/__init__.py",
            "catalog/migrations/sub/x.py",
            "catalog/views.py",
            "migrations/x.pyc",
        ];
        assert!(yes.into_iter().all(is_migration) && !no.into_iter().any(is_migration));
    }
}
