//! Tables as people have them: CSV in the encodings and with the separators
//! that spreadsheets write, each row with the line on which it begins.
//!
//! What is read: UTF-8 with or without a byte order mark, UTF-16, and GB18030
//! (what Excel writes in China); commas, semicolons or tabs, told by the header
//! or by a first line `sep=;`. Empty rows are passed over. Nothing is guessed
//! that could as well be something else: an encoding that cannot be told is an
//! error, and can be named by its label.

use std::fmt;

use encoding_rs::{Encoding, GB18030, UTF_16BE, UTF_16LE};

/// Far more than a product has columns.
const COLUMNS_MAX: usize = 1_000;
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Why a table cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableError {
    /// From 1.
    pub line: u64,
    /// What is wrong and what to do about it.
    pub problem: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for TableError {}

/// A header and the rows below it that are not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns, without blanks around them.
    pub header: Vec<String>,
    /// The line of the header, from 1.
    pub line: u64,
    /// In the order of the file.
    pub rows: Vec<Row>,
}

/// The cells of one row as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// One for each column that the row has.
    pub cells: Vec<String>,
}

impl Table {
    /// Reads a table; `encoding` is a label such as `gb18030` or `windows-1252`
    /// where the file's own marks are not to be trusted.
    pub fn read(input: &[u8], encoding: Option<&str>) -> Result<Self, TableError> {
        let text = decode(input, encoding)?;
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
        let (told, skipped) = told_separator(text);
        let body = &text[skipped..];
        let separator = told.unwrap_or_else(|| separator(body));
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(body.as_bytes());
        let mut lines = Lines { text, at: 0, line: 1 };
        let mut table: Option<Self> = None;
        for record in reader.records() {
            let record = record.map_err(|error| {
                let at = error.position().map_or(0, |position| position.byte() as usize);
                TableError { line: lines.of(skipped + at), problem: error.to_string() }
            })?;
            let line = lines.of(skipped + record.position().map_or(0, |position| position.byte() as usize));
            if record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            match &mut table {
                Some(table) => table.rows.push(Row { line, cells: record.iter().map(str::to_owned).collect() }),
                None if record.len() > COLUMNS_MAX => {
                    return Err(TableError { line, problem: format!("there are {} columns; at most {COLUMNS_MAX} are read", record.len()) });
                }
                None => table = Some(Self { header: record.iter().map(|name| name.trim().to_owned()).collect(), line, rows: Vec::new() }),
            }
        }
        table.ok_or_else(|| TableError { line: 1, problem: "the file is empty: the first line names the columns".into() })
    }

    /// The place of the first of these columns that there is, whatever their case.
    pub fn find(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.header.iter().position(|column| same(column, name)))
    }
}

impl Row {
    /// Without blanks around it and without the apostrophe that keeps a spreadsheet
    /// from taking it for a formula or a number; empty where the row is shorter.
    pub fn cell(&self, place: usize) -> &str {
        plain(self.cells.get(place).map_or("", String::as_str).trim())
    }
}

/// Whether two names of columns are the same to a person.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// Starts a formula in a spreadsheet.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋'];

/// A cell that a spreadsheet shows as it is: what would start a formula, or
/// would be read back without its apostrophe, gets one before it.
pub fn guarded(cell: &str) -> String {
    if cell.starts_with(FORMULA) || plain(cell) != cell { format!("'{cell}") } else { cell.to_owned() }
}

/// The opposite of [`guarded`]; takes the apostrophe off digits too, which other
/// systems write so that barcodes keep their zeros.
pub fn plain(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(FORMULA) || rest.starts_with('\'') => rest,
        Some(rest) if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => cell,
    }
}

/// Rows as a table that Excel opens everywhere: UTF-8 with a byte order mark.
pub fn write<R, C>(rows: impl IntoIterator<Item = R>) -> Vec<u8>
where
    R: IntoIterator<Item = C>,
    C: AsRef<[u8]>,
{
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(BYTE_ORDER_MARK.as_bytes().to_vec());
    for row in rows {
        // Into memory: there is nothing that can fail.
        let _ = writer.write_record(row);
    }
    writer.into_inner().unwrap_or_default()
}

