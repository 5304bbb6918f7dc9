//! The whole model as one type: its parts, and how they are opened, checked and saved.
//!
//! ```text
//!   config.json             ─┐
//!   model*.safetensors       ├─ Transformer
//!   tokenizer.json, chat_template.jinja ── Codec          ─► Mmada ─► chat, describe, paint, …
//!   image_tokenizer/{config.json, model.safetensors} ── ImageTokenizer (absent in text models)
//!   generation_config.json ── Defaults
//! ```

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mmada_nn::config::read_text;
use mmada_nn::lora::{ADAPTER_CONFIG, Lora};
use mmada_nn::magvit::{self, ImageTokenizer};
use mmada_nn::transformer::{Config, Transformer};
use mmada_nn::{Mode, Params, SaveOptions, atomic};
use mmada_tensor::{DType, Device, Packing};
use mmada_tokens::{ChatTemplate, Codec, Layout, Padding, Tokenizer, Vocab};

use crate::denoiser::Network;
use crate::error::{Error, Result};
use crate::options::Defaults;

/// Folder of the image tokenizer in a model directory.
pub const IMAGE_TOKENIZER: &str = "image_tokenizer";
/// File of the sampling defaults in a model directory.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// Rows of one forward unless set otherwise: enough to keep the matrix products busy, little
/// enough that logits over a large vocabulary stay in memory.
const ROW_BUDGET: usize = 4096;

/// A model that chats, describes pictures and paints them.
#[derive(Debug, Clone)]
pub struct Mmada {
    pub(crate) params: Params,
    pub(crate) transformer: Transformer,
    /// Low-rank changes beside the transformer's matrices.
    pub(crate) adapter: Option<Lora>,
    codec: Codec,
    layout: Layout,
    pub(crate) image: Option<ImageParts>,
    defaults: Defaults,
    row_budget: usize,
}

/// The image tokenizer and its tensors.
#[derive(Debug, Clone)]
pub struct ImageParts {
    /// The tensors.
    pub params: Params,
    /// The network on them.
    pub tokenizer: ImageTokenizer,
}

/// How to open a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where to compute.
    pub device: Device,
    /// Number format of the transformer's weights. The image tokenizer is always f32: its codes
    /// are signs of numbers near zero.
    pub numbers: Numbers,
    /// Whether the transformer's weights are to be trained.
    pub mode: Mode,
    /// Folder of the image tokenizer; `None` is the one inside the model directory. The published
    /// checkpoints keep theirs elsewhere.
    pub image_tokenizer: Option<PathBuf>,
}

/// Number format of weights that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// What the device computes in: f32 on a processor, the file's elsewhere.
    #[default]
    Computed,
    /// The file's: to be packed, or to be looked at.
    Stored,
}

impl LoadOptions {
    /// What the transformer's weights are turned into; `None` leaves them.
    fn dtype(&self) -> Option<DType> {
        match self.numbers {
            Numbers::Computed => self.device.is_cpu().then_some(DType::F32),
            Numbers::Stored => None,
        }
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            numbers: Numbers::default(),
            mode: Mode::Frozen,
            image_tokenizer: None,
        }
    }
}

impl Mmada {
    /// Puts a model together from its parts, after checking that they fit.
    ///
    /// # Errors
    /// [`Error::Misfit`] when vocabulary, embedding table and image codes disagree; those of
    /// [`Transformer::load`].
    pub fn new(
        config: &Config,
        params: Params,
        codec: Codec,
        image: Option<ImageParts>,
        defaults: Defaults,
    ) -> Result<Self> {
        let transformer = Transformer::load(config, &params)?;
        let model = Self {
            params,
            adapter: None,
            layout: codec.layout(config.max_sequence_length),
            transformer,
            codec,
            image,
            defaults,
            row_budget: ROW_BUDGET,
        };
        model.check_sizes()?;
        Ok(model)
    }

