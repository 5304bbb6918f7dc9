//! Sources and mixtures: order, weights, resuming, broken samples and shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use mmada_data::{DataError, Mixture, MixtureState, Source, SourceConfig, Stores};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::files::{gzip, samples, tar, write};

const VIEW: &str = "views = [{task = 'paint', prompts = ['{caption}', 'a {caption}']}]";

/// Five shards of 7 samples, a JSONL file of 10, and a list of conversations.
static DATA: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for shard in 0..5 {
        let name = format!("s{shard}");
        let bytes = gzip(&samples(&name, 7));
        write(dir.path(), &format!("{name}.tar.gz"), bytes);
    }
    let lines: String = (0..10)
        .map(|i| format!("{{\"prompt\": \"q{i}\", \"completion\": \"a{i}\"}}\n"))
        .collect();
    write(dir.path(), "chat.jsonl", lines);
    write(
        dir.path(),
        "pics.tar",
        tar(&[("1.png", b"1"), ("2.png", b"2")]),
    );
    let entry = |image: u8| {
        format!(
            "{{\"id\": {image}, \"image\": \"{image}.png\", \"conversations\": [{{\"from\": \"human\", \"value\": \"<image>\\nq\"}}, {{\"from\": \"gpt\", \"value\": \"a\"}}, {{\"from\": \"human\", \"value\": \"r\"}}, {{\"from\": \"gpt\", \"value\": \"b\"}}]}}"
        )
    };
    // The picture of the third entry is absent.
    let list = format!("[{}, {}, {}]", entry(1), entry(2), entry(3));
    write(dir.path(), "talk.json", list);
    dir
});

fn configs(shuffle: usize) -> Vec<SourceConfig> {
    let toml = format!(
        "[[data]]\nname = 'pictures'\nkind = 'webdataset'\npaths = ['s*.tar.gz']\nshuffle = {shuffle}\n{VIEW}\n\
         [[data]]\nname = 'chat'\nkind = 'jsonl'\npaths = ['chat.jsonl']\nweight = 3\nshuffle = {shuffle}\nviews = [{{task = 'chat'}}]\n\
         [[data]]\nname = 'talk'\nkind = 'conversations'\npaths = ['talk.json']\nimages = 'pics.tar'\nshuffle = {shuffle}\n\
         views = [{{task = 'describe', prompt = '{{question}}', answer = '{{answer}}'}}, {{task = 'chat', prompt = '{{question}}', answer = '{{answer}}'}}]"
    );
    #[derive(serde::Deserialize)]
    struct Run {
        data: Vec<SourceConfig>,
    }
    toml::from_str::<Run>(&toml).unwrap().data
}

fn source(cfg: &SourceConfig, root: &Path, seed: u64) -> Source {
    Source::open(cfg, root, seed, &mut Stores::default()).unwrap()
}

fn take(source: &mut Source, count: usize) -> Vec<(u64, String)> {
    let mut next = || {
        let example = source.next_example().unwrap();
        (example.key, example.prompt)
    };
    (0..count).map(|_| next()).collect()
}

/// `times = 3` is three views alike: the same examples in the same order.
#[test]
fn a_view_counts_as_often_as_it_says() {
    let cfg = |views: &str| -> SourceConfig {
        let file = "name = 'chat'\nkind = 'jsonl'\npaths = ['chat.jsonl']\nshuffle = 7\n";
        toml::from_str(&format!("{file}views = [{views}]")).unwrap()
    };
    let other = "{task = 'chat', prompt = 'say {prompt}', answer = '{completion}'}";
    let once = "{task = 'chat'}";
    let thrice = format!("{{task = 'chat', times = 3}}, {other}");
    let listed = [once, once, once, other].join(", ");
    let [mut counted, mut listed] =
        [&thrice, &listed].map(|views| source(&cfg(views), DATA.path(), 5));
    assert_eq!(counted.len_hint(), listed.len_hint());
    let examples = take(&mut counted, 80);
    assert_eq!(examples, take(&mut listed, 80));
    let said = examples
        .iter()
        .filter(|(_, prompt)| prompt.starts_with("say "));
    assert_eq!(said.count(), 20, "two epochs of ten records, once each");
}

