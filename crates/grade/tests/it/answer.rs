//! Final answers, numbers and formats.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mmada_data::Pack;
use mmada_grade::answer::{final_answer, number, plain_text, same_answer};
use mmada_grade::grader::{
    ExactAnswer, ExactText, Grader, PlainText, Reply, Steps, ThinkFormat, Truth,
};

#[test]
fn final_answers_are_cut_out_of_replies() {
    for (reply, expected) in [
        ("42", "42"),
        ("  42 \n", "42"),
        ("<think>6 * 7 = 42.</think>42", "42"),
        ("<think>a</think> The answer is 42.", "42."),
        ("<think>endless thought 42", ""),
        ("Hence \\boxed{\\frac{1}{2}} holds", "\\frac{1}{2}"),
        ("so\n#### 1,234", "1,234"),
        ("</think>7", "7"),
        ("</think>7<think>", ""),
        ("\\boxed{5} or \\boxed{6", "5"),
        ("\\boxed{\\boxed{5}}", "5"),
        ("\\boxed{5}. The answer is a length.", "5"),
        (
            "I think the answer is: 5. Let me check. No, the answer is 6",
            "6",
        ),
        ("#### Step 2: 3 + 4 = 7\nThe answer is 7", "7"),
        ("The answer is near.\n#### 7\n", "7"),
        ("#### 7\nThat is all.", "7\nThat is all."),
        ("ANSWER:B", "B"),
        ("Answer is: 5", "5"),
        ("The answer isn't 5", "The answer isn't 5"),
        ("The answer issued: 5", "The answer issued: 5"),
        ("", ""),
    ] {
        assert_eq!(final_answer(reply), expected, "{reply:?}");
    }
}

#[test]
fn answers_are_equal_as_numbers() {
    for (got, expected) in [
        ("1,042", "1042"),
        ("42.", "42"),
        ("42.0", "42"),
        ("+42", "42"),
        ("−5", "-5"),
        ("42 legs", "42"),
        ("$3.50", "3.5"),
        ("50%", "50"),
        ("1/2", "0.5"),
        ("2/4", "1/2"),
        ("\\frac{1}{2}", "0.5"),
        ("1 1/2", "1.5"),
        ("-1 1/2", "-1.5"),
        ("6 * 7 = 42", "42"),
        ("It is -7.", "-7"),
        (".5", "1/2"),
        ("0", "-0"),
    ] {
        assert!(same_answer(got, expected), "{got:?} {expected:?}");
    }
    for (got, expected) in [
        ("41 or 42", "42"),
        ("42", "-42"),
        ("4.2", "42"),
        ("", "42"),
        ("", ""),
        ("1/0", "0"),
        ("no number", "0"),
        ("99999999999999999999999999999999999999999", "9"),
    ] {
        assert!(!same_answer(got, expected), "{got:?} {expected:?}");
    }
    assert_eq!(number("no digits"), None);
}

/// Sentences around a number: right only where the number is all that is told.
#[test]
fn numbers_are_cut_out_of_sentences() {
    for (got, expected) in [
        ("The value is 3", "3"),
        ("It is -$5.", "-5"),
        ("It is -\\$5.", "-5"),
        ("It costs $1,234.50 in all.", "1234.5"),
        ("It is \\frac{1}{2} of it", "\\frac{1}{2}"),
        ("It is -\\frac{1}{2} then", "-0.5"),
        ("It is 1\\frac{1}{2} then", "1 1/2"),
        ("It is 1 and 1/2 of them", "1.5"),
        ("So it is \\textbf{5}", "5"),
        ("The angle is 30^\\circ", "30"),
        (
            "It is 12\\text{ inches} long, I think",
            "12 \\text{ inches}",
        ),
        ("It is 50\\% of it", "50%"),
        ("So 3 + 4 = 7 legs are left", "7"),
        ("We get 12 \\times 3 = 36 + 6 = 42 legs", "42"),
        ("So x = 5 holds here", "5"),
        ("It is 5m long", "5"),
        ("一共5元", "5"),
    ] {
        assert!(same_answer(got, expected), "{got:?} {expected:?}");
    }
    for (got, expected) in [
        ("The value is 3", "\\sqrt{3}"),
        ("The value is 3", "3\\pi"),
        ("The value is 3", "3!"),
        ("The value is 3", "|3|"),
        ("It is 2", "\\frac{\\pi}{2}"),
        ("It is 5", "\\mathbb{Z}_5"),
        ("It is 3", "3\\hat{i}"),
        ("5", "\\mathbb{Z}_5"),
        ("The answer is therefore $5\\pi$", "5"),
        ("The answer is therefore 5 pi", "5"),
        ("The answer is therefore 5π", "5"),
        ("So it equals \\sqrt{3}", "3"),
        ("So it equals sqrt(3)", "3"),
        ("So it equals √3", "3"),
        ("So it equals \\frac{\\pi}{2}", "2"),
        ("So it equals \\frac{5}{\\pi}", "5"),
        ("So it equals 3!", "3"),
        ("So it equals x_3", "3"),
        ("So it equals x^3", "3"),
        ("So it equals |-3|", "-3"),
        ("The slope is 5x.", "5"),
        ("So x >= 5 holds", "5"),
        ("So 5 <= x holds", "5"),
        ("So x != 5 here", "5"),
        ("It is -\\frac{1}{2} then", "0.5"),
        ("It is -$5.", "5"),
        ("The total is 12 when x = 4", "4"),
        ("The total is 12 when x = 4", "12"),
        ("x = 5 or maybe x = 3", "3"),
        ("It is 5 or 1/2", "5.5"),
        ("It is 5 or 1/2", "5"),
        ("the roots are 3,4", "34"),
        ("the roots are 3,4", "4"),
        ("it is 1234,567 then", "1234567"),
        ("The answer isn't 5", "5"),
        ("not 5", "5"),
        ("It cannot be 5", "5"),
    ] {
        assert!(!same_answer(got, expected), "{got:?} {expected:?}");
    }
}

