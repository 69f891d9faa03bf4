//! Letters from the queue to the post: runs that stay what they were, marks, and what becomes of a letter that cannot
//! be delivered. Over the record on both databases, and over HTTP.

use serde_json::{Value, json};
use todoke_domain::ids::MessageId;
use todoke_store::{
    Wall,
    guardian::Guardian,
    print_item::{LettersOf, PrintItem},
};
use todoke_tests::{
    http::Client,
    process::workspace_root,
    stores::TestStore,
    todoke::{DemoOptions, Todoke},
};
use todoke_workflow::{
    Workflow, WorkflowError,
    import::ImportKind,
    messaging::{Correction, LetterStep},
};

use crate::{
    city::{City, NOW, after, neighbour, town},
    coupon_use::workflow,
    journey::MOVEMENT,
    register::{RELATION_HEADER, events_of, file, import, inbox, move_people, movement},
    scene::text,
};

todoke_tests::on_both_databases! {
    a_run_takes_the_oldest_letters_and_stays_what_it_was,
    a_run_and_a_letter_are_marked_step_by_step,
    runs_and_letters_of_another_municipality_are_not_there,
    every_letter_of_a_message_is_a_delivery_of_it,
    a_letter_that_comes_back_is_told_and_goes_out_again,
    a_household_without_an_address_is_told_of_and_gets_its_letter_later,
    a_letter_without_an_address_keeps_its_code,
    a_letter_of_no_message_that_comes_back_is_listed_and_goes_to_where_the_register_has_the_child,
    a_letter_of_no_message_whose_child_moved_out_has_nowhere_to_go,
    a_letter_that_waits_follows_a_correction_and_a_withdrawal,
    a_letter_in_a_run_stays_and_shows_that_its_message_was_withdrawn,
    a_letter_that_came_back_goes_out_again_in_corrected_words,
}

/// Letters, newest first.
async fn letters(workflow: &Workflow, city: &City, of: &LettersOf) -> Vec<PrintItem> {
    workflow.print_queue(&city.operator(), of, 1_000).await.unwrap()
}

fn numbers(letters: &[PrintItem]) -> Vec<&str> {
    letters.iter().map(|letter| letter.letter_no.as_str()).collect()
}

/// Invites the household of each number by letter.
async fn invite(workflow: &Workflow, city: &City, nos: &[&str]) {
    let born: Vec<String> = nos.iter().map(|no| movement(no, "2026-05-05", "birth", "2026-05-10")).collect();
    move_people(workflow, city, &born, NOW).await;
    assert_eq!(workflow.run_solicitation(&city.operator(), NOW).await.unwrap().paper, nos.len());
}

/// The fixture's household, as it wants to be told and where it lives.
async fn household(db: &TestStore, city: &City, contact_channel: &str, address: &str) {
    let guardian =
        Guardian { contact_channel: contact_channel.to_owned(), address: address.to_owned(), ..city.guardian.clone() };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.update_guardian(&guardian).await.unwrap();
    tx.commit().await.unwrap();
}

/// Tells the fixture's household that its coupon is suspended, and gives the message.
async fn told(db: &TestStore, workflow: &Workflow, city: &City) -> MessageId {
    workflow.set_suspended(&city.operator(), city.guardian.guardian_id, true, "misuse", None, NOW).await.unwrap();
    inbox(db, &city.parent, "coupon.suspended").await.remove(0).message_id
}

/// (state, reason) of the letters of a message, the first sent first.
async fn ways(db: &TestStore, id: MessageId) -> Vec<(&'static str, Option<String>)> {
    let mut rows = db.begin_read(Wall::None).await.unwrap().deliveries_of(id).await.unwrap();
    rows.retain(|row| row.channel == "paper");
    rows.sort_by_key(|row| row.edition);
    rows.into_iter().map(|row| (row.state.as_str(), row.error_code)).collect()
}

async fn mark(workflow: &Workflow, city: &City, letter_no: &str, steps: &[LetterStep]) {
    for step in steps {
        let marked = workflow.mark_letters(&city.operator(), &[letter_no.to_owned()], *step, after(1)).await.unwrap();
        assert_eq!(marked, 1, "{letter_no}: {step:?}");
    }
}

