//! Broadcasts: one message to a segment or to everybody (messages.md §11).
//!
//! ```text
//! draft ─submit─▶ awaiting_approval ─approve─▶ scheduled ─start─▶ sending ⇄ paused
//!   ▲  └──────────────submit (no approval needed)──▲ │               │
//!   └──────reject──────┘◀──────hold back─────────────┘             finish ─▶ sent
//! ```
//!
//! Everything but `cancelled` can be cancelled; what went out stays. Messages of one that is `sent` may still wait for
//! the morning or for their provider: until they have left it can be paused (and is then `sent` again) and cancelled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ids::AccountId, time::Timestamp};

/// An audience above this needs a second person (messages.md §11, "Approval").
pub const UNAPPROVED_MAX: u64 = 1_000;
/// Hand-overs to push and mail per second unless the author says otherwise (messages.md §11, "Pace").
pub const PACE_DEFAULT: u32 = 500;
/// Fastest pace that can be asked for.
pub const PACE_MAX: u32 = 10_000;
/// When a broadcast may be sent again to those who have not read it, minutes after its start.
pub const RESEND_AFTER_MIN: [u32; 3] = [15, 30, 60];
/// Segment broadcasts one person gets on a day in Asia/Tokyo (messages.md §9).
pub const PER_PERSON_AND_DAY_MAX: i64 = 3;

/// Kind of a broadcast: decides the message type, the class and the speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BroadcastKind {
    /// 通常: optional, paced.
    Segment,
    /// 行事案内: with a date and a place.
    Event,
    /// 緊急: mandatory, at once, without pace and quiet hours.
    Emergency,
}

impl BroadcastKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Segment, Self::Event, Self::Emergency];

    /// The code in the record, events and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Event => "event",
            Self::Emergency => "emergency",
        }
    }

    /// The row of the catalogue its messages come from.
    pub const fn message_type(self) -> &'static str {
        match self {
            Self::Segment => "broadcast.segment",
            Self::Event => "broadcast.event",
            Self::Emergency => "broadcast.emergency",
        }
    }

    /// From the code in the record.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == raw)
    }

    /// Whether its author may have it mailed; the catalogue has no mail of a schedule of events.
    pub const fn may_be_mailed(self) -> bool {
        !matches!(self, Self::Event)
    }

    /// Whether hand-overs follow the pace.
    pub const fn is_paced(self) -> bool {
        !matches!(self, Self::Emergency)
    }

    /// Whether somebody other than the author must release it: everybody, or more than
    /// [`UNAPPROVED_MAX`] people, except in an emergency.
    pub const fn needs_approval(self, everybody: bool, n_targets: u64) -> bool {
        !matches!(self, Self::Emergency) && (everybody || n_targets > UNAPPROVED_MAX)
    }
}

/// Who had a hand in a broadcast before its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hands {
    /// Who wrote it first; `None` for batches.
    pub author: Option<AccountId>,
    /// Who changed it last.
    pub editor: Option<AccountId>,
    /// Who submitted it.
    pub submitter: Option<AccountId>,
}

impl Hands {
    /// Whether `approver` may release it: four eyes. What nobody wrote nobody releases.
    pub fn may_approve(self, approver: AccountId) -> bool {
        self.author.is_some() && ![self.author, self.editor, self.submitter].contains(&Some(approver))
    }
}

/// State of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BroadcastState {
    /// 作成中
    Draft,
    /// 承認待ち
    AwaitingApproval,
    /// 配信予約
    Scheduled,
    /// 配信中
    Sending,
    /// 一時停止中
    Paused,
    /// 配信済
    Sent,
    /// 中止
    Cancelled,
}

/// What happens to a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BroadcastEvent {
    /// The author is done.
    Submit {
        /// Whether a second person must release it.
        needs_approval: bool,
    },
    /// The second person agrees.
    Approve,
    /// The second person gives it back to the author.
    Reject,
    /// Its time has come.
    Start,
    /// Its time has come, but the audience has grown so that a second person must agree first.
    HoldBack,
    /// Nothing more is handed over for now.
    Pause,
    /// It goes on where it was.
    Resume {
        /// Whether everybody had been handed to push and mail before the pause.
        all_handed: bool,
    },
    /// Everybody has it.
    Finish,
    /// Nothing more is handed over; what went out stays.
    Cancel,
}

/// An event that the state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible in {state:?}")]
pub struct IllegalStep {
    /// Where it is.
    pub state: BroadcastState,
    /// What was asked.
    pub event: BroadcastEvent,
}

impl BroadcastState {
    /// Every state, in the order of the flow.
    pub const ALL: [Self; 7] = [
        Self::Draft,
        Self::AwaitingApproval,
        Self::Scheduled,
        Self::Sending,
        Self::Paused,
        Self::Sent,
        Self::Cancelled,
    ];

