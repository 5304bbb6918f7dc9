//! Samplers by name: what they stand for, what they take, and that each of them finishes.

use mmada_data::picture::Picture;
use mmada_diffusion::{CacheRule, Commit, Denoiser, Order, Refresh};
use mmada_model::{
    ChatRequest, Defaults, Effort, Message, PaintOptions, PaintRequest, Preset, TextOptions,
};
use mmada_tensor::{Rows, Want};

use crate::tiny;

fn text(sampler: Preset) -> TextOptions {
    TextOptions {
        steps: 16,
        ..tiny::defaults().text
    }
    .under(sampler)
}

fn paint(sampler: Preset) -> PaintOptions {
    PaintOptions {
        steps: 8,
        ..tiny::defaults().paint
    }
    .under(sampler)
}

fn ask(options: &TextOptions) -> (Vec<u32>, Effort) {
    let model = tiny::model();
    let mut run = model
        .chat(&[Message::user("12 + 30 = ?")], options)
        .unwrap();
    let steps = run.by_ref().map(Result::unwrap).count();
    let effort = run.effort();
    assert_eq!(effort.forwards, steps);
    (run.finish().unwrap()[0].ids.clone(), effort)
}

fn draw(options: &PaintOptions) -> (Vec<u32>, Effort) {
    let model = tiny::model();
    let mut run = model.paint("a blue circle", options).unwrap();
    let steps = run.by_ref().map(Result::unwrap).count();
    let effort = run.effort();
    assert_eq!((effort.forwards, effort.tokens), (steps, 16));
    (run.finish().unwrap()[0].codes.clone(), effort)
}

#[test]
fn names_are_those_of_settings() {
    for preset in Preset::ALL {
        let name = serde_json::to_value(preset).unwrap();
        assert_eq!(name, preset.name());
    }
}

#[test]
fn exact_is_the_default_and_changes_nothing() {
    assert_eq!(
        text(Preset::Exact),
        TextOptions {
            steps: 16,
            ..tiny::defaults().text
        }
    );
    assert_eq!(
        paint(Preset::Exact),
        PaintOptions {
            steps: 8,
            ..tiny::defaults().paint
        }
    );
    let exact = ask(&text(Preset::Exact));
    assert!(exact.1.forwards <= 16 && exact.1.tokens == exact.1.forwards);
    // Exact too: all rows anew in every step, and nothing is surer than certain.
    let same = TextOptions {
        commit: Some(Commit::Threshold(1.0)),
        cache: Some(CacheRule::Dual(Refresh::Steps(1))),
        ..text(Preset::Exact)
    };
    assert_eq!(ask(&same).0, exact.0);
    let same = PaintOptions {
        cache: Some(CacheRule::Uncertain {
            warm_up: 0.0,
            share: 0.1,
            refresh: 1,
        }),
        ..paint(Preset::Exact)
    };
    assert_eq!(draw(&same).0, draw(&paint(Preset::Exact)).0);
}

/// Whether what is given looks ahead is the model's, whatever the sampler; with it no sampler computes a
/// block that is finished more than once.
#[test]
fn every_sampler_is_block_causal_where_the_model_is() {
    let exact = ask(&text(Preset::Exact)).1;
    for sampler in Preset::ALL {
        let options = TextOptions {
            cache: Some(CacheRule::BlockCausal),
            block: 2,
            ahead: Some(0),
            ..text(Preset::Exact)
        };
        let options = options.under(sampler);
        assert_eq!(options.rules().cache, CacheRule::BlockCausal, "{sampler:?}");
        let (ids, effort) = ask(&options);
        assert!(
            !ids.is_empty() && effort.rows < exact.rows / 2,
            "{sampler:?}"
        );
        let dual = TextOptions {
            cache: Some(CacheRule::Dual(Refresh::Block)),
            ..options
        };
        let own = sampler.text().cache;
        assert_eq!(dual.under(sampler).rules().cache, own, "{sampler:?}");
    }
}

#[test]
fn every_sampler_finishes_and_caches_compute_less() {
    let (exact, painted) = (ask(&text(Preset::Exact)).1, draw(&paint(Preset::Exact)).1);
    for sampler in Preset::ALL {
        let (answer, drawing) = (ask(&text(sampler)), draw(&paint(sampler)));
        assert!(
            answer.1.forwards <= 16 && !answer.0.is_empty(),
            "{sampler:?}"
        );
        assert_eq!(drawing.0.len(), 16);
        if sampler.text().cache != CacheRule::Off {
            let per_forward = |effort: Effort| effort.rows as f64 / effort.forwards as f64;
            let share = per_forward(answer.1) / per_forward(exact);
            assert!(share < 0.8, "{sampler:?}: {share}");
        }
        if sampler.picture().cache != CacheRule::Off {
            assert!(drawing.1.rows < painted.rows, "{sampler:?}");
        }
    }
    let halved = draw(&paint(Preset::Turbo)).1;
    assert_eq!((painted.forwards, halved.forwards), (8, 4));
}

