//! A municipality with one of everything, written straight into a record: what contract tests begin from.

use std::time::Duration;

use jiff::civil::date;
use todoke_domain::{
    MunicipalityCode, Role, Timestamp, Yen,
    application::ApplicationState,
    coupon::{CouponTerms, DistributionAnchor, DistributionCycle, ExpiryAgeRule},
    ids::{
        AccountId, ApplicationId, ChildId, CouponId, CouponSetId, DocumentId, EventId, FacilityId, GuardianId, LotId,
        MessageId,
    },
    ledger::LotAmount,
    number::NumberKind,
    qr::QrToken,
};
use todoke_store::{
    Store, Tx, Wall,
    account::Account,
    application::{Application, ApplicationStep},
    child::{Child, ChildQr},
    coupon::{Coupon, LedgerEntry, LotRow},
    coupon_set::CouponSet,
    document::Document,
    facility::Facility,
    guardian::Guardian,
    message::Message,
    municipality::{Municipality, Programme},
};

/// 2026-06-01T03:00:00Z: noon in Japan, fiscal year 2026.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_780_282_800_000_000);
/// The programme every facility here runs.
pub(crate) const PROGRAMME: &str = "ichiji";

/// The municipality most tests happen in.
pub(crate) fn town() -> MunicipalityCode {
    "271004".parse().unwrap()
}

/// Its neighbour behind the wall.
pub(crate) fn neighbour() -> MunicipalityCode {
    "272027".parse().unwrap()
}

/// `NOW` plus seconds.
pub(crate) fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// One of everything.
pub(crate) struct City {
    pub(crate) code: MunicipalityCode,
    pub(crate) facility: Facility,
    pub(crate) staff: Account,
    pub(crate) operator: Account,
    pub(crate) guardian: Guardian,
    pub(crate) parent: Account,
    pub(crate) child: Child,
    pub(crate) child_qr: String,
    pub(crate) set: CouponSet,
    pub(crate) application: Application,
    pub(crate) coupon: Coupon,
    pub(crate) document: Document,
    pub(crate) message: Message,
}

impl City {
    /// Writes it, with `balance` yen on the one coupon.
    pub(crate) async fn found(store: &Store, code: &MunicipalityCode, balance: i64) -> Self {
        let mut tx = store.begin_write(Wall::None).await.unwrap();
        let facility = found_municipality(&mut tx, code).await;
        let guardian = guardian(code);
        tx.insert_guardian(&guardian, NOW).await.unwrap();
        let mut parent = account(code, Role::Guardian, &format!("parent@{code}.example.jp"));
        parent.guardian_id = Some(guardian.guardian_id);
        let mut staff = account(code, Role::FacilityStaff, &format!("staff@{code}.example.jp"));
        staff.facility_id = Some(facility.facility_id);
        let operator = account(code, Role::Operator, &format!("operator@{code}.example.jp"));
        for row in [&parent, &staff, &operator] {
            tx.insert_account(row, NOW).await.unwrap();
        }
        let child = child(code, guardian.guardian_id);
        tx.insert_child(&child, NOW).await.unwrap();
        let child_qr = QrToken::from_bits(child.child_id.as_uuid().as_u128()).to_string();
        let qr = ChildQr { token: child_qr.clone(), resident_no: None, child_id: Some(child.child_id) };
        tx.insert_child_qr(code, &qr, NOW).await.unwrap();
        let set = coupon_set(code);
        tx.insert_coupon_set(&set, NOW).await.unwrap();
        let application = application(&mut tx, code, &child).await;
        let coupon = coupon(&mut tx, &application, &set, balance).await;
        let document = document(&mut tx, &parent, application.application_id).await;
        let message = message(&parent);
        assert_eq!(tx.insert_messages(std::slice::from_ref(&message)).await.unwrap().len(), 1);
        tx.commit().await.unwrap();
        Self {
            code: code.clone(),
            facility,
            staff,
            operator,
            guardian,
            parent,
            child,
            child_qr,
            set,
            application,
            coupon,
            document,
            message,
        }
    }

    /// Writes another coupon of the child, of a set of its own, with as long a life as the first.
    pub(crate) async fn another_coupon(&self, store: &Store, balance: i64) {
        let mut tx = store.begin_write(Wall::None).await.unwrap();
        let set = coupon_set(&self.code);
        tx.insert_coupon_set(&set, NOW).await.unwrap();
        coupon(&mut tx, &self.application, &set, balance).await;
        tx.commit().await.unwrap();
    }

