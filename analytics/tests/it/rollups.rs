//! R05 from days that are kept: the same figures as from the events, whatever happened to the rows meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use todoke_analytics::{Engine, EngineConfig, LakeSource, ReportId, ReportRequest, RollupConfig, forget_rollups};
use todoke_domain::{Event, Timestamp};
use todoke_lake::{CompactOptions, Erasure, EventRows, Lake, LakeOptions, Origin, Retention, search_keys};

use crate::{
    city::{City, OSAKA, Row, at, code, request, rows},
    ledger::Seed,
};

const CHIYODA: &str = "131016";
const PERIODS: [(&str, &str); 2] = [("2026-04-10", "2026-05-20"), ("2026-05-04", "2026-05-04")];
/// Every way R05 can be split by alone, and combinations of those that go together.
const SPLITS: [&str; 15] = [
    "",
    "day",
    "week",
    "month",
    "platform",
    "app_version",
    "role",
    "day,role",
    "week,platform",
    "month,platform,app_version,role",
    "screen_id",
    "error_kind",
    "month,screen_id,error_kind",
    "message_type",
    "day,message_type",
];

fn now() -> Timestamp {
    at("2026-11-21", "10:00")
}

/// A lake, an engine that reads events and one that keeps days.
struct Scene {
    lake: Arc<Lake>,
    by_events: Engine,
    by_days: Engine,
    dir: TempDir,
    version: i64,
}

impl Scene {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let options = LakeOptions { fsync: false, ..LakeOptions::default() };
        let lake = Lake::open(&dir.path().join("lake"), options).await.unwrap();
        let by_events = Engine::new(Arc::new(LakeSource::new(lake.view())), EngineConfig::default()).unwrap();
        let by_days = restarted(&lake, dir.path().join("rollups"));
        Self { lake, by_events, by_days, dir, version: 0 }
    }

    /// As after a restart: only what is on disk is known.
    fn restart(&mut self) {
        self.by_days = restarted(&self.lake, self.folder());
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("rollups")
    }

    async fn stage(&mut self, events: &[Event]) {
        let rows = EventRows::build(events, now()).unwrap();
        assert!(rows.rejected().is_empty(), "{:?}", rows.rejected());
        self.version += 1;
        self.lake.stage(Origin::new("record", self.version), &rows).await.unwrap();
    }

    async fn append(&mut self, events: &[Event]) {
        self.stage(events).await;
        self.lake.flush(now()).await.unwrap();
    }

    async fn figures(&self, engine: &Engine, town: &str, (from, to): (&str, &str), by: &str) -> Vec<Row> {
        let request = ReportRequest { municipality: code(town), ..request(ReportId::AppUsage, from, to, by) };
        rows(&engine.report(&request).await.unwrap())
    }

    /// The same figures from days and from events, in every split.
    async fn agrees(&self, town: &str, splits: &[&str], what: &str) {
        for period in PERIODS {
            for by in splits {
                let told = self.figures(&self.by_days, town, period, by).await;
                let counted = self.figures(&self.by_events, town, period, by).await;
                assert_eq!(told, counted, "{what}: {town} {period:?} by [{by}]");
            }
        }
    }

    fn stored(&self, town: &str) -> BTreeMap<String, PathBuf> {
        let Ok(listed) = fs::read_dir(self.folder().join(town)) else { return BTreeMap::new() };
        listed
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap().replace(".day", ""), entry.path()))
            .collect()
    }

    /// Marks all files as old, so that those written from now on can be told.
    fn age(&self, town: &str) {
        for path in self.stored(town).values() {
            fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
    }

    /// The days whose files were written after they were marked.
    fn written(&self, town: &str) -> Vec<String> {
        let is_new = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap() != SystemTime::UNIX_EPOCH;
        self.stored(town).into_iter().filter(|(_, path)| is_new(path)).map(|(day, _)| day).collect()
    }
}

fn restarted(lake: &Lake, dir: PathBuf) -> Engine {
    let config = EngineConfig { rollups: Some(RollupConfig { dir, bytes_max: 64 << 20 }), ..EngineConfig::default() };
    Engine::new(Arc::new(LakeSource::new(lake.view())), config).unwrap()
}

