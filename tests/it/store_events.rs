//! The operational log, its hand-over to the lake, and live publications, on both databases.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use serde_json::Map;
use todoke_domain::{
    Event, Role, Timestamp,
    channel::Channel,
    ids::{EventId, MessageId},
};
use todoke_store::{Store, Wall, message::Message};
use todoke_tests::stores::TestStore;

use crate::city::{City, NOW, town};

const WRITERS: usize = 50;

todoke_tests::on_both_databases! {
    events_of_a_subject_are_numbered_without_gaps_under_concurrency,
    a_rolled_back_event_takes_no_number,
    every_event_reaches_the_lake_in_exactly_one_batch,
    a_batch_is_the_same_after_a_crash_until_it_is_finished,
    two_relays_never_give_one_event_two_batches,
    no_relay_passes_over_a_batch_that_is_not_finished,
    events_leave_the_log_when_they_are_old_and_in_the_lake,
    positions_of_a_channel_have_no_gap_under_concurrency,
    a_rolled_back_publication_takes_no_position,
    pruned_publications_are_never_passed_off_as_complete,
    a_publication_that_waited_for_its_turn_is_not_pruned_out_of_the_middle,
    the_newest_leave_no_place_to_unwanted_types,
    whoever_knows_an_old_key_finds_nobody_by_it,
}

pub(crate) fn event(event_type: &str, subject: &str, at: Timestamp) -> Event {
    Event {
        event_id: EventId::new(at),
        event_type: event_type.to_owned(),
        schema_version: 1,
        occurred_at: at,
        recorded_at: at,
        municipality_code: town(),
        actor_role: "system".to_owned(),
        actor_key: None,
        source_channel: "timer".to_owned(),
        subject_kind: "coupon".to_owned(),
        subject_id: subject.to_owned(),
        subject_seq: 0,
        correlation_id: None,
        causation_id: None,
        recorded_offline: false,
        programme_code: None,
        facility_id: None,
        payload: Map::new(),
    }
}

pub(crate) async fn append(store: &Store, subject: &str) -> Event {
    append_at(store, subject, NOW).await
}

async fn append_at(store: &Store, subject: &str, at: Timestamp) -> Event {
    let mut events = [event("coupon.used", subject, at)];
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    tx.append_events(&mut events).await.unwrap();
    tx.commit().await.unwrap();
    let [event] = events;
    event
}

async fn events_of_a_subject_are_numbered_without_gaps_under_concurrency(db: &TestStore) {
    let appended = join_all((0..WRITERS).map(|n| {
        let store = db.store();
        async move { append(&store, if n % 2 == 0 { "even" } else { "odd" }).await }
    }))
    .await;
    for subject in ["even", "odd"] {
        let seqs: BTreeSet<u64> =
            appended.iter().filter(|event| event.subject_id == subject).map(|event| event.subject_seq).collect();
        assert_eq!(seqs, (1..=25).collect(), "{subject}");
    }
}

async fn a_rolled_back_event_takes_no_number(db: &TestStore) {
    assert_eq!(append(db, "c").await.subject_seq, 1);
    let mut dropped = db.begin_write(Wall::None).await.unwrap();
    let mut events = [event("coupon.used", "c", NOW)];
    dropped.append_events(&mut events).await.unwrap();
    assert_eq!(events[0].subject_seq, 2);
    drop(dropped);
    assert_eq!(append(db, "c").await.subject_seq, 2);
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    assert_eq!(tx.event_counts().await.unwrap(), (2, 2));
    assert_eq!(tx.oldest_waiting_for_lake().await.unwrap(), Some(NOW));
}

async fn every_event_reaches_the_lake_in_exactly_one_batch(db: &TestStore) {
    let writing = join_all((0..WRITERS).map(|n| {
        let store = db.store();
        async move { append(&store, &format!("s{n}")).await.event_id }
    }));
    let relaying = async {
        let (mut seen, mut batch_no) = (Vec::new(), 0);
        while seen.len() < WRITERS {
            if let Some(batch) = db.assign_lake_batch(batch_no, 7).await.unwrap() {
                assert_eq!(batch.batch_no, batch_no + 1, "batches are numbered without gaps");
                assert!((1..=7).contains(&batch.events.len()));
                batch_no = batch.batch_no;
                seen.extend(batch.events.iter().map(|event| event.event_id));
                db.finish_lake_batches(batch_no).await.unwrap();
            } else {
                tokio::task::yield_now().await;
            }
        }
        seen
    };
    let (written, relayed) =
        tokio::time::timeout(Duration::from_secs(60), futures_util::future::join(writing, relaying)).await.unwrap();
    let (unique, all): (BTreeSet<_>, usize) = (relayed.iter().copied().collect(), relayed.len());
    assert_eq!(all, unique.len(), "an event was in two batches");
    assert_eq!(unique, written.into_iter().collect());
    assert!(db.assign_lake_batch(0, 7).await.unwrap().is_none());
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    assert_eq!(tx.event_counts().await.unwrap(), (50, 0));
    assert_eq!(tx.oldest_waiting_for_lake().await.unwrap(), None);
}

