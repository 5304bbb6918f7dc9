//! Tokens to an answer, by recursive descent of bounded depth.
//!
//! ```text
//!   answer    item , item , …            a set when there are several
//!   item      union | tuple | set | matrix | relation      then a percent sign or a unit
//!   relation  sum = sum < sum …            the sums are read in `terms`
//! ```

use super::tokens::Token;
use super::value::Expr;
use super::{Form, words};
use crate::answer::denies;

/// Brackets within brackets deeper than this are refused.
const DEEPEST: usize = 40;

/// Reads all tokens as one answer.
pub(super) fn answer(tokens: Vec<Token>) -> Option<Form> {
    let is_word = |token: &Token| matches!(token, Token::Word(_));
    if !tokens.is_empty() && tokens.iter().all(is_word) {
        let words_of = tokens.iter().filter_map(|token| match token {
            Token::Word(word) => Some(word.as_str()),
            _ => None,
        });
        return Some(words(&words_of.collect::<Vec<_>>().join(" ")));
    }
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
    };
    let mut items = parser.items()?;
    if parser.at < parser.tokens.len() {
        return None;
    }
    if items.len() == 1 {
        items.pop()
    } else {
        Some(Form::Set(items))
    }
}

pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    depth: usize,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn is_sign(&self, sign: char) -> bool {
        self.peek() == Some(&Token::Sign(sign))
    }

    pub(super) fn eat(&mut self, sign: char) -> bool {
        let is_here = self.is_sign(sign);
        self.at += usize::from(is_here);
        is_here
    }

    pub(super) fn need(&mut self, sign: char) -> Option<()> {
        self.eat(sign).then_some(())
    }

    /// Runs a rule one bracket deeper.
    pub(super) fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == DEEPEST {
            return None;
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    /// Items between commas; one with both signs is two.
    fn items(&mut self) -> Option<Vec<Form>> {
        let mut items = Vec::new();
        loop {
            match self.deeper(Self::item)? {
                Form::Value(value) if value.has_both_signs() => {
                    let both = [true, false].map(|sign| Form::Value(value.with_sign(sign)));
                    items.extend(both);
                }
                Form::Relation(terms, signs) if terms.iter().any(Expr::has_both_signs) => {
                    let with = |sign| terms.iter().map(|term| term.with_sign(sign)).collect();
                    let both = [true, false].map(|sign| Form::Relation(with(sign), signs.clone()));
                    items.extend(both);
                }
                item => items.push(item),
            }
            if !self.eat(',') && !self.eat(';') {
                return Some(items);
            }
        }
    }

    fn item(&mut self) -> Option<Form> {
        // "x ∈ …" answers what is on the right.
        if let [Token::Name(_), Token::Sign('∈'), ..] = self.tokens[self.at..] {
            self.at += 2;
        }
        let first = self.member()?;
        if !self.is_sign('∪') {
            return Some(first);
        }
        let mut members = vec![first];
        while self.eat('∪') {
            members.push(self.member()?);
        }
        Some(Form::Union(members))
    }

    fn member(&mut self) -> Option<Form> {
        match self.peek()? {
            Token::MatrixStart => self.matrix(),
            Token::Sign('∅') => {
                self.at += 1;
                Some(Form::Set(Vec::new()))
            }
            Token::Sign('⟨') => self.bracketed('⟨'),
            Token::Sign(open @ ('(' | '[' | '{')) if self.holds_comma() => self.bracketed(*open),
            Token::Word(_) if self.tokens.get(self.at + 1) != Some(&Token::Sign('=')) => {
                let Some(Token::Word(word)) = self.peek().cloned() else {
                    return None;
                };
                self.at += 1;
                Some(words(&word))
            }
            _ => self.relation(),
        }
    }

    /// Whether a comma stands directly within the bracket that opens here.
    fn holds_comma(&self) -> bool {
        let mut depth = 0;
        for token in &self.tokens[self.at..] {
            match token {
                Token::Sign('(' | '[' | '{' | '⟨') => depth += 1,
                Token::Sign(')' | ']' | '}' | '⟩') => depth -= 1,
                Token::Sign(',' | ';') if depth == 1 => return true,
                _ => {}
            }
            if depth <= 0 {
                break;
            }
        }
        false
    }

    /// A set, a point or an interval.
    fn bracketed(&mut self, open: char) -> Option<Form> {
        self.at += 1;
        if open == '⟨' && self.eat('⟩') {
            return Some(Form::Set(Vec::new()));
        }
        let items = self.items()?;
        let closes: &[char] = match open {
            '⟨' => &['⟩'],
            '{' => &['}'],
            _ => &[')', ']'],
        };
        let close = *closes.iter().find(|close| self.is_sign(**close))?;
        self.at += 1;
        if close == '⟩' || close == '}' {
            return Some(Form::Set(items));
        }
        // Infinity is never reached, whatever bracket stands there.
        let is_infinite = |item: Option<&Form>| match item {
            Some(Form::Value(Expr::Infinity)) => true,
            Some(Form::Value(Expr::Negative(part))) => **part == Expr::Infinity,
            _ => false,
        };
        let open = if is_infinite(items.first()) {
            '('
        } else {
            open
        };
        let close = if is_infinite(items.last()) {
            ')'
        } else {
            close
        };
        Some(Form::Tuple(open, close, items))
    }

    fn matrix(&mut self) -> Option<Form> {
        self.at += 1;
        let mut rows = vec![Vec::new()];
        loop {
            let cell = self.deeper(Self::sum)?;
            rows.last_mut()?.push(cell);
            if self.eat('&') {
                continue;
            }
            if self.eat('\\') && self.peek() != Some(&Token::MatrixEnd) {
                rows.push(Vec::new());
                continue;
            }
            if self.peek() == Some(&Token::MatrixEnd) {
                self.at += 1;
                return Some(Form::Matrix(rows));
            }
            return None;
        }
    }

    fn relation(&mut self) -> Option<Form> {
        let mut terms = vec![self.sum()?];
        let mut signs = Vec::new();
        while let Some(&Token::Sign(sign @ ('=' | '<' | '>' | '≤' | '≥' | '≠'))) = self.peek()
        {
            self.at += 1;
            signs.push(sign);
            terms.push(self.sum()?);
        }
        let is_percent = self.eat('%');
        self.skip_unit();
        let value = terms.last_mut()?;
        if let Some(number) = value.before_unit() {
            *value = Expr::Measured(Box::new(number), Box::new(value.clone()));
        }
        if signs.is_empty() {
            let value = terms.pop()?;
            return Some(if is_percent {
                Form::Percent(value)
            } else {
                Form::Value(value)
            });
        }
        if signs.iter().any(|sign| matches!(sign, '>' | '≥')) {
            terms.reverse();
            signs.reverse();
            for sign in &mut signs {
                *sign = match *sign {
                    '>' => '<',
                    '≥' => '≤',
                    '<' | '≤' => return None,
                    other => other,
                };
            }
        }
        Some(Form::Relation(terms, signs))
    }

    /// Words behind a value, with their exponents and divisions: `cm^2`, `km/h`, the `/min` of `m/min`.
    /// Those that are no unit are left, so that the text is no answer.
    fn skip_unit(&mut self) {
        let is_unit = matches!(
            self.tokens[self.at..],
            [Token::Word(_), ..] | [Token::Sign('/'), Token::Word(_), ..]
        );
        if !is_unit {
            return;
        }
        while let Some(token) = self.peek() {
            match token {
                Token::Word(word) if !may_be_unit(word) => return,
                Token::Word(_) | Token::Name(_) | Token::Sign('/' | '{' | '}') => self.at += 1,
                Token::Sign('^') => self.at += 1,
                Token::Number(_) if self.tokens[self.at - 1] == Token::Sign('^') => self.at += 1,
                _ => return,
            }
        }
    }
}

