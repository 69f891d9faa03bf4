//! Accounts over their life: nothing before consent, one address one role, limits, changes that are mailed, switches.

use todoke_domain::{
    Role, Timestamp,
    catalogue::messages::{self, Category, Channel, Class},
    time::add_days,
};
use todoke_store::{
    Wall,
    account::{Account, Preference},
    delivery::Delivery,
};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    account::{ChildInput, Entrance, OfficeDraft, ProfileChange, Registration, SignIn},
    error::SignInError,
    survey::{Conditions, SurveyDraft},
};

use crate::{
    city::{City, NOW, account, after, town},
    coupon_use::workflow,
    register::{events_of, inbox},
};

todoke_tests::on_both_databases! {
    nothing_is_kept_of_a_registration_without_consent,
    who_wants_letters_confirms_the_address_all_the_same,
    the_proxy_is_one_and_goes_with_the_guardian,
    words_where_the_lake_keeps_codes_are_refused,
    a_third_manager_is_refused,
    an_address_has_one_role,
    a_new_password_is_told_and_ends_the_old_one,
    a_new_address_is_confirmed_and_both_addresses_are_told,
    with_mail_off_optional_mail_stops_and_mandatory_mail_comes,
    one_click_in_a_mail_turns_the_switch_of_an_office,
    mandatory_messages_come_with_every_switch_off,
    the_city_is_told_of_results_and_sees_them,
    the_identity_permission_is_given_and_withdrawn_at_any_time,
    a_manager_is_told_once_of_all_accounts_that_end_on_a_day,
}

const PASSWORD: &str = "Abcdefghi1";

async fn mails_to(db: &TestStore, address: &str) -> Vec<Delivery> {
    db.begin_read(Wall::None).await.unwrap().mails(Some(address), 1_000).await.unwrap()
}

fn refused_field<T: std::fmt::Debug>(outcome: Result<T, WorkflowError>) -> String {
    match outcome {
        Err(WorkflowError::Invalid(errors)) => errors[0].field.clone(),
        other => panic!("not refused for a field: {other:?}"),
    }
}

/// Writes a further account of the city.
async fn employ(db: &TestStore, role: Role, email: &str) -> Account {
    let row = account(&town(), role, email);
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&row, NOW).await.unwrap();
    tx.commit().await.unwrap();
    row
}

/// A registration that lacks nothing.
fn consented() -> Registration {
    Registration {
        email: "new.parent@example.jp".to_owned(),
        password: PASSWORD.to_owned(),
        name: "試験 太郎".to_owned(),
        name_kana: "シケン タロウ".to_owned(),
        terms: true,
        privacy: true,
        children: vec![ChildInput {
            name: "試験 ゆず".to_owned(),
            name_kana: "シケン ユズ".to_owned(),
            sex: "female".to_owned(),
            birth_date: "2026-02-03".to_owned(),
            child_qr: None,
        }],
        ..Registration::default()
    }
}

async fn who_wants_letters_confirms_the_address_all_the_same(db: &TestStore) {
    City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let by_letter = Registration { contact_channel: Some("paper".to_owned()), children: Vec::new(), ..consented() };
    let address = by_letter.email.clone();
    workflow.register(&town(), by_letter, NOW).await.unwrap();
    let mails = mails_to(db, &address).await;
    assert_eq!(mails.len(), 1, "the link that confirms it");
    let account = workflow.confirm_registration(&token_of(&mails[0]), after(1)).await.unwrap();
    assert_eq!(account.state, "active");
    assert_eq!(inbox(db, &account, "account.registered").await.len(), 1);
    assert_eq!(mails_to(db, &address).await.len(), 1, "from then on the choice holds");
}

async fn nothing_is_kept_of_a_registration_without_consent(db: &TestStore) {
    City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let consented = consented();
    for (refused, field) in [
        (Registration { terms: false, ..consented.clone() }, "consents.terms"),
        (Registration { privacy: false, ..consented.clone() }, "consents.privacy"),
    ] {
        assert_eq!(refused_field(workflow.register(&town(), refused, NOW).await), field);
        let mut tx = db.begin_read(Wall::None).await.unwrap();
        assert!(tx.account_by_email(&consented.email).await.unwrap().is_none());
        assert!(tx.find_guardians(&town(), "%試験%", 10).await.unwrap().is_empty());
        drop(tx);
        assert!(mails_to(db, &consented.email).await.is_empty());
    }
}

