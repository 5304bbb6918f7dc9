//! A world small enough to train in within a second: tokenizers, data and a run file in a folder.

use std::path::{Path, PathBuf};

use mmada_data::picture::Picture;
use mmada_nn::SaveOptions;
use mmada_nn::magvit::{Config, ImageTokenizer};
use mmada_tensor::Device;
use mmada_tokens::{ChatTemplate, Codec, Tokenizer, TrainOptions};
use mmada_train::config::RunConfig;
use serde_json::{Value, json};

pub(crate) struct World {
    folder: tempfile::TempDir,
}

const COLOURS: [(&str, [u8; 3]); 4] = [
    ("red", [255, 0, 0]),
    ("green", [0, 160, 0]),
    ("blue", [0, 0, 255]),
    ("white", [255, 255, 255]),
];

pub(crate) const FACTS: [(&str, &str); 8] = [
    ("sky", "blue"),
    ("grass", "green"),
    ("snow", "white"),
    ("coal", "black"),
    ("blood", "red"),
    ("sun", "yellow"),
    ("rust", "brown"),
    ("fog", "grey"),
];

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        world.write_text();
        world.write_pictures();
        world.write_image_tokenizer();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_text(&self) {
        let lines = FACTS.iter().map(|(question, answer)| {
            json!({"messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": format!("<think>I know</think>{answer}")},
            ]})
            .to_string()
        });
        let text: Vec<String> = lines.collect();
        std::fs::write(self.path("facts.jsonl"), text.join("\n")).unwrap();
        let options = TrainOptions {
            size: 300,
            ..TrainOptions::default()
        };
        let tokenizer = Tokenizer::train(text.into_iter(), &options).unwrap();
        let vocab = tokenizer.vocab(0, None).unwrap();
        let template = ChatTemplate::published();
        let folder = self.path("tokenizer");
        std::fs::create_dir(&folder).unwrap();
        let codec = Codec {
            tokenizer,
            template,
            vocab,
        };
        codec.save(folder).unwrap();
    }

    fn write_pictures(&self) {
        let folder = self.path("pictures");
        std::fs::create_dir(&folder).unwrap();
        let mut lines = String::new();
        for (name, colour) in COLOURS {
            let side = 16;
            let pixels = colour.repeat(side * side);
            let png = Picture::new(side, side, pixels)
                .unwrap()
                .encode_png()
                .unwrap();
            std::fs::write(folder.join(format!("{name}.png")), png).unwrap();
            lines += &format!(
                "{}\n",
                json!({"image": format!("{name}.png"), "caption": name})
            );
        }
        // One sample that is no picture: skipped and counted.
        std::fs::write(folder.join("broken.png"), b"no picture").unwrap();
        lines += &format!("{}\n", json!({"image": "broken.png", "caption": "broken"}));
        std::fs::write(self.path("pictures.jsonl"), lines).unwrap();
    }

    fn write_image_tokenizer(&self) {
        let sizes: Config = serde_json::from_value(image_sizes()).unwrap();
        let (params, tokenizer) = ImageTokenizer::init(&sizes, 3, &Device::Cpu).unwrap();
        let folder = self.path("image_tokenizer");
        std::fs::create_dir(&folder).unwrap();
        params.save(&folder, &SaveOptions::default()).unwrap();
        tokenizer.config().save(&folder).unwrap();
    }

    /// A run of all tasks on text and pictures.
    pub(crate) fn denoise(&self, out: &str, overrides: &[&str]) -> RunConfig {
        let text = format!(
            r#"
            run = {{ name = "tiny", out = {out:?}, seed = 5, steps = 6, threads = 2 }}
            optimizer = {{ clip = 1.0, weight_decay = 0.01 }}
            lr = {{ peak = 3e-3, warmup = 2, floor_ratio = 0.1 }}
            batch = {{ size = {{ tokens = 120 }}, accumulate = 2 }}
            ema = {{ decay = 0.9 }}
            checkpoint = {{ every = 2, keep = 2 }}
            log = {{ every = 1 }}
            [model]
            tokenizer = {tokenizer:?}
            image_tokenizer = {image_tokenizer:?}
            [model.init.sizes]
            d_model = 32
            n_heads = 2
            n_kv_heads = 2
            n_layers = 2
            mlp_hidden_size = 48
            max_sequence_length = 160
            weight_tying = false
            [objective]
            kind = "denoise"
            tail = {{ chat = 8 }}
            [[data]]
            name = "facts"
            kind = "jsonl"
            paths = [{facts:?}]
            views = [{{ task = "chat" }}]
            [[data]]
            name = "pictures"
            kind = "jsonl"
            paths = [{captions:?}]
            images = {pictures:?}
            views = [
                {{ task = "paint", prompt = "{{caption}}" }},
                {{ task = "describe", prompt = "colour?", answer = "{{caption}}" }},
            ]
            "#,
            out = self.path(out),
            tokenizer = self.path("tokenizer"),
            image_tokenizer = self.path("image_tokenizer"),
            facts = self.path("facts.jsonl"),
            captions = self.path("pictures.jsonl"),
            pictures = self.path("pictures"),
        );
        parse(&text, overrides)
    }

    /// Reinforcement learning of the facts, and of painting, from the model of another run.
    pub(crate) fn unigrpo(&self, out: &str, from: &str, overrides: &[&str]) -> RunConfig {
        let text = format!(
            r#"
            run = {{ name = "tiny", out = {out:?}, seed = 5, steps = 7, threads = 2 }}
            lr = {{ peak = 1e-3 }}
            batch = {{ size = {{ sequences = 3 }}, accumulate = 2 }}
            checkpoint = {{ every = 2, keep = 2 }}
            log = {{ every = 1 }}
            [model]
            init = {{ from = {from:?} }}
            [model.generation]
            text = {{ length = 8, block = 8, steps = 8 }}
            paint = {{ width = 16, height = 16, steps = 2, guidance = 0.0 }}
            image = {{ width = 16, height = 16 }}
            [objective]
            kind = "unigrpo"
            group = 6
            updates = 3
            [objective.rewards]
            chat = [{{ grader = "plain" }}, {{ grader = "format", weight = 0.5 }}]
            [[data]]
            name = "facts"
            kind = "jsonl"
            paths = [{facts:?}]
            views = [{{ task = "chat" }}]
            weight = 0.9
            [[data]]
            name = "pictures"
            kind = "jsonl"
            paths = [{captions:?}]
            images = {pictures:?}
            views = [{{ task = "paint", prompt = "{{caption}} circle" }}]
            weight = 0.1
            "#,
            out = self.path(out),
            from = self.path(from),
            facts = self.path("facts.jsonl"),
            captions = self.path("pictures.jsonl"),
            pictures = self.path("pictures"),
        );
        parse(&text, overrides)
    }

    /// A run of the image tokenizer.
    pub(crate) fn reconstruct(&self, out: &str, overrides: &[&str]) -> RunConfig {
        let text = format!(
            r#"
            run = {{ name = "tiny", out = {out:?}, seed = 5, steps = 6, threads = 2 }}
            model = {{ init = {{ sizes = {sizes} }} }}
            objective = {{ kind = "reconstruct", squared = 1.0, edges = 0.5 }}
            lr = {{ peak = 1e-2 }}
            batch = {{ size = {{ sequences = 2 }} }}
            checkpoint = {{ every = 2 }}
            samples = {{ every = 3, pictures = 4 }}
            log = {{ every = 1 }}
            [[data]]
            name = "pictures"
            kind = "jsonl"
            paths = [{captions:?}]
            images = {pictures:?}
            views = [{{ task = "paint", prompt = "{{caption}}" }}]
            "#,
            out = self.path(out),
            sizes = inline(&image_sizes()),
            captions = self.path("pictures.jsonl"),
            pictures = self.path("pictures"),
        );
        parse(&text, overrides)
    }
}

fn parse(text: &str, overrides: &[&str]) -> RunConfig {
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    RunConfig::parse(text, &overrides).unwrap()
}

fn image_sizes() -> Value {
    let stack = json!({"ch": 8, "ch_mult": [1, 1, 1], "num_res_blocks": [1, 1, 1]});
    json!({
        "z_channels": 4, "codebook_dim": 4, "resolution": 16, "norm_groups": 4,
        "encoder": stack, "decoder": stack,
    })
}

/// JSON as a TOML inline table.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The lines of `metrics.jsonl` without what depends on the clock and on the process.
pub(crate) fn metrics(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let fields = line.as_object_mut().unwrap();
        let is_timed = |name: &str| {
            ["_time", "_per_second", "_bytes"]
                .iter()
                .any(|end| name.ends_with(end))
                || name.contains("/sec")
        };
        fields.retain(|name, _| !is_timed(name));
        line
    });
    lines.collect()
}
