//! Whether an event carries exactly what the catalogue allows in the lake.

use jiff::civil::Date;
use serde_json::{Map, Value};

use super::{
    code::{self, NotACode},
    events::{self, DataClass, EventType, Field, LakeUse},
    field_type::FieldType,
};
use crate::event::Event;

/// What is wrong with a payload. Holds names of fields, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The type is not in the catalogue.
    #[error("no such event type: `{event_type}`")]
    UnknownEventType {
        /// The name given.
        event_type: String,
    },
    /// The type has no such field.
    #[error("`{event_type}` has no field `{field}`")]
    UnknownField {
        /// The event type.
        event_type: &'static str,
        /// The name given.
        field: String,
    },
    /// A field that must be set is null or absent.
    #[error("`{event_type}` needs the field `{field}`")]
    MissingField {
        /// The event type.
        event_type: &'static str,
        /// The field of the payload or of the envelope.
        field: String,
    },
    /// The JSON value does not fit the field's type or range.
    #[error("`{event_type}`: `{field}` is not a value of type {expected}")]
    WrongType {
        /// The event type.
        event_type: &'static str,
        /// The field, with the path inside lists and structs.
        field: String,
        /// The type, as the catalogue writes it.
        expected: String,
    },
    /// A text that is no code: words, or a number of a person.
    #[error("`{event_type}`: `{field}` holds a text that is {why}")]
    Words {
        /// The event type.
        event_type: &'static str,
        /// The field of the payload or of the envelope.
        field: String,
        /// What is wrong with it.
        why: NotACode,
    },
    /// The field is known to the record only, or to the restricted dataset only.
    #[error("`{event_type}`: `{field}` is of class {} and must not leave the record", class.as_str())]
    PersonalData {
        /// The event type.
        event_type: &'static str,
        /// The field.
        field: &'static str,
        /// Its class.
        class: DataClass,
    },
    /// The field betrays something about a person beside another one that is set.
    #[error("`{event_type}`: `{field}` must be null where `{beside}` is set")]
    Betrays {
        /// The event type.
        event_type: &'static str,
        /// The field that must be null.
        field: &'static str,
        /// The field beside it.
        beside: &'static str,
    },
}

/// Checks a whole event: its payload, the envelope fields its type needs, and those of the envelope that say where.
///
/// # Errors
/// The first thing that is wrong, see [`PayloadError`].
pub fn check(event: &Event) -> Result<(), PayloadError> {
    check_payload(&event.event_type, &event.payload)?;
    let event_type = known(&event.event_type)?;
    for (field, value) in [("facility_id", &event.facility_id), ("programme_code", &event.programme_code)] {
        match value {
            Some(text) => code::check(text).map_err(|why| words(&event_type.name, field, why))?,
            None if event_type.envelope_required.iter().any(|required| required == field) => {
                return Err(PayloadError::MissingField { event_type: &event_type.name, field: field.to_owned() });
            }
            None => {}
        }
    }
    Ok(())
}

/// Checks that a payload holds exactly the lake-visible fields of its type: none unknown, none of class
/// B, D or E, all non-null ones set, each of its type and range, each text a code. A nullable field may be null or
/// absent.
///
/// # Errors
/// The first thing that is wrong, see [`PayloadError`].
pub fn check_payload(event_type: &str, payload: &Map<String, Value>) -> Result<(), PayloadError> {
    let event_type = known(event_type)?;
    let name: &'static str = &event_type.name;
    for key in payload.keys() {
        match event_type.field(key) {
            None => return Err(PayloadError::UnknownField { event_type: name, field: key.clone() }),
            Some(field) if field.lake != LakeUse::Yes => {
                return Err(PayloadError::PersonalData { event_type: name, field: &field.name, class: field.class });
            }
            Some(_) => {}
        }
    }
    event_type
        .fields
        .iter()
        .filter(|field| field.lake == LakeUse::Yes)
        .try_for_each(|field| check_field(name, field, payload))
}

/// Whether a value, not null, is of a field's type and range.
pub fn fits(field: &Field, value: &Value) -> bool {
    check_value(&field.ty, field.signed, value).is_ok()
}