/// The relation of a proxy and the ward go into events, and with those into the lake.
async fn words_where_the_lake_keeps_codes_are_refused(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let parent = city.parent();
    for words in ["叔母の佐藤花子", "Sato Hanako", "090-1234-5678", "hanako", ""] {
        let proxy = workflow.add_proxy(&parent, "proxy@example.jp", "大阪 太郎", "オオサカ タロウ", words, NOW).await;
        assert_eq!(refused_field(proxy), "relation", "{words}");
    }
    for words in ["佐藤花子", "Hanako", "12345", ""] {
        let change = ProfileChange { ward_code: Some(words.to_owned()), ..ProfileChange::default() };
        assert_eq!(refused_field(workflow.change_profile(&parent, &change, NOW).await), "ward_code", "{words}");
    }
    let moved = ProfileChange { ward_code: Some("271276".to_owned()), ..ProfileChange::default() };
    workflow.change_profile(&parent, &moved, NOW).await.unwrap();
    workflow.add_proxy(&parent, "proxy@example.jp", "大阪 太郎", "オオサカ タロウ", "spouse", NOW).await.unwrap();
    for (event_type, field, code) in
        [("account.updated", "ward_code", "271276"), ("account.proxy_registered", "relation", "spouse")]
    {
        let told = events_of(db, event_type).await;
        assert_eq!((told.len(), told[0].payload[field].as_str()), (1, Some(code)), "{event_type}");
    }
}

async fn the_proxy_is_one_and_goes_with_the_guardian(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let parent = city.parent();
    let add = async |email: &str, now| {
        workflow.add_proxy(&parent, email, "大阪 太郎", "オオサカ タロウ", "spouse", now).await
    };
    let proxy = add("proxy@example.jp", NOW).await.unwrap();
    let second = add("second@example.jp", after(1)).await;
    assert!(matches!(second, Err(WorkflowError::Conflict(_))), "one proxy: {second:?}");
    let by_proxy =
        workflow.add_proxy(&Actor::of(&proxy, None), "x@example.jp", "大阪 次", "オオサカ ツギ", "spouse", NOW).await;
    assert!(matches!(by_proxy, Err(WorkflowError::Denied)), "{by_proxy:?}");
    workflow.delete_own_account(&parent, after(2)).await.unwrap();
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    for gone in [city.parent.account_id, proxy.account_id] {
        assert_eq!(tx.account(gone).await.unwrap().unwrap().state, "deleted");
    }
    drop(tx);
    for address in [city.parent.email.as_deref().unwrap(), "proxy@example.jp"] {
        let told = mails_to(db, address).await;
        assert!(told.iter().any(|mail| mail.subject.contains("アカウントを削除しました")), "{address}: {told:?}");
    }
    let again = workflow.sign_in("proxy@example.jp", PASSWORD, Entrance::Household, None, after(3)).await;
    assert!(matches!(again, Err(WorkflowError::SignIn(SignInError::Credentials))), "{again:?}");

    // No address leads to them any more; their keys are found all the same, for as long as they are not forgotten.
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let (number, id) = (city.guardian.guardian_no.as_str(), proxy.account_id.to_string());
    for (number, role, key) in [
        (number, Role::Guardian, city.parent.person_key),
        (number, Role::ProxyGuardian, proxy.person_key),
        (id.as_str(), Role::Guardian, proxy.person_key),
        ("proxy@example.jp", Role::ProxyGuardian, None),
    ] {
        let found = tx.person_keys(&town(), number, role).await.unwrap();
        assert_eq!(found, Vec::from_iter(key), "{number} {role}");
    }
}

async fn a_third_manager_is_refused(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let admin = Actor::of(&employ(db, Role::MunicipalAdmin, "admin@example.jp").await, None);
    let issue = async |n: u64| {
        let draft = OfficeDraft {
            email: format!("manager{n}@example.jp"),
            name: format!("管理者{n}"),
            role: "facility_manager".to_owned(),
            facility_id: Some(city.facility.facility_id.to_string()),
            ..OfficeDraft::default()
        };
        workflow.issue_account(&admin, &draft, after(n)).await
    };
    let first = issue(1).await.unwrap();
    issue(2).await.unwrap();
    let third = issue(3).await;
    assert!(matches!(third, Err(WorkflowError::Conflict(_))), "{third:?}");
    workflow.delete_office_account(&admin, first.account_id, after(4)).await.unwrap();
    issue(5).await.unwrap();
}

