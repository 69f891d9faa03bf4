//! What the message catalogue answers in situations of flows.md: who is told, over what.

use serde_json::{Map, json};

use super::messages::{self, Audience, Cause, Class, Contact, MissingFact, Reach, Speed};

fn object(value: serde_json::Value) -> Map<String, serde_json::Value> {
    let serde_json::Value::Object(map) = value else { unreachable!("a literal object") };
    map
}

fn ids(raised: Result<Vec<&messages::MessageType>, MissingFact>) -> Vec<&str> {
    raised.unwrap().into_iter().map(|message| message.id.as_str()).collect()
}

#[test]
fn a_coupon_use_tells_the_household_and_the_facility() {
    let service = object(json!({"purpose": "service"}));
    let cause = Cause::event("coupon.used", &service);
    assert_eq!(ids(messages::triggered_by(&cause)), ["coupon.used", "coupon.used.facility"]);
    let fee = object(json!({"purpose": "cancellation_fee"}));
    let raised = messages::triggered_by(&Cause::event("coupon.used", &fee));
    assert_eq!(ids(raised), ["coupon.cancellation_fee_charged"]);

    let message = messages::get("coupon.used").unwrap();
    assert_eq!((message.class, message.speed), (Class::Mandatory, Speed::Now));
    let guardian = &message.recipients_for(&cause).unwrap()[0];
    let phone = Reach { contact: Contact::App, has_account: true, has_push_device: true, is_actor: true };
    let letters = |reach| guardian.channels_for(&cause, &reach).unwrap().to_string();
    assert_eq!(letters(phone), "LIP");
    assert_eq!(letters(Reach { has_push_device: false, ..phone }), "LIPE");
}

#[test]
fn facts_decide_only_where_they_must() {
    let received =
        object(json!({"application_kind": "coupon", "application_id": "a", "application_no": "A26-0000001"}));
    let cause = || Cause::event("application.received", &received);
    assert_eq!(messages::triggered_by(&cause()), Err(MissingFact { fact: "entry".to_owned() }));
    assert_eq!(ids(messages::triggered_by(&cause().fact("entry", "online"))), ["application.coupon.received"]);
    assert!(ids(messages::triggered_by(&cause().fact("entry", "paper_proxy"))).is_empty());

    let regular = object(json!({"application_kind": "regular"}));
    let raised = messages::triggered_by(&Cause::event("application.received", &regular));
    assert_eq!(ids(raised), ["application.regular.received"], "no fact is needed on this path");
}

#[test]
fn one_decision_raises_one_message() {
    for (kind, decision, expected) in [
        ("coupon", "approved", "application.coupon.approved"),
        ("coupon", "rejected", "application.coupon.rejected"),
        ("use", "permitted", "application.use.decided"),
        ("use", "not_permitted", "application.use.decided"),
        ("external", "approved", "programme.approval_notified"),
    ] {
        let payload = object(json!({"application_kind": kind, "decision": decision}));
        let raised = messages::triggered_by(&Cause::event("application.decided", &payload));
        assert_eq!(ids(raised), [expected]);
    }
    let failed = object(json!({"result_code": "no_account"}));
    let raised = messages::triggered_by(&Cause::event("claim.transfer_result", &failed));
    assert_eq!(ids(raised), ["claim.transfer_failed"]);
}

#[test]
fn timers_have_stages() {
    assert_eq!(ids(messages::triggered_by(&Cause::timer("T06"))), ["coupon.expiring"]);
    assert_eq!(ids(messages::triggered_by(&Cause::timer("T16").fact("stage", "overdue"))), ["claim.overdue"]);
    assert!(ids(messages::triggered_by(&Cause::timer("T17").fact("stage", "close"))).is_empty());
    assert!(ids(messages::triggered_by(&Cause::timer("T05"))).is_empty(), "its events do the telling");
    assert!(messages::triggered_by(&Cause::timer("T19")).is_err());
    let distributed = messages::get("coupon.distributed").unwrap();
    assert_eq!(distributed.speed_when(None), Speed::Min);
    assert_eq!(distributed.speed_when(Some("T04")), Speed::Batch);
}

