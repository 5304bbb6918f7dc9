//! Chat, description and gaps, end to end.

use mmada_data::augment::Augment;
use mmada_data::picture::Picture;
use mmada_diffusion::CacheRule;
use mmada_model::reply::Text;
use mmada_model::text::Within;
use mmada_model::{
    ChatRequest, DescribeRequest, Error, FillOptions, FillRequest, MASK_GLYPH, Message, Mmada, Run,
    Seen, TextOptions,
};
use mmada_tokens::Padding;

use crate::tiny;

fn noise(width: usize, height: usize) -> Picture {
    let pixels = (0..width * height * 3)
        .map(|i| (i * 7919 % 251) as u8)
        .collect();
    Picture::new(width, height, pixels).unwrap()
}

fn random() -> TextOptions {
    TextOptions {
        temperature: 1.0,
        seed: 5,
        ..tiny::defaults().text
    }
}

#[test]
fn chat_can_be_watched_and_finished() {
    let model = tiny::model();
    let messages = [Message::system("Be brief."), Message::user("12 + 30 = ?")];
    let options = &model.defaults().text;
    let mut run = model.chat(&messages, options).unwrap();
    let mut masked = options.length;
    let mut steps = 0;
    for view in &mut run {
        let view = view.unwrap();
        let progress = &view.canvases[0];
        assert_eq!(progress.ids.len(), options.length);
        let left = progress.is_masked.iter().filter(|&&m| m).count();
        assert!(left < masked);
        assert_eq!(
            progress.text.chars().filter(|&c| c == MASK_GLYPH).count(),
            left
        );
        assert_eq!(view.step, steps);
        (masked, steps) = (left, steps + 1);
    }
    assert!(masked == 0 && steps <= options.steps);
    let watched = run.finish().unwrap();
    assert_eq!(
        watched,
        model.chat(&messages, options).unwrap().finish().unwrap()
    );
    assert!(watched[0].tokens <= options.length);
}

#[test]
fn the_seed_decides() {
    let model = tiny::model();
    let messages = [Message::user("hello")];
    let ask = |seed| {
        let options = TextOptions { seed, ..random() };
        model.chat(&messages, &options).unwrap().finish().unwrap()
    };
    assert_eq!(ask(1), ask(1));
    assert_ne!(ask(1), ask(2));
}

#[test]
fn batched_answers_are_the_single_ones() {
    let model = tiny::model();
    let talks: Vec<Vec<Message>> = [
        "hi",
        "what color is the shape?",
        "12 + 30 = ?",
        "a red rectangle",
    ]
    .map(|text| vec![Message::user(text)])
    .into();
    let requests = (10..).zip(&talks);
    let requests = requests.map(|(example, messages)| ChatRequest { messages, example });
    let requests: Vec<_> = requests.collect();
    for guidance in [0.0, 1.5] {
        let options = TextOptions {
            guidance,
            ..random()
        };
        let batched = model
            .chat_many(&requests, &options)
            .unwrap()
            .finish()
            .unwrap();
        let alone = requests.iter().map(|request| {
            let run = model
                .chat_many(std::slice::from_ref(request), &options)
                .unwrap();
            run.finish().unwrap().remove(0)
        });
        assert_eq!(batched, alone.collect::<Vec<_>>());
        // One after the other, by a budget that only one request fits.
        let narrow = model.clone().with_row_budget(1);
        assert_eq!(
            batched,
            narrow
                .chat_many(&requests, &options)
                .unwrap()
                .finish()
                .unwrap()
        );
    }
}

/// Of a block-causal text a forward computes the prompt and a block, never the canvas, so far more of them
/// share one.
#[test]
fn block_causal_texts_share_forwards_by_what_is_computed() {
    let model = tiny::model().with_row_budget(200);
    let messages = vec![Message::user("hi there")];
    let requests: Vec<_> = (0..6)
        .map(|example| ChatRequest {
            messages: &messages,
            example,
        })
        .collect();
    let full = TextOptions {
        length: 40,
        block: 1,
        ahead: Some(0),
        ..random()
    };
    let causal = TextOptions {
        cache: Some(CacheRule::BlockCausal),
        ..full.clone()
    };
    let together = |options: &TextOptions| {
        let mut run = model.chat_many(&requests, options).unwrap();
        run.next().unwrap().unwrap().canvases.len()
    };
    assert!(together(&full) <= 3, "{}", together(&full));
    assert_eq!(together(&causal), 6);
}