/// Ordinary use, and all that senders get wrong: sessions over midnight, without start, begun twice, with events
/// before their start or days after it.
fn strange_city(town: &str, seed: u64) -> City {
    let mut city = City::new(town);
    let mut seed = Seed(seed);
    for n in 0..250_u64 {
        let guardian = 1 + i64::try_from(seed.below(25)).unwrap();
        // Half of the sessions begin in the last hour of a day.
        let second = if seed.below(2) == 0 { 82_800 + seed.below(3_600) } else { seed.below(86_400) };
        let start = at("2026-03-20", "00:00").plus(Duration::from_secs(seed.below(75) * 86_400 + second));
        let id = format!("s-{n}");
        if seed.below(15) > 0 {
            begin(&mut city, &mut seed, &id, guardian, start);
        }
        if seed.below(20) == 0 {
            let again = start.plus(Duration::from_secs([600, 80_000, 90_000, 200_000][seed.below(4) as usize]));
            begin(&mut city, &mut seed, &id, guardian + 1, again);
        }
        let mut time = start;
        for _ in 0..seed.below(5) {
            time = time.plus(Duration::from_secs(seed.below(2_700)));
            city.view(&id, ["GA01", "GA02"][seed.below(2) as usize], time);
        }
        match seed.below(12) {
            0 => city.view(&id, "GA05", start.plus(Duration::from_secs(2 * 86_400))),
            1 => city.view(&id, "GA05", Timestamp::from_micros(start.as_micros() - 3_600_000_000)),
            _ => {}
        }
        if seed.below(5) == 0 {
            let kind = ["network", "crash"][seed.below(2) as usize];
            let role = ["guardian", "proxy_guardian"][seed.below(2) as usize];
            city.event("app.error_occurred", time, json!({
                "session_id": id, "screen_id": "GA02", "error_kind": kind, "code": null, "fatal": seed.below(2) == 0, "actor_role": role,
            }));
        }
        if seed.below(3) > 0 {
            city.end(&id, time, i64::try_from(time.since(start).as_millis()).unwrap());
        }
        device(&mut city, &mut seed, guardian + 1_000_000, time);
    }
    city
}

fn begin(city: &mut City, seed: &mut Seed, id: &str, guardian: i64, start: Timestamp) {
    let known = if seed.below(6) > 0 { json!(guardian) } else { Value::Null };
    let platform = ["ios", "android", "web", "dashboard"][seed.below(4) as usize];
    let version = ["1.0.0", "1.1.0"][seed.below(2) as usize];
    let role = ["guardian", "proxy_guardian"][guardian as usize % 2];
    city.event(
        "app.session_started",
        start,
        json!({
            "session_id": id, "guardian_key": known, "device_key": guardian + 1_000_000, "platform": platform,
            "os_version": "18", "app_version": version, "entry": "icon", "actor_role": role,
        }),
    );
}

fn device(city: &mut City, seed: &mut Seed, device: i64, time: Timestamp) {
    match seed.below(6) {
        0 => {
            let platform = ["ios", "android"][seed.below(2) as usize];
            city.event(
                "app.first_opened",
                time,
                json!({"device_key": device, "platform": platform, "app_version": "1.0.0"}),
            );
        }
        1 => {
            let granted = seed.below(3) > 0;
            city.event("app.push_permission_changed", time, json!({"device_key": device, "granted": granted}));
        }
        2 => {
            let kind = ["coupon.used", "notice.published"][seed.below(2) as usize];
            city.event(
                "app.push_opened",
                time,
                json!({
                    "session_id": null, "message_id": format!("m-{device}"), "message_type": kind, "open_latency_ms": 1,
                }),
            );
        }
        _ => {}
    }
}

#[tokio::test]
async fn days_tell_what_the_events_tell_in_every_split() {
    let mut scene = Scene::new().await;
    scene.append(&strange_city(OSAKA, 7).events).await;
    scene.agrees(OSAKA, &SPLITS, "all committed").await;
    let lines = scene.figures(&scene.by_days, OSAKA, PERIODS[0], "day").await;
    let is_telling = |line: &Row| line["dau"] != json!(0) && line["errors"] != json!(0);
    assert!(lines.iter().any(is_telling), "there is something to tell");
    scene.restart();
    scene.agrees(OSAKA, &["", "platform", "month,app_version,role"], "from the disk").await;
}

#[tokio::test]
async fn days_tell_what_the_events_tell_of_other_cities() {
    for seed in [4_711, 12_345, 777] {
        let mut scene = Scene::new().await;
        let events = strange_city(OSAKA, seed).events;
        let (committed, staged) = events.split_at(events.len() / 2);
        scene.append(committed).await;
        scene.stage(staged).await;
        scene.agrees(OSAKA, &["", "week", "day,platform,app_version,role"], &format!("city {seed}")).await;
    }
}

