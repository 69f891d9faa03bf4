//! Coupon claims: each use and each reversal is paid once, the sides see the same progress, and the bank's answers are
//! taken as a whole or not at all.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use jiff::civil::date;
use todoke_domain::{
    Event, Role, Yen,
    channel::Channel,
    claim::ClaimState,
    ids::{ClaimId, FacilityId, TransferFileId, UseId},
};
use todoke_store::{Wall, account::Account, facility::Facility};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    claim::{AccountDraft, ClaimQuery, ClaimView, claim_csv, line_csv},
    coupon::UseAnswer,
    import::{ImportKind, ImportOutcome},
};

use crate::{
    city::{City, NOW, PROGRAMME, account, after, neighbour, town},
    coupon_use::{request, workflow},
    register::{events, events_of, file, inbox},
};

todoke_tests::on_both_databases! {
    a_claim_goes_from_its_uses_to_the_bank_and_a_failed_transfer_is_ordered_again,
    each_use_is_in_one_claim_however_many_are_computed_at_once,
    what_comes_late_and_what_is_undone_later_is_in_the_next_claim,
    a_claim_below_zero_waits_for_the_next_one_of_its_account,
    a_claim_that_was_sent_back_is_computed_anew,
    every_wrong_cell_of_a_result_is_named_and_nothing_is_taken,
    a_result_is_taken_once_and_its_days_must_fit,
    what_is_forwarded_or_paid_together_is_told_once,
    each_role_has_its_own_part_and_no_more,
    claims_stay_behind_the_wall_and_in_their_facility,
    an_account_is_checked_and_two_windows_are_told,
}

const DAY: u64 = 24 * 3_600;
/// `NOW` is the first day of June: days until the first of the later months.
const JULY: u64 = 30 * DAY;
const AUGUST: u64 = 61 * DAY;
const RESULT_HEADER: &str = "claim_no,result_code,transferred_on,amount";

/// A city whose facility has a manager, with an app section.
struct Scene {
    city: City,
    manager: Account,
    section: Account,
    workflow: Workflow,
}

impl Scene {
    async fn of(db: &TestStore) -> Self {
        let city = City::found(db, &town(), 100_000).await;
        let mut manager = account(&city.code, Role::FacilityManager, "manager@example.jp");
        manager.facility_id = Some(city.facility.facility_id);
        let section = account(&city.code, Role::AppSection, "section@example.jp");
        let mut tx = db.begin_write(Wall::None).await.unwrap();
        for row in [&manager, &section] {
            tx.insert_account(row, NOW).await.unwrap();
        }
        tx.commit().await.unwrap();
        Self { city, manager, section, workflow: workflow(db.store()) }
    }

    fn manager(&self) -> Actor {
        Actor::of(&self.manager, None)
    }

    fn section(&self) -> Actor {
        Actor::of(&self.section, None)
    }

    /// Pays `amount` yen, `at` seconds after the beginning.
    async fn pay(&self, amount: i64, at: u64) -> UseId {
        let request = request(&self.city, &format!("{amount}-{at}"), amount);
        match self.workflow.use_coupon(&self.city.parent(), &request, after(at)).await.unwrap() {
            UseAnswer::Settled(view) => view.use_id,
            UseAnswer::Repeated(first) => panic!("paid before: {first}"),
        }
    }

    async fn undo(&self, id: UseId, at: u64) {
        self.workflow.reverse_use(&self.city.operator(), id, "input_error", None, after(at)).await.unwrap();
    }

    /// Computes the claim of a month of 2026.
    async fn claim(&self, month: i8, at: u64) -> Result<ClaimView, WorkflowError> {
        self.workflow.create_claim(&self.manager(), PROGRAMME, date(2026, month, 1), after(at)).await
    }

    async fn submit(&self, id: ClaimId, at: u64) {
        self.workflow.submit_claim(&self.manager(), id, after(at)).await.unwrap();
    }

    /// Takes a submitted claim to the city.
    async fn hand_over(&self, id: ClaimId, at: u64) {
        self.workflow.receive_claim(&self.city.operator(), id, after(at)).await.unwrap();
        self.workflow.forward_claims(&self.city.operator(), vec![id], after(at)).await.unwrap();
    }

    /// Computes the claim of a month and takes it to the city.
    async fn forwarded(&self, month: i8, at: u64) -> ClaimView {
        let claim = self.claim(month, at).await.unwrap();
        self.submit(claim.claim_id, at).await;
        self.hand_over(claim.claim_id, at).await;
        claim
    }

