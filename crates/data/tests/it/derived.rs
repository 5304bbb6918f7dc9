//! What the worded problems and the shapes derive from their training parts, and nothing that a test or
//! validation problem asks; the sums are in `sums`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mmada_data::{Example, Source, SourceConfig, SourceKind, Stores, Template, View};
use mmada_tokens::Task;

use crate::packs::{data, pack};

/// The texts of a JSONL source, one pass.
pub(crate) fn texts(path: &Path, view: View) -> Vec<Example> {
    examples(&source_of(path, view))
}

/// The conversations of a JSONL source, one pass.
pub(crate) fn chats(path: &Path) -> Vec<Example> {
    texts(path, View::new(Task::Chat))
}

pub(crate) fn source_of(path: &Path, view: View) -> SourceConfig {
    let paths = vec![path.display().to_string()];
    SourceConfig::new("texts", SourceKind::Jsonl, paths, view)
}

pub(crate) fn examples(cfg: &SourceConfig) -> Vec<Example> {
    let source = Source::open(cfg, Path::new("."), 1, &mut Stores::default()).unwrap();
    source.iter_once().map(Result::unwrap).collect()
}

#[test]
fn derived_questions_are_those_of_the_training_pictures_and_balanced() {
    let folder = data("shapes");
    let view = |prompt: &str| View {
        prompt: Template::parse(prompt).ok(),
        answer: Template::parse("{answer}").ok(),
        ..View::new(Task::Chat)
    };
    let toml = format!(
        "name = 'asked'\nkind = 'conversations'\npaths = ['{}']\n\
         join = {{ paths = ['{}'], on = 'image' }}\nviews = []",
        folder.join("train_conversations.json").display(),
        folder.join("train_captions.jsonl").display()
    );
    let mut cfg: SourceConfig = toml::from_str(&toml).unwrap();
    // Pictures of the held-out pairs have no caption, and make no example.
    cfg.views = vec![view("{caption}. {question}")];
    let asked = Source::open(&cfg, Path::new("."), 1, &mut Stores::default()).unwrap();
    let known: BTreeSet<(String, String)> = asked
        .iter_once()
        .map(Result::unwrap)
        .map(|example| (example.prompt, example.answer))
        .collect();
    let lines = texts(
        &folder.join("derived/read.jsonl.zst"),
        view("{caption}. {question}"),
    );
    assert_eq!(lines.len(), 5976);
    let mut answers: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for line in lines {
        let question = line.prompt.split_once(". ").unwrap().1.to_owned();
        let counts = answers.entry(question).or_default();
        *counts.entry(line.answer.clone()).or_default() += 1;
        assert!(known.contains(&(line.prompt, line.answer)));
    }
    assert_eq!(answers.len(), 107);
    for (question, counts) in answers {
        let mut counts = counts.into_values();
        let first = counts.next().unwrap();
        assert!(counts.all(|count| count == first), "{question}");
    }
}

#[test]
fn centred_shapes_are_training_shapes_of_every_kind() {
    let lines = |name: &str| std::fs::read_to_string(data("shapes").join(name)).unwrap();
    let (known, centred) = (
        lines("train_captions.jsonl"),
        lines("derived/centred.jsonl"),
    );
    let known: BTreeSet<&str> = known.lines().collect();
    assert!(centred.lines().all(|line| known.contains(line)));
    for shape in ["circle", "rectangle", "triangle"] {
        let of_it = centred.lines().filter(|line| line.contains(shape));
        assert!(of_it.count() >= 10, "{shape}");
    }
}

/// The value of a chain of plain numbers; `*` and `/` before `+` and `-`.
pub(crate) fn value(text: &str) -> Option<f64> {
    let mut words = text.split(' ');
    let mut terms = vec![words.next()?.parse::<f64>().ok()?];
    while let Some(sign) = words.next() {
        let number = words.next()?.parse::<f64>().ok()?;
        match sign {
            "+" => terms.push(number),
            "-" => terms.push(-number),
            "*" => *terms.last_mut()? *= number,
            "/" => *terms.last_mut()? /= number,
            _ => return None,
        }
    }
    Some(terms.into_iter().sum())
}

/// What a step says is equal: the sides of `5 * 42 = 200 + 10 = 210`; of a division, as in
/// `66 / 9: 7 * 9 = 63, 66 - 63 = 3: 7 r 3`, those on the way, and the number with what it gives.
fn equations(step: &str) -> Option<Vec<Vec<f64>>> {
    let equal = |text: &str| -> Option<Vec<f64>> { text.split(" = ").map(value).collect() };
    let (head, told) = step.split_once(": ").unwrap_or((step, ""));
    let Some((number, divisor)) = head.split_once(" / ") else {
        return Some(vec![equal(head)?]);
    };
    let (Some(number), Some(divisor)) = (value(number), value(divisor)) else {
        return Some(vec![equal(head)?]);
    };
    let mut parts = told.split(": ");
    let mut found = Vec::new();
    let mut result = parts.next()?;
    if result.contains(" = ") {
        found = result.split(", ").map(equal).collect::<Option<_>>()?;
        result = parts.next()?;
    }
    let (quotient, rest) = result.split_once(" r ")?;
    let rest = value(rest)?;
    assert!(rest < divisor, "{step}");
    found.push(vec![number, value(quotient)? * divisor + rest]);
    Some(found)
}