    /// Opens a model directory, or the folder of an adapter and the model that it belongs to.
    ///
    /// # Errors
    /// Missing, malformed or hostile files, and parts that do not fit together; each names the
    /// file or the sizes.
    pub fn open(dir: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        let dir = dir.as_ref();
        atomic::recover_dir(dir)?;
        if dir.join(ADAPTER_CONFIG).is_file() && !dir.join("config.json").is_file() {
            return Self::open_adapter(dir, options);
        }
        for file in ["config.json", "tokenizer.json"] {
            if !dir.join(file).is_file() {
                let place = dir.display().to_string();
                return Err(Error::MissingFile { file, place });
            }
        }
        let named = options.image_tokenizer.clone();
        let is_named = named.is_some();
        let image_dir = named.unwrap_or_else(|| dir.join(IMAGE_TOKENIZER));
        let image = match is_named || image_dir.join("config.json").is_file() {
            true => {
                let cfg = magvit::Config::load(&image_dir)?;
                let params =
                    Params::load(&image_dir, &options.device, Some(DType::F32), Mode::Frozen)?;
                Some(ImageParts::new(&cfg, params)?)
            }
            false => None,
        };
        let config = Config::load(dir)?;
        let codes = image_codes(&config, image.as_ref())?;
        let codec = Codec::load(dir, codes, Some(embedding_rows(&config)))?;
        let defaults = read_defaults(dir)?.unwrap_or_default();
        let params = Params::load(dir, &options.device, options.dtype(), options.mode)?;
        Self::new(&config, params, codec, image, defaults)
    }

