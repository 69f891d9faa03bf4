//! The language of messages: a person's, from which a device may differ; a text that lacks it comes in Japanese.

use std::time::Duration;

use serde_json::{Value, json};
use todoke_domain::{catalogue::messages, channel::Channel, delivery::Provider};
use todoke_store::{Wall, account::Account, device::Device, guardian::Guardian, print_item::LettersOf};
use todoke_tests::{
    account::{self, Credentials},
    http::{Answer, Client},
    live::Live,
    standin::Providers,
    stores::TestStore,
    todoke::{DemoOptions, Todoke},
    wait::eventually,
};
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    account::{ProfileChange, Registration},
    coupon::UseAnswer,
    import::ImportKind,
};

use crate::{
    city::{City, NOW, town},
    coupon_use::{request, workflow},
    delivery_scene::device_of,
    message_rules::{deliveries, told},
    push_journey::{message_about, on_the_phone, tagged},
    register::{RELATION_HEADER, events_of, file, import, inbox, move_people, movement},
    scene::{self, Scene, text},
};

todoke_tests::on_both_databases! {
    a_language_without_texts_falls_back_and_the_record_says_which_was_used,
    easy_japanese_arrives_where_it_is_chosen,
    a_text_without_easy_words_comes_in_japanese,
    a_letter_is_in_the_language_of_its_household,
    an_invitation_by_letter_is_in_the_language_of_a_household_that_is_registered,
    what_colleagues_share_is_japanese_and_what_is_ones_own_is_as_chosen,
    a_language_that_no_text_is_in_cannot_be_chosen,
}

const LIMIT: Duration = Duration::from_secs(60);
/// 「クーポンを利用しました」 in the languages it is in.
const USED: &str = "クーポンを利用しました";
const USED_EASY: &str = "クーポンを使いました";

/// Chooses a language as the person does in the settings.
async fn choose(workflow: &Workflow, who: &Account, language: &str) -> Result<(), WorkflowError> {
    let change = ProfileChange { language: Some(language.to_owned()), ..ProfileChange::default() };
    workflow.change_profile(&Actor::of(who, None), &change, NOW).await
}

async fn language_of(db: &TestStore, who: &Account) -> String {
    db.begin_read(Wall::None).await.unwrap().account(who.account_id).await.unwrap().unwrap().language
}

async fn a_language_without_texts_falls_back_and_the_record_says_which_was_used(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    // As a version with more languages left them.
    let parent = Account { language: "xx".to_owned(), ..city.parent.clone() };
    let device =
        Device { language: "yy".to_owned(), ..device_of(&town(), city.parent.account_id, Provider::Fcm, "token", NOW) };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.update_account(&parent).await.unwrap();
    assert!(tx.put_device(&device).await.unwrap());
    tx.commit().await.unwrap();
    workflow.use_coupon(&city.parent(), &request(&city, "u-1", 300), NOW).await.unwrap();
    let message = told(db, &city, &city.parent).await.remove(0);
    assert_eq!((message.locale.as_str(), message.title.as_str()), ("ja", USED));
    assert!(deliveries(db, message.message_id).await.iter().all(|row| row.subject == USED));
    let created = events_of(db, "message.created").await;
    let created = created.iter().find(|event| event.subject_id == message.message_id.to_string()).unwrap();
    let version = messages::get("coupon.used").unwrap().template_version;
    assert_eq!((&created.payload["locale"], &created.payload["template_version"]), (&json!("ja"), &json!(version)));
}

