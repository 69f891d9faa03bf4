//! One message on its way by one channel (flows.md C18): its states and steps, when it is tried again, how
//! long it lives, which hours are quiet, and what follows when nobody looks.

use std::{fmt, str::FromStr, time::Duration};

use jiff::civil::{Weekday, time};

use crate::{
    Timestamp,
    catalogue::messages::{Channel, DedupeCode, EscalationRule, MessageType, Speed},
    ids::{ChildId, DeliveryId, MessageId},
    time::add_days,
};

macro_rules! codes {
    ($(#[$outer:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $code:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant),+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code in the record, events and the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code),+
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownCode;
            fn from_str(raw: &str) -> Result<Self, UnknownCode> {
                Self::ALL.iter().copied().find(|known| known.as_str() == raw).ok_or(UnknownCode($what))
            }
        }

        impl TryFrom<String> for $name {
            type Error = UnknownCode;
            fn try_from(raw: String) -> Result<Self, UnknownCode> {
                raw.parse()
            }
        }
    };
}

/// A code that none of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such {0}")]
pub struct UnknownCode(&'static str);

codes! {
    /// Where a delivery stands.
    DeliveryState, "delivery state" {
        /// 送信待ち
        Queued = "queued",
        /// 一時停止中: kept in the queue while its broadcast is paused, or until it is suppressed.
        Held = "held",
        /// 送信済: handed to the channel, no answer yet.
        Sent = "sent",
        /// 受付済: the provider took it.
        Accepted = "accepted",
        /// 到達: the device has it.
        Delivered = "delivered",
        /// 開封
        Opened = "opened",
        /// 失敗, for good.
        Failed = "failed",
        /// 期限切れ
        Expired = "expired",
        /// 差し替え: by something newer, or read elsewhere, or taken back.
        Superseded = "superseded",
        /// 送信対象外
        Suppressed = "suppressed",
        /// 印刷済
        Printed = "printed",
        /// 発送済
        Posted = "posted",
        /// 返戻
        Returned = "returned",
    }
}

codes! {
    /// Who carries a delivery. Each has its own queue, pace and breaker.
    Provider, "provider" {
        /// Firebase Cloud Messaging.
        Fcm = "fcm",
        /// Apple Push Notification service.
        Apns = "apns",
        /// The push service of a browser.
        WebPush = "webpush",
        /// Mail server.
        Smtp = "smtp",
        /// Letters.
        Paper = "paper",
    }
}

impl Provider {
    /// Those that are sent to; letters wait for a person.
    pub const SENT: [Self; 4] = [Self::Fcm, Self::Apns, Self::WebPush, Self::Smtp];

    /// The channel of the catalogue it serves.
    pub const fn channel(self) -> Channel {
        match self {
            Self::Fcm | Self::Apns | Self::WebPush => Channel::Push,
            Self::Smtp => Channel::Email,
            Self::Paper => Channel::Paper,
        }
    }

    /// Whether a second sending of the same message shows once: push replaces by collapse key, a mail server
    /// takes a second mail as a second mail.
    pub const fn shows_repeats_once(self) -> bool {
        matches!(self, Self::Fcm | Self::Apns | Self::WebPush)
    }
}

codes! {
    /// What a delivery is for.
    Purpose, "purpose" {
        /// Tells the message.
        Notification = "notification",
        /// Clears the notification of a message that was read elsewhere or taken back.
        Withdraw = "withdraw",
        /// Tries out a device, quietly.
        Test = "test",
    }
}

codes! {
    /// Whether a device shows what is pushed to it.
    DevicePermission, "permission" {
        /// It does.
        Granted = "granted",
        /// The person forbade it.
        Denied = "denied",
        /// The person was not asked yet.
        Default = "default",
    }
}

/// What happens to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStep {
    /// It is handed to the channel.
    Hand,
    /// The provider took it.
    Accept,
    /// The device says it has it.
    Receive,
    /// It was opened.
    Open,
    /// It is to be tried again.
    Retry,
    /// It can never arrive, or was tried often enough.
    Fail,
    /// What was accepted came back: a bounced mail.
    Bounce,
    /// Its time is over.
    Expire,
    /// Something newer replaced it, it was read elsewhere, or it was taken back.
    Supersede,
    /// Its broadcast is paused or stopped.
    Hold,
    /// Its broadcast goes on.
    Release,
    /// It is not sent any more: its broadcast was stopped, or its person has left.
    Suppress,
    /// The letter was printed.
    Print,
    /// The letter was posted.
    Post,
    /// The letter came back.
    Return,
}

