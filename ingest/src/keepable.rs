//! What of a refused event may be kept for whoever looks into it: never what somebody typed, and nothing sensitive.
//!
//! The catalogue says which fields are such. A name that a type does not have is judged by the types that have it, so
//! that a search's words are not kept because a newer app calls the search something else.

use std::{collections::HashSet, sync::LazyLock};

use serde_json::{Map, Value};
use todoke_domain::catalogue::events::{self, DataClass, EventType};

/// Names that are, in some type of the catalogue, of a class that may not enter the lake.
static NEVER_KEPT: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let fields = events::all().iter().flat_map(|event_type| &event_type.fields);
    fields.filter(|field| !field.class.may_enter_lake()).map(|field| field.name.as_str()).collect()
});
/// The field that says how long the text was that is not kept.
const TEXT_LENGTH: &str = "text_length";
/// Characters counted of it, as the door of app usage counts them.
const TEXT_CHARS_MAX: usize = 1_000;

/// Of an event of app usage or a record of a file: one flat object. `None` if it cannot be read, and so nobody knows
/// what is in it.
pub fn of_record(content: &str) -> Option<String> {
    let Ok(Value::Object(mut members)) = serde_json::from_str(content) else { return None };
    let event_type = members.get("event_type").and_then(Value::as_str).and_then(events::get);
    strip(&mut members, event_type);
    Some(Value::Object(members).to_string())
}

/// Of a CloudEvent. `None` if it cannot be read.
pub fn of_cloud_event(content: &str) -> Option<String> {
    let Ok(Value::Object(mut event)) = serde_json::from_str(content) else { return None };
    let event_type = event.get("type").and_then(Value::as_str).and_then(events::get);
    match event.get_mut("data") {
        None | Some(Value::Null) => {}
        Some(Value::Object(data)) => strip(data, event_type),
        // Words without a field are words all the same.
        Some(data) => *data = Value::Bool(false),
    }
    Some(Value::Object(event).to_string())
}

fn strip(members: &mut Map<String, Value>, event_type: Option<&EventType>) {
    let mut n_chars = None;
    members.retain(|name, value| {
        let field = event_type.and_then(|event_type| event_type.field(name));
        if field.is_some_and(|field| field.class == DataClass::E) {
            n_chars = value.as_str().map(|text| text.chars().take(TEXT_CHARS_MAX).count());
        }
        field.map_or_else(|| !NEVER_KEPT.contains(name.as_str()), |field| field.class.may_enter_lake())
    });
    let has_length = event_type.is_some_and(|event_type| event_type.field(TEXT_LENGTH).is_some());
    if let Some(n_chars) = n_chars.filter(|_| has_length && !members.contains_key(TEXT_LENGTH)) {
        members.insert(TEXT_LENGTH.to_owned(), Value::from(n_chars));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(content: Option<String>) -> Value {
        serde_json::from_str(&content.unwrap()).unwrap()
    }

    #[test]
    fn words_are_counted_and_not_kept() {
        let search =
            json!({"event_id": "x", "event_type": "app.search_performed", "words": "佐藤花子", "hits": "many"});
        let expected = json!({"event_id": "x", "event_type": "app.search_performed", "text_length": 4, "hits": "many"});
        assert_eq!(kept(of_record(&search.to_string())), expected);
        let newer = json!({"event_type": "app.search_tried", "words": "佐藤花子", "colour": "red"});
        let expected = json!({"event_type": "app.search_tried", "colour": "red"});
        assert_eq!(kept(of_record(&newer.to_string())), expected);
        let reply = json!({"type": "support.replied", "id": "1", "data": {"topic": "coupon", "text": "佐藤花子"}});
        let data = json!({"topic": "coupon", "text_length": 4});
        let expected = json!({"type": "support.replied", "id": "1", "data": data});
        assert_eq!(kept(of_cloud_event(&reply.to_string())), expected);
        let words = json!({"type": "support.replied", "id": "1", "data": "佐藤花子"});
        assert!(!kept(of_cloud_event(&words.to_string())).to_string().contains("佐藤"));
    }

    #[test]
    fn what_cannot_be_read_is_not_kept() {
        for content in ["{broken", "\"佐藤花子\"", "[]", ""] {
            assert_eq!((of_record(content), of_cloud_event(content)), (None, None), "{content}");
        }
    }
}