async fn a_batch_is_the_same_after_a_crash_until_it_is_finished(db: &TestStore) {
    for n in 0..5 {
        append(db, &format!("s{n}")).await;
    }
    let ids = |events: &[Event]| events.iter().map(|event| event.event_id).collect::<Vec<_>>();
    let first = db.assign_lake_batch(0, 3).await.unwrap().unwrap();
    append(db, "later").await;
    // Another process after a crash asks from the beginning and must get the same batch, then the next.
    let reopened = db.open_again().await;
    let again = reopened.assign_lake_batch(0, 3).await.unwrap().unwrap();
    assert_eq!((again.batch_no, ids(&again.events)), (first.batch_no, ids(&first.events)));
    let second = reopened.assign_lake_batch(first.batch_no, 3).await.unwrap().unwrap();
    assert_eq!((second.batch_no, second.events.len()), (2, 3));
    assert!(reopened.assign_lake_batch(second.batch_no, 3).await.unwrap().is_none());
    reopened.finish_lake_batches(first.batch_no).await.unwrap();
    let left = reopened.assign_lake_batch(0, 3).await.unwrap().unwrap();
    assert_eq!((left.batch_no, ids(&left.events)), (second.batch_no, ids(&second.events)));
    reopened.close().await;
}

async fn two_relays_never_give_one_event_two_batches(db: &TestStore) {
    for n in 0..20 {
        append(db, &format!("s{n}")).await;
    }
    let (store, other) = (db.store(), db.open_again().await);
    let (one, two) = futures_util::future::join(store.assign_lake_batch(0, 10), other.assign_lake_batch(0, 10)).await;
    let batches = [one, two].map(|batch| batch.unwrap().expect("a batch"));
    for batch in &batches {
        let held: BTreeSet<_> = batch.events.iter().map(|event| event.event_id).collect();
        assert_eq!(held.len(), 10);
        for other in &batches {
            let same = other.batch_no == batch.batch_no;
            let overlap = other.events.iter().any(|event| held.contains(&event.event_id));
            assert_eq!(same, overlap, "batches {} and {}", batch.batch_no, other.batch_no);
        }
    }
    other.close().await;
}

/// A relay that skipped a batch of another one would report it as done with its own: whatever happened to that other
/// one, the batch would reach the lake no more.
async fn no_relay_passes_over_a_batch_that_is_not_finished(db: &TestStore) {
    let writing = join_all((0..WRITERS).map(|n| {
        let store = db.store();
        async move { append(&store, &format!("s{n}")).await }
    }));
    let other = db.open_again().await;
    let relay = async |store: Store| {
        let (mut seen, mut batch_no) = (Vec::new(), 0);
        while seen.len() < WRITERS {
            if let Some(batch) = store.assign_lake_batch(batch_no, 3).await.unwrap() {
                assert_eq!(batch.batch_no, batch_no + 1, "a batch was passed over");
                batch_no = batch.batch_no;
                seen.extend(batch.events.iter().map(|event| event.event_id));
            } else {
                tokio::task::yield_now().await;
            }
        }
        seen
    };
    let relaying = futures_util::future::join3(writing, relay(db.store()), relay(other.clone()));
    let (_, one, two) = tokio::time::timeout(Duration::from_secs(60), relaying).await.unwrap();
    assert_eq!(one, two, "both relays got the same batches");
    other.close().await;
}

async fn forget(db: &TestStore, before: Timestamp, n_max: i64) -> u64 {
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let n = tx.forget_events(before, n_max).await.unwrap();
    tx.commit().await.unwrap();
    n
}

/// Subjects of the events that the log still has of those in the lake, and how many wait for it.
async fn in_log(db: &TestStore) -> (Vec<String>, i64) {
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let in_lake = tx.events_in_lake(0, 100).await.unwrap();
    let (_, waiting) = tx.event_counts().await.unwrap();
    (in_lake.into_iter().map(|(_, event)| event.subject_id).collect(), waiting)
}

