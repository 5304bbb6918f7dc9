//! `config.json` of a transformer: the keys we compute with, checked; all others kept as they are.
//!
//! Published configs carry dozens of keys that concern training or other code. They are written
//! back unchanged, so a model saved here is still read by the original Python. A key that would
//! change the mathematics in a way not implemented here is refused by name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// The class of the original code that the checkpoint belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Text and images: `MMadaModelLM`.
    Mmada,
    /// Text only: `LLaDAModelLM`.
    Llada,
}

/// The sizes of a transformer and the keys of `config.json` around them.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Config {
    /// Class of the original code.
    pub architecture: Architecture,
    /// Width of the residual stream, d.
    pub d_model: usize,
    /// Query heads, h; divides `d_model` into an even width.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Hidden width of the feed-forward part, m.
    pub mlp_hidden_size: usize,
    /// Rows of the embedding table, v; at least the vocabulary.
    pub embedding_size: usize,
    /// The longest sequence.
    pub max_sequence_length: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the head is the embedding table.
    pub weight_tying: bool,
    /// Every key of the file, the used ones included.
    keys: Map<String, Value>,
}

/// The sizes of a new model; everything else is as in the published ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Hidden width of the feed-forward part.
    pub mlp_hidden_size: usize,
    /// Rows of the embedding table.
    pub embedding_size: usize,
    /// The longest sequence.
    pub max_sequence_length: usize,
    /// Whether the head is the embedding table.
    pub weight_tying: bool,
}

/// What of a network grows, see [`Transformer::grown`](crate::Transformer::grown); what is not
/// named stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Growth {
    /// Width of the residual stream: a multiple of the width of its heads, which stays, so that
    /// there are more of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_model: Option<usize>,
    /// Number of blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_layers: Option<usize>,
    /// Hidden width of the feed-forward part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_hidden_size: Option<usize>,
}

/// Keys whose other values would change the mathematics. Absent or null counts as the value here.
const FIXED: [(&str, Value); 12] = [
    ("alibi", Value::Bool(false)),
    ("rope", Value::Bool(true)),
    ("include_bias", Value::Bool(false)),
    ("include_qkv_bias", Value::Bool(false)),
    ("bias_for_layer_norm", Value::Bool(false)),
    ("attention_layer_norm", Value::Bool(false)),
    ("input_emb_norm", Value::Bool(false)),
    ("scale_logits", Value::Bool(false)),
    ("layer_norm_with_affine", Value::Bool(true)),
    ("rope_full_precision", Value::Bool(true)),
    ("clip_qkv", Value::Null),
    ("rope_scaling", Value::Null),
];

/// As [`FIXED`], for words.
const FIXED_WORDS: [(&str, &str); 3] = [
    ("layer_norm_type", "rms"),
    ("block_type", "llama"),
    ("activation_type", "silu"),
];

/// Published configs have a few kilobytes.
const MAX_BYTES: u64 = 1_000_000;

/// The text of a file of settings, which is bounded before it is read.
///
/// # Errors
/// When it cannot be read, or is longer than any such file.
pub fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(Error::io(path, "read"))?;
    if text.len() as u64 > MAX_BYTES {
        let expected = format!("a file of at most {MAX_BYTES} bytes");
        return Err(Error::config("", expected, "more").in_file(path));
    }
    Ok(text)
}

/// Reads the sizes in a config file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let sizes = serde_json::from_str(&read_text(path)?);
    sizes.map_err(|problem| Error::config("", "sizes", problem).in_file(path))
}

