//! Tiny models, packs and calls of the program, made anew by each test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use mmada_data::picture::Picture;
use mmada_model::{Defaults, ImageOptions, ImageParts, Mmada, PaintOptions, TextOptions};
use mmada_nn::magvit::{Coefficients, Config as MagvitConfig, ImageTokenizer, Stack};
use mmada_nn::{Config, SaveOptions, Sizes, Transformer};
use mmada_tensor::Device;
use mmada_tokens::{ChatTemplate, Codec, Tokenizer, TrainOptions};

/// Side of the tiny model's pictures, in pixels.
pub(crate) const SIDE: usize = 32;
/// Pixels per token and side.
pub(crate) const FACTOR: usize = 8;
/// The tiny model's context, in tokens.
pub(crate) const CONTEXT: usize = 320;

/// The program, with an environment that cannot change its answers.
pub(crate) fn mmada() -> Command {
    let mut command = Command::cargo_bin("mmada").unwrap();
    command.env_remove("MMADA_MODEL").env("HF_HUB_OFFLINE", "1");
    command
}

/// The tokenizer of the tiny model: all bytes and a few words.
pub(crate) fn tokenizer() -> Tokenizer {
    let texts = [
        "a red circle",
        "a blue triangle",
        "What is 1 + 2?",
        "<think>1 + 2 = 3.</think>3",
    ];
    let options = TrainOptions {
        size: 300,
        ..TrainOptions::default()
    };
    Tokenizer::train(texts.into_iter().map(str::to_owned), &options).unwrap()
}

/// Sizes of a tiny image tokenizer: 8 pixels per token, 16 codes.
pub(crate) fn magvit_config() -> MagvitConfig {
    let stack = Stack {
        ch: 8,
        ch_mult: vec![1, 1, 1, 1],
        num_res_blocks: vec![1; 4],
    };
    MagvitConfig {
        ch: 8,
        z_channels: 4,
        codebook_dim: 4,
        resolution: SIDE,
        norm_groups: 4,
        encoder: stack.clone(),
        decoder: stack,
        quantizer: Coefficients::default(),
        notes: BTreeMap::new(),
        ..MagvitConfig::default()
    }
}

/// A tiny model with random weights.
pub(crate) fn model() -> Mmada {
    model_of(2)
}

/// The same with another number of blocks.
pub(crate) fn model_of(n_layers: usize) -> Mmada {
    let tokenizer = tokenizer();
    let magvit = magvit_config();
    let vocab = tokenizer.vocab(16, None).unwrap();
    let config = Config::new(&Sizes {
        d_model: 32,
        n_heads: 2,
        n_kv_heads: 2,
        n_layers,
        mlp_hidden_size: 64,
        embedding_size: vocab.rows as usize,
        max_sequence_length: CONTEXT,
        weight_tying: false,
    })
    .unwrap();
    let (params, _) = Transformer::init(&config, 1, &Device::Cpu).unwrap();
    let (image, _) = ImageTokenizer::init(&magvit, 2, &Device::Cpu).unwrap();
    let codec = Codec {
        tokenizer,
        template: ChatTemplate::published(),
        vocab,
    };
    let text = TextOptions {
        length: 16,
        block: 8,
        steps: 8,
        ..TextOptions::default()
    };
    let paint = PaintOptions {
        width: SIDE,
        height: SIDE,
        steps: 4,
        guidance: 1.0,
        ..PaintOptions::default()
    };
    let defaults = Defaults {
        text: text.clone(),
        describe: text.clone(),
        thought: text,
        paint,
        image: ImageOptions {
            width: SIDE,
            height: SIDE,
            ..ImageOptions::default()
        },
        ..Defaults::default()
    };
    let parts = ImageParts::new(&magvit, image.frozen()).unwrap();
    Mmada::new(&config, params.frozen(), codec, Some(parts), defaults).unwrap()
}

/// A tiny model saved in a folder of its own.
pub(crate) fn model_dir(parent: &Path) -> PathBuf {
    let dir = parent.join("model");
    model().save(&dir, &SaveOptions::default()).unwrap();
    dir
}

/// A picture of vertical stripes.
pub(crate) fn picture(width: usize, height: usize) -> Picture {
    let pixel = |at: usize| {
        if at % width % 8 < 4 {
            [230, 40, 40]
        } else {
            [240, 240, 255]
        }
    };
    Picture::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
}

/// `mmada paint "a red circle"` by a model, into a file.
pub(crate) fn paint(model: &Path, output: &Path, extra: &[&str]) -> Command {
    let mut command = mmada();
    command.args(["paint", "a red circle", "-o"]).arg(output);
    command.args(extra).arg("--model").arg(model);
    command
}

