//! A JSON value (RFC 8259): read by serde_json, in the order it was sent, written in ASCII.
//!
//! Members keep their order, so that answers read as SPDK's do, and a name given twice is an error, as one of the two
//! was not meant. Everything beyond `~` is written as `\u` escapes: SPDK's Python client decodes each 4096 bytes by
//! themselves and fails where a character of several bytes lies across.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, PartialEq, Debug)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number from 0 to 2⁶⁴ − 1.
    Unsigned(u64),
    /// A whole number below 0.
    Negative(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object: its members in order, no name twice.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one value and nothing behind it.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn parse(text: &str) -> Result<Json, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Unsigned(_) | Json::Negative(_) | Json::Float(_) => "a number",
            Json::String(_) => "a string",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
        }
    }

    /// An object's member of this name.
    pub fn member(&self, name: &str) -> Option<&Json> {
        let Json::Object(members) = self else { return None };
        members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn member_mut(&mut self, name: &str) -> Option<&mut Json> {
        let Json::Object(members) = self else { return None };
        members.iter_mut().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Adds a member to an object.
    pub(super) fn push(&mut self, name: &str, value: impl Into<Json>) {
        if let Json::Object(members) = self {
            members.push((name.to_owned(), value.into()));
        }
    }

    /// A string's text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// Appends it without white space, in ASCII.
    pub fn write(&self, out: &mut String) {
        self.write_lines(None, out);
    }

    /// Appends it as people read it: a line for each member, two spaces deeper for each level.
    pub fn write_pretty(&self, out: &mut String) {
        self.write_lines(Some(0), out);
    }

    /// `depth` counts levels where there is a line for each member.
    fn write_lines(&self, depth: Option<usize>, out: &mut String) {
        let inside = depth.map(|depth| depth + 1);
        match self {
            Json::Array(values) => {
                write_list(['[', ']'], depth, values, out, |value, out| value.write_lines(inside, out));
            }
            Json::Object(members) => {
                write_list(['{', '}'], depth, members, out, |(name, value), out| {
                    write_string(name, out);
                    out.push_str(if depth.is_some() { ": " } else { ":" });
                    value.write_lines(inside, out);
                });
            }
            scalar => scalar.write_scalar(out),
        }
    }

    fn write_scalar(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Unsigned(value) => out.push_str(&value.to_string()),
            Json::Negative(value) => out.push_str(&value.to_string()),
            // RFC 8259 §6 has no words for what is not finite; Debug keeps the point, so that it stays a fraction.
            Json::Float(value) if value.is_finite() => out.push_str(&format!("{value:?}")),
            Json::Float(_) => out.push_str("null"),
            Json::String(value) => write_string(value, out),
            Json::Array(_) | Json::Object(_) => {}
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}

fn write_list<T>(
    brackets: [char; 2],
    depth: Option<usize>,
    items: &[T],
    out: &mut String,
    one: impl Fn(&T, &mut String),
) {
    let line = |deeper: usize, out: &mut String| {
        if let Some(depth) = depth.filter(|_| !items.is_empty()) {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth + deeper));
        }
    };
    out.push(brackets[0]);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        line(1, out);
        one(item, out);
    }
    line(0, out);
    out.push(brackets[1]);
}

fn write_string(value: &str, out: &mut String) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Json {
        u64::try_from(value).map_or(Json::Negative(value), Json::Unsigned)
    }
}

macro_rules! from_whole {
    ($($whole:ty => $wide:ty),*) => {
        $(impl From<$whole> for Json {
            fn from(value: $whole) -> Json {
                Json::from(<$wide>::from(value))
            }
        })*
    };
}
from_whole!(u8 => u64, u16 => u64, u32 => u64, i32 => i64);

impl From<u64> for Json {
    fn from(value: u64) -> Json {
        Json::Unsigned(value)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Json {
        Json::String(value.to_owned())
    }
}

impl From<&String> for Json {
    fn from(value: &String) -> Json {
        Json::String(value.clone())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Json {
        Json::String(value)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(values: Vec<T>) -> Json {
        values.into_iter().collect()
    }
}

impl<T: Into<Json>> FromIterator<T> for Json {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Json {
        Json::Array(values.into_iter().map(Into::into).collect())
    }
}

/// An object, written as JSON is.
macro_rules! object {
    ($($name:literal : $value:expr),* $(,)?) => {
        $crate::rpc::json::Json::Object(vec![$(($name.to_owned(), $crate::rpc::json::Json::from($value))),*])
    };
}
pub(crate) use object;

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        from.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(member) = from.next_entry()? {
            members.push(member);
        }
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(A::Error::custom(format_args!("{:?} is given twice", pair[0]))),
            None => Ok(Json::Object(members)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_in_the_same_order() {
        for text in [
            r#"{"b":1,"a":[null,true,false,-7,18446744073709551615,1.5,"x"],"c":{}}"#,
            "[]",
            r#""\"\\\n\r\t\u0000\u00e9\ud83d\ude00\u007f""#,
        ] {
            assert_eq!(Json::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Json::parse("\"\u{e9}\u{1f600}/\\b\"").unwrap().to_string(),
            r#""\u00e9\ud83d\ude00/\u0008""#
        );
        assert_eq!(Json::Float(f64::NAN).to_string(), "null");
        assert_eq!(Json::from(-1i32).to_string(), "-1");
    }

    #[test]
    fn a_number_too_long_for_a_float_changes_its_spelling_once_and_its_value_never() {
        // Found by the fuzzer: a reader that is off by one in the last place gives another number each time.
        let once = Json::parse("12222222222222222222222222222222222222222222222222222222222222222")
            .unwrap()
            .to_string();
        assert_eq!(once, "1.2222222222222222e64");
        assert_eq!(Json::parse(&once).unwrap().to_string(), once);
    }

    #[test]
    fn a_name_given_twice_is_an_error() {
        let error = Json::parse(r#"{"tag":1,"x":{},"tag":2}"#).unwrap_err().to_string();
        assert!(error.starts_with(r#""tag" is given twice"#), "{error}");
    }

    #[test]
    fn for_people_it_is_indented() {
        let value = object! { "a": vec![1u64, 2], "b": Json::Object(Vec::new()), "c": object! { "d": "e" } };
        let mut out = String::new();
        value.write_pretty(&mut out);
        let expected =
            "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {},\n  \"c\": {\n    \"d\": \"e\"\n  }\n}";
        assert_eq!(out, expected);
    }
}
