//! The wall at the record: a transaction behind one municipality's wall gets nothing of another's, whatever
//! it asks for by whichever id. Every getter of the record is here, and each must find its row without the wall.

use todoke_domain::{
    Event, Role, Yen,
    application::ApplicationState,
    ids::{
        ApiKeyId, ApplicationId, BroadcastId, CityRequestId, ClaimId, EventId, ImportId, MessageId, NoticeId,
        PrintRunId, QuarantineId, SegmentId, SolicitationId, SurveyId, TransferFileId, UseId,
    },
    segment::Segment,
    topic::Topic,
};
use todoke_store::{
    Tx, Wall,
    account::{Consent, Preference},
    bank_account::BankAccount,
    broadcast::{Broadcast, Round},
    child::{Child, ChildQr},
    city_request::CityRequest,
    claim::{Claim, ClaimsOf},
    coupon_use::{CouponUse, UsesOf},
    external_application::ExternalApplication,
    import_file::ImportFile,
    message::Message,
    municipality::ParameterValue,
    notice::Notice,
    print_item::{LettersOf, PrintItem},
    print_run::NewPrintRun,
    quarantine::QuarantinedEvent,
    resident::{FacilityUsage, HouseholdRelation, Resident},
    segment::{SavedSegment, Who},
    session::ApiKey,
    solicitation::Solicitation,
    survey::{Questions, Survey},
    transfer::{TransferFile, TransferLine},
};
use todoke_tests::stores::TestStore;

use crate::{
    city::{City, NOW, PROGRAMME, after, neighbour, town},
    store_events::event,
};

todoke_tests::on_both_databases! {
    nothing_of_another_municipality_comes_through_any_getter,
    a_row_of_another_municipality_cannot_be_changed,
}

/// Number of rows each getter gives of `city`, by the getter's name.
async fn everything(tx: &mut Tx, city: &City, more: &More) -> Vec<(&'static str, usize)> {
    let mut got = people(tx, city).await;
    got.extend(coupons(tx, city).await);
    got.extend(applications(tx, city).await);
    got.extend(register(tx, city, more).await);
    got.extend(announcements(tx, city, more).await);
    got.extend(claims(tx, city, more).await);
    got
}

/// A count as so many rows.
fn counted(n: i64) -> std::ops::Range<i64> {
    0..n
}

macro_rules! rows {
    ($($name:ident($call:expr)),+ $(,)?) => {
        vec![$((stringify!($name), $call.await.unwrap().into_iter().count())),+]
    };
}

async fn people(tx: &mut Tx, city: &City) -> Vec<(&'static str, usize)> {
    let code = &city.code;
    let facility = city.facility.facility_id;
    rows![
        account(tx.account(city.parent.account_id)),
        account_by_email(tx.account_by_email(city.parent.email.as_deref().unwrap())),
        account_of_person(tx.account_of_person(code, city.parent.person_key.unwrap())),
        event(tx.event(city.message.cause_event_id)),
        household_accounts(tx.household_accounts(city.guardian.guardian_id)),
        facility_accounts(tx.facility_accounts(facility)),
        role_accounts(tx.role_accounts(code, Role::Operator)),
        office_accounts(tx.office_accounts(code)),
        consents(tx.consents(city.parent.account_id)),
        preferences(tx.preferences(city.parent.account_id)),
        guardian(tx.guardian(city.guardian.guardian_id)),
        contact_channels(tx.contact_channels(&[city.guardian.guardian_id])),
        find_guardians(tx.find_guardians(code, "%", 10)),
        child(tx.child(city.child.child_id)),
        children_of(tx.children_of(city.guardian.guardian_id)),
        child_by_no(tx.child_by_no(code, &city.child.child_no)),
        child_qr(tx.child_qr(code, &city.child_qr)),
        qr_of_child(tx.qr_of_child(city.child.child_id)),
        facility(tx.facility(facility)),
        facility_by_qr(tx.facility_by_qr(&city.facility.coupon_qr)),
        facilities(tx.facilities(code)),
        programmes_of(tx.programmes_of(facility)),
        facility_programmes(tx.facility_programmes(code)),
        message(tx.message(city.parent.account_id, city.message.message_id)),
        messages_of_cause(tx.messages_of_cause(city.message.cause_event_id, city.parent.account_id)),
        standing_messages_of_cause(tx.standing_messages_of_cause(city.message.cause_event_id, "", 10)),
        inbox(tx.inbox(city.parent.account_id, false, None, 10)),
    ]
}

