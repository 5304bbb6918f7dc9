//! Commit rules: how many positions a step fixes, and when it takes one back.

use mmada_diffusion::{Allowed, CacheRule, Canvas, Commit, Rest, Sampler, Step, Stop, TextPlan};

use crate::fake::{Fake, Rule, seeded, tangled, text_plan};

const MASK: u32 = 99;

fn plan(commit: Commit, steps: usize, block_length: usize) -> TextPlan {
    TextPlan {
        steps,
        block_length,
        ahead: None,
        temperature: 0.0,
        commit,
        cache: CacheRule::Off,
        allowed: Allowed {
            range: 0..2,
            banned: Vec::new(),
            banned_at: Vec::new(),
        },
        stop: Stop::Never,
        rest: Rest::Masked,
    }
}

fn run(rule: Rule, masked: usize, plan: TextPlan) -> Vec<Step> {
    let canvas = Canvas::text(vec![MASK; masked], MASK, plan).unwrap();
    let sampler = Sampler::new(Fake::new(rule), vec![canvas], seeded(3));
    sampler.map(Result::unwrap).collect()
}

fn committed(steps: &[Step]) -> Vec<Vec<(usize, u32)>> {
    let of = |step: &Step| {
        let decisions = step.moves[0].committed.iter();
        decisions.map(|d| (d.position, d.id)).collect()
    };
    steps.iter().map(of).collect()
}

/// The probability of id 1, by position.
const SURE: [f64; 6] = [0.61, 0.99, 0.55, 0.97, 0.80, 0.95];

fn sure(_: &[u32], position: usize, id: u32) -> f32 {
    let p = SURE[position % 6];
    id as f32 * (p / (1.0 - p)).ln() as f32
}

#[test]
fn each_rule_commits_what_its_bound_says() {
    for (commit, first) in [
        (Commit::LowConfidence, 1),
        (Commit::Threshold(0.9), 3),
        (Commit::Threshold(0.96), 2),
        (Commit::Threshold(0.5), 6),
        (Commit::Threshold(1.0), 1),
        // (n + 1)(1 - p): .02, .09, .2, 1, 2.34, 3.15
        (Commit::Factor(0.9), 3),
        (Commit::Factor(1.5), 4),
        (Commit::Factor(0.0), 1),
        // Entropies .056, .135, .199, .5; sums without the largest 0, .056, .191, .389
        (Commit::Entropy(0.1), 2),
        (Commit::Entropy(0.25), 3),
        (Commit::Entropy(0.0), 1),
        // Never all of the candidates: the last are left to verify by.
        (
            Commit::Verify {
                draft: 0.5,
                keep: 0.0,
            },
            5,
        ),
    ] {
        let steps = run(sure, 6, plan(commit, 6, 6));
        let by_step = committed(&steps);
        assert_eq!(by_step[0].len(), first, "{commit:?}");
        let mut surest: Vec<usize> = (0..6).collect();
        surest.sort_by(|a, b| SURE[*b].total_cmp(&SURE[*a]));
        surest.truncate(first);
        surest.sort_unstable();
        let positions: Vec<usize> = by_step[0].iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, surest, "{commit:?}");
        assert_eq!(by_step.iter().map(Vec::len).sum::<usize>(), 6);
    }
}

/// Blocks of a few positions are verified like others: one is left to the step that asks about them.
#[test]
fn small_blocks_are_verified_too() {
    let commit = Commit::Verify {
        draft: 0.5,
        keep: 0.0,
    };
    for block in 2..6 {
        let by_step = committed(&run(sure, block, plan(commit, block, block)));
        let counts: Vec<usize> = by_step.iter().map(Vec::len).collect();
        assert_eq!(counts, [block - 1, 1], "a block of {block}");
    }
}

#[test]
fn a_threshold_of_one_is_one_token_a_step() {
    for (steps, block) in [(12, 4), (12, 12), (6, 4), (3, 4)] {
        let with = |commit| committed(&run(tangled, 12, plan(commit, steps, block)));
        let even = with(Commit::LowConfidence);
        assert_eq!(even.len(), steps);
        assert_eq!(with(Commit::Threshold(1.0)), even);
        assert_eq!(with(Commit::Factor(0.0)), even);
    }
}

#[test]
fn sure_blocks_take_one_step_and_the_share_is_the_least() {
    let steps = run(tangled, 12, plan(Commit::Threshold(0.0), 12, 4));
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|step| step.total == 12));
    let steps = run(|_, _, _| 0.0, 12, plan(Commit::Threshold(0.9), 6, 4));
    assert_eq!(steps.len(), 6);
}

