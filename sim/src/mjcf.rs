//! Small changes to MJCF text, as dm_control makes them before it compiles a model: elements go, attributes change.

use crate::error::SimError;

/// MJCF text under change. Comments are dropped, so that nothing in them is found.
#[derive(Clone, Debug)]
pub(crate) struct Mjcf {
    name: &'static str,
    text: String,
}

/// Where an element begins, where its start tag ends, and where it ends itself, in bytes.
struct Span {
    start: usize,
    tag_end: usize,
    end: usize,
}

impl Mjcf {
    /// Text of the model that errors call `name`.
    pub(crate) fn new(name: &'static str, text: &str) -> Self {
        let mut kept = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, comment)) = rest.split_once("<!--") {
            kept.push_str(before);
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
        }
        kept.push_str(rest);
        Self { name, text: kept }
    }

    /// What errors call it.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The text as it stands.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Removes the first element with this tag and `name` attribute, and all that is in it.
    pub(crate) fn remove(&mut self, tag: &str, name: &str) -> Result<(), SimError> {
        let span = self.named(tag, name)?;
        self.text.replace_range(span.start..span.end, "");
        Ok(())
    }

    /// Removes every element with this tag.
    pub(crate) fn remove_all(&mut self, tag: &str) {
        while let Some(span) = self.find(tag, |_| true) {
            self.text.replace_range(span.start..span.end, "");
        }
    }

    /// Changes an attribute that the element has.
    pub(crate) fn set(&mut self, element: (&str, &str), attribute: &str, value: &str) -> Result<(), SimError> {
        let (tag, name) = element;
        let span = self.named(tag, name)?;
        let start_tag = &self.text[span.start..span.tag_end];
        let old =
            attribute_value(start_tag, attribute).ok_or_else(|| self.lacks(&format!("{tag} {name} {attribute}")))?;
        let new = start_tag.replacen(&format!("{attribute}=\"{old}\""), &format!("{attribute}=\"{value}\""), 1);
        self.text.replace_range(span.start..span.tag_end, &new);
        Ok(())
    }

    /// Puts text right before the end tag of the first element with this tag and name; for `mujoco` the name is not asked.
    pub(crate) fn append(&mut self, element: (&str, &str), text: &str) -> Result<(), SimError> {
        let (tag, name) = element;
        let span = if tag == "mujoco" || name.is_empty() {
            self.find(tag, |_| true).ok_or_else(|| self.lacks(tag))?
        } else {
            self.named(tag, name)?
        };
        self.text.insert_str(span.end - tag.len() - 3, text);
        Ok(())
    }

    fn named(&self, tag: &str, name: &str) -> Result<Span, SimError> {
        let found = self.find(tag, |start_tag| attribute_value(start_tag, "name") == Some(name));
        found.ok_or_else(|| self.lacks(&format!("{tag} {name}")))
    }

    fn lacks(&self, what: &str) -> SimError {
        let problem = format!("no {what}; the assets are not those of dm_control 1.0.50");
        SimError::Model { name: self.name.to_string(), problem }
    }

    fn find(&self, tag: &str, accept: impl Fn(&str) -> bool) -> Option<Span> {
        let mut from = 0;
        while let Some((start, tag_end)) = next_start_tag(&self.text, tag, from) {
            let start_tag = &self.text[start..tag_end];
            if accept(start_tag) {
                let end = if start_tag.ends_with("/>") { tag_end } else { self.end_of(tag, tag_end)? };
                return Some(Span { start, tag_end, end });
            }
            from = tag_end;
        }
        None
    }

    /// The end of an element whose start tag ends at `from`, past nested elements of the same tag.
    fn end_of(&self, tag: &str, mut from: usize) -> Option<usize> {
        let end_tag = format!("</{tag}>");
        let mut depth = 1;
        loop {
            let end = from + self.text[from..].find(&end_tag)? + end_tag.len();
            while let Some((start, tag_end)) = next_start_tag(&self.text, tag, from).filter(|(start, _)| *start < end) {
                depth += usize::from(!self.text[start..tag_end].ends_with("/>"));
                from = tag_end;
            }
            depth -= 1;
            if depth == 0 {
                return Some(end);
            }
            from = end;
        }
    }
}

/// Start and end of the next start tag from `from` on.
fn next_start_tag(text: &str, tag: &str, from: usize) -> Option<(usize, usize)> {
    let opening = format!("<{tag}");
    let mut from = from;
    loop {
        let start = from + text[from..].find(&opening)?;
        let after = start + opening.len();
        if text[after..].starts_with(|letter: char| letter.is_whitespace() || letter == '>' || letter == '/') {
            return Some((start, after + text[after..].find('>')? + 1));
        }
        from = after;
    }
}

fn attribute_value<'a>(start_tag: &'a str, attribute: &str) -> Option<&'a str> {
    let pattern = format!("{attribute}=\"");
    let preceded_by_space = |at: &usize| start_tag[..*at].ends_with(char::is_whitespace);
    let at = start_tag.match_indices(&pattern).map(|(at, _)| at).find(preceded_by_space)?;
    start_tag[at + pattern.len()..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"<mujoco><!-- <geom name="a"/> --><body name="a"><body name="b"><geom name="g" size="1"/></body>
        <body name="c"/><geom pos="0" name="h"/></body><body name="d"></body></mujoco>"#;

    fn check(change: impl Fn(&mut Mjcf) -> Result<(), SimError>, gone: &[&str], kept: &[&str]) {
        let mut mjcf = Mjcf::new("test", TEXT);
        change(&mut mjcf).unwrap();
        for name in gone {
            assert!(!mjcf.text().contains(name), "{name} in {}", mjcf.text());
        }
        for name in kept {
            assert!(mjcf.text().contains(name), "{name} not in {}", mjcf.text());
        }
    }

    #[test]
    fn elements_and_attributes_change() {
        check(|mjcf| mjcf.remove("body", "a"), &["\"a\"", "\"b\"", "\"c\"", "\"g\"", "\"h\""], &["\"d\"", "</mujoco>"]);
        check(|mjcf| mjcf.remove("body", "b"), &["\"b\"", "\"g\""], &["\"a\"", "\"c\"", "\"h\"", "\"d\""]);
        check(|mjcf| mjcf.remove("body", "c"), &["\"c\""], &["\"b\"", "\"h\""]);
        check(|mjcf| mjcf.set(("geom", "g"), "size", "2 3"), &["size=\"1\""], &["size=\"2 3\""]);
        check(|mjcf| mjcf.append(("body", "a"), "<x/>"), &[], &["<x/></body><body name=\"d\">"]);
        check(
            |mjcf| {
                mjcf.remove_all("geom");
                Ok(())
            },
            &["geom"],
            &["\"a\"", "\"b\""],
        );
        let error = Mjcf::new("test", TEXT).remove("geom", "a").unwrap_err().to_string();
        assert!(error.contains("no geom a"), "{error}");
    }
}