async fn an_address_has_one_role(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let admin = Actor::of(&employ(db, Role::MunicipalAdmin, "admin@example.jp").await, None);
    for taken in [&city.parent, &city.staff, &city.operator] {
        let draft = OfficeDraft {
            // Another spelling of the same address.
            email: taken.email.as_deref().unwrap().to_uppercase(),
            name: "同じ人".to_owned(),
            role: "analyst".to_owned(),
            ..OfficeDraft::default()
        };
        assert_eq!(refused_field(workflow.issue_account(&admin, &draft, NOW).await), "email");
    }
    let staff = city.staff.email.as_deref().unwrap();
    let proxy = workflow.add_proxy(&city.parent(), staff, "大阪 太郎", "オオサカ タロウ", "spouse", NOW).await;
    assert_eq!(refused_field(proxy), "email");
}

/// Everything after the last `token=` of a mail.
fn token_of(mail: &Delivery) -> String {
    let rest = mail.body.split("token=").nth(1).unwrap_or_else(|| panic!("no link in: {}", mail.body));
    rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).next().unwrap().to_owned()
}

/// Gives an account its first password through the mailed link.
async fn set_password(workflow: &Workflow, db: &TestStore, address: &str, now: Timestamp) {
    workflow.request_password_reset(address, now).await.unwrap();
    let token = token_of(&mails_to(db, address).await[0]);
    workflow.set_password_by_link(&token, PASSWORD.to_owned(), now).await.unwrap();
}

async fn opens(workflow: &Workflow, address: &str, password: &str, now: Timestamp) -> bool {
    matches!(
        workflow.sign_in(address, password, Entrance::Household, None, now).await,
        Ok(SignIn::CodeSent { .. } | SignIn::Open(_))
    )
}

async fn a_new_password_is_told_and_ends_the_old_one(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let address = city.parent.email.as_deref().unwrap();
    set_password(&workflow, db, address, NOW).await;
    let n_told = inbox(db, &city.parent, "account.password_changed").await.len();
    workflow.change_password(&city.parent(), PASSWORD, "Another-pass-2".to_owned(), after(10)).await.unwrap();
    assert_eq!(inbox(db, &city.parent, "account.password_changed").await.len(), n_told + 1);
    let newest = mails_to(db, address).await.remove(0);
    assert!(newest.subject.contains("パスワードが変更されました"), "{newest:?}");
    assert!(!opens(&workflow, address, PASSWORD, after(11)).await);
    assert!(opens(&workflow, address, "Another-pass-2", after(12)).await);
}

async fn a_new_address_is_confirmed_and_both_addresses_are_told(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let (old, new) = (city.parent.email.as_deref().unwrap(), "moved@example.jp");
    set_password(&workflow, db, old, NOW).await;
    let n_before = mails_to(db, old).await.len();
    workflow.request_email_change(&city.parent(), new, after(10)).await.unwrap();
    assert!(opens(&workflow, old, PASSWORD, after(11)).await, "until the new address is confirmed the old one stays");
    let at_new = mails_to(db, new).await;
    assert_eq!(at_new.len(), 1);
    let at_old: Vec<Delivery> = mails_to(db, old).await;
    let warned: Vec<&Delivery> = at_old.iter().filter(|mail| mail.subject.contains("メールアドレス変更")).collect();
    assert!(at_old.len() > n_before && warned.len() == 1, "{at_old:#?}");
    assert!(!warned[0].body.contains("token="), "the old address cannot make the change");
    workflow.confirm_email_change(&token_of(&at_new[0]), after(20)).await.unwrap();
    assert!(!opens(&workflow, old, PASSWORD, after(21)).await);
    assert!(opens(&workflow, new, PASSWORD, after(22)).await);
    let spent = workflow.confirm_email_change(&token_of(&at_new[0]), after(23)).await;
    assert!(matches!(spent, Err(WorkflowError::SignIn(SignInError::Link))), "{spent:?}");
}

/// A closed survey whose results can be handed on.
async fn closed_survey(workflow: &Workflow, city: &City, no: u64) -> todoke_domain::ids::SurveyId {
    let operator = city.operator();
    let start = NOW.plus(std::time::Duration::from_secs(no * 100_000));
    let later = |seconds| start.plus(std::time::Duration::from_secs(seconds));
    let draft = SurveyDraft {
        title: format!("調査{no}"),
        text: String::new(),
        anonymous: false,
        opens_at: later(10),
        closes_at: later(1_000),
        minutes_needed: 1,
        questions: vec![todoke_domain::survey::Question {
            question_no: 1,
            kind: todoke_domain::survey::QuestionKind::Text,
            text: "ご意見".to_owned(),
            options: Vec::new(),
            required: false,
            min: None,
            max: None,
            kpi: None,
        }],
    };
    let id = workflow.create_survey(&operator, draft, start).await.unwrap().survey_id;
    workflow.survey_audience(&operator, id, Conditions::default(), true, start).await.unwrap();
    workflow.schedule_survey(&operator, id, start).await.unwrap();
    workflow.due_surveys(&Actor::system(town(), "timer"), later(11)).await.unwrap();
    workflow.close_survey(&operator, id, later(20)).await.unwrap();
    workflow.aggregate_survey(&operator, id, later(21)).await.unwrap();
    id
}

