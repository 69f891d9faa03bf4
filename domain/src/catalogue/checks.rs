//! What must hold of every row of the catalogues. A row that breaks a rule fails the build's tests.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::{
    cause::ENVELOPE_FIELDS,
    events::{self, DataClass, FieldType, LakeUse},
    messages::{self, ChannelSet, Condition, LOCALE_COMPLETE, Trigger, TriggerBy, facts},
    template::{Placeholder, Placeholders, Privacy, Template, render_in},
};

/// Timers of flows.md part B.
const TIMERS: u32 = 24;

/// flows.md C20: (machine, events, messages). `x.*` is every event of a group, `x_*` every one that begins so.
const MACHINES: [(&str, &[&str], &[&str]); 18] = [
    (
        "C1, C2",
        &["account.*"],
        &[
            "account.registration_invited",
            "account.email_verification",
            "account.registered",
            "account.issued",
            "account.issue_bounced",
            "account.mail_failed",
            "account.otp",
            "account.password_reset",
            "account.password_changed",
            "account.email_change_verification",
            "account.identity_permission_changed",
            "account.locked",
            "account.ending",
            "account.proxy_registered",
            "account.deleted",
            "consent.withdrawn",
        ],
    ),
    (
        "C3",
        &["application.*", "child.matched", "child.match_failed", "child.guardian_confirmed"],
        &[
            "application.coupon.received",
            "application.coupon.deficient",
            "application.coupon.matching_failed",
            "application.coupon.approved",
            "application.coupon.rejected",
            "application.coupon.revoked",
            "application.coupon.reopened",
        ],
    ),
    (
        "C4",
        &[
            "coupon.distributed",
            "coupon.adjusted",
            "coupon.suspended",
            "coupon.resumed",
            "coupon.revoked",
            "coupon.expired",
            "coupon.expiry_changed",
            "coupon.set_switched",
        ],
        &[
            "coupon.distributed",
            "coupon.adjusted",
            "coupon.suspended",
            "coupon.resumed",
            "application.coupon.revoked",
            "coupon.expiring",
            "coupon.expired",
            "coupon.expiry_changed",
            "coupon.set_switched",
        ],
    ),
    (
        "C5, C6",
        &[
            "coupon.used",
            "coupon.use_refused",
            "coupon.use_requested",
            "coupon.use_rejected",
            "coupon.use_timed_out",
            "coupon.use_reversed",
        ],
        &[
            "coupon.used",
            "coupon.used.facility",
            "coupon.use_refused",
            "coupon.use_requested",
            "coupon.use_rejected",
            "coupon.use_timed_out",
            "coupon.use_reversed",
            "coupon.cancellation_fee_charged",
        ],
    ),
    (
        "C7",
        &["solicitation.*", "child.qr_*", "import.*"],
        &["coupon.solicited", "coupon.resolicited", "coupon.qr_reissued", "import.completed", "import.failed"],
    ),
    (
        "C8",
        &["pre_registration.*", "conversation.posted"],
        &[
            "pre_registration.received",
            "pre_registration.received.facility",
            "pre_registration.deficient",
            "pre_registration.decided",
            "pre_registration.cancelled_by_guardian",
            "pre_registration.cancelled_by_facility",
            "pre_registration.renewal_due",
            "conversation.posted",
        ],
    ),
    (
        "C9",
        &["application.*"],
        &[
            "application.use.received",
            "application.use.received.facility",
            "application.use.deficient",
            "application.use.decided",
            "application.use.cancelled",
            "programme.approval_notified",
        ],
    ),
    (
        "C10",
        &["interview.*"],
        &[
            "interview.requested",
            "interview.request_received",
            "interview.scheduled",
            "interview.accepted",
            "interview.refusal_submitted",
            "interview.refusal_decided",
            "interview.refused",
            "interview.withdrawn",
        ],
    ),
    (
        "C11",
        &["slot.*", "reservation.*", "quota.*"],
        &[
            "reservation.requested",
            "reservation.request_received",
            "reservation.confirmed",
            "reservation.declined",
            "reservation.cancelled",
            "reservation.cancel_fee_due",
            "reservation.confirm_overdue",
            "reservation.auto_cancelled",
            "reservation.time_adjusted",
            "reservation.reminder",
        ],
    ),
    (
        "C12",
        &["application.*", "reservation.confirmed"],
        &["application.regular.received", "reservation.regular_registered"],
    ),
    (
        "C13",
        &["attendance.*", "child.info_changed"],
        &[
            "attendance.started",
            "attendance.ended",
            "attendance.absence_notified",
            "attendance.checkin_missing",
            "attendance.checkout_missing",
            "child.info_changed",
        ],
    ),
    ("C14", &["payment.*"], &["payment.receipt_issued", "payment.receipt_cancelled", "reservation.cancel_fee_due"]),
    (
        "C15, invoices of Part E",
        &["results_report.*", "claim.created", "claim.transfer_result"],
        &[
            "results_report.submitted",
            "results_report.received",
            "results_report.returned",
            "results_report.forwarded",
            "claim.submitted",
            "claim.received",
            "claim.forwarded",
            "claim.invoice_requested",
            "claim.invoice_sent",
            "claim.transfer_completed",
            "claim.transfer_failed",
        ],
    ),
    (
        "C16",
        &[
            "claim.generated",
            "claim.selection_computed",
            "claim.confirmed",
            "claim.returned",
            "claim.overdue",
            "claim.received",
            "claim.paid",
        ],
        &[
            "claim.results_check_due",
            "claim.generated",
            "claim.due_soon",
            "claim.overdue",
            "claim.confirmed",
            "claim.print_required",
            "claim.returned",
        ],
    ),
    ("C17", &["survey.*"], &["survey.requested", "survey.reminder", "survey.results_ready"]),
    ("C18", &["message.*"], &["operator.contact_failed", "operator.message_faulty"]),
    ("C19, G06, G27", &["facility.*", "certification.*"], &["account.issued"]),
    (
        "–",
        &["broadcast.*", "notice.*", "report.presented", "system.*", "incident.reported", "support.*"],
        &[
            "notice.published",
            "broadcast.segment",
            "broadcast.event",
            "broadcast.emergency",
            "broadcast.completed",
            "report.ready",
            "system.maintenance_scheduled",
            "system.maintenance_starting",
            "system.maintenance_ended",
            "system.incident",
            "system.recovered",
            "incident.reported",
            "support.replied",
        ],
    ),
];

