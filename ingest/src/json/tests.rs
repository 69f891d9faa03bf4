use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

fn object(text: &str) -> Result<Value, Malformed> {
    let mut reader = Reader::new(text);
    let mut members = Vec::new();
    reader.object(&mut members)?;
    reader.end()?;
    Ok(Value::Object(members.iter().map(|(name, value)| (name.clone().into_owned(), value.to_value())).collect()))
}

#[test]
fn it_agrees_with_serde_json_about_what_is_an_object() {
    for text in [
        "{}",
        " { } ",
        r#"{"a":1}"#,
        r#"{"a":-0.5e+3,"b":[1,{"c":null}],"c":true,"d":false}"#,
        r#"{"a":"x\n\u3042\"y","b\u0061":"","a":2}"#,
        r#"{"a":"\\"}"#,
        r#"{"a":9223372036854775807,"b":-9223372036854775808,"c":9223372036854775808}"#,
        "",
        "[]",
        "{",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":-}"#,
        r#"{"a":.5}"#,
        r#"{"a":1e}"#,
        r#"{"a":tru}"#,
        r#"{"a":nul"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":"open}"#,
        r#"{"a":"open\"#,
        "{\"a\":\"line\nbreak\"}",
        r#"{"a":[1,}"#,
        r#"{"a":[1}]"#,
        r#"{"a":1}x"#,
        r#"{a:1}"#,
    ] {
        let theirs: Option<Value> = serde_json::from_str::<Map<String, Value>>(text).ok().map(Value::Object);
        assert_eq!(object(text).ok(), theirs, "{text}");
    }
}

#[test]
fn integers_are_exact_to_their_ends() {
    for (text, expected) in [
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("1.0", None),
        ("0", Some(0)),
    ] {
        assert_eq!(Scan::Number(text).as_i64(), expected, "{text}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| json!(n)),
        // Eighths are exact in text.
        any::<i32>().prop_map(|n| json!(f64::from(n) / 8.0)),
        ".*".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(".*", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

#[test]
fn a_number_that_is_too_large_is_refused_wherever_it_stands() {
    let digits = "9".repeat(400);
    for number in ["1e309", "-1E0309", digits.as_str()] {
        for text in [format!("{{\"a\":{number}}}"), format!("{{\"a\":[0,{number}]}}")] {
            assert!(serde_json::from_str::<Value>(&text).is_err() && object(&text).is_err(), "{text}");
        }
    }
}

proptest! {
    #[test]
    fn any_object_is_read_back(members in prop::collection::btree_map(".*", any_json(), 0..6)) {
        let value = Value::Object(members.into_iter().collect());
        prop_assert_eq!(object(&value.to_string()), Ok(value));
    }

    /// Cut off or damaged anywhere, it is refused exactly when `serde_json` refuses it.
    #[test]
    fn damage_is_seen(members in prop::collection::btree_map("[a-z]{0,3}", any_json(), 0..4), at in any::<prop::sample::Index>(), byte in any::<char>()) {
        let text = Value::Object(members.into_iter().collect()).to_string();
        let mut damaged: Vec<char> = text.chars().collect();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let damaged: String = damaged.into_iter().collect();
        let theirs = serde_json::from_str::<Map<String, Value>>(&damaged).ok().map(Value::Object);
        prop_assert_eq!(object(&damaged).ok(), theirs);
    }
}

#[test]
fn the_end_of_a_string_is_found_at_every_place() {
    for n in 0..40 {
        let filled = "あx".repeat(20);
        let text = &filled[..filled.floor_char_boundary(n)];
        assert_eq!(object(&format!("{{\"{text}\":\"{text}\"}}")).unwrap(), json!({ text: text }), "{n}");
        let escaped = format!("{{\"a\":\"{text}\\u0041{text}\"}}");
        assert_eq!(object(&escaped).unwrap(), json!({ "a": format!("{text}A{text}") }), "{n}");
        for bad in ["\n", "\u{1f}", "\0"] {
            assert!(object(&format!("{{\"a\":\"{text}{bad}{text}\"}}")).is_err(), "{n}");
        }
    }
}

#[test]
fn an_object_of_too_many_members_is_read_to_its_end() {
    let members: Vec<String> = (0..=MEMBERS_MAX).map(|n| format!("\"{n}\":[{n}]")).collect();
    let text = format!("{{{}}}", members.join(","));
    let (mut reader, mut kept) = (Reader::new(&text), Vec::new());
    assert_eq!(reader.object(&mut kept), Ok(false));
    assert_eq!(reader.end(), Ok(()));
    assert_eq!(kept.len(), MEMBERS_MAX);
}