async fn coupons(tx: &mut Tx, city: &City) -> Vec<(&'static str, usize)> {
    let code = &city.code;
    let coupon = city.coupon.coupon_id;
    rows![
        coupon(tx.coupon(coupon)),
        coupons_of_guardian(tx.coupons_of_guardian(city.guardian.guardian_id)),
        coupons_of_child(tx.coupons_of_child(city.child.child_id)),
        coupon_of_application(tx.coupon_of_application(city.application.application_id)),
        coupon_by_no(tx.coupon_by_no(code, &city.coupon.coupon_no)),
        lots(tx.lots(coupon)),
        ledger(tx.ledger(coupon, 10)),
        coupon_set(tx.coupon_set(city.set.coupon_set_id)),
        coupon_sets(tx.coupon_sets(code)),
        uses_of_guardian(tx.uses(UsesOf::Guardian(city.guardian.guardian_id), NOW, after(60), None, 10)),
        uses_of_facility(tx.uses(UsesOf::Facility(city.facility.facility_id), NOW, after(60), None, 10)),
        uses_of_child(tx.uses(UsesOf::Child(city.child.child_id), NOW, after(60), None, 10)),
    ]
}

async fn applications(tx: &mut Tx, city: &City) -> Vec<(&'static str, usize)> {
    let application = city.application.application_id;
    rows![
        application(tx.application(application)),
        application_steps(tx.application_steps(application)),
        applications_of_guardian(tx.applications_of_guardian(city.guardian.guardian_id)),
        applications_of_child(tx.applications_of_child(city.child.child_id)),
        applications_in_state(tx.applications_in_state(&city.code, ApplicationState::Approved, None, 10)),
        applications(tx.applications(&city.code, None, 10)),
        application_counts(tx.application_counts(&city.code)),
        document(tx.document(city.document.document_id)),
        document_content(tx.document_content(city.document.document_id)),
        documents_of(tx.documents_of(application)),
    ]
}

async fn register(tx: &mut Tx, city: &City, more: &More) -> Vec<(&'static str, usize)> {
    let code = &city.code;
    rows![
        resident(tx.resident(code, RESIDENT)),
        residents_born_on(tx.residents_born_on(code, city.child.birth_date)),
        residents(tx.residents(code)),
        relations_of(tx.relations_of(code, RESIDENT)),
        facility_usage_of(tx.facility_usage_of(code, RESIDENT)),
        external_application(tx.external_application(code, PROGRAMME, "H-1")),
        qr_of_resident(tx.qr_of_resident(code, RESIDENT)),
        child_of_resident(tx.child_of_resident(code, RESIDENT)),
        linked_children(tx.linked_children(code)),
        solicitation_of_resident(tx.solicitation_of_resident(code, RESIDENT)),
        solicitations_of_guardian(tx.solicitations_of_guardian(city.guardian.guardian_id)),
        solicitation_lines(tx.solicitation_lines(code, "", None, 10)),
        solicitation_counts(tx.solicitation_counts(code)),
        registered_guardians(tx.registered_guardians(code)),
        print_item(tx.print_item(code, "X26-0000001")),
        print_items(tx.print_items(code, &LettersOf::default(), 10)),
        print_items_in_vain(tx.print_items_in_vain(code, NOW, 10)),
        waiting_print_items(async { tx.waiting_print_items(code).await.map(counted) }),
        print_items_of_run(tx.print_items_of_run(code, more.run)),
        print_run(tx.print_run(code, more.run)),
        print_runs(tx.print_runs(code, None, 10)),
        quarantined_events(tx.quarantined_events(code, None, 10)),
        quarantine_counts(tx.quarantine_counts(code, "held")),
        held_of_account(async { tx.held_of_account(code, city.parent.account_id, 10).await.map(counted) }),
        held_of_senders(async { tx.held_of_senders(code, 10).await.map(counted) }),
        import_file(tx.import_file(more.import)),
        import_of_hash(tx.import_of_hash(code, "movement", "hash")),
        import_files(tx.import_files(code, 10)),
    ]
}

