//! Made-up use of the app, and survey questions with answers.

use std::time::Duration;

use jiff::civil::{Date, time};
use rand::{Rng, RngExt};
use serde_json::{Map, Value, json};
use todoke_domain::{
    Event, MunicipalityCode, Timestamp,
    ids::EventId,
    survey::{AnswerItem, Question, QuestionKind},
    time::add_days,
};
use todoke_lake::{EventRows, Lake};

/// Days of app usage that go into the lake in one step: bounds the memory.
const STEP_DAYS: i32 = 30;
const SCREENS: [&str; 6] = ["GD03", "GD04", "GD16", "GD18", "GD06", "GD15"];
const PLATFORMS: [(&str, &str); 3] = [("ios", "18.1"), ("android", "15"), ("web", "")];
const VERSIONS: [&str; 3] = ["1.2.0", "1.3.0", "1.3.1"];

/// Writes a year of sessions of those who agreed to it straight into the lake.
pub(super) async fn history(
    lake: &Lake,
    code: &MunicipalityCode,
    people: &[(i64, bool)],
    first_day: Date,
    now: Timestamp,
    rng: &mut impl Rng,
) -> anyhow::Result<()> {
    let mut from = first_day;
    while from < now.jst_date() {
        let to = add_days(from, STEP_DAYS).min(now.jst_date());
        let mut events = Vec::new();
        let mut day = from;
        while day < to {
            for (key, agreed) in people {
                // Two sessions in a week on average; some people come every day.
                let daily = key.rem_euclid(11) == 0;
                if *agreed && (daily || rng.random_range(0..7) < 2) {
                    session(&mut events, code, *key, day, rng);
                }
            }
            day = add_days(day, 1);
        }
        let rows = EventRows::build(&events, now)?;
        anyhow::ensure!(rows.rejected().is_empty(), "the lake refused app usage: {:?}", rows.rejected().first());
        lake.append_bulk(&rows, now).await?;
        from = to;
    }
    Ok(())
}

fn session(events: &mut Vec<Event>, code: &MunicipalityCode, key: i64, day: Date, rng: &mut impl Rng) {
    let begin = Timestamp::from_jst(day, time(6, 0, 0, 0)).plus(Duration::from_secs(rng.random_range(0..61_200)));
    let (platform, os_version) = platform_of(key);
    let session_id = EventId::new(begin).to_string();
    let device_key = key ^ 0x5bd1;
    let version = VERSIONS[rng.random_range(0..VERSIONS.len())];
    let mut at = begin;
    let mut push = |event_type: &str, at: Timestamp, payload: Value| {
        events.push(app_event(code, key, event_type, &session_id, at, payload))
    };
    push(
        "app.session_started",
        at,
        json!({
            "session_id": session_id, "guardian_key": key, "device_key": device_key, "platform": platform,
            "os_version": os_version, "app_version": version, "entry": if rng.random_range(0..4) == 0 { "push" } else { "icon" },
        }),
    );
    let n_screens = rng.random_range(1..6);
    let mut previous = Value::Null;
    for i in 0..n_screens {
        let screen = if i == 0 { "GD03" } else { SCREENS[rng.random_range(0..SCREENS.len())] };
        let dwell_ms = rng.random_range(2_000..60_000_u64);
        push(
            "app.screen_viewed",
            at,
            json!({
                "session_id": session_id, "screen_id": screen, "previous_screen_id": previous, "dwell_ms": dwell_ms,
            }),
        );
        previous = json!(screen);
        at = at.plus(Duration::from_millis(dwell_ms));
    }
    if rng.random_range(0..60) == 0 {
        push(
            "app.error_occurred",
            at,
            json!({
                "session_id": session_id, "screen_id": "GD03", "error_kind": "network", "code": "timeout", "fatal": false,
            }),
        );
    }
    let duration_ms = i64::try_from(at.since(begin).as_millis()).unwrap_or(0);
    push(
        "app.session_ended",
        at,
        json!({
            "session_id": session_id, "duration_ms": duration_ms, "screens": n_screens, "end_reason": "background_30min",
        }),
    );
}

/// Platform and version of the system on which somebody uses the app.
pub(super) fn platform_of(key: i64) -> (&'static str, &'static str) {
    PLATFORMS[usize::try_from(key.rem_euclid(3)).unwrap_or(0)]
}

/// An app event as the server makes it from what a phone sends.
pub(super) fn app_event(
    code: &MunicipalityCode,
    key: i64,
    event_type: &str,
    session: &str,
    at: Timestamp,
    payload: Value,
) -> Event {
    let payload: Map<String, Value> = match payload {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    };
    Event {
        event_id: EventId::new(at),
        event_type: event_type.to_owned(),
        schema_version: 1,
        occurred_at: at,
        recorded_at: at,
        municipality_code: code.clone(),
        actor_role: "guardian".to_owned(),
        actor_key: Some(key),
        source_channel: "app".to_owned(),
        subject_kind: "session".to_owned(),
        subject_id: session.to_owned(),
        subject_seq: 0,
        correlation_id: None,
        causation_id: None,
        recorded_offline: false,
        programme_code: None,
        facility_id: None,
        payload,
    }
}

/// One question of each kind.
pub(super) fn questions() -> Vec<Question> {
    let question =
        |question_no, kind, text: &str, options: &[&str], range: Option<(f64, f64)>, kpi: Option<&str>| Question {
            question_no,
            kind,
            text: text.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            required: question_no <= 2,
            min: range.map(|(min, _)| min),
            max: range.map(|(_, max)| max),
            kpi: kpi.map(str::to_owned),
        };
    vec![
        question(
            1,
            QuestionKind::Scale,
            "子育て応援クーポンにどのくらい満足していますか。（1：不満　5：満足）",
            &[],
            Some((1.0, 5.0)),
            Some("K24"),
        ),
        question(
            2,
            QuestionKind::Single,
            "今後もクーポンを利用したいですか。",
            &["利用したい", "どちらともいえない", "利用しない"],
            None,
            None,
        ),
        question(
            3,
            QuestionKind::Multiple,
            "利用したことのあるサービスをすべて選んでください。",
            &["一時預かり", "病児保育", "産後ケア", "ヘルパー"],
            None,
            None,
        ),
        question(4, QuestionKind::Number, "1か月に何回くらい利用しますか。", &[], Some((0.0, 31.0)), None),
        question(5, QuestionKind::Text, "ご意見・ご要望をお聞かせください。", &[], None, None),
    ]
}

/// A plausible answer.
pub(super) fn answers(rng: &mut impl Rng) -> Vec<AnswerItem> {
    let item = |question_no| AnswerItem { question_no, ..AnswerItem::default() };
    let mut answers = vec![
        AnswerItem { number: Some(f64::from([5, 5, 4, 4, 4, 3, 3, 2][rng.random_range(0..8)])), ..item(1) },
        AnswerItem { options: vec![[1, 1, 1, 2, 2, 3][rng.random_range(0..6)]], ..item(2) },
        AnswerItem { options: (1..=4).filter(|_| rng.random_range(0..5) < 2).collect(), ..item(3) },
        AnswerItem { number: Some(f64::from(rng.random_range(0..9))), ..item(4) },
    ];
    if rng.random_range(0..5) == 0 {
        answers.push(AnswerItem {
            text: Some("いつも助かっています。予約がもう少し取りやすいとうれしいです。".to_owned()),
            ..item(5)
        });
    }
    answers
}