/// A step that the state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step:?} is not possible from {}", state.as_str())]
pub struct IllegalStep {
    /// The state.
    pub state: DeliveryState,
    /// The step.
    pub step: DeliveryStep,
}

impl DeliveryState {
    /// The state after a step. A receipt may overtake the provider's answer, so that a late
    /// [`DeliveryStep::Accept`] leaves a delivery that has arrived as it is.
    ///
    /// # Errors
    /// [`IllegalStep`] changes nothing.
    pub fn on(self, step: DeliveryStep) -> Result<Self, IllegalStep> {
        use DeliveryStep as E;
        match (self, step) {
            (Self::Queued, E::Hand) => Ok(Self::Sent),
            (Self::Sent, E::Accept) => Ok(Self::Accepted),
            (Self::Delivered | Self::Opened, E::Accept) => Ok(self),
            (Self::Sent | Self::Accepted, E::Receive) => Ok(Self::Delivered),
            (Self::Sent | Self::Accepted | Self::Delivered, E::Open) => Ok(Self::Opened),
            (Self::Queued | Self::Sent, E::Retry) => Ok(Self::Queued),
            (Self::Queued | Self::Sent, E::Fail) | (Self::Sent | Self::Accepted, E::Bounce) => Ok(Self::Failed),
            (Self::Queued | Self::Sent | Self::Accepted, E::Expire) => Ok(Self::Expired),
            (Self::Queued | Self::Held | Self::Sent | Self::Accepted | Self::Delivered, E::Supersede) => {
                Ok(Self::Superseded)
            }
            (Self::Queued, E::Hold) => Ok(Self::Held),
            (Self::Held, E::Release) => Ok(Self::Queued),
            (Self::Queued | Self::Held, E::Suppress) => Ok(Self::Suppressed),
            (Self::Queued, E::Print) => Ok(Self::Printed),
            (Self::Printed, E::Post) => Ok(Self::Posted),
            (Self::Posted, E::Return) => Ok(Self::Returned),
            (state, step) => Err(IllegalStep { state, step }),
        }
    }

    /// Whether nothing more is tried: what it carried is no longer needed.
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Queued | Self::Held | Self::Sent | Self::Printed)
    }

    /// Whether the person has it, as far as the channel can tell: for mail the server's word is the last there is.
    pub const fn has_reached(self, channel: Channel) -> bool {
        match self {
            Self::Delivered | Self::Opened | Self::Posted => true,
            Self::Accepted => matches!(channel, Channel::Email),
            _ => false,
        }
    }

    /// Whether it may still reach the person without anybody doing anything.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Queued | Self::Held | Self::Sent | Self::Accepted | Self::Printed)
    }
}

/// Waits after temporary failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// One wait per retry; after the last the delivery has failed.
    pub waits: Vec<Duration>,
}

impl Default for RetryPolicy {
    /// 10 s, 1 min, 5 min, 30 min, 2 h (flows.md C18).
    fn default() -> Self {
        Self { waits: [10, 60, 300, 1_800, 7_200].map(Duration::from_secs).to_vec() }
    }
}

impl RetryPolicy {
    /// When the attempt after the `attempts` made so far is due; `None` when they are spent. `asked` is what
    /// the provider wants, `dice` in 0..=255 spreads the retries by up to a quarter of the wait, so that
    /// what failed together does not come back together.
    pub fn next(&self, now: Timestamp, attempts: i64, asked: Option<Duration>, dice: u8) -> Option<Timestamp> {
        let nth = usize::try_from(attempts.checked_sub(1)?).ok()?;
        let wait = (*self.waits.get(nth)?).max(asked.unwrap_or_default());
        Some(now.plus(wait).plus(wait / 4 * u32::from(dice) / 255))
    }
}

