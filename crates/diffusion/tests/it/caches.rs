//! Cache rules: which rows are computed, and what may not change by it.

use mmada_diffusion::corruption::{Tiles, push_pieces};
use mmada_diffusion::{
    CacheRule, Canvas, Commit, Denoiser, ImagePlan, Order, Refresh, Sampler, TextPlan,
    Unconditional,
};
use mmada_nn::{Cache, Config, Sizes, Transformer};
use mmada_tensor::{Device, Recall, Result, Rows, Tensor, Want, candle};

use crate::fake::{Fake, Rule, seeded, tangled, text_plan};

const MASK: u32 = 30;

fn text(cache: CacheRule, ahead: Option<usize>) -> Canvas {
    let plan = TextPlan {
        ahead,
        cache,
        ..text_plan(8, 4)
    };
    Canvas::text([vec![5, 6], vec![MASK; 8]].concat(), MASK, plan).unwrap()
}

fn picture(cache: CacheRule, order: Order, guided: f32) -> Canvas {
    let ids = [vec![1, 2], vec![MASK; 16], vec![3]].concat();
    let plan = ImagePlan {
        width: 4,
        order,
        cache,
        ..ImagePlan::new(2..18, 20..30, 8)
    };
    let twin = Unconditional::Prefix {
        ids: vec![4],
        shared_from: 2,
    };
    let canvas = Canvas::image(ids, MASK, plan).unwrap();
    canvas.guided(guided, twin).unwrap()
}

fn uncertain(warm_up: f32, share: f32, refresh: usize) -> CacheRule {
    CacheRule::Uncertain {
        warm_up,
        share,
        refresh,
    }
}

/// Rows of every forward, and the ids after every step.
fn film(denoiser: impl Denoiser, canvas: Canvas) -> (Vec<usize>, Vec<Vec<u32>>) {
    let mut sampler = Sampler::new(denoiser, vec![canvas], seeded(4));
    let (mut rows, mut frames) = (Vec::new(), Vec::new());
    while let Some(step) = sampler.next() {
        rows.push(step.unwrap().rows);
        frames.push(sampler.canvases()[0].ids().to_vec());
    }
    (rows, frames)
}

fn fake(canvas: Canvas) -> (Vec<usize>, Vec<Vec<u32>>) {
    film(Fake::new(tangled), canvas)
}

#[test]
fn text_caches_compute_the_rows_they_say() {
    let far = Refresh::Steps(100);
    for (cache, ahead, expected) in [
        (CacheRule::Off, None, [10, 10, 10, 10, 10, 10, 10, 10]),
        (CacheRule::Off, Some(2), [8, 8, 8, 8, 10, 10, 10, 10]),
        (
            CacheRule::Prefix(Refresh::Block),
            None,
            [10, 8, 8, 8, 10, 4, 4, 4],
        ),
        (
            CacheRule::Prefix(Refresh::Block),
            Some(2),
            [8, 6, 6, 6, 10, 4, 4, 4],
        ),
        (
            CacheRule::Dual(Refresh::Block),
            None,
            [10, 4, 4, 4, 10, 4, 4, 4],
        ),
        (
            CacheRule::Dual(Refresh::Steps(3)),
            None,
            [10, 4, 4, 10, 4 + 1, 4, 10, 4],
        ),
        // The last token of a block changed after it was computed, and so is computed once more.
        (CacheRule::Dual(far), None, [10, 4, 4, 4, 4 + 1, 4, 4, 4]),
        (CacheRule::Dual(far), Some(2), [8, 4, 4, 4, 4 + 1, 4, 4, 4]),
        // A complete block once more, since it was computed while a part of it was masked.
        (CacheRule::BlockCausal, None, [10, 8, 8, 8, 4 + 4, 4, 4, 4]),
        (
            CacheRule::BlockCausal,
            Some(2),
            [8, 6, 6, 6, 4 + 4, 4, 4, 4],
        ),
    ] {
        let (rows, _) = fake(text(cache, ahead));
        assert_eq!(rows, expected, "{cache:?}, ahead {ahead:?}");
    }
}

