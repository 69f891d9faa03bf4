//! Segments: whom a broadcast or a survey is for, as a tree of conditions (messages.md §11).
//!
//! The same language serves broadcasts, saved segments and the audiences of surveys; `store` turns it into
//! SQL. Criteria that are forbidden (reduction kind, allergy, disability, welfare status) have no condition.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    application::ApplicationState,
    ids::{FacilityId, SurveyId},
    topic::Topic,
};

/// Deepest nesting of groups.
pub const DEPTH_MAX: usize = 5;
/// Most conditions of a segment, groups included.
pub const CONDITIONS_MAX: usize = 50;
/// Most values in one list.
pub const VALUES_MAX: usize = 100;
/// Highest age in months that can be asked for: the month before the 18th birthday.
pub const AGE_MONTHS_MAX: i64 = 18 * 12 - 1;
/// Highest number of children that can be asked for.
pub const CHILDREN_MAX: i64 = 20;

/// State of a household's coupons as a condition; `none` is a household without any.
pub const COUPON_STATES: [&str; 5] = ["active", "suspended", "expired", "revoked", "none"];

/// Which people of the fitting households.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum People {
    /// The guardian of each household.
    Guardians,
    /// Guardians and their proxies.
    #[default]
    Households,
}

/// A condition on a person and the household behind them, or a group of conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// All of them hold; an empty group always holds.
    All {
        /// The group.
        of: Vec<Condition>,
    },
    /// At least one of them holds.
    Any {
        /// The group; not empty.
        of: Vec<Condition>,
    },
    /// It does not hold.
    Not {
        /// What must not hold.
        of: Box<Condition>,
    },
    /// Ward of the household.
    Ward {
        /// Any of these.
        codes: Vec<String>,
    },
    /// Age of some child that lives here.
    ChildAgeMonths {
        /// Least age in full months.
        from: i64,
        /// Greatest age in full months.
        to: i64,
    },
    /// Class age (MR9) of some child that lives here.
    ChildClassAge {
        /// Any of these.
        ages: Vec<i64>,
    },
    /// Number of children that live here.
    ChildCount {
        /// At least.
        from: i64,
        /// At most.
        to: i64,
    },
    /// A coupon of the household was used, and not taken back.
    ProgrammeUsed {
        /// For any of these programmes; empty for any at all.
        #[serde(default)]
        codes: Vec<String>,
        /// First day.
        #[serde(default)]
        from: Option<Date>,
        /// Last day.
        #[serde(default)]
        to: Option<Date>,
    },
    /// A coupon of the household was used at a facility.
    FacilityUsed {
        /// Any of these.
        facility_ids: Vec<FacilityId>,
    },
    /// State of some coupon of the household.
    CouponState {
        /// One of [`COUPON_STATES`].
        state: String,
    },
    /// Sum of the household's active coupons; one without any has no balance.
    CouponBalance {
        /// At least, yen.
        from_yen: i64,
        /// At most, yen.
        to_yen: i64,
    },
    /// State of the newest application for some child of the household.
    ApplicationState {
        /// The state.
        state: ApplicationState,
    },
    /// The person chose a topic in the settings.
    Topic {
        /// Any of these.
        topics: Vec<Topic>,
    },
    /// The person has not been seen in the app.
    Inactive {
        /// For this many days.
        days: u32,
    },
    /// The person was asked by a survey that names who answered.
    SurveyAnswered {
        /// The survey.
        survey_id: SurveyId,
        /// Has answered, or has not.
        answered: bool,
    },
}

impl Condition {
    /// The group that always holds.
    pub const fn everybody() -> Self {
        Self::All { of: Vec::new() }
    }

    /// The conditions directly below a group.
    pub fn below(&self) -> &[Self] {
        match self {
            Self::All { of } | Self::Any { of } => of,
            Self::Not { of } => std::slice::from_ref(of),
            _ => &[],
        }
    }

    /// Whether it leaves nobody out, as far as its form shows.
    pub fn is_everybody(&self) -> bool {
        match self {
            Self::All { of } => of.iter().all(Self::is_everybody),
            Self::Any { of } => of.iter().any(Self::is_everybody),
            _ => false,
        }
    }

    /// Surveys whose answers it asks for.
    pub fn surveys(&self) -> Vec<SurveyId> {
        let own = match self {
            Self::SurveyAnswered { survey_id, .. } => Some(*survey_id),
            _ => None,
        };
        own.into_iter().chain(self.below().iter().flat_map(Self::surveys)).collect()
    }