/// How long a delivery is worth sending. Codes and links of mails live as long as they are valid instead.
pub const fn time_to_live(channel: Channel, speed: Speed) -> Option<Duration> {
    const DAY: u64 = 86_400;
    match (channel, speed) {
        (Channel::Push, Speed::Now) => Some(Duration::from_secs(DAY)),
        (Channel::Push, Speed::Min | Speed::Batch) => Some(Duration::from_secs(3 * DAY)),
        (Channel::Email, _) => Some(Duration::from_secs(3 * DAY)),
        (Channel::Live | Channel::Inbox | Channel::Paper, _) => None,
    }
}

/// When a delivery that is ready at `at` may leave: paced push waits from 21:00 to 8:00 in Japan; nothing else
/// waits, nothing is dropped. Asked whenever a delivery is queued, tried again, or sent again by a person.
pub fn leaves_at(channel: Channel, speed: Speed, at: Timestamp) -> Timestamp {
    if channel != Channel::Push || speed != Speed::Batch {
        return at;
    }
    let morning = time(8, 0, 0, 0);
    let local = at.jst();
    if local.time() < morning {
        Timestamp::from_jst(local.date(), morning)
    } else if local.time() >= time(21, 0, 0, 0) {
        Timestamp::from_jst(add_days(local.date(), 1), morning)
    } else {
        at
    }
}

/// Whether deliveries of this speed stay where they are, however long they have been due: what could not leave in
/// the evening, because a provider was out or the queue was long, is no reason to ring at night.
pub fn is_held(channel: Channel, speed: Speed, now: Timestamp) -> bool {
    leaves_at(channel, speed, now) > now
}

/// When an escalation falls due after `from`. E4 without minutes: the same time on the next business day,
/// Monday to Friday.
pub fn escalates_at(rule: EscalationRule, after_min: Option<u32>, from: Timestamp) -> Timestamp {
    match (rule, after_min) {
        (_, Some(minutes)) => from.plus(Duration::from_secs(u64::from(minutes) * 60)),
        (EscalationRule::E4, None) => {
            let local = from.jst();
            let mut day = add_days(local.date(), 1);
            while matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday) {
                day = add_days(day, 1);
            }
            Timestamp::from_jst(day, local.time())
        }
        (_, None) => from,
    }
}

/// Whether the code that a mail failed for good with blames its address, so that the next one fails too.
pub fn blames_address(code: &str) -> bool {
    match code.strip_prefix("bounced") {
        // RFC 3463: subjects 3 to 7 are the server, the network, the protocol, the mail itself and policies.
        Some(status) => !matches!(status.split('.').nth(1), Some("3" | "4" | "5" | "6" | "7")),
        None => matches!(code, "unknown_mailbox" | "mailbox_full"),
    }
}

/// The place of a speed in the queue: urgent ones first.
pub const fn rank(speed: Speed) -> i64 {
    match speed {
        Speed::Now => 0,
        Speed::Min => 1,
        Speed::Batch => 2,
    }
}

/// The speed at a place in the queue.
pub const fn speed_of(rank: i64) -> Speed {
    match rank {
        0 => Speed::Now,
        1 => Speed::Min,
        _ => Speed::Batch,
    }
}

/// The key under which a device shows one notification at a time. K2 shares it over the subject's messages, and
/// types that collapse with each other share it over a child's, so that the newest replaces the others; everything
/// else has its own, so that a repeated sending replaces itself.
pub fn collapse_key(kind: &MessageType, subject_id: &str, child: Option<ChildId>, message: MessageId) -> String {
    match (kind.collapses_under(), child, kind.dedupe.code) {
        (Some(shared), Some(child), _) => format!("{shared}:{child}"),
        (_, _, DedupeCode::K2) => format!("{}:{subject_id}", kind.id),
        (_, _, DedupeCode::K1 | DedupeCode::K3 | DedupeCode::K4) => message.to_string(),
    }
}

/// What a device or a mailed link shows to prove that it speaks of one delivery. It opens nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptToken {
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// Random bits that only the delivery's receiver knows.
    pub key: i64,
}

impl fmt::Display for ReceiptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:016x}", self.delivery_id.as_uuid().as_simple(), self.key)
    }
}