#[test]
fn company_changes_no_sampler() {
    let model = tiny::model();
    for sampler in [Preset::Verified, Preset::Fast, Preset::Turbo] {
        let talks: Vec<Vec<Message>> = ["hi", "what color is the shape?", "12 + 30 = ?"]
            .map(|text| vec![Message::user(text)])
            .into();
        let requests = (3..).zip(&talks);
        let requests = requests.map(|(example, messages)| ChatRequest { messages, example });
        let requests: Vec<_> = requests.collect();
        let options = text(sampler);
        let together = model
            .chat_many(&requests, &options)
            .unwrap()
            .finish()
            .unwrap();
        for (request, together) in requests.iter().zip(&together) {
            let alone = model.chat_many(&[*request], &options).unwrap();
            assert_eq!(&alone.finish().unwrap()[0], together, "{sampler:?}");
        }
        let request = |example| PaintRequest {
            prompt: "a red circle",
            example,
        };
        let options = paint(sampler);
        let together = model.paint_many(&[request(0), request(1)], &options);
        let together = together.unwrap().finish().unwrap();
        let alone = model.paint_many(&[request(1)], &options).unwrap();
        assert_eq!(alone.finish().unwrap()[0], together[1], "{sampler:?}");
    }
}

#[test]
fn pictures_are_looked_at_under_every_sampler() {
    let model = tiny::model();
    let picture = Picture::new(16, 16, vec![90; 16 * 16 * 3]).unwrap();
    for sampler in Preset::ALL {
        let run = model
            .describe(&picture, "what color?", &text(sampler))
            .unwrap();
        assert_eq!(run.finish().unwrap().len(), 1, "{sampler:?}");
        let guided = TextOptions {
            guidance: 1.0,
            ..text(sampler)
        };
        let run = model.describe(&picture, "what color?", &guided).unwrap();
        assert_eq!(run.finish().unwrap().len(), 1, "guided {sampler:?}");
    }
}

#[test]
fn a_model_names_its_sampler_and_overrules_parts_of_it() {
    let defaults = Defaults::parse(
        br#"{"text": {"sampler": "fast", "commit": {"threshold": 0.8}, "block": 4},
             "paint": {"sampler": "turbo", "guided": 1.0, "steps": 16, "revisions": 3}}"#,
    )
    .unwrap();
    let rules = defaults.text.rules();
    assert_eq!(rules.commit, Commit::Threshold(0.8));
    assert_eq!(rules.cache, Preset::Fast.text().cache);
    let rules = defaults.paint.rules();
    assert_eq!((rules.order, rules.guided), (Order::Halton, 1.0));
    // A sampler asked for by name counts as a whole, and takes as many steps as it needs for the same.
    let exact = defaults.text.clone().under(Preset::Exact);
    assert_eq!(exact.rules(), Preset::Exact.text());
    let turbo = defaults.paint.clone().under(Preset::Turbo);
    assert_eq!((turbo.rules().guided, turbo.steps), (0.5, 16));
    let exact = turbo.clone().under(Preset::Exact);
    assert_eq!((exact.steps, exact.revisions), (32, 6));
    assert_eq!(exact.under(Preset::Turbo), turbo);
    // How far to look ahead is the model's matter first.
    let ahead = |ahead| TextOptions {
        ahead,
        block: 4,
        ..text(Preset::Turbo)
    };
    assert_eq!(ahead(None).masks_ahead(), Some(4));
    assert_eq!(ahead(Some(9)).masks_ahead(), Some(9));
    assert_eq!(text(Preset::Fast).masks_ahead(), None);
    for wrong in [
        r#"{"text": {"sampler": "quick"}}"#,
        r#"{"text": {"commit": {"threshhold": 0.8}}}"#,
        r#"{"text": {"cache": "on"}}"#,
    ] {
        assert!(Defaults::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let round = serde_json::to_vec(&defaults).unwrap();
    assert_eq!(Defaults::parse(&round).unwrap(), defaults);
}

/// Operations are those of every matrix and every pair of rows.
#[test]
fn work_is_what_the_forwards_come_to() {
    let model = tiny::model();
    let cfg = model.config();
    let mut network = model.network();
    let rows = Rows::pack([vec![1, 2, 3, 4], vec![5, 6]]);
    let want = Want::new(0..rows.len(), 0..cfg.embedding_size);
    network.logits(&rows, &want).unwrap();
    let work = network.work();
    let matrices = model
        .params()
        .iter()
        .filter(|(_, tensor)| tensor.rank() == 2);
    let weights: usize = matrices.map(|(_, tensor)| tensor.elem_count()).sum();
    // The embeddings are looked up; a tied table is multiplied with all the same.
    let table = cfg.embedding_size * cfg.d_model;
    let weights = if cfg.weight_tying {
        weights
    } else {
        weights - table
    };
    let attention = cfg.n_layers * 2 * (16 + 4) * cfg.query_width();
    assert_eq!(work.flops(cfg), 2.0 * (6 * weights + attention) as f64);

    // Of one wanted row, the last block only needs what that row sees.
    let mut network = model.network();
    network.logits(&rows, &Want::new([5], 0..3)).unwrap();
    let few = network.work();
    assert_eq!((few.forwards, few.rows, few.wanted), (1, 6, 1));
    assert_eq!((few.pairs, few.last_pairs, few.logits), (20, 2, 3));
    assert!(few.flops(cfg) < work.flops(cfg));
}
