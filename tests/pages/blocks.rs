//! The blocks of README.md and docs/*.md, taken apart: command lines, and pieces of files.

use std::path::PathBuf;

/// A page: where it is below the repository's root, and its text.
pub fn pages() -> Vec<(String, String)> {
    let root = super::root();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|is| is == "md")).collect();
    paths.extend(
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "examples/library/README.md"]
            .map(|name| root.join(name)),
    );
    paths.sort();
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// An indented block of a page, its lines without their common indent.
#[derive(Debug)]
pub struct Block {
    /// The page.
    pub page: String,
    /// Its lines.
    pub lines: Vec<String>,
}

impl Block {
    fn first(&self) -> &str {
        self.lines.first().map(String::as_str).unwrap_or_default()
    }

    /// Whether it is a piece of ship.yml.
    fn is_config(&self) -> bool {
        let word = self.first().split(' ').next().unwrap_or_default();
        let letters = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        word != "error:" && word.strip_suffix(':').is_some_and(letters)
    }

    /// Whether it is a file's piece, or what a program prints, rather than commands.
    pub fn is_data(&self) -> bool {
        // Of other files; of the file that `ship config edit` opens.
        let starts = ["# ", "$ ", "{%", "if (", "--", "error:", "MAIL_PASSWORD=$("];
        self.is_config() || starts.iter().any(|start| self.first().starts_with(start))
    }

    /// Its commands, without comments.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        let lines = if self.is_data() { &[][..] } else { &self.lines[..] };
        lines.iter().map(|line| without_comment(line)).filter(|line| !line.is_empty())
    }
}

/// The indented blocks of README.md and the pages of docs.
pub fn blocks() -> Vec<Block> {
    let of_users = |page: &str| page == "README.md" || page.starts_with("docs/");
    let pages = pages().into_iter().filter(|(page, _)| of_users(page));
    pages.flat_map(|(page, text)| blocks_of(&page, &text)).collect()
}

fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let (mut blocks, mut lines, mut fenced, mut before_is_empty) = (Vec::new(), Vec::new(), false, true);
    for line in text.lines().chain([""]) {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with("    ") && (before_is_empty || !lines.is_empty()) {
            lines.push(line.to_owned());
            continue;
        }
        if !lines.is_empty() {
            blocks.push(Block { page: page.to_owned(), lines: dedented(&std::mem::take(&mut lines)) });
        }
        before_is_empty = line.is_empty();
    }
    blocks
}

fn dedented(lines: &[String]) -> Vec<String> {
    let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    lines.iter().map(|line| line[indent..].trim_end().to_owned()).collect()
}

/// A line without what a `#` after a space begins, outside of quotes.
pub fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, '#') if line[..at].ends_with(' ') || at == 0 => return line[..at].trim_end(),
            (Some(_), _) | (None, _) => {}
        }
    }
    line.trim_end()
}

/// The pieces of ship.yml in a page's blocks: each top-level key with what belongs to it.
pub fn pieces() -> Vec<(String, String)> {
    let mut pieces = Vec::new();
    for block in blocks().iter().filter(|block| block.is_config()) {
        for line in &block.lines {
            let (page, line) = (block.page.clone(), without_comment(line));
            match pieces.last_mut() {
                Some((_, piece)) if line.starts_with(' ') => *piece = format!("{piece}{line}\n"),
                _ if line.is_empty() => {}
                _ => pieces.push((page, format!("{line}\n"))),
            }
        }
    }
    pieces
}