/// What to do about whom nothing reached.
async fn next_steps(workflow: &Workflow, city: &City) -> Vec<Vec<&'static str>> {
    let unreached = workflow.unreached(&city.operator(), 24, 10, after(2)).await.unwrap();
    unreached.into_iter().map(|contact| contact.next).collect()
}

async fn a_run_takes_the_oldest_letters_and_stays_what_it_was(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    let none = workflow.make_print_run(&operator, 10, NOW).await;
    assert!(matches!(none, Err(WorkflowError::Conflict(_))), "there is nothing to print: {none:?}");
    invite(&workflow, &city, &["A1", "A2", "A3"]).await;
    let mut all = letters(&workflow, &city, &LettersOf::default()).await;
    all.reverse();
    assert!(all.iter().all(|letter| letter.state == "queued" && letter.print_run_id.is_none()));

    for n_max in [0, 10_001] {
        let refused = workflow.make_print_run(&operator, n_max, NOW).await;
        assert!(matches!(refused, Err(WorkflowError::Invalid(_))), "{refused:?}");
    }
    let first = workflow.make_print_run(&operator, 2, NOW).await.unwrap();
    assert_eq!((first.n_letters, first.n_queued, first.made_by.as_str()), (2, 2, city.operator.name.as_str()));
    let (_, held) = workflow.print_run(&operator, first.print_run_id).await.unwrap();
    assert_eq!(numbers(&held), numbers(&all[..2]), "the oldest first");
    let (csv, n_letters) = workflow.print_run_csv(&operator, first.print_run_id).await.unwrap();
    assert_eq!(n_letters, 2);
    assert!(csv.contains(&all[0].letter_no) && !csv.contains(&all[2].letter_no), "{csv}");
    assert!(csv.contains(all[0].qr_token.as_deref().unwrap()));

    let second = workflow.make_print_run(&operator, 10, after(1)).await.unwrap();
    let (_, rest) = workflow.print_run(&operator, second.print_run_id).await.unwrap();
    assert_eq!(numbers(&rest), numbers(&all[2..]), "nothing is printed twice");
    workflow.mark_print_run(&operator, first.print_run_id, LetterStep::Printed, after(1)).await.unwrap();
    let again = workflow.print_run_csv(&operator, first.print_run_id).await.unwrap();
    assert_eq!(again, (csv, 2), "whenever it is fetched");
    let (runs, waiting) = workflow.print_runs(&operator, None, 10).await.unwrap();
    let ids: Vec<_> = runs.iter().map(|run| run.print_run_id).collect();
    assert_eq!((ids, waiting), (vec![second.print_run_id, first.print_run_id], 0));
    let older = workflow.print_runs(&operator, Some(second.print_run_id), 10).await.unwrap().0;
    assert_eq!(older.len(), 1);
    let made = events_of(db, "access.audited").await.into_iter().filter(|event| event.payload["what"] == "print");
    let rows: Vec<Option<i64>> = made.map(|event| event.payload["rows"].as_i64()).collect();
    assert_eq!(rows, [Some(2), Some(1)]);
}

async fn a_run_and_a_letter_are_marked_step_by_step(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    invite(&workflow, &city, &["A1", "A2"]).await;
    let run = workflow.make_print_run(&operator, 10, NOW).await.unwrap().print_run_id;
    let early = workflow.mark_print_run(&operator, run, LetterStep::Posted, NOW).await.unwrap();
    assert_eq!(early, 0, "what was not printed cannot be posted");
    assert_eq!(workflow.mark_print_run(&operator, run, LetterStep::Printed, NOW).await.unwrap(), 2);
    let held = workflow.print_run(&operator, run).await.unwrap().1;
    mark(&workflow, &city, &held[0].letter_no, &[LetterStep::Posted, LetterStep::Returned]).await;
    assert_eq!(workflow.mark_print_run(&operator, run, LetterStep::Posted, NOW).await.unwrap(), 1, "the other one");
    let (now, _) = workflow.print_run(&operator, run).await.unwrap();
    assert_eq!((now.n_queued, now.n_printed, now.n_posted, now.n_returned), (0, 0, 1, 1));
    let of = LettersOf { state: "returned".to_owned(), run: Some(run), before: None };
    assert_eq!(numbers(&letters(&workflow, &city, &of).await), [held[0].letter_no.as_str()]);
    let before = LettersOf { before: Some(held[1].letter_no.clone()), ..LettersOf::default() };
    assert_eq!(numbers(&letters(&workflow, &city, &before).await), [held[0].letter_no.as_str()]);
    let audited = events_of(db, "access.audited").await;
    let marks: Vec<&Value> = audited
        .iter()
        .filter(|event| event.payload["what"] == "letters_marked")
        .map(|event| &event.payload["rows"])
        .collect();
    assert_eq!(marks, [2, 1, 1, 1]);
}

