//! Tables for people: aligned, and no wider than the terminal.
//!
//! Invariant: pure. Where not all fits, columns that can be spared are left out, then the widest are cut, marked by `…`. Where
//! there is no terminal, everything is there.

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
    whole: Vec<usize>,
    spare: Vec<usize>,
}

/// The least that a column is cut to.
const NARROWEST: usize = 8;

impl Table {
    /// A table with nothing but a head.
    pub fn new(head: &[&str]) -> Self {
        let head = (Tone::Dim, head.iter().map(ToString::to_string).collect());
        Self { rows: vec![head], whole: Vec::new(), spare: Vec::new() }
    }

    /// Columns that are never cut, by their heads: a part of them would say nothing.
    #[must_use]
    pub fn whole(mut self, heads: &[&str]) -> Self {
        self.whole = self.columns(heads);
        self
    }

    /// Columns that are left out where there is no room for all, by their heads, the first one first.
    #[must_use]
    pub fn spare(mut self, heads: &[&str]) -> Self {
        self.spare = self.columns(heads);
        self
    }

    fn columns(&self, heads: &[&str]) -> Vec<usize> {
        let all = self.rows.first().map(|(_, cells)| cells.as_slice()).unwrap_or_default();
        heads.iter().filter_map(|head| all.iter().position(|known| known == head)).collect()
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
        let mut shown: Vec<(usize, usize)> = (0..columns).map(|column| (column, longest(column))).collect();
        let is_whole = |column: usize| self.whole.contains(&column);
        let sum = |shown: &[(usize, usize)], least: bool| {
            let each = |(column, width): &(usize, usize)| match least && !is_whole(*column) {
                true => (*width).min(NARROWEST),
                false => *width,
            };
            shown.iter().map(each).sum::<usize>() + 2 * shown.len().saturating_sub(1)
        };
        if let Some(most) = width {
            for spare in &self.spare {
                if sum(&shown, true) > most {
                    shown.retain(|(column, _)| column != spare);
                }
            }
            while sum(&shown, false) > most {
                let cuttable =
                    shown.iter_mut().filter(|(column, width)| !is_whole(*column) && *width > NARROWEST);
                match cuttable.max_by_key(|(_, width)| *width) {
                    Some((_, widest)) => *widest -= 1,
                    None => break,
                }
            }
        }
        let line = |(tone, cells): &(Tone, Vec<String>)| {
            let cell = |(column, width): &(usize, usize)| {
                let text = cells.get(*column).map(String::as_str).unwrap_or_default();
                format!("{:<width$}", cut(text, *width), width = *width)
            };
            (*tone, shown.iter().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned())
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

    #[test]
    fn what_can_be_spared_goes_before_what_must_be_whole_is_cut() {
        let mut table = Table::new(&["name", "who", "what", "when"]).whole(&["when"]).spare(&["who", "name"]);
        let row = ["v1", "somebody", "a long description", "2026-11-22 04:26"].map(str::to_owned);
        table.row(Tone::Plain, row);
        let row = |width| table.lines(Some(width))[1].1.clone();
        assert_eq!(row(60), "v1    somebody  a long description  2026-11-22 04:26");
        assert_eq!(row(45), "v1    somebody  a long des…  2026-11-22 04:26");
        assert_eq!(row(40), "v1    a long descript…  2026-11-22 04:26");
        assert_eq!(row(30), "a long desc…  2026-11-22 04:26");
        assert_eq!(row(10), "a long …  2026-11-22 04:26");
    }
}
