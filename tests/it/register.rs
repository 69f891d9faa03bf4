//! Files of the register and families in it, for the tests of imports, invitations, surveys and notices.

use jiff::civil::Date;
use todoke_domain::{
    Event, MunicipalityCode, Role, Timestamp,
    ids::{ChildId, GuardianId},
};
use todoke_store::{Store, Wall, account::Account, child::Child, guardian::Guardian, message::Message};
use todoke_workflow::{
    Workflow,
    import::{ImportKind, ImportOutcome},
};

use crate::city::{City, NOW, account};

pub(crate) const MOVEMENT_HEADER: &str =
    "resident_no,name_kana,name,sex,birth_date,household_no,movement_kind,movement_date,postal_code,address";
pub(crate) const RELATION_HEADER: &str =
    "resident_no,relation_resident_no,relation_name_kana,relation_birth_date,relation_kind";

/// A row of the movement data for a girl of household `H<no>`.
pub(crate) fn movement(no: &str, birth: &str, kind: &str, on: &str) -> String {
    format!("{no},サトウ {},佐藤 子{no},female,{birth},H{no},{kind},{on},530-0001,大阪市北区1-{no}", kana(no))
}

/// A name in kana that differs for each number.
pub(crate) fn kana(no: &str) -> String {
    no.chars().map(|c| char::from_u32(u32::from('ア') + 2 * (u32::from(c) % 40)).unwrap()).collect()
}

/// A file of lines.
pub(crate) fn file(header: &str, rows: &[String]) -> String {
    format!("{header}\r\n{}\r\n", rows.join("\r\n"))
}

/// Imports a file as the operator.
pub(crate) async fn import(
    workflow: &Workflow,
    city: &City,
    kind: ImportKind,
    content: &str,
    now: Timestamp,
) -> ImportOutcome {
    workflow.import_file(&city.operator(), kind, "情報.csv", content.as_bytes(), false, now).await.unwrap()
}

/// Imports movements that must be taken.
pub(crate) async fn move_people(workflow: &Workflow, city: &City, rows: &[String], now: Timestamp) -> ImportOutcome {
    let outcome = import(workflow, city, ImportKind::Movement, &file(MOVEMENT_HEADER, rows), now).await;
    assert!(outcome.is_completed(), "{:?}", outcome.first_errors);
    outcome
}

/// Every event of the record so far, in order.
pub(crate) async fn events(store: &Store) -> Vec<Event> {
    let mut all = Vec::new();
    let mut after = 0;
    while let Some(batch) = store.assign_lake_batch(after, 100_000).await.unwrap() {
        after = batch.batch_no;
        all.extend(batch.events);
    }
    all
}

/// The events of one type.
pub(crate) async fn events_of(store: &Store, event_type: &str) -> Vec<Event> {
    let mut all = events(store).await;
    all.retain(|event| event.event_type == event_type);
    all
}

/// The inbox of an account, newest first, of one message type.
pub(crate) async fn inbox(store: &Store, account: &Account, message_type: &str) -> Vec<Message> {
    let mut tx = store.begin_read(Wall::None).await.unwrap();
    let mut messages = tx.inbox(account.account_id, false, None, 1_000).await.unwrap();
    messages.retain(|message| message.message_type == message_type);
    messages
}

/// Makes a child known as a resident of the register.
pub(crate) async fn link(store: &Store, child: &Child, resident_no: &str) {
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    tx.update_child(&Child { resident_no: Some(resident_no.to_owned()), ..child.clone() }).await.unwrap();
    tx.commit().await.unwrap();
}

/// A family with a sign-in and a child.
pub(crate) struct Family {
    pub(crate) parent: Account,
    pub(crate) child: Child,
}

/// Writes family number `no`, living in `ward`, with a child born on `birth`.
pub(crate) async fn family(store: &Store, code: &MunicipalityCode, no: usize, ward: &str, birth: Date) -> Family {
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    let guardian = Guardian {
        guardian_id: GuardianId::new(NOW),
        municipality_code: code.clone(),
        guardian_no: format!("G25-{no:07}"),
        name: format!("田中 {no}"),
        name_kana: "タナカ ハナ".to_owned(),
        sex: None,
        birth_date: None,
        postal_code: "530-0001".to_owned(),
        address: "大阪市北区".to_owned(),
        ward_code: ward.to_owned(),
        phone: String::new(),
        contact_channel: "app".to_owned(),
        suspended: false,
    };
    tx.insert_guardian(&guardian, NOW).await.unwrap();
    let mut parent = account(code, Role::Guardian, &format!("family{no}@{code}.example.jp"));
    parent.guardian_id = Some(guardian.guardian_id);
    tx.insert_account(&parent, NOW).await.unwrap();
    let child_id = ChildId::new(NOW);
    let child = Child {
        child_id,
        municipality_code: code.clone(),
        guardian_id: guardian.guardian_id,
        child_no: format!("K25-{no:07}"),
        name: format!("田中 子{no}"),
        name_kana: "タナカ コ".to_owned(),
        sex: "male".to_owned(),
        birth_date: birth,
        resident_no: None,
        moved_out_on: None,
        person_key: Some(i64::try_from(child_id.as_uuid().as_u128() & 0x0fff_ffff_ffff_ffff).unwrap()),
    };
    tx.insert_child(&child, NOW).await.unwrap();
    tx.commit().await.unwrap();
    Family { parent, child }
}
