//! The forward process and the loss: counts, weights, and that the weighted loss is unbiased.

use mmada_diffusion::corruption::{
    Average, FrameTargets, Scale, Thinking, Weighting, Window, mask_independently,
    without_condition,
};
use mmada_diffusion::loss::{Example, weighted_cross_entropy};
use mmada_diffusion::{Coefficients, Corruption, Noised, Target};
use mmada_tensor::random::{Key, Purpose, Stream};
use mmada_tensor::{Device, Result, Rows, Tensor};
use mmada_tokens::{Sequence, SpanKind, Task};

const MASK: u32 = 99;

fn stream(example: u64) -> Stream {
    Key::new(5, Purpose::Corruption).example(example).stream()
}

fn sequence(task: Task, spans: &[(SpanKind, usize)]) -> Sequence {
    let mut sequence = Sequence::new(task);
    for &(kind, length) in spans {
        let start = sequence.ids.len() as u32;
        let ids: Vec<u32> = (start..start + length as u32).collect();
        sequence.push(kind, &ids);
    }
    sequence
}

fn painting(image: usize) -> Sequence {
    use SpanKind::{Frame, Image, Prompt};
    sequence(
        Task::Paint,
        &[
            (Frame, 2),
            (Prompt, 3),
            (Frame, 2),
            (Image, image),
            (Frame, 1),
        ],
    )
}

fn thought() -> Sequence {
    use SpanKind::{Answer, Frame, Image, Prompt, Tail};
    let spans = [
        (Frame, 1),
        (Prompt, 3),
        (Answer, 5),
        (Tail, 2),
        (Frame, 1),
        (Image, 8),
        (Frame, 1),
    ];
    sequence(Task::ThinkPaint, &spans)
}

/// Ids are their own positions here, so a target must name its position.
fn check_targets(noised: &Noised, sequence: &Sequence) {
    for target in &noised.targets {
        assert_eq!(target.id, sequence.ids[target.position]);
        assert!(target.weight.is_finite() && target.weight > 0.0);
    }
    assert!(
        noised
            .targets
            .windows(2)
            .all(|pair| pair[0].position < pair[1].position)
    );
    for (position, &id) in noised.ids.iter().enumerate() {
        assert!(id == MASK || id == sequence.ids[position]);
    }
}

#[test]
fn only_answers_are_masked_and_weigh_as_the_original() {
    use SpanKind::{Answer, Frame, Image, Prompt, Tail};
    let spans = [
        (Frame, 2),
        (Image, 4),
        (Frame, 2),
        (Prompt, 5),
        (Answer, 6),
        (Tail, 4),
    ];
    for task in [Task::Describe, Task::Chat, Task::Text] {
        let sequence = sequence(task, &spans);
        let corruption = Corruption::default();
        let rate = (1.0 - 1e-3) * 0.6 + 1e-3;
        let length = if task == Task::Text { 23.0 } else { 10.0 };
        for example in 0..50 {
            let noised = corruption.corrupt(&sequence, MASK, 0.6, &mut stream(example));
            check_targets(&noised, &sequence);
            assert_eq!(noised.share, 1.0);
            for target in &noised.targets {
                assert!((13..23).contains(&target.position));
                assert_eq!(noised.ids[target.position], MASK);
                assert!((target.weight - 1.0 / rate / length).abs() < 1e-6);
            }
            let masked = noised.ids.iter().filter(|&&id| id == MASK).count();
            assert_eq!(masked, noised.targets.len());
        }
    }
}

