//! Tokens of an answer: LaTeX, plain text and mixtures of both come out as the same few kinds.
//!
//! What only sets the type (`\left`, spaces, money signs, degrees) is left out here, and thousands
//! separators are taken out of numbers, so that the parser meets mathematics alone.

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Digits with at most one point among them.
    Number(String),
    /// A letter or a Greek letter.
    Name(String),
    /// A function by its name.
    Function(&'static str),
    /// A word that is no mathematics: a unit, a name, a choice.
    Word(String),
    /// An operator or a bracket; `⟨` and `⟩` are the braces of sets.
    Sign(char),
    /// `\frac` and its sisters.
    Fraction,
    /// `\sqrt`, of a group or the first digit behind it.
    Root,
    /// `√` or the word `sqrt`, of the whole number behind it.
    RootSign,
    /// `\binom`.
    Choose,
    /// Start of a matrix.
    MatrixStart,
    /// End of a matrix.
    MatrixEnd,
}

/// Functions that an answer may hold.
pub(super) const FUNCTIONS: [&str; 19] = [
    "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "sinh", "cosh", "tanh", "sin",
    "cos", "tan", "cot", "sec", "csc", "ln", "log", "exp", "abs",
];

const GREEK: [&str; 26] = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "ell",
];

/// Commands that only set the type.
const INVISIBLE: [&str; 16] = [
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "displaystyle",
    "textstyle",
    "quad",
    "qquad",
    "boxed",
    "mathbf",
    "textbf",
    "boldsymbol",
    "mathit",
    "limits",
];

/// Letter runs this long may be a product of letters; longer ones are words.
const LONGEST_PRODUCT: usize = 3;
/// Letters that stand for unknowns; runs of others are words and units.
const UNKNOWNS: &str = "abcknpqrstuvwxyzABCNPQRSTXYZ";
/// Units whose letters would all be unknowns.
const UNITS: [&str; 4] = ["ct", "pt", "qt", "sq"];
/// Units behind a number, products of unknowns elsewhere: `3 yr`, but `x^2 yr`.
const UNITS_OF_NUMBERS: [&str; 15] = [
    "yr", "yrs", "cc", "cu", "cup", "tsp", "tbs", "pts", "qts", "pcs", "cts", "bar", "kPa", "way",
    "Rs",
];