async fn events_leave_the_log_when_they_are_old_and_in_the_lake(db: &TestStore) {
    let store = db.store();
    let day = Duration::from_secs(86_400);
    for subject in ["a", "b", "c", "late"] {
        append_at(&store, subject, NOW.minus(day)).await;
    }
    append(&store, "young").await;
    let first = db.assign_lake_batch(0, 3).await.unwrap().unwrap();
    assert_eq!(forget(db, NOW, 100).await, 0, "the lake has none of them yet");
    db.finish_lake_batches(first.batch_no).await.unwrap();
    assert_eq!((forget(db, NOW.minus(day), 100).await, forget(db, NOW, 2).await), (0, 2));
    assert_eq!(in_log(db).await, (vec!["c".to_owned()], 2));
    assert_eq!(forget(db, NOW, 100).await, 1);
    assert_eq!((in_log(db).await, forget(db, NOW, 100).await), ((Vec::new(), 2), 0), "what waits for the lake stays");

    let second = db.assign_lake_batch(first.batch_no, 100).await.unwrap().unwrap();
    assert_eq!((second.batch_no, second.events.len()), (2, 2));
    db.finish_lake_batches(second.batch_no).await.unwrap();
    assert_eq!(forget(db, NOW, 100).await, 1);
    assert_eq!(in_log(db).await, (vec!["young".to_owned()], 0));
    // With nothing left all numbers go on.
    assert_eq!(forget(db, NOW.plus(day), 100).await, 1);
    assert_eq!(in_log(db).await, (Vec::new(), 0));
    assert_eq!(append(&store, "a").await.subject_seq, 2);
    let third = db.assign_lake_batch(second.batch_no, 100).await.unwrap().unwrap();
    assert_eq!((third.batch_no, third.events.len()), (3, 1));
    assert_eq!(in_log(db).await, (Vec::new(), 1));
    db.finish_lake_batches(third.batch_no).await.unwrap();
    assert_eq!(in_log(db).await, (vec!["a".to_owned()], 0));
}

fn channel() -> Channel {
    Channel::Guardian("01900000-0000-7000-8000-000000000001".parse().unwrap())
}

async fn publish(store: &Store, at: Timestamp, data: &str) -> i64 {
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    let published = tx.publish(&[(channel(), data.to_owned()), (Channel::System, data.to_owned())], at).await.unwrap();
    tx.commit().await.unwrap();
    published.iter().find(|publication| publication.channel == channel().to_string()).unwrap().position
}

async fn positions_of_a_channel_have_no_gap_under_concurrency(db: &TestStore) {
    let given = join_all((0..WRITERS).map(|n| {
        let store = db.store();
        async move { publish(&store, NOW, &format!("{{\"n\":{n}}}")).await }
    }))
    .await;
    assert_eq!(given.iter().copied().collect::<BTreeSet<_>>(), (1..=50).collect());
    let page =
        db.begin_read(Wall::None).await.unwrap().publications_since(&channel().to_string(), 0, 100).await.unwrap();
    assert_eq!(
        page.publications.iter().map(|publication| publication.position).collect::<Vec<_>>(),
        (1..=50).collect::<Vec<_>>()
    );
    assert_eq!((page.top, page.complete), (50, true));
}

async fn a_rolled_back_publication_takes_no_position(db: &TestStore) {
    let mut dropped = db.begin_write(Wall::None).await.unwrap();
    dropped.publish(&[(channel(), "{}".to_owned())], NOW).await.unwrap();
    drop(dropped);
    assert_eq!(publish(db, NOW, "{}").await, 1);
}

async fn pruned_publications_are_never_passed_off_as_complete(db: &TestStore) {
    for n in 0..10 {
        publish(db, NOW.plus(Duration::from_secs(n)), "{}").await;
    }
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.prune_publications(NOW.plus(Duration::from_secs(4))).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let name = channel().to_string();
    let page = async |tx: &mut todoke_store::Tx, after: i64| {
        let page = tx.publications_since(&name, after, 100).await.unwrap();
        (page.publications.first().map(|first| first.position), page.top, page.complete)
    };
    assert_eq!(page(&mut tx, 0).await, (Some(5), 10, false));
    assert_eq!(page(&mut tx, 3).await, (Some(5), 10, false));
    assert_eq!(page(&mut tx, 4).await, (Some(5), 10, true));
    assert_eq!(page(&mut tx, 10).await, (None, 10, true));
    drop(tx);
    // Everything pruned: the position goes on, and nothing is claimed about what is gone.
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.prune_publications(NOW.plus(Duration::from_secs(100))).await.unwrap();
    assert_eq!(page(&mut tx, 4).await, (None, 10, false));
    tx.commit().await.unwrap();
    assert_eq!(publish(db, NOW, "{}").await, 11);
}