#[test]
fn an_epoch_holds_every_example_once_in_a_new_order() {
    let cfg = &configs(9)[0];
    let mut stream = source(cfg, DATA.path(), 1);
    assert_eq!(stream.len_hint(), None);
    let (first, second) = (take(&mut stream, 35), take(&mut stream, 35));
    assert_eq!(stream.len_hint(), Some(35));
    let keys = |examples: &[(u64, String)]| -> BTreeSet<u64> {
        examples.iter().map(|example| example.0).collect()
    };
    assert_eq!(keys(&first).len(), 35);
    assert_eq!(keys(&first), keys(&second));
    assert_ne!(first, second);
    assert_eq!(first, take(&mut source(cfg, DATA.path(), 1), 35));
    assert_ne!(first, take(&mut source(cfg, DATA.path(), 2), 35));
    let once: Vec<_> = stream
        .iter_once()
        .map(|example| example.unwrap().key)
        .collect();
    assert_eq!(once.len(), 35);
    assert_eq!(once.iter().copied().collect::<BTreeSet<_>>(), keys(&first));
    let ordered = &configs(1)[1];
    let prompts: Vec<String> = take(&mut source(ordered, DATA.path(), 1), 12)
        .into_iter()
        .map(|example| example.1)
        .collect();
    assert_eq!(prompts[..3], ["q0", "q1", "q2"]);
    assert_eq!(prompts[10], "q0");
}

#[test]
fn weights_are_respected() {
    let mut mixture = Mixture::open(&configs(4), DATA.path(), 11).unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..5000 {
        let example = mixture.next_example().unwrap();
        *counts.entry(example.source.to_string()).or_default() += 1;
    }
    // Weights 1 : 3 : 1; the standard deviation of each share is below 0.007.
    for (name, share) in [("pictures", 0.2), ("chat", 0.6), ("talk", 0.2)] {
        let got = counts[name] as f64 / 5000.0;
        assert!((got - share).abs() < 0.03, "{name}: {got}");
    }
    let mut only = configs(4);
    only[0].weight = 0.0;
    only[2].weight = 0.0;
    let mut mixture = Mixture::open(&only, DATA.path(), 11).unwrap();
    assert!((0..50).all(|_| &*mixture.next_example().unwrap().source == "chat"));
}

#[test]
fn broken_samples_are_counted_with_their_names() {
    let mut cfgs = configs(4);
    let mut talk = source(&cfgs.remove(2), DATA.path(), 5);
    // 6 questions × 2 views; the picture that is absent spoils two of them.
    take(&mut talk, 10);
    take(&mut talk, 1);
    let skipped = talk.skipped().clone();
    assert!(skipped.count >= 2, "{skipped:?}");
    assert!(
        skipped
            .last
            .iter()
            .all(|(name, why)| name.starts_with("talk.json/3") && why.contains("3.png"))
    );
    assert_eq!(talk.len_hint(), Some(10));

    let dir = tempfile::tempdir().unwrap();
    let bytes = tar(&[
        ("a.png", b"A"),
        ("a.json", b"{"),
        ("b.png", b"B"),
        ("b.json", b"{\"caption\": \"b\"}"),
    ]);
    write(dir.path(), "x.tar", bytes);
    let toml = format!("name = 'x'\nkind = 'webdataset'\npaths = ['x.tar']\n{VIEW}");
    let cfg: SourceConfig = toml::from_str(&toml).unwrap();
    let mut mixture = Mixture::open(&[cfg], dir.path(), 1).unwrap();
    assert!(mixture.next_example().unwrap().prompt.ends_with('b'));
    let skipped = mixture.skipped();
    assert_eq!(skipped.count, 1);
    assert_eq!(skipped.last[0].0, "x.tar/a");
    let mut once = mixture.iter_once();
    assert_eq!(once.by_ref().count(), 1);
    assert_eq!(once.skipped().count, 1);
}

#[test]
fn broken_shards_stop_the_stream_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "good.tar.gz", gzip(&samples("g", 3)));
    let bytes = gzip(&samples("b", 300));
    write(dir.path(), "half.tar.gz", &bytes[..bytes.len() / 2]);
    let toml = format!("name = 'x'\nkind = 'webdataset'\npaths = ['*.tar.gz']\n{VIEW}");
    let cfg: SourceConfig = toml::from_str(&toml).unwrap();
    let mut stream = source(&cfg, dir.path(), 1);
    let error = std::iter::repeat_with(|| stream.next_example())
        .take(1000)
        .find_map(Result::err)
        .unwrap();
    assert!(error.to_string().contains("half.tar.gz"), "{error}");
    let last = stream.iter_once().last().unwrap();
    assert!(matches!(last, Err(DataError::Shard { .. })));
}

