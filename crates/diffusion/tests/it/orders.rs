//! The Halton order of pictures, and guidance for a share of the steps.

use std::collections::BTreeSet;

use mmada_diffusion::{Canvas, Finish, ImagePlan, Order, Sampler, Step, Unconditional};

use crate::fake::{Fake, seeded, tangled};

const MASK: u32 = 99;

fn plan(width: usize, height: usize, steps: usize) -> ImagePlan {
    ImagePlan {
        width,
        order: Order::Halton,
        ..ImagePlan::new(0..width * height, 20..30, steps)
    }
}

fn film(example: u64, plan: ImagePlan) -> (Vec<Vec<usize>>, Fake) {
    let canvas = Canvas::image(vec![MASK; plan.range.len()], MASK, plan).unwrap();
    let mut fake = Fake::new(tangled);
    let sampler = Sampler::new(&mut fake, vec![canvas.example(example)], seeded(7));
    let positions = |step: Step| {
        let committed = step.moves[0].committed.iter();
        committed.map(|decision| decision.position).collect()
    };
    let steps = sampler.map(|step| positions(step.unwrap())).collect();
    (steps, fake)
}

#[test]
fn halton_spreads_what_it_decides() {
    for (width, height) in [(8, 8), (16, 16), (6, 9), (1, 7), (5, 1)] {
        let cells = width * height;
        let (steps, fake) = film(0, plan(width, height, 6));
        let all: BTreeSet<usize> = steps.iter().flatten().copied().collect();
        assert_eq!(all.len(), cells);
        assert_eq!(steps.iter().map(Vec::len).sum::<usize>(), cells);
        // Only what is decided is asked for.
        let wanted: Vec<usize> = fake.asked.iter().map(|(_, want)| want.rows.len()).collect();
        assert_eq!(wanted, steps.iter().map(Vec::len).collect::<Vec<_>>());
    }
    // A quarter of the cells: every 4 x 4 patch holds two to six of its sixteen.
    let one_by_one: Vec<usize> = film(0, plan(16, 16, 256)).0.concat();
    let mut patches = [0; 16];
    for position in &one_by_one[..64] {
        patches[position / 64 * 4 + position % 16 / 4] += 1;
    }
    assert!(patches.iter().all(|n| (2..=6).contains(n)), "{patches:?}");
}

#[test]
fn pictures_of_one_prompt_begin_at_different_places() {
    let first: BTreeSet<usize> = (0..8).map(|e| film(e, plan(16, 16, 256)).0[0][0]).collect();
    assert!(first.len() > 4, "{first:?}");
    assert_eq!(film(3, plan(16, 16, 9)).0, film(3, plan(16, 16, 9)).0);
}

#[test]
fn an_order_fixed_beforehand_leaves_none_behind() {
    let refused = |plan: ImagePlan| Canvas::image(vec![MASK; 16], MASK, plan).unwrap_err();
    let error = refused(ImagePlan {
        finish: Finish::LeaveOne,
        ..plan(4, 4, 4)
    });
    assert!(error.to_string().contains("leave_one"), "{error}");
    let error = refused(ImagePlan {
        width: 5,
        ..plan(4, 4, 4)
    });
    assert!(error.to_string().contains("width"), "{error}");
}

#[test]
fn guidance_costs_only_the_steps_it_guides() {
    for (share, guided) in [(0.0, 0), (0.5, 4), (0.3, 3), (1.0, 8)] {
        let plan = ImagePlan::new(1..17, 20..30, 8);
        let twin = Unconditional::Prefix {
            ids: vec![],
            shared_from: 1,
        };
        let canvas = Canvas::image([vec![5], vec![MASK; 16]].concat(), MASK, plan).unwrap();
        let canvas = canvas.guided(2.0, twin).unwrap().guided_for(share).unwrap();
        let sampler = Sampler::new(Fake::new(tangled), vec![canvas], seeded(1));
        let rows: Vec<usize> = sampler.map(|step| step.unwrap().rows).collect();
        let expected: Vec<usize> = (0..8).map(|s| if s < guided { 33 } else { 17 }).collect();
        assert_eq!(rows, expected, "share {share}");
    }
    let canvas = Canvas::image(vec![MASK], MASK, ImagePlan::new(0..1, 20..30, 1)).unwrap();
    assert!(canvas.guided_for(1.5).is_err());
}

/// 0.3 is a little more than three tenths in f32, and yet no more than fifteen steps of fifty.
#[test]
fn a_share_of_the_steps_is_not_one_too_many() {
    for (share, steps, guided) in [(0.3, 50, 15), (0.6, 25, 15), (0.31, 50, 16), (1.0, 7, 7)] {
        let plan = ImagePlan {
            order: Order::Confidence,
            ..plan(8, 8, steps)
        };
        let twin = Unconditional::Masked { positions: vec![] };
        let canvas = Canvas::image(vec![MASK; 64], MASK, plan).unwrap();
        let canvas = canvas.guided(1.0, twin).unwrap().guided_for(share).unwrap();
        let mut fake = Fake::new(tangled);
        Sampler::new(&mut fake, vec![canvas], seeded(7))
            .finish()
            .unwrap();
        let is_double = |rows: &&(mmada_tensor::Rows, _)| rows.0.sequences.len() == 2;
        assert_eq!(
            fake.asked.iter().filter(is_double).count(),
            guided,
            "{share}"
        );
    }
}

#[test]
fn guidance_is_bounded() {
    let twin = || Unconditional::Masked { positions: vec![] };
    let canvas = || Canvas::image(vec![MASK; 64], MASK, plan(8, 8, 4)).unwrap();
    assert!(canvas().guided(1e3, twin()).is_ok());
    for scale in [f32::NAN, f32::INFINITY, 1e38, -2e3] {
        assert!(canvas().guided(scale, twin()).is_err(), "{scale}");
    }
}