#[test]
fn the_catalogues_are_complete() {
    // The 119 of messages.md, the two alarms that it asks for without giving their words, and one more of ours.
    assert_eq!(messages::all().len(), 122);
    // design.md speaks of 185; the tables of events.md, slash-joined rows taken apart, name 188. `message.displayed` is ours.
    assert_eq!(events::all().len(), 189);
    assert_eq!(events::groups().len(), 29);
    let sections: Vec<usize> =
        (2..=9).map(|section| messages::all().iter().filter(|message| message.section == section).count()).collect();
    assert_eq!(sections, [16, 12, 16, 14, 21, 7, 18, 18]);
}

#[test]
fn names_are_unique() {
    let ids: HashSet<_> = messages::all().iter().map(|message| &message.id).collect();
    assert_eq!(ids.len(), messages::all().len());
    let names: HashSet<_> = events::all().iter().map(|event_type| &event_type.name).collect();
    assert_eq!(names.len(), events::all().len());
    for event_type in events::all() {
        let fields: HashSet<_> = event_type.fields.iter().map(|field| &field.name).collect();
        assert_eq!(fields.len(), event_type.fields.len(), "{}", event_type.name);
    }
}

#[test]
fn groups_hold_every_event_once() {
    let mut seen = 0;
    for group in events::groups() {
        for event_type in group.event_types() {
            assert_eq!(event_type.group, group.name());
            assert_eq!(events::get(&event_type.name), Some(event_type));
            seen += 1;
        }
    }
    assert_eq!(seen, events::all().len());
    assert!(events::lake_fields("no_such_group").is_empty());
}