    /// Writes a coupon of another child, as long-lived as the first.
    pub(crate) async fn coupon_of(&self, store: &Store, child: &Child, balance: i64) {
        let mut tx = store.begin_write(Wall::None).await.unwrap();
        let application =
            Application { child_id: child.child_id, guardian_id: child.guardian_id, ..self.application.clone() };
        coupon(&mut tx, &application, &self.set, balance).await;
        tx.commit().await.unwrap();
    }
}

async fn found_municipality(tx: &mut Tx, code: &MunicipalityCode) -> Facility {
    tx.insert_municipality(&Municipality { municipality_code: code.clone(), name: format!("{code}市") }, NOW)
        .await
        .unwrap();
    let programme =
        Programme { programme_code: PROGRAMME.to_owned(), name: "一時保育".to_owned(), coupon_enabled: true };
    tx.insert_programme(code, &programme).await.unwrap();
    let facility = Facility {
        facility_id: FacilityId::new(NOW),
        municipality_code: code.clone(),
        facility_no: "1000001".to_owned(),
        name: "みどり保育園".to_owned(),
        ward_code: "27127".to_owned(),
        address: "北区1-1".to_owned(),
        phone: "06-0000-0000".to_owned(),
        is_public: false,
        coupon_qr: QrToken::from_bits(FacilityId::new(NOW).as_uuid().as_u128()).to_string(),
    };
    tx.insert_facility(&facility, &[PROGRAMME.to_owned()], NOW).await.unwrap();
    facility
}

/// An account that signs in with `email`.
pub(crate) fn account(code: &MunicipalityCode, role: Role, email: &str) -> Account {
    let account_id = AccountId::new(NOW);
    Account {
        account_id,
        municipality_code: code.clone(),
        role,
        email: Some(email.to_owned()),
        name: "大阪 花子".to_owned(),
        name_kana: "オオサカ ハナコ".to_owned(),
        password_hash: None,
        state: "active".to_owned(),
        guardian_id: None,
        facility_id: None,
        relation: None,
        valid_from: date(2025, 4, 1),
        valid_to: date(2999, 12, 31),
        person_key: Some(random_key(account_id.as_uuid().as_u128())),
        terms_version: 1,
        language: "ja".to_owned(),
    }
}

/// The random part of an id as a person's key.
fn random_key(id: u128) -> i64 {
    i64::try_from(id & 0x0fff_ffff_ffff_ffff).unwrap()
}

fn guardian(code: &MunicipalityCode) -> Guardian {
    Guardian {
        guardian_id: GuardianId::new(NOW),
        municipality_code: code.clone(),
        guardian_no: "G25-0000001".to_owned(),
        name: "大阪 花子".to_owned(),
        name_kana: "オオサカ ハナコ".to_owned(),
        sex: Some("female".to_owned()),
        birth_date: Some(date(1992, 2, 3)),
        postal_code: "530-0001".to_owned(),
        address: "北区2-2".to_owned(),
        ward_code: "27127".to_owned(),
        phone: "090-0000-0000".to_owned(),
        contact_channel: "app".to_owned(),
        suspended: false,
    }
}

fn child(code: &MunicipalityCode, guardian_id: GuardianId) -> Child {
    let child_id = ChildId::new(NOW);
    Child {
        child_id,
        municipality_code: code.clone(),
        guardian_id,
        child_no: "K26-0000001".to_owned(),
        name: "大阪 ゆい".to_owned(),
        name_kana: "オオサカ ユイ".to_owned(),
        sex: "female".to_owned(),
        birth_date: date(2025, 5, 5),
        resident_no: None,
        moved_out_on: None,
        person_key: Some(random_key(child_id.as_uuid().as_u128())),
    }
}

fn coupon_set(code: &MunicipalityCode) -> CouponSet {
    CouponSet {
        coupon_set_id: CouponSetId::new(NOW),
        municipality_code: code.clone(),
        title: "子育て応援クーポン".to_owned(),
        terms: CouponTerms {
            distribution_cycle: DistributionCycle::HalfYearly,
            distribution_anchor: DistributionAnchor::ApprovalDate,
            distribution_amount_yen: Yen::new(15_000),
            expiry_age_years: 3,
            expiry_age_rule: ExpiryAgeRule::TwoDaysBeforeBirthday,
            expiry_after_moveout_months: 12,
            expiry_fixed_date: None,
        },
        programmes: vec![PROGRAMME.to_owned()],
        valid_from: date(2025, 4, 1),
    }
}