impl Expr {
    /// The number in front of letters that may be a unit: −5 of −5 m, 10 of 10 m/s^2.
    pub(super) fn before_unit(&self) -> Option<Self> {
        match self {
            Self::Negative(part) => Some(part.before_unit()?.negative()),
            Self::PlusMinus(part) => Some(Self::PlusMinus(Box::new(part.before_unit()?))),
            Self::Quotient(above, below) => above.before_letter(Some(below.letter()?)),
            term => term.before_letter(None),
        }
    }

    /// The number in front of one letter, if that is a unit where it is divided by another.
    fn before_letter(&self, below: Option<(&str, i128)>) -> Option<Self> {
        let Self::Product(factors) = self else {
            return None;
        };
        let [number, letter] = factors.as_slice() else {
            return None;
        };
        let is_measured = number.is_numeral() && is_unit(letter.letter()?, below);
        is_measured.then(|| number.clone())
    }

    /// A letter and its power.
    fn letter(&self) -> Option<(&str, i128)> {
        match self {
            Self::Name(name) => Some((name.as_str(), 1)),
            Self::Power(base, power) => match &**base {
                Self::Name(name) => Some((name.as_str(), power.whole_value()?)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether words behind a number may be its unit: `square units`, `m/s^2`; not the rest of `5 or 6`, nor
/// of `5 is not right`.
fn may_be_unit(words: &str) -> bool {
    let mut runs = words.split(|c: char| !c.is_alphabetic());
    let names_more = runs.any(|run| matches!(run, "or" | "and")) || has_number(words);
    !names_more && !denies(words)
}

/// Whether digits stand here that are no exponent of letters, as in `cm^2` and `s^{-1}`.
fn has_number(words: &str) -> bool {
    let mut digits = words.match_indices(|c: char| c.is_ascii_digit());
    digits.any(|(at, _)| {
        let before = words[..at].trim_end_matches(|c: char| c.is_ascii_digit());
        let base = before.trim_end_matches(['{', '-', '−']).strip_suffix('^');
        base.is_none_or(|base| !base.ends_with(char::is_alphabetic))
    })
}

/// Whether a letter to a power is a unit, alone or by another. Squares of others are algebra: the surface
/// of a cube of side s is 6s^2.
pub(super) fn is_unit(above: (&str, i128), below: Option<(&str, i128)>) -> bool {
    matches!(
        (above, below),
        (("m", 1..=3) | ("g" | "s" | "h" | "l", 1), None)
            | (("m", 1..=3) | ("g" | "l", 1), Some(("s" | "h", 1 | 2)))
            | (("g", 1), Some(("l", 1) | ("m", 1..=3)))
    )
}