#[test]
fn recipients_depend_on_what_happened() {
    let audiences = |message: &str, cause: &Cause<'_>| -> Vec<Audience> {
        let recipients = messages::get(message).unwrap().recipients_for(cause).unwrap();
        recipients.iter().map(|recipient| recipient.audience).collect()
    };
    let from_facility = object(json!({"sender_role": "facility_staff"}));
    let cause = Cause::event("conversation.posted", &from_facility);
    assert_eq!(audiences("conversation.posted", &cause), [Audience::Guardian, Audience::ProxyGuardian]);
    let from_household = object(json!({"sender_role": "proxy_guardian"}));
    let cause = Cause::event("conversation.posted", &from_household);
    assert_eq!(audiences("conversation.posted", &cause), [Audience::FacilityStaff]);

    let by_proxy = object(json!({"use_type": "flexible", "proxied_by": "facility"}));
    let own = object(json!({"use_type": "flexible"}));
    let guardian = &messages::get("reservation.request_received").unwrap().recipients[0];
    let reach = Reach { has_push_device: true, ..Reach::STAFF };
    let letters =
        |payload| guardian.channels_for(&Cause::event("reservation.requested", payload), &reach).unwrap().to_string();
    assert_eq!((letters(&by_proxy).as_str(), letters(&own).as_str()), ("LIPE", "LIP"));

    let second = Cause::timer("T11").fact("stage", "second");
    assert_eq!(audiences("attendance.checkout_missing", &second), [Audience::Guardian, Audience::ProxyGuardian]);
}

#[test]
fn paper_goes_only_where_it_is_wished() {
    let message = messages::get("application.coupon.rejected").unwrap();
    assert!(message.takes_paper());
    let nothing = Map::new();
    let cause = Cause::event("application.decided", &nothing);
    let letters = |at: usize, contact, has_account| {
        let reach = Reach { contact, has_account, has_push_device: true, is_actor: false };
        message.recipients[at].channels_for(&cause, &reach).unwrap().to_string()
    };
    assert_eq!(letters(0, Contact::App, true), "LIPE");
    assert_eq!(letters(0, Contact::Both, true), "LIPEX");
    assert_eq!(letters(0, Contact::Paper, true), "LIX");
    assert_eq!(letters(0, Contact::Paper, false), "X");
    assert_eq!(message.recipients[1].audience, Audience::ProxyGuardian);
    assert_eq!(letters(1, Contact::Both, true), "I", "one letter per household");
}

#[test]
fn the_actor_is_not_told_twice() {
    let cancelled = messages::get("application.use.cancelled").unwrap();
    let nothing = Map::new();
    let cause = Cause::event("application.cancelled", &nothing);
    let guardian = cancelled.recipients.iter().find(|r| r.audience == Audience::Guardian).unwrap();
    let actor = Reach { contact: Contact::App, has_account: true, has_push_device: true, is_actor: true };
    assert_eq!(guardian.channels_for(&cause, &actor).unwrap().to_string(), "I");
    assert_eq!(guardian.channels_for(&cause, &Reach { is_actor: false, ..actor }).unwrap().to_string(), "LIPE");
}

#[test]
fn escalations_follow_the_audience() {
    let cancelled = messages::get("reservation.cancelled").unwrap();
    let rules = |audience| cancelled.escalations_for(audience).map(|e| e.rule.as_str()).collect::<Vec<_>>();
    assert_eq!(rules(Audience::Guardian), ["E1"]);
    assert_eq!(rules(Audience::FacilityStaff), ["E3"]);
    let used = messages::get("coupon.used").unwrap();
    assert_eq!(used.escalations_for(Audience::Guardian).next().unwrap().after_min, Some(1));
}
