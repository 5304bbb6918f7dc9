//! Terms at a few fixed points, each value with a bound on how far it may be off.
//!
//! Two values are the same where they differ by no more than the arithmetic explains: sin(π) is 0, but
//! e^−40 is not.

use std::collections::BTreeSet;

use super::value::{Expr, hash};
use crate::answer::Number;

/// Points at which terms are compared.
const POINTS: u64 = 24;
/// All unknowns are positive at the points before this one.
const FIRST_NEGATIVE: u64 = 6;
/// Fewer points where both terms have a value say nothing; more are needed where they need not have
/// one at the same points.
const FEWEST: usize = 2;
const FEWEST_OF_COUNTS: usize = 6;
/// Errors are estimated to first order; this many of them may lie between equal values.
const CARE: f64 = 16.0;
/// The largest n over k and n! that are worked out.
const MOST_FACTORS: f64 = 400.0;

/// Whether both terms have the same values. Constants so large that 1 more makes no difference are
/// refused.
pub(super) fn same(a: &Expr, b: &Expr) -> bool {
    let may_be_large = !(a.is_constant() && b.is_constant());
    let is_sharp = |(a, b): (Approximate, Approximate)| may_be_large || a.error + b.error < 1.0;
    let is_same = |pair| is_sharp(pair) && near(pair);
    values(a, b).is_some_and(|pairs| pairs.into_iter().all(is_same))
}

/// Whether two constants are the same to six places.
pub(super) fn same_millionths(a: &Expr, b: &Expr) -> bool {
    let counts = BTreeSet::new();
    let place = Place {
        point: 0,
        counts: &counts,
    };
    let [a, b] = [a, b].map(|expr| (expr.at(&place).value * 1e6).round());
    a == b
}

/// Whether one term is a multiple of the other.
pub(super) fn proportional(a: &Expr, b: &Expr) -> bool {
    let Some(pairs) = values(a, b) else {
        return false;
    };
    ratio(&pairs).is_some_and(|ratio| {
        let mut scaled = pairs.into_iter().map(|(a, b)| (a, ratio.times(b)));
        scaled.all(near)
    })
}

/// Whether one term is a positive multiple of the other, if it is a multiple.
pub(super) fn is_factor_positive(a: &Expr, b: &Expr) -> bool {
    let ratio = values(a, b).and_then(|pairs| ratio(&pairs));
    ratio.is_some_and(|ratio| ratio.value > 0.0)
}

/// By how much the first term exceeds the second, where neither is near 0: there a ratio says little.
fn ratio(pairs: &[(Approximate, Approximate)]) -> Option<Approximate> {
    let is_large = |one: &Approximate| one.value.abs() > (CARE * one.error).max(1e-3);
    let (above, below) = pairs.iter().find(|(a, b)| is_large(a) && is_large(b))?;
    Some(above.over(*below))
}

fn near((a, b): (Approximate, Approximate)) -> bool {
    let off = (a.value - b.value).abs();
    let most = 1e-10 * a.value.abs().max(b.value.abs()) + 1e-13;
    off <= most.min(CARE * (a.error + b.error))
}

/// Both terms at the points where both have a value; `None` where one has a value alone, or too few
/// are left to compare.
fn values(a: &Expr, b: &Expr) -> Option<Vec<(Approximate, Approximate)>> {
    let mut counts = BTreeSet::new();
    a.collect_counts(&mut counts);
    b.collect_counts(&mut counts);
    let mut pairs = Vec::new();
    for point in 0..POINTS {
        let place = Place {
            point,
            counts: &counts,
        };
        let (a, b) = (a.at(&place), b.at(&place));
        match (a.is_nothing(), b.is_nothing()) {
            (false, false) => pairs.push((a, b)),
            // (n − 9)! has no value where n!/(n(n − 1)…) has one.
            (true, false) | (false, true) if counts.is_empty() => return None,
            _ => {}
        }
    }
    let fewest = if counts.is_empty() {
        FEWEST
    } else {
        FEWEST_OF_COUNTS
    };
    (pairs.len() >= fewest).then_some(pairs)
}

/// A point, and the unknowns that are whole numbers there.
struct Place<'a> {
    point: u64,
    counts: &'a BTreeSet<&'a str>,
}

