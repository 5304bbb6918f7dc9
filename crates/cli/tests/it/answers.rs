//! Answers as they are printed.

use crate::support::{mmada, said};

/// The embedded model thinks first, and three tokens are not enough to end that.
#[test]
fn an_answer_that_is_not_there_is_explained() {
    let cut = ["chat", "12 + 30", "--length", "3"];
    let silent = said(mmada().args(cut));
    assert_eq!((silent.code, silent.out.as_str()), (Some(0), "\n"));
    assert!(silent.err.contains("--show-thought"), "{}", silent.err);
    let told = said(mmada().args(cut).arg("--show-thought"));
    assert!(told.out.contains("<think>"), "{}", told.out);
    assert!(!told.err.contains("--show-thought"), "{}", told.err);
    let whole = said(mmada().args(["chat", "12 + 30"]));
    assert_eq!(whole.out, "42\n");
    assert!(!whole.err.contains("--show-thought"), "{}", whole.err);
}