/// Everyone says 1, but who is right of a 1 says 0 for certain.
fn alternates(sequence: &[u32], position: usize, id: u32) -> f32 {
    match position > 0 && sequence[position - 1] == 1 {
        true => 9.0 * f32::from(u8::from(id == 0)),
        false => (1.0 + 0.01 * position as f32) * f32::from(u8::from(id == 1)),
    }
}

#[test]
fn a_rash_commitment_is_taken_back() {
    let verify = Commit::Verify {
        draft: 0.6,
        keep: 0.5,
    };
    let steps = run(alternates, 8, plan(verify, 8, 8));
    // Five at once, all saying 1: too many.
    assert_eq!(steps[0].moves[0].committed.len(), 5);
    assert!(steps[0].moves[0].revoked.is_empty());
    assert!(
        steps[1..]
            .iter()
            .any(|step| !step.moves[0].revoked.is_empty())
    );
    assert!(steps.len() <= 8);
    let last = |commit| {
        let canvas = Canvas::text(vec![MASK; 8], MASK, plan(commit, 8, 8)).unwrap();
        let sampler = Sampler::new(Fake::new(alternates), vec![canvas], seeded(3));
        sampler.finish().unwrap()[0].ids().to_vec()
    };
    let pairs = |ids: Vec<u32>| ids.windows(2).filter(|pair| pair == &[1, 1]).count();
    assert!(pairs(last(verify)) < pairs(last(Commit::Threshold(0.6))));
    // Who keeps everything takes nothing back.
    let trusting = Commit::Verify {
        draft: 0.6,
        keep: 0.0,
    };
    let steps = run(alternates, 8, plan(trusting, 8, 8));
    assert!(steps.iter().all(|step| step.moves[0].revoked.is_empty()));
}

#[test]
fn early_stops_hold_under_bold_rules() {
    // Blocks of two, each decided at once; position 3 ends the answer.
    let rule: Rule = |_, position, id| 9.0 * f32::from(u8::from((id == 1) == (position == 3)));
    for stop in [Stop::Complete { end: vec![1] }, Stop::BlockEnd { token: 1 }] {
        let steps = run(
            rule,
            8,
            TextPlan {
                stop,
                ..plan(Commit::Threshold(0.9), 8, 2)
            },
        );
        assert_eq!(steps.len(), 2);
        assert!(steps[1].moves[0].is_finished);
    }
}

/// The second token seems to be the end until the first is known: what ends an answer is verified
/// like the rest.
#[test]
fn an_answer_ends_on_nothing_unverified() {
    let rule: Rule = |sequence, position, id| {
        let says = match (position, sequence[0]) {
            (1, MASK) => 1,
            (1, _) => 3,
            (5, _) => 1,
            _ => 2,
        };
        5.0 * f32::from(u8::from(id == says))
    };
    let canvas = |commit| {
        let stopping = TextPlan {
            stop: Stop::Complete { end: vec![1] },
            rest: Rest::Fill(0),
            commit,
            ..text_plan(8, 8)
        };
        let canvas = Canvas::text(vec![MASK; 8], MASK, stopping).unwrap();
        let sampler = Sampler::new(Fake::new(rule), vec![canvas], seeded(3));
        sampler.finish().unwrap()[0].ids().to_vec()
    };
    assert_eq!(canvas(Commit::Threshold(0.6))[..2], [2, 1]);
    let verify = Commit::Verify {
        draft: 0.6,
        keep: 0.5,
    };
    assert_eq!(canvas(verify)[..6], [2, 3, 2, 2, 2, 1]);
}

#[test]
fn rules_are_read_from_words() {
    for (text, rule) in [
        ("low-confidence", Commit::LowConfidence),
        ("random", Commit::Random),
        ("threshold=0.9", Commit::Threshold(0.9)),
        ("factor=1", Commit::Factor(1.0)),
        ("entropy=0.1", Commit::Entropy(0.1)),
        (
            "verify=0.6:0.9",
            Commit::Verify {
                draft: 0.6,
                keep: 0.9,
            },
        ),
    ] {
        assert_eq!(text.parse::<Commit>().unwrap(), rule);
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Commit>(&json).unwrap(), rule);
    }
    for text in [
        "",
        "threshold",
        "threshold=2",
        "threshold=x",
        "verify=0.5",
        "factor=-1",
        "entropy=nan",
    ] {
        let error = text.parse::<Commit>().unwrap_err().to_string();
        assert!(
            error.contains("expected") && error.contains("got"),
            "{error}"
        );
    }
    assert_eq!(
        serde_json::to_string(&Commit::LowConfidence).unwrap(),
        "\"low_confidence\""
    );
}