impl Config {
    /// Reads `config.json` of a model folder.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        Self::parse(&read_text(&path)?).map_err(|error| error.in_file(&path))
    }

    /// Reads the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self> {
        let keys: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| Error::config("", "a JSON object", error))?;
        Self::try_from(keys)
    }

    /// The config of a new model, with the keys that the original code reads.
    pub fn new(sizes: &Sizes) -> Result<Self> {
        let Value::Object(mut keys) = json!({
            "architectures": ["MMadaModelLM"], "model_type": "mmada", "torch_dtype": "float32",
            "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "vocab_size": sizes.embedding_size,
            "new_vocab_size": sizes.embedding_size, "tie_word_embeddings": sizes.weight_tying,
            "mlp_ratio": 4, "multi_query_attention": null, "block_group_size": 1,
            "init_fn": "mitchell", "init_std": 0.02, "init_cutoff_factor": null,
            "init_device": "cpu", "precision": "fp32", "flash_attention": false,
            "alibi_bias_max": 8.0, "attention_dropout": 0.0, "embedding_dropout": 0.0,
            "residual_dropout": 0.0, "attention_layer_norm_with_affine": true,
            "use_cache": false, "w_clip_vit": false,
        }) else {
            return Err(Error::config("", "a JSON object", "another value"));
        };
        keys.extend(FIXED.map(|(key, value)| (key.to_owned(), value)));
        keys.extend(FIXED_WORDS.map(|(key, value)| (key.to_owned(), value.into())));
        if let Ok(Value::Object(sizes)) = serde_json::to_value(sizes) {
            keys.extend(sizes);
        }
        Self::try_from(keys)
    }

    /// The same network with larger sizes.
    ///
    /// # Errors
    /// A size below the one there is; a width that leaves heads, or groups of heads that share
    /// keys, incomplete.
    pub fn grown(&self, to: &Growth) -> Result<Self> {
        let grow = |key: &str, from: usize, to: Option<usize>, step: usize| match to {
            Some(to) if to < from || to % step != 0 => {
                let expected = format!("a multiple of {step}, at least the {from} there are");
                Err(Error::config(key, expected, to))
            }
            to => Ok(to.unwrap_or(from)),
        };
        let heads_per_key = self.n_heads / self.n_kv_heads;
        let group = heads_per_key * self.head_width();
        let mut larger = self.clone();
        larger.d_model = grow("d_model", self.d_model, to.d_model, group)?;
        larger.n_layers = grow("n_layers", self.n_layers, to.n_layers, 1)?;
        let hidden = to.mlp_hidden_size;
        larger.mlp_hidden_size = grow("mlp_hidden_size", self.mlp_hidden_size, hidden, 1)?;
        larger.n_heads = larger.d_model / self.head_width();
        larger.n_kv_heads = larger.n_heads / heads_per_key;
        // Once more through the file's own bounds.
        Self::try_from(Map::from(larger))
    }

    /// Any key of the file, used here or not.
    pub fn key(&self, key: &str) -> Option<&Value> {
        self.keys.get(key)
    }

    /// Adds or replaces a key that the network does not compute with, such as `mask_token_id`.
    /// Keys of the fields above are overwritten by those fields when saving.
    pub fn set_key(&mut self, key: &str, value: Value) {
        self.keys.insert(key.to_owned(), value);
    }

    /// The whole file: every key that was read, with the current values of the used ones.
    pub fn to_json(&self) -> Value {
        Value::Object(self.clone().into())
    }

    /// Width of one head, c.
    pub fn head_width(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.d_model
    }

    /// Width of all key (or value) heads.
    pub fn key_value_width(&self) -> usize {
        self.head_width() * self.n_kv_heads
    }
}

impl TryFrom<Map<String, Value>> for Config {
    type Error = Error;

    fn try_from(keys: Map<String, Value>) -> Result<Self> {
        refuse_unimplemented(&keys)?;
        let d_model = size(&keys, "d_model", 1 << 20)?;
        let n_heads = size(&keys, "n_heads", 1 << 16)?;
        if d_model % n_heads != 0 || d_model / n_heads % 2 != 0 {
            let expected = format!("a divisor of d_model {d_model} that leaves an even width");
            return Err(Error::config("n_heads", expected, n_heads));
        }
        let n_kv_heads = match (
            is_set(&keys, "n_kv_heads"),
            keys.get("multi_query_attention"),
        ) {
            (true, _) => size(&keys, "n_kv_heads", n_heads as u64)?,
            (false, Some(Value::Bool(true))) => 1,
            (false, _) => n_heads,
        };
        if n_heads % n_kv_heads != 0 {
            let expected = format!("a divisor of n_heads {n_heads}");
            return Err(Error::config("n_kv_heads", expected, n_kv_heads));
        }
        let mlp_hidden_size = match is_set(&keys, "mlp_hidden_size") {
            true => size(&keys, "mlp_hidden_size", 1 << 24)?,
            false => d_model * size(&keys, "mlp_ratio", 64)?,
        };
        let embedding_size = match is_set(&keys, "embedding_size") {
            true => size(&keys, "embedding_size", 1 << 28)?,
            false => size(&keys, "vocab_size", 1 << 28)?,
        };
        Ok(Self {
            architecture: architecture(&keys)?,
            d_model,
            n_heads,
            n_kv_heads,
            n_layers: size(&keys, "n_layers", 4096)?,
            mlp_hidden_size,
            embedding_size,
            max_sequence_length: size(&keys, "max_sequence_length", 1 << 24)?,
            rms_norm_eps: number(&keys, "rms_norm_eps", 0.0, 1.0)?,
            rope_theta: number(&keys, "rope_theta", 1.0, 1e15)?,
            weight_tying: flag(&keys, "weight_tying")?,
            keys,
        })
    }
}

