//! The city's board, figures of the moment from the record; and where one can register.

use todoke_domain::{
    Timestamp, Yen,
    channel::Channel,
    parameter::CONTACT,
    role::Permission,
    time::{add_days, add_months},
};
use todoke_store::{
    Wall,
    municipality::{Municipality, RegisterTotals},
};

use crate::{Actor, Workflow, WorkflowError, broadcast::PROGRESS};

/// Publications of the board that a new screen begins with, moving counters left out.
const RECENT: i64 = 20;

/// Number and sum of uses in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseTotals {
    /// Uses.
    pub n: i64,
    /// Their sum.
    pub yen: Yen,
}

/// The board.
#[derive(Debug, Clone)]
pub struct Board {
    /// Applications per state.
    pub applications: Vec<(String, i64)>,
    /// Uses of today.
    pub today: UseTotals,
    /// Uses of this month.
    pub month: UseTotals,
    /// How much the register holds.
    pub register: RegisterTotals,
    /// What was last published on it, newest first, as JSON texts.
    pub recent: Vec<String>,
}

/// A municipality where people can register.
#[derive(Debug, Clone)]
pub struct Place {
    /// Code and name.
    pub municipality: Municipality,
    /// Name and phone of its desk.
    pub contact: String,
    /// Codes of the wards its facilities lie in.
    pub wards: Vec<String>,
}

impl Workflow {
    /// Where one can register: for people before any sign-in, so of all municipalities.
    pub async fn places(&self, now: Timestamp) -> Result<Vec<Place>, WorkflowError> {
        let mut tx = self.store().begin_read(Wall::None).await?;
        let mut places = Vec::new();
        for municipality in tx.municipalities().await? {
            let code = &municipality.municipality_code;
            let contact = tx.parameter(code, CONTACT, now.jst_date()).await?;
            let mut wards: Vec<String> = tx.facilities(code).await?.into_iter().map(|row| row.ward_code).collect();
            wards.sort();
            wards.dedup();
            places.push(Place { municipality, contact, wards });
        }
        Ok(places)
    }

    /// The figures of one snapshot.
    pub async fn board(&self, actor: &Actor, now: Timestamp) -> Result<Board, WorkflowError> {
        actor.require(Permission::ReadRegister)?;
        let code = &actor.municipality_code;
        let today = now.jst_date();
        let midnight = Timestamp::jst_midnight;
        let mut tx = self.read(actor).await?;
        let applications = tx.application_counts(code).await?;
        let (n, yen) = tx.use_totals(code, midnight(today), midnight(add_days(today, 1))).await?;
        let of_today = UseTotals { n, yen: Yen::new(yen) };
        let first = today.first_of_month();
        let (n, yen) = tx.use_totals(code, midnight(first), midnight(add_months(first, 1))).await?;
        let channel = Channel::CityBoard(code.clone()).to_string();
        let newest = tx.newest_publications(&channel, &[PROGRESS], RECENT).await?;
        Ok(Board {
            applications,
            today: of_today,
            month: UseTotals { n, yen: Yen::new(yen) },
            register: tx.register_totals(code).await?,
            recent: newest.into_iter().map(|publication| publication.data).collect(),
        })
    }
}
