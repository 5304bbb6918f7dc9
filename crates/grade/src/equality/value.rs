//! What a term is worth: an exact fraction where one fits, else its value at a few fixed points.

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
}

/// Points at which terms with unknowns are compared: the first half positive.
const POINTS: u64 = 8;
/// Powers with larger exponents are not worked out exactly.
const LARGEST_EXPONENT: i128 = 128;
/// n! and n over k beyond this are not worked out.
const LARGEST_FACTORIAL: i128 = 33;
/// Decimals agree when they are equal in so many parts of one.
const DECIMALS: f64 = 1e6;

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

    /// This less another.
    pub(super) fn minus(self, other: Self) -> Self {
        Self::Sum(vec![self, Self::Negative(Box::new(other))])
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
            Self::Call(name, part) => Self::Call(name, boxed(part)),
            leaf => leaf.clone(),
        }
    }

    /// Whether this was written as a number without a point.
    pub(super) fn is_integer_literal(&self) -> bool {
        match self {
            Self::Number { value, is_decimal } => !is_decimal && value.denominator == 1,
            Self::Negative(part) => part.is_integer_literal(),
            _ => false,
        }
    }

    fn is_decimal_literal(&self) -> bool {
        match self {
            Self::Number { is_decimal, .. } => *is_decimal,
            Self::Negative(part) => part.is_decimal_literal(),
            _ => false,
        }
    }

    fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Number { .. } | Self::Infinity | Self::Pi | Self::Euler | Self::Name(_) => {
                Vec::new()
            }
            Self::Sum(parts) | Self::Product(parts) => parts.iter().collect(),
            Self::Negative(part) | Self::PlusMinus(part) | Self::Call(_, part) => vec![part],
            Self::Quotient(a, b)
            | Self::Power(a, b)
            | Self::Root(a, b)
            | Self::Log(a, b)
            | Self::Choose(a, b) => vec![a, b],
        }
    }

    /// The exact value, where it is a fraction that fits.
    fn exact(&self) -> Option<Number> {
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
            Self::Power(a, b) => power(a.exact()?, b.exact()?),
            Self::Call("!", part) => factorial(whole(part.exact()?)?),
            Self::Call("abs", part) => {
                let part = part.exact()?;
                Number::new(part.numerator.checked_abs()?, part.denominator)
            }
            Self::Call("floor", part) => {
                let part = part.exact()?;
                Number::new(part.numerator.div_euclid(part.denominator), 1)
            }
            Self::Choose(n, k) => choose(whole(n.exact()?)?, whole(k.exact()?)?),
            _ => None,
        }
    }

    /// The value at a point.
    fn at(&self, point: u64) -> f64 {
        let at = |part: &Self| part.at(point);
        match self {
            Self::Number { value, .. } => value.numerator as f64 / value.denominator as f64,
            Self::Infinity => f64::INFINITY,
            Self::Pi => std::f64::consts::PI,
            Self::Euler => std::f64::consts::E,
            Self::Name(name) => coordinate(name, point),
            Self::Sum(parts) => parts.iter().map(at).sum(),
            Self::Product(parts) => parts.iter().map(at).product(),
            Self::Negative(part) => -at(part),
            Self::PlusMinus(_) => f64::NAN,
            Self::Quotient(a, b) => match at(b) {
                // A quotient by zero is nothing, not infinity.
                0.0 => f64::NAN,
                below => at(a) / below,
            },
            Self::Power(a, b) => at(a).powf(at(b)),
            Self::Root(degree, of) => root(at(degree), at(of)),
            Self::Log(base, of) => at(of).ln() / at(base).ln(),
            Self::Choose(..) | Self::Call("!", _) => self.exact().map_or(f64::NAN, |exact| {
                exact.numerator as f64 / exact.denominator as f64
            }),
            Self::Call(name, part) => call(name, at(part)),
        }
    }
}

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
const HUNDRED: Number = Number {
    numerator: 100,
    denominator: 1,
};

