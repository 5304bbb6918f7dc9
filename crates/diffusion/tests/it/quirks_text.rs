//! Quirks 16–21 of the original's text sampler, each decided and tested; and early stops.

use mmada_diffusion::{
    Allowed, Canvas, Commit, Error, Noise, Rest, Sampler, Step, Stop, TextPlan, Unconditional,
};
use mmada_tensor::random::Purpose;
use mmada_tokens::Vocab;

use crate::fake::{Constant, Fake, Rule, seeded, tangled, text_plan as plan};

const MASK: u32 = 99;

fn run(rule: Rule, canvas: Canvas) -> (Vec<Step>, Vec<u32>, Fake) {
    run_with(rule, canvas, seeded(3))
}

fn run_with(rule: Rule, canvas: Canvas, noise: Box<dyn Noise>) -> (Vec<Step>, Vec<u32>, Fake) {
    let mut fake = Fake::new(rule);
    let mut sampler = Sampler::new(&mut fake, vec![canvas], noise);
    let steps = sampler.by_ref().map(Result::unwrap).collect();
    let ids = sampler.canvases()[0].ids().to_vec();
    (steps, ids, fake)
}

/// Quirk 16: holes before or inside the prompt do not compete with the current block.
#[test]
fn only_the_current_block_is_a_candidate() {
    let ids = vec![1, MASK, 2, MASK, MASK, 3, MASK, MASK, MASK];
    let canvas = Canvas::text(ids.clone(), MASK, plan(6, 2)).unwrap();
    assert_eq!(canvas.region(), [1, 3, 4, 6, 7, 8]);
    let (steps, done, fake) = run(tangled, canvas);
    let asked: Vec<_> = fake.asked.iter().map(|(_, want)| want.rows.len()).collect();
    assert_eq!(asked, [2, 1, 2, 1, 2, 1]);
    let blocks = [[1, 3], [1, 3], [4, 6], [4, 6], [7, 8], [7, 8]];
    for (step, block) in steps.iter().zip(blocks) {
        assert_eq!(step.moves[0].committed.len(), 1);
        assert!(block.contains(&step.moves[0].committed[0].position));
    }
    for (position, &id) in ids.iter().enumerate().filter(|(_, id)| **id != MASK) {
        assert_eq!(done[position], id);
    }
}

/// Quirk 17: under the original's rule a position may be committed to the mask, and stays masked;
/// under ours it cannot.
#[test]
fn mask_wins_only_under_the_rule_of_the_original() {
    let loves_mask: Rule = |_, _, id| f32::from(u8::from(id == 4)) * 5.0;
    let mask = 4;
    let ids = vec![1, mask, mask];
    let (_, original, _) = run(
        loves_mask,
        Canvas::text(ids.clone(), mask, plan(2, 2)).unwrap(),
    );
    assert_eq!(original, [1, mask, mask]);
    let mut ours = plan(2, 2);
    ours.allowed.banned = vec![mask];
    let (_, ours, _) = run(loves_mask, Canvas::text(ids, mask, ours).unwrap());
    assert!(!ours.contains(&mask));

    let vocab = Vocab::published();
    let allowed = Allowed::text(&vocab);
    assert!(allowed.banned.contains(&vocab.special.mask));
    assert!(!allowed.banned.contains(&vocab.special.eos));
    assert!(!allowed.range.contains(&vocab.image.start));
    let everything = Allowed::everything(&vocab);
    assert!(everything.range.contains(&vocab.image.start) && everything.banned.is_empty());
}

/// Quirk 18: noise moves the choice of ids, not the confidence.
#[test]
fn confidence_is_without_noise() {
    let rule: Rule = |_, _, id| {
        if id < 2 {
            3.0_f32.ln() * id as f32
        } else {
            -200.0
        }
    };
    let mut noisy = plan(1, 1);
    noisy.temperature = 1.0;
    noisy.allowed.range = 0..2;
    let mut counts = [0_u32; 2];
    for seed in 0..2000 {
        let canvas = Canvas::text(vec![MASK], MASK, noisy.clone()).unwrap();
        let (steps, ids, _) = run_with(rule, canvas, seeded(seed));
        counts[ids[0] as usize] += 1;
        let confidence = steps[0].moves[0].committed[0].confidence;
        assert!((confidence - [0.25, 0.75][ids[0] as usize]).abs() < 1e-6);
    }
    // 1500 expected, standard deviation 19.
    assert!((1410..=1590).contains(&counts[1]), "{counts:?}");
}