#[test]
fn a_window_is_given_before_and_masked_after() {
    use SpanKind::{Answer, Frame, Prompt, Tail};
    let sequence = sequence(
        Task::Chat,
        &[(Frame, 1), (Prompt, 3), (Answer, 9), (Tail, 2)],
    );
    let corruption = Corruption {
        window: Some(Window {
            length: 4,
            ahead: None,
            share: 1.0,
            ..Window::default()
        }),
        ..Corruption::default()
    };
    let (mut seen, mut starts) = ([0; 15], std::collections::BTreeSet::new());
    for example in 0..4000 {
        let noised = corruption.corrupt(&sequence, MASK, 0.5, &mut stream(example));
        check_targets(&noised, &sequence);
        let Some(first) = noised.targets.first() else {
            continue;
        };
        let last = noised.targets[noised.targets.len() - 1].position;
        assert!(last - first.position < 4, "{noised:?}");
        // All that is masked and no target is one stretch to the end.
        let targets: Vec<usize> = noised.targets.iter().map(|t| t.position).collect();
        let other: Vec<usize> = (0..15)
            .filter(|p| noised.ids[*p] == MASK && !targets.contains(p))
            .collect();
        assert!(other.iter().all(|p| *p > last));
        assert!(other.iter().enumerate().all(|(i, p)| *p == other[0] + i));
        assert!(other.last().is_none_or(|p| *p == 14));
        for position in targets {
            seen[position] += 1;
        }
        starts.insert(first.position);
    }
    assert_eq!(starts, (4..15).collect());
    let window = corruption.window.map(|window| Window {
        ahead: Some(3),
        ..window
    });
    let ahead = Corruption {
        window,
        ..corruption
    };
    for example in 0..400 {
        let whole = corruption.corrupt(&sequence, MASK, 0.5, &mut stream(example));
        let cut = ahead.corrupt(&sequence, MASK, 0.5, &mut stream(example));
        assert_eq!(cut.targets, whole.targets);
        let kept = cut.ids.len().min(15);
        assert_eq!(cut.ids[..kept], whole.ids[..kept]);
        // A window ends at 5 to 15; three masks follow it.
        assert!((8..=18).contains(&cut.ids.len()), "{cut:?}");
        assert!(cut.ids[cut.ids.len() - 3..].iter().all(|id| *id == MASK));
    }
    // 4 of 14 windows hold a position, which is then masked half of the time: 571 of 4,000.
    for count in &seen[4..] {
        assert!((450..700).contains(count), "{seen:?}");
    }
}

#[test]
fn a_window_of_no_tokens_is_refused() {
    let read = |length: usize| {
        let text = format!("{{\"length\": {length}, \"share\": 0.5}}");
        serde_json::from_str::<Window>(&text)
    };
    assert_eq!(read(1).unwrap().length, 1);
    let error = read(0).unwrap_err().to_string();
    assert!(
        error.contains("`0`") && error.contains("at least 1 token"),
        "{error}"
    );
}

#[test]
fn a_blank_answer_is_known_from_its_prompt_alone() {
    use SpanKind::{Answer, Frame, Image, Prompt, Tail};
    let sequence = sequence(
        Task::Describe,
        &[(Frame, 2), (Image, 4), (Prompt, 3), (Answer, 9), (Tail, 2)],
    );
    let blank = |window: Option<Window>| {
        let corruption = Corruption {
            window,
            ..Corruption::default()
        };
        corruption.blank(&sequence, MASK, &mut stream(1))
    };
    let window = |length, ahead| {
        Some(Window {
            length,
            ahead,
            share: 0.0,
            ..Window::default()
        })
    };
    // The window, the length of the row, and how many targets there are.
    let cases = [
        (None, 20, 11),
        (window(4, None), 20, 4),
        (window(0, None), 20, 1),
        (window(30, None), 20, 11),
        (window(4, Some(3)), 9 + 4 + 3, 4),
        (window(30, Some(8)), 28, 11),
    ];
    for (window, length, targets) in cases {
        let noised = blank(window);
        check_targets(&noised, &sequence);
        assert_eq!(noised.ids.len(), length, "{window:?}");
        assert!(noised.ids[9..].iter().all(|id| *id == MASK), "{window:?}");
        assert_eq!(noised.ids[..9], sequence.ids[..9]);
        let positions: Vec<usize> = noised.targets.iter().map(|t| t.position).collect();
        assert_eq!(positions, (9..9 + targets).collect::<Vec<_>>());
        // Everything is masked, so a target weighs its share of the mean and no more.
        let weights: f32 = noised.targets.iter().map(|t| t.weight).sum();
        assert!(
            (weights - 1.0).abs() < 1e-5 && noised.share == 1.0,
            "{noised:?}"
        );
    }
}

