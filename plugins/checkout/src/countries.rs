//! What is known of the world's addresses: `data/countries.tsv`, of which only
//! the line asked for is read. Knows nothing of forms and shops.

/// A line for each country, in the order of their codes.
const TABLE: &str = include_str!("../data/countries.tsv");
const COUNT: usize = count();
/// Where each line begins, and the last one ends: found when the plugin is compiled.
static LINES: [u32; COUNT + 1] = lines();
const CODE_BYTES: usize = 2;
const CELLS: usize = 12;

const fn count() -> usize {
    let (bytes, mut at, mut count) = (TABLE.as_bytes(), 0, 0);
    while at < bytes.len() {
        count += (bytes[at] == b'\n') as usize;
        at += 1;
    }
    count
}

const fn lines() -> [u32; COUNT + 1] {
    let (bytes, mut at, mut line) = (TABLE.as_bytes(), 0, 0);
    let mut lines = [0; COUNT + 1];
    while at < bytes.len() {
        at += 1;
        if bytes[at - 1] == b'\n' {
            line += 1;
            lines[line] = at as u32;
        }
    }
    lines
}

/// A part of an address whose presence and name differ by country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Region,
    City,
    District,
    Street,
    PostalCode,
}

#[derive(Debug, Clone, Copy)]
pub struct Country {
    pub code: &'static str,
    english: &'static str,
    chinese: &'static str,
    parts: &'static str,
    required: &'static str,
    /// Regular expression of the whole postal code; empty where there is none.
    pub postal_pattern: &'static str,
    pub postal_example: &'static str,
    pub region_word: &'static str,
    pub city_word: &'static str,
    pub district_word: &'static str,
    pub postal_word: &'static str,
    regions: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub struct Region {
    pub code: &'static str,
    english: &'static str,
    /// As its people write it.
    own: &'static str,
}

pub fn find(code: &str) -> Option<Country> {
    let code_at = |start: u32| TABLE[start as usize..].get(..CODE_BYTES);
    let line = LINES[..COUNT].binary_search_by(|start| code_at(*start).cmp(&Some(code))).ok()?;
    parse(line)
}

#[cfg(test)]
pub fn all() -> impl Iterator<Item = Country> {
    (0..COUNT).filter_map(parse)
}

fn parse(line: usize) -> Option<Country> {
    let (start, end) = (LINES[line] as usize, LINES[line + 1] as usize);
    let mut cells = TABLE[start..end - 1].splitn(CELLS, '\t');
    let mut cell = || cells.next();
    Some(Country {
        code: cell()?,
        english: cell()?,
        chinese: cell()?,
        parts: cell()?,
        required: cell()?,
        postal_pattern: cell()?,
        postal_example: cell()?,
        region_word: cell()?,
        city_word: cell()?,
        district_word: cell()?,
        postal_word: cell()?,
        regions: cell()?,
    })
}

impl Part {
    fn letter(self) -> char {
        match self {
            Self::Region => 'S',
            Self::City => 'C',
            Self::District => 'D',
            Self::Street => 'A',
            Self::PostalCode => 'Z',
        }
    }
}

impl Country {
    pub fn name(&self, chinese: bool) -> &'static str {
        if chinese { self.chinese } else { self.english }
    }

    /// In the order an address is written.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        let known = [Part::Region, Part::City, Part::District, Part::Street, Part::PostalCode];
        self.parts.chars().filter_map(move |letter| known.into_iter().find(|part| part.letter() == letter))
    }

    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(part.letter())
    }

    pub fn requires(&self, part: Part) -> bool {
        self.required.contains(part.letter())
    }

    /// Empty where a region is free text.
    pub fn regions(&self) -> impl Iterator<Item = Region> {
        self.regions.split('|').filter_map(|region| {
            let mut names = region.split('=');
            Some(Region { code: names.next()?, english: names.next()?, own: names.next()? })
        })
    }

    /// Any text is a region where there is no list of them.
    pub fn has_region(&self, code: &str) -> bool {
        self.regions.is_empty() || self.regions().any(|region| region.code == code)
    }

    /// A region by its code or one of its names.
    pub fn region(&self, text: &str) -> Option<Region> {
        self.regions().find(|region| [region.code, region.english, region.own].iter().any(|name| name.eq_ignore_ascii_case(text)))
    }
}

impl Region {
    /// Chinese readers read the names of Chinese and Japanese regions as they are written there.
    pub fn name(&self, chinese: bool) -> &'static str {
        let is_han = |character: char| ('\u{4e00}'..='\u{9fff}').contains(&character);
        if chinese && self.own.chars().any(is_han) { self.own } else { self.english }
    }
}