async fn runs_and_letters_of_another_municipality_are_not_there(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let workflow = workflow(db.store());
    invite(&workflow, &city, &["A1"]).await;
    assert_eq!(workflow.print_runs(&other.operator(), None, 10).await.unwrap().1, 0);
    let none = workflow.make_print_run(&other.operator(), 10, NOW).await;
    assert!(matches!(none, Err(WorkflowError::Conflict(_))), "the letters of others do not wait here: {none:?}");
    let run = workflow.make_print_run(&city.operator(), 10, NOW).await.unwrap().print_run_id;
    let theirs = workflow.print_run(&other.operator(), run).await;
    assert!(matches!(theirs, Err(WorkflowError::NotFound(_))), "{theirs:?}");
    let marked = workflow.mark_print_run(&other.operator(), run, LetterStep::Printed, NOW).await;
    assert!(matches!(marked, Err(WorkflowError::NotFound(_))), "{marked:?}");
    assert!(workflow.print_runs(&other.operator(), None, 10).await.unwrap().0.is_empty());
    let of_run = LettersOf { run: Some(run), ..LettersOf::default() };
    assert!(letters(&workflow, &other, &of_run).await.is_empty());
    for actor in [city.parent(), city.staff()] {
        assert!(matches!(workflow.make_print_run(&actor, 10, NOW).await, Err(WorkflowError::Denied)));
    }
}

async fn every_letter_of_a_message_is_a_delivery_of_it(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    household(db, &city, "both", "北区2-2").await;
    workflow.reissue_child_qr(&operator, city.child.child_id, NOW).await.unwrap();
    // The register knows the household's 大阪花子 as A1's mother.
    move_people(&workflow, &city, &[movement("A1", "2025-07-07", "birth", "2025-07-10")], NOW).await;
    let relation = file(RELATION_HEADER, &["A1,P1,オオサカ ハナコ,1992-02-03,母".to_owned()]);
    assert!(import(&workflow, &city, ImportKind::HouseholdRelation, &relation, NOW).await.is_completed());
    workflow.run_solicitation(&operator, NOW).await.unwrap();
    told(db, &workflow, &city).await;

    let expected =
        [("coupon.qr_reissued", "qr_reissue"), ("coupon.solicited", "solicitation"), ("coupon.suspended", "message")];
    for (message_type, letter_kind) in expected {
        let id = inbox(db, &city.parent, message_type).await.remove(0).message_id;
        assert_eq!(ways(db, id).await, [("queued", None)], "{message_type}");
        let all = letters(&workflow, &city, &LettersOf::default()).await;
        let letter = all.iter().find(|letter| letter.letter_kind == letter_kind).expect(letter_kind);
        mark(&workflow, &city, &letter.letter_no, &[LetterStep::Printed, LetterStep::Posted]).await;
        assert_eq!(ways(db, id).await, [("posted", None)], "{message_type}");
        for step in ["message.paper_printed", "message.paper_posted"] {
            let noted = events_of(db, step).await;
            let own = noted.iter().find(|event| event.payload["message_id"] == json!(id)).expect(message_type);
            assert_eq!(own.payload["letter_kind"], letter_kind);
        }
    }
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let funnel = tx.delivery_funnel(&city.code, NOW, after(60)).await.unwrap();
    let by_letter: Vec<&str> =
        funnel.iter().filter(|row| row.channel == "paper").map(|row| row.message_type.as_str()).collect();
    assert_eq!(by_letter, expected.map(|(message_type, _)| message_type), "each has its line");
}

