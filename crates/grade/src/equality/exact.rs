//! Terms as exact fractions, as long as they fit.

use super::value::Expr;
use crate::answer::Number;

/// Powers with larger exponents are not worked out.
const LARGEST_EXPONENT: i128 = 128;
/// The largest n whose factorial fits.
const LARGEST_FACTORIAL: i128 = 33;

const ZERO: Number = Number {
    numerator: 0,
    denominator: 1,
};
const ONE: Number = Number {
    numerator: 1,
    denominator: 1,
};
const MINUS_ONE: Number = Number {
    numerator: -1,
    denominator: 1,
};
/// What a percentage is a part of.
pub(super) const HUNDRED: Number = Number {
    numerator: 100,
    denominator: 1,
};

impl Expr {
    /// The exact value, where it is a fraction that fits.
    pub(super) fn exact(&self) -> Option<Number> {
        match self {
            Self::Number { value, .. } => Some(*value),
            Self::Sum(parts) => parts
                .iter()
                .try_fold(ZERO, |all, part| sum(all, part.exact()?)),
            Self::Product(parts) => parts
                .iter()
                .try_fold(ONE, |all, part| product(all, part.exact()?)),
            Self::Negative(part) => product(part.exact()?, MINUS_ONE),
            Self::Quotient(a, b) => quotient(a.exact()?, b.exact()?),
            Self::Power(a, b) => power(a.exact()?, b.whole_value()?),
            Self::Call("!", part) => factorial(part.whole_value()?),
            Self::Call("abs", part) => {
                let part = part.exact()?;
                Number::new(part.numerator.checked_abs()?, part.denominator)
            }
            Self::Call("floor", part) => {
                let part = part.exact()?;
                Number::new(part.numerator.div_euclid(part.denominator), 1)
            }
            Self::Choose(n, k) => choose(n.whole_value()?, k.whole_value()?),
            _ => None,
        }
    }

    /// The exact value, where it is a whole number that fits.
    pub(super) fn whole_value(&self) -> Option<i128> {
        let value = self.exact()?;
        (value.denominator == 1).then_some(value.numerator)
    }
}

/// A number to six places: the whole part and the millionths behind it, both with its sign.
pub(super) fn millionths(value: Number) -> Option<(i128, i128)> {
    const MILLION: i128 = 1_000_000;
    let (size, below) = (value.numerator.checked_abs()?, value.denominator);
    let twice = (size % below)
        .checked_mul(2 * MILLION)?
        .checked_add(below)?;
    let parts = twice / below.checked_mul(2)?;
    let sign = value.numerator.signum();
    Some((
        sign * (size / below + parts / MILLION),
        sign * (parts % MILLION),
    ))
}

fn sum(a: Number, b: Number) -> Option<Number> {
    let left = a.numerator.checked_mul(b.denominator)?;
    let right = b.numerator.checked_mul(a.denominator)?;
    Number::new(
        left.checked_add(right)?,
        a.denominator.checked_mul(b.denominator)?,
    )
}

fn product(a: Number, b: Number) -> Option<Number> {
    Number::new(
        a.numerator.checked_mul(b.numerator)?,
        a.denominator.checked_mul(b.denominator)?,
    )
}

/// One number by another.
pub(super) fn quotient(a: Number, b: Number) -> Option<Number> {
    Number::new(
        a.numerator.checked_mul(b.denominator)?,
        a.denominator.checked_mul(b.numerator)?,
    )
}

fn power(base: Number, exponent: i128) -> Option<Number> {
    if exponent.checked_abs()? > LARGEST_EXPONENT {
        return None;
    }
    let raised = (0..exponent.abs()).try_fold(ONE, |all, _| product(all, base))?;
    if exponent < 0 {
        quotient(ONE, raised)
    } else {
        Some(raised)
    }
}

fn factorial(n: i128) -> Option<Number> {
    if !(0..=LARGEST_FACTORIAL).contains(&n) {
        return None;
    }
    Number::new((1..=n).product(), 1)
}

/// The products soon leave the range where they are many.
fn choose(n: i128, k: i128) -> Option<Number> {
    if n < 0 {
        return None;
    }
    if !(0..=n).contains(&k) {
        return Some(ZERO);
    }
    let chosen =
        (0..k.min(n - k)).try_fold(1i128, |all, i| Some(all.checked_mul(n - i)? / (i + 1)))?;
    Number::new(chosen, 1)
}
