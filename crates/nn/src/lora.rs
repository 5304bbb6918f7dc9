//! LoRA: low-rank changes learnt beside frozen matrices, stored in the layout of PEFT.
//!
//! ```text
//!   y = W x + (alpha / r) · B A x          W [out, in] frozen, A [r, in], B [out, r] learnt
//!
//!   adapter_config.json         r, lora_alpha, target_modules, the model it belongs to
//!   adapter_model.safetensors   base_model.model.MODULE.lora_A.weight, ….lora_B.weight
//! ```
//!
//! B begins at zero, so a new adapter changes nothing; without its adapter a model is the one it was.
//! Source: Hu et al. 2021; names of the `peft` library. Letters: r rank, out and in sizes of a matrix.

use std::path::Path;

use mmada_tensor::ops;
use mmada_tensor::random::{Key, Purpose};
use mmada_tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{self, Config};
use crate::{Error, Init, Mode, Params, Result, SaveOptions, atomic, weight_files};

/// File of the settings in an adapter folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// File of the weights in an adapter folder.
pub const ADAPTER_MODEL: &str = "adapter_model.safetensors";
/// The matrices of a block that can be adapted, by the names of the published weights.
pub const MODULES: [&str; 7] = [
    "q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out",
];
/// Higher ranks than this are no low ranks.
const HIGHEST_RANK: usize = 4096;

/// What is adapted, and how strongly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the changes.
    pub r: usize,
    /// Changes are multiplied by this divided by `r`.
    pub alpha: f64,
    /// The matrices of every block that are adapted, names of [`MODULES`].
    #[serde(default = "attention")]
    pub target_modules: Vec<String>,
}

/// The usual choice: queries and values.
fn attention() -> Vec<String> {
    vec!["q_proj".to_owned(), "v_proj".to_owned()]
}

impl LoraConfig {
    /// # Errors
    /// A rank of 0 or beyond any low rank, a factor that is no number, unknown or no modules.
    pub fn check(&self) -> Result<()> {
        if !(1..=HIGHEST_RANK).contains(&self.r) {
            return Err(adapter("r", format!("1 to {HIGHEST_RANK}"), self.r));
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return Err(adapter("lora_alpha", "a number above 0", self.alpha));
        }
        let unknown = |name: &&String| !MODULES.contains(&name.as_str());
        if let Some(name) = self.target_modules.iter().find(unknown) {
            return Err(adapter("target_modules", MODULES.join(", "), name));
        }
        if self.target_modules.is_empty() {
            return Err(adapter("target_modules", "at least one name", "none"));
        }
        Ok(())
    }

    fn scale(&self) -> f64 {
        self.alpha / self.r as f64
    }

    fn adapts(&self, module: &str) -> bool {
        self.target_modules.iter().any(|name| name == module)
    }

    /// Reads PEFT's file: these settings, and the folder or name of the model they belong to.
    ///
    /// # Errors
    /// When a setting that changes the arithmetic is not implemented.
    pub fn parse(text: &str) -> Result<(Self, Option<String>)> {
        let keys: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| adapter("the whole file", "a JSON object", error))?;
        for (key, only) in [
            ("peft_type", json!("LORA")),
            ("bias", json!("none")),
            ("use_rslora", json!(false)),
            ("use_dora", json!(false)),
            ("fan_in_fan_out", json!(false)),
            ("modules_to_save", json!([])),
            ("rank_pattern", json!({})),
            ("alpha_pattern", json!({})),
            ("layers_to_transform", json!([])),
            ("alora_invocation_tokens", json!([])),
        ] {
            let value = keys.get(key).filter(|value| !value.is_null());
            if value.is_some_and(|value| *value != only) {
                let expected = format!("{only}, the only value implemented");
                return Err(adapter(key, expected, &keys[key]));
            }
        }
        // These change the model that the adapter stands beside.
        if let Some(Value::String(init)) = keys.get("init_lora_weights")
            && ["pissa", "olora", "corda", "loftq"]
                .iter()
                .any(|it| init.starts_with(it))
        {
            let expected = "true, false or \"gaussian\": the base model left as it is";
            return Err(adapter("init_lora_weights", expected, init));
        }
        let rank = keys.get("r").unwrap_or(&Value::Null);
        let r = rank
            .as_u64()
            .ok_or_else(|| adapter("r", "a whole number", rank))?;
        let number = |key: &str| {
            let value = keys.get(key).and_then(Value::as_f64);
            value.ok_or_else(|| adapter(key, "a number", keys.get(key).unwrap_or(&Value::Null)))
        };
        let targets = match keys.get("target_modules") {
            Some(Value::String(all)) if all == "all-linear" => MODULES.map(Value::from).to_vec(),
            Some(Value::Array(names)) => names.clone(),
            other => {
                let got = other.unwrap_or(&Value::Null);
                return Err(adapter(
                    "target_modules",
                    "a list of names, or \"all-linear\"",
                    got,
                ));
            }
        };
        let name = |value: &Value| {
            let name = value.as_str().map(str::to_owned);
            name.ok_or_else(|| adapter("target_modules", "names", value))
        };
        let cfg = Self {
            r: r as usize,
            alpha: number("lora_alpha")?,
            target_modules: targets.iter().map(name).collect::<Result<_>>()?,
        };
        cfg.check()?;
        let base = keys.get("base_model_name_or_path").and_then(Value::as_str);
        Ok((cfg, base.map(str::to_owned)))
    }

    fn to_json(&self, base: &str) -> Value {
        json!({
            "peft_type": "LORA",
            "base_model_name_or_path": base,
            "r": self.r,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "target_modules": self.target_modules,
            // The head has the name of a block's last matrix, but is not adapted.
            "exclude_modules": ["transformer.ff_out"],
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": false,
            "use_dora": false,
            "inference_mode": true,
            "task_type": null,
        })
    }
}

