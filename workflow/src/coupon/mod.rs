//! Coupons: distribution, use, reversal, revocation, suspension, adjustment, expiry (flows F05–F07, F15).

mod adjust;
mod distribute;
mod expiry;
mod ledger;
mod reverse;
mod revoke;
mod suspend;
mod use_coupon;
mod view;

pub use adjust::Adjustment;
pub use expiry::{CouponRun, ReminderRound};
pub use use_coupon::{Payer, Place, Purpose, UseAnswer, UseRequest};
pub use view::{CouponView, CouponsOf, UseView};

pub(crate) use ledger::guardian_key;
pub(crate) use view::coupon_view;
