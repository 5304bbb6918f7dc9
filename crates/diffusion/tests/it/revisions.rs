//! Pictures that are revised after the last step.

use std::collections::BTreeSet;

use mmada_diffusion::{CacheRule, Canvas, Finish, ImagePlan, Move, Order, Sampler};
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

#[test]
fn painting_itself_is_not_changed_by_what_follows() {
    let (plain, painted) = film(vec![MASK; 24], plan(5, 0));
    let (revised, ids) = film(vec![MASK; 24], plan(5, 2));
    for (a, b) in plain.iter().zip(&revised) {
        assert_eq!(a.committed, b.committed);
        assert_eq!(a.temperature, b.temperature);
    }
    assert_ne!(painted, ids, "what follows does something");
}

#[test]
fn what_cannot_be_revised_is_said() {
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
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_was_given_stays_and_what_was_asked_for_is_there(
        ids in prop::collection::vec(prop_oneof![2 => Just(MASK), 1 => 20_u32..30], 24),
        steps in 1_usize..30,
        revisions in 0_usize..5,
        is_halton in any::<bool>(),
        is_cached in any::<bool>(),
    ) {
        let mut plan = plan(steps, revisions);
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
        for moved in &moves {
            for position in positions(moved) {
                prop_assert!(open.remove(&position));
            }
            prop_assert!(moved.revoked.iter().all(|position| open.insert(*position)));
            prop_assert_eq!(moved.masked, open.len());
        }
    }
}