/// Quirk 19: more steps than tokens cost no more than one forward per token, and steps that the
/// blocks do not divide are shared out.
#[test]
fn no_forward_is_wasted() {
    for (masked, block, steps, expected) in [
        (4, 4, 50, 4),
        (10, 8, 10, 10),
        (10, 4, 7, 7),
        (9, 2, 3, 5),
        (12, 4, 6, 6),
        (0, 4, 4, 0),
    ] {
        let canvas = Canvas::text(vec![MASK; masked], MASK, plan(steps, block)).unwrap();
        let (taken, _, fake) = run(tangled, canvas);
        assert_eq!(
            taken.len(),
            expected,
            "{masked} masked, block {block}, {steps} steps"
        );
        assert_eq!(fake.asked.len(), expected);
        assert!(taken.iter().all(|step| !step.moves[0].committed.is_empty()));
        assert!(taken.iter().all(|step| step.total == expected));
    }
}

/// Quirk 20: the original's early stop leaves the rest masked; ours can fill it.
#[test]
fn early_stop_fills_the_rest() {
    let ends: Rule = |_, position, id| f32::from(u8::from(id == 1 + position as u32 % 2));
    for (rest, tail) in [(Rest::Masked, MASK), (Rest::Fill(7), 7)] {
        let mut plan = plan(6, 2);
        plan.stop = Stop::BlockEnd { token: 2 };
        plan.rest = rest;
        let canvas = Canvas::text(vec![MASK; 6], MASK, plan).unwrap();
        let (steps, ids, _) = run(ends, canvas);
        assert_eq!(ids, [1, 2, tail, tail, tail, tail]);
        assert_eq!(steps.len(), 2);
        assert!(steps[1].moves[0].is_finished && steps[1].total == 6);
    }
}

/// An end token counts only when everything before it is decided.
#[test]
fn stops_when_the_answer_is_complete() {
    // Surest from the right; position 2 is the end.
    let rule: Rule = |_, position, id| {
        let best = if position == 2 { 8 } else { 5 };
        f32::from(u8::from(id == best)) * (1.0 + position as f32)
    };
    let mut plan = plan(5, 5);
    plan.stop = Stop::Complete { end: vec![8] };
    plan.rest = Rest::Fill(9);
    let canvas = Canvas::text(vec![MASK; 5], MASK, plan.clone()).unwrap();
    let (steps, ids, _) = run(rule, canvas);
    assert_eq!((steps.len(), ids), (5, vec![5, 5, 8, 5, 5]));
    plan.block_length = 3;
    let canvas = Canvas::text(vec![MASK; 5], MASK, plan).unwrap();
    let (steps, ids, _) = run(rule, canvas);
    assert_eq!((steps.len(), ids), (3, vec![5, 5, 8, 9, 9]));
}

/// Quirk 21: guidance for text hides everything that was given, pictures and task tokens too, and
/// keeps hiding it while generated tokens become visible.
#[test]
fn unconditional_twin_hides_what_was_given() {
    let ids = vec![5, 6, MASK, MASK];
    let twin = Unconditional::all_given(&ids, MASK);
    assert_eq!(
        twin,
        Unconditional::Masked {
            positions: vec![0, 1]
        }
    );
    let canvas = Canvas::text(ids, MASK, plan(2, 2))
        .unwrap()
        .guided(1.5, twin)
        .unwrap();
    let (steps, _, fake) = run(tangled, canvas);
    let first = steps[0].moves[0].committed[0];
    let (rows, want) = &fake.asked[1];
    assert_eq!(rows.sequences.len(), 2);
    assert_eq!(rows.ids[..2], [5, 6]);
    assert_eq!(rows.ids[4..6], [MASK, MASK]);
    assert_eq!(rows.ids[first.position], first.id);
    assert_eq!(rows.ids[4 + first.position], first.id);
    assert_eq!(want.rows.len(), 2);
    assert_eq!(want.rows[0] + 4, want.rows[1]);
}

/// A scale of 0 costs no second sequence.
#[test]
fn no_guidance_no_twin() {
    let ids = vec![5, MASK];
    let twin = Unconditional::all_given(&ids, MASK);
    let canvas = Canvas::text(ids, MASK, plan(1, 1))
        .unwrap()
        .guided(0.0, twin)
        .unwrap();
    let (_, _, fake) = run(tangled, canvas);
    assert_eq!(fake.asked[0].0.sequences.len(), 1);
}

/// Random order follows the noise and still reports the model's probability.
#[test]
fn random_commit_ignores_confidence() {
    struct Rising;
    impl Noise for Rising {
        fn uniforms(&mut self, draw: mmada_diffusion::Draw, out: &mut [f64]) {
            assert_eq!(draw.purpose, Purpose::Position);
            out.fill(draw.position as f64 / 10.0);
        }
    }
    let mut plan = plan(3, 3);
    plan.commit = Commit::Random;
    let canvas = Canvas::text(vec![MASK; 3], MASK, plan).unwrap();
    let sure_of_the_left: Rule = |_, position, id| (id as f32) * (3.0 - position as f32);
    let (steps, _, _) = run_with(sure_of_the_left, canvas, Box::new(Rising));
    let order: Vec<_> = steps
        .iter()
        .map(|step| step.moves[0].committed[0].position)
        .collect();
    assert_eq!(order, [2, 1, 0]);
}

