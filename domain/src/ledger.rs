//! The ledger of one yen coupon: what a payment takes from which lot (MR1, MR2), as pure functions.
//!
//! Invariant, over any sequence of operations: the balance is the sum of the lots' rests, no rest is
//! below zero, and opening + distributed + added − deleted − used + reversed − expired − revoked = closing.

use jiff::civil::Date;

use crate::{ids::LotId, money::Yen};

/// A lot as the ledger sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lot {
    /// Which.
    pub lot_id: LotId,
    /// What is left of it.
    pub rest: Yen,
    /// Last usable day.
    pub expires_on: Date,
}

/// An amount taken from or given back to one lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LotAmount {
    /// Which.
    pub lot_id: LotId,
    /// How much, not negative.
    pub amount: Yen,
}

/// Sum of what is usable on `today`.
pub fn balance(lots: &[Lot], today: Date) -> Yen {
    lots.iter().filter(|lot| lot.expires_on >= today).map(|lot| lot.rest).sum()
}

/// The balance does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} wanted, {available} available")]
pub struct Insufficient {
    /// What was asked for.
    pub wanted: Yen,
    /// What is there.
    pub available: Yen,
}

/// Takes `amount` from the lots that expire first; equal expiry: the older lot.
///
/// Errors: [`Insufficient`] when the usable rests do not reach; nothing is taken then.
pub fn take(lots: &[Lot], amount: Yen, today: Date) -> Result<Vec<LotAmount>, Insufficient> {
    let available = balance(lots, today);
    if amount > available {
        return Err(Insufficient { wanted: amount, available });
    }
    let mut usable: Vec<&Lot> = lots.iter().filter(|lot| lot.expires_on >= today && lot.rest.is_positive()).collect();
    usable.sort_by_key(|lot| (lot.expires_on, lot.lot_id));
    let mut missing = amount;
    let mut taken = Vec::new();
    for lot in usable {
        if !missing.is_positive() {
            break;
        }
        let part = missing.min(lot.rest);
        taken.push(LotAmount { lot_id: lot.lot_id, amount: part });
        missing = missing - part;
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Timestamp, add_days};
    use jiff::civil::date;
    use proptest::prelude::*;

    fn lots(spec: &[(i64, i32)]) -> Vec<Lot> {
        let lot = |(i, (rest, days)): (usize, &(i64, i32))| Lot {
            lot_id: LotId::new(Timestamp::from_micros(1_000_000 * (i as i64 + 1))),
            rest: Yen::new(*rest),
            expires_on: add_days(date(2026, 1, 10), *days),
        };
        spec.iter().enumerate().map(lot).collect()
    }

    #[test]
    fn the_earliest_expiry_goes_first() {
        let lots = lots(&[(500, 30), (300, 10), (900, -1)]);
        let today = date(2026, 1, 10);
        assert_eq!(balance(&lots, today), Yen::new(800));
        let taken = take(&lots, Yen::new(400), today).unwrap();
        assert_eq!(
            taken,
            vec![
                LotAmount { lot_id: lots[1].lot_id, amount: Yen::new(300) },
                LotAmount { lot_id: lots[0].lot_id, amount: Yen::new(100) },
            ]
        );
    }

    proptest! {
        #[test]
        fn a_payment_takes_exactly_its_amount_and_never_overdraws(
            spec in prop::collection::vec((0_i64..5_000, -3_i32..40), 0..8),
            amounts in prop::collection::vec(1_i64..6_000, 1..20),
        ) {
            let today = date(2026, 1, 10);
            let mut lots = lots(&spec);
            let opening = balance(&lots, today);
            let mut used = Yen::ZERO;
            for amount in amounts.into_iter().map(Yen::new) {
                match take(&lots, amount, today) {
                    Ok(parts) => {
                        prop_assert_eq!(parts.iter().map(|p| p.amount).sum::<Yen>(), amount);
                        for part in parts {
                            let lot = lots.iter_mut().find(|lot| lot.lot_id == part.lot_id).unwrap();
                            prop_assert!(lot.expires_on >= today);
                            lot.rest = lot.rest - part.amount;
                            prop_assert!(lot.rest >= Yen::ZERO);
                        }
                        used += amount;
                    }
                    Err(short) => prop_assert_eq!(short.available, balance(&lots, today)),
                }
                prop_assert_eq!(balance(&lots, today) + used, opening);
            }
        }
    }
}
