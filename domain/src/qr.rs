//! Codes on paper and screens (flows.md Part K): `1` + 26 characters Crockford base 32 + a check character.

use std::fmt;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Check symbols for remainders 0 to 36 (Crockford).
const CHECK: &[u8; 37] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";
const VERSION: char = '1';
const DIGITS: usize = 26;

/// A random 128-bit token without personal data.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct QrToken(u128);

/// A text that is no such code, with what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QrError {
    /// Not 28 characters after removing spaces and hyphens, or an unknown version.
    #[error("コードの桁数または形式が正しくありません。")]
    Form,
    /// A character outside the alphabet.
    #[error("コードに使えない文字があります。")]
    Character,
    /// The check character does not fit: probably a typing error.
    #[error("コードの入力に誤りがあります。")]
    Check,
}

impl QrToken {
    /// From 128 random bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// In groups of four, for reading aloud and typing.
    pub fn grouped(self) -> String {
        let text = self.to_string();
        let groups: Vec<&str> = (0..text.len()).step_by(4).map(|i| &text[i..text.len().min(i + 4)]).collect();
        groups.join(" ")
    }

    /// Reads a scanned or typed code; spaces, hyphens and case do not matter, O reads as 0, I and L as 1.
    pub fn parse(raw: &str) -> Result<Self, QrError> {
        let symbols: Vec<char> =
            raw.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect();
        let [VERSION, digits @ .., check] = symbols.as_slice() else { return Err(QrError::Form) };
        if digits.len() != DIGITS {
            return Err(QrError::Form);
        }
        let mut bits: u128 = 0;
        for (i, symbol) in digits.iter().enumerate() {
            let plain = match symbol {
                'O' => '0',
                'I' | 'L' => '1',
                other => *other,
            };
            let value = ALPHABET.iter().position(|a| char::from(*a) == plain).ok_or(QrError::Character)?;
            // 26 digits hold 130 bits: the first may use only three of its five.
            if i == 0 && value > 7 {
                return Err(QrError::Form);
            }
            bits = (bits << 5) | value as u128;
        }
        if char::from(CHECK[(bits % 37) as usize]) == *check { Ok(Self(bits)) } else { Err(QrError::Check) }
    }
}

impl fmt::Display for QrToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}")?;
        for i in (0..DIGITS).rev() {
            let value = (self.0 >> (5 * i)) & 31;
            write!(f, "{}", char::from(ALPHABET[value as usize]))?;
        }
        write!(f, "{}", char::from(CHECK[(self.0 % 37) as usize]))
    }
}

/// Tokens are secrets: whoever has one may pay.
impl fmt::Debug for QrToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QrToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_survives_paper(bits in any::<u128>()) {
            let token = QrToken::from_bits(bits);
            prop_assert_eq!(token.to_string().len(), 28);
            prop_assert_eq!(QrToken::parse(&token.grouped().to_lowercase()), Ok(token));
        }

        #[test]
        fn one_wrong_digit_is_noticed(bits in any::<u128>(), at in 2_usize..27, by in 1_usize..32) {
            let mut text: Vec<u8> = QrToken::from_bits(bits).to_string().into_bytes();
            let value = ALPHABET.iter().position(|a| *a == text[at]).unwrap();
            text[at] = ALPHABET[(value + by) % 32];
            prop_assert_eq!(QrToken::parse(std::str::from_utf8(&text).unwrap()), Err(QrError::Check));
        }
    }
}