impl From<Config> for Map<String, Value> {
    fn from(cfg: Config) -> Self {
        // A file that already says the same stays as it was, with its nulls and spellings.
        if Config::try_from(cfg.keys.clone()).is_ok_and(|same| same == cfg) {
            return cfg.keys;
        }
        let mut keys = cfg.keys;
        let mut put = |key: &str, value: Value| keys.insert(key.to_owned(), value);
        put("architectures", json!([class_name(cfg.architecture)]));
        put("d_model", json!(cfg.d_model));
        put("n_heads", json!(cfg.n_heads));
        put("n_kv_heads", json!(cfg.n_kv_heads));
        put("n_layers", json!(cfg.n_layers));
        put("mlp_hidden_size", json!(cfg.mlp_hidden_size));
        put("embedding_size", json!(cfg.embedding_size));
        put("max_sequence_length", json!(cfg.max_sequence_length));
        put("rms_norm_eps", json!(cfg.rms_norm_eps));
        put("rope_theta", json!(cfg.rope_theta));
        put("weight_tying", json!(cfg.weight_tying));
        keys
    }
}

fn class_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Mmada => "MMadaModelLM",
        Architecture::Llada => "LLaDAModelLM",
    }
}

fn architecture(keys: &Map<String, Value>) -> Result<Architecture> {
    let value = keys.get("architectures").and_then(|list| list.get(0));
    match value.and_then(Value::as_str) {
        Some("MMadaModelLM") => Ok(Architecture::Mmada),
        Some("LLaDAModelLM") => Ok(Architecture::Llada),
        _ => {
            let expected = "[\"MMadaModelLM\"] or [\"LLaDAModelLM\"]";
            Err(Error::config(
                "architectures",
                expected,
                shown(keys, "architectures"),
            ))
        }
    }
}

fn refuse_unimplemented(keys: &Map<String, Value>) -> Result<()> {
    let words = FIXED_WORDS.map(|(key, word)| (key, Value::from(word)));
    for (key, only) in FIXED.into_iter().chain(words) {
        if is_set(keys, key) && keys.get(key) != Some(&only) {
            let expected = format!("{only}, the only value implemented");
            return Err(Error::config(key, expected, shown(keys, key)));
        }
    }
    Ok(())
}

fn is_set(keys: &Map<String, Value>, key: &str) -> bool {
    keys.get(key).is_some_and(|value| !value.is_null())
}

fn size(keys: &Map<String, Value>, key: &str, max: u64) -> Result<usize> {
    match keys.get(key).and_then(Value::as_u64) {
        Some(value) if (1..=max).contains(&value) => Ok(value as usize),
        _ => {
            let expected = format!("an integer from 1 to {max}");
            Err(Error::config(key, expected, shown(keys, key)))
        }
    }
}

/// A number in `low..=high`.
fn number(keys: &Map<String, Value>, key: &str, low: f64, high: f64) -> Result<f64> {
    match keys.get(key).and_then(Value::as_f64) {
        Some(value) if (low..=high).contains(&value) => Ok(value),
        _ => {
            let expected = format!("a number from {low} to {high}");
            Err(Error::config(key, expected, shown(keys, key)))
        }
    }
}

fn flag(keys: &Map<String, Value>, key: &str) -> Result<bool> {
    let value = keys.get(key).and_then(Value::as_bool);
    value.ok_or_else(|| Error::config(key, "true or false", shown(keys, key)))
}

fn shown(keys: &Map<String, Value>, key: &str) -> String {
    keys.get(key)
        .map_or_else(|| "no such key".to_owned(), Value::to_string)
}
