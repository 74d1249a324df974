//! From a key to its line and back: every complaint about a profile names the place where it is written.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::error::Place;

/// One profile's text under the name that its reader knows.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Built-in name or path.
    pub(crate) file: String,
    pub(crate) text: String,
}

/// A key as it is written: its dotted path, where, and the text of its value on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: String,
}

impl Source {
    /// Where byte `offset` is.
    pub(crate) fn place(&self, offset: usize) -> Place {
        Place { file: self.file.clone(), line: Some(self.line(offset)) }
    }

    /// Whether the top-level key of the dotted path is written here.
    pub(crate) fn has(&self, key: &str) -> bool {
        let first = key.split(['.', '[']).next().unwrap_or(key);
        self.entries().iter().any(|entry| entry.path == first)
    }

    /// The key, or what holds it when it is not written itself.
    pub(crate) fn find(&self, key: &str) -> Option<Written> {
        let entries = self.entries();
        let mut path = key;
        loop {
            if let Some(entry) = entries.iter().find(|entry| entry.path == path) {
                return Some(self.written(entry));
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// The key or value that covers byte `offset`.
    pub(crate) fn at(&self, offset: usize) -> Option<Written> {
        let entries = self.entries();
        let covers = |entry: &&Entry| entry.key.contains(&offset) || (entry.is_leaf && entry.value.contains(&offset));
        entries
            .iter()
            .find(covers)
            .or_else(|| entries.iter().find(|entry| entry.value.contains(&offset)))
            .map(|entry| self.written(entry))
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.get(..offset).unwrap_or_default().matches('\n').count()
    }

    fn written(&self, entry: &Entry) -> Written {
        let value = self.text.get(entry.value.clone()).unwrap_or_default();
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        Written { key: entry.path.clone(), line: self.line(entry.key.start), value }
    }

    /// Every key of the text, in no particular order; none when it is not TOML.
    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        if let Ok(table) = DeTable::parse(&self.text) {
            walk(table.get_ref(), "", &mut entries);
        }
        entries
    }
}

struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
    is_leaf: bool,
}

fn walk(table: &DeTable<'_>, prefix: &str, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let is_leaf = !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        entries.push(Entry { path: path.clone(), key: key.span(), value: value.span(), is_leaf });
        match value.get_ref() {
            DeValue::Table(table) => walk(table, &path, entries),
            DeValue::Array(array) => {
                for (idx, element) in array.iter().enumerate() {
                    let path = format!("{path}[{idx}]");
                    let is_leaf = !matches!(element.get_ref(), DeValue::Table(_) | DeValue::Array(_));
                    entries.push(Entry { path: path.clone(), key: element.span(), value: element.span(), is_leaf });
                    if let DeValue::Table(table) = element.get_ref() {
                        walk(table, &path, entries);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        let text = "robot = \"a\"\n\n[camera]\nwidth = 3 # pixels\n\n[[joints]]\nname = \"x\"\n[[joints]]\nname = \"y\"\nlist = [1,\n 2]\n";
        Source { file: "mine.toml".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_key_is_found_with_line_and_value() {
        let written =
            |key: &str, line, value: &str| Some(Written { key: key.to_owned(), line, value: value.to_owned() });
        assert_eq!(source().find("camera.width"), written("camera.width", 4, "3"));
        assert_eq!(source().find("joints[1].name"), written("joints[1].name", 9, "\"y\""));
        assert_eq!(source().find("joints[1].list"), written("joints[1].list", 10, "[1, 2]"));
        // What is missing is told where it should stand.
        assert_eq!(
            source().find("camera.height").map(|written| (written.key, written.line)),
            Some(("camera".to_owned(), 3))
        );
        assert_eq!(source().find("pace.rate_hertz"), None);
        assert!(source().has("joints[0].name") && !source().has("pace"));
    }

    #[test]
    fn a_byte_is_told_by_its_key() {
        let source = source();
        let at = |text: &str| source.at(source.text.find(text).unwrap()).map(|written| (written.key, written.line));
        assert_eq!(at("3 # pixels"), Some(("camera.width".to_owned(), 4)));
        assert_eq!(at("\"y\""), Some(("joints[1].name".to_owned(), 9)));
        assert_eq!(at("robot"), Some(("robot".to_owned(), 1)));
    }
}
