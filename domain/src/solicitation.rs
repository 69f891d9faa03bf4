//! Invitations to apply, per child (flows.md C7).

use jiff::civil::Date;

use crate::time::add_days;

/// State of a solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SolicitationState {
    /// 勧奨対象
    Targeted,
    /// 勧奨済
    Solicited,
    /// 申請済
    Applied,
    /// 勧奨終了
    Exhausted,
    /// 対象外
    OutOfTarget,
}

impl SolicitationState {
    /// The code in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Targeted => "targeted",
            Self::Solicited => "solicited",
            Self::Applied => "applied",
            Self::Exhausted => "exhausted",
            Self::OutOfTarget => "out_of_target",
        }
    }

    /// The label people see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Targeted => "勧奨対象",
            Self::Solicited => "勧奨済",
            Self::Applied => "申請済",
            Self::Exhausted => "勧奨終了",
            Self::OutOfTarget => "対象外",
        }
    }

    /// From the code in the record.
    pub fn parse(raw: &str) -> Option<Self> {
        [Self::Targeted, Self::Solicited, Self::Applied, Self::Exhausted, Self::OutOfTarget]
            .into_iter()
            .find(|state| state.as_str() == raw)
    }
}

/// What the daily run does with a child that was solicited and has not applied (T02).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The interval has not passed.
    Wait,
    /// Send again; this is repeat number `n` (1 = first repeat).
    Send {
        /// Number of this repeat.
        n: i64,
    },
    /// All repeats are spent and the interval has passed once more.
    Exhaust,
}

/// Decides by the day of the last notice, how many repeats went out, and the two parameters.
pub fn repeat(last_on: Date, repeats: i64, today: Date, interval_days: i32, repeats_max: i64) -> Repeat {
    if today < add_days(last_on, interval_days) {
        Repeat::Wait
    } else if repeats < repeats_max {
        Repeat::Send { n: repeats + 1 }
    } else {
        Repeat::Exhaust
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn interval_30_and_maximum_2_send_exactly_two_repeats() {
        let (mut last, mut repeats, mut sent) = (date(2026, 1, 1), 0, Vec::new());
        let mut exhausted = None;
        for day in 0..200 {
            let today = add_days(date(2026, 1, 1), day);
            match repeat(last, repeats, today, 30, 2) {
                Repeat::Wait => {}
                Repeat::Send { n } => {
                    sent.push((n, today));
                    (last, repeats) = (today, n);
                }
                Repeat::Exhaust => {
                    exhausted.get_or_insert(today);
                }
            }
        }
        assert_eq!(sent, vec![(1, date(2026, 1, 31)), (2, date(2026, 3, 2))]);
        assert_eq!(exhausted, Some(date(2026, 4, 1)));
    }
}
