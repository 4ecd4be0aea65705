//! The types that parameters have.

use std::path::PathBuf;

use super::json::{Json, object};
use super::params::{Take, Wrong};
use crate::control::registry::uuid_text;
use crate::control::thread::SystemRandom;

impl Take for bool {
    fn kind() -> String {
        "a boolean".to_owned()
    }

    fn schema() -> Json {
        object! { "type": "boolean" }
    }

    fn take(json: Json) -> Result<bool, Wrong> {
        match json {
            Json::Bool(value) => Ok(value),
            other => Err(Wrong::kind::<bool>(&other)),
        }
    }
}

impl Take for String {
    fn kind() -> String {
        "a string".to_owned()
    }

    fn schema() -> Json {
        object! { "type": "string" }
    }

    fn take(json: Json) -> Result<String, Wrong> {
        match json {
            Json::String(value) => Ok(value),
            other => Err(Wrong::kind::<String>(&other)),
        }
    }
}

impl Take for PathBuf {
    fn kind() -> String {
        "a path".to_owned()
    }

    fn schema() -> Json {
        object! { "type": "string", "minLength": 1u64 }
    }

    fn take(json: Json) -> Result<PathBuf, Wrong> {
        let text = String::take(json)?;
        if text.is_empty() || text.contains('\0') {
            return Err(Wrong::new(format_args!("{text:?} is no path")));
        }
        Ok(PathBuf::from(text))
    }
}

impl Take for Json {
    fn kind() -> String {
        "anything".to_owned()
    }

    fn take(json: Json) -> Result<Json, Wrong> {
        Ok(json)
    }
}

macro_rules! take_whole {
    ($($whole:ty),*) => {
        $(impl Take for $whole {
            fn kind() -> String {
                format!("a whole number from {} to {}", <$whole>::MIN, <$whole>::MAX)
            }

            fn schema() -> Json {
                object! { "type": "integer", "minimum": <$whole>::MIN, "maximum": <$whole>::MAX }
            }

            fn take(json: Json) -> Result<$whole, Wrong> {
                let value = match json {
                    Json::Unsigned(value) => <$whole>::try_from(value).ok(),
                    Json::Negative(value) => <$whole>::try_from(value).ok(),
                    _ => return Err(Wrong::kind::<$whole>(&json)),
                };
                value.ok_or_else(|| Wrong::new(format_args!("{json} is not {}", <$whole>::kind())))
            }
        })*
    };
}
take_whole!(u8, u16, u32, u64, i32);

impl<T: Take> Take for Option<T> {
    const IS_OPTIONAL: bool = true;

    fn kind() -> String {
        T::kind()
    }

    fn schema() -> Json {
        T::schema()
    }

