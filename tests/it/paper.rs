//! Applications on paper beside those of the app (flow F04): the same states, letters instead of messages,
//! codes that stand for documents, and the file of what could not be matched.

use jiff::{ToSpan, civil::date};
use serde_json::{Value, json};
use todoke_domain::{
    Timestamp,
    channel::Channel,
    number::NumberKind,
    reason::{DEFICIENCY, INTERVENTION, REJECTION},
};
use todoke_store::{
    Wall,
    account::Account,
    guardian::Guardian,
    message::MessageStep,
    print_item::{LettersOf, PrintItem},
};
use todoke_tests::stores::TestStore;
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    account::ChildInput,
    application::{ApplicationView, Deficiency, PaperApplicant, Submission, Verdict},
    import::ImportKind,
};

use crate::{
    city::{City, NOW, after, town},
    coupon_use::workflow,
    decision::{monthly_set, noon},
    register::{RELATION_HEADER, events_of, file, import, inbox, kana, move_people, movement},
};

todoke_tests::on_both_databases! {
    a_paper_application_runs_through_the_same_states_with_letters,
    a_step_without_a_message_reaches_the_familys_screens_too,
    the_examiner_sees_whether_the_applicant_is_in_the_household,
    a_rejection_is_told_with_its_reason_in_the_app_or_by_letter,
    a_revoked_rejection_is_reviewed_again,
    a_code_on_the_form_stands_for_the_documents,
    a_new_code_is_printed_and_the_old_one_is_void,
    the_error_file_names_each_error_with_its_code,
    each_distribution_reaches_a_paper_household_as_a_letter,
    who_chose_paper_after_applying_gets_letters_that_say_everything,
    a_deficiency_that_nobody_has_read_is_told_again_once,
    a_deficiency_that_was_read_or_corrected_is_not_told_again,
}

