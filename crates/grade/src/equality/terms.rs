//! The terms of an answer: sums, products, powers, and what they are made of.
//!
//! ```text
//!   sum      product ± product …      product   power · power / power, also side by side
//!   power    atom ! ^ power           atom      number, name, root, fraction, (sum), |sum|, …
//! ```

use super::parse::Parser;
use super::tokens::Token;
use super::value::Expr;
use crate::answer::decimal;

impl Parser {
    pub(super) fn sum(&mut self) -> Option<Expr> {
        let mut terms = vec![self.product()?];
        loop {
            if self.eat('+') {
                terms.push(self.product()?);
            } else if self.eat('-') {
                terms.push(Expr::Negative(Box::new(self.product()?)));
            } else if self.eat('±') {
                terms.push(Expr::PlusMinus(Box::new(self.product()?)));
            } else {
                break;
            }
        }
        if terms.len() == 1 {
            terms.pop()
        } else {
            Some(Expr::Sum(terms))
        }
    }

    fn product(&mut self) -> Option<Expr> {
        let mut factors = vec![self.signed()?];
        loop {
            if self.eat('*') {
                factors.push(self.signed()?);
            } else if !self.is_at_rate(&factors) && (self.eat('/') || self.eat(':')) {
                let above = product_of(factors)?;
                let below = self.divisor()?;
                factors = vec![Expr::Quotient(Box::new(above), Box::new(below))];
            } else if let Some(mixed) = self.mixed(&factors) {
                factors = vec![mixed];
            } else if self.starts_factor() {
                factors.push(self.power()?);
            } else {
                return product_of(factors);
            }
        }
    }

    /// Whether a unit of letters ends here and a word is what it is divided by: 10 m/min.
    fn is_at_rate(&self, factors: &[Expr]) -> bool {
        let is_per_word = matches!(
            self.tokens[self.at..],
            [Token::Sign('/'), Token::Word(_), ..]
        );
        let has_unit = |term: Expr| term.before_unit().is_some();
        is_per_word && product_of(factors.to_vec()).is_some_and(has_unit)
    }

    fn signed(&mut self) -> Option<Expr> {
        // The sign holds for the whole of a mixed number: −1 1/2 is −3/2.
        self.power_or_signed(Self::product)
    }

    /// What is divided by. A sign holds for the next power alone, not for the product: 6/−2 · 3 is −9.
    fn divisor(&mut self) -> Option<Expr> {
        self.power_or_signed(Self::divisor)
    }

    /// A power, or a sign and what the rule reads behind it.
    fn power_or_signed(&mut self, rule: fn(&mut Self) -> Option<Expr>) -> Option<Expr> {
        let (minus, both) = (self.is_sign('-'), self.is_sign('±'));
        if !minus && !both && !self.is_sign('+') {
            return self.power();
        }
        self.at += 1;
        let part = self.deeper(rule)?;
        Some(match (minus, both) {
            (true, _) => Expr::Negative(Box::new(part)),
            (_, true) => Expr::PlusMinus(Box::new(part)),
            _ => part,
        })
    }

    /// A whole number with a fraction of whole numbers behind it, as in 3 1/2. Looks ahead before it
    /// reads, so that nothing is read twice.
    fn mixed(&mut self, factors: &[Expr]) -> Option<Expr> {
        use Token::{Fraction, Number, Sign};
        let rest = &self.tokens[self.at..];
        // The digits of `\frac12` are one number. In `2\frac1\pi` the second is missing.
        let is_of_digits = matches!(rest, [Fraction, Number(digits), ..] if digits.len() > 1);
        let is_fraction = is_of_digits
            || matches!(
                rest,
                [Number(_), Sign('/'), Number(_), ..]
                    | [Fraction, Number(_), Number(_), ..]
                    | [Fraction, Number(_), Sign('{'), Number(_), Sign('}'), ..]
                    | [Fraction, Sign('{'), Number(_), Sign('}'), Number(_), ..]
                    | [
                        Fraction,
                        Sign('{'),
                        Number(_),
                        Sign('}'),
                        Sign('{'),
                        Number(_),
                        Sign('}'),
                        ..
                    ]
            );
        let [whole] = factors else { return None };
        if !is_fraction || !whole.is_integer_literal() {
            return None;
        }
        let fraction = if let Some(Number(above)) = self.peek() {
            let above = number(above)?;
            self.at += 2;
            Expr::Quotient(Box::new(above), Box::new(self.power()?))
        } else {
            self.power()?
        };
        Some(Expr::Sum(vec![whole.clone(), fraction]))
    }