impl Place<'_> {
    /// An unknown's value, below 1 at every other point, so that each function has values to compare.
    /// With either sign at the later points, negative at the last.
    fn coordinate(&self, name: &str) -> f64 {
        let hash = hash(name, self.point);
        if self.counts.contains(name) {
            return (5 + hash % 12) as f64;
        }
        let share = (hash % 10_007) as f64 / 10_007.0;
        let size = if self.point.is_multiple_of(2) {
            0.1 + 0.85 * share
        } else {
            1.0 + 1.7 * share
        };
        let is_odd = (hash >> 20) & 1 == 1;
        let is_negative = self.point >= FIRST_NEGATIVE && is_odd || self.point == POINTS - 1;
        if is_negative { -size } else { size }
    }
}

/// A value and how far it may be off.
#[derive(Clone, Copy)]
struct Approximate {
    value: f64,
    error: f64,
}

impl Approximate {
    const NOTHING: Self = Self {
        value: f64::NAN,
        error: 0.0,
    };

    /// A result with the error that comes of its parts, to which rounding adds. What is too large or
    /// too small for the arithmetic is nothing.
    fn new(value: f64, error: f64) -> Self {
        if value == 0.0 || value.is_normal() {
            let error = error + value.abs() * f64::EPSILON;
            Self { value, error }
        } else {
            Self::NOTHING
        }
    }

    /// A product or power, which is 0 only if `is_zero`.
    fn scaled(value: f64, error: f64, is_zero: bool) -> Self {
        if (value == 0.0) == is_zero {
            Self::new(value, error)
        } else {
            Self::NOTHING
        }
    }

    fn of(value: Number) -> Self {
        Self::new(value.numerator as f64 / value.denominator as f64, 0.0)
    }

    fn is_nothing(self) -> bool {
        self.value.is_nan()
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.value + other.value, self.error + other.error)
    }

    fn times(self, other: Self) -> Self {
        let error = self.value.abs() * other.error + other.value.abs() * self.error;
        let is_zero = self.value == 0.0 || other.value == 0.0;
        Self::scaled(self.value * other.value, error, is_zero)
    }

    /// A quotient by what may be zero is nothing, not infinity.
    fn over(self, below: Self) -> Self {
        if below.value.abs() <= CARE * below.error {
            return Self::NOTHING;
        }
        let value = self.value / below.value;
        let error = (self.error + value.abs() * below.error) / below.value.abs();
        Self::scaled(value, error, self.value == 0.0)
    }

    fn to_the(self, exponent: Self) -> Self {
        let value = self.value.powf(exponent.value);
        if self.value == 0.0 {
            return Self::new(value, 0.0);
        }
        let size = self.value.abs();
        let share = exponent.value.abs() * self.error / size + size.ln().abs() * exponent.error;
        Self::scaled(value, value.abs() * share, false)
    }

    /// A function of this; it is off by as much as it changes within the error.
    fn through(self, function: impl Fn(f64) -> f64) -> Self {
        let value = function(self.value);
        let change = |x: f64| (function(x) - value).abs();
        let error = change(self.value + self.error).max(change(self.value - self.error));
        Self::new(value, if error.is_nan() { 0.0 } else { error })
    }

    /// The whole number that this is.
    fn whole(self) -> Option<f64> {
        let whole = self.value.round();
        ((self.value - whole).abs() <= CARE * self.error).then_some(whole)
    }
}

impl Expr {
    fn at(&self, place: &Place<'_>) -> Approximate {
        let at = |part: &Self| part.at(place);
        match self {
            Self::Number { value, .. } => Approximate::of(*value),
            Self::Infinity | Self::PlusMinus(_) => Approximate::NOTHING,
            Self::Pi => Approximate::new(std::f64::consts::PI, 0.0),
            Self::Euler => Approximate::new(std::f64::consts::E, 0.0),
            Self::Name(name) => Approximate {
                value: place.coordinate(name),
                error: 0.0,
            },
            Self::Sum(parts) => {
                let zero = Approximate::new(0.0, 0.0);
                parts.iter().map(at).fold(zero, Approximate::plus)
            }
            Self::Product(parts) => {
                let one = Approximate::new(1.0, 0.0);
                parts.iter().map(at).fold(one, Approximate::times)
            }
            Self::Measured(_, term) => at(term),
            Self::Negative(part) => at(part).through(|x| -x),
            Self::Quotient(a, b) => at(a).over(at(b)),
            Self::Power(a, b) => at(a).to_the(at(b)),
            Self::Root(degree, of) => {
                let degree = at(degree).value;
                at(of).through(|x| root(degree, x))
            }
            Self::Log(base, of) => at(of).through(f64::ln).over(at(base).through(f64::ln)),
            Self::Choose(n, k) => choose(at(n), at(k)),
            Self::Call("!", part) => factorial(at(part)),
            Self::Call("exp", part) => at(&Self::Euler).to_the(at(part)),
            Self::Call("floor", part) => rounded(at(part), f64::floor),
            Self::Call("ceil", part) => rounded(at(part), f64::ceil),
            Self::Call(name, part) => at(part).through(|x| call(name, x)),
        }
    }

