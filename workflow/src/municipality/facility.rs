//! Facilities and codes read at them.

use todoke_domain::{
    ids::FacilityId,
    qr::QrToken,
    role::{Permission, Role},
};
use todoke_store::{Wall, account::Account, child::Child, facility::Facility};

use crate::{
    Actor, FieldError, Workflow, WorkflowError,
    account::ChildQrView,
    account::qr_view,
    coupon::{CouponView, coupon_view},
};

fn parse(field: &str, raw: &str) -> Result<QrToken, WorkflowError> {
    QrToken::parse(raw).map_err(|error| WorkflowError::Invalid(vec![FieldError::new(field, error.to_string())]))
}

impl Workflow {
    /// Public facilities by part of name, number or address, and by programme.
    pub async fn facilities(
        &self,
        actor: &Actor,
        words: &str,
        programme: Option<&str>,
    ) -> Result<Vec<(Facility, Vec<String>)>, WorkflowError> {
        let mut tx = self.read(actor).await?;
        let pairs = tx.facility_programmes(&actor.municipality_code).await?;
        let words = words.trim();
        let mut found = Vec::new();
        for facility in tx.facilities(&actor.municipality_code).await? {
            let id = facility.facility_id.to_string();
            let programmes: Vec<String> =
                pairs.iter().filter(|(at, _)| *at == id).map(|(_, code)| code.clone()).collect();
            let fits_words =
                [&facility.name, &facility.facility_no, &facility.address].iter().any(|text| text.contains(words));
            let fits_programme =
                programme.filter(|code| !code.is_empty()).is_none_or(|code| programmes.iter().any(|p| p == code));
            if facility.is_public && fits_words && fits_programme {
                found.push((facility, programmes));
            }
        }
        Ok(found)
    }

    /// Names of the municipality and, for its staff, of the facility an account belongs to.
    pub async fn names_of(&self, account: &Account) -> Result<(Option<String>, Option<String>), WorkflowError> {
        let code = &account.municipality_code;
        let mut tx = self.store().begin_read(Wall::Around(code.clone())).await?;
        let municipality = tx.municipality(code).await?.map(|row| row.name);
        let facility = match account.facility_id {
            Some(facility) => tx.facility(facility).await?.map(|row| row.name),
            None => None,
        };
        Ok((municipality, facility))
    }

    /// One facility.
    pub async fn facility(&self, actor: &Actor, id: FacilityId) -> Result<(Facility, Vec<String>), WorkflowError> {
        let mut tx = self.read(actor).await?;
        let facility = tx.facility(id).await?.ok_or(WorkflowError::NotFound("facility"))?;
        let programmes = tx.programmes_of(id).await?;
        Ok((facility, programmes))
    }

    /// The code guardians read to pay; the facility's own staff and the municipality may show it.
    pub async fn facility_qr(&self, actor: &Actor, id: FacilityId) -> Result<ChildQrView, WorkflowError> {
        let role = actor.role.ok_or(WorkflowError::Denied)?;
        let own = role.is_facility() && actor.facility_id == Some(id);
        if !own && !role.may(Permission::ManageAccounts) {
            return Err(WorkflowError::Denied);
        }
        let (facility, _) = self.facility(actor, id).await?;
        qr_view(parse("facility_qr", &facility.coupon_qr)?)
    }

    /// Whose coupon QR this is.
    pub async fn facility_by_qr(&self, actor: &Actor, token: &str) -> Result<(Facility, Vec<String>), WorkflowError> {
        let token = parse("facility_qr", token)?;
        let mut tx = self.read(actor).await?;
        let facility = tx.facility_by_qr(&token.to_string()).await?.ok_or(WorkflowError::NotFound("facility"))?;
        let programmes = tx.programmes_of(facility.facility_id).await?;
        Ok((facility, programmes))
    }

    /// Whose child QR this is, with the child's coupons: for the facility that is about to take a payment.
    pub async fn child_of_qr(&self, actor: &Actor, token: &str) -> Result<(Child, Vec<CouponView>), WorkflowError> {
        if !actor.role.is_some_and(Role::is_facility) {
            return Err(WorkflowError::Denied);
        }
        let token = parse("child_qr", token)?;
        let mut tx = self.read(actor).await?;
        let qr = tx.child_qr(&actor.municipality_code, &token.to_string()).await?;
        let id = qr.and_then(|qr| qr.child_id).ok_or(WorkflowError::NotFound("child_qr"))?;
        let child = tx.child(id).await?.ok_or(WorkflowError::NotFound("child_qr"))?;
        let mut coupons = Vec::new();
        for coupon in tx.coupons_of_child(id).await? {
            coupons.push(coupon_view(&mut tx, coupon).await?);
        }
        Ok((child, coupons))
    }
}
