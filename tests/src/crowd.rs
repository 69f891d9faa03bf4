//! Many households at once, written straight into a record: the audience of a large broadcast.

use jiff::civil::date;
use todoke_domain::{
    MunicipalityCode, Role, Timestamp,
    ids::{AccountId, GuardianId, SessionId},
};
use todoke_store::{Store, Wall, account::Account, guardian::Guardian, session::Session};
use todoke_workflow::secret;

const PER_TRANSACTION: usize = 5_000;

/// Writes `n` guardians of a ward, with a sign-in and without children, and gives their accounts.
///
/// Panics when the record refuses one.
pub async fn crowd(store: &Store, code: &MunicipalityCode, ward: &str, n: usize, now: Timestamp) -> Vec<AccountId> {
    let mut accounts = Vec::with_capacity(n);
    while accounts.len() < n {
        let mut tx = store.begin_write(Wall::None).await.unwrap();
        for no in accounts.len()..(accounts.len() + PER_TRANSACTION).min(n) {
            let guardian = guardian(code, ward, no, now);
            tx.insert_guardian(&guardian, now).await.unwrap();
            let account = account(&guardian, now);
            tx.insert_account(&account, now).await.unwrap();
            accounts.push(account.account_id);
        }
        tx.commit().await.unwrap();
    }
    accounts
}

/// Begins a session for an account and gives its bearer token, as a sign-in would.
pub async fn session(store: &Store, account_id: AccountId, now: Timestamp) -> String {
    let token = secret::token();
    let row = Session {
        session_id: SessionId::new(now),
        account_id,
        csrf_token: secret::token(),
        created_at: now,
        seen_at: now,
    };
    let mut tx = store.begin_write(Wall::None).await.unwrap();
    tx.insert_session(&row, &secret::hash(&token)).await.unwrap();
    tx.commit().await.unwrap();
    token
}

fn guardian(code: &MunicipalityCode, ward: &str, no: usize, now: Timestamp) -> Guardian {
    Guardian {
        guardian_id: GuardianId::new(now),
        municipality_code: code.clone(),
        guardian_no: format!("G99-{no:07}-{ward}"),
        name: format!("群衆 {no}"),
        name_kana: "グンシュウ".to_owned(),
        sex: None,
        birth_date: None,
        postal_code: "530-0001".to_owned(),
        address: "北区".to_owned(),
        ward_code: ward.to_owned(),
        phone: String::new(),
        contact_channel: "app".to_owned(),
        suspended: false,
    }
}

fn account(guardian: &Guardian, now: Timestamp) -> Account {
    let account_id = AccountId::new(now);
    Account {
        account_id,
        municipality_code: guardian.municipality_code.clone(),
        role: Role::Guardian,
        email: Some(format!("{account_id}@crowd.example.jp")),
        name: guardian.name.clone(),
        name_kana: guardian.name_kana.clone(),
        password_hash: None,
        state: "active".to_owned(),
        guardian_id: Some(guardian.guardian_id),
        facility_id: None,
        relation: None,
        valid_from: date(2025, 4, 1),
        valid_to: date(2999, 12, 31),
        person_key: Some(secret::person_key()),
        terms_version: 1,
        language: "ja".to_owned(),
    }
}