#[tokio::test]
async fn late_staged_and_repeated_rows_are_told_at_once() {
    let mut scene = Scene::new().await;
    let city = strange_city(OSAKA, 99);
    let splits = ["", "day", "month,platform,app_version,role", "screen_id"];
    // Every third event comes late: whole sessions are torn between what was told already and what was not.
    let (late, early): (Vec<_>, Vec<_>) = city.events.iter().cloned().enumerate().partition(|(n, _)| n % 3 == 0);
    let [late, early] = [late, early].map(|events| events.into_iter().map(|(_, event)| event).collect::<Vec<Event>>());
    scene.append(&early).await;
    scene.agrees(OSAKA, &splits, "the early ones").await;
    let (staged, last) = late.split_at(late.len() / 2);
    scene.stage(staged).await;
    scene.agrees(OSAKA, &splits, "some staged").await;
    scene.lake.flush(now()).await.unwrap();
    scene.agrees(OSAKA, &splits, "now committed").await;
    // The last ones, and some that were there before: counted twice by both until they are compacted.
    scene.append(&[last, &early[..50]].concat()).await;
    scene.agrees(OSAKA, &splits, "repeated").await;
    let before = scene.figures(&scene.by_days, OSAKA, PERIODS[0], "screen_id").await;
    let compacted =
        scene.lake.compact("app", &CompactOptions { partitions_max: 1_000, ..CompactOptions::default() }, now()).await;
    assert_eq!(compacted.unwrap().repetitions, 50);
    scene.agrees(OSAKA, &splits, "compacted").await;
    assert_ne!(scene.figures(&scene.by_days, OSAKA, PERIODS[0], "screen_id").await, before, "repetitions went");
}

#[tokio::test]
async fn only_days_that_changed_are_made_again() {
    let mut scene = Scene::new().await;
    let mut city = City::new(OSAKA);
    for day in 1..=9 {
        city.session(&format!("s-{day}"), day, at(&format!("2026-05-0{day}"), "10:00"));
    }
    scene.append(&city.events).await;
    scene.agrees(OSAKA, &["day"], "first").await;
    let days = |from: i32, to: i32| (from..=to).map(|day| format!("2026-05-0{day}")).collect::<Vec<_>>();
    assert_eq!(scene.written(OSAKA), days(1, 9));
    scene.age(OSAKA);
    scene.restart();
    scene.agrees(OSAKA, &["day"], "restarted").await;
    assert!(scene.written(OSAKA).is_empty(), "what is on disk is taken from there");

    let mut late = City::new(OSAKA);
    late.view("s-4", "GA01", at("2026-05-05", "00:10"));
    scene.stage(&late.events).await;
    scene.agrees(OSAKA, &["day"], "staged").await;
    assert!(scene.written(OSAKA).is_empty(), "what may still change is not kept");
    scene.lake.flush(now()).await.unwrap();
    scene.agrees(OSAKA, &["day"], "committed").await;
    assert_eq!(scene.written(OSAKA), days(4, 6));
}

#[tokio::test]
async fn damaged_and_missing_files_are_made_again() {
    let mut scene = Scene::new().await;
    scene.append(&strange_city(OSAKA, 5).events).await;
    scene.agrees(OSAKA, &["day"], "first").await;
    let stored: Vec<(String, PathBuf)> = scene.stored(OSAKA).into_iter().collect();
    assert!(stored.len() > 20);
    let (cut, flipped, empty, swapped, gone) = (&stored[3], &stored[6], &stored[9], &stored[12], &stored[15]);
    let bytes = |day: &(String, PathBuf)| fs::read(&day.1).unwrap();
    let mut other = bytes(flipped);
    let middle = other.len() / 2;
    other[middle] ^= 1;
    fs::write(&cut.1, &bytes(cut)[..20]).unwrap();
    fs::write(&flipped.1, other).unwrap();
    fs::write(&empty.1, b"").unwrap();
    fs::write(&swapped.1, bytes(&stored[0])).unwrap();
    fs::remove_file(&gone.1).unwrap();
    fs::write(scene.folder().join(OSAKA).join("2020-01-01.day"), b"a day without rows").unwrap();
    scene.age(OSAKA);
    scene.restart();
    scene.agrees(OSAKA, &["", "day", "role"], "damaged").await;
    let expected: Vec<String> = [cut, flipped, empty, swapped, gone].map(|day| day.0.clone()).into();
    assert_eq!(scene.written(OSAKA), expected);
    assert!(!scene.stored(OSAKA).contains_key("2020-01-01"), "days that are none are swept away");
    fs::remove_dir_all(scene.folder()).unwrap();
    scene.restart();
    scene.agrees(OSAKA, &["day"], "without a folder").await;
    assert_eq!(scene.stored(OSAKA).len(), stored.len());
}