    /// Unknowns that can only be whole: those of n!, of n over k, and in exponents of negative numbers.
    fn collect_counts<'a>(&'a self, counts: &mut BTreeSet<&'a str>) {
        let is_negative = |base: &Self| base.exact().is_some_and(|base| base.numerator < 0);
        match self {
            Self::Call("!", part) => part.collect_names(counts),
            Self::Choose(..) => self.collect_names(counts),
            Self::Power(base, exponent) if is_negative(base) => exponent.collect_names(counts),
            _ => {}
        }
        for part in self.parts() {
            part.collect_counts(counts);
        }
    }

    fn collect_names<'a>(&'a self, names: &mut BTreeSet<&'a str>) {
        if let Self::Name(name) = self {
            names.insert(name);
        }
        for part in self.parts() {
            part.collect_names(names);
        }
    }
}

/// What may be whole is taken to be.
fn rounded(of: Approximate, round: impl Fn(f64) -> f64) -> Approximate {
    Approximate::new(of.whole().unwrap_or_else(|| round(of.value)), 0.0)
}

fn factorial(n: Approximate) -> Approximate {
    let n = n.whole().filter(|n| (0.0..=MOST_FACTORS).contains(n));
    n.map_or(Approximate::NOTHING, |n| product(n as u32, f64::from))
}

fn choose(n: Approximate, k: Approximate) -> Approximate {
    let whole = n.whole().zip(k.whole());
    let Some((n, k)) = whole.filter(|(n, _)| *n >= 0.0) else {
        return Approximate::NOTHING;
    };
    let k = k.min(n - k);
    if k < 0.0 {
        return Approximate::new(0.0, 0.0);
    }
    if k > MOST_FACTORS {
        return Approximate::NOTHING;
    }
    let factor = |i: u32| (n - k + f64::from(i)) / f64::from(i);
    product(k as u32, factor)
}

/// The product of the factors 1 to n.
fn product(n: u32, factor: impl Fn(u32) -> f64) -> Approximate {
    let factors = (1..=n).map(|i| Approximate::new(factor(i), 0.0));
    factors.fold(Approximate::new(1.0, 0.0), Approximate::times)
}

/// Odd roots of negative numbers are negative.
fn root(degree: f64, of: f64) -> f64 {
    if degree == 2.0 {
        of.sqrt()
    } else if degree == 3.0 {
        of.cbrt()
    } else if degree % 2.0 == 1.0 && of < 0.0 {
        -(-of).powf(1.0 / degree)
    } else {
        of.powf(1.0 / degree)
    }
}

fn call(name: &str, x: f64) -> f64 {
    match name {
        "sin" => x.sin(),
        "cos" => x.cos(),
        "tan" => x.tan(),
        "cot" => 1.0 / x.tan(),
        "sec" => 1.0 / x.cos(),
        "csc" => 1.0 / x.sin(),
        "arcsin" => x.asin(),
        "arccos" => x.acos(),
        "arctan" => x.atan(),
        "arccot" => (1.0 / x).atan(),
        "arcsec" => (1.0 / x).acos(),
        "arccsc" => (1.0 / x).asin(),
        "sinh" => x.sinh(),
        "cosh" => x.cosh(),
        "tanh" => x.tanh(),
        "arsinh" => x.asinh(),
        "arcosh" => x.acosh(),
        "artanh" => x.atanh(),
        "ln" => x.ln(),
        "log" => x.log10(),
        "abs" => x.abs(),
        _ => f64::NAN,
    }
}
