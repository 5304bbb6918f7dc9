//! Pictures that are revised after the last step.

use std::collections::BTreeSet;

use mmada_diffusion::{
    CacheRule, Canvas, Finish, ImagePlan, Move, Order, Sampler, Schedule, Unconditional,
};
use proptest::prelude::*;

use crate::fake::{Fake, seeded, tangled};

const MASK: u32 = 99;

fn plan(steps: usize, revisions: usize) -> ImagePlan {
    ImagePlan {
        width: 6,
        revisions,
        ..ImagePlan::new(0..24, 20..30, steps)
    }
}

/// The moves of one canvas, and its ids at the end.
fn film(ids: Vec<u32>, plan: ImagePlan) -> (Vec<Move>, Vec<u32>) {
    let canvas = Canvas::image(ids, MASK, plan).unwrap();
    let mut sampler = Sampler::new(Fake::new(tangled), vec![canvas], seeded(7));
    let moves = sampler.by_ref().map(|step| step.unwrap().moves.remove(0));
    let moves = moves.collect();
    (moves, sampler.canvases()[0].ids().to_vec())
}

fn positions(moved: &Move) -> Vec<usize> {
    moved
        .committed
        .iter()
        .map(|decision| decision.position)
        .collect()
}

#[test]
fn every_other_code_is_drawn_anew_and_then_the_others() {
    let (moves, ids) = film(vec![MASK; 24], plan(5, 3));
    assert_eq!(moves.len(), 8);
    let colour = |cell: &usize| (cell % 6 + cell / 6) % 2;
    for (number, of) in [(5, 0), (6, 1), (7, 0)] {
        let expected: Vec<usize> = (0..24).filter(|cell| colour(cell) == of).collect();
        assert_eq!(moves[number - 1].revoked, expected, "before step {number}");
        assert_eq!(positions(&moves[number]), expected, "step {number}");
        assert_eq!(moves[number].temperature, 0.0);
    }
    assert!(moves[7].revoked.is_empty() && moves[7].is_finished);
    assert!(!ids.contains(&MASK));
}

/// What a position holds is likely by itself, so the coldest revisions lead to one and the same picture.
fn by_place(_: &[u32], position: usize, id: u32) -> f32 {
    tangled(&[], position, id)
}

#[test]
fn revisions_have_a_temperature_of_their_own() {
    let paint = |revisions, revision_temperature, token_temperature, seed| {
        let plan = ImagePlan {
            token_temperature,
            revision_temperature,
            ..plan(5, revisions)
        };
        let canvas = Canvas::image(vec![MASK; 24], MASK, plan).unwrap();
        let mut sampler = Sampler::new(Fake::new(by_place), vec![canvas], seeded(seed));
        sampler.by_ref().for_each(|step| drop(step.unwrap()));
        sampler.canvases()[0].ids().to_vec()
    };
    let likeliest = paint(0, None, 0.0, 7);
    for seed in [7, 8] {
        // Drawn as ever, and then both halves of the board at their likeliest.
        assert_ne!(paint(0, Some(0.0), 1.0, seed), likeliest);
        assert_eq!(paint(2, Some(0.0), 1.0, seed), likeliest);
        // Without one of their own, revisions are drawn like the rest.
        assert_ne!(paint(2, None, 1.0, seed), likeliest);
        assert_eq!(paint(2, None, 1.0, seed), paint(2, Some(1.0), 1.0, seed));
        assert_ne!(paint(2, Some(1.0), 0.0, seed), likeliest);
    }
    let wrong = ImagePlan {
        revision_temperature: Some(-1.0),
        ..plan(5, 2)
    };
    let error = Canvas::image(vec![MASK; 24], MASK, wrong).unwrap_err();
    assert!(
        error.to_string().contains("revision temperature"),
        "{error}"
    );
}

