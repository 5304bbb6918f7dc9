//! The named tensors of one model.
//!
//! ```text
//!   load / from_bytes ──┐                          ┌── get(name, shape) → a network
//!   fresh (new model) ──┴─ Params { name → tensor }─┼── vars() → the optimiser
//!                                                   └── save → Hugging Face safetensors
//! ```
//!
//! Names are those of the published checkpoints. Order is alphabetical and thus always the same.
//! Tensors handed out share storage with the variables: an optimiser's update is seen by every
//! network built from these parameters.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::Path;

use fnv::FnvHasher;
use mmada_tensor::random::Key;
use mmada_tensor::{DType, Device, Tensor, Var};

use crate::weight_files;
use crate::{Error, Result};

/// Whether gradients flow into the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Constants: a forward pass records nothing.
    Frozen,
    /// Floating-point tensors become variables; integer ones stay constants.
    Trainable,
}

/// How a fresh tensor is filled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal numbers around 0.
    Normal {
        /// Their standard deviation.
        std: f32,
    },
    /// Uniform numbers in `low..high`.
    Uniform {
        /// Lower bound.
        low: f32,
        /// Upper bound, excluded.
        high: f32,
    },
    /// All one.
    Ones,
    /// All zero.
    Zeros,
}

/// The number format of a saved file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveDtype {
    /// Each tensor as it is.
    #[default]
    Keep,
    /// Floating-point tensors as 32-bit floats.
    F32,
    /// Floating-point tensors as bfloat16, half the size.
    BF16,
}

/// How weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveOptions {
    /// The number format.
    pub dtype: SaveDtype,
    /// The most bytes of tensors in one file; a larger model is split into shards with an index.
    pub max_shard_bytes: u64,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self {
            dtype: SaveDtype::Keep,
            max_shard_bytes: 5_000_000_000,
        }
    }
}

/// The named tensors of a model, frozen or trainable.
#[derive(Debug, Clone)]
pub struct Params {
    entries: BTreeMap<String, Entry>,
    device: Device,
    mode: Mode,
}

#[derive(Debug, Clone)]
enum Entry {
    Frozen(Tensor),
    Trainable(Var),
}

impl Entry {
    fn tensor(&self) -> &Tensor {
        match self {
            Self::Frozen(tensor) => tensor,
            Self::Trainable(var) => var.as_tensor(),
        }
    }
}

impl Params {
    /// No tensors yet; fill with [`Params::fresh`] or [`Params::insert`].
    pub fn new(device: &Device, mode: Mode) -> Self {
        Self {
            entries: BTreeMap::new(),
            device: device.clone(),
            mode,
        }
    }

    /// Reads a model folder: `model.safetensors`, or `model.safetensors.index.json` and its shards,
    /// or `pytorch_model.safetensors`. Floating-point tensors are converted to `dtype` if given.
    ///
    /// # Errors
    /// Every offset is checked before anything is allocated: truncated or hostile headers,
    /// overlapping or missing ranges, unknown dtypes, missing shards, shard names that leave the
    /// folder, tensors present twice.
    pub fn load(dir: &Path, device: &Device, dtype: Option<DType>, mode: Mode) -> Result<Self> {
        let mut params = Self::new(device, mode);
        weight_files::read_dir(dir, &mut |file, name, view| {
            let tensor = weight_files::tensor(file, name, view, device)?;
            params.add(name, tensor, dtype)
        })?;
        Ok(params)
    }

    /// Reads one safetensors file, whatever its name.
    ///
    /// # Errors
    /// As [`Params::load`].
    pub fn load_file(
        path: &Path,
        device: &Device,
        dtype: Option<DType>,
        mode: Mode,
    ) -> Result<Self> {
        let mut params = Self::new(device, mode);
        weight_files::read_file(path, &mut |file, name, view| {
            let tensor = weight_files::tensor(file, name, view, device)?;
            params.add(name, tensor, dtype)
        })?;
        Ok(params)
    }

    /// Reads one safetensors file that is already in memory, such as an embedded model.
    pub fn from_bytes(
        bytes: &[u8],
        device: &Device,
        dtype: Option<DType>,
        mode: Mode,
    ) -> Result<Self> {
        let mut params = Self::new(device, mode);
        weight_files::read_bytes("embedded weights", bytes, &mut |file, name, view| {
            let tensor = weight_files::tensor(file, name, view, device)?;
            params.add(name, tensor, dtype)
        })?;
        Ok(params)
    }

    fn add(&mut self, name: &str, tensor: Tensor, dtype: Option<DType>) -> Result<()> {
        let tensor = match dtype {
            Some(dtype) if tensor.dtype().is_float() => tensor.to_dtype(dtype)?,
            _ => tensor,
        };
        self.insert(name, tensor)
    }

