//! What the sums' pack derives from its training part: the same problems in other words or smaller
//! steps, small and everyday ones, and nothing that a test or validation problem asks.

use std::collections::{BTreeMap, BTreeSet};

use mmada_data::{Example, Part, SourceConfig, View};
use mmada_tokens::Task;

use crate::derived::{
    asked_numbers, chats, examples, source_of, steps_of, texts, true_equations, value,
};
use crate::packs::{data, pack};

#[test]
fn derived_steps_are_those_of_the_training_thoughts() {
    let steps = |text: &str| -> BTreeSet<String> {
        let parts = text.split_inclusive('.').map(|step| step.trim().to_owned());
        parts.filter(|step| !step.is_empty()).collect()
    };
    let folder = data("arithmetic");
    let sums = chats(&folder.join("derived/small.jsonl.zst"));
    let thoughts = sums.iter().filter_map(|sum| sum.thought.as_deref());
    let expected: BTreeSet<String> = thoughts.flat_map(steps).collect();
    let lines = texts(
        &folder.join("derived/steps.jsonl.zst"),
        View::new(Task::Text),
    );
    let derived: Vec<String> = lines.iter().flat_map(|line| steps(&line.answer)).collect();
    assert_eq!(derived.len(), 12_311, "each step once");
    assert_eq!(derived.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// The training sums that are not held out for validation, with true steps.
#[test]
fn sums_in_smaller_steps_are_those_of_training() {
    let folder = data("arithmetic");
    let train = SourceConfig {
        part: Some(Part::Train),
        ..source_of(&folder.join("train.jsonl.zst"), View::new(Task::Chat))
    };
    let train = examples(&train);
    let small = chats(&folder.join("derived/small.jsonl.zst"));
    assert_eq!(train.len(), small.len());
    let (mut others, mut equations) = (0, 0);
    for (sum, smaller) in train.iter().zip(&small) {
        assert_eq!(sum.prompt, smaller.prompt);
        assert_eq!(sum.answer, smaller.answer);
        others += usize::from(sum.thought != smaller.thought);
        equations += true_equations(smaller.thought.as_deref().unwrap());
    }
    assert!(equations > 30_000, "{equations}");
    assert!((600..660).contains(&others), "{others}");
}

/// The same thoughts and answers behind other words; no sum that a test or validation problem asks.
#[test]
fn sums_asked_in_other_words_are_those_of_training() {
    let folder = data("arithmetic");
    let about = |question: &str| -> String {
        let spoken = [
            ("divided by", "/"),
            ("times", "*"),
            ("plus", "+"),
            ("minus", "-"),
            ("x", "*"),
        ];
        let words = spoken
            .into_iter()
            .fold(question.to_owned(), |text, (word, sign)| {
                text.replace(word, sign)
            });
        let is_sum = |c: &char| c.is_ascii_digit() || "+-*/()".contains(*c);
        words.chars().filter(is_sum).collect()
    };
    let read = |file: &str| chats(&folder.join(file));
    let key = |sum: &Example| (sum.thought.clone().unwrap(), sum.answer.clone());
    let train = read("derived/small.jsonl.zst");
    let thoughts: BTreeSet<_> = train.iter().map(key).collect();
    let known: BTreeSet<&str> = train.iter().map(|sum| sum.prompt.as_str()).collect();
    let asked = read("derived/asked.jsonl.zst");
    assert_eq!(asked.len(), 19_362);
    assert!(asked.iter().all(|sum| thoughts.contains(&key(sum))));
    let news = asked.iter().filter(|sum| !known.contains(&*sum.prompt));
    assert!(news.count() > 19_000, "in other words");
    let pack = pack("arithmetic");
    let mut apart = BTreeSet::new();
    for split in ["test", "validation"] {
        for item in pack.reasoning(split).unwrap() {
            let item = item.unwrap();
            if item.template.as_deref() != Some("leg_counting") {
                apart.insert(about(&item.question));
            }
        }
    }
    assert!(apart.len() > 500, "{}", apart.len());
    for split in ["test", "validation"] {
        for item in crate::packs::pack("reasoning").reasoning(split).unwrap() {
            let item = item.unwrap();
            if item.template.as_deref() == Some("products") {
                let question = item.question.replace(" by ", " * ");
                let factors: Vec<&str> = question
                    .split(|c: char| !c.is_ascii_digit())
                    .filter(|part| !part.is_empty())
                    .collect();
                let [a, b] = factors[..] else {
                    panic!("{question}")
                };
                apart.insert(format!("{a}*{b}"));
                apart.insert(format!("{b}*{a}"));
            }
        }
    }
    let is_sum = |sum: &&Example| !sum.prompt.contains("legs");
    let facts = read("derived/facts.jsonl.zst");
    let everyday = read("derived/everyday.jsonl.zst");
    for sum in asked.iter().filter(is_sum).chain(&facts).chain(&everyday) {
        assert!(!apart.contains(&about(&sum.prompt)), "{}", sum.prompt);
    }
    // The smallest sums, each in four wordings, with a step that is the sum and true.
    assert_eq!(facts.len(), 1768);
    let mut wordings = BTreeMap::<String, BTreeSet<&str>>::new();
    for fact in &facts {
        let thought = fact.thought.as_deref().unwrap();
        let (sum, result) = thought.split_once(" = ").unwrap();
        assert_eq!(about(sum), about(&fact.prompt));
        assert_eq!(result, format!("{}.", fact.answer));
        let [a, sign, b] = sum.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{sum}")
        };
        let (a, b): (i64, i64) = (a.parse().unwrap(), b.parse().unwrap());
        let expected = match sign {
            "+" => a + b,
            "-" => a - b,
            _ => a * b,
        };
        assert_eq!(fact.answer, expected.to_string(), "{sum}");
        wordings
            .entry(sum.to_owned())
            .or_default()
            .insert(&fact.prompt);
    }
    assert!(wordings.values().all(|asked| asked.len() == 4));
    // Everyday sums end in the value of what is asked, by true steps.
    assert_eq!(everyday.len(), 5700);
    let mut shares = 0;
    for sum in &everyday {
        let thought = sum.thought.as_deref().unwrap();
        assert_eq!(true_equations(thought), steps_of(thought).count());
        let share = share_asked(&sum.prompt);
        if share.is_some() {
            shares += 1;
            // A half is a quotient, a percentage and a double are products.
            let numbers = asked_numbers(&sum.prompt);
            let (n, by) = (numbers[numbers.len() - 1], numbers[0]);
            let factor = if numbers.len() == 2 { by } else { 2 };
            let asks = match sum.prompt.contains("half") {
                true => vec![format!("{n}/2")],
                false => vec![format!("{n}*{factor}"), format!("{factor}*{n}")],
            };
            assert!(asks.iter().all(|it| !apart.contains(it)), "{}", sum.prompt);
        }
        let result = share.unwrap_or_else(|| {
            let spaced: String = about(&sum.prompt);
            let signs = |c: char| "+-*/".contains(c);
            let at = 1 + spaced[1..].find(signs).unwrap();
            let sides = (&spaced[..at], &spaced[at..=at], &spaced[at + 1..]);
            value(&format!("{} {} {}", sides.0, sides.1, sides.2)).unwrap()
        });
        let answer = sum.answer.parse::<f64>().unwrap();
        assert!((result - answer).abs() < 1e-6, "{}", sum.prompt);
    }
    assert_eq!(shares, 900);
}

/// A percentage, the half or the double that a question asks for.
fn share_asked(question: &str) -> Option<f64> {
    let numbers = asked_numbers(question);
    let words: Vec<&str> = question
        .split([' ', '?'])
        .filter(|w| !w.is_empty())
        .collect();
    match numbers[..] {
        [percent, n] if question.contains('%') || words.contains(&"percent") => {
            Some((percent * n) as f64 / 100.0)
        }
        [n] if words.contains(&"half") => Some(n as f64 / 2.0),
        [n] if words.contains(&"double") || words.contains(&"twice") => Some(n as f64 * 2.0),
        _ => None,
    }
}