#[test]
fn classes_b_d_and_e_never_enter_the_lake() {
    let payload = events::all().iter().flat_map(|event_type| {
        event_type.fields.iter().map(move |field| (event_type.name.as_str(), event_type.group.as_str(), field))
    });
    for (event_type, group, field) in payload.chain(events::envelope().iter().map(|field| ("envelope", "", field))) {
        let at = format!("{event_type}.{}", field.name);
        match field.lake {
            LakeUse::Yes => assert!(field.class.may_enter_lake(), "{at}"),
            LakeUse::Restricted => assert!(group == "payment" && field.class == DataClass::D, "{at}"),
            LakeUse::No => assert!(!field.class.may_enter_lake() || event_type == "envelope", "{at}"),
        }
        let key_of_a_person = field.name.ends_with("_key") && field.ty != FieldType::Id;
        assert_eq!(field.ty == FieldType::Key, key_of_a_person, "{at}");
        assert!(field.ty != FieldType::Key || field.class == DataClass::A, "{at}");
        assert!(!field.description.is_empty(), "{at}");
    }
}

/// A field nobody classified is in no build: the files are parsed by every test that looks at the catalogue.
#[test]
fn a_field_without_class_or_use_in_the_lake_is_no_field() {
    let field = |class: &str, lake: &str| {
        let text = format!("name = \"colour\"\ntype = \"str\"\ndescription = \"色\"\n{class}\n{lake}\n");
        toml::from_str::<events::Field>(&text)
    };
    let (class, lake) = ("class = \"F\"", "lake = \"yes\"");
    assert!(field(class, lake).is_ok());
    for (class, lake) in
        [("", lake), (class, ""), ("class = \"G\"", lake), ("class = \"\"", lake), (class, "lake = true")]
    {
        assert!(field(class, lake).is_err(), "{class} {lake}");
    }
}

#[test]
fn money_time_and_quantities_say_their_unit() {
    for event_type in events::all() {
        for field in &event_type.fields {
            let at = format!("{}.{}", event_type.name, field.name);
            let (name, ty) = (field.name.as_str(), &field.ty);
            assert_eq!(*ty == FieldType::Yen, name.ends_with("_yen"), "{at}");
            assert_eq!(*ty == FieldType::Units, name.ends_with("_units"), "{at}");
            assert!(*ty == FieldType::I64 || !name.ends_with("_ms"), "{at}");
            assert!(*ty == FieldType::Min || !name.ends_with("_min"), "{at}");
            assert!(*ty == FieldType::Bool || !name.starts_with("is_"), "{at}");
        }
    }
}

#[test]
fn a_free_text_leaves_only_its_length() {
    for event_type in events::all() {
        let texts = event_type.fields.iter().filter(|field| field.class == DataClass::E).count();
        // The answers of a survey carry the length per question.
        if texts > 0 && event_type.name != "survey.answered" {
            assert!(event_type.field("text_length").is_some(), "{}", event_type.name);
        }
    }
}

#[test]
fn a_column_has_one_type_and_does_not_hide_the_envelope() {
    let envelope: HashSet<_> = events::envelope().iter().map(|field| field.name.as_str()).collect();
    for group in events::groups() {
        let mut types = HashMap::new();
        for field in group.event_types().iter().flat_map(|event_type| &event_type.fields) {
            let known = types.entry(&field.name).or_insert((&field.ty, field.lake));
            if field.lake != LakeUse::No || known.1 != LakeUse::No {
                assert_eq!(*known, (&field.ty, field.lake), "{}.{}", group.name(), field.name);
            }
            assert!(!envelope.contains(field.name.as_str()), "{}.{}", group.name(), field.name);
        }
        assert!(group.lake_fields().iter().all(|field| field.lake == LakeUse::Yes));
        assert_eq!(group.restricted_fields().is_empty(), group.name() != "payment");
    }
    for event_type in events::all() {
        for name in &event_type.envelope_required {
            assert!(matches!(name.as_str(), "facility_id" | "programme_code"), "{}: {name}", event_type.name);
        }
        for beside in event_type.fields.iter().filter_map(|field| field.null_with.as_deref()) {
            assert!(event_type.field(beside).is_some_and(|field| field.nullable), "{}", event_type.name);
        }
    }
}

#[test]
fn what_a_sender_may_say_is_what_the_catalogue_tells_people() {
    let fields = events::all().iter().flat_map(|event_type| &event_type.fields);
    for field in fields.filter(|field| !field.codes.is_empty()) {
        assert_eq!(field.ty, FieldType::Str, "{}", field.name);
        assert!(field.description.ends_with(&format!("（{}）", field.codes.join(", "))), "{}", field.description);
    }
}

