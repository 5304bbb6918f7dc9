//! The small model that travels inside the program, so that it works at once, offline.

use std::borrow::Cow;

/// Files of `assets/model`, by their path in a model directory.
const FILES: &[(&str, &[u8])] = &[
    (
        "config.json",
        include_bytes!("../../../assets/model/config.json"),
    ),
    (
        "generation_config.json",
        include_bytes!("../../../assets/model/generation_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../../assets/model/model.safetensors"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../../assets/model/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../../assets/model/tokenizer_config.json"),
    ),
    (
        "chat_template.jinja",
        include_bytes!("../../../assets/model/chat_template.jinja"),
    ),
    (
        "image_tokenizer/config.json",
        include_bytes!("../../../assets/model/image_tokenizer/config.json"),
    ),
    (
        "image_tokenizer/model.safetensors",
        include_bytes!("../../../assets/model/image_tokenizer/model.safetensors"),
    ),
];

/// The bytes of one file of the embedded model.
pub(crate) fn file(name: &str) -> Option<Cow<'static, [u8]>> {
    FILES
        .iter()
        .find(|(path, _)| *path == name)
        .map(|(_, bytes)| Cow::Borrowed(*bytes))
}

/// Names and sizes in bytes.
pub(crate) fn list() -> impl Iterator<Item = (&'static str, usize)> {
    FILES.iter().map(|(name, bytes)| (*name, bytes.len()))
}