async fn a_letter_that_comes_back_is_told_and_goes_out_again(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    household(db, &city, "paper", "北区2-2").await;
    let id = told(db, &workflow, &city).await;
    let first = letters(&workflow, &city, &LettersOf::default()).await.remove(0);
    mark(&workflow, &city, &first.letter_no, &[LetterStep::Printed, LetterStep::Posted]).await;
    assert!(next_steps(&workflow, &city).await.is_empty(), "a letter that was posted has arrived");
    assert_eq!(workflow.due_escalations(after(1)).await.unwrap(), 0);

    mark(&workflow, &city, &first.letter_no, &[LetterStep::Returned]).await;
    assert_eq!(workflow.due_escalations(after(1)).await.unwrap(), 1);
    let told = inbox(db, &city.operator, "operator.contact_failed").await;
    assert_eq!(told.len(), 1);
    assert!(told[0].body.contains("1名"), "{}", told[0].body);
    assert_eq!(next_steps(&workflow, &city).await, [["address", "resend", "call"]]);

    household(db, &city, "paper", "北区9-9").await;
    let returned = db.begin_read(Wall::None).await.unwrap().deliveries_of(id).await.unwrap()[0].delivery_id;
    workflow.resend_delivery(&operator, returned, after(1)).await.unwrap();
    let twice = workflow.resend_delivery(&operator, returned, after(1)).await;
    assert!(matches!(twice, Err(WorkflowError::Conflict(_))), "{twice:?}");
    assert_eq!(ways(db, id).await, [("returned", None), ("queued", None)]);
    let all = letters(&workflow, &city, &LettersOf::default()).await;
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].state.as_str(), all[0].address.as_str()), ("queued", "北区9-9"));
    assert_eq!((&all[0].body, all[1].state.as_str()), (&first.body, "replaced"));
    mark(&workflow, &city, &all[0].letter_no, &[LetterStep::Printed, LetterStep::Posted]).await;
    assert!(next_steps(&workflow, &city).await.is_empty());
}

async fn a_household_without_an_address_is_told_of_and_gets_its_letter_later(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    household(db, &city, "paper", "").await;
    let id = told(db, &workflow, &city).await;
    assert_eq!(ways(db, id).await, [("failed", Some("no_address".to_owned()))]);
    let failed = events_of(db, "message.failed").await.remove(0).payload;
    assert_eq!((&failed["channel"], &failed["error_code"]), (&json!("paper"), &json!("no_address")));
    let kept = letters(&workflow, &city, &LettersOf::default()).await.remove(0);
    assert_eq!(kept.state, "unaddressed");
    let run = workflow.make_print_run(&operator, 10, NOW).await;
    assert!(matches!(run, Err(WorkflowError::Conflict(_))), "it cannot be printed: {run:?}");
    assert_eq!(workflow.due_escalations(after(1)).await.unwrap(), 1);
    assert_eq!(inbox(db, &city.operator, "operator.contact_failed").await.len(), 1);
    assert_eq!(next_steps(&workflow, &city).await, [["address", "resend", "call"]]);

    let delivery = db.begin_read(Wall::None).await.unwrap().deliveries_of(id).await.unwrap()[0].delivery_id;
    let nowhere = workflow.resend_delivery(&operator, delivery, after(1)).await;
    assert!(matches!(nowhere, Err(WorkflowError::Conflict(_))), "{nowhere:?}");
    household(db, &city, "paper", "北区9-9").await;
    workflow.resend_delivery(&operator, delivery, after(1)).await.unwrap();
    let run = workflow.make_print_run(&operator, 10, after(1)).await.unwrap();
    let held = workflow.print_run(&operator, run.print_run_id).await.unwrap().1;
    assert_eq!((held.len(), held[0].address.as_str(), &held[0].body), (1, "北区9-9", &kept.body));
    assert!(next_steps(&workflow, &city).await.is_empty(), "it is on its way");
}

