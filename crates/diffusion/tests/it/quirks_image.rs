//! Quirks 7–12 of the original's picture sampler, each decided and tested.

use mmada_diffusion::noise::gumbel;
use mmada_diffusion::{Anneal, Canvas, Count, Finish, ImagePlan, Sampler, Step, Unconditional};

use crate::fake::{Constant, Fake, masked, seeded, tangled, uniform};

const MASK: u32 = 99;

fn plan(picture: usize, steps: usize) -> ImagePlan {
    ImagePlan::new(1..1 + picture, 10..20, steps)
}

/// A prompt token, then a picture with these positions known.
fn ids(picture: usize, known: impl IntoIterator<Item = usize>) -> Vec<u32> {
    let mut ids = vec![5];
    ids.resize(1 + picture, MASK);
    for position in known {
        ids[1 + position] = 11;
    }
    ids
}

fn run(ids: Vec<u32>, plan: ImagePlan) -> (Vec<Step>, Canvas, usize) {
    let canvas = Canvas::image(ids, MASK, plan).unwrap();
    let mut fake = Fake::new(tangled);
    let mut sampler = Sampler::new(&mut fake, vec![canvas], seeded(1));
    let steps = sampler.by_ref().map(Result::unwrap).collect();
    let canvas = sampler.into_canvases().remove(0);
    (steps, canvas, fake.asked.len())
}

/// Quirk 7: the original's temperature compounds; MaskGIT's falls in a line.
#[test]
fn temperature_compounds_unless_asked_otherwise() {
    let falls = |anneal: Anneal| -> Vec<f64> {
        (0..4)
            .map(|step| anneal.temperature(2.0, step, 4))
            .collect()
    };
    assert_eq!(falls(Anneal::MaskGit), [1.5, 1.0, 0.5, 0.0]);
    assert_eq!(falls(Anneal::Compounding), [1.5, 0.75, 0.1875, 0.0]);
    let mut straight = plan(8, 4);
    straight.anneal = Anneal::MaskGit;
    for (plan, second) in [(plan(8, 4), 0.375), (straight, 0.5)] {
        assert_eq!(run(ids(8, []), plan).0[1].moves[0].temperature, second);
    }
}

/// Quirk 8: the unconditional branch sees the present picture, whatever the length of the text.
#[test]
fn unconditional_twin_follows_the_canvas() {
    let ids = vec![1, 2, 3, 4, MASK, MASK, MASK, 6];
    let mut image = plan(3, 3);
    image.range = 4..7;
    let twin = Unconditional::Prefix {
        ids: vec![1],
        shared_from: 3,
    };
    let canvas = Canvas::image(ids, MASK, image.clone())
        .unwrap()
        .guided(3.5, twin)
        .unwrap();
    let mut fake = Fake::new(tangled);
    Sampler::new(&mut fake, vec![canvas], seeded(1))
        .finish()
        .unwrap();
    for (rows, want) in &fake.asked {
        let (own, twin) = (rows.sequences[0].clone(), rows.sequences[1].clone());
        assert_eq!(rows.ids[twin.clone()][0], 1);
        assert_eq!(rows.ids[twin.clone()][1..], rows.ids[own][3..]);
        let half = want.rows.len() / 2;
        for (row, twin_row) in want.rows[..half].iter().zip(&want.rows[half..]) {
            assert_eq!(row - 3, twin_row - twin.start - 1);
        }
    }
    let too_late = Unconditional::Prefix {
        ids: vec![1],
        shared_from: 5,
    };
    let canvas = Canvas::image(vec![1, 2, 3, 4, MASK, MASK, MASK, 6], MASK, image).unwrap();
    assert!(canvas.guided(3.5, too_late).is_err());
}

/// Quirk 10: the original counts from the whole picture, so a small hole shrinks by one per step
/// and is filled in a rush at the end; ours counts from the hole.
#[test]
fn holes_are_filled_evenly() {
    let known = || 8..64;
    let left = |count: Count, finish: Finish| -> Vec<usize> {
        let mut plan = plan(64, 4);
        plan.schedule = mmada_diffusion::Schedule::Linear;
        plan.count = count;
        plan.finish = finish;
        let steps = run(ids(64, known()), plan).0;
        steps.iter().map(|step| step.moves[0].masked).collect()
    };
    assert_eq!(left(Count::Whole, Finish::LeaveOne), [7, 6, 5, 1]);
    assert_eq!(left(Count::Hole, Finish::LeaveOne), [6, 4, 2, 1]);
    assert_eq!(left(Count::Hole, Finish::Complete), [6, 4, 2, 0]);
}