#[test]
fn masks_outside_the_range_stay() {
    let ids = vec![MASK, MASK, 1, MASK];
    let canvas = Canvas::text_within(ids, MASK, 1..3, plan(4, 4)).unwrap();
    let (_, ids, _) = run(tangled, canvas);
    assert!(ids[0] == MASK && ids[1] != MASK && ids[3] == MASK);
}

#[test]
fn bad_settings_are_refused() {
    let refused = |plan: TextPlan| {
        let error = Canvas::text(vec![MASK], MASK, plan)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("expected") && error.contains("got"),
            "{error}"
        );
    };
    refused(plan(0, 1));
    refused(plan(1, 0));
    refused(TextPlan {
        temperature: f32::NAN,
        ..plan(1, 1)
    });
    refused(TextPlan {
        temperature: -1.0,
        ..plan(1, 1)
    });
    let banned = (0..10).collect();
    let allowed = Allowed {
        range: 0..10,
        banned,
        banned_at: Vec::new(),
    };
    refused(TextPlan {
        allowed,
        ..plan(1, 1)
    });
    assert!(Canvas::text_within(vec![MASK], MASK, 0..2, plan(1, 1)).is_err());
    let canvas = Canvas::text(vec![MASK], MASK, plan(1, 1)).unwrap();
    let twin = Unconditional::Masked { positions: vec![1] };
    assert!(canvas.guided(1.0, twin).is_err());
}

#[test]
fn damaged_logits_are_an_error_that_names_the_place() {
    for bad in [
        (|_, p, _| if p == 1 { f32::NAN } else { 0.0 }) as Rule,
        |_, _, _| f32::INFINITY,
    ] {
        let canvas = Canvas::text(vec![0, MASK], MASK, plan(1, 1)).unwrap();
        let mut sampler = Sampler::new(Fake::new(bad), vec![canvas], Box::new(Constant(0.5)));
        let error = sampler.next().unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                Error::NotFinite {
                    canvas: 0,
                    position: 1
                }
            ),
            "{error}"
        );
        assert!(sampler.next().is_none());
    }
}

#[test]
fn masks_far_ahead_are_left_out_when_asked() {
    let rows = |asked: &Fake| -> Vec<usize> {
        let lengths = asked.asked.iter().map(|(rows, _)| rows.len());
        lengths.collect()
    };
    let ids = [vec![5, 6], vec![MASK; 8]].concat();
    let mut plan = plan(4, 4);
    plan.ahead = Some(3);
    let canvas = Canvas::text(ids.clone(), MASK, plan.clone()).unwrap();
    let (_, short, asked) = run(tangled, canvas);
    // Two given, a block of four, three ahead; the second block ends the canvas.
    assert_eq!(rows(&asked), [9, 9, 10, 10]);
    assert!(!short.contains(&MASK));
    // Far enough ahead is all of it.
    let [whole, far] = [None, Some(4)].map(|ahead| {
        plan.ahead = ahead;
        run(
            tangled,
            Canvas::text(ids.clone(), MASK, plan.clone()).unwrap(),
        )
        .1
    });
    assert_eq!(whole, far);
    // What follows the masks is seen.
    plan.ahead = Some(0);
    let closed = [ids.clone(), vec![7]].concat();
    let (_, _, asked) = run(tangled, Canvas::text(closed, MASK, plan.clone()).unwrap());
    assert_eq!(rows(&asked), [11; 4]);
    // What guides sees no more than what is guided.
    let twin = Unconditional::all_given(&ids, MASK);
    let canvas = Canvas::text(ids, MASK, plan).unwrap();
    let (_, _, asked) = run(tangled, canvas.guided(1.5, twin).unwrap());
    assert_eq!(rows(&asked), [12, 12, 20, 20]);
}

#[test]
fn ids_banned_at_a_position_win_elsewhere() {
    let loves_four: Rule = |_, _, id| f32::from(u8::from(id == 4)) * 5.0;
    let mut plan = plan(3, 3);
    plan.allowed.banned_at = vec![(1, 4), (1, 99)];
    let canvas = Canvas::text(vec![1, MASK, MASK, MASK], MASK, plan).unwrap();
    let (_, done, _) = run(loves_four, canvas);
    assert_ne!(done[1], 4);
    assert_eq!(done[2..], [4, 4]);
}