/// The adapter of a model: its settings and tensors.
#[derive(Debug, Clone)]
pub struct Lora {
    cfg: LoraConfig,
    params: Params,
    /// Folder or name of the model that it changes.
    base: String,
}

impl Lora {
    /// A new, trainable adapter that changes nothing yet: A uniform within ±1/√in as PEFT draws
    /// it, B zero.
    ///
    /// # Errors
    /// Those of [`LoraConfig::check`].
    pub fn init(
        cfg: &LoraConfig,
        model: &Config,
        base: &str,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        cfg.check()?;
        let key = Key::new(seed, Purpose::Weights);
        let mut params = Params::new(device, Mode::Trainable);
        for (module, out, input) in modules(cfg, model) {
            let bound = 1.0 / (input as f32).sqrt();
            let (low, high) = (-bound, bound);
            let [a, b] = tensor_names(&module);
            params.fresh(&a, &[cfg.r, input], Init::Uniform { low, high }, key)?;
            params.fresh(&b, &[out, cfg.r], Init::Zeros, key)?;
        }
        Ok(Self {
            cfg: cfg.clone(),
            params,
            base: base.to_owned(),
        })
    }

    /// Reads an adapter folder; `mode` says whether it is trained further.
    ///
    /// # Errors
    /// When a file cannot be read, a setting is not implemented, or the tensors are not those of
    /// this model.
    pub fn load(dir: &Path, model: &Config, device: &Device, mode: Mode) -> Result<Self> {
        let (cfg, base) = Self::settings(dir)?;
        let path = dir.join(ADAPTER_MODEL);
        let params = Params::load_file(&path, device, Some(DType::F32), mode)?;
        let wanted = modules(&cfg, model);
        for (module, out, input) in &wanted {
            let [a, b] = tensor_names(module);
            params.get(&a, &[cfg.r, *input])?;
            params.get(&b, &[*out, cfg.r])?;
        }
        if params.len() != 2 * wanted.len() {
            let expected = format!("{} tensors, two for each adapted matrix", 2 * wanted.len());
            return Err(Error::input(path.display(), expected, params.len()));
        }
        let base = base.unwrap_or_default();
        Ok(Self { cfg, params, base })
    }

    /// The settings of an adapter folder, and the model that it belongs to.
    ///
    /// # Errors
    /// As [`LoraConfig::parse`].
    pub fn settings(dir: &Path) -> Result<(LoraConfig, Option<String>)> {
        let path = dir.join(ADAPTER_CONFIG);
        LoraConfig::parse(&config::read_text(&path)?)
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` into a folder.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn save(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        let tensors: Vec<(&str, &Tensor)> = self.params.iter().collect();
        let options = SaveOptions::default();
        weight_files::write_file(&dir.join(ADAPTER_MODEL), &tensors, options.dtype)?;
        let config = self.cfg.to_json(&self.base);
        atomic::write_atomic(&dir.join(ADAPTER_CONFIG), |w| writeln!(w, "{config:#}"))
    }

    /// What is adapted.
    pub fn config(&self) -> &LoraConfig {
        &self.cfg
    }

    /// The tensors A and B.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The same adapter as constants, sharing storage.
    #[must_use]
    pub fn frozen(&self) -> Self {
        Self {
            params: self.params.frozen(),
            ..self.clone()
        }
    }

    /// A frozen adapter with storage of its own: what a policy was when it began.
    ///
    /// # Errors
    /// When a tensor cannot be copied.
    pub fn copied(&self) -> Result<Self> {
        Ok(Self {
            params: self.params.copied(Mode::Frozen)?,
            ..self.clone()
        })
    }

    /// The base's tensors with the changes added: a model that needs no adapter.
    ///
    /// # Errors
    /// When a matrix is missing or of another size.
    pub fn merge(&self, base: &Params) -> Result<Params> {
        let mut merged = base.copied(Mode::Frozen)?;
        let modules = self.params.names().filter_map(|name| {
            let module = name.strip_prefix(PREFIX)?;
            module.strip_suffix(SUFFIXES[0])
        });
        for module in modules {
            let [a, b] = tensor_names(module);
            let (a, b) = (self.params.any(&a, 2)?, self.params.any(&b, 2)?);
            let change = (b.detach().matmul(&a.detach())? * self.cfg.scale())?;
            let name = format!("{module}.weight");
            let weight = base.get(&name, change.dims())?;
            let sum = (weight.detach().to_dtype(DType::F32)? + change)?;
            merged.set(&name, &sum)?;
        }
        Ok(merged)
    }

    /// The change of a module, if it is adapted.
    fn change(&self, module: &str, out: usize, input: usize) -> Result<Option<Change>> {
        let [a, b] = tensor_names(module);
        if !self.params.contains(&a) {
            return Ok(None);
        }
        Ok(Some(Change {
            a: self.params.get(&a, &[self.cfg.r, input])?,
            b: self.params.get(&b, &[out, self.cfg.r])?,
            scale: self.cfg.scale(),
        }))
    }
}

/// A matrix of the transformer with the change learnt beside it, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    weight: Tensor,
    change: Option<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    a: Tensor,
    b: Tensor,
    scale: f64,
}

impl Change {
    /// # Shapes
    /// x `[rows, in]`, result `[rows, out]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let narrow = ops::linear(&x.to_dtype(self.a.dtype())?, &self.a)?;
        let change = (ops::linear(&narrow, &self.b)? * self.scale)?;
        Ok(change.to_dtype(x.dtype())?)
    }
}