#[test]
fn a_source_without_examples_says_why() {
    for (change, hint) in [
        ("prompt = '{nothing}'", "no field 'nothing'"),
        ("prompt = 'x', where = {caption = ['none']}", "filters"),
    ] {
        let toml = format!(
            "name = 'x'\nkind = 'webdataset'\npaths = ['s0.tar.gz']\nviews = [{{task = 'paint', {change}}}]"
        );
        let cfg: SourceConfig = toml::from_str(&toml).unwrap();
        let error = source(&cfg, DATA.path(), 1).next_example().unwrap_err();
        assert!(matches!(error, DataError::Empty { .. }), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn mixtures_check_themselves() {
    let mut twins = configs(1);
    twins[1].name = twins[0].name.clone();
    assert!(Mixture::open(&twins, DATA.path(), 1).is_err());
    assert!(Mixture::open(&[], DATA.path(), 1).is_err());
    let mut weightless = configs(1);
    weightless.iter_mut().for_each(|cfg| cfg.weight = 0.0);
    assert!(Mixture::open(&weightless, DATA.path(), 1).is_err());

    let unheld = Mixture::open(&configs(0), DATA.path(), 1);
    assert!(matches!(unheld, Err(DataError::Config { reason, .. }) if reason.contains("shuffle")));

    let mixture = Mixture::open(&configs(1), DATA.path(), 1).unwrap();
    let mut other = Mixture::open(&configs(1)[..2], DATA.path(), 1).unwrap();
    let error = other.restore(&mixture.state()).unwrap_err();
    assert!(matches!(error, DataError::Resume { .. }), "{error}");
    let mut far = mixture.state();
    far.sources[0].1.index = 1000;
    let mut mixture = mixture;
    let error = mixture.restore(&far).unwrap_err();
    assert!(error.to_string().contains("files have changed"), "{error}");
}

#[test]
fn streams_can_move_to_another_thread() {
    fn check<T: Send>() {}
    check::<Mixture>();
    check::<Source>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_resumed_mixture_goes_on_as_if_never_stopped(
        seed in any::<u64>(), stop in 0usize..160, shuffle in 1usize..40,
    ) {
        let cfgs = configs(shuffle);
        let mut whole = Mixture::open(&cfgs, DATA.path(), seed).unwrap();
        for _ in 0..stop {
            whole.next_example().unwrap();
        }
        let saved = serde_json::to_string(&whole.state()).unwrap();
        let state: MixtureState = serde_json::from_str(&saved).unwrap();
        let mut resumed = Mixture::open(&cfgs, DATA.path(), seed).unwrap();
        resumed.restore(&state).unwrap();
        prop_assert_eq!(resumed.state(), whole.state());
        for _ in 0..90 {
            prop_assert_eq!(resumed.next_example().unwrap(), whole.next_example().unwrap());
        }
        // Back to the same place, in the same process.
        resumed.restore(&state).unwrap();
        let mut again = Mixture::open(&cfgs, DATA.path(), seed).unwrap();
        again.restore(&state).unwrap();
        prop_assert_eq!(resumed.next_example().unwrap(), again.next_example().unwrap());
    }
}

#[test]
fn a_join_adds_fields_and_keeps_those_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let line = |id: u32| format!("{{\"id\": {id}, \"q\": \"question {id}\", \"kept\": \"own\"}}\n");
    write(
        dir.path(),
        "talk.jsonl",
        (0..3).map(line).collect::<String>(),
    );
    let facts =
        "{\"id\": 0, \"fact\": \"zero\", \"kept\": \"other\"}\n{\"id\": 2, \"fact\": \"two\"}\n";
    write(dir.path(), "facts.jsonl", facts);
    let config = |on: &str| -> SourceConfig {
        toml::from_str(&format!(
            "name = 'talk'\nkind = 'jsonl'\npaths = ['talk.jsonl']\njoin = {{ paths = ['facts.jsonl'], on = '{on}' }}\n\
             views = [{{ task = 'chat', prompt = '{{q}}', answer = '{{fact}} {{kept}}', where = {{ fact = ['zero', 'two'] }} }}]"
        ))
        .unwrap()
    };
    let joined = source(&config("id"), dir.path(), 0);
    let pairs: Vec<(String, String)> = joined
        .iter_once()
        .map(|example| {
            example
                .map(|example| (example.prompt, example.answer))
                .unwrap()
        })
        .collect();
    let pair = |q: &str, a: &str| (q.to_owned(), a.to_owned());
    assert_eq!(
        pairs,
        [
            pair("question 0", "zero own"),
            pair("question 2", "two own")
        ]
    );
    // A picture's name may come from the other file too.
    write(
        dir.path(),
        "facts.jsonl",
        "{\"id\": 0, \"image\": \"a.png\"}\n",
    );
    write(dir.path(), "pictures/a.png", "a picture");
    let with_pictures = SourceConfig {
        images: Some("pictures".into()),
        views: vec![toml::from_str("task = 'paint'\nprompt = '{q}'").unwrap()],
        ..config("id")
    };
    let painted = source(&with_pictures, dir.path(), 0);
    let example = painted.iter_once().find_map(Result::ok).unwrap();
    assert_eq!(example.image.unwrap().bytes(), b"a picture");
    let absent = Source::open(&config("nobody"), dir.path(), 0, &mut Stores::default());
    assert!(matches!(absent, Err(DataError::Config { reason, .. }) if reason.contains("'nobody'")));
}