/// The fake's logits depend on ids alone, not on hidden states: no row with a stale token is ever
/// seen, so every cache that computes the candidates anew gives the exact tokens.
#[test]
fn no_token_is_seen_stale() {
    for ahead in [None, Some(0), Some(3)] {
        let exact = fake(text(CacheRule::Off, ahead)).1;
        for refresh in [Refresh::Block, Refresh::Steps(1), Refresh::Steps(100)] {
            for cache in [CacheRule::Prefix(refresh), CacheRule::Dual(refresh)] {
                assert_eq!(fake(text(cache, ahead)).1, exact, "{cache:?}");
            }
        }
        assert_eq!(fake(text(CacheRule::BlockCausal, ahead)).1, exact);
        let guided = |cache| {
            let canvas = text(cache, ahead);
            let twin = Unconditional::all_given(canvas.ids(), MASK);
            canvas.guided(2.0, twin).unwrap()
        };
        let exact = fake(guided(CacheRule::Off)).1;
        assert_eq!(fake(guided(CacheRule::BlockCausal)).1, exact);
    }
    for guided in [0.0, 2.0] {
        for order in [Order::Confidence, Order::Halton] {
            let exact = fake(picture(CacheRule::Off, order, guided)).1;
            for cache in [uncertain(0.0, 1.0, 100), uncertain(0.3, 0.1, 1)] {
                let got = fake(picture(cache, order, guided)).1;
                assert_eq!(got, exact, "{cache:?} {order:?} {guided}");
            }
        }
    }
}

/// A given token beyond the first block lets one forward see all of the canvas; later ones are cut,
/// and stand-ins take rows behind the cut, which further blocks look at again.
#[test]
fn stand_ins_leave_no_stale_rows() {
    let masks = |n| vec![MASK; n];
    let ids = [vec![5], masks(4), vec![6], masks(8)].concat();
    let canvas = |cache| {
        let plan = TextPlan {
            ahead: Some(2),
            commit: Commit::Verify {
                draft: 1.0,
                keep: 0.0,
            },
            cache,
            ..text_plan(12, 2)
        };
        Canvas::text(ids.clone(), MASK, plan).unwrap()
    };
    let exact = fake(canvas(CacheRule::Off)).1;
    assert_eq!(fake(canvas(CacheRule::Dual(Refresh::Steps(100)))).1, exact);
}

#[test]
fn a_picture_computes_what_changed_and_what_it_knows_least_of() {
    // Surer the further to the right: the left is what it knows least of.
    let rule: Rule = |_, position, id| f32::from(u8::from(id == 20)) * position as f32;
    let mut fake = Fake::new(rule);
    let canvas = picture(uncertain(0.25, 0.25, 4), Order::Confidence, 0.0);
    let mut sampler = Sampler::new(&mut fake, vec![canvas], seeded(1));
    let moves: Vec<_> = sampler.by_ref().map(|step| step.unwrap().moves).collect();
    assert_eq!(moves.len(), 8);
    let asked = &fake.asked;
    for (step, (rows, want)) in asked.iter().enumerate() {
        // Two steps of warm-up, and all rows again in the fourth after it.
        if step < 2 || step == 5 {
            assert_eq!(rows.len(), 19, "step {step}");
            continue;
        }
        let changed = moves[step - 1][0].committed.len();
        let masked = moves[step - 1][0].masked;
        let renewed = masked.div_ceil(4);
        assert_eq!(rows.len(), changed + renewed, "step {step}");
        assert_eq!(want.rows.len(), renewed, "step {step}");
        let mut left: Vec<u32> = (2..18).collect();
        for decision in moves[..step].iter().flat_map(|m| &m[0].committed) {
            left.retain(|position| *position != decision.position as u32);
        }
        let got: Vec<u32> = want.rows.iter().map(|&row| rows.positions[row]).collect();
        assert_eq!(got, left[..renewed], "step {step}");
    }
}