fn known(event_type: &str) -> Result<&'static EventType, PayloadError> {
    events::get(event_type).ok_or_else(|| PayloadError::UnknownEventType { event_type: event_type.to_owned() })
}

fn check_field(
    event_type: &'static str,
    field: &'static Field,
    payload: &Map<String, Value>,
) -> Result<(), PayloadError> {
    let Some(value) = set(payload, &field.name) else {
        if field.nullable {
            return Ok(());
        }
        return Err(PayloadError::MissingField { event_type, field: field.name.clone() });
    };
    if let Some(beside) = field.null_with.as_deref()
        && set(payload, beside).is_some()
    {
        return Err(PayloadError::Betrays { event_type, field: &field.name, beside });
    }
    check_value(&field.ty, field.signed, value).map_err(|wrong| PayloadError::WrongType {
        event_type,
        field: format!("{}{}", field.name, wrong.path),
        expected: wrong.expected,
    })?;
    code::check_all(value).map_err(|why| words(event_type, &field.name, why))
}

fn words(event_type: &'static str, field: &str, why: NotACode) -> PayloadError {
    PayloadError::Words { event_type, field: field.to_owned(), why }
}

fn set<'a>(payload: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    payload.get(name).filter(|value| !value.is_null())
}

struct Wrong {
    path: String,
    expected: String,
}

fn check_value(ty: &FieldType, signed: bool, value: &Value) -> Result<(), Wrong> {
    let int = |min: i64, max: i64| value.as_i64().is_some_and(|n| (min..=max).contains(&n));
    let fits = match ty {
        FieldType::Yen => int(if signed { i64::MIN } else { 0 }, i64::MAX),
        FieldType::Units | FieldType::Min | FieldType::N => {
            int(if signed { i64::from(i32::MIN) } else { 0 }, i64::from(i32::MAX))
        }
        FieldType::Ts | FieldType::I64 => value.is_i64(),
        FieldType::Key => int(1, i64::MAX),
        FieldType::I16 => int(i64::from(i16::MIN), i64::from(i16::MAX)),
        FieldType::U16 => int(0, i64::from(u16::MAX)),
        FieldType::U64 => value.is_u64(),
        FieldType::F64 => value.is_number(),
        FieldType::Bool => value.is_boolean(),
        FieldType::Str | FieldType::Id | FieldType::Text => value.is_string(),
        FieldType::Date => value.as_str().is_some_and(is_day),
        FieldType::List(inner) => return check_list(ty, inner, signed, value),
        FieldType::Struct(parts) => {
            let Value::Object(object) = value else { return Err(wrong(ty)) };
            if object.keys().any(|key| !parts.iter().any(|part| part.name == *key)) {
                return Err(wrong(ty));
            }
            return parts.iter().try_for_each(|part| match set(object, &part.name) {
                None if part.nullable => Ok(()),
                None => Err(wrong(&part.ty).under(&format!(".{}", part.name))),
                Some(value) => check_value(&part.ty, false, value).map_err(|w| w.under(&format!(".{}", part.name))),
            });
        }
    };
    if fits { Ok(()) } else { Err(wrong(ty)) }
}

fn check_list(ty: &FieldType, inner: &FieldType, signed: bool, value: &Value) -> Result<(), Wrong> {
    let Value::Array(items) = value else { return Err(wrong(ty)) };
    items
        .iter()
        .enumerate()
        .try_for_each(|(i, item)| check_value(inner, signed, item).map_err(|w| w.under(&format!("[{i}]"))))
}

fn is_day(text: &str) -> bool {
    text.len() == "2026-04-01".len() && text.parse::<Date>().is_ok()
}

fn wrong(ty: &FieldType) -> Wrong {
    Wrong { path: String::new(), expected: ty.to_string() }
}

