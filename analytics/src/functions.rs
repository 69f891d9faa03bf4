//! Our SQL functions: the rounding rules of reports.md §0 (exact, half up, empty where the denominator is 0), and
//! what the message catalogue says of a type.

use std::sync::Arc;

use arrow::{
    array::{Array, Decimal128Array, StringArray},
    datatypes::DataType,
};
use datafusion::{
    common::{
        Result,
        cast::{as_int64_array, as_string_array},
        exec_err,
    },
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};
use todoke_domain::catalogue::messages::{self, MessageType};

const PRECISION: u8 = 18;

/// `name(numerator, denominator)` = numerator × `scale` / denominator with `places` decimals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quotient {
    name: &'static str,
    scale: i128,
    places: i8,
    signature: Signature,
}

impl Quotient {
    fn udf(name: &'static str, scale: i128, places: i8) -> ScalarUDF {
        let signature = Signature::exact(vec![DataType::Int64, DataType::Int64], Volatility::Immutable);
        ScalarUDF::from(Self { name, scale, places, signature })
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut all = rounding();
    all.extend([Told::Category, Told::Speed].map(|told| Arc::new(CatalogueText::udf(told))));
    all
}

/// `percent(n, d)`: one decimal. `quotient_1`, `quotient_2`: plain quotients with one and two decimals.
fn rounding() -> Vec<Arc<ScalarUDF>> {
    [Quotient::udf("percent", 100, 1), Quotient::udf("quotient_1", 1, 1), Quotient::udf("quotient_2", 1, 2)]
        .into_iter()
        .map(Arc::new)
        .collect()
}

/// `numerator / denominator` in units of 10^-`places`, half up (towards plus infinity); `None` unless the denominator is positive.
fn half_up(numerator: i128, denominator: i128, places: i8) -> Option<i128> {
    if denominator <= 0 {
        return None;
    }
    let units = 10_i128.pow(u32::from(places.unsigned_abs()));
    Some((2 * numerator * units + denominator).div_euclid(2 * denominator))
}

impl ScalarUDFImpl for Quotient {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(PRECISION, self.places))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [numerators, denominators] = arrays.as_slice() else {
            return exec_err!("{} takes two arguments", self.name);
        };
        let (numerators, denominators) = (as_int64_array(numerators)?, as_int64_array(denominators)?);
        let rounded: Decimal128Array = (0..numerators.len())
            .map(|row| {
                if numerators.is_null(row) || denominators.is_null(row) {
                    return None;
                }
                let numerator = i128::from(numerators.value(row)) * self.scale;
                half_up(numerator, i128::from(denominators.value(row)), self.places)
            })
            .collect();
        let rounded = rounded.with_precision_and_scale(PRECISION, self.places)?;
        Ok(ColumnarValue::Array(Arc::new(rounded)))
    }
}

/// What the message catalogue says of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Category,
    Speed,
}

/// `message_category(message_type)`, `message_speed(message_type)`; empty for a type that the catalogue does not have.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CatalogueText {
    told: Told,
    signature: Signature,
}

impl CatalogueText {
    fn udf(told: Told) -> ScalarUDF {
        ScalarUDF::from(Self { told, signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable) })
    }

    fn of(&self, kind: &MessageType) -> &'static str {
        match self.told {
            Told::Category => kind.category.as_str(),
            Told::Speed => kind.speed.as_str(),
        }
    }
}

impl ScalarUDFImpl for CatalogueText {
    fn name(&self) -> &str {
        match self.told {
            Told::Category => "message_category",
            Told::Speed => "message_speed",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [types] = arrays.as_slice() else {
            return exec_err!("{} takes one argument", self.name());
        };
        let told: StringArray =
            as_string_array(types)?.iter().map(|id| id.and_then(messages::get).map(|kind| self.of(kind))).collect();
        Ok(ColumnarValue::Array(Arc::new(told)))
    }
}

#[cfg(test)]
mod tests {
    use super::half_up;

    #[test]
    fn halves_go_up_and_zero_denominators_are_empty() {
        assert_eq!(half_up(100, 8, 1), Some(125));
        assert_eq!(half_up(100, 800, 1), Some(1), "0.125 is 0.1");
        assert_eq!(half_up(1, 20, 1), Some(1), "0.05 is 0.1");
        assert_eq!(half_up(-1, 20, 1), Some(0), "-0.05 is 0.0, towards plus");
        assert_eq!(half_up(200, 50, 2), Some(400));
        assert_eq!(half_up(1, 3, 2), Some(33));
        assert_eq!(half_up(7, 0, 1), None);
    }
}
