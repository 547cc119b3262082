//! A plan as Markdown, for a comment on a pull request.
//!
//! Invariant: what looks like a secret is masked, whatever file it stands in, since a comment is read by more people than a
//! terminal; the comment fits what GitHub and GitLab take; nothing in a plan can break out of its cell or block.

use super::{Action, Plan};

/// The most that a comment may hold: GitHub takes 65,536 characters, GitLab more.
const LIMIT: usize = 60_000;

/// What a plan is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The application.
    pub app: String,
    /// The environment of `ship.yml`, if any.
    pub environment: Option<String>,
    /// What to say if there is nothing to change: `v7 is live`.
    pub settled: String,
    /// The commit that was planned, if the project is in git.
    pub commit: Option<String>,
    /// What the user should know besides.
    pub warnings: Vec<String>,
}

/// The hidden first line, by which a bot finds the comment that it is to replace.
pub fn marker(about: &About) -> String {
    let place = about.environment.as_deref().unwrap_or("default");
    format!("<!-- ship plan: {} {place} -->", about.app)
}

/// The comment.
pub fn markdown(plan: &Plan, about: &About) -> String {
    let environment = about.environment.as_ref().map(|name| format!(" ({})", text(name))).unwrap_or_default();
    let mut out = format!("{}\n### ship plan: {}{environment}\n\n", marker(about), text(&about.app));
    for warning in &about.warnings {
        out.push_str(&format!("> **Warning:** {}\n\n", text(warning)));
    }
    if plan.is_empty() {
        out.push_str(&format!("Nothing to change: {}.\n", text(&about.settled)));
    } else {
        out.push_str(&format!("**{}**\n\n| | what | why |\n|---|---|---|\n", text(&plan.summary())));
        let end = footer(about).len() + 200;
        let mut left = 0;
        for change in &plan.changes {
            let what = match change.action {
                Action::Create | Action::Update | Action::Remove => change.id.to_string(),
                Action::Run | Action::Start | Action::Stop | Action::Restart | Action::Reload => {
                    change.title()
                }
            };
            let row = format!(
                "| `{}` | {} | {} |\n",
                change.action.sign(),
                code(&what),
                text(&masked(&change.why))
            );
            // The table may take half of what there is; the rest is for the differences.
            if left > 0 || out.len() + row.len() > LIMIT / 2 {
                left += 1;
            } else {
                out.push_str(&row);
            }
        }
        if left > 0 {
            out.push_str(&format!("| | and {left} more | |\n"));
        }
        out.push_str(&differences(plan, LIMIT.saturating_sub(out.len() + end)));
    }
    out.push_str(&footer(about));
    out
}

fn footer(about: &About) -> String {
    about.commit.as_ref().map(|commit| format!("\nCommit {}.\n", code(commit))).unwrap_or_default()
}

/// The diffs of a plan, as far as there is room for them.
fn differences(plan: &Plan, room: usize) -> String {
    let mut body = String::new();
    let mut left = 0;
    for change in &plan.changes {
        let Some(diff) = change.diff.as_deref().filter(|diff| !diff.trim().is_empty()) else { continue };
        let lines: String = diff.lines().map(|line| format!("{}\n", masked(line))).collect();
        let piece = format!("# {}\n{lines}", change.title());
        if left > 0 || body.len() + piece.len() > room {
            left += 1;
        } else {
            body.push_str(&piece);
        }
    }
    if body.is_empty() && left == 0 {
        return String::new();
    }
    let fence = fence(&body);
    let more = if left > 0 {
        format!("\n{left} more did not fit here: `ship plan` shows them.\n")
    } else {
        String::new()
    };
    format!("\n<details><summary>Differences</summary>\n\n{fence}diff\n{body}{fence}\n{more}\n</details>\n")
}

/// A fence that no line of the text can close.
fn fence(text: &str) -> String {
    let longest = text.lines().map(|line| line.chars().take_while(|c| *c == '`').count()).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

/// Text that means nothing to Markdown, on one line.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A name after it would be told of every plan.
            '@' => out.push_str("&#64;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' | '#' => {
                out.push('\\');
                out.push(character);
            }
            _ => out.push(character),
        }
    }
    out
}

/// Text in a code span, which a table's bar still ends unless it is escaped.
fn code(text: &str) -> String {
    let one = text.replace(['\n', '\r'], " ").replace('|', "\\|");
    let longest = one.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let ticks = "`".repeat(longest + 1);
    let space = if longest > 0 { " " } else { "" };
    format!("{ticks}{space}{one}{space}{ticks}")
}

/// A line whose secrets, as far as they look like some, are stars.
fn masked(line: &str) -> String {
    const SECRET: [&str; 9] =
        ["SECRET", "PASSWORD", "PASSWD", "TOKEN", "KEY", "DSN", "CREDENTIAL", "PRIVATE", "DATABASE_URL"];
    let mut line = passwords(line);
    let head = line.find(['=', ':']).map(|at| (at, line.get(..at).unwrap_or_default().to_uppercase()));
    if let Some((at, name)) = head {
        // One word, as an assignment's name is; not a sentence, and no path.
        let word = name.trim_start_matches(['+', '-', ' ', '"', '\'']).trim_start_matches("EXPORT ");
        let word = word.trim_end_matches(['"', '\'', ' ']);
        let is_name =
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let is_secret =
            SECRET.iter().any(|secret| word.split(['_', '-']).any(|part| part == *secret) || word == *secret);
        let has_value = line.get(at + 1..).is_some_and(|value| !value.trim().is_empty());
        if is_name && is_secret && has_value {
            line.truncate(at + 1);
            line.push_str(" ***");
        }
    }
    line
}