async fn easy_japanese_arrives_where_it_is_chosen(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    choose(&workflow, &city.parent, "ja-easy").await.unwrap();
    assert_eq!(language_of(db, &city.parent).await, "ja-easy");
    let changed = events_of(db, "account.updated").await;
    assert_eq!((changed.len(), &changed[0].payload["changed_items"]), (1, &json!(["language"])));
    let phone = device_of(&town(), city.parent.account_id, Provider::Fcm, "phone", NOW);
    let tablet = device_of(&town(), city.parent.account_id, Provider::Apns, "tablet", NOW);
    let tablet = Device { language: "ja".to_owned(), ..tablet };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for device in [&phone, &tablet] {
        assert!(tx.put_device(device).await.unwrap());
    }
    tx.commit().await.unwrap();
    workflow.use_coupon(&city.parent(), &request(&city, "u-1", 300), NOW).await.unwrap();
    let message = told(db, &city, &city.parent).await.remove(0);
    assert_eq!((message.locale.as_str(), message.title.as_str()), ("ja-easy", USED_EASY));
    let on_their_way = deliveries(db, message.message_id).await;
    assert_eq!(on_their_way.len(), 3, "two devices, and the mail that waits");
    for row in on_their_way {
        let (subject, words) = if row.target == tablet.device_id.to_string() {
            (USED, "お子さまのクーポン 300円を利用しました")
        } else {
            (USED_EASY, "お子さまのクーポンを300円使いました")
        };
        assert_eq!(row.subject, subject, "{} {}", row.channel, row.target);
        assert!(row.body.contains(words), "{}: {}", row.channel, row.body);
    }
    let created = events_of(db, "message.created").await;
    let created = created.iter().find(|event| event.subject_id == message.message_id.to_string()).unwrap();
    let version = messages::get("coupon.used").unwrap().template_version;
    assert_eq!(
        (&created.payload["locale"], &created.payload["template_version"]),
        (&json!("ja-easy"), &json!(version))
    );
    let desk = inbox(db, &city.staff, "coupon.used.facility").await.remove(0);
    assert_eq!(desk.locale, "ja", "each in their own language");
}

async fn a_text_without_easy_words_comes_in_japanese(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    choose(&workflow, &city.parent, "ja-easy").await.unwrap();
    workflow
        .add_proxy(&city.parent(), "proxy@example.jp", "大阪 太郎", "オオサカ タロウ", "spouse", NOW)
        .await
        .unwrap();
    let message = inbox(db, &city.parent, "account.proxy_registered").await.remove(0);
    assert_eq!((message.locale.as_str(), message.title.as_str()), ("ja", "代理利用者が登録されました"));
}

/// The city's household gets letters beside the app, in easy Japanese.
async fn on_paper_too(db: &TestStore, workflow: &Workflow, city: &City) {
    let guardian = Guardian { contact_channel: "both".to_owned(), ..city.guardian.clone() };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.update_guardian(&guardian).await.unwrap();
    tx.commit().await.unwrap();
    choose(workflow, &city.parent, "ja-easy").await.unwrap();
}

async fn a_letter_is_in_the_language_of_its_household(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    on_paper_too(db, &workflow, &city).await;
    let operator = city.operator();
    workflow.set_suspended(&operator, city.guardian.guardian_id, true, "misuse", None, NOW).await.unwrap();
    let letters = workflow.print_queue(&operator, &LettersOf::default(), 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].title, "クーポンが使えません");
    assert!(letters[0].body.contains("くわしいことは、"), "{}", letters[0].body);
}

async fn an_invitation_by_letter_is_in_the_language_of_a_household_that_is_registered(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    on_paper_too(db, &workflow, &city).await;
    let born = ["A1", "A2"].map(|no| movement(no, "2025-07-07", "birth", "2025-07-10"));
    move_people(&workflow, &city, &born, NOW).await;
    // The register knows the household's 大阪花子 as A1's mother, and nobody of A2's.
    let relation = file(RELATION_HEADER, &["A1,P1,オオサカ ハナコ,1992-02-03,母".to_owned()]);
    assert!(import(&workflow, &city, ImportKind::HouseholdRelation, &relation, NOW).await.is_completed());
    workflow.run_solicitation(&city.operator(), NOW).await.unwrap();
    let letters = workflow.print_queue(&city.operator(), &LettersOf::default(), 10).await.unwrap();
    let mut titles: Vec<(&str, &str)> =
        letters.iter().map(|letter| (letter.recipient_name.as_str(), letter.title.as_str())).collect();
    titles.sort_unstable();
    assert_eq!(
        titles,
        [
            ("佐藤 子A1 様の保護者様", "クーポンの申請（しんせい）ができます"),
            ("佐藤 子A2 様の保護者様", "クーポン受給申請のご案内"),
        ]
    );
}

