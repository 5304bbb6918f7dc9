//! CLIP as a judge, with the small golden model and a tokenizer made for the test.

use mmada_data::picture::Picture;
use mmada_grade::{Case, ClipScore, Judge, Reply, Truth};
use mmada_nn::clip::{Clip, cosines};
use mmada_tensor::{Device, Tensor};
use mmada_tokens::CaptionTokenizer;

use crate::tiny_clip::folder;

fn picture(seed: usize, width: usize, height: usize) -> Picture {
    let pixels = (0..width * height * 3).map(|i| ((i * 7919 + seed * 104_729) % 251) as u8);
    Picture::new(width, height, pixels.collect()).unwrap()
}

#[test]
fn captions_keep_their_end_when_cut() {
    let dir = folder();
    let tokenizer = CaptionTokenizer::load(&dir.path().join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.ids("Red ab", 16).unwrap(), [118, 53, 0, 27, 119]);
    assert_eq!(tokenizer.ids("", 16).unwrap(), [118, 119]);
    let long = tokenizer.ids(&"red ".repeat(40), 16).unwrap();
    assert_eq!(
        (long.len(), long[0], long[14], long[15]),
        (16, 118, 53, 119)
    );
    assert!(CaptionTokenizer::load(&dir.path().join("config.json")).is_err());
    assert!(ClipScore::open(&dir.path().join("nowhere"), &Device::Cpu).is_err());
}

#[test]
fn scores_are_cosines_of_normalised_pictures() {
    let dir = folder();
    let judge = ClipScore::open(dir.path(), &Device::Cpu).unwrap();
    let clip = Clip::open(dir.path(), &Device::Cpu).unwrap();
    let picture = picture(3, 32, 32);
    let (mean, std) = (
        [0.481_454_66, 0.457_827_5, 0.408_210_73],
        [0.268_629_54, 0.261_302_6, 0.275_777_1],
    );
    let mut pixels = vec![0f32; 3 * 32 * 32];
    for (i, byte) in picture.pixels().iter().enumerate() {
        let (place, channel) = (i / 3, i % 3);
        pixels[channel * 32 * 32 + place] =
            (f32::from(*byte) / 255.0 - mean[channel]) / std[channel];
    }
    let pixels = Tensor::from_vec(pixels, (1, 3, 32, 32), &Device::Cpu).unwrap();
    let image = clip.image_features(&pixels).unwrap();
    for (text, ids) in [("red", vec![118, 53, 119]), ("a b", vec![118, 26, 27, 119])] {
        let expected = cosines(&image, &clip.text_features(&[ids]).unwrap()).unwrap();
        let expected = 100.0 * f64::from(expected.to_vec1::<f32>().unwrap()[0]);
        let got = judge.scores(&[(&picture, text)]).unwrap()[0];
        assert!(
            (got - expected.max(0.0)).abs() < 1e-3,
            "{text}: {got}, expected {expected}"
        );
    }
}

#[test]
fn paintings_and_captions_are_judged_in_batches() {
    let dir = folder();
    let judge = ClipScore::open(dir.path(), &Device::Cpu).unwrap();
    assert!(judge.looks_at_pictures());
    let pictures: Vec<Picture> = (0..40).map(|i| picture(i, 30 + i, 50)).collect();
    let painted = pictures.iter().map(|picture| Case {
        prompt: "red",
        shown: None,
        reply: Reply::Picture(picture),
        truth: Truth::Unknown,
    });
    let mut cases: Vec<Case> = painted.collect();
    cases.insert(
        1,
        Case {
            reply: Reply::Text("a chat without a picture"),
            ..cases[0]
        },
    );
    let described = Case {
        reply: Reply::Text("<think>it is</think>red"),
        shown: Some(&pictures[5]),
        ..cases[0]
    };
    cases.push(Case {
        prompt: "what is it?",
        ..described
    });
    let verdicts = judge.judge(&cases);
    assert_eq!(verdicts.len(), 42);
    assert_eq!(
        verdicts.iter().filter(|verdict| verdict.is_err()).count(),
        1
    );
    assert!(verdicts[1].is_err());
    // The caption is the answer alone, and its picture the one that was shown.
    assert!((verdicts[41].clone().unwrap() - verdicts[6].clone().unwrap()).abs() < 1e-3);
    for (case, verdict) in cases.iter().zip(&verdicts) {
        let alone = judge.judge(std::slice::from_ref(case)).remove(0);
        assert_eq!(alone.is_ok(), verdict.is_ok());
        assert!((alone.unwrap_or(0.0) - verdict.clone().unwrap_or(0.0)).abs() < 1e-3);
    }
    // A reply that says nothing has nothing, whatever the network makes of no words.
    let silent = pictures.iter().map(|picture| Case {
        reply: Reply::Text("<think>a picture</think> "),
        shown: Some(picture),
        ..described
    });
    let silent: Vec<Case> = silent.collect();
    assert!(
        judge
            .judge(&silent)
            .iter()
            .all(|verdict| *verdict == Ok(0.0))
    );
    let pairs: Vec<_> = pictures.iter().map(|picture| (picture, "")).collect();
    assert!(
        judge
            .scores(&pairs)
            .unwrap()
            .iter()
            .any(|score| *score > 0.0)
    );
    let some = verdicts.iter().flatten().filter(|score| **score > 0.0);
    assert!(some.count() > 2, "{verdicts:?}");
}

/// A network that gives no numbers must not pass for one that finds nothing fitting.
#[test]
fn a_broken_network_gives_no_score() {
    let dir = folder();
    let weights = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // An f32 of nothing but ones is NaN.
    bytes[8 + header..].fill(0xff);
    std::fs::write(&weights, bytes).unwrap();
    let judge = ClipScore::open(dir.path(), &Device::Cpu).unwrap();
    let picture = picture(3, 32, 32);
    assert!(judge.scores(&[(&picture, "red")]).unwrap()[0].is_nan());
    let painted = Case {
        prompt: "red",
        shown: None,
        reply: Reply::Picture(&picture),
        truth: Truth::Unknown,
    };
    assert_eq!(judge.judge(&[painted]), [Err("it gave NaN".to_owned())]);
}
