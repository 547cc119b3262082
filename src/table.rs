//! Tables for people: aligned, and no wider than the terminal.
//!
//! Invariant: pure. What does not fit is cut in the widest columns, marked by `…`; where there is no terminal, nothing is cut.

/// What a row is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// All is well.
    Good,
    /// To be looked at.
    Odd,
    /// Broken.
    Bad,
    /// Of less interest; also the head.
    Dim,
}

/// Rows under a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    rows: Vec<(Tone, Vec<String>)>,
}

/// The least that a column is cut to.
const NARROWEST: usize = 8;

impl Table {
    /// A table with nothing but a head.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![(Tone::Dim, head.iter().map(ToString::to_string).collect())] }
    }

    /// Adds a row.
    pub fn row(&mut self, tone: Tone, cells: impl IntoIterator<Item = String>) {
        self.rows.push((tone, cells.into_iter().collect()));
    }

    /// The lines, each with what it is. `width` is the terminal's, if there is one.
    pub fn lines(&self, width: Option<usize>) -> Vec<(Tone, String)> {
        let columns = self.rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
        let longest = |column: usize| {
            let length =
                |(_, cells): &(Tone, Vec<String>)| cells.get(column).map_or(0, |text| text.chars().count());
            self.rows.iter().map(length).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(longest).collect();
        let between = 2 * columns.saturating_sub(1);
        while let Some(most) = width
            && widths.iter().sum::<usize>() + between > most
        {
            match widths.iter_mut().max().filter(|widest| **widest > NARROWEST) {
                Some(widest) => *widest -= 1,
                None => break,
            }
        }
        let line = |(tone, cells): &(Tone, Vec<String>)| {
            let padded: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(text, width)| format!("{:<width$}", cut(text, *width), width = *width))
                .collect();
            (*tone, padded.join("  ").trim_end().to_owned())
        };
        self.rows.iter().map(line).collect()
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal() {
        let mut table = Table::new(&["name", "what", "when"]);
        table.row(Tone::Good, ["a".to_owned(), "x".repeat(30), "today".to_owned()]);
        table.row(Tone::Bad, ["bé".to_owned(), String::new(), String::new()]);
        let text =
            |width| table.lines(width).into_iter().map(|(_, line)| line).collect::<Vec<String>>().join("\n");
        assert_eq!(
            text(None),
            format!("name  what{}  when\na     {}  today\nbé", " ".repeat(26), "x".repeat(30))
        );
        assert_eq!(text(Some(25)), "name  what          when\na     xxxxxxxxxxx…  today\nbé");
        assert!(text(Some(3)).lines().all(|line| line.chars().count() <= 4 + 2 + NARROWEST + 2 + 5));
    }
}
