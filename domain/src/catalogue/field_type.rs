//! Types of event fields and the small grammar the catalogue files write them in.

use serde::Deserialize;

/// Type of a field (events.md §4).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum FieldType {
    /// Integer yen, i64; not negative unless the field is signed.
    Yen,
    /// Units of an hours coupon, i32; 1 = 1 hour = 1 time.
    Units,
    /// Minutes, i32.
    Min,
    /// Instant, i64 microseconds UTC.
    Ts,
    /// Calendar day, `YYYY-MM-DD`.
    Date,
    /// Code of a short list; dictionary in the lake.
    Str,
    /// Id or number, text.
    Id,
    /// Pseudonym of a person, i64 above 0.
    Key,
    /// Yes or no.
    Bool,
    /// Count, i32.
    N,
    /// i16.
    I16,
    /// i64.
    I64,
    /// u16.
    U16,
    /// u64.
    U64,
    /// f64.
    F64,
    /// Text.
    Text,
    /// Several of one type.
    List(Box<FieldType>),
    /// Named parts.
    Struct(Vec<StructField>),
}

/// A part of a [`FieldType::Struct`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructField {
    /// Name of the part.
    pub name: String,
    /// Its type.
    pub ty: FieldType,
    /// Whether it may be absent.
    pub nullable: bool,
}

/// A type text outside the grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a field type: `{0}`")]
pub struct FieldTypeError(String);

impl TryFrom<String> for FieldType {
    type Error = FieldTypeError;
    fn try_from(raw: String) -> Result<Self, FieldTypeError> {
        Self::parse(&raw)
    }
}

impl FieldType {
    fn parse(raw: &str) -> Result<Self, FieldTypeError> {
        if let Some(inner) = raw.strip_prefix("list<").and_then(|rest| rest.strip_suffix('>')) {
            return Ok(Self::List(Box::new(Self::parse(inner)?)));
        }
        if let Some(inner) = raw.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return inner.split(", ").map(StructField::parse).collect::<Result<_, _>>().map(Self::Struct);
        }
        Ok(match raw {
            "yen" => Self::Yen,
            "units" => Self::Units,
            "min" => Self::Min,
            "ts" => Self::Ts,
            "date" => Self::Date,
            "str" => Self::Str,
            "id" => Self::Id,
            "key" => Self::Key,
            "bool" => Self::Bool,
            "n" => Self::N,
            "i16" => Self::I16,
            "i64" => Self::I64,
            "u16" => Self::U16,
            "u64" => Self::U64,
            "f64" => Self::F64,
            "text" => Self::Text,
            _ => return Err(FieldTypeError(raw.to_owned())),
        })
    }
}

impl StructField {
    fn parse(raw: &str) -> Result<Self, FieldTypeError> {
        let mut words = raw.split(' ');
        let (Some(name), Some(ty), null, None) = (words.next(), words.next(), words.next(), words.next()) else {
            return Err(FieldTypeError(raw.to_owned()));
        };
        if null.is_some_and(|word| word != "null") {
            return Err(FieldTypeError(raw.to_owned()));
        }
        Ok(Self { name: name.to_owned(), ty: FieldType::parse(ty)?, nullable: null.is_some() })
    }
}

/// The text form of the catalogue files.
impl std::fmt::Display for FieldType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Yen => f.write_str("yen"),
            Self::Units => f.write_str("units"),
            Self::Min => f.write_str("min"),
            Self::Ts => f.write_str("ts"),
            Self::Date => f.write_str("date"),
            Self::Str => f.write_str("str"),
            Self::Id => f.write_str("id"),
            Self::Key => f.write_str("key"),
            Self::Bool => f.write_str("bool"),
            Self::N => f.write_str("n"),
            Self::I16 => f.write_str("i16"),
            Self::I64 => f.write_str("i64"),
            Self::U16 => f.write_str("u16"),
            Self::U64 => f.write_str("u64"),
            Self::F64 => f.write_str("f64"),
            Self::Text => f.write_str("text"),
            Self::List(inner) => write!(f, "list<{inner}>"),
            Self::Struct(parts) => {
                f.write_str("{")?;
                for (i, part) in parts.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    let null = if part.nullable { " null" } else { "" };
                    write!(f, "{comma}{} {}{null}", part.name, part.ty)?;
                }
                f.write_str("}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_round_trips() {
        for raw in ["yen", "list<id>", "list<{lot_id id, bucket str null, amount i64}>", "{a list<n>, b f64 null}"] {
            assert_eq!(FieldType::parse(raw).unwrap().to_string(), raw);
        }
        for raw in ["", "yens", "list<", "list<yen", "{a}", "{a yen nul}", "{a yen null null}"] {
            assert!(FieldType::parse(raw).is_err(), "{raw}");
        }
    }
}
