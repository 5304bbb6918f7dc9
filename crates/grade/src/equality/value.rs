//! What a term is, and whether two are worth the same.
//!
//! ```text
//!   fractions that fit                 exact         equal or not
//!   larger ones, n!, unknowns, π, e    residue       equal modulo two primes
//!   roots, functions, x in 2^x         approximate   as near as the arithmetic tells, at fixed points
//! ```

use std::hash::Hasher;

use fnv::FnvHasher;

use super::exact::{HUNDRED, millionths, quotient};
use super::{approximate, residue};
use crate::answer::Number;

/// A term.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// A number as written; one with a point agrees with others to six places.
    Number {
        /// Its value.
        value: Number,
        /// Whether it was written with a point.
        is_decimal: bool,
    },
    /// Without end.
    Infinity,
    /// π.
    Pi,
    /// Euler's number.
    Euler,
    /// An unknown, with its index.
    Name(String),
    /// Terms added up.
    Sum(Vec<Expr>),
    /// Factors.
    Product(Vec<Expr>),
    /// The other sign.
    Negative(Box<Expr>),
    /// Both signs; an answer with one is two answers.
    PlusMinus(Box<Expr>),
    /// Above and below.
    Quotient(Box<Expr>, Box<Expr>),
    /// Base and exponent.
    Power(Box<Expr>, Box<Expr>),
    /// Degree and radicand.
    Root(Box<Expr>, Box<Expr>),
    /// A function of one argument, `!`, `⌊` and `⌈` among them.
    Call(&'static str, Box<Expr>),
    /// Base and argument.
    Log(Box<Expr>, Box<Expr>),
    /// n over k.
    Choose(Box<Expr>, Box<Expr>),
    /// The number alone, and the term with the letters behind it, which are a unit or unknowns.
    Measured(Box<Expr>, Box<Expr>),
}

impl Expr {
    /// A whole number.
    pub(super) fn whole(value: i128) -> Self {
        Self::Number {
            value: Number {
                numerator: value,
                denominator: 1,
            },
            is_decimal: false,
        }
    }

    /// This with the other sign.
    pub(super) fn negative(self) -> Self {
        Self::Negative(Box::new(self))
    }

    /// This less another.
    pub(super) fn minus(self, other: Self) -> Self {
        Self::Sum(vec![self, other.negative()])
    }

    /// A hundredth of this, as exact as this is.
    pub(super) fn over_hundred(self) -> Self {
        match self {
            Self::Number { value, is_decimal } => match quotient(value, HUNDRED) {
                Some(value) => Self::Number { value, is_decimal },
                None => Self::Quotient(Box::new(self), Box::new(Self::whole(100))),
            },
            other => Self::Quotient(Box::new(other), Box::new(Self::whole(100))),
        }
    }

    /// Whether this is an unknown, or a function of one (`f(x)`).
    pub(super) fn is_name(&self) -> bool {
        match self {
            Self::Name(_) => true,
            Self::Product(factors) => {
                let function = matches!(&factors[0], Self::Name(name) if matches!(name.as_str(), "f" | "g" | "h" | "p"));
                function && factors.len() == 2
            }
            _ => false,
        }
    }

    /// Whether no unknown occurs.
    pub(super) fn is_constant(&self) -> bool {
        !matches!(self, Self::Name(_)) && self.parts().into_iter().all(Self::is_constant)
    }

    /// Whether both signs occur.
    pub(super) fn has_both_signs(&self) -> bool {
        matches!(self, Self::PlusMinus(_)) || self.parts().into_iter().any(Self::has_both_signs)
    }

    /// The term with one of the signs at each `±`.
    pub(super) fn with_sign(&self, is_positive: bool) -> Self {
        let with = |part: &Self| part.with_sign(is_positive);
        let boxed = |part: &Self| Box::new(with(part));
        match self {
            Self::PlusMinus(part) if is_positive => with(part),
            Self::PlusMinus(part) | Self::Negative(part) => Self::Negative(boxed(part)),
            Self::Sum(parts) => Self::Sum(parts.iter().map(with).collect()),
            Self::Product(parts) => Self::Product(parts.iter().map(with).collect()),
            Self::Quotient(a, b) => Self::Quotient(boxed(a), boxed(b)),
            Self::Power(a, b) => Self::Power(boxed(a), boxed(b)),
            Self::Root(a, b) => Self::Root(boxed(a), boxed(b)),
            Self::Log(a, b) => Self::Log(boxed(a), boxed(b)),
            Self::Choose(a, b) => Self::Choose(boxed(a), boxed(b)),
            Self::Measured(number, term) => Self::Measured(boxed(number), boxed(term)),
            Self::Call(name, part) => Self::Call(name, boxed(part)),
            leaf => leaf.clone(),
        }
    }

