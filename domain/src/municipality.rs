//! The key of the walls between municipalities.

use serde::{Deserialize, Serialize};

/// A municipality's code: six ASCII digits (全国地方公共団体コード).
///
/// A code that ends with `0000` is none of a municipality but of an authority above them, which has accounts and
/// nothing else: a prefecture is its two digits and `0000`, the state `000000`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MunicipalityCode(String);

/// A text that is not a municipality code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a municipality code is six digits")]
pub struct MunicipalityCodeError;

impl MunicipalityCode {
    /// The six digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an authority above municipalities: a prefecture or the state.
    pub fn is_authority(&self) -> bool {
        self.0.ends_with("0000")
    }

    /// Whether this is an authority and `other` a municipality below it.
    pub fn oversees(&self, other: &Self) -> bool {
        let prefecture = |code: &Self| code.0.bytes().take(2).collect::<Vec<_>>();
        let is_state = self.0.starts_with("00");
        self.is_authority() && !other.is_authority() && (is_state || prefecture(self) == prefecture(other))
    }
}

impl TryFrom<String> for MunicipalityCode {
    type Error = MunicipalityCodeError;
    fn try_from(raw: String) -> Result<Self, MunicipalityCodeError> {
        if raw.len() == 6 && raw.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(raw))
        } else {
            Err(MunicipalityCodeError)
        }
    }
}

impl std::str::FromStr for MunicipalityCode {
    type Err = MunicipalityCodeError;
    fn from_str(raw: &str) -> Result<Self, MunicipalityCodeError> {
        Self::try_from(raw.to_owned())
    }
}

impl From<MunicipalityCode> for String {
    fn from(code: MunicipalityCode) -> Self {
        code.0
    }
}

impl std::fmt::Display for MunicipalityCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefecture_oversees_its_municipalities_and_the_state_all() {
        let code = |raw: &str| raw.parse::<MunicipalityCode>().unwrap();
        let (osaka_city, sakai, kyoto_city) = (code("271004"), code("271403"), code("261009"));
        let (osaka, state) = (code("270000"), code("000000"));
        for authority in [&osaka, &state] {
            assert!(authority.is_authority() && !osaka_city.oversees(authority) && !authority.oversees(authority));
            assert!(authority.oversees(&osaka_city) && authority.oversees(&sakai));
        }
        assert!(!osaka.oversees(&kyoto_city) && state.oversees(&kyoto_city));
        assert!(!state.oversees(&osaka), "authorities oversee municipalities, not each other");
        assert!(!osaka_city.is_authority() && !osaka_city.oversees(&sakai), "municipalities oversee nobody");
    }
}
