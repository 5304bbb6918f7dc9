//! A model with an adapter: low-rank changes beside its matrices, which can be left out or added in. And models that
//! come of one, whose changes are added up.
//!
//! ```text
//!   with_adapter ──► what is trained is the adapter alone
//!   without_adapter  the model as it was, sharing storage: the reference policy of reinforcement learning
//!   merged           a model of its own, without an adapter
//!   with_changes     a model of its own: a base, and what several have learnt since, or a share of it
//! ```

use std::collections::BTreeMap;
use std::iter;
use std::path::{Path, PathBuf};

use mmada_nn::lora::{ADAPTER_CONFIG, Lora};
use mmada_nn::transformer::Transformer;
use mmada_nn::{Mode, Params};
use mmada_tensor::{DType, Tensor};

use crate::error::{Error, Result};
use crate::mmada::{LoadOptions, Mmada, read_defaults};

impl Mmada {
    /// The same model with an adapter, in the place of an earlier one.
    ///
    /// # Errors
    /// When the adapter is of another model.
    pub fn with_adapter(&self, adapter: Lora) -> Result<Self> {
        self.rebuilt(self.params.clone(), Some(adapter))
    }

    /// The same model without its adapter, sharing storage.
    ///
    /// # Errors
    /// Those of [`Transformer::load`].
    pub fn without_adapter(&self) -> Result<Self> {
        self.rebuilt(self.params.clone(), None)
    }

    /// The same model with its present weights as constants, sharing storage: sampling with it
    /// records no graph.
    ///
    /// # Errors
    /// Those of [`Transformer::load`].
    pub fn frozen(&self) -> Result<Self> {
        let adapter = self.adapter.as_ref().map(Lora::frozen);
        self.rebuilt(self.params.frozen(), adapter)
    }

    /// A model of its own with the adapter's changes added to the matrices; a copy where there is
    /// no adapter.
    ///
    /// # Errors
    /// When a tensor cannot be copied.
    pub fn merged(&self) -> Result<Self> {
        let params = match &self.adapter {
            Some(adapter) => adapter.merge(&self.params)?,
            None => self.params.copied(Mode::Frozen)?,
        };
        self.rebuilt(params, None)
    }

    /// A model of its own with what it and `others` have learnt since `base`, added up and `scale` times as much:
    /// base + λ·Σᵢ (Wᵢ − base), task arithmetic (arXiv 2212.04089, section 2). Adapters are merged first; all but the
    /// weights is this model's.
    ///
    /// # Errors
    /// When the models are not of one shape, or a weight of the sum is not finite.
    pub fn with_changes(&self, others: &[Self], base: &Self, scale: f32) -> Result<Self> {
        let (first, base) = (self.merged()?, base.merged()?);
        first.check_shape_of(&base, "the base")?;
        let others: Vec<Self> = others.iter().map(Self::merged).collect::<Result<_>>()?;
        for other in &others {
            first.check_shape_of(other, "a model")?;
        }
        let wide = |tensor: &Tensor| {
            tensor
                .to_dtype(DType::F32)
                .map_err(mmada_tensor::Error::from)
        };
        let mut params = base.params.copied(Mode::Frozen)?;
        for (name, tensor) in base.params.iter() {
            let before = wide(tensor)?;
            let mut sum = before.clone();
            for model in iter::once(&first).chain(&others) {
                let change = wide(&model.params.get(name, tensor.dims())?)? - &before;
                let change = change.and_then(|change| change * f64::from(scale));
                let added = change.and_then(|change| &sum + change);
                sum = added.map_err(mmada_tensor::Error::from)?;
            }
            params.set(name, &sum)?;
        }
        params.check_finite()?;
        first.rebuilt(params, None)
    }

    fn check_shape_of(&self, other: &Self, what: &'static str) -> Result<()> {
        let shapes = |model: &Self| -> BTreeMap<String, Vec<usize>> {
            let tensors = model.params.iter();
            tensors
                .map(|(name, tensor)| (name.to_owned(), tensor.dims().to_vec()))
                .collect()
        };
        let (expected, got) = (shapes(self), shapes(other));
        let differs = |name: &&String| expected.get(*name) != got.get(*name);
        let Some(name) = expected.keys().chain(got.keys()).find(differs) else {
            return Ok(());
        };
        let shape = |shapes: &BTreeMap<String, Vec<usize>>| match shapes.get(name) {
            Some(shape) => format!("{name} of {shape:?}"),
            None => format!("no {name}"),
        };
        Err(Error::Misfit {
            what,
            expected: shape(&expected),
            got: shape(&got),
            hint: "changes can only be added up of models that were trained from one",
        })
    }

    /// The adapter, if there is one.
    pub fn adapter(&self) -> Option<&Lora> {
        self.adapter.as_ref()
    }

    /// The tensors that training moves: the adapter's, or all where there is none.
    pub fn trainable(&self) -> &Params {
        match &self.adapter {
            Some(adapter) => adapter.params(),
            None => &self.params,
        }
    }

    fn rebuilt(&self, params: Params, adapter: Option<Lora>) -> Result<Self> {
        let mut model = self.clone();
        model.transformer = Transformer::adapted(self.config(), &params, adapter.as_ref())?;
        (model.params, model.adapter) = (params, adapter);
        Ok(model)
    }

    /// Opens the model that an adapter belongs to, and puts the adapter beside it. Only the adapter
    /// is trained further where `options` ask for that.
    pub(crate) fn open_adapter(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let (_, base) = Lora::settings(dir)?;
        let base = base_folder(dir, base.as_deref().unwrap_or_default())?;
        let frozen = LoadOptions {
            mode: Mode::Frozen,
            ..options.clone()
        };
        let model = Self::open(base, &frozen)?;
        let adapter = Lora::load(dir, model.config(), &options.device, options.mode)?;
        let model = model.with_adapter(adapter)?;
        Ok(match read_defaults(dir)? {
            Some(defaults) => model.with_defaults(defaults),
            None => model,
        })
    }
}

/// The folder that an adapter names as its model's, from where the program runs or beside the
/// adapter.
fn base_folder(dir: &Path, named: &str) -> Result<PathBuf> {
    let places = [PathBuf::from(named), dir.join(named)];
    // No name would be the folder that the program runs in.
    let found = places
        .into_iter()
        .find(|place| !named.is_empty() && place.join("config.json").is_file());
    found.ok_or_else(|| Error::Misfit {
        what: "the model of an adapter",
        expected: "a model directory as base_model_name_or_path".to_owned(),
        got: format!("{named:?} in {}", dir.join(ADAPTER_CONFIG).display()),
        hint: "download that model, and write the folder where it is into that file",
    })
}