/// Quirk 23: the original learns the frame of a picture too.
#[test]
fn pictures_mask_exactly_their_count() {
    let sequence = painting(16);
    for (frames, extra) in [(FrameTargets::Learn, 2), (FrameTargets::Omit, 0)] {
        let corruption = Corruption {
            frames,
            ..Corruption::default()
        };
        for (t, count) in [(0.0, 16), (0.5, 11), (0.333, 14), (1.0, 1)] {
            let noised = corruption.corrupt(&sequence, MASK, t, &mut stream(1));
            check_targets(&noised, &sequence);
            assert_eq!(
                noised.ids.iter().filter(|&&id| id == MASK).count(),
                count,
                "t = {t}"
            );
            assert_eq!(noised.targets.len(), count + extra);
            assert_eq!(noised.share, (count + extra) as f32);
            assert!(noised.targets.iter().all(|target| target.weight == 1.0));
        }
    }
}

#[test]
fn equation_one_for_pictures_is_a_value() {
    let image = Weighting {
        scale: Scale::InverseRate,
        average: Average::Learnable,
    };
    let corruption = Corruption {
        image,
        frames: FrameTargets::Omit,
        ..Corruption::default()
    };
    let noised = corruption.corrupt(&painting(16), MASK, 0.5, &mut stream(1));
    let total: f32 = noised.targets.iter().map(|target| target.weight).sum();
    assert_eq!((noised.targets.len(), noised.share), (11, 1.0));
    assert!((total - 1.0).abs() < 1e-6);
}

#[test]
fn thoughts_are_staged_or_noised_together() {
    let sequence = thought();
    let is_image = |position: usize| (12..20).contains(&position);
    let (mut thoughts, mut pictures) = (0, 0);
    for example in 0..200 {
        let noised = Corruption::default().corrupt(&sequence, MASK, 0.7, &mut stream(example));
        check_targets(&noised, &sequence);
        assert_eq!(noised.share, 1.0);
        let image_is_masked = (12..20).all(|position| noised.ids[position] == MASK);
        let text_is_whole = (4..11).all(|position| noised.ids[position] != MASK);
        if image_is_masked {
            thoughts += 1;
            assert!(
                noised
                    .targets
                    .iter()
                    .all(|target| (4..11).contains(&target.position))
            );
        } else {
            pictures += 1;
            assert!(text_is_whole);
            assert!(
                noised
                    .targets
                    .iter()
                    .any(|target| is_image(target.position))
            );
        }
    }
    assert!(
        thoughts > 60 && pictures > 60,
        "{thoughts} thoughts, {pictures} pictures"
    );

    let together = Corruption {
        thinking: Thinking::Together,
        ..Corruption::default()
    };
    let noised = together.corrupt(&sequence, MASK, 1.0, &mut stream(1));
    assert_eq!(noised.targets.len(), 15);
    assert!(
        noised
            .targets
            .iter()
            .all(|target| (target.weight - 1.0 / 15.0).abs() < 1e-6)
    );
}