#[test]
fn the_union_knows_what_may_be_null() {
    let field = |name: &str| events::lake_fields("coupon").iter().find(|field| field.name == name).unwrap();
    assert!(field("amount_yen").nullable, "coupon.revoked has none");
    assert!(field("delta_yen").signed);
    let every_type_has_it = events::lake_fields("quota").iter().find(|field| field.name == "minutes").unwrap();
    assert!(!every_type_has_it.nullable);
}

#[test]
fn every_message_has_a_trigger_that_exists() {
    for message in messages::all() {
        assert!(!message.triggers.is_empty(), "{}", message.id);
        for Trigger { by, when } in &message.triggers {
            match by {
                TriggerBy::Event(event_type) => assert!(events::get(event_type).is_some(), "{}", message.id),
                TriggerBy::Timer(timer) => {
                    let number: u32 = timer.strip_prefix('T').and_then(|digits| digits.parse().ok()).unwrap();
                    assert!((1..=TIMERS).contains(&number) && timer.len() == 3, "{}: {timer}", message.id);
                }
            }
            assert_askable(&message.id, &[by], when);
        }
        let by: Vec<_> = message.triggers.iter().map(|trigger| &trigger.by).collect();
        for recipient in &message.recipients {
            assert_askable(&message.id, &by, &recipient.when);
            recipient.add.iter().for_each(|add| assert_askable(&message.id, &by, &add.when));
        }
    }
}

/// Every condition asks for a field that its events bring, for one of the envelope, or for a declared fact.
fn assert_askable(message: &str, by: &[&TriggerBy], conditions: &[Condition]) {
    for Condition { field, .. } in conditions {
        let brought = by.iter().all(|by| match by {
            TriggerBy::Event(event_type) => {
                let known = events::get(event_type).and_then(|known| known.field(field));
                assert!(known.is_none_or(|known| known.lake == LakeUse::Yes), "{message} asks for `{field}`");
                known.is_some() || ENVELOPE_FIELDS.contains(&field.as_str())
            }
            TriggerBy::Timer(_) => false,
        });
        assert!(brought || facts().iter().any(|fact| fact.name == *field), "{message} asks for `{field}`");
    }
}

#[test]
fn every_fact_is_asked_for() {
    let asked: HashSet<_> = messages::all()
        .iter()
        .flat_map(|message| {
            let triggers = message.triggers.iter().flat_map(|trigger| &trigger.when);
            let recipients = message.recipients.iter();
            let of_recipients = recipients.flat_map(|r| r.when.iter().chain(r.add.iter().flat_map(|add| &add.when)));
            triggers.chain(of_recipients)
        })
        .map(|condition| condition.field.as_str())
        .collect();
    for fact in facts() {
        assert!(asked.contains(fact.name.as_str()), "{}", fact.name);
        assert!(!fact.values.is_empty() && !fact.meaning.is_empty());
    }
}

#[test]
fn every_message_is_whole() {
    for message in messages::all() {
        let id = &message.id;
        assert!(
            !message.recipients.is_empty() && !message.must_contain.is_empty() && !message.source.is_empty(),
            "{id}"
        );
        for recipient in &message.recipients {
            let fallback = recipient.email_if_no_push || !recipient.add.is_empty();
            assert!(!recipient.channels.is_empty() || fallback, "{id} reaches nobody");
            let outside = recipient.add.iter().map(|add| add.channels).fold(ChannelSet::EMPTY, ChannelSet::union);
            assert_eq!(outside.intersection(recipient.audience.possible_channels()), outside, "{id}");
            let template = message.template(messages::LOCALE_COMPLETE, &recipient.variant);
            assert!(template.is_some(), "{id} has no text `{}`", recipient.variant);
        }
        for (_, variant, template) in message.templates() {
            assert!(message.recipients.iter().any(|recipient| recipient.variant == variant), "{id}: {variant}");
            assert!(!template.subject.as_str().is_empty() && !template.body.as_str().is_empty(), "{id}");
        }
        if let Some(other) = &message.dedupe.collapse_with {
            assert!(messages::get(other).is_some(), "{id}");
        }
    }
}

