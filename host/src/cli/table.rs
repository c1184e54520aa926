//! Lists that fit a screen: one line for each thing, its columns under each
//! other also where letters are two cells wide, cut to the terminal's width.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::printable;

const GAP: usize = 2;
/// No column that is cut is narrower.
const NARROWEST: usize = 6;

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

    /// The heading, then a line for each row; cut to `width` cells, if there is one.
    pub fn lines(&self, width: Option<usize>) -> Vec<String> {
        let is_number = |column: usize| self.rows.iter().all(|row| is_number(&row[column])) && !self.rows.is_empty();
        let mut widths: Vec<usize> = (0..self.heads.len())
            .map(|column| self.rows.iter().map(|row| row[column].width()).chain([self.heads[column].width()]).max().unwrap_or(0))
            .collect();
        if let Some(most) = width {
            fit(&mut widths, most);
        }
        let last = widths.len().saturating_sub(1);
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let cell = cut(cell, widths[column]);
                let blank = widths[column].saturating_sub(cell.width());
                let (before, after) = if is_number(column) { (blank, 0) } else { (0, blank) };
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

    pub fn print(&self) {
        self.lines(terminal_width()).iter().for_each(|line| super::print_line(line));
    }
}

fn is_number(cell: &str) -> bool {
    cell.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | ' ')) || cell.is_empty()
}

/// Takes from the widest column until all fit.
fn fit(widths: &mut [usize], most: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > most {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > NARROWEST) else { return };
        *widest -= 1;
    }
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
        assert_eq!(table.lines(Some(22)), ["number  name     total", "A-1     李雷的…  12.50", "A-22    Ann       9.00"]);
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_screen(rows in prop::collection::vec(prop::array::uniform3("[ -~一-龥\u{300}]{0,60}"), 1..8), width in 40_usize..120) {
            let mut table = Table::new(["a", "b", "c"]);
            rows.into_iter().for_each(|row| table.row(row));
            for line in table.lines(Some(width)) {
                prop_assert!(line.width() <= width, "{line:?} is {} wide", line.width());
            }
        }
    }
}