    /// Whether what comes can stand behind a factor without a sign; two numbers cannot.
    fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(
                Token::Name(_)
                | Token::Function(_)
                | Token::Fraction
                | Token::Root
                | Token::RootSign
                | Token::Choose,
            ) => true,
            Some(Token::Number(_)) => !matches!(
                self.tokens.get(self.at.wrapping_sub(1)),
                Some(Token::Number(_))
            ),
            Some(Token::Sign('(' | '[' | '{' | '⌊' | '⌈' | '∞')) => true,
            _ => false,
        }
    }

    fn power(&mut self) -> Option<Expr> {
        let mut base = self.deeper(Self::atom)?;
        while self.eat('!') {
            base = Expr::Call("!", Box::new(base));
        }
        if !self.eat('^') {
            return Some(base);
        }
        let exponent = self.deeper(Self::exponent)?;
        Some(Expr::Power(Box::new(base), Box::new(exponent)))
    }

    fn exponent(&mut self) -> Option<Expr> {
        if self.eat('-') {
            return Some(Expr::Negative(Box::new(self.power()?)));
        }
        self.power()
    }

    fn atom(&mut self) -> Option<Expr> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number(digits) => number(&digits),
            Token::Name(name) => self.name(name),
            Token::Word(word) if self.is_sign('=') => Some(Expr::Name(word)),
            Token::Fraction => {
                let above = self.argument()?;
                Some(Expr::Quotient(Box::new(above), Box::new(self.argument()?)))
            }
            Token::Choose => {
                let n = self.argument()?;
                Some(Expr::Choose(Box::new(n), Box::new(self.argument()?)))
            }
            Token::Root => self.root(Self::argument),
            Token::RootSign => self.root(|parser| parser.deeper(Self::atom)),
            Token::Function(name) => self.function(name),
            Token::Sign('∞') => Some(Expr::Infinity),
            Token::Sign('(') => self.closed(')'),
            Token::Sign('[') => self.closed(']'),
            Token::Sign('{') => self.closed('}'),
            Token::Sign('|') => Some(Expr::Call("abs", Box::new(self.closed('|')?))),
            Token::Sign('⌊') => Some(Expr::Call("floor", Box::new(self.closed('⌋')?))),
            Token::Sign('⌈') => Some(Expr::Call("ceil", Box::new(self.closed('⌉')?))),
            _ => None,
        }
    }

    /// A root with its degree, and what it is of.
    fn root(&mut self, radicand: impl FnOnce(&mut Self) -> Option<Expr>) -> Option<Expr> {
        let degree = if self.eat('[') {
            self.closed(']')?
        } else {
            Expr::whole(2)
        };
        Some(Expr::Root(Box::new(degree), Box::new(radicand(self)?)))
    }

    fn closed(&mut self, close: char) -> Option<Expr> {
        let inside = self.sum()?;
        self.need(close)?;
        Some(inside)
    }

    /// A name with its index; π and e are numbers.
    fn name(&mut self, name: String) -> Option<Expr> {
        if !self.eat('_') {
            return Some(match name.as_str() {
                "pi" => Expr::Pi,
                "e" => Expr::Euler,
                _ => Expr::Name(name),
            });
        }
        let is_braced = self.eat('{');
        let index = match self.peek()? {
            Token::Number(index) | Token::Name(index) | Token::Word(index) => index.clone(),
            _ => return None,
        };
        self.at += 1;
        if is_braced {
            self.need('}')?;
        }
        Some(Expr::Name(format!("{name}_{index}")))
    }

    /// A function with the base or power at its name, and what it is of. The power −1 at a function of
    /// angles is its inverse.
    fn function(&mut self, name: &'static str) -> Option<Expr> {
        let base = if self.eat('_') {
            Some(self.argument()?)
        } else {
            None
        };
        let exponent = match self.eat('^') {
            true if self.is_sign('-') => Some(self.deeper(Self::exponent)?),
            true => Some(self.argument()?),
            false => None,
        };
        let inverse = inverse(name).filter(|_| exponent == Some(Expr::whole(1).negative()));
        let (name, exponent) = inverse.map_or((name, exponent), |inverse| (inverse, None));
        let of = Box::new(self.operand()?);
        let value = match (name, base) {
            ("log", Some(base)) => Expr::Log(Box::new(base), of),
            (_, Some(_)) => return None,
            (name, None) => Expr::Call(name, of),
        };
        Some(match exponent {
            Some(exponent) => Expr::Power(Box::new(value), Box::new(exponent)),
            None => value,
        })
    }

    /// What a function is of: a bracket, or the factors up to the next function.
    fn operand(&mut self) -> Option<Expr> {
        if matches!(self.peek(), Some(Token::Sign('(' | '{' | '['))) {
            return self.power();
        }
        let mut factors = vec![self.power()?];
        while self.starts_factor() && !matches!(self.peek(), Some(Token::Function(_))) {
            factors.push(self.power()?);
        }
        product_of(factors)
    }

    /// The argument of a command: a group, or a single digit or name.
    fn argument(&mut self) -> Option<Expr> {
        if let Some(Token::Number(digits)) = self.tokens.get_mut(self.at)
            && digits.len() > 1
            && digits.is_char_boundary(1)
        {
            let first = digits.remove(0);
            return number(&first.to_string());
        }
        self.deeper(Self::atom)
    }
}

/// The function that a power of −1 at the name of another means.
fn inverse(name: &str) -> Option<&'static str> {
    Some(match name {
        "sin" => "arcsin",
        "cos" => "arccos",
        "tan" => "arctan",
        "cot" => "arccot",
        "sec" => "arcsec",
        "csc" => "arccsc",
        "sinh" => "arsinh",
        "cosh" => "arcosh",
        "tanh" => "artanh",
        _ => return None,
    })
}

fn product_of(mut factors: Vec<Expr>) -> Option<Expr> {
    if factors.len() == 1 {
        factors.pop()
    } else {
        Some(Expr::Product(factors))
    }
}

fn number(digits: &str) -> Option<Expr> {
    Some(Expr::Number {
        value: decimal(digits)?,
        is_decimal: digits.contains('.'),
    })
}
