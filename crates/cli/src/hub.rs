//! Where a model comes from: the program itself, a folder, or a model hub.
//!
//! The hub client honours `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT`; with `HF_HUB_OFFLINE` set, only
//! what is already in its cache is used.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo};
use mmada_nn::atomic;

use crate::usage;

/// A model that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The small model inside the program.
    Embedded,
    /// A model directory.
    Directory(PathBuf),
}

impl Source {
    /// The folder, where there is one.
    pub(crate) fn directory(self) -> Option<PathBuf> {
        match self {
            Self::Embedded => None,
            Self::Directory(dir) => Some(dir),
        }
    }
}

/// Finds the model a user named: nothing, a folder, or `owner/name` on a hub.
pub(crate) fn locate(name: Option<&str>) -> Result<Source> {
    // An empty variable in the environment is one that is not set.
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(Source::Embedded);
    };
    let path = Path::new(name);
    // A model that a killed run was just replacing; a name that is none is refused below.
    let _ = atomic::recover_dir(path);
    if path.is_dir() {
        return Ok(Source::Directory(path.to_path_buf()));
    }
    if path.is_file() {
        return Err(usage(format!(
            "model: expected a directory or a hub id, got the file {name}; give the folder that holds config.json"
        )));
    }
    if !is_hub_id(name) {
        return Err(usage(format!(
            "model: no folder {name}, and it is not a hub id of the form owner/name"
        )));
    }
    download(name).map(Source::Directory)
}

fn is_hub_id(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with('.')
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    name.split_once('/')
        .is_some_and(|(owner, model)| is_word(owner) && is_word(model))
}

fn is_offline() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Where downloads are kept.
///
/// # Errors
/// Where nothing says whose they would be: the client itself panics there.
pub(crate) fn cache() -> Result<Cache> {
    if std::env::var_os("HF_HOME").is_none() && std::env::home_dir().is_none() {
        bail!("model: the hub's downloads have no place; set HF_HOME to a folder");
    }
    Ok(Cache::from_env())
}

fn download(id: &str) -> Result<PathBuf> {
    let cache = cache()?;
    let repo = Repo::model(id.to_owned());
    if is_offline() {
        let config = cache.repo(repo).get("config.json");
        let Some(folder) = config.as_deref().and_then(Path::parent) else {
            bail!(
                "model: {id} is not in the hub cache and HF_HUB_OFFLINE is set; unset it to download"
            );
        };
        return Ok(folder.to_path_buf());
    }
    let builder = ApiBuilder::from_env().with_progress(crate::terminal::is_interactive());
    // The client itself reads only the file `token` below `HF_HOME`.
    let token = std::env::var("HF_TOKEN").ok().filter(|it| !it.is_empty());
    let builder = match token {
        Some(token) => builder.with_token(Some(token)),
        None => builder,
    };
    let api = builder
        .build()
        .context("model: cannot set up the hub client")?;
    let repo = api.repo(repo);
    let info = repo.info().with_context(|| {
        format!("model: cannot reach {id} on the hub; check the name and the network, give a local folder, or set \
             HF_HUB_OFFLINE=1 to use what is already downloaded")
    })?;
    let mut folder = None;
    for file in info
        .siblings
        .iter()
        .filter(|file| is_model_file(&file.rfilename))
    {
        let path = repo
            .get(&file.rfilename)
            .with_context(|| format!("model: cannot download {} of {id}", file.rfilename))?;
        if file.rfilename == "config.json" {
            folder = path.parent().map(Path::to_path_buf);
        }
    }
    folder.with_context(|| {
        format!("model: {id} holds no config.json, so it is not a model directory")
    })
}

fn is_model_file(name: &str) -> bool {
    [".json", ".safetensors", ".jinja"]
        .iter()
        .any(|ending| name.ends_with(ending))
}