async fn announcements(tx: &mut Tx, city: &City, more: &More) -> Vec<(&'static str, usize)> {
    let code = &city.code;
    let today = NOW.jst_date();
    rows![
        survey(tx.survey(more.survey)),
        surveys(tx.surveys(code)),
        notice(tx.notice(more.notice)),
        notices(tx.notices(code, 10)),
        city_request(tx.city_request(more.request)),
        city_requests(tx.city_requests(code, 10)),
        current_notices(tx.current_notices(code, today)),
        notice_readers(tx.notice_readers(code, "all", "", 10)),
        birth_dates(tx.birth_dates(code, today)),
        birth_dates_of(tx.birth_dates_of(city.guardian.guardian_id, today)),
        topics(tx.topics(city.parent.account_id)),
        segment(tx.segment(more.segment)),
        segments(tx.segments(code)),
        members(tx.members(code, Who::Of(&Segment::everybody(), NOW), "", 10, NOW)),
        unread_members(tx.members(code, Who::Unread(city.message.cause_event_id), "", 10, NOW)),
        sample_members(tx.sample_members(code, &Segment::everybody(), 10, NOW)),
        broadcast(tx.broadcast(more.broadcast)),
        broadcasts(tx.broadcasts(code, 10)),
        broadcasts_to_start(tx.broadcasts_to_start(code, NOW)),
        rounds(tx.rounds(more.broadcast)),
        unrouted(tx.unrouted(city.message.cause_event_id, "to:", "", 10)),
        programmes(tx.programmes(code)),
        parameter_values(tx.parameter_values(code)),
        api_keys(tx.api_keys(code)),
        api_key_of(tx.api_key_of(code, city.parent.account_id)),
    ]
}

async fn claims(tx: &mut Tx, city: &City, more: &More) -> Vec<(&'static str, usize)> {
    let (code, facility) = (&city.code, city.facility.facility_id);
    rows![
        claim(tx.claim(more.claim)),
        claim_by_no(tx.claim_by_no(code, "L26-0000001")),
        claim_of_month(tx.claim_of_month(facility, PROGRAMME, NOW.jst_date())),
        claims(tx.claims(code, ClaimsOf::default(), 10)),
        claims_of_transfer(tx.claims_of_transfer(more.transfer, 1)),
        claim_lines(tx.claim_lines(more.claim)),
        bank_account(tx.bank_account(facility)),
        bank_accounts(tx.bank_accounts(code)),
        transfer_file(tx.transfer_file(more.transfer)),
        transfer_files(tx.transfer_files(code, 10)),
        transfer_lines(tx.transfer_lines(more.transfer)),
    ]
}

async fn nothing_of_another_municipality_comes_through_any_getter(db: &TestStore) {
    City::found(db, &town(), 1_000).await;
    let theirs = City::found(db, &neighbour(), 1_000).await;
    let more = enrich(db, &theirs).await;
    let mut open = db.begin_read(Wall::None).await.unwrap();
    let missed: Vec<_> = everything(&mut open, &theirs, &more).await.into_iter().filter(|(_, n)| *n == 0).collect();
    assert!(missed.is_empty(), "found nothing even without a wall, so they show nothing here: {missed:?}");
    drop(open);
    let mut walled = db.begin_read(Wall::Around(town())).await.unwrap();
    let leaked: Vec<_> = everything(&mut walled, &theirs, &more).await.into_iter().filter(|(_, n)| *n > 0).collect();
    assert!(leaked.is_empty(), "rows of {} behind the wall of {}: {leaked:?}", neighbour(), town());
}

