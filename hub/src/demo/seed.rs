//! Building up the demo's year: day after day, by the use cases, with the time of that day passed in.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::Context;
use jiff::civil::{Date, time};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use todoke_domain::{
    MunicipalityCode, Role, Timestamp, Yen,
    account::NewPassword,
    application::ApplicationState,
    coupon::{CouponTerms, DistributionAnchor, DistributionCycle, ExpiryAgeRule},
    ids::{CouponId, FacilityId, SessionId},
    time::add_days,
};
use todoke_lake::{EventRows, Lake, LakeOptions};
use todoke_store::{
    Durability, Store, Wall, account::Account, facility::Facility, municipality::Municipality, session::Session,
};
use todoke_workflow::{
    Actor, NobodyListens, Workflow, WorkflowError,
    account::OfficeDraft,
    application::{Submission, Verdict},
    coupon::{CouponsOf, Payer, Place, Purpose, UseRequest},
    notice::NoticeDraft,
    secret,
    survey::{Conditions, SurveyDraft},
};

use super::{
    broadcasts,
    city::{self, City},
    people, reach, usage,
};
use crate::{config::Config, server};

/// Password of every demo account.
const PASSWORD: &str = "Todoke-demo-1";
/// Events read from the log at a time when the lake is filled.
const DRAIN_ROWS: i64 = 50_000;

/// Size of the demo.
#[derive(Debug, Clone)]
pub struct DemoPlan {
    /// Households of the city; the neighbour has a twentieth.
    pub families: usize,
    /// Facilities of the city; the neighbour has a twentieth.
    pub facilities: usize,
    /// Days of history.
    pub history_days: i32,
    /// Seed of the randomness.
    pub seed: u64,
}

/// An account one can sign in with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DemoAccount {
    /// Sign-in name.
    pub email: String,
    /// Password.
    pub password: String,
    /// Wall.
    pub municipality_code: MunicipalityCode,
}

/// What the demo prints and writes into its ready file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DemoAccounts {
    /// By role.
    pub accounts: BTreeMap<String, DemoAccount>,
    /// A second guardian and facility, and those of the neighbour, by role.
    pub more_accounts: BTreeMap<String, DemoAccount>,
    /// By role.
    pub api_keys: BTreeMap<String, String>,
    /// Code and name.
    pub municipalities: Vec<BTreeMap<String, String>>,
}

/// One city under construction.
struct Growing<'a> {
    workflow: &'a Workflow,
    city: City,
    rng: StdRng,
    /// Apart from the rest, so that the same seed goes on making the same city.
    devices: StdRng,
    facilities: Vec<(Facility, Vec<String>)>,
    families: Vec<Family>,
    password_hash: String,
}

/// A household with what it can pay with.
struct Family {
    actor: Actor,
    account: Account,
    coupons: Vec<CouponId>,
}

/// Makes the demo's data, unless they are there; gives the accounts.
///
/// A build that was cut short leaves a mark and is begun anew.
pub async fn prepare(config: &Config, plan: &DemoPlan, now: Timestamp) -> anyhow::Result<DemoAccounts> {
    let (made, mark) = (config.data.join("demo.json"), config.data.join("demo.building"));
    if let Ok(text) = fs::read(&made) {
        return Ok(serde_json::from_slice(&text)?);
    }
    if mark.exists() {
        clear(&config.data)?;
    } else if config.data.exists() && fs::read_dir(&config.data)?.next().is_some() {
        anyhow::bail!("{} holds something else than a demo", config.data.display());
    }
    fs::create_dir_all(&config.data)?;
    if !config.lake.url.is_empty() {
        // A demo makes a lake and never clears one that is not in its folder: it may be somebody's.
        let location = config.lake_location()?;
        location.probe().await.with_context(|| format!("the lake cannot be in {location}"))?;
        anyhow::ensure!(location.is_empty().await?, "{location} holds something already: empty it for a new demo");
    }
    fs::write(&mark, b"")?;
    let accounts = build(config, plan, now).await?;
    fs::write(&made, serde_json::to_vec_pretty(&accounts)?)?;
    fs::File::open(&made)?.sync_all()?;
    fs::remove_file(&mark)?;
    Ok(accounts)
}

