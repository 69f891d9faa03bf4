//! The coupon application's state machine (flows.md C3).

use serde::{Deserialize, Serialize};

/// State of a coupon application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationState {
    /// 受付済
    Submitted,
    /// 不備あり
    Deficient,
    /// 再提出済
    Resubmitted,
    /// 照合中
    Matching,
    /// 審査中
    UnderReview,
    /// 承認
    Approved,
    /// 不承認
    Rejected,
    /// 承認取消
    Revoked,
    /// 取消済
    Cancelled,
}

/// What happens to an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApplicationEvent {
    /// The operator found something missing or wrong.
    FindDeficiency,
    /// The guardian (or, for paper, the operator) corrected it.
    Resubmit,
    /// The documents are complete; `via_child_qr` decides whether matching is needed.
    DocumentsComplete {
        /// A valid child QR identified the child, so no identity matching is needed.
        via_child_qr: bool,
    },
    /// Exactly one resident matched, or the operator linked one by hand.
    Matched,
    /// The operator approves.
    Approve,
    /// The operator rejects, with a reason.
    Reject,
    /// The city asks to take back an approval.
    RevokeApproval,
    /// The city asks to take back a rejection.
    RevokeRejection,
    /// The guardian withdraws.
    Withdraw,
}

/// An event that the state does not allow; nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible in state {state:?}")]
pub struct IllegalTransition {
    /// The state as it stays.
    pub state: ApplicationState,
    /// The refused event.
    pub event: ApplicationEvent,
}

impl ApplicationState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Submitted,
        Self::Deficient,
        Self::Resubmitted,
        Self::Matching,
        Self::UnderReview,
        Self::Approved,
        Self::Rejected,
        Self::Revoked,
        Self::Cancelled,
    ];

    /// The next state, or a refusal.
    pub fn on(self, event: ApplicationEvent) -> Result<Self, IllegalTransition> {
        use ApplicationEvent as E;
        use ApplicationState as S;
        match (self, event) {
            (S::Submitted | S::Resubmitted, E::FindDeficiency) => Ok(S::Deficient),
            (S::Deficient, E::Resubmit) => Ok(S::Resubmitted),
            (S::Submitted | S::Resubmitted, E::DocumentsComplete { via_child_qr: true }) => Ok(S::UnderReview),
            (S::Submitted | S::Resubmitted, E::DocumentsComplete { via_child_qr: false }) => Ok(S::Matching),
            (S::Matching, E::Matched) => Ok(S::UnderReview),
            (S::UnderReview, E::Approve) => Ok(S::Approved),
            (S::UnderReview, E::Reject) => Ok(S::Rejected),
            (S::Approved, E::RevokeApproval) => Ok(S::Revoked),
            (S::Rejected, E::RevokeRejection) => Ok(S::UnderReview),
            (S::Submitted | S::Deficient | S::Resubmitted | S::Matching, E::Withdraw) => Ok(S::Cancelled),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }

    /// No longer open: a new application for the child may be made.
    pub const fn is_closed(self) -> bool {
        matches!(self, Self::Rejected | Self::Revoked | Self::Cancelled)
    }

    /// The code in the record, events and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Deficient => "deficient",
            Self::Resubmitted => "resubmitted",
            Self::Matching => "matching",
            Self::UnderReview => "under_review",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
            Self::Cancelled => "cancelled",
        }
    }

    /// The label people see (glossary, "State labels").
    pub const fn label(self) -> &'static str {
        match self {
            Self::Submitted => "受付済",
            Self::Deficient => "不備あり",
            Self::Resubmitted => "再提出済",
            Self::Matching => "照合中",
            Self::UnderReview => "審査中",
            Self::Approved => "承認",
            Self::Rejected => "不承認",
            Self::Revoked => "承認取消",
            Self::Cancelled => "取消済",
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

    fn any_event() -> impl Strategy<Value = ApplicationEvent> {
        use ApplicationEvent as E;
        prop_oneof![
            Just(E::FindDeficiency),
            Just(E::Resubmit),
            Just(E::Matched),
            Just(E::Approve),
            Just(E::Reject),
            Just(E::RevokeApproval),
            Just(E::RevokeRejection),
            Just(E::Withdraw),
            any::<bool>().prop_map(|via_child_qr| E::DocumentsComplete { via_child_qr }),
        ]
    }

    proptest! {
        #[test]
        fn approval_always_follows_a_review(events in prop::collection::vec(any_event(), 0..40)) {
            let mut state = ApplicationState::Submitted;
            let mut reviewed = false;
            for event in events {
                match state.on(event) {
                    Ok(next) => {
                        reviewed |= next == ApplicationState::UnderReview;
                        if next == ApplicationState::Approved { prop_assert!(reviewed); }
                        // Revoked and cancelled are final.
                        prop_assert!(!matches!(state, ApplicationState::Revoked | ApplicationState::Cancelled));
                        state = next;
                    }
                    Err(refused) => prop_assert_eq!(refused.state, state),
                }
            }
        }
    }

    #[test]
    fn codes_survive_the_record() {
        for state in ApplicationState::ALL {
            assert_eq!(ApplicationState::parse(state.as_str()), Some(state));
        }
    }
}