#[test]
fn painting_itself_is_not_changed_by_what_follows() {
    let cached = CacheRule::Uncertain {
        warm_up: 0.3,
        share: 0.5,
        refresh: 4,
    };
    for (cache, share) in [(CacheRule::Off, 1.0), (CacheRule::Off, 0.5), (cached, 0.5)] {
        let asked = |revisions: usize| {
            let plan = ImagePlan {
                cache,
                ..plan(5, revisions)
            };
            let twin = Unconditional::Prefix {
                ids: vec![1],
                shared_from: 0,
            };
            let canvas = Canvas::image(vec![MASK; 24], MASK, plan).unwrap();
            let canvas = canvas.guided(2.0, twin).unwrap();
            let canvas = canvas.guided_for(share).unwrap();
            let mut fake = Fake::new(tangled);
            let mut sampler = Sampler::new(&mut fake, vec![canvas], seeded(7));
            let moves = sampler.by_ref().map(|step| step.unwrap().moves.remove(0));
            let moves: Vec<Move> = moves.collect();
            let ids = sampler.canvases()[0].ids().to_vec();
            drop(sampler);
            let sequences = fake.asked.iter().map(|(rows, _)| rows.sequences.len());
            (moves, ids, sequences.collect::<Vec<_>>())
        };
        let (plain, painted, of_plain) = asked(0);
        let (revised, ids, of_revised) = asked(2);
        for (a, b) in plain.iter().zip(&revised) {
            assert_eq!(a.committed, b.committed);
            assert_eq!(a.temperature, b.temperature);
        }
        assert_eq!(of_plain[..], of_revised[..5], "the same steps are guided");
        assert_eq!(
            of_revised[5..],
            [of_revised[4]; 2],
            "and revisions as the last of them"
        );
        assert_ne!(painted, ids, "what follows does something");
    }
}

#[test]
fn a_picture_is_whole_between_two_revisions() {
    let canvas = Canvas::image(vec![MASK; 24], MASK, plan(5, 3)).unwrap();
    let mut sampler = Sampler::new(Fake::new(tangled), vec![canvas], seeded(7));
    while let Some(step) = sampler.next() {
        let revoked = step.unwrap().moves.remove(0).revoked;
        let canvas = &sampler.canvases()[0];
        let masked = canvas.ids().iter().filter(|&&id| id == MASK).count();
        assert!(revoked.is_empty() || revoked.len() == masked);
        assert!(canvas.codes().is_some(), "it can be shown");
    }
}

#[test]
fn what_cannot_be_revised_is_said_or_left() {
    let refused = |plan: ImagePlan| Canvas::image(vec![MASK; 24], MASK, plan).unwrap_err();
    let leaves_one = ImagePlan {
        finish: Finish::LeaveOne,
        ..plan(4, 1)
    };
    assert!(refused(leaves_one).to_string().contains("leave_one"));
    assert!(
        refused(plan(4, 1_000_000))
            .to_string()
            .contains("revisions")
    );
    // Holes of one colour of the board: white, black, a single position.
    for hole in [&[0, 2][..], &[1, 3], &[7]] {
        let ids = (0..24).map(|cell| if hole.contains(&cell) { MASK } else { 20 });
        let (moves, _) = film(ids.collect(), plan(4, 3));
        assert_eq!(moves.len(), hole.len());
        assert!(moves.iter().all(|moved| moved.revoked.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_was_given_stays_and_what_was_asked_for_is_there(
        ids in prop::collection::vec(prop_oneof![2 => Just(MASK), 1 => 20_u32..30], 24),
        steps in 1_usize..30,
        revisions in 0_usize..5,
        schedule in prop_oneof![
            Just(Schedule::Cosine), Just(Schedule::Linear), Just(Schedule::SIGMOID)
        ],
        is_halton in any::<bool>(),
        is_cached in any::<bool>(),
    ) {
        let mut plan = plan(steps, revisions);
        plan.schedule = schedule;
        if is_halton {
            plan.order = Order::Halton;
        }
        if is_cached {
            plan.cache = CacheRule::Uncertain { warm_up: 0.3, share: 0.5, refresh: 4 };
        }
        let (moves, after) = film(ids.clone(), plan);
        prop_assert!(!after.contains(&MASK));
        for (before, after) in ids.iter().zip(&after) {
            prop_assert!(*before == MASK || before == after);
        }
        let mut open: BTreeSet<usize> = (0..24).filter(|cell| ids[*cell] == MASK).collect();
        let colours: BTreeSet<usize> = open.iter().map(|cell| (cell % 6 + cell / 6) % 2).collect();
        for moved in &moves {
            for position in positions(moved) {
                prop_assert!(open.remove(&position));
            }
            prop_assert!(moved.revoked.iter().all(|position| open.insert(*position)));
            prop_assert_eq!(moved.masked, open.len());
        }
        let revised = moves.iter().filter(|moved| !moved.revoked.is_empty()).count();
        prop_assert_eq!(revised, if colours.len() == 2 { revisions } else { 0 });
    }
}