impl Wrong {
    fn under(self, parent: &str) -> Self {
        Self { path: format!("{parent}{}", self.path), ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn use_of_1200_yen() -> Map<String, Value> {
        let payload = json!({
            "use_id": "u", "coupon_id": "c", "child_key": 7, "guardian_key": 8, "coupon_set_id": "s",
            "coupon_kind": "yen", "purpose": "service", "amount_yen": 1_200, "amount_units": 0,
            "lines": [{"lot_id": "l", "bucket": null, "amount": 1_200}], "fee_total_yen": 3_000,
            "application_id": "a", "initiated_by": "guardian", "device_less": false,
            "balance_after_yen": 8_800, "balance_after_units": 0, "ledger_seq": 2, "used_on": "2026-11-21",
        });
        let Value::Object(payload) = payload else { unreachable!("a literal object") };
        payload
    }

    fn with(field: &str, value: Value) -> Result<(), PayloadError> {
        let mut payload = use_of_1200_yen();
        payload.insert(field.to_owned(), value);
        check_payload("coupon.used", &payload)
    }

    #[test]
    fn a_payload_as_catalogued_passes() {
        assert_eq!(check_payload("coupon.used", &use_of_1200_yen()), Ok(()));
        assert_eq!(with("reservation_id", Value::Null), Ok(()));
    }

    #[test]
    fn names_must_be_known() {
        let unknown = check_payload("coupon.eaten", &Map::new());
        assert!(matches!(unknown, Err(PayloadError::UnknownEventType { .. })));
        assert!(matches!(with("colour", json!("red")), Err(PayloadError::UnknownField { .. })));
    }

    #[test]
    fn values_must_fit() {
        for (field, value) in [
            ("amount_yen", json!(-1)),
            ("amount_yen", json!(1.5)),
            ("amount_yen", json!("1200")),
            ("amount_units", json!(3_000_000_000_i64)),
            ("child_key", json!(0)),
            ("device_less", json!("no")),
            ("used_on", json!("2026-02-30")),
            ("used_on", json!("2026-11-21T00:00")),
            ("lines", json!({})),
            ("ledger_seq", json!(-1)),
        ] {
            assert!(matches!(with(field, value), Err(PayloadError::WrongType { .. })), "{field}");
        }
        let Err(PayloadError::WrongType { field, .. }) = with("lines", json!([{"lot_id": "l"}])) else {
            panic!("a line without amount passed");
        };
        assert_eq!(field, "lines[0].amount");
    }

    #[test]
    fn texts_must_be_codes() {
        for (field, value) in [
            ("purpose", json!("佐藤花子")),
            ("initiated_by", json!("Sato Hanako")),
            ("coupon_set_id", json!("090-1234-5678")),
            ("lines", json!([{"lot_id": "123456789012", "bucket": null, "amount": 1}])),
        ] {
            let refused = with(field, value);
            assert!(
                matches!(&refused, Err(PayloadError::Words { field: named, .. }) if named == field),
                "{field}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_missing_field_is_found() {
        for missing in [json!(null), json!({})] {
            let mut payload = use_of_1200_yen();
            payload.remove("purpose");
            if missing.is_null() {
                payload.insert("purpose".to_owned(), missing);
            }
            let error = check_payload("coupon.used", &payload);
            assert!(matches!(error, Err(PayloadError::MissingField { .. })));
        }
    }

    #[test]
    fn signed_amounts_may_be_negative() {
        let Value::Object(payload) = json!({
            "coupon_id": "c", "child_key": 7, "delta_yen": -500, "delta_units": 0, "reason_code": "input_error",
            "balance_after_yen": 0, "balance_after_units": 0, "ledger_seq": 3,
        }) else {
            unreachable!("a literal object")
        };
        assert_eq!(check_payload("coupon.adjusted", &payload), Ok(()));
    }

    #[test]
    fn personal_data_stay_out() {
        let email = json!({"guardian_key": 1, "email": "a@example.jp"});
        let Value::Object(payload) = email else { unreachable!("a literal object") };
        assert!(matches!(
            check_payload("account.registration_started", &payload),
            Err(PayloadError::PersonalData { class: DataClass::B, .. })
        ));
        assert!(matches!(
            with("reservation_id", json!("r")),
            Err(PayloadError::Betrays { field: "fee_total_yen", .. })
        ));
    }
}
