//! Painting and repainting, end to end.

use mmada_data::picture::{Mask, Picture};
use mmada_diffusion::CacheRule;
use mmada_model::repaint::Edit;
use mmada_model::{
    Error, Grid, LoadOptions, Mmada, Outside, PaintOptions, PaintRequest, Painting, Preset,
    Reading, RepaintRequest, Sides,
};
use mmada_nn::SaveOptions;
use mmada_tensor::Precision;

use crate::tiny;

fn options() -> PaintOptions {
    PaintOptions {
        seed: 3,
        ..tiny::defaults().paint
    }
}

fn noise(width: usize, height: usize) -> Picture {
    let pixels = (0..width * height * 3)
        .map(|i| (i * 7919 % 251) as u8)
        .collect();
    Picture::new(width, height, pixels).unwrap()
}

#[test]
fn painting_can_be_watched_and_finished() {
    let model = tiny::model();
    let revised = PaintOptions {
        revisions: 3,
        ..options()
    };
    let mut run = model.paint("a blue circle", &revised).unwrap();
    assert!(run.preview(0).unwrap().is_none());
    let (mut masked, mut revisions) = (16, 0);
    while let Some(view) = run.next() {
        let view = view.unwrap();
        let progress = &view.canvases[0];
        assert_eq!(
            progress.grid,
            Some(Grid {
                width: 4,
                height: 4
            })
        );
        let left = progress.is_masked.iter().filter(|&&m| m).count();
        // In a revision every other code is masked once more.
        revisions += usize::from(left == 8 && masked <= 8);
        assert!(left < masked || left == 8);
        masked = left;
        let preview = run.preview(0).unwrap().unwrap();
        assert_eq!((preview.width(), preview.height()), (16, 16));
    }
    assert_eq!((masked, revisions), (0, 3));
    let preview = run.preview(0).unwrap().unwrap();
    let painting = run.finish().unwrap().remove(0);
    assert_eq!(painting.picture, preview);
    assert_eq!(painting.codes.len(), 16);
    // Where codes are drawn in a fixed order, the others have no guess yet.
    let mut run = model.paint("a blue circle", &options().under(Preset::Parallel));
    let run = run.as_mut().unwrap();
    assert!(
        run.next().unwrap().unwrap().canvases[0]
            .is_masked
            .contains(&true)
    );
    assert!(run.preview(0).unwrap().is_some());
}

#[test]
fn seeds_and_numbers_decide_and_company_does_not() {
    let model = tiny::model();
    let count = PaintOptions {
        count: 3,
        ..options()
    };
    let paint = |options: &PaintOptions| {
        model
            .paint("a red circle", options)
            .unwrap()
            .finish()
            .unwrap()
    };
    let three = paint(&count);
    assert_eq!(three, paint(&count));
    assert_ne!(
        three,
        paint(&PaintOptions {
            seed: 4,
            ..count.clone()
        })
    );
    assert_ne!(three[0], three[1]);
    let prompt = "a red circle";
    let other = PaintRequest {
        prompt: "",
        example: 9,
    };
    for example in 0..3 {
        let request = PaintRequest { prompt, example };
        let alone = model
            .paint_many(&[request], &options())
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(alone[0], three[example as usize]);
        let second = model
            .paint_many(&[other, request], &options())
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(second[1], three[example as usize]);
    }
    let narrow = model.clone().with_row_budget(1);
    assert_eq!(
        narrow.paint(prompt, &count).unwrap().finish().unwrap(),
        three
    );
}

#[test]
fn the_best_of_more_rivals_is_read_at_least_as_clearly() {
    let (model, prompt) = (tiny::model(), "a red circle on a blue ground");
    let paint = |count: usize, best_of: usize| {
        let options = PaintOptions {
            count,
            best_of,
            ..options()
        };
        model.paint(prompt, &options).unwrap().finish().unwrap()
    };
    let reading = |painting: &Painting| {
        let codes = &painting.codes;
        let reading = Reading {
            codes,
            words: prompt,
        };
        model.readings(&[reading]).unwrap()[0]
    };
    let best = [1, 2, 4, 16].map(|rivals| paint(1, rivals).remove(0));
    let readings = best.each_ref().map(reading);
    assert!(readings.is_sorted(), "{readings:?}");
    assert!(readings[0] < readings[3] && readings[3] < 0.0);
    // The first rival is what is painted without any, and company changes no choice.
    assert_eq!(paint(2, 1)[0], best[0]);
    let two = paint(2, 4);
    assert_eq!((two.len(), &two[0]), (2, &best[2]));
    let thought = &tiny::defaults().thought;
    let think = |seed: u64, best_of: usize| {
        let options = PaintOptions {
            seed,
            best_of,
            ..options()
        };
        let run = model.think_paint(prompt, thought, &options).unwrap();
        run.finish().unwrap()
    };
    let gains = (0..3).map(|seed| {
        let ((thoughts, one), (same, best)) = (think(seed, 1), think(seed, 8));
        assert_eq!((thoughts, 1), (same, best.len()));
        reading(&best[0]) - reading(&one[0])
    });
    let gains: Vec<f64> = gains.collect();
    assert!(gains.iter().all(|gain| *gain >= 0.0) && gains.iter().sum::<f64>() > 0.0);
    for best_of in [0, 1 << 20] {
        let options = PaintOptions {
            best_of,
            ..options()
        };
        let error = model.paint(prompt, &options).err().unwrap().to_string();
        assert!(error.contains("1 to 256"), "{error}");
    }
}