#[tokio::test]
async fn municipalities_tell_their_own_days_only() {
    let mut scene = Scene::new().await;
    let (here, there) = (strange_city(OSAKA, 1), strange_city(CHIYODA, 2));
    scene.append(&[here.events, there.events].concat()).await;
    for town in [OSAKA, CHIYODA, OSAKA] {
        scene.agrees(town, &["day", "month,platform"], "side by side").await;
    }
    // Files of another municipality were made from other rows, whatever folder they lie in.
    for (day, path) in scene.stored(OSAKA) {
        fs::copy(path, scene.folder().join(CHIYODA).join(format!("{day}.day"))).unwrap();
    }
    scene.restart();
    scene.agrees(CHIYODA, &["day", "month,platform"], "with alien files").await;
}

#[tokio::test]
async fn a_forgotten_person_leaves_the_days_as_well() {
    const FORGOTTEN: i64 = 1_234_567_890_123_456_789;
    let keys = BTreeSet::from([FORGOTTEN]);
    let mut scene = Scene::new().await;
    let mut city = City::new(OSAKA);
    for day in 1..=9 {
        city.session(&format!("a-{day}"), FORGOTTEN, at(&format!("2026-05-0{day}"), "10:00"));
        city.session(&format!("b-{day}"), 5, at(&format!("2026-05-0{day}"), "11:00"));
    }
    scene.append(&city.events).await;
    scene.agrees(OSAKA, &["", "day"], "before").await;
    assert_eq!(scene.figures(&scene.by_days, OSAKA, PERIODS[0], "").await[0]["mau"], json!(2));
    assert!(!search_keys(&scene.folder(), &keys).unwrap().found.is_empty(), "the search can find");
    let erasure = Erasure {
        municipality: code(OSAKA),
        stand_ins: BTreeMap::from([(FORGOTTEN, 8)]),
        removed_from: BTreeSet::from(["app".to_owned()]),
    };
    scene.lake.erase(&erasure, now()).await.unwrap();
    forget_rollups(&scene.folder(), &code(OSAKA)).unwrap();
    assert!(search_keys(&scene.folder(), &keys).unwrap().found.is_empty());
    scene.agrees(OSAKA, &["", "day"], "in a server that knew the person").await;
    scene.restart();
    scene.agrees(OSAKA, &["", "day"], "after").await;
    assert_eq!(scene.figures(&scene.by_days, OSAKA, PERIODS[0], "").await[0]["mau"], json!(1));
    assert!(search_keys(&scene.folder(), &keys).unwrap().found.is_empty(), "nobody comes back");
    forget_rollups(&scene.folder(), &code(CHIYODA)).unwrap();
}

#[tokio::test]
async fn what_was_made_from_other_rows_leaves_the_disk_unasked() {
    const FORGOTTEN: i64 = 1_234_567_890_123_456_789;
    let keys = BTreeSet::from([FORGOTTEN]);
    let mut scene = Scene::new().await;
    let mut city = City::new(OSAKA);
    for day in 1..=9 {
        city.session(&format!("a-{day}"), 5, at(&format!("2026-05-0{day}"), "10:00"));
    }
    city.session("b", FORGOTTEN, at("2026-05-05", "11:00"));
    scene.append(&city.events).await;
    scene.append(&strange_city(CHIYODA, 2).events).await;
    for town in [OSAKA, CHIYODA] {
        scene.agrees(town, &["day"], "before").await;
    }
    let neighbours = scene.stored(CHIYODA).len();
    scene.restart();
    scene.by_days.tidy_rollups().await.unwrap();
    assert_eq!(scene.stored(OSAKA).len(), 9, "what is of these rows stays");
    assert!(!search_keys(&scene.folder(), &keys).unwrap().found.is_empty(), "the search can find");

    // By another node: nobody told this one's folder.
    let erasure = Erasure {
        municipality: code(OSAKA),
        stand_ins: BTreeMap::from([(FORGOTTEN, 8)]),
        removed_from: BTreeSet::from(["app".to_owned()]),
    };
    scene.lake.erase(&erasure, now()).await.unwrap();
    scene.restart();
    scene.by_days.tidy_rollups().await.unwrap();
    let left: Vec<String> = scene.stored(OSAKA).into_keys().collect();
    assert_eq!(left, [1, 2, 3, 7, 8, 9].map(|day| format!("2026-05-0{day}")));
    assert!(search_keys(&scene.folder(), &keys).unwrap().found.is_empty());
    assert_eq!(scene.stored(CHIYODA).len(), neighbours, "another municipality's days are as they were");
    scene.agrees(OSAKA, &["", "day"], "after").await;

    let retention = Retention { fiscal_years: 0, ..Retention::default() };
    scene.lake.expire("app", &retention, at("2027-04-02", "10:00")).await.unwrap();
    scene.by_days.tidy_rollups().await.unwrap();
    assert!(scene.stored(OSAKA).is_empty() && scene.stored(CHIYODA).is_empty(), "days past their time go");
    fs::remove_dir_all(scene.folder()).unwrap();
    scene.by_days.tidy_rollups().await.unwrap();
}