    async fn set_account(&self) {
        let facility = self.city.facility.facility_id;
        self.workflow.set_bank_account(&self.manager(), facility, &draft(), None, NOW).await.unwrap();
    }

    async fn order(&self, ids: Vec<ClaimId>, at: u64) -> TransferFileId {
        self.workflow.order_transfers(&self.section(), ids, after(at)).await.unwrap().transfer_file_id
    }

    async fn import(&self, rows: &[String], at: u64) -> ImportOutcome {
        let content = file(RESULT_HEADER, rows);
        let kind = ImportKind::TransferResult;
        self.workflow
            .import_file(&self.section(), kind, "結果.csv", content.as_bytes(), false, after(at))
            .await
            .unwrap()
    }

    async fn state(&self, id: ClaimId) -> &'static str {
        self.workflow.claim(&self.manager(), id).await.unwrap().0.state
    }
}

fn draft() -> AccountDraft {
    AccountDraft {
        bank_code: "0001".to_owned(),
        branch_code: "012".to_owned(),
        account_type: "ordinary".to_owned(),
        account_no: "0123456".to_owned(),
        holder_kana: "ﾌｸ)ﾐﾄﾞﾘｶｲ".to_owned(),
    }
}

/// Types of the events of claims, in order.
async fn claim_events(db: &TestStore) -> Vec<String> {
    let mut all: Vec<Event> = events(db).await;
    all.retain(|event| event.event_type.starts_with("claim."));
    all.into_iter().map(|event| event.event_type).collect()
}

/// Types of what was published on a channel.
async fn published(db: &TestStore, channel: Channel) -> Vec<String> {
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let page = tx.publications_since(&channel.to_string(), 0, 1_000).await.unwrap();
    let kind =
        |data: &str| serde_json::from_str::<serde_json::Value>(data).unwrap()["type"].as_str().unwrap().to_owned();
    page.publications.iter().map(|publication| kind(&publication.data)).collect()
}

async fn a_claim_goes_from_its_uses_to_the_bank_and_a_failed_transfer_is_ordered_again(db: &TestStore) {
    let scene = Scene::of(db).await;
    scene.pay(300, 0).await;
    scene.pay(200, 1).await;
    let undone = scene.pay(100, 2).await;
    scene.undo(undone, 3).await;
    let claim = scene.claim(6, 10).await.unwrap();
    assert_eq!((claim.state, claim.claim_no.as_str(), claim.month.as_str()), ("created", "L26-0000001", "2026-06"));
    assert_eq!((claim.uses, claim.children), (3, 1));
    assert_eq!((claim.gross_yen, claim.reversed_yen, claim.net_yen), (Yen::new(600), Yen::new(100), Yen::new(500)));
    it_reaches_the_city(db, &scene, claim.claim_id).await;
    it_is_paid_at_the_second_try(db, &scene, claim.claim_id).await;
    let expected = [
        "claim.created",
        "claim.submitted",
        "claim.received",
        "claim.forwarded",
        "claim.transfer_requested",
        "claim.transfer_result",
        "claim.transfer_requested",
        "claim.transfer_result",
        "claim.paid",
    ];
    assert_eq!(claim_events(db).await, expected);
    let (view, lines) = scene.workflow.claim(&scene.city.operator(), claim.claim_id).await.unwrap();
    assert_eq!((view.state, view.transferred_on.as_deref()), ("paid", Some("2026-06-05")));
    assert_eq!(lines.iter().map(|line| line.amount_yen.get()).sum::<i64>(), 500);
    let claims = claim_csv(std::slice::from_ref(&view));
    assert!(claims.starts_with("\u{feff}claim_no,month,"), "{claims}");
    assert!(claims.contains("L26-0000001,2026-06,1000001,みどり保育園,ichiji,3,1,600,100,500,0,0,"), "{claims}");
    let rows = line_csv(&view, &lines);
    assert_eq!(rows.lines().count(), 5, "{rows}");
    assert!(rows.contains(",-100\r\n"), "{rows}");
}

