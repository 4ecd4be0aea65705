//! The grammar of `targets.conf`: lines of a key and its value, blocks between `<name argument>` and `</name>`, files that
//! include others.

use std::path::{Path, PathBuf};

use crate::import::report::{ImportError, Place};
use crate::import::source::{Files, Source};
use crate::import::text;

/// How deep files include one another.
const DEPTH_MAX: usize = 8;
/// How deep blocks stand in one another.
const NESTING_MAX: usize = 8;
/// Files in all.
const FILES_MAX: usize = 4096;

/// A line, or a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) key: String,
    /// The value, or the block's argument.
    pub(super) value: String,
    /// What is in the block.
    pub(super) inside: Option<Vec<Node>>,
}

/// Reads a file and what it includes.
pub(super) fn read(source: &Source, files: &dyn Files) -> Result<Vec<Node>, ImportError> {
    let mut reader = Reader { files, read: 0, open: Vec::new(), top: Vec::new() };
    reader.source(source, 0)?;
    match reader.open.pop() {
        Some(node) => Err(ImportError::new(&node.place, format_args!("<{}> is not closed", node.key))),
        None => Ok(reader.top),
    }
}

struct Reader<'a> {
    files: &'a dyn Files,
    /// How many files were read.
    read: usize,
    /// Blocks that are not closed yet.
    open: Vec<Node>,
    top: Vec<Node>,
}

impl Reader<'_> {
    fn source(&mut self, source: &Source, depth: usize) -> Result<(), ImportError> {
        let start = Place::new(&source.name, 0);
        self.read += 1;
        if depth > DEPTH_MAX || self.read > FILES_MAX {
            return Err(ImportError::new(&start, "files include one another too often"));
        }
        for (line, text) in text::lines(&source.text) {
            let place = start.at(line);
            let text = uncommented(&text);
            if text.is_empty() {
                continue;
            }
            match including(text) {
                Some(pattern) => self.include(pattern, source, &place, depth)?,
                None => self.line(text, place)?,
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        pattern: &str,
        from: &Source,
        place: &Place,
        depth: usize,
    ) -> Result<(), ImportError> {
        let here = Path::new(&from.name).parent().unwrap_or(Path::new(""));
        let pattern = here.join(unquoted(pattern));
        let failed =
            |path: &Path, error| ImportError::new(place, format_args!("{}: {error}", path.display()));
        let paths: Vec<PathBuf> = self.files.matching(&pattern).map_err(|error| failed(&pattern, error))?;
        for path in paths {
            let text = self.files.read(&path).map_err(|error| failed(&path, error))?;
            self.source(&Source { name: path.to_string_lossy().into_owned(), text }, depth + 1)?;
        }
        Ok(())
    }

    fn line(&mut self, text: &str, place: Place) -> Result<(), ImportError> {
        if let Some(name) = text.strip_prefix("</").and_then(|rest| rest.strip_suffix('>')) {
            return match self.open.pop() {
                Some(node) if node.key == name.trim() => {
                    self.add(node);
                    Ok(())
                }
                _ => Err(ImportError::new(&place, format_args!("</{name}> closes nothing"))),
            };
        }
        if let Some(head) = text.strip_prefix('<') {
            let Some(head) = head.strip_suffix('>') else {
                return Err(ImportError::new(&place, "a block's head ends with >"));
            };
            if self.open.len() >= NESTING_MAX {
                return Err(ImportError::new(&place, "blocks stand in one another too deep"));
            }
            let (key, value) = split(head);
            self.open.push(Node { place, key, value, inside: Some(Vec::new()) });
            return Ok(());
        }
        let (key, value) = split(text);
        self.add(Node { place, key, value, inside: None });
        Ok(())
    }

    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(outer) => outer.inside.get_or_insert_default().push(node),
            None => self.top.push(node),
        }
    }
}

/// What is in front of a comment: a `#` that no backslash stands before.
fn uncommented(line: &str) -> &str {
    let bytes = line.as_bytes();
    let is_comment = |at: &usize| bytes[*at] == b'#' && (*at == 0 || bytes[at - 1] != b'\\');
    let end = (0..bytes.len()).find(is_comment).unwrap_or(bytes.len());
    line[..end].trim()
}

/// The pattern of a line that includes files, in either of its two forms.
fn including(text: &str) -> Option<&str> {
    let plain = text.strip_prefix("include").filter(|rest| rest.starts_with(char::is_whitespace));
    let block = text.strip_prefix("<<include").and_then(|rest| rest.strip_suffix(">>"));
    plain.or(block).map(str::trim)
}

/// Key and value, with white space or `=` between them.
fn split(text: &str) -> (String, String) {
    let end = text.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
    (unquoted(key).to_owned(), unquoted(rest).replace("\\#", "#"))
}

fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::Folder;

    fn seen(nodes: &[Node]) -> String {
        let one = |node: &Node| {
            let inside =
                node.inside.as_ref().map(|inside| format!("{{{}}}", seen(inside))).unwrap_or_default();
            format!("{}:{}={}{inside};", node.place, node.key, node.value)
        };
        nodes.iter().map(one).collect()
    }

    fn parse(text: &str, folder: &Folder) -> Result<String, String> {
        let source = Source { name: "/etc/tgt/t.conf".to_owned(), text: text.to_owned() };
        read(&source, folder).map(|nodes| seen(&nodes)).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_blocks_and_comments() {
        let text = "# c\na b  # d\n<t \"iqn.x:y\">\n  k = v\\#w\n  long \\\n    \"one two\"\n  <s /p>\n  lun 1\n  </s>\n</t>\nlast";
        let expected = "/etc/tgt/t.conf:2:a=b;/etc/tgt/t.conf:3:t=iqn.x:y{/etc/tgt/t.conf:4:k=v#w;/etc/tgt/t.conf:5:long=one two;\
                        /etc/tgt/t.conf:7:s=/p{/etc/tgt/t.conf:8:lun=1;};};/etc/tgt/t.conf:11:last=;";
        assert_eq!(parse(text, &Folder::default()), Ok(expected.to_owned()));
    }

    #[test]
    fn files_are_included_by_pattern_and_from_where_they_are_named() {
        let folder = Folder(vec![
            ("/etc/tgt/conf.d/a.conf", "a 1"),
            ("/etc/tgt/conf.d/b.conf", "b 2"),
            ("/srv/c", "c 3"),
        ]);
        let seen = parse("include conf.d/*.conf\n<<include /srv/c>>", &folder).unwrap();
        assert_eq!(seen, "/etc/tgt/conf.d/a.conf:1:a=1;/etc/tgt/conf.d/b.conf:1:b=2;/srv/c:1:c=3;");
        let loop_ = Folder(vec![("/etc/tgt/t.conf", "include /etc/tgt/t.conf")]);
        let error = parse("include t.conf", &loop_).unwrap_err();
        assert_eq!(error, "/etc/tgt/t.conf: files include one another too often");
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        for (text, expected) in [
            ("<a b>", "/etc/tgt/t.conf:1: <a> is not closed"),
            ("<a b", "/etc/tgt/t.conf:1: a block's head ends with >"),
            ("<a>\n</b>", "/etc/tgt/t.conf:2: </b> closes nothing"),
            ("</a>", "/etc/tgt/t.conf:1: </a> closes nothing"),
            ("include nothing", "/etc/tgt/t.conf:1: /etc/tgt/nothing: entity not found"),
            (&"<a>\n".repeat(9), "/etc/tgt/t.conf:9: blocks stand in one another too deep"),
        ] {
            assert_eq!(parse(text, &Folder::default()).unwrap_err(), expected);
        }
    }
}