/// How many steps of a thought have equations, each of which is true.
pub(crate) fn true_equations(thought: &str) -> usize {
    let told = steps_of(thought).filter_map(equations);
    let told = told.filter(|step| step.iter().all(|sides| sides.len() > 1));
    told.inspect(|step| {
        let is_true = |sides: &Vec<f64>| sides.iter().all(|side| (side - sides[0]).abs() < 1e-6);
        assert!(step.iter().all(is_true), "{thought}");
    })
    .count()
}

pub(crate) fn steps_of(thought: &str) -> impl Iterator<Item = &str> {
    thought.trim_end_matches('.').split(". ")
}

/// Questions and answers stay, thoughts of eleven kinds are others, and every equation is true.
#[test]
fn smaller_steps_solve_the_training_problems() {
    let folder = data("reasoning");
    let read = |file: &str| chats(&folder.join(file));
    let train = read("train.jsonl.zst");
    let small = read("derived/small.jsonl.zst");
    assert_eq!(train.len(), small.len());
    let (mut others, mut equations) = (0, 0);
    for (problem, smaller) in train.iter().zip(&small) {
        assert_eq!(problem.prompt, smaller.prompt);
        assert_eq!(problem.answer, smaller.answer, "{}", problem.prompt);
        others += usize::from(problem.thought != smaller.thought);
        equations += true_equations(smaller.thought.as_deref().unwrap());
    }
    assert!((22_000..23_000).contains(&others), "{others}");
    assert!(equations > 50_000, "{equations}");
}

/// Further problems of nine kinds: true steps that end in the answer, and none twice or held out.
#[test]
fn drawn_problems_are_new_and_true() {
    let folder = data("reasoning");
    let drawn = chats(&folder.join("derived/drawn.jsonl.zst"));
    let mut taken = BTreeSet::new();
    for split in ["test", "validation", "test_unseen_kinds"] {
        for item in pack("reasoning").reasoning(split).unwrap() {
            let item = item.unwrap();
            taken.extend(about(item.template.as_deref().unwrap(), &item.question));
        }
    }
    assert!(taken.len() > 900, "{}", taken.len());
    let mut equations = 0;
    for problem in &drawn {
        let kind = drawn_kind(&problem.prompt);
        for item in about(kind, &problem.prompt) {
            assert!(taken.insert(item), "{}", problem.prompt);
        }
        if kind == "joined" {
            let words: Vec<String> = letters_together(&problem.prompt).collect();
            assert_eq!(problem.answer, words.join(" "));
            continue;
        }
        let thought = problem.thought.as_deref().unwrap();
        equations += true_equations(thought);
        let last = steps_of(thought).last().unwrap();
        let asked = asked_numbers(&problem.prompt);
        match kind {
            "spell_backward" => {
                let word: String = quoted(&problem.prompt).chars().rev().collect();
                assert_eq!(problem.answer, word);
                assert_eq!(last.replace(' ', ""), word);
            }
            "letter_counting" => {
                let letter = problem.prompt.split("letter ").nth(1).unwrap();
                let text = quoted(&problem.prompt);
                let count = text.matches(&letter[..1]).count();
                assert_eq!(problem.answer, count.to_string());
                let mut told = thought.matches(|c: char| c.is_ascii_digit());
                assert_eq!(told.next_back().unwrap(), problem.answer, "{thought}");
            }
            "word_sorting" => {
                let mut words: Vec<&str> = problem.answer.split(' ').collect();
                if problem.prompt.contains("Z to A") {
                    words.reverse();
                }
                assert!(words.is_sorted());
                assert_eq!(about(kind, &problem.prompt), [sorted(words)]);
            }
            "divisions" => {
                let (a, b) = (asked[0].max(asked[1]), asked[0].min(asked[1]));
                assert_eq!(problem.answer, format!("{} remainder {}", a / b, a % b));
            }
            "lcm" => {
                let smallest: i64 = problem.answer.parse().unwrap();
                let divides = |multiple: &i64| asked.iter().all(|number| multiple % number == 0);
                assert_eq!((asked[0]..).find(divides), Some(smallest));
                assert!(last.ends_with(&format!("= {smallest}")));
            }
            "fraction_simplification" => {
                let told = asked_numbers(&problem.answer);
                assert_eq!(asked[0] * told[1], asked[1] * told[0]);
                let shared = |divisor: i64| told.iter().all(|number| number % divisor == 0);
                assert!(!(2..=told[0]).any(shared), "{}", problem.answer);
            }
            "prime_factorization" => {
                let factors = asked_numbers(&problem.answer);
                assert_eq!(factors.iter().product::<i64>(), asked[0]);
                let is_prime = |&number: &i64| (2..number).all(|factor| number % factor > 0);
                assert!(factors.iter().all(is_prime) && factors.is_sorted());
            }
            _ => assert!(
                last.ends_with(&format!("= {}", problem.answer)),
                "{thought}"
            ),
        }
    }
    assert_eq!(drawn.len(), 24_631);
    assert!(equations > 30_000, "{equations}");
}