#[test]
fn long_numbers_are_exact() {
    for (got, expected) in [
        ("It is 18446744073709551616 then", "18446744073709551616"),
        ("It is 0000000000000000000000000000000000000000042.0", "42"),
        ("1.0000000000000000000000000000000000000000000001", "1"),
    ] {
        assert!(same_answer(got, expected), "{got:?} {expected:?}");
    }
    for (got, expected) in [
        ("It is 18446744073709551617 then", "18446744073709551616"),
        (
            "123456789012345678901234567890123456.25",
            "123456789012345678901234567890123456.3",
        ),
    ] {
        assert!(!same_answer(got, expected), "{got:?} {expected:?}");
    }
}

#[test]
fn answers_are_equal_as_plain_text() {
    assert_eq!(plain_text(" A  Blue, rectangle. "), "blue rectangle");
    assert_eq!(plain_text("the"), "the");
    assert!(same_answer("Grey", "gray"));
    assert!(same_answer("Yes.", "yes"));
    assert!(!same_answer("yes", "no"));
    for (text, plain) in [
        ("(-\\vec{a})", "-vec{a"),
        ("−5", "-5"),
        ("about 5%.", "about 5%"),
        ("about 5\\%.", "about 5%"),
        ("type O+, blood", "type o+ blood"),
        ("so - it - is", "so it is"),
    ] {
        assert_eq!(plain_text(text), plain, "{text:?}");
    }
    for (got, expected) in [("-\\vec{a}", "\\vec{a}"), ("type O+", "type O-")] {
        assert!(!same_answer(got, expected), "{got:?} {expected:?}");
        assert!(same_answer(got, got), "{got:?}");
    }
}

#[test]
fn the_think_format_is_one_pair_of_tags_in_front_of_an_answer() {
    for (reply, expected) in [
        ("<think>a</think>b", true),
        (" <think>a</think> b\n", true),
        ("<think></think>b", false),
        ("<think>a</think>", false),
        ("a<think>a</think>b", false),
        ("<think>a</think>b</think>", false),
        ("<think>a", false),
        ("b", false),
    ] {
        let grade = ThinkFormat.grade(Reply::Text(reply), Truth::Unknown);
        assert_eq!(grade, f64::from(expected), "{reply:?}");
    }
}

#[test]
fn steps_count_until_the_first_that_differs() {
    let thought = "41 + 20 = 61. 61 - 58.5 = 2.5.";
    let known = Truth::Reasoned {
        thought,
        answer: "2.5",
    };
    for (reply, right) in [
        ("<think>41 + 20 = 61. 61 - 58.5 = 2.5.</think>2.5", 3.0),
        ("<think>41 + 20 = 61.\n61 - 58.5 = 2.5</think>5/2", 3.0),
        ("<think>41 + 20 = 61. 61 - 58.5 = 2.5.</think>3", 2.0),
        ("<think>41 + 20 = 61. 61 - 58.5 = 3.</think>2.5", 1.0),
        ("<think>41 + 20 = 51. 61 - 58.5 = 2.5.</think>2.5", 0.0),
        ("<think>41 + 20 = 61.</think>2.5", 1.0),
        ("2.5", 0.0),
        ("<think>", 0.0),
        ("", 0.0),
    ] {
        let grade = Steps.grade(Reply::Text(reply), known);
        assert_eq!(grade, right / 3.0, "{reply:?}");
        // The other graders of text look at the answer alone.
        let graders: [&dyn Grader; 3] = [&ExactAnswer, &PlainText, &ExactText];
        for grader in graders {
            let [with, without] =
                [known, Truth::Text("2.5")].map(|truth| grader.grade(Reply::Text(reply), truth));
            assert_eq!(with, without, "{} {reply:?}", grader.name());
        }
    }
    assert_eq!(Steps.grade(Reply::Text("2.5"), Truth::Text("2.5")), 1.0);
    assert_eq!(Steps.grade(Reply::Text("2.5"), Truth::Unknown), 0.0);
}

/// Graders are generous: "xy" is "yx", a list with commas has no order, 6/8 is 3/4. The answers of
/// the reasoning pack are written so that none of this makes a wrong one right.
#[test]
fn answers_of_the_reasoning_pack_are_told_apart() {
    let dir = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../assets/data/reasoning"
    ));
    let pack = Pack::open(dir).unwrap();
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for split in ["validation", "test", "test_unseen_kinds"] {
        for item in pack.reasoning(split).unwrap().map(Result::unwrap) {
            assert!(same_answer(&item.answer, &item.answer), "{}", item.answer);
            let kind = kinds.entry(item.template.unwrap()).or_default();
            // Wrong answers that look right: the parts the other way round, and one left out.
            let parts: Vec<&str> = item.answer.split(' ').collect();
            let mut turned = parts.clone();
            turned.reverse();
            for wrong in [turned.join(" "), parts[1..].join(" ")] {
                let is_same = same_answer(&wrong, &item.answer);
                assert_eq!(is_same, wrong == item.answer, "{wrong}: {}", item.answer);
            }
            kind.insert(item.answer);
        }
    }
    assert_eq!(kinds.len(), 21);
    for (kind, answers) in &kinds {
        for got in answers {
            for expected in answers.iter().filter(|expected| *expected != got) {
                assert!(!same_answer(got, expected), "{kind}: {got}, {expected}");
            }
        }
    }
}