#[test]
fn pictures_are_described() {
    let model = tiny::model();
    let picture = noise(40, 24);
    let options = random();
    let one = model
        .describe(&picture, "what is it?", &options)
        .unwrap()
        .finish()
        .unwrap();
    let seen = model.look(&[&picture, &picture]).unwrap();
    let request = |example| DescribeRequest {
        seen: &seen[1],
        question: "what is it?",
        example,
    };
    let many = model
        .describe_many(&[request(1), request(0)], &options)
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(one[0], many[1]);
    // Guidance works about pictures too, and counts.
    let guided = |guidance| {
        let options = TextOptions {
            guidance,
            temperature: 0.0,
            ..options.clone()
        };
        let run = model.describe(&picture, "what is it?", &options).unwrap();
        run.finish().unwrap().remove(0)
    };
    assert_ne!(guided(0.0).text, guided(8.0).text);
    // Nothing asked is the model's own question.
    let own = model.defaults().question.clone();
    let unasked = model
        .describe(&picture, " ", &options)
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(
        unasked,
        model
            .describe(&picture, &own, &options)
            .unwrap()
            .finish()
            .unwrap()
    );
}

#[test]
fn an_answer_rests_on_all_looks_at_a_picture() {
    let model = tiny::model();
    let picture = noise(16, 16);
    let seen = |looks| model.look_often(&[&picture], looks).unwrap().remove(0);
    assert_eq!(
        seen(None),
        model.look(&[&picture]).unwrap()[0],
        "one, by default"
    );
    // Nothing can be moved in a picture that is noise to its border; it can be made smaller.
    let model = tiny::looking(Augment {
        variants: 3,
        shrink: 0.5,
        ..Augment::default()
    });
    let seen = |looks| model.look_often(&[&picture], looks).unwrap().remove(0);
    let (once, often) = (seen(Some(1)), seen(None));
    assert_eq!(once.again.len(), 0);
    assert_eq!(often.again.len(), 2);
    assert_eq!((&once.codes, once.grid), (&often.codes, often.grid));
    assert!(often.again.iter().all(|codes| *codes != often.codes));
    let ask = |seen, guidance| {
        let request = DescribeRequest {
            seen,
            question: "what is it?",
            example: 0,
        };
        let options = TextOptions {
            guidance,
            ..random()
        };
        model.describe_many(&[request], &options).unwrap()
    };
    let fill = |seen| {
        let request = FillRequest {
            text: "a ___ thing",
            within: Within::Picture {
                seen,
                question: "what is it?",
            },
            example: 0,
        };
        model
            .fill_many(&[request], &FillOptions::default())
            .unwrap()
    };
    // An untrained model says the same of whatever it is shown, but not as surely.
    let surely = |mut run: Run<Text>| -> Vec<f32> {
        let moves = run.by_ref().flat_map(|view| view.unwrap().moves);
        let committed = moves.flat_map(|moved| moved.committed);
        committed.map(|decision| decision.confidence).collect()
    };
    let thrice = Seen {
        again: vec![once.codes.clone(); 2],
        ..once.clone()
    };
    for guidance in [0.0, 2.0] {
        let [one, all, same] = [&once, &often, &thrice].map(|seen| surely(ask(seen, guidance)));
        assert_ne!(one, all);
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(one.iter().zip(&same).all(is_near), "{one:?} {same:?}");
        // The sequence itself and, where it is guided, its twin; two looks are two sequences more.
        let rows = |seen| {
            let (_, effort) = ask(seen, guidance).finish_told(&mut |_| {}).unwrap();
            effort.rows / effort.forwards
        };
        let sequences = if guidance == 0.0 { 1 } else { 2 };
        assert_eq!(rows(&often) * sequences, rows(&once) * (sequences + 2));
    }
    assert_ne!(surely(fill(&once)), surely(fill(&often)));
    let own = model.describe(&picture, "what is it?", &random()).unwrap();
    assert_eq!(surely(own), surely(ask(&often, 0.0)), "as often as it says");
    // What does not change under any look is looked at once.
    let plain = Picture::new(16, 16, vec![255; 16 * 16 * 3]).unwrap();
    let seen = model.look_often(&[&plain], None).unwrap().remove(0);
    assert_eq!(seen.again.len(), 0);
    let error = model.look_often(&[&picture], Some(65)).unwrap_err();
    assert!(error.to_string().contains("65"), "{error}");
}

