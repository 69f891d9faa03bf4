//! External applications (外部申請): decided in a linked system, so only what became of them is known here
//! (flows.md Part E, P7 and P8; file I08).

/// A system outside that takes and decides applications itself, one for each programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkedSystem {
    /// 子育て応援ヘルパーシステム (P7)
    Helper,
    /// こども誰でも通園制度 総合支援システム (P8)
    OpenNursery,
}

impl LinkedSystem {
    /// Every system.
    pub const ALL: [Self; 2] = [Self::Helper, Self::OpenNursery];

    /// The programme whose applications it decides.
    pub const fn programme_code(self) -> &'static str {
        match self {
            Self::Helper => "childrearing_helper",
            Self::OpenNursery => "open_nursery",
        }
    }

    /// From the programme.
    pub fn of_programme(programme_code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.programme_code() == programme_code)
    }

    /// The paper that proves an approval at the service. The helper system has none: it tells its families itself.
    pub const fn approval_notice(self) -> Option<&'static str> {
        match self {
            Self::Helper => None,
            Self::OpenNursery => Some("利用承認書"),
        }
    }
}

/// What became of an external application, as the linked system says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExternalState {
    /// 利用承認
    Approved,
    /// 利用不承認
    Rejected,
    /// Approved, then given up by the family.
    CancelledByGuardian,
    /// Approved, then taken back by whoever runs the linked system.
    CancelledByOperator,
    /// Approved, and the service was given.
    Used,
}

/// A step in the life of an external application; each is one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExternalStep {
    /// It came.
    Submitted,
    /// It was approved.
    Approved,
    /// It was not approved.
    Rejected,
    /// The family gave it up.
    CancelledByGuardian,
    /// It was taken back.
    CancelledByOperator,
    /// The service was given.
    Used,
}

impl ExternalState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Approved, Self::Rejected, Self::CancelledByGuardian, Self::CancelledByOperator, Self::Used];

    /// The code in the file and in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::CancelledByGuardian => "cancelled_by_guardian",
            Self::CancelledByOperator => "cancelled_by_operator",
            Self::Used => "used",
        }
    }

    /// From the code.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == raw)
    }

    /// The steps that lead from what was delivered `before` to `self`; none when it is delivered unchanged.
    ///
    /// The linked system may correct itself, so every state may follow every other. A decision that stands again is
    /// a step again; cancelled or used is only what was approved.
    pub fn steps_from(self, before: Option<Self>) -> Vec<ExternalStep> {
        if before == Some(self) {
            return Vec::new();
        }
        let mut steps = Vec::new();
        if before.is_none() {
            steps.push(ExternalStep::Submitted);
        }
        let end = match self {
            Self::Approved => None,
            Self::Rejected => {
                steps.push(ExternalStep::Rejected);
                return steps;
            }
            Self::CancelledByGuardian => Some(ExternalStep::CancelledByGuardian),
            Self::CancelledByOperator => Some(ExternalStep::CancelledByOperator),
            Self::Used => Some(ExternalStep::Used),
        };
        let approved_before = before.is_some_and(|before| before != Self::Rejected);
        if end.is_none() || !approved_before {
            steps.push(ExternalStep::Approved);
        }
        steps.extend(end);
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExternalState as S;
    use ExternalStep as Step;

    #[test]
    fn a_new_application_is_submitted_and_decided_together() {
        assert_eq!(S::Approved.steps_from(None), [Step::Submitted, Step::Approved]);
        assert_eq!(S::Rejected.steps_from(None), [Step::Submitted, Step::Rejected]);
        assert_eq!(S::Used.steps_from(None), [Step::Submitted, Step::Approved, Step::Used]);
    }

    #[test]
    fn a_correction_repeats_only_what_changed() {
        assert_eq!(S::Used.steps_from(Some(S::Approved)), [Step::Used]);
        assert_eq!(S::Used.steps_from(Some(S::CancelledByGuardian)), [Step::Used]);
        assert_eq!(S::Rejected.steps_from(Some(S::Approved)), [Step::Rejected]);
        assert_eq!(S::CancelledByOperator.steps_from(Some(S::Rejected)), [Step::Approved, Step::CancelledByOperator]);
        assert_eq!(S::Approved.steps_from(Some(S::CancelledByGuardian)), [Step::Approved]);
    }

    #[test]
    fn the_last_step_leaves_the_delivered_state_and_nothing_unchanged_makes_one() {
        for next in S::ALL {
            let last = match next {
                S::Approved => Step::Approved,
                S::Rejected => Step::Rejected,
                S::CancelledByGuardian => Step::CancelledByGuardian,
                S::CancelledByOperator => Step::CancelledByOperator,
                S::Used => Step::Used,
            };
            for before in S::ALL.into_iter().map(Some).chain([None]) {
                let steps = next.steps_from(before);
                assert_eq!(steps.contains(&Step::Submitted), before.is_none());
                if before == Some(next) {
                    assert!(steps.is_empty());
                } else {
                    assert_eq!(steps.last(), Some(&last), "{before:?} to {next:?}");
                }
            }
        }
    }

    #[test]
    fn codes_survive_the_record() {
        for state in S::ALL {
            assert_eq!(S::parse(state.as_str()), Some(state));
        }
        for system in LinkedSystem::ALL {
            assert_eq!(LinkedSystem::of_programme(system.programme_code()), Some(system));
        }
        assert_eq!(LinkedSystem::of_programme("short_stay"), None);
    }
}
