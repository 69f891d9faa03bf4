use std::collections::BTreeMap;

use datafusion::arrow::{
    array::AsArray,
    datatypes::{Date32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use proptest::prelude::*;
use serde_json::{Map, json};
use todoke_domain::{
    catalogue::events::{self, EventType, LakeUse},
    ids::EventId,
};

use super::*;

fn value_of(ty: &FieldType) -> BoxedStrategy<Value> {
    match ty {
        FieldType::Yen | FieldType::Key | FieldType::I64 | FieldType::Ts => any::<i64>().prop_map(Value::from).boxed(),
        FieldType::U64 => (0..=i64::MAX).prop_map(Value::from).boxed(),
        FieldType::Units | FieldType::Min | FieldType::N => any::<i32>().prop_map(Value::from).boxed(),
        FieldType::I16 => any::<i16>().prop_map(Value::from).boxed(),
        FieldType::U16 => any::<u16>().prop_map(Value::from).boxed(),
        FieldType::F64 => (-1e9..1e9_f64).prop_map(Value::from).boxed(),
        FieldType::Bool => any::<bool>().prop_map(Value::from).boxed(),
        FieldType::Date => (-30_000..60_000_i32).prop_map(|day| Value::from(date_of(day).to_string())).boxed(),
        FieldType::Str | FieldType::Id | FieldType::Text => "[ -~ぁ-ん]{0,20}".prop_map(Value::from).boxed(),
        FieldType::List(item) => {
            let item = prop_oneof![8 => value_of(item), 1 => Just(Value::Null)];
            prop::collection::vec(item, 0..4).prop_map(Value::from).boxed()
        }
        FieldType::Struct(fields) => {
            let parts: Vec<_> = fields.iter().map(|f| (Just(f.name.clone()), value_of(&f.ty))).collect();
            parts.prop_map(|parts| Value::Object(parts.into_iter().collect())).boxed()
        }
    }
}

fn payload_of(event_type: &'static EventType) -> BoxedStrategy<Map<String, Value>> {
    let fields: Vec<_> = event_type
        .fields
        .iter()
        .filter(|field| field.lake == LakeUse::Yes)
        .map(|field| (Just(field.name.clone()), prop::option::weighted(0.8, value_of(&field.ty))))
        .collect();
    fields.prop_map(|fields| fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()).boxed()
}

fn events_of_any_type() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..events::all().len()).prop_flat_map(|index| {
        let event_type = &events::all()[index];
        (Just(event_type), payload_of(event_type), 0..4_000_000_000_000_000_i64, 0..3_u32)
    });
    prop::collection::vec(event, 0..40).prop_map(|drafts| {
        drafts
            .into_iter()
            .enumerate()
            .map(|(n, (event_type, payload, micros, city))| Event {
                event_id: EventId::from(uuid::Uuid::from_u128(n as u128 + 1)),
                event_type: event_type.name.clone(),
                schema_version: 1,
                occurred_at: Timestamp::from_micros(micros),
                recorded_at: Timestamp::from_micros(micros + 1),
                municipality_code: format!("13101{city}").parse().unwrap(),
                actor_role: "guardian".to_owned(),
                actor_key: None,
                source_channel: "app".to_owned(),
                subject_kind: "test".to_owned(),
                subject_id: n.to_string(),
                subject_seq: 1,
                correlation_id: None,
                causation_id: None,
                recorded_offline: false,
                programme_code: None,
                facility_id: None,
                payload,
            })
            .collect()
    })
}

/// What a cell says, as the JSON it was made from.
fn cell(ty: &FieldType, array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match ty {
        FieldType::Yen | FieldType::Key | FieldType::I64 | FieldType::U64 => {
            array.as_primitive::<Int64Type>().value(row).into()
        }
        FieldType::Ts => array.as_primitive::<TimestampMicrosecondType>().value(row).into(),
        FieldType::Units | FieldType::Min | FieldType::N | FieldType::U16 => {
            array.as_primitive::<Int32Type>().value(row).into()
        }
        FieldType::I16 => array.as_primitive::<Int16Type>().value(row).into(),
        FieldType::F64 => array.as_primitive::<Float64Type>().value(row).into(),
        FieldType::Bool => array.as_boolean().value(row).into(),
        FieldType::Date => date_of(array.as_primitive::<Date32Type>().value(row)).to_string().into(),
        FieldType::Str | FieldType::Id | FieldType::Text => match array.as_string_view_opt() {
            Some(view) => view.value(row).into(),
            None => array.as_string::<i32>().value(row).into(),
        },
        FieldType::List(item) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|i| cell(item, &items, i)).collect()
        }
        FieldType::Struct(fields) => {
            let parts = array.as_struct();
            fields.iter().map(|f| (f.name.clone(), cell(&f.ty, parts.column_by_name(&f.name).unwrap(), row))).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every event is one row of its table, says what its payload said, and lies in the right partition.
    #[test]
    fn rows_say_what_the_events_said(events in events_of_any_type()) {
        let rows = EventRows::build(&events, Timestamp::from_micros(9)).unwrap();
        prop_assert_eq!(rows.rejected(), &[]);
        let by_id: BTreeMap<String, &Event> = events.iter().map(|e| (e.event_id.to_string(), e)).collect();
        let mut n_seen = 0;
        for name in rows.tables() {
            let schema = schema::group(name).unwrap();
            let batch = rows.table(name).unwrap();
            let ids = batch.column_by_name("event_id").unwrap().as_string_view();
            for row in 0..batch.num_rows() {
                let event = by_id[ids.value(row)];
                prop_assert_eq!(event.group(), name);
                for (index, column) in schema.columns.iter().enumerate() {
                    let said = cell(&column.ty, batch.column(index), row);
                    let expected = match column.name.as_str() {
                        "municipality_code" => json!(event.municipality_code),
                        "jst_date" => json!(event.occurred_at.jst_date().to_string()),
                        "occurred_at" => json!(event.occurred_at.as_micros()),
                        _ if index < schema.n_envelope => continue,
                        payload => event.payload.get(payload).cloned().unwrap_or(Value::Null),
                    };
                    prop_assert_eq!(said, expected, "{} {}", event.event_type, column.name);
                }
                n_seen += 1;
            }
            let slices = slice::cut(batch).unwrap();
            prop_assert_eq!(slices.iter().map(|s| s.rows.num_rows()).sum::<usize>(), batch.num_rows());
            let keys: Vec<_> = slices.iter().map(|s| (s.municipality.to_string(), s.day)).collect();
            prop_assert!(keys.windows(2).all(|w| w[0] < w[1]), "{:?}", keys);
        }
        prop_assert_eq!(n_seen, events.len());
        prop_assert_eq!(rows.n_rows(), events.len());
    }
}

#[test]
fn numbers_outside_their_type_do_not_fit() {
    for (ty, value) in [
        (FieldType::N, json!(i64::from(i32::MAX) + 1)),
        (FieldType::U16, json!(-1)),
        (FieldType::I16, json!(40_000)),
        (FieldType::Yen, json!(1.5)),
        (FieldType::Date, json!("2026-02-30")),
        (FieldType::Bool, json!("true")),
        (FieldType::List(Box::new(FieldType::Str)), json!(["a", 1])),
    ] {
        assert!(!value_fits(&ty, &value), "{ty:?} {value}");
    }
}

#[test]
fn day_numbers_and_dates_are_inverse() {
    for day in [-25_567, -1, 0, 1, 20_778, 47_482] {
        assert_eq!(day_number(date_of(day)), day);
    }
    assert_eq!(date_of(20_778).to_string(), "2026-11-21");
}
