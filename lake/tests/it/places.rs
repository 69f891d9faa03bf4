//! What must hold wherever a lake lies: in a folder, and in a bucket of an S3-compatible server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use todoke_lake::{
    CompactOptions, EventRows, Lake, LakeError, LakeLocation, LakeOptions, LakeView, LocationError, Origin, Recorded,
    Retention, Scope, pin_lake, search_lake,
};

use crate::{
    bucket::{ObjectStore, at_endpoint},
    support::*,
};

/// One test for a folder and one for a bucket, of each contract.
macro_rules! over_both_places {
    ($($contract:ident),+ $(,)?) => {
        mod in_a_folder {
            use todoke_lake::LakeLocation;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $contract() {
                    let dir = tempfile::tempdir().unwrap();
                    super::$contract(LakeLocation::from(dir.path())).await;
                }
            )+
        }

        mod in_a_bucket {
            use crate::bucket::ObjectStore;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $contract() {
                    let store = ObjectStore::start(&["lake"]);
                    super::$contract(store.location("s3://lake/city")).await;
                }
            )+
        }
    };
}

over_both_places!(
    a_lake_is_written_read_and_kept_in_order,
    nodes_that_begin_and_commit_at_once_lose_and_double_nothing,
    two_compactions_of_the_same_files_never_double_a_row,
    a_compaction_is_not_lost_because_another_node_commits_meanwhile,
    days_past_their_time_and_people_leave,
    a_pinned_version_goes_to_another_place_and_is_the_same_there,
    a_note_is_left_by_one_and_seen_by_all_until_it_is_taken_away,
);

async fn open_at(place: &LakeLocation) -> Arc<Lake> {
    Lake::open(place, LakeOptions { fsync: false, ..LakeOptions::default() }).await.unwrap()
}

fn tomorrow() -> todoke_domain::Timestamp {
    at("2026-11-22T03:00:00Z")
}

async fn rows_of(view: &LakeView, group: &str) -> i64 {
    let session = session(&view.snapshot(), &Scope::All);
    number(&session, &format!("SELECT count(*) FROM events_{group}")).await
}

/// Batches of one view each.
async fn filled(place: &LakeLocation, n_batches: u64) -> Arc<Lake> {
    let lake = open_at(place).await;
    for n in 1..=n_batches {
        lake.append(Origin::new("record", n as i64), &rows(&[view(n, CHIYODA)]), now()).await.unwrap();
    }
    lake
}

async fn a_lake_is_written_read_and_kept_in_order(place: LakeLocation) {
    let before = LakeView::open_readonly(&place).await.unwrap();
    assert_eq!(rows_of(&before, "app").await, 0);
    assert!(place.is_empty().await.unwrap(), "reading makes nothing");
    let lake = filled(&place, 5).await;
    assert!(!place.is_empty().await.unwrap());
    assert!(before.refresh().await.unwrap());
    assert_eq!(rows_of(&before, "app").await, 5);
    lake.checkpoint("app").await.unwrap();
    let compacted = lake.compact("app", &CompactOptions::default(), tomorrow()).await.unwrap();
    assert_eq!((compacted.files_before, compacted.files_after), (5, 1));
    let check = lake.view().verify(&Recorded::default()).await;
    assert!(check.faults.is_empty() && check.rows == 5, "{check:?}");
    let forty_years = Duration::from_secs(40 * 365 * 86_400);
    assert_eq!(lake.vacuum("app", forty_years).await.unwrap(), 0, "nothing is that old");
    drop(lake);
    // What is taken up again knows what it has.
    let again = open_at(&place).await;
    assert_each_once(&again, "app", 5).await;
    assert_eq!(again.committed_version("record").await.unwrap(), Some(5));
    let repeated = again.append(Origin::new("record", 5), &rows(&[view(5, CHIYODA)]), now()).await.unwrap();
    assert_eq!(repeated.rows, 0);
}

/// Commits what is staged. A refusal leaves it staged, and the sink tries again; so does this.
async fn flushed(lake: &Lake) {
    let mut refused = None;
    for _ in 0..20 {
        match lake.flush(now()).await {
            Ok(_) => return,
            Err(error) => refused = Some(error),
        }
    }
    panic!("refused twenty times: {refused:?}");
}

const BATCHES: u64 = 8;

