//! What a municipality sets, looks up and asks for: parameters, coupon sets, facilities, households, its
//! board, and requests to the operator.

mod board;
mod facility;
mod household;
mod request;
mod setting;

pub use board::{Board, Place, UseTotals};
pub use household::Household;
pub use request::{RequestDraft, RequestView};
pub use setting::{ComingValue, ParameterView};
