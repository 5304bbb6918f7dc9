//! Whether a text answers right: the final answer is cut out of a reply and compared in a normal
//! form, numbers as exact fractions.
//!
//! ```text
//!   <think>8 * 4 = 32 …</think>The answer is 1,042.00 legs.
//!                               └── final_answer ──┘ └number┘  = 1042/1
//! ```

use mmada_tokens::Thought;

use crate::equality::{Answer, is_unit};

/// The part of a reply that answers: after `</think>`, inside the last whole `\boxed{…}`, else behind
/// the last "answer is" or "answer:", or behind `####` if that is the last line or there is no other
/// mark; the trimmed reply otherwise. A thought that never ends answers nothing.
pub fn final_answer(reply: &str) -> &str {
    let (_, after) = Thought::split(reply);
    let answer = boxed(after).or_else(|| marked(after));
    answer.unwrap_or(after).trim()
}

/// Contents of the last `\boxed{…}` whose brace is closed.
fn boxed(text: &str) -> Option<&str> {
    const MARK: &str = "\\boxed{";
    let mut opened = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    for (at, _) in text.match_indices(['{', '}']) {
        if text[at..].starts_with('{') {
            opened.push(at + 1);
        } else if let Some(start) = opened.pop()
            && text[..start].ends_with(MARK)
            && last.is_none_or(|(other, _)| other < start)
        {
            last = Some((start, at));
        }
    }
    last.map(|(start, end)| &text[start..end])
}

/// What stands behind the last mark that counts.
fn marked(text: &str) -> Option<&str> {
    const HASHES: &str = "####";
    let hashed = text.rfind(HASHES).map(|at| &text[at + HASHES.len()..]);
    let Some(told) = told(text) else {
        return hashed;
    };
    // Anywhere but on the last line it is a heading.
    let is_later = |rest: &&str| !rest.trim().contains('\n') && rest.len() < told.len();
    Some(hashed.filter(is_later).unwrap_or(told))
}

/// What stands behind the last "answer is", "answer is:" or "answer:", in any case.
fn told(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let rest = lower.rmatch_indices("answer").find_map(|(at, word)| {
        let rest = &lower[at + word.len()..];
        let is = rest.strip_prefix(" is");
        match is.filter(|rest| !rest.starts_with(char::is_alphabetic)) {
            Some(rest) => Some(rest.strip_prefix(':').unwrap_or(rest)),
            None => rest.strip_prefix(':'),
        }
    })?;
    Some(&text[text.len() - rest.len()..])
}

/// Whether two final answers mean the same. Two mathematical answers are compared by
/// [`equality`](crate::equality). Where the reply is a sentence, the only number in it counts, if a
/// plain number is expected; else both are compared in [`plain_text`] form, with the operators between
/// the words. An empty answer is never right.
pub fn same_answer(got: &str, expected: &str) -> bool {
    let truth = Answer::read(expected);
    if let (Some(got), Some(truth)) = (Answer::read(got), &truth) {
        return got.equals(truth);
    }
    if truth.is_some_and(|truth| truth.is_numeral())
        && let (Some(got), Some(expected)) = (number(got), number(expected))
    {
        return got == expected;
    }
    let got = plain_terms(got);
    !got.is_empty() && got == plain_terms(expected)
}

/// An exact number in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// Numerator.
    pub numerator: i128,
    /// Denominator, positive.
    pub denominator: i128,
}