/// What a node does: its own stream, and the record's, which every node takes.
async fn work(lake: Arc<Lake>, node: &'static str, first: u64) {
    for batch in 0..BATCHES {
        let version = batch as i64 + 1;
        let own: EventRows = rows(&[view(first + batch, CHIYODA)]);
        let record = rows(&[view(1_000 + batch, MINATO), suspension(2_000 + batch, CHIYODA)]);
        lake.stage(Origin::new(node, version), &own).await.unwrap();
        lake.stage(Origin::new("record", version), &record).await.unwrap();
        flushed(&lake).await;
    }
}

async fn nodes_that_begin_and_commit_at_once_lose_and_double_nothing(place: LakeLocation) {
    let (a, b) = tokio::join!(open_at(&place), open_at(&place));
    let mut nodes = tokio::task::JoinSet::new();
    nodes.spawn(work(Arc::clone(&a), "usage:a", 100));
    nodes.spawn(work(Arc::clone(&b), "usage:b", 200));
    while let Some(ended) = nodes.join_next().await {
        ended.unwrap();
    }
    let n = BATCHES as i64;
    for lake in [a, b] {
        lake.view().refresh().await.unwrap();
        assert_each_once(&lake, "app", 3 * n).await;
        assert_each_once(&lake, "coupon", n).await;
    }
    let reader = LakeView::open_readonly(&place).await.unwrap();
    let check = reader.verify(&Recorded::default()).await;
    assert!(check.is_sound(), "{check:?}");
}

async fn two_compactions_of_the_same_files_never_double_a_row(place: LakeLocation) {
    drop(filled(&place, 6).await);
    let (a, b) = (open_at(&place).await, open_at(&place).await);
    let options = CompactOptions::default();
    let outcomes = tokio::join!(a.compact("app", &options, tomorrow()), b.compact("app", &options, tomorrow()));
    assert!(outcomes.0.is_ok() || outcomes.1.is_ok(), "{outcomes:?}");
    for lake in [a, b] {
        lake.view().refresh().await.unwrap();
        // Who was second finds nothing left to do.
        lake.compact("app", &options, tomorrow()).await.unwrap();
        assert_each_once(&lake, "app", 6).await;
        assert_eq!(lake.stats().iter().find(|table| table.table == "app").unwrap().files, 1);
    }
}

async fn a_compaction_is_not_lost_because_another_node_commits_meanwhile(place: LakeLocation) {
    drop(filled(&place, 6).await);
    let (a, b) = (open_at(&place).await, open_at(&place).await);
    // Of this `a` has not heard when it reads the files that it joins.
    let (origin, batch) = (Origin::new("record", 7), rows(&[view(7, CHIYODA)]));
    assert_eq!(b.append(origin.clone(), &batch, now()).await.unwrap().rows, 1);
    let done = a.compact("app", &CompactOptions::default(), tomorrow()).await.unwrap();
    assert!(done.files_before >= 6, "{done:?}");
    b.view().refresh().await.unwrap();
    for lake in [&a, &b] {
        assert_each_once(lake, "app", 7).await;
    }
    assert_eq!(a.append(origin, &batch, now()).await.unwrap().rows, 0, "it is known whose rows came meanwhile");
}

const FORGOTTEN: i64 = 1_234_567_890_123_456_789;

async fn days_past_their_time_and_people_leave(place: LakeLocation) {
    let lake = filled(&place, 2).await;
    let mut of_somebody = view(3, CHIYODA);
    of_somebody.actor_key = Some(FORGOTTEN);
    let mut old = view(4, CHIYODA);
    old.occurred_at = at("2010-04-02T01:00:00Z");
    lake.append(Origin::new("record", 3), &rows(&[of_somebody, old]), now()).await.unwrap();
    let expired = lake.expire("app", &Retention::default(), now()).await.unwrap();
    assert_eq!((expired.files, expired.rows), (1, 1));
    assert_each_once(&lake, "app", 3).await;

    let keys = BTreeSet::from([FORGOTTEN]);
    let found = search_lake(&place, &keys).await.unwrap().found;
    assert!(found.iter().any(|path| path.ends_with(".parquet")), "{found:?}");
    let erasure = todoke_lake::Erasure {
        municipality: CHIYODA.parse().unwrap(),
        stand_ins: BTreeMap::from([(FORGOTTEN, 8_765_432_109_876_543_210)]),
        removed_from: BTreeSet::from(["app".to_owned()]),
    };
    let erased = lake.erase(&erasure, now()).await.unwrap();
    assert_eq!((erased["app"].rows_removed, erased["app"].files_replaced), (1, 1));
    let searched = search_lake(&place, &keys).await.unwrap();
    assert!(searched.found.is_empty() && searched.files > 0 && searched.rows >= 2, "{searched:?}");
    assert_each_once(&lake, "app", 2).await;
}

