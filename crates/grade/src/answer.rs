//! Whether a text answers right: the final answer is cut out of a reply and compared in a normal
//! form, numbers as exact fractions.
//!
//! ```text
//!   <think>8 * 4 = 32 …</think>The answer is 1,042.00 legs.
//!                               └── final_answer ──┘ └number┘  = 1042/1
//! ```

use crate::equality::Answer;

/// The part of a reply that answers: after `</think>`, inside the last `\boxed{…}`, after
/// `####`, or after "answer is"; the trimmed reply otherwise. A thought that never ends answers
/// nothing.
pub fn final_answer(reply: &str) -> &str {
    let after = match (reply.rfind("</think>"), reply.contains("<think>")) {
        (Some(end), _) => &reply[end + "</think>".len()..],
        (None, true) => return "",
        (None, false) => reply,
    };
    if let Some(inner) = boxed(after) {
        return inner.trim();
    }
    for mark in [
        "####",
        "answer is:",
        "Answer is:",
        "answer is",
        "Answer is",
        "Answer:",
        "answer:",
    ] {
        if let Some(at) = after.rfind(mark) {
            return after[at + mark.len()..].trim();
        }
    }
    after.trim()
}

/// Contents of the last `\boxed{…}` with balanced braces.
fn boxed(text: &str) -> Option<&str> {
    let start = text.rfind("\\boxed{")? + "\\boxed{".len();
    let mut depth = 1;
    for (offset, c) in text[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + offset]);
        }
    }
    None
}

/// Whether two final answers mean the same. Two mathematical answers are compared by
/// [`equality`](crate::equality). Where one of them is a sentence, the only number in it counts, if a
/// number is expected; else both are compared in [`plain_text`] form. An empty answer is never right.
pub fn same_answer(got: &str, expected: &str) -> bool {
    let truth = Answer::read(expected);
    if let (Some(got), Some(truth)) = (Answer::read(got), &truth) {
        return got.equals(truth);
    }
    let expects_number = truth.is_none_or(|truth| truth.is_number());
    match (number(got), number(expected)) {
        (Some(got), Some(expected)) if expects_number => got == expected,
        _ => {
            let got = plain_text(got);
            !got.is_empty() && got == plain_text(expected)
        }
    }
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
/// several candidates is never right. Understands signs, `1,234`, `3.50`, `1/2`, `\frac{1}{2}`,
/// `1 1/2`, money signs, percent and units behind the number, a trailing dot, and `a = 7` (the
/// right side counts).
pub fn number(text: &str) -> Option<Number> {
    let text = text.rsplit('=').next().unwrap_or(text);
    let text = text
        .replace(['−', '–'], "-")
        .replace("\\dfrac", "\\frac")
        .replace("\\frac{", " ")
        .replace("}{", "/")
        .replace(['{', '}', '$', '€', '£', '\\', '*'], " ");
    let pieces = numeric_pieces(&text);
    match pieces.as_slice() {
        [one] => fraction(one),
        // A mixed number: a whole one, a space, a proper fraction.
        [whole, part]
            if part.contains('/') && !whole.contains(['/', '.']) && !part.starts_with('-') =>
        {
            let (whole_value, part) = (fraction(whole)?, fraction(part)?);
            let sign = if whole.starts_with('-') { -1 } else { 1 };
            let scaled = whole_value.numerator.checked_mul(part.denominator)?;
            Number::new(scaled.checked_add(sign * part.numerator)?, part.denominator)
        }
        _ => None,
    }
}

/// Maximal runs that look like numbers: a sign, digits with separators, an optional `/digits`.
fn numeric_pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let is_digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let mut pieces = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let is_sign = matches!(chars[i], '-' | '+')
            && (is_digit(i + 1) || (chars.get(i + 1) == Some(&'.') && is_digit(i + 2)))
            && (i == 0 || !chars[i - 1].is_alphanumeric());
        let starts = is_digit(i) || (chars[i] == '.' && is_digit(i + 1)) || is_sign;
        if !starts {
            i += 1;
            continue;
        }
        let start = i;
        i += 1;
        while i < chars.len()
            && (is_digit(i) || (matches!(chars[i], '.' | ',' | '/') && is_digit(i + 1)))
        {
            i += 1;
        }
        pieces.push(chars[start..i].iter().collect());
    }
    pieces
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

pub(crate) fn decimal(text: &str) -> Option<Number> {
    let text = text.replace(',', "");
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    // More digits than this cannot be an answer, and would overflow the products above.
    if whole.len() + decimals.len() > 18 {
        return None;
    }
    let digits = format!("{whole}{decimals}");
    Number::new(digits.parse().ok()?, 10i128.pow(decimals.len() as u32))
}

/// Text in the form in which answers are compared: lower case, one space between words, no
/// punctuation around words, no article in front, British "grey" as "gray".
pub fn plain_text(text: &str) -> String {
    let mut words: Vec<String> = text
        .split_whitespace()
        .map(|word| {
            word.trim_matches(|c: char| !c.is_alphanumeric())
                .to_lowercase()
        })
        .filter(|word| !word.is_empty())
        .map(|word| {
            if word == "grey" {
                "gray".to_owned()
            } else {
                word
            }
        })
        .collect();
    if words.len() > 1 && matches!(words[0].as_str(), "a" | "an" | "the") {
        words.remove(0);
    }
    words.join(" ")
}