/// Handed in, taken and forwarded: each side is told, and all see the progress.
async fn it_reaches_the_city(db: &TestStore, scene: &Scene, id: ClaimId) {
    let section = scene.section();
    scene.submit(id, 20).await;
    let told = inbox(db, &scene.city.operator, "claim.submitted").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].body, "みどり保育園の2026年6月分の請求データが提出されました。");
    assert!(scene.workflow.claims(&section, ClaimQuery::default()).await.unwrap().is_empty(), "not with the city yet");
    assert!(!published(db, Channel::CityBoard(town())).await.contains(&"claim.changed".to_owned()));
    scene.hand_over(id, 30).await;
    assert_eq!(inbox(db, &scene.manager, "claim.received").await.len(), 1);
    let told = inbox(db, &scene.section, "claim.forwarded").await;
    assert_eq!(told[0].body, "2026年6月分の請求データ（1件）をご確認ください。");
    assert_eq!(scene.workflow.claims(&section, ClaimQuery::default()).await.unwrap().len(), 1);
    for channel in [Channel::FacilityClaims(scene.city.facility.facility_id), Channel::OperatorQueue(town())] {
        let steps = published(db, channel.clone()).await.iter().filter(|kind| *kind == "claim.changed").count();
        assert_eq!(steps, 4, "created, submitted, received and forwarded on {channel}");
    }
    assert!(published(db, Channel::CityBoard(town())).await.contains(&"claim.changed".to_owned()));
}

/// Ordered, refused by the bank, ordered again, paid.
async fn it_is_paid_at_the_second_try(db: &TestStore, scene: &Scene, id: ClaimId) {
    let section = scene.section();
    let without = scene.workflow.order_transfers(&section, vec![id], after(40)).await;
    assert!(matches!(&without, Err(WorkflowError::Conflict(why)) if why.contains("L26-0000001")), "{without:?}");
    scene.set_account().await;
    let first = scene.order(vec![id], 50).await;
    let (csv, n_lines) = scene.workflow.transfer_data(&section, first).await.unwrap();
    let expected = "\u{feff}claim_no,bank_code,branch_code,account_type,account_no,holder_kana,amount\r\n\
        L26-0000001,0001,012,ordinary,0123456,フク)ミドリカイ,500\r\n";
    assert_eq!((csv.as_str(), n_lines), (expected, 1));
    let twice = scene.workflow.order_transfers(&section, vec![id], after(51)).await;
    assert!(matches!(twice, Err(WorkflowError::Conflict(_))), "{twice:?}");

    let failed = scene.import(&["L26-0000001,1,2026-06-02,500".to_owned()], 2 * DAY).await;
    assert!(failed.is_completed(), "{:?}", failed.first_errors);
    assert_eq!(scene.state(id).await, "transfer_failed");
    for account in [&scene.manager, &scene.section, &scene.city.operator] {
        assert_eq!(inbox(db, account, "claim.transfer_failed").await.len(), 1, "{:?}", account.role);
    }
    scene.order(vec![id], 2 * DAY + 1).await;
    let paid = scene.import(&["L26-0000001,0,2026-06-05,500".to_owned()], 5 * DAY).await;
    assert!(paid.is_completed(), "{:?}", paid.first_errors);
    for account in [&scene.manager, &scene.city.operator] {
        assert_eq!(inbox(db, account, "claim.transfer_completed").await.len(), 1, "{:?}", account.role);
    }
}

/// The claims hold `uses`, each once, and no reversal twice; and each claim is the sum of its lines.
async fn books_are_true(scene: &Scene, uses: &[UseId]) {
    let mut seen: BTreeMap<(UseId, bool), ClaimId> = BTreeMap::new();
    for claim in scene.workflow.claims(&scene.manager(), ClaimQuery::default()).await.unwrap() {
        let (view, lines) = scene.workflow.claim(&scene.manager(), claim.claim_id).await.unwrap();
        assert_eq!(lines.iter().map(|line| line.amount_yen.get()).sum::<i64>(), view.net_yen.get());
        for line in lines {
            let before = seen.insert((line.use_id, line.reversal_id.is_some()), view.claim_id);
            assert_eq!(before, None, "a line of two claims");
        }
    }
    let mut claimed: Vec<UseId> = seen.keys().filter(|(_, undone)| !undone).map(|(id, _)| *id).collect();
    let mut booked = uses.to_vec();
    claimed.sort();
    booked.sort();
    assert_eq!(claimed, booked, "uses and claimed uses");
}