#[test]
fn readings_are_mean_log_probabilities_block_by_block() {
    let model = tiny::model();
    let codes: [Vec<u32>; 2] = [0, 3].map(|first| (first..first + 16).map(|c| c % 16).collect());
    let words = ["red", "a red circle on a blue ground, and nothing else"];
    let reading = |(codes, words)| Reading { codes, words };
    let pairs: Vec<Reading> = codes
        .iter()
        .flat_map(|codes| words.map(|words| reading((codes.as_slice(), words))))
        .collect();
    let together = model.readings(&pairs).unwrap();
    assert!(together.iter().all(|reading| *reading < 0.0));
    let alone = |model: &Mmada| -> Vec<f64> {
        let alone = pairs
            .iter()
            .map(|pair| model.readings(&[*pair]).unwrap()[0]);
        alone.collect()
    };
    assert_eq!(alone(&model), together);
    assert_eq!(
        model.clone().with_row_budget(1).readings(&pairs).unwrap(),
        together
    );
    // Narrower blocks see more of the words that are given; where nothing looks ahead, one row tells all.
    let narrow = |ahead, cache| {
        let defaults = tiny::defaults();
        let describe = mmada_model::TextOptions {
            block: 1,
            ahead,
            cache,
            ..defaults.describe.clone()
        };
        let model = model.clone().with_defaults(mmada_model::Defaults {
            describe,
            ..defaults
        });
        let together = model.readings(&pairs).unwrap();
        assert_eq!(alone(&model), together);
        together
    };
    let by_token = narrow(None, None);
    assert_eq!(by_token.len(), together.len());
    assert_ne!(by_token[1], together[1]);
    let causal = narrow(Some(0), Some(CacheRule::BlockCausal));
    assert!(causal.iter().all(|reading| *reading < 0.0));
    assert_ne!(causal, narrow(Some(0), None));
    assert_ne!(causal, narrow(Some(2), Some(CacheRule::BlockCausal)));
    assert!(model.readings(&[]).unwrap().is_empty());
    let long = "red ".repeat(5000);
    let error = model.readings(&[reading((&codes[0], &long))]).unwrap_err();
    assert!(error.to_string().contains("limit"), "{error}");
}

/// How long descriptions are is a number in a file: it is checked before any mask is laid out.
#[test]
fn rivals_are_not_read_beside_an_answer_longer_than_the_context() {
    let defaults = tiny::defaults();
    let endless = mmada_model::Defaults {
        describe: mmada_model::TextOptions {
            length: 1_000_000_000_000,
            ..defaults.describe.clone()
        },
        ..defaults
    };
    let rivals = PaintOptions {
        best_of: 2,
        ..options()
    };
    let model = tiny::model().with_defaults(endless);
    let error = model.paint("x", &rivals).err().unwrap().to_string();
    assert!(error.contains("length of the answer"), "{error}");
}

#[test]
fn pictures_need_not_be_square_nor_prompts_have_words() {
    let model = tiny::model();
    for (width, height, prompt) in [(32, 8, "a circle"), (4, 20, ""), (16, 16, " ")] {
        let options = PaintOptions {
            width,
            height,
            ..options()
        };
        let painting = model
            .paint(prompt, &options)
            .unwrap()
            .finish()
            .unwrap()
            .remove(0);
        assert_eq!(
            (painting.picture.width(), painting.picture.height()),
            (width, height)
        );
        assert_eq!(
            painting.grid,
            Grid {
                width: width / 4,
                height: height / 4
            }
        );
    }
}

#[test]
fn inpainting_keeps_what_is_known() {
    let model = tiny::model();
    let picture = noise(24, 16);
    let known = model
        .encode(std::slice::from_ref(&picture))
        .unwrap()
        .remove(0);
    // Pixels 5..9 across and 6..7 down touch the tokens 1..3 of the second row.
    let is_edited = |i: usize| (5..9).contains(&(i % 24)) && (6..7).contains(&(i / 24));
    let mask = Mask::new(24, 16, (0..24 * 16).map(is_edited).collect()).unwrap();
    let paint = |outside| {
        let options = PaintOptions {
            outside,
            ..options()
        };
        model
            .inpaint(&picture, &mask, "a circle", &options)
            .unwrap()
            .finish()
            .unwrap()
            .remove(0)
    };
    let painting = paint(Outside::Original);
    for token in 0..24 {
        let is_hole = [7, 8].contains(&token);
        assert!(
            is_hole || painting.codes[token] == known.codes[token],
            "{token}"
        );
    }
    for i in (0..24 * 16).filter(|&i| !is_edited(i)) {
        assert_eq!(
            painting.picture.pixel(i % 24, i / 24),
            picture.pixel(i % 24, i / 24)
        );
    }
    let decoded = paint(Outside::Decoded);
    assert_eq!(decoded.codes, painting.codes);
    assert_eq!(
        decoded.picture,
        model.decode(&decoded.codes, decoded.grid).unwrap()
    );
}