    /// Opens a model whose files are already in memory, such as one embedded in a program. `file`
    /// gives the content of a path of the model directory; weights must be one file.
    ///
    /// # Errors
    /// As [`Mmada::open`].
    pub fn from_files<'a>(
        file: impl Fn(&str) -> Option<Cow<'a, [u8]>>,
        options: &LoadOptions,
    ) -> Result<Self> {
        let need = |name: &'static str| {
            let place = "the files in memory".to_owned();
            file(name).ok_or(Error::MissingFile { file: name, place })
        };
        let image = match file("image_tokenizer/config.json") {
            Some(bytes) => {
                let cfg = magvit::Config::parse(&utf8("image_tokenizer/config.json", &bytes)?)?;
                let weights = need("image_tokenizer/model.safetensors")?;
                let dtype = Some(DType::F32);
                let params = Params::from_bytes(&weights, &options.device, dtype, Mode::Frozen)?;
                Some(ImageParts::new(&cfg, params)?)
            }
            None => None,
        };
        let config = Config::parse(&utf8("config.json", &need("config.json")?)?)?;
        let tokenizer = Tokenizer::from_bytes(&need("tokenizer.json")?)?;
        let codes = image_codes(&config, image.as_ref())?;
        let vocab = tokenizer.vocab(codes, Some(embedding_rows(&config)))?;
        let template = match file("chat_template.jinja") {
            Some(bytes) => ChatTemplate::from_source(utf8("chat_template.jinja", &bytes)?)?,
            None => ChatTemplate::published(),
        };
        let defaults = match file(GENERATION_CONFIG) {
            Some(bytes) => Defaults::parse(&bytes)?,
            None => Defaults::default(),
        };
        let weights = need("model.safetensors")?;
        let params = Params::from_bytes(&weights, &options.device, options.dtype(), options.mode)?;
        let codec = Codec {
            tokenizer,
            template,
            vocab,
        };
        Self::new(&config, params, codec, image, defaults)
    }

    /// Saves the model as a directory, whole or not at all, in the place of an earlier one.
    ///
    /// # Errors
    /// [`Error::Request`] when the folder holds something else than a model, or more; what the file
    /// system refuses.
    pub fn save(&self, dir: impl AsRef<Path>, options: &SaveOptions) -> Result<()> {
        let dir = dir.as_ref();
        if dir.exists() && !dir.is_dir() {
            return Err(Error::request(
                "folder to save into",
                "a folder, or a name that is free",
                format!("the file {}", dir.display()),
                "name another folder",
            ));
        }
        if let Some(name) = foreign_entry(dir) {
            return Err(Error::request(
                "folder to save into",
                "a new or empty folder, or one with an earlier model and nothing else",
                dir.join(name).display(),
                "name another folder; saving replaces a folder as a whole",
            ));
        }
        atomic::replace_dir(dir, |partial| self.write(partial, options))
    }

    /// Writes the model's files into a folder, file by file; of a model with an adapter only the
    /// adapter's and the sampling settings. For folders that hold more than the
    /// model, such as a checkpoint that is itself replaced as a whole.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write(&self, dir: &Path, options: &SaveOptions) -> Result<()> {
        let defaults =
            serde_json::to_string_pretty(&self.defaults).map_err(|error| Error::Settings {
                file: GENERATION_CONFIG,
                problem: error.to_string(),
            })?;
        write_text(&dir.join(GENERATION_CONFIG), &format!("{defaults}\n"))?;
        if let Some(adapter) = &self.adapter {
            return Ok(adapter.save(dir)?);
        }
        write_text(
            &dir.join("config.json"),
            &format!("{:#}\n", self.config().to_json()),
        )?;
        self.codec.save(dir)?;
        if let Some(image) = &self.image {
            let image_dir = dir.join(IMAGE_TOKENIZER);
            image.params.save(&image_dir, options)?;
            image.tokenizer.config().save(&image_dir)?;
        }
        Ok(self.params.save(dir, options)?)
    }

    /// Looks at every weight, once more at the sizes, and at the picture sizes of the defaults.
    ///
    /// # Errors
    /// The first tensor with NaN or infinity; [`Error::Misfit`]; picture sizes that the image
    /// tokenizer or the context cannot have.
    pub fn check(&self) -> Result<()> {
        self.check_sizes()?;
        self.params.check_finite()?;
        if let Some(adapter) = &self.adapter {
            adapter.params().check_finite()?;
        }
        if let Some(image) = &self.image {
            image.params.check_finite()?;
            let (shown, painted) = (&self.defaults.image, &self.defaults.paint);
            self.grid(shown.width, shown.height)?;
            self.grid(painted.width, painted.height)?;
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<()> {
        let vocab = self.vocab();
        let rows = self.config().embedding_size;
        if (vocab.image.end as usize) > rows || vocab.rows as usize != rows {
            return Err(Error::Misfit {
                what: "rows of the embedding table",
                expected: format!("at least {} (text ids and image codes)", vocab.image.end),
                got: rows.to_string(),
                hint: "tokenizer, image tokenizer and weights must be of one model",
            });
        }
        let mask = vocab.special.mask;
        let stated = self.config().key("mask_token_id");
        let stated = stated.and_then(serde_json::Value::as_u64);
        if let Some(stated) = stated.filter(|stated| *stated != u64::from(mask)) {
            return Err(Error::Misfit {
                what: "the mask's id",
                expected: format!("{stated} (mask_token_id in config.json)"),
                got: format!("{mask} (the tokenizer)"),
                hint: "use the tokenizer that the model was trained with",
            });
        }
        let Some(image) = &self.image else {
            return Ok(());
        };
        let codes = image.tokenizer.codes();
        if vocab.codes() as usize != codes {
            return Err(Error::Misfit {
                what: "image codes",
                expected: format!("{} (the vocabulary)", vocab.codes()),
                got: format!("{codes} (the image tokenizer)"),
                hint: "use the image tokenizer that the model was trained with",
            });
        }
        Ok(())
    }

    /// The transformer.
    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    /// The transformer's tensors.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The image tokenizer's network and tensors; `None` in a text model.
    pub fn image_parts(&self) -> Option<&ImageParts> {
        self.image.as_ref()
    }

    /// The sizes of the transformer and its `config.json`.
    pub fn config(&self) -> &Config {
        self.transformer.config()
    }

    /// Text to ids and back.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// How prompts are laid out.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What ids mean.
    pub fn vocab(&self) -> &Vocab {
        &self.codec.vocab
    }

    /// The model's own sampling settings.
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// The same model with other sampling settings.
    #[must_use]
    pub fn with_defaults(mut self, defaults: Defaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// The same model with at most so many rows in a common forward (one request at least).
    #[must_use]
    pub fn with_row_budget(mut self, rows: usize) -> Self {
        self.row_budget = rows;
        self
    }

    /// The same model for inference, its transformer packed: see [`Transformer::packed`].
    ///
    /// # Errors
    /// Weights that are not in main memory.
    pub fn packed(mut self, packing: Packing) -> Result<Self> {
        self.transformer = self.transformer.packed(packing)?;
        Ok(self)
    }

    /// The same model with paintings laid out under another padding rule: checkpoints trained with
    /// visible pads have seen no other prompts.
    #[must_use]
    pub fn with_padding(mut self, padding: Padding) -> Self {
        self.layout = self.layout.with_padding(padding);
        self
    }

    /// The most rows of a common forward.
    pub fn row_budget(&self) -> usize {
        self.row_budget
    }

    /// What the sampler asks for logits.
    pub fn network(&self) -> Network<'_> {
        Network::new(&self.transformer)
    }
}

impl ImageParts {
    /// An image tokenizer on these tensors.
    ///
    /// # Errors
    /// Those of [`ImageTokenizer::load`], and for numbers that are none.
    pub fn new(config: &magvit::Config, params: Params) -> Result<Self> {
        let tokenizer = ImageTokenizer::load(config, &params)?;
        // Codes are signs: what is no number would be one of them.
        params.check_finite()?;
        Ok(Self { params, tokenizer })
    }
}

/// How many image codes the vocabulary has: those of the image tokenizer, else what the config
/// says, else none.
fn image_codes(config: &Config, image: Option<&ImageParts>) -> Result<u32> {
    let stated = stated_codes(config)?;
    let Some(image) = image else {
        return Ok(stated.unwrap_or(0));
    };
    let codes = image.tokenizer.codes();
    match stated {
        Some(stated) if stated as usize != codes => Err(Error::Misfit {
            what: "image codes",
            expected: format!("{stated} (codebook_size in config.json)"),
            got: format!("{codes} (2 to the bits of the image tokenizer)"),
            hint: "use the image tokenizer that the model was trained with",
        }),
        _ => Ok(codes as u32),
    }
}

/// How many image codes the config says there are; `None` where it says nothing.
fn stated_codes(config: &Config) -> Result<Option<u32>> {
    let key = "codebook_size";
    let Some(value) = config.key(key).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    match value.as_u64().map(u32::try_from) {
        Some(Ok(codes)) => Ok(Some(codes)),
        _ => {
            let expected = format!("an integer from 0 to {}", u32::MAX);
            Err(mmada_nn::Error::config(key, expected, value).into())
        }
    }
}

/// An entry of a folder that no saved model has; any entry where there is no model.
fn foreign_entry(dir: &Path) -> Option<OsString> {
    let is_model = ["config.json", ADAPTER_CONFIG].map(|file| dir.join(file).is_file());
    let is_of_a_model = |name: &OsString| {
        let name = name.to_string_lossy();
        let endings = [".json", ".safetensors", ".jinja"];
        name == IMAGE_TOKENIZER || endings.iter().any(|ending| name.ends_with(ending))
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.find(|name| is_model == [false, false] || !is_of_a_model(name))
}

/// The config bounds the table far below 2^32 rows.
fn embedding_rows(config: &Config) -> u32 {
    u32::try_from(config.embedding_size).unwrap_or(u32::MAX)
}

/// The sampling settings of a folder, if it has some.
pub(crate) fn read_defaults(dir: &Path) -> Result<Option<Defaults>> {
    let path = dir.join(GENERATION_CONFIG);
    if !path.is_file() {
        return Ok(None);
    }
    Defaults::parse(read_text(&path)?.as_bytes()).map(Some)
}

fn utf8(file: &'static str, bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| Error::Settings {
        file,
        problem: error.to_string(),
    })
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    Ok(atomic::write_atomic(path, |file| {
        file.write_all(text.as_bytes())
    })?)
}
