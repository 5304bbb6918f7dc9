//! What holds for any canvas, plan and denoiser.

use std::collections::BTreeMap;

use mmada_diffusion::schedule::transfer_counts;
use mmada_diffusion::{
    Allowed, CacheRule, Canvas, Commit, ImagePlan, Order, Refresh, Rest, Sampler, Schedule, Stop,
    TextPlan, Unconditional,
};
use proptest::prelude::*;

use crate::fake::{Fake, seeded, tangled};

const MASK: u32 = 99;

fn schedule() -> impl Strategy<Value = Schedule> {
    prop_oneof![
        Just(Schedule::Cosine),
        Just(Schedule::Linear),
        (0.3_f32..4.0).prop_map(Schedule::Power),
        Just(Schedule::SIGMOID),
    ]
}

fn commit() -> impl Strategy<Value = Commit> {
    prop_oneof![
        Just(Commit::LowConfidence),
        Just(Commit::Random),
        (0.0_f32..=1.0).prop_map(Commit::Threshold),
        (0.0_f32..4.0).prop_map(Commit::Factor),
        (0.0_f32..4.0).prop_map(Commit::Entropy),
        (0.0_f32..=1.0, 0.0_f32..=1.0).prop_map(|(draft, keep)| Commit::Verify { draft, keep }),
    ]
}

fn text_cache() -> impl Strategy<Value = CacheRule> {
    let refresh = prop_oneof![Just(Refresh::Block), (1_usize..9).prop_map(Refresh::Steps)];
    (0_u8..3, refresh).prop_map(|(kind, refresh)| match kind {
        0 => CacheRule::Off,
        1 => CacheRule::Prefix(refresh),
        _ => CacheRule::Dual(refresh),
    })
}

fn picture_cache() -> impl Strategy<Value = CacheRule> {
    let uncertain = (0.0_f32..=1.0, 0.0_f32..=1.0, 1_usize..6);
    let uncertain = uncertain.prop_map(|(warm_up, share, refresh)| CacheRule::Uncertain {
        warm_up,
        share,
        refresh,
    });
    prop_oneof![Just(CacheRule::Off), uncertain]
}

/// Text with holes anywhere.
fn text() -> impl Strategy<Value = Canvas> {
    let ids = prop::collection::vec(prop_oneof![0_u32..8, Just(MASK)], 1..40);
    let rules = (
        1_usize..50,
        1_usize..12,
        prop_oneof![Just(0.0_f32), Just(0.8)],
        commit(),
        text_cache(),
        prop_oneof![Just(None), (0_usize..6).prop_map(Some)],
    );
    (ids, rules, 0_u8..2).prop_map(
        |(ids, (steps, block_length, temperature, commit, cache, ahead), guided)| {
            let plan = TextPlan {
                steps,
                block_length,
                ahead,
                temperature,
                commit,
                cache,
                allowed: Allowed {
                    range: 0..10,
                    banned: vec![3],
                    banned_at: Vec::new(),
                },
                stop: Stop::Never,
                rest: Rest::Masked,
            };
            let twin = Unconditional::all_given(&ids, MASK);
            let canvas = Canvas::text(ids, MASK, plan).unwrap();
            canvas.guided(f32::from(guided) * 1.5, twin).unwrap()
        },
    )
}

/// A picture with known codes anywhere.
fn picture() -> impl Strategy<Value = Canvas> {
    let codes = prop::collection::vec(prop_oneof![2 => Just(MASK), 1 => 20_u32..30], 1..40);
    let order = prop_oneof![Just(Order::Confidence), Just(Order::Halton)];
    let rules = (1_usize..50, schedule(), order, picture_cache());
    (codes, rules, 0_u8..2).prop_map(|(codes, (steps, schedule, order, cache), guided)| {
        let range = 2..2 + codes.len();
        let ids = [vec![1, 2], codes, vec![3]].concat();
        let mut plan = ImagePlan::new(range, 20..30, steps);
        plan.schedule = schedule;
        plan.order = order;
        plan.cache = cache;
        let canvas = Canvas::image(ids, MASK, plan).unwrap();
        let twin = Unconditional::Prefix {
            ids: vec![4],
            shared_from: 2,
        };
        canvas.guided(f32::from(guided) * 3.5, twin).unwrap()
    })
}

fn canvas() -> impl Strategy<Value = Canvas> {
    prop_oneof![text(), picture()]
}