async fn a_letter_without_an_address_keeps_its_code(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    household(db, &city, "both", "").await;
    workflow.reissue_child_qr(&operator, city.child.child_id, NOW).await.unwrap();
    let id = inbox(db, &city.parent, "coupon.qr_reissued").await.remove(0).message_id;
    assert_eq!(ways(db, id).await, [("failed", Some("no_address".to_owned()))]);
    let kept = letters(&workflow, &city, &LettersOf::default()).await.remove(0);
    household(db, &city, "both", "北区9-9").await;
    let delivery = db.begin_read(Wall::None).await.unwrap().deliveries_of(id).await.unwrap()[0].delivery_id;
    workflow.resend_delivery(&operator, delivery, after(1)).await.unwrap();
    let again = letters(&workflow, &city, &LettersOf::default()).await.remove(0);
    assert_eq!((again.letter_kind.as_str(), &again.qr_token), ("qr_reissue", &kept.qr_token), "with its code");
    assert_eq!((again.state.as_str(), again.address.as_str()), ("queued", "北区9-9"));
}

/// Letters of no message that reached nobody, and what to do about them.
async fn in_vain(workflow: &Workflow, city: &City) -> Vec<(String, Vec<&'static str>)> {
    let found = workflow.letters_in_vain(&city.operator(), 10, after(2)).await.unwrap();
    found.into_iter().map(|one| (one.letter.letter_no, one.next)).collect()
}

