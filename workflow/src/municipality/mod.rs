//! What a municipality sets, looks up and asks for: parameters, coupon sets, facilities, households, its
//! board, requests to the operator, and what an authority above may see.

mod board;
mod facility;
mod household;
mod oversight;
mod request;
mod setting;

pub use board::{Board, Place, UseTotals};
pub use household::Household;
pub use request::{RequestDraft, RequestView};
pub use setting::{ComingValue, ParameterView};