    fn count(&self) -> usize {
        1 + self.below().iter().map(Self::count).sum::<usize>()
    }

    fn depth(&self) -> usize {
        match self {
            Self::All { .. } | Self::Any { .. } | Self::Not { .. } => {
                1 + self.below().iter().map(Self::depth).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    fn check(&self, path: &str, errors: &mut Vec<SegmentError>) {
        let mut refuse = |field: &str, detail: &'static str| {
            let field = if field.is_empty() { path.to_owned() } else { format!("{path}.{field}") };
            errors.push(SegmentError { field, detail });
        };
        match self {
            Self::Any { of } if of.is_empty() => refuse("of", "条件を1つ以上選んでください。"),
            Self::All { .. } | Self::Any { .. } | Self::Not { .. } | Self::SurveyAnswered { .. } => {}
            Self::Ward { codes } => {
                if !is_filled(codes) || !codes.iter().all(|code| is_code(code)) {
                    refuse("codes", "行政区を選んでください。");
                }
            }
            Self::ChildAgeMonths { from, to } => {
                if !is_range(*from, *to, AGE_MONTHS_MAX) {
                    refuse("to", "月齢は0から215までの範囲で、小さい順に入力してください。");
                }
            }
            Self::ChildClassAge { ages } => {
                if !is_filled(ages) || !ages.iter().all(|age| (0..=17).contains(age)) {
                    refuse("ages", "クラス年齢は0から17までです。");
                }
            }
            Self::ChildCount { from, to } => {
                if !is_range(*from, *to, CHILDREN_MAX) {
                    refuse("to", "人数は0から20までの範囲で、小さい順に入力してください。");
                }
            }
            Self::ProgrammeUsed { codes, from, to } => {
                if codes.len() > VALUES_MAX || !codes.iter().all(|code| is_code(code)) {
                    refuse("codes", "事業コードが正しくありません。");
                }
                if matches!((from, to), (Some(from), Some(to)) if to < from) {
                    refuse("to", "期間の終わりが始まりより前です。");
                }
            }
            Self::FacilityUsed { facility_ids } => {
                if !is_filled(facility_ids) {
                    refuse("facility_ids", "事業所を選んでください。");
                }
            }
            Self::CouponState { state } => {
                if !COUPON_STATES.contains(&state.as_str()) {
                    refuse("state", "クーポンの状態が正しくありません。");
                }
            }
            Self::CouponBalance { from_yen, to_yen } => {
                if !is_range(*from_yen, *to_yen, i64::MAX) {
                    refuse("to_yen", "残高の上限が下限より小さくなっています。");
                }
            }
            Self::ApplicationState { .. } => {}
            Self::Topic { topics } => {
                if !is_filled(topics) {
                    refuse("topics", "関心のあることを選んでください。");
                }
            }
            Self::Inactive { days } => {
                if !(1..=3_650).contains(days) {
                    refuse("days", "日数は1から3650までです。");
                }
            }
        }
        for (nth, below) in self.below().iter().enumerate() {
            below.check(&format!("{path}.of.{nth}"), errors);
        }
    }
}

fn is_filled<T>(values: &[T]) -> bool {
    (1..=VALUES_MAX).contains(&values.len())
}

fn is_range(from: i64, to: i64, max: i64) -> bool {
    0 <= from && from <= to && to <= max
}

fn is_code(code: &str) -> bool {
    !code.is_empty() && code.len() <= 40 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct SegmentError {
    /// Path in the request, such as `when.of.0.codes`.
    pub field: String,
    /// What to correct, in Japanese.
    pub detail: &'static str,
}

/// A checked definition of an audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Draft")]
pub struct Segment {
    people: People,
    when: Condition,
}

/// A definition as it comes from outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Which people of the fitting households; guardians and proxies when left out.
    #[serde(default)]
    pub people: People,
    /// The condition; everybody when left out.
    #[serde(default = "Condition::everybody")]
    pub when: Condition,
}

impl Segment {
    /// Checks a definition.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its path.
    pub fn parse(people: People, when: Condition) -> Result<Self, Vec<SegmentError>> {
        let mut errors = Vec::new();
        if when.depth() > DEPTH_MAX || when.count() > CONDITIONS_MAX {
            let detail = "条件が多すぎます。50個、5階層までにしてください。";
            return Err(vec![SegmentError { field: "when".to_owned(), detail }]);
        }
        when.check("when", &mut errors);
        if errors.is_empty() { Ok(Self { people, when }) } else { Err(errors) }
    }

    /// Everybody of every household.
    pub const fn everybody() -> Self {
        Self { people: People::Households, when: Condition::everybody() }
    }

    /// Which people of the fitting households.
    pub const fn people(&self) -> People {
        self.people
    }

    /// What must hold.
    pub const fn when(&self) -> &Condition {
        &self.when
    }

    /// Whether it leaves nobody out, as far as its form shows.
    pub fn is_everybody(&self) -> bool {
        self.when.is_everybody()
    }
}

impl TryFrom<Draft> for Segment {
    type Error = SegmentError;
    fn try_from(draft: Draft) -> Result<Self, SegmentError> {
        Self::parse(draft.people, draft.when).map_err(|errors| errors.into_iter().next().unwrap_or_else(unknown))
    }
}

fn unknown() -> SegmentError {
    SegmentError { field: "when".to_owned(), detail: "条件が正しくありません。" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn leaf() -> impl Strategy<Value = Condition> {
        prop_oneof![
            Just(Condition::Ward { codes: vec!["27127".to_owned()] }),
            (0..=AGE_MONTHS_MAX, 0..=AGE_MONTHS_MAX)
                .prop_map(|(a, b)| Condition::ChildAgeMonths { from: a.min(b), to: a.max(b) }),
            (1..3_650_u32).prop_map(|days| Condition::Inactive { days }),
            Just(Condition::Topic { topics: vec![Topic::Health, Topic::Safety] }),
            Just(Condition::ApplicationState { state: ApplicationState::Approved }),
        ]
    }

    fn condition() -> impl Strategy<Value = Condition> {
        leaf().prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|of| Condition::All { of }),
                prop::collection::vec(inner.clone(), 1..4).prop_map(|of| Condition::Any { of }),
                inner.prop_map(|of| Condition::Not { of: Box::new(of) }),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_good_tree_is_kept_as_it_is(when in condition()) {
            let segment = Segment::parse(People::Guardians, when.clone()).unwrap();
            let back: Segment = serde_json::from_str(&serde_json::to_string(&segment).unwrap()).unwrap();
            prop_assert_eq!(&back, &segment);
            prop_assert_eq!(back.when(), &when);
        }

        #[test]
        fn one_bad_leaf_anywhere_refuses_the_tree_and_is_named(when in condition()) {
            let bad = Condition::Ward { codes: Vec::new() };
            let tree = Condition::All { of: vec![when, bad] };
            if tree.depth() <= DEPTH_MAX && tree.count() <= CONDITIONS_MAX {
                let errors = Segment::parse(People::Households, tree).unwrap_err();
                prop_assert_eq!(errors.len(), 1);
                prop_assert_eq!(&errors[0].field, "when.of.1.codes");
            }
        }

        #[test]
        fn a_tree_is_for_everybody_only_without_any_leaf(when in leaf()) {
            let all = Condition::All { of: vec![Condition::everybody(), when.clone()] };
            prop_assert!(!all.is_everybody());
            let any = Condition::Any { of: vec![Condition::everybody(), when] };
            prop_assert!(any.is_everybody());
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut deep = Condition::everybody();
        for _ in 0..DEPTH_MAX {
            deep = Condition::Not { of: Box::new(deep) };
        }
        assert!(Segment::parse(People::Households, deep).is_err());
        let wide = Condition::All { of: vec![Condition::Inactive { days: 1 }; CONDITIONS_MAX] };
        assert!(Segment::parse(People::Households, wide).is_err());
    }

    #[test]
    fn what_is_not_a_condition_is_refused() {
        for bad in [
            json!({ "when": { "kind": "allergy" } }),
            json!({ "when": { "kind": "inactive", "days": 0 } }),
            json!({ "when": { "kind": "inactive", "days": 3, "more": 1 } }),
            json!({ "when": { "kind": "any", "of": [] } }),
            json!({ "when": { "kind": "child_age_months", "from": 12, "to": 3 } }),
            json!({ "when": { "kind": "ward", "codes": ["' OR 1=1"] } }),
            json!({ "people": "strangers" }),
        ] {
            assert!(serde_json::from_value::<Segment>(bad.clone()).is_err(), "{bad}");
        }
        assert!(serde_json::from_value::<Segment>(json!({})).unwrap().is_everybody());
    }
}