fn decode(input: &[u8], encoding: Option<&str>) -> Result<String, TableError> {
    let failed = |line, problem: String| Err(TableError { line, problem });
    if let Some(label) = encoding {
        let Some(encoding) = Encoding::for_label(label.as_bytes()) else {
            return failed(1, format!("`{label}` is no encoding: use a label such as utf-8, gb18030, utf-16le or windows-1252"));
        };
        return match encoding.decode_without_bom_handling_and_without_replacement(input) {
            Some(text) => Ok(text.into_owned()),
            None => failed(1, format!("the text is not {}: name another encoding", encoding.name())),
        };
    }
    if let Some((encoding, _)) = Encoding::for_bom(input).filter(|(encoding, _)| [UTF_16LE, UTF_16BE].contains(encoding)) {
        return Ok(encoding.decode_with_bom_removal(input).0.into_owned());
    }
    if let Some(encoding) = wide(input) {
        return Ok(encoding.decode_without_bom_handling(input).0.into_owned());
    }
    let broken = match std::str::from_utf8(input) {
        Ok(text) => return Ok(text.to_owned()),
        Err(error) => error.valid_up_to(),
    };
    if let Some(text) = GB18030.decode_without_bom_handling_and_without_replacement(input).filter(|_| is_chinese(input)) {
        return Ok(text.into_owned());
    }
    let line = 1 + input[..broken].iter().filter(|byte| **byte == b'\n').count() as u64;
    failed(line, "the text is neither UTF-8 nor UTF-16 nor GB18030: save the file as UTF-8, or name its encoding (encoding=windows-1252)".into())
}

/// UTF-16 without a mark: a header has letters of the first 128, so every other byte is none.
fn wide(input: &[u8]) -> Option<&'static Encoding> {
    let head = &input[..input.len().min(64) & !1];
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let half = head.len() / 2;
    match (zeros(0), zeros(1)) {
        (0, low) if half > 1 && low * 4 >= half * 3 => Some(UTF_16LE),
        (high, 0) if half > 1 && high * 4 >= half * 3 => Some(UTF_16BE),
        _ => None,
    }
}

/// Whether the bytes outside ASCII come as in Chinese text: two and two, most of
/// them of GB 2312. Western text has single ones, between letters.
fn is_chinese(input: &[u8]) -> bool {
    let (mut pairs, mut others, mut at) = (0_usize, 0_usize, 0);
    while at < input.len() {
        match (input[at], input.get(at + 1)) {
            (0x00..=0x7f, _) => at += 1,
            (0xa1..=0xf7, Some(0xa1..=0xfe)) => (pairs, at) = (pairs + 1, at + 2),
            _ => (others, at) = (others + 1, at + 2),
        }
    }
    pairs > others * 4
}

/// A first line `sep=;`, as Excel knows it: the separator, and how many bytes to skip.
fn told_separator(text: &str) -> (Option<u8>, usize) {
    let end = text.find('\n').map_or(text.len(), |end| end + 1);
    let line = text[..end].trim_end_matches(['\r', '\n']).trim_matches('"');
    match line.get(..4).filter(|start| start.eq_ignore_ascii_case("sep=")).and_then(|_| line.as_bytes().get(4..)) {
        Some([separator]) => (Some(*separator), end),
        // A tab may have been trimmed away by an editor.
        Some([]) => (Some(b'\t'), end),
        _ => (None, 0),
    }
}

/// The one of which the header has most, outside of quotes.
fn separator(text: &str) -> u8 {
    let mut counts = [(b',', 0_usize), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for byte in text.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            _ if !quoted => counts.iter_mut().filter(|(separator, _)| *separator == byte).for_each(|(_, count)| *count += 1),
            _ => {}
        }
    }
    // Of equals the first: a comma.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(separator, _)| separator)
}

/// Counts lines as editors do, whichever way they end; asked for growing places.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: u64,
}

