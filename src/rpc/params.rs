//! Parameters of calls: declared once, as a struct with a comment at each field. Reading, refusing and documenting them
//! all come from that declaration.

use super::fault::Fault;
use super::json::{Json, object};

/// A parameter, as its method's documentation shows it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type, in words.
    pub kind: fn() -> String,
    /// Whether it may be left out, and what it is then.
    pub need: Need,
    /// What it does.
    pub doc: &'static str,
    /// Its JSON schema.
    pub schema: fn() -> Json,
}

/// Whether a parameter may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// It may not.
    Required,
    /// It may.
    Optional,
    /// It may, and has this value then.
    Default(&'static str),
}

impl Need {
    /// That of a parameter without a default.
    pub(super) const fn of<T: Take>() -> Need {
        if T::IS_OPTIONAL { Need::Optional } else { Need::Required }
    }
}

/// What is wrong with a parameter, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    path: String,
    what: String,
}

impl Wrong {
    pub(super) fn new(what: impl std::fmt::Display) -> Wrong {
        Wrong { path: String::new(), what: what.to_string() }
    }

    pub(super) fn kind<T: Take>(json: &Json) -> Wrong {
        Wrong::new(format_args!("{} is expected, not {}", T::kind(), json.kind()))
    }

    pub(super) fn within(self, outer: &str) -> Wrong {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Wrong { path: format!("{outer}{dot}{}", self.path), ..self }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.path, self.what) }
    }
}

/// The type of a parameter.
pub(super) trait Take: Sized {
    /// What it is, in words.
    fn kind() -> String;
    /// Its JSON schema (draft 2020-12); by default one that takes anything.
    fn schema() -> Json {
        Json::Object(Vec::new())
    }
    /// Reads it.
    fn take(json: Json) -> Result<Self, Wrong>;
    /// Its value where it is not given, if it may be left out.
    fn absent() -> Option<Self> {
        None
    }
    /// Whether [`Take::absent`] gives one.
    const IS_OPTIONAL: bool = false;
}

/// The parameters of a method, or of one element of a list.
pub(super) trait Params: Sized {
    /// All there are.
    const FIELDS: &'static [Field];
    /// Whether others are overlooked.
    const IS_OPEN: bool = false;
    /// Reads them.
    fn read(members: &mut Unread) -> Result<Self, Wrong>;
}

/// Reads a method's parameters; none must be left over.
pub(super) fn read<P: Params>(json: Json) -> Result<P, Fault> {
    members(json).map_err(Fault::params)
}

fn members<P: Params>(json: Json) -> Result<P, Wrong> {
    let members = match json {
        Json::Null => Vec::new(),
        // SPDK takes an empty array for no parameters.
        Json::Array(values) if values.is_empty() => Vec::new(),
        Json::Object(members) => members,
        other => return Err(Wrong::new(format_args!("an object is expected, not {}", other.kind()))),
    };
    let mut members = Unread(members);
    // Before anything that is missing: it may be the same one, misspelt.
    let is_known = |name: &str| P::FIELDS.iter().any(|field| field.name == name);
    if !P::IS_OPEN
        && let Some((name, _)) = members.0.iter().find(|(name, _)| !is_known(name))
    {
        return Err(unknown(name, P::FIELDS));
    }
    P::read(&mut members)
}

fn unknown(name: &str, fields: &[Field]) -> Wrong {
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    Wrong::new(match names.as_slice() {
        [] => format!("there is no parameter {name:?}, nor any other"),
        names => format!("there is no parameter {name:?}; there are {}", names.join(", ")),
    })
}

/// What has not been read of an object.
#[derive(Debug)]
pub(super) struct Unread(Vec<(String, Json)>);

impl Unread {
    /// Takes the member of this name out, else the default.
    pub(super) fn take<T: Take>(&mut self, name: &str, default: Option<T>) -> Result<T, Wrong> {
        let index = self.0.iter().position(|(known, _)| known == name);
        let missing = || Wrong::new("it is missing").within(name);
        match index.map(|index| self.0.swap_remove(index).1) {
            None => default.or_else(T::absent).ok_or_else(missing),
            // As the clients mean it that send every parameter there is.
            Some(Json::Null) if default.is_some() || T::absent().is_some() => {
                default.or_else(T::absent).ok_or_else(missing)
            }
            Some(json) => T::take(json).map_err(|wrong| wrong.within(name)),
        }
    }
}

/// The JSON schema of an object with these members; `is_open`: others are overlooked.
pub(super) fn schema(fields: &[Field], is_open: bool) -> Json {
    let property = |field: &Field| {
        let mut schema = (field.schema)();
        schema.push("description", field.doc.trim());
        // Of the defaults only plain values can be said in JSON.
        if let Need::Default(text) = field.need
            && let Ok(value) = Json::parse(text)
        {
            schema.push("default", value);
        }
        (field.name.to_owned(), schema)
    };
    let required = fields.iter().filter(|field| field.need == Need::Required);
    object! {
        "type": "object",
        "properties": Json::Object(fields.iter().map(property).collect()),
        "required": required.map(|field| field.name).collect::<Json>(),
        "additionalProperties": is_open,
    }
}

/// The parameters of a method that has none.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Nothing;

impl Params for Nothing {
    const FIELDS: &'static [Field] = &[];

    fn read(_: &mut Unread) -> Result<Nothing, Wrong> {
        Ok(Nothing)
    }
}

/// The parameters of a method that looks at none.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Anything;

impl Params for Anything {
    const FIELDS: &'static [Field] = &[];
    const IS_OPEN: bool = true;

    fn read(_: &mut Unread) -> Result<Anything, Wrong> {
        Ok(Anything)
    }
}

impl<P: Params> Take for P {
    fn kind() -> String {
        "an object".to_owned()
    }

    fn schema() -> Json {
        schema(P::FIELDS, P::IS_OPEN)
    }

    fn take(json: Json) -> Result<P, Wrong> {
        members(json)
    }
}

/// Declares parameters: `name: Type` has to be given, `name: Option<Type>` may be left out, and so may
/// `name: Type = default`.
macro_rules! params {
    ($(#[doc = $about:literal])+ $vis:vis struct $struct:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty $(= $default:expr)?),* $(,)?
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq, Debug)]
        $vis struct $struct {
            $($(#[doc = $doc])+ $vis $field: $type,)*
        }

        impl $crate::rpc::params::Params for $struct {
            const FIELDS: &'static [$crate::rpc::params::Field] = &[$($crate::rpc::params::Field {
                name: stringify!($field),
                kind: <$type as $crate::rpc::params::Take>::kind,
                need: $crate::rpc::params::params!(@need $type $(, $default)?),
                doc: concat!($($doc),+),
                schema: <$type as $crate::rpc::params::Take>::schema,
            }),*];

            fn read(members: &mut $crate::rpc::params::Unread) -> Result<$struct, $crate::rpc::params::Wrong> {
                Ok($struct {
                    $($field: members.take(
                        stringify!($field),
                        $crate::rpc::params::params!(@default $($default)?),
                    )?,)*
                })
            }
        }
    };
    (@need $type:ty) => { $crate::rpc::params::Need::of::<$type>() };
    (@need $type:ty, $default:expr) => { $crate::rpc::params::Need::Default(stringify!($default)) };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
}
pub(super) use params;