fn clear(data: &Path) -> anyhow::Result<()> {
    for name in ["record.sqlite", "record.sqlite-wal", "record.sqlite-shm"] {
        let path = data.join(name);
        if path.exists() {
            fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    for name in ["lake", "ingest", server::ROLLUPS] {
        let path = data.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

async fn build(config: &Config, plan: &DemoPlan, now: Timestamp) -> anyhow::Result<DemoAccounts> {
    let store = server::open_record(config, Durability::Seeding).await?;
    server::identity(&store, &crate::clock::Clock::system()).await?;
    let workflow = Workflow::new(store.clone(), Arc::new(NobodyListens), &config.public_url());
    let lake = Lake::open(&config.lake_location()?, LakeOptions { fsync: false, ..LakeOptions::default() }).await?;
    let password = NewPassword::parse(PASSWORD.to_owned()).map_err(anyhow::Error::new)?;
    let password_hash = secret::hash_password(&password)?;
    let mut accounts = DemoAccounts::default();
    let first_day = add_days(now.jst_date(), -plan.history_days);
    for (i, city) in city::cities().into_iter().enumerate() {
        let share = if i == 0 { 1 } else { 20 };
        let mut growing = Growing {
            workflow: &workflow,
            rng: StdRng::seed_from_u64(plan.seed.wrapping_add(i as u64)),
            devices: StdRng::seed_from_u64(plan.seed.wrapping_add(100 + i as u64)),
            facilities: Vec::new(),
            families: Vec::new(),
            password_hash: password_hash.clone(),
            city,
        };
        growing.found((plan.facilities / share).max(2), first_day, &mut accounts, i == 0).await?;
        growing.live((plan.families / share).max(4), first_day, now, &mut accounts, i == 0).await?;
        growing.ask_people(now).await?;
        growing.share_an_account(now).await?;
        let guardians: Vec<Actor> = growing.families.iter().map(|family| family.actor.clone()).collect();
        broadcasts::seed(&workflow, &growing.city.code, &guardians, now, &mut growing.rng).await?;
        tracing::info!(municipality = %growing.city.code, families = growing.families.len(), "history made");
        let people: Vec<(i64, bool)> = {
            let mut tx = store.begin_read(Wall::None).await?;
            let mut people = Vec::new();
            for family in &growing.families {
                let agreed = tx.has_consent(family.account.account_id, "usage_analytics").await?;
                people.extend(family.account.person_key.map(|key| (key, agreed)));
            }
            people
        };
        usage::history(&lake, &growing.city.code, &people, first_day, now, &mut growing.rng).await?;
    }
    found_authority(&workflow, &password_hash, first_day, &mut accounts).await?;
    // Whatever fell due in the made-up past was looked after then.
    let mut tx = store.begin_long(Wall::None).await?;
    tx.forget_escalations(now).await?;
    tx.settle_made_up_past(now).await?;
    tx.commit().await?;
    drain(&store, &lake, now, &mut StdRng::seed_from_u64(plan.seed.wrapping_add(0x5bd1))).await?;
    crate::dimensions::copy(&store, &lake).await?;
    store.close().await;
    Ok(accounts)
}

/// The prefecture above the city and its neighbour, with somebody who looks at their figures.
async fn found_authority(
    workflow: &Workflow,
    password_hash: &str,
    first_day: Date,
    accounts: &mut DemoAccounts,
) -> anyhow::Result<()> {
    let now = Timestamp::from_jst(first_day, time(8, 0, 0, 0));
    let authority = city::authority()?;
    let mut tx = workflow.store().begin_write(Wall::None).await?;
    tx.insert_municipality(&authority, now).await?;
    tx.commit().await?;
    let role = Role::StatsViewer.as_str();
    let draft = OfficeDraft {
        email: format!("{role}@hikari.example.jp"),
        name: "統計 花子".to_owned(),
        role: role.to_owned(),
        ..OfficeDraft::default()
    };
    let actor = Actor::system(authority.municipality_code.clone(), "batch");
    workflow.issue_account_with_password(&actor, &draft, password_hash, now).await?;
    let account = DemoAccount {
        email: draft.email,
        password: PASSWORD.to_owned(),
        municipality_code: authority.municipality_code,
    };
    accounts.accounts.insert(role.to_owned(), account);
    Ok(())
}

/// Takes the whole log into the lake, a file per day, instead of the relay's small ones; and with it what
/// became of the messages.
async fn drain(store: &Store, lake: &Lake, now: Timestamp, rng: &mut StdRng) -> anyhow::Result<()> {
    let mut events = Vec::new();
    let mut last = 0;
    while let Some(batch) = store.assign_lake_batch(last, DRAIN_ROWS).await? {
        last = batch.batch_no;
        events.extend(batch.events);
    }
    let steps = reach::settle(store, &events, now, rng).await?;
    events.extend(steps);
    let rows = EventRows::build(&events, now)?;
    anyhow::ensure!(rows.rejected().is_empty(), "the lake refused events: {:?}", rows.rejected().first());
    lake.append_bulk(&rows, now).await?;
    store.finish_lake_batches(last).await?;
    tracing::info!(events = events.len(), "lake filled");
    Ok(())
}

impl Growing<'_> {
    fn system(&self) -> Actor {
        Actor::system(self.city.code.clone(), "batch")
    }

    /// Municipality, programmes, facilities, offices, the coupon set.
    async fn found(
        &mut self,
        n_facilities: usize,
        first_day: Date,
        accounts: &mut DemoAccounts,
        main: bool,
    ) -> anyhow::Result<()> {
        let now = Timestamp::from_jst(first_day, time(8, 0, 0, 0));
        let code = self.city.code.clone();
        let mut tx = self.workflow.store().begin_write(Wall::None).await?;
        tx.insert_municipality(&Municipality { municipality_code: code.clone(), name: self.city.name.to_owned() }, now)
            .await?;
        let programmes = city::programmes();
        for programme in &programmes {
            tx.insert_programme(&code, programme).await?;
        }
        for i in 0..n_facilities {
            let programme = &programmes[i % programmes.len()].programme_code;
            let name = city::FACILITY_NAMES[(i / programmes.len() + i) % city::FACILITY_NAMES.len()];
            let ward = self.city.wards[i % self.city.wards.len()].clone();
            let facility = Facility {
                facility_id: FacilityId::new(now),
                municipality_code: code.clone(),
                facility_no: format!("F{:05}", i + 1),
                name: format!("{name}{}", city::facility_kind(programme)),
                address: format!("{}{}丁目{}番", city::ward_name(&ward), i % 7 + 1, i % 23 + 1),
                ward_code: ward,
                phone: format!("0990-{:02}-{:04}", i % 100, i),
                is_public: true,
                coupon_qr: secret::qr_token().to_string(),
            };
            let offered = vec![programme.clone()];
            tx.insert_facility(&facility, &offered, now).await?;
            self.facilities.push((facility, offered));
        }
        tx.commit().await?;
        self.offices(now, accounts, main).await?;
        let terms = CouponTerms {
            distribution_cycle: DistributionCycle::HalfYearly,
            distribution_anchor: DistributionAnchor::ApprovalDate,
            distribution_amount_yen: Yen::new(20_000),
            expiry_age_years: 3,
            expiry_age_rule: ExpiryAgeRule::TwoDaysBeforeBirthday,
            expiry_after_moveout_months: 12,
            expiry_fixed_date: None,
        };
        let codes = programmes.iter().map(|p| p.programme_code.clone()).collect();
        self.workflow.publish_coupon_set(&self.system(), "子育て応援クーポン", terms, codes, first_day, now).await?;
        Ok(())
    }

    async fn offices(&mut self, now: Timestamp, accounts: &mut DemoAccounts, main: bool) -> anyhow::Result<()> {
        let domain = if main { "mirai.example.jp" } else { "tonari.example.jp" };
        let offices = [
            (Role::Operator, "運営 太郎"),
            (Role::MunicipalAdmin, "市役所 管理"),
            (Role::MunicipalStaff, "市役所 職員"),
            (Role::AppSection, "アプリ 担当"),
            (Role::Analyst, "分析 担当"),
        ];
        for (role, name) in offices {
            let email = format!("{role}@{domain}");
            self.office(role, name, &email, None, now).await?;
            self.print(accounts, main, role.as_str(), &email);
        }
        for (i, (facility, _)) in self.facilities.clone().iter().enumerate() {
            let manager = format!("manager{}@{domain}", i + 1);
            self.office(Role::FacilityManager, "園長 一郎", &manager, Some(facility.facility_id), now).await?;
            let staff = format!("staff{}@{domain}", i + 1);
            self.office(Role::FacilityStaff, "保育 二郎", &staff, Some(facility.facility_id), now).await?;
            if i == 0 {
                self.print(accounts, main, "facility_manager", &manager);
                self.print(accounts, main, "facility_staff", &staff);
            }
        }
        if main {
            let (_, key) = self.workflow.issue_api_key(&self.system(), "demo", Role::Analyst, &[], now).await?;
            accounts.api_keys.insert("analyst".to_owned(), key);
        }
        accounts.municipalities.push(BTreeMap::from([
            ("municipality_code".to_owned(), self.city.code.to_string()),
            ("name".to_owned(), self.city.name.to_owned()),
        ]));
        Ok(())
    }

    fn print(&self, accounts: &mut DemoAccounts, main: bool, role: &str, email: &str) {
        let account = DemoAccount {
            email: email.to_owned(),
            password: PASSWORD.to_owned(),
            municipality_code: self.city.code.clone(),
        };
        if main {
            accounts.accounts.insert(role.to_owned(), account);
        } else {
            accounts.more_accounts.insert(format!("neighbour_{role}"), account);
        }
    }

    async fn office(
        &self,
        role: Role,
        name: &str,
        email: &str,
        facility: Option<FacilityId>,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let draft = OfficeDraft {
            email: email.to_owned(),
            name: name.to_owned(),
            role: role.as_str().to_owned(),
            facility_id: facility.map(|id| id.to_string()),
            ..OfficeDraft::default()
        };
        self.workflow.issue_account_with_password(&self.system(), &draft, &self.password_hash, now).await?;
        Ok(())
    }

    /// Day after day: households come, apply, are examined, and pay.
    async fn live(
        &mut self,
        n_families: usize,
        first_day: Date,
        now: Timestamp,
        accounts: &mut DemoAccounts,
        main: bool,
    ) -> anyhow::Result<()> {
        let n_days = first_day.until(now.jst_date()).map_or(1, |span| span.get_days().max(1));
        let at_start = n_families * 3 / 5;
        for day in 0..=n_days {
            let today = add_days(first_day, day);
            let due = at_start
                + (n_families - at_start) * usize::try_from(day).unwrap_or(0) / usize::try_from(n_days).unwrap_or(1);
            while self.families.len() < due {
                self.arrive(today, now, accounts, main).await?;
            }
            let midnight = Timestamp::from_jst(today, time(0, 6, 0, 0));
            if midnight < now {
                self.workflow.expire_lots(&self.system(), midnight).await?;
                self.workflow.distribute_due(&self.system(), midnight).await?;
            }
            self.pay(today, now).await?;
        }
        Ok(())
    }

    async fn arrive(
        &mut self,
        today: Date,
        now: Timestamp,
        accounts: &mut DemoAccounts,
        main: bool,
    ) -> anyhow::Result<()> {
        let serial = self.families.len() + 1;
        let minute = i8::try_from(serial % 60).unwrap_or(0);
        let at = Timestamp::from_jst(today, time(9, minute, 0, 0)).min(now);
        let domain = if main { "mirai.example.jp" } else { "tonari.example.jp" };
        let household = people::household(&mut self.rng, serial, domain, &self.city.wards, today);
        let known = serial <= 3;
        let hash = known.then(|| self.password_hash.clone());
        let email = household.email.clone();
        let account = self.workflow.enrol_household(&self.system(), household, hash, at).await?;
        if serial == 1 {
            self.print(accounts, main, "guardian", &email);
        } else if known && main {
            let account =
                DemoAccount { email, password: PASSWORD.to_owned(), municipality_code: self.city.code.clone() };
            accounts.more_accounts.insert(format!("guardian_{serial}"), account);
        }
        let actor = Actor::of(&account, None);
        // Whoever signs in with a printed account brings a device of their own.
        if !known {
            reach::register(self.workflow.store(), &account, at, &mut self.devices).await?;
        }
        let mut family = Family { actor, account, coupons: Vec::new() };
        // What came in the last days still waits in the operator's queue; a few never apply.
        let waits = add_days(today, 10) > now.jst_date() && serial % 2 == 0;
        if known || serial % 17 != 3 {
            self.apply(&mut family, at, waits && !known).await?;
        }
        self.families.push(family);
        Ok(())
    }

    async fn apply(&mut self, family: &mut Family, at: Timestamp, waits: bool) -> anyhow::Result<()> {
        for child in self.workflow.own_children(&family.actor).await? {
            let image = todoke_workflow::application::NewDocument { kind: "guardian_identity", content: SAMPLE_PNG };
            let document = self.workflow.upload_document(&family.actor, &image, at).await?;
            let submission = Submission::Online {
                child_id: child.child_id,
                child_qr: None,
                documents: vec![document],
                relation: "親".to_owned(),
            };
            let application = self.workflow.submit_application(&family.actor, &submission, at).await?;
            if waits {
                continue;
            }
            let resident_no = self.resident(&child, &family.account).await?;
            let operator = self.system();
            let id = application.application_id;
            let checked = self.workflow.complete_documents(&operator, id, at).await?;
            if checked.state == ApplicationState::Matching.as_str() {
                // Two children with the same name and birthday: some are linked by hand, some wait in the error list.
                if self.rng.random_range(0..3) == 0 {
                    continue;
                }
                self.workflow.link_by_hand(&operator, id, &resident_no, "住所で確認しました", at).await?;
            }
            if self.rng.random_range(0..50) == 0 {
                let verdict = Verdict::Reject { reason_code: "not_resident".to_owned(), text: None };
                self.workflow.decide_application(&operator, id, &verdict, at).await?;
            } else {
                self.workflow.decide_application(&operator, id, &Verdict::Approve(None), at).await?;
            }
        }
        family.coupons = self
            .workflow
            .coupons(&family.actor, CouponsOf::Own)
            .await?
            .into_iter()
            .map(|coupon| coupon.coupon_id)
            .collect();
        Ok(())
    }

    /// The child's line of the movement data, so that matching finds it.
    async fn resident(&mut self, child: &todoke_store::child::Child, account: &Account) -> anyhow::Result<String> {
        let serial = self.rng.random_range(10_000_000..99_999_999_u32);
        let row = todoke_store::resident::Resident {
            municipality_code: self.city.code.clone(),
            resident_no: format!("R{serial}{}", child.child_no),
            name: child.name.clone(),
            name_kana: child.name_kana.clone(),
            name_kana_normal: todoke_domain::matching::normal_kana(&child.name_kana),
            sex: child.sex.clone(),
            birth_date: child.birth_date,
            household_no: account.account_id.to_string(),
            postal_code: "990-0001".to_owned(),
            address: "みどり町1丁目1番".to_owned(),
            movement_kind: "birth".to_owned(),
            movement_date: child.birth_date,
            arrived_by: "birth".to_owned(),
        };
        let mut tx = self.workflow.store().begin_write(Wall::Around(self.city.code.clone())).await?;
        tx.upsert_residents(std::slice::from_ref(&row)).await?;
        tx.commit().await?;
        Ok(row.resident_no)
    }

    /// The payments of one day: about one household in forty, more on weekdays.
    async fn pay(&mut self, today: Date, now: Timestamp) -> anyhow::Result<()> {
        let weekend = matches!(today.weekday(), jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday);
        let one_in = if weekend { 120 } else { 40 };
        let n = self.families.len().div_ceil(one_in);
        for _ in 0..n {
            let minute = self.rng.random_range(0..570_i64);
            let at = Timestamp::from_jst(today, time(9, 0, 0, 0))
                .plus(std::time::Duration::from_secs(60 * minute.unsigned_abs()));
            if at >= now {
                continue;
            }
            let which = self.rng.random_range(0..self.families.len());
            let Some(request) = self.payment(which) else { continue };
            let actor = self.families[which].actor.clone();
            match self.workflow.use_coupon(&actor, &request, at).await {
                Ok(todoke_workflow::coupon::UseAnswer::Settled(view)) if self.rng.random_range(0..150) == 0 => {
                    self.workflow.reverse_use(&self.system(), view.use_id, "input_error", None, at).await?;
                }
                Ok(_) | Err(WorkflowError::UseRefused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn payment(&mut self, which: usize) -> Option<UseRequest> {
        let coupons = &self.families[which].coupons;
        let coupon = *coupons.get(self.rng.random_range(0..coupons.len().max(1)))?;
        let (facility, programmes) = &self.facilities[self.rng.random_range(0..self.facilities.len())];
        Some(payment(&mut self.rng, coupon, facility.facility_id, programmes.first()?))
    }

    /// Two people were signed in with one account at the same time: what the report of shared accounts shows.
    async fn share_an_account(&self, now: Timestamp) -> anyhow::Result<()> {
        let Some((facility, _)) = self.facilities.first() else { return Ok(()) };
        let mut tx = self.workflow.store().begin_write(Wall::Around(self.city.code.clone())).await?;
        let accounts = tx.facility_accounts(facility.facility_id).await?;
        let Some(staff) = accounts.iter().find(|account| account.role == Role::FacilityStaff) else { return Ok(()) };
        let yesterday = add_days(now.jst_date(), -1);
        for (from, to) in [(time(9, 2, 0, 0), time(17, 11, 0, 0)), (time(10, 30, 0, 0), time(16, 40, 0, 0))] {
            let created_at = Timestamp::from_jst(yesterday, from);
            let session = Session {
                session_id: SessionId::new(created_at),
                account_id: staff.account_id,
                csrf_token: secret::token(),
                created_at,
                seen_at: Timestamp::from_jst(yesterday, to),
            };
            tx.insert_session(&session, &secret::hash(&secret::token())).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// A survey that has closed, one that is open, and two notices.
    async fn ask_people(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let system = self.system();
        let day = |n: i32| Timestamp::from_jst(add_days(now.jst_date(), n), time(10, 0, 0, 0));
        for (opens, closes, title) in
            [(-40, -20, "子育て応援クーポンのご利用について"), (-2, 14, "子育て支援サービスの満足度調査")]
        {
            let draft = SurveyDraft {
                title: title.to_owned(),
                text: "よりよい子育て支援のため、ご意見をお聞かせください。".to_owned(),
                anonymous: opens == -2,
                opens_at: day(opens),
                closes_at: day(closes),
                minutes_needed: 3,
                questions: super::usage::questions(),
            };
            let before = day(opens - 1);
            let survey = self.workflow.create_survey(&system, draft, before).await?;
            self.workflow.survey_audience(&system, survey.survey_id, Conditions::default(), true, before).await?;
            self.workflow.schedule_survey(&system, survey.survey_id, before).await?;
            self.workflow.due_surveys(&system, day(opens)).await?;
            for family in 0..self.families.len() {
                let own =
                    self.families[family].account.email.as_deref().is_some_and(|email| email.starts_with("family1@"));
                if self.rng.random_range(0..100) < 38 && !(own && opens == -2) {
                    let actor = self.families[family].actor.clone();
                    let answers = super::usage::answers(&mut self.rng);
                    self.workflow.answer_survey(&actor, survey.survey_id, answers, day(opens)).await?;
                }
            }
            if closes < 0 {
                self.workflow.due_surveys(&system, day(closes)).await?;
                self.workflow.aggregate_survey(&system, survey.survey_id, day(closes)).await?;
            }
        }
        for (title, body) in [
            (
                "年末年始の窓口のご案内",
                "12月29日から1月3日まで、窓口と電話でのお問い合わせはお休みします。アプリはいつでもご利用いただけます。",
            ),
            ("一時預かりの受付施設が増えました", "新しく3つの施設でクーポンをご利用いただけるようになりました。"),
        ] {
            let notice = NoticeDraft {
                title: title.to_owned(),
                body: body.to_owned(),
                audience: "guardians".to_owned(),
                valid_from: None,
                valid_to: add_days(now.jst_date(), 30),
                push: false,
            };
            self.workflow.publish_notice(&system, notice, now).await?;
        }
        Ok(())
    }
}

/// A payment of a usual amount.
pub(super) fn payment(rng: &mut impl Rng, coupon: CouponId, facility: FacilityId, programme: &str) -> UseRequest {
    UseRequest {
        idempotency_key: secret::token(),
        body_hash: String::new(),
        payer: Payer::Coupon(coupon),
        place: Place::Facility(facility),
        programme_code: programme.to_owned(),
        amount: Yen::new(rng.random_range(3..26_i64) * 100),
        purpose: Purpose::Service,
        fee_total: None,
        application_id: None,
        confirm_repeat: true,
    }
}

/// A one-pixel image in place of a photographed document.
const SAMPLE_PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 2,
    0, 0, 0, 0x90, 0x77, 0x53, 0xDE, 0, 0, 0, 12, b'I', b'D', b'A', b'T', 8, 0xD7, 0x63, 0xF8, 0xCF, 0xC0, 0, 0, 3, 1,
    1, 0, 0x18, 0xDD, 0x8D, 0xB0, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xAE, 0x42, 0x60, 0x82,
];
