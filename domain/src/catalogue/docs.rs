//! The tables of `docs/catalogues/`, generated from the catalogues and compared with the files there.
//!
//! To write them anew: `TODOKE_UPDATE_DOCS=1 cargo test -p todoke-domain catalogue::docs`.

use std::{fmt::Write, fs, path::Path};

use super::{
    events::{self, Field, LakeUse},
    messages::{self, MessageType, Recipient, TriggerBy},
};

const GENERATED: &str = "Generated from the files under `domain/catalogue/` by a test of todoke-domain; do not edit.\n";

fn compare(file: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/catalogues").join(file);
    if std::env::var_os("TODOKE_UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, generated).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == generated, "docs/catalogues/{file} is out of date; run with TODOKE_UPDATE_DOCS=1");
}

#[test]
fn the_table_of_events_is_up_to_date() {
    let mut text = format!("# Event catalogue\n\n{GENERATED}\n");
    text.push_str("Class: personal-data class of the field. Lake: `yes` column of `events_<group>`, ");
    text.push_str("`restricted` only in the restricted dataset, `no` known to the record only.\n");
    text.push_str("\n## Envelope\n\n| Field | Type | Class | Lake | Meaning |\n|---|---|---|---|---|\n");
    events::envelope().iter().for_each(|field| push_field(&mut text, field));
    for group in events::groups() {
        writeln!(text, "\n## {}", group.name()).unwrap();
        for event_type in group.event_types() {
            writeln!(text, "\n### `{}` {}\n", event_type.name, event_type.label).unwrap();
            if !event_type.envelope_required.is_empty() {
                writeln!(text, "Needs of the envelope: {}.\n", event_type.envelope_required.join(", ")).unwrap();
            }
            text.push_str("| Field | Type | Class | Lake | Meaning |\n|---|---|---|---|---|\n");
            event_type.fields.iter().for_each(|field| push_field(&mut text, field));
        }
    }
    compare("events.md", &text);
}

fn push_field(text: &mut String, field: &Field) {
    let Field { name, ty, class, description, .. } = field;
    let null = if field.nullable { " null" } else { "" };
    let signed = if field.signed { " signed" } else { "" };
    let lake = match field.lake {
        LakeUse::Yes => "yes",
        LakeUse::No => "no",
        LakeUse::Restricted => "restricted",
    };
    writeln!(text, "| `{name}` | {ty}{signed}{null} | {} | {lake} | {description} |", class.as_str()).unwrap();
}

#[test]
fn the_table_of_messages_is_up_to_date() {
    let mut text = format!("# Message catalogue\n\n{GENERATED}\n");
    text.push_str("Channels: L live, I inbox, P push, E e-mail, X paper.\n\n## Facts\n\n");
    text.push_str("What conditions ask beyond the event's own fields.\n\n| Fact | Values | Meaning |\n|---|---|---|\n");
    for fact in messages::facts() {
        writeln!(text, "| `{}` | {} | {} |", fact.name, fact.values, fact.meaning).unwrap();
    }
    let mut section = 0;
    for message in messages::all() {
        if message.section != section {
            section = message.section;
            writeln!(text, "\n## Section {section}").unwrap();
        }
        push_message(&mut text, message);
    }
    compare("messages.md", &text);
}

fn push_message(text: &mut String, message: &MessageType) {
    writeln!(text, "\n### `{}`\n", message.id).unwrap();
    let (category, class, speed) = (message.category.as_str(), message.class.as_str(), message.speed.as_str());
    writeln!(text, "{category} · {class} · {speed} · {:?}", message.dedupe.code).unwrap();
    text.push('\n');
    for trigger in &message.triggers {
        let by = match &trigger.by {
            TriggerBy::Event(name) => format!("event `{name}`"),
            TriggerBy::Timer(name) => format!("timer {name}"),
        };
        writeln!(text, "- Raised by {by}{}", when(&trigger.when)).unwrap();
    }
    message.recipients.iter().for_each(|recipient| push_recipient(text, recipient));
    for escalation in &message.escalation {
        let after = escalation.after_min.map_or_else(String::new, |min| format!(" after {min} min"));
        writeln!(text, "- Escalation {}{after}", escalation.rule.as_str()).unwrap();
    }
    if let Some(days) = message.again_after_days {
        writeln!(text, "- Unread: again after {days} days").unwrap();
    }
    for (locale, variant, template) in message.templates() {
        let (subject, body) = (template.subject.as_str(), template.body.as_str());
        writeln!(text, "\n{locale}, {variant}: **{subject}**  \n{body}").unwrap();
        if let Some(transit) = &template.transit_body {
            writeln!(text, "\nIn transit: {}", transit.as_str()).unwrap();
        }
    }
}

fn push_recipient(text: &mut String, recipient: &Recipient) {
    let mut channels = recipient.channels.to_string();
    for add in &recipient.add {
        write!(channels, ", {}{}", add.channels, when(&add.when)).unwrap();
    }
    if recipient.email_if_no_push {
        channels.push_str(", E without a push device");
    }
    if let Some(left) = recipient.actor_channels {
        write!(channels, ", only {left} for the actor").unwrap();
    }
    let note = recipient.note.as_deref().map_or_else(String::new, |note| format!(" ({note})"));
    writeln!(text, "- To {}{note}: {channels}{}", recipient.audience.as_str(), when(&recipient.when)).unwrap();
}

fn when(conditions: &[messages::Condition]) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    let conditions: Vec<_> = conditions.iter().map(ToString::to_string).collect();
    format!(" when {}", conditions.join(" and "))
}