/// Resident number of the child of [`City`].
const RESIDENT: &str = "9900000001";

/// Ids of what [`enrich`] adds.
struct More {
    import: ImportId,
    survey: SurveyId,
    notice: NoticeId,
    request: CityRequestId,
    segment: SegmentId,
    broadcast: BroadcastId,
    claim: ClaimId,
    transfer: TransferFileId,
    run: PrintRunId,
}

/// What [`City`] lacks of the rows that the getters give.
async fn enrich(db: &TestStore, city: &City) -> More {
    let more = More {
        import: ImportId::new(NOW),
        survey: SurveyId::new(NOW),
        notice: NoticeId::new(NOW),
        request: CityRequestId::new(NOW),
        segment: SegmentId::new(NOW),
        broadcast: BroadcastId::new(NOW),
        claim: ClaimId::new(NOW),
        transfer: TransferFileId::new(NOW),
        run: PrintRunId::new(NOW),
    };
    let mut tx = db.begin_write(Wall::None).await.unwrap();
    enrich_household(&mut tx, city).await;
    enrich_register(&mut tx, city, more.import).await;
    enrich_printing(&mut tx, city, more.run).await;
    enrich_linked(&mut tx, city).await;
    enrich_announcements(&mut tx, city, &more).await;
    enrich_broadcasts(&mut tx, city, &more).await;
    enrich_claims(&mut tx, city, &more).await;
    tx.commit().await.unwrap();
    more
}

async fn enrich_household(tx: &mut Tx, city: &City) {
    let account = city.parent.account_id;
    let consent = Consent { kind: "terms".to_owned(), version: 1, granted: true, at_us: NOW.as_micros() };
    tx.set_consent(account, &consent).await.unwrap();
    let preference = Preference { category: "coupon".to_owned(), channel: "email".to_owned(), enabled: false };
    tx.set_preference(account, &preference).await.unwrap();
    let key = ApiKey {
        api_key_id: ApiKeyId::new(NOW),
        account_id: account,
        name: "BI".to_owned(),
        sources: None,
        created_at_us: NOW.as_micros(),
        issued_by: None,
        used_at: None,
        revoked_at: None,
    };
    tx.insert_api_key(&key, &city.code, "hash").await.unwrap();
    let caused = Event {
        event_id: city.message.cause_event_id,
        municipality_code: city.code.clone(),
        ..event("coupon.used", "use", NOW)
    };
    tx.append_events(&mut [caused]).await.unwrap();
    let value =
        ParameterValue { name: "otp_ttl_min".to_owned(), effective_from: NOW.jst_date(), value: "5".to_owned() };
    tx.set_parameter(&city.code, &value, "operator", NOW).await.unwrap();
    let row = CouponUse {
        use_id: UseId::new(NOW),
        municipality_code: city.code.clone(),
        use_no: "U26-0000001".to_owned(),
        coupon_id: city.coupon.coupon_id,
        child_id: city.child.child_id,
        guardian_id: city.guardian.guardian_id,
        facility_id: city.facility.facility_id,
        programme_code: PROGRAMME.to_owned(),
        purpose: "service".to_owned(),
        amount_yen: Yen::new(1),
        fee_total_yen: None,
        application_id: None,
        state: "settled".to_owned(),
        initiated_by: "guardian".to_owned(),
        device_less: false,
        lines: "[]".to_owned(),
        balance_after_yen: Yen::new(999),
        ledger_seq: 2,
        used_at: NOW,
        reversed_at: None,
        reverse_reason: None,
    };
    tx.insert_use(&row).await.unwrap();
}