/// Splits an answer; `None` when it holds what no answer does.
pub(super) fn read(text: &str) -> Option<Vec<Token>> {
    let text = text.replace("^{\\circ}", "").replace("^\\circ", "");
    let mut reader = Reader {
        chars: text.chars().collect(),
        at: 0,
        tokens: Vec::new(),
        brackets: 0,
    };
    while reader.at < reader.chars.len() {
        reader.step()?;
    }
    Some(reader.tokens)
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
    /// Open brackets, within which a comma separates.
    brackets: usize,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn sign(&mut self, sign: char) {
        match sign {
            '(' | '[' | '⟨' => self.brackets += 1,
            ')' | ']' | '⟩' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.tokens.push(Token::Sign(sign));
    }

    fn step(&mut self) -> Option<()> {
        let c = self.peek(0)?;
        let is_number = c.is_ascii_digit()
            || (c == '.' && self.peek(1).is_some_and(|next| next.is_ascii_digit()));
        if is_number {
            let number = self.number();
            self.tokens.push(Token::Number(number));
            return Some(());
        }
        if c == '\\' {
            return self.command();
        }
        if c.is_ascii_alphabetic() {
            let run = self.letters();
            self.word(&run);
            return Some(());
        }
        self.at += 1;
        if let Some(sign) = self.comparison(c) {
            self.at += 1;
            self.sign(sign);
            return Some(());
        }
        match c {
            '$' | '€' | '£' | '°' | '~' | '"' | '`' => {}
            c if c.is_whitespace() => {}
            '−' | '–' => self.sign('-'),
            '×' | '·' | '*' | '⋅' => {
                // Two asterisks are bold type around an answer, or a power; neither is a product.
                if self.peek(0) == Some('*') {
                    return None;
                }
                self.sign('*');
            }
            '÷' => self.sign('/'),
            '.' if self.rest_is_blank() => {}
            'π' => self.tokens.push(Token::Name("pi".to_owned())),
            'θ' => self.tokens.push(Token::Name("theta".to_owned())),
            '√' => self.tokens.push(Token::RootSign),
            '+' | '-' | '/' | '^' | '_' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | ',' | ';'
            | ':' | '=' | '<' | '>' | '!' | '%' | '&' | '±' | '≤' | '≥' | '≠' | '∞' | '∪' | '∅'
            | '∈' => self.sign(c),
            _ => return None,
        }
        Some(())
    }

    /// The comparison that this sign makes with a `=` behind it. `x!=5` is one, as math-verify has it,
    /// but behind a digit or a bracket `!` is a factorial: `5!=120`.
    fn comparison(&self, sign: char) -> Option<char> {
        if self.peek(0) != Some('=') {
            return None;
        }
        let before = self.at.checked_sub(2).map(|at| self.chars[at]);
        let is_operand = |c: char| c.is_ascii_digit() || matches!(c, ')' | ']' | '}' | '!');
        match sign {
            '<' => Some('≤'),
            '>' => Some('≥'),
            '!' if before.is_none_or(|c| !is_operand(c)) => Some('≠'),
            _ => None,
        }
    }

    fn rest_is_blank(&self) -> bool {
        let mut rest = self.chars[self.at..].iter();
        rest.all(|c| c.is_whitespace() || matches!(c, '$' | '}' | '"' | '.'))
    }

    /// Digits, one point, and thousands: `1,234`, `1{,}234`, `1,\!234`, `1\,234`. Within brackets a plain
    /// comma separates.
    fn number(&mut self) -> String {
        let mut number = String::new();
        let mut has_point = false;
        while let Some(c) = self.peek(0) {
            let next_is_digit = self.peek(1).is_some_and(|next| next.is_ascii_digit());
            if c.is_ascii_digit() {
                number.push(c);
                self.at += 1;
            } else if c == '.' && next_is_digit && !has_point {
                has_point = true;
                number.push(c);
                self.at += 1;
            } else if let Some(skip) = self.thousands(has_point) {
                self.at += skip;
            } else {
                break;
            }
        }
        number
    }

    /// The length of a thousands separator here, if the three digits of a group follow.
    fn thousands(&self, has_point: bool) -> Option<usize> {
        if has_point {
            return None;
        }
        let starts = |with: &str| {
            with.chars()
                .enumerate()
                .all(|(i, c)| self.peek(i) == Some(c))
        };
        let mut length = ["{,}", ",\\!", "\\,", ","]
            .into_iter()
            .find(|sign| starts(sign))?
            .len();
        if length == 1 && self.brackets > 0 {
            return None;
        }
        while length > 1 && self.peek(length) == Some(' ') {
            length += 1;
        }
        let is_digit = |at: usize| self.peek(at).is_some_and(|c| c.is_ascii_digit());
        let is_group = (0..3).all(|i| is_digit(length + i)) && !is_digit(length + 3);
        is_group.then_some(length)
    }

    fn letters(&mut self) -> String {
        let mut run = String::new();
        while let Some(c) = self.peek(0).filter(char::is_ascii_alphabetic) {
            run.push(c);
            self.at += 1;
        }
        run
    }

    /// A run of letters: a function, a constant, a product of unknowns, or a word.
    fn word(&mut self, run: &str) {
        if run.len() == 1 {
            self.tokens.push(Token::Name(run.to_lowercase()));
        } else if self.is_unit(run) {
            self.tokens.push(Token::Word(run.to_lowercase()));
        } else if let Some(&name) = FUNCTIONS.iter().find(|name| **name == run) {
            self.tokens.push(Token::Function(name));
        } else if run == "sqrt" {
            self.tokens.push(Token::RootSign);
        } else if GREEK.contains(&run) {
            self.tokens.push(Token::Name(run.to_owned()));
        } else if matches!(run, "and" | "or") {
            self.sign(',');
        } else if run.len() <= LONGEST_PRODUCT && run.chars().all(|c| UNKNOWNS.contains(c)) {
            let names = run
                .chars()
                .map(|c| Token::Name(c.to_lowercase().to_string()));
            self.tokens.extend(names);
        } else {
            self.tokens.push(Token::Word(run.to_lowercase()));
        }
    }

    /// Whether a run of letters that ends here is a unit rather than a function or a product of unknowns.
    fn is_unit(&self, run: &str) -> bool {
        if run == "sec" {
            // The secant is of something.
            return self.rest_is_blank();
        }
        let may_be_unit = UNITS_OF_NUMBERS.contains(&run);
        UNITS.contains(&run) || (may_be_unit && self.is_behind_number() && self.is_at_end_of_term())
    }

    /// Whether there is a number and nothing else since the last separator: the 3 of `3 yrs`, not the 2
    /// of `x^2 yr`.
    fn is_behind_number(&self) -> bool {
        let separates = |token: &Token| {
            matches!(
                token,
                Token::Sign(',' | ';' | '=' | '<' | '>' | '≤' | '≥' | '≠')
            )
        };
        let is_numeric =
            |token: &Token| matches!(token, Token::Number(_) | Token::Fraction | Token::Sign(_));
        let item = self.tokens.rsplit(separates).next().unwrap_or_default();
        let last = item.last();
        matches!(last, Some(Token::Number(_) | Token::Sign('}'))) && item.iter().all(is_numeric)
    }

    /// Whether nothing but a separator or words come next: `3yr + 1` is a sum of terms.
    fn is_at_end_of_term(&self) -> bool {
        let mut rest = self.chars[self.at..].iter();
        let next = rest.find(|c| !c.is_whitespace());
        next.is_none_or(|c| c.is_ascii_alphabetic() || matches!(c, ',' | ';' | '.' | '$' | '"'))
    }

    fn command(&mut self) -> Option<()> {
        self.at += 1;
        let name = self.letters();
        if name.is_empty() {
            let c = self.peek(0);
            self.at += 1;
            match c {
                Some('{') => self.sign('⟨'),
                Some('}') => self.sign('⟩'),
                Some('%') => self.sign('%'),
                Some('\\') => self.sign('\\'),
                // Spaces, money, and the brackets of formulas.
                Some(',' | ';' | ':' | '!' | ' ' | '$' | '(' | ')' | '[' | ']' | '\n') | None => {}
                Some(_) => return None,
            }
            return Some(());
        }
        match name.as_str() {
            "frac" | "dfrac" | "tfrac" | "cfrac" => self.tokens.push(Token::Fraction),
            "sqrt" => self.tokens.push(Token::Root),
            "binom" | "dbinom" | "tbinom" => self.tokens.push(Token::Choose),
            "text" | "textrm" | "mathrm" | "mbox" | "operatorname" => self.text()?,
            "begin" | "end" => {
                let kind = self.braced()?;
                if !matches!(kind.as_str(), "matrix" | "pmatrix" | "bmatrix" | "vmatrix") {
                    return None;
                }
                let is_start = name == "begin";
                let token = if is_start {
                    Token::MatrixStart
                } else {
                    Token::MatrixEnd
                };
                self.tokens.push(token);
            }
            name if INVISIBLE.contains(&name) => {}
            name if GREEK.contains(&name) => self.tokens.push(Token::Name(name.to_owned())),
            name => {
                if let Some(&function) = FUNCTIONS.iter().find(|function| **function == name) {
                    self.tokens.push(Token::Function(function));
                } else {
                    self.sign(sign_of(name)?);
                }
            }
        }
        Some(())
    }

    /// What stands in the braces that open here, up to the brace that closes them.
    fn braced(&mut self) -> Option<String> {
        while self.peek(0) == Some(' ') {
            self.at += 1;
        }
        if self.peek(0) != Some('{') {
            return None;
        }
        let start = self.at + 1;
        let mut depth = 0;
        for (offset, c) in self.chars[self.at..].iter().enumerate() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let end = self.at + offset;
                self.at = end + 1;
                return Some(self.chars[start..end].iter().collect());
            }
        }
        None
    }

    /// Upright text: a joining word, a choice or number set upright, or a unit.
    fn text(&mut self) -> Option<()> {
        let inside = self.braced()?;
        let inside = inside.trim();
        let plain = inside.trim_matches(['(', ')', '.']);
        let is_value = plain.len() == 1 || plain.chars().all(|c| c.is_ascii_digit() || c == '.');
        match inside {
            "" => {}
            "and" | "or" | "," => self.sign(','),
            _ if is_value => self.tokens.extend(read(plain)?),
            _ => {
                let (number, unit) = split_number(inside);
                if !number.is_empty() {
                    self.tokens.extend(read(number)?);
                }
                self.tokens.push(Token::Word(unit.to_lowercase()));
            }
        }
        Some(())
    }
}

/// A number in front of a unit, and the unit.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ','));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number, unit.trim())
}

/// The sign that a command stands for.
fn sign_of(command: &str) -> Option<char> {
    Some(match command {
        "times" | "cdot" | "ast" => '*',
        "div" => '/',
        "pm" => '±',
        "le" | "leq" | "leqslant" => '≤',
        "ge" | "geq" | "geqslant" => '≥',
        "lt" => '<',
        "gt" => '>',
        "ne" | "neq" => '≠',
        "infty" => '∞',
        "cup" => '∪',
        "emptyset" | "varnothing" => '∅',
        "in" => '∈',
        "lvert" | "rvert" | "vert" | "mid" => '|',
        "lfloor" => '⌊',
        "rfloor" => '⌋',
        "lceil" => '⌈',
        "rceil" => '⌉',
        _ => return None,
    })
}
