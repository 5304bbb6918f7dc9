//! CLIP against the numbers of the published implementation, and what it refuses.

use mmada_nn::clip::{Clip, ClipConfig, cosines};
use mmada_nn::{Error, Mode, Params};
use mmada_tensor::{DType, Device, IndexOp, Tensor};

use crate::common::{self, Golden, assert_close};

const FEATURES: f32 = 1e-4;
const LOGITS: f32 = 5e-4;

fn opened() -> (Clip, Golden) {
    let dir = common::golden("clip");
    let clip = Clip::open(&dir, &Device::Cpu).unwrap();
    (clip, Golden::read(&dir.join("io.safetensors")))
}

#[test]
fn golden_clip_features_and_logits() {
    let (clip, io) = opened();
    let texts = clip.text_features(&io.ids("input_ids")).unwrap();
    assert_close(
        "text_features",
        &texts,
        io.tensor("text_features"),
        FEATURES,
    );
    let pixels = io.tensor("pixel_values");
    let images = clip.image_features(pixels).unwrap();
    assert_close(
        "image_features",
        &images,
        io.tensor("image_features"),
        FEATURES,
    );
    let mut first = None;
    let visit = &mut |index: usize, x: &Tensor| {
        if index == 0 {
            first = Some(x.clone());
        }
    };
    clip.trace_image(pixels, visit).unwrap();
    assert_close(
        "block 0",
        &first.unwrap(),
        io.tensor("debug_vision_block0"),
        FEATURES,
    );

    let scale = Params::load(&common::golden("clip"), &Device::Cpu, None, Mode::Frozen).unwrap();
    let scale = scale
        .get("logit_scale", &[])
        .unwrap()
        .to_scalar::<f32>()
        .unwrap()
        .exp();
    let (m, n) = (images.dim(0).unwrap(), texts.dim(0).unwrap());
    for image in 0..m {
        let one = images.narrow(0, image, 1).unwrap();
        let same = Tensor::cat(&vec![one; n], 0).unwrap();
        let logits = (cosines(&same, &texts).unwrap() * f64::from(scale)).unwrap();
        let expected = io.tensor("logits_per_image").i(image).unwrap();
        assert_close("logits_per_image", &logits, &expected, LOGITS);
    }
}

#[test]
fn a_text_alone_has_the_features_that_it_has_among_others() {
    let (clip, io) = opened();
    let texts = io.ids("input_ids");
    let together = clip.text_features(&texts).unwrap();
    for (index, text) in texts.iter().enumerate() {
        let alone = clip.text_features(std::slice::from_ref(text)).unwrap();
        assert_close(
            "alone",
            &alone,
            &together.narrow(0, index, 1).unwrap(),
            1e-6,
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (clip, _) = opened();
    let refused = |result: mmada_nn::Result<Tensor>| matches!(result, Err(Error::Input { .. }));
    assert!(refused(clip.text_features(&[vec![]])));
    assert!(refused(clip.text_features(&[vec![1; 17]])));
    assert!(refused(clip.text_features(&[vec![120]])));
    let wide = Tensor::zeros((1, 3, 32, 40), DType::F32, &Device::Cpu).unwrap();
    assert!(refused(clip.image_features(&wide)));

    let dir = tempfile::tempdir().unwrap();
    for config in [
        "{}x",
        r#"{"projection_dim": 0}"#,
        r#"{"text_config": {"num_attention_heads": 7}}"#,
        r#"{"vision_config": {"patch_size": 0}}"#,
        r#"{"vision_config": {"hidden_size": 99999999999}}"#,
    ] {
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        assert!(ClipConfig::load(dir.path()).is_err(), "{config}");
    }
    let cfg = ClipConfig::default();
    let none = Params::new(&Device::Cpu, Mode::Frozen);
    assert!(matches!(
        Clip::load(&cfg, &none),
        Err(Error::Missing { .. })
    ));
    let odd = ClipConfig {
        text_config: mmada_nn::clip::TextConfig {
            hidden_act: "swish".to_owned(),
            ..cfg.text_config.clone()
        },
        ..cfg
    };
    assert!(Clip::load(&odd, &none).is_err());
}

#[test]
fn weights_of_more_layers_than_the_config_names_are_refused() {
    let dir = common::golden("clip");
    let cfg = ClipConfig::load(&dir).unwrap();
    let params = Params::load(&dir, &Device::Cpu, None, Mode::Frozen).unwrap();
    let (mut text, mut vision) = (cfg.clone(), cfg.clone());
    text.text_config.num_hidden_layers -= 1;
    vision.vision_config.num_hidden_layers -= 1;
    for cut in [text, vision] {
        let error = Clip::load(&cut, &params).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    }
    assert!(Clip::load(&cfg, &params).is_ok());
}