/// A claim for the use of [`enrich_household`], in a file for the bank.
async fn enrich_claims(tx: &mut Tx, city: &City, more: &More) {
    let text = str::to_owned;
    let account = BankAccount {
        facility_id: city.facility.facility_id,
        municipality_code: city.code.clone(),
        bank_code: text("0001"),
        branch_code: text("001"),
        account_type: text("ordinary"),
        account_no: text("0000001"),
        holder_kana: text("ア"),
        entered_by: text("operator"),
        entered_at: NOW,
    };
    tx.set_bank_account(&account).await.unwrap();
    let file = TransferFile {
        transfer_file_id: more.transfer,
        municipality_code: city.code.clone(),
        n_claims: 1,
        amount_yen: Yen::new(1),
        requested_at: NOW,
    };
    let line = TransferLine {
        line_no: 1,
        claim_nos: text("L26-0000001"),
        bank_code: account.bank_code,
        branch_code: account.branch_code,
        account_type: account.account_type,
        account_no: account.account_no,
        holder_kana: account.holder_kana,
        amount_yen: Yen::new(1),
    };
    tx.insert_transfer_file(&file, &[line]).await.unwrap();
    let mut claim = Claim {
        claim_id: more.claim,
        municipality_code: city.code.clone(),
        claim_no: text("L26-0000001"),
        facility_id: city.facility.facility_id,
        programme_code: text(PROGRAMME),
        month: NOW.jst_date(),
        from: NOW,
        to: after(60),
        state: text("created"),
        n_uses: 1,
        n_children: 1,
        gross_yen: Yen::new(1),
        reversed_yen: Yen::ZERO,
        net_yen: Yen::new(1),
        cancel_fee_yen: Yen::ZERO,
        n_returned: 0,
        return_reason: None,
        created_at: NOW,
        submitted_at: None,
        received_at: None,
        forwarded_at: None,
        transfer_requested_at: None,
        transfer_file_id: None,
        transfer_line_no: None,
        transferred_on: None,
        result_code: None,
    };
    tx.insert_claim(&claim).await.unwrap();
    assert_eq!(tx.fill_claim(more.claim).await.unwrap().n_uses, 1);
    (claim.transfer_file_id, claim.transfer_line_no) = (Some(more.transfer), Some(1));
    tx.update_claim(&claim).await.unwrap();
}

/// A run that holds the letter of [`enrich_register`], and a letter that waits for the next.
async fn enrich_printing(tx: &mut Tx, city: &City, id: PrintRunId) {
    let run = NewPrintRun {
        print_run_id: id,
        made_by: Some(city.operator.account_id),
        sender_name: "市".to_owned(),
        sender_contact: "課".to_owned(),
        created_at: NOW,
    };
    assert_eq!(tx.make_print_run(&city.code, &run, 10).await.unwrap(), 1);
    let printed = tx.print_item(&city.code, "X26-0000001").await.unwrap().unwrap();
    let waiting = PrintItem { letter_no: "X26-0000002".to_owned(), print_run_id: None, ..printed };
    let nowhere = PrintItem { letter_no: "X26-0000003".to_owned(), state: "unaddressed".to_owned(), ..waiting.clone() };
    for letter in [&waiting, &nowhere] {
        tx.insert_print_item(&city.code, letter).await.unwrap();
    }
}

async fn enrich_linked(tx: &mut Tx, city: &City) {
    let external = ExternalApplication {
        application_id: ApplicationId::new(NOW),
        municipality_code: city.code.clone(),
        programme_code: PROGRAMME.to_owned(),
        external_no: "H-1".to_owned(),
        child_id: city.child.child_id,
        facility_id: city.facility.facility_id,
        use_from: NOW,
        use_to: after(60),
        state: "used".to_owned(),
    };
    tx.upsert_external_applications(&[external]).await.unwrap();
}

