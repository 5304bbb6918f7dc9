//! The equality of mathematical answers: tables of decided pairs, and texts that mean harm.

use std::time::{Duration, Instant};

use mmada_grade::answer::same_answer;
use mmada_grade::equality::Answer;
use proptest::prelude::*;

/// Pairs with math-verify's decision; the origin is stated in the first file.
const TABLES: [&str; 2] = [
    include_str!("../equality.tsv"),
    include_str!("../equality_plain.tsv"),
];

#[test]
fn pairs_are_decided_as_math_verify_decides_them() {
    let mut wrong = Vec::new();
    let (mut equal, mut unequal) = (0, 0);
    let lines = TABLES.into_iter().flat_map(str::lines);
    for line in lines.filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (got, expected, theirs) = (columns[0], columns[1], columns[2] == "equal");
        // A fourth column says why this house decides otherwise; it must be true that it does.
        let ours = theirs != (columns.len() == 4);
        *(if ours { &mut equal } else { &mut unequal }) += 1;
        if same_answer(got, expected) != ours {
            wrong.push(format!("{got:?} {expected:?}: expected {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(equal >= 100 && unequal >= 60, "{equal} {unequal}");
}

/// Each letter stands for an unknown of either sign, and each pair for two that differ.
#[test]
fn letters_have_values_that_tell_terms_apart() {
    // e is a number.
    let letters: Vec<char> = ('a'..='z').filter(|letter| *letter != 'e').collect();
    for v in &letters {
        let name = v.to_string();
        for other in [format!("\\sqrt{{{v}^2}}"), format!("|{v}|")] {
            assert!(!same_answer(&other, &name), "{other}");
        }
        let sign = format!("(-1)^{v}");
        for other in ["1", "-1", &format!("(-1)^{{{v}+1}}")] {
            assert!(!same_answer(&sign, other), "{sign} {other}");
        }
        let (all, next) = (format!("({v}+1)!"), format!("({v}+1){v}!"));
        assert!(same_answer(&all, &next), "{all}");
        let (inverse, arc) = (format!("2\\sin^{{-1}} {v}"), format!("\\arcsin({v})2"));
        assert!(same_answer(&inverse, &arc), "{inverse}");
        for w in letters.iter().filter(|w| *w > v) {
            let (product, size) = (format!("{v} \\cdot {w}"), format!("|{v} \\cdot {w}|"));
            assert!(!same_answer(&product, &size), "{size}");
            assert!(!same_answer(&format!("{v}!"), &format!("{w}!")), "{v} {w}");
        }
    }
}

/// Pieces of answers; strung together at random they are mostly nonsense, and nested.
const PIECES: [&str; 45] = [
    "\\frac",
    "\\sqrt",
    "\\text{",
    "\\boxed{",
    "\\left",
    "\\{",
    "\\}",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "|",
    "^",
    "_",
    "!",
    "%",
    "\\pm",
    "\\cup",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    ",",
    "=",
    "<",
    "\\ge",
    "-",
    "+",
    "/",
    "*",
    "9",
    "1,000",
    ".5",
    "x",
    "\\pi",
    "sin",
    " cm ",
    " m",
    "/s",
    " yrs",
    "√",
    "\\,000",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_text_is_judged_without_a_panic(got in "\\PC{0,60}", expected in "\\PC{0,60}") {
        same_answer(&got, &expected);
    }

    #[test]
    fn nonsense_of_mathematics_is_judged_without_a_panic(
        got in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..30),
        expected in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..30),
    ) {
        let (got, expected) = (got.concat(), expected.concat());
        same_answer(&got, &expected);
        if let (Some(got), Some(expected)) = (Answer::read(&got), Answer::read(&expected)) {
            prop_assert_eq!(got.equals(&expected), expected.equals(&got));
            prop_assert!(got.equals(&got) && expected.equals(&expected));
        }
    }
}

#[test]
fn the_work_is_bounded() {
    let nested = |open: &str, inside: &str, close: &str, times: usize| {
        format!("{}{inside}{}", open.repeat(times), close.repeat(times))
    };
    let start = Instant::now();
    for text in [
        nested("(", "1", ")", 400),
        nested("\\{", "1", "\\}", 35),
        nested("\\{1,", "1", "\\}", 35),
        nested("3\\frac{", "1", "}{2}", 35),
        nested("3\\frac{", "1", "}{2}", 140),
        nested("9^{", "9", "}", 30),
        nested("1/(x+", "1", ")", 35),
        nested("(1,", "1", ")", 38),
        "sin".repeat(300),
        "-".repeat(900),
        "9!".repeat(400),
        "\\text{".repeat(160),
        "1,".repeat(499),
        "9".repeat(999),
        "(".repeat(1_000_000),
        vec!["2^{127}"; 100].join("*"),
        vec!["\\pm x"; 100].join(","),
        vec!["399!"; 200].join("*"),
        "2^{99999999999999999999}".to_owned(),
        "\\binom{99999999999999999999}{399}".repeat(20),
    ] {
        same_answer(&text, &text);
        same_answer(&text, "1");
    }
    let [some, others] = [0, 1].map(|more| {
        let factorials = (200..390).map(|n| format!("{}!", n + more));
        factorials.collect::<Vec<_>>().join(",")
    });
    assert!(!same_answer(&some, &others));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    let point = nested("(", "1", ")", 400);
    assert!(Answer::read(&point).is_none() && Answer::read("((1))").is_some());
}