async fn each_use_is_in_one_claim_however_many_are_computed_at_once(db: &TestStore) {
    let scene = Scene::of(db).await;
    let elsewhere = workflow(db.open_again().await);
    let mut uses = Vec::new();
    for n in 0..4 {
        uses.push(scene.pay(100 + n, 0).await);
    }
    let june = scene.claim(6, 10).await.unwrap();
    scene.submit(june.claim_id, 20).await;
    // June goes on after its claim was handed in; these belong to whichever claim comes next.
    for n in 0..4 {
        uses.push(scene.pay(200 + n, DAY).await);
        uses.push(scene.pay(300 + n, JULY).await);
        uses.push(scene.pay(400 + n, AUGUST).await);
    }
    let manager = scene.manager();
    let computed = join_all((0..24).map(|n| {
        let node = if n % 2 == 0 { &scene.workflow } else { &elsewhere };
        let month = date(2026, if n % 3 == 0 { 7 } else { 8 }, 1);
        node.create_claim(&manager, PROGRAMME, month, after(AUGUST + 60))
    }))
    .await;
    assert!(computed.iter().all(Result::is_ok), "{computed:?}");
    books_are_true(&scene, &uses).await;
    let claims = scene.workflow.claims(&manager, ClaimQuery::default()).await.unwrap();
    assert_eq!(claims.len(), 3, "one for each month");
    assert_eq!(scene.workflow.claim(&manager, june.claim_id).await.unwrap().1.len(), 4, "what was handed in stays");
    elsewhere.store().close().await;
}

async fn what_comes_late_and_what_is_undone_later_is_in_the_next_claim(db: &TestStore) {
    let scene = Scene::of(db).await;
    let first = scene.pay(300, 0).await;
    let nothing_in_may = scene.claim(5, 5).await;
    assert!(matches!(nothing_in_may, Err(WorkflowError::Conflict(_))), "{nothing_in_may:?}");
    let not_yet = scene.claim(7, 5).await;
    assert!(matches!(not_yet, Err(WorkflowError::Invalid(_))), "{not_yet:?}");
    let june = scene.claim(6, 10).await.unwrap();
    scene.submit(june.claim_id, 20).await;
    let again = scene.claim(6, 30).await;
    assert!(matches!(again, Err(WorkflowError::Conflict(_))), "{again:?}");

    let late = scene.pay(70, DAY).await;
    let later = scene.pay(500, JULY).await;
    scene.undo(first, JULY + 1).await;
    let july = scene.claim(7, JULY + 10).await.unwrap();
    assert_eq!((july.uses, july.gross_yen, july.reversed_yen), (2, Yen::new(570), Yen::new(300)));
    assert_eq!(july.net_yen, Yen::new(270));
    let lines = scene.workflow.claim(&scene.manager(), july.claim_id).await.unwrap().1;
    let negative: Vec<(UseId, i64)> = lines
        .iter()
        .filter(|line| line.reversal_id.is_some())
        .map(|line| (line.use_id, line.amount_yen.get()))
        .collect();
    assert_eq!(negative, [(first, -300)]);
    books_are_true(&scene, &[first, late, later]).await;
    let created = events_of(db, "claim.created").await;
    let undone = events_of(db, "coupon.use_reversed").await;
    assert_eq!(created[1].payload["reversal_ids"][0], undone[0].payload["reversal_id"]);
    assert_eq!(created[1].payload["use_ids"].as_array().unwrap().len(), 2);
    assert_eq!(created[1].payload["amount_yen"], 270);
    // Computed once more without anything new: the same claim, and no further event.
    assert_eq!(scene.claim(7, JULY + 20).await.unwrap().claim_id, july.claim_id);
    assert_eq!(events_of(db, "claim.created").await.len(), 2);
}

