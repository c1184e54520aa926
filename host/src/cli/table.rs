//! Lists that fit a screen: one line for each thing, its columns under each
//! other also where letters are two cells wide, made to fit the terminal.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::printable;

const GAP: usize = 2;
/// No column that is cut is narrower: less of it says nothing, and the last columns are left out instead.
const NARROWEST: usize = 16;

pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<T: Into<String>>(heads: impl IntoIterator<Item = T>) -> Self {
        Self { heads: heads.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| printable::line(&cell).into_owned());
        self.rows.push(cells.collect());
    }

    /// The heading, then a line for each row. Of those that are wider than `width` words are cut, and where that is not enough
    /// the last columns are left out; the first, by which others name a row, is always whole, and so are numbers and times.
    pub fn lines(&self, width: Option<usize>) -> Vec<String> {
        let widths = self.widths(width);
        let last = widths.len().saturating_sub(1);
        // Times are as wide as each other, and what names a row begins it.
        let is_right = |column: usize| column > 0 && self.is_number(column) && self.rows.iter().all(|row| !row[column].contains(':'));
        let is_right: Vec<bool> = (0..widths.len()).map(is_right).collect();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = cut(&cells[column], *width);
                let blank = width.saturating_sub(cell.width());
                let (before, after) = if is_right[column] { (blank, 0) } else { (0, blank) };
                line.push_str(&" ".repeat(before));
                line.push_str(&cell);
                if column < last {
                    line.push_str(&" ".repeat(after + GAP));
                }
            }
            line.trim_end().to_owned()
        };
        std::iter::once(line(&self.heads)).chain(self.rows.iter().map(|row| line(row))).collect()
    }

    /// And what was left out.
    pub fn lines_and_note(&self, width: Option<usize>) -> Vec<String> {
        let mut lines = self.lines(width);
        lines.extend(self.note(width));
        lines
    }

    /// Says which columns found no room.
    pub fn note(&self, width: Option<usize>) -> Option<String> {
        let left_out = &self.heads[self.widths(width).len()..];
        (!left_out.is_empty()).then(|| cut(&format!("no room for: {} (--json)", left_out.join(", ")), width.unwrap_or(usize::MAX)))
    }

    /// Of the columns that are shown.
    fn widths(&self, most: Option<usize>) -> Vec<usize> {
        let full = |column: usize| self.rows.iter().map(|row| row[column].width()).chain([self.heads[column].width()]).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..self.heads.len()).map(full).collect();
        let Some(most) = most else { return widths };
        let mut least: Vec<usize> = widths.iter().enumerate().map(|(column, width)| if column == 0 || self.is_number(column) { *width } else { NARROWEST.min(*width) }).collect();
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        while total(&least) > most && least.len() > 1 {
            least.pop();
            widths.pop();
        }
        while total(&widths) > most {
            let widest = (0..widths.len()).filter(|column| widths[*column] > least[*column]).max_by_key(|column| widths[*column]);
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
        }
        widths
    }

    fn is_number(&self, column: usize) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| is_number(&row[column]))
    }

    pub fn print(&self) {
        self.lines_and_note(terminal_width()).iter().for_each(|line| super::print_line(line));
    }
}

/// Or a time, or a sum of money with its currency.
fn is_number(cell: &str) -> bool {
    let cell = cell.rsplit_once(' ').filter(|(_, unit)| unit.len() == 3 && unit.bytes().all(|byte| byte.is_ascii_uppercase())).map_or(cell, |(amount, _)| amount);
    cell.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | ' ' | ':' | '+'))
}

/// At most so many cells; what is left out shows as `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= left;
        left = if fits { left - wide } else { 0 };
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Of the terminal; of whatever `COLUMNS` says where there is none. Without either nothing is cut.
pub fn terminal_width() -> Option<usize> {
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let asked = || {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: writes into the record that it is given, of the size that this request is about.
        let known = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
        (known && size.ws_col > 0).then_some(size.ws_col.into())
    };
    if std::io::stdout().is_terminal() { asked().or_else(told) } else { told() }.filter(|width| *width >= 20)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_stand_under_each_other_whatever_their_letters_are() {
        let mut table = Table::new(["number", "name", "total"]);
        table.row(["A-1", "李雷的龙井茶", "12.50"].map(String::from));
        table.row(["A-22", "Ann", "9.00"].map(String::from));
        assert_eq!(table.lines(None), ["number  name          total", "A-1     李雷的龙井茶  12.50", "A-22    Ann            9.00"]);
        assert_eq!(table.lines_and_note(Some(26)), ["number  name", "A-1     李雷的龙井茶", "A-22    Ann", "no room for: total (--jso…"]);
        table.row(["A-333", "李雷的西湖龙井茶和别的茶叶", "9.00"].map(String::from));
        assert_eq!(table.lines(Some(33))[3], "A-333   李雷的西湖龙井茶…    9.00");
        assert_eq!(table.lines(Some(3)), ["number", "A-1", "A-22", "A-333"]);
    }

    #[test]
    fn what_names_a_row_is_never_cut() {
        let mut table = Table::new(["payment", "amount", "created", "why"]);
        table.row(["018f9a3c-7c1e-7b53-9a51-0242ac120002", "12.50 CNY", "2026-06-01 08:00 +08", "the provider tells of another amount"].map(String::from));
        assert_eq!(table.lines(Some(80))[1], "018f9a3c-7c1e-7b53-9a51-0242ac120002  12.50 CNY  2026-06-01 08:00 +08");
        for width in 20..120 {
            assert!(table.lines(Some(width))[1].starts_with("018f9a3c-7c1e-7b53-9a51-0242ac120002"), "{width}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_screen_or_its_first_column(rows in prop::collection::vec(prop::array::uniform3("[ -~一-龥\u{300}]{0,60}"), 1..8), width in 40_usize..120) {
            let mut table = Table::new(["a", "b", "c"]);
            rows.into_iter().for_each(|row| table.row(row));
            let first = table.rows.iter().map(|row| row[0].width()).max().unwrap_or(0);
            for line in table.lines_and_note(Some(width)) {
                prop_assert!(line.width() <= width.max(first), "{line:?} is {} wide", line.width());
            }
        }
    }
}