/// Passwords of URLs as stars.
fn passwords(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || "/\"'<>,;".contains(c)).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@').map(|(who, host)| (who.split_once(':'), host)) {
            Some((Some((user, _)), host)) => out.push_str(&format!("{user}:***@{host}")),
            Some((None, _)) | None => out.push_str(authority),
        }
        rest = tail;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::super::{Change, ResourceId};
    use super::*;

    fn about() -> About {
        About {
            app: "library".into(),
            environment: Some("staging".into()),
            settled: "v7 is live".into(),
            commit: Some("1a2b3c4".into()),
            warnings: Vec::new(),
        }
    }

    fn change(name: &str, action: Action, why: &str, diff: &str) -> Change {
        let change = Change::new(ResourceId::new("file", name), action, why, Vec::new());
        if diff.is_empty() { change } else { change.with_diff(diff) }
    }

    #[test]
    fn a_comment_has_a_marker_a_table_and_the_differences() {
        let plan = Plan {
            changes: vec![
                Change::new(ResourceId::new("package", "nginx"), Action::Create, "not installed", Vec::new()),
                change(
                    "/etc/a",
                    Action::Update,
                    "content | differs",
                    "@@ -1 +1 @@\n-old\n+API_TOKEN=\"hunter2\"\n+DATABASE_URL=postgres://u:hunter2@h/d\n",
                ),
                Change::new(
                    ResourceId::new("unit", "nginx.service"),
                    Action::Reload,
                    "for @everyone <b>",
                    Vec::new(),
                ),
            ],
        };
        insta::assert_snapshot!(markdown(&plan, &about()), @r#"
        <!-- ship plan: library staging -->
        ### ship plan: library (staging)

        **1 to create, 1 to update, 1 to reload**

        | | what | why |
        |---|---|---|
        | `+` | `package nginx` | not installed |
        | `~` | `file /etc/a` | content \| differs |
        | `>` | `reload nginx.service` | for &#64;everyone &lt;b&gt; |

        <details><summary>Differences</summary>

        ```diff
        # update file /etc/a
        @@ -1 +1 @@
        -old
        +API_TOKEN= ***
        +DATABASE_URL= ***
        ```

        </details>

        Commit `1a2b3c4`.
        "#);
    }

    #[test]
    fn nothing_to_change_is_said_under_the_same_marker() {
        let told =
            markdown(&Plan::default(), &About { warnings: vec!["somebody deploys".into()], ..about() });
        insta::assert_snapshot!(told, @r"
        <!-- ship plan: library staging -->
        ### ship plan: library (staging)

        > **Warning:** somebody deploys

        Nothing to change: v7 is live.

        Commit `1a2b3c4`.
        ");
        assert!(told.starts_with("<!-- ship plan: library staging -->\n"));
        assert_ne!(marker(&about()), marker(&About { environment: None, ..about() }));
    }

    #[test]
    fn secrets_are_masked_and_the_rest_is_not() {
        for (line, shown) in [
            ("+SECRET_KEY=\"abc\"", "+SECRET_KEY= ***"),
            ("-  api-token: abc", "-  api-token: ***"),
            (" export EMAIL_HOST_PASSWORD='a b'", " export EMAIL_HOST_PASSWORD= ***"),
            ("+REDIS=redis://:pass@h:1/0 x://a@b", "+REDIS=redis://:***@h:1/0 x://a@b"),
            ("+url = https://u:p@ss@h/", "+url = https://u:***@h/"),
            ("+MONKEY=banana", "+MONKEY=banana"),
            ("+    ssl_certificate_key /etc/x.pem;", "+    ssl_certificate_key /etc/x.pem;"),
            ("+# the key: in a sentence", "+# the key: in a sentence"),
            ("+KEY=", "+KEY="),
        ] {
            assert_eq!(masked(line), shown);
        }
    }

    #[test]
    fn nothing_breaks_out_and_everything_fits() {
        let wild = change("/etc/`a`|b\nc", Action::Update, "", "```\n</details>\n````sh\n");
        let told = markdown(&Plan { changes: vec![wild] }, &about());
        assert!(
            told.contains("`` /etc/`a`\\|b c ``") || told.contains("`` file /etc/`a`\\|b c ``"),
            "{told}"
        );
        assert!(told.contains("\n`````diff\n"), "{told}");
        let large: Vec<Change> = (0..3000)
            .map(|number| {
                change(&format!("/etc/{number}"), Action::Update, "content differs", &"+x\n".repeat(50))
            })
            .collect();
        let told = markdown(&Plan { changes: large }, &about());
        assert!(
            told.len() < 65_536 && told.contains(" more | |") && told.contains("more did not fit here"),
            "{}",
            told.len()
        );
        assert!(told.ends_with("Commit `1a2b3c4`.\n"));
    }
}
