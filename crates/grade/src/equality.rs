//! Whether two answers mean the same in mathematics, however they are written.
//!
//! ```text
//!   "\frac{1}{2}\text{ cm}" ──tokens──▶ ── parse ──▶ Answer ┐
//!                                                           ├─ value ──▶ equal or not
//!   "0.50" ────────────────────────────────────────▶ Answer ┘
//! ```
//!
//! Numbers are exact fractions as long as they fit; larger ones, and terms of unknowns, are compared
//! modulo two primes; whatever holds roots or functions, at a few fixed points. Units, money signs,
//! degrees and thousands separators do not count. The rules are those by which the public package
//! math-verify decides (its tables of cases and the few deliberate differences are
//! `tests/equality.tsv` and `equality_plain.tsv`): decimals agree to six places, a percentage equals
//! its number and its fraction, sets have no order, "x = 5" answers 5. An answer is refused as not mathematical, never
//! guessed at, so the work is bounded by the length of the text.

mod approximate;
mod exact;
mod parse;
mod residue;
mod terms;
mod tokens;
mod value;

use crate::answer::plain_text;
use value::{Expr, proportional, same_expr};

/// Longer texts are no answers.
const LONGEST: usize = 1_000;

/// A final answer as mathematics.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer(Form);

/// The kinds of answers.
#[derive(Debug, Clone, PartialEq)]
enum Form {
    /// A number or a term.
    Value(Expr),
    /// A term with a percent sign.
    Percent(Expr),
    /// Several things without an order: in braces, or with commas between them.
    Set(Vec<Form>),
    /// A point or an interval, by its brackets.
    Tuple(char, char, Vec<Form>),
    /// Intervals or sets united.
    Union(Vec<Form>),
    /// Terms with the signs between them, read so that all point to the left: `<`, `≤`, `=`, `≠`.
    Relation(Vec<Expr>, Vec<char>),
    /// Rows of a matrix.
    Matrix(Vec<Vec<Expr>>),
    /// Nothing but words, in plain form.
    Words(String),
}

impl Answer {
    /// Reads an answer; `None` when it is not mathematics, or longer than any answer.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let tokens = tokens::read(text)?;
        parse::answer(tokens).map(Self)
    }

    /// Whether this is one plain number: a sign, digits, a fraction of these, a unit or a percent sign.
    pub fn is_numeral(&self) -> bool {
        match &self.0 {
            Form::Value(value) | Form::Percent(value) => value.is_numeral(),
            _ => false,
        }
    }

    /// Whether both mean the same.
    pub fn equals(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

fn same(a: &Form, b: &Form) -> bool {
    if a == b {
        return true;
    }
    match (a, b) {
        (Form::Value(a), Form::Value(b)) | (Form::Percent(a), Form::Percent(b)) => same_expr(a, b),
        (Form::Percent(a), Form::Value(b)) | (Form::Value(b), Form::Percent(a)) => {
            same_percent(a, b)
        }
        (Form::Words(a), Form::Words(b)) => a == b,
        (Form::Matrix(a), Form::Matrix(b)) => same_in_order(a, b, |a, b| {
            same_in_order(a, b, |a: &Expr, b: &Expr| same_expr(a, b))
        }),
        (Form::Tuple(open, close, a), Form::Tuple(other_open, other_close, b)) => {
            (open, close) == (other_open, other_close) && same_in_order(a, b, same)
        }
        (Form::Set(a), Form::Set(b)) | (Form::Union(a), Form::Union(b)) => same_without_order(a, b),
        (Form::Set(many), Form::Tuple('(', ')', point))
        | (Form::Tuple('(', ')', point), Form::Set(many)) => same_in_order(many, point, same),
        (Form::Set(many), one) | (one, Form::Set(many)) if many.len() == 1 => same(&many[0], one),
        (Form::Relation(a, signs), Form::Relation(b, others)) => {
            same_relation((a, signs), (b, others))
        }
        (Form::Relation(terms, signs), other) | (other, Form::Relation(terms, signs)) => {
            assigned(terms, signs).is_some_and(|value| same(&Form::Value(value.clone()), other))
        }
        _ => false,
    }
}

/// "50 %" is 50 and is one half.
fn same_percent(percent: &Expr, value: &Expr) -> bool {
    let is_whole = percent.is_integer_literal() && value.is_integer_literal();
    let share = percent.clone().over_hundred();
    (is_whole && same_expr(percent, value)) || same_expr(&share, value)
}

fn same_in_order<T>(a: &[T], b: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// Each pair is compared once, so that sets of sets cost no more than all pairs of their members.
fn same_without_order(a: &[Form], b: &[Form]) -> bool {
    let mut is_found = vec![false; b.len()];
    let mut has_all = true;
    for one in a {
        let mut has_this = false;
        for (other, is_found) in b.iter().zip(&mut is_found) {
            let is_same = same(one, other);
            *is_found |= is_same;
            has_this |= is_same;
        }
        has_all &= has_this;
    }
    has_all && is_found.into_iter().all(|is_found| is_found)
}

/// The right side of `x = …`, `f(x) = …`, or of a sum worked out like `6 · 7 = 42`.
fn assigned<'a>(terms: &'a [Expr], signs: &[char]) -> Option<&'a Expr> {
    let is_equation = signs.iter().all(|sign| *sign == '=');
    let lefts = &terms[..terms.len() - 1];
    let is_named = lefts.iter().all(Expr::is_name) || lefts.iter().all(Expr::is_constant);
    (is_equation && is_named).then_some(&terms[terms.len() - 1])
}

/// Relations agree when each link of one is a link of the other up to a factor: positive where the
/// direction counts.
fn same_relation((a, signs): (&[Expr], &[char]), (b, others): (&[Expr], &[char])) -> bool {
    let one_name = signs.len() == 1 && others.len() == 1 && a[0].is_name() && b[0].is_name();
    if one_name && signs == others && a[0] == b[0] && same_expr(&a[1], &b[1]) {
        return true;
    }
    let link = |terms: &[Expr], at: usize| terms[at].clone().minus(terms[at + 1].clone());
    signs == others
        && (0..signs.len()).all(|at| {
            let is_directed = matches!(signs[at], '<' | '≤');
            proportional(&link(a, at), &link(b, at), is_directed)
        })
}

/// Whether a letter behind a number is a unit rather than an unknown.
pub(crate) fn is_unit(letter: char) -> bool {
    let name = letter.to_lowercase().to_string();
    parse::is_unit((name.as_str(), 1), None)
}

/// Words in the form in which they are compared.
fn words(text: &str) -> Form {
    Form::Words(plain_text(text))
}
