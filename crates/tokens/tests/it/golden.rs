//! Layouts and template against the original implementation's output, for every case in the files.

use std::path::PathBuf;

use mmada_tokens::{
    ChatTemplate, Layout, Message, Padding, Sequence, SpanKind, Special, Tail, Task, Vocab, names,
};
use serde_json::Value;

fn golden(file: &str) -> Value {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
    let folder =
        std::env::var_os("MMADA_GOLDEN").map_or_else(|| PathBuf::from(default), PathBuf::from);
    serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// The vocabulary the file describes. It does not say how many image codes there are: as many as
/// its ids need.
fn vocab(file: &Value) -> Vocab {
    let id = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let reserved = |name: &str| id(&file["reserved_ids"][name]);
    let header = |name: &str| id(&file["header_ids"][name]);
    let text = id(&file["tokenizer_length"]);
    let cases = file["cases"].as_array().unwrap();
    let rows = cases
        .iter()
        .filter_map(|case| case["output"]["input_ids"].as_array())
        .flatten();
    let end = rows.flat_map(ids).max().unwrap().max(text) + 1;
    Vocab {
        text: 0..text,
        image: text..end,
        rows: end,
        special: Special {
            mask: id(&file["mask_token_id"]),
            bos: id(&file["bos_token_id"]),
            eos: id(&file["eos_token_id"]),
            pad: id(&file["pad_token_id"]),
            start_header: header(names::START_HEADER),
            end_header: header(names::END_HEADER),
            eot: header(names::EOT),
            soi: reserved(names::SOI),
            eoi: reserved(names::EOI),
            sov: reserved(names::SOV),
            eov: reserved(names::EOV),
            t2i: reserved(names::T2I),
            mmu: reserved(names::MMU),
            t2v: reserved(names::T2V),
            v2v: reserved(names::V2V),
            lvg: reserved(names::LVG),
            image_pad: reserved(names::IMAGE_PAD),
            r2i: reserved(names::R2I),
        },
    }
}

/// The sequence of one row of a case.
fn lay_out(layout: &Layout, case: &Value, row: usize) -> Sequence {
    let text = ids(&case["text_ids"][row]);
    let image = if case["image_ids"].is_null() {
        Vec::new()
    } else {
        ids(&case["image_ids"][row])
    };
    let is_dropped = case["cond_dropout_prob"].as_f64().unwrap() >= 1.0;
    match case["task"].as_str().unwrap() {
        "t2i" if is_dropped => layout.paint(&[], &image),
        "t2i" | "t2i_gen" => layout.paint(&text, &image),
        "mmu" | "mmu_gen" => layout.describe(&image, &text, &[], Tail::None),
        "lm" => layout.text(&text, Tail::None),
        "lm_chat" => layout.chat(&text, &[], Tail::None),
        "r2i" => layout.think_paint(&text, &[], &image, Tail::None),
        other => panic!("unknown task {other}"),
    }
    .unwrap()
}

/// 1 where a position may be seen.
fn attention_mask(row: &Sequence) -> Vec<i64> {
    per_position(row, |_, kind| i64::from(kind != SpanKind::Pad))
}

/// 1 where a position is never noised.
fn prompt_mask(row: &Sequence) -> Vec<i64> {
    let is_noised = |kind| match kind {
        SpanKind::Answer | SpanKind::Tail => true,
        SpanKind::Image => row.task == Task::ThinkPaint,
        SpanKind::Pad | SpanKind::Frame | SpanKind::Prompt => false,
    };
    per_position(row, |_, kind| i64::from(!is_noised(kind)))
}

/// The original's targets. It labels prompts too; their loss is zero because they are never noised.
fn labels(row: &Sequence, image_labels: &Value, ignore: i64) -> Vec<i64> {
    let image = row.span(SpanKind::Image).unwrap_or(0..0);
    let seen = if row.task == Task::Describe {
        image.end + 1
    } else {
        0
    };
    per_position(row, |position, kind| match kind {
        SpanKind::Pad => ignore,
        _ if position < seen => ignore,
        SpanKind::Image if row.task == Task::Paint => {
            image_labels[position - image.start].as_i64().unwrap()
        }
        _ => i64::from(row.ids[position]),
    })
}

fn per_position(row: &Sequence, value: impl Fn(usize, SpanKind) -> i64) -> Vec<i64> {
    let spans = row.spans.iter();
    spans
        .flat_map(|span| span.range.clone().map(|at| value(at, span.kind)))
        .collect()
}

#[test]
fn golden_prompts() {
    let file = golden("prompts/cases.json");
    let vocab = vocab(&file);
    vocab.validate().unwrap();
    for case in file["cases"].as_array().unwrap() {
        let max_text = size(&case["max_text_len"]);
        let max_sequence = case["max_seq_len"]
            .as_u64()
            .map_or(0, |length| usize::try_from(length).unwrap());
        let layout = Layout::new(&vocab, usize::MAX).with_padding(Padding::Original {
            max_text,
            max_sequence,
        });
        let output = &case["output"];
        for row in 0..case["text_ids"].as_array().unwrap().len() {
            let at = format!("{} row {row}", case["name"]);
            let sequence = lay_out(&layout, case, row);
            assert_eq!(sequence.ids, ids(&output["input_ids"][row]), "ids of {at}");
            let mask = match output["mask_kind"].as_str().unwrap() {
                "attention_mask" => attention_mask(&sequence),
                "prompt_mask" => prompt_mask(&sequence),
                other => panic!("unknown mask {other}"),
            };
            assert_eq!(Value::from(mask), output["mask"][row], "mask of {at}");
            if !output["labels"].is_null() {
                let labels = labels(
                    &sequence,
                    &case["image_labels"][row],
                    case["ignore_id"].as_i64().unwrap(),
                );
                assert_eq!(Value::from(labels), output["labels"][row], "labels of {at}");
            }
        }
    }
}

#[test]
fn golden_unpadded_prompts_are_the_padded_ones_without_padding() {
    let file = golden("prompts/cases.json");
    let vocab = vocab(&file);
    let unpadded = Layout::new(&vocab, usize::MAX);
    for case in file["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["task"] == "t2i_gen")
    {
        for row in 0..case["text_ids"].as_array().unwrap().len() {
            // The text allowance of the original counts bos and eos.
            if ids(&case["text_ids"][row]).len() + 2 > size(&case["max_text_len"]) {
                continue;
            }
            let expected: Vec<u32> = ids(&case["output"]["input_ids"][row]);
            let expected: Vec<u32> = expected
                .into_iter()
                .skip_while(|&id| id == vocab.special.image_pad)
                .collect();
            assert_eq!(
                lay_out(&unpadded, case, row).ids,
                expected,
                "{} row {row}",
                case["name"]
            );
        }
    }
}

#[test]
fn golden_chat() {
    let file = golden("chat/cases.json");
    let template = ChatTemplate::published();
    for case in file["cases"].as_array().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let bos = file["bos_token"].as_str().unwrap();
        let asked = case["add_generation_prompt"].as_bool().unwrap();
        let rendered = template.render(&messages, bos, asked).unwrap();
        assert_eq!(
            rendered,
            case["expected"].as_str().unwrap(),
            "{}",
            case["name"]
        );
    }
}

/// The published ids, which are the only numbers of the source, agree with the original's table.
#[test]
fn golden_published_ids() {
    let file = golden("prompts/cases.json");
    let (described, published) = (vocab(&file), Vocab::published());
    published.validate().unwrap();
    Vocab::llada().validate().unwrap();
    assert_eq!(described.text, published.text);
    assert_eq!(described.special, published.special);
    assert!(described.image.end <= published.image.end);
}