/// A city whose numbers go on after those of the fixture.
async fn stage(db: &TestStore) -> (City, Workflow) {
    let city = City::found(db, &town(), 1_000).await;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    for kind in [NumberKind::Child, NumberKind::Guardian] {
        tx.next_number(&city.code, kind, NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    (city, workflow(db.store()))
}

/// A paper application for a girl with this name.
fn on_paper(child_kana: &str, birth: &str) -> Submission {
    Submission::Paper {
        applicant: PaperApplicant {
            name: "佐藤 父".to_owned(),
            name_kana: "サトウ チチ".to_owned(),
            birth_date: Some(date(1990, 4, 1)),
            postal_code: "530-0003".to_owned(),
            address: "大阪市北区3-3".to_owned(),
            phone: String::new(),
        },
        child: ChildInput {
            name: "佐藤 子".to_owned(),
            name_kana: child_kana.to_owned(),
            sex: "female".to_owned(),
            birth_date: birth.to_owned(),
            child_qr: None,
        },
        documents: Vec::new(),
        relation: "父".to_owned(),
    }
}

fn kana_of(no: &str) -> String {
    format!("サトウ {}", kana(no))
}

/// Letters of one kind, newest first.
async fn letters(workflow: &Workflow, city: &City, kind: &str) -> Vec<PrintItem> {
    let mut all = workflow.print_queue(&city.operator(), &LettersOf::default(), 1_000).await.unwrap();
    all.retain(|letter| letter.letter_kind == kind);
    all
}

/// (channel, state) of the deliveries of the newest message of a type.
async fn ways(db: &TestStore, account: &Account, message_type: &str) -> Vec<(String, &'static str)> {
    let message = inbox(db, account, message_type).await.remove(0).message_id;
    let ways = db.begin_read(Wall::None).await.unwrap().deliveries_of(message).await.unwrap();
    ways.into_iter().map(|way| (way.channel, way.state.as_str())).collect()
}

fn by_letter() -> Vec<(String, &'static str)> {
    vec![("paper".to_owned(), "queued")]
}

/// The account of a household that an office keyed in.
async fn household_of(db: &TestStore, application: &ApplicationView) -> Account {
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    tx.household_accounts(application.guardian_id).await.unwrap().remove(0)
}

/// A paper application that waits for its decision.
async fn under_review(workflow: &Workflow, city: &City, no: &str) -> ApplicationView {
    move_people(workflow, city, &[movement(no, "2026-05-05", "birth", "2026-05-10")], NOW).await;
    let operator = city.operator();
    let submitted = workflow.submit_application(&operator, &on_paper(&kana_of(no), "2026-05-05"), NOW).await.unwrap();
    let view = workflow.complete_documents(&operator, submitted.application_id, NOW).await.unwrap();
    assert_eq!(view.state, "under_review");
    view
}

async fn a_paper_application_runs_through_the_same_states_with_letters(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let operator = city.operator();
    move_people(&workflow, &city, &[movement("A1", "2026-05-05", "birth", "2026-05-10")], NOW).await;
    let household = workflow.submit_application(&city.parent(), &on_paper(&kana_of("A1"), "2026-05-05"), NOW).await;
    assert!(matches!(household, Err(WorkflowError::Denied)), "only the operator keys in paper");
    let paper = workflow.submit_application(&operator, &on_paper(&kana_of("A1"), "2026-05-05"), NOW).await.unwrap();
    let id = paper.application_id;
    assert_eq!((paper.entry.as_str(), paper.state.as_str()), ("paper_proxy", "submitted"));

    let missing = Deficiency { items: vec!["document_missing".to_owned()], text: None };
    workflow.find_deficiency(&operator, id, &missing, after(1)).await.unwrap();
    let letter = letters(&workflow, &city, "deficiency").await.remove(0);
    assert_eq!((letter.recipient_name.as_str(), letter.postal_code.as_str()), ("佐藤 父", "530-0003"));
    let reason = DEFICIENCY.text("document_missing", None).unwrap();
    assert!(letter.body.contains(&reason) && letter.body.contains(&paper.application_no), "{}", letter.body);
    assert!(matches!(
        workflow.resubmit_application(&city.parent(), id, &[], after(2)).await,
        Err(WorkflowError::NotFound(_))
    ));
    workflow.resubmit_application(&operator, id, &[], after(2)).await.unwrap();
    workflow.complete_documents(&operator, id, after(3)).await.unwrap();
    let approved = workflow.decide_application(&operator, id, &Verdict::Approve(None), after(4)).await.unwrap();
    let states: Vec<&str> = approved.history.iter().map(|step| step.state.as_str()).collect();
    assert_eq!(states, ["submitted", "deficient", "resubmitted", "matching", "under_review", "approved"]);
    assert_eq!(letters(&workflow, &city, "distribution").await.len(), 1);
    let household = household_of(db, &paper).await;
    for message_type in ["application.coupon.deficient", "coupon.distributed"] {
        let ways = ways(db, &household, message_type).await;
        assert_eq!(ways, by_letter(), "{message_type}: the letter is a delivery of the message");
    }
    let mut tx = db.begin_read(operator.wall()).await.unwrap();
    let coupon = tx.coupon_of_application(id).await.unwrap().unwrap();
    assert_eq!(coupon.balance_yen, city.set.terms.distribution_amount_yen);
    let submitted = events_of(db, "application.submitted").await;
    assert_eq!(submitted[0].payload["entry"], "paper_proxy");
}

async fn a_step_without_a_message_reaches_the_familys_screens_too(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let operator = city.operator();
    let paper = workflow.submit_application(&operator, &on_paper(&kana_of("A1"), "2026-05-05"), NOW).await.unwrap();
    let id = paper.application_id;
    let missing = Deficiency { items: vec!["document_missing".to_owned()], text: None };
    workflow.find_deficiency(&operator, id, &missing, after(1)).await.unwrap();
    workflow.resubmit_application(&operator, id, &[], after(2)).await.unwrap();
    workflow.complete_documents(&operator, id, after(3)).await.unwrap();
    move_people(&workflow, &city, &[movement("A1", "2026-05-05", "birth", "2026-05-10")], after(4)).await;
    assert_eq!(workflow.match_waiting(&operator, after(5)).await.unwrap().matched, 1);

    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let household = tx.household_accounts(paper.guardian_id).await.unwrap().remove(0);
    let channel = Channel::Guardian(household.account_id).to_string();
    let page = tx.publications_since(&channel, 0, 100).await.unwrap();
    let told = page.publications.iter().map(|one| serde_json::from_str::<Value>(&one.data).unwrap());
    let silent = told.filter(|told| told["data"]["message"].is_null() && told["data"]["title"].is_null());
    let steps: Vec<(Value, Value, Value)> = silent
        .map(|told| (told["type"].clone(), told["subject"]["id"].clone(), told["data"]["application"]["state"].clone()))
        .collect();
    let step = |kind: &str, state: &str| (json!(kind), json!(id), json!(state));
    assert_eq!(
        steps,
        [
            step("application.resubmitted", "resubmitted"),
            step("application.matching_started", "matching"),
            step("application.review_started", "under_review"),
        ]
    );
}

async fn the_examiner_sees_whether_the_applicant_is_in_the_household(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let relation = file(RELATION_HEADER, &["A1,P1,サトウ チチ,1990-04-01,father".to_owned()]);
    let people = ["A1", "A2"].map(|no| movement(no, "2026-05-05", "birth", "2026-05-10"));
    move_people(&workflow, &city, &people, NOW).await;
    assert!(import(&workflow, &city, ImportKind::HouseholdRelation, &relation, NOW).await.is_completed());
    let operator = city.operator();
    let examined = async |no: &str| {
        let paper = on_paper(&kana_of(no), "2026-05-05");
        let submitted = workflow.submit_application(&operator, &paper, after(1)).await.unwrap();
        workflow.complete_documents(&operator, submitted.application_id, after(2)).await.unwrap()
    };
    let (known, unknown) = (examined("A1").await, examined("A2").await);
    assert_eq!((known.guardian_confirmed, unknown.guardian_confirmed), (Some(true), Some(false)));
    let seen = workflow.application(&operator, unknown.application_id).await.unwrap();
    assert_eq!(seen.guardian_confirmed, Some(false), "whoever opens it later sees it as well");

    let household = household_of(db, &known).await;
    let own = workflow.application(&Actor::of(&household, None), known.application_id).await.unwrap();
    assert_eq!(own.guardian_confirmed, None, "what the examiner looks at is not the applicant's to see");
}

async fn a_rejection_is_told_with_its_reason_in_the_app_or_by_letter(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let operator = city.operator();
    let reject = |text: Option<&str>, code: &str| Verdict::Reject {
        reason_code: code.to_owned(),
        text: text.map(str::to_owned),
    };
    let reason = REJECTION.text("not_guardian", None).unwrap();

    let paper = under_review(&workflow, &city, "A1").await;
    let silent = workflow.decide_application(&operator, paper.application_id, &reject(None, "other"), after(1)).await;
    assert!(matches!(silent, Err(WorkflowError::Invalid(_))), "`other` needs words: {silent:?}");
    let verdict = reject(None, "not_guardian");
    let rejected = workflow.decide_application(&operator, paper.application_id, &verdict, after(1)).await.unwrap();
    assert_eq!((rejected.state.as_str(), rejected.reason.as_deref()), ("rejected", Some(reason.as_str())));
    let letter = letters(&workflow, &city, "rejection").await.remove(0);
    assert!(letter.body.contains(&reason) && letter.title.contains("不承認通知書"), "{letter:?}");
    let mut tx = db.begin_read(operator.wall()).await.unwrap();
    assert!(tx.coupon_of_application(paper.application_id).await.unwrap().is_none(), "nothing is distributed");
    drop(tx);

    let online = apply_with_code(&workflow, &city, "A2").await.unwrap();
    workflow.complete_documents(&operator, online.application_id, after(2)).await.unwrap();
    workflow.decide_application(&operator, online.application_id, &verdict, after(3)).await.unwrap();
    let told = inbox(db, &city.parent, "application.coupon.rejected").await;
    assert_eq!(told.len(), 1);
    assert!(told[0].body.contains(&reason) && told[0].body.contains(&online.application_no), "{}", told[0].body);
    assert_eq!(letters(&workflow, &city, "rejection").await.len(), 1, "who has the app gets no letter");
}

async fn a_revoked_rejection_is_reviewed_again(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let operator = city.operator();
    let online = apply_with_code(&workflow, &city, "A2").await.unwrap();
    let id = online.application_id;
    workflow.complete_documents(&operator, id, after(1)).await.unwrap();
    let verdict = Verdict::Reject { reason_code: "duplicate".to_owned(), text: None };
    workflow.decide_application(&operator, id, &verdict, after(2)).await.unwrap();
    let reopened = workflow.revoke_decision(&operator, id, "こども課", "city_request", None, after(3)).await.unwrap();
    assert_eq!(reopened.state, "under_review");
    assert_eq!(inbox(db, &city.parent, "application.coupon.reopened").await.len(), 1);
    let again = workflow.revoke_decision(&operator, id, "こども課", "city_request", None, after(4)).await;
    assert!(matches!(again, Err(WorkflowError::Conflict(_))), "there is no decision to take back: {again:?}");
    let approved = workflow.decide_application(&operator, id, &Verdict::Approve(None), after(5)).await.unwrap();
    assert_eq!(approved.state, "approved");
}

/// The guardian of the fixture registers child `no` without its code and applies with it.
async fn apply_with_code(workflow: &Workflow, city: &City, no: &str) -> Result<ApplicationView, WorkflowError> {
    let (child, code) = invited(workflow, city, no).await;
    let submission = Submission::Online {
        child_id: child.child_id,
        child_qr: Some(code),
        documents: Vec::new(),
        relation: "母".to_owned(),
    };
    workflow.submit_application(&city.parent(), &submission, NOW).await
}

/// A child that is registered without a code, and the code its resident's letter carries.
async fn invited(workflow: &Workflow, city: &City, no: &str) -> (todoke_store::child::Child, String) {
    move_people(workflow, city, &[movement(no, "2026-05-05", "birth", "2026-05-10")], NOW).await;
    workflow.run_solicitation(&city.operator(), NOW).await.unwrap();
    let mut sent = letters(workflow, city, "solicitation").await;
    sent.retain(|letter| letter.recipient_name.contains(&format!("子{no}")));
    let input = ChildInput {
        name: format!("佐藤 子{no}"),
        name_kana: kana_of(no),
        sex: "female".to_owned(),
        birth_date: "2026-05-05".to_owned(),
        child_qr: None,
    };
    let child = workflow.register_child(&city.parent(), &input, NOW).await.unwrap();
    (child, sent[0].qr_token.clone().unwrap())
}

async fn a_code_on_the_form_stands_for_the_documents(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let (child, code) = invited(&workflow, &city, "A1").await;
    let (_, other_code) = invited(&workflow, &city, "B2").await;
    let apply = async |code: Option<String>| {
        let submission = Submission::Online {
            child_id: child.child_id,
            child_qr: code,
            documents: Vec::new(),
            relation: "母".to_owned(),
        };
        workflow.submit_application(&city.parent(), &submission, NOW).await
    };
    let field = |outcome: Result<ApplicationView, WorkflowError>| match outcome {
        Err(WorkflowError::Invalid(errors)) => errors[0].field.clone(),
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(field(apply(None).await), "document_ids", "without a code documents are needed");
    assert_eq!(field(apply(Some("0000".to_owned())).await), "child_qr");
    assert_eq!(field(apply(Some(other_code)).await), "child_qr", "another child's code is no licence");
    let submitted = apply(Some(code)).await.unwrap();
    assert!(submitted.via_child_qr && submitted.documents.is_empty());
    let view = workflow.complete_documents(&city.operator(), submitted.application_id, after(1)).await.unwrap();
    assert_eq!(view.state, "under_review", "the code has identified the child, so nothing is matched");
    assert!(view.history.iter().all(|step| step.state != "matching"));
}

async fn a_new_code_is_printed_and_the_old_one_is_void(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let paper = under_review(&workflow, &city, "A1").await;
    let mut tx = db.begin_read(city.operator().wall()).await.unwrap();
    let old = tx.qr_of_child(paper.child_id).await.unwrap().unwrap().token;
    drop(tx);
    let staff = city.staff();
    workflow.child_of_qr(&staff, &old).await.unwrap();
    let new = workflow.reissue_child_qr(&city.operator(), paper.child_id, after(1)).await.unwrap();
    let letter = letters(&workflow, &city, "qr_reissue").await.remove(0);
    assert_eq!(letter.qr_token.as_deref(), Some(new.token.as_str()));
    assert_eq!(letter.address, "大阪市北区3-3");
    assert!(matches!(workflow.child_of_qr(&staff, &old).await, Err(WorkflowError::NotFound(_))));
    assert_eq!(workflow.child_of_qr(&staff, &new.token).await.unwrap().0.child_id, paper.child_id);
    workflow.reissue_child_qr(&city.parent(), city.child.child_id, after(2)).await.unwrap();
    assert_eq!(letters(&workflow, &city, "qr_reissue").await.len(), 1, "who has the app prints it there");
    assert_eq!(inbox(db, &city.parent, "coupon.qr_reissued").await.len(), 1);
}

fn resident(no: &str, kana: &str, birth: &str, kind: &str) -> String {
    format!("{no},{kana},佐藤 子,female,{birth},H{no},{kind},2026-05-10,530-0001,大阪市北区1-1")
}

async fn the_error_file_names_each_error_with_its_code(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let people = [
        resident("D1", "サトウ フタリ", "2026-01-01", "birth"),
        resident("D2", "サトウ フタリ", "2026-01-01", "birth"),
        resident("R1", "スズキ ユイ", "2026-01-03", "birth"),
        resident("X1", "サトウ キエ", "2026-01-04", "birth"),
        resident("L1", "サトウ ヒトリ", "2026-01-05", "birth"),
    ];
    move_people(&workflow, &city, &people, NOW).await;
    move_people(&workflow, &city, &[resident("X1", "サトウ キエ", "2026-01-04", "delete")], after(1)).await;
    let relation = file(RELATION_HEADER, &["R1,P1,サトウ チチ,1990-04-01,father".to_owned()]);
    assert!(import(&workflow, &city, ImportKind::HouseholdRelation, &relation, NOW).await.is_completed());
    let operator = city.operator();
    let mut expected = Vec::new();
    let cases = [
        ("サトウ フタリ", "2026-01-01", Some(("E1_multiple", "2,D1 D2"))),
        ("サトウ ダレモ", "2026-01-02", Some(("E2_no_candidate", "0,"))),
        ("サトウ ユイ", "2026-01-03", Some(("E3_name_changed", "1,R1"))),
        ("サトウ キエ", "2026-01-04", Some(("E4_deleted_at_source", "1,X1"))),
        ("サトウ ヒトリ", "2026-01-05", None),
        ("サトウ ヒトリ", "2026-01-05", Some(("E5_already_linked", "1,L1"))),
    ];
    for (kana, birth, error) in cases {
        let paper = workflow.submit_application(&operator, &on_paper(kana, birth), after(2)).await.unwrap();
        let view = workflow.complete_documents(&operator, paper.application_id, after(3)).await.unwrap();
        match error {
            Some((code, candidates)) => {
                assert_eq!(view.matching.unwrap().error_code, code);
                let day = NOW.jst_date();
                expected.push(format!("{code},{},{kana},female,{birth},{candidates},{day}", paper.application_no));
            }
            None => assert_eq!(view.state, "under_review"),
        }
    }
    let csv = workflow.matching_errors_csv(&operator, after(4)).await.unwrap();
    let lines: Vec<&str> = csv.trim_start_matches('\u{feff}').split("\r\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines[0],
        "error_code,application_no,name_kana,sex,birth_date,candidate_count,candidate_resident_nos,detected_on"
    );
    assert_eq!(lines[1..], expected);
    let export = events_of(db, "access.audited").await.pop().unwrap();
    assert_eq!((export.payload["what"].as_str(), export.payload["rows"].as_i64()), (Some("export"), Some(5)));
    assert!(matches!(workflow.matching_errors_csv(&city.staff(), NOW).await, Err(WorkflowError::Denied)));

    // A run tries all of them again, and what is left is one message.
    let before = inbox(db, &city.operator, "application.coupon.matching_failed").await.len();
    assert_eq!(workflow.match_waiting(&operator, after(5)).await.unwrap().failed, 5);
    let told = inbox(db, &city.operator, "application.coupon.matching_failed").await;
    assert_eq!(told.len(), before + 1);
    assert!(told[0].body.starts_with("照合できなかった児童が5件あります。"), "{}", told[0].body);
}

async fn each_distribution_reaches_a_paper_household_as_a_letter(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let set = monthly_set(db, &city).await;
    let paper = under_review(&workflow, &city, "A1").await;
    let verdict = Verdict::Approve(Some(set.coupon_set_id));
    workflow.decide_application(&city.operator(), paper.application_id, &verdict, after(1)).await.unwrap();
    let timer = Actor::system(town(), "timer");
    let run = workflow.distribute_due(&timer, noon(NOW.jst_date() + 1.month())).await.unwrap();
    assert_eq!(run.coupons, 1);

    let sent = letters(&workflow, &city, "distribution").await;
    let [second, first] = sent.as_slice() else { panic!("one letter for each lot: {sent:?}") };
    for part in ["15,000円", "2029年5月3日", set.title.as_str(), "使える事業：一時保育", "お問い合わせ先："]
    {
        assert!(first.body.contains(part) && second.body.contains(part), "{part} is missing: {sent:?}");
    }
    assert!(first.body.contains(&format!("（受付番号 {}）は承認されました。", paper.application_no)), "{first:?}");
    assert!(second.body.contains("30,000円") && !second.body.contains("承認"), "{second:?}");
    let household = household_of(db, &paper).await;
    assert_eq!(inbox(db, &household, "coupon.distributed").await.len(), 2);
    assert_eq!(ways(db, &household, "coupon.distributed").await, by_letter());
}

async fn who_chose_paper_after_applying_gets_letters_that_say_everything(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let operator = city.operator();
    let online = apply_with_code(&workflow, &city, "A2").await.unwrap();
    let id = online.application_id;
    let guardian = Guardian { contact_channel: "paper".to_owned(), ..city.guardian.clone() };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.update_guardian(&guardian).await.unwrap();
    tx.commit().await.unwrap();

    let missing = Deficiency { items: vec!["document_expired".to_owned()], text: None };
    workflow.find_deficiency(&operator, id, &missing, after(1)).await.unwrap();
    let letter = letters(&workflow, &city, "deficiency").await.remove(0);
    assert!(letter.body.contains(&DEFICIENCY.text("document_expired", None).unwrap()), "{letter:?}");
    workflow.resubmit_application(&city.parent(), id, &[], after(2)).await.unwrap();
    workflow.complete_documents(&operator, id, after(3)).await.unwrap();
    workflow.decide_application(&operator, id, &Verdict::Approve(None), after(4)).await.unwrap();
    assert_eq!(letters(&workflow, &city, "distribution").await.len(), 1);
    workflow.revoke_decision(&operator, id, "こども課", "city_request", None, after(5)).await.unwrap();
    let letter = letters(&workflow, &city, "message").await.remove(0);
    let reason = format!("理由：{}", INTERVENTION.text("city_request", None).unwrap());
    for part in [reason.as_str(), online.application_no.as_str(), "残高は0円"] {
        assert!(letter.body.contains(part), "{part} is missing: {letter:?}");
    }
    for message_type in ["application.coupon.deficient", "coupon.distributed", "application.coupon.revoked"] {
        assert_eq!(ways(db, &city.parent, message_type).await, by_letter(), "{message_type}");
    }
}

fn day(n: u64) -> Timestamp {
    after(n * 86_400)
}

async fn a_deficiency_that_nobody_has_read_is_told_again_once(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let operator = city.operator();
    let online = apply_with_code(&workflow, &city, "A2").await.unwrap();
    let paper = workflow.submit_application(&operator, &on_paper(&kana_of("A1"), "2026-05-05"), NOW).await.unwrap();
    let missing = Deficiency { items: vec!["document_missing".to_owned()], text: None };
    for id in [online.application_id, paper.application_id] {
        workflow.find_deficiency(&operator, id, &missing, after(1)).await.unwrap();
    }
    workflow.due_escalations(day(7)).await.unwrap();
    let told = async || inbox(db, &city.parent, "application.coupon.deficient").await;
    assert_eq!(told().await.len(), 1, "the week ends in a second");
    for n in [8, 16] {
        workflow.due_escalations(day(n)).await.unwrap();
        let messages = told().await;
        assert_eq!(messages.len(), 2, "once more, and not a third time");
        assert_eq!(messages[0].body, messages[1].body);
        assert_eq!(letters(&workflow, &city, "deficiency").await.len(), 2);
    }
    let mailed = ways(db, &city.parent, "application.coupon.deficient").await;
    assert_eq!(mailed, [("email".to_owned(), "queued")]);
    let household = household_of(db, &paper).await;
    assert_eq!(ways(db, &household, "application.coupon.deficient").await, by_letter());
}

async fn a_deficiency_that_was_read_or_corrected_is_not_told_again(db: &TestStore) {
    let (city, workflow) = stage(db).await;
    let operator = city.operator();
    let id = apply_with_code(&workflow, &city, "A2").await.unwrap().application_id;
    let missing = Deficiency { items: vec!["document_missing".to_owned()], text: None };
    let find = async |n| drop(workflow.find_deficiency(&operator, id, &missing, day(n)).await.unwrap());
    let correct = async |n| drop(workflow.resubmit_application(&city.parent(), id, &[], day(n)).await.unwrap());
    let told_by = async |n| {
        workflow.due_escalations(day(n)).await.unwrap();
        inbox(db, &city.parent, "application.coupon.deficient").await
    };
    find(0).await;
    let first = told_by(0).await.remove(0).message_id;
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    assert!(tx.note_step(city.parent.account_id, first, MessageStep::Read, after(1)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(told_by(8).await.len(), 1, "it was read");

    correct(9).await;
    find(10).await;
    correct(11).await;
    find(13).await;
    assert_eq!(told_by(18).await.len(), 3, "another deficiency was told of since");
    assert_eq!(told_by(20).await.len(), 4, "and nobody has read of that one");
    correct(21).await;
    find(22).await;
    correct(23).await;
    assert_eq!(told_by(30).await.len(), 5, "it is corrected");
}