impl FromStr for ReceiptToken {
    type Err = UnknownCode;
    fn from_str(raw: &str) -> Result<Self, UnknownCode> {
        let unknown = UnknownCode("receipt token");
        if raw.len() != 48 || !raw.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(unknown);
        }
        let (id, key) = raw.split_at(32);
        let delivery_id = id.parse().map_err(|_| unknown)?;
        let key = u64::from_str_radix(key, 16).map_err(|_| unknown)?;
        Ok(Self { delivery_id, key: key.cast_signed() })
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::messages;

    const STEPS: [DeliveryStep; 15] = [
        DeliveryStep::Hand,
        DeliveryStep::Accept,
        DeliveryStep::Receive,
        DeliveryStep::Open,
        DeliveryStep::Retry,
        DeliveryStep::Fail,
        DeliveryStep::Bounce,
        DeliveryStep::Expire,
        DeliveryStep::Supersede,
        DeliveryStep::Hold,
        DeliveryStep::Release,
        DeliveryStep::Suppress,
        DeliveryStep::Print,
        DeliveryStep::Post,
        DeliveryStep::Return,
    ];

    fn jst(hour: i8, minute: i8) -> Timestamp {
        Timestamp::from_jst(date(2026, 6, 5), time(hour, minute, 0, 0))
    }

    #[test]
    fn a_mail_that_came_back_blames_its_address_unless_the_code_names_something_else() {
        for code in ["bounced:5.1.1", "bounced:5.2.1", "bounced", "bounced:550", "unknown_mailbox", "mailbox_full"] {
            assert!(blames_address(code), "{code}");
        }
        for code in ["bounced:5.7.1", "bounced:5.3.4", "busy", "server_refuses", "content_refused", "no_address", ""] {
            assert!(!blames_address(code), "{code}");
        }
    }

    proptest! {
        /// Whatever happens in whatever order: what was opened stays opened, and what ended otherwise never
        /// goes out again.
        #[test]
        fn an_end_is_an_end(steps in proptest::collection::vec(0..STEPS.len(), 0..40)) {
            let mut state = DeliveryState::Queued;
            let mut ended = None;
            for step in steps {
                let Ok(next) = state.on(STEPS[step]) else { continue };
                if let Some(end) = ended {
                    prop_assert_eq!(next, end);
                }
                state = next;
                if matches!(state, DeliveryState::Opened | DeliveryState::Failed | DeliveryState::Expired
                    | DeliveryState::Superseded | DeliveryState::Suppressed | DeliveryState::Returned) {
                    ended = Some(state);
                }
            }
        }

        /// Nothing is handed out twice without a retry in between.
        #[test]
        fn each_handing_out_needs_the_queue(steps in proptest::collection::vec(0..STEPS.len(), 0..40)) {
            let (mut state, mut handed) = (DeliveryState::Queued, false);
            for step in steps.into_iter().map(|at| STEPS[at]) {
                let Ok(next) = state.on(step) else { continue };
                match step {
                    DeliveryStep::Hand => {
                        prop_assert!(!handed);
                        handed = true;
                    }
                    DeliveryStep::Retry => handed = false,
                    _ => {}
                }
                state = next;
            }
        }

        /// A retry never comes before its wait or what the provider asked for, and within a quarter more.
        #[test]
        fn a_retry_waits(attempts in 1_i64..=5, asked in 0_u64..10_000, dice: u8) {
            let policy = RetryPolicy::default();
            let nth = usize::try_from(attempts - 1).unwrap();
            let wait = policy.waits[nth].max(Duration::from_secs(asked));
            let due = policy.next(jst(12, 0), attempts, Some(Duration::from_secs(asked)), dice).unwrap();
            prop_assert!(due >= jst(12, 0).plus(wait) && due <= jst(12, 0).plus(wait + wait / 4));
            prop_assert_eq!(policy.next(jst(12, 0), 6, None, dice), None);
        }

        /// Paced push never leaves in the quiet hours and never waits longer than they last.
        #[test]
        fn quiet_hours_defer(seconds in 0_u64..20_000_000) {
            let now = jst(0, 0).plus(Duration::from_secs(seconds));
            let leaves = leaves_at(Channel::Push, Speed::Batch, now);
            let hour = leaves.jst().hour();
            prop_assert!((8..21).contains(&hour));
            prop_assert!(leaves >= now && leaves.since(now) <= Duration::from_secs(11 * 3_600));
            prop_assert_eq!(leaves_at(Channel::Push, Speed::Now, now), now);
            prop_assert_eq!(leaves_at(Channel::Email, Speed::Batch, now), now);
            prop_assert_eq!(is_held(Channel::Push, Speed::Batch, now), leaves > now);
            prop_assert!(!is_held(Channel::Push, Speed::Batch, leaves));
            prop_assert!(!is_held(Channel::Push, Speed::Now, now) && !is_held(Channel::Email, Speed::Batch, now));
        }

        #[test]
        fn a_receipt_token_survives_text(id: u128, key: i64) {
            let token = ReceiptToken { delivery_id: uuid::Uuid::from_u128(id).into(), key };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }
    }