impl Projection {
    /// The matrix `MODULE.weight` of `[out, in]`.
    pub(crate) fn load(
        params: &Params,
        lora: Option<&Lora>,
        module: &str,
        (out, input): (usize, usize),
    ) -> Result<Self> {
        Ok(Self {
            weight: params.get(&format!("{module}.weight"), &[out, input])?,
            change: match lora {
                Some(lora) => lora.change(module, out, input)?,
                None => None,
            },
        })
    }

    /// # Shapes
    /// x `[rows, in]`, result `[rows, out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = ops::linear(x, &self.weight)?;
        match &self.change {
            Some(change) => Ok((y + change.forward(x)?)?),
            None => Ok(y),
        }
    }

    /// The matrix, where nothing is learnt beside it.
    pub(crate) fn plain(&self) -> Option<&Tensor> {
        match self.change {
            Some(_) => None,
            None => Some(&self.weight),
        }
    }

    /// The matrix with the change in it, f32.
    ///
    /// # Shapes
    /// `[out, in]`
    pub(crate) fn merged(&self) -> Result<Tensor> {
        let weight = self.weight.to_dtype(DType::F32)?;
        match &self.change {
            Some(Change { a, b, scale }) => {
                let change = b.to_dtype(DType::F32)?.matmul(&a.to_dtype(DType::F32)?)?;
                Ok((weight + (change * *scale)?)?)
            }
            None => Ok(weight),
        }
    }

    /// The residual stream with this layer's output added.
    ///
    /// # Shapes
    /// residual and result `[rows, out]`, x `[rows, in]`.
    pub(crate) fn add_to(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        let y = ops::add_linear(residual, x, &self.weight)?;
        match &self.change {
            Some(change) => Ok((y + change.forward(x)?)?),
            None => Ok(y),
        }
    }

    /// `silu(gate x) · up x`, in one operation where neither is adapted.
    ///
    /// # Shapes
    /// x `[rows, in]`, result `[rows, out]`.
    pub(crate) fn gated(gate: &Self, up: &Self, x: &Tensor) -> Result<Tensor> {
        if gate.change.is_none() && up.change.is_none() {
            return Ok(ops::gated_linear(x, &gate.weight, &up.weight)?);
        }
        Ok(ops::swiglu(&gate.forward(x)?, &up.forward(x)?)?)
    }
}

const PREFIX: &str = "base_model.model.";
const SUFFIXES: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// Names of A and B in PEFT's file.
fn tensor_names(module: &str) -> [String; 2] {
    SUFFIXES.map(|suffix| format!("{PREFIX}{module}{suffix}"))
}

/// Every adapted matrix: its module, and its sizes out and in.
fn modules(cfg: &LoraConfig, model: &Config) -> Vec<(String, usize, usize)> {
    let (d, m) = (model.d_model, model.mlp_hidden_size);
    let (q, kv) = (model.query_width(), model.key_value_width());
    let sizes = [(q, d), (kv, d), (kv, d), (d, q), (m, d), (m, d), (d, m)];
    let in_block = |index: usize| {
        let chosen = MODULES.into_iter().zip(sizes);
        chosen
            .filter(|(module, _)| cfg.adapts(module))
            .map(move |(module, (out, input))| {
                let module = format!("model.transformer.blocks.{index}.{module}");
                (module, out, input)
            })
    };
    (0..model.n_layers).flat_map(in_block).collect()
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "callers pass numbers and literals"
)]
fn adapter(key: &str, expected: impl ToString, got: impl ToString) -> Error {
    Error::input(
        format!("{ADAPTER_CONFIG}, key {key:?}"),
        expected.to_string(),
        got.to_string(),
    )
}
