//! The coupon claim's state machine (flows.md C15), seen alike by facility, operator and city.

use serde::{Deserialize, Serialize};

/// State of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimState {
    /// 作成済
    Created,
    /// 提出済
    Submitted,
    /// 受付済
    Received,
    /// 市へ送付済
    Forwarded,
    /// 振替依頼済
    TransferRequested,
    /// 支払済
    Paid,
    /// 振替不能
    TransferFailed,
}

/// What happens to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimEvent {
    /// The facility computes it anew from its uses.
    Recompute,
    /// The facility hands it in.
    Submit,
    /// The operator takes it.
    Receive,
    /// The operator gives it back, with a reason.
    SendBack,
    /// The operator passes it on to the city.
    Forward,
    /// The city orders the transfer.
    OrderPayment,
    /// The bank has paid.
    TransferDone,
    /// The bank could not pay.
    TransferFailed,
}

/// An event that the state does not allow; nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible in state {state:?}")]
pub struct IllegalTransition {
    /// The state as it stays.
    pub state: ClaimState,
    /// The refused event.
    pub event: ClaimEvent,
}

impl ClaimState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Submitted,
        Self::Received,
        Self::Forwarded,
        Self::TransferRequested,
        Self::Paid,
        Self::TransferFailed,
    ];

    /// The next state, or a refusal.
    pub fn on(self, event: ClaimEvent) -> Result<Self, IllegalTransition> {
        use ClaimEvent as E;
        use ClaimState as S;
        match (self, event) {
            (S::Created, E::Recompute) => Ok(S::Created),
            (S::Created, E::Submit) => Ok(S::Submitted),
            (S::Submitted, E::Receive) => Ok(S::Received),
            (S::Submitted | S::Received | S::Forwarded, E::SendBack) => Ok(S::Created),
            (S::Received, E::Forward) => Ok(S::Forwarded),
            (S::Forwarded | S::TransferFailed, E::OrderPayment) => Ok(S::TransferRequested),
            (S::TransferRequested, E::TransferDone) => Ok(S::Paid),
            (S::TransferRequested, E::TransferFailed) => Ok(S::TransferFailed),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }

    /// Whether the city sees claims in this state: those that the operator has passed on.
    pub const fn is_with_city(self) -> bool {
        matches!(self, Self::Forwarded | Self::TransferRequested | Self::Paid | Self::TransferFailed)
    }

    /// The code in the record and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Submitted => "submitted",
            Self::Received => "received",
            Self::Forwarded => "forwarded",
            Self::TransferRequested => "transfer_requested",
            Self::Paid => "paid",
            Self::TransferFailed => "transfer_failed",
        }
    }

    /// The label people see (glossary, "State labels").
    pub const fn label(self) -> &'static str {
        match self {
            Self::Created => "作成済",
            Self::Submitted => "提出済",
            Self::Received => "受付済",
            Self::Forwarded => "市へ送付済",
            Self::TransferRequested => "振替依頼済",
            Self::Paid => "支払済",
            Self::TransferFailed => "振替不能",
        }
    }

    /// From the code in the record.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = ClaimEvent> {
        use ClaimEvent as E;
        prop_oneof![
            Just(E::Recompute),
            Just(E::Submit),
            Just(E::Receive),
            Just(E::SendBack),
            Just(E::Forward),
            Just(E::OrderPayment),
            Just(E::TransferDone),
            Just(E::TransferFailed),
        ]
    }

    proptest! {
        #[test]
        fn money_moves_only_after_everybody_has_seen_the_claim(events in prop::collection::vec(any_event(), 0..60)) {
            let mut state = ClaimState::Created;
            // What has happened since the facility could last change the claim.
            let (mut submitted, mut received, mut forwarded, mut ordered) = (false, false, false, false);
            for event in events {
                match state.on(event) {
                    Ok(next) => {
                        prop_assert_ne!(state, ClaimState::Paid, "a paid claim is closed");
                        match event {
                            ClaimEvent::Recompute => {
                                prop_assert!(!submitted);
                            }
                            ClaimEvent::Submit => submitted = true,
                            ClaimEvent::Receive => received = true,
                            ClaimEvent::Forward => forwarded = true,
                            ClaimEvent::SendBack => {
                                prop_assert!(!ordered, "what was ordered does not come back");
                                (submitted, received, forwarded) = (false, false, false);
                            }
                            ClaimEvent::OrderPayment => {
                                prop_assert!(submitted && received && forwarded);
                                ordered = true;
                            }
                            ClaimEvent::TransferDone | ClaimEvent::TransferFailed => {
                                prop_assert!(ordered);
                            }
                        }
                        prop_assert_eq!(next.is_with_city(), forwarded);
                        state = next;
                    }
                    Err(refused) => prop_assert_eq!(refused, IllegalTransition { state, event }),
                }
            }
        }
    }

    #[test]
    fn a_failed_transfer_can_be_ordered_again() {
        use ClaimEvent as E;
        let mut state = ClaimState::Created;
        let way =
            [E::Submit, E::Receive, E::Forward, E::OrderPayment, E::TransferFailed, E::OrderPayment, E::TransferDone];
        for event in way {
            state = state.on(event).unwrap();
        }
        assert_eq!(state, ClaimState::Paid);
    }

    #[test]
    fn codes_survive_the_record() {
        for state in ClaimState::ALL {
            assert_eq!(ClaimState::parse(state.as_str()), Some(state));
        }
        assert_eq!(ClaimState::parse("not_created"), None);
    }
}