async fn a_claim_below_zero_waits_for_the_next_one_of_its_account(db: &TestStore) {
    let scene = Scene::of(db).await;
    scene.set_account().await;
    let undone = scene.pay(300, 0).await;
    scene.forwarded(6, 10).await;
    scene.undo(undone, JULY).await;
    let july = scene.forwarded(7, JULY + 10).await;
    assert_eq!(july.net_yen, Yen::new(-300));
    let alone = scene.workflow.order_transfers(&scene.section(), vec![july.claim_id], after(JULY + 20)).await;
    assert!(matches!(&alone, Err(WorkflowError::Conflict(why)) if why.contains(&july.claim_no)), "{alone:?}");
    assert_eq!(scene.state(july.claim_id).await, "forwarded");

    scene.pay(1_000, AUGUST).await;
    let august = scene.forwarded(8, AUGUST + 10).await;
    let file = scene.order(vec![august.claim_id, july.claim_id], AUGUST + 20).await;
    let both = format!("{} {}", july.claim_no, august.claim_no);
    let csv = scene.workflow.transfer_data(&scene.section(), file).await.unwrap().0;
    assert!(csv.contains(&format!("{both},0001,012,ordinary,0123456,フク)ミドリカイ,700\r\n")), "{csv}");
    assert_eq!(csv.lines().count(), 2, "one line for one account");

    let on = AUGUST + DAY;
    let half = scene.import(&[format!("{},0,2026-08-01,700", august.claim_no)], on).await;
    let found: Vec<&str> = half.first_errors.iter().map(|error| error.column.as_str()).collect();
    assert_eq!(found, ["claim_no", "amount"], "the bank was asked for one transfer, not for a part of it");
    let whole = scene.import(&[format!("{both},0,2026-08-01,700")], on).await;
    assert!(whole.is_completed(), "{:?}", whole.first_errors);
    assert_eq!((scene.state(july.claim_id).await, scene.state(august.claim_id).await), ("paid", "paid"));
}

async fn a_claim_that_was_sent_back_is_computed_anew(db: &TestStore) {
    let scene = Scene::of(db).await;
    let operator = scene.city.operator();
    let first = scene.pay(300, 0).await;
    let claim = scene.forwarded(6, 10).await;
    let id = claim.claim_id;
    let silent = scene.workflow.send_back_claim(&operator, id, "other", None, after(20)).await;
    assert!(matches!(silent, Err(WorkflowError::Invalid(_))), "{silent:?}");
    let back = scene.workflow.send_back_claim(&operator, id, "other", Some("件数の確認"), after(20)).await.unwrap();
    assert_eq!((back.state, back.n_returned, back.return_reason.as_deref()), ("created", 1, Some("件数の確認")));
    let told = inbox(db, &scene.manager, "claim.returned").await;
    assert!(told[0].body.contains("件数の確認"), "{}", told[0].body);
    assert!(scene.workflow.claims(&scene.section(), ClaimQuery::default()).await.unwrap().is_empty());

    let second = scene.pay(200, 30).await;
    let anew = scene.claim(6, 40).await.unwrap();
    assert_eq!((anew.claim_id, anew.uses, anew.net_yen), (id, 2, Yen::new(500)));
    books_are_true(&scene, &[first, second]).await;
    scene.submit(id, 50).await;
    scene.hand_over(id, 60).await;
    scene.set_account().await;
    scene.order(vec![id], 70).await;
    let late = scene.workflow.send_back_claim(&operator, id, "city_request", None, after(80)).await;
    assert!(matches!(late, Err(WorkflowError::Conflict(_))), "its payment was ordered: {late:?}");
}

async fn every_wrong_cell_of_a_result_is_named_and_nothing_is_taken(db: &TestStore) {
    let scene = Scene::of(db).await;
    scene.set_account().await;
    let mut ordered = Vec::new();
    for (month, at) in [(6, 0), (7, JULY)] {
        scene.pay(300, at).await;
        let claim = scene.forwarded(month, at + 10).await;
        scene.order(vec![claim.claim_id], at + 20).await;
        ordered.push(claim);
    }
    scene.pay(300, AUGUST).await;
    let waiting = scene.forwarded(8, AUGUST + 10).await;
    let (june, july, august) = (&ordered[0].claim_no, &ordered[1].claim_no, &waiting.claim_no);
    let rows = [
        format!("{june},0,2026-07-10,300"),
        "L26-9999999,0,2026-07-10,300".to_owned(),
        format!("{august},0,2026-07-10,300"),
        format!("{july},0,2026-07-10,299"),
        format!("{june},0,2026-07-10,300"),
        ",0,2026-07-10,300".to_owned(),
        format!("{july},paid,2026-07-10,300"),
        format!("{july},0,2026/07/10,300"),
        format!("{july},0,2026-07-10,-300"),
        format!("{july},,,"),
    ];
    let outcome = scene.import(&rows, AUGUST + DAY).await;
    assert_eq!((outcome.state, outcome.rows), ("failed", rows.len()));
    let found: Vec<(usize, &str)> =
        outcome.first_errors.iter().map(|error| (error.row, error.column.as_str())).collect();
    let expected = [
        (3, "claim_no"),
        (4, "claim_no"),
        (5, "amount"),
        (6, "claim_no"),
        (7, "claim_no"),
        (8, "result_code"),
        (9, "transferred_on"),
        (10, "amount"),
        (11, "result_code"),
        (11, "transferred_on"),
        (11, "amount"),
    ];
    assert_eq!(found, expected);
    let csv = scene.workflow.import_result(&scene.section(), outcome.import_id).await.unwrap();
    assert!(csv.contains("6,claim_no,2行目と同じ請求です。"), "{csv}");
    for claim in &ordered {
        assert_eq!(scene.state(claim.claim_id).await, "transfer_requested");
    }
    assert!(events_of(db, "claim.transfer_result").await.is_empty());
    assert_eq!(events_of(db, "import.failed").await.len(), 1);
}