async fn application(tx: &mut Tx, code: &MunicipalityCode, child: &Child) -> Application {
    let application = Application {
        application_id: ApplicationId::new(NOW),
        municipality_code: code.clone(),
        application_no: tx.next_number(code, NumberKind::Application, NOW).await.unwrap(),
        state: ApplicationState::Approved.as_str().to_owned(),
        child_id: child.child_id,
        guardian_id: child.guardian_id,
        relation: "母".to_owned(),
        entry: "online".to_owned(),
        via_child_qr: true,
        contact_channel: "app".to_owned(),
        coupon_set_id: None,
        submitted_at: NOW,
        decided_at: Some(NOW),
        deficiency: None,
        reason: None,
        matching_error: None,
        matching_candidates: None,
        guardian_confirmed: Some(true),
        round: 0,
        version: 1,
    };
    tx.insert_application(&application).await.unwrap();
    let step =
        ApplicationStep { state: application.state.clone(), at: NOW, by_role: "operator".to_owned(), note: None };
    tx.add_application_step(application.application_id, &step).await.unwrap();
    application
}

async fn coupon(tx: &mut Tx, application: &Application, set: &CouponSet, balance: i64) -> Coupon {
    let code = &application.municipality_code;
    let coupon = Coupon {
        coupon_id: CouponId::new(NOW),
        municipality_code: code.clone(),
        coupon_no: tx.next_number(code, NumberKind::Coupon, NOW).await.unwrap(),
        child_id: application.child_id,
        guardian_id: application.guardian_id,
        coupon_set_id: set.coupon_set_id,
        application_id: application.application_id,
        state: "active".to_owned(),
        balance_yen: Yen::new(balance),
        ledger_seq: 1,
        approved_on: NOW.jst_date(),
        cycle_no: 1,
        next_cycle_on: None,
    };
    tx.insert_coupon(&coupon, NOW).await.unwrap();
    let lot = LotRow {
        lot_id: LotId::new(NOW),
        coupon_id: coupon.coupon_id,
        amount_yen: coupon.balance_yen,
        rest_yen: coupon.balance_yen,
        expires_on: date(2028, 5, 3),
        expiry_rule: "age".to_owned(),
        cycle_no: 1,
    };
    tx.insert_lot(&lot, NOW).await.unwrap();
    let entry = LedgerEntry {
        coupon_id: coupon.coupon_id,
        seq: 1,
        kind: "distributed",
        delta: coupon.balance_yen,
        balance_after: coupon.balance_yen,
        lines: vec![LotAmount { lot_id: lot.lot_id, amount: lot.amount_yen }],
        use_id: None,
        reason: None,
    };
    tx.book(&entry, NOW).await.unwrap();
    coupon
}

async fn document(tx: &mut Tx, owner: &Account, application: ApplicationId) -> Document {
    let document = Document {
        document_id: DocumentId::new(NOW),
        municipality_code: owner.municipality_code.clone(),
        account_id: owner.account_id,
        application_id: None,
        kind: "child_identity".to_owned(),
        content_type: "image/png".to_owned(),
    };
    tx.insert_document(&document, b"secret bytes", NOW).await.unwrap();
    assert!(tx.attach_document(document.document_id, owner.account_id, application).await.unwrap());
    document
}

fn message(to: &Account) -> Message {
    let message_id = MessageId::new(NOW);
    Message {
        message_id,
        municipality_code: to.municipality_code.clone(),
        account_id: to.account_id,
        message_type: "coupon.used".to_owned(),
        category: "coupon".to_owned(),
        class: "mandatory".to_owned(),
        subject_kind: "coupon_use".to_owned(),
        subject_id: message_id.to_string(),
        subject_no: None,
        title: "題".to_owned(),
        body: "本文".to_owned(),
        link: "/".to_owned(),
        in_inbox: true,
        cause_event_id: EventId::new(NOW),
        dedupe_key: message_id.to_string(),
        locale: "ja".to_owned(),
        template_version: 1,
        created_at: NOW,
        delivered_at: None,
        read_at: None,
    }
}