async fn a_pinned_version_goes_to_another_place_and_is_the_same_there(place: LakeLocation) {
    let lake = filled(&place, 3).await;
    lake.checkpoint("app").await.unwrap();
    lake.append(Origin::new("record", 4), &rows(&[view(4, CHIYODA)]), now()).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    let pinned = pin_lake(&place, copy.path()).await.unwrap();
    // What comes after the pin is not in it, and takes nothing away from it.
    lake.append(Origin::new("record", 5), &rows(&[view(5, CHIYODA)]), now()).await.unwrap();
    lake.compact("app", &CompactOptions::default(), tomorrow()).await.unwrap();
    for path in &pinned.data_files {
        place.fetch(path, copy.path()).await.unwrap();
    }
    let store = ObjectStore::start(&["other"]);
    let folder = tempfile::tempdir().unwrap();
    for target in [LakeLocation::from(folder.path()), store.location("s3://other")] {
        target.store_folder(copy.path()).await.unwrap();
        let there = open_at(&target).await;
        assert_each_once(&there, "app", 4).await;
        assert_eq!(there.committed_version("record").await.unwrap(), Some(4));
    }
    let again = store.location("s3://other").store_folder(copy.path()).await;
    assert!(
        matches!(again, Err(LakeError::Location(LocationError::File { .. }))),
        "nothing is written over: {again:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_says_whether_it_can_hold_a_lake() {
    let store = ObjectStore::start(&["lake", "kept:versioned"]);
    let probed = store.location("s3://lake/city").probe().await.unwrap();
    assert!(!probed.keeps_versions);
    assert!(store.location("s3://lake/city").is_empty().await.unwrap(), "a probe leaves nothing behind");
    assert!(store.location("s3://kept").probe().await.unwrap().keeps_versions);
    let missing = store.location("s3://nowhere/city").probe().await;
    assert!(matches!(&missing, Err(LocationError::NoBucket { bucket, .. }) if bucket == "nowhere"), "{missing:?}");
    // A port that was free a moment ago, and nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = at_endpoint("s3://lake/city", port).unwrap().probe().await;
    assert!(matches!(&away, Err(LocationError::Away { .. })), "{away:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lakes_in_one_bucket_do_not_see_each_other() {
    let store = ObjectStore::start(&["lake"]);
    let (city, town) = (store.location("s3://lake/city"), store.location("s3://lake/city-2"));
    let first = filled(&city, 2).await;
    let second = open_at(&town).await;
    assert_each_once(&second, "app", 0).await;
    assert!(!town.is_empty().await.unwrap());
    assert_each_once(&first, "app", 2).await;
    assert_eq!(second.committed_version("record").await.unwrap(), None);
}

async fn a_note_is_left_by_one_and_seen_by_all_until_it_is_taken_away(place: LakeLocation) {
    assert!(place.notes().await.unwrap().is_empty());
    let lake = filled(&place, 1).await;
    assert!(place.note("first", "host-1:/srv/a").await.unwrap());
    assert!(place.note("second", "host-2:/srv/b").await.unwrap());
    assert!(!place.note("first", "somebody else").await.unwrap(), "it is there already");
    let expected = [("first", "host-1:/srv/a"), ("second", "host-2:/srv/b")];
    let expected = BTreeMap::from(expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    assert_eq!(place.notes().await.unwrap(), expected);
    assert_eq!(place.read_note("second").await.unwrap().as_deref(), Some("host-2:/srv/b"));
    assert_eq!(place.read_note("third").await.unwrap(), None);
    for text in ["said once", "said again"] {
        place.put_note("third", text).await.unwrap();
        assert_eq!(place.read_note("third").await.unwrap().as_deref(), Some(text));
    }
    place.remove_note("third").await.unwrap();
    assert_eq!(place.notes().await.unwrap(), expected);
    // No table: the lake is read and copied as before.
    assert_each_once(&lake, "app", 1).await;
    let copy = tempfile::tempdir().unwrap();
    let pinned = pin_lake(&place, copy.path()).await.unwrap();
    assert!(pinned.log_files.iter().chain(&pinned.data_files).all(|file| !file.starts_with("nodes/")));
    for _ in 0..2 {
        place.remove_note("first").await.unwrap();
        assert_eq!(place.notes().await.unwrap().into_keys().collect::<Vec<_>>(), ["second"]);
    }
}
