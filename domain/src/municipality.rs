//! The key of the walls between municipalities.

use serde::{Deserialize, Serialize};

/// A municipality's code: six ASCII digits (全国地方公共団体コード).
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