async fn a_letter_of_no_message_that_comes_back_is_listed_and_goes_to_where_the_register_has_the_child(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let other = City::found(db, &neighbour(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    invite(&workflow, &city, &["A1", "A2"]).await;
    let all = letters(&workflow, &city, &LettersOf::default()).await;
    let first = all.iter().find(|letter| letter.recipient_name.contains("子A1")).unwrap();
    let no = first.letter_no.as_str();
    let sent = [LetterStep::Printed, LetterStep::Posted];
    mark(&workflow, &city, no, &sent).await;
    assert!(in_vain(&workflow, &city).await.is_empty(), "a letter that was posted has arrived");
    let early = workflow.resend_letter(&operator, no, after(1)).await;
    assert!(matches!(early, Err(WorkflowError::Conflict(_))), "{early:?}");

    mark(&workflow, &city, no, &[LetterStep::Returned]).await;
    assert_eq!(in_vain(&workflow, &city).await, [(no.to_owned(), vec!["address", "resend"])]);
    assert!(next_steps(&workflow, &city).await.is_empty(), "no message went with it");
    assert!(in_vain(&workflow, &other).await.is_empty());
    let theirs = workflow.resend_letter(&other.operator(), no, after(1)).await;
    assert!(matches!(theirs, Err(WorkflowError::NotFound(_))), "{theirs:?}");
    let parents = workflow.letters_in_vain(&city.parent(), 10, after(2)).await;
    assert!(matches!(parents, Err(WorkflowError::Denied)), "{parents:?}");

    let moved = movement("A1", "2026-05-05", "change", "2026-05-20").replace("1-A1", "9-9");
    move_people(&workflow, &city, &[moved], after(1)).await;
    assert_eq!(in_vain(&workflow, &city).await, [(no.to_owned(), vec!["resend"])], "the address is another one now");
    let again_no = workflow.resend_letter(&operator, no, after(1)).await.unwrap();
    let twice = workflow.resend_letter(&operator, no, after(1)).await;
    assert!(matches!(twice, Err(WorkflowError::Conflict(_))), "{twice:?}");
    let all = letters(&workflow, &city, &LettersOf::default()).await;
    let again = all.iter().find(|letter| letter.letter_no == again_no).unwrap();
    assert_eq!((again.state.as_str(), again.address.as_str()), ("queued", "大阪市北区9-9"));
    assert_eq!((&again.body, &again.qr_token), (&first.body, &first.qr_token), "with its code");
    assert!(in_vain(&workflow, &city).await.is_empty(), "it is on its way");
    let audited = events_of(db, "access.audited").await;
    assert_eq!(audited.iter().filter(|event| event.payload["what"] == "resend").count(), 1);

    mark(&workflow, &city, &again_no, &sent).await;
    mark(&workflow, &city, &again_no, &[LetterStep::Returned]).await;
    assert_eq!(in_vain(&workflow, &city).await, [(again_no, vec!["address", "resend"])], "once for its household");
}

async fn a_letter_of_no_message_whose_child_moved_out_has_nowhere_to_go(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    invite(&workflow, &city, &["A1"]).await;
    let no = letters(&workflow, &city, &LettersOf::default()).await.remove(0).letter_no;
    mark(&workflow, &city, &no, &[LetterStep::Printed, LetterStep::Posted, LetterStep::Returned]).await;
    move_people(&workflow, &city, &[movement("A1", "2026-05-05", "move_out", "2026-05-20")], after(1)).await;
    assert_eq!(in_vain(&workflow, &city).await, [(no.clone(), vec!["address"])]);
    let refused = workflow.resend_letter(&operator, &no, after(1)).await;
    assert!(matches!(refused, Err(WorkflowError::Conflict(_))), "{refused:?}");
}

/// Corrects a message, and gives the new words.
async fn corrected(workflow: &Workflow, city: &City, id: MessageId) -> (String, String) {
    let new = Correction {
        title: "訂正のお知らせ".to_owned(), body: "正しくは次のとおりです。".to_owned()
    };
    workflow.correct_message(&city.operator(), id, &new, after(1)).await.unwrap();
    (new.title, new.body)
}

async fn a_letter_that_waits_follows_a_correction_and_a_withdrawal(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    household(db, &city, "paper", "北区2-2").await;
    let id = told(db, &workflow, &city).await;
    let new = corrected(&workflow, &city, id).await;
    let letter = letters(&workflow, &city, &LettersOf::default()).await.remove(0);
    assert_eq!((letter.title, letter.body), new);
    assert_eq!(ways(db, id).await, [("queued", None)], "it goes as it would have");

    workflow.withdraw_message(&operator, id, after(2)).await.unwrap();
    let all = letters(&workflow, &city, &LettersOf::default()).await;
    assert_eq!((all.len(), all[0].state.as_str(), all[0].withdrawn_at), (1, "withdrawn", Some(after(2))));
    assert_eq!(ways(db, id).await, [("superseded", Some("withdrawn".to_owned()))]);
    let run = workflow.make_print_run(&operator, 10, after(3)).await;
    assert!(matches!(run, Err(WorkflowError::Conflict(_))), "it has left the queue: {run:?}");
    let marked = workflow.mark_letters(&operator, &[letter.letter_no], LetterStep::Printed, after(3)).await.unwrap();
    assert_eq!(marked, 0);
}

async fn a_letter_in_a_run_stays_and_shows_that_its_message_was_withdrawn(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    household(db, &city, "paper", "北区2-2").await;
    let id = told(db, &workflow, &city).await;
    let run = workflow.make_print_run(&operator, 10, NOW).await.unwrap().print_run_id;
    let file = workflow.print_run_csv(&operator, run).await.unwrap();
    corrected(&workflow, &city, id).await;
    workflow.withdraw_message(&operator, id, after(2)).await.unwrap();
    assert_eq!(workflow.print_run_csv(&operator, run).await.unwrap(), file, "it may be on paper already");
    let (seen, held) = workflow.print_run(&operator, run).await.unwrap();
    assert_eq!((seen.n_queued, seen.n_withdrawn), (1, 1));
    assert_eq!((held[0].state.as_str(), held[0].withdrawn_at), ("queued", Some(after(2))), "the office sees it");

    let steps = [LetterStep::Printed, LetterStep::Posted, LetterStep::Returned];
    mark(&workflow, &city, &held[0].letter_no, &steps).await;
    assert_eq!(ways(db, id).await, [("returned", None)], "what became of it is noted all the same");
    let returned = db.begin_read(Wall::None).await.unwrap().deliveries_of(id).await.unwrap()[0].delivery_id;
    let again = workflow.resend_delivery(&operator, returned, after(3)).await;
    assert!(matches!(again, Err(WorkflowError::Conflict(_))), "{again:?}");
}

async fn a_letter_that_came_back_goes_out_again_in_corrected_words(db: &TestStore) {
    let city = City::found(db, &town(), 1_000).await;
    let (workflow, operator) = (workflow(db.store()), city.operator());
    household(db, &city, "paper", "北区2-2").await;
    let id = told(db, &workflow, &city).await;
    let first = letters(&workflow, &city, &LettersOf::default()).await.remove(0);
    let steps = [LetterStep::Printed, LetterStep::Posted, LetterStep::Returned];
    mark(&workflow, &city, &first.letter_no, &steps).await;
    let new = corrected(&workflow, &city, id).await;
    let returned = db.begin_read(Wall::None).await.unwrap().deliveries_of(id).await.unwrap()[0].delivery_id;
    workflow.resend_delivery(&operator, returned, after(2)).await.unwrap();
    let mut all = letters(&workflow, &city, &LettersOf::default()).await;
    assert_eq!((&all[1].title, &all[1].body), (&first.title, &first.body), "what was printed stays what it was");
    let again = all.remove(0);
    assert_eq!((again.title, again.body), new);
}

const FONT: &str = "dashboards/web/node_modules/@expo-google-fonts/noto-sans-jp/400Regular/NotoSansJP_400Regular.ttf";

/// Letters as the operator's list gives them.
async fn listed(operator: &Client, query: &str) -> Vec<Value> {
    let page = operator.get(&format!("/v1/print-queue?limit=200{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_prints_a_run_fetches_it_twice_and_marks_it() {
    let font = workspace_root().join(FONT);
    let settings = [("TODOKE_PRINT__FONT_FILE", font.display().to_string())];
    let todoke = Todoke::demo_with(DemoOptions::small(), &settings).await;
    let (operator, guardian) = (todoke.sign_in("operator").await, todoke.sign_in("guardian").await);
    let headers = [("content-type", "text/csv"), ("x-file-name", "movement.csv")];
    operator.request("POST", "/v1/imports/movement", &headers, MOVEMENT.to_owned()).await.expect(201);
    operator.post("/v1/solicitations/run", &json!({})).await.expect(200);
    let waiting = operator.get("/v1/print-runs").await.expect(200)["waiting"].as_i64().unwrap();
    assert!(waiting > 0, "the new child's household is invited by letter");

    assert_eq!(guardian.get("/v1/print-runs").await.status, 403);
    assert_eq!(guardian.post("/v1/print-runs", &json!({})).await.status, 403);
    assert_eq!(operator.post("/v1/print-runs", &json!({"limit": 0})).await.status, 422);
    let run = operator.post("/v1/print-runs", &json!({})).await.expect(201);
    let id = text(&run, "print_run_id");
    let n_letters = run["n_letters"].as_i64();
    assert!(n_letters >= Some(waiting), "{run}");

    let path = |file: &str| format!("/v1/print-runs/{id}/{file}");
    let (pdf, csv) = (operator.get(&path("letters.pdf")).await, operator.get(&path("letters.csv")).await);
    assert_eq!((pdf.status, pdf.header("content-type")), (200, "application/pdf"), "{}", pdf.text());
    assert!(pdf.body.starts_with(b"%PDF-"));
    assert_eq!(csv.status, 200, "{}", csv.text());
    let mark = async |path: &str, body: Value| operator.post(path, &body).await;
    assert_eq!(mark(&path("marks"), json!({"state": "lost"})).await.status, 422);
    let marked = mark(&path("marks"), json!({"state": "printed"})).await.expect(200);
    assert_eq!(marked["marked"].as_i64(), n_letters);
    for (file, first) in [("letters.pdf", pdf), ("letters.csv", csv)] {
        assert_eq!(operator.get(&path(file)).await.body, first.body, "{file} is the same whenever it is fetched");
    }

    let printed = listed(&operator, &format!("&state=printed&print_run_id={id}")).await;
    let letter_no = text(&printed[0], "letter_no");
    for (state, marked) in [("posted", 1), ("posted", 0), ("returned", 1)] {
        let answer = mark("/v1/print-queue/marks", json!({"letter_nos": [letter_no], "state": state})).await;
        assert_eq!(answer.expect(200)["marked"], marked, "{state}");
    }
    let returned = listed(&operator, "&state=returned").await;
    assert!(returned.iter().any(|letter| letter["letter_no"] == letter_no.as_str()), "{returned:?}");
    let runs = operator.get("/v1/print-runs").await.expect(200);
    assert_eq!((&runs["items"][0]["n_returned"], &runs["items"][0]["n_withdrawn"]), (&json!(1), &json!(0)), "{runs}");
    let unknown = "/v1/print-runs/01900000-0000-7000-8000-000000000000/letters.pdf";
    assert_eq!(operator.get(unknown).await.status, 404);
    todoke.stop().await;
}