async fn a_result_is_taken_once_and_its_days_must_fit(db: &TestStore) {
    let scene = Scene::of(db).await;
    scene.set_account().await;
    scene.pay(300, 0).await;
    let claim = scene.forwarded(6, 10).await;
    scene.order(vec![claim.claim_id], 20).await;
    for wrong in ["2026-05-31", "2026-06-04"] {
        let outcome = scene.import(&[format!("{},0,{wrong},300", claim.claim_no)], 2 * DAY).await;
        let found: Vec<&str> = outcome.first_errors.iter().map(|error| error.column.as_str()).collect();
        assert_eq!(found, ["transferred_on"], "{wrong}");
    }
    let content = file(RESULT_HEADER, &[format!("{},0,2026-06-03,300", claim.claim_no)]);
    let take = async |force| {
        let kind = ImportKind::TransferResult;
        scene.workflow.import_file(&scene.section(), kind, "結果.csv", content.as_bytes(), force, after(2 * DAY)).await
    };
    assert!(take(false).await.unwrap().is_completed());
    let again = take(false).await;
    assert!(matches!(again, Err(WorkflowError::Conflict(_))), "{again:?}");
    let forced = take(true).await.unwrap();
    assert_eq!((forced.state, forced.first_errors[0].column.as_str()), ("failed", "claim_no"), "it is paid already");
    assert_eq!(events_of(db, "claim.paid").await.len(), 1);
    assert_eq!(inbox(db, &scene.manager, "claim.transfer_completed").await.len(), 1);
}

async fn what_is_forwarded_or_paid_together_is_told_once(db: &TestStore) {
    let scene = Scene::of(db).await;
    scene.set_account().await;
    let operator = scene.city.operator();
    let mut claims = Vec::new();
    for (month, at) in [(6, 0), (7, JULY)] {
        scene.pay(300, at).await;
        let claim = scene.claim(month, at + 10).await.unwrap();
        scene.submit(claim.claim_id, at + 10).await;
        scene.workflow.receive_claim(&operator, claim.claim_id, after(at + 20)).await.unwrap();
        claims.push(claim);
    }
    let ids: Vec<ClaimId> = claims.iter().map(|claim| claim.claim_id).collect();
    scene.workflow.forward_claims(&operator, ids.clone(), after(JULY + 30)).await.unwrap();
    let told = inbox(db, &scene.section, "claim.forwarded").await;
    let bodies: Vec<&str> = told.iter().map(|message| message.body.as_str()).collect();
    assert_eq!(bodies, ["2026年6月・2026年7月分の請求データ（2件）をご確認ください。"]);

    // Ordered one by one, so that the bank answers each in a row of its own.
    for id in ids {
        scene.order(vec![id], JULY + 40).await;
    }
    let rows: Vec<String> = claims.iter().map(|claim| format!("{},0,2026-07-01,300", claim.claim_no)).collect();
    let taken = scene.import(&rows, JULY + 50).await;
    assert!(taken.is_completed(), "{:?}", taken.first_errors);
    for account in [&scene.manager, &scene.city.operator] {
        let told = inbox(db, account, "claim.transfer_completed").await;
        let bodies: Vec<&str> = told.iter().map(|message| message.body.as_str()).collect();
        let expected = "2026年6月・2026年7月分のお支払い手続きが完了しました。入金をご確認ください。";
        assert_eq!(bodies, [expected], "{:?}", account.role);
    }
}

