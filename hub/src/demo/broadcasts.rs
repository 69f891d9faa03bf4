//! The demo's segments, topics and broadcasts: some sent and read, one that waits for the second person, one
//! for tomorrow.

use std::time::Duration;

use jiff::civil::time;
use rand::{Rng, RngExt};
use todoke_domain::{
    MunicipalityCode, Role, Timestamp,
    broadcast::{BroadcastKind, BroadcastState},
    segment::{Condition, People},
    time::add_days,
    topic::Topic,
};
use todoke_store::{Wall, message::MessageStep};
use todoke_workflow::{
    Actor, Workflow, WorkflowError,
    broadcast::{BroadcastDraft, Sender},
    segment::SegmentDraft,
};

/// Looks at a broadcast of the demo until it is given up as stuck.
const STRIDES_MAX: u32 = 10_000;

/// Fills in what a city would have after some months of broadcasts.
pub(super) async fn seed(
    workflow: &Workflow,
    code: &MunicipalityCode,
    guardians: &[Actor],
    now: Timestamp,
    rng: &mut impl Rng,
) -> anyhow::Result<()> {
    let (author, second) = offices(workflow, code).await?;
    let today = now.jst_date();
    let day = |n: i32, hour: i8| Timestamp::from_jst(add_days(today, n), time(hour, 0, 0, 0));
    for guardian in guardians {
        let chosen: Vec<Topic> = Topic::ALL.into_iter().filter(|_| rng.random_range(0..100) < 35).collect();
        workflow.choose_topics(guardian, &chosen, day(-30, 9)).await?;
    }
    for (name, when) in segments() {
        let draft = SegmentDraft { people: People::Households, when };
        workflow.create_segment(&author, name, draft, day(-30, 10)).await?;
    }
    let sent = [
        (
            -12,
            BroadcastKind::Segment,
            "乳幼児健診の日程が決まりました",
            "来月の乳幼児健診の日程を「お知らせ」に掲載しました。",
            topic(Topic::Health),
        ),
        (
            -5,
            BroadcastKind::Event,
            "親子ふれあい講座のご案内",
            "はじめての方も歓迎です。動きやすい服装でお越しください。",
            Condition::everybody(),
        ),
        (
            -1,
            BroadcastKind::Segment,
            "クーポンの使い忘れはありませんか",
            "一時預かりや産後ケアにご利用いただけます。",
            coupon(),
        ),
    ];
    for (when, kind, title, body, condition) in sent {
        let at = day(when, 10);
        let broadcast = draft(kind, title, body, condition, today);
        send(workflow, &author, &second, broadcast, at).await?;
        let opened_from = at.plus(Duration::from_secs(5_400));
        // What was pushed is out before the first reader: opening takes back only what was shown.
        let mut tx = workflow.store().begin_long(Wall::None).await?;
        tx.settle_made_up_past(opened_from).await?;
        tx.commit().await?;
        open(workflow, guardians, title, opened_from, rng).await?;
    }
    let planned = BroadcastDraft {
        starts_at: Some(day(1, 10)),
        resend_after_min: vec![60],
        ..draft(
            BroadcastKind::Segment,
            "離乳食講座の申込みが始まります",
            "アプリの「お知らせ」からお申し込みください。",
            babies(),
            today,
        )
    };
    let planned = workflow.create_broadcast(&author, planned, day(0, 0)).await?;
    workflow.submit_broadcast(&author, planned.broadcast_id, day(0, 0)).await?;
    let waiting = draft(
        BroadcastKind::Segment,
        "年度末の手続きについて",
        "3月中にお済ませください。",
        Condition::everybody(),
        today,
    );
    let waiting = workflow.create_broadcast(&author, waiting, day(0, 0)).await?;
    workflow.submit_broadcast(&author, waiting.broadcast_id, day(0, 0)).await?;
    Ok(())
}

fn topic(topic: Topic) -> Condition {
    Condition::Topic { topics: vec![topic] }
}

fn coupon() -> Condition {
    let balance = Condition::CouponBalance { from_yen: 10_000, to_yen: 1_000_000 };
    Condition::All { of: vec![Condition::CouponState { state: "active".to_owned() }, balance] }
}

fn babies() -> Condition {
    Condition::ChildAgeMonths { from: 4, to: 12 }
}

fn segments() -> [(&'static str, Condition); 3] {
    let quiet = Condition::Any {
        of: vec![
            Condition::Inactive { days: 60 },
            Condition::ProgrammeUsed { codes: Vec::new(), from: None, to: None },
        ],
    };
    [
        ("離乳食の時期のお子さまがいる方", babies()),
        ("クーポンが残っている方", coupon()),
        ("しばらく利用のない方・利用した方", quiet),
    ]
}

fn draft(kind: BroadcastKind, title: &str, body: &str, when: Condition, today: jiff::civil::Date) -> BroadcastDraft {
    let is_event = kind == BroadcastKind::Event;
    BroadcastDraft {
        kind,
        title: title.to_owned(),
        body: body.to_owned(),
        link: "/notices".to_owned(),
        event_on: is_event.then(|| add_days(today, 9)),
        place: if is_event { "みらい子育てプラザ".to_owned() } else { String::new() },
        push: true,
        email: false,
        segment_id: None,
        segment: Some(SegmentDraft { people: People::Households, when }),
        starts_at: None,
        pace_per_s: None,
        resend_after_min: Vec::new(),
    }
}

async fn offices(workflow: &Workflow, code: &MunicipalityCode) -> anyhow::Result<(Actor, Actor)> {
    let mut tx = workflow.store().begin_read(Wall::Around(code.clone())).await?;
    let mut of = async |role: Role| -> anyhow::Result<Actor> {
        let accounts = tx.role_accounts(code, role).await?;
        let account = accounts.first().ok_or_else(|| anyhow::anyhow!("no {role} in {code}"))?;
        Ok(Actor::of(account, None))
    };
    Ok((of(Role::Operator).await?, of(Role::MunicipalStaff).await?))
}

async fn send(
    workflow: &Workflow,
    author: &Actor,
    second: &Actor,
    draft: BroadcastDraft,
    at: Timestamp,
) -> anyhow::Result<()> {
    let id = workflow.create_broadcast(author, draft, at).await?.broadcast_id;
    if workflow.submit_broadcast(author, id, at).await?.state == BroadcastState::AwaitingApproval {
        workflow.approve_broadcast(second, id, at).await?;
    }
    let sender = Sender::new(workflow.clone());
    let system = Actor::system(author.municipality_code.clone(), "batch");
    for n in 0..STRIDES_MAX {
        sender.stride(&system, at.plus(Duration::from_secs(n.into()))).await?;
        if workflow.broadcast(author, id).await?.state == BroadcastState::Sent {
            return Ok(());
        }
    }
    anyhow::bail!("a broadcast of the demo does not end")
}

/// A part of the readers opens it.
async fn open(
    workflow: &Workflow,
    guardians: &[Actor],
    title: &str,
    at: Timestamp,
    rng: &mut impl Rng,
) -> Result<(), WorkflowError> {
    for guardian in guardians {
        let inbox = workflow.inbox(guardian, true, None, 20).await?;
        let Some(message) = inbox.messages.into_iter().find(|message| message.title == title) else { continue };
        let minutes = rng.random_range(0..600_u64);
        if rng.random_range(0..100) < 55 {
            let at = at.plus(Duration::from_secs(60 * minutes));
            workflow.note_message_step(guardian, message.message_id, MessageStep::Delivered, at).await?;
            workflow.note_message_step(guardian, message.message_id, MessageStep::Read, at).await?;
        }
    }
    Ok(())
}