    fn take(json: Json) -> Result<Option<T>, Wrong> {
        T::take(json).map(Some)
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl<T: Take> Take for Vec<T> {
    fn kind() -> String {
        format!("an array of: {}", T::kind())
    }

    fn schema() -> Json {
        object! { "type": "array", "items": T::schema() }
    }

    fn take(json: Json) -> Result<Vec<T>, Wrong> {
        let Json::Array(values) = json else { return Err(Wrong::kind::<Vec<T>>(&json)) };
        let one = |(index, value)| T::take(value).map_err(|wrong| wrong.within(&format!("[{index}]")));
        values.into_iter().enumerate().map(one).collect()
    }
}

/// Declares a parameter that is one of a few words.
macro_rules! choice {
    ($(#[doc = $doc:literal])+ $vis:vis enum $name:ident { $($text:literal => $variant:ident),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        $vis enum $name {
            $(#[doc = $text] $variant,)+
        }

        impl $crate::rpc::params::Take for $name {
            fn kind() -> String {
                format!("one of {}", [$($text),+].join(", "))
            }

            fn schema() -> $crate::rpc::json::Json {
                $crate::rpc::json::object! {
                    "type": "string",
                    "enum": [$($text),+].into_iter().collect::<$crate::rpc::json::Json>(),
                }
            }

            fn take(json: $crate::rpc::json::Json) -> Result<$name, $crate::rpc::params::Wrong> {
                let text = String::take(json)?;
                match text.to_ascii_lowercase().as_str() {
                    $($text => Ok($name::$variant),)+
                    _ => Err($crate::rpc::params::Wrong::new(format_args!(
                        "{text:?} is not {}",
                        <$name as $crate::rpc::params::Take>::kind()
                    ))),
                }
            }
        }
    };
}
pub(super) use choice;

/// 16 bytes that name a disk (RFC 9562).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Uuid(pub(super) [u8; 16]);

impl Uuid {
    /// A new one.
    pub(super) fn random() -> Uuid {
        Uuid(SystemRandom::uuid())
    }

    /// Takes 32 hexadecimal digits, with hyphens in the usual places or anywhere between two bytes.
    fn parse(text: &str) -> Option<Uuid> {
        let mut bytes = [0; 16];
        let mut rest = text;
        for byte in &mut bytes {
            rest = rest.strip_prefix('-').filter(|_| rest.len() < text.len()).unwrap_or(rest);
            let digits = rest.get(..2).filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
            rest = &rest[2..];
        }
        rest.is_empty().then_some(Uuid(bytes))
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&uuid_text(&self.0))
    }
}

impl Take for Uuid {
    fn kind() -> String {
        "a UUID".to_owned()
    }

    fn schema() -> Json {
        object! { "type": "string", "pattern": "^[0-9a-fA-F]{2}(-?[0-9a-fA-F]{2}){15}$" }
    }

    fn take(json: Json) -> Result<Uuid, Wrong> {
        let text = String::take(json)?;
        Uuid::parse(&text).ok_or_else(|| {
            Wrong::new(format_args!("{text:?} is no UUID, as f81d4fae-7dec-41d0-a765-00a0c91e6bf6"))
        })
    }
}

/// Something SPDK offers and lunette does not: taken only where it asks for nothing, as clients send it unasked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Off;

impl Take for Off {
    const IS_OPTIONAL: bool = true;

    fn kind() -> String {
        "false or 0".to_owned()
    }

    fn schema() -> Json {
        object! { "enum": vec![Json::Bool(false), Json::Unsigned(0)] }
    }

    fn take(json: Json) -> Result<Off, Wrong> {
        match json {
            Json::Bool(false) | Json::Unsigned(0) | Json::Null => Ok(Off),
            _ => Err(Wrong::new("lunette has no such thing: leave it out")),
        }
    }

    fn absent() -> Option<Off> {
        Some(Off)
    }
}

/// A knob of SPDK's that has nothing to turn here: taken and not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ignored;

impl Take for Ignored {
    const IS_OPTIONAL: bool = true;

    fn kind() -> String {
        "anything (it has no effect)".to_owned()
    }

    fn take(_: Json) -> Result<Ignored, Wrong> {
        Ok(Ignored)
    }

    fn absent() -> Option<Ignored> {
        Some(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_read_with_hyphens_and_without() {
        let uuid = Uuid::parse("f81d4fae-7dec-41d0-a765-00a0c91e6bf6").unwrap();
        assert_eq!(uuid.0[..4], [0xf8, 0x1d, 0x4f, 0xae]);
        assert_eq!(uuid.to_string(), "f81d4fae-7dec-41d0-a765-00a0c91e6bf6");
        assert_eq!(Uuid::parse("F81D4FAE7DEC41D0A76500A0C91E6BF6"), Some(uuid));
        for wrong in [
            "",
            "f81d4fae-7dec-41d0-a765-00a0c91e6bf",
            "f81d4fae-7dec-41d0-a765-00a0c91e6bf6-",
            "-f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
            "f81d4fae--7dec-41d0-a765-00a0c91e6bf6",
            "+81d4fae-7dec-41d0-a765-00a0c91e6bf6",
            "f81d4fae-7dec-41d0-a765-00a0c91e6b\u{e9}",
        ] {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
    }
}