async fn each_role_has_its_own_part_and_no_more(db: &TestStore) {
    let scene = Scene::of(db).await;
    let (operator, manager, section) = (scene.city.operator(), scene.manager(), scene.section());
    let (staff, parent) = (scene.city.staff(), scene.city.parent());
    scene.pay(300, 0).await;
    let (june, workflow) = (date(2026, 6, 1), &scene.workflow);
    for actor in [&operator, &section, &staff, &parent] {
        let outcome = workflow.create_claim(actor, PROGRAMME, june, after(5)).await;
        assert!(matches!(outcome, Err(WorkflowError::Denied)), "{:?}: {outcome:?}", actor.role);
    }
    let id = scene.claim(6, 10).await.unwrap().claim_id;
    for actor in [&staff, &parent] {
        let outcome = workflow.claims(actor, ClaimQuery::default()).await;
        assert!(matches!(outcome, Err(WorkflowError::Denied)), "{:?}: {outcome:?}", actor.role);
    }
    let too_early = workflow.claim(&section, id).await;
    assert!(matches!(too_early, Err(WorkflowError::NotFound(_))), "{too_early:?}");
    assert!(matches!(workflow.submit_claim(&operator, id, after(11)).await, Err(WorkflowError::Denied)));
    scene.submit(id, 12).await;
    for actor in [&manager, &section] {
        let received = workflow.receive_claim(actor, id, after(13)).await;
        assert!(matches!(received, Err(WorkflowError::Denied)), "{:?}: {received:?}", actor.role);
        let forwarded = workflow.forward_claims(actor, vec![id], after(13)).await;
        assert!(matches!(forwarded, Err(WorkflowError::Denied)), "{:?}: {forwarded:?}", actor.role);
        let returned = workflow.send_back_claim(actor, id, "city_request", None, after(13)).await;
        assert!(matches!(returned, Err(WorkflowError::Denied)), "{:?}: {returned:?}", actor.role);
    }
    let skipped = workflow.forward_claims(&operator, vec![id], after(14)).await;
    assert!(matches!(skipped, Err(WorkflowError::Conflict(_))), "not received yet: {skipped:?}");
    scene.hand_over(id, 15).await;
    scene.set_account().await;
    for actor in [&operator, &manager] {
        let ordered = workflow.order_transfers(actor, vec![id], after(16)).await;
        assert!(matches!(ordered, Err(WorkflowError::Denied)), "{:?}: {ordered:?}", actor.role);
        let result = workflow.import_file(actor, ImportKind::TransferResult, "x", b"x", false, after(16)).await;
        assert!(matches!(result, Err(WorkflowError::Denied)), "{:?}: {result:?}", actor.role);
    }
    let movement = workflow.import_file(&section, ImportKind::Movement, "x", b"x", false, after(17)).await;
    assert!(matches!(movement, Err(WorkflowError::Denied)), "{movement:?}");
    let nothing = workflow.order_transfers(&section, Vec::new(), after(17)).await;
    assert!(matches!(nothing, Err(WorkflowError::Invalid(_))), "{nothing:?}");

    // The operator sees every import, the section its own kind.
    let by_operator = workflow.import_file(&operator, ImportKind::Movement, "x", b"x", false, after(18)).await.unwrap();
    let by_section = scene.import(&["L26-0000001,0,2026-06-01,300".to_owned()], 19).await;
    assert_eq!(workflow.imports(&operator).await.unwrap().len(), 2);
    let own: Vec<_> = workflow.imports(&section).await.unwrap().into_iter().map(|file| file.import_id).collect();
    assert_eq!(own, [by_section.import_id]);
    let foreign = workflow.import_result(&section, by_operator.import_id).await;
    assert!(matches!(foreign, Err(WorkflowError::NotFound(_))), "{foreign:?}");
}