fn drawn_kind(question: &str) -> &'static str {
    let kinds = [
        ("\" backward.", "spell_backward"),
        ("\" from right to left.", "spell_backward"),
        ("the letter ", "letter_counting"),
        ("from A to Z: ", "word_sorting"),
        ("from Z to A: ", "word_sorting"),
        (" over ", "fraction_simplification"),
        ("letters together: ", "joined"),
        ("common multiple", "lcm"),
        ("that both ", "lcm"),
        ("primes ", "prime_factorization"),
        ("prime factors", "prime_factorization"),
        ("Continue the sequence ", "number_sequence"),
        ("What comes next: ", "number_sequence"),
    ];
    let found = kinds.iter().find(|(words, _)| question.contains(words));
    found.map_or("divisions", |(_, kind)| kind)
}

/// What stands behind the colon of a question.
fn listed(question: &str) -> impl Iterator<Item = &str> {
    question.split(": ").nth(1).unwrap().split(", ")
}

fn letters_together(question: &str) -> impl Iterator<Item = String> {
    listed(question).map(|word| word.replace(' ', ""))
}

fn quoted(question: &str) -> &str {
    question.split('"').nth(1).unwrap()
}

pub(crate) fn asked_numbers(text: &str) -> Vec<i64> {
    let is_number = |c: char| c.is_ascii_digit() || c == '-';
    let parts = text.split(|c| !is_number(c));
    parts.filter_map(|part| part.parse().ok()).collect()
}

fn sorted<T: ToString + Ord>(mut parts: Vec<T>) -> Vec<String> {
    parts.sort();
    parts.iter().map(T::to_string).collect()
}

/// What a problem is about in whichever words: its numbers in any order, the three terms that a
/// sequence begins with, its words, which are the same backward where they are spelt.
fn about(kind: &str, question: &str) -> Vec<Vec<String>> {
    let numbers = asked_numbers(question);
    let either_way = |word: &str| sorted(vec![word.to_owned(), word.chars().rev().collect()]);
    match kind {
        "number_sequence" => vec![numbers[..3].iter().map(i64::to_string).collect()],
        "spell_backward" => vec![either_way(quoted(question))],
        "joined" => letters_together(question)
            .map(|word| either_way(&word))
            .collect(),
        "letter_counting" => vec![vec![quoted(question).to_owned()]],
        "word_sorting" => vec![sorted(listed(question).collect())],
        "lcm" | "fraction_simplification" | "prime_factorization" | "divisions" | "gcd" => {
            vec![sorted(numbers)]
        }
        _ => vec![vec![question.to_owned()]],
    }
}

/// Steps of those thoughts, each once; training words, three times each, none of which a held-out
/// problem asks to be spelt backwards.
#[test]
fn drills_are_of_the_training_problems() {
    let folder = data("reasoning");
    let small = chats(&folder.join("derived/small.jsonl.zst"));
    let thoughts = small.iter().filter_map(|line| line.thought.as_deref());
    let known: BTreeSet<&str> = thoughts.flat_map(steps_of).collect();
    let lines = texts(
        &folder.join("derived/drills.jsonl.zst"),
        View::new(Task::Text),
    );
    let mut steps = BTreeSet::new();
    for step in lines.iter().flat_map(|line| steps_of(&line.answer)) {
        assert!(known.contains(step), "{step}");
        assert!(steps.insert(step), "{step} twice");
    }
    assert_eq!(steps.len(), 23_594);
    let questions: String = small.iter().map(|line| &*line.prompt).collect();
    let mut asked = BTreeSet::new();
    for split in ["test", "validation"] {
        for item in pack("reasoning").reasoning(split).unwrap() {
            let item = item.unwrap();
            if item.template.as_deref() == Some("spell_backward") {
                asked.insert(item.question.split('"').nth(1).unwrap().to_owned());
            }
        }
    }
    assert_eq!(asked.len(), 100);
    let spelt = chats(&folder.join("derived/spelt.jsonl.zst"));
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &spelt {
        let given: Vec<&str> = listed(&line.prompt).collect();
        for (word, step) in given.iter().zip(steps_of(&line.answer)) {
            let letters: Vec<String> = word.chars().map(String::from).collect();
            assert_eq!(step, format!("{word}: {}", letters.join(" ")));
            assert!(!asked.contains(*word), "{word}");
            assert!(questions.contains(word), "{word}");
            *words.entry(word).or_default() += 1;
        }
        assert_eq!(given.len(), steps_of(&line.answer).count());
    }
    assert_eq!(words.len(), 4_235);
    assert!(words.values().all(|&times| times == 3));
}