/// Whether two terms are worth the same.
pub(super) fn same_expr(a: &Expr, b: &Expr) -> bool {
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
        let round = |expr: &Expr| (expr.at(0) * DECIMALS).round();
        return a.is_constant() && b.is_constant() && round(a) == round(b);
    }
    exact.is_none() && values(a, b).is_some_and(|pairs| pairs.into_iter().all(near))
}

/// Whether one term is a multiple of the other, by a positive factor where `is_directed`.
pub(super) fn proportional(a: &Expr, b: &Expr, is_directed: bool) -> bool {
    let Some(pairs) = values(a, b) else {
        return false;
    };
    // Where the first of the two is near 0, a ratio says little.
    let Some(&(above, below)) = pairs.iter().find(|(a, b)| a.abs() > 1e-3 && b.abs() > 1e-3) else {
        return false;
    };
    let ratio = above / below;
    let mut scaled = pairs.into_iter().map(|(a, b)| (a, ratio * b));
    (ratio > 0.0 || !is_directed) && scaled.all(near)
}

fn near((a, b): (f64, f64)) -> bool {
    a == b || (a - b).is_finite() && (a - b).abs() <= 1e-10 * a.abs().max(b.abs()) + 1e-13
}

/// Both terms at the points where both have a value; `None` where one has a value alone, or nowhere
/// are there two to compare.
fn values(a: &Expr, b: &Expr) -> Option<Vec<(f64, f64)>> {
    let mut pairs = Vec::new();
    for point in 0..POINTS {
        let (a, b) = (a.at(point), b.at(point));
        if a.is_nan() != b.is_nan() {
            return None;
        }
        if !a.is_nan() {
            pairs.push((a, b));
        }
    }
    (pairs.len() >= 2).then_some(pairs)
}

/// The unknown's value at a point: from 0.3 to 2.7, with either sign at the later points.
fn coordinate(name: &str, point: u64) -> f64 {
    // FNV-1a, so that a name has its values wherever it occurs.
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ point;
    for byte in name.bytes().chain([point as u8]) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash ^= hash >> 29;
    let size = 0.3 + 2.4 * (hash % 10_007) as f64 / 10_007.0;
    let is_negative = point >= POINTS / 2 && (hash >> 20) & 1 == 1;
    if is_negative { -size } else { size }
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

fn quotient(a: Number, b: Number) -> Option<Number> {
    Number::new(
        a.numerator.checked_mul(b.denominator)?,
        a.denominator.checked_mul(b.numerator)?,
    )
}

fn power(base: Number, exponent: Number) -> Option<Number> {
    let exponent = whole(exponent)?;
    if exponent.abs() > LARGEST_EXPONENT {
        return None;
    }
    let raised = (0..exponent.abs()).try_fold(ONE, |all, _| product(all, base))?;
    if exponent < 0 {
        quotient(ONE, raised)
    } else {
        Some(raised)
    }
}

fn whole(number: Number) -> Option<i128> {
    (number.denominator == 1).then_some(number.numerator)
}

fn factorial(n: i128) -> Option<Number> {
    if !(0..=LARGEST_FACTORIAL).contains(&n) {
        return None;
    }
    Number::new((1..=n).product(), 1)
}

fn choose(n: i128, k: i128) -> Option<Number> {
    if !(0..=LARGEST_FACTORIAL).contains(&n) || !(0..=n).contains(&k) {
        return None;
    }
    Number::new((0..k).fold(1, |all, i| all * (n - i) / (i + 1)), 1)
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
        "sinh" => x.sinh(),
        "cosh" => x.cosh(),
        "tanh" => x.tanh(),
        "ln" => x.ln(),
        "log" => x.log10(),
        "exp" => x.exp(),
        "abs" => x.abs(),
        "floor" => x.floor(),
        "ceil" => x.ceil(),
        _ => f64::NAN,
    }
}
