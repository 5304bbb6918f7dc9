//! Terms modulo two primes: exact at any size, with unknowns, π and e as fixed residues.
//!
//! Two such terms that differ have the same residues with a chance of about 2^−120 (Schwartz, Zippel),
//! so 2^2009 is told from 2^2010 without either being written out, and (x + 1)^2 is x^2 + 2x + 1.

use super::value::{Expr, hash};
use crate::answer::Number;

/// Both are 2p + 1 with another prime p, so that small numbers have many different powers.
const PRIMES: [u64; 2] = [4_611_686_018_427_377_339, 4_000_000_000_000_000_727];
/// n! and n over k beyond this are not worked out; it bounds the work.
const MOST_FACTORS: i128 = 400;

/// Whether both terms are the same fraction of whole numbers and unknowns; `None` where one is none.
pub(super) fn same(a: &Expr, b: &Expr) -> Option<bool> {
    for prime in PRIMES {
        let field = Field { prime, point: 0 };
        if field.of(a)? != field.of(b)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether one term is a multiple of the other, neither being 0; `None` where this cannot be told.
pub(super) fn proportional(a: &Expr, b: &Expr) -> Option<bool> {
    for prime in PRIMES {
        let [here, there] = [0, 1].map(|point| Field { prime, point });
        let (above, below) = (here.of(a)?, here.of(b)?);
        let is_same_ratio = here.product(above, there.of(b)?) == here.product(below, there.of(a)?);
        if !is_same_ratio || above == 0 || below == 0 {
            return Some(false);
        }
    }
    Some(true)
}

/// Residues modulo a prime, with the unknowns at a point.
#[derive(Clone, Copy)]
struct Field {
    prime: u64,
    point: u64,
}

impl Field {
    fn of(self, expr: &Expr) -> Option<u64> {
        match expr {
            Expr::Number { value, .. } => self.fraction(*value),
            Expr::Pi => Some(self.unknown("pi")),
            Expr::Euler => Some(self.unknown("e")),
            Expr::Name(name) => Some(self.unknown(name)),
            Expr::Sum(parts) => parts
                .iter()
                .try_fold(0, |all, part| Some((all + self.of(part)?) % self.prime)),
            Expr::Product(parts) => parts
                .iter()
                .try_fold(1, |all, part| Some(self.product(all, self.of(part)?))),
            Expr::Measured(_, term) => self.of(term),
            Expr::Negative(part) => Some((self.prime - self.of(part)?) % self.prime),
            Expr::Quotient(a, b) => self.quotient(self.of(a)?, self.of(b)?),
            Expr::Power(a, b) => self.power(self.of(a)?, b.whole_value()?),
            Expr::Call("!", part) => self.factorial(part.whole_value()?),
            Expr::Choose(n, k) => self.choose(n.whole_value()?, k.whole_value()?),
            other => self.fraction(other.exact()?),
        }
    }

    fn unknown(self, name: &str) -> u64 {
        hash(name, self.point) % self.prime
    }

    fn whole(self, value: i128) -> u64 {
        value.rem_euclid(i128::from(self.prime)) as u64
    }

    fn fraction(self, value: Number) -> Option<u64> {
        self.quotient(self.whole(value.numerator), self.whole(value.denominator))
    }

    fn product(self, a: u64, b: u64) -> u64 {
        (u128::from(a) * u128::from(b) % u128::from(self.prime)) as u64
    }

    fn quotient(self, a: u64, b: u64) -> Option<u64> {
        Some(self.product(a, self.power(b, -1)?))
    }

    /// Exponents count modulo one less than the prime (Fermat), but for a base of 0.
    fn power(self, mut base: u64, exponent: i128) -> Option<u64> {
        if base == 0 {
            return (exponent >= 0).then_some(u64::from(exponent == 0));
        }
        let mut exponent = exponent.rem_euclid(i128::from(self.prime) - 1);
        let mut raised = 1;
        while exponent > 0 {
            if exponent & 1 == 1 {
                raised = self.product(raised, base);
            }
            base = self.product(base, base);
            exponent >>= 1;
        }
        Some(raised)
    }

    fn factorial(self, n: i128) -> Option<u64> {
        let is_known = (0..=MOST_FACTORS).contains(&n);
        is_known.then(|| (1..=n).fold(1, |all, i| self.product(all, self.whole(i))))
    }

    fn choose(self, n: i128, k: i128) -> Option<u64> {
        if n < 0 {
            return None;
        }
        if !(0..=n).contains(&k) {
            return Some(0);
        }
        let k = k.min(n - k);
        if k > MOST_FACTORS {
            return None;
        }
        let above = (0..k).fold(1, |all, i| self.product(all, self.whole(n - i)));
        self.quotient(above, self.factorial(k)?)
    }
}