async fn what_colleagues_share_is_japanese_and_what_is_ones_own_is_as_chosen(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    choose(&workflow, &city.staff, "ja-easy").await.unwrap();
    let paid = workflow.use_coupon(&city.parent(), &request(&city, "u-1", 300), NOW).await.unwrap();
    let UseAnswer::Settled(paid) = paid else { panic!("not booked") };
    workflow.reverse_use(&city.operator(), paid.use_id, "input_error", None, NOW).await.unwrap();
    let own = inbox(db, &city.staff, "coupon.use_reversed").await.remove(0);
    assert_eq!(own.locale, "ja-easy");
    assert_eq!(own.title, "クーポンの支払（しはら）いを取（と）り消（け）しました");
    let family = inbox(db, &city.parent, "coupon.use_reversed").await.remove(0);
    assert_eq!(family.locale, "ja");
    let channel = Channel::FacilityToday(city.facility.facility_id).to_string();
    let page = db.begin_read(Wall::None).await.unwrap().publications_since(&channel, 0, 100).await.unwrap();
    let shown = page.publications.iter().map(|one| serde_json::from_str::<Value>(&one.data).unwrap());
    let titles: Vec<Value> =
        shown.filter(|live| live["type"] == "coupon.use_reversed").map(|live| live["data"]["title"].clone()).collect();
    assert_eq!(titles, [json!("クーポンの利用を取り消しました")]);
}

async fn a_language_that_no_text_is_in_cannot_be_chosen(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let workflow = workflow(db.store());
    for unknown in ["xx", "JA", ""] {
        match choose(&workflow, &city.parent, unknown).await {
            Err(WorkflowError::Invalid(errors)) => assert_eq!(errors[0].field, "language"),
            other => panic!("{unknown:?} was not refused: {other:?}"),
        }
    }
    assert_eq!(language_of(db, &city.parent).await, "ja");
    let entered = Registration {
        email: "new.parent@example.jp".to_owned(),
        password: "Abcdefghi1".to_owned(),
        name: "試験 太郎".to_owned(),
        name_kana: "シケン タロウ".to_owned(),
        language: Some("xx".to_owned()),
        terms: true,
        privacy: true,
        ..Registration::default()
    };
    match workflow.register(&town(), entered.clone(), NOW).await {
        Err(WorkflowError::Invalid(errors)) => assert_eq!(errors[0].field, "language"),
        other => panic!("not refused: {other:?}"),
    }
    let easy = Registration { language: Some("ja-easy".to_owned()), ..entered };
    workflow.register(&town(), easy, NOW).await.unwrap();
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let registered = tx.account_by_email("new.parent@example.jp").await.unwrap().expect("an account");
    assert_eq!(registered.language, "ja-easy");
}

