//! As much of Rust's syntax as the checks need: what is code and not comment or string, the paths that code names
//! (with `use` trees written out), and where the test modules are. It does not expand macros.

use std::ops::Range;

/// The text with comments and the insides of string and character literals blanked; every line stays where it is.
pub(super) fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, out.chars().next_back()) {
            length
        } else if first == '"' {
            1 + quoted(&rest[1..], '"')
        } else if let Some(length) = character(rest) {
            length
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (blanked, after) = rest.split_at(skipped);
        out.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

/// Length of the block comment at the start; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of the raw string (`r"…"`, `br#"…"#`) at the start, unless `before` makes its `r` part of a name.
fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|p| text.strip_prefix(p).is_some_and(|t| t.trim_start_matches('#').starts_with('"')))?;
    let hashes = text[prefix.len()..].find('"')?;
    let start = prefix.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(text[start..].find(&close).map_or(text.len(), |end| start + end + close.len()))
}

/// Length up to and with the closing quote, which no backslash escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the character literal at the start; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let mut chars = inside.chars();
    match (chars.next()?, chars.next()?) {
        ('\\', _) => Some(1 + quoted(inside, '\'')),
        (c, '\'') => Some(1 + c.len_utf8() + 1),
        _ => None,
    }
}

/// Names, `::` and single punctuation characters of code without comments.
fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    found
}

/// Whether these tokens follow one another anywhere in the code.
pub(super) fn contains(code: &str, sought: &str) -> bool {
    count(code, sought) > 0
}

/// How often these tokens follow one another in the code.
pub(super) fn count(code: &str, sought: &str) -> usize {
    let sought = tokens(sought);
    tokens(code).windows(sought.len()).filter(|window| *window == sought.as_slice()).count()
}

/// Every path the code names, `use a::{b, c::d}` as `a::b` and `a::c::d`, after `dyn` as `dyn a::b`.
pub(super) fn paths(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let prefix = if at > 0 && tokens[at - 1] == "dyn" { "dyn " } else { "" };
        at = if is_name(tokens[at]) { path(&tokens, at, prefix.to_owned(), &mut found) } else { at + 1 };
    }
    found
}

/// Reads the path that starts at `at`; the index after it.
fn path(tokens: &[&str], mut at: usize, prefix: String, found: &mut Vec<String>) -> usize {
    let mut path = prefix;
    loop {
        match tokens.get(at) {
            Some(&"{") => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    let leaf = is_name(tokens[at]) || matches!(tokens[at], "{" | "*");
                    at = if leaf { self::path(tokens, at, path.clone(), found) } else { at + 1 };
                }
                return at + 1;
            }
            Some(&"self") if path.ends_with("::") => path.truncate(path.len() - 2),
            Some(token) if is_name(token) || *token == "*" => path.push_str(token),
            _ => {
                found.push(path);
                return at;
            }
        }
        at += 1;
        let goes_on = tokens.get(at) == Some(&"::")
            && tokens.get(at + 1).is_some_and(|t| is_name(t) || matches!(*t, "{" | "*"));
        if !goes_on {
            found.push(path);
            return at;
        }
        path.push_str("::");
        at += 1;
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Where `#[cfg(test)] mod name { … }` stands in code without comments and strings.
pub(super) fn test_modules(code: &str) -> Vec<Range<usize>> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = code[from..].find(ATTRIBUTE).map(|at| from + at) {
        from = start + ATTRIBUTE.len();
        let item = code[from..].trim_start();
        let Some(open) = code[from..].find(['{', ';']).map(|at| from + at) else { break };
        if !item.starts_with("mod ") || !code[open..].starts_with('{') {
            continue;
        }
        let mut depth = 0usize;
        let length = code[open..].find(|c: char| {
            depth = match c {
                '{' => depth + 1,
                '}' => depth - 1,
                _ => return false,
            };
            depth == 0
        });
        from = length.map_or(code.len(), |length| open + length + 1);
        found.push(start..from);
    }
    found
}

/// The code outside of test modules.
pub(super) fn production(text: &str) -> String {
    let mut code = code_only(text);
    for range in test_modules(&code).into_iter().rev() {
        code.replace_range(range, "");
    }
    code
}

#[test]
fn blanks_what_is_not_code() {
    let text = "a // b\n\"c\\\" d\" e r#\"f \" g\"# 'h' '\\'' &'i j /* k /* l */ m */ n";
    let words: Vec<_> = code_only(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["a", "e", "&'i", "j", "n"]);
    assert_eq!(code_only("\"x\ny\" /* \n */ z").matches('\n').count(), 2);
}

#[test]
fn writes_paths_out() {
    let code =
        "use crate::{net::{self, Sock}, bdev as b}; fn f(x: &dyn a::B) { std::fs::read::<u8>(c) } use g::*;";
    let found = paths(code);
    for path in ["crate::net", "crate::net::Sock", "crate::bdev", "dyn a::B", "std::fs::read", "g::*"] {
        assert!(found.iter().any(|p| p == path), "{path} in {found:?}");
    }
    assert!(!found.iter().any(|p| p == "Sock"), "{found:?}");
}

#[test]
fn finds_test_modules() {
    let text =
        "fn a() {}\n#[cfg(test)]\nuse b;\n#[cfg(test)]\nmod tests {\n fn c() { \"}\"; }\n}\nfn d() {}\n";
    let code = production(text);
    assert!(contains(&code, "fn d()") && contains(&code, "use b") && !contains(&code, "fn c"), "{code}");
    assert!(production("#[cfg(test)]\nmod tests;\nfn e() {}").contains("fn e"));
}
