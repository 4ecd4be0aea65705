//! The grammar that scst.conf and ctl.conf have in common: statements of words, and blocks between `{` and `}`.

use super::report::{ImportError, Place};
use super::source::Source;

/// How deep blocks stand in one another.
const NESTING_MAX: usize = 8;

/// A statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) place: Place,
    /// Its words; one at least.
    pub(super) words: Vec<String>,
    /// What is in its block.
    pub(super) inside: Option<Vec<Node>>,
}

impl Node {
    /// The word at an index; empty where there is none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// The first word.
    pub(super) fn key(&self) -> &str {
        self.word(0)
    }

    /// Everything behind the first word.
    pub(super) fn value(&self) -> String {
        self.words.get(1..).unwrap_or_default().join(" ")
    }

    /// The statements in its block.
    pub(super) fn statements(&self) -> impl Iterator<Item = &Node> {
        self.inside.iter().flatten()
    }
}

/// What a file consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    Open,
    Close,
    /// The end of a line, or `;`.
    End,
}

/// Reads a file. `words` says how many words a statement has that begins so, where that ends it before its line does.
///
/// # Errors
/// Where it does not fit.
pub(super) fn read(source: &Source, words: fn(&str) -> Option<usize>) -> Result<Vec<Node>, ImportError> {
    let start = Place::new(&source.name, 0);
    let mut levels: Vec<Vec<Node>> = vec![Vec::new()];
    // The statement that is being read.
    let mut open: Option<Node> = None;
    for (line, token) in tokens(&source.text, &start)? {
        let place = start.at(line);
        let top = levels.len() - 1;
        match token {
            Token::Word(word) => {
                let is_full = open.as_ref().is_some_and(|node| words(node.key()) == Some(node.words.len()));
                if is_full {
                    levels[top].extend(open.take());
                }
                open.get_or_insert_with(|| Node { place, words: Vec::new(), inside: None }).words.push(word);
            }
            Token::End => levels[top].extend(open.take()),
            Token::Open => {
                // The brace may stand in the next line.
                let head = open.take().or_else(|| levels[top].pop().filter(|node| node.inside.is_none()));
                let Some(mut head) = head else {
                    return Err(ImportError::new(&place, "a block without a name"));
                };
                if levels.len() > NESTING_MAX {
                    return Err(ImportError::new(&place, "blocks stand in one another too deep"));
                }
                head.inside = Some(Vec::new());
                levels[top].push(head);
                levels.push(Vec::new());
            }
            Token::Close => {
                levels[top].extend(open.take());
                let inside = levels.pop().unwrap_or_default();
                let Some(head) = levels.last_mut().and_then(|level| level.last_mut()) else {
                    return Err(ImportError::new(&place, "} closes nothing"));
                };
                head.inside = Some(inside);
            }
        }
    }
    let mut nodes = levels.swap_remove(0);
    if !levels.is_empty() {
        let place = nodes.last().map_or(&start, |node| &node.place);
        return Err(ImportError::new(place, "a block is not closed"));
    }
    nodes.extend(open);
    Ok(nodes)
}

fn tokens(text: &str, start: &Place) -> Result<Vec<(usize, Token)>, ImportError> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let mut rest = line.trim_start();
        while let Some(c) = rest.chars().next() {
            let (token, length) = match c {
                '#' => break,
                '{' => (Token::Open, 1),
                '}' => (Token::Close, 1),
                ';' => (Token::End, 1),
                '"' => {
                    let Some(end) = rest[1..].find('"') else {
                        return Err(ImportError::new(&start.at(number), "a quote is not closed"));
                    };
                    (Token::Word(rest[1..=end].to_owned()), end + 2)
                }
                _ => {
                    let is_end = |c: char| c.is_whitespace() || "{};\"".contains(c);
                    let end = rest.find(is_end).unwrap_or(rest.len());
                    (Token::Word(rest[..end].to_owned()), end)
                }
            };
            tokens.push((number, token));
            rest = rest[length..].trim_start();
        }
        tokens.push((number, Token::End));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(nodes: &[Node]) -> String {
        let one = |node: &Node| {
            let inside =
                node.inside.as_ref().map(|inside| format!("{{{}}}", seen(inside))).unwrap_or_default();
            format!("{}:{}{inside};", node.place.line, node.words.join("|"))
        };
        nodes.iter().map(one).collect()
    }

    fn parse(text: &str) -> Result<String, String> {
        let source = Source { name: "f".to_owned(), text: text.to_owned() };
        let words = |key: &str| (key == "pair").then_some(2);
        read(&source, words).map(|nodes| seen(&nodes)).map_err(|error| error.to_string())
    }

    #[test]
    fn statements_and_blocks() {
        let text = "a b#x # c\nt \"x y\" { k v; pair 1 pair 2\n  u\n  {\n  }\n}\nlast";
        assert_eq!(parse(text).unwrap(), "1:a|b#x;2:t|x y{2:k|v;2:pair|1;2:pair|2;3:u{};};7:last;");
        assert_eq!(parse("a{b{}}").unwrap(), "1:a{1:b{};};");
        assert_eq!(parse("").unwrap(), "");
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        for (text, expected) in [
            ("a {\n b", "f:1: a block is not closed"),
            ("a\n}", "f:2: } closes nothing"),
            ("{", "f:1: a block without a name"),
            ("a { } { }", "f:1: a block without a name"),
            ("a \"b", "f:1: a quote is not closed"),
            (&"a {".repeat(9), "f:1: blocks stand in one another too deep"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }
}
