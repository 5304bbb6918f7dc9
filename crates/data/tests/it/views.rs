//! Templates, filters, and what views make of records.

use mmada_data::example::Example;
use mmada_data::{ImageBytes, ImageRef, Record, SourceConfig, Template, View};
use mmada_tensor::random::{Key, Purpose};
use mmada_tokens::Task;
use serde_json::{Value, json};

fn record(fields: Value) -> Record {
    let Value::Object(fields) = fields else {
        panic!("an object, please");
    };
    Record {
        key: "k".into(),
        name: None,
        source: "test".into(),
        shard: 0,
        image: Some(ImageRef::Bytes(ImageBytes::new(*b"picture"))),
        fields,
    }
}

fn view(toml: &str) -> View {
    let view: View = toml::from_str(toml).unwrap();
    view.check().unwrap();
    view
}

fn apply(view: &View, fields: Value) -> Result<Option<Example>, String> {
    let mut stream = Key::new(1, Purpose::Data).stream();
    view.apply(&record(fields), 0, &mut stream)
}

#[test]
fn templates_fill() {
    let fields = record(json!({
        "a": "x", "n": 3, "b": true, "t": ["p", "q"], "o": {"in": {"deep": "d"}}, "c.d": "dot", "null": null
    }))
    .fields;
    let check = |source: &str, wanted: Result<&str, &str>| {
        let got = Template::parse(source).unwrap().fill(&fields);
        match wanted {
            Ok(text) => assert_eq!(got.as_deref(), Ok(text), "{source}"),
            Err(part) => assert!(got.clone().unwrap_err().contains(part), "{source}: {got:?}"),
        }
    };
    check("{a}: {n} {b} [{t}] {t.1}", Ok("x: 3 true [p, q] q"));
    check("{o.in.deep}{{{c.d}}}", Ok("d{dot}"));
    check("plain", Ok("plain"));
    check("", Ok(""));
    check("{missing}", Err("no field 'missing'"));
    check("{o.in.none}", Err("o.in.none"));
    check("{null}", Err("null"));
    check("{o}", Err("an object"));
    for wrong in ["{a", "a}", "{}", "{ }", "{a{b}"] {
        assert!(Template::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn tasks_take_their_parts() {
    let fields = json!({"style": "noto", "caption": "cat", "why": "It has whiskers."});
    let paint = view("task = 'paint'\nprompt = '{style} style: {caption}'");
    let made = apply(&paint, fields.clone()).unwrap().unwrap();
    assert_eq!(made.task, Task::Paint);
    assert_eq!(made.prompt, "noto style: cat");
    assert_eq!((made.answer.as_str(), made.thought.as_ref()), ("", None));
    assert_eq!(made.image.unwrap().bytes(), b"picture");

    assert_eq!(made.shows, None);
    let told = view("task = 'paint'\nprompt = 'a pet'\nshows = '{caption}'");
    let made = apply(&told, fields.clone()).unwrap().unwrap();
    assert_eq!(
        (made.prompt.as_str(), made.shows.as_deref()),
        ("a pet", Some("cat"))
    );
    assert_eq!(made.response(), "");

    let thinking = view("task = 'think-paint'\nprompt = '{caption}'\nthought = '{why}'");
    let made = apply(&thinking, fields.clone()).unwrap().unwrap();
    assert_eq!(made.response(), "<think>It has whiskers.</think>");

    let describe = view(
        "task = 'describe'\nprompt = 'What?'\nthought = '{why}'\nanswer = '{caption}'\nloss_weight = 0.5\nblank = 0.25\npatch_dropout = 0.5",
    );
    let made = apply(&describe, fields.clone()).unwrap().unwrap();
    assert_eq!(made.response(), "<think>It has whiskers.</think>cat");
    assert_eq!(
        (made.weight, made.blank, made.patch_dropout),
        (0.5, 0.25, 0.5)
    );

    let text = view("task = 'text'");
    let made = apply(&text, json!({"text": "once upon"})).unwrap().unwrap();
    assert_eq!(made.answer, "once upon");
    assert!(made.messages.is_empty() && made.image.is_none());

    let reason = apply(&paint, json!({"caption": "cat"})).unwrap_err();
    assert!(reason.contains("'style'"), "{reason}");
}

#[test]
fn chat_reads_the_usual_layouts() {
    let chat = view("task = 'chat'");
    let answer = "<think>1 + 1 = 2</think>2";
    let layouts = [
        json!({"messages": [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": answer}]}),
        json!({"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": answer}]}),
        json!({"prompt": "1+1?", "completion": answer}),
        json!({"prompt": [{"role": "user", "content": [{"type": "text", "text": "1+1?"}]}],
            "completion": [{"role": "assistant", "content": answer}]}),
    ];
    for layout in layouts {
        let made = apply(&chat, layout.clone()).unwrap().unwrap();
        assert_eq!(made.prompt, "1+1?", "{layout}");
        assert_eq!(made.thought.as_deref(), Some("1 + 1 = 2"));
        assert_eq!(made.answer, "2");
        assert_eq!(made.response(), answer);
        assert_eq!(made.messages.last().unwrap().content, "1+1?");
    }
    let named = view("task = 'chat'\nmessages = 'data.turns'");
    let nested = json!({"data": {"turns": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}});
    assert_eq!(apply(&named, nested).unwrap().unwrap().answer, "b");
    for broken in [
        json!({}),
        json!({"messages": "text"}),
        json!({"messages": []}),
        json!({"messages": [{"role": "user", "content": "a"}]}),
        json!({"messages": [{"role": "cook", "content": "a"}]}),
        json!({"messages": [{"role": "assistant", "content": "alone"}]}),
    ] {
        assert!(apply(&chat, broken.clone()).is_err(), "{broken}");
    }
}

/// The tag that stands for the picture in LLaVA's files would be learnt as words.
#[test]
fn a_question_about_a_picture_has_no_image_tag() {
    let describe = view("task = 'describe'\nmessages = 'conversations'");
    let turn = |from: &str, value: &str| json!({"from": from, "value": value});
    let turns = [
        turn("human", "<image>\nWhat is this?"),
        turn("gpt", "An <image>"),
    ];
    let example = apply(&describe, json!({ "conversations": turns }));
    let example = example.unwrap().unwrap();
    assert_eq!(example.prompt, "What is this?");
    assert_eq!(example.answer, "An <image>");
}

#[test]
fn filters_hold_out() {
    let held = view(
        "task = 'describe'\nprompt = '?'\nanswer = '{color}'\nwhere = {shape = ['circle', 'triangle']}\n\
         exclude = [{color = ['yellow'], shape = ['circle']}, {tags = ['bad']}, {'o.n' = [3]}]",
    );
    let check = |fields: Value, is_in: bool| {
        assert_eq!(
            apply(&held, fields.clone()).unwrap().is_some(),
            is_in,
            "{fields}"
        );
    };
    check(json!({"color": "red", "shape": "circle"}), true);
    check(json!({"color": "yellow", "shape": "circle"}), false);
    check(json!({"color": "yellow", "shape": "triangle"}), true);
    check(json!({"color": "red", "shape": "rectangle"}), false);
    check(json!({"color": "red"}), false);
    check(
        json!({"color": "red", "shape": "circle", "tags": ["good", "bad"]}),
        false,
    );
    check(
        json!({"color": "red", "shape": "circle", "o": {"n": 3}}),
        false,
    );
}

#[test]
fn several_prompts_are_all_used() {
    let several = view("task = 'describe'\nprompts = ['A {c}', 'B {c}', 'C {c}']\nanswer = 'x'");
    let mut seen = std::collections::BTreeMap::new();
    for example in 0..300 {
        let mut stream = Key::new(1, Purpose::Data).example(example).stream();
        let made = several.apply(&record(json!({"c": "c"})), 0, &mut stream);
        *seen.entry(made.unwrap().unwrap().prompt).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.values().all(|&count| count > 60), "{seen:?}");
}

#[test]
fn configuration_is_strict_and_returns() {
    let good = "name = 'e'\nkind = 'webdataset'\npaths = ['a-{0..3}.tar']\nweight = 2\n\
        views = [{task = 'paint', prompt = '{style} style: {caption}', where = {style = ['noto']}}]";
    let cfg: SourceConfig = toml::from_str(good).unwrap();
    cfg.check().unwrap();
    let written = toml::to_string(&cfg).unwrap();
    assert_eq!(toml::from_str::<SourceConfig>(&written).unwrap(), cfg);
    for (wrong, part) in [
        (good.replace("weight", "wieght"), "wieght"),
        (good.replace("where", "only"), "only"),
        (good.replace("'paint'", "'draw'"), "draw"),
        (good.replace("{caption}", "{caption"), "caption"),
        (good.replace("webdataset", "csv"), "csv"),
    ] {
        let error = toml::from_str::<SourceConfig>(&wrong).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    for wrong in [
        good.replace("weight = 2", "weight = -1"),
        good.replace("weight = 2", "images = 'x'"),
        good.replace("weight = 2", "turns = 'independent'"),
        good.replace("weight = 2", "image_field = 'file'"),
        good.replace("'paint'", "'describe'"),
        good.replace("'paint'", "'think-paint'"),
        good.replace("'paint'", "'text'"),
        good.replace("'paint'", "'chat'"),
        good.replace("prompt =", "prompts = ['x'], prompt ="),
        good.replace("where", "answer = 'x', where"),
        good.replace("where", "blank = 0.5, where"),
        good.replace("where", "patch_dropout = 0.5, where"),
        good.replace(
            "'paint', prompt",
            "'describe', answer = 'x', patch_dropout = -0.1, prompt",
        ),
        good.replace("where", "thought_share = 0.5, where"),
        good.replace(
            "'paint', prompt",
            "'think-paint', thought = 'x', thought_share = 1.5, prompt",
        ),
        good.replace("where", "times = 0, where"),
        good.replace("where", "times = 1001, where"),
        good.replace(
            "'paint', prompt",
            "'describe', answer = 'x', shows = 'x', prompt",
        ),
        good.replace(
            "'paint', prompt",
            "'describe', answer = 'x', blank = 1.5, prompt",
        ),
    ] {
        let cfg: SourceConfig = toml::from_str(&wrong).unwrap();
        let error = cfg.check().unwrap_err();
        assert!(error.to_string().contains("'e'"), "{error}");
    }
}