/// A PNG file of [`picture`].
pub(crate) fn picture_file(dir: &Path, width: usize, height: usize) -> PathBuf {
    let path = dir.join(format!("picture-{width}x{height}.png"));
    fs::write(&path, picture(width, height).encode_png().unwrap()).unwrap();
    path
}

/// A pack `shapes` below `parent`: pictures, captions, questions and sums, for training and test.
pub(crate) fn pack(parent: &Path) -> PathBuf {
    let dir = parent.join("shapes");
    for split in ["train", "test"] {
        let images = dir.join(format!("{split}_images"));
        fs::create_dir_all(&images).unwrap();
        let (mut captions, mut entries) = (String::new(), Vec::new());
        for number in 0..4 {
            let name = format!("{number}.png");
            fs::write(
                images.join(&name),
                picture(SIDE, SIDE).encode_png().unwrap(),
            )
            .unwrap();
            captions += &format!(
                "{{\"image\":\"{name}\",\"caption\":\"a red rectangle\",\"color\":\"red\",\"shape\":\"rectangle\"}}\n"
            );
            entries.push(format!(
                "{{\"id\":\"{number}\",\"image\":\"{name}\",\"conversations\":[\
                 {{\"from\":\"human\",\"value\":\"<image>\\nis it red?\"}},{{\"from\":\"gpt\",\"value\":\"yes\"}}]}}"
            ));
        }
        let sums = "{\"messages\":[{\"role\":\"user\",\"content\":\"What is 1 + 2?\"},\
                    {\"role\":\"assistant\",\"content\":\"<think>1 + 2 = 3.</think>3\"}],\
                    \"answer\":\"3\",\"template\":\"sum\"}\n";
        fs::write(dir.join(format!("{split}_captions.jsonl")), captions).unwrap();
        let entries = format!("[{}]", entries.join(","));
        fs::write(dir.join(format!("{split}_conversations.json")), entries).unwrap();
        fs::write(dir.join(format!("{split}.jsonl")), sums.repeat(3)).unwrap();
    }
    dir
}

/// A run file that trains a tiny image tokenizer on [`pack`].
pub(crate) fn run_file(parent: &Path, steps: u64) -> PathBuf {
    let shapes = pack(parent);
    let text = format!(
        "[run]\nname = \"tiny\"\nout = {out:?}\nseed = 1\nsteps = {steps}\nthreads = 1\n\
         [model.init.sizes]\nz_channels = 4\ncodebook_dim = 4\nresolution = {SIDE}\nnorm_groups = 4\n\
         [model.init.sizes.encoder]\nch = 4\nch_mult = [1, 1]\nnum_res_blocks = [1, 1]\n\
         [model.init.sizes.decoder]\nch = 4\nch_mult = [1, 1]\nnum_res_blocks = [1, 1]\n\
         [objective]\nkind = \"reconstruct\"\n\
         [lr]\npeak = 1e-3\n\
         [batch]\nsize = {{ sequences = 2 }}\n\
         [checkpoint]\nevery = 1000\nkeep = 2\n\
         [log]\nevery = 1\n\
         [[data]]\nname = \"shapes\"\nkind = \"jsonl\"\npaths = [{captions:?}]\nimages = {images:?}\n\
         views = [{{ task = \"paint\", prompt = \"{{caption}}\" }}]\n",
        out = parent.join("out"),
        captions = shapes.join("train_captions.jsonl"),
        images = shapes.join("train_images"),
    );
    let path = parent.join("run.toml");
    fs::write(&path, text).unwrap();
    path
}

/// What the program said and how it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the program to its end. A panic is never right.
pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let said = Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    };
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said
}

/// Checks that the program fails with this code and a message of one line with all these parts,
/// and that it says nothing on standard output.
#[track_caller]
pub(crate) fn fails(command: &mut Command, code: i32, parts: &[&str]) {
    let said = said(command);
    assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
    let errors: Vec<&str> = said
        .err
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{}", said.err);
    let missing: Vec<&&str> = parts
        .iter()
        .filter(|part| !said.err.contains(**part))
        .collect();
    assert!(missing.is_empty(), "{missing:?} is not in: {}", said.err);
    assert_eq!(said.out, "");
}

/// Checks that the program succeeds; returns its standard output.
#[track_caller]
pub(crate) fn works(command: &mut Command) -> String {
    let said = said(command);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    said.out
}

/// As [`works`], for `--json`: the one object that was printed.
#[track_caller]
pub(crate) fn json(command: &mut Command) -> serde_json::Value {
    let out = works(command);
    assert_eq!(out.lines().count(), 1, "{out}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(value.is_object(), "{out}");
    value
}

/// Every file below a folder, sorted.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => all.extend(files(&path)),
            path => all.push(path),
        }
    }
    all.sort();
    all
}

/// Sends what Ctrl-C sends.
pub(crate) fn press_ctrl_c(child: &std::process::Child) {
    let sent = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}