    /// Whether this was written as a number without a point.
    pub(super) fn is_integer_literal(&self) -> bool {
        match self {
            Self::Number { value, is_decimal } => !is_decimal && value.denominator == 1,
            Self::Negative(part) | Self::Measured(part, _) => part.is_integer_literal(),
            _ => false,
        }
    }

    /// Whether this was written in digits alone, as a number, a fraction or both.
    pub(super) fn is_numeral(&self) -> bool {
        match self {
            Self::Number { .. } => true,
            Self::Negative(part) | Self::Measured(part, _) => part.is_numeral(),
            Self::Quotient(a, b) => a.is_integer_literal() && b.is_integer_literal(),
            Self::Sum(parts) => match parts.as_slice() {
                [whole, part @ Self::Quotient(..)] => {
                    whole.is_integer_literal() && part.is_numeral()
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The number alone, also as a side of a relation; `None` where nothing may be a unit.
    fn without_unit(&self) -> Option<Self> {
        match self {
            Self::Measured(number, _) => Some((**number).clone()),
            Self::Negative(part) => Some(part.without_unit()?.negative()),
            Self::Sum(sides) if sides.iter().any(|side| side.without_unit().is_some()) => {
                let number = |side: &Self| side.without_unit().unwrap_or_else(|| side.clone());
                Some(Self::Sum(sides.iter().map(number).collect()))
            }
            _ => None,
        }
    }

    fn is_decimal_literal(&self) -> bool {
        match self {
            Self::Number { is_decimal, .. } => *is_decimal,
            Self::Negative(part) => part.is_decimal_literal(),
            _ => false,
        }
    }

    /// The terms within this one.
    pub(super) fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Number { .. } | Self::Infinity | Self::Pi | Self::Euler | Self::Name(_) => {
                Vec::new()
            }
            Self::Sum(parts) | Self::Product(parts) => parts.iter().collect(),
            Self::Negative(part)
            | Self::PlusMinus(part)
            | Self::Call(_, part)
            | Self::Measured(_, part) => vec![part],
            Self::Quotient(a, b)
            | Self::Power(a, b)
            | Self::Root(a, b)
            | Self::Log(a, b)
            | Self::Choose(a, b) => vec![a, b],
        }
    }
}

/// Whether two terms are worth the same.
pub(super) fn same_expr(a: &Expr, b: &Expr) -> bool {
    with_or_without_unit(a, b, same_term)
}

/// Whether two terms agree as written, or without letters that may be a unit where only one term has
/// such: 5 m is 5, but not 5 s.
fn with_or_without_unit(a: &Expr, b: &Expr, agree: impl Fn(&Expr, &Expr) -> bool) -> bool {
    if agree(a, b) {
        return true;
    }
    match (a.without_unit(), b.without_unit()) {
        (Some(number), None) => agree(&number, b),
        (None, Some(number)) => agree(a, &number),
        _ => false,
    }
}

fn same_term(a: &Expr, b: &Expr) -> bool {
    if a == b {
        return true;
    }
    let exact = a.exact().zip(b.exact());
    if exact.is_some_and(|(a, b)| a == b) {
        return true;
    }
    let is_whole = |expr: &Expr| {
        let value = expr.exact();
        value.is_some_and(|value| value.denominator == 1) && !expr.is_decimal_literal()
    };
    if (a.is_decimal_literal() || b.is_decimal_literal()) && !is_whole(a) && !is_whole(b) {
        return a.is_constant() && b.is_constant() && same_decimals(a, b);
    }
    exact.is_none() && residue::same(a, b).unwrap_or_else(|| approximate::same(a, b))
}

/// Whether two constants agree to six places.
fn same_decimals(a: &Expr, b: &Expr) -> bool {
    let exact = |expr: &Expr| expr.exact().and_then(millionths);
    match (exact(a), exact(b)) {
        (Some(a), Some(b)) => a == b,
        _ => approximate::same_millionths(a, b),
    }
}

/// Whether one term is a multiple of the other, by a positive factor where `is_directed`.
pub(super) fn proportional(a: &Expr, b: &Expr, is_directed: bool) -> bool {
    with_or_without_unit(a, b, |a, b| {
        let is_multiple = residue::proportional(a, b);
        is_multiple.unwrap_or_else(|| approximate::proportional(a, b))
            && (!is_directed || approximate::is_factor_positive(a, b))
    })
}

/// A number that a name has at a point, wherever it occurs.
pub(super) fn hash(name: &str, point: u64) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(name.as_bytes());
    hasher.write(&point.to_le_bytes());
    // The last steps of SplitMix64, so that neighbours have nothing in common.
    let mut hash = hasher.finish();
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
