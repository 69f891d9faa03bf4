//! The wall in front of devices, deliveries and escalations: another municipality's are not there.

use std::time::Duration;

use todoke_domain::{
    delivery::{DeliveryState, DevicePermission, Provider, Purpose},
    ids::{DeliveryId, DeviceId},
};
use todoke_store::{
    Tx, Wall,
    delivery::{Mark, NewDelivery},
    delivery_view::MessageSearch,
    device::Device,
    escalation::Escalation,
};
use todoke_tests::stores::TestStore;

use crate::city::{City, NOW, after, neighbour, town};

todoke_tests::on_both_databases! {
    nothing_on_its_way_in_another_municipality_is_seen,
    nothing_on_its_way_in_another_municipality_is_claimed_or_changed,
}

fn delivery(city: &City, provider: Provider, target: &str, purpose: Purpose) -> NewDelivery {
    NewDelivery {
        delivery_id: DeliveryId::new(NOW),
        message_id: city.message.message_id,
        municipality_code: city.code.clone(),
        account_id: city.parent.account_id,
        message_type: "coupon.used".to_owned(),
        purpose,
        provider,
        target: target.to_owned(),
        edition: 0,
        speed: 0,
        subject: "題".to_owned(),
        body: "本文".to_owned(),
        link: "/".to_owned(),
        collapse_key: "key".to_owned(),
        optional: false,
        secret: false,
        escalation: None,
        state: DeliveryState::Queued,
        error_code: None,
        due_at: NOW,
        expires_at: Some(after(600)),
        receipt_key: 1,
        cause_at: NOW,
        created_at: NOW,
    }
}

/// One of everything that is on its way, some of it tried already.
async fn enrich(db: &TestStore, city: &City) -> (DeliveryId, DeviceId) {
    let device_id = DeviceId::new(NOW);
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    let device = Device {
        device_id,
        municipality_code: city.code.clone(),
        account_id: city.parent.account_id,
        kind: Provider::Fcm,
        address: format!("token-{}", city.code),
        p256dh: String::new(),
        auth: String::new(),
        sandbox: false,
        permission: DevicePermission::Granted,
        language: "ja".to_owned(),
        platform: "android".to_owned(),
        os_version: String::new(),
        app_version: String::new(),
        registered_at: NOW,
        seen_at: NOW,
        removed_at: None,
        removed_reason: None,
    };
    assert!(tx.put_device(&device).await.unwrap());
    let failed = delivery(city, Provider::WebPush, "gone", Purpose::Notification);
    let hanging = delivery(city, Provider::Apns, "hanging", Purpose::Notification);
    let waiting = NewDelivery {
        escalation: Some("E1"),
        due_at: after(300),
        ..delivery(city, Provider::Smtp, "parent@example.jp", Purpose::Notification)
    };
    let shared = NewDelivery {
        escalation: Some("E3"),
        due_at: after(300),
        ..delivery(city, Provider::Smtp, "staff@example.jp", Purpose::Notification)
    };
    let letter = delivery(city, Provider::Paper, "X26-0000009", Purpose::Notification);
    let queued = delivery(city, Provider::Fcm, &device_id.to_string(), Purpose::Notification);
    let queued_id = queued.delivery_id;
    tx.insert_deliveries(&[failed, hanging, waiting, shared, letter, queued]).await.unwrap();
    for provider in [Provider::WebPush, Provider::Apns] {
        for row in tx.claim_deliveries(provider, 10, NOW, after(60)).await.unwrap() {
            if provider == Provider::WebPush {
                let mark = Mark::to(DeliveryState::Failed, NOW);
                assert!(tx.mark_delivery(&row, &mark).await.unwrap());
            }
        }
    }
    let look = Escalation {
        message_id: city.message.message_id,
        rule: "failed".to_owned(),
        municipality_code: city.code.clone(),
        due_at: NOW,
        leased_until: NOW.minus(Duration::from_secs(1)),
    };
    tx.insert_escalations(&[look]).await.unwrap();
    tx.commit().await.unwrap();
    (queued_id, device_id)
}

macro_rules! rows {
    ($($name:ident($call:expr)),+ $(,)?) => {
        vec![$((stringify!($name), $call.await.unwrap().into_iter().count())),+]
    };
}