async fn set(who: &Client, language: &str) -> Answer {
    let body = json!({ "language": language }).to_string();
    who.request("PATCH", "/v1/me", &[("content-type", "application/json")], body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_family_reads_in_the_language_it_chose() {
    let providers = Providers::start().await;
    let todoke = Todoke::demo_with(DemoOptions::small(), &providers.settings()).await;
    let scene = Scene::of(&todoke).await;
    providers.equip(&scene.guardian, 1).await;
    assert_eq!(scene.guardian.get("/v1/me").await.expect(200)["language"], "ja");
    let refused = set(&scene.guardian, "xx").await;
    assert_eq!((refused.status, refused.header("content-type")), (422, "application/problem+json"));
    assert_eq!(refused.json()["errors"][0]["field"], "language");
    set(&scene.guardian, "ja-easy").await.expect(204);
    assert_eq!(scene.guardian.get("/v1/me").await.expect(200)["language"], "ja-easy");
    set(&scene.staff, "ja-easy").await.expect(204);

    // The iPhone is a grandmother's: it stays with Japanese.
    let devices = scene.guardian.get("/v1/devices").await.expect(200);
    let devices = devices["items"].as_array().expect("devices");
    assert!(devices.iter().all(|device| device["language"].is_null()), "as the person: {devices:?}");
    let iphone = devices.iter().find(|device| device["kind"] == "apns").expect("the iPhone");
    let own = json!({
        "kind": "apns", "token": format!("{:064x}", 1), "permission": "granted", "platform": "ios", "language": "ja",
    });
    let put = scene.guardian.put(&format!("/v1/devices/{}", text(iphone, "device_id")), &own).await.expect(200);
    assert_eq!(put["language"], "ja");

    let screen = Live::connect(&scene.guardian).await;
    let used = scene.pay("language-1", 300).await.expect(201);
    let use_id = text(&used, "use_id");
    let message = message_about(&scene.guardian, &use_id).await;
    assert_eq!(message["title"], USED_EASY);
    assert!(text(&message, "body").contains("残（のこ）りは"), "{message}");
    let frame = screen.wait_for("the payment on the screen", |p| {
        p.data["type"] == "coupon.used" && p.data["subject"]["id"] == use_id.as_str()
    });
    assert_eq!(frame.await.data["data"]["message"]["title"], USED_EASY);
    let id = text(&message, "message_id");
    let phone = on_the_phone(&providers, &id).await;
    assert_eq!(phone["notification"]["title"], USED_EASY);
    let tag = text(&phone["data"], "tag");
    let [_, apple, _] = providers.all();
    let on_the_iphone = eventually("Apple has the push", LIMIT, async || {
        tagged(&apple, &tag).first().map(|seen| seen.json()["aps"]["alert"]["title"].clone())
    })
    .await;
    assert_eq!(on_the_iphone, USED);
    let address = todoke.account("guardian").email.replace('+', "%2B");
    let mails = todoke.client().get(&format!("/demo/mail.json?to={address}")).await.expect(200);
    assert!(mails.as_array().expect("mails").iter().any(|mail| mail["subject"] == USED_EASY), "{mails}");

    // What has no easy words comes in Japanese.
    scene.guardian.put("/v1/me/consents/identity_data", &json!({ "granted": true })).await.expect(204);
    let newest = scene::inbox(&scene.guardian).await.remove(0);
    assert_eq!(newest["title"], "本人確認情報の利用許諾が変更されました");
    todoke.stop().await;
}

/// The newest mail to an address, as the demo's mailbox has it.
async fn newest_mail(api: &Client, to: &str) -> Value {
    api.get(&format!("/demo/mail.json?to={to}")).await.expect(200)[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_in_easy_words_gets_the_first_mails_in_them() {
    let todoke = Todoke::demo(DemoOptions::small()).await;
    let api = todoke.client();
    let who = Credentials { email: "easy.parent@example.jp".to_owned(), password: "Tesuto-2026".to_owned() };
    let mut body = json!({
        "municipality_code": todoke.municipality(), "email": who.email, "password": who.password, "language": "xx",
        "name": "試験 ことば", "name_kana": "シケン コトバ", "consents": {"terms": true, "privacy": true},
    });
    let refused = api.post("/v1/registrations", &body).await.expect(422);
    assert_eq!(refused["errors"][0]["field"], "language", "{refused}");
    body["language"] = json!("ja-easy");
    api.post("/v1/registrations", &body).await.expect(202);
    let mail = newest_mail(&api, &who.email).await;
    assert_eq!(mail["subject"], "【Todoke】メールアドレスの確認（かくにん）");
    let token = text(&json!({"link": mail["links"][0]}), "link").split("token=").nth(1).unwrap().to_owned();
    api.post("/v1/registrations/confirm", &json!({"token": token})).await.expect(200);
    assert_eq!(newest_mail(&api, &who.email).await["subject"], "登録（とうろく）ができました");
    let (guardian, _) = account::sign_in(&api, &who, "guardian").await;
    assert!(text(&newest_mail(&api, &who.email).await, "text").contains("分のあいだに入れてください"));
    assert_eq!(guardian.get("/v1/me").await.expect(200)["language"], "ja-easy");
    assert_eq!(scene::inbox(&guardian).await[0]["title"], "登録（とうろく）ができました");
    todoke.stop().await;
}
