//! The HTTP API: one file per resource. A handler extracts, calls one use case, converts.

mod accounts;
mod aggregates;
mod applications;
mod audited;
mod broadcasts;
mod children;
mod city;
mod claims;
mod coupon_sets;
mod coupon_uses;
mod coupons;
mod deliveries;
mod demo_mail;
mod devices;
mod documents;
mod events;
mod facilities;
mod guardians;
mod home;
mod imports;
mod inbox;
mod input;
mod intake;
mod keys;
mod lake;
mod me;
mod my_surveys;
mod notices;
mod ops;
mod parameters;
mod print_queue;
mod realtime_token;
mod receipts;
mod registrations;
mod reports;
mod segments;
mod sessions;
mod solicitations;
mod sql;
mod surveys;
mod topics;
mod transfers;
mod usage;

pub(crate) use intake::BODY_MIB_MAX;

use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;

/// Head of the OpenAPI document; paths come from the handlers.
#[derive(OpenApi)]
#[openapi(info(
    title = "Todoke",
    description = "Real-time messages and analytics for municipal child-rearing support. \
        Sign in with `POST /v1/sessions`, then send `Authorization: Bearer <session token>`; machines send an API key. \
        Errors are RFC 9457 problem documents."
))]
struct Document;

/// All routes with their documentation.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(accounts::routes())
        .merge(aggregates::routes())
        .merge(applications::routes())
        .merge(broadcasts::routes())
        .merge(children::routes())
        .merge(city::routes())
        .merge(claims::routes())
        .merge(coupon_sets::routes())
        .merge(coupon_uses::routes())
        .merge(coupons::routes())
        .merge(deliveries::routes())
        .merge(devices::routes())
        .merge(documents::routes())
        .merge(events::routes())
        .merge(facilities::routes())
        .merge(guardians::routes())
        .merge(home::routes())
        .merge(imports::routes())
        .merge(inbox::routes())
        .merge(keys::routes())
        .merge(lake::routes())
        .merge(me::routes())
        .merge(my_surveys::routes())
        .merge(notices::routes())
        .merge(ops::routes())
        .merge(parameters::routes())
        .merge(print_queue::routes())
        .merge(realtime_token::routes())
        .merge(receipts::routes())
        .merge(registrations::routes())
        .merge(reports::routes())
        .merge(segments::routes())
        .merge(sessions::routes())
        .merge(solicitations::routes())
        .merge(sql::routes())
        .merge(surveys::routes())
        .merge(topics::routes())
        .merge(transfers::routes())
        .merge(usage::routes())
}

/// Routes of a demo only: the mailbox.
pub fn demo_routes() -> OpenApiRouter<AppState> {
    demo_mail::routes()
}