async fn claims_stay_behind_the_wall_and_in_their_facility(db: &TestStore) {
    let scene = Scene::of(db).await;
    scene.pay(300, 0).await;
    let claim = scene.forwarded(6, 10).await;
    let id = claim.claim_id;
    let other = City::found(db, &neighbour(), 1_000).await;
    let abroad = Actor::of(&account(&other.code, Role::AppSection, "section@neighbour.example.jp"), None);
    assert!(scene.workflow.claims(&other.operator(), ClaimQuery::default()).await.unwrap().is_empty());
    let read = scene.workflow.claim(&other.operator(), id).await;
    assert!(matches!(read, Err(WorkflowError::NotFound(_))), "{read:?}");
    let back = scene.workflow.send_back_claim(&other.operator(), id, "city_request", None, after(20)).await;
    assert!(matches!(back, Err(WorkflowError::NotFound(_))), "{back:?}");
    let ordered = scene.workflow.order_transfers(&abroad, vec![id], after(20)).await;
    assert!(matches!(ordered, Err(WorkflowError::NotFound(_))), "{ordered:?}");
    let set = scene
        .workflow
        .set_bank_account(&other.operator(), scene.city.facility.facility_id, &draft(), None, after(20))
        .await;
    assert!(matches!(set, Err(WorkflowError::NotFound(_))), "{set:?}");
    scene.set_account().await;
    let file = scene.order(vec![id], 30).await;
    let data = scene.workflow.transfer_data(&abroad, file).await;
    assert!(matches!(data, Err(WorkflowError::NotFound(_))), "{data:?}");
    let content = self::file(RESULT_HEADER, &[format!("{},0,2026-06-01,300", claim.claim_no)]);
    let kind = ImportKind::TransferResult;
    let outcome = scene.workflow.import_file(&abroad, kind, "x", content.as_bytes(), false, after(40)).await.unwrap();
    assert_eq!((outcome.state, outcome.first_errors[0].column.as_str()), ("failed", "claim_no"));

    // Another facility of the same town sees nothing of it either.
    let next_door = Facility {
        facility_id: FacilityId::new(NOW),
        facility_no: "1000002".to_owned(),
        coupon_qr: "another".to_owned(),
        ..scene.city.facility.clone()
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_facility(&next_door, &[PROGRAMME.to_owned()], NOW).await.unwrap();
    tx.commit().await.unwrap();
    let mut row = account(&town(), Role::FacilityManager, "manager2@example.jp");
    row.facility_id = Some(next_door.facility_id);
    let colleague = Actor::of(&row, None);
    assert!(scene.workflow.claims(&colleague, ClaimQuery::default()).await.unwrap().is_empty());
    let read = scene.workflow.claim(&colleague, id).await;
    assert!(matches!(read, Err(WorkflowError::NotFound(_))), "{read:?}");
    let theirs = scene.workflow.create_claim(&colleague, PROGRAMME, date(2026, 6, 1), after(50)).await;
    assert!(matches!(theirs, Err(WorkflowError::Conflict(_))), "uses of another facility: {theirs:?}");
    let account = scene.workflow.bank_account(&colleague, scene.city.facility.facility_id).await;
    assert!(matches!(account, Err(WorkflowError::NotFound(_))), "{account:?}");
}

async fn an_account_is_checked_and_two_windows_are_told(db: &TestStore) {
    let scene = Scene::of(db).await;
    let (workflow, facility) = (&scene.workflow, scene.city.facility.facility_id);
    let set = async |draft: &AccountDraft, version: Option<&str>, at: u64| {
        workflow.set_bank_account(&scene.manager(), facility, draft, version, after(at)).await
    };
    let wrong = AccountDraft {
        bank_code: "001".to_owned(),
        branch_code: "0012".to_owned(),
        account_type: "普通".to_owned(),
        account_no: "123456".to_owned(),
        holder_kana: "緑会".to_owned(),
    };
    let Err(WorkflowError::Invalid(errors)) = set(&wrong, None, 0).await else { panic!("taken") };
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["bank_code", "branch_code", "account_type", "account_no", "holder_kana"]);
    let (missing, version) = workflow.bank_account(&scene.manager(), facility).await.unwrap();
    assert!(missing.is_none());
    let version = version.to_string();
    assert_eq!(set(&draft(), Some(version.as_str()), 1).await.unwrap().holder_kana, "フク)ミドリカイ");
    let other = AccountDraft { account_no: "7654321".to_owned(), ..draft() };
    let stale = set(&other, Some(version.as_str()), 2).await;
    assert!(matches!(stale, Err(WorkflowError::Stale)), "{stale:?}");
    let (kept, version) = workflow.bank_account(&scene.section(), facility).await.unwrap();
    assert_eq!(kept.unwrap().account_no, "0123456");
    let (operator, version) = (scene.city.operator(), version.to_string());
    let by_operator = workflow.set_bank_account(&operator, facility, &other, Some(version.as_str()), after(3)).await;
    assert_eq!(by_operator.unwrap().entered_by, "operator");
    let noted = events_of(db, "access.audited").await;
    assert_eq!(noted.iter().filter(|event| event.payload["what"] == "bank_account_set").count(), 2);
}

#[test]
fn labels_of_claims_are_those_of_the_glossary() {
    let labels: Vec<&str> = ClaimState::ALL.into_iter().map(ClaimState::label).collect();
    assert_eq!(labels, ["作成済", "提出済", "受付済", "市へ送付済", "振替依頼済", "支払済", "振替不能"]);
}
