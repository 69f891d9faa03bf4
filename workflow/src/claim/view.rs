//! Claims as the three sides see them, on screens and as files (O06).

use std::collections::HashMap;

use jiff::civil::Date;
use serde::Serialize;
use todoke_domain::{
    MunicipalityCode, Role, Timestamp, Yen,
    claim::ClaimState,
    ids::{ClaimId, FacilityId, ReversalId, TransferFileId, UseId},
    role::Permission,
};
use todoke_store::{
    Tx,
    claim::{Claim, ClaimLine, ClaimsOf},
    facility::Facility,
};

use crate::{Actor, FieldError, Workflow, WorkflowError, csv_file};

/// Longest list: a large city's facilities over two years.
const LISTED_MAX: i64 = 20_000;

pub(super) fn invalid(field: &str, detail: &str) -> WorkflowError {
    WorkflowError::Invalid(vec![FieldError::new(field, detail)])
}

/// Which claims an actor sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The own facility's.
    Facility(FacilityId),
    /// The municipality's, from the first computation on.
    Municipality,
    /// The municipality's, once the operator has passed them on.
    WithCity,
}

impl Scope {
    /// The scope of a role; roles that see none are refused.
    pub fn of(actor: &Actor) -> Result<Self, WorkflowError> {
        match actor.role {
            None => Ok(Self::Municipality),
            Some(Role::FacilityManager) => actor.facility_id.map(Self::Facility).ok_or(WorkflowError::Denied),
            Some(role) => {
                actor.require(Permission::ReadClaims)?;
                Ok(if role.is_city() { Self::WithCity } else { Self::Municipality })
            }
        }
    }

    pub(super) fn sees(self, claim: &Claim) -> Result<bool, WorkflowError> {
        Ok(match self {
            Self::Facility(own) => claim.facility_id == own,
            Self::Municipality => true,
            Self::WithCity => claim.state()?.is_with_city(),
        })
    }
}

/// Names that claims are shown with.
#[derive(Debug)]
pub(super) struct Names {
    facilities: HashMap<FacilityId, Facility>,
    programmes: HashMap<String, String>,
}

impl Names {
    pub(super) async fn of(tx: &mut Tx, code: &MunicipalityCode) -> Result<Self, WorkflowError> {
        let facilities = tx.facilities(code).await?;
        let programmes = tx.programmes(code).await?;
        Ok(Self {
            facilities: facilities.into_iter().map(|facility| (facility.facility_id, facility)).collect(),
            programmes: programmes.into_iter().map(|row| (row.programme_code, row.name)).collect(),
        })
    }

    /// Those of one claim.
    pub(super) async fn of_claim(tx: &mut Tx, claim: &Claim) -> Result<Self, WorkflowError> {
        let facility = tx.facility(claim.facility_id).await?;
        let programmes = tx.programmes(&claim.municipality_code).await?;
        Ok(Self {
            facilities: facility.into_iter().map(|facility| (facility.facility_id, facility)).collect(),
            programmes: programmes.into_iter().map(|row| (row.programme_code, row.name)).collect(),
        })
    }
}

/// A claim.
#[derive(Debug, Clone, Serialize)]
pub struct ClaimView {
    /// Id.
    pub claim_id: ClaimId,
    /// Number.
    pub claim_no: String,
    /// Who claims.
    pub facility_id: FacilityId,
    /// Its number.
    pub facility_no: String,
    /// Its name.
    pub facility_name: String,
    /// For what.
    pub programme_code: String,
    /// Its name.
    pub programme_name: String,
    /// `YYYY-MM`.
    pub month: String,
    /// Code of the state.
    pub state: &'static str,
    /// In words.
    pub state_label: &'static str,
    /// Uses.
    pub uses: i64,
    /// Children who used.
    pub children: i64,
    /// Sum of the uses.
    pub gross_yen: Yen,
    /// Sum of the reversals.
    pub reversed_yen: Yen,
    /// What is claimed.
    pub net_yen: Yen,
    /// Cancellation fees in it.
    pub cancel_fee_yen: Yen,
    /// How often it was sent back.
    pub n_returned: i64,
    /// Why it was sent back last, until it is handed in again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_reason: Option<String>,
    /// When it was computed last.
    pub created_at: Timestamp,
    /// When it was handed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Timestamp>,
    /// When the operator took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    /// When the city got it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_at: Option<Timestamp>,
    /// When its payment was ordered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_requested_at: Option<Timestamp>,
    /// The file that went to the bank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_file_id: Option<TransferFileId>,
    /// The day the bank gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transferred_on: Option<String>,
    /// What the bank answered; `0` is paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_code: Option<String>,
}

impl ClaimView {
    pub(super) fn of(claim: &Claim, names: &Names) -> Result<Self, WorkflowError> {
        let facility = names.facilities.get(&claim.facility_id).ok_or(WorkflowError::NotFound("facility"))?;
        let programme = names.programmes.get(&claim.programme_code);
        let state = claim.state()?;
        Ok(Self {
            claim_id: claim.claim_id,
            claim_no: claim.claim_no.clone(),
            facility_id: claim.facility_id,
            facility_no: facility.facility_no.clone(),
            facility_name: facility.name.clone(),
            programme_code: claim.programme_code.clone(),
            programme_name: programme.unwrap_or(&claim.programme_code).clone(),
            month: claim.month.strftime("%Y-%m").to_string(),
            state: state.as_str(),
            state_label: state.label(),
            uses: claim.n_uses,
            children: claim.n_children,
            gross_yen: claim.gross_yen,
            reversed_yen: claim.reversed_yen,
            net_yen: claim.net_yen,
            cancel_fee_yen: claim.cancel_fee_yen,
            n_returned: claim.n_returned,
            return_reason: claim.return_reason.clone(),
            created_at: claim.created_at,
            submitted_at: claim.submitted_at,
            received_at: claim.received_at,
            forwarded_at: claim.forwarded_at,
            transfer_requested_at: claim.transfer_requested_at,
            transfer_file_id: claim.transfer_file_id,
            transferred_on: claim.transferred_on.map(|day| day.to_string()),
            result_code: claim.result_code.clone(),
        })
    }
}