async fn with_mail_off_optional_mail_stops_and_mandatory_mail_comes(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let official = employ(db, Role::MunicipalStaff, "official@example.jp").await;
    let actor = Actor::of(&official, None);
    let later = |seconds| NOW.plus(std::time::Duration::from_secs(seconds));
    assert_eq!(workflow.receive_mail(&actor).await.unwrap(), Some(true), "on until turned off");
    assert_eq!(workflow.receive_mail(&city.parent()).await.unwrap(), None, "households have switches of their own");
    assert_eq!(refused_field(workflow.set_receive_mail(&city.parent(), false, NOW).await), "receive_mail");

    employ(db, Role::MunicipalStaff, "fresh@example.jp").await;
    let (_, key) = workflow.issue_api_key(&actor, "連携", Role::MunicipalStaff, &[], NOW).await.unwrap();
    let (machine, _) = workflow.account_of_key(&key).await.unwrap();

    workflow.set_receive_mail(&actor, false, NOW).await.unwrap();
    assert_eq!(workflow.receive_mail(&actor).await.unwrap(), Some(false));
    let switches = workflow.preferences(&actor).await.unwrap();
    let off = |category: Category| switches.iter().any(|item| item.category == category.as_str() && !item.enabled);
    assert!(off(Category::Account), "every category with optional mail, {switches:?}");
    let first = closed_survey(&workflow, &city, 1).await;
    workflow.present_survey(&city.operator(), first, later(150_000)).await.unwrap();
    assert_eq!(inbox(db, &official, "survey.results_ready").await.len(), 1, "the inbox is the record and stays on");
    assert!(mails_to(db, "official@example.jp").await.is_empty(), "optional mail has stopped");
    assert_eq!(mails_to(db, "fresh@example.jp").await.len(), 1, "on until turned off");
    assert!(inbox(db, &machine, "survey.results_ready").await.is_empty(), "a machine reads nothing");
    workflow.request_password_reset("official@example.jp", later(160_000)).await.unwrap();
    assert_eq!(mails_to(db, "official@example.jp").await.len(), 1, "mandatory mail comes");

    workflow.set_receive_mail(&actor, true, later(170_000)).await.unwrap();
    assert_eq!(workflow.receive_mail(&actor).await.unwrap(), Some(true));
    let second = closed_survey(&workflow, &city, 2).await;
    workflow.present_survey(&city.operator(), second, later(250_000)).await.unwrap();
    assert_eq!(mails_to(db, "official@example.jp").await.len(), 2);
}

async fn one_click_in_a_mail_turns_the_switch_of_an_office(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let official = employ(db, Role::MunicipalStaff, "official@example.jp").await;
    let actor = Actor::of(&official, None);
    let survey = closed_survey(&workflow, &city, 1).await;
    workflow.present_survey(&city.operator(), survey, after(150_000)).await.unwrap();
    let mail = mails_to(db, "official@example.jp").await.remove(0);
    workflow.unsubscribe(mail.receipt(), after(150_001)).await.unwrap();
    assert_eq!(workflow.receive_mail(&actor).await.unwrap(), Some(false));
    let switches = workflow.preferences(&actor).await.unwrap();
    let off = |category: &str| switches.iter().any(|item| item.category == category && !item.enabled);
    assert!(off("survey") && off("notice"), "what it shows is so for every category: {switches:?}");
    let changed = events_of(db, "account.mail_preference_changed").await;
    assert_eq!(changed.len(), switches.len(), "and each change is in the log");
}