/// Quirk 11: the original leaves one position masked on the canvas; the codes have it either way.
#[test]
fn one_position_is_left_only_when_asked() {
    let mut finish_codes = Vec::new();
    for (finish, left) in [(Finish::LeaveOne, 1), (Finish::Complete, 0)] {
        let mut plan = plan(9, 3);
        plan.finish = finish;
        let (steps, canvas, _) = run(ids(9, [2]), plan);
        assert_eq!(masked(&canvas, MASK), left);
        assert_eq!(steps.len(), 3);
        let codes = canvas.codes().unwrap();
        assert_eq!((codes.len(), codes[2]), (9, 1));
        finish_codes.push(codes);
    }
    assert_eq!(finish_codes[0], finish_codes[1]);
}

/// More steps than positions cost no forward, except in the original's manner.
#[test]
fn idle_steps_are_left_out() {
    let (steps, canvas, forwards) = run(ids(5, [0]), plan(5, 50));
    assert_eq!((steps.len(), forwards, masked(&canvas, MASK)), (4, 4, 0));
    let mut original = plan(5, 50);
    original.finish = Finish::LeaveOne;
    assert_eq!(run(ids(5, [0]), original).2, 50);
    let (steps, canvas, forwards) = run(ids(5, 0..5), plan(5, 50));
    assert_eq!((steps.len(), forwards), (0, 0));
    assert_eq!(canvas.codes().unwrap(), [1; 5]);
}

/// Quirk 12: known codes stay whatever the temperature, equals do not unbalance the count, and the
/// noise is clamped as in the original.
#[test]
fn known_codes_survive_any_temperature() {
    let mut hot = plan(16, 8);
    hot.temperature = 1e6;
    let (_, canvas, _) = run(ids(16, [3, 7]), hot);
    let codes = canvas.codes().unwrap();
    assert_eq!((codes[3], codes[7]), (1, 1));

    let mut even = plan(16, 4);
    even.schedule = mmada_diffusion::Schedule::Linear;
    even.temperature = 0.0;
    even.token_temperature = 0.0;
    let canvas = Canvas::image(ids(16, []), MASK, even).unwrap();
    let sampler = Sampler::new(Fake::new(uniform), vec![canvas], Box::new(Constant(0.5)));
    let left: Vec<_> = sampler.map(|step| step.unwrap().moves[0].masked).collect();
    assert_eq!(left, [12, 8, 4, 0]);

    assert!((gumbel(0.0) + 3.829_7).abs() < 1e-3);
    assert!((gumbel(1.0) - 46.051_7).abs() < 1e-3);
    assert!((gumbel(0.5) - 0.366_5).abs() < 1e-3);
}

/// Tokens are drawn by inverse CDF: the number of partial sums at most u, never past the end.
#[test]
fn codes_are_drawn_by_inverse_cdf() {
    for (u, code) in [(0.0, 0), (0.099, 0), (0.55, 5), (0.999_999, 9), (1.0, 9)] {
        let canvas = Canvas::image(ids(1, []), MASK, plan(1, 1)).unwrap();
        let sampler = Sampler::new(Fake::new(uniform), vec![canvas], Box::new(Constant(u)));
        assert_eq!(
            sampler.finish().unwrap()[0].codes().unwrap(),
            [code],
            "u = {u}"
        );
    }
}

#[test]
fn bad_settings_are_refused() {
    let mut outside = plan(4, 1);
    outside.range = 3..9;
    assert!(Canvas::image(ids(4, []), MASK, outside).is_err());
    let mut nothing = plan(4, 1);
    nothing.codes = 10..10;
    assert!(Canvas::image(ids(4, []), MASK, nothing).is_err());
    assert!(Canvas::image(ids(4, []), MASK, plan(4, 0)).is_err());
}