impl Number {
    /// A fraction in lowest terms; `None` for a denominator of 0, and at the very edge of the range,
    /// where a sign cannot be turned.
    pub(crate) fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 || numerator == i128::MIN || denominator == i128::MIN {
            return None;
        }
        let divisor = gcd(numerator.unsigned_abs(), denominator.unsigned_abs()) as i128;
        let sign = denominator.signum();
        Some(Self {
            numerator: sign * numerator / divisor,
            denominator: sign * denominator / divisor,
        })
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// The one number in a text, exactly; `None` when there is none, or more than one, so that naming
/// several candidates is never right, when it is part of a larger term (`5\pi`, `5x`, `\sqrt{3}`, `3!`)
/// or a bound (`x >= 5`), and when the text says "not". Understands signs, `1,234`, `3.50`, `1/2`,
/// `\frac{1}{2}`, `1 1/2`, money signs, percent and units behind the number, a trailing dot, and `a = 7`
/// and `3 + 4 = 7` (the right side counts).
pub fn number(text: &str) -> Option<Number> {
    if denies(text) {
        return None;
    }
    let text = without_commands(text);
    let pieces = numeric_pieces(right_side(&text))?;
    match pieces.as_slice() {
        [(_, one)] => fraction(one),
        // A mixed number: a whole one, a space, a proper fraction.
        [(_, whole), (between, part)]
            if is_sum(between)
                && part.contains('/')
                && !whole.contains(['/', '.'])
                && !part.starts_with('-') =>
        {
            let (whole_value, part) = (fraction(whole)?, fraction(part)?);
            let sign = if whole.starts_with('-') { -1 } else { 1 };
            let scaled = whole_value.numerator.checked_mul(part.denominator)?;
            Number::new(scaled.checked_add(sign * part.numerator)?, part.denominator)
        }
        _ => None,
    }
}

/// Whether what stands between a whole number and a fraction makes one number of them.
fn is_sum(between: &str) -> bool {
    matches!(between.trim(), "" | "and" | "&")
}

/// Whether a text says what the answer is not.
pub(crate) fn denies(text: &str) -> bool {
    text.split_whitespace().any(|word| {
        let word = word.to_lowercase().replace('’', "'");
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        matches!(word, "not" | "cannot" | "never") || word.ends_with("n't")
    })
}

/// A text without LaTeX: fractions become `1/2`, what only sets the type becomes a space, and any
/// other command a root sign, which no plain number touches. Comparisons of two signs become one, so
/// that each `=` that is left is an equation's.
fn without_commands(text: &str) -> String {
    let mut text = text
        .replace(['−', '–'], "-")
        .replace("\\$", "$")
        .replace("^{\\circ}", " ")
        .replace("^\\circ", " ")
        .replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
        .replace("-\\frac{", "-")
        .replace("\\frac{", " ")
        .replace("}{", "/")
        .replace("**", " ")
        .replace('*', "×");
    for money in ["-$", "-€", "-£"] {
        text = text.replace(money, "-");
    }
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\\') {
        let end = after.find(|c: char| !c.is_ascii_alphabetic());
        let (command, after) = after.split_at(end.unwrap_or(after.len()));
        plain.push_str(before);
        plain.push_str(match command {
            "" | "text" | "textbf" | "mathbf" | "mathrm" | "boxed" | "left" | "right" | "quad" => {
                " "
            }
            "times" | "cdot" => "×",
            "div" => "÷",
            _ => "√",
        });
        let is_space = command.is_empty() && after.starts_with([',', ';', ':', '!']);
        rest = &after[usize::from(is_space)..];
    }
    plain.push_str(rest);
    plain
        .replace(['{', '}', '$', '€', '£'], " ")
        .replace("<=", "≤")
        .replace(">=", "≥")
        .replace("!=", "≠")
}

/// What is right of the last `=`, if no number on its left could be meant: where there is none, or
/// just a sum that is worked out.
fn right_side(text: &str) -> &str {
    const OPERATORS: [char; 5] = ['+', '-', '×', '÷', '/'];
    let Some((left, right)) = text.rsplit_once('=') else {
        return text;
    };
    let is_digit = |c: char| c.is_ascii_digit();
    let is_of_sum = |c: char| {
        is_digit(c) || c.is_whitespace() || OPERATORS.contains(&c) || "=.,()%".contains(c)
    };
    let (words, sum) = left.split_at(left.trim_end_matches(is_of_sum).len());
    let is_worked = |first: usize| sum[first..].contains(OPERATORS);
    if !words.contains(is_digit) && sum.find(is_digit).is_none_or(is_worked) {
        right
    } else {
        text
    }
}

/// Maximal runs that look like numbers, each behind what is between it and the one before: a sign,
/// digits with separators, an optional `/digits`. `None` where one is part of a larger term.
fn numeric_pieces(text: &str) -> Option<Vec<(String, String)>> {
    let chars: Vec<char> = text.chars().collect();
    let mut pieces = Vec::new();
    let (mut at, mut last) = (0, 0);
    while at < chars.len() {
        if !starts_number(&chars, at) {
            at += 1;
            continue;
        }
        let end = number_end(&chars, at);
        if is_part_of_term(&chars[..at], &chars[end..]) {
            return None;
        }
        let text = |run: std::ops::Range<usize>| chars[run].iter().collect();
        pieces.push((text(last..at), text(at..end)));
        (at, last) = (end, end);
    }
    Some(pieces)
}

fn is_digit(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(char::is_ascii_digit)
}

fn starts_number(chars: &[char], at: usize) -> bool {
    let starts =
        |at: usize| is_digit(chars, at) || (chars.get(at) == Some(&'.') && is_digit(chars, at + 1));
    let is_sign = matches!(chars[at], '-' | '+') && (at == 0 || !chars[at - 1].is_alphanumeric());
    starts(at) || is_sign && starts(at + 1)
}

fn number_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        let goes_on = match chars[at] {
            '.' | '/' => is_digit(chars, at + 1),
            ',' => is_thousands(&chars[start..at], &chars[at + 1..]),
            c => c.is_ascii_digit(),
        };
        if !goes_on {
            break;
        }
        at += 1;
    }
    at
}

/// Whether a comma between these separates thousands: at most three digits before it, just three
/// behind.
fn is_thousands(before: &[char], after: &[char]) -> bool {
    let digits = |c: &&char| c.is_ascii_digit();
    let first = before.iter().rev().take_while(digits).count();
    (1..=3).contains(&first)
        && !before.contains(&'.')
        && after.iter().take_while(digits).count() == 3
}