    #[test]
    fn quiet_hours_end_at_eight() {
        assert_eq!(leaves_at(Channel::Push, Speed::Batch, jst(21, 0)), jst(8, 0).plus(Duration::from_secs(86_400)));
        assert_eq!(leaves_at(Channel::Push, Speed::Batch, jst(7, 59)), jst(8, 0));
        assert_eq!(leaves_at(Channel::Push, Speed::Batch, jst(20, 59)), jst(20, 59));
    }

    #[test]
    fn an_approval_and_the_distribution_of_its_child_show_as_one() {
        let (one, other) = (ChildId::new(jst(9, 0)), ChildId::new(jst(10, 0)));
        let key = |kind: &str, child: Option<ChildId>, message: MessageId| {
            collapse_key(messages::get(kind).unwrap(), "a1", child, message)
        };
        let (first, second) = (MessageId::new(jst(9, 0)), MessageId::new(jst(10, 0)));
        let approved = key("application.coupon.approved", Some(one), first);
        assert_eq!(approved, key("coupon.distributed", Some(one), second));
        assert_ne!(approved, key("coupon.distributed", Some(other), second));
        assert_eq!(key("application.coupon.approved", None, first), first.to_string(), "without a child its own");
        assert_eq!(key("coupon.used", Some(one), first), first.to_string(), "no other type shares with it");
        let deficient = |message| key("application.coupon.deficient", Some(one), message);
        assert_eq!(deficient(first), deficient(second), "K2 goes by the subject");
    }

    #[test]
    fn a_speed_is_found_by_its_place() {
        for speed in [Speed::Now, Speed::Min, Speed::Batch] {
            assert_eq!(speed_of(rank(speed)), speed);
        }
    }

    #[test]
    fn a_business_day_skips_the_weekend() {
        // 5 June 2026 is a Friday.
        let monday = Timestamp::from_jst(date(2026, 6, 8), time(10, 0, 0, 0));
        assert_eq!(escalates_at(EscalationRule::E4, None, jst(10, 0)), monday);
        assert_eq!(escalates_at(EscalationRule::E1, Some(10), jst(10, 0)), jst(10, 10));
    }

    #[test]
    fn what_is_held_leaves_only_after_its_release() {
        let held = DeliveryState::Queued.on(DeliveryStep::Hold).unwrap();
        assert!(held.on(DeliveryStep::Hand).is_err() && held.on(DeliveryStep::Expire).is_err());
        assert_eq!(held.on(DeliveryStep::Release), Ok(DeliveryState::Queued));
        assert_eq!(held.on(DeliveryStep::Supersede), Ok(DeliveryState::Superseded), "it was read in the inbox");
        assert_eq!(held.on(DeliveryStep::Suppress), Ok(DeliveryState::Suppressed));
        assert!(DeliveryState::Sent.on(DeliveryStep::Suppress).is_err(), "what left cannot be kept back");
    }

    #[test]
    fn a_receipt_may_overtake_the_provider() {
        let arrived = DeliveryState::Sent.on(DeliveryStep::Receive).unwrap();
        assert_eq!(arrived.on(DeliveryStep::Accept), Ok(DeliveryState::Delivered));
        assert!(DeliveryState::Failed.on(DeliveryStep::Retry).is_err());
    }

    #[test]
    fn codes_are_read_back() {
        for state in DeliveryState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
        }
        assert!("gone".parse::<DeliveryState>().is_err());
        assert!("nonsense".parse::<ReceiptToken>().is_err());
    }
}