#[test]
fn gaps_are_filled_and_the_given_text_stays() {
    let model = tiny::model();
    let options = FillOptions {
        gap: 3,
        temperature: 1.0,
        ..FillOptions::default()
    };
    let filled = model
        .fill("12 + ___ = [MASK:2].", &options)
        .unwrap()
        .finish()
        .unwrap()
        .remove(0);
    // The first gap has a token for the space before it.
    assert_eq!(filled.tokens, 6);
    assert_eq!(
        filled.text,
        format!("12 +{} = {}.", filled.gaps[0], filled.gaps[1])
    );
    // Guidance by what is given changes the choice, not the frame.
    let guided = |guidance| {
        let options = FillOptions {
            guidance,
            temperature: 0.0,
            ..options.clone()
        };
        let run = model.fill("12 + ___ = [MASK:12].", &options).unwrap();
        run.finish().unwrap().remove(0)
    };
    assert_ne!(guided(0.0).gaps, guided(8.0).gaps);
    assert!(guided(8.0).text.starts_with("12 +"));
    assert!(
        model
            .fill(
                "___",
                &FillOptions {
                    guidance: f32::NAN,
                    ..options.clone()
                }
            )
            .is_err()
    );
    // A gap before one that may end early has all its tokens.
    let special = &model.vocab().special;
    let ends = [special.eos, special.pad, special.eot];
    for seed in 0..10 {
        let options = FillOptions {
            seed,
            temperature: 4.0,
            ..options.clone()
        };
        let run = model.fill("12 + [MASK:150] = ___", &options).unwrap();
        let moves = run.flat_map(|view| view.unwrap().moves);
        let mut drawn: Vec<_> = moves.flat_map(|moved| moved.committed).collect();
        drawn.sort_by_key(|decision| decision.position);
        let (earlier, _) = drawn.split_at(150);
        assert!(
            earlier.iter().all(|decision| !ends.contains(&decision.id)),
            "seed {seed}"
        );
    }
    // A gap at the end may end early.
    let open = model
        .fill("a blue ___", &options)
        .unwrap()
        .finish()
        .unwrap()
        .remove(0);
    assert_eq!(open.text, format!("a blue{}", open.gaps[0]));
    let picture = noise(16, 16);
    let answer = model
        .complete(&picture, "what is it?", "a ___ circle", &options)
        .unwrap();
    let answer = answer.finish().unwrap().remove(0);
    assert_eq!(answer.text, format!("a{} circle", answer.gaps[0]));
    let messages = [Message::user("6 * 7?")];
    let within = Within::Chat(&messages);
    let request = FillRequest {
        text: "<think>[MASK:4]</think>42",
        within,
        example: 0,
    };
    let answer = model
        .fill_many(&[request], &options)
        .unwrap()
        .finish()
        .unwrap()
        .remove(0);
    assert_eq!(answer.thought.answer, "42");
    assert_eq!(answer.thought.reasoning.unwrap(), answer.gaps[0].trim());
}

/// The padding of a model is that of its paintings; a gap stays where it stands in the text.
#[test]
fn gaps_do_not_move_with_the_padding() {
    let (model, picture) = (tiny::model(), noise(16, 16));
    let padded = model.clone().with_padding(Padding::Original {
        max_text: 200,
        max_sequence: 250,
    });
    let options = FillOptions::default();
    let filled = |model: &Mmada| {
        let run = model.fill("12 + ___ = [MASK:2].", &options).unwrap();
        run.finish().unwrap()
    };
    assert_eq!(filled(&padded), filled(&model));
    let completed = |model: &Mmada| {
        let run = model.complete(&picture, "what is it?", "a ___ circle", &options);
        run.unwrap().finish().unwrap()
    };
    assert_eq!(completed(&padded), completed(&model));
}

#[test]
fn impossible_requests_are_refused() {
    let model = tiny::model();
    let options = random();
    for messages in [vec![], vec![Message::user("  ")]] {
        assert!(matches!(
            model.chat(&messages, &options),
            Err(Error::Empty { .. })
        ));
    }
    let long = [Message::user("word ".repeat(500))];
    let message = model.chat(&long, &options).err().unwrap().to_string();
    assert!(
        message.contains("the limit is 320") && message.contains("shorten"),
        "{message}"
    );
    for length in [0, 321, usize::MAX] {
        let options = TextOptions { length, ..random() };
        assert!(matches!(
            model.chat(&[Message::user("x")], &options),
            Err(Error::Request { .. })
        ));
    }
    for options in [
        TextOptions {
            steps: 0,
            ..random()
        },
        TextOptions {
            block: 0,
            ..random()
        },
        TextOptions {
            temperature: f32::NAN,
            ..random()
        },
        TextOptions {
            guidance: f32::INFINITY,
            ..random()
        },
    ] {
        assert!(model.chat(&[Message::user("x")], &options).is_err());
    }
    let fill = FillOptions::default();
    assert!(matches!(
        model.fill("no gap", &fill),
        Err(Error::Request { .. })
    ));
    assert!(model.fill(&"___ ".repeat(100), &fill).is_err());
}