impl Lines<'_> {
    fn of(&mut self, place: usize) -> u64 {
        let bytes = self.text.as_bytes();
        // The reader leaves ends of lines to the record after them.
        let mut end = place.min(bytes.len());
        while matches!(bytes.get(end), Some(b'\r' | b'\n')) {
            end += 1;
        }
        for at in self.at..end {
            let ends = match bytes[at] {
                b'\n' => true,
                b'\r' => bytes.get(at + 1) != Some(&b'\n'),
                _ => false,
            };
            self.line += u64::from(ends);
        }
        self.at = self.at.max(end);
        self.line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(table: &Table) -> Vec<Vec<&str>> {
        table.rows.iter().map(|row| row.cells.iter().map(String::as_str).collect()).collect()
    }

    fn lines(input: &str) -> Vec<u64> {
        Table::read(input.as_bytes(), None).unwrap().rows.iter().map(|row| row.line).collect()
    }

    #[test]
    fn one_table_in_every_encoding_and_with_every_separator_is_the_same() {
        let text = "Handle,Title,Note\r\ntea,龙井茶，明前,\"a;b\"\r\ncup,杯子,\r\n";
        let wanted = Table::read(text.as_bytes(), None).unwrap();
        assert_eq!(cells(&wanted), [["tea", "龙井茶，明前", "a;b"], ["cup", "杯子", ""]]);
        let wide = |to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<u8>>();
        let marked = |mark: &[u8], bytes: Vec<u8>| [mark, &bytes].concat();
        let gb = GB18030.encode(text).0.into_owned();
        for (name, input) in [
            ("utf-8 with a mark", marked(b"\xef\xbb\xbf", text.into())),
            ("utf-16", marked(b"\xff\xfe", wide(u16::to_le_bytes))),
            ("utf-16 the other way", marked(b"\xfe\xff", wide(u16::to_be_bytes))),
            ("utf-16 without a mark", wide(u16::to_le_bytes)),
            ("gb18030", gb.clone()),
            ("sep", marked(b"sep=,\r\n", text.into())),
        ] {
            let table = Table::read(&input, None).unwrap();
            assert_eq!((&table.header, cells(&table)), (&wanted.header, cells(&wanted)), "{name}");
        }
        for separator in [";", "\t"] {
            let text = text.replace("\"a;b\"", "\"a,b\"").replace(',', separator).replace(&format!("\"a{separator}b\""), "\"a,b\"");
            for text in [text.clone(), format!("\"sep={separator}\"\n{text}")] {
                assert_eq!(cells(&Table::read(text.as_bytes(), None).unwrap())[0], ["tea", "龙井茶，明前", "a,b"], "{text}");
            }
        }
        assert_eq!(Table::read(&gb, Some("gbk")).unwrap(), wanted);
    }

    #[test]
    fn an_encoding_that_cannot_be_told_is_refused_and_can_be_named() {
        let western = b"handle,title\na,b\ncafe,Caf\xe9\ntea,Th\xe9s\n";
        let error = Table::read(western, None).unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert!(error.problem.contains("UTF-8") && error.problem.contains("encoding="), "{error}");
        assert_eq!(cells(&Table::read(western, Some("windows-1252")).unwrap())[1], ["cafe", "Café"]);
        assert!(Table::read(western, Some("klingon")).unwrap_err().problem.contains("klingon"));
    }

    #[test]
    fn rows_have_the_line_that_an_editor_shows() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "1,\"x", "y\"", "", "2,z", ",", "3,\"\"", "", ""].join(end);
            assert_eq!(lines(&text), [2, 5, 7], "{end:?}");
        }
        assert_eq!(lines("sep=;\r\na;b\r\n1;2\r\n"), [3]);
        assert_eq!(lines("\n\na,b\n\n1,2"), [5]);
        assert_eq!(Table::read(b"\n , \n", None).unwrap_err().line, 1);
    }

    #[test]
    fn apostrophes_before_digits_and_signs_are_the_spreadsheets() {
        for (written, meant) in [("'0690", "0690"), ("'=1", "=1"), ("'-5", "-5"), ("''tis", "'tis"), ("'tis", "'tis"), ("'", "'"), ("O'Neill", "O'Neill")] {
            assert_eq!(plain(written), meant);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(rows in prop::collection::vec(prop::collection::vec("[^\0]{0,12}", 2..5), 1..6), after in any::<bool>()) {
            let guard = |row: &Vec<String>| std::iter::once("x".to_owned()).chain(row.iter().map(|cell| guarded(cell.trim()))).collect::<Vec<_>>();
            let mut written = vec![vec!["h".to_owned(), "i".into(), "j".into()]];
            written.extend(rows.iter().map(guard));
            let mut file = write(&written);
            if after {
                file.extend_from_slice(b"\r\n,,,\r\n");
            }
            let table = Table::read(&file, None).unwrap();
            prop_assert_eq!(table.rows.len(), rows.len());
            for (row, wanted) in table.rows.iter().zip(&rows) {
                for (place, cell) in wanted.iter().enumerate() {
                    prop_assert_eq!(row.cell(place + 1), cell.trim());
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Table::read(&input, None);
        }
    }
}