/// Ids after every step.
fn film(canvases: Vec<Canvas>, seed: u64) -> Vec<Vec<Vec<u32>>> {
    let mut fake = Fake::new(tangled);
    let mut sampler = Sampler::new(&mut fake, canvases, seeded(seed));
    let mut film = Vec::new();
    while let Some(step) = sampler.next() {
        step.unwrap();
        film.push(
            sampler
                .canvases()
                .iter()
                .map(|canvas| canvas.ids().to_vec())
                .collect(),
        );
    }
    film
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_masked_position_is_committed_once(canvas in canvas(), seed in any::<u64>()) {
        let before = canvas.ids().to_vec();
        let region = canvas.region().to_vec();
        let mut sampler = Sampler::new(Fake::new(tangled), vec![canvas], seeded(seed));
        let mut committed = BTreeMap::new();
        for step in &mut sampler {
            let step = step.unwrap();
            prop_assert!(!step.moves[0].committed.is_empty());
            prop_assert!(step.index < step.total);
            let before = committed.len();
            for decision in &step.moves[0].committed {
                let earlier = committed.insert(decision.position, decision.id);
                prop_assert_eq!(earlier, None);
            }
            for position in &step.moves[0].revoked {
                prop_assert!(committed.remove(position).is_some());
            }
            prop_assert!(committed.len() > before);
        }
        let positions: Vec<_> = committed.keys().copied().collect();
        prop_assert_eq!(&positions, &region);
        let after = sampler.canvases()[0].ids();
        for (position, id) in committed {
            prop_assert_eq!(after[position], id);
            prop_assert!(id != MASK && id != 3);
        }
        for position in (0..before.len()).filter(|position| !region.contains(position)) {
            prop_assert_eq!(after[position], before[position]);
        }
    }

    #[test]
    fn a_batch_equals_single_runs(
        canvases in prop::collection::vec(canvas(), 1..5),
        seed in any::<u64>(),
    ) {
        let canvases: Vec<Canvas> = canvases
            .into_iter()
            .enumerate()
            .map(|(index, canvas)| canvas.example(100 + index as u64))
            .collect();
        let batch = film(canvases.clone(), seed);
        prop_assert_eq!(&batch, &film(canvases.clone(), seed));
        for (index, canvas) in canvases.into_iter().enumerate() {
            let alone = film(vec![canvas], seed);
            for (step, frames) in alone.iter().enumerate() {
                prop_assert_eq!(&frames[0], &batch[step][index]);
            }
            if let (Some(alone), Some(batch)) = (alone.last(), batch.last()) {
                prop_assert_eq!(&alone[0], &batch[index]);
            }
        }
    }

    #[test]
    fn transfer_counts_sum_to_the_masked(masked in 0_usize..500, steps in 1_usize..64) {
        let counts = transfer_counts(masked, steps);
        prop_assert_eq!(counts.len(), steps);
        prop_assert_eq!(counts.iter().sum::<usize>(), masked);
        prop_assert!(counts.windows(2).all(|pair| pair[0] >= pair[1] && pair[0] - pair[1] <= 1));
    }

    #[test]
    fn masked_counts_fall_to_one(
        schedule in schedule(), total in 1_usize..300, steps in 1_usize..64,
    ) {
        let mut unknown = total;
        for step in 0..steps {
            let left = schedule.masked_after(step, steps, total, unknown);
            prop_assert!(left >= 1 && (left < unknown || unknown == 1));
            unknown = left;
        }
        prop_assert_eq!(unknown, 1);
    }

    #[test]
    fn training_counts_are_possible(
        schedule in schedule(), t in 0_f32..=1.0, floor in 0_f32..=1.0, total in 1_usize..300,
    ) {
        let count = schedule.training_count(t, floor, total);
        prop_assert!((1..=total).contains(&count));
    }
}

#[test]
fn seeds_differ() {
    let codes = vec![MASK; 30];
    let canvas = || Canvas::image(codes.clone(), MASK, ImagePlan::new(0..30, 20..30, 6)).unwrap();
    assert_ne!(film(vec![canvas()], 1), film(vec![canvas()], 2));
    let batch = film(vec![canvas(), canvas()], 1);
    let last = batch.last().unwrap();
    assert_ne!(last[0], last[1], "canvases of a batch must not share draws");
}
