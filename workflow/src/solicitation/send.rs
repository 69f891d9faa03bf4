//! One invitation: the code, and the way it reaches the family.

use serde_json::json;
use todoke_domain::{
    Event, Role,
    catalogue::{
        messages::{self, LOCALE_COMPLETE, MessageType},
        template::{Placeholder, Placeholders, Privacy, Rendered, TemplateError, render_in},
    },
    ids::{GuardianId, MessageId, SolicitationId},
    solicitation::SolicitationState,
};
use todoke_store::{
    child::{Child, ChildQr},
    resident::Resident,
    solicitation::Solicitation,
};

use super::{Registered, Run};
use crate::{
    Work, WorkflowError,
    messaging::{About, NewLetter, TEMPLATE_ERROR, Unwritten},
    secret,
    work::Subject,
};

/// How an invitation went out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) by_app: bool,
    pub(super) by_letter: bool,
}

/// How a family is reached.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) child: Option<Child>,
    /// The household with a sign-in, if there is one.
    pub(super) guardian: Option<GuardianId>,
    sent: Sent,
}

impl Route {
    const fn channel(&self) -> &'static str {
        if self.sent.by_app { "inbox" } else { "paper" }
    }
}

impl Work<'_> {
    /// Invites one resident of a run; `None` when another run was first.
    pub(super) async fn solicit_resident(
        &mut self,
        resident: &Resident,
        run: &Run,
    ) -> Result<Option<Sent>, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let route = self.route(resident, &run.registered).await?;
        let reason = match resident.arrived_by.as_str() {
            _ if run.is_launch => "launch",
            "birth" => "newborn",
            _ => "moved_in",
        };
        let earlier = self.tx.solicitation_of_resident(&code, &resident.resident_no).await?;
        // A child that is registered keeps its key; the one of a child nobody registered yet waits here
        // until a registered child is linked to the resident (see `key_of_resident`).
        let key = earlier
            .as_ref()
            .map(|row| row.person_key)
            .or_else(|| route.child.as_ref().and_then(|child| child.person_key));
        let mut row = Solicitation {
            solicitation_id: earlier.as_ref().map_or_else(|| SolicitationId::new(self.now), |row| row.solicitation_id),
            municipality_code: code.clone(),
            resident_no: resident.resident_no.clone(),
            state: SolicitationState::Targeted.as_str().to_owned(),
            reason: reason.to_owned(),
            channel: None,
            guardian_id: None,
            child_id: None,
            person_key: key.unwrap_or_else(secret::person_key),
            repeats: 0,
            last_sent_on: None,
            created_at: self.now,
        };
        let is_first = match &earlier {
            None => self.tx.insert_solicitation(&row).await?,
            // Back after having been away: the same invitation begins anew.
            Some(_) => self.tx.update_solicitation(&row, SolicitationState::OutOfTarget).await?,
        };
        if !is_first {
            return Ok(None);
        }
        self.event(
            "solicitation.target_created",
            Subject::new("solicitation", row.solicitation_id),
            json!({
                "child_key": row.person_key, "reason": reason, "app_registered": route.guardian.is_some(),
            }),
        );
        self.send(&mut row, SolicitationState::Targeted, resident, &route).await.map(Some)
    }

    /// Sends the first notice or, with `row.repeats` already counted, a repeat. Gives how it went out.
    pub(super) async fn send(
        &mut self,
        row: &mut Solicitation,
        from: SolicitationState,
        resident: &Resident,
        route: &Route,
    ) -> Result<Sent, WorkflowError> {
        row.state = SolicitationState::Solicited.as_str().to_owned();
        row.channel = Some(route.channel().to_owned());
        row.guardian_id = route.guardian;
        row.child_id = route.child.as_ref().map(|child| child.child_id);
        row.last_sent_on = Some(self.now.jst_date());
        if !self.tx.update_solicitation(row, from).await? {
            return Err(WorkflowError::Internal("an invitation changed under its lock"));
        }
        let qr_token = self.code_for(row, resident, route).await?;
        let event_type = if row.repeats == 0 { "solicitation.sent" } else { "solicitation.resent" };
        let event = self.event(
            event_type,
            Subject::new("solicitation", row.solicitation_id),
            json!({
                "child_key": row.person_key, "channel": route.channel(), "count": row.repeats,
            }),
        );
        let about = self.solicitation_about(row, resident, route).await?;
        if route.guardian.is_some() {
            self.raise(&event, &about).await?;
        }
        let by_letter =
            route.sent.by_letter && self.invitation_letter(&event, resident, route, &about.values, qr_token).await?;
        Ok(Sent { by_letter, ..route.sent })
    }

    /// Rule 8 of Part J: the guardian is registered when a matched child is theirs, or when the head of a
    /// household occurs in the child's household relation.
    pub(super) async fn route(&mut self, resident: &Resident, registered: &Registered) -> Result<Route, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let child = self.tx.child_of_resident(&code, &resident.resident_no).await?;
        let guardian = match &child {
            Some(child) => self.tx.has_sign_in(child.guardian_id).await?.then_some(child.guardian_id),
            None => {
                let relations = self.tx.relations_of(&code, &resident.resident_no).await?;
                relations.iter().find_map(|relation| registered.find(&relation.name_kana_normal, relation.birth_date))
            }
        };
        let contact = match guardian {
            Some(id) => {
                self.tx.guardian(id).await?.map_or_else(|| "app".to_owned(), |guardian| guardian.contact_channel)
            }
            None => "paper".to_owned(),
        };
        Ok(Route { child, guardian, sent: Sent { by_app: contact != "paper", by_letter: contact != "app" } })
    }

    /// The valid code of the child, or a new one.
    async fn code_for(
        &mut self,
        row: &Solicitation,
        resident: &Resident,
        route: &Route,
    ) -> Result<String, WorkflowError> {
        let code = self.actor.municipality_code.clone();
        let known = match &route.child {
            Some(child) => self.tx.qr_of_child(child.child_id).await?,
            None => self.tx.qr_of_resident(&code, &resident.resident_no).await?,
        };
        if let Some(known) = known {
            return Ok(known.token);
        }
        let qr = ChildQr {
            token: secret::qr_token().to_string(),
            resident_no: Some(resident.resident_no.clone()),
            child_id: row.child_id,
        };
        self.tx.insert_child_qr(&code, &qr, self.now).await?;
        let output = if route.sent.by_letter { "paper" } else { "app" };
        self.event(
            "child.qr_issued",
            Subject::new("child", row.person_key),
            json!({ "child_key": row.person_key, "output": output }),
        );
        Ok(qr.token)
    }

    async fn solicitation_about(
        &mut self,
        row: &Solicitation,
        resident: &Resident,
        route: &Route,
    ) -> Result<About, WorkflowError> {
        let name = route.child.as_ref().map_or(&resident.name, |child| &child.name);
        // The code itself stays off the link: links travel in mails. The app shows it after sign-in.
        let link = row.child_id.map_or_else(|| "/apply".to_owned(), |child| format!("/apply?child={child}"));
        Ok(About {
            subject_kind: "solicitation",
            subject_id: row.solicitation_id.to_string(),
            state: row.state.clone(),
            guardian: route.guardian,
            values: Placeholders::new()
                .with(Placeholder::Child, name.clone())
                .with(Placeholder::Count, row.repeats.to_string())
                .with(Placeholder::Contact, self.contact().await?),
            link,
            ..About::default()
        })
    }

    /// A letter to the household at the address of the register. For those without the app the sheet
    /// also invites to it. `false` when it cannot be written: a text that lacks a value costs itself only.
    async fn invitation_letter(
        &mut self,
        cause: &Event,
        resident: &Resident,
        route: &Route,
        values: &Placeholders,
        qr_token: String,
    ) -> Result<bool, WorkflowError> {
        let message_type = match cause.event_type.as_str() {
            "solicitation.sent" => "coupon.solicited",
            _ => "coupon.resolicited",
        };
        let language = match route.guardian {
            Some(guardian) => {
                let household = self.tx.household_accounts(guardian).await?;
                household.into_iter().find(|account| account.role == Role::Guardian).map(|account| account.language)
            }
            None => None,
        };
        let language = language.as_deref().unwrap_or(LOCALE_COMPLETE);
        let kind = kind_of(message_type)?;
        let (title, mut body) = match letter_text(kind, language, values) {
            Ok(text) => (text.subject, text.body),
            // The letter of a household with a sign-in is its message's, which was not written either.
            Err(_) if route.guardian.is_some() => return Ok(false),
            Err(error) => {
                self.tell_unwritten_letter(kind, cause, &error).await?;
                return Ok(false);
            }
        };
        if route.guardian.is_none() {
            let invitation = kind_of("account.registration_invited")?;
            match letter_text(invitation, language, values) {
                Ok(text) => {
                    body = format!("{body}\n\n【{}】\n{}", text.subject, text.body);
                    let subject = Subject { kind: "solicitation", id: cause.subject_id.clone() };
                    let payload = json!({ "invitation_channel": "paper" });
                    self.event_because(cause, "account.registration_invited", subject, payload);
                }
                Err(error) => self.tell_unwritten_letter(invitation, cause, &error).await?,
            }
        }
        let letter = NewLetter {
            message_type,
            recipient_name: format!("{} 様の保護者様", resident.name),
            postal_code: resident.postal_code.clone(),
            address: resident.address.clone(),
            title,
            body,
            qr_token: Some(qr_token),
        };
        self.own_letter(letter, route.guardian, Some(cause.event_id)).await?;
        Ok(true)
    }

    /// A text for a household without a sign-in lacks a value. The record knows no person to whom it was to go.
    async fn tell_unwritten_letter(
        &mut self,
        kind: &'static MessageType,
        cause: &Event,
        error: &TemplateError,
    ) -> Result<(), WorkflowError> {
        let suppressed = self.note_suppressed(MessageId::new(self.now), TEMPLATE_ERROR);
        self.tell_unwritten(&Unwritten::new(kind, &cause.subject_id, error, suppressed)).await
    }
}

fn kind_of(message_type: &str) -> Result<&'static MessageType, WorkflowError> {
    messages::get(message_type).ok_or(WorkflowError::Internal("a letter's text is missing"))
}

fn letter_text(kind: &MessageType, language: &str, values: &Placeholders) -> Result<Rendered, TemplateError> {
    render_in(kind, language, "default", values, Privacy::Inbox)
}