/// A use or reversal of a claim.
#[derive(Debug, Clone, Serialize)]
pub struct LineView {
    /// The use.
    pub use_id: UseId,
    /// The reversal, where the line is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reversal_id: Option<ReversalId>,
    /// Number of the use.
    pub use_no: String,
    /// Number of the child.
    pub child_no: String,
    /// `service` or `cancellation_fee`.
    pub purpose: String,
    /// Negative for a reversal.
    pub amount_yen: Yen,
    /// When it was used or undone.
    pub at: Timestamp,
}

impl From<ClaimLine> for LineView {
    fn from(row: ClaimLine) -> Self {
        Self {
            use_id: row.use_id,
            reversal_id: row.reversal_id,
            use_no: row.use_no,
            child_no: row.child_no,
            purpose: row.purpose,
            amount_yen: row.amount_yen,
            at: row.at,
        }
    }
}

/// Which claims to show.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClaimQuery {
    /// Of one month, by any day of it.
    pub month: Option<Date>,
    /// In one state.
    pub state: Option<ClaimState>,
}

impl Workflow {
    /// Claims, newest month first: a manager gets the own facility's, the city those that are with it.
    pub async fn claims(&self, actor: &Actor, query: ClaimQuery) -> Result<Vec<ClaimView>, WorkflowError> {
        let scope = Scope::of(actor)?;
        let facility = match scope {
            Scope::Facility(own) => Some(own),
            Scope::Municipality | Scope::WithCity => None,
        };
        let of = ClaimsOf { facility, month: query.month.map(Date::first_of_month) };
        let mut tx = self.read(actor).await?;
        let names = Names::of(&mut tx, &actor.municipality_code).await?;
        let mut views = Vec::new();
        for claim in tx.claims(&actor.municipality_code, of, LISTED_MAX).await? {
            let wanted = query.state.is_none_or(|state| state.as_str() == claim.state);
            if wanted && scope.sees(&claim)? {
                views.push(ClaimView::of(&claim, &names)?);
            }
        }
        Ok(views)
    }

    /// One claim with what it is for.
    pub async fn claim(&self, actor: &Actor, id: ClaimId) -> Result<(ClaimView, Vec<LineView>), WorkflowError> {
        let scope = Scope::of(actor)?;
        let mut tx = self.read(actor).await?;
        let claim = tx.claim(id).await?.ok_or(WorkflowError::NotFound("claim"))?;
        if !scope.sees(&claim)? {
            return Err(WorkflowError::NotFound("claim"));
        }
        let names = Names::of_claim(&mut tx, &claim).await?;
        let lines = tx.claim_lines(id).await?;
        Ok((ClaimView::of(&claim, &names)?, lines.into_iter().map(LineView::from).collect()))
    }
}

const CLAIM_HEADER: [&str; 21] = [
    "claim_no",
    "month",
    "facility_no",
    "facility",
    "programme_code",
    "uses",
    "children",
    "gross_yen",
    "reversed_yen",
    "net_yen",
    "units",
    "cancel_fee_yen",
    "transfer_file_id",
    "state",
    "submitted_at",
    "received_at",
    "forwarded_at",
    "transfer_requested_at",
    "transferred_on",
    "result_code",
    "returned_count",
];

/// The claim data as a file (O06).
pub fn claim_csv(claims: &[ClaimView]) -> String {
    let moment =
        |at: Option<Timestamp>| at.map(|at| at.jst().strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default();
    let rows = claims.iter().map(|claim| {
        vec![
            claim.claim_no.clone(),
            claim.month.clone(),
            claim.facility_no.clone(),
            claim.facility_name.clone(),
            claim.programme_code.clone(),
            claim.uses.to_string(),
            claim.children.to_string(),
            claim.gross_yen.get().to_string(),
            claim.reversed_yen.get().to_string(),
            claim.net_yen.get().to_string(),
            // There are no hours coupons: nothing is claimed in units.
            "0".to_owned(),
            claim.cancel_fee_yen.get().to_string(),
            claim.transfer_file_id.map(|id| id.to_string()).unwrap_or_default(),
            claim.state.to_owned(),
            moment(claim.submitted_at),
            moment(claim.received_at),
            moment(claim.forwarded_at),
            moment(claim.transfer_requested_at),
            claim.transferred_on.clone().unwrap_or_default(),
            claim.result_code.clone().unwrap_or_default(),
            claim.n_returned.to_string(),
        ]
    });
    csv_file::encode(&CLAIM_HEADER, rows)
}

/// What a claim is for as a file: its lines add up to what is claimed.
pub fn line_csv(claim: &ClaimView, lines: &[LineView]) -> String {
    let header = ["claim_no", "kind", "use_no", "on", "time", "child_no", "purpose", "amount_yen"];
    let rows = lines.iter().map(|line| {
        let at = line.at.jst();
        vec![
            claim.claim_no.clone(),
            if line.reversal_id.is_some() { "reversal" } else { "use" }.to_owned(),
            line.use_no.clone(),
            at.date().to_string(),
            format!("{:02}:{:02}", at.hour(), at.minute()),
            line.child_no.clone(),
            line.purpose.clone(),
            line.amount_yen.get().to_string(),
        ]
    });
    csv_file::encode(&header, rows)
}