#[test]
fn halton_needs_only_the_rows_it_decides() {
    let canvas = picture(uncertain(0.0, 0.5, 100), Order::Halton, 0.0);
    let mut fake = Fake::new(tangled);
    let mut sampler = Sampler::new(&mut fake, vec![canvas], seeded(1));
    let counts: Vec<_> = sampler
        .by_ref()
        .map(|s| s.unwrap().moves[0].committed.len())
        .collect();
    let rows: Vec<_> = fake.asked.iter().map(|(rows, _)| rows.len()).collect();
    let wanted: Vec<_> = fake.asked.iter().map(|(_, want)| want.rows.len()).collect();
    assert_eq!(wanted, counts);
    assert_eq!(rows[0], 19);
    for step in 1..rows.len() {
        assert_eq!(rows[step], counts[step - 1] + counts[step], "step {step}");
    }
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let text = |cache| {
        let plan = TextPlan {
            cache,
            ..TextPlan::greedy(&mmada_tokens::Vocab::published(), 4, 4)
        };
        Canvas::text(vec![1], MASK, plan).is_err()
    };
    assert!(text(CacheRule::ML_CACHE));
    assert!(text(CacheRule::Dual(Refresh::Steps(0))));
    assert!(!text(CacheRule::Dual(Refresh::Block)) && !text(CacheRule::BlockCausal));
    let picture = |cache| {
        let plan = ImagePlan {
            cache,
            ..ImagePlan::new(0..1, 20..30, 4)
        };
        Canvas::image(vec![MASK], MASK, plan).is_err()
    };
    assert!(picture(CacheRule::Prefix(Refresh::Block)) && picture(CacheRule::BlockCausal));
    assert!(picture(uncertain(1.5, 0.1, 5)) && picture(uncertain(0.1, 0.1, 0)));
    assert!(!picture(CacheRule::ML_CACHE));
}

#[test]
fn a_denoiser_without_memory_says_what_to_do() {
    struct Forgetful;
    impl Denoiser for Forgetful {
        fn logits(&mut self, _: &Rows, _: &Want) -> Result<Tensor> {
            unreachable!("the canvas has a cache rule")
        }
    }
    let canvas = text(CacheRule::Dual(Refresh::Block), None);
    let mut sampler = Sampler::new(Forgetful, vec![canvas], seeded(0));
    let error = sampler.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("without a cache"), "{error}");
}

/// A real network, which checks that a forward with all rows active is the plain forward.
struct Checked {
    model: Transformer,
    cache: Cache,
    whole: usize,
    full: usize,
    partial: usize,
}

impl Checked {
    fn new(whole: usize) -> Self {
        let cfg = Config::new(&Sizes {
            d_model: 16,
            n_heads: 2,
            n_kv_heads: 2,
            n_layers: 3,
            mlp_hidden_size: 24,
            embedding_size: 32,
            max_sequence_length: 32,
            weight_tying: false,
        })
        .unwrap();
        let (params, _) = Transformer::init(&cfg, 3, &Device::Cpu).unwrap();
        // Larger weights, so that rows depend on each other visibly.
        let mut loud = mmada_nn::Params::new(&Device::Cpu, mmada_nn::Mode::Frozen);
        for (name, tensor) in params.iter() {
            let tensor = match name.contains("norm") || name.contains("ln_f") {
                true => tensor.detach(),
                false => (tensor.detach() * 12.0).unwrap(),
            };
            loud.insert(name, tensor).unwrap();
        }
        Self {
            model: Transformer::load(&cfg, &loud).unwrap(),
            cache: Cache::default(),
            whole,
            full: 0,
            partial: 0,
        }
    }
}

impl Denoiser for Checked {
    fn logits(&mut self, rows: &Rows, want: &Want) -> Result<Tensor> {
        Ok(self.model.logits(rows, want).map_err(candle::Error::wrap)?)
    }