async fn enrich_register(tx: &mut Tx, city: &City, import_id: ImportId) {
    let (code, born) = (city.code.clone(), city.child.birth_date);
    let text = str::to_owned;
    let resident = Resident {
        municipality_code: code.clone(),
        resident_no: text(RESIDENT),
        name: text("名"),
        name_kana: text("ナ"),
        name_kana_normal: text("ナ"),
        sex: text("female"),
        birth_date: born,
        household_no: text("1"),
        postal_code: text("530-0001"),
        address: text("北区"),
        movement_kind: text("birth"),
        movement_date: born,
        arrived_by: text("birth"),
    };
    tx.upsert_residents(&[resident]).await.unwrap();
    let relation = HouseholdRelation {
        municipality_code: code.clone(),
        resident_no: text(RESIDENT),
        relation_resident_no: text("2"),
        name_kana_normal: text("ハ"),
        birth_date: born,
        relation_kind: text("mother"),
    };
    tx.replace_relations(&[relation]).await.unwrap();
    let usage = FacilityUsage {
        municipality_code: code.clone(),
        resident_no: text(RESIDENT),
        facility_no: text("1000001"),
        programme_code: text(PROGRAMME),
        used_from: born,
        used_to: born,
    };
    tx.upsert_facility_usage(&[usage]).await.unwrap();
    tx.update_child(&Child { resident_no: Some(text(RESIDENT)), ..city.child.clone() }).await.unwrap();
    let qr = ChildQr { token: format!("R{code}"), resident_no: Some(text(RESIDENT)), child_id: None };
    tx.insert_child_qr(&code, &qr, NOW).await.unwrap();
    let solicitation = Solicitation {
        solicitation_id: SolicitationId::new(NOW),
        municipality_code: code.clone(),
        resident_no: text(RESIDENT),
        state: text("solicited"),
        reason: text("birth"),
        channel: Some(text("app")),
        guardian_id: Some(city.guardian.guardian_id),
        child_id: Some(city.child.child_id),
        person_key: 1,
        repeats: 0,
        last_sent_on: Some(born),
        created_at: NOW,
    };
    assert!(tx.insert_solicitation(&solicitation).await.unwrap());
    let letter = PrintItem {
        letter_no: text("X26-0000001"),
        letter_kind: text("solicitation"),
        recipient_name: text("名"),
        postal_code: text("530-0001"),
        address: text("北区"),
        title: text("題"),
        body: text("本文"),
        qr_token: None,
        state: text("queued"),
        print_run_id: None,
        created_at: NOW,
        withdrawn_at: None,
        incomplete: false,
    };
    tx.insert_print_item(&code, &letter).await.unwrap();
    let quarantined = QuarantinedEvent {
        quarantine_id: QuarantineId::new(NOW),
        municipality_code: code.clone(),
        account_id: Some(city.parent.account_id),
        entrance: text("usage"),
        sender: text("{}"),
        event_id: None,
        reason: text("not_json"),
        field: None,
        content: text("{"),
        content_bytes: Some(1),
        state: text("held"),
        received_at: NOW,
    };
    tx.insert_quarantined(&[quarantined]).await.unwrap();
    let file = ImportFile {
        import_id,
        municipality_code: code,
        file_kind: text("movement"),
        file_name: text("f.csv"),
        sha256: text("hash"),
        state: text("completed"),
        n_rows: 1,
        n_errors: 0,
        result_csv: String::new(),
        account_id: None,
        at: NOW,
    };
    tx.insert_import_file(&file).await.unwrap();
}

async fn enrich_announcements(tx: &mut Tx, city: &City, more: &More) {
    let (code, today, text) = (city.code.clone(), NOW.jst_date(), str::to_owned);
    let survey = Survey {
        survey_id: more.survey,
        municipality_code: code.clone(),
        title: text("題"),
        text: text("本文"),
        state: text("open"),
        anonymous: false,
        opens_at: NOW,
        closes_at: after(60),
        minutes_needed: 1,
        questions: Questions(Vec::new()),
        conditions: None,
        n_targets: 0,
        n_answers: 0,
        author_role: text("operator"),
        created_at: NOW,
    };
    tx.insert_survey(&survey).await.unwrap();
    let notice = Notice {
        notice_id: more.notice,
        municipality_code: code,
        title: text("題"),
        body: text("本文"),
        audience: text("all"),
        valid_from: today,
        valid_to: today,
        push: false,
        event_id: EventId::new(NOW),
        told_after: String::new(),
        told: false,
        published_at: NOW,
        withdrawn_at: None,
        taken_after: None,
    };
    tx.insert_notice(&notice).await.unwrap();
    let request = CityRequest {
        request_id: more.request,
        municipality_code: city.code.clone(),
        kind: text("suspend"),
        subject_id: city.guardian.guardian_id.to_string(),
        subject_no: city.guardian.guardian_no.clone(),
        reason_code: text("misuse"),
        reason_text: None,
        state: text("open"),
        requested_by: city.operator.account_id,
        requested_by_name: text("名"),
        requested_at: NOW,
        settled_at: None,
        note: None,
    };
    tx.insert_city_request(&request).await.unwrap();
}