    /// Adds a tensor under a new name.
    pub fn insert(&mut self, name: &str, tensor: Tensor) -> Result<()> {
        if self.entries.contains_key(name) {
            let what = format!("tensor {name:?}");
            return Err(Error::input(
                what,
                "a name used once",
                "the name a second time",
            ));
        }
        let entry = match self.mode {
            Mode::Trainable if tensor.dtype().is_float() => {
                Entry::Trainable(Var::from_tensor(&tensor)?)
            }
            _ => Entry::Frozen(tensor),
        };
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Adds a new f32 tensor. Its numbers derive from `key` and the name alone, so they do not
    /// depend on the order in which a model creates its tensors.
    pub fn fresh(&mut self, name: &str, shape: &[usize], init: Init, key: Key) -> Result<()> {
        let count: usize = shape.iter().product();
        let mut stream = key.example(stable_hash(name)).stream();
        let values: Vec<f32> = match init {
            Init::Normal { std } => (0..count).map(|_| std * stream.normal()).collect(),
            Init::Uniform { low, high } => (0..count)
                .map(|_| low + (high - low) * stream.uniform())
                .collect(),
            Init::Ones => vec![1.0; count],
            Init::Zeros => vec![0.0; count],
        };
        self.insert(name, Tensor::from_vec(values, shape, &self.device)?)
    }

    /// The tensor of this name, which must have this shape.
    pub fn get(&self, name: &str, expected: &[usize]) -> Result<Tensor> {
        let Some(entry) = self.entries.get(name) else {
            return Err(Error::Missing {
                name: name.to_owned(),
                expected: expected.to_vec(),
                present: self.entries.len(),
            });
        };
        let tensor = entry.tensor();
        if tensor.dims() != expected {
            return Err(Error::Shape {
                name: name.to_owned(),
                expected: expected.to_vec(),
                got: tensor.dims().to_vec(),
            });
        }
        Ok(tensor.clone())
    }

    /// The tensor of this name, whatever its sizes, with this many axes.
    pub fn any(&self, name: &str, axes: usize) -> Result<Tensor> {
        let dims = self.entries.get(name).map(|entry| entry.tensor().dims());
        match dims {
            Some(dims) if dims.len() != axes => Err(Error::Shape {
                name: name.to_owned(),
                expected: vec![0; axes],
                got: dims.to_vec(),
            }),
            Some(dims) => self.get(name, dims),
            None => self.get(name, &vec![0; axes]),
        }
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// How many layers there are weights for: one more than the highest `n` of a name `{stem}{n}.…`.
    pub(crate) fn layers(&self, stem: &str) -> usize {
        let numbers = self.names().filter_map(|name| {
            let number = name.strip_prefix(stem)?.split('.').next()?;
            number.parse::<usize>().ok()
        });
        numbers.max().map_or(0, |last| last.saturating_add(1))
    }

    /// Refuses a config that names fewer layers than there are weights for: it would load, and
    /// answer nonsense.
    pub(crate) fn check_layers(&self, stem: &str, key: &str, count: usize) -> Result<()> {
        let there = self.layers(stem);
        if there > count {
            let expected = format!("as many as there are weights {stem}… for, {there}");
            return Err(Error::config(key, expected, count));
        }
        Ok(())
    }

    /// Every tensor with its name, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(n, e)| (n.as_str(), e.tensor()))
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The trainable tensors, in alphabetical order. A `Var` is a handle: copies share storage.
    pub fn vars(&self) -> Vec<(String, Var)> {
        let trainable = self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Trainable(var) => Some((name.clone(), var.clone())),
            Entry::Frozen(_) => None,
        });
        trainable.collect()
    }

    /// Overwrites a tensor's numbers in place; networks built from it see the new ones if it is
    /// trainable. Shape and dtype stay.
    pub fn set(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let old = self.get(name, value.dims())?;
        let value = value.to_dtype(old.dtype())?.to_device(&self.device)?;
        match self.entries.get_mut(name) {
            Some(Entry::Trainable(var)) => var.set(&value.contiguous()?)?,
            Some(Entry::Frozen(tensor)) => *tensor = value,
            None => {}
        }
        Ok(())
    }

    /// The same tensors as constants, sharing storage: what a trainer samples with, without
    /// recording a graph and without a second copy of the weights.
    pub fn frozen(&self) -> Self {
        let entries = self.entries.iter().map(|(name, entry)| {
            let tensor = match entry {
                Entry::Frozen(tensor) => tensor.clone(),
                Entry::Trainable(var) => var.as_detached_tensor(),
            };
            (name.clone(), Entry::Frozen(tensor))
        });
        Self {
            entries: entries.collect(),
            device: self.device.clone(),
            mode: Mode::Frozen,
        }
    }

    /// A copy with its own storage, such as a reference model or a moving average.
    pub fn copied(&self, mode: Mode) -> Result<Self> {
        let mut copy = Self::new(&self.device, mode);
        for (name, tensor) in self.iter() {
            copy.insert(name, tensor.detach().copy()?)?;
        }
        Ok(copy)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many numbers all tensors hold together.
    pub fn element_count(&self) -> usize {
        self.iter().map(|(_, t)| t.elem_count()).sum()
    }

    /// Where the tensors live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether the tensors are trainable.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Writes the tensors into `dir` (created if need be) in the Hugging Face layout: one
    /// `model.safetensors`, or shards and `model.safetensors.index.json`.
    ///
    /// All files are first written under temporary names; on an error nothing has changed. Weights
    /// of an earlier save that the new ones do not replace are removed at the end. Renaming several
    /// shards takes several moves, so to survive a kill at any instant fill a fresh folder with
    /// [`crate::atomic::replace_dir`].
    pub fn save(&self, dir: &Path, options: &SaveOptions) -> Result<()> {
        let tensors: Vec<(&str, &Tensor)> = self.iter().collect();
        weight_files::write_dir(dir, &tensors, options)
    }

    /// Looks at every number of every floating-point tensor.
    ///
    /// # Errors
    /// Names the first tensor that holds NaN or an infinity.
    pub fn check_finite(&self) -> Result<()> {
        for (name, tensor) in self.iter().filter(|(_, t)| t.dtype().is_float()) {
            let values = tensor.detach().to_dtype(DType::F32)?;
            let values = values.flatten_all()?.to_vec1::<f32>()?;
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::NotFinite {
                    name: name.to_owned(),
                    index,
                    value: values[index],
                });
            }
        }
        Ok(())
    }
}

/// The same on every machine and in every version.
fn stable_hash(name: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish()
}