    fn logits_recalled(&mut self, rows: &Rows, recall: &Recall, want: &Want) -> Result<Tensor> {
        let got = self
            .model
            .logits_recalled(rows, recall, &mut self.cache, want);
        let got = got.map_err(candle::Error::wrap)?;
        match rows.len() == self.whole {
            true => {
                let exact = self.logits(rows, want)?.to_vec2::<f32>()?;
                assert_eq!(got.to_vec2::<f32>()?, exact);
                self.full += 1;
            }
            false => self.partial += 1,
        }
        Ok(got)
    }
}

#[test]
fn with_a_network_a_refresh_is_exact() {
    let off = film(Checked::new(10), text(CacheRule::Off, None));
    let every = text(CacheRule::Dual(Refresh::Steps(1)), None);
    assert_eq!(film(Checked::new(10), every).1, off.1);
    let mut checked = Checked::new(10);
    let dual = film(&mut checked, text(CacheRule::Dual(Refresh::Block), None));
    assert_eq!((checked.full, checked.partial), (2, 6));
    // The first step of a block is exact on the canvas it finds.
    assert_eq!(dual.1[0], off.1[0]);

    let off = film(
        Checked::new(19),
        picture(CacheRule::Off, Order::Confidence, 0.0),
    );
    let every = picture(uncertain(0.0, 0.1, 1), Order::Confidence, 0.0);
    assert_eq!(film(Checked::new(19), every).1, off.1);
    let guided = |cache| picture(cache, Order::Confidence, 1.5);
    let off = film(Checked::new(37), guided(CacheRule::Off));
    assert_eq!(
        film(Checked::new(37), guided(uncertain(0.0, 0.1, 1))).1,
        off.1
    );
    let mut checked = Checked::new(37);
    let few = film(&mut checked, guided(uncertain(0.25, 0.2, 3)));
    // All rows in the two steps of the warm-up, then in every third.
    assert_eq!((checked.full, checked.partial), (4, 4));
    assert!(few.1.last().unwrap().iter().all(|id| *id != MASK));
}

/// What a block-causal sampler sees is what windows side by side are trained on: every token that a
/// step commits is the likeliest where all of the row is computed at once, as in training.
#[test]
fn block_causal_is_what_tiles_are() {
    let model = Checked::new(usize::MAX).model;
    for (block, ahead, steps) in [(1, 0, 8), (1, 2, 8), (4, 2, 8), (4, 0, 2), (3, 1, 6)] {
        let plan = TextPlan {
            ahead: Some(ahead),
            cache: CacheRule::BlockCausal,
            ..text_plan(steps, block)
        };
        let mut before = [vec![5, 6], vec![MASK; 8]].concat();
        let canvas = Canvas::text(before.clone(), MASK, plan).unwrap();
        for frame in film(Checked::new(usize::MAX), canvas).1 {
            let first = before.iter().position(|id| *id == MASK).unwrap();
            let last = 2 + ((first - 2) / block + 1) * block;
            let starts = (2..last.min(10)).step_by(block);
            let windows: Vec<_> = starts.map(|at| at..(at + block).min(10)).collect();
            let current = windows.last().unwrap().clone();
            let mut tiles = Tiles::windows(&before[..current.end], &windows, (ahead, 10), MASK);
            let mut place = tiles.asked.last().unwrap().start;
            if (block, ahead) == (1, 0) {
                tiles = Tiles::tokens(&before[..current.end], 2, MASK);
                place = tiles.ids.len() - 1;
            }
            let mut rows = Rows::default();
            push_pieces(&tiles.ids, &tiles.pieces, &mut rows);
            let wanted = place..place + current.len();
            let logits = model.logits(&rows, &Want::new(wanted, 0..10)).unwrap();
            let best = logits.argmax(1).unwrap().to_vec1::<u32>().unwrap();
            for (position, best) in current.zip(best) {
                let is_new = before[position] == MASK && frame[position] != MASK;
                assert!(
                    !is_new || frame[position] == best,
                    "{block} {ahead} {steps}"
                );
            }
            before = frame;
        }
        assert!(!before.contains(&MASK));
    }
}