async fn enrich_broadcasts(tx: &mut Tx, city: &City, more: &More) {
    let account = city.parent.account_id;
    tx.set_topics(account, &[Topic::Health], NOW).await.unwrap();
    let copy = Message {
        message_id: MessageId::new(NOW),
        account_id: account,
        dedupe_key: format!("to:{account}"),
        ..city.message.clone()
    };
    assert_eq!(tx.insert_messages(&[copy]).await.unwrap().len(), 1);
    let definition = serde_json::to_string(&Segment::everybody()).unwrap();
    let segment = SavedSegment {
        segment_id: more.segment,
        municipality_code: city.code.clone(),
        name: "全員".to_owned(),
        definition: definition.clone(),
        author_id: None,
        created_at: NOW,
        changed_at: NOW,
    };
    tx.insert_segment(&segment).await.unwrap();
    let broadcast = Broadcast {
        broadcast_id: more.broadcast,
        municipality_code: city.code.clone(),
        kind: "segment".to_owned(),
        title: "題".to_owned(),
        body: "本文".to_owned(),
        link: String::new(),
        event_on: None,
        place: String::new(),
        push: false,
        email: false,
        segment_id: None,
        segment_name: "全員".to_owned(),
        definition,
        state: "scheduled".to_owned(),
        author_id: None,
        author_name: String::new(),
        editor_id: None,
        submitter_id: None,
        approver_id: None,
        note: String::new(),
        starts_at: None,
        pace_per_s: 1,
        resend_after_min: "[]".to_owned(),
        n_targets: 0,
        event_id: None,
        created_at: NOW,
        released_at: None,
        started_at: None,
        finished_at: None,
        counted_at: NOW,
        counters: String::new(),
        sender: String::new(),
        fence: 0,
        leased_until: NOW,
        stopping: false,
    };
    tx.insert_broadcast(&broadcast).await.unwrap();
    tx.insert_round(&Round::waiting(more.broadcast, 0, 0, NOW)).await.unwrap();
}

async fn a_row_of_another_municipality_cannot_be_changed(db: &TestStore) {
    City::found(db, &town(), 1_000).await;
    let theirs = City::found(db, &neighbour(), 1_000).await;
    let more = enrich(db, &theirs).await;
    let mut walled = db.begin_write(Wall::Around(town())).await.unwrap();
    assert!(walled.lock_coupon(theirs.coupon.coupon_id).await.unwrap().is_none());
    assert!(walled.lock_coupon_file(&town(), theirs.coupon.coupon_id, NOW.jst_date()).await.unwrap().is_none());
    assert!(walled.lock_account(theirs.parent.account_id).await.unwrap().is_none());
    assert!(walled.lock_child(theirs.child.child_id).await.unwrap().is_none());
    assert!(walled.lock_application(theirs.application.application_id).await.unwrap().is_none());
    assert!(walled.lock_claim(more.claim).await.unwrap().is_none());
    walled.commit().await.unwrap();
    let mut open = db.begin_read(Wall::None).await.unwrap();
    let application = open.application(theirs.application.application_id).await.unwrap().unwrap();
    assert_eq!(application.version, theirs.application.version, "a change was counted from behind the wall");
    assert_eq!(application.municipality_code, neighbour());
}
