//! What is in a model directory, for reading.

use serde_json::Value;

/// The report for reading: one line per fact.
pub(super) fn text(report: &Value) -> String {
    let mut lines = vec![format!(
        "{}  {}",
        plain(&report["model"]),
        if report["sound"] == true {
            "sound"
        } else {
            "NOT SOUND"
        }
    )];
    let mut fact = |name: &str, value: String| lines.push(format!("  {name:<16} {value}"));
    fact(
        "transformer",
        format!(
            "{}: {} layers, width {}, {} heads ({} key-value), feed-forward {}, context {}",
            plain(&report["architecture"]),
            report["layers"],
            report["width"],
            report["heads"],
            report["key_value_heads"],
            report["feed_forward"],
            report["context"]
        ),
    );
    fact(
        "parameters",
        format!("{}  {}", report["parameters"], report["dtypes"]),
    );
    let vocab = &report["vocabulary"];
    fact(
        "text ids",
        format!("{}..{}", vocab["text"][0], vocab["text"][1]),
    );
    fact(
        "image ids",
        format!("{}..{}", vocab["image"][0], vocab["image"][1]),
    );
    fact("embedding rows", report["embedding_rows"].to_string());
    fact(
        "special ids",
        vocab["special"]
            .to_string()
            .replace(['"', '{', '}'], "")
            .replace(',', ", "),
    );
    let image = &report["image_tokenizer"];
    fact(
        "image tokenizer",
        match image.is_null() {
            true => "none".to_owned(),
            false => format!(
                "{} codes, {} pixels per token and side, {} parameters  {}",
                image["codes"], image["pixels_per_token"], image["parameters"], image["dtypes"]
            ),
        },
    );
    for file in report["files"].as_array().into_iter().flatten() {
        fact(
            "file",
            format!("{:>12} bytes  {}", file["bytes"], plain(&file["name"])),
        );
    }
    for tensor in report["tensors"].as_array().into_iter().flatten() {
        fact(
            "tensor",
            format!(
                "{} {} {}",
                plain(&tensor["name"]),
                plain(&tensor["dtype"]),
                tensor["shape"]
            ),
        );
    }
    lines.join("\n")
}

/// A JSON string without its quotes.
fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