#[test]
fn extending_paints_beyond_the_edges() {
    let model = tiny::model();
    let picture = noise(16, 12);
    let known = model
        .encode(std::slice::from_ref(&picture))
        .unwrap()
        .remove(0);
    let sides = Sides {
        left: 8,
        down: 4,
        ..Sides::default()
    };
    let painting = model
        .extend(&picture, sides, "", &options())
        .unwrap()
        .finish()
        .unwrap()
        .remove(0);
    assert_eq!(
        (painting.picture.width(), painting.picture.height()),
        (24, 16)
    );
    for y in 0..12 {
        for x in 0..16 {
            assert_eq!(painting.picture.pixel(x + 8, y), picture.pixel(x, y));
        }
    }
    for (at, code) in known.codes.iter().enumerate() {
        assert_eq!(painting.codes[at / 4 * 6 + 2 + at % 4], *code);
    }
    // The batched form gives the same.
    let edit = Edit::Beyond(sides);
    let request = RepaintRequest {
        picture: &picture,
        edit,
        prompt: "",
        example: 0,
    };
    let many = model
        .repaint_many(&[request, request], &options())
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(many, [painting.clone(), painting]);
}

#[test]
fn impossible_pictures_are_refused() {
    let model = tiny::model();
    let refused = |options: &PaintOptions| model.paint("x", options).err().unwrap().to_string();
    let sized = |width, height| PaintOptions {
        width,
        height,
        ..options()
    };
    for (width, height) in [(0, 16), (16, 18), (usize::MAX, 4)] {
        assert!(refused(&sized(width, height)).contains("multiples of 4"));
    }
    let huge = usize::MAX - 3;
    for (width, height) in [(128, 64), (huge, huge)] {
        assert!(refused(&sized(width, height)).contains("the limit is 320"));
    }
    for count in [0, usize::MAX] {
        assert!(refused(&PaintOptions { count, ..options() }).contains("number of pictures"));
    }
    assert!(model.paint(&"word ".repeat(500), &options()).is_err());
    // 17 x 17 codes fit beside the word, but not beside the question that chooses among rivals:
    // known before the first step, not after the last.
    let rivals = |best_of| PaintOptions {
        best_of,
        ..sized(68, 68)
    };
    assert!(model.paint("x", &rivals(1)).is_ok());
    assert!(refused(&rivals(2)).contains("best_of = 1"));
    let picture = noise(16, 16);
    let mask = |width, is_edited| Mask::new(width, 16, vec![is_edited; width * 16]).unwrap();
    for mask in [mask(16, false), mask(20, true)] {
        assert!(matches!(
            model.inpaint(&picture, &mask, "", &options()),
            Err(Error::Request { .. })
        ));
    }
    for left in [0, 3, 4000, usize::MAX - 3] {
        let sides = Sides {
            left,
            ..Sides::default()
        };
        assert!(model.extend(&picture, sides, "", &options()).is_err());
    }
}

#[test]
fn a_text_model_has_no_pictures() {
    let codec = tiny::codec(0);
    let config = tiny::config(&codec);
    let (params, _) = mmada_nn::Transformer::init(&config, 1, &mmada_tensor::Device::Cpu).unwrap();
    let model = Mmada::new(&config, params, codec, None, tiny::defaults()).unwrap();
    assert!(matches!(
        model.paint("x", &options()),
        Err(Error::NoImageTokenizer)
    ));
    let described = model.describe(&noise(16, 16), "", &model.defaults().text);
    assert!(matches!(described, Err(Error::NoImageTokenizer)));
    let dir = tempfile::tempdir().unwrap();
    model.save(dir.path(), &SaveOptions::default()).unwrap();
    let opened = Mmada::open(dir.path(), &LoadOptions::default()).unwrap();
    assert!(opened.image_parts().is_none());
    opened.check().unwrap();
}

/// Whatever the transformer is computed in, pictures and codes are the same.
#[test]
fn the_image_tokenizer_is_always_f32() {
    let model = tiny::model();
    let codes: Vec<u32> = (0..16).collect();
    let grid = model.grid(16, 16).unwrap();
    let there_and_back = || {
        let picture = model.decode(&codes, grid).unwrap();
        let seen = model.encode(std::slice::from_ref(&picture)).unwrap();
        (picture, seen[0].codes.clone())
    };
    assert_eq!(Precision::Bf16.scope(there_and_back), there_and_back());
}
