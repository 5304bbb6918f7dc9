//! One answer under several conditions.

use mmada_diffusion::{CacheRule, Canvas, Commit, Refresh, Sampler, TextPlan, Unconditional};

use crate::fake::{Fake, Rule, seeded, tangled, text_plan};

const MASK: u32 = 99;

fn canvas(cache: CacheRule, commit: Commit) -> Canvas {
    let plan = TextPlan {
        commit,
        cache,
        ..text_plan(8, 4)
    };
    Canvas::text([vec![5, 6, 7], vec![MASK; 8]].concat(), MASK, plan).unwrap()
}

fn plain() -> Canvas {
    canvas(CacheRule::Off, Commit::LowConfidence)
}

fn run(rule: Rule, canvas: Canvas) -> (Vec<u32>, Vec<f32>) {
    let mut sampler = Sampler::new(Fake::new(rule), vec![canvas], seeded(4));
    let mut confidences = Vec::new();
    for step in &mut sampler {
        let moved = step.unwrap().moves.remove(0);
        confidences.extend(moved.committed.iter().map(|it| it.confidence));
    }
    (sampler.canvases()[0].ids().to_vec(), confidences)
}

/// The second token says which ids are likely: 6 favours 1 a little, 8 favours 2 by much.
fn told(sequence: &[u32], _: usize, id: u32) -> f32 {
    match (sequence[1], id) {
        (6, 1) => 1.0,
        (8, 2) => 3.0,
        _ => 0.0,
    }
}

#[test]
fn logits_are_the_mean_over_all_conditions() {
    let also = |conditions: &[(usize, Vec<u32>)]| {
        let canvas = plain().given_also(conditions.to_vec()).unwrap();
        run(told, canvas)
    };
    let (ids, alone) = also(&[]);
    assert_eq!(ids[..3], [5, 6, 7]);
    assert_eq!(ids[3..], [1; 8]);
    let (ids, both) = also(&[(1, vec![8])]);
    assert_eq!(
        ids,
        [vec![5, 6, 7], vec![2; 8]].concat(),
        "what is given stays"
    );
    let odds = |logit: f32, others: f32| logit.exp() / (logit.exp() + others);
    assert!((alone[0] - odds(1.0, 9.0)).abs() < 1e-6, "{}", alone[0]);
    let others = 0.5f32.exp() + 8.0;
    assert!((both[0] - odds(1.5, others)).abs() < 1e-6, "{}", both[0]);
    let (ids, _) = also(&[(1, vec![8]), (0, vec![5, 6]), (1, vec![6, 7]), (1, vec![6])]);
    assert_eq!(ids[3..], [1; 8], "four against one");
}

#[test]
fn the_same_condition_again_changes_nothing() {
    let twin = || Unconditional::all_given(plain().ids(), MASK);
    for guidance in [0.0, 2.0] {
        let once = run(tangled, plain().guided(guidance, twin()).unwrap());
        let again = plain().given_also(vec![(0, vec![5, 6, 7]), (2, vec![7]), (0, vec![])]);
        let again = again.unwrap().guided(guidance, twin()).unwrap();
        assert_eq!(run(tangled, again), once);
    }
}

/// A cache that renews every step is exact, with stand-ins or without.
#[test]
fn caches_hold_each_condition_apart() {
    let conditions = vec![(0, vec![1, 2]), (2, vec![3])];
    let with = |cache, commit| {
        let canvas = canvas(cache, commit).given_also(conditions.clone());
        run(tangled, canvas.unwrap())
    };
    let verify = Commit::Verify {
        draft: 0.1,
        keep: 0.3,
    };
    for commit in [Commit::LowConfidence, verify] {
        let off = with(CacheRule::Off, commit);
        assert_ne!(off, run(tangled, canvas(CacheRule::Off, commit)));
        for cache in [
            CacheRule::Prefix(Refresh::Steps(1)),
            CacheRule::Dual(Refresh::Steps(1)),
        ] {
            assert_eq!(with(cache, commit), off, "{cache:?} {commit:?}");
        }
    }
}

#[test]
fn a_condition_may_not_reach_into_the_answer() {
    for conditions in [
        vec![(3, vec![1])],
        vec![(0, vec![1; 4])],
        vec![(usize::MAX, vec![1])],
    ] {
        let error = plain().given_also(conditions).unwrap_err().to_string();
        assert!(error.contains("before 3"), "{error}");
    }
}