/// Whether a root, a power, an index, a factorial, bars, π, an unknown, a division or a comparison
/// touches the number between these.
fn is_part_of_term(before: &[char], after: &[char]) -> bool {
    if starts_with_unknown(after) {
        return true;
    }
    let before = before.iter().rev().copied();
    let mut before = before.skip_while(|c| matches!(c, ' ' | '('));
    let after = after.iter().copied();
    let after = after.skip_while(|c| matches!(c, ' ' | ')'));
    let word: String = after
        .clone()
        .take_while(char::is_ascii_alphabetic)
        .collect();
    let is_root = before.clone().take(4).eq("trqs".chars());
    let touches = |c: char| matches!(c, '√' | '^' | '_' | '|' | 'π' | '/' | '≤' | '≥' | '≠');
    is_root
        || matches!(word.as_str(), "pi" | "sqrt")
        || before.next().is_some_and(touches)
        || after.clone().next().is_some_and(|c| c == '!' || touches(c))
}

/// Whether one letter stands here that is no unit: the x of `5x`, not the m of `5m`. Letters of other
/// scripts may be words.
fn starts_with_unknown(text: &[char]) -> bool {
    let mut letters = text.iter().take_while(|c| c.is_alphabetic());
    match (letters.next(), letters.next()) {
        (Some(letter), None) => letter.is_ascii() && !is_unit(*letter),
        _ => false,
    }
}

/// `12`, `-1,234.50` or `3/4` as an exact number.
fn fraction(text: &str) -> Option<Number> {
    let mut parts = text.split('/');
    let above = decimal(parts.next()?)?;
    let Some(below) = parts.next() else {
        return Some(above);
    };
    let below = decimal(below)?;
    if parts.next().is_some() {
        return None;
    }
    Number::new(
        above.numerator.checked_mul(below.denominator)?,
        above.denominator.checked_mul(below.numerator)?,
    )
}

/// Digits of a number that is read: so many always fit.
const MOST_DIGITS: usize = 37;
/// Decimals that are kept; those behind are rounded.
const MOST_PLACES: usize = 30;
/// With fewer decimals kept, rounding could make two answers equal.
const LEAST_PLACES: usize = 6;

/// `12` or `-1,234.50` as an exact number, as long as it fits; decimals far behind the point are
/// rounded.
pub(crate) fn decimal(text: &str) -> Option<Number> {
    let text = text.replace(',', "");
    let digits = text.trim_start_matches(['-', '+']);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && decimals.is_empty() {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let decimals = decimals.trim_end_matches('0');
    let room = MOST_DIGITS.checked_sub(whole.len())?.min(MOST_PLACES);
    let kept = decimals.get(..room).unwrap_or(decimals);
    if kept.len() < decimals.len().min(LEAST_PLACES) {
        return None;
    }
    let rounds_up = decimals[kept.len()..].starts_with(['5', '6', '7', '8', '9']);
    let size: i128 = format!("0{whole}{kept}").parse().ok()?;
    let size = size.checked_add(i128::from(rounds_up))?;
    let sign = if text.starts_with('-') { -1 } else { 1 };
    Number::new(sign * size, 10i128.pow(kept.len() as u32))
}

/// Text in the form in which answers are compared: lower case, one space between words, no
/// punctuation around words but signs and percent signs that touch them, no article in front, British
/// "grey" as "gray".
pub fn plain_text(text: &str) -> String {
    joined(text, plain_word)
}

/// Operators that stand between terms as words of their own.
const OPERATORS: [&str; 17] = [
    "+", "-", "±", "*", "·", "×", "/", "÷", "=", "≠", "<", ">", "≤", "≥", "<=", ">=", "!=",
];

/// Plain text with such operators, which alone tell `3\hat{i} - 2\hat{j}` from the sum of the two.
fn plain_terms(text: &str) -> String {
    joined(text, |word| match word {
        "−" | "–" => "-".to_owned(),
        word if OPERATORS.contains(&word) => word.to_owned(),
        word => plain_word(word),
    })
}

/// Words in plain form with one space between them and no article in front.
fn joined(text: &str, plain: impl Fn(&str) -> String) -> String {
    let words = text.split_whitespace().map(plain);
    let mut words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    if words.len() > 1 && matches!(words[0].as_str(), "a" | "an" | "the") {
        words.remove(0);
    }
    words.join(" ")
}

fn plain_word(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_alphanumeric());
    let Some((before, after)) = word.split_once(core).filter(|_| !core.is_empty()) else {
        return String::new();
    };
    let sign = |c: Option<char>| match c {
        Some('-' | '−') => "-",
        Some('+') => "+",
        Some('%') => "%",
        _ => "",
    };
    let first = sign(before.trim_end_matches(['\\', '$']).chars().next_back());
    let last = sign(after.trim_start_matches(['\\', '$']).chars().next());
    let core = core.to_lowercase();
    let core = if core == "grey" { "gray" } else { &core };
    format!("{first}{core}{last}")
}