    /// The code in the record and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Scheduled => "scheduled",
            Self::Sending => "sending",
            Self::Paused => "paused",
            Self::Sent => "sent",
            Self::Cancelled => "cancelled",
        }
    }

    /// The label people see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Draft => "作成中",
            Self::AwaitingApproval => "承認待ち",
            Self::Scheduled => "配信予約",
            Self::Sending => "配信中",
            Self::Paused => "一時停止中",
            Self::Sent => "配信済",
            Self::Cancelled => "中止",
        }
    }

    /// From the code in the record.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == raw)
    }

    /// Whether nothing can happen to it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// The next state.
    ///
    /// # Errors
    /// [`IllegalStep`] where the event is not possible; the state is then unchanged.
    pub fn on(self, event: BroadcastEvent) -> Result<Self, IllegalStep> {
        use BroadcastEvent as E;
        match (self, event) {
            (Self::Draft, E::Submit { needs_approval: true }) | (Self::Scheduled, E::HoldBack) => {
                Ok(Self::AwaitingApproval)
            }
            (Self::Draft, E::Submit { needs_approval: false }) | (Self::AwaitingApproval, E::Approve) => {
                Ok(Self::Scheduled)
            }
            (Self::AwaitingApproval, E::Reject) => Ok(Self::Draft),
            (Self::Scheduled, E::Start) | (Self::Paused, E::Resume { all_handed: false }) => Ok(Self::Sending),
            (Self::Sending | Self::Sent, E::Pause) => Ok(Self::Paused),
            (Self::Sending, E::Finish) | (Self::Paused, E::Resume { all_handed: true }) => Ok(Self::Sent),
            (state, E::Cancel) if !state.is_final() => Ok(Self::Cancelled),
            (state, event) => Err(IllegalStep { state, event }),
        }
    }
}

/// How many more may be handed over at `now`: the pace since the last hand-over, never more than one
/// second's worth, so that a pause or a night without server is not made up for at once.
pub fn pace_allows(pace_per_s: u32, last: Option<Timestamp>, now: Timestamp) -> u32 {
    let Some(last) = last else { return pace_per_s };
    let waited = now.since(last).min(Duration::from_secs(1));
    u32::try_from(u128::from(pace_per_s) * waited.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::messages;

    fn event() -> impl Strategy<Value = BroadcastEvent> {
        use BroadcastEvent as E;
        prop_oneof![
            any::<bool>().prop_map(|needs_approval| E::Submit { needs_approval }),
            Just(E::Approve),
            Just(E::Reject),
            Just(E::Start),
            Just(E::HoldBack),
            Just(E::Pause),
            any::<bool>().prop_map(|all_handed| E::Resume { all_handed }),
            Just(E::Finish),
            Just(E::Cancel),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_nothing_is_sent_that_was_not_released(events in prop::collection::vec(event(), 0..40)) {
            let (mut state, mut waits, mut released) = (BroadcastState::Draft, false, false);
            for event in events {
                let Ok(next) = state.on(event) else { continue };
                prop_assert!(!state.is_final(), "{state:?} went on to {next:?}");
                match event {
                    BroadcastEvent::Submit { needs_approval } => (waits, released) = (needs_approval, !needs_approval),
                    BroadcastEvent::HoldBack => (waits, released) = (true, false),
                    BroadcastEvent::Approve => {
                        prop_assert!(waits);
                        released = true;
                    }
                    BroadcastEvent::Reject => released = false,
                    _ => {}
                }
                if matches!(next, BroadcastState::Sending | BroadcastState::Sent) {
                    prop_assert!(released, "{next:?} without release");
                }
                state = next;
            }
        }

        #[test]
        fn everything_unfinished_can_be_cancelled_and_codes_are_read_back(at in 0..BroadcastState::ALL.len()) {
            let state = BroadcastState::ALL[at];
            prop_assert_eq!(state.on(BroadcastEvent::Cancel).is_ok(), !state.is_final());
            prop_assert_eq!(BroadcastState::parse(state.as_str()), Some(state));
        }

        #[test]
        fn the_pace_is_never_exceeded(pace in 1..PACE_MAX, waits in prop::collection::vec(0..5_000_000_i64, 1..50)) {
            let mut now = Timestamp::from_micros(1_700_000_000_000_000);
            let (begun, mut last, mut handed_over) = (now, None, 0_u64);
            for wait in waits {
                now = Timestamp::from_micros(now.as_micros() + wait);
                let n = pace_allows(pace, last, now);
                prop_assert!(n <= pace);
                if n > 0 {
                    last = Some(now);
                    handed_over += u64::from(n);
                }
            }
            let seconds = now.since(begun).as_secs() + 1;
            prop_assert!(handed_over <= u64::from(pace) * (seconds + 1), "one second's worth ahead at most");
        }
    }

    #[test]
    fn a_second_person_is_needed_for_many_but_not_in_an_emergency() {
        assert!(BroadcastKind::Segment.needs_approval(true, 1));
        assert!(BroadcastKind::Event.needs_approval(false, UNAPPROVED_MAX + 1));
        assert!(!BroadcastKind::Segment.needs_approval(false, UNAPPROVED_MAX));
        assert!(!BroadcastKind::Emergency.needs_approval(true, 100_000));
    }

    #[test]
    fn each_kind_has_its_row_in_the_catalogue() {
        assert!(BroadcastKind::ALL.into_iter().all(|kind| messages::get(kind.message_type()).is_some()));
    }

    #[test]
    fn nobody_releases_what_they_had_a_hand_in() {
        let [author, editor, submitter, other] = [1, 2, 3, 4].map(|n| AccountId::new(Timestamp::from_micros(n)));
        let hands = Hands { author: Some(author), editor: Some(editor), submitter: Some(submitter) };
        assert!([author, editor, submitter].into_iter().all(|own| !hands.may_approve(own)));
        assert!(hands.may_approve(other));
        assert!(!Hands { author: None, ..hands }.may_approve(other), "what nobody wrote nobody releases");
    }
}