fn anything(pattern: Option<&'static str>) -> MessageSearch<'static> {
    let (from, until) = (NOW.minus(Duration::from_secs(60)), after(60));
    MessageSearch { pattern, message_type: "", from, until, before: None }
}

async fn everything(tx: &mut Tx, city: &City, ids: (DeliveryId, DeviceId)) -> Vec<(&'static str, usize)> {
    let (account, message) = (city.parent.account_id, city.message.message_id);
    let other = todoke_domain::ids::MessageId::new(NOW);
    rows![
        devices_of(tx.devices_of(account)),
        push_devices(tx.push_devices(&[account])),
        devices(tx.devices(&[ids.1.to_string()])),
        reach_due(tx.reach_due(&city.code, 10)),
        delivery(tx.delivery(ids.0)),
        deliveries_of(tx.deliveries_of(message)),
        pushes_shown(tx.pushes_shown(account, "key", other)),
        queued_deliveries_of(tx.queued_deliveries_of(account)),
        waiting_mails(tx.waiting_mails(message)),
        waiting_mails_of_cause(tx.waiting_mails_of_cause(city.message.cause_event_id, "coupon.used")),
        mails(tx.mails(None, 10)),
        queue_depths(tx.queue_depths(NOW)),
        deliveries_with_ended_lease(tx.deliveries_with_ended_lease(after(61), 10)),
        deliveries_past_their_time(tx.deliveries_past_their_time(Provider::Fcm, after(601), 10)),
        delivery_of_letter(tx.delivery_of_letter(&city.code, "X26-0000009")),
        delivery_funnel(tx.delivery_funnel(&city.code, NOW.minus(Duration::from_secs(60)), after(60))),
        unreached(tx.unreached(&city.code, NOW.minus(Duration::from_secs(60)), after(60), 10)),
        count_unreached(async {
            let n = tx.count_unreached(&city.code, NOW.minus(Duration::from_secs(60)), after(60)).await;
            n.map(|n| 0..n)
        }),
        find_messages(tx.find_messages(&city.code, anything(None), 10)),
        find_messages_of(tx.find_messages(&city.code, anything(Some("%")), 10)),
        unread_among(tx.unread_among(&[account])),
        message_by_id(tx.message_by_id(message)),
        message_of_key(tx.message_of_key(&city.message.dedupe_key)),
    ]
}

async fn nothing_on_its_way_in_another_municipality_is_seen(db: &TestStore) {
    City::found(db, &town(), 1_000).await;
    let theirs = City::found(db, &neighbour(), 1_000).await;
    let ids = enrich(db, &theirs).await;
    let mut open = db.begin_read(Wall::None).await.unwrap();
    let missed: Vec<_> = everything(&mut open, &theirs, ids).await.into_iter().filter(|(_, n)| *n == 0).collect();
    assert!(missed.is_empty(), "found nothing even without a wall, so they show nothing here: {missed:?}");
    drop(open);
    let mut walled = db.begin_read(Wall::Around(town())).await.unwrap();
    let leaked: Vec<_> = everything(&mut walled, &theirs, ids).await.into_iter().filter(|(_, n)| *n > 0).collect();
    assert!(leaked.is_empty(), "rows of {} behind the wall of {}: {leaked:?}", neighbour(), town());
}

async fn nothing_on_its_way_in_another_municipality_is_claimed_or_changed(db: &TestStore) {
    City::found(db, &town(), 1_000).await;
    let theirs = City::found(db, &neighbour(), 1_000).await;
    let (_, device) = enrich(db, &theirs).await;
    let mut walled = db.begin_write(Wall::Around(town())).await.unwrap();
    assert!(walled.claim_deliveries(Provider::Fcm, 10, NOW, after(60)).await.unwrap().is_empty());
    assert!(!walled.has_due_deliveries(Provider::Fcm, NOW).await.unwrap());
    assert!(walled.claim_escalations(10, NOW, after(60)).await.unwrap().is_empty());
    assert!(!walled.remove_device(theirs.parent.account_id, device, "own_wish", NOW).await.unwrap());
    let address = theirs.parent.email.as_deref().unwrap();
    assert!(!walled.note_mail_failed(theirs.parent.account_id, address).await.unwrap());
    walled.review_reach(theirs.parent.account_id).await.unwrap();
    assert_eq!(walled.look_at_reach(device).await.unwrap(), None);
    assert!(!walled.withdraw_message(theirs.message.message_id, NOW).await.unwrap());
    assert!(!walled.mark_print_item(&theirs.code, "X26-0000009", "queued", "printed").await.unwrap());
    assert!(!walled.reword_letter(&theirs.code, "X26-0000009", "題", "本文").await.unwrap());
    assert!(!walled.withdraw_letter(&theirs.code, "X26-0000009", NOW).await.unwrap());
    walled.commit().await.unwrap();
    let mut open = db.begin_write(Wall::None).await.unwrap();
    assert_eq!(open.claim_deliveries(Provider::Fcm, 10, NOW, after(60)).await.unwrap().len(), 1);
    assert_eq!(open.claim_escalations(10, NOW, after(60)).await.unwrap().len(), 1);
}