#[test]
fn flows_c20_names_only_what_exists_and_every_message() {
    let mut named = HashSet::new();
    for (machine, event_names, message_ids) in MACHINES {
        for name in event_names {
            let prefix = name.trim_end_matches('*');
            let named = |known: &str| known == *name || (prefix != *name && known.starts_with(prefix));
            assert!(events::all().iter().any(|known| named(&known.name)), "{machine}: {name}");
        }
        for id in message_ids {
            assert!(messages::get(id).is_some(), "{machine}: {id}");
            named.insert(*id);
        }
    }
    let forgotten: Vec<_> = messages::all().iter().filter(|message| !named.contains(message.id.as_str())).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

const MARK: &str = "☃";

proptest! {
    /// Whatever the values: rendering never panics, and on the way to a device no text holds the child's
    /// or guardian's name or the reason.
    #[test]
    fn transit_texts_hold_no_names_and_no_reasons(
        at in 0..messages::all().len(),
        child in ".*", guardian in ".*", reason in ".*",
        other in "[^☃]*",
        left_out in proptest::option::of(0..Placeholder::ALL.len()),
    ) {
        let mut values = Placeholders::new();
        for (i, placeholder) in Placeholder::ALL.iter().enumerate() {
            if left_out != Some(i) {
                values.set(*placeholder, match placeholder {
                    Placeholder::Child => format!("{MARK}{child}"),
                    Placeholder::Guardian => format!("{MARK}{guardian}"),
                    Placeholder::Reason => format!("{MARK}{reason}"),
                    _ => format!("x{other}"),
                });
            }
        }
        let message = &messages::all()[at];
        for (locale, variant, template) in message.templates() {
            for privacy in [Privacy::TransitHousehold, Privacy::TransitStaff] {
                if let Ok(text) = render_in(message, locale, variant, &values, privacy) {
                    prop_assert!(!text.subject.contains(MARK) && !text.body.contains(MARK));
                    let label_left = text.body.contains("内容：") || text.body.contains("理由：");
                    prop_assert!(!label_left || other.contains('：'), "a label without its reason");
                }
            }
            let full = render_in(message, locale, variant, &values, Privacy::Inbox);
            let blank = template.placeholders().any(|placeholder| values.get(placeholder).is_none());
            prop_assert_eq!(full.is_err(), blank, "an error exactly when a value is missing");
        }
    }
}

/// Another locale says the same: it has the gaps of the Japanese text, and nothing that this one lacks.
#[test]
fn every_text_has_the_placeholders_of_the_japanese_one() {
    let mut n_other = 0;
    for message in messages::all() {
        for (locale, variant, template) in message.templates().filter(|(locale, ..)| *locale != LOCALE_COMPLETE) {
            let complete = message.template(LOCALE_COMPLETE, variant);
            let complete = complete.unwrap_or_else(|| panic!("{} {variant} is not in Japanese", message.id));
            let gaps = |template: &Template| template.placeholders().collect::<HashSet<_>>();
            assert_eq!(gaps(template), gaps(complete), "{} {locale} {variant}", message.id);
            assert_eq!(template.transit_body.is_some(), complete.transit_body.is_some(), "{} {locale}", message.id);
            n_other += 1;
        }
    }
    assert!(n_other > 0, "there is another locale");
}

#[test]
fn a_language_is_one_that_some_text_is_in_and_a_text_that_lacks_it_comes_in_the_next() {
    assert_eq!(messages::locale("ja-easy"), Some("ja-easy"));
    assert_eq!(messages::locale(LOCALE_COMPLETE), Some(LOCALE_COMPLETE));
    for unknown in ["", "xx", "JA", "ja-easy "] {
        assert_eq!(messages::locale(unknown), None, "{unknown:?}");
    }
    let (used, locked) = (messages::get("coupon.used").unwrap(), messages::get("account.locked").unwrap());
    assert_eq!(used.locale(["ja-easy"], "default"), "ja-easy");
    assert_eq!(used.locale(["", "ja-easy"], "default"), "ja-easy", "no wish, then the next");
    assert_eq!(used.locale(["ja", "ja-easy"], "default"), "ja");
    assert_eq!(locked.locale(["xx", "ja-easy"], "default"), LOCALE_COMPLETE);
}

#[test]
fn a_reason_has_a_label_to_go_with() {
    for message in messages::all() {
        for (_, variant, template) in message.templates() {
            let body = template.body.as_str().replace("内容：{reason}", "").replace("理由：{reason}", "");
            assert!(!body.contains("{reason}"), "{} {variant}", message.id);
            assert!(!template.subject.as_str().contains("{reason}"), "{} {variant}", message.id);
        }
    }
}
