//! Parameters of a municipality (flows.md Part A), each with a default and a checked form.
//!
//! Values are stored as text with an effective-from date; the value in force is the newest whose date
//! is not after today.

/// Form of a parameter's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterForm {
    /// A whole number in a closed range.
    Number {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// Free text of at most so many characters.
    Text {
        /// Greatest length in characters.
        chars_max: usize,
    },
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Name in the API and the record.
    pub name: &'static str,
    /// Value until the municipality sets its own.
    pub default: &'static str,
    /// What a value must look like.
    pub form: ParameterForm,
    /// What it means, for the people who set it.
    pub meaning: &'static str,
}

const fn number(name: &'static str, default: &'static str, min: i64, max: i64, meaning: &'static str) -> Parameter {
    Parameter { name, default, form: ParameterForm::Number { min, max }, meaning }
}

/// Days without application before a solicitation is repeated.
pub const RESOLICIT_INTERVAL_DAYS: Parameter = number("resolicit_interval_days", "30", 1, 365, "再勧奨までの日数");
/// Number of repeats.
pub const RESOLICIT_MAX_COUNT: Parameter = number("resolicit_max_count", "2", 0, 12, "再勧奨の回数");
/// Greatest age in years that is solicited.
pub const SOLICIT_AGE_MAX_YEARS: Parameter = number("solicit_age_max_years", "2", 0, 17, "勧奨の対象年齢（歳まで）");
/// First reminder before a lot expires, days.
pub const EXPIRY_REMINDER_DAYS: Parameter =
    number("expiry_reminder_days", "60", 1, 365, "期限のお知らせ（1回目、日前）");
/// Second reminder before a lot expires, days.
pub const EXPIRY_REMINDER_LAST_DAYS: Parameter =
    number("expiry_reminder_last_days", "14", 1, 365, "期限のお知らせ（2回目、日前）");
/// Days before the close at which people who have not answered are reminded.
pub const SURVEY_REMINDER_DAYS: Parameter =
    number("survey_reminder_days", "3", 1, 30, "アンケート締切前のお知らせ（日前）");
/// Name and phone of the desk that messages name as `{contact}`.
pub const CONTACT: Parameter = Parameter {
    name: "contact",
    default: "子育て応援コールセンター（電話 0120-000-000）",
    form: ParameterForm::Text { chars_max: 100 },
    meaning: "お問い合わせ先",
};

/// All parameters.
pub const ALL: [Parameter; 7] = [
    RESOLICIT_INTERVAL_DAYS,
    RESOLICIT_MAX_COUNT,
    SOLICIT_AGE_MAX_YEARS,
    EXPIRY_REMINDER_DAYS,
    EXPIRY_REMINDER_LAST_DAYS,
    SURVEY_REMINDER_DAYS,
    CONTACT,
];

/// Finds a parameter by name.
pub fn find(name: &str) -> Option<Parameter> {
    ALL.into_iter().find(|parameter| parameter.name == name)
}

/// A value of the wrong form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Not a whole number in the range.
    #[error("{min}から{max}までの整数を入力してください。")]
    Number {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// Not a usable text.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
}

impl Parameter {
    /// Checks a value and gives its stored form.
    pub fn check(&self, raw: &str) -> Result<String, ParameterError> {
        match self.form {
            ParameterForm::Number { min, max } => raw
                .trim()
                .parse::<i64>()
                .ok()
                .filter(|n| (min..=max).contains(n))
                .map(|n| n.to_string())
                .ok_or(ParameterError::Number { min, max }),
            ParameterForm::Text { chars_max } => Ok(crate::text::line(raw, chars_max)?),
        }
    }
}