/// The instant of a publication is taken before it waits for the channel, so instants need not rise with
/// positions. What is left after pruning must still be without a hole, or say that it is not.
async fn a_publication_that_waited_for_its_turn_is_not_pruned_out_of_the_middle(db: &TestStore) {
    let early = NOW.minus(Duration::from_secs(1));
    for at in [NOW, early, NOW] {
        publish(db, at, "{}").await;
    }
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.prune_publications(NOW).await.unwrap();
    let page = tx.publications_since(&channel().to_string(), 0, 100).await.unwrap();
    let positions: Vec<i64> = page.publications.iter().map(|publication| publication.position).collect();
    assert!(!page.complete || positions == [1, 2, 3], "{positions:?} passed off as complete");
}

async fn the_newest_leave_no_place_to_unwanted_types(db: &TestStore) {
    let typed = |kind: &str| format!(r#"{{"type":"{kind}","data":{{"type":"other"}}}}"#);
    publish(db, NOW, "{}").await;
    for n in 0..30 {
        publish(db, NOW, &typed(&format!("news.{n}"))).await;
        for _ in 0..3 {
            publish(db, NOW, &typed("moving")).await;
        }
    }
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let name = channel().to_string();
    let newest = tx.newest_publications(&name, &["moving", "absent"], 20).await.unwrap();
    let expected: Vec<String> = (10..30).rev().map(|n| typed(&format!("news.{n}"))).collect();
    assert_eq!(newest.iter().map(|one| &one.data).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!(newest[0].position, 1 + 4 * 29 + 1);
    let all = tx.newest_publications(&name, &[], 1_000).await.unwrap();
    assert_eq!(all.iter().map(|one| one.position).collect::<Vec<_>>(), (1..=121).rev().collect::<Vec<_>>());
    assert!(tx.newest_publications(&name, &["moving"], 0).await.unwrap().is_empty());
}

async fn whoever_knows_an_old_key_finds_nobody_by_it(db: &TestStore) {
    const NEW: i64 = 1_234_567_890_123_456_789;
    let city = City::found(db, &town(), 1_000).await;
    let old = city.parent.person_key.unwrap();
    let (subject, once) = (old.to_string(), |key: i64| format!("A01:{key}:once"));
    assert_eq!(append(&db.store(), &subject).await.subject_seq, 1);
    append(&db.store(), "somebody-else").await;
    let told = Message {
        message_id: MessageId::new(NOW),
        subject_id: subject.clone(),
        dedupe_key: once(old),
        link: format!("/people/{old}"),
        ..city.message.clone()
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    tx.insert_messages(std::slice::from_ref(&told)).await.unwrap();
    tx.commit().await.unwrap();
    publish(db, NOW, &format!("{{\"subject_id\":\"{old}\"}}")).await;
    let mut tx = db.begin_read(Wall::Around(town())).await.unwrap();
    let (n_events, n_naming) = tx.events_reread(&town(), old).await.unwrap();
    assert!(n_events >= 2 && n_naming == 1, "{n_naming} of {n_events}");
    assert_eq!(tx.events_reread(&town(), NEW).await.unwrap(), (n_events, 0));
    drop(tx);

    let mut tx = db.begin_write(Wall::Around(town())).await.unwrap();
    tx.replace_person_key(&town(), old, NEW).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = db.begin_read(Wall::None).await.unwrap();
    let mail = city.parent.email.as_deref().unwrap();
    let found = tx.person_keys(&town(), mail, Role::Guardian).await.unwrap();
    assert_eq!(found, [NEW]);
    assert_eq!(tx.message_of_key(&once(old)).await.unwrap(), None);
    assert_eq!(tx.message_of_key(&once(NEW)).await.unwrap(), Some(told.message_id), "it is not sent a second time");
    let published = tx.publications_since(&channel().to_string(), 0, 100).await.unwrap().publications;
    assert_eq!(published.last().unwrap().data, format!("{{\"subject_id\":\"{NEW}\"}}"));
    drop(tx);
    assert_eq!(append(&db.store(), &subject).await.subject_seq, 1, "nobody counts under the old key");
}