async fn mandatory_messages_come_with_every_switch_off(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let parent = city.parent();
    let mut off: Vec<Preference> = Vec::new();
    for kind in messages::all() {
        for channel in [Channel::Push, Channel::Email] {
            let item = Preference {
                category: kind.category.as_str().to_owned(),
                channel: channel.as_str().to_owned(),
                enabled: false,
            };
            if !off.iter().any(|known| (&known.category, &known.channel) == (&item.category, &item.channel)) {
                off.push(item);
            }
        }
    }
    workflow.set_preferences(&parent, &off, NOW).await.unwrap();
    let guardian = city.guardian.guardian_id;
    workflow.set_suspended(&city.operator(), guardian, true, "misuse", None, after(1)).await.unwrap();
    let kind = messages::all().iter().find(|kind| kind.id == "coupon.suspended").unwrap();
    assert_eq!(kind.class, Class::Mandatory);
    assert_eq!(inbox(db, &city.parent, "coupon.suspended").await.len(), 1);
    assert_eq!(mails_to(db, city.parent.email.as_deref().unwrap()).await.len(), 1);
}

async fn the_city_is_told_of_results_and_sees_them(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let official = employ(db, Role::MunicipalStaff, "official@example.jp").await;
    let actor = Actor::of(&official, None);
    let id = closed_survey(&workflow, &city, 1).await;
    assert!(inbox(db, &official, "survey.results_ready").await.is_empty());
    let early = workflow.survey_results(&actor, id).await;
    assert!(early.is_err(), "not before they are presented: {early:?}");
    let now = NOW.plus(std::time::Duration::from_secs(150_000));
    workflow.present_survey(&city.operator(), id, now).await.unwrap();
    let told = inbox(db, &official, "survey.results_ready").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].link, format!("/staff/city/surveys/{id}"));
    let results = workflow.survey_results(&actor, id).await.unwrap();
    assert_eq!((results.targets, results.answers), (1, 0));
    assert!(results.questions.iter().all(|question| question.samples.is_none()), "free answers stay with the operator");
}

async fn the_identity_permission_is_given_and_withdrawn_at_any_time(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    let parent = city.parent();
    let granted = async || {
        let consents = workflow.consents(&parent).await.unwrap();
        consents.iter().any(|consent| consent.kind == "identity_data" && consent.granted)
    };
    assert!(!granted().await, "nobody has asked yet");
    for (n, on) in [(1, true), (2, false), (3, true), (4, true)] {
        workflow.set_consent(&parent, "identity_data", on, after(n)).await.unwrap();
        assert_eq!(granted().await, on, "from the commit on");
    }
    assert_eq!(events_of(db, "account.identity_permission_granted").await.len(), 2, "what is so already is no change");
    assert_eq!(events_of(db, "account.identity_permission_withdrawn").await.len(), 1);
    let proxy = workflow
        .add_proxy(&parent, "proxy@example.jp", "大阪 太郎", "オオサカ タロウ", "spouse", after(5))
        .await
        .unwrap();
    let by_proxy = workflow.set_consent(&Actor::of(&proxy, None), "identity_data", true, after(6)).await;
    assert!(matches!(by_proxy, Err(WorkflowError::Denied)), "it is the guardian's alone: {by_proxy:?}");
    let told = inbox(db, &city.parent, "account.identity_permission_changed").await;
    let words: Vec<bool> = told.iter().map(|message| message.body.contains("許諾しない")).collect();
    assert_eq!(words, [false, true, false], "newest first");
}

async fn a_manager_is_told_once_of_all_accounts_that_end_on_a_day(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, today) = (workflow(db.store()), NOW.jst_date());
    let colleague = |role: Role, email: &str, valid_to| Account {
        facility_id: Some(city.facility.facility_id),
        valid_to,
        ..account(&town(), role, email)
    };
    let manager = colleague(Role::FacilityManager, "manager@example.jp", add_days(today, 365));
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_account(&manager, NOW).await.unwrap();
    for (no, days) in [13, 14, 14, 14, 15].into_iter().enumerate() {
        let ending = colleague(Role::FacilityStaff, &format!("ending-{no}@example.jp"), add_days(today, days));
        tx.insert_account(&ending, NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    let timer = Actor::system(town(), "timer");
    // A run that a crash repeats tells nobody twice.
    for _ in 0..2 {
        assert_eq!(workflow.warn_of_account_end(&timer, today, NOW).await.unwrap(), 3);
    }
    let told = inbox(db, &manager, "account.ending").await;
    assert_eq!(told.len(), 1, "one message for all three");
    assert_eq!(
        told[0].body,
        "3件の職員アカウントが2026年6月15日（月）に終了します。継続する場合は終了日を変更してください。"
    );
    assert_eq!(mails_to(db, "manager@example.jp").await.len(), 1);
    assert!(inbox(db, &city.staff, "account.ending").await.is_empty(), "managers only");
}
