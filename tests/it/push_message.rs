//! Messages for the tests of the channels.

use std::time::Duration;

use todoke_domain::{Timestamp, ids::MessageId};
use todoke_notifier::{Address, Kind, Outgoing, Speed};

/// 2026-11-21T06:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_795_240_800_000_000);

pub(crate) fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// A notification about one application, as a guardian gets it.
pub(crate) fn message(address: Address) -> Outgoing {
    Outgoing {
        message_id: MessageId::new(NOW),
        address,
        kind: Kind::Notification,
        speed: Speed::Now,
        title: "予約が確定しました".to_owned(),
        body: "ひまわり保育園 2026年12月1日（火） 10:00〜12:30の予約が確定しました。".to_owned(),
        link: "https://todoke.example.jp/reservations/1".to_owned(),
        collapse_key: Some("reservation:019aa5b0-1111-7abc-8def-0123456789ab".to_owned()),
        label: "reservation.confirmed".to_owned(),
        expires_at: Some(later(3_600)),
        badge: Some(3),
        unsubscribe: None,
        receipt: Some("receipt-token".to_owned()),
        from: None,
    }
}

/// The same without a text that fits anywhere.
pub(crate) fn endless(address: Address) -> Outgoing {
    Outgoing { body: "長い\"本文\"です。\n".repeat(2_000), ..message(address) }
}