#[test]
fn condition_dropout_takes_the_prompt_only() {
    let sequence = painting(4);
    let corruption = Corruption::default();
    assert!(corruption.drops_condition(Task::Paint, 0.05));
    assert!(!corruption.drops_condition(Task::Paint, 0.1));
    assert!(!corruption.drops_condition(Task::Chat, 0.0));
    let bare = without_condition(&sequence);
    assert_eq!(bare.ids, [0, 1, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(bare.span(SpanKind::Image), Some(4..8));
    let mut padded = Sequence::new(Task::Paint);
    padded.push(SpanKind::Pad, &[77]);
    padded.push(SpanKind::Prompt, &[1, 2]);
    padded.push(SpanKind::Image, &[3]);
    assert_eq!(without_condition(&padded).ids, [77, 77, 77, 3]);
}

/// −log p of id i is i + 1, whatever the rows.
fn known_nll(_: &Rows, _: &[usize], targets: &[u32]) -> Result<Tensor> {
    let nll: Vec<f32> = targets.iter().map(|&id| (id + 1) as f32).collect();
    Ok(Tensor::from_vec(nll, targets.len(), &Device::Cpu)?)
}

fn total(loss: &mmada_diffusion::Loss) -> f64 {
    f64::from(loss.total.to_scalar::<f32>().unwrap())
}

/// E over masks of Σ nll/p = Σ nll at every rate, so the 1/p loss is the loss of the whole.
#[test]
fn inverse_rate_weights_are_unbiased() {
    let answer = sequence(Task::Chat, &[(SpanKind::Prompt, 2), (SpanKind::Answer, 6)]);
    let exact = (2..8).map(|id| f64::from(id + 1)).sum::<f64>() / 6.0;
    for t in [0.2, 0.5, 0.9] {
        let corruption = Corruption::default();
        let count = 20_000;
        let noise = |example| corruption.corrupt(&answer, MASK, t, &mut stream(example));
        let example = |example| Example {
            task: Task::Chat,
            noised: noise(example),
        };
        let batch: Vec<_> = (0..count).map(example).collect();
        let loss = weighted_cross_entropy(&known_nll, &batch, &Coefficients::default()).unwrap();
        assert!(
            (loss.parts[0].loss - exact).abs() < 0.15,
            "{} at {t}",
            loss.parts[0].loss
        );
        assert!((total(&loss) - loss.parts[0].loss).abs() < 1e-2);
    }
}

#[test]
fn tasks_are_averaged_apart_and_weighed() {
    let target = |position, id, weight| Target {
        position,
        id,
        weight,
    };
    let example = |task, targets: Vec<Target>, share| {
        let noised = Noised {
            ids: vec![MASK; 4],
            targets,
            share,
            ..Noised::default()
        };
        Example { task, noised }
    };
    let batch = [
        example(Task::Paint, vec![target(0, 0, 1.0), target(1, 1, 1.0)], 2.0),
        example(Task::Chat, vec![target(2, 3, 0.5)], 1.0),
        example(Task::Paint, vec![target(3, 2, 1.0)], 1.0),
        example(Task::Chat, vec![], 1.0),
    ];
    let coefficients = Coefficients {
        chat: 0.1,
        ..Coefficients::default()
    };
    let loss = weighted_cross_entropy(&known_nll, &batch, &coefficients).unwrap();
    let parts: Vec<_> = loss
        .parts
        .iter()
        .map(|p| (p.task, p.loss, p.targets, p.examples))
        .collect();
    assert_eq!(parts, [(Task::Chat, 1.0, 1, 2), (Task::Paint, 2.0, 3, 2)]);
    assert!((total(&loss) - 2.1).abs() < 1e-6);
}

/// M = 0: nothing masked is a loss of 0, and no forward.
#[test]
fn nothing_masked_is_no_loss() {
    let refuses = |_: &Rows, _: &[usize], _: &[u32]| -> Result<Tensor> { panic!("no forward") };
    let noised = Noised {
        ids: vec![1],
        targets: vec![],
        share: 1.0,
        ..Noised::default()
    };
    let batch = [Example {
        task: Task::Chat,
        noised,
    }];
    for batch in [&batch[..], &[]] {
        let loss = weighted_cross_entropy(&refuses, batch, &Coefficients::default()).unwrap();
        assert_eq!(total(&loss), 0.0);
        assert!(loss.parts.iter().all(|part| part.loss == 0.0));
    }
    assert!(mask_independently(&[], 0.5, &mut stream(0)).is_empty());
    let empty = sequence(Task::Chat, &[(SpanKind::Prompt, 3)]);
    let noised = Corruption::default().corrupt(&empty, MASK, 1.0, &mut stream(0));
    assert_eq!((noised.targets.len(), noised.share), (0, 1.0));
}

#[test]
fn settings_read_as_written() {
    let text = r#"{"schedule": {"power": 2.0}, "frames": "omit", "thinking": "together",
        "image": {"scale": "inverse_rate", "average": "learnable"}}"#;
    let corruption: Corruption = serde_json::from_str(text).unwrap();
    let written = serde_json::to_string(&corruption).unwrap();
    assert_eq!(
        serde_json::from_str::<Corruption>(&written).unwrap(),
        corruption
    );
    assert!(serde_json::from_str::<Corruption>(r#"{"shedule": "cosine"}"#).is_err());
}
